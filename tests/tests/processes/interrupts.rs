//! Ctrl-C at every command that takes long, and SIGTERM at a node while one of them runs.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Stdio};

use anabranch_tests::processes::command::{finish, program, signal};

use super::*;

/// What is promised of commands and of nodes.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// A node whose space has another member, which is away, and a large document and file.
struct Scene {
    node: Node,
    plan: String,
    large: String,
    file: String,
    /// For a space of somebody who is not there.
    ticket: String,
    home: tempfile::TempDir,
}

/// A command that runs, with its input and output held open.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
}

impl Scene {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(&home.path().join("node"), &["--listen", LOOPBACK]);
        node.run(&["space", "create", "work"]).ok();
        let other = Node::start(&home.path().join("other"), &["--listen", LOOPBACK]);
        other.run(&["space", "join", node.run(&["space", "invite"]).ok().text()]).ok();
        other.run(&["space", "create", "elsewhere"]).ok();
        let ticket = other.run(&["space", "invite", "elsewhere"]).ok().text().to_owned();
        assert_eq!(other.stop("TERM"), Some(0));
        // With the space, as joining makes a second one.
        let within = |id: String| format!("work/{id}");
        let plan = within(new_document(&node, "plan", &json!({ "items": [] })));
        let large = within(new_document(&node, "large", &json!({ "text": "x".repeat(150_000) })));
        for _ in 0..10 {
            let line = json!({ "op": "splice", "path": "/text", "pos": 0, "ins": "y".repeat(150_000) }).to_string();
            node.run_with(&["doc", "edit", &large], &line).ok();
        }
        let content: serde_json::Map<String, Value> =
            (0..100_000).map(|number| (format!("key {number}"), json!(number))).collect();
        let file = home.path().join("large.json");
        std::fs::write(&file, Value::Object(content).to_string()).unwrap();
        let file = file.to_str().unwrap().to_owned();
        Self { node, plan, large, file, ticket, home }
    }

    /// Every command that takes long, and what comes into it. None of them ends by itself.
    fn long_commands(&self) -> Vec<(Vec<&str>, &'static str)> {
        let edit = "{\"op\":\"insert\",\"path\":\"/items/-\",\"value\":1}\n";
        vec![
            (vec!["watch"], ""),
            (vec!["watch", "--doc", &self.plan], ""),
            (vec!["wait-synced", "--timeout", "600"], ""),
            (vec!["space", "join", &self.ticket, "--timeout", "600"], ""),
            // Documentation addresses (RFC 5737) lead nowhere.
            (vec!["peer", "dial", "/ip4/192.0.2.1/tcp/4510", "--timeout", "600"], ""),
            (vec!["doc", "edit", &self.plan, "--each"], edit),
            (vec!["doc", "edit", &self.plan], edit),
            (vec!["doc", "import", &self.plan, "-"], "{\"a\": 1,"),
            (vec!["doc", "export", &self.large], ""),
            (vec!["doc", "get", &self.large], ""),
        ]
    }

    fn run(&self, arguments: &[&str], input: &str) -> Running {
        let mut command = program(self.node.directory());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        Running { child, input: Some(stdin) }
    }

    fn items(&self) -> usize {
        self.node.socket().get(&self.plan, "/items").unwrap().1.as_array().unwrap().len()
    }
}

impl Running {
    #[track_caller]
    fn is_running(&mut self, arguments: &[&str]) {
        assert!(self.child.try_wait().unwrap().is_none(), "{arguments:?} has ended by itself");
    }

    /// How it ended, after it was asked to, or its node was.
    fn end(mut self) -> (Option<i32>, Option<i32>) {
        let status = self.child.wait().unwrap();
        drop(self.input.take());
        (status.code(), status.signal())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        let _ = self.child.kill();
    }
}

