//! The engine itself: takes inputs, routes them to the room that decides, hands out what is to be done.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tracing::{debug, error, info, trace};

use crate::document::{Author, Edit, EditError, View};
use crate::feed::FeedRow;
use crate::gate::{Guard, Slot};
use crate::id::{ActorId, ChangeHash, DeviceId, DocumentId, SpaceId, StorageId};
use crate::keys::Signer;
use crate::limits::{DEATHS_UNTIL_POISONED, POISONED_MAX, TICKET_ADDRESSES_MAX, UNSIGNED_BYTES_MAX};
use crate::mutants::{Mutant, Mutated};
use crate::run::Run;
use crate::space::membership::Member;
use crate::space::ticket::Ticket;
use crate::space::{Acl, Record, Space};
use crate::storage::{
    self, CommitId, Image, META_BOOT_EPOCH, META_POISONED, META_STORAGE_ID, ScanId, Table, document_key, feed_key,
};
use crate::sync::dialer::{Dialer, Source};
use crate::sync::rate::Rate;
use crate::sync::session::{Session, Shared};
use crate::sync::transfer::Job;
use crate::time::{Now, Timestamp};

mod catch_up;
mod commands;
mod commits;
pub mod counters;
mod dialing;
mod documents;
pub mod held;
mod hints;
pub mod input;
mod load;
mod members;
mod mending;
pub mod output;
mod sessions;
pub mod status;

use commands::Wait;
use commits::Commits;
use counters::Counters;
use dialing::Dialing;
use documents::{DocumentKey, Resident};
use hints::PendingHint;
use input::{CommandId, Input, SessionId};
use output::{CommandError, Event, Output};

/// What an engine is made with.
pub struct Config {
    /// Where automerge may panic.
    pub guard: Arc<dyn Guard>,
    /// The slot found from an earlier process that died while applying.
    pub slot: Option<Slot>,
}

/// One replica's decisions. See the crate's documentation for how to drive it.
pub struct Engine {
    identity: Box<dyn Signer>,
    device: DeviceId,
    guard: Arc<dyn Guard>,
    rng: ChaCha8Rng,
    /// Actors have a stream of their own, which nothing else that is drawn shifts: whoever uses a seed twice is noticed at
    /// the first edit.
    actors: ChaCha8Rng,
    now: Now,
    storage: StorageId,
    epoch: u64,
    /// Random: what tells this process from a copy of it.
    instance: u64,

    spaces: BTreeMap<SpaceId, Space>,
    residents: BTreeMap<DocumentKey, Resident>,
    sessions: BTreeMap<SessionId, Session>,
    /// How often sessions with a device were closed for newer ones, lately.
    replaced: BTreeMap<DeviceId, Rate>,
    dialer: Dialer,
    dialing: Dialing,
    /// Addresses of members as they are on disk.
    remembered: BTreeMap<DeviceId, Vec<String>>,
    commits: Commits,
    feed_seq: u64,
    /// Where the feed is when the commit in flight is on disk.
    feed_seq_in_flight: u64,
    feed_seq_told: u64,
    listening: Vec<String>,
    /// What members are told instead.
    announced: Option<Vec<String>>,
    /// Runs that broke the merge before, by tip.
    poisoned: BTreeSet<ChangeHash>,
    /// Runs that processes in a row died with while they merged them alone, and how many did.
    deaths: BTreeMap<ChangeHash, u8>,
    /// Documents among whose runs such a one is, and the tips in question.
    suspects: BTreeMap<DocumentKey, Vec<ChangeHash>>,
    /// Documents of which nothing can be read from the store, and why.
    broken: BTreeMap<DocumentKey, String>,
    /// Documents that are to be built anew from what is readable of their runs.
    to_mend: BTreeSet<DocumentKey>,
    /// Documents in memory that have no record yet.
    unrecorded: BTreeSet<DocumentKey>,
    /// Documents with runs that wait for others, and since when.
    waiting_since: BTreeMap<DocumentKey, Timestamp>,
    /// Spaces that we left, as long as rows of them are being removed, and who wants to join them again.
    purging: BTreeMap<SpaceId, Vec<(CommandId, Ticket)>>,

