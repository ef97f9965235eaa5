//! Entries of the membership log that have no right to be there, and joins.

use std::time::Duration;

use anabranch_engine::id::EntryHash;
use anabranch_engine::keys::SecretKey;

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
        name: "bad-entries",
        who: Who::Reader,
        does: "The same entry with a bad signature, a thousand times in a message of a few bytes.",
        share: Share::NOTHING,
        strike: bad_entries,
    },
];

/// Where new entries can stand: on the latest ones.
fn top(client: &Client) -> (Vec<EntryHash>, u32) {
    let mut prev = client.log.heads();
    prev.truncate(16);
    let depths = prev.iter().filter_map(|hash| client.log.entry(hash)).filter_map(forge::depth);
    let depth = depths.max().unwrap_or_default() + 1;
    (prev, depth)
}

fn forged(client: &mut Client, key: &SecretKey, kind: u8, fields: &[u8]) -> Vec<u8> {
    let (prev, depth) = top(client);
    let nonce = client.dice().bytes();
    forge::entry(key, client.space(), &prev, depth, (kind, fields), nonce)
}

fn read_only(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let key = client.key().clone();
    let mut sent = 0;
    while scene.lasts() {
        // 8 is known.
        let kind = [3, 4, 5, 6, 7, 9, 64, 127][sent as usize % 8];
        let made = forged(&mut client, &key, kind, &[0xf6]);
        sent += u64::from(client.say(&entries(&[made])));
        client.pump(Duration::from_millis(5));
    }
    let heard = client.is_heard();
    let mut fresh = scene.guest()?;
    fresh.fetch_log()?;
    let kept = fresh.log.unknown_authority().is_some();
    reached(heard && !kept, sent, format!("heard: {heard}; kept: {kept}"))
}

fn bad_entries(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    // By somebody who may: of others the signature is not looked at.
    let invites = client.log.hashes().into_iter().filter_map(|hash| client.log.entry(&hash));
    let mut made = invites.last().ok_or("the log is empty")?.to_vec();
    let at = made.len() - 5;
    made[at] ^= 1;
    let message = entries(&vec![made; 1_000]);
    let mut sent = 0;
    while scene.lasts() {
        if !client.reconnect() {
            client.pump(Duration::from_millis(200));
            continue;
        }
        sent += u64::from(client.say(&message));
        client.pump(Duration::from_millis(20));
    }
    let ended = client.heard.closed;
    reached(ended > 0, sent, format!("{ended} sessions ended, last: {}", client.heard.reason))
}
