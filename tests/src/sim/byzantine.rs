//! Hostile participants: a member that holds a valid key and does with it what it likes, and a relay that lies. Each runs an
//! honest engine, so that it is authenticated, connected and in sync; what that engine sends passes through the attacker,
//! which leaves out, delays and repeats, and adds frames of its own. An attack only says what it wants done (`Move`); the
//! world does it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch_engine::id::{DeviceId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::wire::frame::to_frames;
use anabranch_engine::wire::{Lane, Message};
use anabranch_engine::{Engine, SessionId};

use serde::{Deserialize, Serialize};

use super::SECONDS;
use super::checkers::untouched;
use super::dice::{Dice, Stream};
use super::ledger::Place;
use super::options::{Options, Topology};
use super::plan::{Act, Step};
use super::world::{Happening, World};

mod attack;
mod entries;
pub mod forge;
mod relay;
mod signed;
mod talk;

pub use attack::Attack;

/// Frames that an attacker keeps to send again.
const RECORDED_MAX: usize = 32;
/// How long after the chaos one who goes on does so, and how often it strikes then.
const GOES_ON: u64 = 400 * SECONDS;
const STRIKES_AFTERWARDS: u64 = 20;

/// Who is hostile in a seed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByzantineOptions {
    /// Which replica.
    pub replica: usize,
    /// What it does.
    pub attacks: Vec<Attack>,
    /// Strikes during the chaos.
    pub strikes: usize,
    /// It is honest once the chaos is over. Else it goes on, more slowly.
    pub muted: bool,
}

impl ByzantineOptions {
    /// Draws who is hostile in a seed: nobody in most. Where somebody is, there are at least two honest ones.
    pub fn draw(options: &Options) -> Option<Self> {
        let mut dice = Dice::new(options.seed, Stream::Byzantine);
        let early = options.replicas - options.late;
        if options.replicas < 3 || !dice.percent(30) {
            return None;
        }
        let founder = dice.percent(10) && options.unreachable == 0;
        let replica = if founder { 0 } else { dice.between(1, early as u64 - 1) as usize };
        let relay = dice.percent(25);
        let mut attacks = if relay { Attack::OF_RELAYS.to_vec() } else { Attack::ALL.to_vec() };
        dice.shuffle(&mut attacks);
        attacks.truncate(dice.between(1, 6) as usize);
        // Where it may be the only way between two others, it has to become one.
        let only_way = options.unreachable > 0 || options.topology != Topology::Full || !options.redial;
        let muted = dice.percent(50) || (relay && only_way) || founder;
        let strikes = *dice.pick(&[4, 12, 30]).expect("not empty");
        Some(Self { replica, attacks, strikes, muted })
    }

    /// Whether it makes nothing of its own.
    fn is_relay(&self) -> bool {
        self.attacks.iter().all(|attack| Attack::OF_RELAYS.contains(attack))
    }

    /// When it does what: steps like all others, so that a seed in which one of them does harm can be shrunk to it.
    pub fn plan(&self, options: &Options) -> Vec<Step> {
        let mut dice = Dice::new(options.seed, Stream::Byzantine);
        let mut dice = Dice::salted(dice.any());
        let mut steps = Vec::new();
        let afterwards = if self.muted { 0 } else { STRIKES_AFTERWARDS };
        let times: Vec<u64> = (0..self.strikes)
            .map(|_| dice.below(options.chaos))
            .chain((0..afterwards).map(|n| options.chaos + (n + 1) * GOES_ON / STRIKES_AFTERWARDS))
            .collect();
        for at in times {
            let Some(attack) = dice.pick(&self.attacks).copied() else { break };
            steps.push(Step { at, act: Act::Strike { replica: self.replica, attack }, salt: dice.any() });
        }
        steps
    }
}

