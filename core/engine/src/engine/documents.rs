//! The documents in memory: which there are, where each of them stands, and what is still to be done with it. All of it has
//! one owner, so that a document that leaves memory, or a space that is left, leaves nothing behind.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::{Document, OwnActor};
use crate::engine::input::CommandId;
use crate::engine::resident::{Resident, State};
use crate::engine::writers::Writers;
use crate::id::{AclHash, ActorId, DeviceId, DocumentId, SpaceId};
use crate::limits::{
    DOCUMENTS_UNRECORDED_MAX, DOCUMENTS_UNRECORDED_PER_DEVICE_MAX, MENDING_MAX, ORPHAN_AGE_MAX, ORPHAN_BYTES_MAX,
};
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// A document within a replica.
pub(super) type DocumentKey = (SpaceId, DocumentId);

/// Where a document stands.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// Not in memory. The store may have it.
    Absent,
    /// It cannot be opened by this process, and why.
    Broken(&'a str),
    /// Its runs are being read, or it is being built from them.
    Opening,
    /// The same after damage, from what is readable.
    Mending,
    /// In memory.
    Live,
}

/// What was dropped to keep a limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Evicted {
    /// Documents that left memory.
    pub documents: u64,
    /// Runs that waited in them for others.
    pub orphans: u64,
}

/// All documents that are in memory, and what is known of others beside their records.
#[derive(Debug)]
pub(super) struct Documents {
    residents: BTreeMap<DocumentKey, Resident>,
    /// How many stay in memory that nobody holds open.
    residents_max: usize,
    /// Counts the uses of all documents: a generation, and the order for eviction.
    clock: u64,

    // Each of these names documents in memory only.
    /// Runs came that are not merged.
    touched: BTreeSet<DocumentKey>,
    /// With changes that no commit has yet.
    dirty: BTreeSet<DocumentKey>,
    /// They have no record yet.
    unrecorded: BTreeSet<DocumentKey>,
    /// Their leftover runs are to be read again.
    to_reread: BTreeSet<DocumentKey>,
    /// Runs wait in them for others, and since when.
    waiting_since: BTreeMap<DocumentKey, Timestamp>,

    // In memory or not.
    /// To be rebuilt from what is readable of their runs.
    damaged: BTreeSet<DocumentKey>,

    // Not in memory.
    /// Why they cannot be opened.
    broken: BTreeMap<DocumentKey, String>,
    /// Whom this process wrote in them as.
    writers: Writers,
}

impl Documents {
    /// None yet; as many stay in memory that nobody holds open.
    pub(super) fn new(residents_max: usize) -> Self {
        Self {
            residents: BTreeMap::new(),
            residents_max,
            clock: 0,
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
            unrecorded: BTreeSet::new(),
            to_reread: BTreeSet::new(),
            waiting_since: BTreeMap::new(),
            damaged: BTreeSet::new(),
            broken: BTreeMap::new(),
            writers: Writers::default(),
        }
    }

    // ---- where a document stands ----

