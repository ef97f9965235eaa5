//! Disks that are damaged for good: bits change, the file is cut short, a write lands elsewhere or nowhere, syncs do nothing,
//! a file has not got its name. Such a disk may be refused, or documents in it, but never misread. Once that is noticed, at
//! the latest when all heals, the replica gets another disk, with what a salvage reads of the old one or with nothing: the
//! same identity with less.

use std::io::Cursor;

use anabranch_store::Store;
use anabranch_store::backend::crashable::{Disk, Fault};
use serde::{Deserialize, Serialize};

use super::dice::Dice;
use super::ledger::Book;
use super::options::Tamper;
use super::plan::Crash;
use super::world::{Happening, World};
use super::{Kind, SECONDS};

/// How a disk is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// Bits change.
    Rot,
    /// The end of the file is gone.
    Shortened,
    /// A write says that it worked, and landed elsewhere or nowhere.
    StrayWrite,
    /// Syncs say that they worked and did nothing, until the power goes.
    LyingSyncs,
    /// The power goes, and the store's file has not got the name that it was given, because the directory's sync did nothing:
    /// the damaged one that a salvage had replaced is there again, or none.
    LostName,
}

/// Of a hundred damaged disks, of how many something is salvaged. The others are thrown away.
const SALVAGED_PERCENT: u64 = 70;

impl World {
    /// The disk of a replica is damaged. Its process dies then or soon after, so that what it has in memory does not hide that.
    pub fn damage(&mut self, replica: usize, how: Damage, dice: &mut Dice) {
        // Of a space that only its founder has, nothing would be left. One damage at a time.
        let may = !self.is_founder(replica) && self.is_honest(replica) && self.replicas[replica].has_a_sound_disk();
        let Some(process) = self.running(replica).filter(|_| may) else { return };
        let there = &mut self.replicas[replica];
        let soon = dice.between(SECONDS / 100, 3 * SECONDS);
        let later = dice.between(SECONDS / 10, 20 * SECONDS);
        match how {
            Damage::Rot => {
                if there.disk.rot(*dice.pick(&[1, 4, 40]).expect("not empty"), dice.any()) > 0 {
                    there.damaged = true;
                    self.stats.rots += 1;
                    self.crash(replica, Crash::Kill, soon);
                }
            }
            Damage::Shortened => {
                there.damaged = true;
                there.disk.truncate(dice.below(there.disk.len()) as usize);
                self.stats.short_files += 1;
                self.crash(replica, Crash::Kill, soon);
            }
            Damage::StrayWrite => {
                let fault = *dice.pick(&[Fault::Misdirected, Fault::Lost]).expect("not empty");
                there.stray = Some(there.disk.faults());
                there.disk.fail_once_after(dice.below(40), fault);
                self.schedule(later, Happening::DieOfDamage { replica, process, down: soon });
            }
            Damage::LyingSyncs => {
                there.lies = true;
                there.disk.lie_about_sync(true);
                self.schedule(later, Happening::PowerGoes { replica, down: soon });
            }
            Damage::LostName => {
                self.crash(replica, Crash::PowerCut, soon);
                let before = self.replicas[replica].wreck.clone();
                let damaged = before.is_some();
                *(if damaged { &mut self.stats.lost_salvages } else { &mut self.stats.lost_stores }) += 1;
                self.replace_disk(replica, before.unwrap_or_default());
                self.replicas[replica].damaged = damaged;
                self.counts_on_nothing(replica);
            }
        }
    }

    /// A write that was to go astray did, or never will.
    pub(super) fn settle_stray_write(&mut self, replica: usize) {
        let there = &mut self.replicas[replica];
        let went = there.is_damaged() && !there.damaged;
        if there.stray.take().is_some() {
            there.disk.heal();
        }
        if went {
            there.damaged = true;
            self.stats.stray_writes += 1;
        }
    }

    /// The process of a replica with a damaged disk dies.
    pub(super) fn dies_of_damage(&mut self, replica: usize, process: u64, down: u64) {
        self.settle_stray_write(replica);
        if self.process(replica, process).is_some() && self.replicas[replica].damaged {
            self.crash(replica, Crash::Kill, down);
        }
    }

    /// The power of a replica goes, if its disk still lies.
    pub(super) fn power_goes(&mut self, replica: usize, down: u64) {
        if self.replicas[replica].lies {
            self.crash(replica, Crash::PowerCut, down);
        }
    }

