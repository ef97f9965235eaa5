//! How often somebody may make us do something: so much at once, and then so much a second.

use crate::time::{Duration, Timestamp};

/// A bound on what is done for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// In the long run.
    pub per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

/// What has been used of an allowance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    /// When all of it is there again.
    whole_at: Timestamp,
}

impl Rate {
    /// Whether there is anything left.
    pub fn has_left(&self, now: Timestamp, allowance: Allowance) -> bool {
        now >= self.left_at(allowance)
    }

    /// From when on there is.
    pub fn left_at(&self, allowance: Allowance) -> Timestamp {
        Timestamp(self.whole_at.0.saturating_sub(time_for(allowance.burst, allowance).0.saturating_sub(1)))
    }

    /// Uses some of it. The last use may go beyond what is left.
    pub fn spend(&mut self, amount: u64, now: Timestamp, allowance: Allowance) {
        self.whole_at = self.whole_at.max(now) + time_for(amount, allowance);
    }
}

fn time_for(amount: u64, allowance: Allowance) -> Duration {
    Duration(amount.saturating_mul(1_000_000) / allowance.per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_so_much_a_second() {
        let allowance = Allowance { per_second: 2, burst: 10 };
        let mut rate = Rate::default();
        let mut used = |now: u64| {
            let mut count = 0;
            while rate.has_left(Timestamp(now), allowance) {
                rate.spend(1, Timestamp(now), allowance);
                count += 1;
            }
            count
        };
        assert_eq!((used(0), used(0)), (10, 0));
        assert_eq!((used(500_000), used(3_500_000)), (1, 6));
        assert_eq!(used(1_000_000_000), 10);
    }
}
