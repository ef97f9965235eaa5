//! I17 whole drafts: of a draft's changes every replica has all or none, in memory and on its disk, at every moment.

use std::collections::BTreeMap;

use anabranch_engine::document::view::ChangeInfo;
use anabranch_engine::frontier::Frontier;
use anabranch_engine::id::{ActorId, ChangeHash};

use crate::sim::ledger::Place;

/// The checker's name.
pub const CHECKER: &str = "I17 whole drafts";

/// Every draft that was published.
#[derive(Debug, Default)]
pub struct Drafts {
    published: BTreeMap<Place, Vec<Whole>>,
}

/// One draft: its first change and its last, which has all others before it.
#[derive(Debug)]
struct Whole {
    actor: ActorId,
    first: (u64, ChangeHash),
    last: (u64, ChangeHash),
}

impl Drafts {
    /// A draft was published, with these changes.
    pub fn published<'a>(&mut self, place: Place, changes: impl IntoIterator<Item = &'a ChangeInfo>) {
        let mut changes = changes.into_iter();
        let Some(first) = changes.next() else { return };
        let last = changes.last().unwrap_or(first);
        let (actor, first, last) = (first.actor, (first.seq, first.hash), (last.seq, last.hash));
        self.published.entry(place).or_default().push(Whole { actor, first, last });
    }

    /// A replica is about to keep, and to tell peers, that it holds this much of a document.
    ///
    /// # Errors
    /// It holds a part of a draft.
    pub fn holds(&self, replica: usize, place: Place, frontier: &Frontier) -> Result<(), String> {
        for draft in self.of(&place) {
            let held = frontier.actors.get(&draft.actor).map_or(0, |proof| proof.header.last_seq);
            if (draft.first.0..draft.last.0).contains(&held) {
                let (document, first, last) = (place.1, draft.first.0, draft.last.0);
                return Err(format!(
                    "#{replica} holds changes up to {held} of a draft in {document:.8} that goes from {first} to {last}"
                ));
            }
        }
        Ok(())
    }

    /// An application looks at a document: `has` says what is part of it.
    ///
    /// # Errors
    /// It sees a part of a draft.
    pub fn shows(&self, replica: usize, place: Place, has: impl Fn(&ChangeHash) -> bool) -> Result<(), String> {
        match self.of(&place).find(|draft| has(&draft.first.1) != has(&draft.last.1)) {
            None => Ok(()),
            Some(Whole { first, last, .. }) => Err(format!(
                "#{replica} shows {:.8} of {:.8} without {:.8}, which is of the same draft",
                first.1, place.1, last.1
            )),
        }
    }

    fn of(&self, place: &Place) -> impl Iterator<Item = &Whole> {
        self.published.get(place).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::frontier::Proof;
    use anabranch_engine::id::{AclHash, DeviceId, DocumentId, SpaceId};
    use anabranch_engine::run::RunHeader;

    const PLACE: Place = (SpaceId([1; 32]), DocumentId([2; 16]));
    const ACTOR: ActorId = ActorId([3; 16]);

    fn change(seq: u64) -> ChangeInfo {
        let hash = ChangeHash([seq as u8; 32]);
        ChangeInfo { hash, actor: ACTOR, device: None, seq, wall_s: 0, deps: Vec::new(), ops: 1, message: None }
    }

    fn up_to(last_seq: u64) -> Frontier {
        let header = RunHeader {
            space: PLACE.0,
            document: PLACE.1,
            acl: AclHash([0; 32]),
            device: DeviceId([4; 32]),
            actor: ACTOR,
            first_seq: 1,
            last_seq,
            tip: ChangeHash([last_seq as u8; 32]),
            signature: [0; 64],
        };
        let mut frontier = Frontier::default();
        frontier.accept(Proof { header, first_lamport: 1, lamport: last_seq });
        frontier
    }

    #[test]
    fn a_part_of_a_draft_is_seen_in_memory_and_on_disk() {
        let mut drafts = Drafts::default();
        drafts.published(PLACE, &[change(3), change(4), change(5)]);
        let held: Vec<bool> = (1..7).map(|last| drafts.holds(0, PLACE, &up_to(last)).is_ok()).collect();
        assert_eq!(held, [true, true, false, false, true, true]);
        let shown = |last: u8| drafts.shows(0, PLACE, |hash| hash.0[0] <= last).is_ok();
        assert_eq!([2, 3, 4, 5].map(shown), [true, false, false, true]);
    }
}
