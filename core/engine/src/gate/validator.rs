//! Stage 8: whether each operation of a change is one that an honest replica could have made, seeing what the change has seen.
//! automerge does not ask: it panics on some others, and of the rest some make replicas differ or documents that do not load
//! once they are saved.
//!
//! The verdict follows from the change and what it depends on, and from nothing else: what the index holds besides is not
//! seen. So every replica comes to the same, whatever arrived there before. The exception is a document at its limit
//! ([`DOCUMENT_REPLACEMENTS_MAX`] here, operations and actors at the merge): which change is the one too many depends on what came
//! first.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::gate::Refusal;
use crate::gate::inspector::Chunk;
use crate::gate::operations::{Action, Key, Operation, Reference};
use crate::id::{ActorId, ChangeHash};
use crate::limits::DOCUMENT_REPLACEMENTS_MAX;

mod index;
mod order;
mod sight;

pub(crate) use index::OpIndex;

use index::{Id, Kind, NONE};
use sight::Sight;

/// One change while it is looked at.
struct Judged<'a> {
    index: &'a mut OpIndex,
    sight: Sight,
    /// The slots of its actors, its own first.
    slots: Vec<u32>,
    /// The operation that is looked at.
    id: Id,
    /// The object of the operation before, as it was named, and what it is.
    object: Option<(Option<Reference>, Id, Kind)>,
    /// What this change has written, by object and place: the value that is there now, if it is one of its own.
    written: BTreeMap<(Id, Id), Option<Id>>,
    /// The mark that was begun by the operation before.
    begun: Option<(Id, Id)>,
    /// The checks are made. Otherwise the operations are only added.
    checks: bool,
}

/// Where the changes are that one depends on: actor and sequence number.
type Places<'a> = &'a dyn Fn(&ChangeHash) -> Option<(ActorId, u64)>;

impl OpIndex {
    /// Checks a change that comes after all that is in the index, and adds it. If it is refused, nothing is added.
    /// `places` knows the changes that it depends on. [`Self::begin`] must have been called.
    pub(crate) fn judge(&mut self, change: &Chunk<'_>, places: Places<'_>) -> Result<(), Refusal> {
        let mark = self.mark();
        let judged = self.take(change, places, true);
        if judged.is_err() {
            self.roll_back_to(mark);
        }
        judged
    }

    /// Adds a change that was judged before, or is our own.
    ///
    /// # Errors
    /// It does not belong here. The index is of no use any more.
    pub(crate) fn add(&mut self, change: &Chunk<'_>, places: Places<'_>) -> Result<(), Refusal> {
        let added = self.take(change, places, false);
        self.keep();
        added
    }

    fn take(&mut self, change: &Chunk<'_>, places: Places<'_>, checks: bool) -> Result<(), Refusal> {
        let misfit = |text: &str| Refusal::Misfit(text.to_string());
        let own = self.slot_or_new(change.actor);
        if self.chain(own).last_ops.len() as u64 + 1 != change.seq {
            return Err(misfit("it is not its actor's next change"));
        }
        let mut deps = Vec::with_capacity(change.deps().len());
        for hash in change.deps() {
            let place = match self.heads.get(&hash) {
                Some(place) => Some(*place),
                None => places(&hash).and_then(|(actor, seq)| Some((self.slot(&actor)?, seq as u32))),
            };
            let (slot, seq) = place.ok_or_else(|| misfit("it depends on a change that is not here"))?;
            deps.push((hash, slot, seq));
        }
        let mut slots = Vec::with_capacity(1 + change.others().len());
        slots.push(own);
        for other in change.others() {
            let slot = self.slot(&other);
            slots.push(slot.ok_or_else(|| misfit("it refers to operations of an actor of whom there are none"))?);
        }
        let (sight, recent) = self.sight(own, &deps);
        let id = Id { slot: own, counter: change.start_op as u32 };
        let mut judged =
            Judged { index: self, sight, slots, id, object: None, written: BTreeMap::new(), begun: None, checks };
        judged.operations(change)?;
        if self.replacements > DOCUMENT_REPLACEMENTS_MAX {
            let text = format!(
                "the document would have {} replaced values, limit {DOCUMENT_REPLACEMENTS_MAX}",
                self.replacements
            );
            return Err(Refusal::TooLarge(text));
        }
        self.add_change(own, change.hash, change.max_op() as u32, &deps);
        self.remember(own, recent);
        Ok(())
    }
}

