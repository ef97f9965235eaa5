//! What can go wrong, sorted by what one can do about it. The words that users read are here.

use std::any::Any;
use std::error::Error as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anabranch_engine::id::DeviceId;
use anabranch_engine::storage::Failure;

/// Why a store could not be opened. Nothing in it was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it open.
    #[error("the store at {place} is in use by another process; stop it, or use another directory")]
    InUse {
        /// The directory.
        place: String,
    },
    /// A newer program wrote it.
    #[error("the store at {place} has format version {found}, this program knows up to {known}; use a newer program")]
    Format {
        /// The directory.
        place: String,
        /// The version in the store.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// A program with another version of redb wrote it.
    #[error(
        "the store at {place} has redb's file format {found}, this program knows {known}; use the program that wrote it"
    )]
    OtherEngine {
        /// The directory.
        place: String,
        /// The version in the file.
        found: u8,
        /// The version that this program reads.
        known: u8,
    },
    /// It was made with another key: two directories were mixed up.
    #[error(
        "the store at {place} belongs to device {found:.8}, and the identity beside it is that of {ours:.8}; put back the \
         identity that the store was made with"
    )]
    OtherDevice {
        /// The directory.
        place: String,
        /// Whose store it is.
        found: DeviceId,
        /// Who opens it.
        ours: DeviceId,
    },
    /// There is something, but no store of ours, or one whose beginning is gone.
    #[error("{file} is not an Anabranch store, or is damaged at its beginning ({detail}); {}", what_to_do(file))]
    Foreign {
        /// The file.
        file: String,
        /// What was found instead.
        detail: String,
    },
    /// The file cannot be read as a store any more.
    #[error("the store at {place} is damaged ({detail}); {SALVAGE}")]
    Damaged {
        /// The directory.
        place: String,
        /// The file.
        file: String,
        /// What was found.
        detail: String,
    },
    /// No room.
    #[error("the disk is full: the store at {place} cannot be opened ({detail}); make room and start again")]
    Full {
        /// The directory.
        place: String,
        /// The operating system's words.
        detail: String,
    },
    /// The operating system refused.
    #[error("the store at {place} cannot be opened: {detail}")]
    Io {
        /// The directory.
        place: String,
        /// The operating system's words.
        detail: String,
    },
}

/// What helps against a damaged store.
const SALVAGE: &str =
    "when it is opened with salvaging allowed, what is readable is saved, and the rest comes from the peers";

/// What helps against a file in which nothing of a store is found.
fn what_to_do(file: &str) -> String {
    format!(
        "the peers of this replica hold the data: move {file} aside, start again and join the spaces again; the replica \
         fills again from its peers"
    )
}

/// What went wrong while redb worked for us.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A row is not what was written. The store itself goes on.
    Row(String),
    /// redb or the disk below it.
    Redb(redb::Error),
    /// redb panicked.
    Panicked(String),
}

/// Why opening did not work.
#[derive(Debug)]
pub(crate) enum Refused {
    Foreign(String),
    Newer(u32),
    #[cfg(not(target_family = "wasm"))]
    OtherEngine {
        found: u8,
        known: u8,
    },
    #[cfg(not(target_family = "wasm"))]
    OtherDevice {
        found: DeviceId,
        ours: DeviceId,
    },
    Trouble(Trouble),
}

macro_rules! from_redb {
    ($($error:ty),*) => { $(
        impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        }
    )* };
}

from_redb!(
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    io::Error
);

impl<E: Into<Trouble>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Trouble(error.into())
    }
}

/// The two questions that decide what an error means.
enum Kind {
    Full,
    Damaged,
    Io,
}

impl Trouble {
    fn kind(&self) -> Kind {
        match self {
            Self::Row(_) | Self::Panicked(_) => Kind::Damaged,
            Self::Redb(redb::Error::Io(error)) if is_full(error) => Kind::Full,
            // The store is locked, so nobody shortened it: bytes that should be there are gone.
            Self::Redb(redb::Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Kind::Damaged,
            Self::Redb(
                redb::Error::Corrupted(_)
                | redb::Error::UpgradeRequired(_)
                | redb::Error::RepairAborted
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TableIsNotMultimap(_)
                | redb::Error::TypeDefinitionChanged { .. }
                | redb::Error::TableDoesNotExist(_),
            ) => Kind::Damaged,
            Self::Redb(_) => Kind::Io,
        }
    }

    /// Whether a medium on which this happened may be read all the same: what happened is not that the store is damaged,
    /// somebody else's or not ours to read.
    pub(crate) fn leaves_reading(&self) -> bool {
        match self {
            Self::Redb(redb::Error::Io(error)) => {
                is_full(error)
                    || !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound
                            | io::ErrorKind::PermissionDenied
                            | io::ErrorKind::InvalidData
                            | io::ErrorKind::UnexpectedEof
                            | io::ErrorKind::Unsupported
                    )
            }
            Self::Redb(redb::Error::PreviousIo) => true,
            Self::Redb(_) | Self::Row(_) | Self::Panicked(_) => false,
        }
    }

    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Row(text) => text.clone(),
            Self::Redb(redb::Error::Io(error)) => error.to_string(),
            Self::Redb(error) => error.to_string(),
            Self::Panicked(text) => format!("it cannot be read: {text}"),
        }
    }

    /// The failure that callers get, for a store at `place` that is a file, or is none.
    pub(crate) fn failure(&self, place: &str, is_file: bool) -> Failure {
        let text = format!("{place}: {}", self.detail());
        match (self.kind(), is_file) {
            (Kind::Full, _) => Failure::Full(text),
            (Kind::Damaged, true) => Failure::Damaged(format!("{text}; {SALVAGE}")),
            (Kind::Damaged, false) => Failure::Damaged(text),
            (Kind::Io, _) => Failure::Io(text),
        }
    }
}

