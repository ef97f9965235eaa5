//! Every limit of the network, and the one that libp2p does not have: connections from one address.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, PeerId};

/// Bytes of received frames that wait for the driver, per session; beyond it nothing more is read from the peer.
pub(crate) const INCOMING_BYTES_MAX: usize = 256 * 1024;
/// What one waiting frame counts beyond its bytes, so that empty-handed frames are bounded too. Guess.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 64;
/// Bytes of frames handed to us and not yet written, per session. The engine keeps to `OUTGOING_BYTES_MAX`; twice that is
/// a fault of ours, and the session ends.
pub(crate) const OUTGOING_BYTES_MAX: usize = 2 * anabranch_engine::limits::OUTGOING_BYTES_MAX;
/// Small frames are put together up to this size for one write. yamux splits at 16 KiB anyway.
pub(crate) const BATCH_BYTES: usize = 16 * 1024;
/// Read from a session stream in one go.
pub(crate) const READ_BYTES: usize = 16 * 1024;
/// News given to the driver in a row before connections, listeners and dials get a turn. Guess.
pub(crate) const NEWS_IN_A_ROW_MAX: usize = 64;
/// Frames taken from one session before the others get a turn. Guess.
pub(crate) const FRAMES_IN_A_ROW_MAX: usize = 16;
/// Hints that wait for the engine's judgement; beyond it the oldest is ignored.
pub(crate) const HINTS_PENDING_MAX: usize = 1_024;
/// Streams of one connection, either way. We use about ten.
pub(crate) const STREAMS_PER_CONNECTION_MAX: usize = 32;
/// Inbound streams of one connection whose protocol is being negotiated.
pub(crate) const STREAMS_NEGOTIATING_MAX: usize = 16;
/// Topics that one peer may subscribe to. Its subscriptions travel in one message, so they must fit `GOSSIP_BYTES_MAX`.
pub(crate) const TOPICS_PER_PEER_MAX: usize = 200;
/// One gossipsub message on the wire: a hint, a list of topics, or control.
pub(crate) const GOSSIP_BYTES_MAX: usize = 16 * 1024;
/// Message ids in one gossipsub control message. 20 bytes each.
pub(crate) const GOSSIP_IDS_MAX: usize = 128;
/// Hints in one gossipsub message.
pub(crate) const HINTS_PER_MESSAGE_MAX: usize = 64;
/// Gossipsub messages that wait for one peer.
pub(crate) const GOSSIP_QUEUE_MAX: usize = 256;

/// How many connections, and how long they may take. The defaults are the design's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetLimits {
    /// Connections at once.
    pub connections_max: u32,
    /// Of these, opened by others; the rest is kept for our own dials.
    pub inbound_max: u32,
    /// Connections with one peer: two, because both sides may dial at the same moment.
    pub per_peer_max: u32,
    /// Inbound connections from one IPv4 address or IPv6 /64. Loopback is not limited.
    pub per_address_max: u32,
    /// Inbound connections that are being set up.
    pub inbound_pending_max: u32,
    /// Dials in flight.
    pub dials_max: u32,
    /// How long a connection may take to be set up.
    pub setup_time_max: Duration,
    /// How long a connection may stay without a session stream.
    pub session_wait_max: Duration,
    /// How long closing a session may wait for a peer that does not read.
    pub close_time_max: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            inbound_max: 192,
            per_peer_max: 2,
            per_address_max: 16,
            inbound_pending_max: 32,
            dials_max: 32,
            setup_time_max: Duration::from_secs(10),
            session_wait_max: Duration::from_secs(10),
            close_time_max: Duration::from_secs(2),
        }
    }
}

/// Too many inbound connections from one address.
#[derive(Debug, thiserror::Error)]
#[error("at most {limit} connections from one address are allowed")]
pub(crate) struct TooManyFromOneAddress {
    limit: u32,
}

/// Where inbound connections are counted as one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    V4(Ipv4Addr),
    /// The network half: one household or server usually has all of it.
    V6([u16; 4]),
}

/// Refuses inbound connections beyond a number for each origin, being set up or established.
pub(crate) struct PerAddress {
    limit: u32,
    inbound: HashMap<ConnectionId, Origin>,
    counts: HashMap<Origin, u32>,
}

impl PerAddress {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, inbound: HashMap::new(), counts: HashMap::new() }
    }

    fn forget(&mut self, connection: ConnectionId) {
        let Some(origin) = self.inbound.remove(&connection) else { return };
        if let Some(count) = self.counts.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&origin);
            }
        }
    }
}

fn origin(address: &Multiaddr) -> Option<Origin> {
    let v4 = |ip: Ipv4Addr| (!ip.is_loopback()).then_some(Origin::V4(ip));
    match address.iter().next()? {
        Protocol::Ip4(ip) => v4(ip),
        Protocol::Ip6(Ipv6Addr::LOCALHOST) => None,
        Protocol::Ip6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => v4(ip),
            None => {
                let [a, b, c, d, ..] = ip.segments();
                Some(Origin::V6([a, b, c, d]))
            }
        },
        _ => None,
    }
}

impl NetworkBehaviour for PerAddress {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(origin) = origin(remote) else { return Ok(()) };
        let count = self.counts.entry(origin).or_default();
        if *count >= self.limit {
            return Err(ConnectionDenied::new(TooManyFromOneAddress { limit: self.limit }));
        }
        *count += 1;
        self.inbound.insert(connection, origin);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(failure) => self.forget(failure.connection_id),
            FromSwarm::ConnectionClosed(closed) if matches!(closed.endpoint, ConnectedPoint::Listener { .. }) => {
                self.forget(closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(gate: &mut PerAddress, id: usize, from: &str) -> bool {
        let local = "/ip4/192.0.2.9/tcp/1".parse().unwrap();
        gate.handle_pending_inbound_connection(ConnectionId::new_unchecked(id), &local, &from.parse().unwrap()).is_ok()
    }

    #[test]
    fn connections_from_one_address_are_limited() {
        let mut gate = PerAddress::new(2);
        assert!(knock(&mut gate, 1, "/ip4/192.0.2.1/tcp/1"));
        assert!(knock(&mut gate, 2, "/ip4/192.0.2.1/tcp/2"));
        assert!(!knock(&mut gate, 3, "/ip4/192.0.2.1/tcp/3"));
        assert!(knock(&mut gate, 4, "/ip4/192.0.2.2/tcp/1"));
        gate.forget(ConnectionId::new_unchecked(1));
        gate.forget(ConnectionId::new_unchecked(3));
        assert!(knock(&mut gate, 5, "/ip4/192.0.2.1/tcp/4"));
        assert!(!knock(&mut gate, 6, "/ip6/::ffff:192.0.2.1/tcp/5"));
    }

    #[test]
    fn a_v6_network_counts_as_one_address() {
        let mut gate = PerAddress::new(1);
        assert!(knock(&mut gate, 1, "/ip6/2001:db8:1:2::1/tcp/1"));
        assert!(!knock(&mut gate, 2, "/ip6/2001:db8:1:2:ffff::1/tcp/1"));
        assert!(knock(&mut gate, 3, "/ip6/2001:db8:1:3::1/tcp/1"));
    }

    #[test]
    fn loopback_is_not_limited() {
        let mut gate = PerAddress::new(0);
        assert!(knock(&mut gate, 1, "/ip4/127.0.0.1/tcp/1"));
        assert!(knock(&mut gate, 2, "/ip6/::1/tcp/1"));
        assert!(gate.counts.is_empty());
    }
}
