//! How a document comes from the store into memory, one room for the whole walk:
//!
//! 1. its runs are read, a page at a time;
//! 2. they are built into a document, by heavy work on another thread;
//! 3. if something is missing or damaged, from step 1 on once more, with what is readable (`mending.rs`);
//! 4. what arrived meanwhile is merged, and whoever waited for the document is answered;
//! 5. runs that a mending left in the store are read again, as if a peer had brought them (`leftovers.rs`).
//!
//! Runs that a process died of while it merged them are left out or tried alone (`poison.rs`).

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use tracing::warn;

use crate::document::mend::MendWork;
use crate::document::work::{Work, WorkKind, ops_at_once};
use crate::document::{Document, OpenWork};
use crate::engine::Engine;
use crate::engine::blocked::intake;
use crate::engine::documents::{DocumentKey, Standing};
use crate::engine::input::{Begins, CommandId};
use crate::engine::output::{CommandError, Event, Reply};
use crate::engine::resident::{Resident, State};
use crate::engine::scans::Scan;
use crate::id::ChangeHash;
use crate::limits::{CHANGE_OPS_MAX, DOCUMENTS_PER_SPACE_MAX};
use crate::run::Run;
use crate::storage::{CommitId, Scanned, document_key, parse_run_key};

mod leftovers;
mod mending;
mod poison;

pub(super) use poison::Poison;

impl Engine {
    /// Whether something of a document is here, on disk or on its way there.
    pub(super) fn exists(&self, key: &DocumentKey) -> bool {
        self.spaces.get(&key.0).is_some_and(|space| space.records.has(&key.1))
            || self.documents.live(key).is_some_and(|document| !document.is_empty())
    }

    pub(super) fn create_document(&mut self, command: CommandId, key: DocumentKey, begins: Begins) {
        if self.exists(&key) {
            return self.open_document(command, key);
        }
        match self.begin_document(key, begins) {
            Ok(commit) => self.reply(command, Ok(Reply::DocumentCreated { commit })),
            Err(error) => self.reply(command, Err(error)),
        }
    }

    /// Makes a document that does not exist, and holds it.
    fn begin_document(&mut self, key: DocumentKey, begins: Begins) -> Result<Option<CommitId>, CommandError> {
        let space = self.spaces.get(&key.0).ok_or(CommandError::UnknownSpace(key.0))?;
        if space.joining().is_some() && space.access.former.is_none() {
            let text = "the space is still being joined: documents can be made in it once a member has let us in";
            return Err(CommandError::NotAllowed(String::from(text)));
        }
        let documents = space.records.len();
        if documents >= DOCUMENTS_PER_SPACE_MAX {
            let text = alloc::format!("{documents} documents in the space, limit {DOCUMENTS_PER_SPACE_MAX}");
            return Err(CommandError::Invalid(text));
        }
        if let Standing::Broken(reason) = self.documents.standing(&key) {
            return Err(CommandError::Damaged(String::from(reason)));
        }
        let author = self.may_edit(&key.0).map_err(|error| CommandError::NotAllowed(error.to_string()))?;
        let resident = self.resident(key);
        // Nothing is stored of it, so it is in memory at once.
        let begun = match (begins, resident.live_mut()) {
            (Begins::Empty, Some(document)) => document.begin(author),
            (Begins::Empty, None) | (Begins::WithFirstEdit, _) => Ok(false),
        };
        let begun = begun.map_err(|error| CommandError::Invalid(error.to_string()))?;
        resident.open_handles += 1;
        if begun {
            self.edited(key);
        }
        Ok(begun.then(|| self.commits.next()))
    }

    pub(super) fn open_document(&mut self, command: CommandId, key: DocumentKey) {
        if !self.spaces.contains_key(&key.0) {
            return self.reply(command, Err(CommandError::UnknownSpace(key.0)));
        }
        if let Standing::Broken(reason) = self.documents.standing(&key) {
            let reason = String::from(reason);
            return self.reply(command, Err(CommandError::Damaged(reason)));
        }
        if !self.exists(&key) {
            return self.reply(command, Err(CommandError::UnknownDocument(key.1)));
        }
        let resident = self.resident(key);
        match &resident.state {
            State::Live(_) => {
                resident.open_handles += 1;
                self.reply(command, Ok(Reply::DocumentOpen));
            }
            State::Opening { .. } => resident.waiting.push(command),
        }
    }

