//! What a writer may write, and writes to do harm: it is taken, and costs no more than it looks.

use std::time::Duration;

use anabranch_engine::id::{ChangeHash, DocumentId};
use anabranch_engine::limits::CHANGE_DENSE_OPS_MAX;
use anabranch_engine::run::Run;
use anabranch_engine::space::Acl;
use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, Change, ROOT, ScalarValue};
use serde_json::json;

use super::changes::{flood, fresh, own_acl, send};
use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::Client;
use crate::hostile::scene::Scene;
use crate::processes::socket::Socket;
use crate::sim::byzantine::forge;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "dense",
        who: Who::Writer,
        does: "Eight changes of a hundred bytes in one document, each of which stands for 100,000 operations.",
        share: Share::of(400, 16),
        strike: dense,
    },
    Attack {
        name: "dense-documents",
        who: Who::Writer,
        does: "The same in eight new documents.",
        share: Share::of(400, 16),
        strike: dense_documents,
    },
    Attack {
        name: "heads",
        who: Who::Writer,
        does: "1,100 heads in the document that others edit.",
        share: Share::of(64, 48),
        strike: heads,
    },
    Attack {
        name: "actors",
        who: Who::Writer,
        does: "Thousands of actors in the document that others edit.",
        share: Share::of(128, 128),
        strike: actors,
    },
    Attack {
        name: "forks",
        who: Who::Writer,
        does: "Two histories of one actor, of very many actors.",
        share: Share::of(64, 48),
        strike: forks,
    },
    Attack {
        name: "back-dates",
        who: Who::Writer,
        does: "Long histories that begin where nothing was known.",
        share: Share::of(96, 48),
        strike: back_dates,
    },
    Attack {
        name: "large-values",
        who: Who::Writer,
        does: "Sixteen megabytes of values that replace each other.",
        share: Share::of(128, 96),
        strike: large_values,
    },
    Attack {
        name: "documents",
        who: Who::Writer,
        does: "Thousands of small documents.",
        share: Share::of(128, 96),
        strike: documents,
    },
];

fn taken(client: &mut Client, sent: u64) -> Result<Effect, String> {
    let heard = client.is_heard();
    let refused = &client.heard.refused;
    reached(heard, sent, format!("heard: {heard}; refused {refused:?} {}", client.heard.refusal))
}

/// Sends single runs, as fast as they are taken.
fn each(client: &mut Client, acl: &Acl, runs: Vec<Run>, pause: Duration) -> u64 {
    let mut sent = 0;
    for run in runs {
        sent += u64::from(client.reconnect() && send(client, acl, &[run]));
        client.pump(pause);
    }
    sent
}

fn dense(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let (acl, document) = (own_acl(&client)?, DocumentId(scene.dice.bytes()));
    let mut chain = fresh(scene);
    let mut runs = Vec::new();
    for _ in 0..8 {
        let change = chain.change_of_nulls(CHANGE_DENSE_OPS_MAX);
        (chain.seq, chain.start_op) = (chain.seq + 1, chain.start_op + CHANGE_DENSE_OPS_MAX + 1);
        chain.deps = vec![ChangeHash(change.hash().0)];
        runs.push(forge::run(client.key(), client.space(), document, &acl, &[change]));
    }
    let sent = each(&mut client, &acl, runs, Duration::from_millis(10));
    wait(scene, &mut client);
    taken(&mut client, sent)
}

fn dense_documents(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let acl = own_acl(&client)?;
    let change = fresh(scene).change_of_nulls(CHANGE_DENSE_OPS_MAX);
    let documents: Vec<DocumentId> = (0..8).map(|_| DocumentId(scene.dice.bytes())).collect();
    let run = |document| forge::run(client.key(), client.space(), document, &acl, std::slice::from_ref(&change));
    let runs = documents.into_iter().map(run).collect();
    let sent = each(&mut client, &acl, runs, Duration::from_millis(10));
    wait(scene, &mut client);
    taken(&mut client, sent)
}

/// What was sent is still worked on.
fn wait(scene: &Scene, client: &mut Client) {
    while scene.lasts() {
        client.pump(Duration::from_millis(20));
    }
}

fn roots(scene: &mut Scene, client: &Client, acl: &Acl, count: u64) -> Vec<Run> {
    let document = scene.ground.document;
    let run = |value| {
        let change = fresh(scene).grow(value);
        forge::run(client.key(), client.space(), document, acl, &[change])
    };
    (0..count).map(run).collect()
}

