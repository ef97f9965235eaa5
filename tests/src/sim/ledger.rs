//! What applications were promised, written down outside every simulated disk: each edit with its change hash, and which
//! of them a replica said were saved.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::id::{ChangeHash, DocumentId, SpaceId};
use anabranch_engine::space::roles::Role;
use anabranch_engine::storage::CommitId;

/// A document's full name.
pub type Place = (SpaceId, DocumentId);

/// One edit, as its application saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Where.
    pub place: Place,
    /// The change that the edit became.
    pub change: ChangeHash,
    /// By how much it incremented the document's counter.
    pub increment: i64,
    /// Hash of the whole content as of this change.
    pub content: [u8; 32],
    /// What it did to keys of the document, as far as they are looked at one by one.
    pub wrote: BTreeMap<String, Wrote>,
}

/// What an edit did to a key in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It has a value.
    Set,
    /// It is gone.
    Removed,
}

/// The ledger of a world.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Edits that wait for their commit, by replica.
    pending: BTreeMap<usize, Vec<(CommitId, Edited)>>,
    /// Edits acknowledged as saved, by replica.
    saved: BTreeMap<usize, Vec<Edited>>,
    /// Every edit that was ever made, saved or not.
    edits: BTreeMap<(Place, ChangeHash), Edited>,
    /// Spaces that a replica was told it is a member of, with its role.
    joined: BTreeMap<usize, BTreeMap<SpaceId, Role>>,
    /// Process starts that are durable: the greatest boot epoch known to be on disk.
    epochs: BTreeMap<usize, u64>,
}

impl Ledger {
    /// An edit was made. It is saved when `commit` is.
    pub fn edited(&mut self, replica: usize, commit: CommitId, edited: Edited) {
        self.edits.insert((edited.place, edited.change), edited.clone());
        self.pending.entry(replica).or_default().push((commit, edited));
    }

    /// What a replica says is saved when it says so of `commit`.
    pub fn to_be_saved(&self, replica: usize, commit: CommitId) -> Vec<(Place, ChangeHash)> {
        let pending = self.pending.get(&replica).into_iter().flatten();
        pending.filter(|(id, _)| *id <= commit).map(|(_, edited)| (edited.place, edited.change)).collect()
    }

    /// A replica said that everything up to `commit` is saved. Returns how many edits that were.
    pub fn committed(&mut self, replica: usize, commit: CommitId) -> u64 {
        let pending = self.pending.entry(replica).or_default();
        let saved = self.saved.entry(replica).or_default();
        let before = saved.len();
        pending.retain(|(id, edited)| {
            let is_saved = *id <= commit;
            if is_saved {
                saved.push(edited.clone());
            }
            !is_saved
        });
        (saved.len() - before) as u64
    }

    /// A replica's process ended: what it did not acknowledge may be gone.
    pub fn died(&mut self, replica: usize) {
        self.pending.remove(&replica);
    }

    /// A replica was told that it takes part in a space.
    pub fn joined(&mut self, replica: usize, space: SpaceId, role: Role) {
        self.joined.entry(replica).or_default().insert(space, role);
    }

    /// A replica's first commit is on disk, so this boot epoch is.
    pub fn booted(&mut self, replica: usize, epoch: u64) {
        self.epochs.insert(replica, epoch);
    }

    /// A replica has left a space: nothing of it is expected there any more.
    pub fn left(&mut self, replica: usize, space: SpaceId) {
        self.joined.entry(replica).or_default().remove(&space);
        self.saved.entry(replica).or_default().retain(|edited| edited.place.0 != space);
    }

    /// The greatest boot epoch that is on a replica's disk.
    pub fn epoch(&self, replica: usize) -> Option<u64> {
        self.epochs.get(&replica).copied()
    }

    /// The spaces that a replica takes part in, by its own word.
    pub fn spaces_of(&self, replica: usize) -> BTreeMap<SpaceId, Role> {
        self.joined.get(&replica).cloned().unwrap_or_default()
    }

    /// The replicas in a space, by their own word.
    pub fn members_of(&self, space: &SpaceId) -> BTreeMap<usize, Role> {
        self.joined.iter().filter_map(|(replica, spaces)| Some((*replica, *spaces.get(space)?))).collect()
    }

    /// What a replica said it saved.
    pub fn saved_by(&self, replica: usize) -> &[Edited] {
        self.saved.get(&replica).map(Vec::as_slice).unwrap_or_default()
    }

    /// All that was ever said to be saved, with who said it.
    pub fn saved(&self) -> impl Iterator<Item = (usize, &Edited)> {
        self.saved.iter().flat_map(|(replica, saved)| saved.iter().map(|edited| (*replica, edited)))
    }

    /// Documents in which something was said to be saved.
    pub fn places(&self) -> BTreeSet<Place> {
        self.saved().map(|(_, edited)| edited.place).collect()
    }

    /// The edit that became this change.
    pub fn edit(&self, place: Place, change: ChangeHash) -> Option<&Edited> {
        self.edits.get(&(place, change))
    }

    /// Every edit.
    pub fn edits(&self) -> impl Iterator<Item = &Edited> {
        self.edits.values()
    }

    /// Edits made by a replica that are not yet acknowledged.
    pub fn pending_of(&self, replica: usize) -> usize {
        self.pending.get(&replica).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(n: u8) -> Edited {
        let place = (SpaceId([1; 32]), DocumentId([2; 16]));
        Edited { place, change: ChangeHash([n; 32]), increment: 0, content: [0; 32], wrote: BTreeMap::new() }
    }

    #[test]
    fn an_edit_is_saved_when_its_commit_or_a_later_one_is() {
        let mut ledger = Ledger::default();
        ledger.edited(0, CommitId(2), edited(1));
        ledger.edited(0, CommitId(4), edited(2));
        assert_eq!(ledger.committed(0, CommitId(1)), 0);
        assert_eq!(ledger.committed(0, CommitId(3)), 1);
        ledger.died(0);
        assert_eq!(ledger.committed(0, CommitId(9)), 0);
        assert_eq!(ledger.saved_by(0), [edited(1)]);
        assert_eq!(ledger.edits().count(), 2);
    }
}
