//! Waiting for conditions, with a bound that only a failure reaches.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Generous: what should take a second may take this long on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A moment to measure from.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Now.
    #[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since then.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits until `condition` holds, or panics with `what` and what the condition said last.
pub fn wait_until(what: &str, condition: impl FnMut() -> Result<(), String>) {
    wait_for(what, condition);
}

/// Waits until `attempt` gives a value.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    wait_often(what, LOOK_EVERY, &mut attempt)
}

/// As [`wait_for`], looking as often as `every` says.
pub fn wait_often<T>(what: &str, every: Duration, attempt: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, every, attempt).unwrap_or_else(|state| panic!("{what}: {state}"))
}

/// Waits until `attempt` gives a value, but not longer than `bound`.
///
/// # Errors
/// What was seen last.
pub fn within<T>(
    bound: Duration,
    every: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let clock = Stopwatch::start();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(state) if clock.elapsed() > bound => {
                return Err(format!("not within {} s; last seen: {state}", bound.as_secs()));
            }
            Err(_) => std::thread::sleep(every),
        }
    }
}
