//! Whole replicas: real stores, real threads, real connections on loopback.

mod alone;
mod common;
mod together;
