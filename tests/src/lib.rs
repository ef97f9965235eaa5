//! What proves Anabranch: the simulator, the crash lab, fuzz bodies, and what the process tests and the benches share.

pub mod bench;
pub mod crash;
pub mod fuzz;
pub mod processes;
pub mod sim;
