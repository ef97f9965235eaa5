//! A document built from what can be read of its runs, after damage: every run that fits is in it, every other one waits.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::document::Document;
use crate::document::history::History;
use crate::document::merge::{Merger, Trust};
use crate::frontier::Proof;
use crate::gate::envelope::Candidate;
use crate::gate::{self, Authority, Guard, Payload, Refusal};
use crate::id::{AclHash, ChangeHash, DocumentId, SpaceId};
use crate::run::Run;

/// Build a document from what can be read of its runs, after damage: run this on any thread.
#[derive(Debug)]
pub struct MendWork {
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub id: DocumentId,
    /// Every run that could be read.
    pub runs: Vec<Readable>,
    /// As in [`crate::document::OpenWork::suspects`].
    pub suspects: Vec<ChangeHash>,
    /// As in [`crate::document::OpenWork::poisoned`].
    pub poisoned: Vec<ChangeHash>,
}

/// A run that could be read.
#[derive(Debug)]
pub struct Readable {
    /// The key of its row.
    pub row: Vec<u8>,
    /// The run.
    pub run: Run,
    /// Where a salvage found it: what the space says of its author. It passes the gate like one from a peer. `None` where it
    /// has passed before and is where the store has put it.
    pub author: Option<Authority>,
}

/// A document that was built from what could be read.
#[derive(Debug)]
pub struct Mended {
    /// The document. Runs that need others which are gone wait in it until a peer brings these.
    pub document: Document,
    /// What is in it, run by run.
    pub held: Vec<Proof>,
    /// The lists of members that runs stand on, of those in it and of those that wait.
    pub lists: BTreeSet<AclHash>,
    /// Keys of rows that do not fit into any document.
    pub useless: Vec<Vec<u8>>,
    /// Runs that wait.
    pub waiting: usize,
}

impl MendWork {
    /// Builds it. Every run that fits is applied, every other one waits or is named as useless.
    pub fn run(self, guard: &dyn Guard) -> Mended {
        let Self { space, id, runs, suspects, poisoned } = self;
        let mut document = Document::empty(space, id);
        document.suspect(&suspects);
        document.suspects.guilty.extend(poisoned);
        let mut useless = Vec::new();
        let mut keys = BTreeMap::new();
        let mut candidates = Vec::with_capacity(runs.len());
        let mut trust = Trust::Store;
        for Readable { row, run, author } in runs {
            let place = (run.header.tip, run.header.first_seq);
            if author.is_some() {
                trust = Trust::Peer;
            }
            let read = Payload::read(run.payload).and_then(|payload| {
                author.map_or(Ok(()), |author| gate::vouch(&run.header, &payload, author))?;
                Candidate::of(run.header, payload)
            });
            match read {
                Ok(candidate) => {
                    keys.insert(place, row);
                    candidates.push(candidate);
                }
                Err(_) => useless.push(row),
            }
        }
        let mut merger = Merger::new(space, id, trust, &document.suspects, guard, document.index.take());
        let history = merger.merge(History::default(), candidates);
        let (index, mut outcome) = (merger.index, merger.outcome);
        for (header, refusal) in &outcome.refused {
            if *refusal == Refusal::Poisoned {
                document.left_out.push(header.tip);
            } else {
                useless.extend(keys.remove(&(header.tip, header.first_seq)));
            }
        }
        let waits = outcome.waiting.iter().map(|(candidate, _)| candidate);
        let lists = outcome.accepted.iter().chain(waits).map(|candidate| candidate.run.header.acl).collect();
        let held = outcome.accepted.iter().filter_map(|candidate| Proof::of(&candidate.run)).collect();
        let waiting = outcome.waiting.len();
        document.suspects.guilty.extend(&document.left_out);
        document.clear_suspicion(&outcome);
        document.inbox.keep_waiting(core::mem::take(&mut outcome.waiting));
        document.adopt(history);
        document.index = index;
        document.signed_heads = document.history.heads().into_iter().collect();
        Mended { document, held, lists, useless, waiting }
    }
}
