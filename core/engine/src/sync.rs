//! Which peer to talk to, when, about what.

pub mod collection;
