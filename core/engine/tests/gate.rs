//! The gate, stage by stage: what a hostile or broken peer may send, what is said of it, and that the document goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::num::NonZeroU64;
use std::sync::Mutex;

use anabranch_engine::document::{Document, OpenWork, Settled};
use anabranch_engine::gate::{Authority, Guard, Panicked, Refusal, Slot, inspect, payload_tip};
use anabranch_engine::id::ChangeHash;
use anabranch_engine::limits::{CHANGE_DENSE_OPS_MAX, CHANGE_OPS_MAX, COUNTER_GAP_MAX, ORPHANS_PER_DOCUMENT_MAX};
use anabranch_engine::run::{Run, UnsignedRun};
use anabranch_engine::space::roles::Role;
use automerge::legacy::{OpId, OpType};
use automerge::transaction::Transactable;
use automerge::{Automerge, Change, ExpandedChange, ObjType, ROOT, ReadDoc as _, ScalarValue};
use common::{DOCUMENT, Peer, SPACE, WRITER, guard, with_checksum};
use serde_json::json;

/// The changes of runs, taken apart.
fn decode(runs: &[Run]) -> Vec<ExpandedChange> {
    let mut changes = Vec::new();
    for run in runs {
        let mut rest = &run.payload[..];
        while !rest.is_empty() {
            let length = anabranch_engine::gate::inspector::inspect(rest).unwrap().length;
            changes.push(Change::from_bytes(rest[..length].to_vec()).unwrap().decode());
            rest = &rest[length..];
        }
    }
    changes
}

/// A run of these changes, signed by `peer`. Nothing is checked.
fn forge(peer: &Peer, changes: Vec<ExpandedChange>) -> Run {
    let actor = changes[0].actor_id.to_bytes().try_into().unwrap_or([0; 16]);
    let (first_seq, last_seq) = (changes[0].seq, changes[changes.len() - 1].seq);
    let changes: Vec<Change> = changes.into_iter().map(Change::from).collect();
    let tip = ChangeHash(changes[changes.len() - 1].hash().0);
    let payload = changes.iter().flat_map(|change| change.raw_bytes().to_vec()).collect();
    peer.sign(UnsignedRun { actor: anabranch_engine::id::ActorId(actor), first_seq, last_seq, tip, payload })
}

/// One change by a peer, decoded.
fn change(peer: &mut Peer, key: &str, value: i64) -> ExpandedChange {
    peer.edit(|edit| edit.set(key, value)).unwrap();
    decode(&peer.take_runs()).remove(0)
}

/// Two peers who hold the same document, made by one change of the first.
fn two() -> (Peer, Peer) {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    alice.edit(|edit| edit.set("", json!({"map": {}, "n": 0}))).unwrap();
    bob.receive(alice.take_runs());
    (alice, bob)
}

/// Bob's answer to one run, which must be a refusal; his document must be as before and work on.
fn refused(bob: &mut Peer, run: Run) -> Refusal {
    if let Err(refusal) = inspect(&run, WRITER) {
        return refusal;
    }
    let before = (bob.document.heads(), bob.document.view().json());
    let settled = bob.receive([run]);
    assert_eq!((settled.accepted.len(), settled.refused.len(), settled.waiting), (0, 1, 0), "{settled:?}");
    assert_eq!((bob.document.heads(), bob.document.view().json()), before);
    let mut good = Peer::new(100 + bob.document.view().history().len() as u8);
    good.edit(|edit| edit.set("/good", 1)).unwrap();
    assert_eq!(bob.receive(good.take_runs()).accepted.len(), 1);
    assert_eq!(bob.document.view().get("/good"), Some(json!(1)));
    settled.refused[0].1.clone()
}

fn misfit(refusal: &Refusal) -> &str {
    match refusal {
        Refusal::Misfit(text) => text,
        other => panic!("{other}"),
    }
}

#[test]
fn only_writers_of_the_space_are_let_in_and_only_with_their_signature() {
    let (mut alice, _) = two();
    let c = change(&mut alice, "/n", 1);
    let run = forge(&alice, vec![c]);
    let says = |role| inspect(&run, Authority { role }).map_err(|refusal| refusal.to_string());
    assert_eq!(says(Some(Role::Writer)), Ok(()));
    assert_eq!(says(Some(Role::Admin)), Ok(()));
    let device = alice.device();
    assert_eq!(says(Some(Role::Reader)), Err(format!("device {device} is not a writer: it is a reader")));
    assert_eq!(says(None), Err(format!("device {device} is not a writer: it is not a member")));
    let mut other = run.clone();
    other.header.device = Peer::new(2).device();
    assert_eq!(inspect(&other, WRITER), Err(Refusal::BadSignature));
    let mut other = run.clone();
    other.header.tip.0[0] ^= 1;
    assert_eq!(inspect(&other, WRITER).unwrap_err().to_string(), "malformed: the header's tip is not the payload's");
    let mut other = run;
    other.header.last_seq += 1;
    assert!(inspect(&other, WRITER).is_err());
}

