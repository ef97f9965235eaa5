//! I3 causal order: whatever a replica says that it holds, and whatever it shows, it has with everything that came before.
//! Looked at with every commit (what it tells peers and keeps for itself) and whenever an application looks (what it shows).

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::document::view::ChangeInfo;
use anabranch_engine::frontier::Frontier;
use anabranch_engine::id::{ActorId, ChangeHash, SpaceId};

use crate::sim::ledger::Place;

/// The checker's name.
pub const CHECKER: &str = "I3 causal order";

/// The graph of all changes that were ever made, and how far each replica has come in it.
#[derive(Debug, Clone, Default)]
pub struct Causality {
    made: BTreeMap<ChangeHash, (ActorId, u64, Vec<ChangeHash>)>,
    by_number: BTreeMap<(ActorId, u64), ChangeHash>,
    held: BTreeMap<(usize, Place), BTreeMap<ActorId, u64>>,
}

impl Causality {
    /// A change was made, or was seen for the first time.
    pub fn note(&mut self, change: &ChangeInfo) {
        self.by_number.entry((change.actor, change.seq)).or_insert(change.hash);
        self.made.entry(change.hash).or_insert_with(|| (change.actor, change.seq, change.deps.clone()));
    }

    /// A replica has another disk than it had.
    pub fn forget(&mut self, replica: usize) {
        self.held.retain(|(held_by, _), _| *held_by != replica);
    }

    /// A replica has left a space.
    pub fn left(&mut self, replica: usize, space: SpaceId) {
        self.held.retain(|(held_by, place), _| *held_by != replica || place.0 != space);
    }

    /// A replica is about to keep, and to tell peers, that it holds this much of a document.
    ///
    /// # Errors
    /// A change in it of which something that came before is not.
    pub fn holds(&mut self, replica: usize, place: Place, frontier: &Frontier) -> Result<(), String> {
        let known = self.held.entry((replica, place)).or_default();
        let mut news = Vec::new();
        for (actor, proof) in &frontier.actors {
            let last = proof.header.last_seq;
            let before = known.insert(*actor, last).unwrap_or(0);
            news.extend((before + 1..=last).filter_map(|seq| self.by_number.get(&(*actor, seq))));
        }
        let has = |dep: &ChangeHash| {
            let (actor, seq, _) = self.made.get(dep)?;
            Some(frontier.actors.get(actor).is_some_and(|proof| proof.header.last_seq >= *seq))
        };
        for change in news {
            let (actor, seq, deps) = &self.made[change];
            // Of a change that no application made here, nothing is known until somebody shows it.
            if let Some(dep) = deps.iter().find(|dep| has(dep) == Some(false)) {
                let document = place.1;
                return Err(format!(
                    "#{replica} holds change {seq} of actor {actor:.8} in {document:.8} without {dep:.8}, on which it stands"
                ));
            }
        }
        Ok(())
    }

    /// A replica shows this history.
    ///
    /// # Errors
    /// A change that comes before, or without, one that it stands on.
    pub fn shows(&mut self, replica: usize, place: Place, history: &[ChangeInfo]) -> Result<(), String> {
        let mut before = BTreeSet::new();
        for change in history {
            if let Some(dep) = change.deps.iter().find(|dep| !before.contains(*dep)) {
                let (document, hash) = (place.1, change.hash);
                return Err(format!("#{replica} shows {hash:.8} of {document:.8} before {dep:.8}, on which it stands"));
            }
            before.insert(change.hash);
            self.note(change);
        }
        Ok(())
    }

    /// A change and everything that it stands on, as far as is known.
    pub fn ancestors(&self, change: ChangeHash) -> BTreeSet<ChangeHash> {
        let mut found = BTreeSet::new();
        let mut open = vec![change];
        while let Some(hash) = open.pop() {
            if found.insert(hash)
                && let Some((_, _, deps)) = self.made.get(&hash)
            {
                open.extend(deps);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::frontier::Proof;
    use anabranch_engine::id::{AclHash, DeviceId, DocumentId};
    use anabranch_engine::run::RunHeader;

    const PLACE: Place = (SpaceId([1; 32]), DocumentId([2; 16]));

    pub(crate) fn change(actor: u8, seq: u64, hash: u8, deps: &[u8]) -> ChangeInfo {
        ChangeInfo {
            hash: ChangeHash([hash; 32]),
            actor: ActorId([actor; 16]),
            device: None,
            seq,
            wall_s: 0,
            deps: deps.iter().map(|dep| ChangeHash([*dep; 32])).collect(),
            ops: 1,
            message: None,
        }
    }

    fn frontier(held: &[(u8, u64)]) -> Frontier {
        let proof = |(actor, last_seq): &(u8, u64)| {
            let header = RunHeader {
                space: PLACE.0,
                document: PLACE.1,
                acl: AclHash([0; 32]),
                device: DeviceId([0; 32]),
                actor: ActorId([*actor; 16]),
                first_seq: 1,
                last_seq: *last_seq,
                tip: ChangeHash([0; 32]),
                signature: [0; 64],
            };
            (header.actor, Proof { header, first_lamport: 1, lamport: 1 })
        };
        Frontier { actors: held.iter().map(proof).collect() }
    }

    #[test]
    fn a_change_that_is_held_without_its_ancestor_is_seen() {
        let mut causality = Causality::default();
        causality.note(&change(1, 1, 1, &[]));
        causality.note(&change(2, 1, 2, &[1]));
        assert_eq!(causality.holds(0, PLACE, &frontier(&[(1, 1)])), Ok(()));
        assert_eq!(causality.holds(0, PLACE, &frontier(&[(1, 1), (2, 1)])), Ok(()));
        assert!(causality.holds(1, PLACE, &frontier(&[(2, 1)])).unwrap_err().contains("#1 holds change 1"));
    }

    #[test]
    fn a_history_that_shows_effect_before_cause_is_seen() {
        let mut causality = Causality::default();
        let (cause, effect) = (change(1, 1, 1, &[]), change(2, 1, 2, &[1]));
        assert_eq!(causality.shows(0, PLACE, &[cause.clone(), effect.clone()]), Ok(()));
        assert!(causality.shows(0, PLACE, &[effect.clone(), cause]).unwrap_err().contains("before"));
        assert!(causality.shows(0, PLACE, &[effect]).is_err());
        assert_eq!(causality.ancestors(ChangeHash([2; 32])).len(), 2);
    }
}