/// A hostile participant.
pub struct Attacker {
    options: ByzantineOptions,
    dice: Dice,
    key: SecretKey,
    /// It has become honest.
    muted: bool,
    /// Documents in which it has made two histories of one actor.
    forked: BTreeSet<Place>,
    recorded: VecDeque<Vec<u8>>,
    /// Frames that are sent later, if at all.
    held: VecDeque<(u64, SessionId, Vec<u8>)>,
    /// Bytes between it and each honest replica: to it, from it.
    pub traffic: BTreeMap<usize, (u64, u64)>,
}

/// What an attack wants done.
#[derive(Debug)]
enum Move {
    /// These frames go to a peer.
    Send(SessionId, Vec<Vec<u8>>),
    /// A connection ends.
    Close(SessionId),
    /// A new connection to a replica.
    Knock(usize),
    /// A hint to everyone near.
    Hint { topic: String, bytes: Vec<u8> },
    /// Nothing of what a replica sends is read for a while.
    Deafen { victim: usize, length: u64 },
}

/// A session that an attacker has with somebody.
#[derive(Debug, Clone)]
struct Opening {
    session: SessionId,
    victim: usize,
    /// In the order in which the session counts them.
    spaces: Vec<SpaceId>,
}

/// What an attacker knows when it strikes.
struct Scene<'a> {
    key: &'a SecretKey,
    engine: &'a Engine,
    sessions: Vec<Opening>,
    topics: Vec<String>,
    /// Every membership entry of a space that it has.
    entries: Vec<(SpaceId, Vec<u8>)>,
    devices: Vec<DeviceId>,
    addresses: Vec<String>,
}

impl Attacker {
    fn new(options: ByzantineOptions, key: SecretKey, seed: u64) -> Self {
        Self {
            options,
            dice: Dice::new(seed, Stream::Byzantine),
            key,
            muted: false,
            forked: BTreeSet::new(),
            recorded: VecDeque::new(),
            held: VecDeque::new(),
            traffic: BTreeMap::new(),
        }
    }

    fn record(&mut self, frame: &[u8]) {
        if self.recorded.len() >= RECORDED_MAX {
            self.recorded.pop_front();
        }
        self.recorded.push_back(frame.to_vec());
    }
}

/// A message as frames on the lane where it belongs.
fn frames(message: &Message) -> Vec<Vec<u8>> {
    to_frames(message.lane(), message.to_bytes())
}

/// A message as frames on another lane.
fn frames_on(lane: Lane, message: &Message) -> Vec<Vec<u8>> {
    to_frames(lane, message.to_bytes())
}

impl World {
    /// Makes a replica hostile, from now on.
    pub fn turn(&mut self, options: ByzantineOptions) {
        let replica = options.replica;
        let key = self.replicas[replica].key();
        self.ledger.distrust(replica);
        self.attackers.insert(replica, Attacker::new(options, key, self.options.seed));
    }

    /// The key of somebody hostile.
    pub fn key_of(&self, attacker: usize) -> SecretKey {
        self.attackers[&attacker].key.clone()
    }

    /// The membership log of a space, as an attacker has it.
    pub fn log_of(&self, attacker: usize, space: &SpaceId) -> Vec<Vec<u8>> {
        let entries = self.replicas[attacker].process.iter().flat_map(|process| process.store.entries());
        entries.filter(|(of, _)| of == space).map(|(_, entry)| entry).collect()
    }

    /// Somebody hostile is about to make two histories of one actor.
    pub fn expect_fork(&mut self, attacker: usize, place: Place) {
        self.attackers.get_mut(&attacker).expect("it is hostile").forked.insert(place);
    }

    /// Sends a message as if an attacker's engine had. Says whether there is a session.
    pub fn inject(&mut self, attacker: usize, victim: usize, lane: Lane, message: &Message) -> bool {
        self.inject_frames(attacker, victim, frames_on(lane, message))
    }

