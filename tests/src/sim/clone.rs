//! Machines copied while they run: two processes with one identity and, to begin with, one store's content. Both are
//! reachable, both write. They never meet: each takes the other for itself.

use super::dice::Dice;
use super::disk::as_left_by_a_kill;
use super::ledger::Book;
use super::plan::Crash;
use super::world::{Happening, World};
use anabranch_store::backend::crashable::Disk;

/// Two that share an identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Twins {
    /// The original and the copy.
    pub(super) pair: [usize; 2],
    /// Which of them is to be gone for good, at the heal at the latest.
    ends: Option<usize>,
}

impl World {
    /// Copies a running machine and starts the copy. `ends` says after how long one of the two is gone for good, if ever.
    pub fn clone_machine(&mut self, replica: usize, ends: Option<u64>, dice: &mut Dice) {
        let there = &self.replicas[replica];
        let is_twin = self.twins.iter().any(|twins| twins.pair.contains(&replica));
        // Where only the original could be dialed, nobody would ever find the copy: the others know its device as connected.
        if there.process.is_none()
            || !there.has_a_sound_disk()
            || is_twin
            || self.is_founder(replica)
            || !self.is_honest(replica)
            // Nobody would invite the copy.
            || !self.is_everywhere(replica)
        {
            return;
        }
        let disk = if dice.percent(50) {
            as_left_by_a_kill(&there.disk)
        } else {
            Disk::from_image(there.disk.crash_image(dice.any()))
        };
        let copy = self.add_copy(replica, disk);
        self.ledger.replaced(copy, self.ledger.book(replica));
        let pair = [replica, copy];
        let end = *dice.pick(&pair).expect("two");
        self.twins.push(Twins { pair, ends: ends.map(|_| end) });
        self.stats.clones += 1;
        self.start(copy);
        if let Some(after) = ends {
            self.schedule(after, Happening::Retire { pair: self.twins.len() - 1 });
        }
    }

    /// Ends a process and lets two go on in its place that are alike in everything, what they draw at random too: a machine
    /// whose memory was copied when the process had just begun. Returns the copy.
    pub fn clone_memory(&mut self, replica: usize) -> usize {
        self.crash(replica, Crash::Kill, 0);
        let copy = self.add_copy(replica, Disk::from_image(self.replicas[replica].disk.image()));
        self.ledger.replaced(copy, self.ledger.book(replica));
        self.twins.push(Twins { pair: [replica, copy], ends: None });
        self.stats.clones += 1;
        let seed = self.dice.secrets.bytes();
        self.start_with(replica, seed);
        self.start_with(copy, seed);
        copy
    }

    /// One of two is gone for good, if that was to be.
    pub(super) fn retire_one(&mut self, pair: usize) {
        let Some(twins) = self.twins.get_mut(pair) else { return };
        let Some(gone) = twins.ends.take() else { return };
        let other = if twins.pair[0] == gone { twins.pair[1] } else { twins.pair[0] };
        self.trace.note(self.now, Some(gone), "is gone for good");
        self.stats.clones_ended += 1;
        self.count(gone);
        self.abandon_connections(gone, true);
        let there = &mut self.replicas[gone];
        there.retired = true;
        there.dark = true;
        there.process = None;
        there.ailments.stopped = None;
        there.damaged = false;
        there.lies = false;
        there.stray = None;
        self.ledger.replaced(gone, Book::default());
        self.reconsider(gone, other);
        self.pursue_goals();
    }

    /// Nobody is to be gone later than now.
    pub(super) fn retire_all(&mut self) {
        for pair in 0..self.twins.len() {
            self.retire_one(pair);
        }
    }
}
