//! What may go wrong while a replica is opened. What may go wrong later is the engine's vocabulary
//! ([`crate::CommandError`], [`crate::DocumentError`]).

use std::path::PathBuf;

use anabranch_engine::after_failure;

pub use anabranch_net::AddressError;
pub use anabranch_store::OpenError as StoreProblem;

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
    /// The replica cannot have another key now.
    #[error("cannot renew the identity of {}: {reason}", path.display())]
    Renewal {
        /// The directory.
        path: PathBuf,
        /// For people to read.
        reason: String,
    },
    /// The replica's key is not to be another one now: see [`crate::RenewalError`].
    #[error("cannot renew the identity: {reason}")]
    RenewalRefused {
        /// For people to read.
        reason: String,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreProblem),
    /// An address to listen on or to dial is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address cannot be listened on: most often the port is in use.
    #[error("cannot listen on {address}: {reason}; give a port that is not in use (0 is any free one)")]
    Listen {
        /// The address asked for.
        address: String,
        /// For people to read.
        reason: String,
    },
    /// An address to dial was not accepted: there are too many, for example.
    #[error("cannot dial {address}: {reason}")]
    Dial {
        /// The address asked for.
        address: String,
        /// For people to read.
        reason: String,
    },
    /// What was to be recorded cannot be.
    #[error("cannot record to {}: {reason}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// For people to read.
        reason: String,
    },
    /// The operating system gave no thread, no randomness, or the like.
    #[error("cannot start: {0}")]
    System(String),
}

/// Edits were applied and are not saved, and no more are taken: the replica was shut down, its store failed, or nothing can be written
/// to it. What was saved is safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("applied and not saved yet: {reason}; {}", after_failure(*.is_tried_again))]
pub struct Stopped {
    /// Why.
    pub reason: String,
    /// The disk is full: they are saved if it has room before the replica ends ([`crate::Event::Resumed`]).
    pub is_tried_again: bool,
}
