//! Under which actors this process has written in documents that left memory: it writes on under them when these come back, so
//! that a document does not fill up with actors only because it comes and goes. Never across a start, and never if the
//! document comes back with anything else than what the actor wrote last.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::document::OwnActor;
use crate::engine::documents::DocumentKey;
use crate::id::{ActorId, SpaceId};
use crate::limits::WRITERS_REMEMBERED_MAX;

/// The actors of documents that are not in memory.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// With when the document left memory, in turns.
    kept: BTreeMap<DocumentKey, (Vec<OwnActor>, u64)>,
}

impl Writers {
    /// A document leaves memory. When there are too many, the half that has been away longest is forgotten.
    pub(super) fn keep(&mut self, key: DocumentKey, writers: Vec<OwnActor>, turn: u64) {
        if writers.is_empty() {
            return;
        }
        if self.kept.len() >= WRITERS_REMEMBERED_MAX {
            let mut turns: Vec<u64> = self.kept.values().map(|(_, since)| *since).collect();
            let middle = turns.len() / 2;
            let (_, middle, _) = turns.select_nth_unstable(middle);
            let middle = *middle;
            self.kept.retain(|_, (_, since)| *since > middle);
        }
        self.kept.insert(key, (writers, turn));
    }

    /// A document comes back, or is not to be written on.
    pub(super) fn take(&mut self, key: &DocumentKey) -> Vec<OwnActor> {
        self.kept.remove(key).map(|(writers, _)| writers).unwrap_or_default()
    }

    /// Somebody else writes under an actor of ours. Says whether it was to be written on.
    pub(super) fn retire(&mut self, key: &DocumentKey, actor: &ActorId) -> bool {
        let Some((writers, _)) = self.kept.get_mut(key) else { return false };
        let before = writers.len();
        writers.retain(|writer| writer.actor != *actor);
        writers.len() < before
    }

    /// A space is left.
    pub(super) fn forget_space(&mut self, space: &SpaceId) {
        self.kept.retain(|key, _| key.0 != *space);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChangeHash, DocumentId};

    fn key(number: usize) -> DocumentKey {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        (SpaceId([1; 32]), DocumentId(id))
    }

    fn writer(actor: u8) -> Vec<OwnActor> {
        alloc::vec![OwnActor { actor: ActorId([actor; 16]), seq: 1, tip: ChangeHash([2; 32]) }]
    }

    #[test]
    fn the_longest_away_are_forgotten_first() {
        let mut writers = Writers::default();
        // Not in the order of their ids.
        for turn in 0..WRITERS_REMEMBERED_MAX {
            writers.keep(key(WRITERS_REMEMBERED_MAX - turn), writer(3), turn as u64);
        }
        assert_eq!(writers.len(), WRITERS_REMEMBERED_MAX);
        writers.keep(key(0), writer(4), WRITERS_REMEMBERED_MAX as u64);
        assert!(writers.len() <= WRITERS_REMEMBERED_MAX / 2 + 1, "{}", writers.len());
        assert_eq!(writers.take(&key(WRITERS_REMEMBERED_MAX)), []);
        assert_eq!(writers.take(&key(1)), writer(3));
        assert_eq!(writers.take(&key(0)), writer(4));
        assert_eq!(writers.take(&key(0)), []);
    }

    #[test]
    fn an_actor_that_somebody_else_writes_under_is_not_written_on() {
        let mut writers = Writers::default();
        writers.keep(key(1), writer(3), 1);
        assert!(!writers.retire(&key(1), &ActorId([9; 16])) && !writers.retire(&key(2), &ActorId([3; 16])));
        assert!(writers.retire(&key(1), &ActorId([3; 16])));
        assert_eq!(writers.take(&key(1)), []);
        writers.keep(key(1), writer(3), 1);
        writers.forget_space(&SpaceId([1; 32]));
        assert_eq!(writers.len(), 0);
    }
}
