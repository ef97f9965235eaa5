//! The engine of an Anabranch replica: every decision, and nothing else. It has no clock, no source of randomness, no disk
//! and no network; `#![no_std]` proves most of that on every build. What happens in the world comes in as [`Input`], what is
//! to be done comes out as [`Output`]. Whoever carries the two back and forth is a driver: the library `anabranch` is one,
//! the simulator another.
//!
//! ```
//! use std::sync::Arc;
//!
//! use anabranch_engine::gate::{Guard, Panicked, Slot};
//! use anabranch_engine::keys::SecretKey;
//! use anabranch_engine::storage::{self, Image, Request};
//! use anabranch_engine::time::Now;
//! use anabranch_engine::{Begins, Command, CommandId, Config, DocumentError, Engine, Input, Output, Reply};
//!
//! struct Bare; // A real guard notes the slot and catches panics.
//! impl Guard for Bare {
//!     fn run(&self, _: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
//!         f();
//!         Ok(())
//!     }
//! }
//!
//! // After each input: drain. This driver has a perfect disk and no network.
//! fn drain(engine: &mut Engine) -> Option<Reply> {
//!     let mut last = None;
//!     while let Some(output) = engine.poll_output() {
//!         match output {
//!             Output::Store(Request::Commit { id, .. }) => {
//!                 let reply = storage::Reply::Committed { id, result: Ok(()) };
//!                 engine.handle(Now::default(), Input::Stored(reply));
//!             }
//!             Output::Reply(_, reply) => last = Some(reply.unwrap()),
//!             _ => {}
//!         }
//!     }
//!     last
//! }
//!
//! let (config, key) = (Config { guard: Arc::new(Bare), slot: None, residents_max: 256 }, SecretKey::from_seed(&[1; 32]));
//! let mut engine = Engine::new(config, key, [2; 32], Now::default(), Image::default()).unwrap();
//!
//! engine.handle(Now::default(), Input::Command(CommandId(1), Command::CreateSpace { name: "notes".into() }));
//! let Some(Reply::SpaceReady(space)) = drain(&mut engine) else { panic!("it is on disk by now") };
//! let document = engine.new_document_id();
//! engine.handle(Now::default(), Input::Command(CommandId(2), Command::CreateDocument {
//!     space,
//!     document,
//!     begins: Begins::Empty,
//! }));
//! drain(&mut engine);
//!
//! let edited = engine.edit(Now::default(), &space, &document, |edit| -> Result<(), DocumentError> {
//!     edit.set("/title", "an anabranch").map_err(DocumentError::from)
//! });
//! edited.unwrap();
//! drain(&mut engine);
//! let view = engine.view(&space, &document, None).unwrap();
//! assert_eq!(view.json(), serde_json::json!({ "title": "an anabranch" }));
//! ```
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
mod mutants;
pub mod recording;
pub mod run;
pub mod space;
pub mod storage;
pub mod sync;
pub mod time;
pub mod wire;

pub use engine::input::{Begins, Command, CommandId, HintId, Input, SessionId};
pub use engine::output::{CommandError, Event, Output, Reply, Verdict, after_failure};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;

pub use engine::copies::Copied;
pub use engine::counters::Counters;
pub use engine::editing::Published;
pub use engine::held::Held;
pub use engine::listing::DocumentInfo;
pub use engine::renewal::{Renewal, RenewalError};
pub use engine::status::{LossOnLeaving, PeerStatus, SpaceStatus};
pub use engine::usage::{Toll, Usage};
pub use engine::{Config, DocumentError, Engine};