#[test]
fn only_plain_whole_changes_are_taken() {
    let (mut alice, _) = two();
    alice.edit(|edit| edit.set("/map/long", "x".repeat(500))).unwrap();
    let run = alice.take_runs().remove(0);
    let error = |bytes: &[u8]| payload_tip(bytes).unwrap_err().to_string();
    assert_eq!(error(&[]), "malformed: a run without changes");
    assert_eq!(error(b"not a change at all"), "malformed: not a change: wrong magic bytes");
    let compressed = Change::from_bytes(run.payload.clone()).unwrap().bytes().to_vec();
    assert_eq!(error(&compressed), "malformed: chunk type 2, only plain changes (1) are taken");
    let document = {
        let mut doc = Automerge::new();
        let mut tx = doc.transaction();
        tx.put(ROOT, "a", 1).unwrap();
        tx.commit();
        doc.save()
    };
    assert_eq!(error(&document), "malformed: chunk type 0, only plain changes (1) are taken");
    for cut in 1..run.payload.len() {
        assert!(payload_tip(&run.payload[..cut]).is_err());
    }
    for flip in 0..run.payload.len() {
        let mut bytes = run.payload.clone();
        bytes[flip] ^= 0x10;
        assert!(payload_tip(&bytes).is_err());
    }
    assert!(payload_tip(&[&run.payload[..], &[0]].concat()).is_err());
    assert_eq!(payload_tip(&run.payload).unwrap().tip, run.header.tip);
}

#[test]
fn a_run_is_of_one_actor_and_has_no_gaps() {
    let (mut alice, mut bob) = two();
    let (a2, a3) = (change(&mut alice, "/n", 1), change(&mut alice, "/n", 2));
    let b1 = change(&mut bob, "/n", 3);
    let says = |run: &Run| payload_tip(&run.payload).unwrap_err().to_string();
    assert_eq!(says(&forge(&alice, vec![a3.clone(), a2.clone()])), "malformed: change 2 follows change 3");
    assert_eq!(says(&forge(&alice, vec![a2.clone(), a2.clone()])), "malformed: change 2 follows change 2");
    assert_eq!(says(&forge(&alice, vec![a2, b1])), "malformed: a run has changes of two actors");
}

#[test]
fn a_few_bytes_that_stand_for_very_much_are_refused() {
    let bomb = |f: &dyn Fn(&mut automerge::transaction::Transaction<'_>)| {
        let mut doc = Automerge::new().with_actor(automerge::ActorId::from([7; 16]));
        let mut tx = doc.transaction();
        f(&mut tx);
        tx.commit();
        let bytes = doc.get_last_local_change().unwrap().raw_bytes().to_vec();
        (bytes.len(), payload_tip(&bytes).unwrap_err().to_string())
    };
    let (bytes, text) = bomb(&|tx| {
        let list = tx.put_object(ROOT, "l", ObjType::List).unwrap();
        tx.splice(&list, 0, 0, std::iter::repeat_n(ScalarValue::Null, CHANGE_OPS_MAX as usize)).unwrap();
    });
    assert!(bytes < 200, "{bytes}");
    assert_eq!(text, "over a limit: column `action` has 200001 rows, limit 200000");
    let (_, text) = bomb(&|tx| {
        let key = "k".repeat(1_000);
        (0..10_000).for_each(|i| tx.put(ROOT, key.clone(), i).unwrap());
    });
    assert_eq!(text, "over a limit: a change's bytes of keys: 10000000, limit 8388608");
    let (_, text) = bomb(&|tx| tx.put(ROOT, "k".repeat(1_025), 1).unwrap());
    assert_eq!(text, "over a limit: a key's bytes: 1025, limit 1024");
    let (_, text) = bomb(&|tx| tx.put(ROOT, "k", "v".repeat(262_145)).unwrap());
    assert_eq!(text, "over a limit: a value's bytes: 262145, limit 262144");
}

