//! Entries of the membership log that have no right to be there, by members.

use std::time::Duration;

use anabranch_engine::id::{DeviceId, EntryHash};
use anabranch_engine::keys::{Domain, SecretKey};
use anabranch_engine::limits::ENTRIES_PER_MESSAGE_MAX;
use anabranch_engine::space::membership::entry_hash;
use anabranch_engine::wire::Message;
use minicbor::Encoder;
use minicbor::bytes::ByteVec;

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::{Client, entries};
use crate::hostile::scene::Scene;
use crate::sim::byzantine::forge;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "read-only",
        who: Who::Reader,
        does: "Entries of an authority kind that no program knows.",
        share: Share::NOTHING,
        strike: read_only,
    },
    Attack {
        name: "own-entries",
        who: Who::Reader,
        does: "Entries by itself that inform of nothing, in a row.",
        share: Share::NOTHING,
        strike: own_entries,
    },
    Attack {
        name: "made-up-entries",
        who: Who::Reader,
        does: "Entries by keys that it makes up, all beside each other.",
        share: Share::NOTHING,
        strike: made_up_entries,
    },
    Attack {
        name: "own-ticket",
        who: Who::Reader,
        does: "Entries that let in made-up devices with the key of its own ticket.",
        share: Share::NOTHING,
        strike: own_ticket,
    },
    Attack {
        name: "bad-entries",
        who: Who::Reader,
        does: "The same entry with a bad signature, as often as a message may have entries, in a few bytes.",
        share: Share::NOTHING,
        strike: bad_entries,
    },
    Attack {
        name: "empty-entries",
        who: Who::Reader,
        does: "Two hundred thousand empty entries in a message of a few bytes.",
        share: Share::NOTHING,
        strike: empty_entries,
    },
    Attack {
        name: "known-entries",
        who: Who::Reader,
        does: "The whole log again and again.",
        share: Share::NOTHING,
        strike: known_entries,
    },
    Attack {
        name: "letting-in",
        who: Who::Writer,
        does: "Many made-up devices let in with a ticket for one, beside each other.",
        // ENTRIES_PER_DEVICE_MAX of them are kept.
        share: Share::of(32, 8),
        strike: letting_in,
    },
];

/// Where new entries can stand: on the latest ones.
pub(super) fn top(client: &Client) -> (Vec<EntryHash>, u32) {
    let mut prev = client.log.heads();
    prev.truncate(16);
    let depths = prev.iter().filter_map(|hash| client.log.entry(hash)).filter_map(forge::depth);
    let depth = depths.max().unwrap_or_default() + 1;
    (prev, depth)
}

/// The fields of an entry that lets a device in with the client's ticket.
pub(super) fn admission(client: &Client, device: &DeviceId) -> Vec<u8> {
    let invite = client.invite();
    let is_invite = |hash: &EntryHash| {
        let entry = client.log.entry(hash).unwrap_or_default();
        entry.windows(32).any(|part| part == invite.device().0)
    };
    let named = client.log.hashes().into_iter().find(is_invite).unwrap_or(EntryHash([0; 32]));
    let proven = [client.space().0.as_slice(), &device.0].concat();
    let proof = invite.sign(Domain::Invite, &proven);
    let mut fields = Vec::new();
    let mut encoder = Encoder::new(&mut fields);
    let written = encoder.array(3).and_then(|e| e.encode(named)).and_then(|e| e.encode(device));
    written.and_then(|e| e.bytes(&proof)).expect("a vector takes every byte");
    fields
}

fn forged(client: &mut Client, key: &SecretKey, kind: u8, fields: &[u8]) -> Vec<u8> {
    let (prev, depth) = top(client);
    let nonce = client.dice().bytes();
    forge::entry(key, client.space(), &prev, depth, (kind, fields), nonce)
}

/// What a newcomer sees of the log now.
fn log_now(scene: &mut Scene) -> Result<Client, String> {
    let mut fresh = scene.guest()?;
    fresh.pump(Duration::from_millis(100));
    Ok(fresh)
}

fn read_only(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let key = client.key().clone();
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        // 8 is known.
        let kind = [3, 4, 5, 6, 7, 9, 64, 127][sent as usize % 8];
        let made = forged(&mut client, &key, kind, &[0xf6]);
        sent += client.say_entries(&[made]);
        client.pump(Duration::from_millis(2));
    }
    let heard = client.is_heard();
    let fresh = log_now(scene)?;
    Ok(reached(heard, sent, format!("heard: {heard}"))?
        .holds(fresh.log.unknown_authority().is_none(), "a reader's entry of an unknown kind is kept"))
}

fn own_entries(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let key = client.key().clone();
    let (mut prev, mut depth) = top(&client);
    let (mut sent, mut made) = (0, 0);
    while scene.lasts() && client.reconnect() {
        let batch: Vec<Vec<u8>> = (0..250)
            .map(|_| {
                let entry = forge::entry(&key, client.space(), &prev, depth, (200, &[0xf6]), scene.dice.bytes());
                (prev, depth) = (vec![entry_hash(&entry)], depth + 1);
                entry
            })
            .collect();
        made += batch.len();
        sent += client.say_entries(&batch);
    }
    kept_of(scene, &mut client, sent, made)
}

