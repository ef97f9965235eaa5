//! Every limit of the network, and the counting of connections.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_engine::limits::{DIALS_MAX, GUEST_SESSIONS_MAX, SESSIONS_PER_DEVICE};
use futures::FutureExt as _;
use futures_timer::Delay;
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::origin::Origin;

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
/// A socket that has bytes to take and takes none for this long is dead. As long as the engine waits for a silent peer.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Hints that wait for the engine's judgement; beyond it the oldest is ignored.
pub(crate) const HINTS_PENDING_MAX: usize = 1_024;
/// Streams of one connection, either way. We use about ten.
#[cfg(not(target_arch = "wasm32"))]
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
/// Addresses of which it is remembered how many connections came from there lately. Some 50 bytes each.
const ORIGINS_REMEMBERED_MAX: usize = 4_096;

/// How many connections, and how long they may take. The defaults are the design's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetLimits {
    /// Connections at once.
    pub connections_max: u32,
    /// Of these, opened by others; the rest is kept for our own dials. Of these in turn the engine keeps half for members.
    pub inbound_max: u32,
    /// Connections with one peer: as many as the engine keeps sessions with a device, and one more, because both sides may dial
    /// at the same moment and a new one may come before the dead one is noticed. Those being closed do not count.
    pub per_peer_max: u32,
    /// Inbound connections from one IPv4 address or IPv6 /64. Loopback is not limited.
    pub per_address_max: u32,
    /// New inbound connections from one such address in a minute, in the long run.
    pub arrivals_per_minute: u32,
    /// And at once.
    pub arrivals_burst: u32,
    /// Inbound connections that are being set up. Of more, the oldest one is closed that comes from where most do.
    pub inbound_pending_max: u32,
    /// Dials in flight: as many as the engine begins at once.
    pub dials_max: u32,
    /// How long a connection that we dial may take to be set up.
    pub dial_time_max: Duration,
    /// And one that others open: from its first byte to the end of the handshake, which takes two round trips.
    pub setup_time_max: Duration,
    /// How long a connection may stay without a session stream, which its opener asks for at once.
    pub session_wait_max: Duration,
    /// How long closing a session may wait for a peer that does not read.
    pub close_time_max: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            inbound_max: 2 * GUEST_SESSIONS_MAX as u32,
            per_peer_max: SESSIONS_PER_DEVICE as u32 + 1,
            per_address_max: 16,
            arrivals_per_minute: 10,
            arrivals_burst: 20,
            inbound_pending_max: 32,
            dials_max: DIALS_MAX as u32,
            dial_time_max: Duration::from_secs(10),
            setup_time_max: Duration::from_secs(3),
            session_wait_max: Duration::from_secs(5),
            close_time_max: Duration::from_secs(2),
        }
    }
}

/// A connection is refused for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("at most {0} connections at once are allowed")]
    Total(u32),
    #[error("at most {0} inbound connections at once are allowed")]
    Inbound(u32),
    #[error("at most {burst} inbound connections at once from one address are allowed, and {per_minute} a minute")]
    Arrivals { burst: u32, per_minute: u32 },
    #[error("at most {0} dials at once are allowed")]
    Dials(u32),
    #[error("at most {0} inbound connections from one address are allowed")]
    PerAddress(u32),
    #[error("at most {0} connections with one peer are allowed")]
    PerPeer(u32),
    #[error("the network is shutting down")]
    ShuttingDown,
}

/// How many connections came from where lately: so many at once, and then one with each beat of a timer.
#[derive(Default)]
struct Arrivals {
    counts: HashMap<Origin, u32>,
    beat: Option<Delay>,
}

impl Arrivals {
    fn enter(&mut self, origin: Origin, limits: &NetLimits) -> Result<(), Refused> {
        let count = self.counts.get(&origin).copied().unwrap_or_default();
        let refused = |burst| Refused::Arrivals { burst, per_minute: limits.arrivals_per_minute };
        below(count as usize, limits.arrivals_burst, refused)?;
        if self.counts.len() >= ORIGINS_REMEMBERED_MAX {
            let least = self.counts.iter().min_by_key(|(_, count)| **count).map(|(origin, _)| *origin);
            least.into_iter().for_each(|origin| _ = self.counts.remove(&origin));
        }
        self.counts.insert(origin, count + 1);
        Ok(())
    }

