//! The engine itself: takes inputs, routes them to the room that decides, hands out what is to be done.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tracing::{debug, info, trace};

use crate::document::{DraftError, EditError, Seats, TooManyEditors};
use crate::gate::{Guard, Slot};
use crate::id::{ChangeHash, DeviceId, DocumentId, SpaceId, StorageId};
use crate::keys::Signer;
use crate::limits::{SLEEP_MIN, UNSIGNED_BYTES_MAX};
use crate::mutants::{Mutant, Mutated};
use crate::space::Space;
use crate::space::membership::Member;
use crate::space::records::Record;
use crate::space::ticket::Ticket;
use crate::storage::{self, Image, META_BLOCKED, META_BOOT_EPOCH, META_STORAGE_ID, Table};
use crate::sync::admission::Admission;
use crate::sync::dialer::{Dialer, Source};
use crate::sync::rate::Rate;
use crate::sync::session::{Session, Shared};
use crate::time::{Now, Timestamp};

mod addresses;
mod arrivals;
mod blocked;
mod catch_up;
mod commands;
mod commits;
pub mod copies;
pub mod counters;
mod dialing;
mod documents;
mod duplicates;
pub mod editing;
mod halting;
pub mod held;
mod hints;
pub mod input;
mod joining;
pub mod listing;
mod load;
mod members;
mod names;
mod offences;
mod opening;
mod orphans;
pub mod output;
mod reach;
mod reading;
mod refusals;
mod remembered;
pub mod renewal;
mod resident;
mod said;
mod scans;
mod sessions;
mod settling;
pub mod status;
mod unread;
pub mod usage;
mod works;
mod writers;

use commands::Wait;
use commits::Commits;
use copies::Copies;
use counters::Counters;
use dialing::Dialing;
use documents::Documents;
use halting::Halt;
use hints::PendingHint;
use input::{CommandId, Input, SessionId};
use offences::Offences;
use opening::Poison;
use output::{CommandError, Event, Output};
use reach::OwnAddresses;
use remembered::RememberedDevices;
use scans::Scans;
use unread::Unread;
use usage::Tolls;
use works::Works;

/// What an engine is made with.
pub struct Config {
    /// Where automerge may panic.
    pub guard: Arc<dyn Guard>,
    /// The slot found from an earlier process that died while applying.
    pub slot: Option<Slot>,
    /// Documents kept in memory that nobody holds open: [`DOCUMENTS_RESIDENT_MAX`](crate::limits::DOCUMENTS_RESIDENT_MAX), or
    /// fewer.
    pub residents_max: usize,
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
    documents: Documents,
    editors: Seats,
    sessions: BTreeMap<SessionId, Session>,
    /// Which of them go on with a large message.
    admission: Admission,
    /// Who has misbehaved lately.
    offences: Offences,
    /// How often sessions with a device were closed for newer ones, lately.
    replaced: BTreeMap<DeviceId, Rate>,
    dialer: Dialer,
    dialing: Dialing,
    /// Where members are and what they are called, as it is on disk.
    remembered: RememberedDevices,
    /// What this device is called.
    own_name: Option<String>,
    copies: Copies,
    commits: Commits,
    feed_seq: u64,
    /// Where the feed is when the commit in flight is on disk.
    feed_seq_in_flight: u64,
    feed_seq_told: u64,
    /// Where we can be reached.
    own: OwnAddresses,
    /// Runs that arrived and whose turn has not come.
    unread: Unread,
    /// Documents wait for the rest of a message before they are merged.
    has_put_off: bool,
    tolls: Tolls,
    /// Devices that people here want nothing to do with.
    blocked: BTreeSet<DeviceId>,
    /// Runs that broke the merge before.
    poison: Poison,
    /// Spaces that we left, as long as rows of them are being removed, and who wants to join them again.
    purging: BTreeMap<SpaceId, Vec<(CommandId, Ticket)>>,

    works: Works,
    scans: Scans,
    waits: BTreeMap<CommandId, Wait>,
    joins: BTreeMap<SpaceId, Vec<CommandId>>,
    hints: BTreeMap<SpaceId, PendingHint>,
    shutting_down: Option<CommandId>,
    stopped: Option<String>,
    halted: Option<Halt>,
    counters: Counters,
    pub(crate) mutated: Mutated,

