//! A document built from what can be read of its runs, after damage: every run that fits is in it, every other one waits.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::Document;
use crate::document::history::History;
use crate::document::merge::{Merger, Trust};
use crate::document::open::led_to;
use crate::frontier::Proof;
use crate::gate::envelope::Candidate;
use crate::gate::{self, Authority, Guard, Payload, Refusal};
use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
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
    /// The heads and the actors' tips that the document's record names.
    pub tips: Vec<ChangeHash>,
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
    /// What the space says of its author; `None` if the members that it stands on are not known.
    pub author: Option<Authority>,
}

/// A run whose payload was read: what is left to check is whose word it is, and whether it fits.
struct Read {
    row: Vec<u8>,
    header: RunHeader,
    payload: Payload,
    author: Option<Authority>,
}

impl Readable {
    fn read(self) -> Result<Read, Refusal> {
        let Self { row, run: Run { header, payload }, author } = self;
        let payload = Payload::read(payload)?;
        payload.tip().is_of(&header)?;
        let place = run_key(&header.space, &header.document, payload.tip().lamport, &header.actor, header.last_seq);
        if row != place {
            return Err(Refusal::Malformed(String::from("it is not stored where it belongs")));
        }
        Ok(Read { row, header, payload, author })
    }

    /// Checks all that can be checked without the document, its author's word included: a salvage may have found anything.
    pub(crate) fn vouch(self) -> Result<(RunHeader, Payload), Refusal> {
        let Read { header, payload, author, .. } = self.read()?;
        gate::vouch(&header, &payload, author.unwrap_or(Authority { role: None }))?;
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
    /// Bytes of the changes of these.
    pub bytes: u64,
    /// The lists of members that runs stand on, of those in it and of those that wait.
    pub lists: BTreeSet<AclHash>,
    /// Keys of rows that do not fit into any document.
    pub useless: Vec<Vec<u8>>,
    /// Runs that wait.
    pub waiting: usize,
    /// As many of them wait in the store alone, because the limits leave no more.
    pub evicted: usize,
    /// Of each run that is left in the store because the members that it stands on are not known, the list of these.
    pub unvouched: Vec<AclHash>,
}

impl MendWork {
    /// Builds it. Every run that fits is applied, every other one waits or is named as useless.
    pub fn run(self, guard: &dyn Guard) -> Mended {
        let Self { space, id, runs, tips, suspects, poisoned } = self;
        let mut document = Document::empty(space, id);
        document.suspect(&suspects);
        document.suspects.guilty.extend(poisoned);
        let mut useless = Vec::new();
        let mut read = Vec::with_capacity(runs.len());
        for readable in runs {
            let row = readable.row.clone();
            match readable.read() {
                Ok(run) => read.push(run),
                Err(_) => useless.push(row),
            }
        }
        let seen = led_to(tips, read.iter().flat_map(|run| run.payload.links()));
        let mut unvouched = Vec::new();
        let mut keys = BTreeMap::new();
        let mut candidates = Vec::with_capacity(read.len());
        for Read { row, header, payload, author } in read {
            let word = match author {
                Some(author) => gate::vouch(&header, &payload, author),
                // Its signature was seen before it became part of the document. That it did is told by hashes; a row's number
                // may be that of another run.
                None if seen.contains(&header.tip) => Ok(()),
                None => {
                    unvouched.push((row, header));
                    continue;
                }
            };
            match word.and_then(|()| Candidate::of(header, payload)) {
                Ok(candidate) => {
                    keys.insert(place(&candidate.run.header), row);
                    candidates.push(candidate);
                }
                Err(_) => useless.push(row),
            }
        }
        let mut merger = Merger::new(space, id, Trust::Peer, &document.suspects, guard, document.index.take());
        let history = merger.merge(History::default(), candidates);
        let (index, mut outcome) = (merger.index, merger.outcome);
        // Another run has taken its numbers: it fits nowhere any more.
        let is_taken = |header: &RunHeader| history.tip(&header.actor).is_some_and(|(seq, _)| header.last_seq <= seq);
        for (candidate, _) in outcome.waiting.extract_if(.., |(candidate, _)| is_taken(&candidate.run.header)) {
            useless.extend(keys.remove(&place(&candidate.run.header)));
        }
        // Where nobody can tell whose it is, by its author alone: somebody else is no reason to remove the only copy.
        let authors: BTreeMap<ActorId, DeviceId> = outcome
            .accepted
            .iter()
            .map(|candidate| (candidate.run.header.actor, candidate.run.header.device))
            .collect();
        let is_given_up = |header: &RunHeader| is_taken(header) && authors.get(&header.actor) == Some(&header.device);
        useless.extend(unvouched.extract_if(.., |(_, header)| is_given_up(header)).map(|(row, _)| row));
        let unvouched = unvouched.into_iter().map(|(_, header)| header.acl).collect();
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
        let bytes = outcome.accepted.iter().map(|candidate| candidate.bytes() as u64).sum();
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
        Mended { document, held, bytes, lists, useless, waiting, evicted, unvouched }
    }
}

/// What tells a run from others, together with what it says.
fn place(header: &RunHeader) -> (ChangeHash, u64) {
    (header.tip, header.first_seq)
}
