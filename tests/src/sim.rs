//! The simulator: the other driver of the engine. A world of replicas, links and disks under one seed, in virtual time, on
//! one thread. The same engine and the same store as in a process, everything around them simulated.
//!
//! A seed draws [`Options`] (which faults, how large), they draw a [`Plan`] (what happens when), a [`World`] performs it,
//! checkers watch. Two phases: chaos, in which nothing may be lost and nobody may do what it may not; then a fair network,
//! in which everyone has to agree within [`CONVERGE_WITHIN`] and fall silent.

pub mod ailments;
pub mod backup;
pub mod byzantine;
pub mod campaign;
pub mod checkers;
pub mod clock;
pub mod clone;
pub mod damage;
pub mod dice;
pub mod disk;
pub mod gossip;
pub mod guard;
pub mod ledger;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod narrate;
pub mod network;
pub mod options;
pub mod phases;
pub mod plan;
pub mod recording;
pub mod regression;
pub mod replica;
pub mod shrink;
pub mod stats;
pub mod story;
pub mod trace;
pub mod workload;
pub mod world;

pub use options::{Options, Tamper};
pub use phases::{Report, run, run_with};
pub use plan::Plan;
pub use regression::Regression;
pub use world::World;

use std::fmt;

use anabranch_engine::limits::{BACKOFF_MAX_LATE, DIAL_TIMEOUT};
use serde::{Deserialize, Serialize};

/// Virtual microseconds in a millisecond.
pub const MILLIS: u64 = 1_000;
/// Virtual microseconds in a second.
pub const SECONDS: u64 = 1_000_000;

/// How long after the chaos everyone may take to agree.
// Backoff to a peer that was long away is up to 60 s, a half-open session is noticed after 30 s, and a ring of five needs
// several of these one after the other.
pub const CONVERGE_WITHIN: u64 = 600 * SECONDS;
/// How long after all agree somebody may still find somebody: the longest wait between two dials, and what a dial and
/// finding out that all is equal take.
pub const FOUND_WITHIN: u64 = BACKOFF_MAX_LATE.0 + DIAL_TIMEOUT.0 + 5 * SECONDS;
/// How long replicas that agree are watched for idle talk.
pub const SILENCE: u64 = 120 * SECONDS;
/// Events of one small seed before it counts as endless. Measured: they need 500 to 30,000.
pub const EVENTS_MAX: u64 = 500_000;
/// Events of one large seed before it counts as endless.
pub const EVENTS_MAX_LARGE: u64 = 10_000_000;
/// Outputs of one turn before it counts as endless.
pub const OUTPUTS_PER_TURN_MAX: usize = 200_000;

/// What kind of promise was broken. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something panicked.
    Crash = 1,
    /// Something happened that must never happen.
    Safety = 2,
    /// Something that must happen did not.
    Liveness = 3,
}

/// What went wrong in a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub kind: Kind,
    /// The checker that saw it, named after the invariant where there is one.
    pub checker: &'static str,
    /// When, in virtual microseconds.
    pub at: u64,
    /// What, for people to read.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} at {:.6}s: {}", self.kind, self.checker, self.at as f64 / 1e6, self.text)
    }
}
