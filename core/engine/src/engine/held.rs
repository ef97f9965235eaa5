//! How full the engine is: every table and queue that what comes in from outside can fill, with the most that it may hold.

use alloc::vec::Vec;

use crate::document::Document;
use crate::engine::Engine;
use crate::engine::resident::Resident;
use crate::limits::{
    ADDRESSES_PER_DEVICE_MAX, ADDRESSES_UNPROVEN_MAX, ASSEMBLY_BYTES_MAX, BLOCKED_MAX, BULK_CREDIT_BYTES,
    BULK_MESSAGE_BYTES_MAX, COMMANDS_PENDING_MAX, COMMIT_BYTES_MAX, DEVICES_REMEMBERED_MAX, DOCUMENTS_PER_SPACE_MAX,
    DOCUMENTS_UNRECORDED_MAX, EDITORS_MAX, ENTRIES_PER_SPACE_MAX, FORKS_REMEMBERED_MAX, INBOX_BYTES_MAX, LEFT_OUT_MAX,
    LISTENING_MAX, OFFENDERS_REMEMBERED_MAX, ORPHAN_BYTES_MAX, ORPHAN_BYTES_PER_DOCUMENT_MAX, ORPHANS_PER_DOCUMENT_MAX,
    OUTGOING_BYTES_MAX, POISONED_MAX, REFUSED_REMEMBERED_MAX, RUN_BYTES_MAX, RUNS_PER_MESSAGE_MAX,
    SERVED_REMEMBERED_MAX, SESSIONS_MAX, SPACES_MAX, TRANSFER_QUEUE_MAX, UNSIGNED_BYTES_MAX, WRITERS_REMEMBERED_MAX,
};
use crate::sync::lanes::{Lanes, message_bytes_max};
use crate::sync::session::{HEARD_ACLS_MAX, Shared};
use crate::sync::transfer::STAGED_MAX;
use crate::wire::Lane;

/// What is taken in although credit has stopped: what every peer was promised before, which may complete a large message.
const PROMISED_BYTES: usize = SESSIONS_MAX * 2 * BULK_CREDIT_BYTES as usize + ASSEMBLY_BYTES_MAX;

/// How full one table or queue is. Of those that exist once for each document, session or space, the fullest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its name, for people.
    pub what: &'static str,
    /// Items, or bytes where the name says so.
    pub count: usize,
    /// The most that it may hold.
    pub limit: usize,
    /// It is only for what goes on: empty when peers are in sync and nothing is being written.
    pub passing: bool,
}