    scans: BTreeMap<ScanId, Scan>,
    last_scan: u64,
    waits: BTreeMap<CommandId, Wait>,
    joins: BTreeMap<SpaceId, Vec<CommandId>>,
    hints: BTreeMap<SpaceId, PendingHint>,
    shutting_down: Option<CommandId>,
    stopped: Option<String>,
    counters: Counters,
    pub(crate) mutated: Mutated,

    out: VecDeque<Output>,
    /// Turns so far.
    turn: u64,
    /// Something came in and its consequences are not drawn yet.
    turn_open: bool,
    /// Documents with runs to merge.
    touched: BTreeSet<DocumentKey>,
    /// Documents with changes that no commit has yet.
    dirty: BTreeSet<DocumentKey>,
    changed_members: BTreeSet<SpaceId>,
    to_flush: BTreeSet<SessionId>,
    to_pump: BTreeSet<SessionId>,
    /// Sessions whose peer takes in nothing of all that it makes us say.
    to_close: BTreeSet<SessionId>,
    dial_check: bool,
}

/// What a scan is for.
enum Scan {
    Open(DocumentKey, u64),
    Transfer { session: SessionId, key: DocumentKey, job: Job },
    Feed { command: CommandId, limit: usize, rows: Vec<FeedRow> },
    Purge(SpaceId, Table),
}

/// A document cannot be read or edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// No such space here.
    #[error("no space {0} here")]
    UnknownSpace(SpaceId),
    /// `OpenDocument` first.
    #[error("document {0} is not open")]
    NotOpen(DocumentId),
    /// Our role does not allow edits. The document is unchanged.
    #[error("this device is {0} in the space, a writer is needed")]
    NotAWriter(&'static str),
    /// The space cannot be written by this program. The document is unchanged.
    #[error("{0}; until then the space is read-only here")]
    ReadOnly(String),
    /// Edits come faster than the disk takes them. The document is unchanged; try again when `saved`.
    #[error("{0} bytes of this document's edits wait for the disk, limit {limit}", limit = UNSIGNED_BYTES_MAX)]
    Busy(usize),
    /// The store failed, or the replica is shut down. The document is unchanged.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
    /// The edit was refused. The document is unchanged.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The version asked for is not in the document.
    #[error("change {0} is not in this document")]
    UnknownHeads(ChangeHash),
}

