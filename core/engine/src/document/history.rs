//! The history of one document: the one place that holds an automerge document, applies changes to it and takes changes out
//! of it. Keeps what automerge does not tell cheaply: each actor's change hashes, the device it is bound to, the greatest
//! operation counter.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use automerge as am;
use automerge::ReadDoc;
use automerge::transaction::CommitOptions;

use crate::document::edit::{Cache, Edit, EditError, Room};
use crate::document::patch::{self, Patch};
use crate::document::view::ChangeInfo;
use crate::gate::validator::OpIndex;
use crate::gate::{Refusal, inspector};
use crate::id::{ActorId, ChangeHash, DeviceId};
use crate::limits::{
    CHANGE_BYTES_MAX, CHANGE_DEPS_MAX, CHANGE_OPS_MAX, COUNTER_GAP_MAX, DOCUMENT_ACTORS_MAX,
    DOCUMENT_ACTORS_PER_DEVICE_MAX, DOCUMENT_OPS_MAX, INLINE_OPS_MAX, OP_COUNTER_MAX,
};

/// A document's history. Cloning is cheap and shares everything; whoever changes a shared one makes its own copy first.
#[derive(Clone, Debug)]
pub(crate) struct History {
    am: Arc<am::Automerge>,
    actors: Arc<Actors>,
    max_op: u64,
    heads: usize,
    /// Some text has marks. Our edits make none, but other programs do.
    has_marks: bool,
    /// automerge has panicked in a local edit. The document that it left is thrown away, and this is empty.
    damaged: bool,
}

/// What is known of an actor.
#[derive(Clone, Debug, Default)]
struct Actor {
    /// The device that alone may vouch for it: its author, or the first that did.
    device: Option<DeviceId>,
    /// Hash of each change, the one with sequence number 1 first.
    hashes: Vec<ChangeHash>,
}

/// Who wrote.
#[derive(Clone, Debug, Default)]
struct Actors {
    known: BTreeMap<ActorId, Actor>,
    /// How many of them are bound to each device.
    of_device: BTreeMap<DeviceId, usize>,
}

impl Actors {
    /// Takes note of an actor's next change, which the device vouches for. Says its number.
    fn next(&mut self, actor: ActorId, device: DeviceId, hash: ChangeHash) -> u64 {
        let entry = self.known.entry(actor).or_default();
        if entry.device.is_none() {
            entry.device = Some(device);
            *self.of_device.entry(device).or_default() += 1;
        }
        entry.hashes.push(hash);
        entry.hashes.len() as u64
    }
}

/// What the envelope asks about an applied change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub max_op: u64,
    pub deps: Vec<ChangeHash>,
}

/// A local change that was kept.
#[derive(Debug)]
pub(crate) struct Committed {
    /// About how many bytes it has, raw.
    pub bytes: usize,
    /// The change, where it was looked at.
    pub change: Option<Change>,
    /// What it did to the content, where that was asked for.
    pub patches: Option<Vec<Patch>>,
}

/// A history that grows by changes from elsewhere, which must come after what they depend on; copied first if it is shared.
/// They are applied a group at a time: while automerge applies a change, it takes hundreds of bytes for each of its operations.
/// After an error it must be dropped.
///
/// Adding and finishing may panic: call them under the guard, with changes that have passed the gate.
pub(crate) struct Growing {
    history: History,
    /// Those that are not applied yet, and how much they are.
    group: Vec<am::Change>,
    bytes: usize,
    ops: u64,
    /// What they did to the content, where that is asked for.
    patches: Option<Vec<Patch>>,
}

/// A group is applied once it has this many bytes.
const GROUP_BYTES: usize = 512 * 1024;
/// Or this many operations. A piece of an import has about as many.
const GROUP_OPS: u64 = 50_000;
/// But only once a group has at least a 16th of the document's operations: applying takes time for those too, some 0.1 us each.
const GROUP_PART: u64 = 16;
/// At most as many as the largest change has. Measured: an operation takes some 590 bytes while it is applied, 118 MB in all.
const GROUP_OPS_MAX: u64 = CHANGE_OPS_MAX;

impl Growing {
    /// `follow` asks for patches.
    pub(crate) fn new(history: History, follow: bool) -> Self {
        Self { history, group: Vec::new(), bytes: 0, ops: 0, patches: follow.then(Vec::new) }
    }

    /// One of the changes that are added has marks.
    pub(crate) fn note_marks(&mut self, has_marks: bool) {
        self.history.has_marks |= has_marks;
    }

