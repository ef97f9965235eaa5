//! Runs that wait for others: how much of them there may be, and how long.

use tracing::debug;

use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::time::Timestamp;

impl Engine {
    /// Runs wait in a document for others.
    pub(super) fn has_orphans(&mut self, key: DocumentKey) {
        self.counters.orphans_evicted += self.documents.has_orphans(key, self.now.mono) as u64;
    }

    pub(super) fn orphans_deadline(&self) -> Option<(Timestamp, &'static str)> {
        Some((self.documents.orphans_deadline()?, "runs that wait"))
    }

    /// Gives up runs that have waited too long for others.
    pub(super) fn orphans_due(&mut self) {
        for (key, given_up) in self.documents.give_up_orphans(self.now.mono) {
            debug!(document = %key.1, given_up, "runs waited too long for what they depend on");
            self.counters.orphans_evicted += given_up as u64;
        }
    }
}
