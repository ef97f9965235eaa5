//! I4 exactly once: a document's counter is the sum of the increments in its history, whatever was sent twice.

use crate::sim::checkers::convergence::Observed;
use crate::sim::ledger::Ledger;

/// The checker's name.
pub const CHECKER: &str = "I4 exactly once";

/// Compares every counter with its history.
///
/// # Errors
/// The first that is wrong.
pub fn exact(ledger: &Ledger, observed: &[Observed]) -> Result<(), String> {
    for view in observed {
        for (document, seen) in &view.documents {
            let Some(counter) = seen.counter else { continue };
            let place = (view.space, *document);
            let increments = seen.changes.iter().filter_map(|change| ledger.edit(place, *change));
            let sum: i64 = increments.map(|edited| edited.increment).sum();
            if counter != sum {
                return Err(format!(
                    "#{}: the counter of {document:.8} is {counter}, its increments make {sum}",
                    view.replica
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
    use anabranch_engine::id::{ActorId, ChangeHash, DocumentId, SpaceId};
    use anabranch_engine::storage::CommitId;

    #[test]
    fn an_increment_that_counts_twice_is_seen() {
        let place = (SpaceId([1; 32]), DocumentId([2; 16]));
        let change = ChangeHash([3; 32]);
        let mut ledger = Ledger::default();
        let edited = Edited { place, change, increment: 5, content: [0; 32], wrote: Default::default() };
        ledger.edited(0, CommitId(1), edited, (ActorId([4; 16]), 1));
        let with = |counter| {
            let seen = Seen { changes: [change].into(), counter: Some(counter), ..Seen::default() };
            Observed { space: place.0, documents: [(place.1, seen)].into(), ..Observed::default() }
        };
        assert_eq!(exact(&ledger, &[with(5)]), Ok(()));
        assert!(exact(&ledger, &[with(10)]).unwrap_err().contains("is 10, its increments make 5"));
    }
}
