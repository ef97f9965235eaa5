//! Backups of disks, and going back to one: the same identity with an old store.

use super::dice::Dice;
use super::ledger::Book;
use super::plan::Crash;
use super::world::World;

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
        if there.process.is_none()
            || !there.has_a_sound_disk()
            || !self.has_founded_all(replica)
            || !self.is_honest(replica)
        {
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
}
