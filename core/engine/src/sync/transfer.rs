//! What one peer lacks of one space's documents and has still to be sent: a queue of documents, each with what the peer has,
//! and the runs read for it that do not fill a message yet.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::document::record::DocumentRecord;
use crate::id::{ActorId, ChangeHash, DocumentId};
use crate::limits::{
    RUN_BYTES_MAX, RUN_SHARED_BYTES_MAX, RUNS_MESSAGE_BYTES, RUNS_PER_MESSAGE_MAX, TRANSFER_QUEUE_MAX,
};
use crate::sync::collection::Digest;
use crate::wire::{ActorTip, WireRun};

/// Scans at once for one peer and space; one as long as there are large runs. Enough to keep the store busy, few enough to bound
/// what waits in memory.
const SCANS_MAX: usize = 4;

/// Bytes of runs read for one peer and space and not yet in a message; beyond it no page is read.
const STAGED_BYTES_MAX: usize = 4 * RUNS_MESSAGE_BYTES;

/// Bytes read for one peer and space at most: what is staged when the last pages are asked for, and these, each of which
/// ends with the run that fills it.
pub(crate) const STAGED_MAX: usize = STAGED_BYTES_MAX + SCANS_MAX * 2 * (RUNS_MESSAGE_BYTES + RUN_BYTES_MAX);

/// What the peer has of one document, by actor.
pub type Have = BTreeMap<ActorId, Held>;

/// How far the peer has an actor's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its last sequence number.
    pub seq: u64,
    /// That change.
    pub tip: ChangeHash,
}

/// The queue of one peer and space.
#[derive(Debug, Default)]
pub struct Transfer {
    order: VecDeque<DocumentId>,
    wanted: BTreeMap<DocumentId, Job>,
    scanning: usize,
    /// In the last page no run was larger than what edits share, so several pages may be read at once.
    pages_are_small: bool,
    /// Larger ones in the page that is being staged.
    large_runs: usize,
    staged: Vec<WireRun>,
    staged_bytes: usize,
}

/// One document to read runs of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What not to send.
    pub have: Have,
    /// Nothing before this operation counter is lacking.
    pub from_lamport: u64,
    /// Where to read on, if a part of the document was read already.
    pub resume_at: Option<Vec<u8>>,
    /// Actors of which the peer was found to have another chain than we: what follows in ours is of no use to it.
    pub forked: BTreeSet<ActorId>,
}

impl Job {
    /// All of the document, for a peer that has nothing of it.
    pub fn everything() -> Self {
        Self { have: Have::new(), from_lamport: 0, resume_at: None, forked: BTreeSet::new() }
    }
}

/// How a peer's frontier of a document compares with ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What to send, if the peer lacks something.
    pub job: Option<Job>,
    /// We lack something that the peer has.
    pub behind: bool,
    /// An actor with the same last sequence number and another tip.
    pub fork: Option<(ActorId, u64)>,
}

/// Compares a peer's frontier with ours. If the peer was sent what it lacks before and took nothing of it (`again`), it may have
/// another chain of an actor than we: then the chain is read from its beginning, to see where they part. Of actors of which that
/// is known (`forked`) nothing is sent or asked for; what others have made is.
pub fn compare(ours: &DocumentRecord, theirs: &[ActorTip], again: bool, forked: BTreeSet<ActorId>) -> Comparison {
    let theirs: BTreeMap<ActorId, &ActorTip> = theirs.iter().map(|tip| (tip.actor, tip)).collect();
    let mut comparison = Comparison { job: None, behind: false, fork: None };
    let mut from_lamport = None::<u64>;
    for (actor, proof) in ours.frontier.actors.iter().filter(|(actor, _)| !forked.contains(*actor)) {
        let lacking_from = match theirs.get(actor) {
            None => Some(proof.first_lamport),
            Some(tip) if tip.seq < proof.header.last_seq && again => Some(proof.first_lamport),
            Some(tip) if tip.seq < proof.header.last_seq => Some(tip.lamport),
            Some(tip) => {
                if tip.seq == proof.header.last_seq && tip.tip != proof.header.tip {
                    comparison.fork = Some((*actor, tip.seq));
                }
                None
            }
        };
        if let Some(lamport) = lacking_from {
            from_lamport = Some(from_lamport.map_or(lamport, |least| least.min(lamport)));
        }
    }
    comparison.behind = theirs
        .values()
        .filter(|tip| !forked.contains(&tip.actor))
        .any(|tip| ours.frontier.actors.get(&tip.actor).is_none_or(|proof| proof.header.last_seq < tip.seq));
    comparison.job = from_lamport.map(|from_lamport| {
        let have = theirs.values().map(|tip| (tip.actor, Held { seq: tip.seq, tip: tip.tip })).collect();
        Job { have, from_lamport, forked, ..Job::everything() }
    });
    comparison
}

