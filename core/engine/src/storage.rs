//! What the engine asks of a store, and where it puts things: requests, replies, failures and the key layout. No IO.
//!
//! A store holds ordered tables of byte keys and byte values. It executes requests in the order given, commits each
//! [`Request::Commit`] as one durable transaction, and gives back exactly what was written or a [`Failure`]: never other
//! bytes. The checksum that makes this true is the store's own (`docs/storage.md`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::id::{ActorId, DocumentId, SpaceId};
use crate::limits::COUNTED_MAX;

/// The tables of a store. The number is part of the format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Table {
    /// `name` → value: storage id, boot epoch.
    Meta = 0,
    /// `space` → what we need to take part in it.
    Spaces = 1,
    /// `space ‖ entry hash` → signed membership entry.
    Members = 2,
    /// `space ‖ document` → heads and frontier.
    Documents = 3,
    /// `space ‖ document ‖ lamport ‖ actor ‖ last seq` → signed run. Lamport is the greatest operation counter of the run's last
    /// change, so that a scan gives each run after those it depends on.
    Runs = 4,
    /// `seq` → which document changed.
    Feed = 5,
    /// `space ‖ acl hash` → the membership entries that it stands for.
    AclRefs = 6,
    /// `device` → addresses last seen.
    Peers = 7,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 8] =
        [Self::Meta, Self::Spaces, Self::Members, Self::Documents, Self::Runs, Self::Feed, Self::AclRefs, Self::Peers];

    /// The tables that an [`Image`] carries whole. Runs are read per document.
    pub const IN_IMAGE: [Self; 7] =
        [Self::Meta, Self::Spaces, Self::Members, Self::Documents, Self::Feed, Self::AclRefs, Self::Peers];

    /// The name used on disk and in errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Spaces => "spaces",
            Self::Members => "members",
            Self::Documents => "documents",
            Self::Runs => "runs",
            Self::Feed => "feed",
            Self::AclRefs => "acl_refs",
            Self::Peers => "peers",
        }
    }
}

/// Names a commit. Commits are numbered from 1 within one process start, without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct CommitId(pub u64);

/// Names a scan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ScanId(pub u64);

/// One row to write, or to remove where `value` is `None`.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Where.
    pub table: Table,
    /// The key, at most a few hundred bytes.
    pub key: Vec<u8>,
    /// The value, or `None` to remove the row.
    pub value: Option<Vec<u8>>,
}

/// What the engine asks of its store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Write all rows in one durable transaction.
    Commit {
        /// Named in the reply.
        id: CommitId,
        /// Later rows win over earlier ones with the same key.
        rows: Vec<Row>,
    },
    /// Try once more to write what could not be written. Answered as the commit that failed would be.
    Resume {
        /// The id of the first commit that failed.
        id: CommitId,
    },
    /// Read rows with `from <= key < to`, in key order.
    Scan {
        /// Named in the reply.
        id: ScanId,
        /// Where.
        table: Table,
        /// First key.
        from: Vec<u8>,
        /// First key that is not wanted.
        to: Vec<u8>,
        /// Stop after the row that reaches this many bytes of keys and values.
        bytes_max: usize,
    },
    /// Read rows as a scan does, but leave out those that are damaged, and name them. Answered as a scan.
    Salvage {
        /// Named in the reply.
        id: ScanId,
        /// Where.
        table: Table,
        /// First key.
        from: Vec<u8>,
        /// First key that is not wanted.
        to: Vec<u8>,
        /// Stop after the row that reaches this many bytes of keys and values.
        bytes_max: usize,
    },
}

/// What a store answers, one reply to each request, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The commit is on disk, or nothing of it is. Where it is not, scans find it all the same if they find anything.
    Committed {
        /// The request's id.
        id: CommitId,
        /// Whether it is on disk.
        result: Result<(), Failure>,
    },
    /// The rows of a scan.
    Scanned {
        /// The request's id.
        id: ScanId,
        /// The rows read.
        result: Result<Scanned, Failure>,
    },
}

/// Rows read.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Keys and values in key order.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// There is more: scan again from just after the last key.
    pub more: bool,
    /// Keys of rows that were left out because they are damaged, as far as they can be read. Only of
    /// [`Request::Salvage`].
    pub damaged: Vec<Vec<u8>>,
}

/// Why a store could not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// No room. What was committed before is safe.
    #[error("the disk is full: {0}")]
    Full(String),
    /// A value did not match its checksum, or the file is not readable as a store.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The operating system refused.
    #[error("the store cannot be read or written: {0}")]
    Io(String),
    /// What is written is not what the next start would find: the store was moved, removed or replaced, or its disk is gone.
    #[error("the store is not at its place any more: {0}; stop the node, put the store back and start again")]
    Gone(String),
}

/// What a replica knows when it starts: every row of [`Table::IN_IMAGE`], in key order per table.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// Table, key, value.
    pub rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

// Rows are logged with what is asked of a store, and some of them hold what nobody may see: keys of spaces, seeds of invites. So their
// values are not shown.

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().map(Hidden);
        f.debug_struct("Row").field("table", &self.table).field("key", &Key(&self.key)).field("value", &value).finish()
    }
}

