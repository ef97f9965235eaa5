//! `anabranch demo`: a short story with three real replicas, real stores and real connections, told in the terminal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch::{ChangeHash, Conflict, Document, Peer, Role, Space};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::show::{Show, short};
use anabranch_api::Failure;

mod link;

use link::Link;

/// The story is told within this time, or has gone wrong.
const STORY_TIME_MAX: Duration = Duration::from_secs(19);
/// How often replicas are looked at while waiting for them.
const LOOK_EVERY: Duration = Duration::from_millis(1);

const SPACE: &str = "expedition";
const DOCUMENT: &str = "River trip";

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave the three stores in this new directory, to explore them
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// One of the three.
struct Actor {
    name: &'static str,
    peer: Peer,
    space: Space,
    document: Document,
}

/// What came out, for programs.
#[derive(Debug, Serialize)]
struct Outcome {
    /// The same heads and the same content on all three.
    agree: bool,
    document: String,
    heads: Vec<String>,
    content: Value,
    conflicts: Vec<Differing>,
    /// TCP payload over the healed link, both ways, from the heal until all three agreed.
    bytes: u64,
    /// From the heal until the two sides had a connection again.
    reconnected_ms: u64,
    /// From the heal until all three agreed.
    agreed_ms: u64,
    /// Where the stores were left.
    kept: Option<PathBuf>,
}

/// One field with several values.
#[derive(Debug, Serialize)]
struct Differing {
    path: String,
    values: Vec<Written>,
}

#[derive(Debug, Serialize)]
struct Written {
    value: Value,
    by: String,
}

impl Demo {
    pub(crate) fn execute(self, show: Show) -> Result<(), Failure> {
        let temporary;
        let home = match &self.keep {
            Some(directory) => {
                must_be_new(directory)?;
                directory.as_path()
            }
            None => {
                temporary = tempfile::tempdir()
                    .map_err(|error| Failure::failed(format!("cannot make a temporary directory: {error}")))?;
                temporary.path()
            }
        };
        let told = super::run::runtime()?.block_on(async { timeout(STORY_TIME_MAX, tell(home, show)).await });
        let mut outcome = told.map_err(|_| {
            Failure::timed_out(format!("the replicas did not come to agree within {} s", STORY_TIME_MAX.as_secs()))
        })??;
        outcome.kept = self.keep.clone();
        if show.json {
            show.one(&outcome, |_| String::new())?;
        }
        if !outcome.agree {
            return Err(Failure::failed(
                "the replicas do not agree: this is a bug, please report it with the output above",
            ));
        }
        if let Some(directory) = &self.keep {
            show.remark(&how_to_explore(directory))?;
        }
        Ok(())
    }
}

fn must_be_new(directory: &Path) -> Result<(), Failure> {
    let not_empty = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
    if not_empty {
        let shown = directory.display();
        return Err(Failure::usage(format!("{shown} is not empty: --keep makes new stores in a new directory")));
    }
    Ok(())
}

