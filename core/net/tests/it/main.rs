//! The network over real loopback connections. Nothing here sleeps: every wait is for a condition, with a generous bound.

mod dials;
mod gossip;
mod latency;
mod node;
mod sessions;
mod stranger;
