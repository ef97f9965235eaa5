//! A running node: started, asked, killed, started again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde_json::Value;

use crate::processes::command::{self, Finished, signal};
use crate::processes::patience::{PATIENCE, wait_for};
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
    pub fn start_command(command: Command, directory: &Path, arguments: &[&str]) -> Self {
        Self::launch(command, directory, arguments, |_| ()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a node and waits until it is ready; `spawned` learns of its process before that.
    ///
    /// # Errors
    /// It did not become ready: with the end of its log.
    pub fn launch(
        command: Command,
        directory: &Path,
        arguments: &[&str],
        spawned: impl FnOnce(u32),
    ) -> Result<Self, String> {
        let mut child = spawn(command, directory, arguments)?;
        spawned(child.id());
        let stdout = child.stdout.take().expect("the output is piped");
        let log = log_of(directory);
        let mut node = Self { directory: directory.to_path_buf(), log, child, ready: Value::Null };
        let (said, wait) = sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = said.send(BufReader::new(stdout).read_line(&mut line).map(|_| line));
        });
        let ready = match wait.recv_timeout(PATIENCE) {
            Ok(Ok(line)) => serde_json::from_str(&line).map_err(|error| format!("{error} in `{line}`")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("nothing was said within {} s", PATIENCE.as_secs())),
        };
        match ready {
            Ok(ready) => node.ready = ready,
            Err(error) => {
                let _ = node.child.kill();
                let status = node.child.wait();
                return Err(format!("the node did not become ready ({error}, {status:?})\n{}", node.log_end()));
            }
        }
        Ok(node)
    }

    /// Starts a node and ends it so long after that, ready or not.
    ///
    /// # Errors
    /// There is no such process.
    pub fn launch_and_kill(
        command: Command,
        directory: &Path,
        arguments: &[&str],
        after: Duration,
    ) -> Result<(), String> {
        let mut child = spawn(command, directory, arguments)?;
        std::thread::sleep(after);
        child.kill().and_then(|()| child.wait()).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said when it was ready.
    pub fn ready(&self) -> &Value {
        &self.ready
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

    /// Stops its process where it is, as a laptop that is closed; [`Node::proceed`] lets it go on.
    pub fn suspend(&self) {
        signal(self.child.id(), "STOP");
    }

    /// Lets a stopped process go on.
    pub fn proceed(&self) {
        signal(self.child.id(), "CONT");
    }

    /// It has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
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

/// The log of the node on a directory lies beside it.
fn log_of(directory: &Path) -> PathBuf {
    directory.with_extension("log")
}

fn spawn(mut command: Command, directory: &Path, arguments: &[&str]) -> Result<Child, String> {
    let log = File::options().create(true).append(true).open(log_of(directory)).expect("a test can write its log");
    command.args(["--json", "run"]).args(arguments);
    if !command.get_envs().any(|(name, _)| name == "RUST_LOG") {
        command.env("RUST_LOG", "info");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().map_err(|error| format!("cannot start a node: {error}"))
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
