//! Documents in memory: which are, how runs reach them, what follows when some were merged.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use tracing::{debug, warn};

use crate::document::mend::MendWork;
use crate::document::work::{Work, WorkDone, WorkKind, WorkResult, ops_at_once};
use crate::document::{Document, Edit, OpenWork, Settle, Settled};
use crate::engine::blocked::intake;
use crate::engine::input::{Begins, CommandId, SessionId};
use crate::engine::output::{CommandError, Event, Output, Reply};
use crate::engine::resident::{Resident, State};
use crate::engine::{DocumentError, Engine, Scan};
use crate::frontier::Proof;
use crate::gate::{self, Intake, Refusal};
use crate::id::{ActorId, ChangeHash, DocumentId, SpaceId};
use crate::limits::{
    CHANGE_OPS_MAX, DOCUMENTS_PER_SPACE_MAX, LIVE_BATCH_BYTES_MAX, ORPHANS_PER_DOCUMENT_MAX, RUNS_PER_MESSAGE_MAX,
    SCAN_BYTES,
};
use crate::mutants::Mutant;
use crate::run::{Run, RunHeader};
use crate::space::Acl;
use crate::storage::{
    CommitId, META_POISONED, Request, ScanId, Scanned, Table, document_key, parse_run_key, prefix_end, run_key,
    space_hash_key,
};

/// Lists of members that a document's waiting runs stand on, beside those that something stored stands on. And of those that
/// are not known, as many.
pub(super) const WAITING_ACLS_MAX: usize = 64;

/// A document within a replica.
pub(super) type DocumentKey = (SpaceId, DocumentId);

impl Engine {
    /// Brings a document into memory, or begins to.
    fn resident(&mut self, key: DocumentKey) -> &mut Resident {
        self.turn += 1;
        if !self.residents.contains_key(&key) {
            let record = self.spaces.get(&key.0).and_then(|space| space.records.get(&key.1));
            let state = if let Some(record) = record {
                self.counters.documents_opened += 1;
                // What is in a salvaged document, its runs tell.
                let mend = record.is_salvaged();
                let from = document_key(&key.0, &key.1);
                if mend {
                    self.to_mend.remove(&key);
                    self.writers.take(&key);
                    self.salvage_runs(Scan::Open(key, self.turn), key, from);
                } else {
                    self.scan_runs(key, self.turn, from);
                }
                State::opening(mend)
            } else {
                let mut document = Document::empty(key.0, key.1);
                document.suspect(self.suspects.get(&key).map(Vec::as_slice).unwrap_or_default());
                self.unrecorded.insert(key);
                State::Live(Box::new(document))
            };
            self.residents.insert(key, Resident::new(state, self.turn));
        }
        let turn = self.turn;
        let resident = self.residents.get_mut(&key).expect("it was inserted a moment ago");
        resident.used = turn;
        resident
    }

    fn scan_runs(&mut self, key: DocumentKey, birth: u64, from: Vec<u8>) {
        let to = prefix_end(&document_key(&key.0, &key.1));
        self.scan(Scan::Open(key, birth), Table::Runs, from, to, SCAN_BYTES);
    }

    /// Whether something of a document is here, on disk or on its way there.
    pub(super) fn exists(&self, key: &DocumentKey) -> bool {
        self.spaces.get(&key.0).is_some_and(|space| space.records.contains_key(&key.1))
            || self.residents.get(key).and_then(Resident::live).is_some_and(|document| !document.is_empty())
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
        if let Some(reason) = self.broken.get(&key) {
            return Err(CommandError::Damaged(reason.clone()));
        }
        let author = self.may_edit(&key.0).map_err(|error| CommandError::NotAllowed(error.to_string()))?;
        let resident = self.resident(key);
        // Nothing is stored of it, so it is in memory at once.
        let begun = match (begins, resident.live_mut()) {
            (Begins::Empty, Some(document)) => document.begin(author),
            (Begins::Empty, None) | (Begins::WithFirstEdit, _) => Ok(false),
        };
        let begun = begun.map_err(|error| CommandError::Invalid(error.to_string()))?;
        resident.holds += 1;
        if begun {
            self.edited(key);
        }
        Ok(begun.then(|| self.commits.next()))
    }