#[cfg(not(target_family = "wasm"))]
impl OpenError {
    /// What was found, without what to do.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Foreign { detail, .. }
            | Self::Damaged { detail, .. }
            | Self::Full { detail, .. }
            | Self::Io { detail, .. } => detail.clone(),
            Self::InUse { .. } | Self::Format { .. } | Self::OtherEngine { .. } | Self::OtherDevice { .. } => {
                self.to_string()
            }
        }
    }
}

impl Refused {
    /// What it means for a store that was open before.
    pub(crate) fn trouble(self) -> Trouble {
        match self {
            Self::Trouble(trouble) => trouble,
            Self::Foreign(detail) => Trouble::Row(detail),
            Self::Newer(version) => Trouble::Row(format!("it has format version {version}")),
            #[cfg(not(target_family = "wasm"))]
            Self::OtherEngine { found, .. } => Trouble::Row(format!("it has redb's file format {found}")),
            #[cfg(not(target_family = "wasm"))]
            Self::OtherDevice { found, .. } => Trouble::Row(format!("it belongs to device {found:.8}")),
        }
    }

    fn open_error(self, place: &str, file: &str) -> OpenError {
        let (place, file) = (place.to_owned(), file.to_owned());
        let trouble = match self {
            Self::Foreign(detail) => return OpenError::Foreign { file, detail },
            #[cfg(not(target_family = "wasm"))]
            Self::OtherEngine { found, known } => return OpenError::OtherEngine { place, found, known },
            #[cfg(not(target_family = "wasm"))]
            Self::OtherDevice { found, ours } => return OpenError::OtherDevice { place, found, ours },
            Self::Newer(found) => return OpenError::Format { place, found, known: crate::VERSION },
            Self::Trouble(Trouble::Redb(redb::Error::DatabaseAlreadyOpen)) => return OpenError::InUse { place },
            // redb's words for a file that does not begin like one of its own.
            Self::Trouble(Trouble::Redb(redb::Error::Io(error))) if error.kind() == io::ErrorKind::InvalidData => {
                return OpenError::Foreign { file, detail: error.to_string() };
            }
            Self::Trouble(trouble) => trouble,
        };
        let detail = trouble.detail();
        match trouble.kind() {
            Kind::Full => OpenError::Full { place, detail },
            Kind::Damaged => OpenError::Damaged { place, file, detail },
            Kind::Io => OpenError::Io { place, detail },
        }
    }
}

/// Runs the opening of a store; a panic in it (redb's, on a damaged file) is damage.
pub(crate) fn opening<T>(place: &str, file: &str, open: impl FnOnce() -> Result<T, Refused>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|panic| Err(Refused::Trouble(Trouble::Panicked(panic_text(panic.as_ref())))))
        .map_err(|refused| refused.open_error(place, file))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").chars().take(200).collect()
}

/// Whether there was no room, however deep that is wrapped.
fn is_full(error: &io::Error) -> bool {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return true;
    }
    let mut source = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(inner) = source {
        if inner.downcast_ref::<io::Error>().is_some_and(is_full) {
            return true;
        }
        source = inner.source();
    }
    error.source().and_then(<dyn std::error::Error>::downcast_ref::<io::Error>).is_some_and(is_full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_seen_through_wrappers() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(is_full(&full()));
        assert!(is_full(&io::Error::from_raw_os_error(28)), "ENOSPC");
        assert!(is_full(&io::Error::from(io::ErrorKind::QuotaExceeded)));
        assert!(is_full(&io::Error::other(full())));
        assert!(is_full(&io::Error::other(io::Error::other(full()))));
        assert!(!is_full(&io::Error::other("no")));
        assert!(!is_full(&io::ErrorKind::PermissionDenied.into()));
    }

    #[test]
    fn failures_say_where_and_what() {
        let failure = Trouble::from(io::Error::from_raw_os_error(28)).failure("/data/a", false);
        assert_eq!(failure.to_string(), "the disk is full: /data/a: No space left on device (os error 28)");
        assert!(matches!(Trouble::from(io::Error::from_raw_os_error(5)).failure("/data/a", false), Failure::Io(_)));
    }
}
