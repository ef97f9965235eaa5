//! What handles and threads of one replica share: the engine behind one lock, and where its outputs go.
//!
//! Whoever has news takes a turn on its own thread: lock, tell the engine, drain its outputs, unlock. Draining puts each
//! output into the queue of whoever executes it, so outputs are executed in the order in which the engine gave them,
//! whichever thread drained. Nothing is decided here.
#![deny(clippy::wildcard_enum_match_arm)]

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;

use anabranch_engine::document::work::Work;
use anabranch_engine::document::{ChangeInfo, Draft, Editor, Followed, Shared, Snapshot};
use anabranch_engine::id::{ChangeHash, DeviceId, DocumentId, SpaceId, StorageId};
use anabranch_engine::limits::COMMANDS_PENDING_MAX;
use anabranch_engine::storage::{CommitId, Request};
use anabranch_engine::time::{Now, Timestamp};
use anabranch_engine::{Command, CommandError, CommandId, DocumentError, Event, Input, Output, Published, Reply};
use anabranch_net::NetCommand;
use anabranch_store::Salvaged;
use async_channel::{Receiver, Sender, TrySendError};
use futures::channel::oneshot;
use parking_lot::Mutex;
use tracing::{Span, debug, error, trace};

use crate::driver::clock::Clock;
use crate::driver::worker::WorkHand;
use crate::events::{Broadcast, Events};
use crate::recorder::Recorded;
use crate::store_thread::StoreHand;
use crate::turnstile::Turnstile;
use crate::{Edit, EditError, Stopped};

/// Outputs between engine and network. The engine bounds what it has on its way to each peer; this bounds all of it.
pub(crate) const ORDERS_QUEUED_MAX: usize = 4096;
/// Never due.
const NEVER: u64 = u64::MAX;

/// What the thread that drives the network is told.
pub(crate) enum Order {
    /// Execute this.
    Network(NetCommand),
    /// Look at the deadline again: it has come nearer.
    Wake,
}

/// What the closure of an edit has panicked with.
type Panic = Option<Box<dyn Any + Send>>;

/// One running replica.
pub(crate) struct Replica {
    device: DeviceId,
    peer_id: String,
    storage: (StorageId, u64),
    clock: Clock,
    span: Span,
    state: Turnstile<State>,
    /// Which thread holds `state`, so that a call from inside a closure is told so instead of waiting for itself.
    holder: AtomicUsize,
    deferred: Mutex<Vec<Deferred>>,
    /// When the engine wants to be called, and until when the driver believes it may sleep.
    due: AtomicU64,
    asleep_until: AtomicU64,
    /// The last turn left something for which the network's queue had no room.
    network_full: AtomicBool,
    finished: Receiver<()>,
    salvaged: Option<Salvaged>,
}

/// Where outputs go.
pub(crate) struct Hands {
    pub(crate) network: Sender<Order>,
    pub(crate) store: StoreHand,
    pub(crate) work: WorkHand,
}

/// What the lock protects.
struct State {
    running: Result<Running, String>,
    commands: BTreeMap<CommandId, Waiting>,
    next_command: u64,
    shutdown: Option<CommandId>,
    events: Broadcast,
    watchers: HashMap<(SpaceId, DocumentId), Vec<Sender<()>>>,
    /// The last commit that an edit needs, and the last that is on disk.
    edited: CommitId,
    committed: CommitId,
    savers: BTreeMap<CommitId, Vec<oneshot::Sender<()>>>,
}

struct Running {
    engine: Recorded,
    hands: Hands,
    /// What its queue had no room for. It goes first when there is room.
    held: Option<Task>,
}

/// What another thread is to do.
enum Task {
    Network(NetCommand),
    Store(Request),
    Work(Box<Work>),
}

struct Waiting {
    answer: oneshot::Sender<Result<Reply, CommandError>>,
    /// The document that the answer opens. Closed again if nobody is there to take it.
    opens: Option<(SpaceId, DocumentId)>,
}

/// What was let go of. Done by whoever takes the next turn, because a handle may be dropped inside a closure.
enum Deferred {
    Close(SpaceId, DocumentId),
    Forget(CommandId),
    Shutdown,
}

/// The lock, held.
struct Held<'a> {
    replica: &'a Replica,
    state: std::sync::MutexGuard<'a, State>,
    panicking: bool,
}

