//! Documents of which the store cannot give back everything: built anew from what is readable, and the rest comes from the
//! peers, because the record then says what is really held.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tracing::{info, warn};

use crate::document::mend::{Mended, Readable};
use crate::engine::documents::DocumentKey;
use crate::engine::output::{Event, Reply};
use crate::engine::resident::{Resident, State};
use crate::engine::{Engine, Scan};
use crate::gate::{self, Authority};
use crate::limits::{MENDING_MAX, ORPHAN_BYTES_PER_DOCUMENT_MAX, SCAN_BYTES};
use crate::run::{Run, RunHeader};
use crate::space::roles::Role;
use crate::space::{Acl, Record, short};
use crate::storage::{Request, ScanId, Table, document_key, prefix_end};

impl Engine {
    /// What is stored of a document cannot be read whole. Says so, and begins to mend it: at once, or, if it is in memory,
    /// when all of it that is not damaged is on disk.
    pub(super) fn mend_document(&mut self, key: DocumentKey, error: &str) {
        if self.is_mending(&key) || self.to_mend.contains(&key) {
            return;
        }
        let reason = alloc::format!("the store is damaged: document {}: {error}", key.1);
        warn!(space = %key.0, reason);
        self.event(Event::DocumentDamaged { space: key.0, document: key.1, reason });
        self.to_mend.insert(key);
        if self.residents.get(&key).is_some_and(|resident| resident.live().is_none()) {
            self.begin_mending(key);
        }
    }

    /// A page of a document that is being opened or mended cannot be read.
    pub(super) fn opening_failed(&mut self, key: DocumentKey, birth: u64, error: &str) {
        match self.residents.get(&key).filter(|resident| resident.birth == birth) {
            Some(resident) if resident.is_mending() => self.break_document(key, error),
            Some(_) => self.mend_document(key, error),
            None => {}
        }
    }

    /// Nothing readable can be made of a document. Others go on.
    fn break_document(&mut self, key: DocumentKey, error: &str) {
        self.close_damaged(key, alloc::format!("the store is damaged: document {}: {error}", key.1));
    }

    /// Notes the documents of which a salvage saved what it could: their records have no heads.
    pub(super) fn mend_what_was_salvaged(&mut self) {
        for (id, space) in &self.spaces {
            let marked = space.records.iter().filter(|(_, record)| record.signed.heads.is_empty());
            self.to_mend.extend(marked.map(|(document, _)| (*id, *document)));
        }
    }

    fn is_mending(&self, key: &DocumentKey) -> bool {
        self.residents.get(key).is_some_and(Resident::is_mending)
    }

    /// Begins with as many of the documents to be mended as may be under way at a time.
    pub(super) fn mend_due(&mut self) {
        if self.to_mend.is_empty() || self.stopped.is_some() {
            return;
        }
        let under_way = self.residents.values().filter(|resident| resident.is_mending()).count();
        let due: Vec<DocumentKey> = self
            .to_mend
            .iter()
            .filter(|key| self.residents.get(*key).is_none_or(|resident| self.is_at_rest(key, resident)))
            .take(MENDING_MAX.saturating_sub(under_way))
            .copied()
            .collect();
        for key in due {
            self.begin_mending(key);
        }
    }

    /// All of a document in memory that is worth keeping is on disk.
    fn is_at_rest(&self, key: &DocumentKey, resident: &Resident) -> bool {
        self.commits.is_idle()
            && !self.dirty.contains(key)
            && !self.touched.contains(key)
            && resident.live().is_some_and(|document| {
                !document.is_busy() && document.unsigned_bytes() == 0 && document.inbox_bytes() == 0
            })
    }

    fn begin_mending(&mut self, key: DocumentKey) {
        self.to_mend.remove(&key);
        if !self.spaces.get(&key.0).is_some_and(|space| space.records.contains_key(&key.1)) {
            return;
        }
        self.turn += 1;
        let birth = self.turn;
        match self.residents.get_mut(&key) {
            Some(resident) => resident.mend(birth),
            None => _ = self.residents.insert(key, Resident::new(State::opening(true), birth)),
        }
        self.salvage_runs(key, birth, document_key(&key.0, &key.1));
    }

    /// Whether a stored run is in no version of its document: a salvage found it, and what it depends on was gone.
    pub(super) fn is_unrecorded(&self, key: &DocumentKey, run: &Run) -> bool {
        let record = self.spaces.get(&key.0).and_then(|space| space.records.get(&key.1));
        let recorded = record.and_then(|record| record.signed.frontier.actors.get(&run.header.actor));
        recorded.is_none_or(|proof| run.header.last_seq > proof.header.last_seq)
    }

