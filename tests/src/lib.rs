//! What proves Anabranch: the simulator and what the process tests and benches share.

pub mod sim;