impl Engine {
    /// Whether the tables about documents name only documents that they may name.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn audit(&self) -> Result<(), &'static str> {
        self.documents.audit()
    }

    /// Every table and queue that could grow by what comes in. Drain first.
    pub fn held(&self) -> Vec<Held> {
        let lasting = |what, count, limit| Held { what, count, limit, passing: false };
        let passing = |what, count, limit| Held { what, count, limit, passing: true };
        let residents = |of: fn(&Resident) -> usize| self.documents.residents().map(of).max().unwrap_or(0);
        let live = || self.documents.live_all();
        let lanes = || self.sessions.values().map(|session| &session.lanes);
        let shared = || self.sessions.values().flat_map(|session| &session.shared);
        let (idle, residents_max) = (self.documents.idle().count(), self.documents.residents_max());
        let most = |counts: &mut dyn Iterator<Item = usize>| counts.max().unwrap_or(0);
        alloc::vec![
            lasting("spaces", self.spaces.len(), SPACES_MAX),
            lasting("sessions", self.sessions.len(), SESSIONS_MAX),
            lasting("devices whose sessions were replaced", self.replaced.len(), SESSIONS_MAX),
            lasting("devices that misbehaved", self.offences.len(), OFFENDERS_REMEMBERED_MAX),
            lasting("devices whose cost is counted", self.tolls.len(), DEVICES_REMEMBERED_MAX),
            lasting("blocked devices", self.blocked.len(), BLOCKED_MAX),
            lasting("idle documents in memory", idle, residents_max),
            lasting("actors of documents that are not in memory", self.documents.writers_len(), WRITERS_REMEMBERED_MAX),
            lasting("editors", self.editors.taken(), EDITORS_MAX),
            lasting("documents that nothing is stored of", self.documents.unrecorded_len(), DOCUMENTS_UNRECORDED_MAX),
            lasting("addresses", self.dialer.len(), DEVICES_REMEMBERED_MAX * ADDRESSES_PER_DEVICE_MAX),
            lasting("addresses at which nobody was met", self.dialer.unproven_len(), ADDRESSES_UNPROVEN_MAX),
            lasting("own addresses", self.own.listening().len(), LISTENING_MAX),
            lasting("devices with addresses or names", self.remembered.len(), DEVICES_REMEMBERED_MAX),
            lasting("devices whose processes are told apart", self.copies.len(), DEVICES_REMEMBERED_MAX),
            lasting("runs that broke the merge", self.poison.len(), POISONED_MAX),
            lasting(
                "documents of a space",
                most(&mut self.spaces.values().map(|space| space.records.len())),
                DOCUMENTS_PER_SPACE_MAX,
            ),
            lasting(
                "membership entries of a space",
                most(&mut self.spaces.values().map(|space| space.entries.len())),
                ENTRIES_PER_SPACE_MAX,
            ),
            lasting(
                "documents that a peer refused",
                most(&mut shared().map(Shared::refused_len)),
                REFUSED_REMEMBERED_MAX
            ),
            lasting(
                "documents that a peer wants to be asked about",
                most(&mut shared().map(Shared::to_ask_len)),
                REFUSED_REMEMBERED_MAX
            ),
            lasting(
                "chains of a peer that a block leaves out",
                most(&mut shared().map(|shared| shared.left_out.len())),
                LEFT_OUT_MAX
            ),
            lasting(
                "forked documents of a space",
                most(&mut self.spaces.values().map(|space| space.forks.len())),
                FORKS_REMEMBERED_MAX,
            ),
            lasting("forked actors of a peer", most(&mut shared().map(Shared::forks_len)), FORKS_REMEMBERED_MAX),
            lasting(
                "documents compared with a peer",
                most(&mut shared().map(Shared::served_len)),
                SERVED_REMEMBERED_MAX
            ),
            lasting("acl_refs heard from a peer", most(&mut shared().map(Shared::heard_acls_len)), HEARD_ACLS_MAX),
            passing("commands that wait for sync", self.waits.len(), COMMANDS_PENDING_MAX),
            passing("work that waits for other work", self.works.waiting(), residents_max + DOCUMENTS_PER_SPACE_MAX),
            passing("scans", self.scans.len(), COMMANDS_PENDING_MAX),
            passing(
                "bytes for the next commit",
                self.commits.bytes(),
                COMMIT_BYTES_MAX + UNSIGNED_BYTES_MAX + RUN_BYTES_MAX + INBOX_BYTES_MAX + PROMISED_BYTES
            ),
            passing("bytes of runs to be judged", self.backlog_bytes(), INBOX_BYTES_MAX + PROMISED_BYTES),
            passing("bytes of waiting runs", live().map(Document::orphan_bytes).sum(), ORPHAN_BYTES_MAX),
            passing(
                "bytes of a document's waiting runs",
                most(&mut live().map(Document::orphan_bytes)),
                ORPHAN_BYTES_PER_DOCUMENT_MAX,
            ),
            passing("waiting runs of a document", most(&mut live().map(Document::orphans)), ORPHANS_PER_DOCUMENT_MAX,),
            passing(
                "runs of a document whose bringer is noted",
                residents(Resident::origins),
                2 * (ORPHANS_PER_DOCUMENT_MAX + 4 * RUNS_PER_MESSAGE_MAX),
            ),
            passing(
                "bytes of a document's unsigned changes",
                most(&mut live().map(Document::unsigned_bytes)),
                UNSIGNED_BYTES_MAX + RUN_BYTES_MAX,
            ),
            passing(
                "bytes for a peer",
                most(&mut lanes().map(Lanes::outgoing_bytes)),
                5 * OUTGOING_BYTES_MAX + 2 * BULK_MESSAGE_BYTES_MAX,
            ),
            passing(
                "bytes of messages from a peer that are not complete",
                most(&mut lanes().map(Lanes::incoming_bytes)),
                Lane::ALL.into_iter().map(message_bytes_max).sum(),
            ),
            passing("bytes of large messages under way", self.admission.bytes(), ASSEMBLY_BYTES_MAX),
            passing(
                "bytes of messages that are not complete",
                lanes().map(Lanes::incoming_bytes).sum(),
                2 * ASSEMBLY_BYTES_MAX + PROMISED_BYTES,
            ),
            passing(
                "documents queued for a peer",
                most(&mut shared().map(|s| s.transfer.queued())),
                TRANSFER_QUEUE_MAX
            ),
            passing(
                "documents that wait for runs",
                self.documents.waiting_len(),
                residents_max + DOCUMENTS_PER_SPACE_MAX,
            ),
            passing(
                "documents whose leftovers are to be read",
                self.documents.to_reread_len(),
                residents_max + DOCUMENTS_PER_SPACE_MAX,
            ),
            passing("bytes read for a peer", most(&mut shared().map(|s| s.transfer.staged_bytes())), STAGED_MAX),
        ]
    }
}