    pub(super) fn open_document(&mut self, command: CommandId, key: DocumentKey) {
        if !self.spaces.contains_key(&key.0) {
            return self.reply(command, Err(CommandError::UnknownSpace(key.0)));
        }
        if let Some(reason) = self.broken.get(&key) {
            let reason = reason.clone();
            return self.reply(command, Err(CommandError::Damaged(reason)));
        }
        if !self.exists(&key) {
            return self.reply(command, Err(CommandError::UnknownDocument(key.1)));
        }
        let resident = self.resident(key);
        match &resident.state {
            State::Live(_) => {
                resident.holds += 1;
                self.reply(command, Ok(Reply::DocumentOpen));
            }
            State::Opening { .. } => resident.waiting.push(command),
        }
    }

    /// A document is dropped as it is, and not opened again by this process.
    pub(super) fn close_damaged(&mut self, key: DocumentKey, reason: String) {
        warn!(space = %key.0, reason);
        let waiting = self.residents.remove(&key).map(|mut resident| resident.take_waiting()).unwrap_or_default();
        for command in waiting {
            self.reply(command, Err(CommandError::Damaged(reason.clone())));
        }
        self.unrecorded.remove(&key);
        self.event(Event::DocumentDamaged { space: key.0, document: key.1, reason: reason.clone() });
        self.broken.insert(key, reason);
    }

    /// A page of a document's runs was read.
    pub(super) fn scanned_open(&mut self, key: DocumentKey, birth: u64, scanned: Scanned) {
        let suspects = self.suspects.get(&key).cloned().unwrap_or_default();
        let resident = self.residents.get_mut(&key).filter(|resident| resident.birth == birth);
        let Some(Resident { state: State::Opening { stored, mend, leftovers, .. }, .. }) = resident else { return };
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
        if let Some(from) = last {
            if mend.is_some() {
                self.salvage_runs(Scan::Open(key, birth), key, from);
            } else {
                self.scan_runs(key, birth, from);
            }
            return;
        }
        let runs = core::mem::take(stored);
        let mends = mend.is_some();
        let mut ops = CHANGE_OPS_MAX;
        let poisoned = runs.iter().map(|(_, run)| run.header.tip).filter(|tip| self.poisoned.contains(tip)).collect();
        let record = self.spaces.get(&key.0).and_then(|space| space.records.get(&key.1));
        let tips = record.map(|record| record.signed.tips()).unwrap_or_default();
        let kind = if mends {
            let runs = runs.into_iter().map(|(row, run)| self.readable(&key, row, run)).collect();
            WorkKind::Mend(MendWork { space: key.0, id: key.1, runs, tips, suspects, poisoned })
        } else {
            let is_named =
                |run: &Run| record.is_some_and(|record| record.signed.names(&run.header.actor, run.header.last_seq));
            ops = ops_at_once(record.map_or(0, |record| record.signed.summary.ops));
            let (runs, others): (Vec<Run>, Vec<Run>) = runs.into_iter().map(|(_, run)| run).partition(is_named);
            *leftovers = !others.is_empty();
            WorkKind::Open(OpenWork { space: key.0, id: key.1, runs, tips, suspects, poisoned })
        };
        self.give_work(Work { space: key.0, document: key.1, birth, ops, kind });
    }

    /// Has work done as soon as there is room for it.
    pub(super) fn give_work(&mut self, work: Work) {
        self.works.add(work);
        self.hand_out_work();
    }

    fn hand_out_work(&mut self) {
        while let Some(work) = self.works.next() {
            self.out(Output::Work(work));
        }
    }