async fn tell(home: &Path, show: Show) -> Result<Outcome, Failure> {
    let say = |text: &str| show.remark(text);
    say("Three replicas on this machine, each with its own key and its own store, talk over libp2p.\n")?;

    let alice = open(home, "alice", true).await?;
    let bob = open(home, "bob", false).await?;
    let carol = open(home, "carol", false).await?;
    let target = alice.listening().iter().find_map(|address| socket_address(address));
    let target = target.ok_or_else(|| Failure::failed("the first replica does not listen on loopback"))?;
    let (to_bob, to_carol) = (Link::to(target).await?, Link::to(target).await?);

    let space = alice.create_space(SPACE).await?;
    let document = space.create_document().await?;
    document.edit(|edit| {
        edit.set(
            "",
            json!({ "name": DOCUMENT, "meet at": "the station", "notes": "Bring rope. ", "pack": ["tent"], "cost": 0 }),
        )?;
        edit.set_counter("/cost", 20)
    })?;
    say(&format!("Alice ({:.8}) founds the space \"{SPACE}\" and writes a document.", alice.device()))?;
    let alice = Actor { name: "Alice", peer: alice, space, document };
    let bob = join(&alice, bob, "Bob", &to_bob).await?;
    let carol = join(&alice, carol, "Carol", &to_carol).await?;
    say(&format!(
        "Bob   ({:.8}) and Carol ({:.8}) join with tickets, as writers.",
        bob.peer.device(),
        carol.peer.device()
    ))?;
    let all = [&alice, &bob, &carol];
    wait(|| agree(&all)).await;

    say("\n1. All are connected. Each writes something.")?;
    let start = Instant::now();
    alice.document.edit(|edit| edit.insert("/pack/-", "map"))?;
    bob.document.edit(|edit| edit.insert("/pack/-", "stove"))?;
    carol.document.edit(|edit| edit.increment("/cost", 5))?;
    wait(|| agree(&all)).await;
    say(&format!("   The three hold the same {} ms later.", start.elapsed().as_millis()))?;

    say("\n2. The link to Carol is cut. Everyone goes on writing, Alice and Carol also in the same field.")?;
    to_carol.cut();
    wait(|| !carol.peer.peers().iter().any(|peer| peer.connected)).await;
    write(&alice, show, "meet at: the weir", |edit| edit.set("/meet at", "the weir"))?;
    write(&carol, show, "meet at: the ferry", |edit| edit.set("/meet at", "the ferry"))?;
    write(&bob, show, "pack: + lamp, cost: + 7", |edit| {
        edit.insert("/pack/-", "lamp")?;
        edit.increment("/cost", 7)
    })?;
    write(&carol, show, "pack: + paddle, cost: + 3", |edit| {
        edit.insert("/pack/-", "paddle")?;
        edit.increment("/cost", 3)
    })?;
    write(&alice, show, "notes, at the front: \"Leave early. \"", |edit| {
        edit.splice_text("/notes", 0, 0, "Leave early. ")
    })?;
    write(&carol, show, "notes, at the end:   \"Check the tide. \"", |edit| {
        let end = edit.length("/notes").unwrap_or(0);
        edit.splice_text("/notes", end, 0, "Check the tide. ")
    })?;
    for actor in all {
        actor.document.saved().await?;
    }
    wait(|| agree(&[&alice, &bob])).await;
    say(&format!("   Alice and Bob, still linked, are at {}; Carol is at {}.", at(&alice), at(&carol)))?;

    say("\n3. The link heals.")?;
    let (healed, before) = (Instant::now(), to_carol.bytes());
    to_carol.heal();
    wait(|| carol.peer.peers().iter().any(|peer| peer.connected)).await;
    let reconnected_ms = milliseconds(healed);
    wait(|| agree(&all)).await;
    let (agreed_ms, bytes) = (milliseconds(healed), to_carol.bytes() - before);
    // And that the replicas themselves find it: roots compared, and equal.
    for actor in all {
        actor.space.wait_synced().await?;
    }
    let outcome = conclude(&all, bytes, reconnected_ms, agreed_ms)?;
    say(&format!(
        "   Connected again after {reconnected_ms} ms (Carol had been trying all along); in agreement {} ms later,\n   \
         with {bytes} bytes over the link, encryption and all.",
        agreed_ms - reconnected_ms,
    ))?;
    tell_outcome(&all, &outcome, show)?;

    for actor in all {
        actor.peer.shutdown().await;
    }
    Ok(outcome)
}

async fn open(home: &Path, name: &str, listens: bool) -> Result<Peer, Failure> {
    let mut builder = Peer::builder().directory(home.join(name));
    if listens {
        // Told to nobody: the others have her address from their tickets, which is that of a link.
        builder = builder.listen("/ip4/127.0.0.1/tcp/0").announce_nothing();
    }
    Ok(builder.open().await?)
}

async fn join(host: &Actor, guest: Peer, name: &'static str, link: &Link) -> Result<Actor, Failure> {
    let address = format!("/ip4/{}/tcp/{}/p2p/{}", link.address().ip(), link.address().port(), host.peer.peer_id());
    let ticket = host.space.invite(Role::Writer, 1, vec![address]).await?;
    let space = guest.join(&ticket).await?;
    let document = space.wait_for(host.document.id()).await?;
    Ok(Actor { name, peer: guest, space, document })
}

