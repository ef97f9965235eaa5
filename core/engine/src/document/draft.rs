//! Drafts: several changes of a document, made on a private copy away from the replica and published whole. All changes of a
//! draft are one signed run, and a run is stored, sent and merged as a whole or not at all: so everybody who has a draft has
//! all of it.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use automerge as am;

use crate::document::actors::Taking;
use crate::document::edit::{Cache, Edit, EditError};
use crate::document::history::{Change, History};
use crate::document::view::View;
use crate::document::{Author, merge};
use crate::gate::{Guard, Slot};
use crate::id::{ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::limits::{INLINE_BATCH_BYTES_MAX, INLINE_OPS_MAX, RUN_BYTES_MAX, RUN_CHANGES_MAX};
use crate::run::UnsignedRun;

/// Changes are taken out of automerge when about this many bytes of them have come together: one by one would cost a third of
/// making them, and all at once would take the memory for all of them twice.
const HARVEST_BYTES: usize = 1024 * 1024;
/// How often a draft is caught up away from the replica; after that it is published whatever that costs under the lock. A
/// document that is edited all the time is ahead again each time.
const CATCH_UPS_MAX: u32 = 3;

/// A private copy of a document, with changes that nobody else sees until they are published, all of them at once. Dropping it
/// discards them. At most `RUN_CHANGES_MAX` changes and `RUN_BYTES_MAX` bytes of them, for they become one run.
pub struct Draft {
    space: SpaceId,
    document: DocumentId,
    author: Author,
    /// As long as this is here, no other draft gets its actor.
    _taking: Arc<Taking>,
    history: History,
    cache: Cache,
    /// The document's heads when the draft was made, or last caught up with it.
    base: Vec<am::ChangeHash>,
    /// Last number and tip of the actor before the draft.
    before: Option<(u64, ChangeHash)>,
    /// Changes made, and their operations.
    changes: u64,
    ops: u64,
    /// Changes that were taken out of automerge, as they will be sent, and the last of them.
    payload: Vec<u8>,
    last: Option<(u64, ChangeHash)>,
    /// What they depend on, those of the draft included.
    deps: BTreeSet<ChangeHash>,
    /// Of the changes that are not taken out yet: about how many bytes, and what they come after.
    pending_bytes: usize,
    harvested: Vec<am::ChangeHash>,
    catch_ups: u32,
    /// Why it takes nothing more, if so.
    over: Option<DraftError>,
}

/// Why a draft cannot be published. The document is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// What the draft was made on is not in the document as it was opened again.
    #[error("change {0}, on which the draft was made, is not in the document: make the draft again")]
    BaseGone(ChangeHash),
    /// A copy of this process has used the draft's actor.
    #[error("a copy of this process has written as actor {0}: make the draft again")]
    Copied(ActorId),
    /// It was published before.
    #[error("the draft is published: make another one")]
    Published,
    /// It is larger than what peers take as a whole. It stays so: all that can be done is to drop it.
    #[error("the draft has {value} {unit}, limit {limit}")]
    TooLarge {
        /// How many.
        value: u64,
        /// `bytes`, `bytes of strings` (which are surely not all), `changes`
        unit: &'static str,
        /// What is allowed.
        limit: u64,
    },
    /// It does not go together with what the document has become, and is lost. A bug of ours.
    #[error("the draft does not go together with the document: {0}")]
    Internal(String),
}

/// A document that is ahead of a draft, where catching up takes long: [`Draft::catch_up`] does it away from the replica.
pub struct Ahead {
    history: History,
    guard: Arc<dyn Guard>,
}

/// What a document has beyond a draft, and its heads.
struct News {
    changes: Vec<(Change, DeviceId)>,
    heads: Vec<am::ChangeHash>,
}

/// A draft that has all that its document has.
pub(super) struct Finished {
    /// The document with the draft in it.
    pub history: History,
    pub run: DraftRun,
    pub device: DeviceId,
}