#[test]
fn a_change_has_few_operations_beyond_its_bytes_but_for_deletions() {
    let mut doc = Automerge::new().with_actor(automerge::ActorId::from([7; 16]));
    let mut made = |f: &dyn Fn(&mut automerge::transaction::Transaction<'_>)| {
        let mut tx = doc.transaction();
        f(&mut tx);
        tx.commit();
        payload_tip(doc.get_last_local_change().unwrap().raw_bytes()).map(|_| ()).map_err(|refusal| refusal.to_string())
    };
    let list = |kind: ObjType, count: usize, value: fn(usize) -> ScalarValue| {
        move |tx: &mut automerge::transaction::Transaction<'_>| {
            let list = tx.put_object(ROOT, "l", kind).unwrap();
            tx.splice(&list, 0, 0, (0..count).map(value)).unwrap();
        }
    };
    let dense = CHANGE_DENSE_OPS_MAX as usize;
    assert_eq!(made(&list(ObjType::List, dense, |_| ScalarValue::Null)), Ok(()));
    let text = made(&list(ObjType::List, dense + 100, |_| ScalarValue::Null)).unwrap_err();
    assert!(text.starts_with("over a limit: a change's operations beyond one for each byte: 1000"), "{text}");
    assert!(text.ends_with(", limit 100000"), "{text}");
    let most = CHANGE_OPS_MAX as usize - 2;
    assert_eq!(made(&list(ObjType::List, most, |_| ScalarValue::Int(0))), Ok(()), "numbers take a byte");
    let text = |tx: &mut automerge::transaction::Transaction<'_>| {
        let text = tx.put_object(ROOT, "t", ObjType::Text).unwrap();
        tx.splice_text(&text, 0, 0, &"a".repeat(most)).unwrap();
    };
    assert_eq!(made(&text), Ok(()), "characters too");
    let (_, text) = doc.get(ROOT, "t").unwrap().unwrap();
    let mut tx = doc.transaction();
    tx.splice_text(&text, 0, most as isize, "").unwrap();
    tx.commit();
    let deleted = doc.get_last_local_change().unwrap();
    assert!(deleted.raw_bytes().len() < 300 && payload_tip(deleted.raw_bytes()).is_ok(), "a whole text is deleted");
}

#[test]
fn an_operation_that_claims_to_replace_a_million_is_refused() {
    let (mut alice, _) = two();
    let mut c = change(&mut alice, "/n", 1);
    let actor = c.actor_id.clone();
    c.operations[0].pred = (1..=1_000_001).map(|counter| OpId(counter, actor.clone())).collect();
    let run = forge(&alice, vec![c]);
    assert!(run.payload.len() < 300);
    assert_eq!(
        payload_tip(&run.payload).unwrap_err().to_string(),
        "over a limit: predecessors: 1000001, limit 1000000"
    );
}

#[test]
fn a_change_without_operations_leaves_out_no_counters() {
    let (alice, mut bob) = (Peer::new(1), Peer::new(2));
    let begins = |start_op| {
        let mut change = change(&mut Peer::new(1), "/n", 1);
        change.operations.clear();
        change.start_op = NonZeroU64::new(start_op).unwrap();
        forge(&alice, vec![change])
    };
    assert!(misfit(&refused(&mut bob, begins(2))).ends_with("numbered 2, from 1 to 1 is possible"));
    assert_eq!(Peer::new(3).receive([begins(1)]).accepted.len(), 1);
}

#[test]
fn operation_counters_cannot_be_used_up() {
    let (mut alice, mut bob) = two();
    let mut c = change(&mut alice, "/n", 1);
    c.start_op = NonZeroU64::new(u64::from(u32::MAX) - 3).unwrap();
    let refusal = refused(&mut bob, forge(&alice, vec![c.clone()]));
    assert_eq!(refusal.to_string(), "over a limit: the first operation's counter: 4294967292, limit 2147483647");
    c.start_op = NonZeroU64::new(i32::MAX as u64).unwrap();
    let refusal = refused(&mut bob, forge(&alice, vec![c.clone()]));
    assert_eq!(refusal.to_string(), "over a limit: the last operation's counter: 2147483648, limit 2147483647");
    c.start_op = NonZeroU64::new(COUNTER_GAP_MAX + 4).unwrap();
    let refusal = refused(&mut bob, forge(&alice, vec![c.clone()]));
    assert_eq!(misfit(&refusal), "the first operation is numbered 1000004, from 3 to 1000003 is possible");
    c.start_op = NonZeroU64::new(2).unwrap();
    assert!(
        misfit(&refused(&mut bob, forge(&alice, vec![c.clone()]))).starts_with("the first operation is numbered 2, ")
    );
    c.start_op = NonZeroU64::new(COUNTER_GAP_MAX + 3).unwrap();
    assert_eq!(bob.receive([forge(&alice, vec![c])]).accepted.len(), 1);
}

