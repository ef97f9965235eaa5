//! Stage 6: how changes fit into a history and to each other. From a set of runs it picks those that can be applied now, in
//! order; automerge panics on what it is given out of sequence, and remembers for ever what it is given too early.
//!
//! A run is atomic: all its changes pass, or none is applied.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::iter;
use core::ops::Range;

use crate::document::history::History;
use crate::gate::inspector::Chunk;
use crate::gate::{Payload, Refusal, canonical};
use crate::id::{ActorId, ChangeHash, DeviceId};
use crate::limits::{COUNTER_GAP_MAX, DOCUMENT_ACTORS_MAX, DOCUMENT_ACTORS_PER_DEVICE_MAX, DOCUMENT_OPS_MAX};
use crate::run::{Run, RunHeader};

/// A run that waits to be applied, with what its chunks say of themselves.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub run: Run,
    pub links: Vec<Link>,
    /// When it is merged.
    pub intake: Intake,
}

/// When a run that arrives is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// As soon as what it depends on is there.
    Always,
    /// Only where a run that is always merged builds on it.
    OnDemand,
}

/// One change of a candidate, as the inspector read it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub hash: ChangeHash,
    pub seq: u64,
    pub start_op: u64,
    pub ops: u64,
    pub deps: Vec<ChangeHash>,
    others: Vec<ActorId>,
    /// The author footer; the inner `None` is an author that is no device.
    author: Option<Option<DeviceId>>,
    /// It is canonical, which was seen while it was read ([`canonical::is_keystroke`]).
    pub is_keystroke: bool,
    /// It marks parts of texts.
    pub has_marks: bool,
    /// Where in the payload.
    pub range: Range<usize>,
}

/// What is to become of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It can be applied. The number orders it after the runs that it depends on.
    Ready(usize),
    /// Everything in it is in the history.
    Known,
    /// It depends on changes that are not here, the one given among them if it is known which.
    Waiting(Option<ChangeHash>),
    /// It cannot be applied, ever.
    Refused(Refusal),
}

/// What [`plan`] found.
#[derive(Debug)]
pub(crate) struct Plan {
    /// For each candidate.
    pub verdicts: Vec<Verdict>,
    /// The changes to apply, as (candidate, link), in an order in which each comes after those it depends on.
    pub order: Vec<(usize, usize)>,
    /// Every change that is not in the history yet, as (candidate, link).
    pub places: BTreeMap<ChangeHash, (usize, usize)>,
}

impl Candidate {
    /// Operations of its changes.
    pub(crate) fn ops(&self) -> u64 {
        self.links.iter().map(|link| link.ops).fold(0, u64::saturating_add)
    }

    /// Reads a run that has passed [`crate::gate::inspect`], or was stored after it had.
    pub(crate) fn new(run: Run) -> Result<Self, Refusal> {
        let Run { header, payload } = run;
        Self::of(header, Payload::read(payload)?)
    }

    /// The same where the payload was read already.
    pub(crate) fn of(header: RunHeader, payload: Payload) -> Result<Self, Refusal> {
        let Payload { bytes, tip, links } = payload;
        tip.is_of(&header)?;
        Ok(Self { run: Run { header, payload: bytes }, links, intake: Intake::Always })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.run.payload.len()
    }
}

impl Link {
    /// A change that begins there in its payload.
    pub(crate) fn of(chunk: &Chunk<'_>, start: usize) -> Self {
        Self {
            hash: chunk.hash,
            seq: chunk.seq,
            start_op: chunk.start_op,
            ops: chunk.ops,
            deps: chunk.deps().collect(),
            others: chunk.others().collect(),
            author: chunk.author.map(|author| author.device()),
            is_keystroke: canonical::is_keystroke(chunk),
            has_marks: chunk.has_marks(),
            range: start..start + chunk.length,
        }
    }

    /// Counter of the last operation.
    pub(crate) fn max_op(&self) -> u64 {
        self.start_op + self.ops - 1
    }
}

/// Decides about every candidate.
pub(crate) fn plan(history: &History, candidates: &[Candidate]) -> Plan {
    Planner::new(history, candidates).decide()
}

