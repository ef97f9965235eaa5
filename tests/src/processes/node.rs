//! A running node: started, asked, killed, started again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::processes::command::{self, Finished, signal};
use crate::processes::patience::wait_for;
use crate::processes::socket::{Socket, strings};

/// Lines of its log that a failing test shows of a node.
const LOG_LINES_SHOWN: usize = 40;

/// One node's process and directory. Dropping it kills the process, not the directory.
pub struct Node {
    directory: PathBuf,
    log: PathBuf,
    child: Child,
    ready: Value,
}

impl Node {
    /// Starts a node on `directory` and waits until it is ready.
    #[track_caller]
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_command(command::program(directory), directory, arguments)
    }

    /// As [`Node::start`], through a command that leads to `anabranch` (in another network, say).
    #[track_caller]
    pub fn start_command(mut command: Command, directory: &Path, arguments: &[&str]) -> Self {
        let log = directory.with_extension("log");
        let stderr = File::options().create(true).append(true).open(&log).expect("a test can write its log");
        command.args(["--json", "run"]).args(arguments).env("RUST_LOG", "info");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start a node: {error}"));
        let stdout = child.stdout.take().expect("the output is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let mut node = Self { directory: directory.to_path_buf(), log, child, ready: Value::Null };
        node.ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            let status = node.child.wait();
            panic!("the node did not become ready ({error}, {read:?}, {status:?})\n{}", node.log_end())
        });
        node
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its device id.
    pub fn device(&self) -> String {
        self.ready["device"].as_str().expect("a ready node says its device").to_owned()
    }

    /// Its libp2p peer id.
    pub fn peer_id(&self) -> String {
        self.ready["peer_id"].as_str().expect("a ready node says its peer id").to_owned()
    }

    /// Where it listens on loopback: the TCP port.
    pub fn port(&self) -> u16 {
        let addresses = strings(&self.ready["listening"]);
        let port = addresses.iter().find_map(|address| address.split("/tcp/").nth(1)?.split('/').next()?.parse().ok());
        port.unwrap_or_else(|| panic!("the node does not listen on TCP: {addresses:?}"))
    }

    /// The multiaddr under which it is reached through `port` of loopback.
    pub fn address_through(&self, port: u16) -> String {
        format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", self.peer_id())
    }

    /// Runs a command against it.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        command::run(&self.directory, arguments, "")
    }

    /// Runs a command against it with lines on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Finished {
        command::run(&self.directory, arguments, input)
    }

    /// Runs a command that must succeed, with `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        self.run(&all).ok().json()
    }

    /// A connection to its control socket.
    pub fn socket(&self) -> Socket {
        Socket::connect(&self.directory)
    }

    /// The heads of a document, as this node has them; an error as text.
    pub fn heads(&self, document: &str) -> Result<Vec<String>, String> {
        Ok(self.socket().get(document, "")?.0)
    }

    /// Everything in its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log says something.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("the log says `{text}`"), || match self.log().contains(text) {
            true => Ok(()),
            false => Err(self.log_end()),
        });
    }

    /// Ends it at once, as a power cut ends a process.
    pub fn kill(mut self) {
        self.child.kill().expect("a test may kill its own node");
        self.child.wait().expect("a killed node is gone");
    }

    /// Asks it to end and returns its exit code.
    #[track_caller]
    pub fn stop(mut self, with: &str) -> Option<i32> {
        signal(self.child.id(), with);
        let status = wait_for("the node ends", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("running".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        status.code()
    }

    /// It has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.directory.display(), self.log_end());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same heads of a document on every node, and not none: returns them.
pub fn equal_heads(nodes: &[&Node], document: &str) -> Result<Vec<String>, String> {
    let mut first: Option<Vec<String>> = None;
    for node in nodes {
        let heads = node.heads(document)?;
        match &first {
            Some(first) if *first != heads => return Err(format!("{first:?} and {heads:?}")),
            Some(_) => {}
            None if heads.is_empty() => return Err("no heads".to_owned()),
            None => first = Some(heads),
        }
    }
    first.ok_or_else(|| "no nodes".to_owned())
}
