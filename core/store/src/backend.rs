//! Disks that a store can stand on besides redb's own file and memory: here, one that loses what was not synced.

pub mod crashable;
