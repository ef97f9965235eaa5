//! The engine of an Anabranch replica: every decision, and nothing else.
#![no_std]

extern crate alloc;

pub mod document;
pub mod engine;
pub mod feed;
pub mod frontier;
pub mod gate;
pub mod id;
pub mod keys;
pub mod limits;
pub mod run;
pub mod space;
pub mod storage;
pub mod sync;
pub mod time;
pub mod wire;

pub use engine::input::{Command, CommandId, HintId, Input, SessionId};
pub use engine::output::{CommandError, Event, Output, Reply, Verdict};
pub use engine::{Config, Counters, DocumentError, Engine, PeerStatus, SpaceStatus};
