//! Keeps a behaviour from a connection until its peer is admitted: the behaviour is not told of it, and the peer is refused
//! every protocol of the behaviour. From admission on everything passes through.
//!
//! Admission is of a peer and holds for its connections until the last one is closed. The inner handler accepts streams at
//! once, but is polled, and so can begin to talk, only when the peer has admitted us too (`gate.rs`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, UpgradeInfo};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, InboundUpgradeSend,
    ListenUpgradeError, UpgradeInfoSend,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream};

use crate::gate::{Gate, Gates};

/// A behaviour behind a gate.
pub(crate) struct Gated<B: NetworkBehaviour> {
    inner: B,
    gates: Gates,
    connections: HashMap<ConnectionId, Connection>,
    admitted: HashSet<PeerId>,
    events: VecDeque<ToSwarm<B::ToSwarm, ToHandler<THandler<B>>>>,
}

struct Connection {
    peer: PeerId,
    endpoint: ConnectedPoint,
    /// The inner behaviour knows of it.
    shown: bool,
}

impl<B: NetworkBehaviour> Gated<B> {
    pub(crate) fn new(inner: B, gates: Gates) -> Self {
        Self { inner, gates, connections: HashMap::new(), admitted: HashSet::new(), events: VecDeque::new() }
    }

    pub(crate) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Shows the connections of a peer to the behaviour, those that it has and those that it will make while it has one.
    /// Without any there is nothing to admit: the next one must be authenticated again.
    pub(crate) fn admit(&mut self, peer: PeerId) {
        let connections: Vec<_> = self.of_peer(peer, false).collect();
        if (!connections.is_empty() || self.of_peer(peer, true).next().is_some()) && self.admitted.insert(peer) {
            tracing::debug!(%peer, connections = connections.len(), "admitted");
        }
        for connection in connections {
            self.show(connection);
        }
    }

    fn of_peer(&self, peer: PeerId, shown: bool) -> impl Iterator<Item = ConnectionId> {
        self.connections
            .iter()
            .filter(move |(_, connection)| connection.peer == peer && connection.shown == shown)
            .map(|(id, _)| *id)
    }

    fn show(&mut self, id: ConnectionId) {
        let Some(Connection { peer, endpoint, .. }) = self.connections.get(&id) else { return };
        let (peer, endpoint) = (*peer, endpoint.clone());
        let handler = match &endpoint {
            ConnectedPoint::Dialer { address, role_override, port_use } => {
                self.inner.handle_established_outbound_connection(id, peer, address, *role_override, *port_use)
            }
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                self.inner.handle_established_inbound_connection(id, peer, local_addr, send_back_addr)
            }
        };
        let handler = match handler {
            Ok(handler) => handler,
            Err(error) => {
                tracing::debug!(%peer, %error, "the gated behaviour refused a connection");
                return;
            }
        };
        let other_established = self.of_peer(peer, true).count();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.shown = true;
        }
        // Before anything that the inner behaviour may say to its handler.
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(id),
            event: ToHandler::Show(Box::new(handler)),
        });
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established,
        }));
    }

    fn on_connection_closed(&mut self, closed: ConnectionClosed<'_>) {
        let Some(connection) = self.connections.remove(&closed.connection_id) else { return };
        let peer = connection.peer;
        let shown = self.of_peer(peer, true).count();
        if connection.shown {
            self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                remaining_established: shown,
                ..closed
            }));
        }
        if shown == 0 && self.of_peer(peer, false).next().is_none() {
            self.admitted.remove(&peer);
        }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler { gate: self.gates.of(id), inner: None })
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler { gate: self.gates.of(id), inner: None })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                let connection = Connection { peer: peer_id, endpoint: endpoint.clone(), shown: false };
                self.connections.insert(connection_id, connection);
                if self.admitted.contains(&peer_id) {
                    self.show(connection_id);
                }
            }
            FromSwarm::ConnectionClosed(closed) => self.on_connection_closed(closed),
            FromSwarm::AddressChange(AddressChange { connection_id, new, .. }) => {
                let Some(connection) = self.connections.get_mut(&connection_id) else { return };
                connection.endpoint = new.clone();
                if connection.shown {
                    self.inner.on_swarm_event(event);
                }
            }
            // Attempts that came to nothing are nobody's business behind the gate.
            FromSwarm::DialFailure(_) | FromSwarm::ListenFailure(_) => {}
            // Our own addresses and listeners.
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.inner.poll(cx) {
                Poll::Pending => return Poll::Pending,
                // Whom to dial is decided in the engine.
                Poll::Ready(ToSwarm::Dial { .. }) => {}
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event }) => {
                    let connection = match handler {
                        NotifyHandler::One(connection) => Some(connection),
                        // Only one that the inner behaviour knows.
                        NotifyHandler::Any => self.of_peer(peer_id, true).next(),
                    };
                    if let Some(connection) = connection {
                        return Poll::Ready(ToSwarm::NotifyHandler {
                            peer_id,
                            handler: NotifyHandler::One(connection),
                            event: ToHandler::Inner(event),
                        });
                    }
                }
                Poll::Ready(other) => return Poll::Ready(other.map_in(ToHandler::Inner)),
            }
        }
    }
}

