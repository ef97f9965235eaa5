//! The time that a command may take, from its start to its end, whatever it waits for.

use std::time::{Duration, Instant};

use crate::failure::exit_code;
use crate::show::Show;
use anabranch_api::Failure;

/// How much later than the time limit a command ends by itself that waits for something other than the node. Whoever waits for the
/// node can say more.
const GUARD_AFTER: Duration = Duration::from_millis(100);

/// From when on, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimit {
    begun: Instant,
    limit: Duration,
    /// What the node gets on top, which was told the limit itself, to say why it was not enough.
    grace: Duration,
}

impl TimeLimit {
    /// From now on.
    #[expect(clippy::disallowed_methods, reason = "a person's time limit decides nothing that replicas agree on")]
    pub(crate) fn begin(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit, grace: Duration::ZERO }
    }

    pub(crate) fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// What is left; `None` if nothing is.
    pub(crate) fn left(self) -> Option<Duration> {
        (self.limit + self.grace).checked_sub(self.begun.elapsed()).filter(|left| !left.is_zero())
    }

    /// All of it.
    pub(crate) fn whole(self) -> Duration {
        self.limit
    }

    pub(crate) fn seconds(self) -> f64 {
        self.limit.as_secs_f64()
    }

    /// The node has taken too long.
    pub(crate) fn unanswered(self) -> Failure {
        Failure::timed_out(format!(
            "the node has not answered within {} s; what was asked may still be done",
            self.seconds()
        ))
    }

    /// Ends the program when the time is over, also while it waits for its input, or for a reader of its output.
    pub(crate) fn guard(self, at_end: AtEnd, show: Show) {
        std::thread::spawn(move || {
            std::thread::sleep(self.left().unwrap_or_default() + GUARD_AFTER);
            let code = match at_end {
                AtEnd::Done => 0,
                AtEnd::Failed => {
                    let failure = Failure::timed_out(format!(
                        "not done within {} s: its input has not ended, or its output is not read",
                        self.seconds()
                    ));
                    show.failure(&failure);
                    i32::from(exit_code(&failure))
                }
            };
            std::process::exit(code)
        });
    }
}

/// What it means that the time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AtEnd {
    /// It was to take this long.
    Done,
    Failed,
}
