//! One resident document: its history, the local changes not yet signed, the runs from peers not yet applied. It knows no
//! other document, no peer and no engine, so that a copy of it can be handed to a worker.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Weak;
use alloc::vec::Vec;

use automerge as am;

use crate::gate::envelope::Candidate;
use crate::gate::validator::OpIndex;
use crate::gate::{Guard, Payload, Refusal, Slot};
use crate::id::{ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::limits::{
    INLINE_BATCH_BYTES_MAX, INLINE_OPS_MAX, POISONED_REMEMBERED_MAX, RUN_CHANGES_MAX, RUN_SHARED_BYTES_MAX,
};
use crate::run::{Run, RunHeader, UnsignedRun};

mod difference;
pub mod draft;
pub mod edit;
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
mod value;
pub mod view;
pub mod work;

pub use draft::{Ahead, Draft, DraftError};
pub use edit::{Edit, EditError};
pub use history::{Copied, Shared};
pub use journal::{Followed, Origin, Step};
pub use line_diff::TextChange;
pub use lost::{LOST_EDITS_MAX, LostEdit, Writer};
pub use open::OpenWork;
pub use patch::{Patch, PatchAction, PatchMisfit};
pub use path::{IntoPath, Path, PathError};
pub use publish::Publish;
pub use serde_json::Value as Json;
pub use typed::TypedError;
pub use value::{Strings, Value};
pub use view::{ChangeInfo, Conflict, Snapshot, View};

use draft::DraftRun;
use edit::Cache;
use history::{Change, History};
use inbox::{Inbox, Taken};
use journal::Journal;
use merge::{Merger, Outcome, Suspects, Trust};

/// Actors kept for drafts: as many as are open on one document at once, in all likelihood.
const SPARE_ACTORS_MAX: usize = 16;

/// One document in memory.
pub struct Document {
    space: SpaceId,
    id: DocumentId,
    history: History,
    journal: Journal,
    cache: Cache,
    /// The actor that local changes are made under, from the first one of this process on.
    live: Option<ActorId>,
    /// Actors of this process that wrote here before the one that does now: drafts go on with them, so that there are few.
    spare: Vec<Spare>,
    tail: Tail,
    /// The hashes of signed changes that no other signed change depends on.
    signed_heads: BTreeSet<ChangeHash>,
    inbox: Inbox,
    suspects: Suspects,
    /// Tips of stored runs that broke the merge when this document was opened, or before.
    left_out: Vec<ChangeHash>,
    /// Every operation of the history but those of local changes not taken out yet, for the gate. A running merge has it;
    /// when it is lost it is made anew.
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

/// Local changes that no run has taken yet. They are taken out of automerge not one by one but when a run is wanted, or a
/// merge begins: taking each out as it is made would cost a third of making it.
#[derive(Debug, Default)]
struct Tail {
    /// Taken out.
    harvested: VecDeque<Unsigned>,
    harvested_bytes: usize,
    /// Not taken out: about how many bytes they are. Zero if there are none.
    pending_bytes: usize,
    /// All that is not at or below these is not taken out yet.
    base: Vec<am::ChangeHash>,
}

/// Something for a run.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are changes, and a box for each would be one more allocation an edit"
)]
enum Unsigned {
    /// A change, which may share its run with its neighbours.
    Change(Change),
    /// A draft, which is a run by itself.
    Draft(Box<DraftRun>),
}

/// An actor that a draft may write under.
struct Spare {
    actor: ActorId,
    /// Of the draft that does, as long as there is one.
    taken: Weak<Taking>,
}

/// What a draft holds of an actor that it has taken.
#[derive(Debug)]
struct Taking;

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

