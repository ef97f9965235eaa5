//! Imports: a document is made to read as a value does, by what differs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use anabranch_engine::document::import::{Import, Kinds, Rules, Tally};
use anabranch_engine::document::{Json, Strings, Value};
use anabranch_engine::limits::RUN_BYTES_MAX;
use common::Peer;
use proptest::prelude::*;
use serde_json::json;

const EXACT: Rules<'_> = Rules { replace: false, kinds: Kinds::Exact, kept: None };

/// Imports, and says how much there was to do.
fn import(peer: &mut Peer, path: &str, value: impl Into<Value>, rules: Rules<'_>) -> Tally {
    let mut import = Import::new(&peer.document.view(), path, value.into(), rules).unwrap();
    while !import.is_done() {
        peer.edit(|edit| import.write(edit)).unwrap();
    }
    import.tally()
}

fn refusal(peer: &Peer, path: &str, value: impl Into<Value>) -> String {
    Import::new(&peer.document.view(), path, value.into(), Rules::default()).unwrap_err().to_string()
}

/// What an edit of everything there is to one person does, and what another did meanwhile.
fn meanwhile(
    base: Json,
    theirs: impl FnOnce(&mut anabranch_engine::document::Edit<'_>) -> Result<(), anabranch_engine::document::EditError>,
    ours: Json,
) -> Json {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    alice.edit(|edit| edit.set("", base)).unwrap();
    bob.receive(alice.take_runs());
    bob.edit(theirs).unwrap();
    import(&mut alice, "", ours, Rules::default());
    alice.receive(bob.take_runs());
    bob.receive(alice.take_runs());
    assert_eq!(alice.document.view().json(), bob.document.view().json());
    alice.document.view().json()
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..3).prop_map(Value::Int),
        (0_u64..3).prop_map(Value::Uint),
        prop_oneof![Just(0.0), Just(1.5), Just(-2.0)].prop_map(Value::Float),
        "[ab]{0,3}".prop_map(Value::Plain),
        "[ab \n\u{e4}]{0,8}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..3).prop_map(Value::Bytes),
        (-3_i64..3).prop_map(Value::Counter),
        (0_i64..3).prop_map(Value::Timestamp),
    ];
    scalar.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(Value::Map),
        ]
    })
}

fn without_counters(value: Value) -> Value {
    match value {
        Value::Counter(number) => Value::Int(number),
        Value::List(items) => Value::List(items.into_iter().map(without_counters).collect()),
        Value::Map(members) => Value::Map(members.into_iter().map(|(key, it)| (key, without_counters(it))).collect()),
        other => other,
    }
}

fn any_document() -> impl Strategy<Value = BTreeMap<String, Value>> {
    proptest::collection::btree_map("[a-d]", any_value(), 0..5)
}

proptest! {
    #[test]
    fn what_is_imported_is_read_back_and_importing_it_again_changes_nothing(
        first in any_document(), second in any_document(), replace in any::<bool>(),
    ) {
        let mut peer = Peer::new(1);
        let (first, second) = (Value::Map(first), Value::Map(second));
        import(&mut peer, "", first.clone(), EXACT);
        prop_assert_eq!(peer.document.view().value("").unwrap(), first);
        import(&mut peer, "", second.clone(), Rules { replace, ..EXACT });
        prop_assert_eq!(peer.document.view().value("").unwrap(), second.clone());
        let heads = peer.document.heads();
        prop_assert_eq!(import(&mut peer, "", second, EXACT), Tally::default());
        prop_assert_eq!(peer.document.heads(), heads);
    }

    #[test]
    fn plain_json_of_a_document_changes_nothing_of_it_and_that_of_another_is_read_back(
        first in any_document(), second in any_document(), plain in any::<bool>(),
    ) {
        let strings = if plain { Strings::Plain } else { Strings::Text };
        let mut peer = Peer::new(1);
        let first = Value::Map(first);
        import(&mut peer, "", first.clone(), EXACT);
        let exported = peer.document.view().json();
        let tally = import(&mut peer, "", Value::from_json(exported, strings), Rules::default());
        prop_assert_eq!(tally, Tally::default());
        // What is no number does not take the place of a counter.
        let mut peer = Peer::new(2);
        import(&mut peer, "", without_counters(first), EXACT);
        let second = Value::Map(second).into_json();
        import(&mut peer, "", Value::from_json(second.clone(), strings), Rules::default());
        let read = peer.document.view().json();
        let again = import(&mut peer, "", Value::from_json(second, strings), Rules::default());
        prop_assert_eq!(again, Tally::default());
        prop_assert_eq!(peer.document.view().json(), read);
    }
}

