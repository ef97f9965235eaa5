//! I16 actor discipline: no two different changes with one (actor, seq) are ever made, and no actor is continued by another
//! process or in another document.

use std::collections::BTreeMap;

use anabranch_engine::document::view::ChangeInfo;
use anabranch_engine::id::{ActorId, ChangeHash};

use crate::sim::ledger::Place;

/// The checker's name.
pub const CHECKER: &str = "I16 actor discipline";

/// Every change that was ever made, by whom.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    actors: BTreeMap<ActorId, (usize, u64, Place)>,
    changes: BTreeMap<(ActorId, u64), ChangeHash>,
}

impl Registry {
    /// A process of a replica has made a change.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn produced(&mut self, replica: usize, process: u64, place: Place, made: &ChangeInfo) -> Result<(), String> {
        let owner = *self.actors.entry(made.actor).or_insert((replica, process, place));
        if owner != (replica, process, place) {
            return Err(format!(
                "actor {:.8} of #{} (process {}, document {:.8}) is continued by #{replica} (process {process}, document {:.8})",
                made.actor, owner.0, owner.1, owner.2.1, place.1
            ));
        }
        self.seen(made).map_err(|text| format!("#{replica} makes {text}"))
    }

    /// A change was seen in somebody's history.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn seen(&mut self, change: &ChangeInfo) -> Result<(), String> {
        let first = *self.changes.entry((change.actor, change.seq)).or_insert(change.hash);
        if first != change.hash {
            let (actor, seq) = (change.actor, change.seq);
            return Err(format!("change {seq} of actor {actor:.8} as {:.8}, which is {first:.8} already", change.hash));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::id::{DocumentId, SpaceId};

    fn change(actor: u8, seq: u64, hash: u8) -> ChangeInfo {
        ChangeInfo {
            hash: ChangeHash([hash; 32]),
            actor: ActorId([actor; 16]),
            device: None,
            seq,
            wall_s: 0,
            deps: Vec::new(),
            ops: 1,
            message: None,
        }
    }

    #[test]
    fn forks_and_continued_actors_are_seen() {
        let place = (SpaceId([1; 32]), DocumentId([1; 16]));
        let elsewhere = (SpaceId([1; 32]), DocumentId([2; 16]));
        let mut registry = Registry::default();
        registry.produced(0, 1, place, &change(1, 1, 1)).unwrap();
        registry.produced(0, 1, place, &change(1, 2, 2)).unwrap();
        registry.seen(&change(1, 2, 2)).unwrap();
        assert!(registry.produced(0, 1, place, &change(1, 2, 3)).is_err(), "a fork");
        assert!(registry.produced(0, 2, place, &change(1, 3, 3)).is_err(), "continued after a restart");
        assert!(registry.produced(0, 1, elsewhere, &change(1, 3, 3)).is_err(), "continued in another document");
        assert!(registry.seen(&change(1, 1, 9)).is_err(), "a fork seen elsewhere");
    }
}