    /// Adds a change. `device` vouches for it.
    ///
    /// # Errors
    /// It is not its actor's next, or automerge does not take it.
    pub(crate) fn add(&mut self, change: Change, device: DeviceId) -> Result<(), String> {
        let actor = change.actor().ok_or_else(|| String::from("an actor is not 16 bytes"))?;
        let history = &mut self.history;
        if Arc::make_mut(&mut history.actors).next(actor, device, change.hash()) != change.seq() {
            return Err(alloc::format!("change {} of an actor is not its next", change.seq()));
        }
        history.max_op = history.max_op.max(change.0.max_op());
        let (bytes, ops) = (change.bytes().len(), change.0.len() as u64);
        let is_full = self.bytes + bytes > GROUP_BYTES || self.ops + ops > GROUP_OPS;
        if is_full && self.ops > (self.history.ops() / GROUP_PART).min(GROUP_OPS_MAX) {
            self.apply()?;
        }
        self.bytes += bytes;
        self.ops += ops;
        self.group.push(change.0);
        Ok(())
    }

    /// The history with all of them, and the patches.
    ///
    /// # Errors
    /// automerge does not take them.
    pub(crate) fn finish(mut self) -> Result<(History, Option<Vec<Patch>>), String> {
        self.apply()?;
        self.history.heads = self.history.am.get_heads().len();
        Ok((self.history, self.patches))
    }

    fn apply(&mut self) -> Result<(), String> {
        let group = core::mem::take(&mut self.group);
        (self.bytes, self.ops) = (0, 0);
        if group.is_empty() {
            return Ok(());
        }
        let (before, count) = (self.history.change_count(), group.len() as u64);
        let am = Arc::make_mut(&mut self.history.am);
        if group.len() > 1 {
            // Where values are put and removed at one place at the same time, automerge 0.12 may log one that lost if the changes
            // come together (3 of 4,000 random histories of two keys). One by one its patches are right, but each change takes
            // time in what the document holds, as long as comparing two versions: whoever follows compares.
            self.patches = None;
        }
        let mut log = if self.patches.is_some() { am::PatchLog::active() } else { am::PatchLog::inactive() };
        am.apply_changes_log_patches(group, &mut log).map_err(|error| error.to_string())?;
        let applied = am.stats().num_changes - before;
        if applied != count {
            return Err(alloc::format!("automerge applied {applied} of {count} changes"));
        }
        if let Some(patches) = &mut self.patches {
            patches.extend(patch::from_automerge(am, am.make_patches(&mut log)));
        }
        Ok(())
    }
}

/// A document in memory that somebody reads or merges into, so that an edit has to copy it first.
#[derive(Debug)]
pub struct Shared(Arc<am::Automerge>);

/// A copy made ahead of that edit.
#[derive(Debug)]
pub struct Copied {
    of: Shared,
    made: am::Automerge,
}

impl Shared {
    /// Copies it, on whatever thread. Measured: 12 ms for 260,000 operations.
    pub fn copy(self) -> Copied {
        let made = (*self.0).clone();
        Copied { of: self, made }
    }
}

/// How many operations a document has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpsLeft {
    pub left: u64,
    /// Those that it may have in all.
    pub limit: u64,
}

/// A change, out of or on its way into a history.
#[derive(Clone, Debug)]
pub(crate) struct Change(pub(crate) am::Change);

/// Most local changes are surely small, and are not looked at again: these many operations and bytes of values and keys
/// cannot exceed any limit (an operation costs at most about 40 bytes besides them).
const SURELY_SMALL_OPS: u64 = 1_000;
const SURELY_SMALL_BYTES: u64 = CHANGE_BYTES_MAX as u64 / 4;
/// Bytes of a change besides its values and keys, about.
const CHANGE_BYTES: usize = 120;

impl Change {
    pub(crate) fn hash(&self) -> ChangeHash {
        ChangeHash(self.0.hash().0)
    }

    pub(crate) fn seq(&self) -> u64 {
        self.0.seq()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.raw_bytes()
    }

    pub(crate) fn deps(&self) -> impl Iterator<Item = ChangeHash> {
        self.0.deps().iter().map(|hash| ChangeHash(hash.0))
    }

    pub(crate) fn actor(&self) -> Option<ActorId> {
        actor_from(self.0.actor_id())
    }

