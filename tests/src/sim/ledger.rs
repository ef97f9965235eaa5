//! What applications were promised, written down outside every simulated disk: each edit with its change hash, and which
//! of them a replica said were saved.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::id::{ActorId, ChangeHash, DocumentId, SpaceId};
use anabranch_engine::space::roles::Role;
use anabranch_engine::storage::{CommitId, Row, Table, parse_run_key};

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
    /// What each replica was trusted with.
    books: BTreeMap<usize, Book>,
    /// Acknowledged by a store that has lost them since, when another store had them: they are not to be lost.
    owed: Vec<(usize, Edited)>,
    /// Acknowledged by a store that lost them before any other one had them.
    excused: u64,
    /// Every edit that was ever made, saved or not, with its actor and number.
    edits: BTreeMap<(Place, ChangeHash), Edited>,
    numbers: BTreeMap<ChangeHash, (ActorId, u64)>,
    /// Who may keep what it has to itself.
    unreliable: BTreeSet<usize>,
}

/// What one replica has promised, and what its store says that it has: all that a backup of its disk brings back.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Edits acknowledged as saved.
    saved: Vec<Edited>,
    /// Spaces that it was told it is a member of, with its role.
    joined: BTreeMap<SpaceId, Role>,
    /// The greatest boot epoch known to be on its disk.
    epoch: Option<u64>,
    /// Runs that its store said are on disk, by document, actor and last number, its own and those of others.
    runs: BTreeSet<(Place, ActorId, u64)>,
}

impl Book {
    fn holds(&self, place: Place, (actor, seq): (ActorId, u64)) -> bool {
        let next = self.runs.range((place, actor, seq)..).next();
        self.joined.contains_key(&place.0) && next.is_some_and(|(at, by, _)| (*at, *by) == (place, actor))
    }
}