impl Judged<'_> {
    fn operations(&mut self, change: &Chunk<'_>) -> Result<(), Refusal> {
        let mut operations = change.operations();
        let mut replaces = Vec::new();
        while let Some(operation) = operations.next(&mut replaces)? {
            self.operation(&operation, &replaces)?;
            self.id.counter += 1;
        }
        if self.begun.is_some() {
            return Err(self.refuse("a mark begins and does not end"));
        }
        Ok(())
    }

    fn operation(&mut self, operation: &Operation<'_>, replaces: &[Reference]) -> Result<(), Refusal> {
        let (object, object_kind) = self.object(operation.object)?;
        let place = match operation.key {
            Key::Name(name) => self.index.key(name),
            Key::Head => NONE,
            Key::Element(element) => self.id_of(element),
        };
        if self.checks {
            self.check_place(operation, object, object_kind, place)?;
            self.check_mark(operation, object, object_kind, place)?;
            self.check_replaced(operation, replaces, object, place)?;
        }
        for replaced in replaces {
            let replaced = self.id_of(*replaced);
            let is_counter = || self.index.record(replaced).is_some_and(|record| record.kind == Kind::Counter);
            if operation.action != Action::Increment || !is_counter() {
                self.index.add_replacement(replaced, self.id);
            }
        }
        if let Some(kind) = Kind::of(operation.action) {
            self.index.add_record(self.id, object, place, kind, operation.insert);
        }
        Ok(())
    }

    /// The object that an operation acts in.
    fn object(&mut self, named: Option<Reference>) -> Result<(Id, Kind), Refusal> {
        if let Some((before, object, kind)) = self.object
            && before == named
        {
            return Ok((object, kind));
        }
        let (object, kind) = match named {
            None => (NONE, Kind::Map),
            Some(reference) => {
                let id = self.id_of(reference);
                let kind = self.seen(id).map_or(Kind::Value, |record| record.kind);
                if !matches!(kind, Kind::Map | Kind::List | Kind::Text) {
                    return Err(self.refuse(&format!("{} is no object that can be written into", self.name(id))));
                }
                (id, kind)
            }
        };
        self.object = Some((named, object, kind));
        Ok((object, kind))
    }

    /// Maps have keys and sequences have elements, and only a sequence is inserted into.
    fn check_place(&self, operation: &Operation<'_>, object: Id, kind: Kind, place: Id) -> Result<(), Refusal> {
        let is_key = matches!(operation.key, Key::Name(_));
        if is_key == kind.is_sequence() {
            return Err(self.refuse(if is_key { "a sequence has no keys" } else { "a map has no elements" }));
        }
        if operation.insert && is_key {
            return Err(self.refuse("nothing is inserted into a map"));
        }
        if operation.insert && matches!(operation.action, Action::Delete | Action::Increment) {
            return Err(self.refuse("only values, objects and marks are inserted"));
        }
        // automerge can replace a character, and panics when one of two that replaced it at once is deleted alone.
        let replaces = !matches!(operation.action, Action::Delete | Action::Increment);
        if kind == Kind::Text && !operation.insert && replaces {
            return Err(self.refuse("the elements of a text are inserted and deleted, not replaced"));
        }
        match operation.key {
            Key::Name(_) => Ok(()),
            Key::Head if operation.insert => Ok(()),
            Key::Head => Err(self.refuse("the head of a sequence has no value")),
            Key::Element(_) => match self.seen(place) {
                Some(record) if record.insert && record.object == object => {
                    if record.kind.is_mark() && !operation.insert {
                        return Err(self.refuse(&format!("{} is a mark, which has no value", self.name(place))));
                    }
                    Ok(())
                }
                _ => Err(self.refuse(&format!("{} is no element of its object", self.name(place)))),
            },
        }
    }

    /// A mark is two operations that follow one another, its end behind its beginning.
    fn check_mark(&mut self, operation: &Operation<'_>, object: Id, kind: Kind, place: Id) -> Result<(), Refusal> {
        let begun = self.begun.take();
        match (operation.action, begun) {
            (Action::MarkBegin, None) => {
                self.begun = Some((self.id, object));
            }
            (Action::MarkEnd, Some((begin, of))) => {
                if of != object {
                    return Err(self.refuse("a mark ends in another object than it begins in"));
                }
                if place == NONE || (place != begin && !self.index.precedes(begin, place)) {
                    return Err(self.refuse("a mark ends before it begins"));
                }
            }
            (Action::MarkEnd, None) => return Err(self.refuse("a mark ends that does not begin just before")),
            (_, Some(_)) => return Err(self.refuse("a mark begins and does not end just after")),
            (_, None) => return Ok(()),
        }
        if kind != Kind::Text || !operation.insert {
            return Err(self.refuse("a mark is inserted into a text"));
        }
        Ok(())
    }

    /// What an operation replaces is there, at its place and not replaced yet, and includes what the change itself has written
    /// there.
    fn check_replaced(
        &mut self,
        operation: &Operation<'_>,
        replaces: &[Reference],
        object: Id,
        place: Id,
    ) -> Result<(), Refusal> {
        if operation.insert {
            if !replaces.is_empty() {
                return Err(self.refuse("what is inserted replaces nothing"));
            }
            return Ok(());
        }
        let mut counters = false;
        for (at, reference) in replaces.iter().enumerate() {
            let replaced = self.id_of(*reference);
            let found = self.seen(replaced).filter(|record| !record.kind.is_mark());
            let Some(record) = found.filter(|record| record.object == object && record.place_of(replaced) == place)
            else {
                return Err(self.refuse(&format!("{} is no value at its place", self.name(replaced))));
            };
            if at > 0 && replaces[at - 1] == *reference {
                return Err(self.refuse(&format!("it replaces {} twice", self.name(replaced))));
            }
            counters |= record.kind == Kind::Counter;
            if self.index.replaced_by(replaced).any(|by| self.sees(by)) {
                return Err(self.refuse(&format!("{} was replaced before", self.name(replaced))));
            }
        }
        match operation.action {
            Action::Delete if replaces.is_empty() => return Err(self.refuse("it deletes nothing")),
            // Values in conflict with the counter are replaced with it.
            Action::Increment if !counters => return Err(self.refuse("it increments no counter")),
            _ => {}
        }
        self.check_written(operation, replaces, object, place)
    }

    /// Of two writes to one place the second one must replace the first: automerge orders values at one place by their ids and
    /// relies on it.
    fn check_written(
        &mut self,
        operation: &Operation<'_>,
        replaces: &[Reference],
        object: Id,
        place: Id,
    ) -> Result<(), Refusal> {
        let entry = self.written.get(&(object, place)).copied();
        // An element that the change has inserted itself.
        let inserted = || (place.slot == self.id.slot && self.is_own(place)).then_some(place);
        let before = entry.unwrap_or_else(inserted);
        if let Some(before) = before
            && !replaces.iter().any(|reference| self.id_of(*reference) == before)
        {
            return Err(
                self.refuse(&format!("it leaves {}, which the same change has written there", self.name(before)))
            );
        }
        let now = match operation.action {
            Action::Delete => None,
            Action::Increment => {
                let is_counter = |id: &Id| self.index.record(*id).is_some_and(|record| record.kind == Kind::Counter);
                before.filter(is_counter)
            }
            _ => Some(self.id),
        };
        if now.is_some() || before.is_some() {
            self.written.insert((object, place), now);
        }
        Ok(())
    }

    /// An operation that this change has seen, its own earlier ones included.
    fn seen(&self, id: Id) -> Option<&index::Record> {
        if self.checks && !self.sees(id) {
            return None;
        }
        self.index.record(id)
    }

    fn sees(&self, id: Id) -> bool {
        id.slot == self.id.slot || self.sight.sees(id)
    }

    /// Whether an operation of its actor belongs to this change.
    fn is_own(&self, id: Id) -> bool {
        self.index.chain(id.slot).last_ops.last().is_none_or(|last| id.counter > *last)
    }

    fn id_of(&self, reference: Reference) -> Id {
        match self.slots.get(reference.actor) {
            Some(slot) => Id { slot: *slot, counter: reference.counter },
            // The inspector has held references to the list; an id that is not there is refused.
            None => NONE,
        }
    }

    fn name(&self, id: Id) -> String {
        match self.index.chains.get(id.slot as usize) {
            Some(chain) => format!("operation {} of actor {}", id.counter, chain.actor),
            None => "an operation of nobody".to_string(),
        }
    }

    fn refuse(&self, reason: &str) -> Refusal {
        Refusal::Impossible { operation: u64::from(self.id.counter), reason: reason.to_string() }
    }
}
