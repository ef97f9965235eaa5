//! One resident document: its history, the local changes not yet signed, the runs from peers not yet applied. It knows no
//! other document, no peer and no engine, so that a copy of it can be handed to a worker.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use automerge as am;

use crate::gate::envelope::Candidate;
use crate::gate::validator::OpIndex;
use crate::gate::{Guard, Intake, Payload, Refusal, Slot};
use crate::id::{ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::limits::{INLINE_BATCH_BYTES_MAX, INLINE_BATCH_OPS_MAX, INLINE_OPS_MAX, POISONED_REMEMBERED_MAX};
use crate::run::{Run, RunHeader};

mod actors;
mod difference;
pub mod draft;
pub mod edit;
pub mod editor;
pub(crate) mod history;
pub mod import;
mod inbox;
mod journal;
pub mod json;
mod line_diff;
mod lost;
pub mod mend;
mod merge;
mod open;
pub mod patch;
pub mod path;
mod publish;
mod read;
pub mod record;
mod resolve;
mod sequence_diff;
pub mod summary;
mod text_diff;
mod typed;
mod unsigned;
mod value;
pub mod view;
pub mod work;

pub use actors::OwnActor;
pub use draft::{Ahead, Draft, DraftError};
pub use edit::{Edit, EditError};
pub use editor::{EditedAt, Editor, Seats, TooManyEditors, Version};
pub use history::{Copied, Shared};
pub use journal::{Followed, Origin, Step};
pub use line_diff::TextChange;
pub use lost::{LOST_EDITS_MAX, LostEdit, Writer};
pub use open::OpenWork;
pub use patch::{Patch, PatchAction, PatchMisfit};
pub use path::{IntoPath, Path, PathError};
pub use publish::{Maker, Publish};
pub use serde_json::Value as Json;
pub use typed::TypedError;
pub use value::{Strings, Value};
pub use view::{ChangeInfo, Conflict, Snapshot, View};

use actors::Spare;
use edit::Cache;
use history::{Change, Committed, History};
use inbox::{Inbox, Taken};
use journal::Journal;
use merge::{Merger, Outcome, Suspects, Trust};
use unsigned::{Tail, Unsigned, advance};

/// One document in memory.
pub struct Document {
    space: SpaceId,
    id: DocumentId,
    history: History,
    journal: Journal,
    cache: Cache,
    /// The actor that local changes are made under, from the first one of this process on.
    live: Option<ActorId>,
    /// Actors of this process besides that one: editors write under them, and drafts go on with those that nobody has taken, so
    /// that there are few.
    spare: Vec<Spare>,
    editors: Seats,
    tail: Tail,
    /// The hashes of signed changes that no other signed change depends on.
    signed_heads: BTreeSet<ChangeHash>,
    inbox: Inbox,
    suspects: Suspects,
    /// Tips of stored runs that broke the merge when this document was opened, or before.
    left_out: Vec<ChangeHash>,
    /// Every operation of the history but those of local changes not taken out yet, for the gate. A running merge has it;
    /// when it is lost it is rebuilt.
    index: Option<OpIndex>,
    merging: bool,
    /// A draft was published while a merge ran, which is to be done once more, on the draft.
    outrun: bool,
    /// The last merge was.
    was_outrun: bool,
    /// An actor of ours was retired and nobody was told yet.
    cloned: bool,
    /// Local changes made since the running merge took its copy.
    meanwhile: Vec<am::Change>,
    /// Our device, once it has written here.
    device: Option<DeviceId>,
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
    /// Of those in the inbox that are always merged, how many have to wait for others that they depend on, if the limits leave
    /// them.
    pub waiting: usize,
    /// Waiting runs, these or earlier ones, that were pushed out by the limits. They are found again by reconciliation.
    pub evicted: usize,
    /// Waiting runs, these or earlier ones, that are merged on demand, where nothing waits any more that may be one.
    pub left_out: Vec<Run>,
    /// A run shows that a copy of this process goes on under our actor; we write under another one from now on.
    pub cloned: bool,
    /// Runs that are in the store and were given up in memory may fit now: see [`Document::note_what_is_given_up`].
    pub read_again: bool,
}

/// What to do about the runs in the inbox.
#[derive(Debug)]
pub enum Settle {
    /// It was little, and is done.
    Done(Settled),
    /// It is heavy: run this, then give the result to [`Document::finish_merge`].
    Work(Box<MergeWork>),
}

/// A merge on a copy. [`MergeWork::run`] may be called on any thread.
#[derive(Debug)]
pub struct MergeWork {
    space: SpaceId,
    document: DocumentId,
    history: History,
    index: Option<OpIndex>,
    suspects: Suspects,
    candidates: Vec<Candidate>,
    /// What is to be merged on demand and waits for that.
    unwanted: Vec<Candidate>,
    /// Somebody follows the document, and wants patches.
    follow: bool,
    /// What was decided on arrival.
    refused: Vec<(RunHeader, Refusal)>,
    known: usize,
}

/// A finished merge.
#[derive(Debug)]
pub struct Merged {
    history: History,
    index: Option<OpIndex>,
    patches: Option<Vec<Patch>>,
    outcome: Outcome,
}

impl core::fmt::Debug for Document {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Document")
            .field("id", &self.id)
            .field("changes", &self.history.change_count())
            .field("operations", &self.history.ops())
            .field("unsigned_bytes", &self.unsigned_bytes())
            .field("inbox_bytes", &self.inbox.bytes())
            .field("orphan_bytes", &self.inbox.orphan_bytes())
            .field("merging", &self.merging)
            .finish_non_exhaustive()
    }
}

