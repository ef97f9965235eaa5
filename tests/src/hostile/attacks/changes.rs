//! Changes and runs that are refused: of who may not write, badly signed, impossible, or never complete.

use std::time::Duration;

use anabranch_engine::id::{ActorId, ChangeHash, DocumentId, EntryHash};
use anabranch_engine::limits::{CHANGE_DENSE_OPS_MAX, CHANGE_DEPS_MAX, COUNTER_GAP_MAX};
use anabranch_engine::run::Run;
use anabranch_engine::space::Acl;
use anabranch_engine::wire::{DocumentFrontier, Lane, Message};

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::{Client, Manners};
use crate::hostile::scene::Scene;
use crate::sim::byzantine::forge::{self, Chain};

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "reader-writes",
        who: Who::Reader,
        does: "Changes signed by a reader.",
        share: Share::NOTHING,
        strike: reader_writes,
    },
    Attack {
        name: "bad-signatures",
        who: Who::Writer,
        does: "Runs whose signature does not hold, and runs in the name of others.",
        share: Share::NOTHING,
        strike: bad_signatures,
    },
    Attack {
        name: "impossible",
        who: Who::Writer,
        does: "Changes that no honest program makes: what they replace is elsewhere, their numbers are far too large.",
        share: Share::of(48, 16),
        strike: impossible,
    },
    Attack {
        name: "too-dense",
        who: Who::Writer,
        does: "A hundred bytes that stand for more operations than a change may have.",
        share: Share::NOTHING,
        strike: too_dense,
    },
    Attack {
        name: "orphans",
        who: Who::Writer,
        does: "Runs that wait for what never comes, in as many documents.",
        share: Share::of(96, 4),
        strike: orphans,
    },
    Attack {
        name: "wide",
        who: Who::Writer,
        does: "Changes that depend on a thousand others, which do not exist.",
        share: Share::of(112, 4),
        strike: wide,
    },
    Attack {
        name: "unknown-members",
        who: Who::Writer,
        does: "Runs that stand on ever other lists of members.",
        share: Share::NOTHING,
        strike: unknown_members,
    },
    Attack {
        name: "replays",
        who: Who::Writer,
        does: "Runs of others again and again, and in documents and spaces where they were not made.",
        share: Share::NOTHING,
        strike: replays,
    },
];

/// The list of members that an attacker's runs stand on: its own entry.
pub(super) fn own_acl(client: &Client) -> Result<Acl, String> {
    let own = client.key().device();
    let member = client.log.members().into_iter().find(|member| member.device == own);
    Ok(Acl::new(vec![member.ok_or("it is no member")?.entry]))
}

/// Sends runs on the live lane, unasked.
pub(super) fn send(client: &mut Client, acl: &Acl, runs: &[Run]) -> bool {
    client.say_on(Lane::Live, &forge::message(0, acl, runs))
}

/// A chain of a fresh actor that knows nothing of the document.
pub(super) fn fresh(scene: &mut Scene) -> Chain {
    Chain::new(ActorId(scene.dice.bytes()), Vec::new(), 0)
}

/// Sends the runs that `next` makes until the scene is over; how many messages.
pub(super) fn flood(
    scene: &mut Scene,
    client: &mut Client,
    mut next: impl FnMut(&mut Scene, &Client, &Acl) -> Vec<Run>,
) -> Result<u64, String> {
    let acl = own_acl(client)?;
    let mut sent = 0;
    while scene.lasts() {
        if !client.reconnect() {
            client.pump(Duration::from_millis(100));
            continue;
        }
        let runs = next(scene, client, &acl);
        sent += u64::from(send(client, &acl, &runs));
    }
    client.is_heard();
    Ok(sent)
}

/// All that came was refused.
fn refused(client: &Client, sent: u64) -> Result<Effect, String> {
    let heard = &client.heard;
    let seen = format!("{:?}, last: {}; {} sessions ended", heard.refused, heard.refusal, heard.closed);
    reached(heard.refusals() > 0, sent, seen)
}

fn reader_writes(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let sent = flood(scene, &mut client, |scene, client, acl| {
        let document = scene.ground.document;
        let run = |scene: &mut Scene| {
            let change = fresh(scene).grow(1);
            forge::run(client.key(), client.space(), document, acl, &[change])
        };
        (0..20).map(|_| run(scene)).collect()
    })?;
    refused(&client, sent)
}

fn bad_signatures(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let (member, document) = (scene.ground.member, scene.ground.document);
    let acl = own_acl(&client)?;
    let made: Vec<Run> = (0..400)
        .map(|value| {
            let change = fresh(scene).grow(value);
            forge::run(client.key(), client.space(), document, &acl, &[change])
        })
        .collect();
    let mut at = 0;
    let sent = flood(scene, &mut client, |scene, _, _| {
        at = (at + 200) % made.len();
        let bad = |(number, run): (usize, &Run)| {
            let mut run = run.clone();
            match number % 2 {
                0 => run.header.signature = scene.dice.bytes(),
                _ => run.header.device = member,
            }
            run
        };
        made[at..at + 200].iter().enumerate().map(bad).collect()
    })?;
    refused(&client, sent)
}

