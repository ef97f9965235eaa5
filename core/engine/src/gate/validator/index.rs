//! Every operation of a document that another one may refer to, compactly: values, objects and marks, but not deletions and
//! increments. What is typed in one go is one record. Of each value it is known what replaced it, so that it can be told
//! whether it was there in any version.
//!
//! The index belongs to one line of history and is moved, never copied: a merge takes it along and brings it back with the
//! merged operations, or as it was ([`OpIndex::roll_back`]).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::mem::size_of;

use crate::gate::operations::Action;
use crate::gate::validator::order::Tree;
use crate::gate::validator::sight::{Clock, Recent};
use crate::id::{ActorId, ChangeHash};

/// An operation: the number of its actor in the index, and its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub slot: u32,
    pub counter: u32,
}

/// The root object, and the place before the first element of a sequence.
pub(super) const NONE: Id = Id { slot: u32::MAX, counter: 0 };
/// The slot of places that are keys of maps; their counter is the key's number.
const KEYS: u32 = u32::MAX - 1;

/// What an operation left in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Counter,
    Map,
    List,
    Text,
    /// automerge can make one, and cannot write into it.
    Table,
    MarkBegin,
    MarkEnd,
}

/// Operations of one actor that follow one another. More than one only if they are plain values inserted into a sequence,
/// each after the one before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub first: u32,
    pub count: u32,
    pub object: Id,
    /// A key of a map, the element that is replaced, or the one that it is inserted after.
    pub place: Id,
    pub kind: Kind,
    pub insert: bool,
}

/// What is known of an actor.
#[derive(Debug)]
pub(super) struct Chain {
    pub actor: ActorId,
    records: Vec<Record>,
    /// Values of this actor that were replaced or deleted, and by which operation. An increment does not replace a counter.
    replaced: BTreeSet<(u32, Id)>,
    /// Counter of the last operation of each change, the one with sequence number 1 first.
    pub last_ops: Vec<u32>,
    /// Which changes of other actors a change depends on: own sequence number, slot, sequence number.
    pub foreign: Vec<(u32, u32, u32)>,
    /// What some changes have seen, by sequence number.
    pub checkpoints: Vec<(u32, Clock)>,
}

/// The operations of a document.
#[derive(Debug, Default)]
pub(crate) struct OpIndex {
    slots: BTreeMap<ActorId, u32>,
    pub(super) chains: Vec<Chain>,
    keys: BTreeMap<Box<str>, u32>,
    /// The changes that nothing depends on: slot and sequence number.
    pub(super) heads: BTreeMap<ChangeHash, (u32, u32)>,
    pub(super) tree: Tree,
    pub(super) recent: VecDeque<Recent>,
    /// Changes since the last checkpoint that had seen everything.
    pub(super) unmarked: usize,
    pub(super) replacements: u64,
    journal: Vec<Step>,
    /// How long the journal was at the last mark: what is added goes into no step before it.
    marked: usize,
    /// The heads when [`OpIndex::begin`] was called, as long as it may be rolled back to.
    heads_before: Option<BTreeMap<ChangeHash, (u32, u32)>>,
}

/// Room that the journal keeps between merges.
const JOURNAL_KEPT: usize = 64;

/// What is to be taken back.
#[derive(Debug)]
enum Step {
    Actor,
    Key(Box<str>),
    /// So many records of a slot, which followed one another.
    Records(u32, u32),
    /// The last record of a slot became longer by so much. A few bytes of a change can stand for a hundred thousand operations,
    /// so there is not a step for each.
    Longer(u32, u32),
    Replaced(u32, u32, Id),
    Change(u32),
    Foreign(u32),
    Checkpoint(u32),
}

impl Id {
    pub(super) fn key(number: u32) -> Self {
        Self { slot: KEYS, counter: number }
    }
}

impl Kind {
    /// What an action leaves; `None` if that is nothing.
    pub(super) fn of(action: Action) -> Option<Self> {
        match action {
            Action::Map => Some(Self::Map),
            Action::List => Some(Self::List),
            Action::Text => Some(Self::Text),
            Action::Table => Some(Self::Table),
            Action::Put { counter: true } => Some(Self::Counter),
            Action::Put { counter: false } => Some(Self::Value),
            Action::MarkBegin => Some(Self::MarkBegin),
            Action::MarkEnd => Some(Self::MarkEnd),
            Action::Delete | Action::Increment => None,
        }
    }

