//! I2 no acknowledged write lost: what a replica said it saved is there after each of its restarts, and once all has healed
//! it is everywhere.

use crate::sim::ledger::Place;
use crate::sim::world::World;
use crate::sim::{Kind, checkers::convergence::Observed};

/// The checker's name.
pub const CHECKER: &str = "I2 no acknowledged write lost";

/// Right after a start, before anything else happens: spaces and documents are there, and the boot epoch has grown.
pub fn after_start(world: &mut World, replica: usize) {
    let epoch_before = world.ledger.epoch(replica);
    let spaces = world.ledger.spaces_of(replica);
    let places: std::collections::BTreeSet<Place> =
        world.ledger.saved_by(replica).iter().map(|edited| edited.place).collect();
    let Some(engine) = world.engine(replica) else { return };
    let mut missing = Vec::new();
    let there = engine.spaces();
    for (space, role) in spaces {
        match there.iter().find(|status| status.space == space) {
            None => missing.push(format!("space {space:.8}")),
            // Invited again, it may have a greater one by now.
            // Under another key it is to be let in again.
            Some(status) if status.former.is_none() && status.role.is_none_or(|now| now < role) => {
                missing.push(format!("its role in {space:.8}: {:?} where {role:?} was", status.role));
            }
            Some(_) => {}
        }
    }
    for (space, document) in places {
        if engine.heads(&space, &document).is_empty() {
            missing.push(format!("document {document:.8}"));
        }
    }
    let epoch = engine.storage().1;
    if epoch_before.is_some_and(|before| epoch <= before) {
        missing.push(format!("a start: boot epoch {epoch} follows {epoch_before:?}"));
    }
    if !missing.is_empty() {
        world.fail(Kind::Safety, CHECKER, format!("#{replica} restarted without {}", missing.join(", ")));
    }
}

/// In a document that is open: every change that this replica said it saved.
pub fn in_document(world: &mut World, replica: usize, place: Place) {
    let (space, document) = place;
    let Some(process) = &world.replicas[replica].process else { return };
    let mut lost = Vec::new();
    for edited in world.ledger.saved_by(replica).iter().filter(|edited| edited.place == place) {
        if process.engine.view(&space, &document, Some(&[edited.change])).is_err() {
            lost.push(format!("{:.8}", edited.change));
        }
    }
    if !lost.is_empty() {
        let text = format!("#{replica} has not got what it saved in {document:.8}: {}", lost.join(", "));
        world.fail(Kind::Safety, CHECKER, text);
    }
}

/// What was said to be saved by whoever is to be trusted, in documents that all can have alike.
pub fn promised(world: &World) -> impl Iterator<Item = &crate::sim::ledger::Edited> {
    let kept = |replica: usize, place: &Place| world.is_trustworthy(replica) && !world.is_forked(place);
    world.ledger.saved().filter(move |(replica, edited)| kept(*replica, &edited.place)).map(|(_, edited)| edited)
}

/// Everywhere, once all has healed: every change that anyone said was saved.
///
/// # Errors
/// The first that is missing.
pub fn everywhere<'a>(
    saved: impl Iterator<Item = &'a crate::sim::ledger::Edited>,
    observed: &[Observed],
) -> Result<(), String> {
    let saved: Vec<_> = saved.collect();
    for view in observed {
        for edited in saved.iter().filter(|edited| edited.place.0 == view.space) {
            let document = edited.place.1;
            let there = view.documents.get(&document).is_some_and(|seen| seen.changes.contains(&edited.change));
            if !there {
                return Err(format!(
                    "change {:.8} of {document:.8} was saved and is not at #{}",
                    edited.change, view.replica
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checkers::convergence::Seen;
    use crate::sim::ledger::Edited;
    use anabranch_engine::id::{ChangeHash, DocumentId, SpaceId};

    #[test]
    fn a_saved_change_that_one_replica_lacks_is_reported() {
        let place = (SpaceId([1; 32]), DocumentId([2; 16]));
        let change = ChangeHash([3; 32]);
        let edited = Edited { place, change, increment: 0, content: [0; 32], wrote: Default::default() };
        let mut view = Observed { replica: 4, space: place.0, ..Observed::default() };
        let error = everywhere([&edited].into_iter(), std::slice::from_ref(&view)).unwrap_err();
        assert!(error.contains("is not at #4"), "{error}");
        view.documents.insert(place.1, Seen { changes: [change].into(), ..Seen::default() });
        assert_eq!(everywhere([&edited].into_iter(), &[view]), Ok(()));
    }
}