impl fmt::Debug for Scanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows.iter().map(|(key, value)| (Key(key), Hidden(value))).collect();
        let damaged: Vec<_> = self.damaged.iter().map(|key| Key(key)).collect();
        f.debug_struct("Scanned").field("rows", &rows).field("more", &self.more).field("damaged", &damaged).finish()
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows.iter().map(|(table, key, value)| (table, Key(key), Hidden(value))).collect();
        f.debug_struct("Image").field("rows", &rows).finish()
    }
}

/// A key, in hex.
struct Key<'a>(&'a [u8]);

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value, of which only the length is shown.
struct Hidden<'a>(&'a [u8]);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Key of [`Table::Meta`] for the storage id (16 bytes).
pub const META_STORAGE_ID: &[u8] = b"storage_id";
/// Key of [`Table::Meta`] for what this device is called (UTF-8), if it has a name.
pub const META_DEVICE_NAME: &[u8] = b"device_name";
/// Key of [`Table::Meta`] for the boot epoch (8 bytes, big endian).
pub const META_BOOT_EPOCH: &[u8] = b"boot_epoch";

/// Key of [`Table::Meta`] for the feed's last seq when a space was left (8 bytes, big endian): its rows are gone, their
/// numbers are not used again.
pub const META_FEED_SEQ: &[u8] = b"feed_seq";

/// Keys of [`Table::Meta`] that begin so, followed by the tip of a run: it broke the merge and is refused (no
/// value), or so many processes in a row died while they merged it alone (one byte).
pub const META_POISONED: &[u8] = b"poisoned ";

/// Keys of [`Table::Meta`] that begin so, followed by a device that is blocked here (no value).
pub const META_BLOCKED: &[u8] = b"blocked ";

/// Reads a number that only grows, of starts or in the feed: 8 bytes, big endian.
///
/// # Errors
/// Says what is wrong with another length, or a number above `COUNTED_MAX`: counting on from there might not end well.
pub fn counted(bytes: &[u8]) -> Result<u64, String> {
    let number = bytes.try_into().map_err(|_| format!("{} bytes where 8 were expected", bytes.len()))?;
    match u64::from_be_bytes(number) {
        number if number > COUNTED_MAX => Err(format!("{number} where the limit is {COUNTED_MAX}")),
        number => Ok(number),
    }
}

/// Key in [`Table::Documents`], and the common prefix of the document's runs.
pub fn document_key(space: &SpaceId, document: &DocumentId) -> Vec<u8> {
    [&space.0[..], &document.0[..]].concat()
}

/// Key in [`Table::Runs`].
pub fn run_key(space: &SpaceId, document: &DocumentId, lamport: u64, actor: &ActorId, last_seq: u64) -> Vec<u8> {
    [&space.0[..], &document.0[..], &lamport.to_be_bytes(), &actor.0[..], &last_seq.to_be_bytes()].concat()
}

/// What a key in [`Table::Runs`] says, or `None` if it is none.
pub fn parse_run_key(key: &[u8]) -> Option<RunKey> {
    let (space, rest) = key.split_first_chunk()?;
    let (document, rest) = rest.split_first_chunk()?;
    let (lamport, rest) = rest.split_first_chunk()?;
    let (actor, last_seq) = rest.split_first_chunk()?;
    Some(RunKey {
        space: SpaceId(*space),
        document: DocumentId(*document),
        lamport: u64::from_be_bytes(*lamport),
        actor: ActorId(*actor),
        last_seq: u64::from_be_bytes(last_seq.try_into().ok()?),
    })
}

/// A key in [`Table::Runs`], taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunKey {
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub document: DocumentId,
    /// Greatest operation counter of the last change.
    pub lamport: u64,
    /// The actor.
    pub actor: ActorId,
    /// Sequence number of the last change.
    pub last_seq: u64,
}

/// Key in [`Table::Feed`].
pub fn feed_key(seq: u64) -> Vec<u8> {
    seq.to_be_bytes().to_vec()
}

/// Key in [`Table::Members`] and [`Table::AclRefs`]: a hash within a space.
pub fn space_hash_key(space: &SpaceId, hash: &[u8; 32]) -> Vec<u8> {
    [&space.0[..], &hash[..]].concat()
}

/// The first key after every key that begins with `prefix`; empty if there is none.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shown_without_their_values() {
        let secret = alloc::vec![197_u8; 32];
        let (key, value) = (alloc::vec![0xab; 2], secret.clone());
        let row = Row { table: Table::Spaces, key: key.clone(), value: Some(secret.clone()) };
        let scanned = Scanned { rows: alloc::vec![(key.clone(), value.clone())], ..Scanned::default() };
        let image = Image { rows: alloc::vec![(Table::Spaces, key, value)] };
        let commit = Request::Commit { id: CommitId(1), rows: alloc::vec![row.clone()] };
        for shown in [format!("{row:?}"), format!("{scanned:?}"), format!("{image:?}"), format!("{commit:#?}")] {
            assert!(shown.contains("abab") && shown.contains("32 bytes"), "{shown}");
            assert!(!shown.contains("197") && !shown.contains("c5c5"), "{shown}");
        }
    }

    #[test]
    fn a_number_that_nobody_counts_to_is_refused() {
        assert_eq!(counted(&COUNTED_MAX.to_be_bytes()), Ok(COUNTED_MAX));
        let more = counted(&(COUNTED_MAX + 1).to_be_bytes());
        assert_eq!(more, Err(format!("{} where the limit is {COUNTED_MAX}", COUNTED_MAX + 1)));
        assert_eq!(counted(&[0; 7]), Err(String::from("7 bytes where 8 were expected")));
    }
}