    /// Sends frames as if an attacker's engine had. Says whether there is a session.
    pub fn inject_frames(&mut self, attacker: usize, victim: usize, frames: Vec<Vec<u8>>) -> bool {
        let opening = self.openings(attacker).into_iter().find(|opening| opening.victim == victim);
        let Some(opening) = opening.filter(|opening| !opening.spaces.is_empty()) else { return false };
        for frame in frames {
            self.send(attacker, opening.session, frame);
        }
        true
    }

    /// The chaos is over: those who stop become honest, and hold nothing back any more; the others go on. The sessions in
    /// which they did hold something back end: their engines take it for sent, and wait for what follows from it.
    pub(super) fn mute_attackers(&mut self) {
        for replica in self.attackers.keys().copied().collect::<Vec<_>>() {
            let Some(attacker) = self.attackers.get_mut(&replica) else { continue };
            attacker.muted = attacker.options.muted;
            if attacker.muted {
                attacker.held.iter_mut().for_each(|(at, ..)| *at = 0);
                self.release_late(replica);
                for (session, _) in self.streams_of(replica) {
                    self.close(replica, session, "an attacker becomes honest".to_owned());
                }
            }
        }
    }

    /// Whether a replica does what it should, and always did.
    pub fn is_honest(&self, replica: usize) -> bool {
        !self.attackers.contains_key(&replica)
    }

    /// Whether a device is that of an honest replica.
    pub fn is_honest_device(&self, device: &DeviceId) -> bool {
        self.attackers.keys().all(|attacker| self.replicas[*attacker].device != *device)
    }

    /// Whether a replica has to be as all others are by now: it is honest, or was a relay that lied and does so no more.
    pub fn is_trustworthy(&self, replica: usize) -> bool {
        self.attackers.get(&replica).is_none_or(|attacker| attacker.muted && attacker.options.is_relay())
    }

    /// Whether somebody who is not to be trusted is in a space.
    pub fn is_attacked(&self, space: &SpaceId) -> bool {
        self.attackers
            .keys()
            .any(|replica| !self.is_trustworthy(*replica) && self.ledger.spaces_of(*replica).contains_key(space))
    }

    /// Whether there is a document with two histories in a space.
    pub fn has_forks(&self, space: &SpaceId) -> bool {
        self.attackers.values().any(|attacker| attacker.forked.iter().any(|place| place.0 == *space))
    }

    /// Whether somebody made two histories of one actor in a document, so that not all can have the same.
    pub fn is_forked(&self, place: &Place) -> bool {
        self.attackers.values().any(|attacker| attacker.forked.contains(place))
    }

    /// Performs one attack now, if the attacker is in all spaces that it is to be in: it wants to be trusted first. Returns
    /// whether there was anything to do it with.
    pub fn strike(&mut self, replica: usize, attack: Attack, salt: u64) -> bool {
        self.release_late(replica);
        if !self.is_everywhere(replica) {
            return false;
        }
        let openings = self.openings(replica);
        let addresses = (0..self.replicas.len()).map(|replica| self.address_of(replica)).collect();
        let devices = self.replicas.iter().map(|replica| replica.device).collect();
        let Some(process) = &self.replicas[replica].process else { return false };
        let number = process.number;
        let Some(attacker) = self.attackers.get_mut(&replica).filter(|attacker| !attacker.muted) else { return false };
        attacker.dice = Dice::salted(salt);
        let key = attacker.key.clone();
        let scene = Scene {
            key: &key,
            engine: &process.engine,
            sessions: openings,
            topics: process.gossip.topics().cloned().collect(),
            entries: if attack.needs_entries() { process.store.entries() } else { Vec::new() },
            devices,
            addresses,
        };
        if scene.sessions.is_empty() {
            return false;
        }
        let moves = attack.moves(attacker, &scene);
        let done = !moves.is_empty();
        if done {
            *attack.counted(&mut self.stats) += 1;
            self.trace.note(self.now, Some(replica), &format!("attacks: {attack:?}"));
        }
        for wanted in moves {
            if self.running(replica) != Some(number) {
                break;
            }
            self.make(replica, number, wanted);
        }
        done
    }

