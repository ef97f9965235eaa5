//! Merging runs into a history: on a copy, under the guard, all that fits in one batch. What makes automerge panic is found
//! by halving, and refused; what a panic has touched is thrown away.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use automerge as am;

use crate::document::history::{Change, Growing, History};
use crate::document::patch::Patch;
use crate::gate::envelope::{Candidate, Link, Plan, Verdict, plan};
use crate::gate::validator::OpIndex;
use crate::gate::{Guard, Panicked, Refusal, Slot, canonical, inspector};
use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::run::RunHeader;

/// Whether changes come from a peer or from our own store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// They are checked.
    Peer,
    /// They have passed the checks before.
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
    /// The operations of the history that is merged into; rebuilt when it is needed and not there.
    pub index: Option<OpIndex>,
    /// A batch was taken apart, so runs may have waited for one of a later part.
    parted: bool,
    /// What the merge did to the content, where that was asked for.
    pub patches: Option<Vec<Patch>>,
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
    /// And the patches of this part, where they are wanted.
    Applied(History, Option<Vec<Patch>>),
    /// These candidates are not canonical, or have impossible operations.
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
        index: Option<OpIndex>,
    ) -> Self {
        Self {
            space,
            document,
            trust,
            suspects,
            guard,
            index,
            parted: false,
            patches: None,
            outcome: Outcome::default(),
        }
    }

    /// The same, which keeps what it does to the content.
    pub(crate) fn followed(self, follow: bool) -> Self {
        Self { patches: follow.then(Vec::new), ..self }
    }

    /// Merges what fits. The history given is not touched; the index goes on with the one returned.
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
            let plan = plan(&history, &candidates);
            if plan.order.is_empty() {
                self.sort_out(candidates, plan.verdicts);
                return history;
            }
            let tried = self.attempt(&history, &candidates, &plan);
            let Plan { verdicts, order, .. } = plan;
            match tried {
                Tried::Applied(merged, patches) => {
                    // If the patches of one part are unknown, so are those of the whole merge.
                    self.patches = self.patches.take().zip(patches).map(|(mut all, part)| {
                        all.extend(part);
                        all
                    });
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

    /// Checks and applies what is in the plan's order on a copy.
    fn attempt(&mut self, history: &History, candidates: &[Candidate], plan: &Plan) -> Tried {
        let tips = candidates
            .iter()
            .zip(&plan.verdicts)
            .filter(|(_, verdict)| matches!(verdict, Verdict::Ready(_)))
            .map(|(candidate, _)| candidate.run.header.tip)
            .take(SLOT_TIPS_MAX)
            .collect();
        let slot = Slot { space: self.space, document: self.document, tips };
        let (trust, guard, index, follow) = (self.trust, self.guard, &mut self.index, self.patches.is_some());
        let mut tried = None;
        let run = guard.run(&slot, &mut || tried = Some(attempt(trust, index, history, candidates, plan, follow)));
        let tried = match (run, tried) {
            (Ok(()), Some(tried)) => tried,
            (Ok(()), None) => Tried::Broken(String::from("the guard did not run it")),
            (Err(Panicked(reason)), _) => Tried::Broken(reason),
        };
        match (&tried, self.trust) {
            (Tried::Applied(..), _) => self.index.iter_mut().for_each(OpIndex::keep),
            (_, Trust::Peer) => self.index.iter_mut().for_each(OpIndex::roll_back),
            // What is added unchecked is not taken back.
            (_, Trust::Store) => self.index = None,
        }
        tried
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

/// Stages 7 to 9, change by change, so that few parsed changes wait in memory. After the first refusal nothing more is applied,
/// but the rest is still checked.
fn attempt(
    trust: Trust,
    index: &mut Option<OpIndex>,
    history: &History,
    candidates: &[Candidate],
    plan: &Plan,
    follow: bool,
) -> Tried {
    let mut growing = Growing::new(history.clone(), follow);
    let mut malformed = BTreeMap::new();
    let mut judge = Judge { trust, history, candidates, plan, refused: BTreeMap::new(), left_out: BTreeSet::new() };
    let mut begun = false;
    for (at, link) in &plan.order {
        let candidate = &candidates[*at];
        let link = &candidate.links[*link];
        let bytes = &candidate.run.payload[link.range.clone()];
        let parsed = match trust {
            Trust::Peer => canonical::parse(bytes, link.is_keystroke),
            Trust::Store => canonical::parse_trusted(bytes),
        };
        let change = match parsed {
            Ok(change) if change.hash().0 != link.hash.0 || change.len() as u64 != link.ops => {
                let text = String::from("the inspector and automerge read it differently");
                malformed.insert(link.hash, Refusal::Malformed(text));
                continue;
            }
            Ok(change) => change,
            Err(refusal) => {
                malformed.insert(link.hash, refusal);
                continue;
            }
        };
        // They are sorted out first, and what is left is judged then.
        if !malformed.is_empty() {
            continue;
        }
        // Taken out for as long as it is worked on: should that panic, it is rebuilt.
        let mut judging = match index.take().map_or_else(|| history.index(), Ok) {
            Ok(index) => index,
            Err(refusal) => return Tried::Broken(refusal.to_string()),
        };
        if !core::mem::replace(&mut begun, true) {
            judging.begin();
        }
        judge.look(&mut judging, candidate, link);
        *index = Some(judging);
        growing.note_marks(link.has_marks);
        if judge.refused.is_empty()
            && let Err(reason) = growing.add(Change(change), candidate.run.header.device)
        {
            return Tried::Broken(reason);
        }
    }
    let refused = if malformed.is_empty() { judge.refused } else { malformed };
    if !refused.is_empty() {
        return Tried::Refused(holders(candidates, &refused));
    }
    match growing.finish() {
        Ok((merged, patches)) => Tried::Applied(merged, patches),
        Err(reason) => Tried::Broken(reason),
    }
}

/// Stage 8.
struct Judge<'a> {
    trust: Trust,
    history: &'a History,
    candidates: &'a [Candidate],
    plan: &'a Plan,
    /// The changes that are refused.
    refused: BTreeMap<ChangeHash, Refusal>,
    /// And those that depend on one, which are not looked at.
    left_out: BTreeSet<ChangeHash>,
}

impl Judge<'_> {
    fn look(&mut self, index: &mut OpIndex, candidate: &Candidate, link: &Link) {
        if !self.left_out.is_empty() && link.deps.iter().any(|dep| self.left_out.contains(dep)) {
            self.left_out.insert(link.hash);
            return;
        }
        let places = |hash: &ChangeHash| match self.plan.places.get(hash) {
            Some((at, link)) => Some((self.candidates[*at].run.header.actor, self.candidates[*at].links[*link].seq)),
            None => self.history.place(hash),
        };
        let chunk = inspector::inspect_again(&candidate.run.payload[link.range.clone()], link.hash, link.ops);
        let judged = chunk.and_then(|chunk| match self.trust {
            Trust::Peer => index.judge(&chunk, &places),
            Trust::Store => index.add(&chunk, &places),
        });
        if let Err(refusal) = judged {
            self.left_out.insert(link.hash);
            self.refused.insert(link.hash, refusal);
        }
    }
}

/// The candidates that hold a refused change, each with the first reason.
fn holders(candidates: &[Candidate], refused: &BTreeMap<ChangeHash, Refusal>) -> Vec<(usize, Refusal)> {
    let reason = |candidate: &Candidate| candidate.links.iter().find_map(|link| refused.get(&link.hash)).cloned();
    candidates.iter().enumerate().filter_map(|(at, candidate)| Some((at, reason(candidate)?))).collect()
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
    apply(history.clone(), changes, slot, guard)
}

/// A history with changes that have been through the gate.
pub(crate) fn apply(
    history: History,
    changes: Vec<(Change, crate::id::DeviceId)>,
    slot: &Slot,
    guard: &dyn Guard,
) -> Result<History, String> {
    let mut given = Some((history, changes));
    let mut merged = None;
    match guard.run(slot, &mut || merged = given.take().map(|(history, changes)| history.and(changes))) {
        Ok(()) => merged.unwrap_or_else(|| Err(String::from("the guard did not run it"))),
        Err(Panicked(reason)) => Err(reason),
    }
}