impl Engine {
    /// An engine over what a store holds. `seed` is secret and random: actors, nonces and jitter are drawn from it. Emits a
    /// first commit (the new boot epoch, and the storage id if the image has none).
    ///
    /// # Errors
    /// The image cannot be read: the text names the row.
    pub fn new(
        config: Config,
        identity: impl Signer + 'static,
        seed: [u8; 32],
        now: Now,
        image: Image,
    ) -> Result<Self, String> {
        let mut poisoned = BTreeSet::new();
        let mut deaths = BTreeMap::new();
        for (_, key, value) in image.rows.iter().filter(|(table, _, _)| *table == Table::Meta) {
            let Some(tip) = key.strip_prefix(META_POISONED).and_then(ChangeHash::from_slice) else { continue };
            match value.as_slice() {
                [count] => _ = deaths.insert(tip, *count),
                _ => _ = poisoned.insert(tip),
            }
        }
        let loaded = load::load(identity.device(), image)?;
        let mut engine = Self {
            device: identity.device(),
            identity: Box::new(identity),
            guard: config.guard,
            rng: ChaCha8Rng::from_seed(seed),
            actors: actors_of(seed),
            now,
            storage: StorageId([0; 16]),
            epoch: loaded.epoch + 1,
            instance: 0,
            spaces: loaded.spaces,
            residents: BTreeMap::new(),
            sessions: BTreeMap::new(),
            replaced: BTreeMap::new(),
            dialer: Dialer::default(),
            dialing: Dialing::default(),
            remembered: loaded.addresses.iter().cloned().collect(),
            commits: Commits::default(),
            feed_seq: loaded.feed_seq,
            feed_seq_in_flight: loaded.feed_seq,
            feed_seq_told: loaded.feed_seq,
            listening: Vec::new(),
            announced: None,
            poisoned,
            deaths,
            suspects: BTreeMap::new(),
            broken: BTreeMap::new(),
            to_mend: BTreeSet::new(),
            unrecorded: BTreeSet::new(),
            waiting_since: BTreeMap::new(),
            purging: BTreeMap::new(),
            scans: BTreeMap::new(),
            last_scan: 0,
            waits: BTreeMap::new(),
            joins: BTreeMap::new(),
            hints: BTreeMap::new(),
            shutting_down: None,
            stopped: None,
            counters: Counters::default(),
            mutated: Mutated::default(),
            out: VecDeque::new(),
            turn: 0,
            turn_open: true,
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
            changed_members: BTreeSet::new(),
            to_flush: BTreeSet::new(),
            to_pump: BTreeSet::new(),
            to_close: BTreeSet::new(),
            dial_check: true,
        };
        engine.storage = match loaded.storage {
            Some(storage) => storage,
            None => {
                let storage = StorageId(engine.random());
                engine.commits.put(Table::Meta, META_STORAGE_ID.to_vec(), storage.0.to_vec());
                storage
            }
        };
        engine.instance = u64::from_be_bytes(engine.random());
        engine.commits.put(Table::Meta, META_BOOT_EPOCH.to_vec(), engine.epoch.to_be_bytes().to_vec());
        for (device, addresses) in loaded.addresses {
            for address in addresses {
                if let Err(error) = engine.dialer.learn(&address, Some(device), Source::Itself, now.mono) {
                    debug!(%error, "an address is not remembered");
                }
            }
        }
        engine.dial_for_lost_members();
        for space in engine.spaces.keys().copied().collect::<Vec<_>>() {
            engine.subscribe(&space);
            let invite = engine.spaces.get(&space).and_then(|space| space.access.invite.clone());
            let ticket = invite.map(|invite| invite.addresses).unwrap_or_default();
            engine.dial_given(ticket.iter().take(TICKET_ADDRESSES_MAX));
        }
        engine.mend_what_was_salvaged();
        for space in loaded.remnants {
            engine.purge(space);
        }
        engine.read_slot(config.slot);
        info!(device = %engine.device, storage = %engine.storage, epoch = engine.epoch, "started");
        Ok(engine)
    }

    /// An earlier process may have died while it applied these runs. That may have been chance: a process is killed whenever
    /// it is killed, most easily at the same point of catching up again and again, and to refuse an innocent run is to differ
    /// from everyone else. So they are tried in small groups from now on, only what several processes in a row died of, alone,
    /// is refused, and only by the process that finds it so: the next one tries it once more.
    fn read_slot(&mut self, slot: Option<Slot>) {
        let tips = slot.as_ref().map(|slot| slot.tips.as_slice()).unwrap_or_default();
        let alone = if let [tip] = tips { Some(*tip) } else { None };
        for (tip, deaths) in core::mem::take(&mut self.deaths) {
            if alone == Some(tip) {
                self.deaths.insert(tip, deaths);
            } else if deaths >= DEATHS_UNTIL_POISONED {
                self.count_deaths(tip, DEATHS_UNTIL_POISONED - 1);
            } else {
                self.commits.remove(Table::Meta, [META_POISONED, &tip.0].concat());
            }
        }
        let Some(slot) = slot else { return };
        warn_of_slot(&slot);
        if let Some(tip) = alone
            && self.poisoned.len() + self.deaths.len() < POISONED_MAX
        {
            let deaths = self.deaths.get(&tip).copied().unwrap_or(0).saturating_add(1);
            self.count_deaths(tip, deaths);
            if deaths >= DEATHS_UNTIL_POISONED {
                self.poisoned.insert(tip);
                return;
            }
        }
        self.suspects.insert((slot.space, slot.document), slot.tips);
    }

