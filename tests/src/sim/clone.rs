//! Machines copied while they run: two processes with one identity and, to begin with, one store's content. Both are
//! reachable, both write. They never meet: each takes the other for itself.

use super::checkers::durability;
use super::dice::Dice;
use super::disk::{OpenStore, as_left_by_a_kill};
use super::ledger::Book;
use super::plan::Crash;
use super::world::{Happening, World};
use super::{Kind, SECONDS, narrate};
use anabranch_engine::Renewal;
use anabranch_engine::id::SpaceId;
use anabranch_engine::storage::Failure;
use anabranch_store::Store;
use anabranch_store::backend::crashable::{Disk, Plug};

/// Two that share an identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Twins {
    /// The original and the copy.
    pub(super) pair: [usize; 2],
    /// What is to end it, at the heal at the latest.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    /// This one is gone for good.
    Gone(usize),
    /// The copy has another key.
    Renewed,
}

impl World {
    /// Copies a running machine and starts the copy. `ends` says after how long one of the two is gone for good, or the copy has
    /// another key, if ever.
    pub fn clone_machine(&mut self, replica: usize, ends: Option<u64>, renews: bool, dice: &mut Dice) {
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
        let gone = *dice.pick(&pair).expect("two");
        let end = if renews { End::Renewed } else { End::Gone(gone) };
        self.twins.push(Twins { pair, end: ends.map(|_| end) });
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
        self.twins.push(Twins { pair: [replica, copy], end: None });
        self.stats.clones += 1;
        let seed = self.dice.secrets.bytes();
        self.start_with(replica, seed);
        self.start_with(copy, seed);
        copy
    }

    /// Two processes act as one device no longer, if that was to be.
    pub(super) fn part(&mut self, pair: usize) {
        let Some(twins) = self.twins.get_mut(pair) else { return };
        let [original, copy] = twins.pair;
        match twins.end.take() {
            None => {}
            Some(End::Gone(gone)) => self.retire_one(gone, if gone == copy { original } else { copy }),
            Some(End::Renewed) => self.renew(copy),
        }
    }

    fn retire_one(&mut self, gone: usize, other: usize) {
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

    /// Gives a copy a key of its own, as `id renew` does, and has it invited to the spaces that it was in. Not if its disk may not be
    /// what it was.
    pub(super) fn renew(&mut self, copy: usize) {
        if self.running(copy).is_none() || !self.replicas[copy].has_a_sound_disk() {
            return;
        }
        let down = self.dice.disk.between(SECONDS / 10, 10 * SECONDS);
        self.crash(copy, Crash::Kill, down);
        let there = &mut self.replicas[copy];
        there.disk.heal();
        let disk = there.disk.plug();
        let spaces = match self.write_renewal(copy, disk) {
            Ok(spaces) => spaces,
            Err(error) => return self.fail(Kind::Safety, "store", format!("#{copy} cannot have another key: {error}")),
        };
        let identity = self.dice.secrets.bytes();
        self.replicas[copy].has_key(identity);
        self.stats.renewals += 1;
        self.trace.note(self.now, Some(copy), "has another key");
        self.tell(|| format!("{} has another key", narrate::name(copy)));
        for space in spaces {
            self.wants_in_again(copy, &space);
        }
        self.pursue_goals();
    }

    /// Writes to a store what it says before it is opened under another key. Returns the spaces that need a ticket then.
    fn write_renewal(&mut self, copy: usize, disk: Plug) -> Result<Vec<SpaceId>, String> {
        let store = Store::open_on(disk).map(OpenStore::new).map_err(|error| error.to_string())?;
        let text = |failure: Failure| failure.to_string();
        let Renewal { rows, spaces } = Renewal::of(self.replicas[copy].device, store.image().map_err(text)?, true)
            .map_err(|error| error.to_string())?;
        self.watch.durability.started(copy, durability::hashed(store.rows().map_err(text)?))?;
        self.watch.durability.asked(copy, &rows, &[])?;
        store.write(rows).map_err(text)?;
        self.watch.durability.answered(copy, true);
        Ok(spaces.into_iter().map(|(space, _)| space).collect())
    }

    /// All that is to end ends now.
    pub(super) fn part_all(&mut self) {
        for pair in 0..self.twins.len() {
            self.part(pair);
        }
    }
}
