//! What earlier processes died of, as far as can be told: runs that were being merged then.

use crate::engine::Engine;
use crate::gate::Slot;
use crate::id::ChangeHash;
use crate::limits::{DEATHS_UNTIL_POISONED, POISONED_MAX};
use crate::storage::{META_POISONED, Table};

impl Engine {
    /// An earlier process may have died while it applied these runs. That may have been chance: a process is killed whenever
    /// it is killed, most easily at the same point of catching up again and again, and to refuse an innocent run is to differ
    /// from everyone else. So they are tried in small groups from now on, only what several processes in a row died of, alone,
    /// is refused, and only by the process that finds it so: the next one tries it once more.
    pub(in crate::engine) fn read_slot(&mut self, slot: Option<Slot>) {
        let tips = slot.as_ref().map(|slot| slot.tips.as_slice()).unwrap_or_default();
        let alone = if let [tip] = tips { Some(*tip) } else { None };
        for (tip, deaths) in core::mem::take(&mut self.deaths) {
            if alone == Some(tip) {
                self.deaths.insert(tip, deaths);
            } else if deaths >= DEATHS_UNTIL_POISONED {
                self.count_deaths(tip, DEATHS_UNTIL_POISONED - 1);
            } else {
                self.commits.remove(Table::Meta, [META_POISONED, &tip.0].concat());
            }
        }
        let Some(slot) = slot else { return };
        warn_of_slot(&slot);
        if let Some(tip) = alone
            && self.poisoned.len() + self.deaths.len() < POISONED_MAX
        {
            let deaths = self.deaths.get(&tip).copied().unwrap_or(0).saturating_add(1);
            self.count_deaths(tip, deaths);
            if deaths >= DEATHS_UNTIL_POISONED {
                self.poisoned.insert(tip);
                return;
            }
        }
        self.suspects.insert((slot.space, slot.document), slot.tips);
    }

    fn count_deaths(&mut self, tip: ChangeHash, deaths: u8) {
        self.deaths.insert(tip, deaths);
        self.commits.put(Table::Meta, [META_POISONED, &tip.0].concat(), alloc::vec![deaths]);
    }
}

fn warn_of_slot(slot: &Slot) {
    tracing::warn!(
        document = %slot.document,
        runs = slot.tips.len(),
        "an earlier process died while it merged runs into this document: it may have been chance; if not, the one that does it is found and refused"
    );
}