    /// Brings a document into memory, or begins to.
    pub(super) fn resident(&mut self, key: DocumentKey) -> &mut Resident {
        if !self.documents.contains(&key) {
            match self.spaces.get(&key.0).and_then(|space| space.records.is_salvaged(&key.1)) {
                None => {
                    let mut document = Document::empty(key.0, key.1);
                    document.suspect(self.poison.suspects(&key));
                    self.documents.make(key, document);
                }
                Some(is_salvaged) => {
                    self.counters.documents_opened += 1;
                    let from = document_key(&key.0, &key.1);
                    if is_salvaged {
                        // What is in a salvaged document, its runs say.
                        let generation = self.documents.mend(key);
                        self.salvage_runs(Scan::Open(key, generation), key, from);
                    } else {
                        let generation = self.documents.open(key);
                        self.scan_runs(Scan::Open(key, generation), key, from);
                    }
                }
            }
        }
        self.documents.used(&key).expect("it is in memory, or was put there a moment ago")
    }

    /// A page of a document's runs was read.
    pub(super) fn scanned_open(&mut self, key: DocumentKey, generation: u64, scanned: Scanned) {
        let resident = self.documents.of_generation(&key, generation);
        let Some(Resident { state: State::Opening { stored, mend, .. }, .. }) = resident else { return };
        let last = scanned.rows.last().filter(|_| scanned.more).map(|(last, _)| [last.as_slice(), &[0]].concat());
        for (row, value) in scanned.rows {
            let run = match parse_run_key(&row) {
                Some(at) => Run::from_stored(at.space, at.document, at.actor, at.last_seq, value)
                    .map_err(|error| error.to_string()),
                None => Err(String::from("a key that is none")),
            };
            match (run, &mut *mend) {
                (Ok(run), _) => stored.push((row, run)),
                (Err(_), Some(damaged)) => damaged.push(row),
                (Err(error), None) => return self.mend_document(key, &error),
            }
        }
        if let Some(damaged) = mend {
            damaged.extend(scanned.damaged);
        }
        let mends = mend.is_some();
        match last {
            Some(from) if mends => self.salvage_runs(Scan::Open(key, generation), key, from),
            Some(from) => self.scan_runs(Scan::Open(key, generation), key, from),
            None => {
                let runs = core::mem::take(stored);
                self.build(key, generation, runs, mends);
            }
        }
    }

    /// Has a document built from its runs.
    fn build(&mut self, key: DocumentKey, generation: u64, runs: Vec<(Vec<u8>, Run)>, mends: bool) {
        let (space, id) = key;
        let suspects = self.poison.suspects(&key).to_vec();
        let poisoned = runs.iter().map(|(_, run)| run.header.tip).filter(|tip| self.poison.has(tip)).collect();
        let record = self.spaces.get(&space).and_then(|space| space.records.signed(&id));
        let tips = record.as_ref().map(|record| record.tips()).unwrap_or_default();
        let mut ops = CHANGE_OPS_MAX;
        let kind = if mends {
            let runs = runs.into_iter().map(|(row, run)| self.readable(&key, row, run)).collect();
            WorkKind::Mend(MendWork { space, id, runs, tips, suspects, poisoned })
        } else {
            let record = record.unwrap_or_default();
            let is_named = |run: &Run| record.names(&run.header.actor, run.header.last_seq);
            ops = ops_at_once(record.summary.ops);
            let (runs, others): (Vec<Run>, Vec<Run>) = runs.into_iter().map(|(_, run)| run).partition(is_named);
            if let Some(Resident { state: State::Opening { leftovers, .. }, .. }) = self.documents.get_mut(&key) {
                *leftovers = !others.is_empty();
            }
            WorkKind::Open(OpenWork { space, id, runs, tips, suspects, poisoned })
        };
        self.give_work(Work { space, document: id, generation, ops, kind });
    }

    /// A document was built from what its record names.
    pub(super) fn opened(&mut self, key: DocumentKey, mut document: Box<Document>) {
        let Some(&State::Opening { leftovers, .. }) = self.documents.get(&key).map(|resident| &resident.state) else {
            return warn!(document = %key.1, "opened twice");
        };
        let heads = self.spaces.get(&key.0).and_then(|space| space.records.heads(&key.1));
        if let Some(heads) = heads
            && heads != document.heads()
        {
            if document.left_out().is_empty() {
                // A damaged page can hide rows without any checksum failing.
                return self.mend_document(key, "some of its runs are missing");
            }
            document.stand_on(&heads);
        }
        document.resume(self.device, &self.documents.take_writers(&key));
        self.leave_poison_out(&key, document.left_out());
        for command in self.goes_live(key, document) {
            self.reply(command, Ok(Reply::DocumentOpen));
        }
        if leftovers {
            self.documents.reread(key);
        }
    }

    /// A document that was built is in memory from now on. What arrived meanwhile goes into it. Returns the commands that waited
    /// for it.
    fn goes_live(&mut self, key: DocumentKey, document: Box<Document>) -> Vec<CommandId> {
        let blocked = &self.blocked;
        let resident = self.documents.get_mut(&key);
        let waiting = resident.map(|resident| resident.goes_live(document, |device| intake(blocked, device)));
        self.documents.touch(key);
        waiting.unwrap_or_default()
    }

