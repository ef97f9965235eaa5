//! Peers that are not Anabranch: plain libp2p, to try what ours never does.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, gossipsub, identify, identity::Keypair, noise, tcp, yamux};
use libp2p::{Transport as _, core::upgrade::Version};

use crate::node::{LOOPBACK, Node, PATIENCE};

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) stream: libp2p_stream::Behaviour,
}

/// A libp2p node with gossipsub, identify and streams of any protocol.
pub(crate) fn swarm() -> Swarm<Behaviour> {
    let keypair = Keypair::generate_ed25519();
    let transport = tcp::tokio::Transport::new(tcp::Config::new())
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let behaviour = Behaviour {
        gossip: gossipsub::Behaviour::new(
            gossipsub::MessageAuthenticity::Signed(keypair.clone()),
            gossipsub::ConfigBuilder::default().build().unwrap(),
        )
        .unwrap(),
        identify: identify::Behaviour::new(identify::Config::new("/stranger/1".to_owned(), keypair.public())),
        stream: libp2p_stream::Behaviour::new(),
    };
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(3600));
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
}

/// Connects to a node.
pub(crate) async fn connect(swarm: &mut Swarm<Behaviour>, node: &Node) -> PeerId {
    let address: Multiaddr = node.full_address().parse().unwrap();
    swarm.dial(DialOpts::from(address)).unwrap();
    wait(swarm, "connected", |event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => Some(peer_id),
        _ => None,
    })
    .await
}

pub(crate) async fn listen(swarm: &mut Swarm<Behaviour>) -> Multiaddr {
    swarm.listen_on(LOOPBACK.parse().unwrap()).unwrap();
    wait(swarm, "listening", |event| match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(address),
        _ => None,
    })
    .await
}

pub(crate) async fn wait<T>(
    swarm: &mut Swarm<Behaviour>,
    what: &str,
    mut pick: impl FnMut(SwarmEvent<BehaviourEvent>) -> Option<T>,
) -> T {
    let found = async {
        loop {
            let event = swarm.select_next_some().await;
            blind(&event);
            if let Some(found) = pick(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("the stranger waited in vain for: {what}"))
}

/// A stranger must never see anything of gossip or identify.
fn blind(event: &SwarmEvent<BehaviourEvent>) {
    match event {
        SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::GossipsubNotSupported { .. })) => {}
        SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => panic!("the stranger saw {event:?}"),
        SwarmEvent::Behaviour(BehaviourEvent::Identify(event @ identify::Event::Received { .. })) => {
            panic!("the stranger saw {event:?}");
        }
        _ => {}
    }
}

/// Whether the peer lets us open a stream of this protocol.
pub(crate) async fn is_offered(swarm: &mut Swarm<Behaviour>, peer: PeerId, protocol: &'static str) -> bool {
    let mut control = swarm.behaviour().stream.new_control();
    let opened = beside(swarm, async move { control.open_stream(peer, StreamProtocol::new(protocol)).await }).await;
    match opened {
        Ok(_) => true,
        Err(libp2p_stream::OpenStreamError::UnsupportedProtocol(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Runs the swarm for as long as `work` takes.
pub(crate) async fn beside<T>(swarm: &mut Swarm<Behaviour>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let done = async {
        loop {
            tokio::select! {
                done = &mut work => return done,
                event = swarm.select_next_some() => blind(&event),
            }
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("the stranger is done in time")
}

pub(crate) async fn open_session(swarm: &mut Swarm<Behaviour>, peer: PeerId) -> Stream {
    let mut control = swarm.behaviour().stream.new_control();
    let protocol = StreamProtocol::new(anabranch_net::SESSION_PROTOCOL);
    beside(swarm, async move { control.open_stream(peer, protocol).await.unwrap() }).await
}

pub(crate) async fn write(swarm: &mut Swarm<Behaviour>, stream: &mut Stream, bytes: &[u8]) {
    beside(swarm, async {
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
}

/// Reads to the end, or until `length` bytes are there.
pub(crate) async fn read(swarm: &mut Swarm<Behaviour>, stream: &mut Stream, length: usize) -> Vec<u8> {
    beside(swarm, async {
        let mut bytes = Vec::new();
        let _ = stream.take(length as u64).read_to_end(&mut bytes).await;
        bytes
    })
    .await
}
