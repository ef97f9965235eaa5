//! Runs that a mending left in the store: what they depend on is gone, or the members that they stand on are not known, and no
//! version of their document has them. They are read again, a page at a time, when their document comes into memory, when what
//! they waited for was merged, and when more members are known. They arrive as a peer's runs do.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use tracing::warn;

use crate::document::Document;
use crate::document::mend::Readable;
use crate::document::work::{Work, WorkKind};
use crate::engine::Engine;
use crate::engine::arrivals::WAITING_ACLS_MAX;
use crate::engine::documents::DocumentKey;
use crate::engine::resident::Page;
use crate::engine::scans::Scan;
use crate::gate::{Authority, Intake, Payload};
use crate::id::{AclHash, SpaceId};
use crate::run::{Run, RunHeader};
use crate::space::Acl;
use crate::space::roles::Role;
use crate::storage::{Scanned, document_key, parse_run_key};

impl Engine {
    /// A stored run with what is known of its author, before it goes into a document again: it may be anybody's words, as a page
    /// that looks like one of ours can be hidden in what a member writes.
    pub(in crate::engine) fn readable(&mut self, key: &DocumentKey, row: Vec<u8>, run: Run) -> Readable {
        let header = &run.header;
        let Some(space) = self.spaces.get(&key.0) else { return Readable { row, run, author: None } };
        let acl = space.acl(&header.acl);
        let known = acl.and_then(|acl| space.membership.authority(&acl.entries, &header.device));
        // Our own signature says that we were allowed to, also where the entries that said so are lost, or our key was new and
        // nobody had let us in under it.
        let own = (header.device == self.device).then_some(Authority { role: Some(Role::Writer) });
        let author = own.or(known);
        // The members of now are known without being stored; the run may stand on them, and in a while they are those of then.
        if author.is_some()
            && let Some(acl) = acl.filter(|acl| !space.has_acl(acl))
            && let Some(resident) = self.documents.get_mut(key)
        {
            resident.acls.insert(acl.hash, acl.clone());
        }
        Readable { row, run, author }
    }

    /// More is known of a space's members: what stood on them and was not known to.
    pub(in crate::engine) fn read_leftovers_of(&mut self, space_id: &SpaceId) {
        let Some(space) = self.spaces.get(space_id) else { return };
        self.documents.reread_where(space_id, |acl| space.knows(acl));
    }

    /// Notes what some of a document's leftovers stand on. Of more than there is room for, they are read when it comes into
    /// memory again.
    pub(in crate::engine) fn note_unknown_members(
        &mut self,
        key: DocumentKey,
        acls: impl IntoIterator<Item = AclHash>,
    ) {
        let Some(resident) = self.documents.get_mut(&key) else { return };
        let unknown = &mut resident.leftovers.unknown;
        for acl in acls {
            if unknown.len() < WAITING_ACLS_MAX {
                unknown.insert(acl);
            }
        }
    }

    /// Begins to read those of as many documents as may be under way at a time.
    pub(in crate::engine) fn leftovers_due(&mut self) {
        if self.stopped.is_some() || self.halted.is_some() {
            return;
        }
        for key in self.documents.due_for_rereading() {
            let Some(resident) = self.documents.get_mut(&key) else { continue };
            resident.leftovers.unknown.clear();
            if let Some(document) = resident.live_mut() {
                document.note_what_is_given_up();
            }
            self.scan_leftovers(key, document_key(&key.0, &key.1));
        }
    }

    fn scan_leftovers(&mut self, key: DocumentKey, from: Vec<u8>) {
        if let Some(resident) = self.documents.get_mut(&key) {
            let generation = resident.generation;
            resident.leftovers.page = Some(Page::Coming(None));
            // Damaged rows are passed over: those that the document holds are found when it is opened or sent.
            self.salvage_runs(Scan::Leftovers(key, generation), key, from);
        }
    }

    /// Nothing of a page can be read.
    pub(in crate::engine) fn leftovers_unreadable(&mut self, key: DocumentKey, generation: u64, error: &str) {
        if let Some(resident) = self.documents.of_generation(&key, generation) {
            warn!(document = %key.1, error, "what a mending left in the store is not read again");
            resident.leftovers.page = None;
            self.documents.touch(key);
        }
    }

    /// A page of a document's runs was read, in which they are.
    pub(in crate::engine) fn scanned_leftovers(&mut self, key: DocumentKey, generation: u64, scanned: Scanned) {
        if self.documents.of_generation(&key, generation).is_none() {
            return;
        }
        let next = scanned.rows.last().filter(|_| scanned.more).map(|(last, _)| [last.as_slice(), &[0]].concat());
        let (mut runs, mut unvouched) = (Vec::new(), Vec::new());
        for (row, value) in scanned.rows {
            let run = parse_run_key(&row)
                .and_then(|at| Run::decode_stored(at.space, at.document, at.actor, at.last_seq, &value).ok());
            let Some(run) = run else { continue };
            let header = &run.header;
            let record = self.spaces.get(&key.0).and_then(|space| space.records.signed(&key.1));
            let is_named = record.is_some_and(|record| record.names(&header.actor, header.last_seq));
            if is_named || self.poison.has(&header.tip) {
                continue;
            }
            let readable = self.readable(&key, row, run);
            if readable.author.is_some() {
                runs.push(readable);
            } else {
                unvouched.push(readable.run.header.acl);
            }
        }
        self.note_unknown_members(key, unvouched);
        let Some(resident) = self.documents.get_mut(&key) else { return };
        if runs.is_empty() {
            resident.leftovers.page = Some(Page::Arrived(next));
            self.documents.touch(key);
            return;
        }
        resident.leftovers.page = Some(Page::Coming(next));
        let kind = WorkKind::Vouch(runs);
        // Nothing is applied.
        self.give_work(Work { space: key.0, document: key.1, generation, ops: 0, kind });
    }

    /// Those of a page that may be part of the document.
    pub(in crate::engine) fn leftovers_read(&mut self, key: DocumentKey, runs: Vec<(RunHeader, Payload)>) {
        let Some(resident) = self.documents.get_mut(&key) else { return };
        if let Some(Page::Coming(next)) = resident.leftovers.page.take() {
            resident.leftovers.page = Some(Page::Arrived(next));
        }
        let Some(document) = resident.live_mut() else {
            return warn!(document = %key.1, "read for a document that is not in memory");
        };
        self.counters.leftovers_read += runs.len() as u64;
        let stood_on: BTreeSet<AclHash> = runs.iter().map(|(header, _)| header.acl).collect();
        for (header, payload) in runs {
            document.receive_read(header, Ok(payload), Intake::Always);
        }
        // However long they wait, what they stand on may not be forgotten before them.
        let lists: Vec<Acl> = stood_on.iter().filter_map(|acl| resident.acls.remove(acl)).collect();
        for acl in lists {
            self.keep_acl(&key.0, &acl);
        }
        self.documents.touch(key);
    }

    /// What is in a document's inbox was looked at: if that was a page of leftovers, the next one may come.
    pub(in crate::engine) fn next_leftovers(&mut self, key: DocumentKey) {
        let Some(resident) = self.documents.get_mut(&key) else { return };
        if resident.inbox_bytes() > 0 || resident.live().is_none_or(Document::is_busy) {
            return;
        }
        let arrived = resident.leftovers.page.take_if(|page| matches!(page, Page::Arrived(_)));
        if let Some(Page::Arrived(Some(from))) = arrived {
            self.scan_leftovers(key, from);
        }
    }
}