    /// What is known of a stored run before it goes into a document that is mended. One that a salvage found may be anybody's
    /// words: a page that looks like one of ours can be hidden in what a member writes. So it passes the gate again.
    pub(super) fn readable(&self, key: &DocumentKey, row: Vec<u8>, run: Run) -> Readable {
        let author = self.is_unrecorded(key, &run).then(|| self.author(&run.header).0);
        Readable { row, run, author }
    }

    /// What is known of the author of a stored run, and the members that the run stands on, if they are known.
    fn author(&self, header: &RunHeader) -> (Authority, Option<Acl>) {
        let space = self.spaces.get(&header.space);
        let acl = space.and_then(|space| space.acl(&short(&header.acl))).filter(|acl| acl.hash == header.acl);
        let known = space.zip(acl).and_then(|(space, acl)| space.membership.authority(&acl.entries, &header.device));
        // Our own signature says that we were allowed to, also where the entries that said so are lost.
        let role = (header.device == self.device).then_some(Role::Writer);
        (known.unwrap_or(Authority { role }), acl.cloned())
    }

    /// Runs that have been in the store since a mending, and waited, are looked at as if a peer had just brought them, once the
    /// document is open. Those whose author is not known to be a writer stay where they are: perhaps it will be. So do more
    /// than may wait.
    pub(super) fn take_up(&mut self, key: DocumentKey, waiting: Vec<Run>) {
        let mut bytes = 0;
        for run in waiting {
            let (author, acl) = self.author(&run.header);
            if self.poisoned.contains(&run.header.tip) || gate::inspect(&run, author).is_err() {
                continue;
            }
            bytes += run.payload.len();
            if bytes > ORPHAN_BYTES_PER_DOCUMENT_MAX {
                return;
            }
            let is_stored = |acl: &Acl| self.spaces.get(&key.0).is_some_and(|space| space.has_acl(acl));
            let news = acl.filter(|acl| !is_stored(acl));
            if let Some(resident) = self.residents.get_mut(&key) {
                resident.take_up(run, news);
            }
        }
    }

    /// Asks for a page of what is readable of a document's runs.
    pub(super) fn salvage_runs(&mut self, key: DocumentKey, birth: u64, from: Vec<u8>) {
        self.last_scan += 1;
        let id = ScanId(self.last_scan);
        self.scans.insert(id, Scan::Open(key, birth));
        let to = prefix_end(&document_key(&key.0, &key.1));
        let request = Request::Salvage { id, table: Table::Runs, from, to, bytes_max: SCAN_BYTES };
        self.out(crate::Output::Store(request));
    }

    /// A document was built from what is readable: what it holds goes into a record that says no more than that.
    pub(super) fn mended(&mut self, key: DocumentKey, mended: Mended) {
        let Mended { document, held, useless, lists, waiting } = mended;
        let Some(resident) = self.residents.get_mut(&key) else { return };
        let State::Opening { inbox, mend: Some(damaged), .. } = &mut resident.state else {
            return warn!(document = %key.1, "mended twice");
        };
        for row in damaged.drain(..).chain(useless) {
            self.commits.remove(Table::Runs, row);
        }
        let left_out = document.left_out().to_vec();
        let mut document = Box::new(document);
        for run in inbox.drain(..) {
            document.receive(run);
        }
        resident.state = State::Live(document);
        let runs = held.len();
        resident.accept(held);
        let commands = resident.take_waiting();
        resident.holds += commands.len();
        if let Some(space) = self.spaces.get_mut(&key.0) {
            let feed_seq = space.records.get(&key.1).map_or(0, |record| record.feed_seq);
            space.set_record(key.1, Record { feed_seq, ..Record::default() });
        }
        // The members of now are known without being stored; a salvaged run may stand on them, and in a while they are those
        // of then.
        let current = self.spaces.get(&key.0).map(|space| space.current_acl().clone());
        if let Some(acl) = current.filter(|acl| lists.contains(&acl.hash)) {
            self.keep_acl(&key.0, &acl);
        }
        for tip in left_out {
            warn!(document = %key.1, %tip, "a stored run breaks the merge and is left out");
            self.poison(tip);
        }
        self.dirty.insert(key);
        self.touched.insert(key);
        if waiting > 0 {
            self.waiting_since.entry(key).or_insert(self.now.mono);
            self.bound_orphans();
        }
        info!(space = %key.0, document = %key.1, runs, waiting, "document mended");
        for command in commands {
            self.reply(command, Ok(Reply::DocumentOpen));
        }
        self.event(Event::DocumentMended { space: key.0, document: key.1, runs, waiting });
        self.event(Event::DocumentChanged { space: key.0, document: key.1, remote: true });
    }
}