impl MergeWork {
    /// Operations that are to be merged.
    pub fn ops(&self) -> u64 {
        self.candidates.iter().map(Candidate::ops).fold(0, u64::saturating_add)
    }

    /// Operations of the document that automerge moves for it: all of them for each new actor, as it keeps actors in order.
    fn moves(&self) -> u64 {
        let new = self.candidates.iter().filter(|candidate| candidate.run.header.first_seq == 1).count();
        self.history.ops().saturating_mul(new as u64)
    }

    /// Merges the batch into a copy.
    pub fn run(self, guard: &dyn Guard) -> Merged {
        let Self { space, document, history, index, suspects, candidates, unwanted, follow, refused, known } = self;
        let mut merger = Merger::new(space, document, Trust::Peer, &suspects, guard, index).followed(follow);
        merger.outcome.refused = refused;
        merger.outcome.known = known;
        let history = merger.merge(history, candidates);
        merger.outcome.waiting.extend(unwanted.into_iter().map(|candidate| (candidate, None)));
        Merged { history, index: merger.index, patches: merger.patches, outcome: merger.outcome }
    }
}

impl Document {
    /// A document without history.
    pub fn empty(space: SpaceId, id: DocumentId) -> Self {
        Self {
            space,
            id,
            history: History::default(),
            journal: Journal::default(),
            cache: Cache::default(),
            live: None,
            spare: Vec::new(),
            editors: Seats::default(),
            tail: Tail::default(),
            signed_heads: BTreeSet::new(),
            inbox: Inbox::default(),
            suspects: Suspects::default(),
            left_out: Vec::new(),
            index: Some(OpIndex::default()),
            merging: false,
            outrun: false,
            was_outrun: false,
            cloned: false,
            meanwhile: Vec::new(),
            device: None,
        }
    }

    /// Takes note of the slot of a process that died, as [`OpenWork::suspects`] does for a document that is opened.
    pub fn suspect(&mut self, tips: &[ChangeHash]) {
        self.suspects.apart.extend(tips);
    }

    /// Tips of the stored runs that were left out when it was opened, because they break the merge. With them went the runs
    /// that depend on them.
    pub fn left_out(&self) -> &[ChangeHash] {
        &self.left_out
    }

