//! Runs that a mending left in the store: what they depend on is gone, and no version of their document has them. They are read
//! again when their document comes into memory, and when what they waited for was merged, and arrive as a peer's runs do.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tracing::warn;

use crate::document::mend::Readable;
use crate::document::work::{Work, WorkKind};
use crate::engine::documents::DocumentKey;
use crate::engine::output::Output;
use crate::engine::{Engine, Scan};
use crate::gate::{Authority, Payload};
use crate::limits::SCAN_BYTES;
use crate::run::{Run, RunHeader};
use crate::space::roles::Role;
use crate::space::short;
use crate::storage::{Scanned, Table, document_key, parse_run_key, prefix_end};

impl Engine {
    /// A stored run with what is known of it, before it goes into a document again. One that the document's record does not
    /// name may be anybody's words: a page that looks like one of ours can be hidden in what a member writes. So it passes the
    /// gate again. `None` if it is not known whether its author was a writer: then it stays in the store.
    pub(super) fn readable(&mut self, key: &DocumentKey, row: Vec<u8>, run: Run) -> Option<Readable> {
        let header = &run.header;
        let space = self.spaces.get(&key.0)?;
        if space.records.get(&key.1).is_some_and(|record| record.names(&header.actor, header.last_seq)) {
            return Some(Readable { row, run, author: None });
        }
        let acl = space.acl(&short(&header.acl)).filter(|acl| acl.hash == header.acl);
        let known = acl.and_then(|acl| space.membership.authority(&acl.entries, &header.device));
        // Our own signature says that we were allowed to, also where the entries that said so are lost.
        let own = (header.device == self.device).then_some(Authority { role: Some(Role::Writer) });
        let author = known.or(own)?;
        // The members of now are known without being stored; the run may stand on them, and in a while they are those of then.
        if let Some(acl) = acl.filter(|acl| !space.has_acl(acl))
            && let Some(resident) = self.residents.get_mut(key)
        {
            resident.acls.insert(acl.hash, acl.clone());
        }
        Some(Readable { row, run, author: Some(author) })
    }

    /// Reads all of them again, into a document that is in memory.
    pub(super) fn read_leftovers(&mut self, key: DocumentKey) {
        let Some(resident) = self.residents.get_mut(&key) else { return };
        let birth = resident.birth;
        let Some(document) = resident.live_mut() else { return };
        document.note_what_is_given_up();
        self.scan_leftovers(key, birth, document_key(&key.0, &key.1));
    }

    fn scan_leftovers(&mut self, key: DocumentKey, birth: u64, from: Vec<u8>) {
        let to = prefix_end(&document_key(&key.0, &key.1));
        self.scan(Scan::Leftovers(key, birth), Table::Runs, from, to, SCAN_BYTES);
    }

    /// A page of a document's runs was read, in which they are.
    pub(super) fn scanned_leftovers(&mut self, key: DocumentKey, birth: u64, scanned: Scanned) {
        if self.residents.get(&key).is_none_or(|resident| resident.birth != birth) {
            return;
        }
        let next = scanned.rows.last().filter(|_| scanned.more).map(|(last, _)| [last.as_slice(), &[0]].concat());
        let mut runs = Vec::new();
        for (row, value) in scanned.rows {
            let run = parse_run_key(&row)
                .and_then(|at| Run::decode_stored(at.space, at.document, at.actor, at.last_seq, &value).ok());
            let Some(run) = run else {
                return self.mend_document(key, "a run cannot be read");
            };
            if self.poisoned.contains(&run.header.tip) {
                continue;
            }
            runs.extend(self.readable(&key, row, run).filter(|readable| readable.author.is_some()));
        }
        if !runs.is_empty() {
            let kind = WorkKind::Vouch(runs);
            self.out(Output::Work(Box::new(Work { space: key.0, document: key.1, birth, kind })));
        }
        if let Some(from) = next {
            self.scan_leftovers(key, birth, from);
        }
    }

    /// Some of them were looked at.
    pub(super) fn leftovers_read(&mut self, key: DocumentKey, runs: Vec<(RunHeader, Payload)>) {
        let Some(document) = self.residents.get_mut(&key).and_then(|resident| resident.live_mut()) else {
            return warn!(document = %key.1, "read for a document that is not in memory");
        };
        self.counters.leftovers_read += runs.len() as u64;
        for (header, payload) in runs {
            document.receive_read(header, payload);
        }
        self.touched.insert(key);
    }
}
