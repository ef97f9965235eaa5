//! What the tests share: the benches.

pub mod bench;
