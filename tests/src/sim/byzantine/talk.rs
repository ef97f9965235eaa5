//! Attacks that need no signature: frames, messages, hints, connections.

use anabranch_engine::id::{ActorId, ChangeHash, DeviceId, DocumentId, StorageId};
use anabranch_engine::limits::{FRAME_BYTES_MAX, RANGES_PER_MESSAGE_MAX};
use anabranch_engine::space::entry_key;
use anabranch_engine::space::membership::entry_hash;
use anabranch_engine::sync::collection::Prefix;
use anabranch_engine::sync::hint::Hint;
use anabranch_engine::sync::transfer::tips;
use anabranch_engine::wire::frame::to_frames;
use anabranch_engine::wire::{
    ActorTip, DocumentFrontier, Item, Lane, Level, Message, Node, PeerAddresses, Range, RefusalCode, SpaceRoots,
};

use super::{Attacker, Move, Opening, Scene, frames};
use crate::sim::SECONDS;
use crate::sim::dice::Dice;

/// Something to one of the sessions.
fn to_one(
    attacker: &mut Attacker,
    scene: &Scene<'_>,
    frames: impl FnOnce(&mut Dice, &Opening) -> Vec<Vec<u8>>,
) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(opening) = dice.pick(&scene.sessions) else { return Vec::new() };
    let frames = frames(dice, opening);
    if frames.is_empty() { Vec::new() } else { vec![Move::Send(opening.session, frames)] }
}

/// A message to one of the sessions about one of its spaces.
fn about_one(
    attacker: &mut Attacker,
    scene: &Scene<'_>,
    messages: impl FnOnce(&mut Dice, &Opening, u32) -> Vec<Message>,
) -> Vec<Move> {
    to_one(attacker, scene, |dice, opening| {
        let index = dice.index(opening.spaces.len()) as u32;
        if opening.spaces.is_empty() {
            return Vec::new();
        }
        messages(dice, opening, index).iter().flat_map(frames).collect()
    })
}

fn change_bytes(dice: &mut Dice, frame: &mut [u8]) {
    for _ in 0..dice.between(1, 4) {
        let place = dice.index(frame.len());
        if let Some(byte) = frame.get_mut(place) {
            *byte ^= 1 << dice.below(8);
        }
    }
}

pub(super) fn mutates(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let recorded: Vec<_> = attacker.recorded.iter().cloned().collect();
    to_one(attacker, scene, |dice, _| {
        let mut frame = dice.pick(&recorded).cloned().unwrap_or_default();
        change_bytes(dice, &mut frame);
        vec![frame]
    })
}

pub(super) fn rubbish(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    to_one(attacker, scene, |dice, _| {
        let length = *dice.pick(&[0, 1, 2, 7, 300, FRAME_BYTES_MAX]).expect("not empty");
        let mut bytes: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
        if dice.percent(50) {
            // A good head, whatever follows.
            bytes.splice(..bytes.len().min(2), [0x10 | dice.below(3) as u8, dice.below(8) as u8]);
        }
        vec![bytes]
    })
}

pub(super) fn tiny_frames(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    to_one(attacker, scene, |dice, _| {
        let kind = dice.between(15, 23) as u8;
        let empty = dice.percent(50);
        // A message of a kind that is not known, or the beginning of one and nothing of it.
        (0..dice.between(10, 100))
            .map(|_| if empty { vec![0x11, 1, 0, 0, 0, 9] } else { vec![0x10, 3, 0x81, kind] })
            .collect()
    })
}