/// One change that is not in the history yet.
struct Node {
    /// The first candidate that holds it.
    candidate: usize,
    link: usize,
    /// The others that do, where runs overlap.
    overlaps: Vec<usize>,
    /// Dependencies that have not passed.
    waits: usize,
    /// Nodes that depend on it.
    children: Vec<usize>,
    passed: bool,
}

impl Node {
    /// The candidates that hold it.
    fn owners(&self) -> impl Iterator<Item = usize> {
        iter::once(self.candidate).chain(self.overlaps.iter().copied())
    }
}

struct Planner<'a> {
    history: &'a History,
    candidates: &'a [Candidate],
    /// `None` while it is open.
    verdicts: Vec<Option<Verdict>>,
    nodes: Vec<Node>,
    by_hash: BTreeMap<ChangeHash, usize>,
    /// Last change of each actor that has passed one.
    tips: BTreeMap<ActorId, (u64, usize)>,
    /// The devices that new actors are bound to.
    devices: BTreeMap<ActorId, DeviceId>,
    ops: u64,
    new_actors: usize,
    /// Of these, by the device that they are bound to.
    new_of_device: BTreeMap<DeviceId, usize>,
}

impl<'a> Planner<'a> {
    fn new(history: &'a History, candidates: &'a [Candidate]) -> Self {
        Self {
            history,
            candidates,
            verdicts: vec![None; candidates.len()],
            nodes: Vec::new(),
            by_hash: BTreeMap::new(),
            tips: BTreeMap::new(),
            devices: BTreeMap::new(),
            ops: history.ops(),
            new_actors: 0,
            new_of_device: BTreeMap::new(),
        }
    }

    fn decide(mut self) -> Plan {
        for index in 0..self.candidates.len() {
            self.verdicts[index] = self.enter(index);
        }
        let passed = self.pass();
        self.withdraw();
        self.conclude(passed)
    }

    /// Makes nodes of a candidate's new changes; a verdict if there is one without looking at the others.
    fn enter(&mut self, index: usize) -> Option<Verdict> {
        let candidate = &self.candidates[index];
        let header = &candidate.run.header;
        if let Some(device) = self.history.device(&header.actor)
            && device != header.device
        {
            return Some(Verdict::Refused(bound_elsewhere(header.actor, device)));
        }
        let mut new = Vec::new();
        for (at, link) in candidate.links.iter().enumerate() {
            match self.history.hash_of(&header.actor, link.seq) {
                Some(known) if known == link.hash => {}
                Some(_) => return Some(Verdict::Refused(fork(header.actor, link.seq))),
                None => new.push(at),
            }
        }
        if new.is_empty() {
            return Some(Verdict::Known);
        }
        for link in new {
            match self.by_hash.entry(candidate.links[link].hash) {
                Entry::Occupied(node) => self.nodes[*node.get()].overlaps.push(index),
                Entry::Vacant(free) => {
                    free.insert(self.nodes.len());
                    let (overlaps, children) = (Vec::new(), Vec::new());
                    self.nodes.push(Node { candidate: index, link, overlaps, waits: 0, children, passed: false });
                }
            }
        }
        None
    }

    /// Looks at every change when all it depends on has passed. Returns those that pass, in order.
    fn pass(&mut self) -> Vec<usize> {
        let mut ready = VecDeque::new();
        for index in 0..self.nodes.len() {
            let mut waits = 0;
            for dep in &self.link(index).deps {
                if let Some(parent) = self.by_hash.get(dep) {
                    self.nodes[*parent].children.push(index);
                    waits += 1;
                } else if !self.history.has(dep) {
                    // Never satisfied: there is no child edge that would count it down.
                    waits += 1;
                }
            }
            self.nodes[index].waits = waits;
            if waits == 0 {
                ready.push_back(index);
            }
        }
        let mut passed = Vec::new();
        while let Some(index) = ready.pop_front() {
            if !self.look(index) {
                continue;
            }
            self.nodes[index].passed = true;
            passed.push(index);
            for at in 0..self.nodes[index].children.len() {
                let child = self.nodes[index].children[at];
                self.nodes[child].waits -= 1;
                if self.nodes[child].waits == 0 {
                    ready.push_back(child);
                }
            }
        }
        passed
    }

