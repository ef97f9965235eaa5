//! One resident document: its history, the local changes not yet signed, the runs from peers not yet applied. It knows no
//! other document, no peer and no engine, so that a copy of it can be handed to a worker.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::gate::{Guard, Refusal};
use crate::id::{ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::run::{Run, RunHeader, UnsignedRun};

pub mod edit;
mod history;
mod json;
pub mod patch;
pub mod path;
mod read;
pub mod view;
pub mod work;

pub use edit::{Edit, EditError};
pub use patch::{Patch, PatchAction};
pub use path::{IntoPath, Path, PathError};
pub use serde_json::Value as Json;
pub use view::{ChangeInfo, Conflict, View};

use edit::Cache;
use history::History;

/// One document in memory.
pub struct Document {
    history: History,
    live: Option<ActorId>,
    cache: Cache,
}

/// What a document needs to know to make a local change.
#[derive(Clone, Copy, Debug)]
pub struct Author {
    /// Our device, written as automerge's author into the first change of an actor.
    pub device: DeviceId,
    /// Random: the actor to write under if this document has none yet in this process.
    pub fresh_actor: ActorId,
    /// Written into the change for people to read. Seconds since 1970.
    pub wall_s: i64,
}

/// What became of the runs that a document had in its inbox.
#[derive(Debug, Default)]
pub struct Settled {
    /// Applied, in an order in which each comes after what it depends on.
    pub accepted: Vec<Run>,
    /// Refused, each with the reason. Nothing of these is in the document.
    pub refused: Vec<(RunHeader, Refusal)>,
    /// Dropped because everything in them was known.
    pub known: usize,
    /// Now waiting for others that they depend on.
    pub waiting: usize,
    /// Waiting runs that were pushed out by the limits. They are found again by reconciliation.
    pub evicted: usize,
}

/// What to do about the runs in the inbox.
#[derive(Debug)]
pub enum Settle {
    /// It was little, and is done.
    Done(Settled),
    /// It is heavy: run this, then give the result to [`Document::finish_merge`].
    Work(Box<MergeWork>),
}

/// A merge on a clone. [`MergeWork::run`] may be called on any thread.
#[derive(Debug)]
pub struct MergeWork {}

/// A finished merge.
#[derive(Debug)]
pub struct Merged {}

/// Builds a document from its stored runs. May be called on any thread.
#[derive(Debug)]
pub struct OpenWork {
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub id: DocumentId,
    /// Every stored run of the document, in any order.
    pub runs: Vec<Run>,
    /// Tips that were being applied when an earlier process died (see [`Guard`]): those runs are refused.
    pub poisoned: Vec<ChangeHash>,
}

impl core::fmt::Debug for Document {
    fn fmt(&self, _f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        todo!()
    }
}

impl OpenWork {
    /// Builds the document. Stored runs have passed the gate before and carry the store's checksum, so they are parsed and
    /// applied in one batch; a run that nevertheless does not fit is an error that names it.
    pub fn run(self, guard: &dyn Guard) -> Result<Document, String> {
        let _ = guard;
        todo!()
    }
}

impl MergeWork {
    /// Applies the batch to the clone.
    pub fn run(self, guard: &dyn Guard) -> Merged {
        let _ = guard;
        todo!()
    }
}

impl Document {
    /// A document without history.
    pub fn empty(space: SpaceId, id: DocumentId) -> Self {
        let _ = (space, id);
        Self { history: History::default(), live: None, cache: Cache::default() }
    }

    /// Runs `f` on an [`Edit`] and keeps what it did as one local change; says whether there was anything to keep. If `f`
    /// fails or a limit is passed, the document is unchanged.
    pub fn edit<T, E: From<EditError>>(
        &mut self,
        author: Author,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, bool), E> {
        let actor = self.live.unwrap_or(author.fresh_actor);
        let (value, committed) = self.history.edit(actor, author.device, author.wall_s, &mut self.cache, f)?;
        if committed.is_some() {
            self.live = Some(actor);
        }
        Ok((value, committed.is_some()))
    }

    /// Raw bytes of local changes that no run has taken yet.
    pub fn unsigned_bytes(&self) -> usize {
        todo!()
    }

    /// Takes the local changes for signing; `None` if there are none. At most `RUN_CHANGES_MAX` changes and
    /// `RUN_BYTES_MAX` bytes at a time: call until `None`.
    pub fn take_unsigned(&mut self) -> Option<UnsignedRun> {
        todo!()
    }

    /// Takes a verified run (gate stages 1 to 5 passed) into the inbox.
    pub fn receive(&mut self, run: Run) {
        let _ = run;
        todo!()
    }

    /// Bytes waiting in the inbox, orphans not counted.
    pub fn inbox_bytes(&self) -> usize {
        todo!()
    }

    /// Bytes of runs that wait for what they depend on.
    pub fn orphan_bytes(&self) -> usize {
        todo!()
    }

    /// Applies the inbox, or begins to. While a merge runs this does nothing (`Settled::default()`), and edits and
    /// `receive` go on.
    pub fn settle(&mut self, guard: &dyn Guard) -> Settle {
        let _ = guard;
        todo!()
    }

    /// Swaps in the merged clone, with the local changes made meanwhile.
    pub fn finish_merge(&mut self, merged: Merged, guard: &dyn Guard) -> Settled {
        let _ = (merged, guard);
        todo!()
    }

    /// A merge is running.
    pub fn is_busy(&self) -> bool {
        todo!()
    }

    /// The hashes that nothing depends on, sorted; local unsigned changes included.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.history.heads()
    }

    /// Last applied sequence number and tip of an actor.
    pub fn tip(&self, actor: &ActorId) -> Option<(u64, ChangeHash)> {
        let _ = actor;
        todo!()
    }

    /// The hash of one applied change, by actor and sequence number.
    pub fn change_hash(&self, actor: &ActorId, seq: u64) -> Option<ChangeHash> {
        let _ = (actor, seq);
        todo!()
    }

    /// A read-only view of the present.
    pub fn view(&self) -> View<'_> {
        View::now(&self.history)
    }

    /// A read-only view of the past, or an error that names the first of `heads` that is not known here.
    pub fn view_at(&self, heads: &[ChangeHash]) -> Result<View<'_>, UnknownHeads> {
        View::at(&self.history, heads)
    }
}

/// A version was asked for that is not in this document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {0} is not in this document")]
pub struct UnknownHeads(pub ChangeHash);

const _: () = {
    const fn may_be_shared<T: Send + Sync>() {}
    may_be_shared::<Document>();
};