/// What the gated behaviour says to one connection.
pub(crate) enum ToHandler<H: ConnectionHandler> {
    /// The gate opens.
    Show(Box<H>),
    /// For the inner handler.
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for ToHandler<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Show(_) => f.write_str("Show"),
            Self::Inner(event) => f.debug_tuple("Inner").field(event).finish(),
        }
    }
}

/// A connection's handler behind the gate; there is none before the gate opens.
pub(crate) struct Handler<H> {
    gate: Arc<Gate>,
    inner: Option<H>,
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = ToHandler<H>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Shown<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = Option<H::InboundOpenInfo>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match &self.inner {
            Some(inner) => inner.listen_protocol().map_upgrade(|upgrade| Shown(Some(upgrade))).map_info(Some),
            None => SubstreamProtocol::new(Shown(None), None),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.as_ref().is_some_and(ConnectionHandler::connection_keep_alive)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        self.gate.wake_gated_with(cx.waker());
        match &mut self.inner {
            Some(inner) if self.gate.is_peer_open() => inner.poll(cx),
            _ => Poll::Pending,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match &mut self.inner {
            Some(inner) => inner.poll_close(cx),
            None => Poll::Ready(None),
        }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match (event, &mut self.inner) {
            (ToHandler::Show(handler), None) => {
                self.inner = Some(*handler);
                self.gate.open();
            }
            (ToHandler::Inner(event), Some(inner)) => inner.on_behaviour_event(event),
            (ToHandler::Show(_), Some(_)) | (ToHandler::Inner(_), None) => {
                tracing::error!("a gated connection was shown twice, or spoken to before");
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        let Some(inner) = &mut self.inner else { return };
        inner.on_connection_event(match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info: Some(info) }) => {
                // Its mark may be behind in the session's queue.
                self.gate.peer_opened();
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { error, info: Some(info) }) => {
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { error, info })
            }
            // Begun before the gate opened, so refused.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { info: None, .. })
            | ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info: None, .. }) => return,
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info })
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info }) => {
                ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info })
            }
            ConnectionEvent::AddressChange(change) => ConnectionEvent::AddressChange(change),
            ConnectionEvent::LocalProtocolsChange(change) => ConnectionEvent::LocalProtocolsChange(change),
            ConnectionEvent::RemoteProtocolsChange(change) => ConnectionEvent::RemoteProtocolsChange(change),
            // libp2p may add kinds of events; the inner handler is generic, so what we cannot name we cannot pass on.
            _ => return,
        });
    }
}

/// The inner handler's protocols, or none at all.
pub(crate) struct Shown<U>(Option<U>);

impl<U: UpgradeInfoSend> UpgradeInfo for Shown<U> {
    type Info = U::Info;
    type InfoIter = std::iter::Flatten<std::option::IntoIter<U::InfoIter>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.as_ref().map(UpgradeInfoSend::protocol_info).into_iter().flatten()
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for Shown<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, info: U::Info) -> Self::Future {
        self.0.expect("a protocol is agreed on only where one was offered").upgrade_inbound(stream, info)
    }
}
