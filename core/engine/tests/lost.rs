//! Edits that went into something that another removed or replaced at the same time are named.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use anabranch_engine::document::{Edit, EditError, Json, LOST_EDITS_MAX, LostEdit};
use common::Peer;
use serde_json::json;

/// Two who have the same, and then each do something without the other.
fn apart(
    base: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>,
    alices: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>,
    bobs: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>,
) -> (Peer, Peer) {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    alice.edit(base).unwrap();
    bob.receive(alice.take_runs());
    alice.edit(alices).unwrap();
    bob.edit(bobs).unwrap();
    meet(&mut alice, &mut bob);
    (alice, bob)
}

fn meet(alice: &mut Peer, bob: &mut Peer) {
    let (alices, bobs) = (alice.take_runs(), bob.take_runs());
    alice.receive(bobs);
    bob.receive(alices);
    assert_eq!(lost(alice), lost(bob));
}

fn lost(peer: &Peer) -> Vec<LostEdit> {
    peer.document.view().lost_edits()
}

fn told(peer: &Peer) -> Vec<(String, Option<Json>)> {
    lost(peer).into_iter().map(|edit| (edit.path.to_string(), edit.value)).collect()
}

#[test]
fn an_edit_inside_what_another_replaced_is_named_until_somebody_writes_there() {
    let (mut alice, mut bob) = apart(
        |edit| edit.set("/data", json!({"a": 1, "b": 2})),
        |edit| edit.set("/data", json!({"a": 1, "b": 4})),
        |edit| edit.set("/data/a", 3),
    );
    assert_eq!(told(&alice), [("/data/a".to_string(), Some(json!(3)))]);
    let edit = lost(&alice).remove(0);
    assert_ne!(edit.by.device, edit.removed_by.device);
    assert!(bob.document.view().history().iter().any(|change| change.hash == edit.by.change));
    bob.edit(|edit| edit.set("/data/a", 3)).unwrap();
    meet(&mut alice, &mut bob);
    assert_eq!(told(&alice), []);
}

#[test]
fn an_edit_inside_what_another_removed_is_named() {
    let (alice, _) = apart(
        |edit| edit.set("/tasks", json!([{"t": "one"}, {"t": "two"}])),
        |edit| edit.remove("/tasks/1"),
        |edit| {
            edit.set("/tasks/1/done", true)?;
            edit.splice_text("/tasks/1/t", 3, 0, "!")
        },
    );
    let expected = [("/tasks/1/done".to_string(), Some(json!(true))), ("/tasks/1/t".to_string(), Some(json!("two!")))];
    assert_eq!(told(&alice), expected);
}

#[test]
fn an_addition_to_a_counter_that_another_replaced_is_named() {
    let (alice, _) =
        apart(|edit| edit.set_counter("/n", 5), |edit| edit.increment("/n", 1), |edit| edit.set_counter("/n", 0));
    assert_eq!(told(&alice), [("/n".to_string(), Some(json!(6)))]);
}

#[test]
fn what_was_not_at_the_same_time_is_not_lost() {
    let (mut alice, mut bob) =
        apart(|edit| edit.set("/data", json!({"a": 1})), |edit| edit.set("/data/a", 2), |edit| edit.set("/data/b", 3));
    bob.edit(|edit| edit.remove("/data")).unwrap();
    meet(&mut alice, &mut bob);
    alice.edit(|edit| edit.set("/data", json!({"c": {"d": 1}}))).unwrap();
    alice.edit(|edit| edit.set("/data/c", 1)).unwrap();
    meet(&mut alice, &mut bob);
    assert_eq!(told(&alice), []);
}

// Bug: an edit in something that was removed at the same time, inside something else that was, stayed listed for ever: nobody can
// write into what holds it.
#[test]
fn of_things_in_each_other_that_were_removed_the_outermost_settles_it() {
    let (mut alice, mut bob) = apart(
        |edit| edit.set("/x", json!({"y": {"z": 1}})),
        |edit| {
            edit.remove("/x/y")?;
            edit.remove("/x")
        },
        |edit| edit.set("/x/y/z", 2),
    );
    assert_eq!(told(&alice), [("/x/y/z".to_string(), Some(json!(2)))]);
    bob.edit(|edit| edit.set("/x", 5)).unwrap();
    meet(&mut alice, &mut bob);
    assert_eq!(told(&alice), []);
}