    /// One more may come from everywhere.
    fn forget_one(&mut self) {
        self.counts.retain(|_, count| {
            *count -= 1;
            *count > 0
        });
    }

    /// Keeps the timer going while there is something to forget.
    fn poll(&mut self, cx: &mut Context<'_>, limits: &NetLimits) {
        let every = Duration::from_secs(60) / limits.arrivals_per_minute.max(1);
        while !self.counts.is_empty() {
            let beat = self.beat.get_or_insert_with(|| Delay::new(every));
            if beat.poll_unpin(cx).is_pending() {
                return;
            }
            self.beat = None;
            self.forget_one();
        }
        self.beat = None;
    }
}

/// Counts connections and dials, and refuses those beyond the limits. How many one peer may have is counted by the sessions,
/// which know those that are only being closed.
pub(crate) struct Limits {
    limits: NetLimits,
    dials: HashSet<ConnectionId>,
    inbound: HashSet<ConnectionId>,
    outbound: HashSet<ConnectionId>,
    /// Of inbound connections, pending and established.
    origins: HashMap<ConnectionId, Origin>,
    per_origin: HashMap<Origin, u32>,
    arrivals: Arrivals,
}

impl Limits {
    pub(crate) fn new(limits: NetLimits) -> Self {
        Self {
            limits,
            dials: HashSet::new(),
            inbound: HashSet::new(),
            outbound: HashSet::new(),
            origins: HashMap::new(),
            per_origin: HashMap::new(),
            arrivals: Arrivals::default(),
        }
    }

    fn enter(&mut self, connection: ConnectionId, remote: &Multiaddr) -> Result<(), Refused> {
        if let Some(origin) = Origin::of(remote) {
            // What is refused for this does not use up the arrivals of those who may still come from there.
            let count = self.per_origin.get(&origin).copied().unwrap_or_default();
            below(count as usize, self.limits.per_address_max, Refused::PerAddress)?;
            self.arrivals.enter(origin, &self.limits)?;
            self.per_origin.insert(origin, count + 1);
            self.origins.insert(connection, origin);
        }
        Ok(())
    }

    fn check_total(&self) -> Result<(), Refused> {
        below(self.inbound.len() + self.outbound.len(), self.limits.connections_max, Refused::Total)
    }

    fn forget(&mut self, connection: ConnectionId) {
        for set in [&mut self.dials, &mut self.inbound, &mut self.outbound] {
            set.remove(&connection);
        }
        let Some(origin) = self.origins.remove(&connection) else { return };
        if let Some(count) = self.per_origin.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.per_origin.remove(&origin);
            }
        }
    }
}

fn below(count: usize, limit: u32, refused: impl FnOnce(u32) -> Refused) -> Result<(), Refused> {
    if count < limit as usize { Ok(()) } else { Err(refused(limit)) }
}