fn made_up_entries(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let (prev, depth) = top(&client);
    let (mut sent, mut made) = (0, 0);
    while scene.lasts() && client.reconnect() {
        let batch: Vec<Vec<u8>> = (0..250)
            .map(|_| {
                let key = SecretKey::from_seed(&scene.dice.bytes());
                forge::entry(&key, client.space(), &prev, depth, (200, &[0xf6]), scene.dice.bytes())
            })
            .collect();
        made += batch.len();
        sent += client.say_entries(&batch);
    }
    kept_of(scene, &mut client, sent, made)
}

fn own_ticket(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let own = client.key().clone();
    let (mut sent, mut made) = (0, 0);
    while scene.lasts() && client.reconnect() {
        let batch: Vec<Vec<u8>> = (0..100)
            .map(|number| {
                let key = SecretKey::from_seed(&scene.dice.bytes());
                let fields = admission(&client, &key.device());
                // By the reader itself, and by who is let in.
                let by = if number % 2 == 0 { &own } else { &key };
                forged(&mut client, by, 2, &fields)
            })
            .collect();
        made += batch.len();
        sent += client.say_entries(&batch);
    }
    kept_of(scene, &mut client, sent, made)
}

/// Nothing of what was made may be in the log: it has some entries, and three members.
fn kept_of(scene: &mut Scene, client: &mut Client, sent: u64, made: usize) -> Result<Effect, String> {
    client.pump(Duration::from_millis(100));
    let heard = client.is_heard();
    let fresh = log_now(scene)?;
    let (entries, members) = (fresh.log.hashes().len(), fresh.log.members().len());
    let seen = format!("heard: {heard}; {made} entries; the log has {entries} and {members} members");
    Ok(reached(heard, sent, seen)?
        .holds(entries < 12, format!("{entries} entries are kept"))
        .holds(members <= 3, format!("{members} members")))
}

fn bad_entries(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    // By somebody who may: of others the signature is not looked at.
    let mut known = client.log.hashes().into_iter().filter_map(|hash| client.log.entry(&hash));
    let mut made = known.next_back().ok_or("the log is empty")?.to_vec();
    let at = made.len() - 5;
    made[at] ^= 1;
    let message = entries(&vec![made; ENTRIES_PER_MESSAGE_MAX]);
    let mut sent = 0;
    while scene.lasts() {
        if !client.reconnect() {
            client.pump(Duration::from_millis(100));
            continue;
        }
        sent += u64::from(client.say(&message));
        client.pump(Duration::from_millis(20));
    }
    let ended = client.heard.closed;
    reached(ended > 0, sent, format!("{ended} sessions ended, last: {}", client.heard.reason))
}

fn empty_entries(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let message = Message::Entries { space: 0, entries: vec![ByteVec::from(Vec::new()); 200_000] };
    let mut sent = 0;
    while scene.lasts() {
        if !client.reconnect() {
            client.pump(Duration::from_millis(100));
            continue;
        }
        sent += u64::from(client.say(&message));
        client.pump(Duration::from_millis(20));
    }
    let ended = client.heard.closed;
    reached(ended > 0, sent, format!("{ended} sessions ended, last: {}", client.heard.reason))
}

fn known_entries(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let log: Vec<Vec<u8>> =
        client.log.hashes().iter().filter_map(|hash| client.log.entry(hash)).map(<[u8]>::to_vec).collect();
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        sent += client.say_entries(&log);
    }
    let heard = client.is_heard();
    reached(heard, sent, format!("heard: {heard}; {} entries", sent * log.len() as u64))
}

fn letting_in(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    // With the reader's ticket, which is for one device.
    let reader = scene.ground.reader.clone();
    let mut guest = scene.device(&reader)?;
    guest.log = client.log.clone();
    let own = client.key().clone();
    let (prev, depth) = top(&client);
    let (mut sent, mut made) = (0, 0);
    while scene.lasts() && client.reconnect() {
        let batch: Vec<Vec<u8>> = (0..100)
            .map(|_| {
                let device = SecretKey::from_seed(&scene.dice.bytes()).device();
                let fields = admission(&guest, &device);
                forge::entry(&own, client.space(), &prev, depth, (2, &fields), scene.dice.bytes())
            })
            .collect();
        made += batch.len();
        sent += client.say_entries(&batch);
        client.pump(Duration::from_millis(2));
    }
    client.pump(Duration::from_millis(200));
    let heard = client.is_heard();
    let fresh = match log_now(scene) {
        Ok(fresh) => fresh,
        Err(why) => {
            let seen = format!("heard: {heard}; {made} entries");
            return Ok(reached(true, sent, seen)?.holds(false, format!("nobody new has a session: {why}")));
        }
    };
    let (kept, members) = (fresh.log.hashes().len(), fresh.log.members().len());
    Ok(reached(heard, sent, format!("heard: {heard}; {made} entries, {kept} are kept; {members} members"))?
        .holds(members <= 4, format!("a ticket for one device has let in {} devices", members.saturating_sub(3))))
}