    pub(super) fn is_sequence(self) -> bool {
        matches!(self, Self::List | Self::Text)
    }

    pub(super) fn is_mark(self) -> bool {
        matches!(self, Self::MarkBegin | Self::MarkEnd)
    }
}

impl Record {
    /// The key or element that one of its operations has given a value to.
    pub(super) fn place_of(&self, id: Id) -> Id {
        if self.insert { id } else { self.place }
    }
}

impl OpIndex {
    /// From here on everything can be taken back.
    pub(crate) fn begin(&mut self) {
        self.forget_steps();
        self.heads_before = Some(self.heads.clone());
    }

    /// Takes back everything since [`Self::begin`]; nothing, if that was kept or taken back already.
    pub(crate) fn roll_back(&mut self) {
        if let Some(heads) = self.heads_before.take() {
            self.roll_back_to(0);
            self.heads = heads;
        }
    }

    /// Nothing since [`Self::begin`] will be taken back.
    pub(crate) fn keep(&mut self) {
        self.heads_before = None;
        self.forget_steps();
        self.journal.shrink_to(JOURNAL_KEPT);
    }

    fn forget_steps(&mut self) {
        self.journal.clear();
        self.marked = 0;
    }

    pub(super) fn mark(&mut self) -> usize {
        self.marked = self.journal.len();
        self.marked
    }

    /// The step that may still grow.
    fn last_step(&mut self) -> Option<&mut Step> {
        self.journal.get_mut(self.marked..)?.last_mut()
    }

    /// Takes back what was added since [`Self::mark`], which must not include a whole change.
    pub(super) fn roll_back_to(&mut self, mark: usize) {
        // What a change saw is remembered by its number, under which there may be another one later.
        self.recent.clear();
        while self.journal.len() > mark
            && let Some(step) = self.journal.pop()
        {
            self.take_back(step);
        }
    }

    fn take_back(&mut self, step: Step) {
        match step {
            Step::Actor => {
                if let Some(chain) = self.chains.pop() {
                    self.slots.remove(&chain.actor);
                }
            }
            Step::Key(key) => {
                self.keys.remove(&key);
            }
            Step::Records(slot, count) => {
                for _ in 0..count {
                    if let Some(record) = self.chain_mut(slot).records.pop() {
                        self.tree.forget(Id { slot, counter: record.first });
                    }
                }
            }
            Step::Longer(slot, by) => {
                if let Some(record) = self.chain_mut(slot).records.last_mut() {
                    record.count -= by;
                }
            }
            Step::Replaced(slot, counter, by) => {
                self.chain_mut(slot).replaced.remove(&(counter, by));
                self.replacements -= 1;
            }
            Step::Change(slot) => {
                self.chain_mut(slot).last_ops.pop();
            }
            Step::Foreign(slot) => {
                self.chain_mut(slot).foreign.pop();
            }
            Step::Checkpoint(slot) => {
                self.chain_mut(slot).checkpoints.pop();
            }
        }
    }

    pub(super) fn chain(&self, slot: u32) -> &Chain {
        &self.chains[slot as usize]
    }

    fn chain_mut(&mut self, slot: u32) -> &mut Chain {
        &mut self.chains[slot as usize]
    }

    pub(super) fn slot(&self, actor: &ActorId) -> Option<u32> {
        self.slots.get(actor).copied()
    }

    pub(super) fn slot_or_new(&mut self, actor: ActorId) -> u32 {
        if let Some(slot) = self.slot(&actor) {
            return slot;
        }
        let slot = self.chains.len() as u32;
        self.slots.insert(actor, slot);
        self.chains.push(Chain {
            actor,
            records: Vec::new(),
            replaced: BTreeSet::new(),
            last_ops: Vec::new(),
            foreign: Vec::new(),
            checkpoints: Vec::new(),
        });
        self.journal.push(Step::Actor);
        slot
    }

