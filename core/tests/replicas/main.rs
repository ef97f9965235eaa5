//! Whole replicas: real stores, real threads, real connections on loopback.
#![allow(clippy::unwrap_used, reason = "the helpers are tests too")]

mod alone;
mod common;
mod drafts;
mod feed;
mod killed;
mod salvaged;
mod together;