#[test]
fn a_gap_in_an_actors_numbers_is_refused_known_actor_or_not() {
    let (mut alice, mut bob) = two();
    let mut c = change(&mut alice, "/n", 1);
    c.seq = 4;
    let refusal = refused(&mut bob, forge(&alice, vec![c.clone()]));
    assert_eq!(misfit(&refusal), "change 4 of an actor does not depend on its change 3");
    c.actor_id = automerge::ActorId::from([7; 16]);
    c.deps = vec![];
    c.start_op = NonZeroU64::new(1).unwrap();
    c.operations[0].pred = vec![].into();
    let refusal = refused(&mut bob, forge(&alice, vec![c]));
    assert_eq!(misfit(&refusal), "change 4 of an actor does not depend on its change 3");
}

#[test]
fn a_change_must_come_after_its_actors_last() {
    let (mut alice, mut bob) = two();
    let mut c = change(&mut alice, "/n", 1);
    c.deps = vec![];
    c.start_op = NonZeroU64::new(1).unwrap();
    c.operations[0].pred = vec![].into();
    let refusal = refused(&mut bob, forge(&alice, vec![c]));
    assert_eq!(misfit(&refusal), "change 2 of an actor does not depend on its change 1");
}

#[test]
fn a_change_that_comes_after_its_actors_last_by_way_of_others_fits() {
    let (mut alice, mut bob) = two();
    let b1 = change(&mut bob, "/b", 1);
    let b1 = forge(&bob, vec![b1]);
    let mut c = change(&mut alice, "/n", 1);
    c.deps = vec![automerge::ChangeHash(b1.header.tip.0)];
    c.start_op = NonZeroU64::new(4).unwrap();
    let settled = bob.receive([forge(&alice, vec![c])]);
    assert_eq!(settled.accepted.len(), 1, "{settled:?}");
    assert_eq!(bob.document.heads().len(), 1);
}

#[test]
fn an_author_stands_on_the_first_change_only_and_is_who_signs() {
    let (mut alice, mut bob) = two();
    let mallory = Peer::new(6);
    let mut carol = Peer::new(3);
    let first = change(&mut carol, "/c", 1);
    let refusal = refused(&mut bob, forge(&mallory, vec![first.clone()]));
    assert!(misfit(&refusal).ends_with(&format!("belongs to device {}", carol.device())));
    let mut second = change(&mut alice, "/n", 1);
    second.extra_bytes = first.extra_bytes.clone();
    let refusal = refused(&mut bob, forge(&alice, vec![second.clone()]));
    assert_eq!(misfit(&refusal), "it names an author in change 2, which only an actor's first may");
    // Nobody but Alice goes on with Alice's actor.
    second.extra_bytes = vec![];
    let refusal = refused(&mut bob, forge(&mallory, vec![second.clone()]));
    assert!(misfit(&refusal).ends_with(&format!("belongs to device {}", alice.device())));
    assert_eq!(bob.receive([forge(&alice, vec![second])]).accepted.len(), 1);
    let mut stranger = first;
    stranger.extra_bytes = [&[1, 5][..], b"names"].concat();
    let refusal = refused(&mut bob, forge(&carol, vec![stranger]));
    assert_eq!(misfit(&refusal), "its author is not a device");
}

#[test]
fn an_actor_without_author_belongs_to_the_first_device_that_vouches_for_it() {
    let (mut alice, mut bob) = two();
    let (carol, mallory) = (Peer::new(3), Peer::new(6));
    let mut doc = Automerge::new().with_actor(automerge::ActorId::from([7; 16]));
    let mut next = |value: i64| {
        let mut tx = doc.transaction();
        tx.put(ROOT, "anonymous", value).unwrap();
        tx.commit();
        doc.get_last_local_change().unwrap().decode()
    };
    let (one, two) = (next(1), next(2));
    assert_eq!(bob.receive([forge(&carol, vec![one])]).accepted.len(), 1);
    let refusal = refused(&mut bob, forge(&mallory, vec![two.clone()]));
    assert!(misfit(&refusal).ends_with(&format!("belongs to device {}", carol.device())));
    assert_eq!(bob.receive([forge(&carol, vec![two])]).accepted.len(), 1);
    alice.receive([]);
}

#[test]
fn another_change_with_a_number_that_is_taken_is_a_fork_and_hurts_nobody_else() {
    let (mut alice, mut bob) = two();
    let mut c = change(&mut alice, "/n", 1);
    assert_eq!(bob.receive([forge(&alice, vec![c.clone()])]).accepted.len(), 1);
    c.time += 1;
    let mut carol = Peer::new(3);
    let good = change(&mut carol, "/c", 1);
    let before = bob.document.heads();
    let settled = bob.receive([forge(&alice, vec![c.clone()]), forge(&carol, vec![good])]);
    assert_eq!(settled.accepted.len(), 1);
    let actor = settled.refused[0].0.actor.to_string();
    assert_eq!(settled.refused[0].1, Refusal::Fork { actor, seq: 2 });
    assert!(bob.document.heads().len() == 2 && bob.document.heads().contains(&before[0]));
}

