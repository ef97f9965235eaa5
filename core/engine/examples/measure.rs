//! What documents cost, next to bare automerge: `cargo run --release -p anabranch-engine --example measure [TRACE.json]`. The
//! trace is one of <https://github.com/josephg/editing-traces>, unpacked.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a measurement reads the clock and may stop")]

use std::time::Instant;

use anabranch_engine::document::import::{Import, Rules};
use anabranch_engine::document::{Author, Document, EditError, OpenWork, Settle};
use anabranch_engine::gate::{Authority, Guard, Panicked, Slot, inspect};
use anabranch_engine::id::{AclHash, ActorId, DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::run::Run;
use anabranch_engine::space::roles::Role;
use automerge::Automerge;
use automerge::transaction::{CommitOptions, Transactable};
use serde_json::Value as Json;

const SPACE: SpaceId = SpaceId([1; 32]);
const DOCUMENT: DocumentId = DocumentId([2; 16]);

struct NoGuard;

impl Guard for NoGuard {
    fn run(&self, _: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        f();
        Ok(())
    }
}

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = f();
    let ms = start.elapsed().as_secs_f64() * 1e3;
    println!("{what:<60} {ms:10.3} ms");
    (value, ms)
}

/// (position, deleted, inserted) for each keystroke.
fn keystrokes() -> Vec<(usize, usize, String)> {
    let Some(path) = std::env::args().nth(1) else {
        return (0..20_000_usize).map(|i| (i.saturating_sub(i % 7), 0, "x".to_string())).collect();
    };
    let json: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut edits = Vec::new();
    for txn in json["txns"].as_array().unwrap() {
        for patch in txn["patches"].as_array().unwrap() {
            let number = |i: usize| patch[i].as_u64().unwrap() as usize;
            edits.push((number(0), number(1), patch[2].as_str().unwrap().to_string()));
        }
    }
    edits
}

fn bare_text(edits: &[(usize, usize, String)]) -> Automerge {
    let mut doc = Automerge::new();
    let mut tx = doc.transaction();
    let text = tx.put_object(automerge::ROOT, "text", automerge::ObjType::Text).unwrap();
    tx.commit();
    for (position, deleted, inserted) in edits {
        let mut tx = doc.transaction();
        tx.splice_text(&text, *position, *deleted as isize, inserted).unwrap();
        tx.commit_with(CommitOptions::default().with_time(1));
    }
    doc
}

fn author(key: &SecretKey, actor: u8) -> Author {
    Author { device: key.device(), fresh_actor: ActorId([actor; 16]), wall_s: 1 }
}

fn our_text(key: &SecretKey, edits: &[(usize, usize, String)]) -> (Document, Vec<Run>) {
    let mut document = Document::empty(SPACE, DOCUMENT);
    document.edit(author(key, 1), |edit| edit.set("/text", "")).unwrap();
    let mut runs = Vec::new();
    for (i, (position, deleted, inserted)) in edits.iter().enumerate() {
        document
            .edit(author(key, 1), |edit| {
                edit.splice_text("/text", *position, *deleted, inserted)?;
                Ok::<_, EditError>(())
            })
            .unwrap();
        if i % 512 == 511 {
            take(key, &mut document, &mut runs);
        }
    }
    take(key, &mut document, &mut runs);
    (document, runs)
}

fn take(key: &SecretKey, document: &mut Document, runs: &mut Vec<Run>) {
    while let Some(run) = document.take_unsigned() {
        runs.push(Run::sign(key, SPACE, DOCUMENT, AclHash([0; 32]), run));
    }
}

fn parse(runs: &[Run]) -> Vec<automerge::Change> {
    let mut changes = Vec::new();
    for run in runs {
        let mut rest = &run.payload[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(anabranch_engine::gate::inspector::inspect(rest).unwrap().length);
            changes.push(automerge::Change::from_bytes(chunk.to_vec()).unwrap());
            rest = after;
        }
    }
    changes
}