#[test]
fn what_others_type_during_an_import_is_kept() {
    let base = json!({"text": "one\ntwo\nthree\n", "list": ["a", "b"], "map": {"x": 1}});
    let ours = json!({"text": "one\n2\nthree\nfour\n", "list": ["a", "b", "c"], "map": {"x": 2}});
    let both = meanwhile(
        base,
        |edit| {
            edit.splice_text("/text", 0, 0, "zero\n")?;
            edit.insert("/list/0", "0")?;
            edit.splice_text("/list/1", 1, 0, "!")?;
            edit.set("/map/y", 1)
        },
        ours,
    );
    let expected = json!({
        "list": ["0", "a!", "b", "c"], "map": {"x": 2, "y": 1}, "text": "zero\none\n2\nthree\nfour\n",
    });
    assert_eq!(both, expected);
}

#[test]
fn one_field_of_one_of_many_elements_is_one_operation() {
    let rows = |done: usize| -> Json { (0..500).map(|i| json!({"id": i, "done": i == done})).collect() };
    let mut peer = Peer::new(1);
    import(&mut peer, "", json!({"rows": rows(1_000)}), Rules::default());
    let tally = import(&mut peer, "", json!({"rows": rows(250)}), Rules::default());
    assert_eq!((tally.operations, tally.changed, tally.added, tally.removed), (1, 1, 0, 0));
}

#[test]
fn kinds_that_json_lacks_are_kept() {
    let mut peer = Peer::new(1);
    let typed = json!({
        "bytes": {"$bytes": "AAE="}, "count": {"$counter": 5}, "float": 2.0, "plain": {"$plain": "a"}, "when": {"$timestamp": 1},
    });
    import(&mut peer, "", Value::from(typed).untagged().unwrap(), EXACT);
    let plain = json!({"bytes": "AAI=", "count": 7, "float": 2, "plain": "b", "when": 2});
    let tally = import(&mut peer, "", plain, Rules::default());
    assert_eq!((tally.changed, tally.added, tally.removed), (4, 0, 0));
    let expected = json!({
        "bytes": {"$bytes": "AAI="}, "count": {"$counter": 7}, "float": 2.0, "plain": {"$plain": "b"}, "when": {"$timestamp": 2},
    });
    assert_eq!(peer.document.view().value("").unwrap().tagged().into_json(), expected);
    peer.edit(|edit| edit.increment("/count", 1)).unwrap();
    assert_eq!(peer.document.view().get("/count"), Some(json!(8)));
}

#[test]
fn a_counter_is_added_to_in_steps_that_peers_take() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    import(&mut alice, "", Value::Map([("n".to_string(), Value::Counter(4_000_000_000_000))].into()), EXACT);
    import(&mut alice, "", json!({"n": 8_000_000_000_000_i64}), Rules::default());
    assert!(bob.receive(alice.take_runs()).refused.is_empty());
    assert_eq!(bob.document.view().get("/n"), Some(json!(8_000_000_000_000_i64)));
    assert!(refusal(&bob, "", json!({"n": i64::MAX})).starts_with("an addition to a counter at `/n` is "));
    // An earlier version is not held up by what was added since.
    let before = alice.document.heads().len();
    import(&mut alice, "", Value::Map([("n".to_string(), Value::Counter(1 << 50))].into()), EXACT);
    let runs = alice.take_runs();
    assert!(runs.iter().map(|run| run.payload.len()).sum::<usize>() < 300 && before == 1);
    assert!(bob.receive(runs).refused.is_empty());
    assert_eq!(bob.document.view().get("/n"), Some(json!(1_i64 << 50)));
}

