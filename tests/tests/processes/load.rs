//! Many commands at once, and connections that do not do what a command does: nobody else notices.

use std::os::unix::net::UnixStream;

use anabranch_tests::processes::socket::Socket;

use super::*;

/// A node with a small document and one whose answer does not fit into any buffer on the way.
fn node_with_documents(home: &Path) -> (Node, String, String) {
    let node = Node::start(&home.join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let small = new_document(&node, "small", &json!({ "n": 0 }));
    let content = json!({ "name": "large", "text": "x".repeat(LARGE) }).to_string();
    node.run_with(&["doc", "import", "--new", "-", "--strings", "text"], &content).ok();
    let large = node.json(&["doc", "get", "large", "/name"])["document"].as_str().unwrap().to_owned();
    (node, small, large)
}

const LARGE: usize = 3_000_000;

/// Short commands of each kind work.
#[track_caller]
fn works(node: &Node, document: &str, mark: i64) {
    node.run(&["status"]).ok();
    node.run(&["peers"]).ok();
    node.run(&["doc", "set", document, "/n", &mark.to_string()]).ok();
    assert_eq!(node.run(&["doc", "get", document, "/n"]).ok().text(), mark.to_string());
    assert!(node.run(&["doc", "ls"]).ok().stdout.contains("small"));
}

/// Memory of the node's process that is in use, in bytes.
fn resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    kilobytes.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

#[test]
fn four_hundred_watchers_keep_no_command_out() {
    let home = tempfile::tempdir().unwrap();
    let (node, small, _) = node_with_documents(home.path());
    let watching: Vec<Socket> = (0..400)
        .map(|number| {
            let mut socket = node.socket();
            let arguments = if number % 2 == 0 { json!({ "document": small }) } else { json!({}) };
            socket.send("watch", arguments).unwrap();
            socket
        })
        .collect();
    wait_until("no more can watch", || {
        let one_more = node.run(&["watch", "--timeout", "0.2"]);
        if one_more.stderr.contains("256 commands follow or wait for something") {
            Ok(())
        } else {
            Err(one_more.stderr)
        }
    });
    for mark in 1..=20 {
        works(&node, &small, mark);
    }
    drop(watching);
    works(&node, &small, 21);
    wait_until("their places are free", || match node.run(&["watch", "--timeout", "0.1"]).code {
        Some(0) => Ok(()),
        code => Err(format!("{code:?}")),
    });
}

#[test]
fn connections_that_ask_nothing_keep_no_command_out_for_long() {
    let home = tempfile::tempdir().unwrap();
    let (node, small, _) = node_with_documents(home.path());
    let socket = node.directory().join("node.sock");
    let silent: Vec<UnixStream> = (0..700).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    wait_until("a place is free", || match node.run(&["status"]) {
        finished if finished.code == Some(0) => Ok(()),
        finished => Err(finished.stderr),
    });
    works(&node, &small, 1);
    drop(silent);
    works(&node, &small, 2);
}

// Each kept its place among the requests that are worked on until its answer was read.
#[test]
fn readers_that_take_no_answer_hold_up_nobody_and_cost_bounded_memory() {
    let home = tempfile::tempdir().unwrap();
    let (node, small, large) = node_with_documents(home.path());
    works(&node, &small, 1);
    let before = resident(&node);
    let mut unread = Vec::new();
    // 300 of them are large: if all were kept, they would take more than is allowed below.
    for number in 0..450 {
        let mut socket = node.socket();
        let (what, arguments) = match number % 3 {
            0 => ("doc-export", json!({ "document": large })),
            1 => ("doc-get", json!({ "document": large, "path": "" })),
            _ => ("watch", json!({ "document": large })),
        };
        socket.send(what, arguments).unwrap();
        unread.push(socket);
        if number % 50 == 0 {
            works(&node, &small, number);
        }
    }
    works(&node, &small, 1_000);
    node.run_with(&["doc", "edit", &large], "{\"op\":\"splice\",\"path\":\"/text\",\"pos\":0,\"ins\":\"y\"}").ok();
    wait_until("only so many answers are kept", || {
        // Some 96 are kept at most (32 that nobody reads, 64 that are worked on), each of them once or twice.
        let grown = resident(&node).saturating_sub(before);
        if grown < 250 * LARGE as u64 { Ok(()) } else { Err(format!("{grown} bytes")) }
    });
    let exported = node.run(&["doc", "export", &large]).ok();
    assert!(exported.stdout.len() > LARGE);
    // One that begins to read in time has all of it.
    drop(unread);
    works(&node, &small, 1_001);
}

#[test]
fn half_a_request_that_does_not_go_on_is_ended() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    let mut stream = UnixStream::connect(node.directory().join("node.sock")).unwrap();
    std::io::Write::write_all(&mut stream, anabranch_api::Hello::ours().line().as_bytes()).unwrap();
    std::io::Write::write_all(&mut stream, b"{\"do\":").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.contains("nothing more of the request has come for 10 s"), "{answer}");
}

#[test]
fn requests_that_do_not_come_whole_take_bounded_memory_together() {
    let home = tempfile::tempdir().unwrap();
    let (node, small, _) = node_with_documents(home.path());
    let before = resident(&node);
    let large = vec![b' '; 12 << 20];
    let half: Vec<_> = (0..60)
        .map(|_| {
            let stream = UnixStream::connect(node.directory().join("node.sock")).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            std::io::Write::write_all(&mut &stream, anabranch_api::Hello::ours().line().as_bytes()).unwrap();
            // Most of them are not read to the end.
            let _ = std::io::Write::write_all(&mut &stream, &large);
            stream
        })
        .collect();
    let grown = resident(&node).saturating_sub(before);
    assert!(grown < 400 << 20, "{grown} bytes for {} requests of {} bytes", half.len(), large.len());
    works(&node, &small, 1);
}
