//! Native connections: tcp, found by name or number, with noise and yamux.

use std::io;
use std::net::SocketAddr;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport as _, dns, noise, swarm, tcp, yamux};
use socket2::{Domain, Socket, Type};

use super::doorstep::Doorstep;
use super::everywhere::Everywhere;
use super::stall::Watched;
use crate::address::socket_address;
use crate::limits::{NetLimits, STALL_TIME_MAX, STREAMS_PER_CONNECTION_MAX};

/// What can be dialed and listened on, for people to read.
pub(crate) const CARRIED: &str = "tcp over ip4, ip6, dns, dns4 or dns6 is carried";

/// Whether the address, without its peer id, can be used here.
pub(crate) fn carries(address: &Multiaddr) -> bool {
    use Protocol::{Dns, Dns4, Dns6, Ip4, Ip6, Tcp};
    let mut parts = address.iter();
    matches!(
        (parts.next(), parts.next(), parts.next()),
        (Some(Ip4(_) | Ip6(_) | Dns(_) | Dns4(_) | Dns6(_)), Some(Tcp(_)), None)
    )
}

/// The transport.
pub(crate) fn new(keypair: &Keypair, limits: &NetLimits) -> Result<Boxed<(PeerId, StreamMuxerBox)>, String> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err("it must be made inside a tokio runtime".to_owned());
    }
    let tcp = || Everywhere::new(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)));
    let tcp = match dns::tokio::Transport::system(tcp()) {
        Ok(transport) => transport,
        Err(error) => {
            // A machine without a resolver still dials by number.
            tracing::warn!(%error, "host names cannot be resolved");
            let none = dns::ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            dns::tokio::Transport::custom(tcp(), none, dns::ResolverOpts::default())
        }
    };
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_PER_CONNECTION_MAX);
    let connection = tcp
        .map(|socket, _| Watched::new(socket, STALL_TIME_MAX))
        // Lazily: what is agreed on is known, so it travels with what follows and costs no round trip.
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).map_err(|error| error.to_string())?)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let dialing = TransportTimeout::with_outgoing_timeout(connection, limits.dial_time_max);
    let setup = TransportTimeout::with_ingoing_timeout(dialing, limits.setup_time_max).boxed();
    Ok(Doorstep::new(setup, limits.inbound_pending_max).boxed())
}

/// Whether the error is that a host name was not found.
pub(crate) fn is_unresolved(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<dns::ResolveError>()
}

/// Runs connections on the runtime that we are in.
pub(crate) fn executor() -> swarm::Config {
    swarm::Config::with_tokio_executor()
}

/// Whether an address can be listened on. libp2p shares a port with other processes of the same user (`SO_REUSEPORT`), and
/// connections would end up with either; so we first try to have it for ourselves.
pub(crate) fn check_free(address: &Multiaddr) -> io::Result<()> {
    match socket_address(address) {
        Some(at) => socket_for(at)?.bind(&at.into()),
        None => Ok(()),
    }
}

/// A socket for an address, not bound yet.
pub(super) fn socket_for(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
    let socket = match socket {
        // Linux without IPv6 has no such sockets: an address that is not there, like others.
        Err(_) if address.is_ipv6() => return Err(io::ErrorKind::AddrNotAvailable.into()),
        made => made?,
    };
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // As libp2p does: connections of an earlier process that have not timed out yet do not count.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    Ok(socket)
}
