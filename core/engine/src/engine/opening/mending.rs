//! Documents of which the store cannot give back everything: rebuilt from what is readable, and the rest comes from the
//! peers, because the record then says what is really held.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tracing::{info, warn};

use crate::document::mend::Mended;
use crate::engine::Engine;
use crate::engine::documents::{DocumentKey, Standing};
use crate::engine::output::{Event, Reply};
use crate::engine::resident::State;
use crate::engine::scans::Scan;
use crate::limits::COMMIT_BYTES_MAX;
use crate::run::{Run, RunHeader, UnsignedRun};
use crate::space::Acl;
use crate::space::records::Record;
use crate::storage::{Table, document_key};

impl Engine {
    /// What is stored of a document cannot be read whole. Says so, and begins to mend it: at once, or, if it is in memory,
    /// when all of it that is not damaged is on disk.
    pub(in crate::engine) fn mend_document(&mut self, key: DocumentKey, error: &str) {
        if self.documents.is_damaged(&key) || matches!(self.documents.standing(&key), Standing::Broken(_)) {
            return;
        }
        let reason = alloc::format!("the store is damaged: document {}: {error}", key.1);
        warn!(space = %key.0, reason);
        self.event(Event::DocumentDamaged { space: key.0, document: key.1, reason });
        self.documents.mark_damaged(key);
        if matches!(self.documents.standing(&key), Standing::Opening) {
            self.begin_mending(key);
        }
    }

    /// A page of a document that is being opened or mended cannot be read.
    pub(in crate::engine) fn opening_failed(&mut self, key: DocumentKey, generation: u64, error: &str) {
        match self.documents.of_generation(&key, generation) {
            Some(resident) if resident.is_mending() => self.break_document(key, error),
            Some(_) => self.mend_document(key, error),
            None => {}
        }
    }

    /// Nothing readable can be made of a document. Others go on.
    fn break_document(&mut self, key: DocumentKey, error: &str) {
        self.close_damaged(key, alloc::format!("the store is damaged: document {}: {error}", key.1));
    }

    /// Notes the documents of which a salvage saved what it could.
    pub(in crate::engine) fn mend_what_was_salvaged(&mut self) {
        for (id, space) in &self.spaces {
            space.records.salvaged().for_each(|document| self.documents.mark_damaged((*id, *document)));
        }
    }

    /// Begins with as many of the documents to be mended as may be under way at a time.
    pub(in crate::engine) fn mend_due(&mut self) {
        if self.stopped.is_some() || self.halted.is_some() {
            return;
        }
        for key in self.documents.due_for_mending(self.commits.is_idle()) {
            self.begin_mending(key);
        }
    }

    fn begin_mending(&mut self, key: DocumentKey) {
        if !self.spaces.get(&key.0).is_some_and(|space| space.records.has(&key.1)) {
            return self.documents.unmark_damaged(&key);
        }
        let generation = self.documents.mend(key);
        self.salvage_runs(Scan::Open(key, generation), key, document_key(&key.0, &key.1));
    }

    /// A stored run as it can be sent. The members that one of ours stands on may be lost, or we were none of them because our
    /// key was new: nobody could be shown why it counts. It is signed once more, on those of now, and stored so.
    pub(in crate::engine) fn sign_again(&mut self, row: &[u8], run: Run) -> Run {
        let header = &run.header;
        let Some(space) = self.spaces.get(&header.space) else { return run };
        if header.device != self.device || space.lets_us_write(&header.acl) {
            return run;
        }
        if !space.is_admitted()
            || space.role_for_writing().is_some()
            || self.read_only(space).is_some()
            || !header.verify()
        {
            return run;
        }
        let acl = space.current_acl().clone();
        let RunHeader { space, document, actor, first_seq, last_seq, tip, .. } = *header;
        let unsigned = UnsignedRun { actor, first_seq, last_seq, tip, payload: run.payload };
        let run = Run::sign(&*self.identity, space, document, acl.hash, unsigned);
        info!(%document, %actor, last_seq, "signed once more, as the members that it stood on are lost or did not include us");
        // Where the disk is too slow for that, it is signed again for the next peer.
        if self.commits.bytes() <= COMMIT_BYTES_MAX {
            self.keep_acl(&space, &acl);
            self.commits.put(Table::Runs, row.to_vec(), run.encode_stored());
        }
        run
    }

    /// A document was built from what is readable: what it holds goes into a record that says no more than that.
    pub(in crate::engine) fn mended(&mut self, key: DocumentKey, mended: Mended) {
        let Mended { document, held, bytes, useless, lists, waiting, evicted, unvouched } = mended;
        self.counters.orphans_evicted += evicted as u64;
        let Some(resident) = self.documents.get_mut(&key) else { return };
        let State::Opening { mend: Some(damaged), .. } = &mut resident.state else {
            return warn!(document = %key.1, "mended twice");
        };
        for row in damaged.drain(..).chain(useless) {
            self.commits.remove(Table::Runs, row);
        }
        let runs = held.len();
        resident.accept(held, bytes);
        let lists: Vec<Acl> = lists.iter().filter_map(|acl| resident.acls.remove(acl)).collect();
        self.leave_poison_out(&key, document.left_out());
        let commands = self.goes_live(key, Box::new(document));
        if let Some(space) = self.spaces.get_mut(&key.0) {
            let feed_seq = space.records.feed_seq(&key.1).unwrap_or(0);
            space.set_record(key.1, Record { feed_seq, ..Record::default() });
        }
        for acl in lists {
            self.keep_acl(&key.0, &acl);
        }
        self.documents.mark_dirty(key);
        if waiting > 0 {
            self.has_orphans(key);
        }
        // What it has lost may have been among it.
        self.ask_for_left_out(key);
        if !unvouched.is_empty() {
            let left = unvouched.len();
            warn!(document = %key.1, left, "runs are left as they are: the members that they stand on are not known");
            self.note_unknown_members(key, unvouched);
            // They may have become known meanwhile.
            self.read_leftovers_of(&key.0);
        }
        info!(space = %key.0, document = %key.1, runs, waiting, "document mended");
        for command in commands {
            self.reply(command, Ok(Reply::DocumentOpen));
        }
        self.event(Event::DocumentMended { space: key.0, document: key.1, runs, waiting });
        self.event(Event::DocumentChanged { space: key.0, document: key.1, remote: true });
    }
}