#[test]
fn every_long_command_ends_at_once_when_it_is_interrupted() {
    let scene = Scene::start();
    for (arguments, input) in scene.long_commands() {
        let is_stream = arguments.contains(&"--each");
        let before = scene.items();
        let mut running = scene.run(&arguments, input);
        if is_stream {
            wait_until("the edit is made", || if scene.items() > before { Ok(()) } else { Err("none".to_owned()) });
        }
        std::thread::sleep(Duration::from_millis(300));
        running.is_running(&arguments);
        let asked = Stopwatch::start();
        signal(running.child.id(), "INT");
        let ended = running.end();
        assert!(asked.elapsed() < ENDS_WITHIN, "{arguments:?}: {:?}", asked.elapsed());
        // What shells call 130: ended by the signal, or by itself because of it.
        assert!(ended == (Some(130), None) || ended == (None, Some(2)), "{arguments:?}: {ended:?}");
        assert_eq!(
            scene.items() - before,
            usize::from(is_stream),
            "{arguments:?}: what was read is made, and nothing else"
        );
        scene.node.run(&["doc", "set", &scene.plan, "/n", "1"]).ok();
    }
    // An import of which all has come is made or not, as a whole.
    let before = scene.node.heads(&scene.plan).unwrap();
    for wait in [10, 50, 200, 800] {
        let mut importing = scene.run(&["doc", "import", &scene.plan, &scene.file], "");
        std::thread::sleep(Duration::from_millis(wait));
        signal(importing.child.id(), "INT");
        let asked = Stopwatch::start();
        importing.child.wait().unwrap();
        assert!(asked.elapsed() < ENDS_WITHIN, "{:?}", asked.elapsed());
        scene.node.run(&["status", "--timeout", "30"]).ok();
    }
    let members = || {
        let (heads, value) = scene.node.socket().get(&scene.plan, "")?;
        let members = value.as_object().map_or(0, serde_json::Map::len);
        if heads == before || members == 100_000 { Ok(()) } else { Err(format!("{members} members")) }
    };
    wait_until("it is the old or the new one", members);
}

// A signal in the first moments of closing was taken for an echo of the one before, also where there was none before: a node
// that was about to have another key went on. Only what follows a signal is one now.
#[test]
fn a_node_that_is_asked_to_end_while_its_key_is_renewed_ends() {
    let scene = Scene::start();
    // So that there is something to save when it closes.
    let _importing = scene.run(&["doc", "import", &scene.plan, &scene.file], "");
    std::thread::sleep(Duration::from_millis(400));
    let renewing = scene.run(&["id", "renew", "--force", "--timeout", "0.1"], "");
    scene.node.wait_for_log("closing to renew the identity");
    let asked = Stopwatch::start();
    assert_eq!(scene.node.stop("TERM"), Some(0));
    assert!(asked.elapsed() < ENDS_WITHIN, "{:?}", asked.elapsed());
    // The key may have been renewed before.
    assert!(matches!(renewing.end(), (Some(0 | 3), None)));
}

// Where the node could not run under the new key, whoever had asked for it was told that the node was about to end, and not that the
// key was another one.
#[test]
fn a_renewed_key_is_told_also_where_the_node_cannot_go_on_with_it() {
    let Scene { mut node, home: _home, .. } = Scene::start();
    let directory = node.directory().to_owned();
    let socket = directory.join("node.sock");
    let mut command = program(&directory);
    command.args(["--json", "id", "renew", "--force", "--timeout", "2"]);
    let renewing = std::thread::spawn(move || finish(command, "id renew".to_owned(), ""));
    // As long as it waits for the other member, which is away: nobody can listen on a directory.
    std::thread::sleep(Duration::from_millis(700));
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir(&socket).unwrap();
    let renewed = renewing.join().unwrap().ok().json();
    wait_until("the node has ended", || if node.is_running() { Err("it runs".to_owned()) } else { Ok(()) });
    std::fs::remove_dir(&socket).unwrap();
    assert_eq!(Node::start(&directory, &[]).device(), renewed["device"]);
}

#[test]
fn a_node_ends_in_time_whatever_command_runs() {
    let scene = Scene::start();
    let mut running: Vec<(Vec<String>, Running)> = Vec::new();
    for (arguments, input) in scene.long_commands() {
        let mut one = scene.run(&arguments, input);
        one.is_running(&arguments);
        running.push((arguments.iter().map(|word| (*word).to_owned()).collect(), one));
    }
    let importing = scene.run(&["doc", "import", &scene.plan, &scene.file], "");
    std::thread::sleep(Duration::from_millis(500));
    let Scene { node, home: _home, .. } = scene;
    let asked = Stopwatch::start();
    assert_eq!(node.stop("TERM"), Some(0));
    assert!(asked.elapsed() < ENDS_WITHIN, "{:?}", asked.elapsed());
    // It may have been made before.
    assert!(matches!(importing.end(), (Some(0 | 3), None)));
    for (arguments, mut one) in running {
        // Those that had not begun to ask find no node when they do.
        drop(one.input.take());
        let mut output = one.child.stdout.take().unwrap();
        let reading = std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let ended = one.end();
        reading.join().unwrap().unwrap();
        let word = arguments.get(1).map_or("", String::as_str);
        // They may have had all that they needed of the node.
        let is_done = ["export", "get"].contains(&word) || arguments.iter().any(|word| word == "--each");
        let malformed = word == "import";
        match ended {
            (Some(3), None) => {}
            (Some(0), None) if is_done => {}
            (Some(2), None) if malformed => {}
            other => panic!("{arguments:?}: {other:?}"),
        }
    }
}
