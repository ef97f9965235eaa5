//! Rules of Maelstrom's workloads and of Jepsen's checkers behind them, as pure functions over what was asked and answered.
//!
//! Sources: jepsen `checker.clj` (`set-full`), maelstrom `workload/broadcast.clj`, `g_set.clj`, `pn_counter.clj`.

pub mod counter;
pub mod ranges;
pub mod set_full;

use std::time::Duration;

/// A write that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<T> {
    /// What.
    pub value: T,
    /// When it was answered; `None`: nobody knows what came of it. What surely did not happen is in no history.
    pub acknowledged: Option<Duration>,
}
