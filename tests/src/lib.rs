//! What proves Anabranch: the simulator, fuzz bodies, and what the process tests and the benches share.

pub mod bench;
pub mod fuzz;
pub mod processes;
pub mod sim;
