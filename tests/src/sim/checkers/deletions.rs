//! I6 what is deleted stays deleted. Today two things can be: a key of a document, which is there if and only if it was set
//! by a change that no removal of it stands on; and a space that a replica leaves, which does not come back by itself, also
//! not when the process dies while it is being removed.
//!
//! Deleting documents and removing members do not exist yet. With them belong here: a deleted document that is not back
//! whatever late edits of it arrive, and edits of a removed member that appear nowhere.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::id::{ChangeHash, SpaceId};

use crate::sim::checkers::causality::Causality;
use crate::sim::checkers::convergence::Observed;
use crate::sim::ledger::{Ledger, Wrote};
use crate::sim::world::World;

/// The checker's name.
pub const CHECKER: &str = "I6 deleted stays deleted";

/// Compares which keys are there with which were set and removed.
///
/// # Errors
/// The first that is there and should not be, or the other way around.
pub fn keys(ledger: &Ledger, causality: &Causality, observed: &[Observed]) -> Result<(), String> {
    for view in observed {
        for (document, seen) in &view.documents {
            let place = (view.space, *document);
            if seen.changes.iter().any(|change| ledger.edit(place, *change).is_none()) {
                continue; // somebody hostile has been here, and what it did is not in the books
            }
            let mut set: BTreeMap<&str, Vec<ChangeHash>> = BTreeMap::new();
            let mut before_removal: BTreeMap<&str, BTreeSet<ChangeHash>> = BTreeMap::new();
            for change in &seen.changes {
                let Some(edited) = ledger.edit(place, *change) else { continue };
                for (key, wrote) in &edited.wrote {
                    match wrote {
                        Wrote::Set => set.entry(key).or_default().push(*change),
                        Wrote::Removed => {
                            before_removal.entry(key).or_default().extend(causality.ancestors(*change));
                        }
                    }
                }
            }
            for (key, removed) in before_removal {
                let expected = set.get(key).is_some_and(|set| set.iter().any(|change| !removed.contains(change)));
                if seen.keys.contains(key) != expected {
                    let what =
                        if expected { "is gone, and was set by who did not know that" } else { "is back, after" };
                    return Err(format!("#{}: `{key}` of {document:.8} {what} it was removed", view.replica));
                }
            }
        }
    }
    Ok(())
}

/// A replica that has left a space has nothing of it.
///
/// # Errors
/// What it has.
pub fn space(world: &mut World, replica: usize, space: &SpaceId) -> Result<(), String> {
    let Some(engine) = world.engine(replica) else { return Ok(()) };
    let listed = engine.spaces().iter().any(|status| status.space == *space);
    let (documents, members) = (engine.documents(space).len(), engine.members(space).len());
    if listed || documents + members > 0 {
        return Err(format!(
            "#{replica} has left {space:.8}, and it is back with {documents} documents and {members} members"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checkers::convergence::Seen;
    use crate::sim::ledger::Edited;
    use anabranch_engine::document::view::ChangeInfo;
    use anabranch_engine::id::{ActorId, DocumentId};
    use anabranch_engine::storage::CommitId;

    #[test]
    fn a_removed_key_that_is_back_and_a_set_one_that_is_gone_are_seen() {
        let place = (SpaceId([1; 32]), DocumentId([2; 16]));
        let mut ledger = Ledger::default();
        let mut causality = Causality::default();
        // 1 sets the key, 2 removes it, 3 sets it beside 2.
        for (n, deps, wrote) in [(1, vec![], Wrote::Set), (2, vec![1], Wrote::Removed), (3, vec![1], Wrote::Set)] {
            let change = ChangeHash([n; 32]);
            causality.note(&ChangeInfo {
                hash: change,
                actor: ActorId([n; 16]),
                device: None,
                seq: 1,
                wall_s: 0,
                deps: deps.into_iter().map(|dep| ChangeHash([dep; 32])).collect(),
                ops: 1,
                message: None,
            });
            let wrote = [("k".to_owned(), wrote)].into();
            let edited = Edited { place, change, increment: 0, content: [0; 32], wrote };
            ledger.edited(0, CommitId(1), edited, (ActorId([change.0[0]; 16]), 1));
        }
        let with = |changes: &[u8], there: bool| {
            let changes = changes.iter().map(|n| ChangeHash([*n; 32])).collect();
            let keys = there.then(|| "k".to_owned()).into_iter().collect();
            let seen = Seen { changes, keys, ..Seen::default() };
            [Observed { space: place.0, documents: [(place.1, seen)].into(), ..Observed::default() }]
        };
        let check = |observed: [Observed; 1]| keys(&ledger, &causality, &observed);
        assert_eq!(check(with(&[1, 2], false)), Ok(()));
        assert_eq!(check(with(&[1, 2, 3], true)), Ok(()));
        assert!(check(with(&[1, 2], true)).unwrap_err().contains("is back"));
        assert!(check(with(&[1, 2, 3], false)).unwrap_err().contains("is gone"));
    }
}
