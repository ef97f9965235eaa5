//! What proves Anabranch: the simulator, and what the process tests and the benches share.

pub mod bench;
pub mod processes;
pub mod sim;
