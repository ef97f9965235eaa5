//! What a document does with drafts: it gives them out, and takes them in whole.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::document::actors::Taking;
use crate::document::draft::DraftRun;
use crate::document::history::History;
use crate::document::merge::{Merger, Trust};
use crate::document::{Ahead, Author, Document, Draft, DraftError, Unsigned};
use crate::gate::envelope::Candidate;
use crate::gate::{Guard, Payload, Refusal};
use crate::id::{ChangeHash, DeviceId};
use crate::keys::SIGNATURE_LEN;
use crate::run::{RunHeader, UnsignedRun};

/// What became of a draft.
#[derive(Debug)]
pub enum Publish {
    /// It is in the document.
    Done,
    /// There was nothing in it.
    Empty,
    /// The document is far ahead: [`Draft::catch_up`] first.
    Behind,
}

/// Who made a local change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// An edit.
    Edit,
    /// A draft: the changes are signed as one run of their own.
    Draft,
    /// An editor, under an actor of its own.
    Editor,
}

impl Document {
    /// A private copy to make changes on, away from here.
    pub fn draft(&mut self, author: Author) -> Draft {
        let taking = Arc::new(Taking);
        let actor = self.free_actor();
        if let Some(actor) = actor {
            self.keep_actor(actor, Arc::downgrade(&taking));
        }
        let actor = actor.unwrap_or(author.fresh_actor);
        Draft::new(self.space, self.id, Author { fresh_actor: actor, ..author }, taking, self.history.clone())
    }

    /// Takes in a draft as a whole. After [`Publish::Behind`] it is to be caught up with the history given, and published
    /// again.
    ///
    /// # Errors
    /// It does not fit. The document is unchanged.
    pub fn publish(&mut self, draft: &mut Draft, guard: &dyn Guard) -> Result<Publish, DraftError> {
        if !draft.check(&self.history)? {
            return Ok(Publish::Empty);
        }
        if draft.is_far_behind(&self.history) {
            return Ok(Publish::Behind);
        }
        self.harvest();
        let finished = draft.hand_over(&self.history, guard)?;
        self.keep_draft(finished.history, finished.run, finished.device);
        Ok(Publish::Done)
    }

    /// What a draft is to be caught up with.
    pub fn ahead(&self, guard: Arc<dyn Guard>) -> Ahead {
        Ahead::new(self.history.clone(), guard)
    }

    /// Goes on with a history that has a draft besides all that is here.
    pub(super) fn keep_draft(&mut self, history: History, draft: DraftRun, device: DeviceId) {
        let heavy = draft.is_heavy();
        // To carry much over into a running merge would take long here, so the merge is repeated instead, but only once.
        let outruns = self.merging && heavy && !self.was_outrun;
        let added = if outruns || (heavy && !self.merging) {
            Vec::new()
        } else {
            history.since(&self.history.automerge().get_heads())
        };
        self.outrun |= outruns;
        self.adopt(history);
        if self.merging {
            self.meanwhile.extend(added.into_iter().map(|change| change.0));
        } else if heavy {
            // Rebuilt by the next merge.
            self.index = None;
        } else {
            self.add_to_index(added);
        }
        self.write_under(draft.run.actor);
        self.device = Some(device);
        self.tail.harvested_bytes += draft.run.payload.len();
        self.tail.harvested.push_back(Unsigned::Draft(Box::new(draft)));
    }

    /// Makes a local change that was recorded ([`Self::last_local_change`]), as if its maker had made it now; or the changes of a
    /// draft, as if it had been published.
    ///
    /// # Errors
    /// It is refused as one from a peer would be. The document is unchanged.
    pub fn apply_local(
        &mut self,
        device: DeviceId,
        bytes: &[u8],
        maker: Maker,
        guard: &dyn Guard,
    ) -> Result<(), Refusal> {
        let payload = Payload::read(bytes.to_vec())?;
        let found = *payload.tip();
        let is_ours = self.history.device(&found.actor) == Some(device);
        if self.live.is_some_and(|live| live != found.actor) && !is_ours && found.first_seq != 1 {
            return Err(Refusal::Misfit(format!("actor {} is not one that writes here", found.actor)));
        }
        let links = payload.links();
        let own: BTreeSet<ChangeHash> = links.iter().map(|link| link.hash).collect();
        let deps = links.iter().flat_map(|link| &link.deps).copied().filter(|dep| !own.contains(dep)).collect();
        let ops = links.iter().map(|link| link.ops).sum();
        let header = RunHeader {
            space: self.space,
            document: self.id,
            acl: crate::id::AclHash([0; 32]),
            device,
            actor: found.actor,
            first_seq: found.first_seq,
            last_seq: found.last_seq,
            tip: found.tip,
            signature: [0; SIGNATURE_LEN],
        };
        let candidate = Candidate::of(header, payload)?;
        self.harvest();
        let mut merger = Merger::new(self.space, self.id, Trust::Peer, &self.suspects, guard, self.index.take());
        let history = merger.merge(self.history.clone(), alloc::vec![candidate]);
        let (index, outcome) = (merger.index, merger.outcome);
        // A running merge brings back its own.
        self.index = index.filter(|_| !self.merging);
        if let Some((_, refusal)) = outcome.refused.into_iter().next() {
            return Err(refusal);
        }
        if let Some((_, missing)) = outcome.waiting.into_iter().next() {
            let missing = missing.map_or_else(String::new, |hash| format!(": {hash}"));
            return Err(Refusal::Misfit(format!("what it depends on is not here{missing}")));
        }
        if maker == Maker::Draft {
            let payload = bytes.to_vec();
            let (first_seq, last_seq) = (found.first_seq, found.last_seq);
            let run = UnsignedRun { actor: found.actor, first_seq, last_seq, tip: found.tip, payload };
            let draft = DraftRun { run, deps, ops };
            // As when it was published: the next merge rebuilds a table of that many operations.
            let index = self.index.take().filter(|_| !draft.is_heavy());
            self.keep_draft(history, draft, device);
            self.index = index;
            return Ok(());
        }
        let new = history.since(&self.tail.base);
        self.adopt(history);
        self.keep_harvested(new);
        match maker {
            Maker::Editor => self.keep_actor(found.actor, Weak::new()),
            Maker::Edit | Maker::Draft => self.write_under(found.actor),
        }
        self.device = Some(device);
        Ok(())
    }
}