/// A draft's changes, to be signed as one run.
#[derive(Debug)]
pub(super) struct DraftRun {
    pub run: UnsignedRun,
    /// What they depend on that is not among them.
    pub deps: Vec<ChangeHash>,
    /// Their operations.
    pub ops: u64,
}

impl core::fmt::Debug for Draft {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Draft")
            .field("document", &self.document)
            .field("changes", &self.changes)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ahead").finish_non_exhaustive()
    }
}

impl DraftRun {
    /// Adding it to a table of every operation takes longer than a turn may.
    pub(super) fn is_heavy(&self) -> bool {
        self.ops > INLINE_OPS_MAX || self.run.payload.len() > INLINE_BATCH_BYTES_MAX
    }
}

impl Draft {
    pub(super) fn new(
        space: SpaceId,
        document: DocumentId,
        author: Author,
        taking: Arc<Taking>,
        history: History,
    ) -> Self {
        let base = history.automerge().get_heads();
        Self {
            space,
            document,
            author,
            _taking: taking,
            before: history.tip(&author.fresh_actor),
            history,
            cache: Cache::default(),
            harvested: base.clone(),
            base,
            changes: 0,
            ops: 0,
            payload: Vec::new(),
            last: None,
            deps: BTreeSet::new(),
            pending_bytes: 0,
            catch_ups: 0,
            over: None,
        }
    }

    /// The space.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The document.
    pub fn document(&self) -> DocumentId {
        self.document
    }

