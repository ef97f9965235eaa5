//! The network as the driver sees it: commands in, news out.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_engine::id::DeviceId;
use anabranch_engine::limits::HINT_BYTES_MAX;
use anabranch_engine::{HintId, Input, Output, SessionId, Verdict};
use futures::StreamExt as _;
use futures::future::{Either, select};
use futures_timer::Delay;
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageId};
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ListenError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, TransportError, ping};

use crate::address::{AddressError, parse_address, socket_address};
use crate::behaviour::{Behaviour, BehaviourEvent, MembersEvent, topic_scores};
use crate::limits::{HINTS_PENDING_MAX, NetLimits, STREAMS_NEGOTIATING_MAX};
use crate::listening::Listening;
use crate::translate;
use crate::transport::{self, Interfaces};

/// How long [`Network::shutdown`] waits for connections to close, beyond what closing one session may take.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// What a network is made with.
#[derive(Clone)]
pub struct NetConfig<'a> {
    /// Seed of the device's secret ed25519 key.
    pub identity: &'a [u8; 32],
    /// Addresses to listen on, such as `/ip4/0.0.0.0/tcp/4100`; port 0 is any free one. None: do not listen.
    pub listen: Vec<String>,
    /// How many connections, how long.
    pub limits: NetLimits,
}

impl std::fmt::Debug for NetConfig<'_> {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetConfig").field("listen", &self.listen).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A network cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// An address to listen on is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address given.
        address: String,
        /// Why.
        reason: String,
    },
    /// Something that it needs is not there.
    #[error("the network cannot be started: {0}")]
    Setup(String),
}

/// One thing for the network to do: the engine's outputs that concern it.
#[derive(Debug)]
pub enum NetCommand {
    /// Queue a frame. A session that is gone is not an error.
    Send {
        /// The session.
        session: SessionId,
        /// 1 to `FRAME_BYTES_MAX` bytes.
        bytes: Vec<u8>,
    },
    /// End a session after what was sent before. Leads to `SessionClosed` with this reason.
    Close {
        /// The session.
        session: SessionId,
        /// For the log.
        reason: String,
    },
    /// Dial. Leads to `SessionOpened`, `DialFailed` or `DialPutOff`, with the address as given here.
    Dial {
        /// The address, with or without the peer id.
        address: String,
        /// Who must answer.
        peer: Option<DeviceId>,
    },
    /// Show the peer's connections to gossip and identify, until the last of them is closed.
    Admit {
        /// The peer.
        peer: DeviceId,
    },
    /// Take part in a topic.
    Subscribe {
        /// The topic.
        topic: String,
    },
    /// Leave a topic.
    Unsubscribe {
        /// The topic.
        topic: String,
    },
    /// Send a hint. May be lost.
    Publish {
        /// The topic.
        topic: String,
        /// At most `HINT_BYTES_MAX` bytes.
        bytes: Vec<u8>,
    },
    /// Decide about a received hint.
    Judge {
        /// The hint.
        hint: HintId,
        /// What to do with it.
        verdict: Verdict,
    },
}

impl TryFrom<Output> for NetCommand {
    /// What is not for the network, given back.
    type Error = Output;

    fn try_from(output: Output) -> Result<Self, Output> {
        Ok(match output {
            Output::Send { session, bytes } => Self::Send { session, bytes },
            Output::Close { session, reason } => Self::Close { session, reason },
            Output::Dial { address, peer } => Self::Dial { address, peer },
            Output::Admit { peer } => Self::Admit { peer },
            Output::Subscribe { topic } => Self::Subscribe { topic },
            Output::Unsubscribe { topic } => Self::Unsubscribe { topic },
            Output::Publish { topic, bytes } => Self::Publish { topic, bytes },
            Output::Judge { hint, verdict } => Self::Judge { hint, verdict },
            other @ (Output::Reply(..) | Output::Event(_) | Output::Store(_) | Output::Work(_)) => return Err(other),
        })
    }
}

/// A libp2p node that carries sessions and hints. Made inside a tokio runtime natively; lives while someone waits in
/// [`Self::next`].
pub struct Network {
    swarm: Swarm<Behaviour>,
    hints: BTreeMap<HintId, (MessageId, PeerId)>,
    hints_seen: u64,
    /// Topics whose scoring is set.
    topics: BTreeSet<String>,
    close_time_max: Duration,
    listening: Listening,
    /// Addresses to listen on that this machine does not have yet.
    absent: Vec<Multiaddr>,
    /// The machine's own addresses, as long as there is something to listen on.
    interfaces: Option<Interfaces>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("peer_id", self.swarm.local_peer_id()).finish_non_exhaustive()
    }
}

