//! Of several values that were set at once one becomes the only one, by one edit.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use anabranch_engine::document::import::Import;
use anabranch_engine::document::{Edit, EditError, Value};
use common::Peer;
use serde_json::json;

type Step = fn(&mut Edit<'_>) -> Result<(), EditError>;

/// Two who have the same, and then each do something without the other.
fn apart(base: Step, alices: Step, bobs: Step) -> (Peer, Peer) {
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
    assert_eq!(alice.document.view().json(), bob.document.view().json());
}

fn value(peer: &Peer, path: &str) -> Value {
    peer.document.view().value(path).unwrap()
}

#[test]
fn any_of_the_values_becomes_the_only_one_and_stays_of_its_kind() {
    let (words, more) = ("words".to_owned(), "more".to_owned());
    let values: [(Step, Value); 9] = [
        (|edit| edit.set("/l/0", Value::Plain("words".into())), Value::Plain(words.clone())),
        (|edit| edit.set("/l/0", "words"), Value::Text(words)),
        (|edit| edit.set_counter("/l/0", 5), Value::Counter(5)),
        (|edit| edit.set_timestamp("/l/0", 5), Value::Timestamp(5)),
        (|edit| edit.set_bytes("/l/0", &[5]), Value::Bytes(vec![5])),
        (|edit| edit.set("/l/0", Value::Uint(5)), Value::Uint(5)),
        (|edit| edit.set("/l/0", Value::Null), Value::Null),
        (
            |edit| {
                edit.set("/l/0", json!([1, {}]))?;
                edit.set_plain_string("/l/0/1/a", "more")
            },
            Value::List(vec![Value::Int(1), Value::Map([("a".to_owned(), Value::Plain(more))].into())]),
        ),
        (
            |edit| {
                edit.set_counter("/l/0", 5)?;
                edit.increment("/l/0", 2)
            },
            Value::Counter(7),
        ),
    ];
    for (step, expected) in values {
        for first in [0, 1] {
            let (mut alice, mut bob) = apart(|edit| edit.set("/l", json!([0, 1])), step, |edit| edit.set("/l/0", 99));
            let conflicts = alice.document.view().conflicts("/l/0");
            assert_eq!(conflicts.len(), 2);
            let chosen = &conflicts[first];
            let is_other = chosen.device == Some(bob.device());
            assert!(chosen.wall_s > 1_000, "it is known when it was set");
            alice.edit(|edit| edit.resolve("/l/0", chosen)).unwrap();
            meet(&mut alice, &mut bob);
            assert_eq!(value(&bob, "/l/0"), if is_other { Value::Int(99) } else { expected.clone() });
            assert!(bob.document.view().all_conflicts().is_empty());
            assert!(bob.document.view().lost_edits().is_empty());
            assert_eq!(value(&bob, "/l/1"), Value::Int(1));
            let again = bob.edit(|edit| edit.resolve("/l/0", chosen));
            assert_eq!(
                again.unwrap_err().to_string(),
                "the value that was chosen is not in conflict at `/l/0` any more"
            );
        }
    }
}

#[test]
fn what_is_set_meanwhile_is_kept() {
    for first in [0, 1] {
        let (mut alice, mut bob) = apart(|edit| edit.set("/k", 0), |edit| edit.set("/k", 1), |edit| edit.set("/k", 2));
        let chosen = alice.document.view().conflicts("/k").swap_remove(first);
        alice.edit(|edit| edit.resolve("/k", &chosen)).unwrap();
        bob.edit(|edit| edit.set("/k", 3)).unwrap();
        meet(&mut alice, &mut bob);
        // Alone where the value that was taken is the one that Bob had seen and replaced, else in conflict with it.
        let view = alice.document.view();
        let in_conflict = view.conflicts("/k").into_iter().any(|conflict| conflict.value == json!(3));
        assert!(in_conflict || view.get("/k") == Some(json!(3)));
    }
}

#[test]
fn a_value_that_no_change_holds_is_taken_in_pieces() {
    let (mut alice, mut bob) = apart(
        |edit| edit.set("/k", 0),
        |edit| edit.set("/k", "x".repeat(150_000)),
        |edit| edit.set("/k", json!({"a": 1})),
    );
    let conflicts = alice.document.view().conflicts("/k");
    let long = conflicts.into_iter().find(|conflict| conflict.value.is_string()).unwrap();
    let mut import = Import::resolution(&alice.document.view(), "/k", &long).unwrap();
    while !import.is_done() {
        alice.edit(|edit| import.write(edit)).unwrap();
    }
    meet(&mut alice, &mut bob);
    assert_eq!(value(&bob, "/k"), Value::Text("x".repeat(150_000)));
    assert!(bob.document.view().all_conflicts().is_empty());
}