    /// The power went at a replica whose disk had said that it synced: anything since may be gone, in any order.
    pub(super) fn lose_what_was_not_synced(&mut self, replica: usize) {
        self.stats.lying_disks += 1;
        let there = &mut self.replicas[replica];
        there.damaged = true;
        there.set_back = true;
        there.disk.lie_about_sync(self.options.tamper == Tamper::LyingDisks);
        self.watch.forget(replica);
        self.counts_on_nothing(replica);
    }

    /// A replica whose disk is damaged starts, and not all of it can be read. Every other time it goes on with that, and
    /// whoever looks after it is told when a document cannot be opened.
    pub(super) fn starts_with_damage(&mut self, replica: usize) -> bool {
        let goes_on = self.dice.disk.percent(50);
        if goes_on {
            self.watch.forget(replica);
            self.counts_on_nothing(replica);
        } else {
            self.finds_damage(replica);
        }
        goes_on
    }

    /// Whoever looks after a replica finds that its disk is damaged.
    pub(super) fn finds_damage(&mut self, replica: usize) {
        self.settle_stray_write(replica);
        if self.replicas[replica].damaged {
            self.stats.damage_found += 1;
            self.replace_damaged_disk(replica);
        }
    }

    /// No disk is damaged any more, and none lies.
    pub(super) fn replace_damaged_disks(&mut self) {
        for replica in self.lasting() {
            self.power_goes(replica, SECONDS);
            self.settle_stray_write(replica);
            let there = &mut self.replicas[replica];
            if std::mem::take(&mut there.lies) {
                // It did not run.
                there.disk.lie_about_sync(false);
            }
            if there.damaged {
                self.replace_damaged_disk(replica);
            }
        }
    }

    /// A damaged disk is taken out, and the replica goes on with what is salvaged of it, or with its identity alone.
    fn replace_damaged_disk(&mut self, replica: usize) {
        self.crash(replica, Crash::Kill, SECONDS);
        if self.dice.disk.percent(SALVAGED_PERCENT) {
            let wreck = self.replicas[replica].disk.image();
            let image = self.salvage(replica, &wreck);
            self.replace_disk(replica, image);
            self.replicas[replica].wreck = Some(wreck);
            if self.dice.disk.percent(50) {
                self.leave_alone(replica);
            }
        } else {
            self.replace_disk(replica, Vec::new());
        }
        self.counts_on_nothing(replica);
        self.schedule(SECONDS, Happening::Restart { replica });
    }

    /// Nobody is there for a while who could bring what a salvage did not find, so that what it found waits; meanwhile the
    /// replica starts again.
    fn leave_alone(&mut self, replica: usize) {
        let rest = self.options.chaos.saturating_sub(self.now);
        if rest < 10 * SECONDS {
            return;
        }
        let length = self.dice.disk.between(8 * SECONDS, rest.min(200 * SECONDS));
        let others = (0..self.replicas.len()).filter(|other| *other != replica);
        let pairs: Vec<_> = others.flat_map(|other| [(replica, other), (other, replica)]).collect();
        self.cut_pairs(&pairs, length);
        let again = self.dice.disk.between(3 * SECONDS, length);
        self.schedule(again, Happening::StartAgain { replica });
    }

    /// The process of a replica that was left alone with what a salvage found ends, and another one begins.
    pub(super) fn starts_again(&mut self, replica: usize) {
        if self.running(replica).is_some() {
            self.stats.left_alone += 1;
            self.crash(replica, Crash::Kill, SECONDS);
        }
    }

    /// A disk with what can be read of a damaged one.
    fn salvage(&mut self, replica: usize, wreck: &[u8]) -> Vec<u8> {
        let disk = Disk::new();
        match Store::salvage_with_backend(Cursor::new(wreck), disk.backend()) {
            Ok((store, found)) => {
                let image = store.image().expect("it was just written to a disk that is well");
                self.watch.durability.made_anew(&image.rows);
                self.stats.salvages += 1;
                self.stats.runs_salvaged += found.runs as u64;
            }
            Err(error) => self.fail(Kind::Safety, "salvage", format!("#{replica}: {error}")),
        }
        disk.image()
    }

    /// Damage has reached a replica: nothing that it was trusted with is sure to be there, and it finds its way back into its
    /// spaces.
    pub(super) fn counts_on_nothing(&mut self, replica: usize) {
        self.replicas[replica].was_damaged = true;
        self.ledger.replaced(replica, Book::default());
        self.reconsider(replica, replica);
    }
}
