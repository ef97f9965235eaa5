//! Attacks on the membership log: entries within the attacker's authority and beyond it, and entries that are none.

use anabranch_engine::id::{EntryHash, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::{ADDRESSES_PER_DEVICE_MAX, ENTRIES_PER_MESSAGE_MAX, INVITE_USES_MAX};
use anabranch_engine::space::membership::{Membership, entry_hash};
use anabranch_engine::space::roles::Role;
use anabranch_engine::wire::{Message, PeerAddresses};
use minicbor::bytes::ByteVec;

use super::forge;
use super::{Attacker, Move, Scene, frames};
use crate::sim::dice::Dice;

/// A space's log as the attacker has it, and where a new entry stands in it.
struct Log {
    space: SpaceId,
    membership: Membership,
    prev: Vec<EntryHash>,
    depth: u32,
}

impl Log {
    fn of_some_space(attacker: &mut Attacker, scene: &Scene<'_>) -> Option<Self> {
        let space = scene.some_space(&mut attacker.dice)?;
        let log = scene.entries.iter().filter(|(of, _)| *of == space).map(|(_, bytes)| bytes.as_slice());
        let membership = Membership::load(space, log).ok()?;
        let mut prev = membership.heads();
        prev.truncate(16);
        let depths = prev.iter().filter_map(|hash| membership.entry(hash)).filter_map(forge::depth);
        let depth = depths.max()? + 1;
        Some(Self { space, membership, prev, depth })
    }

    /// What comes next stands on this entry.
    fn stand_on(&mut self, entry: &[u8]) {
        (self.prev, self.depth) = (vec![entry_hash(entry)], self.depth + 1);
    }

    fn is_admin(&self, key: &SecretKey) -> bool {
        self.membership.role(&key.device()) == Some(Role::Admin)
    }

    fn entry(&self, key: &SecretKey, kind: u8, fields: &[u8], dice: &mut Dice) -> ByteVec {
        forge::entry(key, self.space, &self.prev, self.depth, (kind, fields), dice.bytes()).into()
    }
}

/// Entries to everyone who shares a space.
fn to_all(scene: &Scene<'_>, space: &SpaceId, entries: &[ByteVec]) -> Vec<Move> {
    let to = scene.sharing(space).into_iter();
    to.map(|(opening, space)| {
        Move::Send(opening.session, frames(&Message::Entries { space, entries: entries.to_vec() }))
    })
    .collect()
}

pub(super) fn entries(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let Some(mut log) = Log::of_some_space(attacker, scene) else { return Vec::new() };
    let dice = &mut attacker.dice;
    // One after the other, or all beside each other.
    let chained = dice.percent(50);
    let mut made: Vec<ByteVec> = Vec::new();
    for _ in 0..dice.between(1, 40) {
        let key = SecretKey::from_seed(&dice.bytes());
        let (kind, fields) = if dice.percent(50) { (1, forge::invite(&key)) } else { (200, vec![0]) };
        let entry = log.entry(scene.key, kind, &fields, dice);
        if chained {
            log.stand_on(&entry);
        }
        made.push(entry);
    }
    to_all(scene, &log.space, &made)
}

pub(super) fn crowds(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(space) = scene.some_space(dice) else { return Vec::new() };
    let log = scene.entries.iter().filter(|(of, _)| *of == space).map(|(_, bytes)| bytes.as_slice());
    let Ok(mut log) = Membership::load(space, log) else { return Vec::new() };
    let invite = SecretKey::from_seed(&dice.bytes());
    let Ok(invited) = log.invite(scene.key, invite.device(), Role::Reader, INVITE_USES_MAX, dice.bytes()) else {
        return Vec::new(); // it is no admin
    };
    let (mut made, mut peers) = (vec![invited], Vec::new());
    for _ in 0..dice.between(20, u64::from(INVITE_USES_MAX)) {
        let last = made.last().expect("the invite is the first");
        if log.insert(&last.bytes).is_err() {
            break;
        }
        let key = SecretKey::from_seed(&dice.bytes());
        let Ok(request) = log.request(&key.device(), &invite) else { break };
        let Ok(admitted) = log.admit(scene.key, &key.device(), &request, dice.bytes()) else { break };
        made.push(admitted);
        let addresses = (0..ADDRESSES_PER_DEVICE_MAX).map(|_| format!("sim/nowhere/{}", dice.any())).collect();
        peers.push(PeerAddresses { device: key.device(), addresses });
    }
    let entries: Vec<ByteVec> = made.into_iter().map(|entry| entry.bytes.into()).collect();
    let messages = |space| {
        let entries = entries.chunks(ENTRIES_PER_MESSAGE_MAX);
        let entries = entries.map(move |entries| Message::Entries { space, entries: entries.to_vec() });
        let peers = peers.chunks(64).map(move |peers| Message::Peers { space, peers: peers.to_vec() });
        entries.chain(peers).collect::<Vec<_>>()
    };
    let to = scene.sharing(&space).into_iter();
    to.map(|(opening, space)| Move::Send(opening.session, messages(space).iter().flat_map(frames).collect())).collect()
}

pub(super) fn bad_entries(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(space) = scene.some_space(dice) else { return Vec::new() };
    let mut bad: Vec<ByteVec> = vec![Vec::new().into(), dice.bytes::<100>().to_vec().into()];
    for (_, entry) in scene.entries.iter().filter(|(of, _)| *of == space).take(3) {
        let mut changed = entry.clone();
        let place = dice.index(changed.len());
        changed[place] ^= 1 << dice.below(8);
        bad.push(changed.into());
    }
    let unknown = [EntryHash(dice.bytes())];
    bad.push(forge::entry(scene.key, space, &unknown, 1, (1, &forge::invite(scene.key)), dice.bytes()).into());
    to_all(scene, &space, &bad)
}

pub(super) fn repeated_entries(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let Some(log) = Log::of_some_space(attacker, scene) else { return Vec::new() };
    let mut entry = Vec::from(log.entry(scene.key, 200, &[0], &mut attacker.dice));
    if let Some(last) = entry.last_mut() {
        *last ^= 1; // of the signature
    }
    // Now and then more than a message may have.
    let copies = attacker.dice.between(2, 18) as usize;
    let message = vec![entry.into(); copies];
    let times = attacker.dice.between(1, 60);
    (0..times).flat_map(|_| to_all(scene, &log.space, &message)).collect()
}

pub(super) fn bricks(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let Some(log) = Log::of_some_space(attacker, scene) else { return Vec::new() };
    let dice = &mut attacker.dice;
    let stranger = SecretKey::from_seed(&dice.bytes());
    let mut made: Vec<ByteVec> = [(7, vec![0]), (1, forge::invite(&stranger)), (200, vec![0])]
        .iter()
        .map(|(kind, fields)| log.entry(&stranger, *kind, fields, dice))
        .collect();
    // An admin may do it: whoever does not know the kind must not guess what it says.
    if !log.is_admin(scene.key) {
        made.push(log.entry(scene.key, 7, &[0], dice));
    }
    dice.shuffle(&mut made);
    to_all(scene, &log.space, &made)
}

pub(super) fn overdraws(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let Some(mut log) = Log::of_some_space(attacker, scene) else { return Vec::new() };
    let dice = &mut attacker.dice;
    // Only an admin has an invite whose key it knows; everyone else makes one up.
    let invite = SecretKey::from_seed(&dice.bytes());
    let invited = log.entry(scene.key, 1, &forge::invite(&invite), dice);
    log.stand_on(&invited);
    let mut made = vec![invited];
    for _ in 0..dice.between(2, 10) {
        let joiner = SecretKey::from_seed(&dice.bytes());
        let fields = forge::admission(log.prev[0], &log.space, &joiner.device(), &invite);
        made.push(log.entry(scene.key, 2, &fields, dice));
    }
    to_all(scene, &log.space, &made)
}