    /// Heavy work came back.
    pub(super) fn worked(&mut self, done: WorkDone) {
        self.works.done(done.ops);
        self.hand_out_work();
        let key = (done.space, done.document);
        let resident = self.residents.get_mut(&key).filter(|resident| resident.birth == done.birth);
        let Some(resident) = resident else {
            return debug!(document = %key.1, "work came back for a document that is gone");
        };
        match done.result {
            WorkResult::Opened(Err(error)) => self.mend_document(key, &error),
            WorkResult::Mended(mended) => self.mended(key, *mended),
            WorkResult::Opened(Ok(mut document)) => {
                let State::Opening { inbox, leftovers, .. } = &mut resident.state else {
                    return warn!(document = %key.1, "opened twice");
                };
                let has_leftovers = *leftovers;
                let record = self.spaces.get(&key.0).and_then(|space| space.records.get(&key.1));
                if let Some(record) = record
                    && record.signed.heads != document.heads()
                {
                    if document.left_out().is_empty() {
                        // A damaged page can hide rows without any checksum failing.
                        return self.mend_document(key, "some of its runs are missing");
                    }
                    document.stand_on(&record.signed.heads);
                }
                let left_out = document.left_out().to_vec();
                document.resume(self.device, &self.writers.take(&key));
                for run in inbox.drain(..) {
                    let intake = intake(&self.blocked, &run.header.device);
                    document.receive_read(run.header, gate::Payload::read(run.payload), intake);
                }
                resident.state = State::Live(document);
                let waiting = core::mem::take(&mut resident.waiting);
                resident.holds += waiting.len();
                for command in waiting {
                    self.reply(command, Ok(Reply::DocumentOpen));
                }
                for tip in left_out {
                    warn!(document = %key.1, %tip, "a stored run breaks the merge and is left out");
                    self.poison(tip);
                }
                self.touched.insert(key);
                if has_leftovers {
                    self.read_leftovers(key);
                }
            }
            WorkResult::Merged(merged) => {
                let Some(document) = resident.live_mut() else {
                    return warn!(document = %key.1, "merged before it was open");
                };
                let settled = document.finish_merge(merged, &*self.guard);
                self.after_settling(key, settled);
                self.touched.insert(key);
            }
            WorkResult::Vouched(runs) => self.leftovers_read(key, runs),
        }
    }

    /// Stages 2, 3 and 5 of the gate for a run whose payload was read, which is 4, then the inbox. What it refuses is answered.
    pub(super) fn receive_run(
        &mut self,
        session: SessionId,
        header: RunHeader,
        payload: gate::Payload,
        acl: &Acl,
        authority: gate::Authority,
    ) {
        let tip = *payload.tip();
        let key = (header.space, header.document);
        let actor = header.actor;
        if let Some(known) = self.known_tip(&key, &actor)
            && known.0 >= tip.last_seq
        {
            if self.known_hash(&key, &actor, tip.last_seq).is_some_and(|ours| ours != tip.tip) {
                // Somebody's word is needed for it: anyone can make up a run without a signature.
                let word = gate::vouch(&header, &payload, authority);
                if word.is_ok() && header.device == self.device {
                    self.copy_found(key, &actor);
                }
                let fork = Refusal::Fork { actor: actor.to_string(), seq: tip.last_seq };
                let refusal = word.err().unwrap_or(fork);
                return self.refuse(session, &header, &refusal);
            }
            self.counters.runs_known += 1;
            if self.mutated.by(Mutant::CountsTwice) && self.counters.runs_known == 1 {
                let increment = |edit: &mut Edit<'_>| edit.increment("/count", 1).map_err(DocumentError::from);
                // Where there is no counter, or no right to write, nothing is counted at all.
                let _ = self.edit(self.now, &key.0, &key.1, increment);
            }
            return;
        }
        if self.broken.contains_key(&key) {
            return;
        }
        if self.poisoned.contains(&tip.tip) {
            return self.refuse(session, &header, &Refusal::Poisoned);
        }
        if let Err(refusal) = gate::vouch(&header, &payload, authority) {
            return self.refuse(session, &header, &refusal);
        }
        let full = self
            .spaces
            .get(&key.0)
            .is_none_or(|space| !space.records.contains_key(&key.1) && space.records.len() >= DOCUMENTS_PER_SPACE_MAX);
        if full {
            let text = alloc::format!("{DOCUMENTS_PER_SPACE_MAX} documents in the space");
            return self.refuse(session, &header, &Refusal::TooLarge(text));
        }
        let (first_seq, device) = (header.first_seq, header.device);
        let intake = intake(&self.blocked, &device);
        let exists = self.spaces.get(&key.0).is_some_and(|space| space.records.contains_key(&key.1));
        if intake == Intake::OnDemand && !exists && !self.residents.contains_key(&key) {
            // A document that a blocked device has to itself. If others write in it, it is asked for again.
            self.tell_not_wanted(session, &header);
            return self.leave_out(Some(session), &Run { header, payload: payload.into_bytes() });
        }
        if !self.residents.contains_key(&key) && !self.has_room_for_unrecorded(&key, &device) {
            // Documents of which nothing fits yet: what is dropped is found again when roots are compared.
            self.counters.orphans_evicted += 1;
            return;
        }
        if self.mutated.by(Mutant::HoldsBeforeAncestors) {
            self.resident(key);
            self.keep_run(Run { header: header.clone(), payload: payload.clone().into_bytes() });
            self.dirty.insert(key);
        }
        let knows_acl = self.spaces.get(&key.0).is_some_and(|space| space.has_acl(acl));
        let resident = self.resident(key);
        if !knows_acl && !resident.acls.contains_key(&acl.hash) {
            if resident.acls.len() >= WAITING_ACLS_MAX {
                self.counters.orphans_evicted += 1;
                return;
            }
            resident.acls.insert(acl.hash, acl.clone());
        }
        resident.brought_by.get_or_insert(device);
        // Waiting runs are bounded by the document; so is the note of who brought them.
        if resident.origins.len() < 2 * (ORPHANS_PER_DOCUMENT_MAX + 4 * RUNS_PER_MESSAGE_MAX) {
            resident.origins.insert((actor, first_seq), session);
        }
        match &mut resident.state {
            State::Live(document) => document.receive_read(header, Ok(payload), intake),
            State::Opening { inbox, inbox_bytes, .. } => {
                // Bytes are what is counted, so nothing else is kept: it is read again.
                let run = Run { header, payload: payload.into_bytes() };
                *inbox_bytes += run.payload.len();
                inbox.push(run);
            }
        }
        self.touched.insert(key);
    }