    /// What peers and the store know of a document of which runs were left out: these heads, as they were recorded.
    pub fn stand_on(&mut self, heads: &[ChangeHash]) {
        self.signed_heads = heads.iter().copied().collect();
    }

    /// Runs `f` on an [`Edit`] and keeps what it did as one local change; says whether there was anything to keep. If `f`
    /// fails or a limit is passed, the document is unchanged.
    pub fn edit<T, E: From<EditError>>(
        &mut self,
        author: Author,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, bool), E> {
        let actor = self.live.unwrap_or(author.fresh_actor);
        let follow = self.journal.is_kept();
        let (value, committed) = self.history.edit(actor, author.device, author.wall_s, &mut self.cache, follow, f)?;
        let Some(committed) = committed else { return Ok((value, false)) };
        self.live = Some(actor);
        self.keep_local(author.device, committed);
        Ok((value, true))
    }

    /// Takes note of a local change.
    fn keep_local(&mut self, device: DeviceId, committed: Committed) {
        self.device = Some(device);
        self.tail.pending_bytes += committed.bytes;
        if self.journal.is_kept() {
            let heads = self.history.heads();
            match committed.patches {
                Some(patches) => self.journal.add(Step { patches, heads, origin: Origin::Local }),
                None => self.journal.interrupt(heads),
            }
        }
    }

    /// Makes the document exist: keeps a local change without operations if there is no change at all, and says whether there
    /// was none.
    ///
    /// # Errors
    /// As those of an edit. The document is unchanged.
    pub fn begin(&mut self, author: Author) -> Result<bool, EditError> {
        if !self.is_empty() {
            return Ok(false);
        }
        let actor = self.live.unwrap_or(author.fresh_actor);
        let committed = self.history.begin(actor, author.device, author.wall_s)?;
        self.made_empty(actor, author.device, committed.bytes);
        Ok(true)
    }

    /// Joins heads if there are too many for one change to depend on: a member can make as many as it likes. The joins are local
    /// changes without operations. Says whether it made any.
    ///
    /// # Errors
    /// As those of an edit. The document is unchanged.
    pub fn join_heads(&mut self, author: Author) -> Result<bool, EditError> {
        if !self.history.has_too_many_heads() {
            return Ok(false);
        }
        let actor = self.live.unwrap_or(author.fresh_actor);
        let bytes = self.history.join_heads(actor, author.device, author.wall_s)?;
        self.made_empty(actor, author.device, bytes);
        Ok(true)
    }

    /// Takes note of local changes without operations.
    fn made_empty(&mut self, actor: ActorId, device: DeviceId, bytes: usize) {
        self.live = Some(actor);
        self.device = Some(device);
        self.tail.pending_bytes += bytes;
        if self.journal.is_kept() {
            self.journal.add(Step { patches: Vec::new(), heads: self.history.heads(), origin: Origin::Local });
        }
    }

    /// There is no change in it: it does not exist yet.
    pub fn is_empty(&self) -> bool {
        self.history.change_count() == 0
    }

    /// automerge has panicked in a local edit. What was in memory is thrown away; the document is to be dropped, neither read
    /// nor saved.
    pub fn is_damaged(&self) -> bool {
        self.history.is_damaged()
    }

    /// The raw bytes of the last local change, to be recorded.
    pub fn last_local_change(&self) -> Option<Vec<u8>> {
        self.history.last_local_change()
    }

    /// Takes a verified run (gate stages 1 to 5 passed) into the inbox.
    pub fn receive(&mut self, run: Run) {
        self.receive_read(run.header, Payload::read(run.payload), Intake::Always);
    }

    /// The same where the payload was read already. A run that is merged on demand waits for one as long as other runs wait that
    /// may build on it, and is left out then.
    pub fn receive_read(&mut self, header: RunHeader, payload: Result<Payload, Refusal>, intake: Intake) {
        self.inbox.put(header, payload, intake);
    }