pub(super) fn huge_lengths(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    to_one(attacker, scene, |dice, _| {
        let length: u32 = *dice.pick(&[1 << 20, 2 << 20, (2 << 20) + 1, u32::MAX]).expect("not empty");
        let lane = dice.below(3) as u8;
        let compressed = if dice.percent(50) { 4 } else { 0 };
        let mut frame = vec![0x10 | lane, 1 | compressed];
        frame.extend(length.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend([0; 100]);
        vec![frame]
    })
}

pub(super) fn replays(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let recorded: Vec<_> = attacker.recorded.iter().cloned().collect();
    to_one(attacker, scene, |dice, _| (0..dice.between(1, 4)).filter_map(|_| dice.pick(&recorded).cloned()).collect())
}

pub(super) fn lying_roots(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    about_one(attacker, scene, |dice, _, space| {
        (0..dice.between(1, 5))
            .map(|_| {
                let documents = if dice.percent(80) { Some(dice.bytes().into()) } else { None };
                let roots = SpaceRoots { space, members: dice.bytes().into(), documents };
                let ask = if dice.percent(50) { dice.any() as u32 } else { 0 };
                Message::Roots { ask, answer: dice.any() as u32, spaces: vec![roots] }
            })
            .collect()
    })
}

pub(super) fn lying_items(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    about_one(attacker, scene, |dice, opening, space| {
        let level = if dice.percent(50) { Level::Documents } else { Level::Members };
        match dice.below(4) {
            0 => {
                let items = (0..dice.between(1, 16))
                    .map(|_| Item { key: dice.bytes().into(), fingerprint: dice.bytes().into() })
                    .collect();
                vec![Message::Items { space, level, ranges: vec![Range { prefix: Prefix::default(), items }] }]
            }
            1 => {
                // Every part differs, at any depth.
                let mut prefixes: Vec<Prefix> =
                    (0..dice.between(1, 40)).map(|_| Prefix::new(&dice.bytes(), dice.below(8) as u8)).collect();
                if dice.percent(80) {
                    prefixes = Prefix::default().children().map(Vec::from).unwrap_or_default();
                }
                let node = |prefix| Node { prefix, fingerprint: dice.bytes().into() };
                vec![Message::Nodes { space, level, nodes: prefixes.into_iter().map(node).collect() }]
            }
            _ => {
                let documents = scene.engine.documents(&opening.spaces[space as usize]);
                let inflated = dice.percent(50);
                let documents = documents.iter().take(RANGES_PER_MESSAGE_MAX).filter_map(|document| {
                    let record = scene.engine.record(&opening.spaces[space as usize], document)?;
                    let mut actors = tips(&record.signed);
                    if inflated {
                        actors.iter_mut().for_each(|tip| tip.seq += 1 << 40);
                    }
                    let seq = dice.between(1, 9);
                    let made_up = ActorTip {
                        actor: ActorId(dice.bytes()),
                        seq,
                        lamport: dice.any(),
                        tip: ChangeHash(dice.bytes()),
                    };
                    actors.push(made_up);
                    Some(DocumentFrontier { document: *document, actors, reply: true })
                });
                vec![Message::Frontiers { space, documents: documents.collect() }]
            }
        }
    })
}

pub(super) fn demands(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    about_one(attacker, scene, |dice, opening, space| {
        let id = opening.spaces[space as usize];
        let documents = scene.engine.documents(&id).into_iter().take(RANGES_PER_MESSAGE_MAX);
        let documents: Vec<_> =
            documents.map(|document| DocumentFrontier { document, actors: Vec::new(), reply: true }).collect();
        let entries = scene.entries.iter().filter(|(of, _)| *of == id).take(RANGES_PER_MESSAGE_MAX);
        let keys: Vec<_> = entries.map(|(_, bytes)| entry_key(&entry_hash(bytes)).into()).collect();
        let all = Range { prefix: Prefix::default(), items: Vec::new() };
        (0..dice.between(1, 5))
            .map(|_| match dice.below(3) {
                0 => Message::Frontiers { space, documents: documents.clone() },
                1 => Message::WantEntries { space, keys: keys.clone() },
                _ => Message::Items { space, level: Level::Members, ranges: vec![all.clone()] },
            })
            .collect()
    })
}

pub(super) fn credit(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    to_one(attacker, scene, |dice, _| {
        if dice.percent(50) {
            let taken = *dice.pick(&[0, 1 << 20, u64::MAX]).expect("not empty");
            return frames(&Message::Credit { taken });
        }
        // Bulk of a kind that is ignored, beyond what was granted.
        let mut message = vec![0x82, 0x18, 0x63, 0x59, 0xea, 0x60];
        message.extend((0..60_000).map(|_| dice.below(256) as u8));
        let many = dice.between(1, 6);
        (0..many).flat_map(|_| to_frames(Lane::Bulk, message.clone())).collect()
    })
}

pub(super) fn greetings(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    to_one(attacker, scene, |dice, _| {
        let message = match dice.below(4) {
            0 => Message::Hello { version: dice.below(3) as u32, nonce: dice.bytes().into() },
            1 => Message::Tags { tags: (0..8).map(|_| dice.bytes().into()).collect() },
            2 => {
                let (storage, epoch, instance) = (StorageId(dice.bytes()), dice.any(), dice.any());
                Message::Greeting { storage, epoch, addresses: Vec::new(), instance }
            }
            _ => Message::Bye { reason: "no reason".repeat(dice.between(1, 200) as usize) },
        };
        frames(&message)
    })
}

pub(super) fn refusals(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    about_one(attacker, scene, |dice, opening, space| {
        let documents = scene.engine.documents(&opening.spaces[space as usize]);
        let codes = [
            RefusalCode::Fork,
            RefusalCode::Misfit,
            RefusalCode::MembersUnknown,
            RefusalCode::NotAMember,
            RefusalCode::NotWanted,
        ];
        let known = dice.pick(&documents).copied();
        (0..dice.between(1, 10))
            .map(|_| Message::Refused {
                space,
                document: known.unwrap_or(DocumentId(dice.bytes())),
                actor: ActorId(dice.bytes()),
                first_seq: dice.between(1, 5),
                code: *dice.pick(&codes).expect("not empty"),
                detail: "x".repeat(dice.below(1_000) as usize),
            })
            .collect()
    })
}

pub(super) fn hints(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(topic) = dice.pick(&scene.topics).cloned() else { return Vec::new() };
    let count = dice.between(1, 20);
    let malformed = dice.percent(30);
    let hint = |dice: &mut Dice| {
        if malformed {
            return dice.bytes::<50>().to_vec();
        }
        let device: DeviceId = dice.pick(&scene.devices).copied().unwrap_or(scene.key.device());
        let roots = (dice.bytes().into(), dice.bytes().into());
        let storage = StorageId(dice.bytes());
        Hint { version: Hint::VERSION, device, storage, epoch: dice.below(3), seq: dice.any(), roots }.to_bytes()
    };
    (0..count).map(|_| Move::Hint { topic: topic.clone(), bytes: hint(dice) }).collect()
}

pub(super) fn addresses(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    about_one(attacker, scene, |dice, opening, space| {
        let members = scene.engine.members(&opening.spaces[space as usize]);
        let peers = members.into_iter().map(|member| {
            let nonsense = (0..dice.between(1, 10)).map(|n| format!("sim/nowhere/{n}/{}", dice.below(100)));
            let mut addresses: Vec<String> = nonsense.collect();
            // Where somebody else is.
            addresses.extend(dice.pick(&scene.addresses).cloned());
            dice.shuffle(&mut addresses);
            PeerAddresses { device: member.device, addresses }
        });
        vec![Message::Peers { space, peers: peers.collect() }]
    })
}

pub(super) fn opens_and_closes(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(opening) = dice.pick(&scene.sessions) else { return Vec::new() };
    match dice.below(3) {
        0 => vec![Move::Close(opening.session)],
        1 => vec![Move::Knock(opening.victim)],
        _ => vec![Move::Knock(opening.victim), Move::Knock(opening.victim), Move::Close(opening.session)],
    }
}

pub(super) fn never_reads(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(opening) = dice.pick(&scene.sessions) else { return Vec::new() };
    vec![Move::Deafen { victim: opening.victim, length: dice.between(SECONDS, 60 * SECONDS) }]
}
