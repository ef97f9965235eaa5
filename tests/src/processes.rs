//! Real processes: the built `anabranch`, its command line, its socket, and the links between nodes, whose weather can be bad.
//!
//! A test that fails says so by a panic with the logs of its nodes. A [`fleet`] of nodes is for runs, in tests and on the command
//! line (`processes`), that collect [`finding`]s. Only processes that a test or a run started are ended by it.

pub mod binary;
pub mod chaos;
pub mod checkers;
pub mod client;
pub mod command;
pub mod cycles;
pub mod finding;
pub mod fleet;
pub mod imports;
pub mod kill;
pub mod ledger;
pub mod link;
pub mod logbook;
pub mod namespace;
pub mod newcomers;
pub mod node;
pub mod patience;
pub mod pause;
pub mod socket;
pub mod trace;
pub mod vitals;
pub mod workloads;