    /// Whether a change passes. If not, the runs that hold it get their verdict.
    fn look(&mut self, index: usize) -> bool {
        match self.check(index) {
            Ok(device) => {
                for owner in self.nodes[index].owners() {
                    let header = &self.candidates[owner].run.header;
                    if header.device != device {
                        self.verdicts[owner] = Some(Verdict::Refused(bound_elsewhere(header.actor, device)));
                    }
                }
                let (actor, link) = (self.actor(index), self.link(index));
                self.ops += link.ops;
                if !self.history.has_actor(&actor) && !self.tips.contains_key(&actor) {
                    self.new_actors += 1;
                    *self.new_of_device.entry(device).or_default() += 1;
                }
                self.tips.insert(actor, (link.seq, index));
                self.devices.insert(actor, device);
                true
            }
            Err(verdict) => {
                for owner in self.nodes[index].owners() {
                    self.verdicts[owner].get_or_insert_with(|| verdict.clone());
                }
                false
            }
        }
    }

    /// The device that the change's actor is bound to, if the change fits.
    fn check(&self, index: usize) -> Result<DeviceId, Verdict> {
        let (actor, link) = (self.actor(index), self.link(index));
        let misfit = |text: alloc::string::String| Verdict::Refused(Refusal::Misfit(text));
        let previous = match self.tips.get(&actor) {
            // Two runs that are both new contradict each other: the one applied first decides, next time.
            Some((seq, _)) if *seq >= link.seq => return Err(Verdict::Waiting(None)),
            Some((seq, node)) => Some((*seq, self.link(*node).hash)),
            None => self.history.tip(&actor),
        };
        let last = previous.map_or(0, |(seq, _)| seq);
        if link.seq <= last {
            return Err(Verdict::Refused(fork(actor, link.seq)));
        }
        if link.seq != last + 1 {
            return Err(misfit(format!(
                "change {} of an actor does not depend on its change {}",
                link.seq,
                link.seq - 1
            )));
        }
        if let Some((seq, hash)) = previous
            && !link.deps.contains(&hash)
            && !self.is_ancestor(&hash, &link.deps)
        {
            return Err(misfit(format!("change {} of an actor does not depend on its change {seq}", link.seq)));
        }
        let greatest = link.deps.iter().filter_map(|dep| self.max_op(dep)).max().unwrap_or(0);
        // One without operations leaves out none: automerge could not load what it saves.
        let gap = if link.ops == 0 { 0 } else { COUNTER_GAP_MAX };
        let (least, most) = (greatest + 1, greatest + 1 + gap);
        if !(least..=most).contains(&link.start_op) {
            let text = format!("the first operation is numbered {}, from {least} to {most} is possible", link.start_op);
            return Err(misfit(text));
        }
        if let Some(unknown) =
            link.others.iter().find(|other| !self.history.has_actor(other) && !self.tips.contains_key(other))
        {
            return Err(misfit(format!("it refers to operations of actor {unknown}, of whom there are none")));
        }
        let device = self.check_author(index)?;
        if self.ops + link.ops > DOCUMENT_OPS_MAX {
            let ops = self.ops + link.ops;
            let text = format!("the document would have {ops} operations, limit {DOCUMENT_OPS_MAX}");
            return Err(Verdict::Refused(Refusal::TooLarge(text)));
        }
        let actors = self.history.actor_count() + self.new_actors + 1;
        if last == 0 && actors > DOCUMENT_ACTORS_MAX {
            let text = format!("the document would have {actors} actors, limit {DOCUMENT_ACTORS_MAX}");
            return Err(Verdict::Refused(Refusal::TooLarge(text)));
        }
        let new = self.new_of_device.get(&device).copied().unwrap_or(0);
        let of_device = self.history.actors_of(&device) + new + 1;
        if last == 0 && of_device > DOCUMENT_ACTORS_PER_DEVICE_MAX {
            let text = format!(
                "the document would have {of_device} actors of device {device:.8}, limit {DOCUMENT_ACTORS_PER_DEVICE_MAX}"
            );
            return Err(Verdict::Refused(Refusal::TooLarge(text)));
        }
        Ok(device)
    }

