//! What a change has seen: all that it depends on, directly or by way of others. A change that depends on every head has seen
//! everything, which is most changes of most documents. For the others a clock is found, by walking back to a change whose
//! clock is known; enough of them are kept that no walk is long.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::gate::validator::index::{Id, OpIndex};
use crate::id::ChangeHash;

/// For each slot, how many of the actor's changes were seen.
pub(super) type Clock = Vec<u32>;

/// Changes whose clock is kept because their actor is likely to go on from there.
const RECENT_MAX: usize = 16;
/// A clock is kept for ever where a walk would be longer than this, or than there are actors: so clocks take at most about
/// four bytes for each change.
const WALK_MAX: usize = 256;

/// What a change that is being looked at has seen.
#[derive(Debug)]
pub(super) enum Sight {
    All,
    /// The greatest counter seen, by slot; 0 for later slots.
    Until(Vec<u32>),
}

/// The clock of a change, itself included.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    slot: u32,
    seq: u32,
    clock: Clock,
    /// How long a walk would be that finds this clock again.
    walk: usize,
}

impl Sight {
    /// Whether an operation of the index was seen. Not for those of the change itself.
    pub(super) fn sees(&self, id: Id) -> bool {
        match self {
            Self::All => true,
            Self::Until(counters) => counters.get(id.slot as usize).is_some_and(|last| id.counter <= *last),
        }
    }
}

impl OpIndex {
    /// What the next change of `slot` has seen if it depends on these; for one that has not seen everything, its clock.
    pub(super) fn sight(&mut self, slot: u32, deps: &[(ChangeHash, u32, u32)]) -> (Sight, Option<Recent>) {
        if deps.len() == self.heads.len() && deps.iter().all(|(hash, ..)| self.heads.contains_key(hash)) {
            return (Sight::All, None);
        }
        let recent = self.walk(slot, deps);
        let until = recent
            .clock
            .iter()
            .zip(&self.chains)
            .map(|(seq, chain)| match seq.checked_sub(1) {
                Some(last) => chain.last_ops.get(last as usize).copied().unwrap_or_default(),
                None => 0,
            })
            .collect();
        (Sight::Until(until), Some(recent))
    }

    /// Keeps what a change has seen that was just added, where that saves walks.
    pub(super) fn remember(&mut self, slot: u32, recent: Option<Recent>) {
        let walk_max = WALK_MAX.max(self.chains.len());
        let seq = self.chain(slot).last_ops.len() as u32;
        self.unmarked += 1;
        let Some(mut recent) = recent else {
            if self.unmarked > walk_max {
                let clock = self.chains.iter().map(|chain| chain.last_ops.len() as u32).collect();
                self.add_checkpoint(slot, seq, clock);
                self.unmarked = 0;
            }
            return;
        };
        recent.walk += 1;
        recent.seq = seq;
        recent.clock[slot as usize] = seq;
        if recent.walk > walk_max {
            self.add_checkpoint(slot, seq, recent.clock.clone());
            recent.walk = 0;
        }
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(recent);
    }

