//! The past stays what it was: a document read as of a change has the content it had where and when the change was made.

use crate::sim::Kind;
use crate::sim::dice::Dice;
use crate::sim::ledger::Place;
use crate::sim::workload::content_hash;
use crate::sim::world::World;

/// Reads an open document as of some change made anywhere, if that is known here.
pub fn read_past(world: &mut World, replica: usize, place: Place, salt: u64) {
    let (space, document) = place;
    let edits: Vec<_> = world.ledger.edits().filter(|edited| edited.place == place).collect();
    let Some(edited) = Dice::salted(salt).pick(&edits).copied() else { return };
    let Some(process) = &world.replicas[replica].process else { return };
    let Ok(view) = process.engine.view(&space, &document, Some(&[edited.change])) else { return };
    let (expected, found) = (edited.content, content_hash(&view.json()));
    let change = edited.change;
    if expected != found {
        let text = format!("#{replica}: {document:.8} as of {change:.8} is not what it was: {}", view.json());
        world.fail(Kind::Safety, "history", text);
    }
}

/// Reads a few past versions of every open document.
pub fn everywhere(world: &mut World) {
    for replica in world.alive() {
        let Some(process) = &world.replicas[replica].process else { continue };
        for place in process.open_places() {
            for salt in 0..2 {
                read_past(world, replica, place, salt);
            }
        }
    }
}