// The counter was replaced without a word, and what others added to it meanwhile was lost.
#[test]
fn a_counter_gives_way_to_something_else_only_where_everything_is_replaced() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set_counter("/n", 5)).unwrap();
    for other in [json!("5"), json!(5.5), json!(null), json!({"a": 1})] {
        assert!(
            refusal(&alice, "", json!({"n": other})).starts_with("`/n` is a counter, and what would take its place")
        );
    }
    import(&mut alice, "", json!({"n": "5"}), Rules { replace: true, ..Rules::default() });
    assert_eq!(alice.document.view().json(), json!({"n": "5"}));
}

#[test]
fn a_key_that_is_kept_stays_unless_it_is_named() {
    let mut peer = Peer::new(1);
    peer.edit(|edit| edit.set("", json!({"name": "plan", "old": 1}))).unwrap();
    let rules = Rules { kept: Some("name"), ..Rules::default() };
    import(&mut peer, "", json!({"new": 1}), rules);
    assert_eq!(peer.document.view().json(), json!({"name": "plan", "new": 1}));
    import(&mut peer, "", json!({"newer": 1}), Rules { replace: true, ..rules });
    assert_eq!(peer.document.view().json(), json!({"name": "plan", "newer": 1}));
    import(&mut peer, "", json!({"name": "b"}), Rules { replace: true, ..rules });
    assert_eq!(peer.document.view().json(), json!({"name": "b"}));
}

#[test]
fn a_value_at_a_path_needs_a_place() {
    let mut peer = Peer::new(1);
    peer.edit(|edit| edit.set("", json!({"list": [1], "text": "x"}))).unwrap();
    assert_eq!(refusal(&peer, "/no/where", 1), "there is nothing at `/no`");
    assert_eq!(refusal(&peer, "/list/5", 1), "`/list` has length 1, position 5 is behind its end");
    assert_eq!(refusal(&peer, "/text/0", 1), "`/text` is a text, a map or a list is needed");
    assert_eq!(refusal(&peer, "", 1), "`` is a number, a JSON object is needed");
    import(&mut peer, "/list/1", "b", Rules::default());
    import(&mut peer, "/list/0", "a", Rules { replace: true, ..Rules::default() });
    assert_eq!(peer.document.view().get("/list"), Some(json!(["a", "b"])));
    let mut insertion = Import::insertion(&peer.document.view(), "/list/-", json!({"c": "d"}).into()).unwrap();
    peer.edit(|edit| insertion.write(edit)).unwrap();
    assert_eq!(peer.document.view().get("/list/2/c"), Some(json!("d")));
}

#[test]
fn what_is_surely_too_large_for_one_run_is_refused_before_anything_is_done() {
    let peer = Peer::new(1);
    let strings = |count: usize| Value::List(vec![Value::Plain("x".repeat(250_000)); count]);
    let fits = RUN_BYTES_MAX / 250_000;
    assert!(Import::new(&peer.document.view(), "/a", strings(fits), Rules::default()).is_ok());
    let bytes = (fits + 1) * 250_000;
    let refused = format!("the draft has {bytes} bytes of strings, limit {RUN_BYTES_MAX}");
    assert_eq!(refusal(&peer, "/a", strings(fits + 1)), refused);
}

#[test]
fn what_makes_a_document_too_full_is_refused_before_anything_is_done() {
    let peer = Peer::new(1);
    let error = refusal(&peer, "", json!({"b": "z".repeat(12_000_000)}));
    assert_eq!(error, "the document has 12000001 operations, limit 10000000: go on in a new document");
}