    out: VecDeque<Output>,
    /// Something came in and its consequences are not drawn yet.
    turn_open: bool,
    /// This turn reads runs that arrived. One that an edit or the store began is not held up by them.
    turn_reads: bool,
    changed_members: BTreeSet<SpaceId>,
    to_flush: BTreeSet<SessionId>,
    to_pump: BTreeSet<SessionId>,
    /// Sessions whose peer takes in nothing of all that it makes us say.
    to_close: BTreeSet<SessionId>,
    dial_check: bool,
    /// The wall clock went on while the monotonic one stood still.
    has_slept: bool,
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
    #[error("{0} bytes of edits wait for the disk, limit {limit}", limit = UNSIGNED_BYTES_MAX)]
    Busy(usize),
    /// The store failed, or the replica is shut down. The document is unchanged.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
    /// Nothing can be written: the disk is full, for example. The document is unchanged, and can be read.
    #[error("no edits are taken: {0}")]
    Halted(String),
    /// The edit was refused. The document is unchanged.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The version asked for is not in the document.
    #[error("change {0} is not in this document")]
    UnknownHeads(ChangeHash),
    /// There are too many editors. The document is unchanged.
    #[error(transparent)]
    TooManyEditors(#[from] TooManyEditors),
    /// The draft cannot be published. The document is unchanged.
    #[error(transparent)]
    Draft(#[from] DraftError),
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
        let mut poison = Poison::default();
        let mut blocked = BTreeSet::new();
        for (_, key, value) in image.rows.iter().filter(|(table, _, _)| *table == Table::Meta) {
            blocked.extend(key.strip_prefix(META_BLOCKED).and_then(DeviceId::from_slice));
            poison.load(key, value);
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
            documents: Documents::new(config.residents_max),
            editors: Seats::default(),
            sessions: BTreeMap::new(),
            admission: Admission::default(),
            offences: Offences::default(),
            tolls: Tolls::default(),
            unread: Unread::default(),
            has_put_off: false,
            blocked,
            replaced: BTreeMap::new(),
            dialer: Dialer::default(),
            dialing: Dialing::default(),
            remembered: loaded.remembered,
            own_name: loaded.name,
            copies: Copies::default(),
            commits: Commits::default(),
            feed_seq: loaded.feed_seq,
            feed_seq_in_flight: loaded.feed_seq,
            feed_seq_told: loaded.feed_seq,
            own: OwnAddresses::default(),
            poison,
            works: Works::default(),
            purging: BTreeMap::new(),
            scans: Scans::default(),
            waits: BTreeMap::new(),
            joins: BTreeMap::new(),
            hints: BTreeMap::new(),
            shutting_down: None,
            stopped: None,
            halted: None,
            counters: Counters::default(),
            mutated: Mutated::default(),
            out: VecDeque::new(),
            turn_open: true,
            turn_reads: false,
            changed_members: BTreeSet::new(),
            to_flush: BTreeSet::new(),
            to_pump: BTreeSet::new(),
            to_close: BTreeSet::new(),
            dial_check: true,
            has_slept: false,
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
        for (device, known) in &engine.remembered {
            for address in &known.addresses {
                if let Err(error) = engine.dialer.learn(address, Some(*device), Source::Itself, now.mono) {
                    debug!(%error, "an address is not remembered");
                }
            }
        }
        engine.dial_for_lost_members();
        for space in engine.spaces.keys().copied().collect::<Vec<_>>() {
            engine.subscribe(&space);
            let told: Vec<String> = engine.spaces[&space].access.addresses().cloned().collect();
            engine.dial_given(told.iter());
        }
        engine.mend_what_was_salvaged();
        for space in loaded.remnants {
            engine.purge(space);
        }
        engine.poison.read_slot(config.slot, &mut engine.commits);
        info!(device = %engine.device, storage = %engine.storage, epoch = engine.epoch, "started");
        Ok(engine)
    }

    /// Takes one piece of news. Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        trace!(?input, "in");
        self.begin_turn(now);
        self.turn_reads = matches!(input, Input::Timeout | Input::Frame { .. });
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
            Input::DialPutOff { address, reason } => {
                debug!(reason, "dial put off");
                self.dialer.put_off(&address, self.now.mono);
                self.dial_check = true;
            }
            Input::Listening { address } => {
                self.own.add(&address, self.now.mono);
                self.event(Event::Listening { address });
            }
            Input::ListeningEnded { address } => {
                self.own.remove(&address, self.now.mono);
                self.event(Event::ListeningEnded { address });
            }
            Input::Hint { hint, from, topic, bytes } => self.heard_hint(hint, from, &topic, &bytes),
            Input::Stored(storage::Reply::Committed { id, result }) => self.committed(id, result),
            Input::Stored(storage::Reply::Scanned { id, result }) => self.scanned(id, result),
            Input::StoreFailed(failure) => self.store_failed(None, &failure),
            Input::Worked(done) => self.worked(*done),
            Input::LocalChange { space, document, bytes, maker } => {
                self.local_change((space, document), &bytes, maker);
            }
        }
    }

