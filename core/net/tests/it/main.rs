//! The network over real loopback connections. Nothing here sleeps: every wait is for a condition, with a generous bound.

#![allow(
    clippy::unwrap_used,
    clippy::result_large_err,
    reason = "a test may panic, and gives back what it did not want"
)]

mod dials;
mod gossip;
mod latency;
mod node;
mod sessions;
mod stranger;