    /// Stored runs that break the merge are not merged again.
    fn leave_poison_out(&mut self, key: &DocumentKey, left_out: &[ChangeHash]) {
        for tip in left_out {
            warn!(document = %key.1, %tip, "a stored run breaks the merge and is left out");
            self.poison.add(*tip, &mut self.commits);
        }
    }

    /// A document is dropped as it is, and not opened again by this process.
    pub(super) fn close_damaged(&mut self, key: DocumentKey, reason: String) {
        warn!(space = %key.0, reason);
        for command in self.documents.break_off(key, reason.clone()) {
            self.reply(command, Err(CommandError::Damaged(reason.clone())));
        }
        self.event(Event::DocumentDamaged { space: key.0, document: key.1, reason });
    }

    /// Drops documents that nobody holds, until the limit is kept.
    pub(super) fn evict_documents(&mut self) {
        let evicted = self.documents.evict();
        self.counters.documents_evicted += evicted.documents;
        self.counters.orphans_evicted += evicted.orphans;
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;

    use super::*;
    use crate::document::edit::EditError;
    use crate::engine::output::Output;
    use crate::gate::Bare;
    use crate::id::DocumentId;
    use crate::keys::SecretKey;
    use crate::limits::DOCUMENTS_RESIDENT_MAX;
    use crate::storage::{self, Image, Request};
    use crate::time::Now;
    use crate::{Command, Config, DocumentError, Input};

    /// Everything but the store's requests, which succeed at once.
    fn drain(engine: &mut Engine) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Store(Request::Commit { id, .. }) => {
                    engine.handle(Now::default(), Input::Stored(storage::Reply::Committed { id, result: Ok(()) }));
                }
                other => outputs.push(other),
            }
        }
        outputs
    }

    fn command(engine: &mut Engine, command: Command) -> Vec<Output> {
        engine.handle(Now::default(), Input::Command(CommandId(1), command));
        drain(engine)
    }

    #[test]
    fn a_document_that_automerge_panicked_in_is_closed_and_the_others_go_on() {
        let config = Config { guard: Arc::new(Bare), slot: None, residents_max: DOCUMENTS_RESIDENT_MAX };
        let key = SecretKey::from_seed(&[1; 32]);
        let mut engine = Engine::new(config, key, [2; 32], Now::default(), Image::default()).expect("a new replica");
        let made = command(&mut engine, Command::CreateSpace { name: String::from("notes") });
        let space = made.into_iter().find_map(|output| match output {
            Output::Reply(_, Ok(Reply::SpaceReady(space))) => Some(space),
            _ => None,
        });
        let space = space.expect("a space");
        let documents = [engine.new_document_id(), engine.new_document_id()];
        for document in documents {
            command(&mut engine, Command::CreateDocument { space, document, begins: Begins::WithFirstEdit });
        }
        let set = |engine: &mut Engine, document: &DocumentId| {
            let edited = engine.edit(Now::default(), &space, document, |edit| -> Result<(), DocumentError> {
                edit.set("/a", 1).map_err(DocumentError::from)
            });
            edited.map(|_| ())
        };
        assert_eq!(set(&mut engine, &documents[0]), Ok(()));
        drain(&mut engine);
        let heads = engine.heads(&space, &documents[0]);
        assert_eq!(heads.len(), 1);
        let panicked = engine.edit(Now::default(), &space, &documents[0], |edit| -> Result<(), DocumentError> {
            edit.panic_half_way();
            Ok(())
        });
        assert_eq!(panicked, Err(DocumentError::from(EditError::Panicked)));
        let told = drain(&mut engine);
        assert!(told.iter().any(|output| matches!(output, Output::Event(Event::DocumentDamaged { .. }))), "{told:?}");
        assert_eq!(set(&mut engine, &documents[0]), Err(DocumentError::NotOpen(documents[0])));
        let opened = command(&mut engine, Command::OpenDocument { space, document: documents[0] });
        assert!(matches!(opened[..], [Output::Reply(_, Err(CommandError::Damaged(_)))]), "{opened:?}");
        // A list has it, and says what is wrong with it.
        let problem =
            |engine: &Engine, document: &DocumentId| engine.info(&space, document).and_then(|info| info.problem);
        assert!(problem(&engine, &documents[0]).is_some_and(|problem| problem.contains("panicked")));
        assert_eq!(problem(&engine, &documents[1]), None);
        assert_eq!(engine.list(&space).len(), 1, "the other one has no edit yet");
        // What was saved of it is as it was.
        assert_eq!(engine.heads(&space, &documents[0]), heads);
        assert_eq!(set(&mut engine, &documents[1]), Ok(()));
        drain(&mut engine);
        let mut both = vec![documents[0], documents[1]];
        both.sort_unstable();
        assert_eq!(engine.documents(&space), both);
    }
}
