//! Runs that wait: for the next merge, or for others that they depend on. Who sent them and why is the session's business.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::document::open::led_to;
use crate::gate::envelope::Candidate;
use crate::gate::{Intake, Payload, Refusal};
use crate::id::{ChangeHash, DeviceId};
use crate::limits::{ORPHAN_BYTES_PER_DOCUMENT_MAX, ORPHANS_PER_DOCUMENT_MAX};
use crate::run::{Run, RunHeader};

/// One document's waiting runs.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    arrived: Vec<Candidate>,
    arrived_bytes: usize,
    orphans: Vec<Orphan>,
    orphan_bytes: usize,
    /// What waits here, so that a run that comes twice waits once.
    present: BTreeSet<(ChangeHash, u64)>,
    /// What was found out on arrival, until it is told.
    refused: Vec<(RunHeader, Refusal)>,
    known: usize,
    /// What runs waited for that were given up. `None` if nobody asks, as they come from peers again.
    given_up: Option<BTreeSet<ChangeHash>>,
}

#[derive(Debug)]
struct Orphan {
    candidate: Candidate,
    missing: Option<ChangeHash>,
}

/// What there is to merge, and what was decided on arrival.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub candidates: Vec<Candidate>,
    /// Runs that are merged on demand, and for which there is none.
    pub unwanted: Vec<Candidate>,
    pub refused: Vec<(RunHeader, Refusal)>,
    pub known: usize,
}

impl Inbox {
    /// Takes a run in. One that waits here already is looked at once more: its sender thinks that we can use it.
    pub(crate) fn put(&mut self, header: RunHeader, payload: Result<Payload, Refusal>, intake: Intake) {
        let mut candidate = match payload.and_then(|payload| Candidate::of(header.clone(), payload)) {
            Ok(candidate) => candidate,
            Err(refusal) => return self.refused.push((header, refusal)),
        };
        candidate.intake = intake;
        let tip = key(&candidate);
        if !self.present.insert(tip) {
            self.known += 1;
            if let Some(index) = self.orphans.iter().position(|orphan| key(&orphan.candidate) == tip) {
                let orphan = self.orphans.remove(index);
                self.orphan_bytes -= orphan.candidate.bytes();
                self.put_back(Candidate { intake, ..orphan.candidate });
            }
            return;
        }
        self.put_back(candidate);
    }

    /// Puts a candidate back that was taken and could not be merged yet.
    pub(crate) fn put_back(&mut self, candidate: Candidate) {
        self.present.insert(key(&candidate));
        self.arrived_bytes += candidate.bytes();
        self.arrived.push(candidate);
    }

