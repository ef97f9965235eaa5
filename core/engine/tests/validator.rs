//! Stage 8 of the gate: what no honest replica can have made is refused, everywhere alike, and what one can have made never is.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use anabranch_engine::document::{Document, Json, OpenWork, Settled};
use anabranch_engine::gate::{Refusal, payload_tip};
use anabranch_engine::id::ChangeHash;
use anabranch_engine::run::{Run, UnsignedRun};
use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::Transactable;
use automerge::{
    ActorId, AutoCommit, Automerge, Change, ExpandedChange, ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue,
    TextEncoding, Value,
};
use common::{DOCUMENT, Peer, SPACE, guard, settle};
use proptest::prelude::*;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

fn writer(number: usize) -> AutoCommit {
    AutoCommit::new_with_encoding(TextEncoding::UnicodeCodePoint).with_actor(ActorId::from([1 + number as u8; 16]))
}

/// Objects that are in a document now.
fn objects(doc: &AutoCommit) -> Vec<(ObjId, ObjType)> {
    let mut found = vec![(ROOT, ObjType::Map)];
    let mut next = 0;
    while next < found.len() && found.len() < 30 {
        let (object, kind) = found[next].clone();
        next += 1;
        let props: Vec<Prop> = match kind {
            ObjType::Map | ObjType::Table => doc.keys(&object).map(Prop::from).collect(),
            ObjType::List => (0..doc.length(&object)).map(Prop::from).collect(),
            ObjType::Text => Vec::new(),
        };
        for prop in props {
            if let Ok(Some((Value::Object(kind), id))) = doc.get(&object, prop) {
                found.push((id, kind));
            }
        }
    }
    found
}

fn value(dice: &mut Dice) -> ScalarValue {
    match dice.below(5) {
        0 => ScalarValue::counter(dice.below(9) as i64),
        1 => ScalarValue::Null,
        2 => "text".into(),
        3 => ScalarValue::Bytes(vec![7; dice.below(4)]),
        _ => ScalarValue::Int(dice.below(3) as i64),
    }
}

/// Something that an application of automerge may do, marks and blocks and conflicts included. What automerge refuses was not
/// possible here.
fn act(doc: &mut AutoCommit, dice: &mut Dice) {
    let (object, kind) = dice.pick(&objects(doc)).clone();
    let kinds = [ObjType::Map, ObjType::List, ObjType::Text, ObjType::Text];
    if kind == ObjType::Map {
        let key = *dice.pick(&["a", "b", "c", "d"]);
        let _ = match dice.below(9) {
            0..=2 => doc.put(&object, key, value(dice)),
            3..=4 => doc.put_object(&object, key, *dice.pick(&kinds)).map(|_| ()),
            5 => doc.delete(&object, key),
            6 => doc.put(&object, key, ScalarValue::counter(1)),
            _ => doc.increment(&object, key, 2),
        };
        return;
    }
    let length = doc.length(&object);
    let (at, inside) = (dice.below(length + 1), dice.below(length));
    let _ = match (kind, dice.below(10)) {
        (ObjType::List, 0..=2) => doc.insert(&object, at, value(dice)),
        (ObjType::List, 3) => doc.insert_object(&object, at, *dice.pick(&kinds)).map(|_| ()),
        (ObjType::List, 4) => doc.put(&object, inside, value(dice)),
        (ObjType::List, 5) => doc.put_object(&object, inside, *dice.pick(&kinds)).map(|_| ()),
        (ObjType::List, 6) => doc.increment(&object, inside, 3),
        (ObjType::List, 7) => {
            doc.splice(&object, at, dice.below(3).min(length - at) as isize, [1, 2].map(ScalarValue::from))
        }
        (ObjType::List, _) => doc.delete(&object, inside),
        (_, 0..=4) => {
            let text = *dice.pick(&["a", "bc", "def", "\u{1f600}"]);
            doc.splice_text(&object, at, dice.below(3).min(length - at) as isize, text)
        }
        (_, 5..=7) => {
            let end = at + dice.below(length - at + 1);
            let expand = *dice.pick(&[ExpandMark::Both, ExpandMark::None, ExpandMark::Before, ExpandMark::After]);
            let mark = Mark::new((*dice.pick(&["bold", "link"])).to_string(), value(dice), at, end);
            if dice.below(3) == 0 {
                doc.unmark(&object, mark.name(), at, end, expand)
            } else {
                doc.mark(&object, mark, expand)
            }
        }
        (_, 8) if dice.below(3) > 0 => doc.split_block(&object, at).map(|_| ()),
        (_, _) if length > 0 => doc.join_block(&object, inside),
        (_, _) => Ok(()),
    };
}

