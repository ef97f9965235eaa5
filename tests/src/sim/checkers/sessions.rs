//! I5 session guarantees, for each replica's application and document: it reads what it wrote, what it has read once it
//! reads always, and what it writes stands on all that it has read. What was saved counts across restarts too; what was
//! only in memory ends with its process.

use std::collections::BTreeMap;

use anabranch_engine::document::view::ChangeInfo;
use anabranch_engine::id::{ChangeHash, SpaceId};
use anabranch_engine::limits::CHANGE_DEPS_MAX;

use crate::sim::ledger::Place;

/// The checker's name.
pub const CHECKER: &str = "I5 session guarantees";

/// What every application has seen.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// The version read last, and by which process.
    read: BTreeMap<(usize, Place), (u64, Vec<ChangeHash>)>,
    /// The version that is on disk, as the store has answered.
    saved: BTreeMap<(usize, Place), Vec<ChangeHash>>,
    /// The version that is in the commit in flight.
    in_flight: BTreeMap<(usize, Place), Vec<ChangeHash>>,
}

impl Sessions {
    /// A version of a document is handed to the store.
    pub fn committing(&mut self, replica: usize, place: Place, heads: Vec<ChangeHash>) {
        self.in_flight.insert((replica, place), heads);
    }

    /// The store says that it is on disk.
    pub fn committed(&mut self, replica: usize) {
        let done: Vec<_> = self.in_flight.extract_if(.., |(by, _), _| *by == replica).collect();
        self.saved.extend(done);
    }

    /// A process ended: what was in flight may be on disk or not.
    pub fn died(&mut self, replica: usize) {
        self.in_flight.retain(|(by, _), _| *by != replica);
    }

    /// A replica has another disk than it had: all that it has seen is void.
    pub fn forget(&mut self, replica: usize) {
        self.died(replica);
        self.saved.retain(|(by, _), _| *by != replica);
        self.read.retain(|(by, _), _| *by != replica);
    }

    /// A replica has left a space.
    pub fn left(&mut self, replica: usize, space: SpaceId) {
        let stays = |(by, place): &(usize, Place)| *by != replica || place.0 != space;
        self.in_flight.retain(|at, _| stays(at));
        self.saved.retain(|at, _| stays(at));
        self.read.retain(|at, _| stays(at));
    }

    /// Whether an application has read exactly this version last.
    pub fn has_read(&self, replica: usize, process: u64, place: Place, heads: &[ChangeHash]) -> bool {
        self.read.get(&(replica, place)).is_some_and(|(by, read)| *by == process && read == heads)
    }

    /// An application reads a document: `heads` is its version, `has` says what is part of it.
    ///
    /// # Errors
    /// Something that it has read before is gone.
    pub fn reads(
        &mut self,
        replica: usize,
        process: u64,
        place: Place,
        heads: &[ChangeHash],
        has: impl Fn(&ChangeHash) -> bool,
    ) -> Result<(), String> {
        let before = match self.read.get(&(replica, place)) {
            Some((same, heads)) if *same == process => heads,
            _ => self.saved.get(&(replica, place)).unwrap_or(const { &Vec::new() }),
        };
        if let Some(gone) = before.iter().find(|hash| !has(hash)) {
            let document = place.1;
            return Err(format!("#{replica} has read {gone:.8} in {document:.8}, and reads {heads:?} without it"));
        }
        self.read.insert((replica, place), (process, heads.to_vec()));
        Ok(())
    }
}

/// An application wrote: `before` is the version that it saw, `after` the one that it sees now, `made` its change.
///
/// # Errors
/// It does not see what it wrote, or its change does not stand on what it had read.
pub fn wrote(
    replica: usize,
    place: Place,
    before: &[ChangeHash],
    after: &[ChangeHash],
    made: Option<&ChangeInfo>,
) -> Result<(), String> {
    let document = place.1;
    let Some(made) = made.filter(|made| after == [made.hash]) else {
        return Err(format!("#{replica} wrote to {document:.8}, and sees {after:?} where {before:?} was"));
    };
    if before.len() >= CHANGE_DEPS_MAX {
        // They were joined first, and the only head that is left has all of it below.
        return Ok(());
    }
    let stands_on = |hash: &&ChangeHash| made.deps.contains(hash);
    match before.iter().find(|hash| !stands_on(hash)) {
        None => Ok(()),
        Some(missing) => {
            let hash = made.hash;
            Err(format!(
                "#{replica} wrote {hash:.8} to {document:.8}, which does not stand on {missing:.8} that it saw"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::id::{ActorId, DocumentId};

    const PLACE: Place = (SpaceId([1; 32]), DocumentId([2; 16]));

    fn hash(n: u8) -> ChangeHash {
        ChangeHash([n; 32])
    }

    #[test]
    fn what_was_read_and_is_gone_is_seen_and_a_restart_keeps_what_was_saved() {
        let mut sessions = Sessions::default();
        let all = |_: &ChangeHash| true;
        let none = |_: &ChangeHash| false;
        assert_eq!(sessions.reads(0, 1, PLACE, &[hash(1)], all), Ok(()));
        assert!(sessions.clone().reads(0, 1, PLACE, &[hash(2)], none).unwrap_err().contains("without it"));
        // Not saved: the next process may lack it.
        assert_eq!(sessions.clone().reads(0, 2, PLACE, &[], none), Ok(()));
        sessions.committing(0, PLACE, vec![hash(1)]);
        let mut lost_in_flight = sessions.clone();
        lost_in_flight.died(0);
        assert_eq!(lost_in_flight.reads(0, 2, PLACE, &[], none), Ok(()));
        sessions.committed(0);
        assert!(sessions.clone().reads(0, 2, PLACE, &[], none).is_err());
        sessions.left(0, PLACE.0);
        assert_eq!(sessions.reads(0, 2, PLACE, &[], none), Ok(()));
    }

    #[test]
    fn a_write_that_is_not_seen_or_stands_on_less_than_was_read_is_seen() {
        let made = ChangeInfo {
            hash: hash(3),
            actor: ActorId([1; 16]),
            device: None,
            seq: 1,
            wall_s: 0,
            deps: vec![hash(1)],
            ops: 1,
            message: None,
        };
        assert_eq!(wrote(0, PLACE, &[hash(1)], &[hash(3)], Some(&made)), Ok(()));
        assert!(wrote(0, PLACE, &[hash(1)], &[hash(1)], Some(&made)).unwrap_err().contains("and sees"));
        assert!(wrote(0, PLACE, &[hash(1)], &[hash(3)], None).is_err());
        assert!(wrote(0, PLACE, &[hash(2)], &[hash(3)], Some(&made)).unwrap_err().contains("does not stand on"));
    }
}
