//! What can still be read of a file that is no store any more: every row proves itself by its checksum, so the pages of
//! the file are looked through one by one, whatever redb thinks of them. What was found goes into a new store.
//!
//! Old versions of rows turn up as well, in pages that redb had let go of, and what looks like a row inside what somebody
//! wrote into a document. Runs and membership entries do not change and are signed, and the engine checks the signatures,
//! so that does not matter for them. Which runs were refused is found out again. Records of documents, and the feed, are not
//! taken over: they say what a replica holds, and the engine rebuilds them from the runs (a record without heads asks it
//! to). Which spaces a replica takes part in is told by the copy beside the store (`keepsake`). Where that is damaged too, a
//! space that was left may come back, which is seen and can be undone; a space lost could not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Seek};

use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::space::Access;
use anabranch_engine::storage::{META_FEED_SEQ, Row, Table, counted};
use redb::Database;

use crate::error::Trouble;
use crate::execute;

mod pages;

/// Rows found are written in commits of about so many bytes.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// The feed goes on so far behind the last number that was found: numbers between may have been given and not be readable.
const FEED_GAP: u64 = 1 << 32;
/// Numbers of the feed that are believed. It is far from where a store refuses to be read (`COUNTED_MAX`): a greater number was
/// put into the file by somebody who wants that to happen.
const FEED_SEQ_BELIEVED_MAX: u64 = 1 << 56;

/// What a salvage found and did. Its text is for people: what happened, what is there, what is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Salvaged {
    /// The directory of the store.
    pub place: String,
    /// What was wrong with it.
    pub damage: String,
    /// Where the damaged file is now, if there was one. It is never deleted.
    pub kept: Option<String>,
    /// Spaces of which the access was found.
    pub spaces: usize,
    /// Membership entries found.
    pub members: usize,
    /// Documents of which something was found.
    pub documents: usize,
    /// Runs of edits found.
    pub runs: usize,
    /// Bytes of the file that the disk did not give.
    pub unreadable: u64,
}

impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, damage, kept, spaces, members, documents, runs, unreadable } = self;
        match kept {
            Some(kept) => write!(
                f,
                "the store at {place} was damaged ({damage}); it is kept as {kept}, and a new one was made of what is readable: "
            )?,
            None => write!(
                f,
                "the store at {place} could not be opened ({damage}); a new one was made of the copy of its spaces: "
            )?,
        }
        write!(
            f,
            "{spaces} spaces with {members} membership entries, {documents} documents with {runs} runs of edits"
        )?;
        if *unreadable > 0 {
            write!(f, " ({unreadable} bytes could not be read from the disk)")?;
        }
        f.write_str(
            "; what is missing comes back from the peers that have it; edits that were made here, are not readable and \
             never reached a peer are only in the old file, if at all",
        )
    }
}

/// A file of which something is to be saved, and what else is known of the replica.
pub(crate) struct Wreck<F> {
    /// The damaged file.
    pub(crate) file: F,
    /// The copy of the spaces, if there is one.
    pub(crate) kept: Kept,
}

/// What the copy of the spaces says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The rows that can be read.
    pub(crate) rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    /// These are all there were.
    pub(crate) is_whole: bool,
}

/// What was found, but for the rows that are in the new store already.
#[derive(Default)]
struct Found {
    spaces: BTreeMap<Vec<u8>, Vec<u8>>,
    documents: BTreeSet<Vec<u8>>,
    feed_seq: u64,
    rows: Vec<Row>,
    rows_bytes: usize,
    members: BTreeSet<Vec<u8>>,
    runs: usize,
    unreadable: u64,
}

/// Writes everything readable of a damaged file into an empty store. Takes time in proportion to the file, and memory for
/// a few megabytes, the names of the documents and of the membership entries.
///
/// The texts of the result are left empty.
///
/// # Errors
/// The new store cannot be written.
pub(crate) fn salvage(wreck: Wreck<impl Read + Seek>, database: &Database) -> Result<Salvaged, Trouble> {
    let Wreck { file, kept } = wreck;
    let mut found = Found::default();
    let unreadable = pages::rows(file, &mut |table, key, value| found.take(database, table, key, value))?;
    if kept.is_whole {
        // It knows better which spaces are still taken part in.
        found.spaces.clear();
    }
    for (table, key, value) in &kept.rows {
        found.take(database, *table, key, value)?;
    }
    found.write(database)?;
    found.unreadable = unreadable;
    found.finish(database)
}