/// What several writers make, who hear of each other now and then: every change after those that it depends on.
fn history(dice: &mut Dice, actors: usize, steps: usize) -> Vec<Change> {
    let mut base = writer(0);
    base.put_object(ROOT, "a", ObjType::Text).and_then(|text| base.splice_text(&text, 0, 0, "some text")).unwrap();
    base.put_object(ROOT, "b", ObjType::List).unwrap();
    base.commit();
    let mut writers: Vec<AutoCommit> = (0..actors).map(writer).collect();
    writers[0] = base.clone().with_actor(ActorId::from([1; 16]));
    writers[1..].iter_mut().for_each(|writer| _ = writer.merge(&mut base).unwrap());
    for _ in 0..steps {
        let at = dice.below(actors);
        if dice.below(4) == 0 {
            let mut other = writers[dice.below(actors)].clone();
            writers[at].merge(&mut other).unwrap();
        } else {
            (0..1 + dice.below(4)).for_each(|_| act(&mut writers[at], dice));
            writers[at].commit();
        }
    }
    let mut all = writers.swap_remove(0);
    writers.iter_mut().for_each(|writer| _ = all.merge(writer).unwrap());
    all.get_changes(&[])
}

/// A run of one change, by the device that writes as its actor.
fn run(change: &Change) -> Run {
    let payload = change.raw_bytes().to_vec();
    let tip = payload_tip(&payload).unwrap();
    let unsigned =
        UnsignedRun { actor: tip.actor, first_seq: tip.first_seq, last_seq: tip.last_seq, tip: tip.tip, payload };
    Peer::new(tip.actor.0[0]).sign(unsigned)
}

fn give<'a>(document: &mut Document, changes: impl IntoIterator<Item = &'a Change>) -> Settled {
    changes.into_iter().for_each(|change| document.receive(run(change)));
    settle(document)
}

/// A document that has these changes.
fn holding<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Document {
    let mut document = Document::empty(SPACE, DOCUMENT);
    let settled = give(&mut document, changes);
    assert_eq!(settled.refused, [], "an honest change is refused");
    assert_eq!(settled.waiting, 0);
    document
}

fn seen(document: &Document) -> (Vec<ChangeHash>, Json, String) {
    let view = document.view();
    (view.heads(), view.json(), format!("{:?}", view.all_conflicts()))
}

/// The numbers of the changes that one is made on, itself not included.
fn ancestors(changes: &[Change], of: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: BTreeSet<_> = changes[of].deps().iter().copied().collect();
    for at in (0..of).rev() {
        if open.remove(&changes[at].hash()) {
            found.insert(at);
            open.extend(changes[at].deps());
        }
    }
    found
}

/// A set of changes with all that they depend on, without one change and what depends on it.
fn concurrent(changes: &[Change], with: &BTreeSet<usize>, without: usize, dice: &mut Dice) -> BTreeSet<usize> {
    let share = dice.below(4);
    let mut kept = with.clone();
    let mut hashes: BTreeSet<_> = kept.iter().map(|at| changes[*at].hash()).collect();
    for (at, change) in changes.iter().enumerate() {
        if at != without && dice.below(4) <= share && change.deps().iter().all(|dep| hashes.contains(dep)) {
            kept.insert(at);
            hashes.insert(change.hash());
        }
    }
    kept
}

