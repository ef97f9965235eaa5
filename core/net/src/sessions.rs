//! All sessions: which connection carries which, what was dialed for it, and the news of each, told in turn. A connection
//! lives as long as its session.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_engine::id::DeviceId;
use anabranch_engine::limits::FRAME_BYTES_MAX;
use anabranch_engine::{Input, SessionId};
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionError, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::gate::Gates;
use crate::limits::{FRAMES_IN_A_ROW_MAX, NEWS_IN_A_ROW_MAX, NetLimits, OUTGOING_BYTES_MAX, Refused};
use crate::pipe::{Bell, News, Pipe};
use crate::session::{Handler, Times};
use crate::translate;

/// The behaviour that opens, carries and closes sessions.
pub(crate) struct Sessions {
    times: Times,
    per_peer_max: u32,
    shutting_down: bool,
    gates: Gates,
    bell: Arc<Bell>,
    connections: HashMap<ConnectionId, Connection>,
    sessions: HashMap<SessionId, ConnectionId>,
    dials: HashMap<ConnectionId, Dialing>,
    sessions_opened: u64,
    events: VecDeque<ToSwarm<Input, Infallible>>,
    frames: Vec<Vec<u8>>,
    told_in_a_row: usize,
}

/// A dial on its way.
struct Dialing {
    /// As the engine gave it.
    address: String,
    expected: Option<PeerId>,
}

struct Connection {
    peer: PeerId,
    device: DeviceId,
    /// The address that the engine had dialed, if we dialed.
    dialed: Option<String>,
    /// Where the peer came from, if it dialed.
    origin: String,
    pipe: Arc<Pipe>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Open(SessionId),
    /// The engine has closed it: no frame is told any more.
    Closing(SessionId),
    Over,
}

impl Sessions {
    pub(crate) fn new(limits: &NetLimits, gates: Gates) -> Self {
        Self {
            times: Times { wait_max: limits.session_wait_max, close_max: limits.close_time_max },
            per_peer_max: limits.per_peer_max,
            shutting_down: false,
            gates,
            bell: Arc::default(),
            connections: HashMap::new(),
            sessions: HashMap::new(),
            dials: HashMap::new(),
            sessions_opened: 0,
            events: VecDeque::new(),
            frames: Vec::new(),
            told_in_a_row: 0,
        }
    }

    /// Remembers what a connection is dialed for. Call before the swarm dials.
    pub(crate) fn dialing(&mut self, connection: ConnectionId, address: String, expected: Option<PeerId>) {
        self.dials.insert(connection, Dialing { address, expected });
    }

    /// A dial that never got as far as a connection.
    pub(crate) fn dial_failed(&mut self, address: String, reason: String) {
        self.tell(Input::DialFailed { address, reason });
    }

    /// Queues a frame for a session. One that is gone is not an error: the engine may not have heard yet.
    pub(crate) fn send(&mut self, session: SessionId, frame: Vec<u8>) {
        let Some(id) = self.sessions.get(&session).copied() else { return };
        let Some(connection) = self.connections.get(&id) else { return };
        if frame.is_empty() || frame.len() > FRAME_BYTES_MAX {
            tracing::error!(session = session.0, bytes = frame.len(), "frame refused");
            let reason = format!("frame to send is {} bytes, limit {FRAME_BYTES_MAX}", frame.len());
            self.end(id, reason);
            self.close_connection(id);
            return;
        }
        let waiting = connection.pipe.send(frame);
        if waiting > OUTGOING_BYTES_MAX {
            let reason = format!("the peer does not read: {waiting} bytes wait to be sent, limit {OUTGOING_BYTES_MAX}");
            self.end(id, reason);
            self.close_connection(id);
        }
    }

    /// Ends a session after what was sent before.
    pub(crate) fn close(&mut self, session: SessionId, reason: String) {
        let Some(connection) = self.sessions.get(&session).and_then(|id| self.connections.get_mut(id)) else { return };
        if connection.stage == Stage::Open(session) {
            connection.stage = Stage::Closing(session);
            connection.pipe.close(reason);
        }
    }

    /// Ends everything, and refuses what comes from now on.
    pub(crate) fn close_all(&mut self, reason: &str) {
        self.shutting_down = true;
        for (id, connection) in &mut self.connections {
            match connection.stage {
                Stage::Open(session) => {
                    connection.stage = Stage::Closing(session);
                    connection.pipe.close(reason.to_owned());
                }
                Stage::Closing(_) | Stage::Over => {}
                Stage::Waiting => {
                    let close = CloseConnection::One(*id);
                    self.events.push_back(ToSwarm::CloseConnection { peer_id: connection.peer, connection: close });
                }
            }
        }
    }