    /// Our own signature on a change that we have not made, under a number of ours: a copy of this process runs elsewhere.
    fn copy_found(&mut self, key: DocumentKey, actor: &ActorId) {
        let document = self.residents.get_mut(&key).and_then(Resident::live_mut);
        if document.is_some_and(|document| document.retire(actor)) || self.writers.retire(&key, actor) {
            warn!(document = %key.1, %actor, "a copy of this process writes as this device");
            self.copy_seen(self.device);
        }
    }

    /// The hash of one change of an actor, as far as it can be told without reading anything.
    fn known_hash(&self, key: &DocumentKey, actor: &ActorId, seq: u64) -> Option<ChangeHash> {
        if let Some(document) = self.residents.get(key).and_then(Resident::live) {
            return document.change_hash(actor, seq);
        }
        self.known_tip(key, actor).filter(|known| known.0 == seq).map(|known| known.1)
    }

    fn known_tip(&self, key: &DocumentKey, actor: &ActorId) -> Option<(u64, ChangeHash)> {
        if let Some(document) = self.residents.get(key).and_then(Resident::live) {
            return document.tip(actor);
        }
        let record = self.spaces.get(&key.0)?.records.get(&key.1)?;
        record.signed.frontier.actors.get(actor).map(|proof| (proof.header.last_seq, proof.header.tip))
    }

    /// Merges what has arrived in this turn, one batch for each document.
    pub(super) fn settle_documents(&mut self, message_ended: bool) {
        // Where more is to come, one merge for all of it costs much less than one for each turn. At the end of any message all are
        // merged: else two peers who take turns would keep a document waiting for ever.
        let later: Vec<DocumentKey> =
            self.touched.extract_if(.., |key| !message_ended && self.unread.has(key)).collect();
        self.has_put_off = !later.is_empty();
        while let Some(key) = self.touched.pop_first() {
            let Some(document) = self.residents.get_mut(&key).and_then(Resident::live_mut) else {
                continue;
            };
            match document.settle(&*self.guard) {
                Settle::Done(settled) => {
                    self.after_settling(key, settled);
                    self.next_leftovers(key);
                }
                Settle::Work(work) => {
                    let birth = self.residents.get(&key).map_or(0, |resident| resident.birth);
                    let (ops, kind) = (ops_at_once(work.ops()), WorkKind::Merge(work));
                    self.give_work(Work { space: key.0, document: key.1, birth, ops, kind });
                }
            }
        }
        self.touched.extend(later);
    }