    fn count_deaths(&mut self, tip: ChangeHash, deaths: u8) {
        self.deaths.insert(tip, deaths);
        self.commits.put(Table::Meta, [META_POISONED, &tip.0].concat(), alloc::vec![deaths]);
    }

    /// Takes one piece of news. Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        trace!(?input, "in");
        self.begin_turn(now);
        match input {
            Input::Command(id, command) => self.command(id, command),
            Input::Timeout => self.timeout(),
            Input::SessionOpened { session, peer, opener, address } => {
                self.session_opened(session, peer, opener, address);
            }
            Input::Frame { session, bytes } => self.frame(session, &bytes),
            Input::Written { session, bytes } => self.written(session, bytes),
            Input::SessionClosed { session, reason } => self.session_closed(session, &reason),
            Input::DialFailed { address, reason } => {
                debug!(reason, "dial failed");
                let jitter = self.random_u32();
                self.dialer.failed(&address, &reason, self.now.mono, jitter);
                self.dial_check = true;
            }
            Input::Listening { address } => {
                if !self.listening.contains(&address) {
                    self.listening.push(address.clone());
                }
                self.event(Event::Listening { address });
            }
            Input::Hint { hint, from, topic, bytes } => self.heard_hint(hint, from, &topic, &bytes),
            Input::Stored(storage::Reply::Committed { id, result }) => self.committed(id, result),
            Input::Stored(storage::Reply::Scanned { id, result }) => self.scanned(id, result),
            Input::Worked(done) => self.worked(*done),
            Input::LocalChange { space, document, bytes } => self.local_change((space, document), &bytes),
        }
    }

    fn begin_turn(&mut self, now: Now) {
        debug_assert!(now.mono >= self.now.mono, "time never goes back");
        self.now = Now { mono: self.now.mono.max(now.mono), wall_s: now.wall_s };
        self.turn += 1;
        self.turn_open = true;
    }

    fn timeout(&mut self) {
        self.sessions_due();
        self.hints_due();
        self.orphans_due();
        self.dial_check = true;
    }

    /// Runs `f` on a document that is open and keeps what it did as one change, in memory. Returns `f`'s value and the commit
    /// that will make it durable (`None` if nothing changed). Drain afterwards.
    pub fn edit<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        now: Now,
        space: &SpaceId,
        document: &DocumentId,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<CommitId>), E> {
        self.begin_turn(now);
        let author = self.may_edit(space)?;
        let key = (*space, *document);
        let resident = self.residents.get_mut(&key);
        let Some(open) = resident.and_then(Resident::live_mut) else {
            return Err(DocumentError::NotOpen(*document).into());
        };
        let waiting = open.unsigned_bytes();
        if waiting > UNSIGNED_BYTES_MAX {
            return Err(DocumentError::Busy(waiting).into());
        }
        let edited = open.edit(author, f);
        if open.is_damaged() {
            // What was signed or merged before is on its way to the store, and its record goes with it.
            if self.dirty.remove(&key) {
                self.close_runs(key);
            }
            self.close_damaged(key, EditError::Panicked.to_string());
        }
        let (value, changed) = edited?;
        if !changed {
            return Ok((value, None));
        }
        self.edited(key);
        Ok((value, Some(self.commits.next())))
    }

    fn may_edit(&mut self, space: &SpaceId) -> Result<Author, DocumentError> {
        if let Some(reason) = &self.stopped {
            return Err(DocumentError::Stopped(reason.clone()));
        }
        if self.shutting_down.is_some() {
            return Err(DocumentError::Stopped(String::from("it is being shut down")));
        }
        let known = self.spaces.get(space).ok_or(DocumentError::UnknownSpace(*space))?;
        if let Some(reason) = self.read_only(known) {
            return Err(DocumentError::ReadOnly(reason));
        }
        if let Some(role) = known.role_for_writing() {
            return Err(DocumentError::NotAWriter(role));
        }
        let mut fresh_actor = ActorId(random(&mut self.actors));
        if self.mutated.by(Mutant::ContinuesActors) {
            fresh_actor.0.copy_from_slice(&self.device.0[..16]);
        }
        Ok(Author { device: self.device, fresh_actor, wall_s: self.now.wall_s })
    }

    fn edited(&mut self, key: DocumentKey) {
        self.dirty.insert(key);
        self.event(Event::DocumentChanged { space: key.0, document: key.1, remote: false });
    }

    /// A recorded local change, replayed.
    fn local_change(&mut self, key: DocumentKey, bytes: &[u8]) {
        let result = self.may_edit(&key.0).map_err(|error| error.to_string()).and_then(|author| {
            let guard = self.guard.clone();
            let document = self.residents.get_mut(&key).and_then(Resident::live_mut);
            let document = document.ok_or_else(|| DocumentError::NotOpen(key.1).to_string())?;
            document.apply_local(author.device, bytes, &*guard).map_err(|error| error.to_string())
        });
        match result {
            Ok(()) => self.edited(key),
            Err(error) => error!(document = %key.1, error, "a recorded change does not apply"),
        }
    }

    /// The raw bytes of the last local change of a document that is open, for a recording.
    pub fn last_local_change(&self, space: &SpaceId, document: &DocumentId) -> Option<Vec<u8>> {
        let open = self.residents.get(&(*space, *document)).and_then(Resident::live)?;
        open.last_local_change()
    }

    /// What to do next; `None` when all is said for this turn.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.turn_open {
            self.turn_open = false;
            self.end_turn();
        }
        let output = self.out.pop_front();
        if let Some(output) = &output {
            trace!(?output, "out");
        }
        output
    }

    /// Draws the consequences of what came in, each kind once for the whole turn.
    fn end_turn(&mut self) {
        self.settle_documents();
        self.mend_due();
        self.commit();
        for id in self.to_pump.clone() {
            // Before roots are told: they say what the entries lead to.
            self.pump_entries(id);
        }
        self.tell_changed_members();
        for id in core::mem::take(&mut self.to_pump) {
            self.pump(id);
        }
        self.report_credit();
        for id in core::mem::take(&mut self.to_flush) {
            self.flush(id);
            // What was held back by a full lane can go on.
            if self.sessions.get(&id).is_some_and(|session| session.shared.iter().any(Shared::has_more)) {
                self.pump(id);
                self.flush(id);
            }
        }
        for id in core::mem::take(&mut self.to_flush) {
            self.flush(id);
        }
        for id in core::mem::take(&mut self.to_close) {
            self.close_session(id, "it does not read");
        }
        if core::mem::take(&mut self.dial_check) {
            self.dial_due();
        }
        self.evict_documents();
        self.finish_shutdown();
    }

    /// Closes the runs of every changed document and forms the next commit, unless one is in flight.
    fn commit(&mut self) {
        if self.commits.is_in_flight() || self.stopped.is_some() {
            return;
        }
        let mut spaces = BTreeSet::new();
        while let Some(key) = self.dirty.pop_first() {
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
            if let storage::Request::Commit { id, .. } = request
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
    fn close_runs(&mut self, key: DocumentKey) {
        let Some(space) = self.spaces.get(&key.0) else { return };
        let mut acl = space.current_acl().clone();
        if self.mutated.by(Mutant::SkipsRoleCheck) {
            acl = Acl::new(Vec::new());
        }
        let Some(document) = self.residents.get_mut(&key).and_then(Resident::live_mut) else { return };
        let mut runs = Vec::new();
        while let Some(unsigned) = document.take_unsigned() {
            runs.push(Run::sign(&*self.identity, key.0, key.1, acl.hash, unsigned));
        }
        let heads = document.signed_heads();
        if !runs.is_empty() {
            self.keep_acl(&key.0, &acl);
        }
        for run in &runs {
            self.keep_run(run);
        }
        let accepted = self.residents.get_mut(&key).map(Resident::take_accepted).unwrap_or_default();
        self.feed_seq += 1;
        let Some(space) = self.spaces.get_mut(&key.0) else { return };
        let mut record = space.records.get(&key.1).cloned().unwrap_or_default();
        for proof in accepted {
            record.signed.frontier.accept(proof);
        }
        record.signed.heads = heads;
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
        self.unrecorded.remove(&key);
        self.forward(&key.0, runs.into_iter().map(|run| (None, run)).collect());
    }

    fn committed(&mut self, id: CommitId, result: Result<(), storage::Failure>) {
        match result {
            Ok(()) => {
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
            Err(failure) => self.stop(failure.to_string()),
        }
    }

    fn scanned(&mut self, id: ScanId, result: Result<storage::Scanned, storage::Failure>) {
        let Some(scan) = self.scans.remove(&id) else { return };
        let scanned = match (result, &scan) {
            (Ok(scanned), _) => scanned,
            (Err(storage::Failure::Damaged(error)), Scan::Open(key, birth)) => {
                return self.opening_failed(*key, *birth, &error);
            }
            (Err(storage::Failure::Damaged(error)), Scan::Transfer { session, key, .. }) => {
                self.transfer_ended(*session, key);
                return self.mend_document(*key, &error);
            }
            (Err(failure), _) => return self.stop(failure.to_string()),
        };
        match scan {
            Scan::Open(key, birth) => self.scanned_open(key, birth, scanned),
            Scan::Transfer { session, key, job } => self.scanned_transfer(session, key, job, &scanned),
            Scan::Feed { command, limit, rows } => self.scanned_feed(command, limit, rows, &scanned),
            Scan::Purge(space, table) => self.scanned_purge(space, table, scanned),
        }
    }

    /// The store failed: take no more edits, say so, let the owner reopen.
    fn stop(&mut self, reason: String) {
        if self.stopped.is_some() {
            return;
        }
        tracing::warn!(reason, "the replica has stopped");
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.close_session(id, "the replica has stopped");
        }
        self.stopped = Some(reason.clone());
        self.abandon_commands(&reason);
        if let Some(id) = self.shutting_down.take() {
            self.reply(id, Err(CommandError::Stopped(reason.clone())));
        }
        self.dirty.clear();
        self.event(Event::Stopped { reason });
    }

    fn abandon_commands(&mut self, reason: &str) {
        let mut commands = self.commits.abandon();
        commands.extend(core::mem::take(&mut self.waits).into_keys());
        commands.extend(core::mem::take(&mut self.joins).into_values().flatten());
        commands.extend(self.purging.values_mut().flat_map(core::mem::take).map(|(command, _)| command));
        for (_, scan) in core::mem::take(&mut self.scans) {
            if let Scan::Feed { command, .. } = scan {
                commands.push(command);
            }
        }
        for resident in self.residents.values_mut() {
            commands.extend(resident.take_waiting());
        }
        for command in commands {
            self.reply(command, Err(CommandError::Stopped(reason.to_string())));
        }
    }

    /// When to call `handle(Input::Timeout)` next, and what for.
    pub fn poll_timeout(&mut self) -> Option<(Timestamp, &'static str)> {
        if self.stopped.is_some() {
            return None;
        }
        let deadlines =
            [self.dial_deadline(), self.sessions_deadline(), self.hints_deadline(), self.orphans_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Lets go of one opening of a document.
    pub fn close(&mut self, space: &SpaceId, document: &DocumentId) {
        if let Some(resident) = self.residents.get_mut(&(*space, *document)) {
            resident.holds = resident.holds.saturating_sub(1);
        }
    }

    /// A fresh random document id.
    pub fn new_document_id(&mut self) -> DocumentId {
        DocumentId(self.random())
    }

    /// Reads an open document as it is, or as it was at `heads`.
    ///
    /// # Errors
    /// The space is not here, the document is not open, or one of `heads` is not in it.
    pub fn view(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<View<'_>, DocumentError> {
        if !self.spaces.contains_key(space) {
            return Err(DocumentError::UnknownSpace(*space));
        }
        let resident = self.residents.get(&(*space, *document));
        let open = resident.and_then(Resident::live).ok_or(DocumentError::NotOpen(*document))?;
        match heads {
            None if self.mutated.by(Mutant::ReadsStale) => {
                open.view_at(&open.signed_heads()).map_err(|unknown| DocumentError::UnknownHeads(unknown.0))
            }
            None => Ok(open.view()),
            Some(heads) => open.view_at(heads).map_err(|unknown| DocumentError::UnknownHeads(unknown.0)),
        }
    }

    /// Signed heads of a document, open or not; empty if it is not known.
    pub fn heads(&self, space: &SpaceId, document: &DocumentId) -> Vec<ChangeHash> {
        let record = self.spaces.get(space).and_then(|space| space.records.get(document));
        record.map(|record| record.signed.heads.clone()).unwrap_or_default()
    }

    /// Ids of a space's documents, in order.
    pub fn documents(&self, space: &SpaceId) -> Vec<DocumentId> {
        self.spaces.get(space).map(|space| space.records.keys().copied().collect()).unwrap_or_default()
    }

    /// Members of a space, by device.
    pub fn members(&self, space: &SpaceId) -> Vec<Member> {
        self.spaces.get(space).map(|space| space.membership.members()).unwrap_or_default()
    }

    /// Addresses given by the application at which nobody has answered yet, and why.
    pub fn unanswered(&self) -> Vec<(String, Option<String>)> {
        self.dialer.unanswered()
    }

    /// From now on members are told these addresses instead of those that we listen on, and tickets carry them: for a replica
    /// behind a router or a proxy. None of them: members are told nothing, and dial what their tickets say.
    pub fn announce(&mut self, addresses: Vec<String>) {
        self.announced = Some(addresses);
    }

    /// Where we can be reached.
    pub fn listening(&self) -> &[String] {
        &self.listening
    }

    /// Our device.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Our store, and how often a process has started on it.
    pub fn storage(&self) -> (StorageId, u64) {
        (self.storage, self.epoch)
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        Counters { longest_waits: self.dialer.longest_waits(), ..self.counters }
    }

    /// Why the replica takes no more edits, if so.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// The last seq of the feed.
    pub fn feed_seq(&self) -> u64 {
        self.feed_seq
    }

    /// A document's record, for those who check.
    pub fn record(&self, space: &SpaceId, document: &DocumentId) -> Option<&Record> {
        self.spaces.get(space)?.records.get(document)
    }

    fn backlog_bytes(&self) -> usize {
        self.residents.values().map(Resident::inbox_bytes).sum()
    }

    fn out(&mut self, output: Output) {
        self.out.push_back(output);
    }

    fn event(&mut self, event: Event) {
        self.out(Output::Event(event));
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        random(&mut self.rng)
    }

    fn random_u32(&mut self) -> u32 {
        if self.mutated.by(Mutant::Undetermined) {
            use core::sync::atomic::{AtomicU32, Ordering};
            static OUTSIDE: AtomicU32 = AtomicU32::new(0);
            return OUTSIDE.fetch_add(1 << 20, Ordering::Relaxed);
        }
        self.rng.next_u32()
    }

    /// A generator of its own, for a closure that cannot borrow ours.
    fn fork_rng(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.random())
    }
}

/// The stream of a seed from which actors are drawn.
fn actors_of(seed: [u8; 32]) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_stream(1);
    rng
}

fn random<const N: usize>(rng: &mut ChaCha8Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn warn_of_slot(slot: &Slot) {
    tracing::warn!(
        document = %slot.document,
        runs = slot.tips.len(),
        "an earlier process died while it merged runs into this document: it may have been chance; if not, the one that does it is found and refused"
    );
}
