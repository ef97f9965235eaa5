//! Who holds a ticket and is no member: sessions that stay, questions that are none of its business, joins that do not hold.

use std::time::Duration;

use anabranch_engine::id::ActorId;
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::GUEST_SESSIONS_MAX;
use anabranch_engine::space::Acl;
use anabranch_engine::sync::collection::Prefix;
use anabranch_engine::wire::{DocumentFrontier, Lane, Level, Message, Node, Range, SpaceRoots};

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::{Client, Manners, entries};
use crate::hostile::scene::Scene;
use crate::sim::byzantine::forge::{self, Chain};

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "silent-crowd",
        who: Who::TicketHolder,
        does: "150 made-up devices with a session each, which say nothing more.",
        share: Share::NOTHING,
        strike: silent_crowd,
    },
    Attack {
        name: "spying",
        who: Who::TicketHolder,
        does: "Every question about documents, and changes, without joining.",
        share: Share::NOTHING,
        strike: spying,
    },
    Attack {
        name: "used-up",
        who: Who::TicketHolder,
        does: "Joins with a ticket that another device has used up, again and again.",
        share: Share::NOTHING,
        strike: used_up,
    },
    Attack {
        name: "bad-proof",
        who: Who::TicketHolder,
        does: "Joins whose proof was not made with the ticket's key.",
        share: Share::NOTHING,
        strike: bad_proof,
    },
    Attack {
        name: "guest-entries",
        who: Who::TicketHolder,
        does: "Entries that let itself in, and ones with a bad signature.",
        share: Share::NOTHING,
        strike: guest_entries,
    },
    Attack {
        name: "greetings",
        who: Who::TicketHolder,
        does: "A greeting after the greeting, in ever new sessions.",
        share: Share::NOTHING,
        strike: greetings,
    },
];

fn silent_crowd(scene: &mut Scene) -> Result<Effect, String> {
    let ticket = scene.ground.reader.clone();
    let mut crowd: Vec<Client> = Vec::new();
    while crowd.len() < 150 && scene.lasts() {
        let mut client = scene.device(&ticket)?;
        client.manners = Manners::Ignorant;
        if client.connect(Some(Vec::new())).is_ok() {
            crowd.push(client);
        }
    }
    while scene.lasts() {
        crowd.iter_mut().for_each(|client| client.pump(Duration::from_millis(1)));
    }
    crowd.iter_mut().for_each(|client| client.pump(Duration::from_millis(5)));
    let open = crowd.iter().filter(|client| client.is_open()).count();
    let made = crowd.len();
    Ok(reached(made > GUEST_SESSIONS_MAX, made as u64, format!("{open} sessions of {made} are left"))?
        .holds(open <= GUEST_SESSIONS_MAX, format!("{open} guests have a session, limit {GUEST_SESSIONS_MAX}")))
}

fn spying(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.guest()?;
    client.manners = Manners::Ignorant;
    let document = scene.ground.document;
    let own = Acl::new(client.log.heads());
    let founder = client.log.members().first().map(|member| member.device);
    let all = || Range { prefix: Prefix::default(), items: Vec::new() };
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let roots = SpaceRoots { space: 0, members: [1; 8].into(), documents: Some(scene.dice.bytes().into()) };
        let frontier = DocumentFrontier { document, actors: Vec::new(), reply: true };
        let node = Node { prefix: Prefix::default(), fingerprint: scene.dice.bytes().into() };
        let change = Chain::new(ActorId(scene.dice.bytes()), Vec::new(), 0).grow(1);
        let run = forge::run(client.key(), client.space(), document, &own, &[change]);
        let mut as_founder = forge::wire(&own, &run);
        as_founder.device = founder;
        for message in [
            Message::Roots { ask: 0, answer: 0, spaces: vec![roots] },
            Message::Items { space: 0, level: Level::Documents, ranges: vec![all()] },
            Message::Nodes { space: 0, level: Level::Documents, nodes: vec![node] },
            Message::Frontiers { space: 0, documents: vec![frontier] },
            forge::message(0, &own, &[run]),
            Message::Runs { space: 0, acls: vec![own.entries.clone()], runs: vec![as_founder] },
        ] {
            let lane = if matches!(message, Message::Runs { .. }) { Lane::Live } else { Lane::Control };
            sent += u64::from(client.say_on(lane, &message));
        }
        client.pump(Duration::from_millis(5));
    }
    let heard = client.is_heard();
    let (runs, seen) = (client.heard.runs, format!("heard: {heard}; refused: {:?}", client.heard.refused));
    Ok(reached(client.heard.refusals() > 0, sent, seen)?.holds(runs == 0, format!("{runs} runs were told to a guest")))
}

