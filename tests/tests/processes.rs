//! Real processes over real connections: what the built `anabranch` does when links break, nodes die and input is wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::time::Duration;

use anabranch_tests::processes::link::Link;
use anabranch_tests::processes::namespace::Network;
use anabranch_tests::processes::node::{Node, equal_heads};
use anabranch_tests::processes::patience::{Stopwatch, wait_for, wait_until};
use anabranch_tests::processes::trace::{self, Concurrent, Sequential};
use serde_json::{Value, json};

#[path = "processes/addresses.rs"]
mod addresses;
#[path = "processes/attacks.rs"]
mod attacks;
#[path = "processes/commands.rs"]
mod commands;
#[path = "processes/conflicts.rs"]
mod conflicts;
#[path = "processes/contract.rs"]
mod contract;
#[path = "processes/copies.rs"]
mod copies;
#[path = "processes/disks.rs"]
mod disks;
#[path = "processes/errors.rs"]
mod errors;
#[path = "processes/history.rs"]
mod history;
#[path = "processes/import.rs"]
mod import;
#[path = "processes/interrupts.rs"]
mod interrupts;
#[path = "processes/kill.rs"]
mod kill;
#[path = "processes/leaving.rs"]
mod leaving;
#[path = "processes/load.rs"]
mod load;
#[path = "processes/logs.rs"]
mod logs;
#[path = "processes/names.rs"]
mod names;
#[path = "processes/operating.rs"]
mod operating;
#[path = "processes/output.rs"]
mod output;
#[path = "processes/partition.rs"]
mod partition;
#[path = "processes/recording.rs"]
mod recording;
#[path = "processes/replay.rs"]
mod replay;
#[path = "processes/streams.rs"]
mod streams;
#[path = "processes/versions.rs"]
mod versions;
#[path = "processes/workloads.rs"]
mod workloads;

const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

/// Three nodes in one space: the founder, a writer, a reader. Both others reach the founder through links of their own, and
/// in no other way: where the nodes listen is announced to nobody.
struct Trio {
    founder: Node,
    writer: Node,
    reader: Node,
    /// Between the writer and the founder.
    to_writer: Link,
    /// Between the reader and the founder.
    to_reader: Link,
    space: String,
    home: tempfile::TempDir,
}

impl Trio {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("there is room for temporary files");
        let founder = Node::start(&home.path().join("founder"), &["--listen", LOOPBACK, "--announce", "none"]);
        let writer = Node::start(&home.path().join("writer"), &["--listen", LOOPBACK, "--announce", "none"]);
        let reader = Node::start(&home.path().join("reader"), &[]);
        let space = founder.json(&["space", "create", "expedition"])["space"].as_str().unwrap().to_owned();
        let (to_writer, to_reader) = (Link::to(founder.port()), Link::to(founder.port()));
        let trio = Self { founder, writer, reader, to_writer, to_reader, space, home };
        trio.writer.run(&["space", "join", &trio.ticket("writer", &trio.to_writer)]).ok();
        trio.reader.run(&["space", "join", &trio.ticket("reader", &trio.to_reader)]).ok();
        trio
    }

    /// A ticket of the founder for one device that comes through a link.
    fn ticket(&self, role: &str, link: &Link) -> String {
        let address = self.founder.address_through(link.port());
        let invitation = self.founder.run(&["space", "invite", "--role", role, "--address", &address]).ok();
        invitation.text().to_owned()
    }

    fn nodes(&self) -> [&Node; 3] {
        [&self.founder, &self.writer, &self.reader]
    }

    /// Waits until all three hold the same version of a document, and returns it.
    #[track_caller]
    fn agree(&self, document: &str) -> Vec<String> {
        wait_for("all three have the same heads", || equal_heads(&self.nodes(), document))
    }

    /// Shows that everything still works: a write of the founder and one of the writer reach all three.
    #[track_caller]
    fn works(&self, document: &str, mark: &str) {
        self.founder.run(&["doc", "set", document, "/founder", &json!(mark).to_string()]).ok();
        self.writer.run(&["doc", "set", document, "/writer", &json!(mark).to_string()]).ok();
        wait_until("writes of both arrive everywhere", || {
            for node in self.nodes() {
                let (_, now) = node.socket().get(document, "")?;
                if now["founder"] != mark || now["writer"] != mark {
                    return Err(format!("{}: {now}", node.directory().display()));
                }
            }
            Ok(())
        });
        self.agree(document);
    }
}

/// Makes a document on a node, with content, and returns its id.
fn new_document(node: &Node, name: &str, content: &Value) -> String {
    let id = node.run(&["doc", "new", "--name", name]).ok().text().to_owned();
    let edits = content.as_object().expect("content is an object").iter();
    let edits = edits.map(|(key, value)| json!({ "op": "set", "path": format!("/{key}"), "value": value }));
    let lines: Vec<String> = edits.map(|edit| edit.to_string()).collect();
    node.run_with(&["doc", "edit", &id], &lines.join("\n")).ok();
    id
}
