//! Real processes: the built `anabranch`, its command line, its socket, and the links between nodes, which can be cut.
//!
//! A test that fails says so by a panic with the logs of its nodes. Only processes that a test started are ended by it.

pub mod binary;
pub mod command;
pub mod link;
pub mod namespace;
pub mod node;
pub mod patience;
pub mod socket;
pub mod trace;
