//! Carries the engine's frames over libp2p, and nothing else: what to send, whom to dial, whom to trust and when to try
//! again is decided in the engine. This is the only crate that names libp2p.
//!
//! One [`Network`] owns one libp2p swarm. The driver hands it commands with [`Network::execute`] and waits for news with
//! [`Network::next`]; while nobody waits, only what is under way on open connections goes on.
//!
//! Until the engine has said [`NetCommand::Admit`], a peer sees one protocol only: the session stream. gossipsub, identify
//! and ping are behind a gate (`gated.rs`) that opens when both sides have admitted each other.

mod address;
mod behaviour;
mod gate;
mod gated;
mod limits;
mod listening;
mod network;
mod origin;
mod pipe;
mod session;
mod sessions;
mod translate;
mod transport;

pub use address::{Address, AddressError, device_of, parse_address, peer_id_text, with_peer_id};
pub use limits::NetLimits;
pub use network::{NetCommand, NetConfig, NetError, Network};

/// The protocol of the session stream, as negotiated on the wire.
pub const SESSION_PROTOCOL: &str = "/anabranch/session/1";