    /// Adds it to the index of a history that has what it depends on. It has been through the gate, or is our own.
    pub(crate) fn add_to(&self, index: &mut OpIndex, history: &History) -> Result<(), Refusal> {
        let chunk = inspector::inspect_again(self.bytes(), self.hash(), self.0.len() as u64)?;
        index.add(&chunk, &|hash| history.place(hash))
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            am: Arc::new(am::Automerge::new_with_encoding(am::TextEncoding::UnicodeCodePoint)),
            actors: Arc::default(),
            max_op: 0,
            heads: 0,
            has_marks: false,
            damaged: false,
        }
    }
}

impl History {
    pub(crate) fn automerge(&self) -> &am::Automerge {
        &self.am
    }

    /// A copy that shares nothing, to take the place of this one before an edit, which would have to make it in the lock; `None`
    /// if nobody shares it, or copying it is quick.
    pub(crate) fn shared(&self) -> Option<Shared> {
        let is_shared = Arc::strong_count(&self.am) > 1;
        (is_shared && self.ops() > INLINE_OPS_MAX).then(|| Shared(self.am.clone()))
    }

    /// Goes on with a copy, if it is one of this.
    pub(crate) fn own(&mut self, copy: Copied) {
        if Arc::ptr_eq(&self.am, &copy.of.0) {
            drop(copy.of);
            self.am = Arc::new(copy.made);
        }
    }

    pub(crate) fn heads(&self) -> Vec<ChangeHash> {
        self.am.get_heads().iter().map(|hash| ChangeHash(hash.0)).collect()
    }

    /// Whether a version is the newest one. All of its heads have to be here.
    pub(crate) fn is_newest(&self, version: &[ChangeHash]) -> bool {
        self.am.get_heads().iter().all(|head| version.iter().any(|seen| seen.0 == head.0))
    }

    pub(crate) fn has(&self, hash: &ChangeHash) -> bool {
        self.meta(hash).is_some()
    }

    pub(crate) fn meta(&self, hash: &ChangeHash) -> Option<Meta> {
        let meta = self.am.get_change_meta_by_hash(&am::ChangeHash(hash.0))?;
        Some(Meta { max_op: meta.max_op, deps: meta.deps.iter().map(|hash| ChangeHash(hash.0)).collect() })
    }

    /// When an applied change was made, as its author's clock said.
    pub(crate) fn time_of(&self, hash: &am::ChangeHash) -> Option<i64> {
        self.am.get_change_meta_by_hash(hash).map(|meta| meta.timestamp)
    }

    /// The actor of an applied change, and its sequence number.
    pub(crate) fn place(&self, hash: &ChangeHash) -> Option<(ActorId, u64)> {
        let meta = self.am.get_change_meta_by_hash(&am::ChangeHash(hash.0))?;
        Some((actor_from(&meta.actor)?, meta.seq))
    }

    /// Last sequence number and tip.
    pub(crate) fn tip(&self, actor: &ActorId) -> Option<(u64, ChangeHash)> {
        let hashes = &self.actors.known.get(actor)?.hashes;
        Some((hashes.len() as u64, *hashes.last()?))
    }