    /// Stores and forwards what was merged, answers what was refused.
    fn after_settling(&mut self, key: DocumentKey, settled: Settled) {
        self.counters.runs_accepted += settled.accepted.len() as u64;
        self.counters.runs_known += settled.known as u64;
        self.counters.runs_waited += settled.waiting as u64;
        self.counters.orphans_evicted += settled.evicted as u64;
        if settled.waiting > 0 {
            self.waiting_since.entry(key).or_insert(self.now.mono);
            self.bound_orphans();
            // One of them may build on what a block has left out.
            self.ask_for_left_out(key);
        }
        if settled.cloned {
            warn!(document = %key.1, "a copy of this process writes as this device");
            self.copy_seen(self.device);
        }
        let mut brought = BTreeMap::<_, usize>::new();
        for Run { header, .. } in &settled.left_out {
            *brought.entry((header.actor, header.first_seq)).or_default() += 1;
        }
        for run in settled.left_out {
            let at = (run.header.actor, run.header.first_seq);
            let from = self.residents.get_mut(&key).and_then(|resident| resident.origins.remove(&at));
            // Of two histories of an actor it is not known who brought which.
            self.leave_out(from.filter(|_| brought.get(&at) == Some(&1)), &run);
        }
        let Some(resident) = self.residents.get_mut(&key) else { return };
        let mut refused = Vec::new();
        for (header, refusal) in settled.refused {
            let origin = resident.origins.remove(&(header.actor, header.first_seq));
            refused.push((origin, header, refusal));
        }
        let mut accepted = Vec::with_capacity(settled.accepted.len());
        let noted = self.mutated.by(Mutant::ForgetsNothing).then(|| resident.origins.clone());
        for run in without_overlaps(settled.accepted) {
            let origin = resident.origins.remove(&(run.header.actor, run.header.first_seq));
            accepted.push((origin, run));
        }
        let stood_on: Vec<Acl> = accepted.iter().filter_map(|(_, run)| resident.acls.remove(&run.header.acl)).collect();
        if resident.nothing_waits() {
            self.waiting_since.remove(&key);
        }
        resident.forget_what_is_judged();
        if let Some(noted) = noted {
            resident.origins = noted;
        }
        for (origin, header, refusal) in refused {
            if let Some(session) = origin {
                self.refuse(session, &header, &refusal);
            }
        }
        if accepted.is_empty() {
            return;
        }
        if settled.read_again {
            self.read_leftovers(key);
        }
        for acl in &stood_on {
            self.keep_acl(&key.0, acl);
        }
        self.dirty.insert(key);
        self.event(Event::DocumentChanged { space: key.0, document: key.1, remote: true });
        self.keep_and_forward(&key.0, accepted);
    }

    /// Puts runs that are now part of their documents into the next commit, and sends them to whoever did not bring them. Large
    /// ones are not sent along the live lanes, and not copied.
    pub(super) fn keep_and_forward(&mut self, space: &SpaceId, runs: Vec<(Option<SessionId>, Run)>) {
        if runs.iter().map(|(_, run)| run.payload.len()).sum::<usize>() > LIVE_BATCH_BYTES_MAX {
            return runs.into_iter().for_each(|(_, run)| self.keep_run(run));
        }
        for (_, run) in &runs {
            self.keep_run(run.clone());
        }
        self.forward(space, runs);
    }

