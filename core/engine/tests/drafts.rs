//! Drafts: several changes that a document gets as a whole, or not at all.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use anabranch_engine::document::{Draft, DraftError, EditError, Maker, Publish, Settle};
use anabranch_engine::gate::{Guard, Panicked, Slot};
use anabranch_engine::id::ActorId;
use anabranch_engine::limits::{RUN_BYTES_MAX, RUN_CHANGES_MAX};
use common::{Peer, guard};
use serde_json::json;

fn draft(peer: &mut Peer) -> Draft {
    let author = peer.author();
    peer.document.draft(author)
}

fn set(draft: &mut Draft, path: &str, value: i64) {
    draft.edit(|edit| edit.set(path, value)).unwrap();
}

/// As the engine's driver does it: what is far ahead is caught up with first.
fn publish(peer: &mut Peer, draft: &mut Draft) -> Result<bool, DraftError> {
    assert!(matches!(peer.document.publish(draft, &guard())?, Publish::Done | Publish::Empty));
    Ok(draft.changes() > 0)
}

/// Enough for every limit of what is done at once.
fn make_heavy(peer: &mut Peer) {
    peer.edit(|edit| edit.set("/heavy", "x".repeat(60_000))).unwrap();
}

#[test]
fn a_draft_is_one_run_and_is_not_seen_before_it_is_published() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    alice.edit(|edit| edit.set("/old", 1)).unwrap();
    let mut draft = draft(&mut alice);
    for value in 0..5 {
        set(&mut draft, "/new", value);
    }
    assert_eq!(draft.view().json(), json!({"old": 1, "new": 4}));
    assert_eq!(alice.document.view().json(), json!({"old": 1}));
    publish(&mut alice, &mut draft).unwrap();
    alice.edit(|edit| edit.set("/after", 1)).unwrap();
    let runs = alice.take_runs();
    let lengths: Vec<u64> = runs.iter().map(|run| run.header.last_seq - run.header.first_seq + 1).collect();
    assert_eq!(lengths, [1, 5, 1], "neither split nor joined with what was made before and after");
    assert_eq!(alice.document.signed_heads(), alice.document.heads());
    bob.receive(runs);
    assert_eq!(bob.document.view().json(), json!({"old": 1, "new": 4, "after": 1}));
    assert_eq!(bob.document.heads(), alice.document.heads());
}

#[test]
fn what_was_edited_and_merged_meanwhile_is_kept_beside_a_draft() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    alice.edit(|edit| edit.set("/text", "a text")).unwrap();
    bob.receive(alice.take_runs());
    let mut draft = draft(&mut alice);
    set(&mut draft, "/draft", 1);
    alice.edit(|edit| edit.set("/typed", 1)).unwrap();
    bob.edit(|edit| edit.splice_text("/text", 0, 0, "Bob's ")).unwrap();
    alice.receive(bob.take_runs());
    set(&mut draft, "/draft", 2);
    publish(&mut alice, &mut draft).unwrap();
    let all = json!({"text": "Bob's a text", "draft": 2, "typed": 1});
    assert_eq!(alice.document.view().json(), all);
    bob.receive(alice.take_runs());
    assert_eq!((bob.document.view().json(), bob.document.heads()), (all, alice.document.heads()));
    assert_eq!(alice.document.signed_heads(), alice.document.heads());
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("/old", 1)).unwrap();
    let heads = alice.document.heads();
    let mut dropped = draft(&mut alice);
    set(&mut dropped, "/new", 1);
    drop(dropped);
    assert_eq!(alice.document.heads(), heads);
    alice.edit(|edit| edit.set("/next", 1)).unwrap();
    assert_eq!(alice.take_runs().len(), 1);
}

#[test]
fn a_draft_without_a_change_is_published_as_nothing() {
    let mut alice = Peer::new(1);
    let mut draft = draft(&mut alice);
    draft.edit(|_| Ok::<_, EditError>(())).unwrap();
    assert!(!publish(&mut alice, &mut draft).unwrap());
    assert!(alice.take_runs().is_empty());
}

#[test]
fn an_edit_of_a_draft_that_fails_leaves_it_as_before() {
    let mut alice = Peer::new(1);
    let mut draft = draft(&mut alice);
    set(&mut draft, "/good", 1);
    let failed = draft.edit(|edit| {
        edit.set("/half", 1)?;
        edit.set("/no/parent", 1)
    });
    assert_eq!(failed.unwrap_err().to_string(), "there is nothing at `/no`");
    publish(&mut alice, &mut draft).unwrap();
    assert_eq!(alice.document.view().json(), json!({"good": 1}));
}

// It said that it was published, which it never was.
#[test]
fn a_draft_that_was_lost_in_a_merge_says_so() {
    struct Fails;
    impl Guard for Fails {
        fn run(&self, _slot: &Slot, _f: &mut dyn FnMut()) -> Result<(), Panicked> {
            Err(Panicked("a bug".to_owned()))
        }
    }
    let mut alice = Peer::new(1);
    let mut draft = draft(&mut alice);
    set(&mut draft, "/draft", 1);
    alice.edit(|edit| edit.set("/typed", 1)).unwrap();
    let lost = DraftError::Internal("a bug".to_owned());
    assert_eq!(draft.catch_up(alice.document.ahead(Arc::new(Fails))), Err(lost.clone()));
    assert_eq!(alice.document.publish(&mut draft, &guard()).unwrap_err(), lost);
    assert_eq!(draft.edit(|edit| edit.set("/draft", 2)), Err(EditError::Draft(lost)));
}