/// An actor that local changes were made under, and its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnActor {
    /// The actor.
    pub actor: ActorId,
    /// The number of its last change.
    pub seq: u64,
    /// And the hash.
    pub tip: ChangeHash,
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
    /// Of those in the inbox, how many have to wait for others that they depend on, if the limits leave them.
    pub waiting: usize,
    /// Waiting runs, these or earlier ones, that were pushed out by the limits. They are found again by reconciliation.
    pub evicted: usize,
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
    /// Merges the batch into a copy.
    pub fn run(self, guard: &dyn Guard) -> Merged {
        let Self { space, document, history, index, suspects, candidates, follow, refused, known } = self;
        let mut merger = Merger::new(space, document, Trust::Peer, &suspects, guard, index).followed(follow);
        merger.outcome.refused = refused;
        merger.outcome.known = known;
        let history = merger.merge(history, candidates);
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
        self.device = Some(author.device);
        self.tail.pending_bytes += committed.bytes;
        if let Some(patches) = committed.patches {
            self.journal.add(Step { patches, heads: self.history.heads(), origin: Origin::Local });
        }
        Ok((value, true))
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
        self.live = Some(actor);
        self.device = Some(author.device);
        self.tail.pending_bytes += committed.bytes;
        if self.journal.is_kept() {
            self.journal.add(Step { patches: Vec::new(), heads: self.history.heads(), origin: Origin::Local });
        }
        Ok(true)
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

    /// Local changes are made under this actor from now on.
    fn write_under(&mut self, actor: ActorId) {
        self.spare.retain(|spare| spare.actor != actor);
        let before = self.live.replace(actor).filter(|before| *before != actor);
        let before = before.filter(|_| self.spare.len() < SPARE_ACTORS_MAX);
        self.spare.extend(before.map(|actor| Spare { actor, taken: Weak::new() }));
    }

    /// The raw bytes of the last local change, to be recorded.
    pub fn last_local_change(&self) -> Option<Vec<u8>> {
        self.history.last_local_change()
    }

    /// Raw bytes of local changes that no run has taken yet; an estimate for the newest, never zero if there are any.
    pub fn unsigned_bytes(&self) -> usize {
        self.tail.harvested_bytes + self.tail.pending_bytes
    }

    /// Takes local changes for signing; `None` if there are none. A draft by itself; of others at most `RUN_CHANGES_MAX` changes
    /// and `RUN_SHARED_BYTES_MAX` bytes at a time: call until `None`.
    pub fn take_unsigned(&mut self) -> Option<UnsignedRun> {
        self.harvest();
        let first = match self.tail.harvested.front()? {
            Unsigned::Change(first) => first,
            Unsigned::Draft(_) => return self.take_draft(),
        };
        let (actor, first_seq) = (first.actor()?, first.seq());
        let mut run = UnsignedRun { actor, first_seq, last_seq: 0, tip: first.hash(), payload: Vec::new() };
        while let Some(Unsigned::Change(change)) = self.tail.harvested.front() {
            let count = change.seq().checked_sub(first_seq);
            let full = !run.payload.is_empty() && run.payload.len() + change.bytes().len() > RUN_SHARED_BYTES_MAX;
            if change.actor() != Some(actor) || full || count.is_none_or(|count| count >= RUN_CHANGES_MAX) {
                break;
            }
            run.last_seq = change.seq();
            run.tip = change.hash();
            run.payload.extend_from_slice(change.bytes());
            advance(&mut self.signed_heads, change.deps(), change.hash());
            self.tail.harvested_bytes -= change.bytes().len();
            self.tail.harvested.pop_front();
        }
        Some(run)
    }

    /// For a mutant: the first draft becomes two. Says whether there was one of several changes.
    pub(crate) fn split_draft(&mut self) -> bool {
        self.harvest();
        let drafts = |unsigned: &Unsigned| matches!(unsigned, Unsigned::Draft(_));
        let Some(at) = self.tail.harvested.iter().position(drafts) else { return false };
        let Some(Unsigned::Draft(draft)) = self.tail.harvested.get_mut(at) else { return false };
        let Ok(payload) = Payload::read(draft.run.payload.clone()) else { return false };
        let [.., before, last] = payload.links() else { return false };
        let rest = draft.run.payload.split_off(last.range.start);
        let first_seq = core::mem::replace(&mut draft.run.last_seq, before.seq);
        let tip = core::mem::replace(&mut draft.run.tip, before.hash);
        let run = UnsignedRun { actor: draft.run.actor, first_seq, last_seq: first_seq, tip, payload: rest };
        let second = DraftRun { run, deps: last.deps.clone(), ops: last.ops };
        self.tail.harvested.insert(at + 1, Unsigned::Draft(Box::new(second)));
        at == 0
    }

    fn take_draft(&mut self) -> Option<UnsignedRun> {
        let Unsigned::Draft(draft) = self.tail.harvested.pop_front()? else { return None };
        let DraftRun { run, deps, .. } = *draft;
        self.tail.harvested_bytes -= run.payload.len();
        advance(&mut self.signed_heads, deps, run.tip);
        Some(run)
    }

    /// Takes a verified run (gate stages 1 to 5 passed) into the inbox.
    pub fn receive(&mut self, run: Run) {
        self.inbox.put(run.header, Payload::read(run.payload));
    }

    /// The same where the payload was read already.
    pub fn receive_read(&mut self, header: RunHeader, payload: Payload) {
        self.inbox.put(header, Ok(payload));
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
        let Taken { candidates, refused, known } = self.inbox.take();
        Some(Box::new(MergeWork {
            space: self.space,
            document: self.id,
            history: self.history.clone(),
            index: self.index.take(),
            suspects: self.suspects.clone(),
            candidates,
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
        let waiting = outcome.waiting.len();
        let evicted = self.inbox.keep_waiting(core::mem::take(&mut outcome.waiting));
        let read_again = self.inbox.gave_up_for(&outcome.accepted);
        let accepted = core::mem::take(&mut outcome.accepted).into_iter().map(|candidate| candidate.run).collect();
        let cloned = core::mem::take(&mut self.cloned);
        Settled { accepted, refused: outcome.refused, known: outcome.known, waiting, evicted, cloned, read_again }
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

    /// Takes the local changes out of automerge that have not been taken out yet.
    fn harvest(&mut self) {
        if self.tail.pending_bytes > 0 {
            self.tail.pending_bytes = 0;
            let new = self.history.since(&self.tail.base);
            self.add_to_index(new.iter());
            self.keep_harvested(new);
        }
    }

    /// Adds local changes to the index, if it is here.
    fn add_to_index(&mut self, changes: impl IntoIterator<Item = impl core::borrow::Borrow<Change>>) {
        if let Some(mut index) = self.index.take() {
            let mut changes = changes.into_iter();
            match changes.try_for_each(|change| change.borrow().add_to(&mut index, &self.history)) {
                Ok(()) => self.index = Some(index),
                Err(refusal) => {
                    tracing::warn!(document = %self.id, %refusal, "a local change is not in the index");
                }
            }
        }
    }

    fn keep_harvested(&mut self, new: Vec<Change>) {
        for change in new {
            if self.merging {
                self.meanwhile.push(change.0.clone());
            }
            self.tail.harvested_bytes += change.bytes().len();
            self.tail.harvested.push_back(Unsigned::Change(change));
        }
        self.tail.base = self.history.automerge().get_heads();
    }

    /// A run of our own device under an actor of this process that we have not made: this process is a copy of another one, and
    /// the two would go on numbering their changes alike. From now on we write under another actor.
    fn retire_if_cloned(&mut self) {
        let Some(device) = self.device else { return };
        let ours: Vec<ActorId> = self.live.into_iter().chain(self.spare.iter().map(|spare| spare.actor)).collect();
        for actor in ours {
            let last = self.history.tip(&actor).map_or(0, |(seq, _)| seq);
            if self.inbox.has_beyond(&actor, last, &device) {
                self.retire(&actor);
                self.cloned = true;
            }
        }
    }

    /// What local changes are made under, and what the next draft would be.
    pub fn writers(&self) -> Vec<OwnActor> {
        let writer = |actor: ActorId| {
            let (seq, tip) = self.history.tip(&actor)?;
            Some(OwnActor { actor, seq, tip })
        };
        // Not those of drafts that are still being made.
        let spare = self.spare.iter().rfind(|spare| spare.taken.strong_count() == 0);
        self.live.into_iter().chain(spare.map(|spare| spare.actor)).filter_map(writer).collect()
    }

    /// Goes on under actors of this process, those of which the document holds all that they wrote and nothing else under their
    /// name. A document that was just opened.
    pub fn resume(&mut self, device: DeviceId, writers: &[OwnActor]) {
        for OwnActor { actor, seq, tip } in writers {
            let is_whole = self.history.tip(actor) == Some((*seq, *tip)) && self.history.device(actor) == Some(device);
            if !is_whole {
                continue;
            }
            self.device = Some(device);
            match self.live {
                None => self.live = Some(*actor),
                Some(_) => self.spare.push(Spare { actor: *actor, taken: Weak::new() }),
            }
        }
    }

    /// Local changes are made under a fresh actor from now on, if they were made under this one. Says whether they were.
    pub(crate) fn retire(&mut self, actor: &ActorId) -> bool {
        let spares = self.spare.len();
        self.spare.retain(|spare| spare.actor != *actor);
        self.live.take_if(|live| live == actor).is_some() || self.spare.len() < spares
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

/// Moves heads on by one change.
fn advance(heads: &mut BTreeSet<ChangeHash>, deps: impl IntoIterator<Item = ChangeHash>, hash: ChangeHash) {
    for dep in deps {
        heads.remove(&dep);
    }
    heads.insert(hash);
}

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