    /// An author stands on an actor's first change only, and is the device that signs. An actor without one belongs to the
    /// device that vouches for it first.
    fn check_author(&self, index: usize) -> Result<DeviceId, Verdict> {
        let (actor, link) = (self.actor(index), self.link(index));
        let node = &self.nodes[index];
        let bound = self.devices.get(&actor).copied().or_else(|| self.history.device(&actor));
        let device = match (&link.author, link.seq) {
            (None, _) => bound.unwrap_or(self.candidates[node.candidate].run.header.device),
            (Some(Some(author)), 1) => *author,
            (Some(None), 1) => {
                return Err(Verdict::Refused(Refusal::Misfit("its author is not a device".to_string())));
            }
            (Some(_), seq) => {
                let text = format!("it names an author in change {seq}, which only an actor's first may");
                return Err(Verdict::Refused(Refusal::Misfit(text)));
            }
        };
        if node.owners().all(|owner| self.candidates[owner].run.header.device != device) {
            return Err(Verdict::Refused(bound_elsewhere(actor, device)));
        }
        Ok(device)
    }

    /// Whether `ancestor` is below one of `deps`, all of which have passed. Operation counters only grow along the way, so
    /// nothing with a smaller one is looked at.
    fn is_ancestor(&self, ancestor: &ChangeHash, deps: &[ChangeHash]) -> bool {
        let floor = self.max_op(ancestor).unwrap_or(0);
        let mut seen = BTreeSet::new();
        let mut stack = deps.to_vec();
        while let Some(hash) = stack.pop() {
            if hash == *ancestor {
                return true;
            }
            if !seen.insert(hash) {
                continue;
            }
            if let Some(node) = self.by_hash.get(&hash) {
                if self.link(*node).max_op() >= floor {
                    stack.extend_from_slice(&self.link(*node).deps);
                }
            } else if let Some(meta) = self.history.meta(&hash)
                && meta.max_op >= floor
            {
                stack.extend(meta.deps);
            }
        }
        false
    }

    fn max_op(&self, hash: &ChangeHash) -> Option<u64> {
        match self.by_hash.get(hash) {
            Some(node) => Some(self.link(*node).max_op()),
            None => self.history.meta(hash).map(|meta| meta.max_op),
        }
    }

    /// Takes back what has passed but belongs only to runs that are not whole, and what depends on it.
    fn withdraw(&mut self) {
        let mut bad: Vec<bool> = self.verdicts.iter().map(Option::is_some).collect();
        for node in self.nodes.iter().filter(|node| !node.passed) {
            node.owners().for_each(|owner| bad[owner] = true);
        }
        if !bad.contains(&true) {
            return;
        }
        let mut nodes_of = vec![Vec::new(); self.candidates.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            node.owners().for_each(|owner| nodes_of[owner].push(index));
        }
        let mut queue: Vec<usize> = (0..bad.len()).filter(|candidate| bad[*candidate]).collect();
        while let Some(candidate) = queue.pop() {
            for index in &nodes_of[candidate] {
                if !self.nodes[*index].passed || self.nodes[*index].owners().any(|owner| !bad[owner]) {
                    continue;
                }
                self.nodes[*index].passed = false;
                for child in &self.nodes[*index].children {
                    for owner in self.nodes[*child].owners() {
                        if !bad[owner] {
                            bad[owner] = true;
                            queue.push(owner);
                        }
                    }
                }
            }
        }
        // A child whose run went bad above is taken back when that run's turn comes, so all is consistent here.
    }

    fn conclude(mut self, passed: Vec<usize>) -> Plan {
        let passed: Vec<usize> = passed.into_iter().filter(|index| self.nodes[*index].passed).collect();
        let mut last = vec![0; self.candidates.len()];
        for (position, index) in passed.iter().enumerate() {
            self.nodes[*index].owners().for_each(|owner| last[owner] = position);
        }
        let mut whole = vec![true; self.candidates.len()];
        let mut missing: Vec<Option<ChangeHash>> = vec![None; self.candidates.len()];
        for node in self.nodes.iter().filter(|node| !node.passed) {
            let lacks = |dep: &&ChangeHash| match self.by_hash.get(*dep) {
                Some(parent) => {
                    !self.nodes[*parent].passed && self.nodes[*parent].owners().all(|owner| owner != node.candidate)
                }
                None => !self.history.has(dep),
            };
            let lacking = self.candidates[node.candidate].links[node.link].deps.iter().find(lacks).copied();
            for owner in node.owners() {
                whole[owner] = false;
                missing[owner] = missing[owner].or(lacking);
            }
        }
        let verdicts = core::mem::take(&mut self.verdicts)
            .into_iter()
            .enumerate()
            .map(|(index, verdict)| match verdict {
                Some(verdict) => verdict,
                None if whole[index] => Verdict::Ready(last[index]),
                None => Verdict::Waiting(missing[index]),
            })
            .collect();
        let place = |index: usize| (self.nodes[index].candidate, self.nodes[index].link);
        let order = passed.into_iter().map(place).collect();
        let places = self.by_hash.iter().map(|(hash, index)| (*hash, place(*index))).collect();
        Plan { verdicts, order, places }
    }