fn heads(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let acl = own_acl(&client)?;
    let mut sent = 0;
    for _ in 0..11 {
        let runs = roots(scene, &client, &acl, 100);
        sent += u64::from(send(&mut client, &acl, &runs)) * 100;
    }
    wait(scene, &mut client);
    taken(&mut client, sent)
}

fn actors(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let mut made = 0;
    flood(scene, &mut client, |scene, client, acl| {
        made += 100;
        std::thread::sleep(Duration::from_millis(10));
        // Beyond it they are refused.
        if made < 12_000 { roots(scene, client, acl, 100) } else { roots(scene, client, acl, 1) }
    })?;
    taken(&mut client, made)
}

fn forks(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let mut to_member = client.at(&scene.ground.member_address.clone())?;
    let (acl, document) = (own_acl(&client)?, scene.ground.document);
    let mut sent = 0;
    while scene.lasts() && client.reconnect() && to_member.reconnect() {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for value in 0..4 {
            let chain = fresh(scene);
            for (branch, runs) in [(0, &mut left), (1_000, &mut right)] {
                let mut chain = chain.clone();
                let changes: Vec<Change> = (0..3).map(|n| chain.grow(branch + value + n)).collect();
                runs.push(forge::run(client.key(), client.space(), document, &acl, &changes));
            }
        }
        sent += u64::from(send(&mut client, &acl, &left) && send(&mut to_member, &acl, &right));
        client.pump(Duration::from_millis(50));
        to_member.pump(Duration::from_millis(10));
    }
    // It is found when the two compare what they have.
    let (mut named, mut tries) = (0, 0);
    while named == 0 && tries < 40 {
        client.pump(Duration::from_millis(100));
        let mut socket = Socket::open(&scene.ground.directory, Duration::from_secs(30)).map_err(|e| e.to_string())?;
        let status = socket.ask("status", json!({}))?;
        named = status["spaces"][0]["forked"].as_array().map_or(0, Vec::len);
        tries += 1;
    }
    reached(named > 0, sent, format!("{named} documents are named as forked; refused {:?}", client.heard.refused))
}

fn back_dates(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let document = scene.ground.document;
    let mut left = 40;
    let sent = flood(scene, &mut client, |scene, client, acl| {
        std::thread::sleep(Duration::from_millis(50));
        let mut chain = fresh(scene);
        // A long one is work for everybody, and a few are enough.
        let length = if left > 0 { 500 } else { 1 };
        left -= i32::from(left > 0);
        let changes: Vec<Change> = (0..length).map(|value| chain.grow(value)).collect();
        vec![forge::run(client.key(), client.space(), document, acl, &changes)]
    })?;
    taken(&mut client, sent)
}

/// A change of a fresh actor that puts so many random bytes where others have put theirs.
fn put_bytes(scene: &mut Scene, count: usize) -> Result<Change, String> {
    let actor: [u8; 16] = scene.dice.bytes();
    let bytes: Vec<u8> = (0..count / 32).flat_map(|_| scene.dice.bytes::<32>()).collect();
    let mut document = AutoCommit::new().with_actor(automerge::ActorId::from(actor.to_vec()));
    document.put(ROOT, "large", ScalarValue::Bytes(bytes)).map_err(|error| error.to_string())?;
    document.commit();
    document.get_changes(&[]).first().cloned().ok_or_else(|| "no change was made".to_owned())
}

fn large_values(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let (acl, document) = (own_acl(&client)?, DocumentId(scene.dice.bytes()));
    let mut sent = 0;
    for _ in 0..80 {
        let change = put_bytes(scene, 200_000)?;
        let run = forge::run(client.key(), client.space(), document, &acl, &[change]);
        sent += u64::from(client.reconnect() && send(&mut client, &acl, &[run]));
        client.pump(Duration::from_millis(5));
        if !scene.lasts() {
            break;
        }
    }
    taken(&mut client, sent)
}

fn documents(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.writer()?;
    let mut made = 0u64;
    flood(scene, &mut client, |scene, client, acl| {
        std::thread::sleep(Duration::from_millis(20));
        let count = if made < 6_000 { 50 } else { 1 };
        made += count;
        let run = |value| {
            let change = fresh(scene).grow(value);
            forge::run(client.key(), client.space(), DocumentId(scene.dice.bytes()), acl, &[change])
        };
        (0..count).map(run).collect()
    })?;
    taken(&mut client, made)
}