/// Makes one thing wrong, or right in another way.
fn mutate(change: &mut ExpandedChange, all: &[OpId], dice: &mut Dice) {
    if change.operations.is_empty() {
        return;
    }
    let at = dice.below(change.operations.len());
    let id = |dice: &mut Dice| dice.pick(all).clone();
    let other = change.operations[dice.below(change.operations.len())].clone();
    let actor = change.actor_id.clone();
    let own = OpId(change.start_op.get() + dice.below(change.operations.len()) as u64, actor);
    let op: &mut Op = &mut change.operations[at];
    let mut pred: Vec<OpId> = op.pred.iter().cloned().collect();
    match dice.below(15) {
        0 => op.obj = ObjectId::Id(id(dice)),
        1 => op.obj = ObjectId::Root,
        2 => op.obj = other.obj,
        3 => op.key = Key::Seq(ElementId::Id(id(dice))),
        4 => op.key = Key::Seq(ElementId::Head),
        5 => op.key = Key::Map((*dice.pick(&["a", "b", "c"])).into()),
        6 => op.key = other.key,
        7 => op.insert = !op.insert,
        8 => pred.push(id(dice)),
        9 => pred.push(own),
        10 => _ = pred.pop(),
        11 => pred.extend(other.pred.iter().cloned()),
        12 => op.key = Key::Seq(ElementId::Id(own)),
        13 => op.action = other.action,
        _ => {
            op.action = match dice.below(7) {
                0 => OpType::Delete,
                1 => OpType::Increment(1),
                2 => OpType::Make(*dice.pick(&[ObjType::Map, ObjType::List, ObjType::Text, ObjType::Table])),
                3 => OpType::MarkEnd(true),
                4 => OpType::Put(ScalarValue::counter(4)),
                _ => OpType::Put("m".into()),
            }
        }
    }
    op.pred = pred.into();
}

/// What a document makes of one more change.
fn verdict(document: &mut Document, change: &Change) -> Result<(), Refusal> {
    let before = seen(document);
    let mut settled = give(document, [change]);
    assert_eq!((settled.accepted.len() + settled.refused.len(), settled.waiting), (1, 0));
    match settled.refused.pop() {
        None => Ok(()),
        Some((_, refusal)) => {
            assert_eq!(seen(document), before, "{refusal}");
            Err(refusal)
        }
    }
}

/// Bare automerge takes these changes in any order, at once or one by one, saves and loads them, and it is always the same.
fn agrees_with_automerge(changes: &[Change], dice: &mut Dice) {
    let mut at_once = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    at_once.apply_changes(changes.to_vec()).unwrap();
    let mut one_by_one = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    changes.iter().for_each(|change| one_by_one.apply_changes([change.clone()]).unwrap());
    let mut shuffled = changes.to_vec();
    (1..shuffled.len()).for_each(|at| shuffled.swap(at, dice.below(at + 1)));
    let mut in_disorder = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    shuffled.chunks(3).for_each(|part| in_disorder.apply_changes(part.to_vec()).unwrap());
    let loaded = Automerge::load(&at_once.save()).unwrap();
    let again = Automerge::load(&one_by_one.save()).unwrap();
    for other in [&one_by_one, &in_disorder, &loaded, &again] {
        assert_eq!(at_once.get_heads(), other.get_heads());
        assert_eq!(at_once.hydrate(None), other.hydrate(None));
    }
}

/// A text `ab` (1, its letters 2 and 3), a list of 1 and 2 (4, 5, 6), a counter (7), a map with `x` in it (8, 9).
fn base() -> AutoCommit {
    let mut doc = writer(0);
    let text = doc.put_object(ROOT, "text", ObjType::Text).unwrap();
    doc.splice_text(&text, 0, 0, "ab").unwrap();
    let list = doc.put_object(ROOT, "list", ObjType::List).unwrap();
    doc.splice(&list, 0, 0, [1, 2].map(ScalarValue::from)).unwrap();
    doc.put(ROOT, "counter", ScalarValue::counter(1)).unwrap();
    let map = doc.put_object(ROOT, "map", ObjType::Map).unwrap();
    doc.put(&map, "x", 1).unwrap();
    doc.commit();
    doc
}

fn op(counter: u64) -> OpId {
    OpId(counter, ActorId::from([1; 16]))
}

fn own(counter: u64) -> OpId {
    OpId(counter, ActorId::from([2; 16]))
}

fn element(id: OpId) -> Key {
    Key::Seq(ElementId::Id(id))
}

