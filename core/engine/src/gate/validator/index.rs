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
    heads_before: BTreeMap<ChangeHash, (u32, u32)>,
}

/// Room that the journal keeps between merges.
const JOURNAL_KEPT: usize = 64;

/// What is to be taken back.
#[derive(Debug)]
enum Step {
    Actor,
    Key(Box<str>),
    Record(u32),
    Longer(u32),
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
        self.journal.clear();
        self.heads_before.clone_from(&self.heads);
    }

    /// Takes back everything since [`Self::begin`].
    pub(crate) fn roll_back(&mut self) {
        self.roll_back_to(0);
        self.heads.clone_from(&self.heads_before);
    }

    /// Nothing since [`Self::begin`] will be taken back.
    pub(crate) fn keep(&mut self) {
        self.journal.clear();
        self.journal.shrink_to(JOURNAL_KEPT);
    }

    pub(super) fn mark(&self) -> usize {
        self.journal.len()
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
            Step::Record(slot) => {
                if let Some(record) = self.chain_mut(slot).records.pop() {
                    self.tree.forget(Id { slot, counter: record.first });
                }
            }
            Step::Longer(slot) => {
                if let Some(record) = self.chain_mut(slot).records.last_mut() {
                    record.count -= 1;
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
            self.journal.push(Step::Longer(id.slot));
            return;
        }
        records.push(Record { first: id.counter, count: 1, object, place, kind, insert });
        self.journal.push(Step::Record(id.slot));
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
                + size_of::<Chain>()
                + in_tree(size_of::<(ActorId, u32)>())
        };
        self.chains.iter().map(of_chain).sum::<usize>()
            + self.keys.keys().map(|key| in_tree(size_of::<(Box<str>, u32)>()) + key.len() + 16).sum::<usize>()
            + self.tree.bytes()
    }
}
