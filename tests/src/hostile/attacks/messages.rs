//! Messages of a reader that need no signature: questions, lies, texts.

use std::time::Duration;

use anabranch_engine::id::{ActorId, ChangeHash, DocumentId, StorageId};
use anabranch_engine::space::auth::topic;
use anabranch_engine::space::entry_key;
use anabranch_engine::sync::collection::Prefix;
use anabranch_engine::sync::hint::Hint;
use anabranch_engine::wire::{ActorTip, DocumentFrontier, Item, Level, Message, Node, Range, RefusalCode, SpaceRoots};

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::Manners;
use crate::hostile::scene::Scene;
use crate::processes::command;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "lying-roots",
        who: Who::Reader,
        does: "Roots that are others each time, thousands a second.",
        share: Share::NOTHING,
        strike: lying_roots,
    },
    Attack {
        name: "lying-items",
        who: Who::Reader,
        does: "Ranges, items and frontiers of what does not exist.",
        share: Share::NOTHING,
        strike: lying_items,
    },
    Attack {
        name: "demands",
        who: Who::Reader,
        does: "All documents and all entries, asked for again and again.",
        share: Share::NOTHING,
        strike: demands,
    },
    Attack {
        name: "no-credit",
        who: Who::Reader,
        does: "The same without ever saying what has come.",
        share: Share::NOTHING,
        strike: no_credit,
    },
    Attack {
        name: "never-reads",
        who: Who::Reader,
        does: "The same without reading what comes.",
        share: Share::NOTHING,
        strike: never_reads,
    },
    Attack {
        name: "hints",
        who: Who::Reader,
        does: "Hints that are lies or rubbish, hundreds a second.",
        share: Share::NOTHING,
        strike: hints,
    },
    Attack {
        name: "refusals",
        who: Who::Reader,
        does: "Refusals of runs with long texts, of forks that nobody has seen among them.",
        share: Share::NOTHING,
        strike: refusals,
    },
    Attack {
        name: "good-byes",
        who: Who::Reader,
        does: "A good-bye of two megabytes, in ever new sessions.",
        share: Share::NOTHING,
        strike: good_byes,
    },
    Attack {
        name: "escapes",
        who: Who::Reader,
        does: "Texts that would steer a terminal, wherever a peer can write one.",
        share: Share::NOTHING,
        strike: escapes,
    },
];

/// Says what `next` makes until the scene is over; how many messages, and whether the last was heard.
fn flood(
    scene: &mut Scene,
    manners: Manners,
    mut next: impl FnMut(&mut Scene, u64) -> Message,
) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    client.manners = manners;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let message = next(scene, sent);
        sent += u64::from(client.say(&message));
    }
    client.pump(Duration::from_millis(50));
    let heard = client.is_heard();
    let (bytes, runs) = (client.heard.bytes, client.heard.runs);
    reached(heard, sent, format!("heard: {heard}; {bytes} bytes and {runs} runs came back"))
}

fn lying_roots(scene: &mut Scene) -> Result<Effect, String> {
    flood(scene, Manners::Content, |scene, _| {
        let (members, documents) = (scene.dice.bytes().into(), Some(scene.dice.bytes().into()));
        let roots = SpaceRoots { space: 0, members, documents };
        Message::Roots { ask: 0, answer: 0, spaces: vec![roots] }
    })
}

fn made_up_tip(scene: &mut Scene) -> ActorTip {
    let (actor, tip) = (ActorId(scene.dice.bytes()), ChangeHash(scene.dice.bytes()));
    ActorTip { actor, seq: scene.dice.between(1, 1 << 40), lamport: scene.dice.any(), tip }
}

fn lying_items(scene: &mut Scene) -> Result<Effect, String> {
    flood(scene, Manners::Content, |scene, sent| {
        let level = if sent % 2 == 0 { Level::Documents } else { Level::Members };
        match sent % 3 {
            0 => {
                let item =
                    |scene: &mut Scene| Item { key: scene.dice.bytes().into(), fingerprint: scene.dice.bytes().into() };
                let items = (0..1_000).map(|_| item(scene)).collect();
                Message::Items { space: 0, level, ranges: vec![Range { prefix: Prefix::default(), items }] }
            }
            1 => {
                let node = |scene: &mut Scene| Node {
                    prefix: Prefix::new(&scene.dice.bytes(), scene.dice.below(8) as u8),
                    fingerprint: scene.dice.bytes().into(),
                };
                Message::Nodes { space: 0, level, nodes: (0..1_000).map(|_| node(scene)).collect() }
            }
            _ => {
                let documents = (0..200).map(|number| {
                    let actors = (0..5).map(|_| made_up_tip(scene)).collect();
                    let known = number == 0;
                    let document = if known { scene.ground.document } else { DocumentId(scene.dice.bytes()) };
                    DocumentFrontier { document, actors, reply: true }
                });
                Message::Frontiers { space: 0, documents: documents.collect() }
            }
        }
    })
}

