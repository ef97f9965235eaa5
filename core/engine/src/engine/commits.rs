//! Group commit: one commit at a time; what comes while it is in flight forms the next.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::input::CommandId;
use crate::engine::output::{Event, Output, Reply};
use crate::engine::resident::Resident;
use crate::feed::FeedRow;
use crate::id::SpaceId;
use crate::mutants::Mutant;
use crate::run::Run;
use crate::space::Acl;
use crate::storage::{CommitId, Failure, Request, Row, Table, document_key, feed_key};

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

    /// Who waits to be told of a space that is left: nobody is told any more that it is here.
    pub(super) fn unfollow(&mut self, space: &SpaceId) -> Vec<CommandId> {
        let waiting = self.followers.values_mut();
        let void = waiting.flat_map(|waiting| waiting.extract_if(.., |(_, reply)| reply.space() == Some(space)));
        void.map(|(command, _)| command).collect()
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

    /// The commit in flight has failed and is to be tried again: everybody who waits, in vain for now.
    pub(super) fn fail_followers(&mut self) -> Vec<CommandId> {
        core::mem::take(&mut self.followers).into_values().flatten().map(|(command, _)| command).collect()
    }

    /// The store failed: everybody who waited, in vain.
    pub(super) fn abandon(&mut self) -> Vec<CommandId> {
        self.rows.clear();
        self.rows_bytes = 0;
        self.fail_followers()
    }
}

impl Engine {
    /// Closes the runs of every changed document and forms the next commit, unless one is in flight.
    pub(super) fn commit(&mut self) {
        if self.commits.is_in_flight() || self.stopped.is_some() || self.halted.is_some() {
            return;
        }
        let mut spaces = BTreeSet::new();
        while let Some(key) = self.documents.next_dirty() {
            self.close_runs(key);
            spaces.insert(key.0);
        }
        // Fresh runs are on their way to the peers before the disk is asked: an actor that is never continued makes it safe.
        for id in self.to_flush.clone() {
            self.flush(id);
        }
        if let Some(mut request) = self.commits.take() {
            self.counters.commits += 1;
            self.feed_seq_in_flight = self.feed_seq;
            if self.mutated.by(Mutant::SplitsCommits) {
                self.commits.put_off(&mut request, Table::Runs);
            }
            if let Request::Commit { id, .. } = request
                && self.mutated.by(Mutant::AcknowledgesEarly)
            {
                self.event(Event::Committed(id));
            }
            self.out(Output::Store(request));
        }
        for space in &spaces {
            self.space_changed(space);
            self.hint_later(space);
        }
    }

    /// Signs a document's local changes, brings its record up to date and puts both into the next commit.
    pub(super) fn close_runs(&mut self, key: DocumentKey) {
        let Some(space) = self.spaces.get(&key.0) else { return };
        let mut acl = space.current_acl().clone();
        if self.mutated.by(Mutant::SkipsRoleCheck) {
            acl = Acl::new(Vec::new());
        }
        let Some(document) = self.documents.live_mut(&key) else { return };
        let mut runs = Vec::new();
        let splits = self.mutated.by(Mutant::SplitsDrafts) && document.split_draft();
        while let Some(unsigned) = document.take_unsigned() {
            runs.push((None, Run::sign(&*self.identity, key.0, key.1, acl.hash, unsigned)));
            if splits {
                break;
            }
        }
        let heads = document.signed_heads();
        if !runs.is_empty() {
            self.keep_acl(&key.0, &acl);
        }
        self.keep_and_forward(&key.0, runs);
        let (accepted, bytes) = self.documents.get_mut(&key).map(Resident::take_accepted).unwrap_or_default();
        self.feed_seq += 1;
        let Some(space) = self.spaces.get_mut(&key.0) else { return };
        let mut record = space.records.take(&key.1).unwrap_or_default();
        for proof in accepted {
            record.signed.frontier.accept(proof);
        }
        record.signed.heads = heads;
        let live = self.documents.live(&key);
        if let Some(document) = live.filter(|document| !document.is_damaged()) {
            record.signed.summary = document.summary(&record.signed.summary, bytes);
        }
        let mut stored = record.signed.encode_stored();
        if self.mutated.by(Mutant::WritesAnotherVersion) {
            stored[1] += 1;
        }
        self.commits.put(Table::Documents, document_key(&key.0, &key.1), stored);
        if record.feed_seq != 0 {
            self.commits.remove(Table::Feed, feed_key(record.feed_seq));
        }
        record.feed_seq = self.feed_seq;
        let row = FeedRow { seq: self.feed_seq, space: key.0, document: key.1, heads: record.signed.heads.clone() };
        self.commits.put(Table::Feed, feed_key(row.seq), row.to_stored());
        space.set_record(key.1, record);
        if self.mutated.by(Mutant::BlindDigest) {
            space.documents.set(key.1.0, Some([0; 32]));
        }
        self.documents.recorded(&key);
    }

    pub(super) fn committed(&mut self, id: CommitId, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                self.resumed();
                for (command, reply) in self.commits.committed(id) {
                    self.reply(command, Ok(reply));
                }
                self.event(Event::Committed(id));
                if self.feed_seq_told < self.feed_seq_in_flight {
                    self.feed_seq_told = self.feed_seq_in_flight;
                    self.event(Event::FeedGrew { seq: self.feed_seq_told });
                }
                // What was dirty may be clean now, and all roots told.
                self.check_waits();
            }
            Err(failure) => self.store_failed(Some(id), &failure),
        }
    }
}
