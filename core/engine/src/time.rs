//! Time as an input. The driver reads the clocks; the engine only compares what it is given.

use core::fmt;
use core::ops::{Add, Sub};

/// A moment on a clock that never goes back, in microseconds since an origin that the driver chooses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Hash)]
pub struct Timestamp(pub u64);

/// A length of time in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Hash)]
pub struct Duration(pub u64);

/// What the driver's clocks say at one call.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Hash)]
pub struct Now {
    /// Decides every deadline.
    pub mono: Timestamp,
    /// Seconds since 1970, written into changes for people to read. Decides nothing but that this machine has slept, where it
    /// goes on and `mono` stands still.
    pub wall_s: i64,
}

impl Now {
    /// How much farther the wall clock has gone since `earlier` than the monotonic one, which stands still while a machine
    /// sleeps. Zero if it has not: a wall clock may be set to anything.
    pub fn slept_since(&self, earlier: &Self) -> Duration {
        let seconds = self.wall_s.saturating_sub(earlier.wall_s).max(0).unsigned_abs();
        Duration(seconds.saturating_mul(1_000_000).saturating_sub((self.mono - earlier.mono).0))
    }
}

impl Duration {
    /// A duration of whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// A duration of whole seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000_000)
    }

    /// The duration in whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.0))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// The time since `earlier`; zero if it lies ahead.
    fn sub(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