/// What stands for a peer's frontier.
pub fn digest(theirs: &[ActorTip]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for tip in theirs {
        hasher.update(&tip.actor.0).update(&tip.seq.to_be_bytes()).update(&tip.tip.0);
    }
    *hasher.finalize().as_bytes()
}

/// Our frontier as it travels.
pub fn tips(record: &DocumentRecord) -> Vec<ActorTip> {
    record
        .frontier
        .actors
        .iter()
        .map(|(actor, proof)| ActorTip {
            actor: *actor,
            seq: proof.header.last_seq,
            lamport: proof.lamport,
            tip: proof.header.tip,
        })
        .collect()
}

/// About what a run takes in a message.
pub fn wire_bytes(run: &WireRun) -> usize {
    run.payload.len() + 185
}

impl Transfer {
    /// Queues a document. What was queued for it before is replaced. Beyond `TRANSFER_QUEUE_MAX` nothing is queued: the next
    /// reconciliation finds it again. Returns whether it is queued.
    pub fn want(&mut self, document: DocumentId, job: Job) -> bool {
        if self.wanted.len() >= TRANSFER_QUEUE_MAX && !self.wanted.contains_key(&document) {
            return false;
        }
        if self.wanted.insert(document, job).is_none() {
            self.order.push_back(document);
        }
        true
    }

    /// The next document to read, if there is one and not too much was read or is being read already.
    pub fn next_scan(&mut self) -> Option<(DocumentId, Job)> {
        let scans_max = if self.pages_are_small { SCANS_MAX } else { 1 };
        if self.scanning >= scans_max || self.staged_bytes >= STAGED_BYTES_MAX {
            return None;
        }
        let document = self.order.pop_front()?;
        let job = self.wanted.remove(&document)?;
        self.scanning += 1;
        Some((document, job))
    }

    /// A part of a document was read; `more` says how to go on, if it is not at its end. The rest comes next, unless the
    /// document was asked for again meanwhile.
    pub fn scan_done(&mut self, more: Option<(DocumentId, Job)>) {
        self.scanning = self.scanning.saturating_sub(1);
        self.pages_are_small = core::mem::take(&mut self.large_runs) == 0;
        if let Some((document, job)) = more
            && !self.wanted.contains_key(&document)
        {
            self.wanted.insert(document, job);
            self.order.push_front(document);
        }
    }

    /// Keeps a run until there are enough for a message.
    pub fn stage(&mut self, run: WireRun) {
        self.staged_bytes += wire_bytes(&run);
        self.large_runs += usize::from(run.payload.len() > RUN_SHARED_BYTES_MAX);
        self.staged.push(run);
    }

    /// The runs of the next message: when it is full, or when nothing more is being read.
    pub fn take_message(&mut self) -> Option<Vec<WireRun>> {
        let full = self.staged_bytes >= RUNS_MESSAGE_BYTES || self.staged.len() >= RUNS_PER_MESSAGE_MAX;
        let last = self.order.is_empty() && self.scanning == 0;
        if self.staged.is_empty() || !(full || last) {
            return None;
        }
        let mut bytes = 0;
        let mut count = 0;
        while count < self.staged.len() && count < RUNS_PER_MESSAGE_MAX {
            let run_bytes = wire_bytes(&self.staged[count]);
            if count > 0 && bytes + run_bytes > RUNS_MESSAGE_BYTES {
                break;
            }
            bytes += run_bytes;
            count += 1;
        }
        self.staged_bytes -= bytes;
        let rest = self.staged.split_off(count);
        Some(core::mem::replace(&mut self.staged, rest))
    }

    /// Documents that wait to be read.
    pub(crate) fn queued(&self) -> usize {
        self.wanted.len()
    }

    /// Bytes that were read and not sent.
    pub(crate) fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    /// Nothing is queued, being read, or staged.
    pub fn is_idle(&self) -> bool {
        self.order.is_empty() && self.scanning == 0 && self.staged.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::Proof;
    use crate::id::{AclHash, DeviceId, SpaceId};
    use crate::keys::SIGNATURE_LEN;
    use crate::run::RunHeader;

    #[test]
    fn chains_whose_last_hashes_begin_alike_are_a_fork() {
        let (actor, tip) = (ActorId([1; 16]), ChangeHash([5; 32]));
        let (document, space, device) = (DocumentId([2; 16]), SpaceId([3; 32]), DeviceId([4; 32]));
        let (acl, signature) = (AclHash([6; 32]), [0; SIGNATURE_LEN]);
        let header = RunHeader { space, document, acl, device, actor, first_seq: 1, last_seq: 7, tip, signature };
        let mut ours = DocumentRecord::default();
        ours.frontier.accept(Proof { header, first_lamport: 1, lamport: 9 });
        let mut theirs = tips(&ours);
        assert_eq!(compare(&ours, &theirs, false, BTreeSet::new()).fork, None);
        theirs[0].tip.0[31] ^= 1;
        assert_eq!(compare(&ours, &theirs, false, BTreeSet::new()).fork, Some((actor, 7)));
    }
}