impl Replica {
    pub(crate) fn new(
        engine: Recorded,
        hands: Hands,
        device: DeviceId,
        peer_id: String,
        clock: Clock,
        finished: Receiver<()>,
        salvaged: Option<Salvaged>,
    ) -> Self {
        let storage = engine.storage();
        let state = State {
            running: Ok(Running { engine, hands, held: None }),
            commands: BTreeMap::new(),
            next_command: 1,
            shutdown: None,
            events: Broadcast::default(),
            watchers: HashMap::new(),
            edited: CommitId::default(),
            committed: CommitId::default(),
            savers: BTreeMap::new(),
        };
        Self {
            device,
            peer_id,
            storage,
            clock,
            span: tracing::info_span!("replica", device = format_args!("{device:.8}")),
            state: Turnstile::new(state),
            holder: AtomicUsize::new(0),
            deferred: Mutex::new(Vec::new()),
            due: AtomicU64::new(NEVER),
            asleep_until: AtomicU64::new(NEVER),
            network_full: AtomicBool::new(false),
            finished,
            salvaged,
        }
    }

    pub(crate) fn salvaged(&self) -> Option<&Salvaged> {
        self.salvaged.as_ref()
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }

    pub(crate) fn peer_id(&self) -> &str {
        &self.peer_id
    }