    fn link(&self, index: usize) -> &'a Link {
        let node = &self.nodes[index];
        &self.candidates[node.candidate].links[node.link]
    }

    fn actor(&self, index: usize) -> ActorId {
        self.candidates[self.nodes[index].candidate].run.header.actor
    }
}

fn bound_elsewhere(actor: ActorId, device: DeviceId) -> Refusal {
    Refusal::Misfit(format!("actor {actor} belongs to device {device}"))
}

fn fork(actor: ActorId, seq: u64) -> Refusal {
    Refusal::Fork { actor: actor.to_string(), seq }
}

#[cfg(test)]
mod tests {
    use automerge as am;
    use automerge::transaction::Transactable as _;

    use super::*;
    use crate::document::history::Change;
    use crate::id::{AclHash, DocumentId, SpaceId};

    /// A change of one operation, called by one byte.
    fn change(name: u8, seq: u64, start_op: u64, deps: &[u8]) -> Link {
        let deps = deps.iter().map(|name| ChangeHash([*name; 32])).collect();
        let hash = ChangeHash([name; 32]);
        Link {
            hash,
            seq,
            start_op,
            ops: 1,
            deps,
            others: Vec::new(),
            author: None,
            is_keystroke: false,
            has_marks: false,
            range: 0..0,
        }
    }

    /// A run of these changes by one actor.
    fn run(actor: u8, links: Vec<Link>) -> Candidate {
        let (first, last) = (&links[0], &links[links.len() - 1]);
        let header = RunHeader {
            space: SpaceId([1; 32]),
            document: DocumentId([2; 16]),
            acl: AclHash([3; 32]),
            device: DeviceId([actor; 32]),
            actor: ActorId([actor; 16]),
            first_seq: first.seq,
            last_seq: last.seq,
            tip: last.hash,
            signature: [0; 64],
        };
        Candidate { run: Run { header, payload: Vec::new() }, links, intake: Intake::Always }
    }

    fn verdicts(candidates: &[Candidate], before: impl FnOnce(&mut Planner<'_>)) -> Vec<Verdict> {
        let history = History::default();
        let mut planner = Planner::new(&history, candidates);
        before(&mut planner);
        planner.decide().verdicts
    }

    fn refused(verdict: &Verdict) -> alloc::string::String {
        match verdict {
            Verdict::Refused(refusal) => refusal.to_string(),
            other => panic!("{other:?} where a refusal was expected"),
        }
    }

    fn missing(name: u8) -> Verdict {
        Verdict::Waiting(Some(ChangeHash([name; 32])))
    }

    #[test]
    fn a_document_has_a_limited_number_of_operations() {
        let runs = [run(1, vec![change(11, 1, 1, &[])]), run(2, vec![change(21, 1, 1, &[])])];
        let found = verdicts(&runs, |planner| planner.ops = DOCUMENT_OPS_MAX - 1);
        assert_eq!(found[0], Verdict::Ready(0));
        assert_eq!(refused(&found[1]), "over a limit: the document would have 10000001 operations, limit 10000000");
        let mut long = change(31, 1, 1, &[]);
        long.ops = 5;
        let found = verdicts(&[run(3, vec![long])], |planner| planner.ops = DOCUMENT_OPS_MAX - 2);
        assert_eq!(refused(&found[0]), "over a limit: the document would have 10000003 operations, limit 10000000");
    }

    #[test]
    fn a_document_has_a_limited_number_of_actors_each_counted_once() {
        let runs = [
            run(1, vec![change(11, 1, 1, &[]), change(12, 2, 2, &[11])]),
            run(2, vec![change(21, 1, 1, &[]), change(22, 2, 2, &[21])]),
            run(3, vec![change(31, 1, 1, &[])]),
        ];
        let found = verdicts(&runs, |planner| planner.new_actors = DOCUMENT_ACTORS_MAX - 2);
        assert!(matches!(found[..2], [Verdict::Ready(_), Verdict::Ready(_)]), "{found:?}");
        assert_eq!(refused(&found[2]), "over a limit: the document would have 20001 actors, limit 20000");
    }

    // One member alone could use up the actors of a document, and nobody else could begin to write in it.
    #[test]
    fn a_device_has_a_limited_number_of_actors_in_a_document() {
        let runs = [
            run(1, vec![change(11, 1, 1, &[]), change(12, 2, 2, &[11])]),
            run(2, vec![change(21, 1, 1, &[])]),
            run(1, vec![change(13, 3, 3, &[12])]),
        ];
        let device = DeviceId([1; 32]);
        let almost = |planner: &mut Planner<'_>, left: usize| {
            planner.new_of_device.insert(device, DOCUMENT_ACTORS_PER_DEVICE_MAX - left);
        };
        let found = verdicts(&runs, |planner| almost(planner, 1));
        assert!(found.iter().all(|verdict| matches!(verdict, Verdict::Ready(_))), "{found:?}");
        let found = verdicts(&runs, |planner| almost(planner, 0));
        let expected = "over a limit: the document would have 10001 actors of device 01010101, limit 10000";
        assert_eq!(refused(&found[0]), expected);
        assert!(matches!(found[1], Verdict::Ready(_)), "another device goes on: {found:?}");
    }