    fn make(&mut self, replica: usize, process: u64, wanted: Move) {
        match wanted {
            Move::Send(session, frames) => {
                for frame in frames {
                    self.send(replica, session, frame);
                }
            }
            Move::Close(session) => self.close(replica, session, "as an attacker likes".to_owned()),
            Move::Knock(victim) => self.knock(replica, process, self.address_of(victim), None),
            Move::Hint { topic, bytes } => self.hand_on(replica, None, &topic, &bytes),
            Move::Deafen { victim, length } => {
                let pairs = vec![(victim, replica)];
                *self.cut.entry(pairs[0]).or_default() += 1;
                self.schedule(length, Happening::Mend { pairs });
            }
        }
    }

    /// A frame of an attacker's honest engine.
    pub(super) fn pass_on(&mut self, replica: usize, session: SessionId, frame: Vec<u8>) {
        let now = self.now;
        let member = self.is_everywhere(replica);
        self.release_late(replica);
        let Some(attacker) = self.attackers.get_mut(&replica) else { return self.send(replica, session, frame) };
        attacker.record(&frame);
        if attacker.muted || !member {
            return self.send(replica, session, frame);
        }
        match attacker.relay(session, frame, now) {
            relay::Passed::On(frame) => self.send(replica, session, frame),
            relay::Passed::Held(attack) => *attack.counted(&mut self.stats) += 1,
        }
    }

    /// Sends what was delayed and is due.
    fn release_late(&mut self, replica: usize) {
        let now = self.now;
        let Some(attacker) = self.attackers.get_mut(&replica) else { return };
        let (due, held) = attacker.held.drain(..).partition(|(at, _, _)| *at <= now);
        attacker.held = held;
        let due: VecDeque<(u64, SessionId, Vec<u8>)> = due;
        for (_, session, frame) in due {
            self.send(replica, session, frame);
        }
    }

    /// The sessions that an attacker's engine has, and those that nobody has authenticated yet.
    fn openings(&self, replica: usize) -> Vec<Opening> {
        let Some(process) = &self.replicas[replica].process else { return Vec::new() };
        let peers = process.engine.peers();
        self.streams_of(replica)
            .into_iter()
            .map(|(session, victim)| {
                let device = self.replicas[victim].device;
                let peer = peers.iter().find(|peer| peer.peer == device && peer.connected);
                Opening { session, victim, spaces: peer.map(|peer| peer.spaces.clone()).unwrap_or_default() }
            })
            .collect()
    }

    /// Takes note of a frame between an attacker and an honest replica, or between two honest ones.
    pub(super) fn count_traffic(&mut self, from: usize, to: usize, frame: &[u8]) {
        let bytes = frame.len() as u64;
        match (self.is_honest(from), self.is_honest(to)) {
            (true, false) => self.attackers.get_mut(&to).expect("hostile").traffic.entry(from).or_default().0 += bytes,
            (false, true) => self.attackers.get_mut(&from).expect("hostile").traffic.entry(to).or_default().1 += bytes,
            (true, true) => {
                if let Some(mut talk) = self.overheard.take() {
                    untouched::overhear(self, from, to, frame, &mut talk);
                    self.overheard = Some(talk);
                }
            }
            (false, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_small_seeds_has_somebody_hostile_and_a_space_without_them() {
        let mut hostile = 0;
        for seed in 0..1_000 {
            let options = Options::small(seed);
            let Some(byzantine) = &options.byzantine else { continue };
            hostile += 1;
            assert!(!byzantine.attacks.is_empty() && byzantine.replica < options.replicas - options.late);
            assert!(options.spaces >= 2 && options.replicas >= 3, "{options:?}");
        }
        assert!(hostile >= 200, "{hostile} of 1,000");
    }
}
