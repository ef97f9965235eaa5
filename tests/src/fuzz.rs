//! Fuzz bodies: for every place where bytes come in, a function that takes any bytes and must not panic. The libFuzzer
//! targets in `tests/fuzz` call them with what they make up, `corpora.rs` with what was kept, on every test run.
//!
//! This module stands alone: the fuzz crate takes it in by its path, so that no target is built with the network. It names
//! the engine, the store and small crates, and nothing of its neighbours.

pub mod document;
pub mod engine;
pub mod following;
pub mod gate;
pub mod guard;
pub mod input;
pub mod membership;
pub mod orphans;
pub mod recording;
pub mod request;
pub mod salvage;
pub mod seeds;
pub mod session;
pub mod stored;
pub mod text;
pub mod wire;
pub mod writer;

/// Takes any bytes, and panics only where the engine is wrong.
pub type Body = fn(&[u8]);

/// Every target: its name, its body, and mutations of each corpus file that a test run tries.
pub const TARGETS: &[(&str, Body, usize)] = &[
    ("frame", wire::frame, 400),
    ("message", wire::message, 400),
    ("hint", wire::hint, 400),
    ("payload", gate::payload, 400),
    ("gate", gate::differential, 200),
    ("orphans", orphans::orphans, 40),
    ("stored", stored::stored, 400),
    ("membership", membership::membership, 100),
    ("ticket", text::ticket, 200),
    ("path", text::path, 200),
    ("request", request::request, 200),
    ("edit", document::edit, 200),
    ("image", engine::image, 100),
    ("salvage", salvage::salvage, 100),
    ("session", session::session, 40),
    ("recording", recording::recording, 200),
];

/// The body of a target, by its name.
pub fn body(name: &str) -> Option<Body> {
    TARGETS.iter().find(|(target, ..)| *target == name).map(|(_, body, _)| *body)
}
