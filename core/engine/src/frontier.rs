//! A document's frontier: for each actor its last run. At once the version vector and the proof of authorship.

use alloc::collections::BTreeMap;

use crate::id::ActorId;
use crate::run::RunHeader;

/// What is held of one actor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The newest run's header.
    pub header: RunHeader,
    /// Greatest operation counter of the first change of the actor's first run.
    pub first_lamport: u64,
    /// Greatest operation counter of its last change.
    pub lamport: u64,
}

/// What is held of each actor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    /// By actor.
    pub actors: BTreeMap<ActorId, Proof>,
}

impl Frontier {
    /// Takes in an accepted run. An older one than is known only shows where the actor's chain begins.
    pub fn accept(&mut self, proof: Proof) {
        match self.actors.get_mut(&proof.header.actor) {
            None => {
                self.actors.insert(proof.header.actor, proof);
            }
            Some(known) => {
                let first_lamport = known.first_lamport.min(proof.first_lamport);
                if proof.header.last_seq > known.header.last_seq {
                    *known = proof;
                }
                known.first_lamport = first_lamport;
            }
        }
    }
}
