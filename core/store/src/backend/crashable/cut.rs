//! What a power cut leaves: of the changes since the last sync, a choice.

use super::change::{Change, write_inside};
use super::dice::Dice;

/// What a power cut leaves of the changes since the last sync.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Survival {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// The first ones, in order.
    Prefix,
    /// The first ones, and of the one after them some sectors.
    TornPrefix,
    /// Any of them, each whole.
    Subset,
    /// Any of their sectors.
    Sectors,
    /// Those to the first page, which is redb's header, and none of the pages that it speaks of.
    HeaderOnly,
}

/// What happened in a crash, for traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// What was left of the unsynced writes.
    pub survival: Survival,
    /// Writes and length changes since the last sync.
    pub unsynced: usize,
}

/// redb's header is in the first page of this many bytes.
const HEADER: usize = 4096;

impl Survival {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Everything,
        Self::Prefix,
        Self::TornPrefix,
        Self::Subset,
        Self::Sectors,
        Self::HeaderOnly,
    ];

    /// One of those that a power cut draws from by itself.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        Self::ALL[dice.below(6) as usize]
    }

    /// What is on the disk after a power cut.
    pub(super) fn image(self, synced: &[u8], unsynced: &[&Change], sector: usize, dice: &mut Dice) -> Vec<u8> {
        let mut image = synced.to_vec();
        if self == Self::Everything {
            unsynced.iter().for_each(|change| change.apply(&mut image));
            return image;
        }
        let kept = dice.below(unsynced.len() as u64 + 1) as usize;
        // A file system keeps changes of length in order (they are in its journal) while data may reach the disk in any.
        let lengths = unsynced.iter().filter(|change| matches!(change, Change::Length(_))).count() as u64;
        let mut lengths_kept = dice.below(lengths + 1);
        for (i, change) in unsynced.iter().enumerate() {
            match (self, change) {
                (Self::Nothing | Self::Everything, _) => {}
                (Self::Prefix | Self::TornPrefix, _) if i < kept => change.apply(&mut image),
                (Self::TornPrefix, Change::Write { offset, data }) if i == kept => {
                    write_some_sectors(&mut image, *offset, data, sector, dice);
                }
                (Self::Prefix | Self::TornPrefix, _) => {}
                (Self::Subset | Self::Sectors | Self::HeaderOnly, Change::Length(_)) => {
                    if lengths_kept > 0 {
                        lengths_kept -= 1;
                        change.apply(&mut image);
                    }
                }
                (Self::Subset, Change::Write { .. }) => {
                    if dice.below(2) == 0 {
                        change.apply(&mut image);
                    }
                }
                (Self::Sectors, Change::Write { offset, data }) => {
                    write_some_sectors(&mut image, *offset, data, sector, dice);
                }
                (Self::HeaderOnly, Change::Write { offset, .. }) => {
                    if *offset < HEADER {
                        change.apply(&mut image);
                    }
                }
            }
        }
        image
    }
}

fn write_some_sectors(bytes: &mut [u8], offset: usize, data: &[u8], sector: usize, dice: &mut Dice) {
    let mut at = 0;
    while at < data.len() {
        // Sectors are aligned on the disk, not in the write.
        let end = data.len().min(at + sector - (offset + at) % sector);
        if dice.below(2) == 0 {
            write_inside(bytes, offset + at, &data[at..end]);
        }
        at = end;
    }
}