    pub(super) fn standing(&self, key: &DocumentKey) -> Standing<'_> {
        if let Some(reason) = self.broken.get(key) {
            return Standing::Broken(reason);
        }
        match self.residents.get(key).map(|resident| &resident.state) {
            None => Standing::Absent,
            Some(State::Opening { mend: None, .. }) => Standing::Opening,
            Some(State::Opening { mend: Some(_), .. }) => Standing::Mending,
            Some(State::Live(_)) => Standing::Live,
        }
    }

    /// It is in memory, or on its way there.
    pub(super) fn contains(&self, key: &DocumentKey) -> bool {
        self.residents.contains_key(key)
    }

    pub(super) fn get(&self, key: &DocumentKey) -> Option<&Resident> {
        self.residents.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &DocumentKey) -> Option<&mut Resident> {
        self.residents.get_mut(key)
    }

    /// The document if it has not begun again since `generation`: what was asked for an earlier one comes too late.
    pub(super) fn of_generation(&mut self, key: &DocumentKey, generation: u64) -> Option<&mut Resident> {
        self.residents.get_mut(key).filter(|resident| resident.generation == generation)
    }

    pub(super) fn live(&self, key: &DocumentKey) -> Option<&Document> {
        self.residents.get(key).and_then(Resident::live)
    }

    pub(super) fn live_mut(&mut self, key: &DocumentKey) -> Option<&mut Document> {
        self.residents.get_mut(key).and_then(Resident::live_mut)
    }

    /// It was found damaged, and is not rebuilt yet.
    pub(super) fn is_damaged(&self, key: &DocumentKey) -> bool {
        self.damaged.contains(key) || self.residents.get(key).is_some_and(Resident::is_mending)
    }

    // ---- into memory and out of it ----

    /// A document begins with nothing, and has no record.
    pub(super) fn make(&mut self, key: DocumentKey, document: Document) {
        self.unrecorded.insert(key);
        self.add(key, State::Live(Box::new(document)));
    }

    /// A document is to be built from its runs. Returns its generation.
    pub(super) fn open(&mut self, key: DocumentKey) -> u64 {
        self.add(key, State::opening(false))
    }

    /// A document is to be built from what is readable of its runs, whether it is in memory or not; what arrived for it stays.
    /// Returns its generation.
    pub(super) fn mend(&mut self, key: DocumentKey) -> u64 {
        self.damaged.remove(&key);
        self.waiting_since.remove(&key);
        // What it wrote may be gone.
        self.writers.take(&key);
        let Some(resident) = self.residents.get_mut(&key) else { return self.add(key, State::opening(true)) };
        self.clock += 1;
        resident.mend(self.clock);
        self.clock
    }

    fn add(&mut self, key: DocumentKey, state: State) -> u64 {
        self.clock += 1;
        self.residents.insert(key, Resident::new(state, self.clock));
        self.clock
    }

    /// The document, if it is in memory, for whoever needs it now: the longest unused leave first.
    pub(super) fn used(&mut self, key: &DocumentKey) -> Option<&mut Resident> {
        self.clock += 1;
        let resident = self.residents.get_mut(key)?;
        resident.used = self.clock;
        Some(resident)
    }

    /// Whom this process wrote as in a document that comes back.
    pub(super) fn take_writers(&mut self, key: &DocumentKey) -> Vec<OwnActor> {
        self.writers.take(key)
    }

    /// Somebody else writes under an actor of ours. Says whether we would have written on under it.
    pub(super) fn retire(&mut self, key: &DocumentKey, actor: &ActorId) -> bool {
        self.live_mut(key).is_some_and(|document| document.retire(actor)) || self.writers.retire(key, actor)
    }

    /// Drops a document that is not to be opened again by this process, and why. Returns the commands that wait for it.
    pub(super) fn break_off(&mut self, key: DocumentKey, reason: String) -> Vec<CommandId> {
        let waiting = self.remove(&key).map(|mut resident| resident.take_waiting()).unwrap_or_default();
        self.damaged.remove(&key);
        self.broken.insert(key, reason);
        waiting
    }

    /// Drops documents that nobody holds, the longest unused first, until the limit is kept.
    pub(super) fn evict(&mut self) -> Evicted {
        let Some(surplus) = self.residents.len().checked_sub(self.residents_max).filter(|surplus| *surplus > 0) else {
            return Evicted::default();
        };
        let mut idle: Vec<_> = self.idle().map(|(key, resident)| (resident.used, *key)).collect();
        if idle.len() > surplus {
            idle.select_nth_unstable(surplus);
            idle.truncate(surplus);
        }
        let mut evicted = Evicted { documents: idle.len() as u64, orphans: 0 };
        for (_, key) in idle {
            let resident = self.remove(&key);
            let document = resident.as_ref().and_then(Resident::live);
            self.writers.keep(key, document.map(Document::writers).unwrap_or_default(), self.clock);
            evicted.orphans += document.map_or(0, Document::orphans) as u64;
        }
        evicted
    }

    /// Documents that can leave memory. Runs that wait in them for others do not keep them: they are found again. But what a
    /// mending left is read to its end.
    pub(super) fn idle(&self) -> impl Iterator<Item = (&DocumentKey, &Resident)> {
        self.residents.iter().filter(|(key, resident)| {
            resident.open_handles == 0 && resident.leftovers.page.is_none() && self.is_at_rest(key)
        })
    }

    /// All that came for a document in memory is merged, signed and on its way to the store.
    fn is_at_rest(&self, key: &DocumentKey) -> bool {
        !self.dirty.contains(key)
            && !self.touched.contains(key)
            && self.live(key).is_some_and(|document| {
                !document.is_busy() && document.unsigned_bytes() == 0 && document.inbox_bytes() == 0
            })
    }

    fn remove(&mut self, key: &DocumentKey) -> Option<Resident> {
        self.touched.remove(key);
        self.dirty.remove(key);
        self.unrecorded.remove(key);
        self.to_reread.remove(key);
        self.waiting_since.remove(key);
        self.residents.remove(key)
    }

    /// Drops all of a space. Returns the commands that wait for documents of it.
    pub(super) fn forget_space(&mut self, space: &SpaceId) -> Vec<CommandId> {
        let keys: Vec<DocumentKey> =
            of_space(space, self.residents.range(first(space)..), |(key, _)| key).map(|(key, _)| *key).collect();
        self.damaged.retain(|key| key.0 != *space);
        self.broken.retain(|key, _| key.0 != *space);
        self.writers.forget_space(space);
        let gone = keys.iter().filter_map(|key| self.remove(key));
        gone.flat_map(|mut resident| resident.take_waiting()).collect()
    }

    // ---- what is to be merged, and what is to be committed ----

    /// Runs came for a document in memory.
    pub(super) fn touch(&mut self, key: DocumentKey) {
        if self.contains(&key) {
            self.touched.insert(key);
        }
    }

    /// The next document with runs to merge.
    pub(super) fn next_touched(&mut self) -> Option<DocumentKey> {
        self.touched.pop_first()
    }

    /// Takes those out that are to be merged later.
    pub(super) fn put_off(&mut self, is_later: impl Fn(&DocumentKey) -> bool) -> Vec<DocumentKey> {
        self.touched.extract_if(.., |key| is_later(key)).collect()
    }

    /// A document in memory has changes that no commit has.
    pub(super) fn mark_dirty(&mut self, key: DocumentKey) {
        if self.contains(&key) {
            self.dirty.insert(key);
        }
    }

    /// The next document that belongs into the commit that is being formed.
    pub(super) fn next_dirty(&mut self) -> Option<DocumentKey> {
        self.dirty.pop_first()
    }

    /// Whether it has changes that no commit has; from now on it has none.
    pub(super) fn take_dirty(&mut self, key: &DocumentKey) -> bool {
        self.dirty.remove(key)
    }

    /// No document has changes that no commit has.
    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// The store takes nothing more: what is not in a commit never will be.
    pub(super) fn give_up_commits(&mut self) {
        self.dirty.clear();
    }

    /// Documents of a space whose record does not say what they hold yet.
    pub(super) fn unsettled(&self, space: &SpaceId) -> impl Iterator<Item = DocumentId> {
        let dirty = of_space(space, self.dirty.range(first(space)..), |key| key);
        dirty.chain(of_space(space, self.touched.range(first(space)..), |key| key)).map(|key| key.1)
    }

    /// Bytes of local changes that are not signed yet, in all documents.
    pub(super) fn unsigned_bytes(&self) -> usize {
        self.dirty.iter().filter_map(|key| self.live(key)).map(Document::unsigned_bytes).sum()
    }

    /// Bytes of runs that wait to be judged, in all documents.
    pub(super) fn inbox_bytes(&self) -> usize {
        self.residents.values().map(Resident::inbox_bytes).sum()
    }

    // ---- documents without a record ----

    /// A document in memory has a record now.
    pub(super) fn recorded(&mut self, key: &DocumentKey) {
        self.unrecorded.remove(key);
    }

    /// Documents of a space that were made or begun and have no record yet.
    pub(super) fn unrecorded(&self, space: &SpaceId) -> impl Iterator<Item = &DocumentKey> {
        of_space(space, self.unrecorded.range(first(space)..), |key| key)
    }

    pub(super) fn unrecorded_len(&self) -> usize {
        self.unrecorded.len()
    }

    /// Whether one more document without a record may come into memory, for a run that this device has signed.
    pub(super) fn has_room_for_unrecorded(&self, device: &DeviceId) -> bool {
        let count = self.unrecorded.len();
        if count >= DOCUMENTS_UNRECORDED_MAX {
            return false;
        }
        if count < DOCUMENTS_UNRECORDED_PER_DEVICE_MAX {
            return true;
        }
        let waits_by_device = |key: &&DocumentKey| {
            self.residents.get(key).is_some_and(|resident| {
                resident.brought_by.as_ref() == Some(device)
                    && resident.live().is_some_and(|document| document.orphan_bytes() > 0)
            })
        };
        self.unrecorded.iter().filter(waits_by_device).count() < DOCUMENTS_UNRECORDED_PER_DEVICE_MAX
    }

    // ---- runs that wait for others ----

    /// Runs wait in a document for others. Where those of all documents are too many, the document with the most gives way:
    /// returns how many runs it gave up.
    pub(super) fn has_orphans(&mut self, key: DocumentKey, now: Timestamp) -> usize {
        if self.contains(&key) {
            self.waiting_since.entry(key).or_insert(now);
        }
        let surplus = self.live_all().map(Document::orphan_bytes).sum::<usize>().saturating_sub(ORPHAN_BYTES_MAX);
        if surplus == 0 {
            return 0;
        }
        let live = self.residents.values_mut().filter_map(Resident::live_mut);
        let largest = live.max_by_key(|document| document.orphan_bytes());
        largest.map_or(0, |document| document.shrink_orphans(document.orphan_bytes().saturating_sub(surplus)))
    }

    /// Nothing waits in a document any more.
    pub(super) fn has_no_orphans(&mut self, key: &DocumentKey) {
        self.waiting_since.remove(key);
    }

    /// When the next ones will have waited too long.
    pub(super) fn orphans_deadline(&self) -> Option<Timestamp> {
        self.waiting_since.values().min().map(|since| *since + ORPHAN_AGE_MAX)
    }

    /// Gives up runs that have waited too long, and says how many in which documents.
    pub(super) fn give_up_orphans(&mut self, now: Timestamp) -> Vec<(DocumentKey, usize)> {
        let old: Vec<_> = self.waiting_since.extract_if(.., |_, since| now - *since >= ORPHAN_AGE_MAX).collect();
        let mut given_up = Vec::new();
        for (key, _) in old {
            let Some(resident) = self.residents.get_mut(&key) else { continue };
            let Some(document) = resident.live_mut() else { continue };
            given_up.push((key, document.shrink_orphans(0)));
            resident.forget_what_is_judged();
        }
        given_up
    }

    pub(super) fn waiting_len(&self) -> usize {
        self.waiting_since.len()
    }

    // ---- what is to be mended, and what a mending left ----

    /// A document is to be rebuilt from what is readable of its runs.
    pub(super) fn mark_damaged(&mut self, key: DocumentKey) {
        self.damaged.insert(key);
    }

    /// There is nothing to rebuild it from.
    pub(super) fn unmark_damaged(&mut self, key: &DocumentKey) {
        self.damaged.remove(key);
    }

    /// The next documents to mend, as many as may be under way at a time. Of one in memory, all that is not damaged has to be
    /// on disk, where no commit may be under way.
    pub(super) fn due_for_mending(&self, no_commit: bool) -> Vec<DocumentKey> {
        if self.damaged.is_empty() {
            return Vec::new();
        }
        let under_way = self.residents.values().filter(|resident| resident.is_mending()).count();
        let due = self.damaged.iter().filter(|key| !self.contains(key) || (no_commit && self.is_at_rest(key)));
        due.take(MENDING_MAX.saturating_sub(under_way)).copied().collect()
    }

    /// The leftover runs of a document in memory are to be read again as soon as may be.
    pub(super) fn reread(&mut self, key: DocumentKey) {
        if self.contains(&key) {
            self.to_reread.insert(key);
        }
    }

    /// The same for documents of a space whose leftovers waited for lists of members that are known now.
    pub(super) fn reread_where(&mut self, space: &SpaceId, is_known: impl Fn(&AclHash) -> bool) {
        let residents = of_space(space, self.residents.range(first(space)..), |(key, _)| key);
        let due = residents.filter(|(_, resident)| resident.leftovers.unknown.iter().any(&is_known));
        self.to_reread.extend(due.map(|(key, _)| *key));
    }

    /// The next documents whose leftovers are read, as many as may be under way at a time. What a document holds has to be in
    /// its record first: by that leftovers are told from the rest.
    pub(super) fn due_for_rereading(&mut self) -> Vec<DocumentKey> {
        if self.to_reread.is_empty() {
            return Vec::new();
        }
        let under_way = self.residents.values().filter(|resident| resident.leftovers.page.is_some()).count();
        let is_ready = |key: &DocumentKey| {
            let resident = self.residents.get(key).filter(|resident| resident.live().is_some());
            resident.is_some_and(|resident| resident.leftovers.page.is_none()) && !self.dirty.contains(key)
        };
        let ready = self.to_reread.iter().filter(|key| is_ready(key)).take(MENDING_MAX.saturating_sub(under_way));
        let ready: Vec<DocumentKey> = ready.copied().collect();
        for key in &ready {
            self.to_reread.remove(key);
        }
        ready
    }

    pub(super) fn to_reread_len(&self) -> usize {
        self.to_reread.len()
    }

    // ---- all of them ----

    pub(super) fn residents(&self) -> impl Iterator<Item = &Resident> {
        self.residents.values()
    }

    pub(super) fn live_all(&self) -> impl Iterator<Item = &Document> {
        self.residents.values().filter_map(Resident::live)
    }

    pub(super) fn writers_len(&self) -> usize {
        self.writers.len()
    }

    pub(super) fn residents_max(&self) -> usize {
        self.residents_max
    }

    /// A command is not waited for any more.
    pub(super) fn forget_command(&mut self, command: CommandId) {
        self.residents.values_mut().for_each(|resident| resident.forget(command));
    }

    /// Every command that waits for a document.
    pub(super) fn take_commands(&mut self) -> Vec<CommandId> {
        self.residents.values_mut().flat_map(Resident::take_waiting).collect()
    }

    /// The first table that names a document which it may not name, for those who check.
    pub(super) fn audit(&self) -> Result<(), &'static str> {
        let in_memory = |keys: &BTreeSet<DocumentKey>| keys.iter().all(|key| self.contains(key));
        let holds = [
            (in_memory(&self.touched), "documents with runs to merge"),
            (in_memory(&self.dirty), "documents with changes to commit"),
            (in_memory(&self.unrecorded), "documents without a record"),
            (in_memory(&self.to_reread), "documents with leftovers to read"),
            (self.waiting_since.keys().all(|key| self.live(key).is_some()), "documents with runs that wait"),
            (!self.broken.keys().any(|key| self.contains(key)), "documents that cannot be opened"),
            (!self.broken.keys().any(|key| self.damaged.contains(key)), "documents to be mended"),
        ];
        holds.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }
}

fn first(space: &SpaceId) -> DocumentKey {
    (*space, DocumentId([0; DocumentId::LEN]))
}

/// Of items in the order of their keys, from the first of a space on, those of the space.
fn of_space<T>(
    space: &SpaceId,
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &DocumentKey,
) -> impl Iterator<Item = T> {
    items.take_while(move |item| key(item).0 == *space)
}
