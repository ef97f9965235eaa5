//! A document built from what its record names, when it comes into memory: all of it fits, or the store is damaged.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::Document;
use crate::document::history::History;
use crate::document::merge::{Merger, Trust};
use crate::gate::envelope::{Candidate, Link};
use crate::gate::{Guard, Refusal};
use crate::id::{ActorId, ChangeHash, DocumentId, SpaceId};
use crate::run::{Run, RunHeader};

/// Builds a document from its stored runs. May be called on any thread.
#[derive(Debug)]
pub struct OpenWork {
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub id: DocumentId,
    /// Every run whose numbers the document's record names, in any order.
    pub runs: Vec<Run>,
    /// The heads and the actors' tips that the record names.
    pub tips: Vec<ChangeHash>,
    /// Tips that were being applied when an earlier process died (see [`Guard`]): they are applied in small groups.
    pub suspects: Vec<ChangeHash>,
    /// Tips of runs that are known to break the merge. They, and what depends on them, are left out.
    pub poisoned: Vec<ChangeHash>,
}

impl OpenWork {
    /// Builds the document. Stored runs have passed the gate before and carry the store's checksum, so they are parsed and
    /// applied in one batch.
    ///
    /// # Errors
    /// Names a run that nevertheless does not fit. Poisoned runs, and what depends on them, are left out without an error.
    pub fn run(self, guard: &dyn Guard) -> Result<Document, String> {
        let Self { space, id, runs, tips, suspects, poisoned } = self;
        let mut document = Document::empty(space, id);
        document.suspect(&suspects);
        document.suspects.guilty.extend(poisoned);
        let mut candidates = Vec::with_capacity(runs.len());
        for run in runs {
            let name = name(&run.header);
            candidates.push(Candidate::new(run).map_err(|refusal| format!("{name}: {refusal}"))?);
        }
        leave_out_forks(tips, &mut candidates);
        let mut merger = Merger::new(space, id, Trust::Store, &document.suspects, guard, document.index.take());
        let history = merger.merge(History::default(), candidates);
        let (index, mut outcome) = (merger.index, merger.outcome);
        for (header, refusal) in &outcome.refused {
            if *refusal != Refusal::Poisoned {
                return Err(format!("{}: {refusal}", name(header)));
            }
        }
        if outcome.refused.is_empty()
            && let Some((candidate, missing)) = outcome.waiting.first()
        {
            let missing = missing.map_or_else(|| String::from("what it depends on"), |hash| format!("{hash}"));
            return Err(format!("{}: it needs {missing}, which is not stored", name(&candidate.run.header)));
        }
        document.left_out = outcome.refused.iter().map(|(header, _)| header.tip).collect();
        document.suspects.guilty.extend(&document.left_out);
        document.clear_suspicion(&outcome);
        document.inbox.keep_waiting(core::mem::take(&mut outcome.waiting));
        document.adopt(history);
        document.index = index;
        document.signed_heads = document.history.heads().into_iter().collect();
        Ok(document)
    }
}

/// Where two runs of an actor share a number, a mending left one of them in the store and the document has taken the other since.
/// Those that the record does not lead to are no part of the document.
fn leave_out_forks(tips: Vec<ChangeHash>, candidates: &mut Vec<Candidate>) {
    let mut numbers: Vec<_> = candidates
        .iter()
        .map(|Candidate { run: Run { header, .. }, .. }| (header.actor, header.first_seq, header.last_seq))
        .collect();
    numbers.sort_unstable();
    let share = |pair: &[(ActorId, u64, u64)]| pair[0].0 == pair[1].0 && pair[1].1 <= pair[0].2;
    if numbers.windows(2).any(share) {
        let held = led_to(tips, candidates.iter().flat_map(|candidate| &candidate.links));
        candidates.retain(|candidate| held.contains(&candidate.run.header.tip));
    }
}

fn name(header: &RunHeader) -> String {
    format!("run {}..{} of actor {} with tip {}", header.first_seq, header.last_seq, header.actor, header.tip)
}

/// These changes and all that they lead to, as far as it is among the links.
pub(super) fn led_to<'a>(mut tips: Vec<ChangeHash>, links: impl Iterator<Item = &'a Link>) -> BTreeSet<ChangeHash> {
    let deps: BTreeMap<ChangeHash, &[ChangeHash]> = links.map(|link| (link.hash, link.deps.as_slice())).collect();
    let mut found = BTreeSet::new();
    while let Some(hash) = tips.pop() {
        if let Some(deps) = deps.get(&hash)
            && found.insert(hash)
        {
            tips.extend_from_slice(deps);
        }
    }
    found
}
