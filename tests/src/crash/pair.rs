//! Two replicas in one process: ours on a real store over a disk that can fail, the other one on a model of a store, and
//! a link between them. Time is virtual, and whatever is asked for happens at once.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::sync::Arc;

use anabranch_engine::document::Json;
use anabranch_engine::id::SpaceId;
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::DOCUMENTS_RESIDENT_MAX;
use anabranch_engine::storage::{self, CommitId, Failure, Request};
use anabranch_engine::time::{Now, Timestamp};
use anabranch_engine::{
    Begins, Command, CommandError, CommandId, Config, Counters, DocumentError, Engine, Event, Input, Output, Reply,
    SessionId,
};
use anabranch_store::Store;
use anabranch_store::backend::crashable::Disk;
use anabranch_store::conformance::Model;

use super::book::{Book, Listed, Place};
use crate::sim::guard::SimGuard;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one on the disk.
    Ours = 0,
    /// The one that never fails.
    Other = 1,
}

const SECOND: u64 = 1_000_000;
/// Everything that is waited for comes within this long, in virtual time.
const PATIENCE: u64 = 120 * SECOND;

/// Both replicas, the disk, the book.
pub struct Pair {
    /// What our store stands on.
    pub disk: Disk,
    /// What our replica wrote.
    pub book: Book,
    /// A damaged file to make our store of.
    pub wreck: Option<Vec<u8>>,
    /// What the tokens that we write begin with. Those of the other one begin with `b`.
    pub letter: char,
    /// Spaces made so far.
    pub spaces: Vec<SpaceId>,
    /// Documents made so far, and whether the other one may write them.
    pub documents: Vec<Place>,
    processes: [Option<Process>; 2],
    model: Model,
    /// Dials get through.
    linked: bool,
    connection: Option<u64>,
    connections: u64,
    now: u64,
    starts: u64,
    seed: u64,
    tokens: u64,
    news: VecDeque<(Side, u64, Input)>,
}

struct Process {
    number: u64,
    engine: Engine,
    /// None for the other one, whose rows outlive it in the pair.
    store: Option<Store>,
    guard: SimGuard,
    answers: BTreeMap<CommandId, Result<Reply, CommandError>>,
    commands: u64,
    edited: CommitId,
    saved: CommitId,
    /// Documents damaged and mended.
    told: Vec<Event>,
}

impl Side {
    fn across(self) -> Self {
        match self {
            Self::Ours => Self::Other,
            Self::Other => Self::Ours,
        }
    }

    fn address(self) -> String {
        format!("lab/{}", self as usize)
    }

    fn session(self, connection: u64) -> SessionId {
        SessionId(connection * 2 + self as u64)
    }
}

impl Pair {
    /// Two new replicas that do not run yet, ours on this disk.
    pub fn new(disk: Disk, seed: u64) -> Self {
        Self {
            disk,
            book: Book::new(),
            wreck: None,
            letter: 'a',
            spaces: Vec::new(),
            documents: Vec::new(),
            processes: [None, None],
            model: Model::default(),
            linked: false,
            connection: None,
            connections: 0,
            now: 0,
            starts: 0,
            seed,
            tokens: 0,
            news: VecDeque::new(),
        }
    }

    /// The same two, neither of them running, ours on another disk.
    pub fn on(&self, disk: Disk) -> Self {
        Self {
            disk,
            book: self.book.clone(),
            wreck: self.wreck.clone(),
            letter: self.letter,
            spaces: self.spaces.clone(),
            documents: self.documents.clone(),
            processes: [None, None],
            model: self.model.clone(),
            linked: false,
            connection: None,
            connections: 0,
            now: self.now,
            // Other seeds than in the life before, so that no actor is continued.
            starts: self.starts + 1_000,
            seed: self.seed,
            tokens: self.tokens,
            news: VecDeque::new(),
        }
    }

    /// Opens our store and starts our replica on it.
    ///
    /// # Errors
    /// The words in which the store or the engine refuses.
    pub fn start_ours(&mut self) -> Result<(), String> {
        if self.processes[0].is_some() {
            return Ok(());
        }
        let store = Store::open_on(self.disk.plug()).map_err(|error| error.to_string())?;
        self.start_on(store)
    }

