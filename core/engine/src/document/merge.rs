//! Merging runs into a history: on a copy, under the guard, all that fits in one batch. What makes automerge panic is found
//! by halving, and refused; what a panic has touched is thrown away.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use automerge as am;

use crate::document::history::{Change, History};
use crate::gate::envelope::{Candidate, Plan, Verdict, plan};
use crate::gate::{Guard, Panicked, Refusal, Slot, canonical};
use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::run::RunHeader;

/// Whether changes come from a peer or from our own store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The canonical check is made.
    Peer,
    /// They have passed it before.
    Store,
}

/// Runs that an earlier death of the process throws suspicion on, by tip.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects {
    /// Known to break the merge.
    pub guilty: BTreeSet<ChangeHash>,
    /// One of these may have: they are tried in small groups, so that the next death narrows it down.
    pub apart: BTreeSet<ChangeHash>,
}

/// Groups that suspects are tried in. With 16, five deaths find one run in a million, and a process that was only killed
/// from outside in the middle of a large merge loses little by it.
const SUSPECT_GROUPS: usize = 16;
/// Tips in a slot at most: it is written before every merge.
const SLOT_TIPS_MAX: usize = 16_384;

/// One merge, as it goes on.
pub(crate) struct Merger<'a> {
    space: SpaceId,
    document: DocumentId,
    trust: Trust,
    suspects: &'a Suspects,
    guard: &'a dyn Guard,
    /// A batch was taken apart, so runs may have waited for one of a later part.
    parted: bool,
    pub outcome: Outcome,
}

/// What became of the candidates of a merge.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Applied, each after what it depends on.
    pub accepted: Vec<Candidate>,
    /// The changes that were applied and what they depend on, in order.
    pub applied: Vec<(ChangeHash, Vec<ChangeHash>)>,
    pub refused: Vec<(RunHeader, Refusal)>,
    pub known: usize,
    /// With the change that is missing, where it is known which.
    pub waiting: Vec<(Candidate, Option<ChangeHash>)>,
}

enum Tried {
    Applied(History),
    /// These candidates are not canonical.
    Refused(Vec<(usize, Refusal)>),
    /// automerge refused, or panicked.
    Broken(String),
}

impl<'a> Merger<'a> {
    pub(crate) fn new(
        space: SpaceId,
        document: DocumentId,
        trust: Trust,
        suspects: &'a Suspects,
        guard: &'a dyn Guard,
    ) -> Self {
        Self { space, document, trust, suspects, guard, parted: false, outcome: Outcome::default() }
    }

