//! Command and node say which version they speak, and what to do where it is not the same.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use anabranch_tests::processes::command::run;

use super::*;

/// The lines that a node says to who says this and no more.
fn answer(node: &Node, said: &str) -> Vec<Value> {
    let mut stream = UnixStream::connect(node.directory().join("node.sock")).unwrap();
    // A node that refuses the first line takes nothing after it, and what it has said can be read all the same.
    let _ = stream.write_all(said.as_bytes()).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

#[test]
fn command_of_another_version_is_refused_by_the_node_with_both_versions() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    let here = format!("this node speaks version 2 (anabranch {})", env!("CARGO_PKG_VERSION"));
    let lines = answer(&node, "{\"hello\":{\"protocol\":99,\"version\":\"9.9.9\"}}\n{\"do\":\"id\"}\n");
    let [hello, error] = &lines[..] else { panic!("not two lines: {lines:?}") };
    assert_eq!(hello["hello"], json!({ "protocol": 2, "version": env!("CARGO_PKG_VERSION") }));
    assert_eq!(error["error"]["code"], "other-version");
    let message = error["error"]["message"].as_str().unwrap();
    let says = "the command speaks version 99 of the protocol (anabranch 9.9.9)";
    assert!(message.contains(says) && message.contains(&here), "{message}");
    // A command of the first version reads its first line as an answer, and knows errors with `exit`.
    for first in [r#"{"v":1,"do":"id"}"#, &"x".repeat(100_000)] {
        let lines = answer(&node, &format!("{first}\n{{\"do\":\"id\"}}\n"));
        let [error] = &lines[..] else { panic!("not one line: {lines:?}") };
        assert_eq!((&error["error"]["exit"], &error["error"]["code"]), (&json!("error"), &json!("other-version")));
        let message = error["error"]["message"].as_str().unwrap();
        let says = "the command does not say which version of the protocol it speaks";
        assert!(message.contains(says) && message.contains(&here), "{message}");
    }
    let hello = r#"{"hello":{"protocol":2,"version":"7.0.0"}}"#;
    let lines = answer(&node, &format!("{hello}\n{{\"do\":\"id\"}}\n"));
    assert_eq!(lines[1]["ok"]["device"], json!(node.device()));
    node.run(&["id"]).ok();
}

#[test]
fn node_of_another_version_is_refused_by_the_command_with_both_versions() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    run(&directory, &["init"], "").ok();
    let listener = UnixListener::bind(directory.join("node.sock")).unwrap();
    let here = format!("this command speaks version 2 (anabranch {})", env!("CARGO_PKG_VERSION"));
    for (first, says) in [
        (
            r#"{"hello":{"protocol":99,"version":"9.9.9"}}"#,
            "the node speaks version 99 of the protocol (anabranch 9.9.9)",
        ),
        // As the first version answers a line that it does not know.
        (
            r#"{"error":{"exit":"usage","message":"no"}}"#,
            "the node does not say which version of the protocol it speaks",
        ),
    ] {
        let listener = listener.try_clone().unwrap();
        let first = format!("{first}\n");
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(first.as_bytes()).unwrap();
            let mut said = String::new();
            // Until the command goes.
            let _ = stream.read_to_string(&mut said);
            said
        });
        let refused = run(&directory, &["--json", "id"], "").expect(7);
        let error: Value = serde_json::from_str(&refused.stderr).unwrap();
        assert_eq!(error["error"]["reason"], "other-version");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(says) && message.contains(&here), "{message}");
        assert!(message.contains("start the node again with this one"), "{message}");
        assert!(other.join().unwrap().starts_with(r#"{"hello":{"protocol":2,"#));
    }
}

#[test]
fn request_that_a_node_of_another_version_does_not_take_whole_ends_with_both_versions() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    run(&directory, &["init"], "").ok();
    let listener = UnixListener::bind(directory.join("node.sock")).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"hello\":{\"protocol\":99,\"version\":\"9.9.9\"}}\n").unwrap();
    });
    let long = json!("x".repeat(4 << 20)).to_string();
    let says = "the node speaks version 99 of the protocol (anabranch 9.9.9)";
    run(&directory, &["doc", "set", "plan", "/text", "-"], &long).fails(7, says);
    other.join().unwrap();
}