fn write(
    actor: &Actor,
    show: Show,
    what: &str,
    f: impl FnOnce(&mut anabranch::Edit<'_>) -> Result<(), anabranch::EditError>,
) -> Result<(), Failure> {
    actor.document.edit(f)?;
    show.remark(&format!("   {:5}  {what}", actor.name))
}

/// The TCP address in a multiaddr such as `/ip4/127.0.0.1/tcp/4510/p2p/..`.
fn socket_address(multiaddr: &str) -> Option<SocketAddr> {
    let mut parts = multiaddr.split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?) {
        ("ip4", ip, "tcp", port) => Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)),
        _ => None,
    }
}

async fn wait(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(LOOK_EVERY).await;
    }
}

fn heads(actor: &Actor) -> Vec<ChangeHash> {
    actor.document.heads().unwrap_or_default()
}

fn at(actor: &Actor) -> String {
    heads(actor).iter().map(|head| format!("{head:.8}")).collect::<Vec<_>>().join(" + ")
}

/// The same heads everywhere, and not none.
fn agree(actors: &[&Actor]) -> bool {
    let first = heads(actors[0]);
    !first.is_empty() && actors.iter().all(|actor| heads(actor) == first)
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

fn conclude(all: &[&Actor], bytes: u64, reconnected_ms: u64, agreed_ms: u64) -> Result<Outcome, Failure> {
    let document = &all[0].document;
    let content = document.json()?;
    let mut agree = agree(all);
    for actor in all {
        agree &= actor.document.json()? == content;
    }
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is not general in its lifetimes")]
    let conflicts = document.read(|view| view.all_conflicts())?;
    let name = |conflict: &Conflict| {
        let author = all.iter().find(|actor| Some(actor.peer.device()) == conflict.device);
        author.map_or_else(|| "someone".to_owned(), |actor| actor.name.to_owned())
    };
    Ok(Outcome {
        agree,
        document: document.id().to_string(),
        heads: document.heads()?.iter().map(ToString::to_string).collect(),
        content,
        conflicts: conflicts
            .into_iter()
            .map(|(path, values)| Differing {
                path: path.to_string(),
                values: values.into_iter().map(|it| Written { by: name(&it), value: it.value }).collect(),
            })
            .collect(),
        bytes,
        reconnected_ms,
        agreed_ms,
        kept: None,
    })
}

fn tell_outcome(all: &[&Actor], outcome: &Outcome, show: Show) -> Result<(), Failure> {
    let mut text = String::from("\nWhat each of them holds now:\n");
    for actor in all {
        let json = actor.document.json()?;
        text.push_str(&format!(
            "   {:5}  at {}   {} characters of JSON\n",
            actor.name,
            at(actor),
            json.to_string().len()
        ));
    }
    let content = format!("{:#}", outcome.content);
    text.push_str(&content.lines().map(|line| format!("   {line}\n")).collect::<String>());
    for conflict in &outcome.conflicts {
        text.push_str(&format!("Written by two at once: {}\n", conflict.path));
        for (index, written) in conflict.values.iter().enumerate() {
            let mark = if index == 0 { "shown everywhere" } else { "kept beside it" };
            text.push_str(&format!("   {:24} by {:5}  ({mark})\n", written.value.to_string(), written.by));
        }
    }
    text.push_str(&format!(
        "{}: heads {}, document {}.",
        if outcome.agree { "All three agree" } else { "THEY DO NOT AGREE" },
        outcome.heads.iter().map(|head| short(head)).collect::<Vec<_>>().join(" + "),
        short(&outcome.document),
    ));
    show.remark(&text)
}

fn how_to_explore(directory: &Path) -> String {
    let home = directory.display();
    format!(
        "\nThe stores are in {home}. To go on with them:\n   \
         anabranch run --dir {home}/alice --listen /ip4/127.0.0.1/tcp/4510 &\n   \
         anabranch run --dir {home}/carol --dial /ip4/127.0.0.1/tcp/4510 &\n   \
         anabranch --dir {home}/carol doc get '{DOCUMENT}'\n   \
         anabranch --dir {home}/carol doc log '{DOCUMENT}'\n   \
         anabranch --dir {home}/alice doc conflicts '{DOCUMENT}'\n   \
         anabranch --dir {home}/carol doc set '{DOCUMENT}' '/meet at' '\"the bridge\"'\n   \
         anabranch --dir {home}/alice watch --since 0"
    )
}
