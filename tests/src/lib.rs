//! What proves Anabranch: the simulator, the crash lab, the hostile client, fuzz bodies, and what the process tests and the benches share.

pub mod bench;
pub mod crash;
pub mod fuzz;
pub mod hostile;
pub mod processes;
pub mod sim;