impl NetworkBehaviour for Limits {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.enter(connection, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        below(self.inbound.len(), self.limits.inbound_max, Refused::Inbound).map_err(ConnectionDenied::new)?;
        self.check_total().map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        below(self.dials.len(), self.limits.dials_max, Refused::Dials).map_err(ConnectionDenied::new)?;
        self.dials.insert(connection);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dials.remove(&connection);
        self.check_total().map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let set = match established.endpoint {
                    ConnectedPoint::Listener { .. } => &mut self.inbound,
                    ConnectedPoint::Dialer { .. } => &mut self.outbound,
                };
                set.insert(established.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => self.forget(closed.connection_id),
            FromSwarm::DialFailure(failure) => self.forget(failure.connection_id),
            FromSwarm::ListenFailure(failure) => self.forget(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.arrivals.poll(cx, &self.limits);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn limits(per_address_max: u32) -> Limits {
        Limits::new(NetLimits { per_address_max, ..NetLimits::default() })
    }

    fn knock(limits: &mut Limits, id: usize, from: &str) -> Result<(), Refused> {
        limits.enter(ConnectionId::new_unchecked(id), &from.parse().unwrap())
    }

    #[test]
    fn connections_from_one_address_are_limited() {
        let mut gate = limits(2);
        assert_eq!(knock(&mut gate, 1, "/ip4/192.0.2.1/tcp/1"), Ok(()));
        assert_eq!(knock(&mut gate, 2, "/ip4/192.0.2.1/tcp/2"), Ok(()));
        let refused = knock(&mut gate, 3, "/ip4/192.0.2.1/tcp/3").unwrap_err();
        assert_eq!(refused.to_string(), "at most 2 inbound connections from one address are allowed");
        assert_eq!(knock(&mut gate, 4, "/ip4/192.0.2.2/tcp/1"), Ok(()));
        gate.forget(ConnectionId::new_unchecked(1));
        gate.forget(ConnectionId::new_unchecked(3));
        assert_eq!(knock(&mut gate, 5, "/ip4/192.0.2.1/tcp/4"), Ok(()));
        assert_eq!(knock(&mut gate, 6, "/ip6/::ffff:192.0.2.1/tcp/5"), Err(Refused::PerAddress(2)));
    }

    #[test]
    fn a_v6_network_counts_as_one_address() {
        let mut gate = limits(1);
        assert_eq!(knock(&mut gate, 1, "/ip6/2001:db8:1:2::1/tcp/1"), Ok(()));
        assert_eq!(knock(&mut gate, 2, "/ip6/2001:db8:1:2:ffff::1/tcp/1"), Err(Refused::PerAddress(1)));
        assert_eq!(knock(&mut gate, 3, "/ip6/2001:db8:1:3::1/tcp/1"), Ok(()));
    }

    #[test]
    fn loopback_is_not_limited_by_address() {
        let mut gate = limits(0);
        assert_eq!(knock(&mut gate, 1, "/ip4/127.0.0.1/tcp/1"), Ok(()));
        assert_eq!(knock(&mut gate, 2, "/ip6/::1/tcp/1"), Ok(()));
        assert!(gate.per_origin.is_empty());
    }

    #[test]
    fn connections_from_one_address_are_limited_in_time_too() {
        let NetLimits { arrivals_burst, .. } = NetLimits::default();
        let mut gate = limits(999);
        let arrivals = |gate: &mut Limits, from: &str| {
            let knocks = (1..100).take_while(|id| knock(gate, *id, from).is_ok());
            knocks.count() as u32
        };
        assert_eq!(arrivals(&mut gate, "/ip4/192.0.2.1/tcp/1"), arrivals_burst);
        assert_eq!(arrivals(&mut gate, "/ip4/192.0.2.2/tcp/1"), arrivals_burst);
        (0..10).for_each(|_| gate.arrivals.forget_one());
        assert_eq!(arrivals(&mut gate, "/ip4/192.0.2.1/tcp/1"), 10);
        assert_eq!(arrivals(&mut gate, "/ip4/127.0.0.1/tcp/1"), 99);
        let refused = knock(&mut gate, 100, "/ip4/192.0.2.1/tcp/1").unwrap_err().to_string();
        assert_eq!(refused, "at most 20 inbound connections at once from one address are allowed, and 10 a minute");
    }

    #[tokio::test]
    async fn one_more_may_come_with_each_beat_and_nothing_is_kept_of_who_stays_away() {
        let limits = NetLimits { arrivals_per_minute: 6_000, arrivals_burst: 3, ..NetLimits::default() };
        let mut arrivals = Arrivals::default();
        let here = Origin::V4(Ipv4Addr::new(192, 0, 2, 1));
        (0..3).for_each(|_| arrivals.enter(here, &limits).unwrap());
        assert!(arrivals.enter(here, &limits).is_err());
        std::future::poll_fn(|cx| {
            arrivals.poll(cx, &limits);
            if arrivals.counts.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert!(arrivals.beat.is_none() && arrivals.enter(here, &limits).is_ok());
    }

    #[test]
    fn addresses_that_connections_came_from_are_bounded_in_number() {
        let (mut arrivals, limits) = (Arrivals::default(), NetLimits::default());
        for n in 0..ORIGINS_REMEMBERED_MAX as u32 + 100 {
            arrivals.enter(Origin::V4(n.into()), &limits).unwrap();
        }
        assert_eq!(arrivals.counts.len(), ORIGINS_REMEMBERED_MAX);
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let mut gate = limits(9);
        for id in 1..5 {
            knock(&mut gate, id, "/ip4/192.0.2.1/tcp/1").unwrap();
            gate.inbound.insert(ConnectionId::new_unchecked(id));
        }
        for id in 1..5 {
            gate.forget(ConnectionId::new_unchecked(id));
        }
        assert!(gate.inbound.is_empty() && gate.origins.is_empty());
        assert!(gate.per_origin.is_empty());
    }
}
