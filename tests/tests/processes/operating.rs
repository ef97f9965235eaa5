//! What operators, terminals and service managers do to a node: signals, many commands, few descriptors, hanging.

use std::process::{Command, Stdio};

use anabranch_tests::processes::command::{finish, program, run, signal};
use anabranch_tests::processes::socket::Socket;

use super::*;

#[test]
fn a_node_ends_within_two_seconds_also_while_commands_run() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    for (name, code) in [("TERM", Some(0)), ("HUP", Some(0)), ("INT", Some(0))] {
        let node = Node::start(&directory, &[]);
        if node.run(&["--json", "space", "ls"]).ok().stdout.is_empty() {
            node.run(&["space", "create", "work"]).ok();
            new_document(&node, "plan", &json!({ "n": 0 }));
        }
        let spawn = |arguments: &[&str]| {
            let mut command = program(&directory);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let mut watching = [spawn(&["watch"]), spawn(&["watch", "--doc", "plan"])];
        let mut editing = spawn(&["doc", "edit", "plan", "--each"]);
        std::thread::sleep(Duration::from_millis(300));
        let asked = Stopwatch::start();
        assert_eq!(node.stop(name), code, "{name}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{name}: {:?}", asked.elapsed());
        for watch in &mut watching {
            assert_eq!(watch.wait().unwrap().code(), Some(3), "the node is gone");
        }
        drop(editing.stdin.take());
        assert_eq!(editing.wait().unwrap().code(), Some(3));
    }
}

#[test]
fn a_node_started_with_nohup_outlives_its_terminal() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(program(&directory).get_program());
    command.env("ANABRANCH_DIR", &directory);
    let mut node = Node::start_command(command, &directory, &[]);
    signal(node.pid(), "HUP");
    node.run(&["id"]).ok();
    assert!(node.is_running());
    assert_eq!(node.stop("TERM"), Some(0));
}

#[test]
fn a_command_whose_node_hangs_ends_in_time_and_can_be_interrupted() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    new_document(&node, "plan", &json!({ "n": 0 }));
    node.suspend();
    for arguments in [&["status"][..], &["doc", "get", "plan"], &["doc", "set", "plan", "/n", "1"]] {
        let asked = Stopwatch::start();
        let all = [arguments, &["--timeout", "0.5"]].concat();
        node.run(&all).fails(6, "the node has not answered within 0.5 s");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
    let mut command = program(node.directory());
    let mut child = command.arg("status").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), None, "ended by the signal");
    node.proceed();
    wait_until("it goes on", || match node.run(&["status", "--timeout", "5"]).code {
        Some(0) => Ok(()),
        code => Err(format!("{code:?}")),
    });
}

#[test]
fn commands_that_follow_leave_room_for_those_that_are_short() {
    const STAYING_MAX: usize = 256;
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let document = new_document(&node, "plan", &json!({ "n": 0 }));
    let watch = || {
        let mut socket = node.socket();
        socket.send("watch", json!({})).unwrap();
        socket
    };
    let mut watching: Vec<Socket> = (0..STAYING_MAX).map(|_| watch()).collect();
    wait_until("all places are taken", || {
        let one_more = node.run(&["watch", "--timeout", "0.3"]);
        if one_more.stderr.contains("256 commands follow or wait for something, limit 256") {
            return Ok(());
        }
        // It got a place, perhaps one that another had asked for and was refused because of it.
        watching.push(watch());
        Err(one_more.stderr)
    });
    node.run(&["status"]).ok();
    node.run(&["doc", "set", &document, "/n", "1"]).ok();
    watching.truncate(STAYING_MAX / 2);
    wait_until("a place is free again", || match node.run(&["watch", "--timeout", "0.1"]).code {
        Some(0) => Ok(()),
        code => Err(format!("{code:?}")),
    });
}

#[test]
fn few_descriptors_are_made_more_or_named() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let under = |limit: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")]).arg(program(&directory).get_program());
        command.env("ANABRANCH_DIR", &directory);
        command
    };
    let mut few = under("-n 16");
    few.arg("run");
    finish(few, "run with 16 files".to_owned(), "").fails(1, "may have 16 files open, at least 32 are needed");
    let node = Node::start_command(under("-S -n 64"), &directory, &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "the limit is as high as it may be: {files:?}");
}

#[test]
fn a_node_says_what_happens_without_being_asked() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("host");
    let log = std::fs::File::create(home.path().join("host.txt")).unwrap();
    let mut command = program(&directory);
    command.args(["run", "--listen", LOOPBACK]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut host = command.spawn().unwrap();
    wait_until("it runs", || match run(&directory, &["id"], "").code {
        Some(0) => Ok(()),
        code => Err(format!("{code:?}")),
    });
    run(&directory, &["space", "create", "work"], "").ok();
    let ticket = run(&directory, &["space", "invite"], "").ok().text().to_owned();
    let guest = Node::start(&home.path().join("guest"), &[]);
    guest.run(&["space", "join", &ticket]).ok();
    let text = wait_for("the log tells of the guest", || {
        let text = std::fs::read_to_string(home.path().join("host.txt")).unwrap();
        if text.contains("peer connected") { Ok(text) } else { Err(text) }
    });
    assert!(text.contains(&guest.device()), "{text}");
    assert!(!text.contains("anabranch_engine"), "in plain words: {text}");
    signal(host.id(), "TERM");
    assert_eq!(host.wait().unwrap().code(), Some(0));
}