fn used_up(scene: &mut Scene) -> Result<Effect, String> {
    let ticket = scene.ground.used_up.clone();
    let mut client = scene.device(&ticket)?;
    client.connect(Some(Vec::new()))?;
    client.fetch_log()?;
    let request = client.log.request(&client.key().device(), &client.invite()).map_err(|error| error.to_string())?;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        sent += u64::from(client.say(&Message::Join { space: 0, invite: request.invite, proof: request.proof.into() }));
    }
    client.is_heard();
    let refused = client.heard.joins_refused;
    Ok(reached(refused > 0, sent, format!("{refused} joins were refused"))?
        .holds(client.role().is_none(), "a ticket that was used up has let somebody in"))
}

fn bad_proof(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.guest()?;
    let invite = client.invite().device();
    let mut sent = 0;
    while scene.lasts() {
        if !client.reconnect() {
            client.pump(Duration::from_millis(100));
            continue;
        }
        sent += u64::from(client.say(&Message::Join { space: 0, invite, proof: scene.dice.bytes().into() }));
        client.pump(Duration::from_millis(5));
    }
    let ended = client.heard.closed;
    Ok(reached(ended > 0, sent, format!("{ended} sessions ended, last: {}", client.heard.reason))?
        .holds(client.role().is_none(), "a proof that does not hold has let somebody in"))
}

fn guest_entries(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.guest()?;
    let space = client.space();
    let key: SecretKey = client.key().clone();
    let (prev, depth) = super::membership::top(&client);
    let mut bad = client.log.entry(&client.log.hashes()[1]).ok_or("the log is short")?.to_vec();
    let at = bad.len() - 5;
    bad[at] ^= 1;
    let (mut sent, mut number) = (0, 0u64);
    while scene.lasts() {
        if !client.reconnect() {
            client.pump(Duration::from_millis(100));
            continue;
        }
        number += 1;
        let own = super::membership::admission(&client, &key.device());
        let nonce = client.dice().bytes();
        let mut made = vec![forge::entry(&key, space, &prev, depth, (2, &own), nonce); 200];
        if number.is_multiple_of(20) {
            made = vec![bad.clone(); 200];
        }
        sent += u64::from(client.say(&entries(&made)));
        client.pump(Duration::from_millis(5));
    }
    client.pump(Duration::from_millis(50));
    let ended = client.heard.closed;
    let mut fresh = scene.guest()?;
    fresh.fetch_log()?;
    let is_in = fresh.log.role(&key.device()).is_some();
    Ok(reached(ended > 0, sent, format!("{ended} sessions ended, last: {}", client.heard.reason))?
        .holds(!is_in, "somebody has let itself in"))
}

fn greetings(scene: &mut Scene) -> Result<Effect, String> {
    let ticket = scene.ground.reader.clone();
    let mut client = scene.device(&ticket)?;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let (epoch, instance) = (scene.dice.any(), scene.dice.any());
        let addresses = vec!["/ip4/127.0.0.1/tcp/9".to_owned(); 60];
        let storage = anabranch_engine::id::StorageId(scene.dice.bytes());
        sent += u64::from(client.say(&Message::Greeting { storage, epoch, addresses, instance }));
        client.until(Duration::from_secs(1), |client| !client.is_open());
    }
    let ended = client.heard.closed;
    reached(ended > 0, sent, format!("{ended} sessions ended, last: {}", client.heard.reason))
}