/// Why a change on top of [`base`] is refused that is honest but for what `forge` makes of its operations, from 10 on.
fn reason(honest: impl FnOnce(&mut AutoCommit), forge: impl FnOnce(&mut Vec<Op>)) -> String {
    let mut base = base();
    let mut doc = base.fork().with_actor(ActorId::from([2; 16]));
    honest(&mut doc);
    doc.commit();
    let changes = base.get_changes(&[]);
    let mut change = doc.get_last_local_change().unwrap().decode();
    forge(&mut change.operations);
    let mut document = holding(&changes);
    let refusal = verdict(&mut document, &Change::from(change)).expect_err("it is taken");
    let reason = refusal.to_string();
    reason.strip_prefix("operation ").unwrap_or_else(|| panic!("{reason}")).to_string()
}

fn put(key: &'static str) -> impl Fn(&mut AutoCommit) {
    move |doc| doc.put(ROOT, key, 5).unwrap()
}

fn in_text(f: impl Fn(&mut AutoCommit, &ObjId)) -> impl Fn(&mut AutoCommit) {
    move |doc| {
        let text = doc.get(ROOT, "text").unwrap().unwrap().1;
        f(doc, &text);
    }
}

fn marked(doc: &mut AutoCommit, text: &ObjId) {
    doc.mark(text, Mark::new("bold".to_string(), true, 0, 1), ExpandMark::Both).unwrap();
}

#[test]
fn an_operation_acts_in_an_object_that_is_there() {
    for (object, name) in [(op(2), op(2)), (op(99), op(99)), (op(7), op(7)), (own(10), own(10))] {
        let expected =
            format!("10 is impossible: operation {} of actor {} is no object that can be written into", name.0, name.1);
        assert_eq!(reason(put("k"), |ops| ops[0].obj = ObjectId::Id(object)), expected);
    }
    let into_table = |ops: &mut Vec<Op>| {
        ops[0].action = OpType::Make(ObjType::Table);
        ops[1].obj = ObjectId::Id(own(10));
    };
    let both = |doc: &mut AutoCommit| ["k", "l"].into_iter().for_each(|key| doc.put(ROOT, key, 5).unwrap());
    assert!(reason(both, into_table).ends_with("is no object that can be written into"));
}

#[test]
fn maps_have_keys_and_sequences_have_elements() {
    let insert = in_text(|doc, text| doc.splice_text(text, 1, 0, "c").unwrap());
    let says = |forge: &dyn Fn(&mut Op)| reason(&insert, |ops| forge(&mut ops[0]));
    assert_eq!(says(&|op| op.key = Key::Map("k".into())), "10 is impossible: a sequence has no keys");
    assert_eq!(says(&|op| op.obj = ObjectId::Root), "10 is impossible: a map has no elements");
    assert_eq!(reason(put("k"), |ops| ops[0].insert = true), "10 is impossible: nothing is inserted into a map");
    assert_eq!(says(&|op| op.action = OpType::Delete), "10 is impossible: only values, objects and marks are inserted");
    let no_value = "10 is impossible: the head of a sequence has no value";
    assert_eq!(
        says(&|op| {
            op.key = Key::Seq(ElementId::Head);
            op.insert = false;
            op.action = OpType::Delete;
        }),
        no_value
    );
    for other in [op(5), op(1), op(50), own(10)] {
        let expected = format!("operation {} of actor {} is no element of its object", other.0, other.1);
        assert_eq!(says(&|op| op.key = element(other.clone())), format!("10 is impossible: {expected}"));
    }
}

#[test]
fn what_is_replaced_is_there_at_its_place_and_not_replaced_yet() {
    let insert = in_text(|doc, text| doc.splice_text(text, 1, 0, "c").unwrap());
    assert_eq!(
        reason(&insert, |ops| ops[0].pred = vec![op(2)].into()),
        "10 is impossible: what is inserted replaces nothing"
    );
    for other in [op(9), op(8), op(70), own(10)] {
        let expected = format!("10 is impossible: operation {} of actor {} is no value at its place", other.0, other.1);
        assert_eq!(reason(put("counter"), |ops| ops[0].pred = vec![other].into()), expected);
    }
    let twice = reason(put("counter"), |ops| ops[0].pred = vec![op(7), op(7)].into());
    assert!(twice.contains("twice"), "{twice}");
    let again = |doc: &mut AutoCommit| (5..7).for_each(|value| doc.put(ROOT, "counter", value).unwrap());
    assert_eq!(
        reason(again, |ops| ops[1].pred = vec![op(7), own(10)].into()),
        format!("11 is impossible: operation 7 of actor {} was replaced before", op(7).1)
    );
    assert_eq!(
        reason(again, |ops| ops[1].pred = vec![].into()),
        format!(
            "11 is impossible: it leaves operation 10 of actor {}, which the same change has written there",
            own(10).1
        )
    );
    assert_eq!(
        reason(|doc| doc.delete(ROOT, "counter").unwrap(), |ops| ops[0].pred = vec![].into()),
        "10 is impossible: it deletes nothing"
    );
    let increment = |ops: &mut Vec<Op>| ops[0].action = OpType::Increment(1);
    assert_eq!(reason(put("map"), increment), "10 is impossible: it increments no counter");
    assert_eq!(reason(put("new"), increment), "10 is impossible: it increments no counter");
}