    /// There is something to merge or to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.refused.is_empty() && self.known == 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.arrived_bytes
    }

    pub(crate) fn orphans(&self) -> usize {
        self.orphans.len()
    }

    pub(crate) fn orphan_bytes(&self) -> usize {
        self.orphan_bytes
    }

    /// The runs by a device that have arrived.
    pub(crate) fn arrived_of(&self, device: &DeviceId) -> impl Iterator<Item = &RunHeader> {
        self.arrived.iter().map(|candidate| &candidate.run.header).filter(|header| header.device == *device)
    }

    /// Takes everything that arrived, with the orphans that may fit now because of it.
    pub(crate) fn take(&mut self) -> Taken {
        let merges_all = self.is_demand_beyond_reach();
        let mut candidates = core::mem::take(&mut self.arrived);
        self.arrived_bytes = 0;
        for candidate in &candidates {
            self.present.remove(&key(candidate));
        }
        if !self.orphans.is_empty() && !candidates.is_empty() {
            self.adopt(&mut candidates);
        }
        let unwanted = if merges_all { Vec::new() } else { without_demand(&mut candidates) };
        let refused = core::mem::take(&mut self.refused);
        Taken { candidates, unwanted, refused, known: core::mem::take(&mut self.known) }
    }

    /// Something waits that may build on what is merged on demand, and there is hardly room for all that may be between the two:
    /// then that is merged as it comes.
    fn is_demand_beyond_reach(&self) -> bool {
        let is_crowded =
            2 * self.orphans.len() > ORPHANS_PER_DOCUMENT_MAX || 2 * self.orphan_bytes > ORPHAN_BYTES_PER_DOCUMENT_MAX;
        is_crowded && self.orphans.iter().any(|orphan| orphan.candidate.intake == Intake::Always)
    }

    fn adopt(&mut self, candidates: &mut Vec<Candidate>) {
        let mut by_missing: BTreeMap<ChangeHash, Vec<usize>> = BTreeMap::new();
        let mut adopted = alloc::vec![false; self.orphans.len()];
        let mut queue: Vec<ChangeHash> = hashes(candidates.iter());
        for (index, orphan) in self.orphans.iter().enumerate() {
            match orphan.missing {
                Some(missing) => by_missing.entry(missing).or_default().push(index),
                None => {
                    adopted[index] = true;
                    queue.extend(hashes([&orphan.candidate]));
                }
            }
        }
        while let Some(hash) = queue.pop() {
            for index in by_missing.remove(&hash).unwrap_or_default() {
                adopted[index] = true;
                queue.extend(hashes([&self.orphans[index].candidate]));
            }
        }
        let orphans = core::mem::take(&mut self.orphans);
        for (orphan, adopted) in orphans.into_iter().zip(adopted) {
            if adopted {
                self.orphan_bytes -= orphan.candidate.bytes();
                self.present.remove(&key(&orphan.candidate));
                candidates.push(orphan.candidate);
            } else {
                self.orphans.push(orphan);
            }
        }
    }

    /// Keeps runs that still wait, and gives up the newest of the sender with the most bytes while there are too many. Says
    /// how many were given up.
    pub(crate) fn keep_waiting(&mut self, waiting: Vec<(Candidate, Option<ChangeHash>)>) -> usize {
        for (candidate, missing) in waiting {
            // The same run may have come again meanwhile.
            if self.present.insert(key(&candidate)) {
                self.orphan_bytes += candidate.bytes();
                self.orphans.push(Orphan { candidate, missing });
            }
        }
        self.shrink(ORPHAN_BYTES_PER_DOCUMENT_MAX)
    }

    /// Takes out the runs that wait for a demand, if nothing waits that may be one.
    pub(crate) fn leave_out(&mut self) -> Vec<Run> {
        let waiting = self.orphans.iter().map(|orphan| &orphan.candidate).chain(&self.arrived);
        if waiting.into_iter().any(|candidate| candidate.intake == Intake::Always) {
            return Vec::new();
        }
        self.orphan_bytes = 0;
        let left_out = core::mem::take(&mut self.orphans).into_iter().map(|orphan| orphan.candidate);
        left_out.inspect(|candidate| _ = self.present.remove(&key(candidate))).map(|candidate| candidate.run).collect()
    }

    /// Gives up waiting runs until there are at most so many bytes of them. Says how many were given up.
    pub(crate) fn shrink(&mut self, bytes_max: usize) -> usize {
        if self.orphans.len() <= ORPHANS_PER_DOCUMENT_MAX && self.orphan_bytes <= bytes_max {
            return 0;
        }
        // What each sender has here, and where, the newest last.
        let mut by_sender: BTreeMap<DeviceId, (usize, Vec<usize>)> = BTreeMap::new();
        for (index, orphan) in self.orphans.iter().enumerate() {
            let (bytes, places) = by_sender.entry(orphan.candidate.run.header.device).or_default();
            *bytes += 1 + orphan.candidate.bytes();
            places.push(index);
        }
        let mut stays = alloc::vec![true; self.orphans.len()];
        let mut left = self.orphans.len();
        while left > ORPHANS_PER_DOCUMENT_MAX || self.orphan_bytes > bytes_max {
            let Some((bytes, places)) = by_sender.values_mut().max_by_key(|(bytes, _)| *bytes) else { break };
            let Some(newest) = places.pop() else { break };
            let candidate = &self.orphans[newest].candidate;
            *bytes -= 1 + candidate.bytes();
            self.orphan_bytes -= candidate.bytes();
            self.present.remove(&key(candidate));
            stays[newest] = false;
            left -= 1;
        }
        let mut stays = stays.into_iter();
        let gone: Vec<Orphan> = self.orphans.extract_if(.., |_| !stays.next().unwrap_or(true)).collect();
        if let Some(given_up) = &mut self.given_up {
            // Of what depends on each other only where it begins: the rest is read again with it.
            let among_them: BTreeSet<ChangeHash> =
                hashes(gone.iter().map(|orphan| &orphan.candidate)).into_iter().collect();
            let missing = gone.iter().filter_map(|orphan| orphan.missing).filter(|hash| !among_them.contains(hash));
            given_up.extend(missing.take(ORPHANS_PER_DOCUMENT_MAX.saturating_sub(given_up.len())));
        }
        gone.len()
    }

    /// From now on it is noted what runs waited for that are given up.
    pub(crate) fn note_what_is_given_up(&mut self) {
        self.given_up.get_or_insert_default();
    }

    /// Whether these are what runs waited for that were given up. Then all of those are worth another look, and forgotten here.
    pub(crate) fn gave_up_for(&mut self, accepted: &[Candidate]) -> bool {
        let Some(given_up) = self.given_up.as_mut().filter(|given_up| !given_up.is_empty()) else { return false };
        let found = hashes(accepted).iter().any(|hash| given_up.contains(hash));
        if found {
            given_up.clear();
        }
        found
    }
}

/// Takes out what is to be merged on demand and what no other candidate builds on.
fn without_demand(candidates: &mut Vec<Candidate>) -> Vec<Candidate> {
    let is_on_demand = |candidate: &Candidate| candidate.intake == Intake::OnDemand;
    if !candidates.iter().any(is_on_demand) {
        return Vec::new();
    }
    let others = candidates.iter().filter(|candidate| !is_on_demand(candidate));
    let tips = others.flat_map(|candidate| candidate.links.iter().map(|link| link.hash)).collect();
    let wanted = led_to(tips, candidates.iter().flat_map(|candidate| &candidate.links));
    let is_wanted = |candidate: &Candidate| candidate.links.iter().any(|link| wanted.contains(&link.hash));
    candidates.extract_if(.., |candidate| is_on_demand(candidate) && !is_wanted(candidate)).collect()
}

fn key(candidate: &Candidate) -> (ChangeHash, u64) {
    (candidate.run.header.tip, candidate.run.header.first_seq)
}

fn hashes<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Vec<ChangeHash> {
    candidates.into_iter().flat_map(|candidate| candidate.links.iter().map(|link| link.hash)).collect()
}