    /// Starts our replica on an open store.
    ///
    /// # Errors
    /// As [`Pair::start_ours`].
    pub fn start_on(&mut self, store: Store) -> Result<(), String> {
        let image = store.image().map_err(|failure| failure.to_string())?;
        self.begin(Side::Ours, Some(store), image)?;
        self.turns();
        self.stopped().map_or(Ok(()), Err)
    }

    /// Makes our store, on our empty disk, of what is readable of the wreck, and starts our replica on it. From then on the
    /// book is about this store.
    ///
    /// # Errors
    /// As [`Pair::start_ours`].
    pub fn salvage(&mut self) -> Result<(), String> {
        let wreck = self.wreck.clone().ok_or("there is no wreck")?;
        let (store, _) =
            Store::salvage_with_backend(Cursor::new(wreck), self.disk.backend()).map_err(|error| error.to_string())?;
        let image = store.image().map_err(|failure| failure.to_string())?;
        let runs = super::images::runs(&store)?;
        self.wreck = None;
        self.disk.record();
        self.book.resume_with(image, runs);
        self.start_on(store)
    }

    /// What our replica said of documents that were damaged and mended, since it started.
    pub fn events(&self) -> Vec<Event> {
        self.processes[0].as_ref().map(|process| process.told.clone()).unwrap_or_default()
    }

    /// What a replica that runs has counted since it started.
    pub fn counters(&self, side: Side) -> Counters {
        self.processes[side as usize].as_ref().map(|process| process.engine.counters()).unwrap_or_default()
    }

    /// Our store was made of the wreck.
    pub fn is_salvaged(&self) -> bool {
        self.wreck.is_none()
    }

