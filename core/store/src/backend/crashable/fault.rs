//! Faults of single calls: what can go wrong with one, and when it is to.

use std::io;

/// How a call goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No room: writing, growing and syncing fail, reading works.
    Full,
    /// The device fails: every call does.
    Io,
    /// Reading fails, everything else works.
    Read,
    /// Syncing fails, everything else works.
    Sync,
    /// The file system was mounted read-only, as it is after an error: writing, growing and syncing fail.
    ReadOnly,
    /// A write says that it worked, and its bytes are at another place of the disk.
    Misdirected,
    /// A write says that it worked, and nothing was written.
    Lost,
}

/// The kinds of calls that faults tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Write,
    Length,
    Sync,
}

/// A fault to come.
pub(super) struct Plan {
    /// Calls before this number work.
    pub(super) from: u64,
    pub(super) fault: Fault,
    pub(super) once: bool,
}

impl Plan {
    /// Whether it hits this call.
    pub(super) fn hits(&self, number: u64, call: Call) -> bool {
        number >= self.from && self.fault.can_hit(call)
    }
}

impl Fault {
    fn can_hit(self, call: Call) -> bool {
        match self {
            Self::Io => true,
            Self::Full | Self::ReadOnly => call != Call::Read,
            Self::Read => call == Call::Read,
            Self::Sync => call == Call::Sync,
            Self::Misdirected | Self::Lost => call == Call::Write,
        }
    }

    /// What the caller is told, if anything.
    pub(super) fn error(self) -> Option<io::Error> {
        match self {
            Self::Full => Some(io::ErrorKind::StorageFull.into()),
            Self::ReadOnly => Some(io::ErrorKind::ReadOnlyFilesystem.into()),
            Self::Io | Self::Read | Self::Sync => Some(io::Error::other("the simulated disk failed")),
            Self::Misdirected | Self::Lost => None,
        }
    }
}