    pub(super) fn key(&mut self, name: &str) -> Id {
        if let Some(number) = self.keys.get(name) {
            return Id::key(*number);
        }
        let number = self.keys.len() as u32;
        self.keys.insert(name.into(), number);
        self.journal.push(Step::Key(name.into()));
        Id::key(number)
    }

    /// The record that an operation is in.
    pub(super) fn record(&self, id: Id) -> Option<&Record> {
        let records = &self.chains.get(id.slot as usize)?.records;
        let behind = match records.last() {
            // Most references are to what was written last.
            Some(last) if last.first <= id.counter => records.len(),
            _ => records.partition_point(|record| record.first <= id.counter),
        };
        let record = &records[behind.checked_sub(1)?];
        (id.counter - record.first < record.count).then_some(record)
    }

    /// Adds an operation that left something.
    pub(super) fn add_record(&mut self, id: Id, object: Id, place: Id, kind: Kind, insert: bool) {
        let records = &mut self.chains[id.slot as usize].records;
        if kind == Kind::Value
            && insert
            && let Some(last) = records.last_mut()
            && last.kind == Kind::Value
            && last.insert
            && last.object == object
            && last.first + last.count == id.counter
            && place == (Id { slot: id.slot, counter: id.counter - 1 })
        {
            last.count += 1;
            match self.last_step() {
                Some(Step::Longer(slot, by)) if *slot == id.slot => *by += 1,
                _ => self.journal.push(Step::Longer(id.slot, 1)),
            }
            return;
        }
        records.push(Record { first: id.counter, count: 1, object, place, kind, insert });
        match self.last_step() {
            Some(Step::Records(slot, count)) if *slot == id.slot => *count += 1,
            _ => self.journal.push(Step::Records(id.slot, 1)),
        }
    }

    pub(super) fn add_replacement(&mut self, id: Id, by: Id) {
        if self.chain_mut(id.slot).replaced.insert((id.counter, by)) {
            self.replacements += 1;
            self.journal.push(Step::Replaced(id.slot, id.counter, by));
        }
    }

    /// The operations that replaced one.
    pub(super) fn replaced_by(&self, id: Id) -> impl Iterator<Item = Id> {
        let least = (id.counter, Id { slot: 0, counter: 0 });
        self.chain(id.slot).replaced.range(least..=(id.counter, NONE)).map(|(_, by)| *by)
    }

    /// Adds a change whose operations have all been added.
    pub(super) fn add_change(&mut self, slot: u32, hash: ChangeHash, last_op: u32, deps: &[(ChangeHash, u32, u32)]) {
        let chain = self.chain_mut(slot);
        chain.last_ops.push(last_op);
        let seq = chain.last_ops.len() as u32;
        self.journal.push(Step::Change(slot));
        for (dep, at, dep_seq) in deps {
            self.heads.remove(dep);
            if *at != slot {
                self.chain_mut(slot).foreign.push((seq, *at, *dep_seq));
                self.journal.push(Step::Foreign(slot));
            }
        }
        self.heads.insert(hash, (slot, seq));
    }

    pub(super) fn add_checkpoint(&mut self, slot: u32, seq: u32, clock: Clock) {
        self.chain_mut(slot).checkpoints.push((seq, clock));
        self.journal.push(Step::Checkpoint(slot));
    }

    /// Bytes of memory that it takes, about: what its entries take, and the usual surplus of what they lie in.
    pub(crate) fn bytes(&self) -> usize {
        /// A B-tree's nodes are two thirds full.
        const fn in_tree(entry: usize) -> usize {
            entry * 3 / 2 + 2
        }
        let of_chain = |chain: &Chain| {
            chain.records.capacity() * size_of::<Record>()
                + chain.replaced.len() * in_tree(size_of::<(u32, Id)>())
                + chain.last_ops.capacity() * size_of::<u32>()
                + chain.foreign.capacity() * size_of::<(u32, u32, u32)>()
                + chain.checkpoints.iter().map(|(_, clock)| clock.len() * size_of::<u32>()).sum::<usize>()
                + in_tree(size_of::<(ActorId, u32)>())
        };
        self.chains.iter().map(of_chain).sum::<usize>()
            + self.chains.capacity() * size_of::<Chain>()
            + self.keys.keys().map(|key| in_tree(size_of::<(Box<str>, u32)>()) + key.len() + 16).sum::<usize>()
            + self.tree.bytes()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;

    use automerge as am;
    use automerge::transaction::Transactable as _;

    use super::*;
    use crate::gate::inspector::{self, Chunk};
    use crate::limits::DOCUMENT_REPLACEMENTS_MAX;

    fn writer(actor: u8) -> am::AutoCommit {
        am::AutoCommit::new().with_actor(am::ActorId::from([actor; 16]))
    }

    fn chunk(change: &am::Change) -> Chunk<'_> {
        inspector::inspect(change.raw_bytes()).expect("it is automerge's own")
    }