    pub(crate) fn storage(&self) -> (StorageId, u64) {
        self.storage
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// One turn with one piece of news.
    pub(crate) fn handle(&self, input: Input) {
        self.turn(|state, now| {
            if let Ok(running) = &mut state.running {
                trace!(?input, "input");
                running.engine.handle(now, input);
            }
        });
    }

    /// The same for the driver, which lets everyone else go first.
    pub(crate) fn handle_last(&self, input: Input) {
        self.state.let_others_go_first();
        self.handle(input);
    }

    /// Drains what a new engine has to say.
    pub(crate) fn begin(&self) {
        self.turn(|_, _| ());
    }

    /// Drains what was held back for want of room in the network's queue, if anything was.
    pub(crate) fn resume(&self) {
        if self.network_full.load(Ordering::SeqCst) {
            self.turn(|_, _| ());
        }
    }

    /// Has the store look whether it is still where it was opened.
    pub(crate) fn check_store(&self) {
        self.look(|state| {
            if let Ok(running) = &state.running {
                running.hands.store.check();
            }
        });
    }

    /// Asks the engine something; `None` when the replica is closed. Not a turn: nothing happens that would have to be drained.
    pub(crate) fn ask<T>(&self, f: impl FnOnce(&mut Recorded) -> T) -> Option<T> {
        self.look(|state| state.running.as_mut().ok().map(|running| f(&mut running.engine)))
    }

    /// As [`Self::ask`], about a document.
    fn ask_of_document<T>(
        &self,
        f: impl FnOnce(&mut Recorded) -> Result<T, DocumentError>,
    ) -> Result<T, DocumentError> {
        self.look(|state| {
            let running = state.running.as_mut().map_err(|reason| DocumentError::Stopped(reason.clone()))?;
            f(&mut running.engine)
        })
    }

    /// Gives the engine a command. The future waits for the answer; dropping it gives up.
    pub(crate) fn command(self: &Arc<Self>, command: Command) -> Result<Answer, CommandError> {
        let opens = match &command {
            Command::CreateDocument { space, document, .. } | Command::OpenDocument { space, document } => {
                Some((*space, *document))
            }
            Command::CreateSpace { .. }
            | Command::Invite { .. }
            | Command::Join { .. }
            | Command::LeaveSpace { .. }
            | Command::VoidEntry { .. }
            | Command::WaitSynced { .. }
            | Command::ReadFeed { .. }
            | Command::MeasureUsage { .. }
            | Command::Dial { .. }
            | Command::ForgetPeer { .. }
            | Command::Block { .. }
            | Command::Unblock { .. }
            | Command::NameDevice { .. }
            | Command::ForgetAddress { .. }
            | Command::Forget(_)
            | Command::Shutdown => None,
        };
        self.turn(|state, now| {
            let running = match &mut state.running {
                Ok(running) => running,
                Err(reason) => return Err(CommandError::Stopped(reason.clone())),
            };
            if state.commands.len() >= COMMANDS_PENDING_MAX {
                return Err(CommandError::Invalid(format!(
                    "{} commands are waiting for an answer, limit {COMMANDS_PENDING_MAX}: wait for some of them",
                    state.commands.len()
                )));
            }
            let id = CommandId(state.next_command);
            state.next_command += 1;
            let (answer, receiver) = oneshot::channel();
            state.commands.insert(id, Waiting { answer, opens });
            trace!(?id, ?command, "command");
            running.engine.handle(now, Input::Command(id, command));
            Ok(Answer { replica: self.clone(), id, receiver, opens, taken: false })
        })
    }

    pub(crate) fn edit<T, E: From<DocumentError> + From<EditError>>(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.edit_by(space, document, |engine, now, panic| engine.edit(now, space, document, caught(f, panic)))
    }

    /// Someone who edits a document at versions of its own.
    pub(crate) fn editor(&self, space: &SpaceId, document: &DocumentId) -> Result<Editor, DocumentError> {
        self.ask_of_document(|engine| engine.editor(space, document))
    }

    /// The same by an editor, at the version that it has seen. Returns that after the edit, too.
    pub(crate) fn edit_at<T, E: From<DocumentError> + From<EditError>>(
        &self,
        editor: &mut Editor,
        heads: &[ChangeHash],
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Vec<ChangeHash>), E> {
        let (space, document) = (editor.space(), editor.document());
        self.edit_by(&space, &document, |engine, now, panic| engine.edit_at(now, editor, heads, caught(f, panic)))
    }

    /// Has the engine `make` an edit, which says with what its closure has panicked.
    fn edit_by<T, E: From<DocumentError>>(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        make: impl FnOnce(&mut Recorded, Now, &mut Panic) -> Result<(T, Option<CommitId>), E>,
    ) -> Result<T, E> {
        // While somebody reads a snapshot of it, an edit copies the document: not in the lock, where it would hold up all others.
        let copy = self.ask(|engine| engine.shared(space, document)).flatten().map(Shared::copy);
        let mut panic = None;
        let result = self.turn(|state, now| {
            let running = state.running.as_mut().map_err(|reason| E::from(DocumentError::Stopped(reason.clone())))?;
            if let Some(copy) = copy {
                running.engine.own(space, document, copy);
            }
            let (value, commit) = make(&mut running.engine, now, &mut panic)?;
            state.edited = state.edited.max(commit.unwrap_or_default());
            Ok(value)
        });
        match panic {
            Some(payload) => resume_unwind(payload),
            None => result,
        }
    }

    /// A private copy of a document, for changes that are made away from the lock.
    pub(crate) fn draft(&self, space: &SpaceId, document: &DocumentId) -> Result<Draft, DocumentError> {
        self.turn(|state, now| {
            let running = state.running.as_mut().map_err(|reason| DocumentError::Stopped(reason.clone()))?;
            running.engine.draft(now, space, document)
        })
    }

    /// Makes a draft part of its document. Says whether there was anything in it. What takes long is done before the lock is
    /// taken.
    pub(crate) fn publish(&self, draft: &mut Draft) -> Result<bool, DocumentError> {
        loop {
            draft.finish();
            let published = self.turn(|state, now| {
                let running = state.running.as_mut().map_err(|reason| DocumentError::Stopped(reason.clone()))?;
                let published = running.engine.publish(now, draft)?;
                if let Published::Done(commit) = &published {
                    state.edited = state.edited.max(commit.unwrap_or_default());
                }
                Ok::<_, DocumentError>(published)
            });
            match published? {
                Published::Done(commit) => return Ok(commit.is_some()),
                Published::Behind(ahead) => draft.catch_up(ahead)?,
            }
        }
    }

    /// A document as it is, or was at `heads`, to be read away from the lock.
    pub(crate) fn snapshot(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<Snapshot, DocumentError> {
        self.ask_of_document(|engine| engine.snapshot(space, document, heads))
    }

    /// One change of a document. Without a snapshot, as that would make the next edit copy the document.
    pub(crate) fn change(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        hash: &ChangeHash,
    ) -> Result<Option<ChangeInfo>, DocumentError> {
        self.ask_of_document(|engine| engine.view(space, document, None).map(|view| view.change(hash)))
    }

    /// What is new in a document since the version `seen`.
    pub(crate) fn follow(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        seen: &[ChangeHash],
    ) -> Result<Followed, DocumentError> {
        self.ask_of_document(|engine| engine.follow(space, document, seen))
    }

    /// Waits until every edit made so far is on disk.
    pub(crate) async fn saved(&self) -> Result<(), Stopped> {
        let waiting = self.look(|state| {
            if state.committed >= state.edited {
                return Ok(None);
            }
            if let Some(reason) = state.stopped() {
                return Err(Stopped { reason, is_tried_again: state.is_tried_again() });
            }
            let (sender, receiver) = oneshot::channel();
            let savers = state.savers.entry(state.edited).or_default();
            savers.retain(|saver| !saver.is_canceled());
            savers.push(sender);
            Ok(Some(receiver))
        })?;
        match waiting {
            Some(receiver) => receiver.await.map_err(|_| self.stopped_error()),
            None => Ok(()),
        }
    }

    pub(crate) fn events(&self) -> Events {
        self.look(|state| {
            let events = state.events.subscribe();
            if state.running.is_err() {
                state.events = Broadcast::default();
            }
            events
        })
    }

    /// A token whenever the document has changed; many changes may be one token. Ends with the replica.
    pub(crate) fn watch(&self, space: SpaceId, document: DocumentId) -> Receiver<()> {
        let (sender, receiver) = async_channel::bounded(1);
        self.look(|state| {
            if state.running.is_ok() {
                let watchers = state.watchers.entry((space, document)).or_default();
                watchers.retain(|watcher| !watcher.is_closed());
                watchers.push(sender);
            }
        });
        receiver
    }

    /// Why no more edits are taken, if so.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.look(|state| state.stopped())
    }

    fn stopped_error(&self) -> Stopped {
        self.look(|state| Stopped {
            reason: state.stopped().unwrap_or_else(|| "it is being closed".to_owned()),
            is_tried_again: state.is_tried_again(),
        })
    }

    /// Lets go of one opening of a document. Callable from anywhere.
    pub(crate) fn close_document(&self, space: SpaceId, document: DocumentId) {
        self.defer(Deferred::Close(space, document));
    }

    /// Begins an orderly end. Callable from anywhere; [`Self::finished`] says when it is over.
    pub(crate) fn shut_down(&self) {
        self.defer(Deferred::Shutdown);
    }

    /// Returns when every thread of the replica is done and the store is closed.
    pub(crate) async fn finished(&self) {
        // Nothing is ever sent: the channel closes when the last thread drops its end.
        let _ = self.finished.recv().await;
    }

    /// Ends the replica at once: pending calls fail with `reason`, threads finish their queues and end.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn close(&self, reason: &str) {
        self.turn(|state, _| state.close(reason));
    }

