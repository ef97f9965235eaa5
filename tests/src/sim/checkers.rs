//! What must hold, one file for each promise, named as in the list of invariants: I1 and so on. Each looks at the world and
//! reports the first thing that is wrong. Each can be seen to fail: by a tampered world, or by made-up observations.

pub mod acknowledged;
pub mod actors;
pub mod convergence;
pub mod counters;
pub mod determinism;
pub mod history;
pub mod silence;
pub mod untouched;

pub use actors::Registry;
