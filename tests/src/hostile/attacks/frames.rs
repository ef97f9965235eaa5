//! Frames of a reader that are none, or that say what does not follow; sessions that come and go.

use std::time::Duration;

use anabranch_engine::wire::frame::to_frames;
use anabranch_engine::wire::{Lane, Message};

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::Client;
use crate::hostile::scene::Scene;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "rubbish",
        who: Who::Reader,
        does: "Frames of random bytes, in ever new sessions.",
        share: Share::NOTHING,
        strike: rubbish,
    },
    Attack {
        name: "huge-lengths",
        who: Who::Reader,
        does: "Messages that are announced as huge and do not come, on every lane of every session.",
        share: Share::of(80, 4),
        strike: huge_lengths,
    },
    Attack {
        name: "tiny-frames",
        who: Who::Reader,
        does: "Hundreds of thousands of frames of four bytes.",
        share: Share::NOTHING,
        strike: tiny_frames,
    },
    Attack {
        name: "bulk-unpaid",
        who: Who::Reader,
        does: "Bulk beyond the credit that was given, and credit that was not earned.",
        share: Share::of(80, 4),
        strike: bulk_unpaid,
    },
    Attack {
        name: "open-and-close",
        who: Who::Reader,
        does: "Sessions that are opened and closed in a row.",
        share: Share::NOTHING,
        strike: open_and_close,
    },
    Attack {
        name: "many-processes",
        who: Who::Reader,
        does: "As many sessions of one device as can be, each said to be another process.",
        share: Share::NOTHING,
        strike: many_processes,
    },
];

/// Sends what `next` makes, in a new session whenever the last one was ended.
fn break_in(scene: &mut Scene, mut next: impl FnMut(&mut Scene) -> Vec<Vec<u8>>) -> Result<(Client, u64), String> {
    let mut client = scene.reader()?;
    let mut sent = 0;
    while scene.lasts() {
        if !client.reconnect() {
            client.pump(Duration::from_millis(100));
            continue;
        }
        let frames = next(scene);
        sent += u64::from(client.send(frames));
        client.pump(Duration::from_millis(2));
    }
    client.pump(Duration::from_millis(50));
    Ok((client, sent))
}

fn ends(client: &Client, sent: u64) -> Result<Effect, String> {
    let ended = client.heard.closed;
    reached(ended > 0, sent, format!("{ended} sessions ended, last: {}", client.heard.reason))
}

fn rubbish(scene: &mut Scene) -> Result<Effect, String> {
    let (client, sent) = break_in(scene, |scene| {
        let length = [1, 2, 7, 300, 60_000][scene.dice.index(5)];
        let mut bytes: Vec<u8> = (0..length).map(|_| scene.dice.below(256) as u8).collect();
        // A good head, whatever follows.
        let head = [0x10 | scene.dice.below(3) as u8, scene.dice.below(8) as u8];
        bytes.splice(..bytes.len().min(2), head);
        vec![bytes]
    })?;
    ends(&client, sent)
}

fn huge_lengths(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let mut sent = 0;
    while scene.lasts() {
        while client.sessions() < 4 && client.connect(Some(Vec::new())).is_ok() {}
        let lane = scene.dice.below(3) as u8;
        let most = [2 << 20, 256 << 10, 16 << 20][usize::from(lane)];
        let length: u32 = if scene.dice.percent(95) { most } else { u32::MAX };
        let compressed = if scene.dice.percent(30) { 4 } else { 0 };
        let mut frame = vec![0x10 | lane, 1 | compressed];
        frame.extend(length.to_be_bytes());
        if compressed != 0 {
            frame.extend(length.to_be_bytes());
        }
        frame.extend([0; 60_000]);
        sent += u64::from(client.send_everywhere(&[frame]));
        client.pump(Duration::from_millis(5));
    }
    client.pump(Duration::from_millis(50));
    ends(&client, sent)
}

fn tiny_frames(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        // A message of a kind that nobody knows.
        sent += u64::from(client.send(vec![vec![0x10, 3, 0x81, 23]; 500])) * 500;
    }
    let heard = client.is_heard();
    reached(heard, sent, format!("heard: {heard}"))
}

fn bulk_unpaid(scene: &mut Scene) -> Result<Effect, String> {
    // Of a kind that is ignored; nothing that can be made smaller.
    let mut message = vec![0x82, 0x18, 0x63, 0x5a, 0, 1, 0x86, 0xa0];
    message.extend((0..100_000 / 32).flat_map(|_| scene.dice.bytes::<32>()));
    message.resize(100_008, 7);
    let (client, sent) = break_in(scene, |scene| {
        let taken = [0, 1 << 20, u64::MAX][scene.dice.index(3)];
        let credit = to_frames(Lane::Control, Message::Credit { taken }.to_bytes());
        let bulk = (0..5).flat_map(|_| to_frames(Lane::Bulk, message.clone()));
        credit.into_iter().chain(bulk).collect()
    })?;
    let (ended, credit) = (client.heard.closed, client.heard.credit);
    let seen = format!("{ended} sessions ended: {}; credit for {credit} bytes", client.heard.reason);
    reached(ended > 0 || credit > 0, sent, seen)
}

fn open_and_close(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    while scene.lasts() {
        client.close();
        client.until(Duration::from_secs(3), |client| !client.is_open());
        // Where the last one is not gone yet there is no place.
        let _ = client.connect(Some(Vec::new()));
    }
    let opened = client.heard.opened;
    reached(opened > 2, opened, format!("{opened} sessions; last: {}", client.heard.reason))
}

fn many_processes(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let mut most = 0;
    while scene.lasts() {
        let _ = client.connect(Some(Vec::new()));
        client.pump(Duration::from_millis(20));
        most = most.max(client.sessions());
    }
    let (opened, ended) = (client.heard.opened, client.heard.closed);
    let seen = format!("{most} at once, {ended} ended, last: {}", client.heard.reason);
    Ok(reached(opened > 5, opened, seen)?.holds(most <= 6, format!("{most} sessions of one device")))
}