    /// Bytes waiting in the inbox, orphans not counted.
    pub fn inbox_bytes(&self) -> usize {
        self.inbox.bytes()
    }

    /// Bytes of runs that wait for what they depend on.
    pub fn orphan_bytes(&self) -> usize {
        self.inbox.orphan_bytes()
    }

    /// Runs that wait for others that they depend on.
    pub fn orphans(&self) -> usize {
        self.inbox.orphans()
    }

    /// Runs that wait here may be in the store too. From now on it is noted what those waited for that are given up, and
    /// [`Settled::read_again`] tells when it was merged.
    pub fn note_what_is_given_up(&mut self) {
        self.inbox.note_what_is_given_up();
    }

    /// Gives up waiting runs until there are at most so many bytes of them. Says how many were given up.
    pub fn shrink_orphans(&mut self, bytes_max: usize) -> usize {
        self.inbox.shrink(bytes_max)
    }

    /// Applies the inbox, or begins to. While a merge runs this does nothing (`Settled::default()`), and edits and
    /// `receive` go on.
    pub fn settle(&mut self, guard: &dyn Guard) -> Settle {
        // Without its index it has to be rebuilt first.
        let heavy =
            self.history.ops() > INLINE_OPS_MAX || self.inbox.bytes() > INLINE_BATCH_BYTES_MAX || self.index.is_none();
        let Some(work) = self.begin_merge() else { return Settle::Done(Settled::default()) };
        let heavy = heavy || work.ops() > INLINE_BATCH_OPS_MAX || work.moves() > INLINE_OPS_MAX;
        if heavy && !work.candidates.is_empty() {
            return Settle::Work(work);
        }
        let merged = work.run(guard);
        Settle::Done(self.finish_merge(merged, guard))
    }

    /// As [`Self::settle`], but never does the work itself; `None` if there is none, or a merge runs.
    pub fn begin_merge(&mut self) -> Option<Box<MergeWork>> {
        if self.merging || self.inbox.is_empty() {
            return None;
        }
        self.harvest();
        self.retire_if_cloned();
        self.merging = true;
        let Taken { candidates, unwanted, refused, known } = self.inbox.take();
        Some(Box::new(MergeWork {
            space: self.space,
            document: self.id,
            history: self.history.clone(),
            index: self.index.take(),
            suspects: self.suspects.clone(),
            candidates,
            unwanted,
            follow: self.journal.is_kept(),
            refused,
            known,
        }))
    }

    /// Swaps in the merged copy, with the local changes made meanwhile.
    pub fn finish_merge(&mut self, merged: Merged, guard: &dyn Guard) -> Settled {
        let Merged { mut history, mut index, patches, mut outcome } = merged;
        self.harvest();
        self.merging = false;
        self.was_outrun = core::mem::take(&mut self.outrun);
        let mut meanwhile = core::mem::take(&mut self.meanwhile);
        let fits = if self.was_outrun {
            meanwhile.clear();
            index = None;
            false
        } else if outcome.accepted.is_empty() {
            true
        } else {
            match self.carry_over(&history, &meanwhile, guard) {
                Ok(None) => true,
                Ok(Some(both)) => {
                    history = both;
                    true
                }
                Err(reason) => {
                    tracing::warn!(document = %self.id, reason, "a merge did not go together with local changes");
                    index = None;
                    false
                }
            }
        };
        if !fits {
            for candidate in core::mem::take(&mut outcome.accepted) {
                self.inbox.put_back(candidate);
            }
        }
        if !outcome.accepted.is_empty() {
            // They lead on from what was merged into, which is not what a follower has seen if there were edits meanwhile.
            match patches.filter(|_| meanwhile.is_empty()) {
                Some(patches) => {
                    self.go_on_with(history);
                    self.journal.add(Step { patches, heads: self.history.heads(), origin: Origin::Remote });
                }
                None => self.adopt(history),
            }
            for (hash, deps) in core::mem::take(&mut outcome.applied) {
                advance(&mut self.signed_heads, deps, hash);
            }
        }
        self.index = index;
        self.add_to_index(meanwhile.into_iter().map(Change));
        for (header, refusal) in &outcome.refused {
            if *refusal == Refusal::Poisoned && self.suspects.guilty.len() < POISONED_REMEMBERED_MAX {
                self.suspects.guilty.insert(header.tip);
            }
        }
        self.clear_suspicion(&outcome);
        let waiting = outcome.waiting.iter().filter(|(candidate, _)| candidate.intake == Intake::Always).count();
        let evicted = self.inbox.keep_waiting(core::mem::take(&mut outcome.waiting));
        let left_out = self.inbox.leave_out();
        let read_again = self.inbox.gave_up_for(&outcome.accepted);
        let accepted = core::mem::take(&mut outcome.accepted).into_iter().map(|candidate| candidate.run).collect();
        let cloned = core::mem::take(&mut self.cloned);
        let Outcome { refused, known, .. } = outcome;
        Settled { accepted, refused, known, waiting, evicted, left_out, cloned, read_again }
    }