#[test]
fn a_change_replaces_what_it_has_written_itself() {
    let leaves = |operation: u64| {
        let actor = own(10).1;
        format!(
            "{operation} is impossible: it leaves operation 10 of actor {actor}, which the same change has written there"
        )
    };
    let element = |doc: &mut AutoCommit| {
        let list = doc.get(ROOT, "list").unwrap().unwrap().1;
        doc.insert(&list, 0, 7).unwrap();
        doc.put(&list, 0, 8).unwrap();
    };
    assert_eq!(reason(element, |ops| ops[1].pred = vec![].into()), leaves(11));
    let counter = |doc: &mut AutoCommit| {
        doc.put(ROOT, "k", ScalarValue::counter(1)).unwrap();
        doc.increment(ROOT, "k", 2).unwrap();
        doc.put(ROOT, "k", 5).unwrap();
    };
    assert_eq!(reason(counter, |ops| ops[2].pred = vec![].into()), leaves(12));
    // An element that an earlier change of the same actor has ended with is not this one's, and may have another value by now.
    let mut one = writer(0);
    let list = one.put_object(ROOT, "list", ObjType::List).unwrap();
    one.insert(&list, 0, 1).unwrap();
    one.commit();
    let mut two = one.fork().with_actor(ActorId::from([2; 16]));
    two.put(&list, 0, 2).unwrap();
    one.merge(&mut two).unwrap();
    one.put(&list, 0, 3).unwrap();
    holding(&one.get_changes(&[]));
}

#[test]
fn a_mark_is_no_value() {
    let delete = in_text(|doc, text| {
        marked(doc, text);
        doc.splice_text(text, 0, 1, "").unwrap();
    });
    let (mark, actor) = (own(10), own(10).1);
    let as_element = |ops: &mut Vec<Op>| {
        ops[2].key = element(mark.clone());
        ops[2].pred = vec![mark.clone()].into();
    };
    let expected = format!("12 is impossible: operation 10 of actor {actor} is a mark, which has no value");
    assert_eq!(reason(&delete, as_element), expected);
    let expected = format!("12 is impossible: operation 10 of actor {actor} is no value at its place");
    assert_eq!(reason(&delete, |ops| ops[2].pred = vec![mark.clone()].into()), expected);
}

// Two writers replaced one character at once, and one of the two new ones was deleted alone: automerge panicked, or did not,
// depending on what else was applied with it. An application that does not edit through us can replace a character; it is to
// delete and insert.
#[test]
fn a_character_of_a_text_is_not_replaced() {
    let replace = in_text(|doc, text| doc.put(text, 1, "x").unwrap());
    let expected = "10 is impossible: the elements of a text are inserted and deleted, not replaced";
    assert_eq!(reason(&replace, |_| ()), expected);
    assert_eq!(reason(&replace, |ops| ops[0].action = OpType::Make(ObjType::Map)), expected);
}

