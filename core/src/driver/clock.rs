//! The only place that reads clocks. Everyone else is told what time it is.

use std::time::Duration;

use anabranch_engine::time::{Now, Timestamp};
use web_time::{Instant, SystemTime};

/// The clocks of one replica.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

#[allow(clippy::disallowed_methods, reason = "this is the clock")]
impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// What the clocks say.
    pub(crate) fn now(&self) -> Now {
        let wall_s = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        Now { mono: self.mono(), wall_s }
    }

    /// How long it is until `at`; zero if that has passed.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_micros((at - self.mono()).0)
    }

    fn mono(&self) -> Timestamp {
        Timestamp(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_due_at_once_and_the_future_is_not() {
        let clock = Clock::start();
        assert_eq!(clock.until(Timestamp(0)), Duration::ZERO);
        assert!(
            clock.until(clock.now().mono + anabranch_engine::time::Duration::from_secs(60)) > Duration::from_secs(50)
        );
        assert!(clock.now().wall_s > 1_600_000_000);
    }
}