    /// A merge is running.
    pub fn is_busy(&self) -> bool {
        self.merging
    }

    /// The hashes that nothing depends on, sorted; local unsigned changes included.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.history.heads()
    }

    /// The hashes of signed changes that no other signed change depends on, sorted: what peers and the store may know of.
    pub fn signed_heads(&self) -> Vec<ChangeHash> {
        self.signed_heads.iter().copied().collect()
    }

    /// Last applied sequence number and tip of an actor.
    pub fn tip(&self, actor: &ActorId) -> Option<(u64, ChangeHash)> {
        self.history.tip(actor)
    }

    /// The hash of one applied change, by actor and sequence number.
    pub fn change_hash(&self, actor: &ActorId, seq: u64) -> Option<ChangeHash> {
        self.history.hash_of(actor, seq)
    }

    /// Operations held, in memory and in the store.
    pub fn ops(&self) -> u64 {
        self.history.ops()
    }

    /// Bytes of memory that the gate's index of the operations takes, about; zero while a merge has it.
    pub fn index_bytes(&self) -> usize {
        self.index.as_ref().map_or(0, OpIndex::bytes)
    }

    /// The document as it is or was, owned; or an error that names the first of `heads` that is not known here.
    pub fn snapshot(&self, heads: Option<&[ChangeHash]>) -> Result<Snapshot, UnknownHeads> {
        Snapshot::new(&self.history, heads)
    }

    /// What is new since the version `seen`. From the first call on, changes are kept as patches for a while, so that the next
    /// call costs what changed.
    ///
    /// # Errors
    /// Names the first of `seen` that is not known here.
    pub fn follow(&mut self, seen: &[ChangeHash]) -> Result<Followed, UnknownHeads> {
        match self.journal.since(seen, self.history.heads()) {
            Some(steps) => Ok(Followed::Steps(steps)),
            None => {
                self.snapshot(Some(seen))?;
                Ok(Followed::Compare(self.snapshot(None)?))
            }
        }
    }

    /// What to copy before the next edit, so that it does not copy it itself: see [`Shared`].
    pub fn shared(&self) -> Option<Shared> {
        self.history.shared()
    }

    /// Takes such a copy, if the document is still what was copied.
    pub fn own(&mut self, copy: Copied) {
        self.history.own(copy);
    }

    /// A read-only view of the present.
    pub fn view(&self) -> View<'_> {
        View::now(&self.history)
    }

    /// A read-only view of the past, or an error that names the first of `heads` that is not known here.
    pub fn view_at(&self, heads: &[ChangeHash]) -> Result<View<'_>, UnknownHeads> {
        View::at(&self.history, heads)
    }

    /// The merged history with the local changes made since the merge took its copy; `None` if there are none.
    fn carry_over(
        &self,
        merged: &History,
        meanwhile: &[am::Change],
        guard: &dyn Guard,
    ) -> Result<Option<History>, String> {
        // Not from what we write under now: that may have been retired since.
        let (Some(last), Some(device)) = (meanwhile.last(), self.device) else { return Ok(None) };
        let slot = Slot { space: self.space, document: self.id, tips: alloc::vec![ChangeHash(last.hash().0)] };
        merge::reapply(merged, meanwhile, device, &slot, guard).map(Some)
    }

    /// What was applied and did no harm was not what killed the process.
    fn clear_suspicion(&mut self, outcome: &Outcome) {
        for candidate in &outcome.accepted {
            self.suspects.apart.remove(&candidate.run.header.tip);
        }
    }

    /// Goes on with another copy of the history, in which every local change has been harvested.
    fn adopt(&mut self, history: History) {
        self.go_on_with(history);
        self.journal.interrupt(self.history.heads());
    }

    /// The same, where it is known what is new in it.
    fn go_on_with(&mut self, history: History) {
        self.history = history;
        self.cache.clear();
        self.tail.base = self.history.automerge().get_heads();
    }
}

