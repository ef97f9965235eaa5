//! A real partition, with a node killed in the middle of a stream of acknowledged writes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anabranch_tests::processes::command::program;

use super::*;

/// How long the nodes stay apart, at least.
const CUT_FOR: Duration = Duration::from_secs(8);
/// Writes acknowledged by a node before it is killed.
const ACKNOWLEDGED_BEFORE_KILL: usize = 100;

/// How the nodes are joined, and how that is undone.
enum Wires {
    /// The kernel's: packets of the node that is cut off vanish.
    Network(Network),
    /// A proxy: connections of the node that is cut off are closed.
    Link(Link),
}

impl Wires {
    fn cut(&self) {
        match self {
            Self::Network(network) => network.cut(2),
            Self::Link(link) => link.cut(),
        }
    }

    fn heal(&self) {
        match self {
            Self::Network(network) => network.heal(2),
            Self::Link(link) => link.open(),
        }
    }
}

/// What nodes have acknowledged as saved: keys of the document, written down outside of any node.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeSet<String>>>);

impl Ledger {
    fn keys(&self) -> BTreeSet<String> {
        self.0.lock().expect("nobody panics with the ledger").clone()
    }

    fn count(&self, who: &str) -> usize {
        self.keys().iter().filter(|key| key.starts_with(who)).count()
    }
}

