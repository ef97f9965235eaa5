//! Whose turn it is to be dialed. Few dials are under way at a time, and few begin in a second; devices take turns, and each
//! has one dial at a time. What is to be dialed, and from when on, is the book's business.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use crate::id::DeviceId;
use crate::limits::{
    DIAL_TIMEOUT, DIALS_BURST, DIALS_MAX, DIALS_PER_SECOND, DIALS_UNPROVEN_MAX, NEARBY_DIAL_EVERY_S, NEARBY_DIALS_BURST,
};
use crate::mutants::{Mutant, Mutated};
use crate::sync::rate::{Allowance, Rate};
use crate::time::Timestamp;

const DIALS: Allowance = Allowance { per_second: DIALS_PER_SECOND, burst: DIALS_BURST };
const NEARBY_DIALS: Allowance = Allowance { per_second: 1, burst: NEARBY_DIALS_BURST * NEARBY_DIAL_EVERY_S };

/// Names an address of the book. Never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TargetId(pub u64);

/// Who takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Line {
    /// The addresses at which this device is to answer.
    Device(DeviceId),
    /// An address at which anybody may.
    Address(TargetId),
}

/// How much is to be expected of an address. In a line the better one comes first; the classes take turns, so that none keeps
/// the others out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The device was met there, or the owner of this replica wants it dialed.
    Proven,
    /// Nobody was ever met there.
    Unproven,
    /// Nor here, and it is in a network of ours: others may only guess at what is there.
    Nearby,
}

impl Class {
    const ALL: [Self; 3] = [Self::Proven, Self::Unproven, Self::Nearby];
}

/// That an address is to be dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub line: Line,
    pub class: Class,
    /// Not before.
    pub from: Timestamp,
}

#[derive(Debug)]
struct UnderWay {
    line: Line,
    class: Class,
    since: Timestamp,
}

/// The lines of one class, and which of them had the last turn.
#[derive(Debug, Default)]
struct Turns {
    lines: BTreeSet<Line>,
    last: Option<Line>,
}

impl Turns {
    /// The next line in turn that is free.
    fn next(&self, is_free: impl Fn(&Line) -> bool) -> Option<Line> {
        let start = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let before = self.last.into_iter().flat_map(|last| self.lines.range(..=last));
        self.lines.range((start, Bound::Unbounded)).chain(before).find(|line| is_free(line)).copied()
    }
}

/// All addresses that are to be dialed, and the dials under way.
#[derive(Debug, Default)]
pub(super) struct Queue {
    wishes: BTreeMap<TargetId, Wish>,
    /// Those whose time has not come.
    waiting: BTreeSet<(Timestamp, TargetId)>,
    /// Those whose time has come: of each line the best one first, and of equal ones the one that waits for longest.
    ready: BTreeMap<Line, BTreeSet<(Class, Timestamp, TargetId)>>,
    /// The lines of `ready`, by the class of their first.
    turns: [Turns; 3],
    last_class: usize,
    under_way: BTreeMap<TargetId, UnderWay>,
    /// The lines of dials under way.
    busy: BTreeSet<Line>,
    dials: Rate,
    nearby_dials: Rate,
    /// How often an address was put somewhere else, which is what all of this costs.
    #[cfg(test)]
    pub moves: u64,
}

impl Queue {
    /// Whether, and when, an address is to be dialed. One that is under way already is not dialed again meanwhile.
    pub(super) fn put(&mut self, id: TargetId, wish: Option<Wish>) {
        let wish = wish.filter(|_| !self.under_way.contains_key(&id));
        if self.wishes.get(&id) == wish.as_ref() {
            return;
        }
        #[cfg(test)]
        {
            self.moves += 1;
        }
        if let Some(before) = self.wishes.remove(&id)
            && !self.waiting.remove(&(before.from, id))
        {
            self.change_line(before.line, |line| line.remove(&(before.class, before.from, id)));
        }
        if let Some(wish) = wish {
            self.wishes.insert(id, wish);
            self.waiting.insert((wish.from, id));
        }
    }

