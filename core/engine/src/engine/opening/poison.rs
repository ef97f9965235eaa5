//! Runs that broke the merge: those in which automerge panicked, and those that earlier processes died of, as far as can be
//! known.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::engine::commits::Commits;
use crate::engine::documents::DocumentKey;
use crate::gate::Slot;
use crate::id::ChangeHash;
use crate::limits::{DEATHS_UNTIL_POISONED, POISONED_MAX};
use crate::storage::{META_POISONED, Table};

/// What is known of such runs, by their tips.
#[derive(Debug, Default)]
pub(in crate::engine) struct Poison {
    /// They are not merged.
    poisoned: BTreeSet<ChangeHash>,
    /// Processes in a row died while they merged them alone, and how many did.
    deaths: BTreeMap<ChangeHash, u8>,
    /// Documents among whose runs there may be one, and the tips in question.
    suspects: BTreeMap<DocumentKey, Vec<ChangeHash>>,
}

impl Poison {
    /// Takes in a row of the table of meta data, if it is about one of these runs.
    pub(in crate::engine) fn load(&mut self, key: &[u8], value: &[u8]) {
        let Some(tip) = key.strip_prefix(META_POISONED).and_then(ChangeHash::from_slice) else { return };
        match value {
            [count] => _ = self.deaths.insert(tip, *count),
            _ => _ = self.poisoned.insert(tip),
        }
    }

    /// An earlier process may have died while it applied these runs. That may have been chance: a process is killed whenever
    /// it is killed, most easily at the same point of catching up again and again, and to refuse an innocent run is to differ
    /// from everyone else. So they are tried in small groups from now on, only what several processes in a row died of, alone,
    /// is refused, and only by the process that finds it so: the next one tries it once more.
    pub(in crate::engine) fn read_slot(&mut self, slot: Option<Slot>, commits: &mut Commits) {
        let tips = slot.as_ref().map(|slot| slot.tips.as_slice()).unwrap_or_default();
        let alone = if let [tip] = tips { Some(*tip) } else { None };
        for (tip, deaths) in core::mem::take(&mut self.deaths) {
            if alone == Some(tip) {
                self.deaths.insert(tip, deaths);
            } else if deaths >= DEATHS_UNTIL_POISONED {
                self.count_deaths(tip, DEATHS_UNTIL_POISONED - 1, commits);
            } else {
                commits.remove(Table::Meta, row(&tip));
            }
        }
        let Some(slot) = slot else { return };
        warn_of_slot(&slot);
        if let Some(tip) = alone
            && self.len() < POISONED_MAX
        {
            let deaths = self.deaths.get(&tip).copied().unwrap_or(0).saturating_add(1);
            self.count_deaths(tip, deaths, commits);
            if deaths >= DEATHS_UNTIL_POISONED {
                self.poisoned.insert(tip);
                return;
            }
        }
        self.suspects.insert((slot.space, slot.document), slot.tips);
    }

    fn count_deaths(&mut self, tip: ChangeHash, deaths: u8, commits: &mut Commits) {
        self.deaths.insert(tip, deaths);
        commits.put(Table::Meta, row(&tip), alloc::vec![deaths]);
    }

    /// A run is not tried again, in this process and in later ones. Beyond the limit it is found out again each time.
    pub(in crate::engine) fn add(&mut self, tip: ChangeHash, commits: &mut Commits) {
        if self.len() < POISONED_MAX && self.poisoned.insert(tip) {
            commits.put(Table::Meta, row(&tip), Vec::new());
        }
    }

    /// A run was merged: no process died of it.
    pub(in crate::engine) fn acquit(&mut self, tip: &ChangeHash, commits: &mut Commits) {
        if self.deaths.remove(tip).is_some() {
            commits.remove(Table::Meta, row(tip));
        }
    }

    /// Whether a run is not to be merged.
    pub(in crate::engine) fn has(&self, tip: &ChangeHash) -> bool {
        self.poisoned.contains(tip)
    }

    /// Runs of a document that are tried in small groups.
    pub(in crate::engine) fn suspects(&self, key: &DocumentKey) -> &[ChangeHash] {
        self.suspects.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// A space is left.
    pub(in crate::engine) fn forget_space(&mut self, space: &crate::id::SpaceId) {
        self.suspects.retain(|key, _| key.0 != *space);
    }

    /// How many runs are known to break the merge, or to have been there when a process died.
    pub(in crate::engine) fn len(&self) -> usize {
        self.poisoned.len() + self.deaths.len()
    }
}

fn row(tip: &ChangeHash) -> Vec<u8> {
    [META_POISONED, &tip.0].concat()
}

fn warn_of_slot(slot: &Slot) {
    tracing::warn!(
        document = %slot.document,
        runs = slot.tips.len(),
        "an earlier process died while it merged runs into this document: it may have been chance; if not, the one that does it is found and refused"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DocumentId, SpaceId};

    const KEY: DocumentKey = (SpaceId([1; 32]), DocumentId([2; 16]));

    fn slot(tips: &[u8]) -> Option<Slot> {
        let tips = tips.iter().map(|tip| ChangeHash([*tip; 32])).collect();
        Some(Slot { space: KEY.0, document: KEY.1, tips })
    }

    /// What the next process finds.
    fn restarted(poison: &Poison, slot: Option<Slot>) -> Poison {
        let mut next = Poison::default();
        poison.deaths.iter().for_each(|(tip, deaths)| next.load(&row(tip), &[*deaths]));
        let lasting = poison.poisoned.iter().filter(|tip| !poison.deaths.contains_key(*tip));
        lasting.for_each(|tip| next.load(&row(tip), &[]));
        next.read_slot(slot, &mut Commits::default());
        next
    }

    #[test]
    fn a_run_is_refused_when_several_processes_in_a_row_died_of_it_alone_and_tried_once_more_by_the_next() {
        let tip = ChangeHash([7; 32]);
        let mut poison = Poison::default();
        for _ in 0..DEATHS_UNTIL_POISONED {
            assert!(!poison.has(&tip));
            poison = restarted(&poison, slot(&[7]));
        }
        assert!(poison.has(&tip) && poison.suspects(&KEY).is_empty());
        let mut next = restarted(&poison, None);
        assert!(!next.has(&tip));
        assert!(restarted(&next, slot(&[7])).has(&tip), "it was not innocent");
        next.acquit(&tip, &mut Commits::default());
        assert_eq!(next.len(), 0);
    }

    #[test]
    fn runs_that_were_merged_together_are_suspects_and_no_death_counts_that_is_not_in_a_row() {
        let once = restarted(&Poison::default(), slot(&[7]));
        assert_eq!(once.suspects(&KEY), [ChangeHash([7; 32])]);
        let two = restarted(&once, slot(&[7, 8]));
        assert_eq!((two.len(), two.suspects(&KEY).len()), (0, 2));
        let mut left = two;
        left.forget_space(&KEY.0);
        assert!(left.suspects(&KEY).is_empty());
    }

    #[test]
    fn a_run_that_panics_is_refused_for_good() {
        let mut poison = Poison::default();
        poison.add(ChangeHash([7; 32]), &mut Commits::default());
        assert!(restarted(&restarted(&poison, None), None).has(&ChangeHash([7; 32])));
    }
}