#[test]
fn two_drafts_at_once_are_both_kept() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    let (mut one, mut other) = (draft(&mut alice), draft(&mut alice));
    set(&mut one, "/one", 1);
    set(&mut other, "/other", 1);
    publish(&mut alice, &mut other).unwrap();
    publish(&mut alice, &mut one).unwrap();
    assert_eq!(alice.document.view().json(), json!({"one": 1, "other": 1}));
    bob.receive(alice.take_runs());
    assert_eq!(bob.document.heads(), alice.document.heads());
}

#[test]
fn drafts_and_edits_one_after_the_other_need_two_actors() {
    let mut alice = Peer::new(1);
    let mut actors = std::collections::BTreeSet::<ActorId>::new();
    for value in 0..6 {
        // One that is dropped takes no actor with it.
        let mut dropped = draft(&mut alice);
        set(&mut dropped, "/dropped", value);
        drop(dropped);
        let mut draft = draft(&mut alice);
        set(&mut draft, "/draft", value);
        publish(&mut alice, &mut draft).unwrap();
        alice.edit(|edit| edit.set("/edit", value)).unwrap();
        actors.extend(alice.take_runs().iter().map(|run| run.header.actor));
    }
    assert_eq!(actors.len(), 2);
}

#[test]
fn a_published_draft_takes_no_more_edits_and_is_not_published_twice() {
    let mut alice = Peer::new(1);
    let mut draft = draft(&mut alice);
    set(&mut draft, "/once", 1);
    publish(&mut alice, &mut draft).unwrap();
    assert_eq!(alice.document.publish(&mut draft, &guard()).unwrap_err(), DraftError::Published);
    assert_eq!(draft.edit(|edit| edit.set("/again", 1)), Err(EditError::Draft(DraftError::Published)));
    assert_eq!(alice.take_runs().len(), 1);
}

#[test]
fn a_draft_over_a_limit_is_refused_with_value_and_limit() {
    let mut alice = Peer::new(1);
    let mut many = draft(&mut alice);
    for value in 0..RUN_CHANGES_MAX as i64 {
        set(&mut many, "/v", value);
    }
    let error = many.edit(|edit| edit.set("/v", 0)).unwrap_err().to_string();
    assert_eq!(error, format!("the draft has {} changes, limit {RUN_CHANGES_MAX}", RUN_CHANGES_MAX + 1));
    // What is within the limits can still be published.
    publish(&mut alice, &mut many).unwrap();
    let runs = alice.take_runs();
    assert_eq!((runs.len(), runs[0].header.last_seq), (1, RUN_CHANGES_MAX));

    let mut large = draft(&mut alice);
    let block = vec![7; 250_000];
    let error = (0..).find_map(|part| {
        let fill = |edit: &mut anabranch_engine::document::Edit<'_>| {
            (0..4).try_for_each(|n| edit.set_bytes(format!("/{part}-{n}").as_str(), &block))
        };
        large.edit(fill).err()
    });
    let error = error.unwrap();
    let EditError::Draft(DraftError::TooLarge { value, unit: "bytes", limit }) = error else { panic!("{error}") };
    assert!(limit == RUN_BYTES_MAX as u64 && value > limit && value < limit + 2_000_000, "{value}");
    assert!(matches!(alice.document.publish(&mut large, &guard()), Err(DraftError::TooLarge { .. })));
    assert!(alice.take_runs().is_empty());
}

#[test]
fn a_draft_larger_than_what_edits_share_is_one_run_that_peers_take() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    let mut draft = draft(&mut alice);
    for part in 0..20 {
        let block: Vec<u8> = (0..250_000_u32).map(|i| (i.wrapping_mul(part + 3) >> 3) as u8).collect();
        draft.edit(|edit| edit.set_bytes(format!("/{part}").as_str(), &block)).unwrap();
    }
    publish(&mut alice, &mut draft).unwrap();
    let runs = alice.take_runs();
    assert_eq!(runs.len(), 1);
    assert!(runs[0].payload.len() > 5_000_000);
    let stored = runs[0].encode_stored();
    assert_eq!(bob.receive(runs).accepted.len(), 1);
    assert_eq!(bob.document.heads(), alice.document.heads());
    assert!(stored.len() < 16 * 1024 * 1024);
}