    /// All that an index holds, but for what only saves time.
    fn held(index: &OpIndex) -> String {
        format!("{:?}", (&index.slots, &index.chains, &index.keys, &index.heads, index.replacements))
    }

    /// What two writers make of a text and a few keys, in more changes than a clock is looked for in.
    fn typed() -> Vec<am::Change> {
        let mut one = writer(1);
        let text = one.put_object(am::ROOT, "text", am::ObjType::Text).expect("a text");
        one.commit();
        let mut two = one.fork().with_actor(am::ActorId::from([2; 16]));
        for number in 0..300 {
            let key = format!("key {}", number % 7);
            let _ = match number % 100 {
                40 => one.merge(&mut two).map(|_| ()),
                60 => two.merge(&mut one).map(|_| ()),
                70 => one.delete(&text, 0),
                80 => one.put(am::ROOT, &key, number),
                90 => two.splice_text(&text, 0, 0, "another word"),
                _ => one.splice_text(&text, number as usize / 2, 0, "a"),
            };
            one.commit();
            two.commit();
        }
        one.merge(&mut two).expect("they merge");
        one.get_changes(&[])
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let changes = typed();
        let places = |hash: &ChangeHash| {
            let found = changes.iter().find(|change| change.hash().0 == hash.0)?;
            Some((ActorId(found.actor_id().to_bytes().try_into().ok()?), found.seq()))
        };
        let mut index = OpIndex::default();
        for (at, change) in changes.iter().enumerate() {
            if at % 20 == 0 {
                let before = held(&index);
                index.begin();
                changes[at..].iter().for_each(|change| index.judge(&chunk(change), &places).expect("it is honest"));
                assert_ne!(held(&index), before);
                index.roll_back();
                assert_eq!(held(&index), before);
            }
            index.begin();
            index.judge(&chunk(change), &places).expect("it is honest");
            index.keep();
        }
    }

    #[test]
    fn what_is_kept_is_never_taken_back() {
        let changes = typed();
        let mut index = OpIndex::default();
        index.begin();
        index.judge(&chunk(&changes[0]), &|_| None).expect("it is honest");
        index.keep();
        let kept = held(&index);
        index.roll_back();
        assert_eq!(held(&index), kept);
    }

    #[test]
    fn a_document_has_a_limited_number_of_replaced_values() {
        let mut doc = writer(1);
        doc.put(am::ROOT, "a", 1).expect("a value");
        doc.commit();
        doc.put(am::ROOT, "a", 2).expect("a value");
        let changes = doc.get_changes(&[]);
        let judged = |before: u64| {
            let mut index = OpIndex { replacements: before, ..OpIndex::default() };
            index.begin();
            let judged = changes.iter().try_for_each(|change| index.judge(&chunk(change), &|_| None));
            assert_eq!(index.replacements, before + u64::from(judged.is_ok()), "what is refused is taken back");
            judged.map_err(|refusal| refusal.to_string())
        };
        assert_eq!(judged(DOCUMENT_REPLACEMENTS_MAX - 1), Ok(()));
        let expected = "over a limit: the document would have 20000001 replaced values, limit 20000000";
        assert_eq!(judged(DOCUMENT_REPLACEMENTS_MAX), Err(String::from(expected)));
    }

