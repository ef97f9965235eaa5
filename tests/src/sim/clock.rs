//! A process's clocks: the wall clock, which may say anything, and the monotonic one, which may run at another rate, stand
//! still or leap ahead (a suspended machine), but never goes back.

use anabranch_engine::time::{Now, Timestamp};
use serde::{Deserialize, Serialize};

use super::SECONDS;
use super::world::World;

/// The rate of a clock that keeps step with the world, in thousandths.
pub const FAIR: u64 = 1_000;
/// Wall clocks begin here: 2026-01-01.
const WALL_START_S: i64 = 1_767_225_600;
/// Seconds in a year.
pub const YEAR_S: i64 = 365 * 86_400;

/// What happens to the clocks of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockFault {
    /// The wall clock is set on or back by so many seconds.
    WallJump(i64),
    /// The wall clock says 1970, as a machine's does that has lost its battery.
    WallReset,
    /// The wall clock runs at so many thousandths of the right rate; with 0 it stands still.
    WallRate(u64),
    /// The monotonic clock of the running process does.
    MonoRate(u64),
    /// The monotonic clock of the running process goes on by so many microseconds at once.
    MonoLeap(u64),
}

/// A quantity in microseconds that grows at a steady rate with the world's time.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// World time at which `value` held.
    since: u64,
    value: i64,
    /// Thousandths.
    rate: u64,
}

impl Line {
    fn at(&self, world: u64) -> i64 {
        self.value + ((world - self.since) as i128 * i128::from(self.rate) / 1_000) as i64
    }

    /// The world time at which the value is reached; `None` if it stands still before that.
    fn when(&self, value: i64) -> Option<u64> {
        let missing = (value - self.value).max(0) as u128;
        if missing == 0 {
            return Some(self.since);
        }
        // Rounded up, so that the value is reached then and not a moment later.
        (self.rate > 0).then(|| self.since + (missing * 1_000).div_ceil(u128::from(self.rate)) as u64)
    }

    fn change(&mut self, world: u64, by: i64, rate: u64) {
        *self = Self { since: world, value: self.at(world) + by, rate };
    }
}

/// The wall clock of a machine. It survives the process.
#[derive(Debug, Clone, Copy)]
pub struct WallClock(Line);

/// The clocks of a process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    mono: Line,
    wall: WallClock,
}

impl WallClock {
    /// A wall clock that is off by so many seconds.
    pub fn new(skew_s: i64) -> Self {
        Self(Line { since: 0, value: (WALL_START_S + skew_s) * SECONDS as i64, rate: FAIR })
    }
}

impl Clock {
    /// The clocks of a process that starts at world time `now`: the monotonic one says `mono`.
    pub fn new(now: u64, mono: u64, wall: WallClock) -> Self {
        Self { mono: Line { since: now, value: mono as i64, rate: FAIR }, wall }
    }

    /// What the clocks say.
    pub fn read(&self, world: u64) -> Now {
        let wall_s = self.wall.0.at(world).div_euclid(SECONDS as i64);
        Now { mono: Timestamp(self.mono.at(world) as u64), wall_s }
    }

    /// When the monotonic clock says that time; `None` if it stands still.
    pub fn world_time(&self, at: Timestamp) -> Option<u64> {
        self.mono.when(i64::try_from(at.0).unwrap_or(i64::MAX))
    }
}

impl World {
    /// Something happens to the clocks of a replica.
    pub fn disturb_clock(&mut self, replica: usize, fault: ClockFault) {
        let now = self.now;
        let there = &mut self.replicas[replica];
        match fault {
            ClockFault::WallJump(seconds) => {
                let rate = there.wall.0.rate;
                there.wall.0.change(now, seconds * SECONDS as i64, rate);
                self.stats.wall_jumps += 1;
            }
            ClockFault::WallReset => {
                let (rate, says) = (there.wall.0.rate, there.wall.0.at(now));
                there.wall.0.change(now, -says, rate);
                self.stats.wall_resets += 1;
            }
            ClockFault::WallRate(rate) => {
                there.wall.0.change(now, 0, rate);
                self.stats.clock_drifts += u64::from(rate != FAIR);
            }
            ClockFault::MonoRate(rate) => {
                let Some(process) = there.process.as_mut() else { return };
                process.clock.mono.change(now, 0, rate);
                self.stats.clock_drifts += u64::from(rate != FAIR);
            }
            ClockFault::MonoLeap(by) => {
                let Some(process) = there.process.as_mut() else { return };
                let rate = process.clock.mono.rate;
                process.clock.mono.change(now, by as i64, rate);
                self.stats.clock_leaps += 1;
            }
        }
        if let Some(process) = there.process.as_mut() {
            process.clock.wall = there.wall;
            // Deadlines are due at other times now.
            process.wake = None;
            self.schedule_wake(replica);
        }
    }

    /// Every clock keeps step with the world from now on, wherever it stands.
    pub(super) fn steady_clocks(&mut self) {
        for replica in 0..self.replicas.len() {
            self.disturb_clock(replica, ClockFault::WallRate(FAIR));
            self.disturb_clock(replica, ClockFault::MonoRate(FAIR));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_clock_says_so_at_any_rate() {
        for rate in [1, 333, 500, 777, 1_000, 1_999, 2_000] {
            let mut clock = Clock::new(10, 5, WallClock::new(0));
            clock.mono.change(1_000, 0, rate);
            for deadline in [996, 1_000, 123_457] {
                let at = clock.world_time(Timestamp(deadline)).unwrap();
                assert!(clock.read(at).mono >= Timestamp(deadline), "rate {rate}");
                assert!(at == 1_000 || clock.read(at - 1).mono < Timestamp(deadline), "rate {rate}: not before");
            }
        }
    }

    #[test]
    fn a_clock_that_stands_still_reaches_nothing_and_goes_on_from_there() {
        let mut clock = Clock::new(0, 0, WallClock::new(-YEAR_S));
        clock.mono.change(50, 0, 0);
        clock.wall.0.change(50, 0, 0);
        assert_eq!(clock.read(50), clock.read(10_000_000));
        assert_eq!(clock.world_time(Timestamp(51)), None);
        clock.mono.change(10_000_000, 0, FAIR);
        assert_eq!(clock.read(10_000_001).mono, Timestamp(51));
    }
}
