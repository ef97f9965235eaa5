//! A device that speaks the session protocol by hand: any message, any frame, with any key. What it hears it counts, and keeps
//! some of. It does not listen, and dials loopback only.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anabranch_engine::Input;
use anabranch_engine::engine::input::SessionId;
use anabranch_engine::id::{SpaceId, StorageId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::ENTRIES_PER_MESSAGE_MAX;
use anabranch_engine::space::membership::Membership;
use anabranch_engine::space::roles::Role;
use anabranch_engine::space::ticket::Ticket;
use anabranch_engine::sync::collection::Prefix;
use anabranch_engine::sync::session::{Session, Step};
use anabranch_engine::time::Timestamp;
use anabranch_engine::wire::frame::to_frames;
use anabranch_engine::wire::{Lane, Level, Message, Range, SpaceRoots, WireRun};
use anabranch_net::{NetCommand, NetConfig, NetLimits, Network};
use minicbor::bytes::ByteVec;
use tokio::runtime::Runtime;

use crate::processes::patience::Stopwatch;
use crate::sim::dice::Dice;

/// A step of the protocol that has not happened by then does not happen any more.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes that may wait to be written before the client waits. The network ends a session at 2 MiB.
const UNWRITTEN_MAX: usize = 512 << 10;
/// How long the other side may take nothing before the client goes on with something else.
const BLOCKED_MAX: Duration = Duration::from_secs(3);
/// Runs of others that are kept, to be sent again.
const RUNS_KEPT_MAX: usize = 64;

/// What came from the other side.
#[derive(Debug, Default)]
pub struct Heard {
    /// Sessions that were authenticated.
    pub opened: u64,
    /// Sessions that ended.
    pub closed: u64,
    /// Dials that led to nothing, those that our own network put off not counted.
    pub refused_dials: u64,
    /// Why the last session ended or the last dial failed.
    pub reason: String,
    /// Runs refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Why the last one was.
    pub refusal: String,
    /// Joins refused.
    pub joins_refused: u64,
    /// Questions for roots that were answered.
    pub answers: BTreeSet<u32>,
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Runs.
    pub runs: u64,
    /// Some of them.
    pub kept: Vec<WireRun>,
    /// Hints.
    pub hints: u64,
    /// Greatest number of bulk bytes that the other side says it has taken.
    pub credit: u64,
}

impl Heard {
    /// Runs refused for whatever reason.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

struct Talk {
    session: Session,
    is_open: bool,
    unwritten: usize,
    /// What the other side says it has.
    roots: Vec<SpaceRoots>,
}

/// How the client behaves where the protocol wants something of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Says that it has all that the other side has, so that it is sent nothing.
    Content,
    /// Answers what keeps a session open, and says nothing of what it has.
    Ignorant,
    /// As that, and never reports what it has taken in.
    Mean,
}

/// The client: one device, which may have several sessions.
pub struct Client {
    runtime: Rc<Runtime>,
    network: Network,
    seed: [u8; 32],
    key: SecretKey,
    ticket: Ticket,
    address: String,
    dice: Dice,
    clock: Stopwatch,
    talks: BTreeMap<SessionId, Talk>,
    asks: u32,
    /// How it behaves.
    pub manners: Manners,
    /// Frames that it says in place of its hello.
    pub opening: Option<Vec<Vec<u8>>>,
    /// What it knows of the membership log.
    pub log: Membership,
    /// What it has heard.
    pub heard: Heard,
    /// Messages and frames handed to the network.
    pub sent: u64,
}

impl Client {
    /// A device with this key, which will use this ticket at this address.
    ///
    /// # Errors
    /// Its network does not start.
    pub fn new(
        runtime: &Rc<Runtime>,
        seed: [u8; 32],
        ticket: &Ticket,
        address: &str,
        dice: Dice,
    ) -> Result<Self, String> {
        let _inside = runtime.enter();
        let network = Network::new(NetConfig { identity: &seed, listen: Vec::new(), limits: NetLimits::default() })
            .map_err(|error| error.to_string())?;
        Ok(Self {
            runtime: Rc::clone(runtime),
            network,
            seed,
            key: SecretKey::from_seed(&seed),
            ticket: ticket.clone(),
            address: address.to_owned(),
            dice,
            clock: Stopwatch::start(),
            talks: BTreeMap::new(),
            asks: 0,
            manners: Manners::Content,
            opening: None,
            log: Membership::unknown(ticket.space),
            heard: Heard::default(),
            sent: 0,
        })
    }

    /// The same device as another process, which dials another address.
    ///
    /// # Errors
    /// Its network does not start, or there is no session.
    pub fn at(&mut self, address: &str) -> Result<Self, String> {
        let dice = Dice::salted(self.dice.any());
        let mut other = Self::new(&self.runtime, self.seed, &self.ticket, address, dice)?;
        other.connect(Some(Vec::new()))?;
        Ok(other)
    }

    /// Its key.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// The space.
    pub fn space(&self) -> SpaceId {
        self.ticket.space
    }

    /// The secret key of its ticket's invite.
    pub fn invite(&self) -> SecretKey {
        SecretKey::from_seed(&self.ticket.invite_seed)
    }

    /// Its role, as far as it knows.
    pub fn role(&self) -> Option<Role> {
        self.log.role(&self.key.device())
    }

    /// Its dice.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Open sessions.
    pub fn sessions(&self) -> usize {
        self.talks.values().filter(|talk| talk.is_open).count()
    }

    /// There is an open session.
    pub fn is_open(&self) -> bool {
        self.sessions() > 0
    }

    /// Begins a dial, and does not wait.
    pub fn dial(&mut self) {
        let _inside = self.runtime.enter();
        self.network.execute(NetCommand::Dial { address: self.address.clone(), peer: None });
    }

    /// Opens one more session. Greets unless told not to.
    ///
    /// # Errors
    /// It is not opened: why.
    pub fn connect(&mut self, addresses: Option<Vec<String>>) -> Result<(), String> {
        let (opened, closed, refused) = (self.heard.opened, self.heard.closed, self.heard.refused_dials);
        self.dial();
        self.until(ANSWER_MAX, |client| {
            client.heard.opened > opened || client.heard.closed > closed || client.heard.refused_dials > refused
        });
        if self.heard.opened == opened || !self.is_open() {
            return Err(format!("no session: {}", self.heard.reason));
        }
        if let Some(addresses) = addresses {
            let storage = StorageId(self.dice.bytes());
            let (epoch, instance) = (1, self.dice.any());
            self.say(&Message::Greeting { storage, epoch, addresses, instance });
        }
        Ok(())
    }

    /// Opens a session if there is none: for those that the other side ended. Says whether there is one now.
    pub fn reconnect(&mut self) -> bool {
        self.is_open() || self.connect(Some(Vec::new())).is_ok()
    }

    /// Fetches the membership log.
    ///
    /// # Errors
    /// It does not come.
    pub fn fetch_log(&mut self) -> Result<(), String> {
        let all = Range { prefix: Prefix::default(), items: Vec::new() };
        self.say(&Message::Items { space: 0, level: Level::Members, ranges: vec![all] });
        if self.until(ANSWER_MAX, |client| !client.log.members().is_empty()) {
            // The rest comes in the same answer.
            self.pump(Duration::from_millis(50));
            return Ok(());
        }
        Err(format!("the membership log does not come; {}", self.heard.reason))
    }

    /// Fetches the log and is let in by its ticket.
    ///
    /// # Errors
    /// It is not.
    pub fn join(&mut self) -> Result<(), String> {
        self.fetch_log()?;
        let request = self.log.request(&self.key.device(), &self.invite()).map_err(|error| error.to_string())?;
        self.say(&Message::Join { space: 0, invite: request.invite, proof: request.proof.into() });
        match self.until(ANSWER_MAX, |client| client.role().is_some()) {
            true => Ok(()),
            false => Err(format!("not let in; {}", self.heard.reason)),
        }
    }

    /// Says something in the newest session, in the message's own lane. Says whether there was one, and it takes bytes.
    pub fn say(&mut self, message: &Message) -> bool {
        self.say_on(message.lane(), message)
    }

    /// Sends membership entries, in as many messages as they need; how many that were.
    pub fn say_entries(&mut self, all: &[Vec<u8>]) -> u64 {
        all.chunks(ENTRIES_PER_MESSAGE_MAX).map(|some| u64::from(self.say(&entries(some)))).sum()
    }

    /// The same in another lane.
    pub fn say_on(&mut self, lane: Lane, message: &Message) -> bool {
        self.send(to_frames(lane, message.to_bytes()))
    }

    /// Sends frames as they are, in the newest session.
    pub fn send(&mut self, frames: Vec<Vec<u8>>) -> bool {
        let newest = self.talks.iter().rev().find(|(_, talk)| talk.is_open).map(|(id, _)| *id);
        newest.is_some_and(|session| self.send_in(session, frames))
    }

    /// Sends frames in every open session.
    pub fn send_everywhere(&mut self, frames: &[Vec<u8>]) -> bool {
        let open: Vec<SessionId> = self.talks.iter().filter(|(_, talk)| talk.is_open).map(|(id, _)| *id).collect();
        open.into_iter().filter(|session| self.send_in(*session, frames.to_vec())).count() > 0
    }

    fn send_in(&mut self, session: SessionId, frames: Vec<Vec<u8>>) -> bool {
        {
            let _inside = self.runtime.enter();
            for bytes in frames {
                let Some(talk) = self.talks.get_mut(&session) else { return false };
                talk.unwritten += bytes.len();
                self.network.execute(NetCommand::Send { session, bytes });
            }
        }
        self.sent += 1;
        let written = |client: &Self| client.talks.get(&session).is_none_or(|talk| talk.unwritten < UNWRITTEN_MAX);
        // Also what has come is heard now and then.
        if written(self) && self.sent.is_multiple_of(64) {
            self.pump(Duration::ZERO);
        }
        self.until(BLOCKED_MAX, written) && self.talks.contains_key(&session)
    }

    /// The same without hearing anything: only so much is handed over as is taken without that.
    pub fn say_deaf(&mut self, message: &Message) {
        let newest = self.talks.iter().rev().find(|(_, talk)| talk.is_open).map(|(id, _)| *id);
        let Some(session) = newest else { return };
        let _inside = self.runtime.enter();
        for bytes in to_frames(message.lane(), message.to_bytes()) {
            self.network.execute(NetCommand::Send { session, bytes });
        }
        self.sent += 1;
    }

    /// Asks for roots and waits for the answer: all that was said before has been heard then. Where the session was ended for
    /// what was said, a new one is asked. Says whether the answer came.
    pub fn is_heard(&mut self) -> bool {
        let clock = Stopwatch::start();
        while clock.elapsed() < ANSWER_MAX {
            // Who misbehaved waits until it has a session again.
            if !self.reconnect() {
                self.pump(Duration::from_millis(100));
                continue;
            }
            self.asks += 1;
            let ask = self.asks;
            self.say(&Message::Roots { ask, answer: 0, spaces: Vec::new() });
            let left = ANSWER_MAX.saturating_sub(clock.elapsed());
            self.until(left, |client| client.heard.answers.contains(&ask) || !client.is_open());
            if self.heard.answers.contains(&ask) {
                return true;
            }
        }
        false
    }

    /// Takes part in the space's gossip.
    pub fn subscribe(&mut self, topic: &str) {
        let _inside = self.runtime.enter();
        self.network.execute(NetCommand::Subscribe { topic: topic.to_owned() });
    }

    /// Gossips.
    pub fn publish(&mut self, topic: &str, bytes: Vec<u8>) {
        let _inside = self.runtime.enter();
        self.network.execute(NetCommand::Publish { topic: topic.to_owned(), bytes });
        self.sent += 1;
    }

    /// Ends every session.
    pub fn close(&mut self) {
        let sessions: Vec<SessionId> = self.talks.keys().copied().collect();
        let _inside = self.runtime.enter();
        for session in sessions {
            self.network.execute(NetCommand::Close { session, reason: "enough".to_owned() });
        }
    }

    /// Lets its connections go on, without hearing anything.
    pub fn deafen(&mut self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Hears what comes for so long.
    pub fn pump(&mut self, time: Duration) {
        self.until(time, |_| false);
    }

    /// Hears what comes until something is so; says whether it is.
    pub fn until(&mut self, time: Duration, so: impl Fn(&Self) -> bool) -> bool {
        let clock = Stopwatch::start();
        loop {
            if so(self) {
                return true;
            }
            let left = time.saturating_sub(clock.elapsed());
            let runtime = Rc::clone(&self.runtime);
            let came = runtime.block_on(async { tokio::time::timeout(left, self.network.next()).await });
            let Ok(input) = came else { return so(self) };
            let _inside = runtime.enter();
            self.hear(input);
        }
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::SessionOpened { session, peer, opener, address } => {
                let now = Timestamp(u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX));
                let talk = Session::new(peer, opener, address, self.dice.bytes(), now);
                let hello = talk.hello();
                self.talks.insert(session, Talk { session: talk, is_open: false, unwritten: 0, roots: Vec::new() });
                for bytes in self.opening.clone().unwrap_or_else(|| to_frames(hello.lane(), hello.to_bytes())) {
                    self.network.execute(NetCommand::Send { session, bytes });
                }
            }
            Input::Written { session, bytes } => {
                if let Some(talk) = self.talks.get_mut(&session) {
                    talk.unwritten = talk.unwritten.saturating_sub(bytes);
                }
            }
            Input::SessionClosed { session, reason } => {
                self.talks.remove(&session);
                self.heard.closed += 1;
                // What the other side said for good-bye says more.
                if !self.heard.reason.starts_with("bye: ") || !reason.contains("closed") {
                    self.heard.reason = reason;
                }
            }
            Input::DialFailed { reason, .. } => {
                self.heard.refused_dials += 1;
                self.heard.reason = reason;
            }
            Input::Frame { session, bytes } => self.hear_frame(session, &bytes),
            Input::Hint { .. } => self.heard.hints += 1,
            _ => {}
        }
    }

    fn reply(&mut self, session: SessionId, message: &Message) {
        let Some(talk) = self.talks.get_mut(&session) else { return };
        for bytes in to_frames(message.lane(), message.to_bytes()) {
            talk.unwritten += bytes.len();
            self.network.execute(NetCommand::Send { session, bytes });
        }
    }

    fn hear_frame(&mut self, session: SessionId, bytes: &[u8]) {
        self.heard.frames += 1;
        self.heard.bytes += bytes.len() as u64;
        let Some(talk) = self.talks.get_mut(&session) else { return };
        let Ok(Some((_, message))) = talk.session.lanes.receive(bytes) else { return };
        let credit = talk.session.lanes.credit_due().filter(|_| self.manners != Manners::Mean);
        if let Some(taken) = credit {
            self.reply(session, &Message::Credit { taken });
        }
        if let Ok(message) = Message::from_bytes(&message) {
            self.hear_message(session, message);
        }
    }

    fn hear_message(&mut self, session: SessionId, message: Message) {
        match message {
            Message::Hello { version, nonce } => {
                let us = self.key.device();
                let (keys, dice) = ([(self.ticket.space, self.ticket.connection_key)], &mut self.dice);
                let Some(talk) = self.talks.get_mut(&session) else { return };
                let step = talk.session.heard_hello(us, version, *nonce, &keys, &mut || dice.bytes());
                self.step(session, step);
            }
            Message::Tags { tags } => {
                let tags: Vec<[u8; 16]> = tags.iter().map(|tag| **tag).collect();
                let now = Timestamp(u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX));
                let (keys, dice) = ([(self.ticket.space, self.ticket.connection_key)], &mut self.dice);
                let Some(talk) = self.talks.get_mut(&session) else { return };
                let step = talk.session.heard_tags(&tags, &keys, &mut || dice.bytes(), now);
                self.step(session, step);
            }
            Message::Roots { ask, answer, spaces } => {
                if answer != 0 {
                    self.heard.answers.insert(answer);
                }
                let content = self.manners == Manners::Content;
                let Some(talk) = self.talks.get_mut(&session) else { return };
                talk.roots.clone_from(&spaces);
                if ask != 0 || (content && answer == 0) {
                    let spaces = if content { spaces } else { Vec::new() };
                    self.reply(session, &Message::Roots { ask: 0, answer: ask, spaces });
                }
            }
            Message::Entries { entries, .. } => entries.iter().for_each(|entry| _ = self.log.insert(entry)),
            Message::Refused { code, detail, .. } => {
                *self.heard.refused.entry(format!("{code:?}")).or_default() += 1;
                self.heard.refusal = detail;
            }
            Message::JoinRefused { .. } => self.heard.joins_refused += 1,
            Message::Runs { runs, .. } => {
                self.heard.runs += runs.len() as u64;
                let room = RUNS_KEPT_MAX.saturating_sub(self.heard.kept.len());
                self.heard.kept.extend(runs.into_iter().take(room));
            }
            Message::Credit { taken } => self.heard.credit = self.heard.credit.max(taken),
            Message::Bye { reason } => self.heard.reason = format!("bye: {reason}"),
            _ => {}
        }
    }

    fn step(&mut self, session: SessionId, step: Step) {
        let (messages, opens) = match step {
            Step::Say(messages) | Step::Stranger(messages) => (messages, false),
            Step::Authenticated(messages) => (messages, true),
            Step::Bad(reason) => {
                self.heard.reason = reason;
                return;
            }
        };
        messages.iter().for_each(|message| self.reply(session, message));
        if opens && let Some(talk) = self.talks.get_mut(&session) {
            talk.is_open = true;
            let peer = talk.session.peer;
            self.heard.opened += 1;
            self.network.execute(NetCommand::Admit { peer });
        }
    }
}

/// Membership entries as one message: at most `ENTRIES_PER_MESSAGE_MAX`.
pub fn entries(entries: &[Vec<u8>]) -> Message {
    Message::Entries { space: 0, entries: entries.iter().map(|entry| ByteVec::from(entry.clone())).collect() }
}
