//! Which of two elements of a sequence comes first. automerge orders the elements inserted after the same one by their ids,
//! the greatest first, each followed by all that was inserted after it; so the order of two elements follows from the elements
//! that they were inserted after, and nothing that comes later changes it.
//!
//! Only marks ask for it. What is found on the way from an element to the head is kept, with a shortcut at each step, so that
//! asking again takes logarithmic time however deep the sequence.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem::size_of;

use crate::gate::validator::index::{Id, NONE, OpIndex};
use crate::id::ActorId;

/// Records of inserted elements as a tree: a record's parent is the one that has the element it was inserted after. A record
/// is named by its first operation, the root (the place before the first element) by [`NONE`].
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeMap<Id, Node>);

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: Id,
    /// Steps from the root.
    depth: u32,
    /// An ancestor further up.
    shortcut: Id,
}

const ROOT: Node = Node { parent: NONE, depth: 0, shortcut: NONE };

impl Tree {
    pub(super) fn forget(&mut self, record: Id) {
        self.0.remove(&record);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<(Id, Node)>() * 3 / 2
    }

    fn node(&self, record: Id) -> Node {
        if record == NONE { ROOT } else { self.0.get(&record).copied().unwrap_or(ROOT) }
    }

    fn add(&mut self, record: Id, parent: Id) {
        let above = self.node(parent);
        let far = self.node(above.shortcut);
        // Two shortcuts of one length make one of the double length.
        let doubled = above.depth - far.depth == far.depth - self.node(far.shortcut).depth;
        let shortcut = if doubled { far.shortcut } else { parent };
        self.0.insert(record, Node { parent, depth: above.depth + 1, shortcut });
    }
}

impl OpIndex {
    /// Whether element `a` comes before element `b` of the same sequence. Both must be there.
    pub(super) fn precedes(&mut self, a: Id, b: Id) -> bool {
        let (mut x, mut y) = (self.enter(a), self.enter(b));
        let (from_x, from_y) = (x, y);
        // Up to one depth, then up to the children of the first record that they have in common.
        let depth = self.tree.node(x).depth.min(self.tree.node(y).depth);
        let (below_x, below_y) = (self.climb(&mut x, depth), self.climb(&mut y, depth));
        let (mut child_x, mut child_y) = (below_x, below_y);
        while x != y {
            let (at_x, at_y) = (self.tree.node(x), self.tree.node(y));
            if at_x.shortcut == at_y.shortcut {
                (child_x, child_y) = (Some(x), Some(y));
                (x, y) = (at_x.parent, at_y.parent);
            } else {
                (child_x, child_y) = (None, None);
                (x, y) = (at_x.shortcut, at_y.shortcut);
            }
        }
        let element_x = if from_x == x { a } else { self.place(child_x.unwrap_or(from_x)) };
        let element_y = if from_y == y { b } else { self.place(child_y.unwrap_or(from_y)) };
        let (child_x, child_y) = (child_x.filter(|_| from_x != x), child_y.filter(|_| from_y != y));
        let next = |element: Id| Id { counter: element.counter + 1, ..element };
        // In one record each element but the first is inserted after the one before it.
        let (branch_x, branch_y) = match element_x.counter.cmp(&element_y.counter) {
            core::cmp::Ordering::Equal => (child_x, child_y),
            core::cmp::Ordering::Less => (child_x, Some(next(element_x))),
            core::cmp::Ordering::Greater => (Some(next(element_y)), child_y),
        };
        match (branch_x, branch_y) {
            (None, _) => true,
            (_, None) => false,
            (Some(x), Some(y)) => self.rank(x) > self.rank(y),
        }
    }

    /// How automerge orders ids.
    fn rank(&self, id: Id) -> (u32, ActorId) {
        (id.counter, self.chain(id.slot).actor)
    }

    /// The element that a record was inserted after.
    fn place(&self, record: Id) -> Id {
        self.record(record).map_or(NONE, |record| record.place)
    }

    fn name(&self, element: Id) -> Id {
        self.record(element).map_or(NONE, |record| Id { slot: element.slot, counter: record.first })
    }

    /// The record of an element, which is in the tree afterwards with all above it.
    fn enter(&mut self, element: Id) -> Id {
        let found = self.name(element);
        let mut new = Vec::new();
        let mut record = found;
        while record != NONE && !self.tree.0.contains_key(&record) {
            let parent = self.name(self.place(record));
            new.push((record, parent));
            record = parent;
        }
        for (record, parent) in new.into_iter().rev() {
            self.tree.add(record, parent);
        }
        found
    }

