//! Group commit: one commit at a time; what comes while it is in flight forms the next.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::engine::input::CommandId;
use crate::engine::output::Reply;
use crate::id::SpaceId;
use crate::storage::{CommitId, Request, Row, Table};

/// Rows that wait to be written, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Commits {
    rows: Vec<Row>,
    rows_bytes: usize,
    last: CommitId,
    in_flight: bool,
    followers: BTreeMap<CommitId, Vec<(CommandId, Reply)>>,
}

impl Commits {
    /// Writes a row with the next commit.
    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.rows_bytes += key.len() + value.len();
        self.rows.push(Row { table, key, value: Some(value) });
    }

    /// Removes a row with the next commit.
    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.rows_bytes += key.len();
        self.rows.push(Row { table, key, value: None });
    }

    /// Forgets the rows of a space that wait to be written.
    pub(super) fn drop_rows_of(&mut self, space: &SpaceId) {
        self.rows.retain(|row| match row.table {
            Table::Members | Table::Documents | Table::Runs | Table::AclRefs => !row.key.starts_with(&space.0),
            Table::Meta | Table::Spaces | Table::Feed | Table::Peers => true,
        });
    }

    /// The next commit's id.
    pub(super) fn next(&self) -> CommitId {
        CommitId(self.last.0 + 1)
    }

    /// Answers a command when the next commit is on disk.
    pub(super) fn follow(&mut self, command: CommandId, reply: Reply) {
        self.followers.entry(self.next()).or_default().push((command, reply));
    }

    /// A commit is in flight.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Nothing waits and nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        !self.in_flight && self.rows.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.rows_bytes
    }

    /// The next commit, if none is in flight and there is something to write or somebody waiting for it.
    pub(super) fn take(&mut self) -> Option<Request> {
        if self.in_flight || (self.rows.is_empty() && !self.followers.contains_key(&self.next())) {
            return None;
        }
        self.last = self.next();
        self.in_flight = true;
        self.rows_bytes = 0;
        Some(Request::Commit { id: self.last, rows: core::mem::take(&mut self.rows) })
    }

    /// For a mutant: leaves the rows of a table for the commit after this one.
    pub(super) fn put_off(&mut self, request: &mut Request, table: Table) {
        if let Request::Commit { rows, .. } = request {
            self.rows = rows.extract_if(.., |row| row.table == table).collect();
        }
    }

    /// The commit in flight is on disk: who waited for it.
    pub(super) fn committed(&mut self, id: CommitId) -> Vec<(CommandId, Reply)> {
        self.in_flight = false;
        self.followers.remove(&id).unwrap_or_default()
    }

    /// The store failed: everybody who waited, in vain.
    pub(super) fn abandon(&mut self) -> Vec<CommandId> {
        self.rows.clear();
        self.rows_bytes = 0;
        core::mem::take(&mut self.followers).into_values().flatten().map(|(command, _)| command).collect()
    }
}
