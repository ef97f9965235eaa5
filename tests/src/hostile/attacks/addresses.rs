//! Where devices are said to be: made-up ones, others, the attacker itself. Whoever believes it dials.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anabranch_engine::id::DeviceId;
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::{DIALS_BURST, DIALS_PER_SECOND};
use anabranch_engine::wire::{Message, PeerAddresses};

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::Client;
use crate::hostile::scene::Scene;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "made-up-devices",
        who: Who::Reader,
        does: "300 made-up devices, each at eight addresses that take every connection and say nothing.",
        share: Share::NOTHING,
        strike: made_up_devices,
    },
    Attack {
        name: "wrong-addresses",
        who: Who::Reader,
        does: "Addresses of the other members that lead to a host that says nothing.",
        share: Share::NOTHING,
        strike: wrong_addresses,
    },
    Attack {
        name: "odd-addresses",
        who: Who::Reader,
        does: "Names, multicast, link-local, unspecified and malformed addresses of members, and far too long ones.",
        share: Share::NOTHING,
        strike: odd_addresses,
    },
    Attack {
        name: "own-addresses",
        who: Who::Reader,
        does: "Itself said to be somewhere else, thousands of times a second.",
        share: Share::NOTHING,
        strike: own_addresses,
    },
    Attack {
        name: "names",
        who: Who::Reader,
        does: "Ever other names of its own, thousands a second.",
        share: Share::NOTHING,
        strike: names,
    },
];

/// Takes every connection and says nothing.
struct Tarpit {
    listeners: Vec<TcpListener>,
    held: Vec<TcpStream>,
}

impl Tarpit {
    /// Ports at which it listens: more than a node dials at once.
    const PORTS: usize = 64;

    fn new() -> Result<Self, String> {
        let listen = |_| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        let listeners = (0..Self::PORTS).map(listen).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        Ok(Self { listeners, held: Vec::new() })
    }

    /// An address that leads here.
    fn address(&self, number: usize) -> Result<String, String> {
        let listener = &self.listeners[number % Self::PORTS];
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        Ok(format!("/ip4/127.0.0.1/tcp/{port}"))
    }

    /// Takes in who has come.
    fn take(&mut self) {
        for listener in &self.listeners {
            while self.held.len() < 5_000
                && let Ok((stream, _)) = listener.accept()
            {
                self.held.push(stream);
            }
        }
    }

    /// As many connections as two nodes may dial in this time.
    fn dials_max(seconds: u64) -> usize {
        2 * (DIALS_BURST + DIALS_PER_SECOND * (seconds + 1)) as usize
    }
}

/// Tells it to the node again and again while the tarpit takes who comes.
fn tell(scene: &mut Scene, client: &mut Client, tarpit: &mut Tarpit, peers: &[PeerAddresses]) -> u64 {
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        for peers in peers.chunks(60) {
            sent += u64::from(client.say(&Message::Peers { space: 0, peers: peers.to_vec() }));
        }
        client.pump(Duration::from_millis(20));
        tarpit.take();
    }
    sent
}

fn bounded(effect: Effect, tarpit: &Tarpit, seconds: u64) -> Effect {
    let (dials, max) = (tarpit.held.len(), Tarpit::dials_max(seconds));
    effect.holds(dials <= max, format!("{dials} dials to where a member has sent them, limit {max}"))
}

fn made_up_devices(scene: &mut Scene) -> Result<Effect, String> {
    let (mut client, mut tarpit) = (scene.reader()?, Tarpit::new()?);
    let seconds = scene.left().as_secs();
    let peers: Vec<PeerAddresses> = (0..300)
        .map(|device| {
            let key = SecretKey::from_seed(&scene.dice.bytes());
            let addresses = (0..8).map(|at| tarpit.address(device * 8 + at)).collect::<Result<_, _>>()?;
            Ok(PeerAddresses { device: key.device(), addresses })
        })
        .collect::<Result<_, String>>()?;
    let sent = tell(scene, &mut client, &mut tarpit, &peers);
    let heard = client.is_heard();
    let dials = tarpit.held.len();
    let effect = reached(heard, sent, format!("heard: {heard}; {dials} dials to 300 devices"))?;
    Ok(bounded(effect, &tarpit, seconds))
}

fn wrong_addresses(scene: &mut Scene) -> Result<Effect, String> {
    let (mut client, mut tarpit) = (scene.reader()?, Tarpit::new()?);
    let seconds = scene.left().as_secs();
    let members: Vec<DeviceId> = client.log.members().into_iter().map(|member| member.device).collect();
    let mut peers = Vec::new();
    for (at, device) in members.into_iter().enumerate() {
        let addresses = (0..8).map(|number| tarpit.address(at * 8 + number)).collect::<Result<_, _>>()?;
        peers.push(PeerAddresses { device, addresses });
    }
    let sent = tell(scene, &mut client, &mut tarpit, &peers);
    let heard = client.is_heard();
    let effect = reached(heard, sent, format!("heard: {heard}; {} dials", tarpit.held.len()))?;
    Ok(bounded(effect, &tarpit, seconds))
}

fn odd_addresses(scene: &mut Scene) -> Result<Effect, String> {
    let (mut client, mut tarpit) = (scene.reader()?, Tarpit::new()?);
    let odd: Vec<String> = [
        "/dns4/localhost/tcp/9",
        "/dns/nobody.invalid/tcp/9",
        "/ip4/224.0.0.1/tcp/9",
        "/ip4/169.254.1.1/tcp/9",
        "/ip4/0.0.0.0/tcp/9",
        "/ip6/::/tcp/9",
        "/ip6/fe80::1/tcp/9",
        "/ip6/ff02::1/tcp/9",
        "/ip4/255.255.255.255/tcp/0",
        "/unix/tmp/x",
        "\u{1b}[31m",
        "",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("/dns4/{}/tcp/9", "x".repeat(60_000))])
    .collect();
    let members: Vec<DeviceId> = client.log.members().into_iter().map(|member| member.device).collect();
    let peers: Vec<PeerAddresses> = members
        .into_iter()
        .flat_map(|device| odd.iter().map(move |address| PeerAddresses { device, addresses: vec![address.clone(); 2] }))
        .collect();
    let sent = tell(scene, &mut client, &mut tarpit, &peers);
    let heard = client.is_heard();
    reached(heard, sent, format!("heard: {heard}"))
}

fn own_addresses(scene: &mut Scene) -> Result<Effect, String> {
    let (mut client, mut tarpit) = (scene.reader()?, Tarpit::new()?);
    let (device, seconds) = (client.key().device(), scene.left().as_secs());
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let first = scene.dice.below(1 << 20) as usize;
        let addresses = (0..8).map(|at| tarpit.address(first + at)).collect::<Result<_, _>>()?;
        let peers = vec![PeerAddresses { device, addresses }];
        sent += u64::from(client.say(&Message::Peers { space: 0, peers }));
        tarpit.take();
    }
    let heard = client.is_heard();
    let effect = reached(heard, sent, format!("heard: {heard}; {} dials", tarpit.held.len()))?;
    Ok(bounded(effect, &tarpit, seconds))
}

fn names(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let name = match sent % 3 {
            0 => format!("\u{1b}[2J{}\nalice", scene.dice.any()),
            1 => "x".repeat(100_000),
            _ => format!("device {}", scene.dice.any()),
        };
        sent += u64::from(client.say(&Message::Name { name }));
    }
    let heard = client.is_heard();
    reached(heard, sent, format!("heard: {heard}"))
}