#[test]
fn a_mark_begins_and_ends_in_one_text_and_in_this_order() {
    let mark = in_text(marked);
    let says = |forge: &dyn Fn(&mut Vec<Op>)| reason(&mark, |ops| forge(ops));
    assert_eq!(says(&|ops| _ = ops.pop()), "11 is impossible: a mark begins and does not end");
    assert_eq!(says(&|ops| _ = ops.remove(0)), "10 is impossible: a mark ends that does not begin just before");
    assert_eq!(says(&|ops| ops.swap(0, 1)), "10 is impossible: a mark ends that does not begin just before");
    assert_eq!(
        says(&|ops| ops[1].action = OpType::Put("x".into())),
        "11 is impossible: a mark begins and does not end just after"
    );
    let before = "11 is impossible: a mark ends before it begins";
    assert_eq!(says(&|ops| ops[1].key = Key::Seq(ElementId::Head)), before);
    assert_eq!(
        says(&|ops| {
            ops[0].key = element(op(3));
            ops[1].key = element(op(2));
        }),
        before
    );
    // Just behind the same element the later one comes first.
    assert_eq!(
        says(&|ops| {
            ops[0].key = element(op(2));
            ops[1].key = element(op(2));
        }),
        before
    );
    let other = "11 is impossible: a mark ends in another object than it begins in";
    assert_eq!(
        says(&|ops| {
            ops[1].obj = ObjectId::Id(op(4));
            ops[1].key = element(op(6));
        }),
        other
    );
    let in_list = |begin: &mut Op| {
        begin.obj = ObjectId::Id(op(4));
        begin.key = element(op(5));
    };
    assert_eq!(says(&|ops| in_list(&mut ops[0])), "10 is impossible: a mark is inserted into a text");
    assert_eq!(
        says(&|ops| {
            ops[0].insert = false;
            ops[0].key = element(op(2));
        }),
        "10 is impossible: the elements of a text are inserted and deleted, not replaced"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_honest_change_is_refused(seed in 1..u64::MAX, actors in 2..5_usize) {
        let mut dice = Dice(seed);
        let changes = history(&mut dice, actors, 60);
        let document = holding(&changes);
        let mut other = Document::empty(SPACE, DOCUMENT);
        for part in changes.chunks(1 + dice.below(5)) {
            let settled = give(&mut other, part.iter().rev());
            prop_assert_eq!(settled.refused, []);
        }
        prop_assert_eq!(seen(&document), seen(&other));
        agrees_with_automerge(&changes, &mut dice);
    }

    #[test]
    fn the_verdict_follows_from_the_change_and_its_ancestors_alone(seed in 1..u64::MAX, actors in 2..5_usize) {
        let mut dice = Dice(seed);
        let changes = history(&mut dice, actors, 30);
        let all: Vec<OpId> = changes
            .iter()
            .flat_map(|change| (change.start_op().get()..=change.max_op()).map(|op| OpId(op, change.actor_id().clone())))
            .collect();
        for _ in 0..12 {
            let at = dice.below(changes.len());
            let mut mutant = changes[at].decode();
            (0..1 + dice.below(2)).for_each(|_| mutate(&mut mutant, &all, &mut dice));
            let mutant = Change::from(mutant);
            if mutant.hash() == changes[at].hash() {
                continue;
            }
            let below = ancestors(&changes, at);
            let beside = concurrent(&changes, &below, at, &mut dice);
            let mut alone = holding(below.iter().map(|at| &changes[*at]));
            let mut among = holding(beside.iter().map(|at| &changes[*at]));
            let (one, other) = (verdict(&mut alone, &mutant), verdict(&mut among, &mutant));
            let is_pure = |verdict: &Result<(), Refusal>| !matches!(verdict, Err(Refusal::Misfit(_)));
            prop_assert_eq!(one.is_ok(), other.is_ok(), "{:?} alone, {:?} among others", one, other);
            // Only that an actor is unknown is noticed earlier.
            if is_pure(&one) && is_pure(&other) {
                prop_assert_eq!(&one, &other);
            }
            prop_assert!(!matches!(one, Err(Refusal::Poisoned)), "automerge broke over it");
            if one.is_ok() {
                let taken: Vec<Change> = beside.iter().map(|at| changes[*at].clone()).chain([mutant.clone()]).collect();
                agrees_with_automerge(&taken, &mut dice);
                let runs = taken.iter().rev().map(run).collect();
                let opened = OpenWork { space: SPACE, id: DOCUMENT, runs, tips: vec![], suspects: vec![], poisoned: Vec::new() }.run(&guard()).unwrap();
                prop_assert_eq!(seen(&opened), seen(&among));
            }
        }
    }
}