/// Writes one edit after another until told to stop or until the node dies, and puts every acknowledged one into the ledger.
struct Stream {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Stream {
    fn start(directory: &Path, document: &str, who: &'static str, ledger: &Ledger) -> Self {
        let mut command = program(directory);
        command.args(["--json", "doc", "edit", document, "--each", "--ack"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a command starts");
        let mut stdin = child.stdin.take().expect("the input is piped");
        let mut acks = Acknowledgements::of(child.stdout.take().expect("the output is piped"));
        let (stop, stopped) = (Arc::new(AtomicBool::new(false)), ledger.clone());
        let is_stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // Every other edit is of the field that the other side writes too.
            for number in 0.. {
                let (key, edit) = match number % 2 {
                    0 => (None, json!({ "op": "set", "path": "/shared", "value": format!("{who} {number}") })),
                    _ => {
                        let key = format!("{who}-{number}");
                        let edit = json!({ "op": "set", "path": format!("/entries/{key}"), "value": number });
                        (Some(key), edit)
                    }
                };
                if is_stopped.load(Ordering::Relaxed) || writeln!(stdin, "{edit}").is_err() || !acks.next_is_saved() {
                    break;
                }
                if let Some(key) = key {
                    stopped.0.lock().expect("nobody panics with the ledger").insert(key);
                }
            }
            drop(stdin);
            let _ = child.wait();
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a stream ends without a panic");
    }

    fn ends(self) {
        self.thread.join().expect("a stream ends without a panic");
    }
}

struct Acknowledgements(BufReader<ChildStdout>);

impl Acknowledgements {
    fn of(stdout: ChildStdout) -> Self {
        Self(BufReader::new(stdout))
    }

    fn next_is_saved(&mut self) -> bool {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        // Half a line is no acknowledgement.
        read.is_ok() && line.ends_with('\n') && line.contains("\"saved\":true")
    }
}

struct Parted {
    wires: Wires,
    home: tempfile::TempDir,
    addresses: [String; 3],
}

impl Parted {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("there is room for temporary files");
        let network = match std::env::var_os("ANABRANCH_TEST_WITHOUT_NAMESPACES") {
            None => Network::new("p", 3),
            Some(_) => Err("ANABRANCH_TEST_WITHOUT_NAMESPACES is set".to_owned()),
        };
        match network {
            Ok(network) => {
                let addresses = [1, 2, 3].map(|host| format!("/ip4/{}/tcp/4510", network.address(host)));
                Self { wires: Wires::Network(network), home, addresses }
            }
            Err(reason) => {
                println!("no network namespaces here ({reason}): the partition is made with a proxy instead");
                // The target is not known yet; `Parted::rewire` says it.
                let addresses = [LOOPBACK; 3].map(str::to_owned);
                Self { wires: Wires::Link(Link::to(0)), home, addresses }
            }
        }
    }

    fn directory(&self, host: usize) -> std::path::PathBuf {
        self.home.path().join(["founder", "writer", "reader"][host - 1])
    }

    fn start(&self, host: usize) -> Node {
        let directory = self.directory(host);
        let listen = self.addresses[host - 1].as_str();
        match &self.wires {
            Wires::Network(network) => {
                let command: Command = network.program(host, &directory);
                Node::start_command(command, &directory, &["--listen", listen])
            }
            Wires::Link(_) => Node::start(&directory, &["--listen", listen, "--announce", "none"]),
        }
    }

    /// Where `guest` finds the founder.
    fn founder_for(&mut self, guest: usize, founder: &Node) -> String {
        match &mut self.wires {
            Wires::Network(_) => format!("{}/p2p/{}", self.addresses[0], founder.peer_id()),
            Wires::Link(link) if guest == 2 => {
                *link = Link::to(founder.port());
                founder.address_through(link.port())
            }
            Wires::Link(_) => founder.address_through(founder.port()),
        }
    }
}

#[test]
fn every_acknowledged_write_survives_a_partition_and_a_kill() {
    let mut parted = Parted::new();
    let founder = parted.start(1);
    let mut writer = parted.start(2);
    let reader = parted.start(3);
    founder.run(&["space", "create", "expedition"]).ok();
    for (guest, role, node) in [(2, "writer", &writer), (3, "reader", &reader)] {
        let address = parted.founder_for(guest, &founder);
        let ticket = founder.run(&["space", "invite", "--role", role, "--address", &address]).ok();
        node.run(&["space", "join", ticket.text()]).ok();
    }
    let document = new_document(&founder, "ledger", &json!({ "entries": {}, "shared": "" }));
    wait_for("all have the document", || equal_heads(&[&founder, &writer, &reader], &document));

    let ledger = Ledger::default();
    parted.wires.cut();
    let cut = Stopwatch::start();
    let at_founder = Stream::start(founder.directory(), &document, "founder", &ledger);
    let at_writer = Stream::start(writer.directory(), &document, "writer", &ledger);
    let enough = |who: &'static str, count: usize| {
        let ledger = ledger.clone();
        move || match ledger.count(who) {
            acknowledged if acknowledged >= count => Ok(()),
            acknowledged => Err(format!("{acknowledged} writes of {who} acknowledged")),
        }
    };
    wait_until("the writer has acknowledged enough", enough("writer", ACKNOWLEDGED_BEFORE_KILL));
    // In the middle of the stream, while it is cut off.
    writer.kill();
    at_writer.ends();
    let before_restart = ledger.count("writer");
    writer = parted.start(2);
    let again = Stream::start(writer.directory(), &document, "writer-again", &ledger);
    wait_until("the writer goes on after its restart", enough("writer-again", ACKNOWLEDGED_BEFORE_KILL));
    wait_until("the founder has written too", enough("founder", ACKNOWLEDGED_BEFORE_KILL));
    wait_until("the cut has lasted as long as stated", || match cut.elapsed() {
        long if long >= CUT_FOR => Ok(()),
        short => Err(format!("{short:?}")),
    });
    assert!(founder.heads(&document) != writer.heads(&document), "they have been apart");

    parted.wires.heal();
    let healed = Stopwatch::start();
    // They go on writing while they find each other again.
    let soon = ledger.count("founder") + 20;
    wait_until("writing goes on during the heal", enough("founder", soon));
    at_founder.stop();
    again.stop();
    let nodes = [&founder, &writer, &reader];
    wait_for("all have the same heads again", || equal_heads(&nodes, &document));
    println!(
        "cut for {:?}; {} writes acknowledged ({before_restart} of the node that was killed, before that); equal {:?} after the heal",
        cut.elapsed() - healed.elapsed(),
        ledger.keys().len(),
        healed.elapsed(),
    );
    let mut shared = BTreeSet::new();
    for node in nodes {
        let (_, content) = node.socket().get(&document, "").expect("the document can be read");
        let entries = content["entries"].as_object().expect("the entries are an object");
        let lost: Vec<String> = ledger.keys().into_iter().filter(|key| !entries.contains_key(key)).collect();
        assert!(lost.is_empty(), "{} has lost {lost:?}", node.directory().display());
        shared.insert(content.to_string());
    }
    assert_eq!(shared.len(), 1, "the same content everywhere");
    for node in nodes {
        node.run(&["wait-synced", "--timeout", "60"]).ok();
    }
}