/// A version was asked for that is not in this document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {0} is not in this document")]
pub struct UnknownHeads(pub ChangeHash);

const _: () = {
    const fn may_be_shared<T: Send + Sync>() {}
    may_be_shared::<Document>();
    may_be_shared::<MergeWork>();
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Bare;

    // A panic of automerge in a local edit was rolled back, on a document that automerge no longer keeps in order: what was
    // saved of it afterwards would not load.
    #[test]
    fn a_document_that_automerge_panicked_in_is_thrown_away() {
        let mut document = Document::empty(SpaceId([1; 32]), DocumentId([2; 16]));
        let author = Author { device: DeviceId([3; 32]), fresh_actor: ActorId([4; 16]), wall_s: 0 };
        document.edit(author, |edit| edit.set("/good", 1)).expect("a good edit");
        let failed = document.edit(author, |edit| {
            edit.panic_half_way();
            edit.set("/on", 2)
        });
        assert_eq!(failed, Err(EditError::Panicked));
        assert!(document.is_damaged());
        assert_eq!(document.edit(author, |edit| edit.set("/on", 3)), Err(EditError::Panicked));
        assert!(document.heads().is_empty() && document.take_unsigned().is_none());
    }

    // What was written while the merge ran was left out of the merged history when its actor had been retired meanwhile.
    #[test]
    fn what_an_actor_wrote_that_is_retired_during_a_merge_is_kept() {
        let (space, id) = (SpaceId([1; 32]), DocumentId([2; 16]));
        let author = |n: u8| Author { device: DeviceId([n; 32]), fresh_actor: ActorId([n; 16]), wall_s: 0 };
        let (mut ours, mut theirs) = (Document::empty(space, id), Document::empty(space, id));
        let key = crate::keys::SecretKey::from_seed(&[9; 32]);
        let them = Author { device: key.device(), ..author(5) };
        theirs.edit(them, |edit| edit.set("/text", "x".repeat(60_000))).expect("a good edit");
        let unsigned = theirs.take_unsigned().expect("something to sign");
        ours.edit(author(3), |edit| edit.set("/mine", 1)).expect("a good edit");
        ours.receive(Run::sign(&key, space, id, crate::id::AclHash([0; 32]), unsigned));
        let Settle::Work(work) = ours.settle(&Bare) else { panic!("it should have been heavy") };
        ours.edit(author(3), |edit| edit.set("/mine", 2)).expect("a good edit");
        ours.take_unsigned().expect("something to sign");
        assert!(ours.retire(&ActorId([3; 16])));
        let merged = work.run(&Bare);
        ours.finish_merge(merged, &Bare);
        assert_eq!(ours.view().get("/mine"), Some(2.into()));
        assert_eq!(ours.signed_heads().len(), 2);
        ours.edit(author(4), |edit| edit.set("/mine", 3)).expect("a good edit");
        assert_eq!(ours.take_unsigned().expect("something to sign").actor, ActorId([4; 16]));
    }
}