/// A question for all that there is, each time another one.
fn demand(scene: &mut Scene, sent: u64) -> Message {
    let all = || Range { prefix: Prefix::default(), items: Vec::new() };
    let document = DocumentFrontier { document: scene.ground.document, actors: Vec::new(), reply: true };
    match sent % 4 {
        0 => Message::Items { space: 0, level: Level::Documents, ranges: vec![all()] },
        1 => Message::Items { space: 0, level: Level::Members, ranges: vec![all()] },
        2 => Message::WantEntries {
            space: 0,
            keys: vec![entry_key(&anabranch_engine::id::EntryHash(scene.dice.bytes())).into(); 1_000],
        },
        _ => Message::Frontiers { space: 0, documents: vec![document] },
    }
}

fn demands(scene: &mut Scene) -> Result<Effect, String> {
    flood(scene, Manners::Ignorant, demand)
}

fn no_credit(scene: &mut Scene) -> Result<Effect, String> {
    flood(scene, Manners::Mean, demand)
}

fn never_reads(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    client.manners = Manners::Mean;
    let mut sent = 0;
    while scene.lasts() {
        // At most what its own network holds for a session.
        if sent % 40 == 0 && !client.reconnect() {
            client.pump(Duration::from_millis(100));
            continue;
        }
        let message = demand(scene, sent);
        client.say_deaf(&message);
        sent += 1;
        client.deafen(Duration::from_millis(10));
    }
    // Now it reads.
    client.pump(Duration::from_millis(200));
    let (bytes, closed) = (client.heard.bytes, client.heard.closed);
    reached(bytes > 1_000, sent, format!("{bytes} bytes had waited; {closed} sessions ended: {}", client.heard.reason))
}

fn hints(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let topic = topic(&scene.ground.reader.connection_key);
    client.subscribe(&topic);
    let member = scene.ground.member;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let (storage, roots) = (StorageId(scene.dice.bytes()), (scene.dice.bytes().into(), scene.dice.bytes().into()));
        let hint = Hint { version: Hint::VERSION, device: member, storage, epoch: 1, seq: scene.dice.any(), roots };
        let rubbish: [u8; 50] = scene.dice.bytes();
        client.publish(&topic, if sent % 10 == 0 { rubbish.to_vec() } else { hint.to_bytes() });
        sent += 1;
        client.pump(Duration::from_millis(2));
    }
    let heard = client.is_heard();
    // There is one every two seconds from who has something to say.
    client.until(Duration::from_secs(5), |client| client.heard.hints > 0);
    let hints = client.heard.hints;
    reached(heard && hints > 0, sent, format!("heard: {heard}; {hints} hints of others came"))
}

fn refusals(scene: &mut Scene) -> Result<Effect, String> {
    flood(scene, Manners::Content, |scene, sent| {
        let codes = [
            RefusalCode::Fork,
            RefusalCode::Misfit,
            RefusalCode::NotAMember,
            RefusalCode::MembersUnknown,
            RefusalCode::NotWanted,
        ];
        let known = sent % 2 == 0;
        Message::Refused {
            space: 0,
            document: if known { scene.ground.document } else { DocumentId(scene.dice.bytes()) },
            actor: ActorId(scene.dice.bytes()),
            first_seq: 1,
            code: codes[sent as usize / 2 % codes.len()],
            detail: "x".repeat(10_000),
        }
    })
}

fn good_byes(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let reason: String = "good bye and thanks ".repeat(100_000);
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        sent += u64::from(client.say(&Message::Bye { reason: reason.clone() }));
        client.until(Duration::from_secs(1), |client| !client.is_open());
    }
    let ended = client.heard.closed;
    reached(ended > 0, sent, format!("{ended} sessions ended"))
}

fn escapes(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let text = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nERROR forged line\u{202e}";
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let detail = text.to_owned();
        let (document, actor) = (scene.ground.document, ActorId(scene.dice.bytes()));
        if sent % 16 == 12 {
            // That alone ends the session.
            client.say(&Message::Name { name: text.to_owned() });
        }
        client.say(&Message::JoinRefused { space: 0, reason: text.to_owned() });
        client.say(&Message::Refused { space: 0, document, actor, first_seq: 1, code: RefusalCode::Misfit, detail });
        client.is_heard();
        client.say(&Message::Bye { reason: text.to_owned() });
        sent += 4;
        client.until(Duration::from_secs(1), |client| !client.is_open());
    }
    let directory = scene.ground.directory.clone();
    let shown = ["peers", "status"].map(|command| command::run(&directory, &[command], "").stdout).concat();
    let log = std::fs::read_to_string(directory.with_extension("log")).unwrap_or_default();
    let steers = |text: &str| text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}');
    let forges = |text: &str| text.lines().any(|line| line.starts_with("ERROR forged"));
    let told = shown.contains("forged") || log.contains("forged");
    Ok(reached(told, sent, format!("told to people: {told}; {}", client.heard.reason))?
        .holds(!steers(&shown) && !forges(&shown), "what a peer wrote steers a terminal")
        .holds(!steers(&log) && !forges(&log), "what a peer wrote steers who reads the log"))
}
