//! Command and node say which version they speak, and what to do where it is not the same.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use anabranch_tests::processes::command::run;

use super::*;

/// All that a node says to who says this and no more.
fn answer(node: &Node, said: &str) -> String {
    let mut stream = UnixStream::connect(node.directory().join("node.sock")).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn command_of_another_version_is_refused_by_the_node_with_both_versions() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    let here = format!("this node speaks version 2 (anabranch {})", env!("CARGO_PKG_VERSION"));
    for (first, says) in [
        (
            r#"{"hello":{"protocol":99,"version":"9.9.9"}}"#,
            "the command speaks version 99 of the protocol (anabranch 9.9.9)",
        ),
        (r#"{"v":1,"do":"id"}"#, "the command does not say which version of the protocol it speaks"),
        (&"x".repeat(100_000), "the command does not say which version of the protocol it speaks"),
    ] {
        let answer = answer(&node, &format!("{first}\n{{\"do\":\"id\"}}\n"));
        let lines: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [hello, error] = &lines[..] else { panic!("the request was answered: {answer}") };
        assert_eq!(hello["hello"], json!({ "protocol": 2, "version": env!("CARGO_PKG_VERSION") }));
        assert_eq!(error["error"]["code"], "other-version");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(says) && message.contains(&here), "{message}");
    }
    let hello = r#"{"hello":{"protocol":2,"version":"7.0.0"}}"#;
    assert!(answer(&node, &format!("{hello}\n{{\"do\":\"id\"}}\n")).contains(r#"{"ok":{"device":"#));
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
        assert_eq!(error["error"]["code"], "other-version");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(says) && message.contains(&here), "{message}");
        assert!(message.contains("start the node again with this one"), "{message}");
        assert!(other.join().unwrap().starts_with(r#"{"hello":{"protocol":2,"#));
    }
}
