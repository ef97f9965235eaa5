//! Executes the engine's storage requests on redb.

pub mod backend;
