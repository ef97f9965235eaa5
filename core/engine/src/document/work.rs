//! Heavy work on one document, as a value that can be carried to another thread and back.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::mend::{MendWork, Mended, Readable};
use crate::document::{Document, MergeWork, Merged, OpenWork};
use crate::gate::{Guard, Payload};
use crate::id::{DocumentId, SpaceId};
use crate::limits::CHANGE_OPS_MAX;
use crate::run::RunHeader;

/// Work to do away from the engine.
#[derive(Debug)]
pub struct Work {
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub document: DocumentId,
    /// Which time this document is in memory: work that comes back for an earlier one is dropped.
    pub generation: u64,
    /// About how many operations are applied at once on the way.
    pub ops: u64,
    /// What to do.
    pub kind: WorkKind,
}

/// The kinds of work.
#[derive(Debug)]
pub enum WorkKind {
    /// Build a document from its stored runs.
    Open(OpenWork),
    /// Build a document from what is readable of its stored runs.
    Mend(MendWork),
    /// Merge a batch into a clone.
    Merge(Box<MergeWork>),
    /// Read runs that wait in the store, and check what can be checked without the document.
    Vouch(Vec<Readable>),
}

/// The result of [`Work::run`].
#[derive(Debug)]
pub struct WorkDone {
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub document: DocumentId,
    /// As given.
    pub generation: u64,
    /// As given.
    pub ops: u64,
    /// What came out.
    pub result: WorkResult,
}

/// What came out of work.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is moved twice")]
pub enum WorkResult {
    /// The document, or why it cannot be built.
    Opened(Result<Box<Document>, String>),
    /// The document as far as it is readable.
    Mended(Box<Mended>),
    /// The merged clone.
    Merged(Merged),
    /// Those of the runs that may go into the document's inbox.
    Vouched(Vec<(RunHeader, Payload)>),
}

/// How many operations are applied at once of so many: they go into a document a group at a time.
pub(crate) fn ops_at_once(ops: u64) -> u64 {
    ops.min(CHANGE_OPS_MAX)
}

impl Work {
    /// Does it. Takes from microseconds to seconds.
    pub fn run(self, guard: &dyn Guard) -> WorkDone {
        let Self { space, document, generation, ops, kind } = self;
        let result = match kind {
            WorkKind::Open(work) => WorkResult::Opened(work.run(guard).map(Box::new)),
            WorkKind::Mend(work) => WorkResult::Mended(Box::new(work.run(guard))),
            WorkKind::Merge(work) => WorkResult::Merged(work.run(guard)),
            WorkKind::Vouch(runs) => WorkResult::Vouched(runs.into_iter().filter_map(|run| run.vouch().ok()).collect()),
        };
        WorkDone { space, document, generation, ops, result }
    }
}
