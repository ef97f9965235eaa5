//! Edits that come one by one into `doc edit --each`: each is made as it arrives, and none that was read is lost.

use std::io::Write;
use std::process::{Child, Stdio};

use anabranch_tests::processes::command::{program, signal};

use super::*;

fn editing(node: &Node, more: &[&str]) -> Child {
    let mut command = program(node.directory());
    command.args(["--json", "doc", "edit", "plan", "--each"]).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn line(number: usize) -> String {
    format!("{}\n", json!({ "op": "insert", "path": "/items/-", "value": number }))
}

fn node_with_items(home: &Path) -> (Node, String) {
    let node = Node::start(&home.join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let document = new_document(&node, "plan", &json!({ "items": [] }));
    (node, document)
}

fn items(node: &Node, document: &str) -> usize {
    node.socket().get(document, "/items").unwrap().1.as_array().unwrap().len()
}

#[test]
fn an_edit_of_a_stream_is_made_when_its_line_arrives() {
    let home = tempfile::tempdir().unwrap();
    let (node, document) = node_with_items(home.path());
    let mut child = editing(&node, &[]);
    let mut stdin = child.stdin.take().unwrap();
    let mut waits = Vec::new();
    for number in 1..=5 {
        stdin.write_all(line(number).as_bytes()).unwrap();
        let written = Stopwatch::start();
        wait_until("the edit is there while the stream stays open", || match items(&node, &document) {
            count if count == number => Ok(()),
            count => Err(format!("{count} items")),
        });
        waits.push(written.elapsed());
    }
    // 200 ms is what is promised of a machine that has nothing else to do.
    waits.sort_unstable();
    assert!(waits[2] < Duration::from_secs(1), "{waits:?}");

    signal(child.id(), "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    let total: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&total["edits"], &total["saved"]), (&json!(5), &json!(true)));
    drop(stdin);
}

#[test]
fn a_stream_that_is_interrupted_loses_nothing_that_was_read() {
    let home = tempfile::tempdir().unwrap();
    let (node, document) = node_with_items(home.path());
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let before = items(&node, &document);
        let mut child = editing(&node, &[]);
        let mut stdin = child.stdin.take().unwrap();
        let many: String = (0..3_000).map(line).collect();
        let writer = std::thread::spawn(move || {
            // The rest stays in the pipe.
            let _ = stdin.write_all(many.as_bytes());
            stdin
        });
        wait_until("some are made", || if items(&node, &document) > before { Ok(()) } else { Err("none".to_owned()) });
        signal(child.id(), name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        let total: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(total["edits"], json!(items(&node, &document) - before), "what was made is what was told");
        drop(writer.join().unwrap());
    }
}

#[test]
fn a_stream_whose_time_is_over_has_made_what_it_has_read() {
    let home = tempfile::tempdir().unwrap();
    let (node, document) = node_with_items(home.path());
    let mut child = editing(&node, &["--timeout", "1.5"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all((0..3).map(line).collect::<String>().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let total: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&total["edits"], &total["saved"]), (&json!(3), &json!(true)));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["message"], "the input has not ended within 1.5 s: 3 edits made");
    assert_eq!(items(&node, &document), 3);
    drop(stdin);
}

#[test]
fn a_bad_line_of_a_stream_takes_none_of_those_before_it_away() {
    let home = tempfile::tempdir().unwrap();
    let (node, document) = node_with_items(home.path());
    let input = format!("{}{}no json\n{}", line(1), line(2), line(3));
    node.run_with(&["doc", "edit", "plan", "--each"], &input).fails(2, "line 3, column 2: malformed JSON");
    assert_eq!(items(&node, &document), 2);
}