    pub(crate) fn hash_of(&self, actor: &ActorId, seq: u64) -> Option<ChangeHash> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.actors.known.get(actor)?.hashes.get(index).copied()
    }

    pub(crate) fn device(&self, actor: &ActorId) -> Option<DeviceId> {
        self.actors.known.get(actor)?.device
    }

    pub(crate) fn has_actor(&self, actor: &ActorId) -> bool {
        self.actors.known.contains_key(actor)
    }

    pub(crate) fn actor_count(&self) -> usize {
        self.actors.known.len()
    }

    /// How many actors are bound to a device.
    pub(crate) fn actors_of(&self, device: &DeviceId) -> usize {
        self.actors.of_device.get(device).copied().unwrap_or(0)
    }

    pub(crate) fn ops(&self) -> u64 {
        self.am.stats().num_ops
    }

    pub(crate) fn change_count(&self) -> u64 {
        self.am.stats().num_changes
    }

    /// Every change up to a version, each after those it depends on.
    pub(crate) fn changes_up_to(&self, at: Option<&[am::ChangeHash]>) -> Vec<ChangeInfo> {
        let excluded: alloc::collections::BTreeSet<am::ChangeHash> = match at {
            None => Default::default(),
            Some(heads) => self.am.get_changes_meta(heads).iter().map(|meta| meta.hash).collect(),
        };
        self.am
            .get_changes_meta(&[])
            .into_iter()
            .filter(|meta| !excluded.contains(&meta.hash))
            .filter_map(|meta| self.info(meta))
            .collect()
    }

    /// One change, if it is in the document.
    pub(crate) fn change(&self, hash: &ChangeHash) -> Option<ChangeInfo> {
        self.info(self.am.get_change_meta_by_hash(&am::ChangeHash(hash.0))?)
    }

    fn info(&self, meta: am::ChangeMetadata<'_>) -> Option<ChangeInfo> {
        let actor = actor_from(&meta.actor)?;
        Some(ChangeInfo {
            hash: ChangeHash(meta.hash.0),
            actor,
            device: self.device(&actor),
            seq: meta.seq,
            wall_s: meta.timestamp,
            deps: meta.deps.iter().map(|hash| ChangeHash(hash.0)).collect(),
            ops: (meta.max_op + 1).saturating_sub(meta.start_op),
            message: meta.message.map(|message| message.to_string()),
        })
    }

    /// automerge has panicked in a local edit: there is nothing here any more.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Runs `f` as one local change of `actor`, on top of all that is here; `None` if it did nothing. If it fails, nothing is
    /// changed; if automerge panics in it and somebody catches that, all is thrown away. `follow` asks for its patches.
    pub(crate) fn edit<T, E: From<EditError>>(
        &mut self,
        actor: ActorId,
        device: DeviceId,
        wall_s: i64,
        cache: &mut Cache,
        follow: bool,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<Committed>), E> {
        self.make(actor, device, wall_s, None, cache, follow, f)
    }

    /// The same at an older version, of at most [`CHANGE_DEPS_MAX`] heads, which has all changes of `actor`. Patches are made only
    /// where that takes little time.
    pub(crate) fn edit_at<T, E: From<EditError>>(
        &mut self,
        actor: ActorId,
        device: DeviceId,
        wall_s: i64,
        version: &[ChangeHash],
        follow: bool,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<Committed>), E> {
        if self.has_marks {
            // automerge 0.12 may put a character behind a mark that the version has not, and no peer would take that.
            return Err(EditError::Marked.into());
        }
        let behind = self.max_op.saturating_sub(self.max_op_of(version));
        if behind > COUNTER_GAP_MAX {
            return Err(EditError::FarBehind { value: behind, limit: COUNTER_GAP_MAX }.into());
        }
        let before = (follow && self.ops() <= INLINE_OPS_MAX).then(|| self.am.get_heads());
        let version: Vec<am::ChangeHash> = version.iter().map(|head| am::ChangeHash(head.0)).collect();
        let mut cache = Cache::default();
        let (value, mut committed) = self.make(actor, device, wall_s, Some(&version), &mut cache, false, f)?;
        if let Some(committed) = &mut committed {
            let now = self.am.get_heads();
            self.heads = now.len();
            // Those of the transaction are at the positions of its version.
            committed.patches = before.map(|before| patch::between(&self.am, &before, &now));
        }
        Ok((value, committed))
    }

    /// The greatest operation counter of these changes and all that they depend on.
    fn max_op_of(&self, version: &[ChangeHash]) -> u64 {
        version.iter().filter_map(|head| self.meta(head)).map(|meta| meta.max_op).max().unwrap_or(0)
    }

    /// One local change of `actor`, at a version or on top of all that is here.
    #[expect(clippy::too_many_arguments, reason = "two callers, a few lines above")]
    fn make<T, E: From<EditError>>(
        &mut self,
        actor: ActorId,
        device: DeviceId,
        wall_s: i64,
        version: Option<&[am::ChangeHash]>,
        cache: &mut Cache,
        follow: bool,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<Committed>), E> {
        self.may_write(&actor, &device)?;
        let room = self.room();
        let am = Arc::make_mut(&mut self.am);
        write_as(am, &actor, &device);
        // Given back only if all goes well: what a rolled back edit, or one that panicked, has found is not there any more.
        let mut found = core::mem::take(cache);
        let log = if follow { am::PatchLog::active() } else { am::PatchLog::inactive() };
        let transaction = match version {
            None => am.transaction_log_patches(log),
            Some(heads) => am.transaction_at(log, heads),
        };
        let transaction = transaction.map_err(|error| EditError::Internal(error.to_string()))?;
        let mut edit = Edit::new(transaction, &mut found, room);
        let result = f(&mut edit);
        let (transaction, counted) = edit.finish();
        if counted == Err(EditError::Panicked) {
            // Not even rolled back: what automerge does next on such a document, nobody knows.
            core::mem::forget(transaction);
            *self = Self { damaged: true, ..Self::default() };
            return Err(EditError::Panicked.into());
        }
        let (value, counted) = match result.and_then(|value| Ok((value, counted?))) {
            Ok(done) => done,
            Err(error) => {
                transaction.rollback();
                return Err(error);
            }
        };
        let (hash, mut log) = transaction.commit_with(CommitOptions::default().with_time(wall_s));
        let Some(hash) = hash else {
            *cache = found;
            return Ok((value, None));
        };
        let mut committed = Committed { bytes: CHANGE_BYTES + counted.bytes as usize, change: None, patches: None };
        if counted.ops > SURELY_SMALL_OPS || counted.bytes > SURELY_SMALL_BYTES {
            let change = self.check_last(&hash)?;
            committed = Committed { bytes: change.bytes().len(), change: Some(change), patches: None };
        }
        if follow {
            committed.patches = Some(patch::from_automerge(&self.am, self.am.make_patches(&mut log)));
        }
        *cache = found;
        self.max_op += counted.ops;
        self.made(actor, device, &hash);
        Ok((value, Some(committed)))
    }

    /// A change of `actor` without operations, on top of all that is here.
    ///
    /// # Errors
    /// Nothing may be added to the document.
    pub(crate) fn begin(&mut self, actor: ActorId, device: DeviceId, wall_s: i64) -> Result<Committed, EditError> {
        self.may_write(&actor, &device)?;
        let am = Arc::make_mut(&mut self.am);
        write_as(am, &actor, &device);
        let hash = am.empty_commit(CommitOptions::default().with_time(wall_s));
        self.made(actor, device, &hash);
        Ok(Committed { bytes: CHANGE_BYTES, change: None, patches: None })
    }

    /// There are too many heads for one change to depend on: call [`Self::join_heads`] first.
    pub(crate) fn has_too_many_heads(&self) -> bool {
        // automerge adds the actor's own last change to the heads.
        self.heads >= CHANGE_DEPS_MAX
    }

    /// Joins heads with changes of `actor` that have no operations, until one change may depend on all that are left. Each
    /// depends on exactly `CHANGE_DEPS_MAX` changes, because the gate takes no smaller join. Returns their size in bytes.
    ///
    /// # Errors
    /// Nothing may be added to the document.
    pub(crate) fn join_heads(&mut self, actor: ActorId, device: DeviceId, wall_s: i64) -> Result<usize, EditError> {
        self.may_write(&actor, &device)?;
        let mut bytes = 0;
        while self.has_too_many_heads() {
            let (seq, tip) = self.tip(&actor).map_or((0, None), |(seq, tip)| (seq, Some(am::ChangeHash(tip.0))));
            let heads = self.am.get_heads().into_iter().filter(|head| Some(*head) != tip);
            let mut deps: Vec<am::ChangeHash> = tip.into_iter().chain(heads).take(CHANGE_DEPS_MAX).collect();
            deps.sort_unstable();
            let seen: Vec<ChangeHash> = deps.iter().map(|hash| ChangeHash(hash.0)).collect();
            let change = am::Change::from(am::ExpandedChange {
                operations: Vec::new(),
                actor_id: am::ActorId::from(actor.0),
                hash: None,
                seq: seq + 1,
                start_op: NonZeroU64::MIN.saturating_add(self.max_op_of(&seen)),
                time: wall_s,
                message: None,
                deps,
                extra_bytes: Vec::new(),
                author: (seq == 0).then(|| am::Author::from(device.0.to_vec())),
            });
            let hash = change.hash();
            bytes += change.raw_bytes().len();
            let am = Arc::make_mut(&mut self.am);
            am.apply_changes([change]).map_err(|error| EditError::Internal(error.to_string()))?;
            self.made(actor, device, &hash);
            self.heads = self.am.get_heads().len();
        }
        Ok(bytes)
    }

    /// Takes note of a local change.
    fn made(&mut self, actor: ActorId, device: DeviceId, hash: &am::ChangeHash) {
        self.heads = 1;
        Arc::make_mut(&mut self.actors).next(actor, device, ChangeHash(hash.0));
    }

    /// This history with `changes` applied, which must come after what they depend on; copied first if it is shared. May panic:
    /// call it under the guard, on changes that have passed the gate.
    pub(crate) fn and(self, changes: Vec<(Change, DeviceId)>) -> Result<Self, String> {
        let mut growing = Growing::new(self, false);
        for (change, device) in changes {
            growing.add(change, device)?;
        }
        growing.finish().map(|(history, _)| history)
    }

    /// The raw bytes of the last change made here.
    pub(crate) fn last_local_change(&self) -> Option<Vec<u8>> {
        self.am.get_last_local_change().map(|change| change.raw_bytes().to_vec())
    }

    /// The changes that are not at or below `base`, each after those it depends on.
    pub(crate) fn since(&self, base: &[am::ChangeHash]) -> Vec<Change> {
        self.am.get_changes(base).into_iter().map(Change).collect()
    }

    /// The same, each with the device that its actor is bound to.
    pub(crate) fn news_since(&self, base: &[am::ChangeHash]) -> Vec<(Change, DeviceId)> {
        let of = |change: &Change| change.actor().and_then(|actor| self.device(&actor));
        self.since(base).into_iter().filter_map(|change| of(&change).map(|device| (change, device))).collect()
    }

    /// An index of all its operations, built from its changes. Takes about as long as opening the document.
    pub(crate) fn index(&self) -> Result<OpIndex, Refusal> {
        let mut index = OpIndex::default();
        for change in self.since(&[]) {
            change.add_to(&mut index, self)?;
        }
        Ok(index)
    }

    /// Whether a device may add changes of an actor.
    fn may_write(&self, actor: &ActorId, device: &DeviceId) -> Result<(), EditError> {
        if self.damaged {
            return Err(EditError::Panicked);
        }
        let full = |value: usize, unit, limit: usize| EditError::DocumentFull {
            value: value as u64,
            unit,
            limit: limit as u64,
        };
        if !self.has_actor(actor) {
            let (all, ours) = (self.actor_count() + 1, self.actors_of(device) + 1);
            if all > DOCUMENT_ACTORS_MAX {
                return Err(full(all, "actors", DOCUMENT_ACTORS_MAX));
            }
            if ours > DOCUMENT_ACTORS_PER_DEVICE_MAX {
                return Err(full(ours, "actors of this device", DOCUMENT_ACTORS_PER_DEVICE_MAX));
            }
        }
        Ok(())
    }

    /// What one change may add to the document.
    fn room(&self) -> Room {
        let OpsLeft { left, limit } = self.ops_left();
        Room { document_ops: left, document_ops_limit: limit }
    }

    /// How many operations may still be added.
    pub(crate) fn ops_left(&self) -> OpsLeft {
        let left = |limit: u64, used: u64| OpsLeft { left: limit.saturating_sub(used), limit };
        left(DOCUMENT_OPS_MAX, self.ops()).min(left(OP_COUNTER_MAX, self.max_op))
    }

    /// Looks at the local change just made as a peer's gate would, and takes it back if it would be refused.
    fn check_last(&mut self, hash: &am::ChangeHash) -> Result<Change, EditError> {
        let refusal = match self.am.get_last_local_change() {
            None => EditError::Internal("the change just made is not there".to_string()),
            Some(change) => match inspector::inspect(change.raw_bytes()) {
                Ok(chunk) if chunk.length == change.raw_bytes().len() => return Ok(Change(change)),
                Ok(_) => EditError::Internal("the change just made has no end".to_string()),
                Err(_) if change.raw_bytes().len() > CHANGE_BYTES_MAX => EditError::ChangeTooLarge {
                    value: change.raw_bytes().len() as u64,
                    unit: "bytes",
                    limit: CHANGE_BYTES_MAX as u64,
                },
                Err(refusal) => EditError::Refused(refusal),
            },
        };
        let kept = self.am.get_changes(&[]).into_iter().filter(|change| change.hash() != *hash).collect::<Vec<_>>();
        let mut rebuilt = am::Automerge::new_with_encoding(am::TextEncoding::UnicodeCodePoint);
        rebuilt.apply_changes(kept).map_err(|error| EditError::Internal(error.to_string()))?;
        self.am = Arc::new(rebuilt);
        Err(refusal)
    }
}

/// Changes made from now on are `actor`'s, with `device` as its author. In this order: setting the author draws a random
/// actor.
fn write_as(am: &mut am::Automerge, actor: &ActorId, device: &DeviceId) {
    if am.get_author().is_none_or(|author| author.as_bytes() != device.0) {
        am.set_author(Some(am::Author::from(device.0.to_vec())));
    }
    if am.get_actor().to_bytes() != actor.0 {
        am.set_actor(am::ActorId::from(actor.0));
    }
}

/// Our kind of actor id; `None` if it has another length, which the gate refuses.
pub(crate) fn actor_from(actor: &am::ActorId) -> Option<ActorId> {
    ActorId::from_slice(actor.to_bytes())
}