fn merge(document: &mut Document, runs: Vec<Run>) {
    for run in runs {
        document.receive(run);
    }
    let settled = match document.settle(&NoGuard) {
        Settle::Done(settled) => settled,
        Settle::Work(work) => {
            let merged = work.run(&NoGuard);
            document.finish_merge(merged, &NoGuard)
        }
    };
    assert!(settled.refused.is_empty() && settled.waiting == 0);
}

fn main() {
    let key = SecretKey::from_seed(&[1; 32]);
    let edits = keystrokes();
    println!("{} keystrokes, a change each", edits.len());
    let (_, bare_ms) = timed("bare automerge", || bare_text(&edits));
    let ((mut document, runs), ours_ms) = timed("ours, signed in runs of 512", || our_text(&key, &edits));
    println!("ratio {:.2}", ours_ms / bare_ms);

    let few: Vec<Run> = {
        let (_, runs) = our_text(&key, &edits[..edits.len().min(20_000)]);
        runs
    };
    for (name, runs) in [("20,000 changes", few), ("all changes", runs.clone())] {
        println!("\n{name}");
        let changes = parse(&runs);
        let (_, parse_ms) = timed("bare: parse", || {
            changes
                .iter()
                .map(|c| automerge::Change::from_bytes(c.raw_bytes().to_vec()).unwrap())
                .collect::<Vec<_>>()
                .len()
        });
        let (_, apply_ms) = timed("bare: apply in one batch", || {
            let mut doc = Automerge::new();
            doc.apply_changes(changes.clone()).unwrap();
        });
        let (_, inspect_ms) = timed("gate stages 3 to 5", || {
            for run in &runs {
                inspect(run, Authority { role: Some(Role::Writer) }).unwrap();
            }
        });
        let (_, merge_ms) = timed("gate stages 6, 7, 9", || merge(&mut Document::empty(SPACE, DOCUMENT), runs.clone()));
        println!("ratio {:.2}", (inspect_ms + merge_ms) / (parse_ms + apply_ms));
        timed("open from the store", || {
            OpenWork {
                space: SPACE,
                id: DOCUMENT,
                runs: runs.clone(),
                tips: vec![],
                suspects: Vec::new(),
                poisoned: Vec::new(),
            }
            .run(&NoGuard)
            .unwrap();
        });
    }

    println!("\none more keystroke on the whole document");
    let before = document.heads();
    let keystroke = |document: &mut Document, actor| {
        document.edit(author(&key, actor), |edit| edit.splice_text("/text", 100, 0, "y")).unwrap();
    };
    timed("edit", || keystroke(&mut document, 1));
    let mut one = Vec::new();
    timed("take it for signing", || take(&key, &mut document, &mut one));
    timed("the difference as patches", || document.view().diff(&before).unwrap());
    timed("heads", || document.heads());
    let other_runs = runs.clone();
    let mut other =
        OpenWork { space: SPACE, id: DOCUMENT, runs, tips: vec![], suspects: Vec::new(), poisoned: Vec::new() }
            .run(&NoGuard)
            .unwrap();
    let mut bare_other = Automerge::new();
    bare_other.apply_changes(parse(&other_runs)).unwrap();
    let change = parse(&one);
    timed("bare: clone", || bare_other.clone());
    timed("bare: merged elsewhere", || bare_other.apply_changes(change).unwrap());
    timed("merged elsewhere", || merge(&mut other, one));
    timed("edit after the merge, a new actor", || keystroke(&mut other, 2));
    timed("edit after that", || keystroke(&mut other, 2));
    timed("the whole as JSON", || document.view().json());
    timed("every change's description", || document.view().history().len());

    println!("\na list of 20,000 small objects");
    let rows: Vec<Json> = (0..20_000).map(|i| serde_json::json!({"id": i, "name": format!("row {i}")})).collect();
    let mut document = Document::empty(SPACE, DOCUMENT);
    timed("imported", || {
        let (rows, rules) = (Json::Array(rows).into(), Rules::default());
        let mut import = Import::new(&document.view(), "/rows", rows, rules).unwrap();
        while !import.is_done() {
            document.edit(author(&key, 3), |edit| import.write(edit)).unwrap();
        }
    });
    timed("as JSON", || document.view().json());
}
