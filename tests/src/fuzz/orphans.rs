//! Runs that come without what they stand on: late, twice, in any order, and among a flood of others that stand on nothing.
//! However many wait, it is never more than the limit; nothing is taken in before its ancestors; and once every honest run
//! has come again, the document is what its authors made, flood or no flood.

use anabranch_engine::document::{Document, View};
use anabranch_engine::gate::payload_tip;
use anabranch_engine::id::{AclHash, ChangeHash, DeviceId};
use anabranch_engine::limits::{ORPHAN_BYTES_PER_DOCUMENT_MAX, ORPHANS_PER_DOCUMENT_MAX};
use anabranch_engine::run::{Run, RunHeader};
use serde_json::json;

use super::gate::{DOCUMENT, SPACE, bodies, change, settle};
use super::input::Input;
use super::writer::Writer;

/// Edits made of one input at most.
const EDITS_MAX: usize = 48;
/// Floods of one input at most: together enough to go over the limit of waiting runs.
const FLOODS_MAX: usize = 6;
/// Runs in a flood.
const FLOOD: u16 = 250;

/// A history of three authors, then its runs as the bytes say.
pub fn orphans(data: &[u8]) {
    evicted(data);
}

/// As [`orphans`]; returns how many waiting runs were given up for others.
pub fn evicted(data: &[u8]) -> usize {
    let mut input = Input::new(data);
    let mut authors = [Writer::new(1), Writer::new(2), Writer::new(3)];
    let runs = history(&mut authors, &mut input);
    let [reader, ..] = &authors;

    let mut document = Document::empty(SPACE, DOCUMENT);
    let (mut floods, mut evicted) = (0, 0);
    while !input.is_empty() {
        let choices = input.byte();
        match choices & 3 {
            0 if floods < FLOODS_MAX => {
                flood(choices >> 2 & 3, floods as u16 * FLOOD).for_each(|run| document.receive(run));
                floods += 1;
            }
            1 => {
                document.shrink_orphans(usize::from(input.short()) * 16);
            }
            _ => {
                if let Some(run) = runs.get(usize::from(input.byte()) % runs.len().max(1)) {
                    document.receive(run.clone());
                }
            }
        }
        if choices & 128 != 0 {
            let settled = settle(&mut document);
            assert_eq!(
                settled.refused,
                [],
                "an honest run is refused, or one is judged before its ancestors are known"
            );
            assert!(document.orphans() <= ORPHANS_PER_DOCUMENT_MAX, "{} runs wait", document.orphans());
            assert!(document.orphan_bytes() <= ORPHAN_BYTES_PER_DOCUMENT_MAX, "{} bytes wait", document.orphan_bytes());
            evicted += settled.evicted;
            closed(&document.view());
        }
    }
    for run in &runs {
        document.receive(run.clone());
    }
    assert_eq!(settle(&mut document).refused, []);
    assert_eq!(document.heads(), reader.document.heads(), "what all have sent is not what all have");
    assert_eq!(document.view().json(), reader.document.view().json());
    document.shrink_orphans(0);
    assert_eq!(document.orphan_bytes(), 0);
    evicted
}

/// Edits by authors who now and then hear of each other, told to all at the end. In an order in which all can be taken in.
fn history(authors: &mut [Writer; 3], input: &mut Input<'_>) -> Vec<Run> {
    let mut told: Vec<Run> = Vec::new();
    for _ in 0..usize::from(input.byte()) % EDITS_MAX {
        let choices = input.byte();
        let author = &mut authors[usize::from(choices & 3) % 3];
        let key = format!("/{}", choices >> 2 & 3);
        // A refusal is as good as an edit here.
        author.edit(|edit| match choices >> 4 & 3 {
            0 => edit.set(key.as_str(), json!({ "n": choices })),
            1 => edit.remove(key.as_str()).or(Ok(())),
            _ => edit.set(key.as_str(), choices),
        });
        if choices & 64 != 0 {
            told.extend(author.runs());
        }
        if choices & 128 != 0 {
            author.receive(&told);
        }
    }
    for author in authors.iter_mut() {
        told.extend(author.runs());
    }
    // Runs were taken from authors who had heard of what was told before, and of nothing else.
    for author in authors {
        author.receive(&told);
    }
    told
}

/// Runs of which each stands on a change that there is not.
fn flood(device: u8, from: u16) -> impl Iterator<Item = Run> {
    let mut writer = Writer::new(100 + device);
    writer.edit(|edit| edit.set("/flood", 1));
    let payload = writer.runs().swap_remove(0).payload;
    let body = bodies(&payload).swap_remove(0);
    (from..from + FLOOD).map(move |number| {
        let mut missing = [0xee; 32];
        missing[..2].copy_from_slice(&number.to_be_bytes());
        let (_, payload) = change(&[ChangeHash(missing)], 1, &body[1..]);
        let tip = payload_tip(&payload).expect("only its dependency is another");
        let header = RunHeader {
            space: SPACE,
            document: DOCUMENT,
            acl: AclHash([3; 32]),
            device: DeviceId([100 + device; 32]),
            actor: tip.actor,
            first_seq: tip.first_seq,
            last_seq: tip.last_seq,
            tip: tip.tip,
            signature: [0; 64],
        };
        Run { header, payload }
    })
}

/// Every change that a document has comes with all its ancestors, and no change of a flood is among them.
fn closed(view: &View<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    for change in view.history() {
        assert!(change.deps.iter().all(|dep| seen.contains(dep)), "{} came before its ancestors", change.hash);
        assert!(change.deps.iter().all(|dep| dep.0[2..] != [0xee; 30]), "{} stands on nothing", change.hash);
        seen.insert(change.hash);
    }
}
