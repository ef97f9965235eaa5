//! What may go wrong while a replica is opened. What may go wrong later is the engine's vocabulary
//! ([`crate::CommandError`], [`crate::DocumentError`]).

use std::path::PathBuf;

/// A replica could not be opened. Nothing was changed, except that a directory may have been made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error("cannot use the directory {}: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// For people to read, with what to do next.
        reason: String,
    },
    /// The device's key cannot be read, or is readable by others.
    #[error("cannot use the identity {}: {reason}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// For people to read, with what to do next.
        reason: String,
    },
    /// The store cannot be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] StoreProblem),
    /// An address cannot be listened on: most often the port is in use.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address asked for.
        address: String,
        /// For people to read, with what to do next.
        reason: String,
    },
    /// An address to dial was refused.
    #[error("cannot dial {address}: {reason}")]
    Dial {
        /// The address asked for.
        address: String,
        /// For people to read.
        reason: String,
    },
    /// The operating system gave no thread, no randomness, or the like.
    #[error("cannot start: {0}")]
    System(String),
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreProblem {
    /// Another process (or another replica of this one) has it open.
    #[error(
        "{} is in use by another process: stop that one, or talk to it with the same directory", path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not readable as a store, or a value does not match its checksum.
    #[error("{reason}")]
    Damaged {
        /// For people to read, with what to do next.
        reason: String,
    },
    /// It was written by a later version of this program.
    #[error("{reason}")]
    Format {
        /// For people to read.
        reason: String,
    },
    /// The operating system refused.
    #[error("{reason}")]
    Io {
        /// For people to read.
        reason: String,
    },
}

/// The replica takes no more work: it was shut down, or its store failed. What was saved is safe; open it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the replica has stopped: {reason}")]
pub struct Stopped {
    /// Why.
    pub reason: String,
}
