//! A browser's connections: none yet. The crate builds and runs there; dialing says what is missing.

use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::dummy::DummyTransport;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, Transport as _, swarm};

use crate::limits::NetLimits;

/// What can be dialed and listened on, for people to read.
pub(crate) const CARRIED: &str = "this version has no transport for browsers yet";

/// Whether the address, without its peer id, can be used here.
pub(crate) fn carries(_: &Multiaddr) -> bool {
    false
}

/// The transport.
pub(crate) fn new(_: &Keypair, _: &NetLimits) -> Result<Boxed<(PeerId, StreamMuxerBox)>, String> {
    Ok(DummyTransport::new().boxed())
}

/// Whether the error is that a host name was not found. A browser does not say.
pub(crate) fn is_unresolved(_: &(dyn std::error::Error + 'static)) -> bool {
    false
}

/// Runs connections on the browser's event loop.
pub(crate) fn executor() -> swarm::Config {
    swarm::Config::with_wasm_executor()
}

/// Whether an address can be listened on.
pub(crate) fn check_free(_: &Multiaddr) -> std::io::Result<()> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

/// The addresses of this machine: a page is not told any.
pub(crate) struct Interfaces;

impl Interfaces {
    pub(crate) fn of_this_machine() -> Self {
        Self
    }

    pub(crate) fn list(&mut self) -> Vec<IpAddr> {
        Vec::new()
    }

    pub(crate) fn poll(&mut self, _: &mut Context<'_>) -> Poll<Vec<IpAddr>> {
        Poll::Pending
    }
}