    /// Puts a run that is now part of its document into the next commit.
    pub(super) fn keep_run(&mut self, run: Run) {
        let key = (run.header.space, run.header.document);
        let Ok((first_lamport, lamport)) = gate::lamports(&run.payload) else {
            return warn!(document = %key.1, "an accepted run that cannot be read");
        };
        let header = &run.header;
        if self.deaths.remove(&header.tip).is_some() {
            self.commits.remove(Table::Meta, [META_POISONED, &header.tip.0].concat());
        }
        let row = run_key(&key.0, &key.1, lamport, &header.actor, header.last_seq);
        if let Some(resident) = self.residents.get_mut(&key) {
            let proof = Proof { header: header.clone(), first_lamport, lamport };
            resident.accept([proof], run.payload.len() as u64);
        }
        self.commits.put(Table::Runs, row, run.into_stored());
    }

    /// Puts an `acl_ref` that a good run stands on into the next commit, unless it is there already.
    pub(super) fn keep_acl(&mut self, space_id: &SpaceId, acl: &Acl) {
        if self.spaces.get_mut(space_id).is_some_and(|space| space.keep_acl(acl)) {
            let entries = minicbor::to_vec(&acl.entries).expect("writing to memory does not fail");
            self.commits.put(Table::AclRefs, space_hash_key(space_id, &acl.hash.0), entries);
            self.read_leftovers_of(space_id);
        }
    }

    /// Drops documents that nobody holds, the longest unused first, until the limit is kept.
    pub(super) fn evict_documents(&mut self) {
        if self.residents.len() <= self.residents_max {
            return;
        }
        let mut idle: Vec<_> = self
            .residents
            .iter()
            .filter(|(key, resident)| self.is_idle(key, resident))
            .map(|(key, resident)| (resident.used, *key))
            .collect();
        let surplus = self.residents.len() - self.residents_max;
        if idle.len() > surplus {
            idle.select_nth_unstable(surplus);
            idle.truncate(surplus);
        }
        self.counters.documents_evicted += idle.len() as u64;
        for (_, key) in idle {
            self.unrecorded.remove(&key);
            self.waiting_since.remove(&key);
            self.to_reread.remove(&key);
            let resident = self.residents.remove(&key);
            let document = resident.as_ref().and_then(Resident::live);
            self.writers.keep(key, document.map(Document::writers).unwrap_or_default(), self.turn);
            let waiting = document.map_or(0, Document::orphans);
            self.counters.orphans_evicted += waiting as u64;
        }
    }

    /// Whether a document can be let go from memory. Runs that wait in it for others do not keep it: they are found again. But
    /// what a mending left is read to its end.
    pub(super) fn is_idle(&self, key: &DocumentKey, resident: &Resident) -> bool {
        resident.holds == 0
            && resident.leftovers.page.is_none()
            && !self.dirty.contains(key)
            && !self.touched.contains(key)
            && resident.live().is_some_and(|document| {
                !document.is_busy() && document.unsigned_bytes() == 0 && document.inbox_bytes() == 0
            })
    }

    pub(super) fn scan(&mut self, scan: Scan, table: Table, from: Vec<u8>, to: Vec<u8>, bytes_max: usize) {
        self.last_scan += 1;
        let id = ScanId(self.last_scan);
        self.scans.insert(id, scan);
        self.out(Output::Store(Request::Scan { id, table, from, to, bytes_max }));
    }
}

/// Of runs that end with the same change, the one that begins first: a row's key tells where its run ends, so of two such
/// runs only one can be kept, and it has to be the one with all the changes.
fn without_overlaps(runs: Vec<Run>) -> impl Iterator<Item = Run> {
    let mut first = BTreeMap::new();
    for run in &runs {
        let header = &run.header;
        let least = first.entry((header.actor, header.last_seq)).or_insert(header.first_seq);
        *least = header.first_seq.min(*least);
    }
    runs.into_iter().filter(move |run| {
        let header = &run.header;
        first.remove_entry(&(header.actor, header.last_seq)).is_some_and(|(key, least)| {
            let keep = least == header.first_seq;
            if !keep {
                first.insert(key, least);
            }
            keep
        })
    })
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;

    use super::*;
    use crate::document::edit::EditError;
    use crate::gate::Bare;
    use crate::keys::SecretKey;
    use crate::limits::DOCUMENTS_RESIDENT_MAX;
    use crate::storage::{self, Image};
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
