//! Several real nodes in one space, each pair joined by a link of its own, which is their only way to each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::processes::command::program;
use crate::processes::finding::Finding;
use crate::processes::link::Link;
use crate::processes::node::Node;
use crate::processes::patience::{LOOK_EVERY, PATIENCE, within};
use crate::processes::socket::Socket;

/// Nodes that a fleet has at most: a node keeps sessions with eight members of a space, and here each has one with all.
pub const NODES_MAX: usize = 8;

/// The nodes, their links, and the folder in which they live: all of it ends with the value.
pub struct Fleet {
    members: Vec<Member>,
    /// Of each node, the links to those before it; whoever comes later dials.
    links: Vec<Vec<Link>>,
    _home: TempDir,
}

struct Member {
    directory: PathBuf,
    node: Option<Node>,
    /// Of its first start and all later ones.
    peer_id: Option<String>,
    /// Told to stop where it is.
    suspended: bool,
}

impl Fleet {
    /// Starts `size` nodes (2 to [`NODES_MAX`]), founds a space on the first and lets the others join as writers. Returns when
    /// each is connected with all others.
    ///
    /// # Errors
    /// A node does not start, or they do not come together within [`PATIENCE`].
    pub fn start(size: usize) -> Result<Self, Finding> {
        assert!((2..=NODES_MAX).contains(&size), "{size} nodes, at least 2 and at most {NODES_MAX}");
        let home = tempfile::tempdir().map_err(|error| Finding::crash(format!("no temporary folder: {error}")))?;
        let directory = |number| home.path().join(format!("node-{number}"));
        let members = (0..size)
            .map(|number| Member { directory: directory(number), node: None, peer_id: None, suspended: false })
            .collect();
        let links = (0..size).map(|dialer| (0..dialer).map(|_| Link::of_one_process_to(0)).collect()).collect();
        let mut fleet = Self { members, links, _home: home };
        fleet.restart(0)?;
        ask(&mut fleet.socket(0)?, "space-create", json!({ "name": "fleet" }))?;
        for guest in 1..size {
            fleet.restart(guest)?;
            let address = fleet.node(0)?.address_through(fleet.links[guest][0].port());
            let invitation = json!({ "space": null, "role": "writer", "uses": 1, "addresses": [address] });
            let ticket = ask(&mut fleet.socket(0)?, "space-invite", invitation)?["ticket"].take();
            let join = json!({ "ticket": ticket, "timeout_ms": PATIENCE.as_millis() as u64 });
            ask(&mut fleet.socket(guest)?, "space-join", join)?;
        }
        fleet.wait("all are connected with all", PATIENCE, |fleet| {
            (0..size).try_for_each(|number| {
                let connected = fleet.peers(number)?.iter().filter(|peer| peer["connected"] == true).count();
                if connected == size - 1 { Ok(()) } else { Err(format!("node {number} with {connected}")) }
            })
        })?;
        Ok(fleet)
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Where a node lives.
    pub fn directory(&self, number: usize) -> &Path {
        &self.members[number].directory
    }

    /// A node that runs, or is stopped.
    ///
    /// # Errors
    /// It was killed and not started again.
    pub fn node(&self, number: usize) -> Result<&Node, Finding> {
        self.members[number].node.as_ref().ok_or_else(|| Finding::liveness(format!("node {number} does not run")))
    }

    /// The nodes that are neither dead nor stopped.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        let running = self.members.iter().enumerate().filter(|(_, member)| !member.suspended);
        running.filter_map(|(number, member)| Some((number, member.node.as_ref()?)))
    }

    /// The link through which `dialer` reaches `target`.
    pub fn link(&self, dialer: usize, target: usize) -> &Link {
        &self.links[dialer][target]
    }

    /// Every link with its dialer and its target.
    pub fn links(&self) -> impl Iterator<Item = (usize, usize, &Link)> {
        let rows = self.links.iter().enumerate();
        rows.flat_map(|(dialer, row)| row.iter().enumerate().map(move |(target, link)| (dialer, target, link)))
    }

