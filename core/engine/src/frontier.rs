//! A document's frontier: for each actor its newest run. At once the version vector and the proof of authorship.

use alloc::collections::BTreeMap;

use crate::gate;
use crate::id::ActorId;
use crate::run::{Run, RunHeader};

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

impl Proof {
    /// What holding this run says; `None` if its payload is no chain of changes.
    pub fn of(run: &Run) -> Option<Self> {
        let tip = gate::payload_tip(&run.payload).ok()?;
        Some(Self { header: run.header.clone(), first_lamport: tip.first_lamport, lamport: tip.lamport })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AclHash, ChangeHash, DeviceId, DocumentId, SpaceId};
    use crate::keys::SIGNATURE_LEN;

    fn proof(first_seq: u64, last_seq: u64) -> Proof {
        let header = RunHeader {
            space: SpaceId([1; 32]),
            document: DocumentId([2; 16]),
            acl: AclHash([3; 32]),
            device: DeviceId([4; 32]),
            actor: ActorId([7; 16]),
            first_seq,
            last_seq,
            tip: ChangeHash([5; 32]),
            signature: [6; SIGNATURE_LEN],
        };
        Proof { header, first_lamport: first_seq * 10, lamport: last_seq * 10 }
    }

    #[test]
    fn a_frontier_only_grows_and_knows_where_it_begins() {
        let mut frontier = Frontier::default();
        for (first, last) in [(4, 5), (1, 3), (6, 6), (4, 5)] {
            frontier.accept(proof(first, last));
        }
        let held = &frontier.actors[&ActorId([7; 16])];
        assert_eq!((held.header.last_seq, held.first_lamport, held.lamport), (6, 10, 60));
    }
}
