//! Backups of disks, and going back to one: the same identity with an old store. And disks that rot until they are replaced
//! by empty ones: the same identity with no store at all.

use super::SECONDS;
use super::dice::Dice;
use super::ledger::Book;
use super::plan::Crash;
use super::world::{Happening, World};

/// A copy of a disk, and what is written in it.
#[derive(Debug)]
pub(super) struct Backup {
    image: Vec<u8>,
    book: Book,
}

impl World {
    /// Copies the disk of a running replica, as it is or as a power cut would leave it: both are how machines are backed up.
    pub fn back_up(&mut self, replica: usize, dice: &mut Dice) {
        // A space that nobody has any more is nobody's to heal.
        let there = &self.replicas[replica];
        if there.process.is_none() || there.disk_failed || !self.has_founded_all(replica) || !self.is_honest(replica) {
            return;
        }
        let image = if dice.percent(50) { there.disk.image() } else { there.disk.crash_image(dice.any()) };
        let book = self.ledger.book(replica);
        self.replicas[replica].backup = Some(Backup { image, book });
    }

    /// Ends a replica and lets it go on from its last backup.
    pub fn restore(&mut self, replica: usize, down: u64) {
        if self.replicas[replica].retired {
            return;
        }
        let Some(backup) = &self.replicas[replica].backup else { return };
        let (image, book) = (backup.image.clone(), backup.book.clone());
        self.stats.rollbacks += 1;
        self.crash(replica, Crash::Kill, down);
        self.replace_disk(replica, image);
        self.ledger.replaced(replica, book);
        self.reconsider(replica, replica);
        self.pursue_goals();
    }

    /// Bits of a replica's disk change. Its process is killed, so that what it has in memory does not hide that.
    pub fn rot(&mut self, replica: usize, dice: &mut Dice) {
        let there = &self.replicas[replica];
        // Of a space that only its founder has, nothing would be left.
        if there.process.is_none() || self.is_founder(replica) || !self.is_honest(replica) {
            return;
        }
        let there = &mut self.replicas[replica];
        there.rotten = true;
        there.disk.rot(*dice.pick(&[1, 4, 40]).expect("not empty"), dice.any());
        self.stats.rots += 1;
        let down = dice.between(SECONDS / 100, 3 * SECONDS);
        self.crash(replica, Crash::Kill, down);
    }

    /// A rotten disk is taken out, and the replica begins anew with its identity alone.
    pub(super) fn replace_rotten_disk(&mut self, replica: usize) {
        if !self.replicas[replica].rotten {
            return;
        }
        self.stats.rots_found += 1;
        self.crash(replica, Crash::Kill, SECONDS);
        self.replace_disk(replica, Vec::new());
        self.ledger.replaced(replica, Book::default());
        self.reconsider(replica, replica);
        self.schedule(SECONDS, Happening::Restart { replica });
    }

    /// No disk is rotten any more.
    pub(super) fn replace_rotten_disks(&mut self) {
        for replica in 0..self.replicas.len() {
            self.replace_rotten_disk(replica);
        }
    }
}