    /// Checks that every open document of ours is what some of its edits make.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check_contents(&mut self) -> Result<(), String> {
        let contents = self.contents();
        contents.iter().try_for_each(|(place, json)| self.book.check_prefix(place, json))
    }

    /// Starts the other replica.
    pub fn start_other(&mut self) {
        if self.processes[1].is_none() {
            let image = self.model.image();
            self.begin(Side::Other, None, image).expect("a model is never damaged");
            self.turns();
        }
    }

    fn begin(&mut self, side: Side, store: Option<Store>, image: storage::Image) -> Result<(), String> {
        self.starts += 1;
        let mut seed = [side as u8; 32];
        seed[..8].copy_from_slice(&self.seed.to_be_bytes());
        seed[8..16].copy_from_slice(&self.starts.to_be_bytes());
        let guard = SimGuard::default();
        let config = Config { guard: Arc::new(guard.clone()), slot: None, residents_max: DOCUMENTS_RESIDENT_MAX };
        let engine = Engine::new(config, key(side), seed, self.clock(), image)?;
        let process = Process {
            number: self.starts,
            engine,
            store,
            guard,
            answers: BTreeMap::new(),
            commands: 0,
            edited: CommitId::default(),
            saved: CommitId::default(),
            told: Vec::new(),
        };
        self.processes[side as usize] = Some(process);
        self.give(side, Input::Listening { address: side.address() });
        Ok(())
    }

    /// Ends our replica: its store is closed as it is.
    pub fn stop_ours(&mut self) {
        self.disconnect("it ended");
        self.processes[0] = None;
    }

    /// Shuts our replica down in order, and closes its store.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn shut_down(&mut self) -> Result<(), String> {
        let result = self.ask(Side::Ours, Command::Shutdown);
        self.stop_ours();
        result.map(|_| ())
    }

    /// From now on dials get through, or do not any more.
    pub fn link(&mut self, linked: bool) {
        self.linked = linked;
        if !linked {
            self.disconnect("the link was cut");
        } else if self.connection.is_none() && self.processes.iter().all(Option::is_some) {
            self.connect(Side::Ours);
        }
        self.turns();
    }

    /// Gives a command and waits for the answer.
    ///
    /// # Errors
    /// The answer is one, our replica has stopped or does not run, or no answer comes in two virtual minutes.
    pub fn ask(&mut self, side: Side, command: Command) -> Result<Reply, String> {
        let process = self.processes[side as usize].as_mut().ok_or("it does not run")?;
        process.commands += 1;
        let id = CommandId(process.commands);
        let text = format!("{command:?}");
        self.give(side, Input::Command(id, command));
        let answered = self.wait(PATIENCE, |pair| {
            let process = pair.processes[side as usize].as_ref();
            process.is_none_or(|process| process.answers.contains_key(&id))
        });
        match self.processes[side as usize].as_mut().and_then(|process| process.answers.remove(&id)) {
            Some(answer) => answer.map_err(|error| error.to_string()),
            None => Err(answered.err().unwrap_or_else(|| format!("no answer to {text:.80}"))),
        }
    }

    /// Writes the next token into a document, which is opened.
    ///
    /// # Errors
    /// The document cannot be opened or edited.
    pub fn edit(&mut self, side: Side, place: Place, text: usize) -> Result<String, String> {
        self.open(side, place)?;
        self.tokens += 1;
        let letter = if side == Side::Ours { self.letter } else { 'b' };
        let token = format!("{letter}{}", self.tokens);
        let now = self.clock();
        let process = self.processes[side as usize].as_mut().ok_or("it does not run")?;
        let edit = process.engine.edit::<_, DocumentError>(now, &place.0, &place.1, |edit| {
            if edit.get("/count").is_none() {
                edit.set_counter("/count", 0)?;
                edit.set("/text", "")?;
            }
            edit.set(format!("/{token}"), 1)?;
            edit.increment("/count", 1)?;
            if text > 0 {
                edit.splice_text("/text", 0, 0, &token.repeat(text.div_ceil(token.len())))?;
            }
            Ok(())
        });
        let ((), commit) = edit.map_err(|error| error.to_string())?;
        process.edited = process.edited.max(commit.unwrap_or_default());
        self.book.wrote(place, letter, &token);
        self.turns();
        Ok(token)
    }

    /// Waits until our edits are saved.
    ///
    /// # Errors
    /// Our replica has stopped or does not run.
    pub fn saved(&mut self) -> Result<(), String> {
        let saved = |pair: &mut Self| pair.processes[0].as_ref().is_none_or(|process| process.saved >= process.edited);
        self.wait(PATIENCE, saved)?;
        if let Some(reason) = self.stopped() {
            return Err(reason);
        }
        if saved(self) { Ok(()) } else { Err("edits are not saved".to_owned()) }
    }

    /// Opens a document and gives its content; that of an empty one if there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&mut self, side: Side, place: Place) -> Result<Json, String> {
        let (space, document) = place;
        let running = |pair: &Self| {
            let view = pair.processes[side as usize].as_ref()?.engine.view(&space, &document, None).ok()?;
            Some(view.json())
        };
        if running(self).is_none() {
            let process = self.processes[side as usize].as_ref().ok_or("it does not run")?;
            if !process.engine.documents(&space).contains(&document) {
                return Ok(serde_json::json!({}));
            }
            self.ask(side, Command::OpenDocument { space, document })?;
        }
        running(self).ok_or_else(|| "it was opened and is not open".to_owned())
    }

    /// Waits until both hold the same in every space that both are members of.
    ///
    /// # Errors
    /// They do not agree in two virtual minutes.
    pub fn agree(&mut self) -> Result<(), String> {
        self.link(true);
        let mut apart = String::new();
        self.wait(PATIENCE, |pair| match pair.apart() {
            Some(reason) => {
                apart = reason;
                false
            }
            None => {
                apart.clear();
                true
            }
        })?;
        if apart.is_empty() { Ok(()) } else { Err(format!("the two do not agree: {apart}")) }
    }

    /// What keeps the two from being equal.
    fn apart(&mut self) -> Option<String> {
        let [Some(ours), Some(other)] = &mut self.processes else { return Some("one does not run".to_owned()) };
        if ours.saved < ours.edited {
            return Some("ours is not saved".to_owned());
        }
        let theirs = other.engine.spaces();
        for space in ours.engine.spaces() {
            let Some(there) = theirs.iter().find(|there| there.space == space.space && there.role.is_some()) else {
                continue;
            };
            let members = (ours.engine.members(&space.space), other.engine.members(&space.space));
            if space.role.is_none() || members.0 != members.1 {
                return Some(format!("the members of {} differ", space.space));
            }
            if space.root != there.root {
                return Some(format!("{} documents here, {} there", space.documents, there.documents));
            }
        }
        None
    }

    /// Ids of all documents of a replica.
    pub fn places(&mut self, side: Side) -> Vec<Place> {
        let Some(process) = self.processes[side as usize].as_mut() else { return Vec::new() };
        let spaces: Vec<SpaceId> = process.engine.spaces().into_iter().map(|space| space.space).collect();
        let documents = |space: SpaceId| {
            process.engine.documents(&space).into_iter().map(move |document| (space, document)).collect::<Vec<_>>()
        };
        spaces.into_iter().flat_map(documents).collect()
    }

    /// Id, name and role of every space of a replica.
    pub fn spaces_of(&mut self, side: Side) -> Vec<Listed> {
        let process = self.processes[side as usize].as_mut();
        let spaces = process.map(|process| process.engine.spaces()).unwrap_or_default();
        spaces.into_iter().map(|space| (space.space, space.name, space.role)).collect()
    }

    /// A new document of a replica, which exists with its first edit.
    ///
    /// # Errors
    /// It does not run, or may not make one.
    pub fn new_document(&mut self, side: Side, space: SpaceId) -> Result<Place, String> {
        let process = self.processes[side as usize].as_mut().ok_or("it does not run")?;
        let place = (space, process.engine.new_document_id());
        let (space, document) = place;
        self.ask(side, Command::CreateDocument { space, document, begins: Begins::WithFirstEdit })?;
        self.documents.push(place);
        Ok(place)
    }

    /// An address at which a replica is dialed.
    pub fn address(&self, side: Side) -> String {
        side.address()
    }

    /// Why our replica takes no more edits, if so.
    pub fn stopped(&self) -> Option<String> {
        self.processes[0].as_ref()?.engine.stopped().map(str::to_owned)
    }

    /// Our replica runs, and would write if its disk had room.
    pub fn waits_for_room(&self) -> bool {
        let Some(process) = &self.processes[0] else { return false };
        let halted = process.store.as_ref().filter(|store| store.failed().is_none()).and_then(Store::halted);
        let ended = process.engine.stopped().is_some_and(|reason| reason.contains("shut down"));
        matches!(halted, Some(Failure::Full(_))) && !ended
    }

    /// Panics of automerge that were caught since the last call. There is never one.
    pub fn take_panics(&self) -> Vec<String> {
        self.processes.iter().flatten().flat_map(|process| process.guard.take_panics()).collect()
    }

    /// Virtual time passes.
    pub fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds * SECOND;
        self.turns();
        while self.advance(end) {
            self.turns();
        }
    }

    fn clock(&self) -> Now {
        Now { mono: Timestamp(self.now), wall_s: 1_767_225_600 + (self.now / SECOND) as i64 }
    }

    fn give(&mut self, side: Side, input: Input) {
        let now = self.clock();
        if let Some(process) = self.processes[side as usize].as_mut() {
            process.engine.handle(now, input);
        }
    }

    /// Runs until something is so, at most for some time. An error if our replica stops.
    fn wait(&mut self, within: u64, mut done: impl FnMut(&mut Self) -> bool) -> Result<(), String> {
        let end = self.now + within;
        loop {
            self.turns();
            if done(self) {
                return Ok(());
            }
            if let Some(reason) = self.stopped() {
                return Err(reason);
            }
            if !self.advance(end) {
                return Ok(());
            }
        }
    }

    /// Goes on to when something is due. False if nothing is before `end`, which it is then.
    fn advance(&mut self, end: u64) -> bool {
        let due = self.processes.iter_mut().flatten().filter_map(|process| process.engine.poll_timeout());
        let Some(next) = due.map(|(at, _)| at.0).min().filter(|at| *at <= end) else {
            self.now = end;
            return false;
        };
        self.now = next.max(self.now + 1);
        for side in [Side::Ours, Side::Other] {
            let process = self.processes[side as usize].as_mut();
            let due = process.and_then(|process| process.engine.poll_timeout());
            if due.is_some_and(|(at, _)| at.0 <= self.now) {
                self.give(side, Input::Timeout);
            }
        }
        true
    }

    /// Does everything that can be done without time passing.
    fn turns(&mut self) {
        loop {
            for side in [Side::Ours, Side::Other] {
                while let Some((number, output)) = self.processes[side as usize]
                    .as_mut()
                    .and_then(|process| Some((process.number, process.engine.poll_output()?)))
                {
                    self.execute(side, number, output);
                }
            }
            let Some((side, number, input)) = self.news.pop_front() else { return };
            if self.processes[side as usize].as_ref().is_some_and(|process| process.number == number) {
                self.give(side, input);
            }
        }
    }

    fn execute(&mut self, side: Side, number: u64, output: Output) {
        match output {
            Output::Reply(id, answer) => {
                if let Some(process) = self.processes[side as usize].as_mut() {
                    process.answers.insert(id, answer);
                }
            }
            Output::Event(event) => {
                let Some(process) = self.processes[side as usize].as_mut() else { return };
                match event {
                    Event::Committed(id) => process.saved = process.saved.max(id),
                    Event::DocumentDamaged { .. } | Event::DocumentMended { .. } => process.told.push(event),
                    _ => {}
                }
            }
            Output::Send { session, bytes } => {
                let Some(connection) = self.connection.filter(|connection| side.session(*connection) == session) else {
                    return;
                };
                self.news.push_back((side, number, Input::Written { session, bytes: bytes.len() }));
                let across = side.across();
                if let Some(there) = &self.processes[across as usize] {
                    let session = across.session(connection);
                    self.news.push_back((across, there.number, Input::Frame { session, bytes }));
                }
            }
            Output::Close { session, reason } => {
                if self.connection.is_some_and(|connection| side.session(connection) == session) {
                    self.disconnect(&reason);
                }
            }
            Output::Dial { address, .. } => {
                let both = self.processes.iter().all(Option::is_some);
                if self.linked && both && self.connection.is_none() && address == side.across().address() {
                    self.connect(side);
                } else {
                    let reason = "nobody is there".to_owned();
                    self.news.push_back((side, number, Input::DialFailed { address, reason }));
                }
            }
            Output::Store(request) => self.store(side, number, request),
            Output::Work(work) => {
                if let Some(process) = &self.processes[side as usize] {
                    let done = Box::new(work.run(&process.guard));
                    self.news.push_back((side, number, Input::Worked(done)));
                }
            }
            // Frames alone must do: there is no gossip here, and everybody is let in.
            Output::Admit { .. }
            | Output::Subscribe { .. }
            | Output::Unsubscribe { .. }
            | Output::Publish { .. }
            | Output::Judge { .. } => {}
        }
    }

    fn store(&mut self, side: Side, number: u64, request: Request) {
        if side == Side::Other {
            let reply = self.model.execute(request);
            return self.news.push_back((side, number, Input::Stored(reply)));
        }
        if let Request::Commit { rows, .. } = &request {
            let (documents, spaces) = (self.contents(), self.spaces_of(Side::Ours));
            self.book.ask(rows, documents, spaces, self.disk.steps());
        }
        let Some(store) = self.processes[0].as_ref().and_then(|process| process.store.as_ref()) else { return };
        let reply = store.execute(request);
        if matches!(reply, storage::Reply::Committed { result: Ok(()), .. }) {
            self.book.saved(self.disk.steps());
        }
        self.news.push_back((side, number, Input::Stored(reply)));
    }

    /// The content of our documents; null for those that are not in memory.
    fn contents(&mut self) -> BTreeMap<Place, Json> {
        let places = self.places(Side::Ours);
        let Some(process) = self.processes[0].as_ref() else { return BTreeMap::new() };
        let content =
            |place: &Place| process.engine.view(&place.0, &place.1, None).map_or(Json::Null, |view| view.json());
        places.into_iter().map(|place| (place, content(&place))).collect()
    }

    fn connect(&mut self, opener: Side) {
        self.connections += 1;
        let connection = self.connections;
        self.connection = Some(connection);
        for side in [opener.across(), opener] {
            let Some(process) = &self.processes[side as usize] else { continue };
            let (session, address) = (side.session(connection), side.across().address());
            let peer = key(side.across()).device();
            let input = Input::SessionOpened { session, peer, opener: side == opener, address };
            self.news.push_back((side, process.number, input));
        }
    }

    fn disconnect(&mut self, reason: &str) {
        let Some(connection) = self.connection.take() else { return };
        self.news.retain(|(_, _, input)| !matches!(input, Input::Frame { .. } | Input::Written { .. }));
        for side in [Side::Ours, Side::Other] {
            let Some(process) = &self.processes[side as usize] else { continue };
            let input = Input::SessionClosed { session: side.session(connection), reason: reason.to_owned() };
            self.news.push_back((side, process.number, input));
        }
    }
}

/// The identity of a replica.
fn key(side: Side) -> SecretKey {
    SecretKey::from_seed(&[0x40 + side as u8; 32])
}