    /// A new connection to a node's socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn socket(&self, number: usize) -> Result<Socket, Finding> {
        Socket::open(self.directory(number), PATIENCE)
            .map_err(|trouble| Finding::crash(format!("node {number}: {trouble}")))
    }

    /// SIGKILL. Nothing if it is dead already.
    pub fn kill(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.suspended = false;
        if let Some(node) = member.node.take() {
            node.kill();
        }
    }

    /// Starts a node that does not run; it listens on another port than before, which its links know.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn restart(&mut self, number: usize) -> Result<(), Finding> {
        let arguments = self.arguments(number);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let directory = self.members[number].directory.clone();
        let admit = |pid| self.links[number].iter().for_each(|link| link.admit(pid));
        let node = Node::launch(program(&directory), &directory, &arguments, admit)
            .map_err(|error| Finding::safety(format!("node {number} does not start: {error}")))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port()));
        self.links[number + 1..].iter().for_each(|row| row[number].retarget(address));
        let member = &mut self.members[number];
        member.peer_id = Some(node.peer_id());
        member.node = Some(node);
        Ok(())
    }

    /// Starts a node that does not run, and kills it so long after that, ready or not.
    ///
    /// # Errors
    /// There is no such process.
    pub fn start_and_kill(&mut self, number: usize, after: Duration) -> Result<(), Finding> {
        let arguments = self.arguments(number);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let directory = self.directory(number);
        Node::launch_and_kill(program(directory), directory, &arguments, after).map_err(Finding::crash)
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let mut arguments = ["--listen", "/ip4/127.0.0.1/tcp/0", "--announce", "none"].map(str::to_owned).to_vec();
        for (member, link) in self.members.iter().zip(&self.links[number]) {
            // Also who is dead now: it will be back.
            if let Some(peer_id) = &member.peer_id {
                arguments.extend(["--dial".to_owned(), format!("{}/p2p/{peer_id}", link.multiaddr())]);
            }
        }
        arguments
    }

    /// SIGSTOP. Nothing if it is dead or stopped.
    pub fn suspend(&mut self, number: usize) {
        let member = &mut self.members[number];
        if let Some(node) = member.node.as_ref().filter(|_| !member.suspended) {
            node.suspend();
            member.suspended = true;
        }
    }

    /// SIGCONT. Nothing if it is not stopped.
    pub fn proceed(&mut self, number: usize) {
        let member = &mut self.members[number];
        if let Some(node) = member.node.as_ref().filter(|_| member.suspended) {
            node.proceed();
            member.suspended = false;
        }
    }

    /// Fair weather, and every node runs.
    ///
    /// # Errors
    /// A node does not start.
    pub fn heal(&mut self) -> Result<(), Finding> {
        self.links().for_each(|(_, _, link)| link.open());
        for number in 0..self.size() {
            self.proceed(number);
            if self.members[number].node.is_none() {
                self.restart(number)?;
            }
        }
        Ok(())
    }

    /// No node has ended or panicked without being told to.
    ///
    /// # Errors
    /// One has: with the end of its log.
    pub fn check_alive(&mut self) -> Result<(), Finding> {
        for (number, member) in self.members.iter_mut().enumerate() {
            let Some(node) = &mut member.node else { continue };
            if !node.is_running() {
                return Err(Finding::crash(format!("node {number} has ended by itself:\n{}", node.log_end())));
            }
            if node.log().contains("panicked at") {
                return Err(Finding::crash(format!("node {number} has panicked:\n{}", node.log_end())));
            }
        }
        Ok(())
    }

    /// Makes a document of these edits on the first node, waits until all have it, and returns its id.
    ///
    /// # Errors
    /// It does not reach them.
    pub fn new_document(&self, edits: &Value) -> Result<String, Finding> {
        let mut socket = self.socket(0)?;
        let made = ask(&mut socket, "doc-new", json!({ "space": null, "name": null }))?;
        let document = made["document"].as_str().unwrap_or_default().to_owned();
        ask(&mut socket, "doc-edit", json!({ "document": document, "edits": edits, "saved": true }))?;
        self.agree(PATIENCE)?;
        Ok(document)
    }

    /// Waits until all nodes hold the same: the same roots before and after each of them has found itself in sync.
    ///
    /// # Errors
    /// They do not within `bound`.
    pub fn agree(&self, bound: Duration) -> Result<(), Finding> {
        self.wait("all nodes hold the same", bound, |fleet| {
            let before = fleet.equal_roots()?;
            for number in 0..fleet.size() {
                let wait = json!({ "space": null, "peer": null, "timeout_ms": 5_000 });
                fleet.try_socket(number)?.ask("wait-synced", wait)?;
            }
            let after = fleet.equal_roots()?;
            if before == after { Ok(()) } else { Err(format!("root {before}, then {after}")) }
        })
    }

    /// The space's root, if it is the same on every node.
    fn equal_roots(&self) -> Result<String, String> {
        let mut roots = Vec::new();
        for number in 0..self.size() {
            let status = self.try_socket(number)?.ask("status", json!({}))?;
            if let Some(why) = status["stopped"].as_str() {
                return Err(format!("node {number} has stopped: {why}"));
            }
            roots.push(status["spaces"][0]["root"].as_str().unwrap_or("none").to_owned());
        }
        let first = roots[0].clone();
        if roots.iter().all(|root| *root == first) { Ok(first) } else { Err(format!("roots {roots:?}")) }
    }

    /// What a node says of its peers.
    ///
    /// # Errors
    /// It does not answer.
    pub fn peers(&self, number: usize) -> Result<Vec<Value>, String> {
        let status = self.try_socket(number)?.ask("status", json!({}))?;
        Ok(status["peers"].as_array().cloned().unwrap_or_default())
    }

    fn try_socket(&self, number: usize) -> Result<Socket, String> {
        Socket::open(self.directory(number), PATIENCE).map_err(|trouble| format!("node {number}: {trouble}"))
    }

    /// Waits for a condition of the fleet.
    ///
    /// # Errors
    /// It does not come about within `bound`.
    pub fn wait<T>(
        &self,
        what: &str,
        bound: Duration,
        mut condition: impl FnMut(&Self) -> Result<T, String>,
    ) -> Result<T, Finding> {
        within(bound, LOOK_EVERY, || condition(self)).map_err(|state| Finding::liveness(format!("{what}: {state}")))
    }
}

/// Asks what must be answered.
///
/// # Errors
/// It is not.
pub fn ask(socket: &mut Socket, what: &str, arguments: Value) -> Result<Value, Finding> {
    socket.request(what, arguments).map_err(|trouble| Finding::liveness(format!("`{what}`: {trouble}")))
}