    /// Until when the driver may sleep. Remembered, so that a turn that brings the deadline nearer wakes it.
    pub(crate) fn sleep_until(&self) -> Option<Timestamp> {
        loop {
            let due = self.due.load(Ordering::SeqCst);
            self.asleep_until.store(due, Ordering::SeqCst);
            // A turn stores `due`, then reads `asleep_until`; this is the other way round, so one of us sees the other.
            if self.due.load(Ordering::SeqCst) == due {
                return (due != NEVER).then_some(Timestamp(due));
            }
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn defer(&self, deferred: Deferred) {
        self.deferred.lock().push(deferred);
        if self.holder.load(Ordering::Relaxed) != this_thread() {
            self.turn(|_, _| ());
        }
    }

    /// Takes the lock for something that gives the engine no news, so that there is nothing to drain and no deadline changes.
    fn look<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.lock().state)
    }

    fn turn<T>(&self, f: impl FnOnce(&mut State, Now) -> T) -> T {
        let _span = self.span.enter();
        let mut held = self.lock();
        let now = self.clock.now();
        let deferred = std::mem::take(&mut *self.deferred.lock());
        for deferred in deferred {
            held.state.let_go(deferred, now);
        }
        let result = f(&mut held.state, now);
        held.state.drain(&self.clock);
        self.tell_driver(&mut held.state);
        result
    }

    /// Wakes the driver if it would sleep too long, or if it has to make room. (What is in its queue wakes it anyway.)
    fn tell_driver(&self, state: &mut State) {
        let (due, held) = match &mut state.running {
            Ok(running) => (running.due(), running.is_held_by_network()),
            Err(_) => (NEVER, false),
        };
        self.due.store(due, Ordering::SeqCst);
        self.network_full.store(held, Ordering::SeqCst);
        let wake = held || due < self.asleep_until.load(Ordering::SeqCst);
        if let (true, Ok(running)) = (wake, &state.running) {
            // If the queue is full the driver is awake.
            let _ = running.hands.network.try_send(Order::Wake);
        }
    }

