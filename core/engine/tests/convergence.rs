//! Random histories of several writers, delivered in every order and more than once, end the same everywhere, and the same as
//! in bare automerge.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use anabranch_engine::document::{Document, Edit, EditError, Json, OpenWork};
use anabranch_engine::id::ChangeHash;
use anabranch_engine::run::Run;
use automerge::{Automerge, ReadDoc};
use common::{DOCUMENT, Peer, SPACE, guard, settle};
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Debug)]
enum Step {
    Edit {
        peer: usize,
        action: Action,
    },
    /// The edit fails in the end.
    Fail {
        peer: usize,
        action: Action,
    },
    /// Signs what is there.
    Sign {
        peer: usize,
    },
    /// Hands one of the other's runs over.
    Deliver {
        from: usize,
        to: usize,
        run: usize,
    },
    Settle {
        peer: usize,
    },
    /// Begins a merge, edits, ends it.
    SlowSettle {
        peer: usize,
        action: Action,
    },
    Reopen {
        peer: usize,
    },
}

#[derive(Clone, Debug)]
enum Action {
    SetKey(u8, u8),
    SetObject(u8),
    RemoveKey(u8),
    Increment(i8),
    Text(u8, u8, String),
    UpdateText(String),
    Insert(u8, u8),
    Remove(u8),
    Nothing,
}

fn act(edit: &mut Edit<'_>, action: &Action) -> Result<(), EditError> {
    match action {
        Action::SetKey(key, value) => edit.set(format!("/k{}", key % 3), *value),
        Action::SetObject(key) => edit.set(format!("/k{}", key % 3), json!({"in": [1, "x"], "n": {"m": null}})),
        Action::RemoveKey(key) => {
            let path = format!("/k{}", key % 3);
            if edit.get(&path).is_some() { edit.remove(&path) } else { Ok(()) }
        }
        Action::Increment(by) => {
            if edit.get("/c").is_none() {
                edit.set_counter("/c", 0)?;
            }
            edit.increment("/c", i64::from(*by))
        }
        Action::Text(at, delete, text) => {
            if edit.text("/t").is_none() {
                edit.set("/t", "seed")?;
            }
            let length = edit.length("/t").unwrap();
            let at = usize::from(*at) % (length + 1);
            edit.splice_text("/t", at, usize::from(*delete).min(length - at), text)
        }
        Action::UpdateText(text) => {
            if edit.text("/t").is_none() {
                edit.set("/t", "")?;
            }
            edit.update_text("/t", text)
        }
        Action::Insert(at, value) => {
            if edit.length("/l").is_none() {
                edit.set("/l", json!([]))?;
            }
            let length = edit.length("/l").unwrap();
            edit.insert(format!("/l/{}", usize::from(*at) % (length + 1)), json!({"v": value}))
        }
        Action::Remove(at) => match edit.length("/l") {
            None | Some(0) => Ok(()),
            Some(length) => edit.remove(format!("/l/{}", usize::from(*at) % length)),
        },
        Action::Nothing => Ok(()),
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(k, v)| Action::SetKey(k, v)),
        any::<u8>().prop_map(Action::SetObject),
        any::<u8>().prop_map(Action::RemoveKey),
        any::<i8>().prop_map(Action::Increment),
        (any::<u8>(), 0..4_u8, "[aä\u{1f600}]{0,3}").prop_map(|(a, d, t)| Action::Text(a, d, t)),
        "[abc]{0,8}".prop_map(Action::UpdateText),
        (any::<u8>(), any::<u8>()).prop_map(|(a, v)| Action::Insert(a, v)),
        any::<u8>().prop_map(Action::Remove),
        Just(Action::Nothing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    prop_oneof![
        6 => (peer.clone(), action()).prop_map(|(peer, action)| Step::Edit { peer, action }),
        1 => (peer.clone(), action()).prop_map(|(peer, action)| Step::Fail { peer, action }),
        3 => peer.clone().prop_map(|peer| Step::Sign { peer }),
        6 => (peer.clone(), peer.clone(), any::<usize>()).prop_map(|(from, to, run)| Step::Deliver { from, to, run }),
        3 => peer.clone().prop_map(|peer| Step::Settle { peer }),
        2 => (peer.clone(), action()).prop_map(|(peer, action)| Step::SlowSettle { peer, action }),
        1 => peer.prop_map(|peer| Step::Reopen { peer }),
    ]
}

const PEERS: usize = 4;

struct World {
    peers: Vec<Peer>,
    /// What each has signed.
    signed: Vec<Vec<Run>>,
    /// What each has on its disk.
    stored: Vec<Vec<Run>>,
}

impl World {
    fn sign(&mut self, peer: usize) {
        let runs = self.peers[peer].take_runs();
        self.stored[peer].extend(runs.clone());
        self.signed[peer].extend(runs);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Edit { peer, action } => {
                self.peers[*peer].edit(|edit| act(edit, action)).unwrap();
            }
            Step::Fail { peer, action } => {
                let document = &self.peers[*peer].document;
                let before = (document.heads(), document.view().json(), document.unsigned_bytes());
                let failed = self.peers[*peer].edit(|edit| act(edit, action).and_then(|()| edit.remove("/nothing")));
                let document = &self.peers[*peer].document;
                assert!(failed.is_err());
                assert_eq!((document.heads(), document.view().json(), document.unsigned_bytes()), before);
            }
            Step::Sign { peer } => self.sign(*peer),
            Step::Deliver { from, to, run } => {
                if from != to && !self.signed[*from].is_empty() {
                    let run = self.signed[*from][run % self.signed[*from].len()].clone();
                    self.peers[*to].document.receive(run);
                }
            }
            Step::Settle { peer } => {
                let settled = settle(&mut self.peers[*peer].document);
                assert!(settled.refused.is_empty(), "{:?}", settled.refused);
                self.stored[*peer].extend(settled.accepted);
            }
            Step::SlowSettle { peer, action } => {
                let guard = guard();
                let Some(work) = self.peers[*peer].document.begin_merge() else { return };
                self.peers[*peer].edit(|edit| act(edit, action)).unwrap();
                let signed = self.peers[*peer].take_runs();
                let merged = work.run(&guard);
                self.peers[*peer].edit(|edit| act(edit, action)).unwrap();
                let settled = self.peers[*peer].document.finish_merge(merged, &guard);
                assert!(settled.refused.is_empty(), "{:?}", settled.refused);
                self.stored[*peer].extend(settled.accepted);
                self.stored[*peer].extend(signed.clone());
                self.signed[*peer].extend(signed);
            }
            Step::Reopen { peer } => {
                self.sign(*peer);
                let json = self.peers[*peer].document.view().json();
                let runs = self.stored[*peer].clone();
                let work = OpenWork {
                    space: SPACE,
                    id: DOCUMENT,
                    runs,
                    tips: vec![],
                    suspects: Vec::new(),
                    poisoned: Vec::new(),
                };
                self.peers[*peer].document = work.run(&guard()).unwrap();
                assert_eq!(self.peers[*peer].document.view().json(), json);
            }
        }
    }
}