    fn begin_turn(&mut self, now: Now) {
        debug_assert!(now.mono >= self.now.mono, "time never goes back");
        self.has_slept |= now.slept_since(&self.now) >= SLEEP_MIN;
        self.now = Now { mono: self.now.mono.max(now.mono), wall_s: now.wall_s };
        self.turn_open = true;
        self.turn_reads = false;
    }

    fn timeout(&mut self) {
        self.own_addresses_due();
        self.sessions_due();
        self.hints_due();
        self.orphans_due();
        self.resume_due();
        self.dial_check |= self.dial_deadline().is_some_and(|(at, _)| self.now.mono >= at);
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
        if core::mem::take(&mut self.has_slept) {
            info!("this machine has slept: looking for the peers");
            self.look_around();
        }
        let message_ended = self.turn_reads && self.read_runs();
        self.settle_documents(message_ended);
        self.mend_due();
        self.commit();
        self.leftovers_due();
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

    /// The store can be neither written nor read: end, say so, let the owner reopen.
    fn stop(&mut self, reason: String) {
        if self.stopped.is_some() {
            return;
        }
        tracing::warn!(reason, "the replica has stopped");
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.close_session(id, "the replica has stopped");
        }
        self.stopped = Some(reason.clone());
        self.halted = None;
        self.abandon_commands(&reason);
        if let Some(id) = self.shutting_down.take() {
            self.reply(id, Err(CommandError::Stopped(reason.clone())));
        }
        self.documents.give_up_commits();
        self.event(Event::Stopped { reason });
    }

    fn abandon_commands(&mut self, reason: &str) {
        let mut commands = self.commits.abandon();
        commands.extend(core::mem::take(&mut self.waits).into_keys());
        commands.extend(core::mem::take(&mut self.joins).into_values().flatten());
        commands.extend(self.purging.values_mut().flat_map(core::mem::take).map(|(command, _)| command));
        commands.extend(self.scans.abandon());
        commands.extend(self.documents.take_commands());
        for command in commands {
            self.reply(command, Err(CommandError::Stopped(reason.to_string())));
        }
    }

    /// When to call `handle(Input::Timeout)` next, and what for.
    pub fn poll_timeout(&mut self) -> Option<(Timestamp, &'static str)> {
        if self.stopped.is_some() {
            return None;
        }
        let deadlines = [
            self.dial_deadline(),
            self.sessions_deadline(),
            self.hints_deadline(),
            self.orphans_deadline(),
            self.own.deadline().map(|at| (at, "own addresses")),
            self.resume_deadline(),
            self.unread_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Signed heads of a document, open or not; empty if it is not known.
    pub fn heads(&self, space: &SpaceId, document: &DocumentId) -> Vec<ChangeHash> {
        self.spaces.get(space).and_then(|space| space.records.heads(document)).unwrap_or_default()
    }

    /// Ids of a space's documents, in order.
    pub fn documents(&self, space: &SpaceId) -> Vec<DocumentId> {
        let Some(known) = self.spaces.get(space) else { return Vec::new() };
        let mut documents: Vec<DocumentId> = known.records.documents().copied().collect();
        // Made, and not in a commit yet.
        let made = self.documents.unrecorded(space).filter(|key| self.exists(key));
        documents.extend(made.map(|key| key.1));
        documents.sort_unstable();
        documents
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
        self.own.announce(addresses);
    }

    /// Where we can be reached, the newest last, at most `LISTENING_MAX` addresses.
    pub fn listening(&self) -> &[String] {
        self.own.listening()
    }

    /// Where others can reach us, best first: what is announced, or else those of the addresses that we listen on that are of
    /// use to other machines. Tickets and peers get as many of the first ones as there is room for.
    pub fn reachable_at(&self) -> Vec<String> {
        self.own.for_others()
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

    /// Why the replica takes no edits, if so. Where that is because nothing can be written, it reads all the same, and serves
    /// its peers.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref().or_else(|| self.halted())
    }

    /// Whether what was done and could not be written is tried again, so that it may be saved yet.
    pub fn is_tried_again(&self) -> bool {
        self.stopped.is_none() && self.is_halt_passing()
    }

    /// The last seq of the feed that is on disk: what a reader may go on from after a crash.
    pub fn feed_end(&self) -> u64 {
        self.feed_seq_told
    }

    /// A document's record, for those who check.
    pub fn record(&self, space: &SpaceId, document: &DocumentId) -> Option<Record> {
        self.spaces.get(space)?.records.get(document)
    }

    fn backlog_bytes(&self) -> usize {
        self.unread.bytes() + self.documents.inbox_bytes()
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