#[test]
fn of_two_changes_with_one_number_in_one_batch_one_is_taken() {
    let (mut alice, mut bob) = two();
    let one = change(&mut alice, "/n", 1);
    let mut other = one.clone();
    other.time += 1;
    let settled = bob.receive([forge(&alice, vec![one]), forge(&alice, vec![other])]);
    assert_eq!((settled.accepted.len(), settled.refused.len(), settled.waiting), (1, 0, 1));
    let mut carol = Peer::new(3);
    let next = change(&mut carol, "/c", 1);
    let settled = bob.receive([forge(&carol, vec![next])]);
    assert!(matches!(settled.refused[..], [(_, Refusal::Fork { seq: 2, .. })]), "{settled:?}");
}

#[test]
fn operations_of_an_actor_that_is_not_here_are_refused() {
    let (mut alice, mut bob) = two();
    let mut c = change(&mut alice, "/map/x", 1);
    let stranger = automerge::ActorId::from([0x77; 16]);
    c.operations[0].pred = vec![OpId(1, stranger.clone())].into();
    let refusal = refused(&mut bob, forge(&alice, vec![c]));
    assert_eq!(misfit(&refusal), format!("it refers to operations of actor {stranger}, of whom there are none"));
}

#[test]
fn an_actor_is_sixteen_bytes() {
    let (mut alice, mut bob) = two();
    let mut c = change(&mut alice, "/n", 1);
    c.actor_id = automerge::ActorId::from([7; 8]);
    let refusal = refused(&mut bob, forge(&alice, vec![c]));
    assert_eq!(refusal.to_string(), "malformed: actor of 8 bytes, 16 wanted");
}

#[test]
fn a_run_is_applied_whole_or_not_at_all() {
    let (mut alice, mut bob) = two();
    let good = change(&mut alice, "/n", 1);
    let mut bad = change(&mut alice, "/n", 2);
    bad.start_op = NonZeroU64::new(77_000_000).unwrap();
    let run = forge(&alice, vec![good.clone(), bad]);
    let refusal = refused(&mut bob, run);
    assert!(misfit(&refusal).contains("77000000"));
    assert_eq!(bob.receive([forge(&alice, vec![good])]).accepted.len(), 1);
}

#[test]
fn what_depends_on_a_refused_run_waits() {
    let (mut alice, mut bob) = two();
    let mut carol = Peer::new(3);
    let (good, mut bad) = (change(&mut alice, "/n", 1), change(&mut alice, "/n", 2));
    carol.receive([]);
    let on_good = {
        let mut c = change(&mut carol, "/c", 1);
        c.deps = vec![good.hash.unwrap()];
        c.start_op = NonZeroU64::new(4).unwrap();
        c
    };
    bad.start_op = NonZeroU64::new(77_000_000).unwrap();
    let whole = forge(&alice, vec![good.clone(), bad]);
    let settled = bob.receive([forge(&carol, vec![on_good]), whole]);
    assert_eq!((settled.accepted.len(), settled.refused.len(), settled.waiting), (0, 1, 1), "{settled:?}");
    assert!(bob.document.orphan_bytes() > 0);
    let settled = bob.receive([forge(&alice, vec![good])]);
    assert_eq!((settled.accepted.len(), bob.document.orphan_bytes()), (2, 0), "{settled:?}");
}

#[test]
fn runs_that_overlap_are_applied_once() {
    let (mut alice, _) = two();
    let changes: Vec<_> = (2..8).map(|i| change(&mut alice, "/n", i + 1)).collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        for together in [true, false] {
            let (_, mut bob) = two();
            let runs = [
                forge(&alice, changes[..3].to_vec()),
                forge(&alice, changes[1..5].to_vec()),
                forge(&alice, changes[2..].to_vec()),
            ];
            let runs = order.map(|i| runs[i].clone());
            let settled: Vec<Settled> = if together {
                vec![bob.receive(runs)]
            } else {
                runs.into_iter().map(|run| bob.receive([run])).collect()
            };
            assert!(settled.iter().all(|settled| settled.refused.is_empty()));
            assert_eq!(bob.document.heads(), alice.document.heads());
            let accepted: Vec<_> = settled.iter().flat_map(|settled| &settled.accepted).collect();
            assert_eq!(accepted.iter().map(|run| run.header.last_seq).max(), Some(7));
            assert_eq!(bob.document.orphan_bytes(), 0);
        }
    }
}

