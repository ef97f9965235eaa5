//! The nodes that are attacked: Alice, who is the admin and has the attackers at her door, and Bob, who writes. Each runs under a
//! limit of memory, so that what takes all of it ends that node, and nothing else of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hostile::scene::Ground;
use crate::processes::binary::anabranch;
use crate::processes::command;
use crate::processes::finding::Finding;
use crate::processes::fleet::ask;
use crate::processes::node::Node;
use crate::processes::patience::{LOOK_EVERY, within};
use crate::processes::socket::Socket;

/// Data memory that a node may have, in KiB: 1 GiB. Dense changes of several documents take some 300 MB for a moment.
const DATA_KIB_MAX: u64 = 1 << 20;
/// A node that does not answer within this does not answer at all.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// What is set up must be so by then.
const SET_UP_MAX: Duration = Duration::from_secs(30);

/// The nodes. Dropping it ends them and takes their folder away.
pub struct Stage {
    alice: Option<Node>,
    bob: Option<Node>,
    /// What attackers are told.
    pub ground: Ground,
    home: TempDir,
}

/// Which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The admin, who is attacked.
    Alice,
    /// The writer, who hears of it.
    Bob,
}

impl Actor {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Alice, Self::Bob];

    /// Her or his name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alice => "alice",
            Self::Bob => "bob",
        }
    }
}

impl Stage {
    /// Starts the nodes, with one space, one document, and tickets for attackers.
    ///
    /// # Errors
    /// They do not come together.
    pub fn start() -> Result<Self, Finding> {
        let home = tempfile::tempdir().map_err(|error| Finding::crash(format!("no temporary folder: {error}")))?;
        let alice = launch(&home.path().join("alice"), 0)?;
        let bob = launch(&home.path().join("bob"), 0)?;
        let (port, address) = (alice.port(), alice.address_through(alice.port()));
        let mut socket = open(&home.path().join("alice"))?;
        ask(&mut socket, "space-create", json!({ "name": "notes" }))?;
        let used_up = invite(&mut socket, "writer", &address)?;
        let join = json!({ "ticket": used_up, "timeout_ms": ANSWER_MAX.as_millis() as u64 });
        ask(&mut open(&home.path().join("bob"))?, "space-join", join)?;
        let made = ask(&mut socket, "doc-new", json!({ "space": null, "name": "plan" }))?;
        let document = made["document"].as_str().unwrap_or_default().to_owned();
        let edits = json!([{ "op": "set", "path": "/begun", "value": true }]);
        ask(&mut socket, "doc-edit", json!({ "document": document, "edits": edits, "saved": true }))?;
        let ticket = |text: String| {
            text.parse().map_err(|error| Finding::crash(format!("a ticket that cannot be read: {error}")))
        };
        let ground = Ground {
            address: address.clone(),
            port,
            directory: home.path().join("alice"),
            pid: alice.pid(),
            reader: ticket(invite(&mut socket, "reader", &address)?)?,
            writer: ticket(invite(&mut socket, "writer", &address)?)?,
            used_up: ticket(used_up)?,
            document: document.parse().map_err(|_| Finding::crash(format!("no document id: `{document}`")))?,
            document_text: document,
            member: bob.device().parse().map_err(|_| Finding::crash(format!("no device: `{}`", bob.device())))?,
            member_address: bob.address_through(bob.port()),
        };
        let stage = Self { alice: Some(alice), bob: Some(bob), ground, home };
        stage.meet(SET_UP_MAX)?;
        Ok(stage)
    }

    /// Where a node lives.
    pub fn directory(&self, actor: Actor) -> PathBuf {
        self.home.path().join(actor.name())
    }

    /// The process of a node that runs.
    pub fn pid(&self, actor: Actor) -> u32 {
        let node = match actor {
            Actor::Alice => &self.alice,
            Actor::Bob => &self.bob,
        };
        node.as_ref().map_or(0, Node::pid)
    }