impl Ledger {
    /// An edit was made, as this change of this actor. It is saved when `commit` is.
    pub fn edited(&mut self, replica: usize, commit: CommitId, edited: Edited, number: (ActorId, u64)) {
        self.numbers.insert(edited.change, number);
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
        let saved = &mut self.books.entry(replica).or_default().saved;
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

    /// A replica's store said that these rows are on disk.
    pub fn stored(&mut self, replica: usize, rows: &[Row]) {
        let runs = &mut self.books.entry(replica).or_default().runs;
        for row in rows.iter().filter(|row| row.table == Table::Runs) {
            let Some(at) = parse_run_key(&row.key) else { continue };
            let run = ((at.space, at.document), at.actor, at.last_seq);
            if row.value.is_some() {
                runs.insert(run);
            } else {
                runs.remove(&run);
            }
        }
    }

    /// A replica's process ended: what it did not acknowledge may be gone.
    pub fn died(&mut self, replica: usize) {
        self.pending.remove(&replica);
    }

    /// What a backup of a replica's disk taken now brings back.
    pub fn book(&self, replica: usize) -> Book {
        self.books.get(&replica).cloned().unwrap_or_default()
    }

    /// A replica has what its disk had when `book` was taken, and nothing else: a backup was restored, the disk was copied to
    /// another machine, or it is gone (an empty book). What it had acknowledged since is owed by the others if one of them has
    /// it, and excused if not.
    pub fn replaced(&mut self, replica: usize, book: Book) {
        self.pending.remove(&replica);
        let before = self.books.insert(replica, book).unwrap_or_default();
        let kept: BTreeSet<ChangeHash> = self.books[&replica].saved.iter().map(|edited| edited.change).collect();
        self.forget(replica, before.saved.into_iter().filter(|edited| !kept.contains(&edited.change)).collect());
    }

    /// A replica leaves a space, with all it has of it.
    pub fn left(&mut self, replica: usize, space: SpaceId) {
        if let Some(pending) = self.pending.get_mut(&replica) {
            pending.retain(|(_, edited)| edited.place.0 != space);
        }
        let Some(book) = self.books.get_mut(&replica) else { return };
        book.joined.remove(&space);
        book.runs.retain(|(place, _, _)| place.0 != space);
        let (gone, saved) = std::mem::take(&mut book.saved).into_iter().partition(|edited| edited.place.0 == space);
        book.saved = saved;
        self.forget(replica, gone);
    }

    /// A store has lost these: they are still owed if another one has them. What was owed may have had its last copy there.
    fn forget(&mut self, replica: usize, gone: Vec<Edited>) {
        let gone = gone.into_iter().map(|edited| (replica, edited));
        let mut known = BTreeSet::new();
        for (who, edited) in std::mem::take(&mut self.owed).into_iter().chain(gone) {
            if !known.insert(edited.change) {
                continue;
            }
            let number = self.numbers[&edited.change];
            let mut reliable = self.books.iter().filter(|(replica, _)| !self.unreliable.contains(replica));
            if reliable.any(|(_, book)| book.holds(edited.place, number)) {
                self.owed.push((who, edited));
            } else {
                self.excused += 1;
            }
        }
    }

    /// A replica may keep what it has to itself: what nobody else has may be lost.
    pub fn distrust(&mut self, replica: usize) {
        self.unreliable.insert(replica);
    }

    /// Acknowledged edits that were lost with the only store that had them.
    pub fn excused(&self) -> u64 {
        self.excused
    }

    /// A replica was told that it takes part in a space.
    pub fn joined(&mut self, replica: usize, space: SpaceId, role: Role) {
        self.books.entry(replica).or_default().joined.insert(space, role);
    }

    /// A replica's first commit is on disk, so this boot epoch is.
    pub fn booted(&mut self, replica: usize, epoch: u64) {
        self.books.entry(replica).or_default().epoch = Some(epoch);
    }

    /// The greatest boot epoch that is on a replica's disk.
    pub fn epoch(&self, replica: usize) -> Option<u64> {
        self.books.get(&replica)?.epoch
    }

    /// The spaces that a replica takes part in, by its own word.
    pub fn spaces_of(&self, replica: usize) -> BTreeMap<SpaceId, Role> {
        self.books.get(&replica).map(|book| book.joined.clone()).unwrap_or_default()
    }

    /// The replicas in a space, by their own word.
    pub fn members_of(&self, space: &SpaceId) -> BTreeMap<usize, Role> {
        self.books.iter().filter_map(|(replica, book)| Some((*replica, *book.joined.get(space)?))).collect()
    }

    /// What a replica said it saved.
    pub fn saved_by(&self, replica: usize) -> &[Edited] {
        self.books.get(&replica).map(|book| book.saved.as_slice()).unwrap_or_default()
    }

    /// All that was ever said to be saved, but for what is excused, with who said it.
    pub fn saved(&self) -> impl Iterator<Item = (usize, &Edited)> {
        let held = self.books.iter().flat_map(|(replica, book)| book.saved.iter().map(|edited| (*replica, edited)));
        held.chain(self.owed.iter().map(|(replica, edited)| (*replica, edited)))
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

    const PLACE: Place = (SpaceId([1; 32]), DocumentId([2; 16]));

    const ACTOR: ActorId = ActorId([7; 16]);

    fn edited(n: u8) -> Edited {
        Edited { place: PLACE, change: ChangeHash([n; 32]), increment: 0, content: [0; 32], wrote: BTreeMap::new() }
    }

    fn saves(ledger: &mut Ledger, replica: usize, n: u8) {
        ledger.edited(replica, CommitId(u64::from(n)), edited(n), (ACTOR, u64::from(n)));
        ledger.committed(replica, CommitId(u64::from(n)));
        stores(ledger, replica, n);
    }

    /// Gets a run that ends with this change.
    fn stores(ledger: &mut Ledger, replica: usize, n: u8) {
        let key = anabranch_engine::storage::run_key(&PLACE.0, &PLACE.1, 1, &ACTOR, u64::from(n));
        ledger.stored(replica, &[Row { table: Table::Runs, key, value: Some(Vec::new()) }]);
    }

    fn changes(ledger: &Ledger) -> Vec<u8> {
        ledger.saved().map(|(_, edited)| edited.change.0[0]).collect()
    }

    #[test]
    fn an_edit_is_saved_when_its_commit_or_a_later_one_is() {
        let mut ledger = Ledger::default();
        for (commit, n) in [(2, 1), (4, 2)] {
            ledger.edited(0, CommitId(commit), edited(n), (ACTOR, u64::from(n)));
        }
        assert_eq!(ledger.committed(0, CommitId(1)), 0);
        assert_eq!(ledger.committed(0, CommitId(3)), 1);
        ledger.died(0);
        assert_eq!(ledger.committed(0, CommitId(9)), 0);
        assert_eq!(ledger.saved_by(0), [edited(1)]);
        assert_eq!(ledger.edits().count(), 2);
    }

    #[test]
    fn what_a_backup_does_not_bring_back_is_owed_as_long_as_another_store_has_it() {
        let mut ledger = Ledger::default();
        ledger.joined(0, PLACE.0, Role::Admin);
        ledger.joined(1, PLACE.0, Role::Writer);
        saves(&mut ledger, 0, 1);
        let backup = ledger.book(0);
        saves(&mut ledger, 0, 2);
        saves(&mut ledger, 0, 3);
        // The other one has got a run that goes up to the second change.
        stores(&mut ledger, 1, 2);
        ledger.replaced(0, backup);
        assert_eq!((changes(&ledger), ledger.excused()), (vec![1, 2], 1));
        assert_eq!(ledger.saved_by(0), [edited(1)]);
        ledger.left(1, PLACE.0);
        assert_eq!((changes(&ledger), ledger.excused()), (vec![1], 2));
    }
}