#[test]
fn two_runs_that_depend_on_each_other_are_applied_together() {
    let (mut alice, mut bob) = two();
    let mut carol = Peer::new(3);
    let a2 = change(&mut alice, "/n", 1);
    // Carol writes on top of a2, Alice on top of that.
    let mut again = Peer::new(1);
    again.edit(|edit| edit.set("", json!({"map": {}, "n": 0}))).unwrap();
    carol.receive(again.take_runs());
    carol.receive([forge(&alice, vec![a2.clone()])]);
    let (c1, c2) = (change(&mut carol, "/c", 1), change(&mut carol, "/c", 2));
    alice.receive([forge(&carol, vec![c1.clone()])]);
    let a3 = change(&mut alice, "/n", 2);
    let c2 =
        ExpandedChange { deps: vec![c1.hash.unwrap(), a3.hash.unwrap()], start_op: NonZeroU64::new(6).unwrap(), ..c2 };
    let settled = bob.receive([forge(&alice, vec![a2, a3]), forge(&carol, vec![c1, c2])]);
    assert_eq!((settled.accepted.len(), settled.refused.len(), settled.waiting), (2, 0, 0), "{settled:?}");
    assert_eq!(bob.document.heads().len(), 1);
}

#[test]
fn an_orphan_waits_for_its_parent_and_the_newest_of_the_largest_sender_goes_first() {
    let (mut alice, mut bob) = two();
    let changes: Vec<_> = (0..ORPHANS_PER_DOCUMENT_MAX as i64 + 11).map(|i| change(&mut alice, "/n", i + 1)).collect();
    let mut carol = Peer::new(3);
    carol.edit(|edit| edit.set("/c", 1)).unwrap();
    let parent = carol.take_runs();
    carol.edit(|edit| edit.set("/c", 2)).unwrap();
    let settled = bob.receive(carol.take_runs());
    assert_eq!((settled.accepted.len(), settled.waiting), (0, 1));
    let settled = bob.receive(changes[1..].iter().map(|c| forge(&alice, vec![c.clone()])));
    assert_eq!((settled.waiting, settled.evicted), (ORPHANS_PER_DOCUMENT_MAX + 10, 11));
    let settled = bob.receive(parent);
    assert_eq!(settled.accepted.len(), 2);
    assert_eq!(bob.document.view().get("/c"), Some(json!(2)));
    let settled = bob.receive([forge(&alice, vec![changes[0].clone()])]);
    assert_eq!(settled.accepted.len(), ORPHANS_PER_DOCUMENT_MAX);
    assert_eq!(bob.document.orphan_bytes(), 0);
    let known = bob.receive([forge(&alice, vec![changes[0].clone()])]);
    assert_eq!((known.known, known.accepted.len()), (1, 0));
}

/// A guard under which one run is fatal, as if automerge panicked over it.
struct Fatal {
    tip: ChangeHash,
    slots: Mutex<Vec<Slot>>,
}

impl Guard for Fatal {
    fn run(&self, slot: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        self.slots.lock().unwrap().push(slot.clone());
        if slot.tips.contains(&self.tip) {
            return Err(Panicked("fatal".to_string()));
        }
        f();
        Ok(())
    }
}

#[test]
fn what_makes_automerge_panic_is_found_and_refused_and_the_rest_is_applied() {
    let (mut alice, mut bob) = two();
    let mut mallory = Peer::new(6);
    let boom = change(&mut mallory, "/boom", 1);
    let on_boom = change(&mut mallory, "/boom", 2);
    let mut runs: Vec<Run> = (0..20)
        .map(|i| {
            let c = change(&mut alice, "/n", i + 1);
            forge(&alice, vec![c])
        })
        .collect();
    let fatal = forge(&mallory, vec![boom]);
    runs.insert(7, fatal.clone());
    runs.insert(3, forge(&mallory, vec![on_boom]));
    let guard = Fatal { tip: fatal.header.tip, slots: Mutex::default() };
    for run in runs {
        bob.document.receive(run);
    }
    let merged = bob.document.begin_merge().unwrap().run(&guard);
    let settled = bob.document.finish_merge(merged, &guard);
    assert_eq!((settled.accepted.len(), settled.refused.len(), settled.waiting), (20, 1, 1));
    assert_eq!(settled.refused[0].1, Refusal::Poisoned);
    assert_eq!(bob.document.view().json(), alice.document.view().json());

    // It is not tried again.
    guard.slots.lock().unwrap().clear();
    bob.document.receive(fatal);
    let merged = bob.document.begin_merge().unwrap().run(&guard);
    let settled = bob.document.finish_merge(merged, &guard);
    assert_eq!(settled.refused[0].1, Refusal::Poisoned);
    assert!(guard.slots.lock().unwrap().is_empty());

    // What was made of it all can be saved and opened.
    let mut doc = Automerge::new();
    doc.apply_changes(decode(&alice_runs(&bob.document)).into_iter().map(Change::from).collect::<Vec<_>>()).unwrap();
    assert_eq!(Automerge::load(&doc.save()).unwrap().get_heads().len(), bob.document.heads().len());
}