    /// Goes up to a depth. Says from which child the last step was, if there was one.
    fn climb(&self, record: &mut Id, depth: u32) -> Option<Id> {
        let mut child = None;
        loop {
            let node = self.tree.node(*record);
            if node.depth <= depth {
                return child;
            }
            // The last step is not taken by a shortcut, so that the child is known.
            if self.tree.node(node.shortcut).depth > depth {
                *record = node.shortcut;
            } else {
                child = Some(*record);
                *record = node.parent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::gate::validator::index::Kind;

    const LIST: Id = Id { slot: 0, counter: 1 };

    /// The elements in order, found by walking the tree.
    fn naive(elements: &[(Id, Id)], after: Id, found: &mut Vec<Id>) {
        let mut stack = vec![after];
        while let Some(element) = stack.pop() {
            if element != after {
                found.push(element);
            }
            let mut children: Vec<Id> =
                elements.iter().filter(|(_, place)| *place == element).map(|(id, _)| *id).collect();
            // The greatest comes first, so it goes onto the stack last. Slots are numbered in the order of their actors here.
            children.sort_by_key(|id| (id.counter, id.slot));
            stack.extend(children);
        }
    }

    fn check(index: &mut OpIndex, elements: &[(Id, Id)]) {
        let mut order = Vec::new();
        naive(elements, NONE, &mut order);
        assert_eq!(order.len(), elements.len());
        for (at, a) in order.iter().enumerate() {
            for (other, b) in order.iter().enumerate().filter(|(other, _)| *other != at) {
                assert_eq!(index.precedes(*a, *b), at < other, "{a:?} before {b:?}");
            }
        }
    }

    #[test]
    fn elements_are_in_the_order_of_the_tree() {
        let mut state = 3_u64;
        let mut roll = |sides: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % sides
        };
        for round in 0..20 {
            let mut index = OpIndex::default();
            (0..3).for_each(|actor| _ = index.slot_or_new(ActorId([actor; 16])));
            let mut elements: Vec<(Id, Id)> = Vec::new();
            let mut counter = 1;
            let (mut slot, mut twice) = (0, false);
            for number in 0..80_u32 {
                // Sometimes two writers use the same counter, mostly one goes on after what it wrote last.
                let again = roll(4) == 0 && number > 0 && !twice;
                counter += u32::from(!again);
                slot = if again { (slot + 1 + roll(2) as u32) % 3 } else { roll(3) as u32 };
                twice = again;
                let place = match roll(8) {
                    0 => NONE,
                    1..=2 if !elements.is_empty() => elements[roll(elements.len())].0,
                    _ => elements.last().map_or(NONE, |(id, _)| *id),
                };
                let id = Id { slot, counter };
                if place.counter >= counter || elements.iter().any(|(there, _)| *there == id) {
                    continue;
                }
                index.add_record(id, LIST, place, Kind::Value, true);
                elements.push((id, place));
                if round % 2 == 0 && elements.len() > 2 {
                    // Asking while it grows keeps what was found.
                    let (a, b) = (elements[roll(elements.len() - 1)].0, elements[elements.len() - 1].0);
                    let _ = index.precedes(a, b);
                }
            }
            check(&mut index, &elements);
        }
    }

    #[test]
    fn what_was_taken_back_is_not_remembered() {
        let mut index = OpIndex::default();
        (0..2).for_each(|actor| _ = index.slot_or_new(ActorId([actor; 16])));
        let (a, b, c) = (Id { slot: 1, counter: 2 }, Id { slot: 0, counter: 3 }, Id { slot: 1, counter: 4 });
        index.add_record(a, LIST, NONE, Kind::Value, true);
        index.add_record(b, LIST, a, Kind::Value, true);
        index.begin();
        index.add_record(c, LIST, a, Kind::Value, true);
        assert!(index.precedes(c, b));
        index.roll_back();
        index.add_record(c, LIST, b, Kind::Value, true);
        assert!(index.precedes(b, c));
    }

    #[test]
    fn who_goes_on_typing_is_compared_with_who_begins_at_the_same_place() {
        let mut index = OpIndex::default();
        (0..3).for_each(|actor| _ = index.slot_or_new(ActorId([actor; 16])));
        let id = |slot, counter| Id { slot, counter };
        // One writes three letters, the others a letter each behind the second of them, all without having seen the others.
        let mut elements = vec![(id(1, 2), NONE), (id(1, 3), id(1, 2)), (id(1, 4), id(1, 3))];
        elements.extend([(id(0, 4), id(1, 3)), (id(2, 4), id(1, 3))]);
        elements.iter().for_each(|(id, place)| index.add_record(*id, LIST, *place, Kind::Value, true));
        check(&mut index, &elements);
    }

    #[test]
    fn a_deep_sequence_is_compared_quickly_once_it_is_known() {
        let mut index = OpIndex::default();
        (0..2).for_each(|actor| _ = index.slot_or_new(ActorId([actor; 16])));
        // Two writers take turns after each letter, so that each is a record of its own.
        let mut place = NONE;
        for counter in 2..50_000 {
            let id = Id { slot: counter % 2, counter };
            index.add_record(id, LIST, place, Kind::Value, true);
            place = id;
        }
        let id = |counter: u32| Id { slot: counter % 2, counter };
        for counter in 2..49_999 {
            assert!(index.precedes(id(counter), id(counter + 1)) && !index.precedes(id(49_999), id(counter)));
        }
    }
}