    #[test]
    fn an_actor_that_the_document_has_is_not_a_new_one() {
        let mut doc = am::Automerge::new().with_actor(am::ActorId::from([1; 16]));
        let mut transaction = doc.transaction();
        transaction.put(am::ROOT, "a", 1).expect("a value");
        transaction.commit();
        let first = Change(doc.get_last_local_change().expect("a change"));
        let mut second = change(12, 2, 2, &[]);
        second.deps = vec![first.hash()];
        let history = History::default().and(vec![(first, DeviceId([1; 32]))]).expect("it fits");
        let runs = [run(1, vec![second]), run(2, vec![change(21, 1, 1, &[])]), run(3, vec![change(31, 1, 1, &[])])];
        let mut planner = Planner::new(&history, &runs);
        planner.new_actors = DOCUMENT_ACTORS_MAX - 2;
        let found = planner.decide().verdicts;
        assert!(matches!(found[..2], [Verdict::Ready(_), Verdict::Ready(_)]), "{found:?}");
        assert_eq!(refused(&found[2]), "over a limit: the document would have 20001 actors, limit 20000");
    }

    #[test]
    fn a_change_stands_on_its_actors_last_one_if_not_directly_then_through_others() {
        let mine = || vec![change(11, 1, 1, &[])];
        let theirs = || vec![change(21, 1, 2, &[11]), change(22, 2, 3, &[21])];
        let through = [run(1, mine()), run(2, theirs()), run(1, vec![change(12, 2, 4, &[22])])];
        assert!(verdicts(&through, |_| ()).iter().all(|verdict| matches!(verdict, Verdict::Ready(_))));
        let beside = [run(1, mine()), run(2, vec![change(21, 1, 1, &[])]), run(1, vec![change(12, 2, 2, &[21])])];
        let found = verdicts(&beside, |_| ());
        assert_eq!(
            refused(&found[2]),
            "does not fit the history: change 2 of an actor does not depend on its change 1"
        );
    }

    #[test]
    fn what_waits_says_for_what() {
        let runs = [
            run(1, vec![change(11, 1, 2, &[90]), change(12, 2, 3, &[11])]),
            run(2, vec![change(21, 1, 4, &[12])]),
            run(3, vec![change(31, 1, 1, &[])]),
            run(4, vec![change(41, 1, 2, &[31, 91])]),
        ];
        assert_eq!(verdicts(&runs, |_| ()), [missing(90), missing(12), Verdict::Ready(0), missing(91)]);
    }

    #[test]
    fn what_another_run_holds_too_passes_with_that_one() {
        let first = || change(11, 1, 1, &[]);
        let runs = [run(1, vec![first(), change(12, 2, 3, &[11, 90])]), run(1, vec![first()])];
        assert_eq!(verdicts(&runs, |_| ()), [missing(90), Verdict::Ready(0)]);
    }
}