#[test]
fn a_large_document_is_caught_up_with_away_from_it() {
    let mut alice = Peer::new(1);
    make_heavy(&mut alice);
    let mut draft = draft(&mut alice);
    set(&mut draft, "/draft", 1);
    // It is ahead each time, so in the end the draft is published in spite of that.
    let mut catch_ups = 0;
    loop {
        alice.edit(|edit| edit.set("/typed", catch_ups)).unwrap();
        match alice.document.publish(&mut draft, &guard()).unwrap() {
            Publish::Behind => {
                let ahead = alice.document.ahead(Arc::new(guard()));
                draft.catch_up(ahead).unwrap();
                catch_ups += 1;
            }
            Publish::Done | Publish::Empty => break,
        }
    }
    assert_eq!(catch_ups, 3);
    let json = alice.document.view().json();
    assert_eq!((&json["draft"], &json["typed"]), (&json!(1), &json!(3)));
}

// A large draft carried over into a merge that was running held up everything else.
#[test]
fn a_draft_published_during_a_merge_is_kept_and_so_is_the_merge() {
    for block in [10, 100_000] {
        let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
        make_heavy(&mut bob);
        let mut draft = draft(&mut alice);
        draft.edit(|edit| edit.set_bytes("/draft", &vec![1; block])).unwrap();
        bob.take_runs().into_iter().for_each(|run| alice.document.receive(run));
        let Settle::Work(work) = alice.document.settle(&guard()) else { panic!("it is heavy") };
        publish(&mut alice, &mut draft).unwrap();
        alice.edit(|edit| edit.set("/typed", 1)).unwrap();
        let merged = work.run(&guard());
        let mut settled = alice.document.finish_merge(merged, &guard());
        let again = block > 10;
        assert_eq!(
            settled.accepted.is_empty(),
            again,
            "a small one is carried over, for a large one it is merged again"
        );
        if again {
            settled = common::settle(&mut alice.document);
        }
        assert_eq!(settled.accepted.len(), 1);
        bob.receive(alice.take_runs());
        assert_eq!(alice.document.heads(), bob.document.heads());
        let view = alice.document.view();
        assert!(view.get("/draft").is_some() && view.get("/heavy").is_some() && view.get("/typed").is_some());
    }
}

#[test]
fn a_merge_is_outrun_by_drafts_once_and_not_for_ever() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    make_heavy(&mut bob);
    bob.take_runs().into_iter().for_each(|run| alice.document.receive(run));
    let mut merges = 0;
    loop {
        let Settle::Work(work) = alice.document.settle(&guard()) else { panic!("it is heavy") };
        let mut draft = draft(&mut alice);
        draft.edit(|edit| edit.set_bytes(format!("/{merges}").as_str(), &vec![1; 100_000])).unwrap();
        publish(&mut alice, &mut draft).unwrap();
        let merged = work.run(&guard());
        merges += 1;
        if !alice.document.finish_merge(merged, &guard()).accepted.is_empty() {
            break;
        }
    }
    assert_eq!(merges, 2);
    bob.receive(alice.take_runs());
    assert_eq!(alice.document.heads(), bob.document.heads());
}

#[test]
fn a_document_opened_again_takes_a_draft_if_it_has_what_that_was_made_on() {
    let (mut alice, mut reopened) = (Peer::new(1), Peer::new(1));
    alice.edit(|edit| edit.set("/old", 1)).unwrap();
    let (mut one, mut other) = (draft(&mut alice), draft(&mut alice));
    set(&mut one, "/draft", 1);
    set(&mut other, "/draft", 1);
    let base = alice.document.heads()[0];
    assert_eq!(reopened.document.publish(&mut one, &guard()).unwrap_err(), DraftError::BaseGone(base));
    reopened.receive(alice.take_runs());
    publish(&mut reopened, &mut other).unwrap();
    assert_eq!(reopened.document.view().json(), json!({"old": 1, "draft": 1}));
}

#[test]
fn a_draft_whose_actor_a_copy_of_this_process_has_used_is_refused() {
    let (mut alice, mut copy) = (Peer::new(1), Peer::new(1));
    let (mut ours, mut theirs) = (draft(&mut alice), draft(&mut copy));
    set(&mut ours, "/v", 1);
    set(&mut theirs, "/v", 2);
    publish(&mut copy, &mut theirs).unwrap();
    alice.receive(copy.take_runs());
    assert!(matches!(alice.document.publish(&mut ours, &guard()), Err(DraftError::Copied(_))));
    assert_eq!(alice.document.view().json(), json!({"v": 2}));
}

#[test]
fn a_recorded_draft_replays_as_the_run_that_it_was() {
    let (mut alice, mut replay) = (Peer::new(1), Peer::new(1));
    let device = alice.device();
    for round in 0..3 {
        alice.edit(|edit| edit.set("/typed", round)).unwrap();
        let typed = alice.document.last_local_change().unwrap();
        let mut draft = draft(&mut alice);
        set(&mut draft, "/a", round);
        set(&mut draft, "/b", round);
        let changes = draft.payload().to_vec();
        publish(&mut alice, &mut draft).unwrap();
        replay.document.apply_local(device, &typed, Maker::Edit, &guard()).unwrap();
        replay.document.apply_local(device, &changes, Maker::Draft, &guard()).unwrap();
    }
    assert_eq!(replay.document.heads(), alice.document.heads());
    assert_eq!(replay.take_runs(), alice.take_runs());
}
