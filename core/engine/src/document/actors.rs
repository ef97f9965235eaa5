//! The actors that a process writes under in a document: one that edits are made under, and those of editors and drafts.

use alloc::collections::BTreeSet;
use alloc::sync::Weak;
use alloc::vec::Vec;

use crate::document::Document;
use crate::id::{ActorId, ChangeHash, DeviceId};
use crate::limits::EDITORS_PER_DOCUMENT_MAX;

/// Actors kept: those of all editors that there may be, and some that drafts and new editors go on with.
const SPARE_ACTORS_MAX: usize = EDITORS_PER_DOCUMENT_MAX + 16;

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

/// An actor that a draft or an editor may write under.
pub(super) struct Spare {
    pub(super) actor: ActorId,
    /// Of the one that does, as long as there is one.
    pub(super) taken: Weak<Taking>,
}

/// What a draft or an editor holds of an actor that it has taken.
#[derive(Debug)]
pub(super) struct Taking;

impl Spare {
    fn is_free(&self) -> bool {
        self.taken.strong_count() == 0
    }
}

impl Document {
    /// Local changes are made under this actor from now on.
    pub(super) fn write_under(&mut self, actor: ActorId) {
        self.spare.retain(|spare| spare.actor != actor);
        if let Some(before) = self.live.replace(actor).filter(|before| *before != actor) {
            self.keep_actor(before, Weak::new());
        }
    }

    /// Keeps an actor besides the one that local changes are made under. When there are too many, one that nobody has taken is
    /// forgotten: those that are taken are as many as there are editors and drafts.
    pub(super) fn keep_actor(&mut self, actor: ActorId, taken: Weak<Taking>) {
        if let Some(spare) = self.spare.iter_mut().find(|spare| spare.actor == actor) {
            spare.taken = taken;
            return;
        }
        if self.spare.len() >= SPARE_ACTORS_MAX
            && let Some(free) = self.spare.iter().position(Spare::is_free)
        {
            self.spare.remove(free);
        }
        self.spare.push(Spare { actor, taken });
    }

    /// An actor that nobody has taken, which the document has all changes of.
    pub(super) fn free_actor(&self) -> Option<ActorId> {
        self.spare.iter().find(|spare| spare.is_free()).map(|spare| spare.actor)
    }

    /// One of the actors kept has made this change last.
    pub(super) fn is_at(&self, actor: &ActorId, last: Option<ChangeHash>) -> bool {
        self.spare.iter().any(|spare| spare.actor == *actor) && self.history.tip(actor).map(|(_, tip)| tip) == last
    }

    /// A run of our own device under an actor of this process that we have not made: this process is a copy of another one, and
    /// the two would go on numbering their changes alike. From now on we write under another actor.
    pub(super) fn retire_if_cloned(&mut self) {
        let Some(device) = self.device else { return };
        let ours: BTreeSet<ActorId> = self.live.into_iter().chain(self.spare.iter().map(|spare| spare.actor)).collect();
        let is_beyond = |actor: &ActorId, seq: u64| seq > self.history.tip(actor).map_or(0, |(last, _)| last);
        let runs = self.inbox.arrived_of(&device).filter(|run| ours.contains(&run.actor));
        let cloned: Vec<ActorId> =
            runs.filter(|run| is_beyond(&run.actor, run.last_seq)).map(|run| run.actor).collect();
        for actor in cloned {
            self.retire(&actor);
            self.cloned = true;
        }
    }

    /// What local changes are made under, and what the next draft would be.
    pub fn writers(&self) -> Vec<OwnActor> {
        let writer = |actor: ActorId| {
            let (seq, tip) = self.history.tip(&actor)?;
            Some(OwnActor { actor, seq, tip })
        };
        // Not those of editors, and of drafts that are still being made.
        let spare = self.spare.iter().rfind(|spare| spare.is_free());
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
}