    /// The clock of the changes below `deps` and of the last one of `slot`. The later changes come first, so that what a kept
    /// clock covers is not walked.
    fn walk(&mut self, slot: u32, deps: &[(ChangeHash, u32, u32)]) -> Recent {
        let last = self.chain(slot).last_ops.len() as u32;
        let kept = self.recent.iter().position(|recent| (recent.slot, recent.seq) == (slot, last));
        let mut found = match kept.and_then(|index| self.recent.remove(index)) {
            Some(recent) => recent,
            None => Recent { slot, seq: last, clock: Vec::new(), walk: 0 },
        };
        found.clock.resize(self.chains.len(), 0);
        let mut queue = BTreeSet::new();
        let mut done = BTreeSet::new();
        let enter = |queue: &mut BTreeSet<(u32, u32, u32)>, clock: &Clock, slot: u32, seq: u32| {
            if seq > clock[slot as usize] {
                let last_op = self.chain(slot).last_ops.get(seq as usize - 1).copied().unwrap_or_default();
                queue.insert((last_op, slot, seq));
            }
        };
        enter(&mut queue, &found.clock, slot, last);
        for (_, slot, seq) in deps {
            enter(&mut queue, &found.clock, *slot, *seq);
        }
        while let Some((_, slot, seq)) = queue.pop_last() {
            if seq <= found.clock[slot as usize] || !done.insert((slot, seq)) {
                continue;
            }
            found.walk += 1;
            let chain = self.chain(slot);
            if let Ok(index) = chain.checkpoints.binary_search_by_key(&seq, |(seq, _)| *seq) {
                let (_, clock) = &chain.checkpoints[index];
                for (seen, kept) in found.clock.iter_mut().zip(clock) {
                    *seen = (*seen).max(*kept);
                }
                continue;
            }
            enter(&mut queue, &found.clock, slot, seq - 1);
            let from = chain.foreign.partition_point(|(own, ..)| *own < seq);
            for (_, slot, seq) in chain.foreign[from..].iter().take_while(|(own, ..)| *own == seq) {
                enter(&mut queue, &found.clock, *slot, *seq);
            }
        }
        for (slot, seq) in done {
            let seen = &mut found.clock[slot as usize];
            *seen = (*seen).max(seq);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::id::ActorId;

    /// A graph of changes, by (slot, dependencies as numbers of earlier changes), and the naive set of ancestors of each.
    struct Graph {
        index: OpIndex,
        changes: Vec<(ChangeHash, u32, u32)>,
        below: Vec<BTreeSet<usize>>,
    }

    impl Graph {
        fn new() -> Self {
            Self { index: OpIndex::default(), changes: Vec::new(), below: Vec::new() }
        }

        fn add(&mut self, actor: u8, deps: &[usize]) {
            let slot = self.index.slot_or_new(ActorId([actor; 16]));
            let number = self.changes.len();
            let deps_of: Vec<_> = deps.iter().map(|dep| self.changes[*dep]).collect();
            let mut below: BTreeSet<usize> = deps.iter().copied().collect();
            for dep in deps {
                below.extend(self.below[*dep].clone());
            }
            let (sight, recent) = self.index.sight(slot, &deps_of);
            for (other, (_, slot, seq)) in self.changes.iter().enumerate() {
                let id = Id { slot: *slot, counter: self.index.chain(*slot).last_ops[*seq as usize - 1] };
                assert_eq!(sight.sees(id), below.contains(&other), "change {number} of actor {actor}, change {other}");
            }
            if let Some(recent) = &recent {
                assert!(recent.walk <= 2 * WALK_MAX + deps.len(), "a walk of {}", recent.walk);
            }
            let mut hash = ChangeHash([0; 32]);
            hash.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
            self.index.add_change(slot, hash, number as u32 + 1, &deps_of);
            self.index.remember(slot, recent);
            self.changes.push((hash, slot, self.index.chain(slot).last_ops.len() as u32));
            self.below.push(below);
        }

        /// Kept clocks take about four bytes for each change.
        fn clocks_are_few(&self) {
            let clocks = self.index.chains.iter().flat_map(|chain| &chain.checkpoints);
            let numbers: usize = clocks.map(|(_, clock)| clock.len()).sum();
            assert!(numbers <= self.changes.len(), "{numbers} numbers for {} changes", self.changes.len());
            assert!(self.index.recent.len() <= RECENT_MAX);
        }
    }

    #[test]
    fn what_a_change_has_seen_is_what_it_depends_on() {
        let mut state = 7_u64;
        let mut roll = |sides: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % sides
        };
        for actors in [1, 2, 3, 20] {
            let mut graph = Graph::new();
            let mut last = vec![None; actors];
            for number in 0..700 {
                let actor = roll(actors);
                let mut deps: BTreeSet<usize> = last[actor].into_iter().collect();
                // Sometimes on everything, mostly on little: so long branches grow side by side.
                for other in last.iter().flatten() {
                    if roll(60) == 0 {
                        deps.insert(*other);
                    }
                }
                if number > 0 && roll(40) == 0 {
                    deps.insert(roll(number));
                }
                graph.add(actor as u8, &deps.into_iter().collect::<Vec<_>>());
                last[actor] = Some(number);
            }
            graph.clocks_are_few();
        }
    }

    #[test]
    fn old_branches_are_found_without_a_long_walk() {
        let mut graph = Graph::new();
        for number in 0..1_500_usize {
            graph.add(0, &number.checked_sub(1).into_iter().collect::<Vec<_>>());
        }
        // Each from another place in the middle, under an actor of its own; `add` holds the walk to its limit.
        for branch in 1..100_u8 {
            graph.add(branch, &[usize::from(branch) * 14]);
        }
        graph.clocks_are_few();
    }

    #[test]
    fn branches_that_grew_side_by_side_are_found_without_a_long_walk() {
        let mut graph = Graph::new();
        let branches = 2;
        for number in 0..branches * 600_usize {
            graph.add((number % branches) as u8, &number.checked_sub(branches).into_iter().collect::<Vec<_>>());
        }
        graph.clocks_are_few();
        // What was seen last is forgotten over others; then somebody comes back to each place.
        for branch in 0..60_u8 {
            graph.add(100 + branch, &[usize::from(branch) * 19]);
        }
    }
}
