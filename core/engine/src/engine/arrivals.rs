//! How runs of peers reach their documents.

use alloc::string::ToString as _;

use tracing::warn;

use crate::document::Edit;
use crate::engine::blocked::intake;
use crate::engine::documents::{DocumentKey, Standing};
use crate::engine::input::SessionId;
use crate::engine::resident::State;
use crate::engine::{DocumentError, Engine};
use crate::gate::{self, Intake, Refusal};
use crate::id::{ActorId, ChangeHash};
use crate::limits::{DOCUMENTS_PER_SPACE_MAX, ORPHANS_PER_DOCUMENT_MAX, RUNS_PER_MESSAGE_MAX};
use crate::mutants::Mutant;
use crate::run::{Run, RunHeader};
use crate::space::Acl;

/// `acl_ref`s that a document's waiting runs refer to and no stored run does; and as many that are not known here.
pub(super) const WAITING_ACLS_MAX: usize = 64;

impl Engine {
    /// Stages 2, 3 and 5 of the gate for a run whose payload was read, which is 4, then the inbox. What it refuses is answered.
    pub(super) fn receive_run(
        &mut self,
        session: SessionId,
        header: RunHeader,
        payload: gate::Payload,
        acl: &Acl,
        authority: gate::Authority,
    ) {
        let tip = *payload.tip();
        let key = (header.space, header.document);
        let actor = header.actor;
        if let Some(known) = self.known_tip(&key, &actor)
            && known.0 >= tip.last_seq
        {
            if self.known_hash(&key, &actor, tip.last_seq).is_some_and(|ours| ours != tip.tip) {
                // Somebody's word is needed for it: anyone can make up a run without a signature.
                let word = gate::vouch(&header, &payload, authority);
                if word.is_ok() && header.device == self.device {
                    self.copy_found(key, &actor);
                }
                let fork = Refusal::Fork { actor: actor.to_string(), seq: tip.last_seq };
                let refusal = word.err().unwrap_or(fork);
                return self.refuse(session, &header, &refusal);
            }
            self.counters.runs_known += 1;
            if self.mutated.by(Mutant::CountsTwice) && self.counters.runs_known == 1 {
                let increment = |edit: &mut Edit<'_>| edit.increment("/count", 1).map_err(DocumentError::from);
                // Where there is no counter, or no right to write, nothing is counted at all.
                let _ = self.edit(self.now, &key.0, &key.1, increment);
            }
            return;
        }
        if matches!(self.documents.standing(&key), Standing::Broken(_)) {
            return;
        }
        if self.poison.has(&tip.tip) {
            return self.refuse(session, &header, &Refusal::Poisoned);
        }
        if let Err(refusal) = gate::vouch(&header, &payload, authority) {
            return self.refuse(session, &header, &refusal);
        }
        let Some(space) = self.spaces.get(&key.0) else { return };
        let (exists, knows_acl) = (space.records.has(&key.1), space.has_acl(acl));
        if !exists && space.records.len() >= DOCUMENTS_PER_SPACE_MAX {
            let text = alloc::format!("{DOCUMENTS_PER_SPACE_MAX} documents in the space");
            return self.refuse(session, &header, &Refusal::TooLarge(text));
        }
        let (first_seq, device) = (header.first_seq, header.device);
        let intake = intake(&self.blocked, &device);
        let is_new = !exists && !self.documents.contains(&key);
        if intake == Intake::OnDemand && is_new {
            // A document that a blocked device has to itself. If others write in it, it is asked for again.
            self.tell_not_wanted(session, &header);
            return self.leave_out(Some(session), &Run { header, payload: payload.into_bytes() });
        }
        if is_new && !self.documents.has_room_for_unrecorded(&device) {
            // No room for another document without a record. What is dropped is found again when roots are compared.
            self.counters.orphans_evicted += 1;
            return;
        }
        if self.mutated.by(Mutant::HoldsBeforeAncestors) {
            self.resident(key);
            self.keep_run(Run { header: header.clone(), payload: payload.clone().into_bytes() });
            self.documents.mark_dirty(key);
        }
        let resident = self.resident(key);
        if !knows_acl && !resident.acls.contains_key(&acl.hash) {
            if resident.acls.len() >= WAITING_ACLS_MAX {
                self.counters.orphans_evicted += 1;
                return;
            }
            resident.acls.insert(acl.hash, acl.clone());
        }
        resident.brought_by.get_or_insert(device);
        // Waiting runs are bounded by the document; so is the note of who brought them.
        if resident.origins.len() < 2 * (ORPHANS_PER_DOCUMENT_MAX + 4 * RUNS_PER_MESSAGE_MAX) {
            resident.origins.insert((actor, first_seq), session);
        }
        match &mut resident.state {
            State::Live(document) => document.receive_read(header, Ok(payload), intake),
            State::Opening { inbox, inbox_bytes, .. } => {
                // Bytes are what is counted, so nothing else is kept: it is read again.
                let run = Run { header, payload: payload.into_bytes() };
                *inbox_bytes += run.payload.len();
                inbox.push(run);
            }
        }
        self.documents.touch(key);
    }

    /// Our own signature on a change that we have not made, under a number of ours: a copy of this process runs elsewhere.
    fn copy_found(&mut self, key: DocumentKey, actor: &ActorId) {
        if self.documents.retire(&key, actor) {
            warn!(document = %key.1, %actor, "a copy of this process writes as this device");
            self.copy_seen(self.device);
        }
    }

    /// The hash of one change of an actor, if it is known without reading the store.
    fn known_hash(&self, key: &DocumentKey, actor: &ActorId, seq: u64) -> Option<ChangeHash> {
        if let Some(document) = self.documents.live(key) {
            return document.change_hash(actor, seq);
        }
        self.known_tip(key, actor).filter(|known| known.0 == seq).map(|known| known.1)
    }

    fn known_tip(&self, key: &DocumentKey, actor: &ActorId) -> Option<(u64, ChangeHash)> {
        if let Some(document) = self.documents.live(key) {
            return document.tip(actor);
        }
        let record = self.spaces.get(&key.0)?.records.signed(&key.1)?;
        record.frontier.actors.get(actor).map(|proof| (proof.header.last_seq, proof.header.tip))
    }
}
