//! Seeded chance. Each concern throws dice of its own, so that leaving one planned event out does not change what the
//! others throw: that is what makes a failing seed shrinkable.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// What the dice are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Stream {
    /// Which options a seed has.
    Options = 1,
    /// What happens when.
    Plan = 2,
    /// Latencies, losses, resets.
    Network = 3,
    /// Latencies of disks, crash images.
    Disk = 4,
    /// Identities and the seeds of engines.
    Secrets = 5,
    /// Choices of applications that the plan leaves open.
    Workload = 6,
    /// Which of the rarer faults a seed has.
    Faults = 7,
    /// Who is hostile and how.
    Byzantine = 8,
    /// How large a large seed is, and what it has more of.
    Size = 9,
}

/// A source of seeded choices.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of one concern under one seed.
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// Dice for one planned event, told apart by its salt.
    pub fn salted(salt: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(salt))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// `0 <= n < end`; 0 if `end` is 0. The bias is below 2^-32 for the small ranges used here.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.next_u64() % end }
    }

    /// An index into something with `len` items.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// `low <= n <= high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `n` of a hundred cases.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    /// True in `n` of a thousand cases.
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.index(i + 1));
        }
    }

    /// A time between `low` and `high` microseconds, and in `tail_permille` of a thousand cases up to `tail` instead,
    /// where long ones are rarer than short ones.
    pub fn heavy(&mut self, low: u64, high: u64, tail_permille: u64, tail: u64) -> u64 {
        if tail > high && self.permille(tail_permille) {
            let span = tail - high;
            // The product of two throws: most tails are short, a few are long.
            high + self.below(span).saturating_mul(self.below(1000) + 1) / 1000
        } else {
            self.between(low, high)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_themselves_and_streams_differ() {
        let throw = |stream| {
            let mut dice = Dice::new(7, stream);
            [dice.any(), dice.any(), dice.any()]
        };
        assert_eq!(throw(Stream::Plan), throw(Stream::Plan));
        assert_ne!(throw(Stream::Plan), throw(Stream::Network));
    }

    #[test]
    fn every_range_holds() {
        let mut dice = Dice::new(1, Stream::Disk);
        for _ in 0..1000 {
            assert!((3..=5).contains(&dice.between(3, 5)));
            assert!(dice.below(4) < 4);
            assert!((10..=900).contains(&dice.heavy(10, 20, 500, 900)));
        }
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}