    /// No node has ended or panicked by itself.
    ///
    /// # Errors
    /// One has: with the end of its log.
    pub fn check_alive(&mut self) -> Result<(), Finding> {
        for (actor, node) in [(Actor::Alice, &mut self.alice), (Actor::Bob, &mut self.bob)] {
            let Some(node) = node else { continue };
            let running = node.is_running();
            if !running || node.log().contains("panicked at") {
                let what = if running { "has panicked" } else { "has ended by itself" };
                return Err(Finding::crash(format!("{} {what}:\n{}", actor.name(), node.log_end())));
            }
        }
        Ok(())
    }

    /// Ends a node as its user would, and starts it again where it listened before.
    ///
    /// # Errors
    /// It does not end, or does not start.
    pub fn restart(&mut self, actor: Actor) -> Result<(), Finding> {
        let directory = self.directory(actor);
        let place = match actor {
            Actor::Alice => &mut self.alice,
            Actor::Bob => &mut self.bob,
        };
        let Some(node) = place.take() else { return Ok(()) };
        let port = node.port();
        node.stop("TERM");
        *place = Some(launch(&directory, port)?);
        Ok(())
    }

    /// Waits until Alice and Bob are connected and each has what the other one writes now.
    ///
    /// # Errors
    /// They are and have not within `bound`.
    pub fn meet(&self, bound: Duration) -> Result<(), Finding> {
        let mut mark = 0;
        let met = within(bound, LOOK_EVERY, || {
            mark += 1;
            self.brings(Actor::Alice, Actor::Bob, mark)?;
            self.brings(Actor::Bob, Actor::Alice, mark)
        });
        met.map_err(|state| Finding::liveness(format!("alice and bob do not meet: {state}")))
    }

    /// Writes at one node and waits a moment for it at the other one.
    fn brings(&self, from: Actor, to: Actor, mark: u64) -> Result<(), String> {
        let document = &self.ground.document_text;
        let path = format!("/{}", from.name());
        let edits = json!([{ "op": "set", "path": path, "value": mark }]);
        let [mut writes, mut reads] = [self.open(from)?, self.open(to)?];
        writes.ask("doc-edit", json!({ "document": document, "edits": edits, "saved": false }))?;
        within(Duration::from_secs(1), LOOK_EVERY, || match reads.get(document, &path)?.1 {
            value if value == json!(mark) => Ok(()),
            value => Err(format!("{} has {value} of {}, not {mark}", to.name(), from.name())),
        })
    }

    /// What a node says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self, actor: Actor) -> Result<Value, String> {
        self.open(actor)?.ask("status", json!({}))
    }

    fn open(&self, actor: Actor) -> Result<Socket, String> {
        Socket::open(&self.directory(actor), ANSWER_MAX).map_err(|trouble| trouble.to_string())
    }
}

fn open(directory: &Path) -> Result<Socket, Finding> {
    Socket::open(directory, ANSWER_MAX).map_err(|trouble| Finding::crash(trouble.to_string()))
}

/// A ticket for one device.
fn invite(socket: &mut Socket, role: &str, address: &str) -> Result<String, Finding> {
    let wanted = json!({ "space": null, "role": role, "uses": 1, "addresses": [address] });
    let made = ask(socket, "space-invite", wanted)?;
    Ok(made["ticket"].as_str().unwrap_or_default().to_owned())
}

/// Starts a node under a limit of memory, with the log that users have.
fn launch(directory: &Path, port: u16) -> Result<Node, Finding> {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -d {DATA_KIB_MAX} && exec \"$0\" \"$@\"")).arg(anabranch());
    for (name, value) in command::program(directory).get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.env("RUST_LOG", "warn");
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    Node::launch(limited, directory, &["--listen", &listen], |_| ())
        .map_err(|error| Finding::safety(format!("a node does not start: {error}")))
}