    /// Begins the dial that is next, if one may begin now.
    pub(super) fn begin(&mut self, now: Timestamp, mutated: Mutated) -> Option<TargetId> {
        while let Some((_, id)) = self.waiting.first().copied().filter(|(from, _)| *from <= now) {
            self.waiting.pop_first();
            #[cfg(test)]
            {
                self.moves += 1;
            }
            let wish = self.wishes[&id];
            self.change_line(wish.line, |line| line.insert((wish.class, wish.from, id)));
        }
        let is_reckless = mutated.by(Mutant::DialsAtOnce);
        let at = (1..=Class::ALL.len()).map(|step| (self.last_class + step) % Class::ALL.len()).find(|at| {
            let class = Class::ALL[*at];
            is_reckless && !self.turns[*at].lines.is_empty()
                || self.allowed_at(class) <= now && self.has_place(class) && self.next_line(class).is_some()
        })?;
        let line = self.turns[at].next(|line| is_reckless || !self.busy.contains(line))?;
        let (class, from, id) = *self.ready.get(&line)?.first()?;
        self.last_class = at;
        self.turns[at].last = Some(line);
        self.wishes.remove(&id);
        self.change_line(line, |line| line.remove(&(class, from, id)));
        self.under_way.insert(id, UnderWay { line, class, since: now });
        self.busy.insert(line);
        self.dials.spend(1, now, DIALS);
        if class == Class::Nearby {
            self.nearby_dials.spend(NEARBY_DIAL_EVERY_S, now, NEARBY_DIALS);
        }
        Some(id)
    }

    /// A dial has come to something, or to nothing.
    pub(super) fn ended(&mut self, id: TargetId) {
        if let Some(dial) = self.under_way.remove(&id) {
            self.busy.remove(&dial.line);
        }
    }

    /// Dials that are not waited for any longer.
    pub(super) fn timed_out(&mut self, now: Timestamp) -> Vec<TargetId> {
        let late = self.under_way.iter().filter(|(_, dial)| now >= dial.since + DIAL_TIMEOUT);
        let late: Vec<_> = late.map(|(id, _)| *id).collect();
        late.iter().for_each(|id| self.ended(*id));
        late
    }

    /// No dial that is under way is waited for.
    pub(super) fn end_all(&mut self) {
        self.under_way.clear();
        self.busy.clear();
    }

    /// When to call [`Self::timed_out`] and [`Self::begin`] next, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let timeouts = self.under_way.values().map(|dial| dial.since + DIAL_TIMEOUT);
        let waiting = self.waiting.first().map(|(from, _)| *from);
        let able = Class::ALL.into_iter().filter(|class| self.has_place(*class) && self.next_line(*class).is_some());
        timeouts.chain(waiting).chain(able.map(|class| self.allowed_at(class))).min()
    }

    fn next_line(&self, class: Class) -> Option<Line> {
        self.turns[class as usize].next(|line| !self.busy.contains(line))
    }

    fn has_place(&self, class: Class) -> bool {
        let unproven = self.under_way.values().filter(|dial| dial.class != Class::Proven).count();
        self.under_way.len() < DIALS_MAX && (class == Class::Proven || unproven < DIALS_UNPROVEN_MAX)
    }

    fn allowed_at(&self, class: Class) -> Timestamp {
        let any = self.dials.left_at(DIALS);
        if class == Class::Nearby { any.max(self.nearby_dials.left_at(NEARBY_DIALS)) } else { any }
    }

    fn change_line(&mut self, line: Line, change: impl FnOnce(&mut BTreeSet<(Class, Timestamp, TargetId)>) -> bool) {
        let addresses = self.ready.entry(line).or_default();
        let class = |addresses: &BTreeSet<(Class, Timestamp, TargetId)>| addresses.first().map(|(class, ..)| *class);
        let before = class(addresses);
        change(addresses);
        let after = class(addresses);
        if after.is_none() {
            self.ready.remove(&line);
        }
        if before != after {
            before.into_iter().for_each(|class| _ = self.turns[class as usize].lines.remove(&line));
            after.into_iter().for_each(|class| _ = self.turns[class as usize].lines.insert(line));
        }
    }
}