impl Network {
    /// Starts listening. All addresses are bound when this returns, except those that this machine does not have (yet): these
    /// are tried again whenever its addresses change. What they are in full is told by `Input::Listening`.
    ///
    /// # Errors
    /// An address is malformed or its port is in use, or there is no runtime. Nothing is listened on then.
    pub fn new(config: NetConfig<'_>) -> Result<Self, NetError> {
        let NetConfig { identity, listen, limits } = config;
        let keypair = Keypair::ed25519_from_bytes(*identity).map_err(|error| NetError::Setup(error.to_string()))?;
        let transport = transport::new(&keypair, &limits).map_err(NetError::Setup)?;
        let behaviour = Behaviour::new(&keypair, &limits).map_err(NetError::Setup)?;
        let swarm_config = transport::executor()
            .with_substream_upgrade_protocol_override(Version::V1Lazy)
            .with_max_negotiating_inbound_streams(STREAMS_NEGOTIATING_MAX);
        let swarm = Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config);

        let addresses = listen.iter().map(|text| parse_address(text)).collect::<Result<Vec<_>, _>>()?;
        let failure = |address: &str, reason: String| NetError::Listen { address: address.to_owned(), reason };
        // All are tried before the first is taken, because taking one can hide that another is free.
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for (text, address) in listen.iter().zip(&addresses) {
            let multiaddr = address.multiaddr();
            if socket_address(multiaddr).is_none() || address.device().is_some() {
                return Err(failure(text, "an ip4 or ip6 address and a port are needed, without a peer id".to_owned()));
            }
            match transport::check_free(multiaddr) {
                Ok(()) => there.push((text, multiaddr)),
                Err(error) if is_absent(&error) => {
                    tracing::warn!(address = text, "this machine does not have the address at present: waiting for it");
                    absent.push(multiaddr.clone());
                }
                Err(error) => return Err(failure(text, translate::io_failure(&error))),
            }
        }
        let mut network = Self {
            swarm,
            hints: BTreeMap::new(),
            hints_seen: 0,
            topics: BTreeSet::new(),
            close_time_max: limits.close_time_max,
            listening: Listening::default(),
            absent,
            interfaces: (!listen.is_empty()).then(Interfaces::of_this_machine),
        };
        for (text, address) in there {
            network.listen(address).map_err(|error| failure(text, translate::listen_failure(&error)))?;
        }
        if let Some(interfaces) = &mut network.interfaces {
            network.listening.found(interfaces.list());
        }
        Ok(network)
    }

    fn listen(&mut self, address: &Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.listening.begun(self.swarm.listen_on(address.clone())?);
        Ok(())
    }

    /// The machine has these addresses now: those that were missing may be among them.
    fn look_again(&mut self, present: Vec<IpAddr>) {
        for address in std::mem::take(&mut self.absent) {
            let free = transport::check_free(&address).map_err(TransportError::Other);
            match free.and_then(|()| self.listen(&address)) {
                Ok(()) => tracing::info!(%address, "this machine has the address now"),
                Err(error) => {
                    let reason = translate::listen_failure(&error);
                    tracing::debug!(%address, reason, "still not listening there");
                    self.absent.push(address);
                }
            }
        }
        self.listening.found(present);
    }

    /// Whether it is known where all that was asked for can be reached, and was told by [`Self::next`].
    pub fn is_settled(&self) -> bool {
        self.listening.is_settled()
    }

    /// Takes one command. Returns at once; what comes of it is told by [`Self::next`].
    pub fn execute(&mut self, command: NetCommand) {
        match command {
            NetCommand::Send { session, bytes } => self.swarm.behaviour_mut().sessions.send(session, bytes),
            NetCommand::Close { session, reason } => self.swarm.behaviour_mut().sessions.close(session, reason),
            NetCommand::Dial { address, peer } => self.dial(address, peer),
            NetCommand::Admit { peer } => self.swarm.behaviour_mut().members.admit(translate::peer_id(&peer)),
            NetCommand::Subscribe { topic } => self.subscribe(topic),
            NetCommand::Unsubscribe { topic } => {
                self.gossip().unsubscribe(&IdentTopic::new(topic));
            }
            NetCommand::Publish { topic, bytes } => self.publish(&topic, bytes),
            NetCommand::Judge { hint, verdict } => self.judge(hint, verdict),
        }
    }

    /// Waits for the next news. May be dropped and called again at any time: nothing is lost.
    pub async fn next(&mut self) -> Input {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            if let Some(input) = self.listening.poll() {
                return Poll::Ready(input);
            }
            if let Poll::Ready(Some(event)) = self.swarm.poll_next_unpin(cx) {
                match self.translate(event) {
                    Some(input) => return Poll::Ready(input),
                    None => continue,
                }
            }
            match self.interfaces.as_mut().map(|interfaces| interfaces.poll(cx)) {
                Some(Poll::Ready(present)) => self.look_again(present),
                Some(Poll::Pending) | None => return Poll::Pending,
            }
        }
    }

    /// Writes what was sent, closes every session and connection, and ends. A peer that does not read is not waited for
    /// longer than the limits say.
    pub async fn shutdown(mut self) {
        self.swarm.behaviour_mut().sessions.close_all("shutting down");
        let mut deadline = Delay::new(self.close_time_max + SHUTDOWN_GRACE);
        while !self.swarm.behaviour().sessions.is_empty() {
            if let Either::Right(_) = select(self.swarm.next(), &mut deadline).await {
                tracing::debug!("connections did not close in time");
                break;
            }
        }
    }

    fn gossip(&mut self) -> &mut crate::behaviour::HintGossip {
        &mut self.swarm.behaviour_mut().members.inner_mut().gossip
    }

    fn dial(&mut self, address: String, peer: Option<DeviceId>) {
        let parsed = match parse_address(&address) {
            Ok(parsed) => parsed,
            Err(error) => return self.swarm.behaviour_mut().sessions.dial_failed(address, error.to_string()),
        };
        let expected = match (peer, parsed.device()) {
            (Some(wanted), Some(named)) if wanted != named => {
                let (wanted, named) = (translate::peer_id(&wanted), translate::peer_id(&named));
                let reason = format!("it is another device: expected {wanted}, found {named} in the address");
                return self.swarm.behaviour_mut().sessions.dial_failed(address, reason);
            }
            (wanted, named) => wanted.or(named).map(|device| translate::peer_id(&device)),
        };
        // A port of its own for each dial: with the listening port as its source, two sides that dial at the same moment
        // can meet in one TCP connection on which both wait to be answered.
        let options = match expected {
            Some(peer) => DialOpts::peer_id(peer)
                .addresses(vec![parsed.multiaddr().clone()])
                .condition(PeerCondition::Always)
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id().address(parsed.multiaddr().clone()).allocate_new_port().build(),
        };
        self.swarm.behaviour_mut().sessions.dialing(options.connection_id(), address, expected);
        // A failure at once is told to the behaviours as well, and by them to the engine.
        let _ = self.swarm.dial(options);
    }

    fn subscribe(&mut self, topic: String) {
        let ident = IdentTopic::new(&topic);
        if self.topics.insert(topic)
            && let Err(error) = self.gossip().set_topic_params(ident.clone(), topic_scores())
        {
            tracing::warn!(error, "hints cannot be scored");
        }
        if let Err(error) = self.gossip().subscribe(&ident) {
            tracing::warn!(%error, "topic refused");
        }
    }

    fn publish(&mut self, topic: &str, bytes: Vec<u8>) {
        if bytes.len() > HINT_BYTES_MAX {
            tracing::error!(bytes = bytes.len(), limit = HINT_BYTES_MAX, "hint refused");
            return;
        }
        // Hints may be lost: with nobody to hear it, or a full queue, it is.
        if let Err(error) = self.gossip().publish(IdentTopic::new(topic), bytes) {
            tracing::trace!(%error, "hint not sent");
        }
    }

    fn judge(&mut self, hint: HintId, verdict: Verdict) {
        if let Some((message, from)) = self.hints.remove(&hint) {
            let acceptance = match verdict {
                Verdict::Accept => MessageAcceptance::Accept,
                Verdict::Reject => MessageAcceptance::Reject,
                Verdict::Ignore => MessageAcceptance::Ignore,
            };
            self.gossip().report_message_validation_result(&message, &from, acceptance);
        }
    }

    fn translate(&mut self, event: SwarmEvent<BehaviourEvent>) -> Option<Input> {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Sessions(input)) => Some(input),
            SwarmEvent::Behaviour(BehaviourEvent::Members(event)) => self.translate_member(event),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listening.bound(listener_id, &address);
                None
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Err(error) = reason {
                    tracing::warn!(%error, "listening has ended");
                }
                self.listening.closed(listener_id);
                None
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a connection could not be taken");
                None
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                match &error {
                    ListenError::Denied { cause } => {
                        tracing::debug!(reason = translate::denial(cause), "inbound connection refused");
                    }
                    error => tracing::debug!(%error, "inbound connection failed"),
                }
                None
            }
            _ => None,
        }
    }

    fn translate_member(&mut self, event: MembersEvent) -> Option<Input> {
        match event {
            MembersEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.hint(propagation_source, message_id, message)
            }
            MembersEvent::Gossip(gossipsub::Event::GossipsubNotSupported { peer_id }) => {
                tracing::debug!(peer = %peer_id, "an admitted peer does not gossip");
                None
            }
            MembersEvent::Ping(ping::Event { peer, result: Err(error), .. }) => {
                tracing::debug!(%peer, %error, "ping failed");
                None
            }
            MembersEvent::Gossip(_) | MembersEvent::Identify(_) | MembersEvent::Ping(_) => None,
        }
    }

    fn hint(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) -> Option<Input> {
        let Some(from) = translate::device(&source).filter(|_| message.data.len() <= HINT_BYTES_MAX) else {
            tracing::debug!(peer = %source, bytes = message.data.len(), limit = HINT_BYTES_MAX, "hint rejected");
            self.gossip().report_message_validation_result(&id, &source, MessageAcceptance::Reject);
            return None;
        };
        if self.hints.len() >= HINTS_PENDING_MAX
            && let Some((_, (oldest, source))) = self.hints.pop_first()
        {
            self.gossip().report_message_validation_result(&oldest, &source, MessageAcceptance::Ignore);
        }
        let hint = HintId(self.hints_seen);
        self.hints_seen += 1;
        self.hints.insert(hint, (id, source));
        Some(Input::Hint { hint, from, topic: message.topic.into_string(), bytes: message.data })
    }
}

/// The machine does not have the address that was to be listened on, but it may get it.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}