    /// Merges what fits. The history given is not touched.
    pub(crate) fn merge(&mut self, history: History, candidates: Vec<Candidate>) -> History {
        let (guilty, candidates): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| self.suspects.guilty.contains(&candidate.run.header.tip));
        for candidate in guilty {
            self.outcome.refused.push((candidate.run.header, Refusal::Poisoned));
        }
        let (mut apart, together): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| self.suspects.apart.contains(&candidate.run.header.tip));
        let mut history = self.settle(history, together);
        // By number, so that few groups wait for one that comes after them.
        apart.sort_by_key(|candidate| candidate.run.header.first_seq);
        let size = apart.len().div_ceil(SUSPECT_GROUPS);
        while !apart.is_empty() {
            let rest = apart.split_off(size.min(apart.len()));
            history = self.settle(history, core::mem::replace(&mut apart, rest));
            self.parted = true;
        }
        if !self.parted || self.outcome.waiting.is_empty() {
            return history;
        }
        let waiting = core::mem::take(&mut self.outcome.waiting).into_iter().map(|(candidate, _)| candidate).collect();
        self.settle(history, waiting)
    }

    fn settle(&mut self, history: History, mut candidates: Vec<Candidate>) -> History {
        loop {
            let Plan { verdicts, order } = plan(&history, &candidates);
            if order.is_empty() {
                self.sort_out(candidates, verdicts);
                return history;
            }
            match self.attempt(&history, &candidates, &verdicts, &order) {
                Tried::Applied(merged) => {
                    self.outcome.applied.extend(order.iter().map(|(candidate, link)| {
                        let link = &candidates[*candidate].links[*link];
                        (link.hash, link.deps.clone())
                    }));
                    self.sort_out(candidates, verdicts);
                    return merged;
                }
                Tried::Refused(refused) => {
                    let mut refused: Vec<Option<Refusal>> =
                        refused.into_iter().fold(vec![None; candidates.len()], |mut by_index, (index, refusal)| {
                            by_index[index] = Some(refusal);
                            by_index
                        });
                    let mut index = 0;
                    candidates.retain(|candidate| {
                        let refusal = refused[index].take();
                        index += 1;
                        match refusal {
                            Some(refusal) => {
                                self.outcome.refused.push((candidate.run.header.clone(), refusal));
                                false
                            }
                            None => true,
                        }
                    });
                }
                Tried::Broken(reason) => return self.halve(history, candidates, verdicts, reason),
            }
        }
    }

    /// Tries the first half of what should have fitted, then the rest.
    fn halve(
        &mut self,
        history: History,
        candidates: Vec<Candidate>,
        verdicts: Vec<Verdict>,
        reason: String,
    ) -> History {
        let mut ready = self.sort_out_unready(candidates, verdicts);
        if ready.len() == 1 {
            for candidate in ready {
                tracing::warn!(document = %self.document, tip = %candidate.run.header.tip, reason, "poisoned run");
                self.outcome.refused.push((candidate.run.header, Refusal::Poisoned));
            }
            return history;
        }
        self.parted = true;
        let rest = ready.split_off(ready.len() / 2);
        let history = self.settle(history, ready);
        self.settle(history, rest)
    }

    /// Parses and applies what is in `order` on a copy.
    fn attempt(
        &self,
        history: &History,
        candidates: &[Candidate],
        verdicts: &[Verdict],
        order: &[(usize, usize)],
    ) -> Tried {
        let tips = candidates
            .iter()
            .zip(verdicts)
            .filter(|(_, verdict)| matches!(verdict, Verdict::Ready(_)))
            .map(|(candidate, _)| candidate.run.header.tip)
            .take(SLOT_TIPS_MAX)
            .collect();
        let slot = Slot { space: self.space, document: self.document, tips };
        let mut tried = None;
        let run = self.guard.run(&slot, &mut || tried = Some(self.attempt_unguarded(history, candidates, order)));
        match (run, tried) {
            (Ok(()), Some(tried)) => tried,
            (Ok(()), None) => Tried::Broken(String::from("the guard did not run it")),
            (Err(Panicked(reason)), _) => Tried::Broken(reason),
        }
    }

    fn attempt_unguarded(&self, history: &History, candidates: &[Candidate], order: &[(usize, usize)]) -> Tried {
        let mut changes = Vec::with_capacity(order.len());
        let mut refused: Vec<(usize, Refusal)> = Vec::new();
        for (index, link) in order {
            let candidate = &candidates[*index];
            let link = &candidate.links[*link];
            let bytes = &candidate.run.payload[link.range.clone()];
            let parsed = match self.trust {
                Trust::Peer => canonical::parse(bytes),
                Trust::Store => canonical::parse_trusted(bytes),
            };
            match parsed {
                Ok(change) if change.hash().0 != link.hash.0 || change.len() as u64 != link.ops => {
                    refused.push((
                        *index,
                        Refusal::Malformed(String::from("the inspector and automerge read it differently")),
                    ));
                }
                Ok(change) => changes.push((Change(change), candidate.run.header.device)),
                Err(refusal) if refused.iter().all(|(known, _)| known != index) => refused.push((*index, refusal)),
                Err(_) => {}
            }
        }
        if !refused.is_empty() {
            return Tried::Refused(refused);
        }
        match history.with(changes) {
            Ok(merged) => Tried::Applied(merged),
            Err(reason) => Tried::Broken(reason),
        }
    }

    /// Files every candidate under what became of it.
    fn sort_out(&mut self, candidates: Vec<Candidate>, verdicts: Vec<Verdict>) {
        let ready = self.sort_out_unready(candidates, verdicts);
        self.outcome.accepted.extend(ready);
    }

    /// As [`Self::sort_out`], but hands back those that were ready, in order.
    fn sort_out_unready(&mut self, candidates: Vec<Candidate>, verdicts: Vec<Verdict>) -> Vec<Candidate> {
        let mut ready = Vec::new();
        for (candidate, verdict) in candidates.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Ready(order) => ready.push((order, candidate)),
                Verdict::Known => self.outcome.known += 1,
                Verdict::Waiting(missing) => self.outcome.waiting.push((candidate, missing)),
                Verdict::Refused(refusal) => self.outcome.refused.push((candidate.run.header, refusal)),
            }
        }
        ready.sort_by_key(|(order, _)| *order);
        ready.into_iter().map(|(_, candidate)| candidate).collect()
    }
}

/// A change of ours, as it goes from one copy of a history to another.
pub(crate) fn reapply(
    history: &History,
    changes: &[am::Change],
    device: crate::id::DeviceId,
    slot: &Slot,
    guard: &dyn Guard,
) -> Result<History, String> {
    let changes: Vec<_> = changes.iter().map(|change| (Change(change.clone()), device)).collect();
    let mut merged = None;
    match guard.run(slot, &mut || merged = Some(history.with(changes.clone()))) {
        Ok(()) => merged.unwrap_or_else(|| Err(String::from("the guard did not run it"))),
        Err(Panicked(reason)) => Err(reason),
    }
}