/// Everything in a document, as one opened elsewhere would be given it.
fn alice_runs(document: &Document) -> Vec<Run> {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("", json!({"map": {}, "n": 0}))).unwrap();
    let mut runs = alice.take_runs();
    for i in 0..20 {
        alice.edit(|edit| edit.set("/n", i + 1)).unwrap();
        runs.extend(alice.take_runs());
    }
    assert_eq!(alice.document.heads(), document.heads());
    runs
}

#[test]
fn suspects_of_an_earlier_death_are_tried_alone_and_taken_if_they_do_no_harm() {
    let (mut alice, mut bob) = two();
    let runs: Vec<Run> = (0..4)
        .map(|i| {
            let c = change(&mut alice, "/n", i + 1);
            forge(&alice, vec![c])
        })
        .collect();
    bob.document.suspect(&[runs[1].header.tip, runs[2].header.tip]);
    let guard = guard();
    for run in &runs {
        bob.document.receive(run.clone());
    }
    let merged = bob.document.begin_merge().unwrap().run(&guard);
    let settled = bob.document.finish_merge(merged, &guard);
    assert_eq!(settled.accepted.len(), 4);
    let slots: Vec<_> = guard.slots.lock().unwrap().iter().map(|slot| slot.tips.clone()).collect();
    let tip = |i: usize| runs[i].header.tip;
    assert_eq!(slots, [vec![tip(0)], vec![tip(1)], vec![tip(2)], vec![tip(3)]]);
}

#[test]
fn a_suspect_that_does_no_harm_is_in_the_document_when_it_is_opened() {
    let mut alice = Peer::new(1);
    let runs: Vec<Run> = (0..4)
        .map(|i| {
            alice.edit(|edit| edit.set("/n", i + 1)).unwrap();
            alice.take_runs().remove(0)
        })
        .collect();
    let tips: Vec<_> = runs.iter().map(|run| run.header.tip).collect();
    for suspects in [vec![tips[3]], vec![tips[1]], tips] {
        let open =
            OpenWork { space: SPACE, id: DOCUMENT, runs: runs.clone(), tips: vec![], suspects, poisoned: Vec::new() };
        assert_eq!(open.run(&guard()).unwrap().view().get("/n"), Some(json!(4)));
    }
}

// A stored run that was found to break the merge was not named to whoever opened the document, so each opening tried it again,
// and a process that died of it died again. It is left out now, with what depends on it, and the others are there.
#[test]
fn a_stored_run_that_broke_the_merge_before_is_left_out_and_not_tried() {
    let (mut alice, mut carol) = (Peer::new(1), Peer::new(3));
    let mut next = |value: i64| {
        alice.edit(|edit| edit.set("/n", value)).unwrap();
        alice.take_runs().remove(0)
    };
    let (good, bad, on_bad) = (next(1), next(2), next(3));
    carol.edit(|edit| edit.set("/c", 1)).unwrap();
    let other = carol.take_runs().remove(0);
    let runs = vec![good.clone(), bad.clone(), on_bad.clone(), other.clone()];
    let guard = guard();
    let open = OpenWork {
        space: SPACE,
        id: DOCUMENT,
        runs: runs.clone(),
        tips: vec![],
        suspects: vec![],
        poisoned: vec![bad.header.tip],
    };
    let mut opened = open.run(&guard).unwrap();
    assert_eq!(opened.view().json(), json!({"n": 1, "c": 1}));
    assert_eq!(opened.left_out(), [bad.header.tip]);
    assert!(guard.slots.lock().unwrap().iter().all(|slot| !slot.tips.contains(&bad.header.tip)));

    // Found out at opening: it is told, so that the next opening does not try it.
    let fatal = Fatal { tip: bad.header.tip, slots: Mutex::default() };
    let open = OpenWork { space: SPACE, id: DOCUMENT, runs, tips: vec![], suspects: vec![], poisoned: vec![] };
    assert_eq!(open.run(&fatal).unwrap().left_out(), [bad.header.tip]);

    // What peers and the store know of it stays what was recorded, and grows by what is written now.
    let mut recorded = vec![on_bad.header.tip, other.header.tip];
    recorded.sort_unstable();
    opened.stand_on(&recorded);
    let mut dave = Peer::new(4);
    opened.edit(dave.author(), |edit| edit.set("/d", 1)).unwrap();
    let run = dave.sign(opened.take_unsigned().unwrap());
    let mut heads = vec![on_bad.header.tip, run.header.tip];
    heads.sort_unstable();
    assert_eq!(opened.signed_heads(), heads);
}