    #[test]
    fn of_a_change_that_is_refused_nothing_is_kept_and_of_those_before_all() {
        let (mut one, mut two) = (writer(1), writer(2));
        one.put(am::ROOT, "a", 1).expect("a value");
        two.put(am::ROOT, "b", 2).expect("a value");
        two.put(am::ROOT, "c", 3).expect("a value");
        let good = one.get_last_local_change().expect("a change");
        let mut bad = two.get_last_local_change().expect("a change").decode();
        bad.operations[1].pred = vec![am::legacy::OpId(1, am::ActorId::from([2; 16]))].into();
        let bad = am::Change::from(bad);
        let mut index = OpIndex::default();
        index.begin();
        let nothing = held(&index);
        index.judge(&chunk(&good), &|_| None).expect("it is honest");
        let before = held(&index);
        let refusal = index.judge(&chunk(&bad), &|_| None).unwrap_err();
        assert!(refusal.to_string().contains("is no value at its place"), "{refusal}");
        assert_eq!(held(&index), before);
        index.roll_back();
        assert_eq!(held(&index), nothing);
    }

    #[test]
    fn what_is_typed_in_one_go_is_one_record() {
        let mut doc = writer(1);
        let text = doc.put_object(am::ROOT, "text", am::ObjType::Text).expect("a text");
        let list = doc.put_object(am::ROOT, "list", am::ObjType::List).expect("a list");
        doc.splice_text(&text, 0, 0, &"letters ".repeat(20)).expect("letters");
        doc.insert(&list, 0, "a value").expect("a value");
        doc.splice_text(&text, 3, 0, "more").expect("letters");
        let mut index = OpIndex::default();
        index.begin();
        index.judge(&chunk(&doc.get_last_local_change().expect("a change")), &|_| None).expect("it is honest");
        let counts: Vec<u32> = index.chains[0].records.iter().map(|record| record.count).collect();
        assert_eq!(counts, [1, 1, 160, 1, 4]);
    }

    /// Bytes that an index takes, as it says and as the allocator does.
    fn takes(build: impl FnOnce(&mut OpIndex)) -> (usize, i64) {
        let mut index = OpIndex::default();
        build(&mut index);
        index.keep();
        let says = index.bytes();
        (says, -allocation_counter::measure(move || drop(index)).bytes_current)
    }

    #[test]
    fn an_index_says_about_how_much_memory_it_takes() {
        let id = |counter| Id { slot: 0, counter };
        let actors = |index: &mut OpIndex, count: u16| {
            for actor in 0..count {
                index.slot_or_new(ActorId([&[0; 14][..], &actor.to_be_bytes()].concat().try_into().expect("16 bytes")));
            }
        };
        let records = takes(|index| {
            actors(index, 1);
            (1..10_000).for_each(|counter| index.add_record(id(counter), NONE, NONE, Kind::Value, true));
        });
        let replaced = takes(|index| {
            actors(index, 1);
            (1..10_000).for_each(|counter| index.add_replacement(id(counter), id(counter + 1)));
        });
        let changes = takes(|index| {
            actors(index, 1);
            (1..10_000).for_each(|op| index.add_change(0, ChangeHash([0; 32]), op, &[]));
        });
        let foreign = takes(|index| {
            actors(index, 2);
            (1..10_000).for_each(|op| index.add_change(0, ChangeHash([0; 32]), op, &[(ChangeHash([1; 32]), 1, op)]));
        });
        let checkpoints = takes(|index| {
            actors(index, 1);
            (1..100).for_each(|seq| index.add_checkpoint(0, seq, vec![0; 1_000]));
        });
        let chains = takes(|index| actors(index, 10_000));
        let keys = takes(|index| (0..10_000).for_each(|number| _ = index.key(&format!("a key {number}"))));
        let order = takes(|index| {
            actors(index, 1);
            // Each before the one before it, so that all are records of their own.
            (2..5_000).for_each(|counter| index.add_record(id(counter), NONE, NONE, Kind::Value, true));
            (2..4_999).for_each(|counter| assert!(index.precedes(id(counter + 1), id(counter))));
        });
        let all = [records, replaced, changes, foreign, checkpoints, chains, keys, order];
        for (number, (says, takes)) in all.into_iter().enumerate() {
            let ratio = says as f64 / takes as f64;
            assert!((0.75..1.4).contains(&ratio), "{number}: it says {says}, the allocator {takes}");
        }
    }
}
