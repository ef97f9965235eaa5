//! Attacks on the membership log: entries within the attacker's authority and beyond it, and entries that are none.

use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::{ADDRESSES_PER_DEVICE_MAX, INVITE_USES_MAX};
use anabranch_engine::space::membership::{Membership, entry_hash};
use anabranch_engine::space::roles::Role;
use anabranch_engine::wire::{Message, PeerAddresses};
use minicbor::bytes::ByteVec;

use super::forge;
use super::{Attacker, Move, Scene, frames};

pub(super) fn entries(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(space) = scene.some_space(dice) else { return Vec::new() };
    let log = scene.entries.iter().filter(|(of, _)| *of == space).map(|(_, bytes)| bytes.as_slice());
    let Ok(log) = Membership::load(space, log) else { return Vec::new() };
    let mut prev = log.heads();
    prev.truncate(16);
    let depths = prev.iter().filter_map(|hash| log.entry(hash)).filter_map(forge::depth);
    let Some(mut depth) = depths.max().map(|depth| depth + 1) else { return Vec::new() };
    // One after the other, or all beside each other.
    let chained = dice.percent(50);
    let mut made: Vec<ByteVec> = Vec::new();
    for _ in 0..dice.between(1, 40) {
        let key = SecretKey::from_seed(&dice.bytes());
        let (kind, fields) = if dice.percent(50) { (1, forge::invite(&key)) } else { (200, vec![0]) };
        let bytes = forge::entry(scene.key, space, &prev, depth, (kind, &fields), dice.bytes());
        if chained {
            (prev, depth) = (vec![entry_hash(&bytes)], depth + 1);
        }
        made.push(bytes.into());
    }
    let to = scene.sharing(&space);
    to.into_iter()
        .map(|(opening, space)| Move::Send(opening.session, frames(&Message::Entries { space, entries: made.clone() })))
        .collect()
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
        let entries = Message::Entries { space, entries: entries.clone() };
        let peers = peers.chunks(64).map(move |peers| Message::Peers { space, peers: peers.to_vec() });
        [entries].into_iter().chain(peers).collect::<Vec<_>>()
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
    let unknown = [anabranch_engine::id::EntryHash(dice.bytes())];
    bad.push(forge::entry(scene.key, space, &unknown, 1, (1, &forge::invite(scene.key)), dice.bytes()).into());
    let to = scene.sharing(&space);
    to.into_iter()
        .map(|(opening, space)| Move::Send(opening.session, frames(&Message::Entries { space, entries: bad.clone() })))
        .collect()
}