    fn lock(&self) -> Held<'_> {
        let me = this_thread();
        assert_ne!(
            self.holder.load(Ordering::Relaxed),
            me,
            "a replica was used inside one of its own `edit` closures: use the `Edit` given to it"
        );
        let state = self.state.lock(me);
        self.holder.store(me, Ordering::Relaxed);
        Held { replica: self, state, panicking: thread::panicking() }
    }
}

impl Hands {
    /// Queues it, or gives it back if its queue is full. A queue whose end is gone belongs to a replica that is ending.
    fn give(&mut self, task: Task) -> Result<(), Task> {
        match task {
            Task::Network(command) => match self.network.try_send(Order::Network(command)) {
                Err(TrySendError::Full(Order::Network(command))) => Err(Task::Network(command)),
                Ok(()) | Err(TrySendError::Full(Order::Wake) | TrySendError::Closed(_)) => Ok(()),
            },
            Task::Store(request) => self.store.give(request).map_err(Task::Store),
            Task::Work(work) => self.work.give(work).map_err(Task::Work),
        }
    }
}

impl Running {
    /// When the engine wants to be called next.
    fn due(&mut self) -> u64 {
        self.engine.poll_timeout().map_or(NEVER, |(at, _)| at.0)
    }

    fn is_held_by_network(&self) -> bool {
        matches!(self.held, Some(Task::Network(_)))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.panicking {
            // Nothing can be said about the engine's state now. What was saved is safe.
            error!("the engine panicked");
            self.state.close("its engine panicked, which is a bug; what was saved is safe: open the replica again");
        }
        self.replica.holder.store(0, Ordering::Relaxed);
    }
}

impl State {
    fn stopped(&self) -> Option<String> {
        match &self.running {
            Ok(running) => running.engine.stopped().map(str::to_owned),
            Err(reason) => Some(reason.clone()),
        }
    }

    fn is_tried_again(&self) -> bool {
        self.running.as_ref().is_ok_and(|running| running.engine.is_tried_again())
    }

    fn let_go(&mut self, deferred: Deferred, now: Now) {
        let Ok(running) = &mut self.running else { return };
        match deferred {
            Deferred::Close(space, document) => running.engine.close(&space, &document),
            Deferred::Forget(command) => {
                if self.commands.remove(&command).is_some() {
                    // The command that forgets is not answered and needs no waiting entry.
                    let id = CommandId(self.next_command);
                    self.next_command += 1;
                    running.engine.handle(now, Input::Command(id, Command::Forget(command)));
                }
            }
            Deferred::Shutdown => {
                if self.shutdown.is_none() {
                    debug!("shutting down");
                    let id = CommandId(self.next_command);
                    self.next_command += 1;
                    self.shutdown = Some(id);
                    running.engine.handle(now, Input::Command(id, Command::Shutdown));
                }
            }
        }
    }

    /// Puts every output where it belongs, until there is none or the queue it goes to is full.
    fn drain(&mut self, clock: &Clock) {
        loop {
            let Ok(running) = &mut self.running else { return };
            if let Some(task) = running.held.take() {
                running.held = running.hands.give(task).err();
            } else if let Some(output) = running.engine.poll_output() {
                trace!(?output, "output");
                self.execute(output);
            } else if let Some(input) = running.hands.store.take_reply().or_else(|| running.hands.work.take_reply()) {
                running.engine.handle(clock.now(), input);
            } else {
                return;
            }
            if self.running.as_ref().is_ok_and(|running| running.held.is_some()) {
                return;
            }
        }
    }

    fn execute(&mut self, output: Output) {
        let task = match output {
            Output::Reply(id, result) => return self.answer(id, result),
            Output::Event(event) => return self.tell(&event),
            Output::Send { session, bytes } => Task::Network(NetCommand::Send { session, bytes }),
            Output::Close { session, reason } => Task::Network(NetCommand::Close { session, reason }),
            Output::Dial { address, peer } => Task::Network(NetCommand::Dial { address, peer }),
            Output::Admit { peer } => Task::Network(NetCommand::Admit { peer }),
            Output::Subscribe { topic } => Task::Network(NetCommand::Subscribe { topic }),
            Output::Unsubscribe { topic } => Task::Network(NetCommand::Unsubscribe { topic }),
            Output::Publish { topic, bytes } => Task::Network(NetCommand::Publish { topic, bytes }),
            Output::Judge { hint, verdict } => Task::Network(NetCommand::Judge { hint, verdict }),
            Output::Store(request) => Task::Store(request),
            Output::Work(work) => Task::Work(work),
        };
        if let Ok(running) = &mut self.running {
            running.held = running.hands.give(task).err();
        }
    }

