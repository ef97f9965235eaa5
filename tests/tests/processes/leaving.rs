//! Leaving a space asks for `--force` where something might be lost for good; waiting for sync passes over spaces without others.

use super::*;

#[test]
fn leaving_with_the_only_copy_asks_for_force_and_names_the_documents() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "solo"]).ok();
    new_document(&node, "only", &json!({ "x": 1 }));
    let asked = node.run(&["space", "leave", "solo"]).fails(5, "no other member was found to hold 1 document: `only`");
    assert!(asked.stderr.contains("--force"), "{}", asked.stderr);
    node.run(&["doc", "get", "only"]).ok();
    assert_eq!(node.json(&["space", "leave", "solo", "--force"])["documents"], 1);
    // Where there is nothing, nothing is asked.
    node.run(&["space", "create", "empty"]).ok();
    node.run(&["space", "leave", "empty"]).ok();
}

#[test]
fn leaving_with_edits_that_nobody_has_asks_for_force() {
    let trio = Trio::start();
    let shared = new_document(&trio.founder, "shared", &json!({ "x": 1 }));
    trio.agree(&shared);
    trio.writer.run(&["wait-synced"]).ok();
    trio.to_writer.cut();
    new_document(&trio.writer, "unsent", &json!({ "x": 2 }));
    let asked = trio.writer.run(&["space", "leave", "expedition"]);
    let asked = asked.fails(5, "no other member was found to hold the last changes of 1 document: `unsent`");
    assert!(!asked.stderr.contains("shared"), "{}", asked.stderr);
    trio.to_writer.open();
    trio.writer.run(&["wait-synced"]).ok();
    trio.writer.run(&["space", "leave", "expedition"]).ok();
}

#[test]
fn leaving_as_the_only_admin_asks_for_force() {
    let trio = Trio::start();
    let shared = new_document(&trio.founder, "shared", &json!({ "x": 1 }));
    trio.agree(&shared);
    trio.founder.run(&["wait-synced"]).ok();
    let asked = trio.founder.run(&["space", "leave", "expedition"]).fails(5, "this device is the only admin");
    assert!(asked.stderr.contains("--role admin") && !asked.stderr.contains("shared"), "{}", asked.stderr);
    trio.founder.run(&["space", "leave", "expedition", "--force"]).ok();
}

#[test]
fn waiting_for_sync_passes_over_a_space_without_other_members() {
    let trio = Trio::start();
    let shared = new_document(&trio.founder, "shared", &json!({ "x": 1 }));
    trio.agree(&shared);
    trio.founder.run(&["space", "create", "private"]).ok();
    let said = trio.founder.run(&["wait-synced"]).ok();
    assert!(said.stdout.contains("private  alone"), "{}", said.stdout);
    assert!(said.stdout.contains("expedition  in sync with 2 peers"), "{}", said.stdout);
    let lines = trio.founder.run(&["--json", "wait-synced"]).ok().json_lines();
    assert_eq!(lines.iter().filter(|line| line["alone"] == true).count(), 1);
    // One that is to be reached is named, and so is its id.
    trio.to_writer.cut();
    trio.to_reader.cut();
    let late = trio.founder.run(&["wait-synced", "--timeout", "1"]);
    late.fails(6, &format!("space `expedition` ({}) was not found in sync within 1 s", &trio.space[..8]));
}

#[test]
fn a_space_is_named_either_way_where_there_are_several() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "one"]).ok();
    let two = node.json(&["space", "create", "two"])["space"].clone();
    for command in ["invite", "members"] {
        node.run(&["space", command]).fails(2, "say one with --space");
        node.run(&["space", command, "--space", "two"]).ok();
        node.run(&["space", command, "two"]).ok();
    }
    assert_eq!(node.json(&["space", "invite", "--space", "two"])["space"], two);
}