/// The same changes in automerge alone, as JSON.
fn bare(runs: &[Run]) -> (Vec<ChangeHash>, Json) {
    let mut doc = Automerge::new_with_encoding(automerge::TextEncoding::UnicodeCodePoint);
    let changes: Vec<_> = runs
        .iter()
        .flat_map(|run| {
            let mut rest = &run.payload[..];
            std::iter::from_fn(move || {
                let length = anabranch_engine::gate::inspector::inspect(rest).ok()?.length;
                let (chunk, after) = rest.split_at(length);
                rest = after;
                Some(automerge::Change::from_bytes(chunk.to_vec()).unwrap())
            })
        })
        .collect();
    doc.apply_changes(changes).unwrap();
    let heads = doc.get_heads().iter().map(|hash| ChangeHash(hash.0)).collect();
    assert_eq!(doc.get_missing_deps(&[]), []);
    (heads, serde_json::from_str(&serde_json_string(&doc)).unwrap())
}

/// automerge's own JSON, which is not ours where text, bytes or timestamps are concerned: only what `act` makes is used.
fn serde_json_string(doc: &Automerge) -> String {
    serde_json::to_string(&automerge::AutoSerde::from(doc)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn all_replicas_end_with_what_bare_automerge_makes_of_it(
        steps in proptest::collection::vec(step(), 1..60),
        order in any::<u64>(),
    ) {
        let mut world = World {
            peers: (0..PEERS).map(|name| Peer::new(name as u8 + 1)).collect(),
            signed: vec![Vec::new(); PEERS],
            stored: vec![Vec::new(); PEERS],
        };
        for step in &steps {
            world.step(step);
        }
        for peer in 0..PEERS {
            world.sign(peer);
        }
        let all: Vec<Run> = world.signed.concat();
        for (peer, seed) in (0..PEERS).zip(order..=u64::MAX) {
            let mut shuffled = all.clone();
            shuffle(&mut shuffled, seed);
            for part in shuffled.chunks(7) {
                for run in part {
                    world.peers[peer].document.receive(run.clone());
                }
                world.step(&Step::Settle { peer });
            }
        }
        let (heads, json) = bare(&all);
        for peer in &world.peers {
            prop_assert_eq!(peer.document.heads(), heads.clone());
            prop_assert_eq!(peer.document.signed_heads(), heads.clone());
            prop_assert_eq!(peer.document.orphan_bytes(), 0);
            prop_assert_eq!(peer.document.view().json(), json.clone());
            let conflicts = peer.document.view().all_conflicts();
            prop_assert_eq!(conflicts, world.peers[0].document.view().all_conflicts());
            check_patches(&peer.document)?;
        }
    }
}

/// From any change on, the difference to the present makes the present of the past, and back.
fn check_patches(document: &Document) -> Result<(), TestCaseError> {
    let now = document.view();
    for change in now.history().iter().step_by(3) {
        let past = document.view_at(&[change.hash]).unwrap();
        for (from, to, patches) in [
            (past.json(), now.json(), now.diff(&[change.hash]).unwrap()),
            (now.json(), past.json(), past.diff(&now.heads()).unwrap()),
        ] {
            let mut json = from.clone();
            for patch in &patches {
                if let Err(error) = patch.apply(&mut json) {
                    return Err(TestCaseError::fail(format!("{error}: {patches:?} to {from}, for {to}")));
                }
            }
            prop_assert_eq!(json, to, "{:?} to {}", patches, from);
        }
    }
    Ok(())
}

fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for i in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(i, (seed >> 33) as usize % (i + 1));
    }
}