// They were looked for among the first thousand of the document only.
#[test]
fn lost_edits_below_a_path_are_found_behind_any_number_of_others() {
    let (alice, _) = apart(
        |edit| {
            edit.set("/many", json!({}))?;
            edit.set("/one", json!({}))
        },
        |edit| {
            edit.set("/many", json!({"other": 1}))?;
            edit.set("/one", json!({"other": 1}))
        },
        |edit| {
            (0..=LOST_EDITS_MAX).try_for_each(|number| edit.set(format!("/many/{number}"), 1))?;
            edit.set("/one/a", 1)
        },
    );
    let view = alice.document.view();
    let below = |path: &str| view.lost_edits_below(&path.parse().unwrap());
    assert_eq!((view.lost_edits().len(), below("/many").len(), below("/two").len()), (1_000, 1_000, 0));
    let one: Vec<String> = below("/one").iter().map(|edit| edit.path.to_string()).collect();
    assert_eq!(one, ["/one/a"]);
}

#[test]
fn whoever_had_seen_an_edit_and_removes_what_holds_it_has_not_lost_it() {
    let (mut alice, mut bob, mut carol) = (Peer::new(1), Peer::new(2), Peer::new(3));
    alice.edit(|edit| edit.set("/x", json!({"y": {"z": 1}}))).unwrap();
    let base = alice.take_runs();
    bob.receive(base.clone());
    carol.receive(base);
    // Carol removes the inner one, and Bob, who has written into that, the outer one.
    carol.edit(|edit| edit.remove("/x/y")).unwrap();
    bob.edit(|edit| edit.set("/x/y/z", 2)).unwrap();
    bob.edit(|edit| edit.remove("/x")).unwrap();
    meet(&mut carol, &mut bob);
    assert_eq!(told(&carol), [("/x/y".to_string(), None)], "Carol's removal alone, which Bob had not seen");
}

/// What a document says, and its lost edits after they were given up.
fn given_up(peer: &mut Peer) -> (Json, usize) {
    let lost = lost(peer);
    peer.edit(|edit| edit.give_up(&lost)).unwrap();
    (peer.document.view().json(), peer.document.view().lost_edits().len())
}

#[test]
fn a_lost_edit_that_is_given_up_is_not_listed_any_more_and_nothing_else_changes() {
    type Step = fn(&mut Edit<'_>) -> Result<(), EditError>;
    let cases: [(Json, Step, Step); 8] = [
        (json!({"a": {"b": 1}}), |edit| edit.set("/v/a", json!({"b": 2})), |edit| edit.set("/v/a/c", 3)),
        (json!({"a": {"b": 1}}), |edit| edit.set("/v/a", "words"), |edit| edit.set("/v/a/c", 3)),
        (json!({"a": {"b": 1}}), |edit| edit.set("/v/a", json!([])), |edit| edit.set("/v/a/c", 3)),
        (json!({"a": {"b": 1}}), |edit| edit.set("/v/a", 7), |edit| edit.set("/v/a/c", 3)),
        (json!({"a": {"b": 1}}), |edit| edit.set("/v/a", Json::Null), |edit| edit.set("/v/a/c", 3)),
        (json!({"a": {"b": 1}}), |edit| edit.set_counter("/v/a", 7), |edit| edit.set("/v/a/c", 3)),
        (json!({"a": {"b": 1}}), |edit| edit.remove("/v/a"), |edit| edit.set("/v/a/c", 3)),
        (json!([{"b": 1}, 5]), |edit| edit.remove("/v/0"), |edit| edit.set("/v/0/c", 3)),
    ];
    for (value, alices, bobs) in cases {
        let (mut alice, mut bob) = apart(|edit| edit.set("/v", value), alices, bobs);
        let before = alice.document.view().json();
        assert_eq!(lost(&alice).len(), 1, "{before}");
        assert_eq!(given_up(&mut alice), (before, 0));
        meet(&mut alice, &mut bob);
        assert_eq!(told(&bob), []);
    }
}

#[test]
fn a_counter_that_took_the_place_of_another_goes_on_adding_up() {
    let (mut alice, mut bob) =
        apart(|edit| edit.set_counter("/n", 5), |edit| edit.increment("/n", 1), |edit| edit.set_counter("/n", 0));
    assert_eq!(given_up(&mut alice), (json!({"n": 0}), 0));
    bob.edit(|edit| edit.increment("/n", 2)).unwrap();
    meet(&mut alice, &mut bob);
    assert_eq!((told(&alice).len(), alice.document.view().json()), (0, json!({"n": 2})));
}