    /// Changes made in it.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Bytes of its changes; of the newest an estimate.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.pending_bytes
    }

    /// Reserves memory for this many bytes of changes, so that the buffer is not copied as it grows.
    pub fn reserve(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(RUN_BYTES_MAX);
        self.payload.reserve_exact(bytes.min(RUN_BYTES_MAX));
    }

    /// Its changes, to be recorded: raw chunks, one after the other.
    pub fn payload(&mut self) -> &[u8] {
        self.finish();
        &self.payload
    }

    /// Runs `f` and keeps what it did as one more change of the draft. If `f` fails, the draft is as before.
    ///
    /// # Errors
    /// `f`'s, or a limit of a change. [`EditError::Draft`] says that the whole draft is too large, published or lost.
    pub fn edit<T, E: From<EditError>>(&mut self, f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>) -> Result<T, E> {
        self.may_grow(self.changes + 1)?;
        let Author { device, fresh_actor: actor, wall_s } = self.author;
        let (value, committed) = self.history.edit(actor, device, wall_s, &mut self.cache, false, f)?;
        let Some(committed) = committed else { return Ok(value) };
        self.changes += 1;
        match committed.change {
            // It was taken out already.
            Some(change) if self.pending_bytes == 0 => {
                self.keep(&change);
                self.harvested = self.history.automerge().get_heads();
            }
            Some(_) | None => self.pending_bytes += committed.bytes,
        }
        if self.pending_bytes > HARVEST_BYTES || self.bytes() > RUN_BYTES_MAX {
            self.finish();
            self.may_grow(self.changes)?;
        }
        Ok(value)
    }

    /// The document with the draft's changes.
    pub fn view(&self) -> View<'_> {
        View::now(&self.history)
    }

    /// Takes its changes out of automerge, so that nothing is left to do when it is published.
    pub fn finish(&mut self) {
        if self.pending_bytes > 0 {
            self.harvest();
        }
    }

    /// Takes in what the document has beyond the draft. May take long.
    ///
    /// # Errors
    /// The two do not go together. The draft is lost.
    pub fn catch_up(&mut self, ahead: Ahead) -> Result<(), DraftError> {
        self.finish();
        self.catch_ups += 1;
        let Ahead { history, guard } = ahead;
        let news = self.news(&history);
        // As long as it is shared, whoever edits the document has to copy it.
        drop(history);
        self.merge(news, &*guard)
    }

    fn may_grow(&self, changes: u64) -> Result<(), EditError> {
        if let Some(over) = &self.over {
            return Err(EditError::Draft(over.clone()));
        }
        self.check_size(changes).map_err(EditError::Draft)
    }

    fn check_size(&self, changes: u64) -> Result<(), DraftError> {
        let over = |value: u64, unit, limit: u64| DraftError::TooLarge { value, unit, limit };
        if changes > RUN_CHANGES_MAX {
            return Err(over(changes, "changes", RUN_CHANGES_MAX));
        }
        if self.payload.len() > RUN_BYTES_MAX {
            return Err(over(self.payload.len() as u64, "bytes", RUN_BYTES_MAX as u64));
        }
        Ok(())
    }

    fn harvest(&mut self) {
        self.pending_bytes = 0;
        for change in self.history.since(&self.harvested) {
            self.keep(&change);
        }
        self.harvested = self.history.automerge().get_heads();
    }

    fn keep(&mut self, change: &Change) {
        self.deps.extend(change.deps());
        self.ops += change.0.len() as u64;
        self.payload.extend_from_slice(change.bytes());
        self.last = Some((change.seq(), change.hash()));
    }

    /// What `live` has beyond the draft.
    fn news(&self, live: &History) -> News {
        News { changes: live.news_since(&self.base), heads: live.automerge().get_heads() }
    }

    /// Goes on with what is new. All changes of the draft have been taken out.
    fn merge(&mut self, News { changes, heads }: News, guard: &dyn Guard) -> Result<(), DraftError> {
        if !changes.is_empty() {
            let tips = self.last.iter().map(|(_, tip)| *tip).collect();
            let slot = Slot { space: self.space, document: self.document, tips };
            let merged = merge::apply(core::mem::take(&mut self.history), changes, &slot, guard);
            self.history = merged.map_err(|reason| self.over.insert(DraftError::Internal(reason)).clone())?;
            self.cache.clear();
        }
        self.base = heads;
        self.harvested = self.history.automerge().get_heads();
        Ok(())
    }

    /// Whether there is anything in it; an error if it cannot be published on `live`.
    pub(super) fn check(&mut self, live: &History) -> Result<bool, DraftError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        if self.history.is_damaged() {
            return Err(DraftError::Internal(EditError::Panicked.to_string()));
        }
        self.finish();
        self.check_size(self.changes)?;
        if self.changes == 0 {
            return Ok(false);
        }
        let known = |hash: &&am::ChangeHash| live.has(&ChangeHash(hash.0));
        if let Some(gone) = self.base.iter().find(|hash| !known(hash)) {
            return Err(DraftError::BaseGone(ChangeHash(gone.0)));
        }
        if live.tip(&self.author.fresh_actor) != self.before {
            return Err(DraftError::Copied(self.author.fresh_actor));
        }
        Ok(true)
    }

    /// Whether it should be caught up away from the replica first.
    pub(super) fn is_far_behind(&self, live: &History) -> bool {
        self.catch_ups < CATCH_UPS_MAX
            && (self.history.ops().max(live.ops()) > INLINE_OPS_MAX || self.payload.len() > INLINE_BATCH_BYTES_MAX)
            && self.base != live.automerge().get_heads()
    }

    /// Hands itself over, caught up with `live`.
    pub(super) fn hand_over(&mut self, live: &History, guard: &dyn Guard) -> Result<Finished, DraftError> {
        self.merge(self.news(live), guard)?;
        self.over = Some(DraftError::Published);
        let actor = self.author.fresh_actor;
        let (last_seq, tip) = self.last.take().ok_or(DraftError::Published)?;
        let first_seq = self.before.map_or(0, |(seq, _)| seq) + 1;
        let payload = core::mem::take(&mut self.payload);
        let run = UnsignedRun { actor, first_seq, last_seq, tip, payload };
        let deps = core::mem::take(&mut self.deps).into_iter().collect();
        let run = DraftRun { run, deps, ops: self.ops };
        Ok(Finished { history: core::mem::take(&mut self.history), run, device: self.author.device })
    }
}

impl Ahead {
    pub(crate) fn new(history: History, guard: Arc<dyn Guard>) -> Self {
        Self { history, guard }
    }
}

const _: () = {
    const fn may_be_sent<T: Send>() {}
    may_be_sent::<Draft>();
    may_be_sent::<Ahead>();
};
