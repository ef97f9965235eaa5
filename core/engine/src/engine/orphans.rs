//! Runs that wait for others: how much of them there may be, and how long.

use alloc::vec::Vec;

use tracing::debug;

use crate::document::Document;
use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::resident::Resident;
use crate::id::DeviceId;
use crate::limits::{DOCUMENTS_UNRECORDED_MAX, DOCUMENTS_UNRECORDED_PER_DEVICE_MAX, ORPHAN_AGE_MAX, ORPHAN_BYTES_MAX};
use crate::time::Timestamp;

impl Engine {
    /// Whether one more document may come into memory of which nothing is stored, for a run that this device has signed.
    pub(super) fn has_room_for_unrecorded(&self, key: &DocumentKey, device: &DeviceId) -> bool {
        if self.spaces.get(&key.0).is_some_and(|space| space.records.contains_key(&key.1)) {
            return true;
        }
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

    /// The document with the most waiting runs gives way when those of all documents are too many.
    pub(super) fn bound_orphans(&mut self) {
        let live = || self.residents.values().filter_map(Resident::live);
        let all: usize = live().map(Document::orphan_bytes).sum();
        if all <= ORPHAN_BYTES_MAX {
            return;
        }
        let live = self.residents.values_mut().filter_map(Resident::live_mut);
        if let Some(document) = live.max_by_key(|document| document.orphan_bytes()) {
            let surplus = all - ORPHAN_BYTES_MAX;
            let evicted = document.shrink_orphans(document.orphan_bytes().saturating_sub(surplus));
            self.counters.orphans_evicted += evicted as u64;
        }
    }

    pub(super) fn orphans_deadline(&self) -> Option<(Timestamp, &'static str)> {
        self.waiting_since.values().min().map(|since| (*since + ORPHAN_AGE_MAX, "runs that wait"))
    }

    /// Gives up runs that have waited too long for others.
    pub(super) fn orphans_due(&mut self) {
        let now = self.now.mono;
        for (key, _) in self.waiting_since.extract_if(.., |_, since| now - *since >= ORPHAN_AGE_MAX).collect::<Vec<_>>()
        {
            let Some(resident) = self.residents.get_mut(&key) else { continue };
            let Some(document) = resident.live_mut() else { continue };
            let given_up = document.shrink_orphans(0);
            debug!(document = %key.1, given_up, "runs waited too long for what they depend on");
            self.counters.orphans_evicted += given_up as u64;
            resident.forget_what_is_judged();
        }
    }
}