    /// Whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn tell(&mut self, input: Input) {
        self.events.push_back(ToSwarm::GenerateEvent(input));
    }

    fn close_connection(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id) {
            let close = CloseConnection::One(id);
            self.events.push_back(ToSwarm::CloseConnection { peer_id: connection.peer, connection: close });
        }
    }

    fn add(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        origin: &Multiaddr,
        opener: bool,
    ) -> Result<Handler, ConnectionDenied> {
        let device = translate::device(&peer).ok_or_else(|| ConnectionDenied::new(translate::NotADevice))?;
        // One that is being closed may hang on a dead peer for a while; it must not keep out the peer's next one.
        let is_live = |stage| matches!(stage, Stage::Waiting | Stage::Open(_));
        let live = self.connections.values().filter(|other| other.peer == peer && is_live(other.stage)).count();
        if self.shutting_down {
            return Err(ConnectionDenied::new(Refused::ShuttingDown));
        }
        if live >= self.per_peer_max as usize {
            return Err(ConnectionDenied::new(Refused::PerPeer(self.per_peer_max)));
        }
        let pipe = Arc::new(Pipe::new(id, self.bell.clone()));
        // The record of the dial stays until the connection is established: another behaviour may still refuse it.
        let dialed =
            opener.then(|| self.dials.get(&id).map_or_else(|| origin.to_string(), |dialing| dialing.address.clone()));
        let connection =
            Connection { peer, device, dialed, origin: origin.to_string(), pipe: pipe.clone(), stage: Stage::Waiting };
        self.connections.insert(id, connection);
        Ok(Handler::new(pipe, self.gates.of(id), opener, self.times))
    }

    /// Tells what a connection has to say. True if it has more to say.
    fn hear(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let mut frames = std::mem::take(&mut self.frames);
        let News { opened, written, ended, finished, more } =
            connection.pipe.take_news(FRAMES_IN_A_ROW_MAX, &mut frames);
        if opened && connection.stage == Stage::Waiting {
            let session = SessionId(self.sessions_opened);
            self.sessions_opened += 1;
            connection.stage = Stage::Open(session);
            self.sessions.insert(session, id);
            let opener = connection.dialed.is_some();
            let address = connection.dialed.clone().unwrap_or_else(|| connection.origin.clone());
            tracing::debug!(session = session.0, peer = %connection.device, opener, "session stream open");
            self.events.push_back(ToSwarm::GenerateEvent(Input::SessionOpened {
                session,
                peer: connection.device,
                opener,
                address,
            }));
        }
        if let Stage::Open(session) | Stage::Closing(session) = connection.stage
            && written > 0
        {
            self.events.push_back(ToSwarm::GenerateEvent(Input::Written { session, bytes: written }));
        }
        if let Stage::Open(session) = connection.stage {
            let frames = frames.drain(..).map(|bytes| ToSwarm::GenerateEvent(Input::Frame { session, bytes }));
            self.events.extend(frames);
        }
        frames.clear();
        self.frames = frames;
        if let Some(reason) = ended {
            self.end(id, reason);
        }
        if finished {
            self.close_connection(id);
        }
        more
    }

    /// Tells the end of a session, or of the dial for it, once.
    fn end(&mut self, id: ConnectionId, reason: String) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match std::mem::replace(&mut connection.stage, Stage::Over) {
            Stage::Open(session) | Stage::Closing(session) => {
                self.sessions.remove(&session);
                tracing::debug!(session = session.0, peer = %connection.device, reason, "session stream closed");
                self.events.push_back(ToSwarm::GenerateEvent(Input::SessionClosed { session, reason }));
            }
            Stage::Waiting => {
                tracing::debug!(peer = %connection.device, reason, "connection without a session");
                if let Some(address) = connection.dialed.clone() {
                    self.events.push_back(ToSwarm::GenerateEvent(Input::DialFailed { address, reason }));
                }
            }
            Stage::Over => {}
        }
    }

    fn on_connection_closed(&mut self, id: ConnectionId, cause: Option<&ConnectionError>) {
        // What arrived before the end is told first.
        while self.hear(id) {}
        self.end(id, translate::closed(cause));
        self.connections.remove(&id);
    }

    fn on_dial_failure(&mut self, failure: DialFailure<'_>) {
        self.connections.remove(&failure.connection_id);
        if let Some(Dialing { address, expected }) = self.dials.remove(&failure.connection_id) {
            let reason = translate::dial_failure(failure.error, expected);
            tracing::debug!(address, reason, "dial failed");
            match translate::is_for_a_limit(failure.error) {
                true => self.tell(Input::DialPutOff { address, reason }),
                false => self.dial_failed(address, reason),
            }
        }
    }
}

impl NetworkBehaviour for Sessions {
    type ConnectionHandler = Handler;
    type ToSwarm = Input;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.add(id, peer, remote, false)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.add(id, peer, remote, true)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, endpoint, .. }) => {
                self.dials.remove(&connection_id);
                let inbound = matches!(endpoint, ConnectedPoint::Listener { .. });
                tracing::debug!(connection = %connection_id, inbound, "connected");
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, cause, .. }) => {
                self.on_connection_closed(connection_id, cause);
                self.gates.forget(connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.on_dial_failure(failure);
                self.gates.forget(failure.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.connections.remove(&failure.connection_id);
                self.gates.forget(failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if self.told_in_a_row >= NEWS_IN_A_ROW_MAX {
            // The swarm looks at connections, dials and listeners only when we say that there is nothing.
            self.told_in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                self.told_in_a_row += 1;
                return Poll::Ready(event);
            }
            match self.bell.poll(cx) {
                Poll::Ready(connection) => {
                    // If there is more, the bell has been rung again, behind the others.
                    self.hear(connection);
                }
                Poll::Pending => {
                    self.told_in_a_row = 0;
                    return Poll::Pending;
                }
            }
        }
    }
}