impl Found {
    fn take(&mut self, database: &Database, table: Table, key: &[u8], value: &[u8]) -> Result<(), Trouble> {
        match table {
            Table::Spaces => self.take_access(key, value),
            // Who has read the feed has seen numbers up to this: it must not begin below.
            Table::Feed => self.feed_seq = self.feed_seq.max(seq(key)),
            Table::Meta if key == META_FEED_SEQ => self.feed_seq = self.feed_seq.max(seq(value)),
            Table::Meta => {}
            Table::Documents => _ = self.documents.insert(key.to_vec()),
            Table::Runs => {
                self.documents.insert(key[..48].to_vec());
                self.put(table, key, value);
            }
            Table::Members => {
                self.members.insert(key.to_vec());
                self.put(table, key, value);
            }
            Table::AclRefs | Table::Peers => self.put(table, key, value),
        }
        if self.rows_bytes > COMMIT_BYTES { self.write(database) } else { Ok(()) }
    }

    /// Of several versions the one of a member counts: it was written after that of one who wants to join.
    fn take_access(&mut self, key: &[u8], value: &[u8]) {
        let Ok(access) = minicbor::decode::<Access>(value) else { return };
        if access.invite.is_none() || !self.spaces.contains_key(key) {
            self.spaces.insert(key.to_vec(), value.to_vec());
        }
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.rows_bytes += key.len() + value.len();
        self.rows.push(Row { table, key: key.to_vec(), value: Some(value.to_vec()) });
    }

    /// Commits what is waiting. Of two runs that end alike the longer one is kept: it holds the other.
    fn write(&mut self, database: &Database) -> Result<(), Trouble> {
        self.rows_bytes = 0;
        let mut longest = BTreeMap::<(Table, Vec<u8>), Vec<u8>>::new();
        for Row { table, key, value } in self.rows.drain(..) {
            let value = value.unwrap_or_default();
            let place = (table, key);
            if longest.get(&place).is_none_or(|other| other.len() < value.len()) {
                longest.insert(place, value);
            }
        }
        let mut rows = Vec::with_capacity(longest.len());
        for ((table, key), value) in longest {
            let end = [&key[..], &[0]].concat();
            let there = execute::scan(database, table, &key, &end, 1)?.rows;
            let length = there.first().map(|(_, value)| value.len());
            if table == Table::Runs && length.is_none() {
                self.runs += 1;
            }
            if length.is_none_or(|length| length < value.len()) {
                rows.push(Row { table, key, value: Some(value) });
            }
        }
        execute::commit(database, &rows)
    }

    fn finish(self, database: &Database) -> Result<Salvaged, Trouble> {
        let row = |table, key: Vec<u8>, value: Vec<u8>| Row { table, key, value: Some(value) };
        let mut rows: Vec<Row> =
            self.spaces.iter().map(|(key, value)| row(Table::Spaces, key.clone(), value.clone())).collect();
        // The engine reads the runs of a document without heads, and writes down what they come to.
        let record = DocumentRecord::default().encode_stored();
        rows.extend(self.documents.iter().map(|key| row(Table::Documents, key.clone(), record.clone())));
        let feed_seq = self.feed_seq + FEED_GAP;
        rows.push(row(Table::Meta, META_FEED_SEQ.to_vec(), feed_seq.to_be_bytes().to_vec()));
        execute::commit(database, &rows)?;
        Ok(Salvaged {
            place: String::new(),
            damage: String::new(),
            kept: None,
            spaces: self.spaces.len(),
            members: self.members.len(),
            documents: self.documents.len(),
            runs: self.runs,
            unreadable: self.unreadable,
        })
    }
}

#[cfg(not(target_family = "wasm"))]
impl Salvaged {
    /// Whether anything of a store was found.
    pub(crate) fn is_something(&self) -> bool {
        self.spaces + self.members + self.documents + self.runs > 0
    }
}

/// A number of the feed, as rows have it.
fn seq(bytes: &[u8]) -> u64 {
    counted(bytes).ok().filter(|seq| *seq <= FEED_SEQ_BELIEVED_MAX).unwrap_or(0)
}