#[test]
fn a_counter_cannot_be_made_to_overflow() {
    let (mut alice, mut bob) = two();
    let mut c = change(&mut alice, "/n", 1);
    c.operations[0].action = OpType::Put(ScalarValue::counter(i64::MAX));
    let refusal = refused(&mut bob, forge(&alice, vec![c.clone()]));
    assert_eq!(
        refusal.to_string(),
        "over a limit: a counter's first value of 9223372036854775807, limit 9007199254740992"
    );
    c.operations[0].action = OpType::Increment(i64::MIN);
    let refusal = refused(&mut bob, forge(&alice, vec![c]));
    assert_eq!(refusal.to_string(), "over a limit: a counter's step of -9223372036854775808, limit 274877906944");
}

/// A run with one change that automerge reads and would have written in other bytes.
fn in_another_encoding(writer: &mut Peer) -> Run {
    writer
        .edit(|edit| {
            edit.set("/x", 1)?;
            edit.set("/y", 1)
        })
        .unwrap();
    let run = writer.take_runs().remove(0);
    // The action column says "twice 1" (02 01). Say "two literals: 1, 1" (7e 01 01) instead.
    let mut body = run.payload[10..].to_vec();
    let columns = body.windows(2).position(|pair| pair == [0x15, 5]).unwrap();
    let action = body.windows(2).position(|pair| pair == [0x42, 2]).unwrap();
    let before: usize = (columns..action).step_by(2).map(|at| usize::from(body[at + 1])).sum();
    let at = columns + 2 * usize::from(body[columns - 1]) + before;
    assert_eq!(body[at..at + 2], [2, 1]);
    body.splice(at..at + 2, [0x7e, 1, 1]);
    body[action + 1] = 3;
    let mut chunk = run.payload[..9].to_vec();
    leb128(&mut chunk, body.len());
    chunk.extend(body);
    let chunk = with_checksum(chunk);
    assert!(Change::from_bytes(chunk.clone()).is_ok());
    let found = payload_tip(&chunk).unwrap();
    let (first_seq, last_seq) = (found.first_seq, found.last_seq);
    writer.sign(UnsignedRun { actor: found.actor, first_seq, last_seq, tip: found.tip, payload: chunk })
}

#[test]
fn a_change_in_another_encoding_than_automerges_own_is_refused() {
    let (mut alice, mut bob) = two();
    let forged = in_another_encoding(&mut alice);
    let refusal = refused(&mut bob, forged);
    assert_eq!(refusal.to_string(), "malformed: a change is not in its canonical encoding");
}

// A run that is refused before any of its changes is judged set the heads in the table of operations back to those before the
// last merge: what was taken back had never been begun. The next change that was concurrent with that merge was then refused as
// one that replaces what it cannot have seen. Only what was begun is taken back now.
#[test]
fn a_refused_run_leaves_what_was_merged_before_it_as_it_was() {
    let mut peers = [1, 2, 3, 4].map(Peer::new);
    peers[0].edit(|edit| edit.set("/k", "nobody")).unwrap();
    let start = peers[0].take_runs();
    peers[1..].iter_mut().for_each(|peer| _ = peer.receive(start.clone()));
    let [mut alice, mut bob, mut carol, mut mallory] = peers;
    alice.edit(|edit| edit.set("/k", "alice")).unwrap();
    bob.edit(|edit| edit.set("/k", "bob")).unwrap();
    assert_eq!(carol.receive(alice.take_runs()).accepted.len(), 1);
    let settled = carol.receive([in_another_encoding(&mut mallory)]);
    assert_eq!(settled.refused[0].1.to_string(), "malformed: a change is not in its canonical encoding");
    let settled = carol.receive(bob.take_runs());
    assert_eq!((settled.accepted.len(), settled.refused.len()), (1, 0), "{settled:?}");
}

fn leb128(out: &mut Vec<u8>, mut value: usize) {
    while value > 127 {
        out.push((value & 0x7f | 0x80) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

// Nothing bounded how many changes without operations a member could put one upon another.
#[test]
fn a_change_without_operations_is_taken_only_as_a_beginning_or_if_it_joins_many_heads() {
    let (mut alice, mut bob) = two();
    let mut next = change(&mut alice, "/n", 1);
    next.operations.clear();
    let refusal = refused(&mut bob, forge(&alice, vec![next]));
    assert!(refusal.to_string().contains("a change without operations stands on others"), "{refusal}");
    let mut carol = Peer::new(3);
    let author = carol.author();
    carol.document.begin(author).unwrap();
    assert_eq!(bob.receive(carol.take_runs()).accepted.len(), 1);
}
