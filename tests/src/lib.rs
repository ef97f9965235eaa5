//! What proves Anabranch: what the process tests share.

pub mod processes;