fn impossible(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let document = scene.ground.document;
    // What the impossible ones follow is possible, and one is enough of it.
    let mut good = fresh(scene);
    let first = good.grow(1);
    let acl = own_acl(&client)?;
    let run = forge::run(client.key(), client.space(), document, &acl, &[first]);
    send(&mut client, &acl, &[run]);
    let sent = flood(scene, &mut client, |scene, client, acl| {
        let run = |scene: &mut Scene, number: u64| {
            let change = match number % 3 {
                // The value that the first change wrote, under another key.
                0 => good.change_replacing(scene.dice.any(), Some(good.start_op - 1)),
                1 => {
                    let mut chain = good.clone();
                    chain.start_op += [COUNTER_GAP_MAX + 1, (1 << 31) - 2, 1 << 40][scene.dice.index(3)];
                    chain.change(scene.dice.any())
                }
                _ => {
                    let mut chain = good.clone();
                    chain.seq = [3, 1_000, u64::MAX][scene.dice.index(3)];
                    chain.change(scene.dice.any())
                }
            };
            forge::run(client.key(), client.space(), document, acl, &[change])
        };
        (0..21).map(|number| run(scene, number)).collect()
    })?;
    refused(&client, sent)
}

fn too_dense(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let change = fresh(scene).change_of_nulls(CHANGE_DENSE_OPS_MAX + 1_000);
    let sent = flood(scene, &mut client, |scene, client, acl| {
        let documents: Vec<DocumentId> = (0..200).map(|_| DocumentId(scene.dice.bytes())).collect();
        let run = |document| forge::run(client.key(), client.space(), document, acl, std::slice::from_ref(&change));
        documents.into_iter().map(run).collect()
    })?;
    refused(&client, sent)
}

fn orphans(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let sent = flood(scene, &mut client, |scene, client, acl| {
        let run = |number: u64| {
            let (actor, parent) = (ActorId(scene.dice.bytes()), ChangeHash(scene.dice.bytes()));
            let change = Chain::new(actor, vec![parent], 7).grow(number);
            let elsewhere = DocumentId(scene.dice.bytes());
            let document = if number.is_multiple_of(2) { elsewhere } else { scene.ground.document };
            forge::run(client.key(), client.space(), document, acl, &[change])
        };
        (0..100).map(run).collect()
    })?;
    let heard = client.is_heard();
    reached(heard, sent, format!("heard: {heard}; refused {:?}", client.heard.refused))
}

fn wide(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let sent = flood(scene, &mut client, |scene, client, acl| {
        let run = |number: u64| {
            let count = CHANGE_DEPS_MAX as u64 + number % 2;
            let deps = (0..count).map(|_| ChangeHash(scene.dice.bytes())).collect();
            let change = Chain::new(ActorId(scene.dice.bytes()), deps, 0).grow(number);
            forge::run(client.key(), client.space(), scene.ground.document, acl, &[change])
        };
        (0..5).map(run).collect()
    })?;
    let heard = client.is_heard();
    reached(heard, sent, format!("heard: {heard}; refused {:?}", client.heard.refused))
}

fn unknown_members(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let own = own_acl(&client)?;
    let mut known = client.log.hashes();
    known.truncate(12);
    let document = DocumentId(scene.dice.bytes());
    let (mut sent, mut lists) = (0, 0u64);
    while scene.lasts() && client.reconnect() {
        let (mut acls, mut runs) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            lists += 1;
            let list = if lists.is_multiple_of(8) && lists < 512 {
                // Some of the entries that there are: runs on such a list are good, and of these there are few.
                let some = known.iter().enumerate().filter(|(at, _)| (lists / 8) >> at & 1 == 1);
                some.map(|(_, entry)| *entry).chain(own.entries.clone()).collect()
            } else {
                (0..63).map(|_| EntryHash(scene.dice.bytes())).chain(own.entries.clone()).collect()
            };
            let acl = Acl::new(list);
            let change = fresh(scene).grow(lists);
            let run = forge::run(client.key(), client.space(), document, &acl, &[change]);
            runs.push(forge::wire(&acl, &run));
            acls.push(acl.entries);
        }
        sent += u64::from(client.say_on(Lane::Live, &Message::Runs { space: 0, acls, runs }));
    }
    let heard = client.is_heard();
    let refused = client.heard.refusals();
    reached(refused > 0, sent, format!("heard: {heard}; {lists} lists; refused {:?}", client.heard.refused))
}

fn replays(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    client.manners = Manners::Ignorant;
    let document = scene.ground.document;
    let frontier = DocumentFrontier { document, actors: Vec::new(), reply: false };
    client.say(&Message::Frontiers { space: 0, documents: vec![frontier] });
    client.until(Duration::from_secs(3), |client| !client.heard.kept.is_empty());
    client.manners = Manners::Content;
    if client.heard.kept.is_empty() {
        return Err("no runs of others came".to_owned());
    }
    let (kept, acls) = (client.heard.kept.clone(), vec![client.log.heads()]);
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let mut runs = kept.clone();
        runs.truncate(30);
        if sent % 2 == 1 {
            let elsewhere = DocumentId(scene.dice.bytes());
            runs.iter_mut().for_each(|run| run.document = elsewhere);
        }
        sent += u64::from(client.say_on(Lane::Live, &Message::Runs { space: 0, acls: acls.clone(), runs }));
    }
    let heard = client.is_heard();
    reached(heard, sent, format!("heard: {heard}; {} runs; refused {:?}", kept.len(), client.heard.refused))
}
