//! A document built from what can be read of its runs, after damage: every run that fits is in it, every other one waits.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::Document;
use crate::document::history::History;
use crate::document::merge::{Merger, Trust};
use crate::frontier::Proof;
use crate::gate::envelope::Candidate;
use crate::gate::{self, Authority, Guard, Payload, Refusal};
use crate::id::{AclHash, ChangeHash, DocumentId, SpaceId};
use crate::run::{Run, RunHeader};
use crate::storage::run_key;

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
    /// What the space says of its author, where no version of the document has it: a salvage found it, or a damaged row kept it
    /// from fitting. `None` where its signature was seen before it was stored.
    pub author: Option<Authority>,
}

impl Readable {
    /// Reads the payload, and checks what can be checked without the document. A row may be anybody's words if a salvage found
    /// it, its key too.
    pub(crate) fn read(self) -> Result<(RunHeader, Payload), Refusal> {
        let Self { row, run: Run { header, payload }, author } = self;
        let payload = Payload::read(payload)?;
        let place = run_key(&header.space, &header.document, payload.tip().lamport, &header.actor, header.last_seq);
        if row != place {
            return Err(Refusal::Malformed(String::from("it is not stored where it belongs")));
        }
        author.map_or(Ok(()), |author| gate::vouch(&header, &payload, author))?;
        Ok((header, payload))
    }
}

/// A document that was built from what could be read.
#[derive(Debug)]
pub struct Mended {
    /// The document. Runs that need others which are gone wait in it, as those of peers do.
    pub document: Document,
    /// What is in it, run by run.
    pub held: Vec<Proof>,
    /// The lists of members that runs stand on, of those in it and of those that wait.
    pub lists: BTreeSet<AclHash>,
    /// Keys of rows that do not fit into any document.
    pub useless: Vec<Vec<u8>>,
    /// Runs that wait.
    pub waiting: usize,
    /// As many of them wait in the store alone, because the limits leave no more.
    pub evicted: usize,
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
        for readable in runs {
            let row = readable.row.clone();
            match readable.read().and_then(|(header, payload)| Candidate::of(header, payload)) {
                Ok(candidate) => {
                    keys.insert(place(&candidate.run.header), row);
                    candidates.push(candidate);
                }
                Err(_) => useless.push(row),
            }
        }
        // All of them are checked: a row says by its number alone that it was merged before.
        let mut merger = Merger::new(space, id, Trust::Peer, &document.suspects, guard, document.index.take());
        let history = merger.merge(History::default(), candidates);
        let (index, mut outcome) = (merger.index, merger.outcome);
        // Another run has taken its numbers: it fits nowhere any more.
        let is_fork = |(candidate, _): &mut (Candidate, _)| {
            let header = &candidate.run.header;
            history.tip(&header.actor).is_some_and(|(seq, _)| header.last_seq <= seq)
        };
        for (candidate, _) in outcome.waiting.extract_if(.., is_fork) {
            useless.extend(keys.remove(&place(&candidate.run.header)));
        }
        for (header, refusal) in &outcome.refused {
            if *refusal == Refusal::Poisoned {
                document.left_out.push(header.tip);
            } else {
                useless.extend(keys.remove(&place(header)));
            }
        }
        let waits = outcome.waiting.iter().map(|(candidate, _)| candidate);
        let lists = outcome.accepted.iter().chain(waits).map(|candidate| candidate.run.header.acl).collect();
        let held = outcome.accepted.iter().filter_map(|candidate| Proof::of(&candidate.run)).collect();
        let waiting = outcome.waiting.len();
        document.suspects.guilty.extend(&document.left_out);
        document.clear_suspicion(&outcome);
        if waiting > 0 {
            document.note_what_is_given_up();
        }
        let evicted = document.inbox.keep_waiting(core::mem::take(&mut outcome.waiting));
        document.adopt(history);
        document.index = index;
        document.signed_heads = document.history.heads().into_iter().collect();
        Mended { document, held, lists, useless, waiting, evicted }
    }
}

/// What tells a run from others, together with what it says.
fn place(header: &RunHeader) -> (ChangeHash, u64) {
    (header.tip, header.first_seq)
}