    fn answer(&mut self, id: CommandId, result: Result<Reply, CommandError>) {
        if self.shutdown == Some(id) {
            match result {
                Ok(_) => self.close("it was shut down"),
                Err(reason) => self.close(&reason.to_string()),
            }
            return;
        }
        if let Ok(Reply::DocumentCreated { commit: Some(commit) }) = &result {
            self.edited = self.edited.max(*commit);
        }
        let Some(Waiting { answer, opens }) = self.commands.remove(&id) else { return };
        // If nobody takes the answer, nobody will let go of what it opened.
        if let (Err(Ok(_)), Some((space, document)), Ok(running)) = (answer.send(result), opens, &mut self.running) {
            running.engine.close(&space, &document);
        }
    }

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Committed(id) => {
                self.committed = self.committed.max(*id);
                let later = self.savers.split_off(&CommitId(id.0 + 1));
                for saver in std::mem::replace(&mut self.savers, later).into_values().flatten() {
                    let _ = saver.send(());
                }
            }
            Event::DocumentChanged { space, document, .. } => {
                if let Some(watchers) = self.watchers.get_mut(&(*space, *document)) {
                    // A full queue holds a token that will be taken after this change.
                    watchers.retain(|watcher| !matches!(watcher.try_send(()), Err(TrySendError::Closed(()))));
                    if watchers.is_empty() {
                        self.watchers.remove(&(*space, *document));
                    }
                }
            }
            Event::Stopped { reason } => {
                error!(%reason, "no edits are taken");
                self.savers.clear();
            }
            Event::Resumed
            | Event::FeedGrew { .. }
            | Event::PeerConnected { .. }
            | Event::PeerDisconnected { .. }
            | Event::Listening { .. }
            | Event::ListeningEnded { .. }
            | Event::MembersChanged { .. }
            | Event::SpaceJoined { .. }
            | Event::JoinRefused { .. }
            | Event::InSync { .. }
            | Event::RunRefused { .. }
            | Event::IdentityCloned { .. }
            | Event::DocumentForked { .. }
            | Event::StrangerRefused { .. }
            | Event::PeerMisbehaved { .. }
            | Event::DocumentDamaged { .. }
            | Event::DocumentMended { .. } => {}
        }
        self.events.send(event);
    }

    /// Lets go of everything: queues end, and with them the threads; whoever waits is told.
    fn close(&mut self, reason: &str) {
        if self.running.is_ok() {
            debug!(reason, "closed");
            self.running = Err(reason.to_owned());
        }
        self.commands.clear();
        self.savers.clear();
        self.watchers.clear();
        self.events = Broadcast::default();
    }
}

/// An edit's closure. A panic becomes an error while the engine is on the stack, so that it rolls back as for any other.
fn caught<T, E: From<DocumentError>>(
    f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    panic: &mut Panic,
) -> impl FnOnce(&mut Edit<'_>) -> Result<T, E> {
    |edit| {
        catch_unwind(AssertUnwindSafe(|| f(edit))).unwrap_or_else(|payload| {
            *panic = Some(payload);
            Err(E::from(DocumentError::Stopped("the closure panicked".to_owned())))
        })
    }
}

/// A number that no other living thread has, and that is not zero.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

/// An answer under way. Dropped before it has come, the command is forgotten.
pub(crate) struct Answer {
    replica: Arc<Replica>,
    id: CommandId,
    receiver: oneshot::Receiver<Result<Reply, CommandError>>,
    opens: Option<(SpaceId, DocumentId)>,
    taken: bool,
}

impl Future for Answer {
    type Output = Result<Reply, CommandError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.receiver).poll(cx));
        self.taken = true;
        Poll::Ready(result.unwrap_or_else(|_| Err(CommandError::Stopped(self.replica.stopped_error().reason))))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        self.receiver.close();
        match (self.receiver.try_recv(), self.opens) {
            // It came, and nobody looked.
            (Ok(Some(Ok(_))), Some((space, document))) => self.replica.close_document(space, document),
            (Ok(Some(_)), _) => {}
            (Ok(None) | Err(_), _) => self.replica.defer(Deferred::Forget(self.id)),
        }
    }
}

/// What handles hold. When the last is dropped the replica ends in order, in the background.
pub(crate) struct Owner {
    pub(crate) replica: Arc<Replica>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.replica.shut_down();
    }
}
