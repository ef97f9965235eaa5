//! Who has nothing but the port: connections, handshakes, places.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use anabranch_engine::wire::Lane;
use anabranch_engine::wire::frame::to_frames;
use futures::{FutureExt as _, StreamExt as _};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, noise, tcp, yamux};

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::Client;
use crate::hostile::scene::Scene;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "garbage",
        who: Who::Stranger,
        does: "64 connections at a time of random bytes.",
        share: Share::NOTHING,
        strike: garbage,
    },
    Attack {
        name: "half-open",
        who: Who::Stranger,
        does: "200 connections at a time, whose handshake goes on by a byte a second.",
        share: Share::NOTHING,
        strike: half_open,
    },
    Attack {
        name: "storm",
        who: Who::Stranger,
        does: "Connections that are closed as soon as they are open, as many as can be.",
        share: Share::NOTHING,
        strike: storm,
    },
    Attack {
        name: "no-ticket",
        who: Who::Stranger,
        does: "Whole handshakes of devices that share no space, eight at a time.",
        share: Share::NOTHING,
        strike: no_ticket,
    },
    Attack {
        name: "loud",
        who: Who::Stranger,
        does: "Large messages in place of the first word.",
        share: Share::NOTHING,
        strike: loud,
    },
    Attack {
        name: "streams",
        who: Who::Stranger,
        does: "Streams of protocols that nobody speaks, hundreds on each connection.",
        share: Share::NOTHING,
        strike: streams,
    },
];

/// Connections that the raw attacks have open at most.
const OPEN_MAX: usize = 200;

/// A connection that waits for nothing.
fn knock(scene: &Scene) -> Option<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.ground.port)).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// The other side has ended it.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Takes out what the other side has ended, and counts it.
fn sweep(open: &mut Vec<TcpStream>) -> u64 {
    let before = open.len();
    open.retain_mut(|stream| !is_closed(stream));
    (before - open.len()) as u64
}

fn garbage(scene: &mut Scene) -> Result<Effect, String> {
    let (mut open, mut closed, mut sent) = (Vec::new(), 0, 0);
    while scene.lasts() {
        while open.len() < 64 {
            let Some(mut stream) = knock(scene) else { break };
            let bytes: [u8; 4096] = scene.dice.bytes();
            sent += u64::from(stream.write_all(&bytes).is_ok());
            open.push(stream);
        }
        closed += sweep(&mut open);
        std::thread::sleep(Duration::from_millis(5));
    }
    reached(closed > 0, sent, format!("{closed} connections were closed"))
}

fn half_open(scene: &mut Scene) -> Result<Effect, String> {
    let hello = b"\x13/multistream/1.0.0\n\x07/noise\n";
    let (mut open, mut closed, mut sent) = (Vec::new(), 0, 0u64);
    let mut second = scene.left().as_secs();
    while scene.lasts() {
        while open.len() < OPEN_MAX {
            let Some(mut stream) = knock(scene) else { break };
            sent += u64::from(stream.write_all(&hello[..5]).is_ok());
            open.push(stream);
        }
        if second != scene.left().as_secs() {
            second = scene.left().as_secs();
            open.iter_mut().for_each(|stream| _ = stream.write_all(&hello[5..6]));
        }
        closed += sweep(&mut open);
        std::thread::sleep(Duration::from_millis(20));
    }
    reached(closed > 0, sent, format!("{closed} connections were closed, {} are open at the end", open.len()))
}

fn storm(scene: &mut Scene) -> Result<Effect, String> {
    let mut sent = 0;
    while scene.lasts() {
        if let Some(stream) = knock(scene) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
            sent += 1;
        }
    }
    reached(sent > 100, sent, format!("{sent} connections"))
}

fn no_ticket(scene: &mut Scene) -> Result<Effect, String> {
    let mut clients: Vec<Client> = (0..8).map(|_| scene.stranger()).collect::<Result<_, _>>()?;
    let mut sent = 0;
    let ended = |client: &Client| client.heard.closed + client.heard.refused_dials;
    while scene.lasts() {
        let before: Vec<u64> = clients.iter().map(ended).collect();
        clients.iter_mut().for_each(Client::dial);
        for (client, before) in clients.iter_mut().zip(before) {
            sent += u64::from(client.until(Duration::from_secs(1), |client| ended(client) > before));
        }
    }
    let closed: u64 = clients.iter().map(|client| client.heard.closed).sum();
    let opened: u64 = clients.iter().map(|client| client.heard.opened).sum();
    Ok(reached(closed > 0, sent, format!("{closed} sessions ended, last: {}", clients[0].heard.reason))?
        .holds(opened == 0, "a device without a ticket was authenticated"))
}

fn loud(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.stranger()?;
    // Nothing that can be made smaller.
    let message: Vec<u8> = (0..200_000 / 32).flat_map(|_| scene.dice.bytes::<32>()).collect();
    client.opening = Some(to_frames(Lane::Control, message));
    let mut sent = 0;
    while scene.lasts() {
        let ended = client.heard.closed + client.heard.refused_dials;
        client.dial();
        client.until(Duration::from_secs(6), |client| client.heard.closed + client.heard.refused_dials > ended);
        sent += 1;
    }
    let closed = client.heard.closed;
    reached(closed > 0, sent, format!("{closed} sessions ended, last: {}", client.heard.reason))
}

fn streams(scene: &mut Scene) -> Result<Effect, String> {
    let address: Multiaddr = scene.ground.address.parse().map_err(|_| "no address")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let time = scene.left();
    let (mut connections, mut refused) = (0, 0u64);
    let work = async {
        while connections < 10_000 {
            let Ok(mut swarm) = swarm() else { return };
            let Some(peer) = connect(&mut swarm, &address).await else { continue };
            connections += 1;
            refused += open_streams(&mut swarm, peer, 300).await;
        }
    };
    // It ends when the time is over.
    let _ = runtime.block_on(async { tokio::time::timeout(time, work).await });
    reached(refused > 0, connections, format!("{refused} streams were refused on {connections} connections"))
}

/// A device with plain streams, and nothing of ours.
fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>, String> {
    let built = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| error.to_string())?
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .map_err(|error| error.to_string())?;
    Ok(built.build())
}

async fn connect(swarm: &mut Swarm<libp2p_stream::Behaviour>, address: &Multiaddr) -> Option<PeerId> {
    swarm.dial(address.clone()).ok()?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => return Some(peer_id),
            SwarmEvent::OutgoingConnectionError { .. } => return None,
            _ => {}
        }
    }
}

/// Tries so many streams of unknown protocols at once; how many were refused.
async fn open_streams(swarm: &mut Swarm<libp2p_stream::Behaviour>, peer: PeerId, count: usize) -> u64 {
    let control = swarm.behaviour().new_control();
    let tries = (0..count).map(|_| {
        let mut control = control.clone();
        async move { control.open_stream(peer, StreamProtocol::new("/nobody/1")).await.is_err() }
    });
    let mut tries = futures::future::join_all(tries).fuse();
    loop {
        futures::select! {
            refused = tries => return refused.into_iter().filter(|refused| *refused).count() as u64,
            _ = swarm.select_next_some() => {}
        }
    }
}
