//! The past of a document on the command line, its texts, and the store as a whole.

use anabranch_tests::processes::command::run;
use anabranch_tests::processes::socket::strings;

use super::*;

#[test]
fn log_shows_the_last_changes_with_what_they_changed() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let document = new_document(&node, "plan", &json!({}));
    for number in ["1", "2", "3"] {
        node.run(&["doc", "set", &document, "/n", number]).ok();
    }
    let all = node.run(&["--json", "doc", "log", &document]).ok().json_lines();
    let last = node.run(&["--json", "doc", "log", &document, "-n", "2", "-p", "--reverse"]).ok().json_lines();
    let hashes = |lines: &[Value]| lines.iter().map(|line| line["hash"].clone()).collect::<Vec<_>>();
    let mut expected = hashes(&all)[all.len() - 2..].to_vec();
    expected.reverse();
    assert_eq!(hashes(&last), expected);
    assert_eq!(all[0].get("patches"), None);
    let patches = last[0]["patches"].as_array().unwrap();
    assert!(patches.len() == 1 && patches[0]["path"] == "/n" && patches[0]["value"] == 3, "{patches:?}");
    let human = node.run(&["doc", "log", &document, "-n", "1", "-p"]).ok();
    assert!(human.stdout.lines().count() == 2 && human.stdout.contains("/n"), "{}", human.stdout);

    let (first, second) = (all[all.len() - 3]["hash"].as_str().unwrap(), all[all.len() - 2]["hash"].as_str().unwrap());
    let diff = node.json(&["doc", "diff", &document, first, "--to", second]);
    assert_eq!((&diff["patches"][0]["value"], &diff["heads"]), (&json!(2), &json!([second])));
    assert_eq!(node.json(&["doc", "diff", &document, &first[..10]])["patches"][0]["value"], 3);
    assert_eq!(node.run(&["doc", "diff", &document, second, "--to", second]).ok().text(), "no difference");
    assert_eq!(strings(&node.json(&["doc", "diff", &document, first])["heads"]), node.heads(&document).unwrap());
}

#[test]
fn a_text_goes_out_to_a_file_and_comes_back_by_its_difference() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let document = new_document(&node, "plan", &json!({ "text": "one\ntwo\n\n" }));
    assert_eq!(node.run(&["doc", "text", &document, "/text"]).ok().stdout, "one\ntwo\n\n", "to the byte");
    assert_eq!(node.json(&["doc", "text", &document, "/text"])["value"], "one\ntwo\n\n");
    let file = home.path().join("text.md");
    std::fs::write(&file, "one\n2\n\n").unwrap();
    node.run(&["doc", "text", &document, "/text", file.to_str().unwrap()]).ok();
    assert_eq!(node.run(&["doc", "text", &document, "/text"]).ok().stdout, "one\n2\n\n");
    let log = node.run(&["--json", "doc", "log", &document, "-n", "1"]).ok().json_lines();
    assert!(log[0]["ops"].as_u64().unwrap() <= 4, "only what differs was written: {}", log[0]);
    node.run_with(&["doc", "text", &document, "/new", "-"], "words").ok();
    assert_eq!(node.run(&["doc", "text", &document, "/new"]).ok().stdout, "words");
}

#[test]
fn texts_of_several_lines_are_compared_line_by_line() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let content = json!({ "text": "one\ntwo\n\tthree\n", "short": "a word", "list": ["x\ny\n"] });
    let document = new_document(&node, "plan", &content);
    let before = node.heads(&document).unwrap().join(",");
    node.run_with(&["doc", "text", &document, "/text", "-"], "one\n2\n\tthree\nfour").ok();
    node.run(&["doc", "set", &document, "/short", "\"another\""]).ok();
    node.run(&["doc", "set", &document, "/list/0", "\"x\\nz\\n\""]).ok();
    node.run(&["doc", "set", &document, "/n", "7"]).ok();
    let said = node.run(&["doc", "diff", &document, &before]).ok().stdout;
    let expected =
        "--- /text\n+++ /text\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n \tthree\n+four\n\\ No newline at end of file\n";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("--- /list/0\n+++ /list/0\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n"), "{said}");
    assert!(said.contains("put /n ") && said.contains("/short") && !said.contains("insert_text /text"), "{said}");
    assert!(!said.contains("--- /short"), "one line is shown as it was: {said}");
    // The machine's form has every patch and nothing else.
    let diff = node.json(&["doc", "diff", &document, &before]);
    assert_eq!(diff.as_object().unwrap().len(), 3, "{diff}");
    assert!(diff["patches"].as_array().unwrap().iter().any(|patch| patch["path"] == "/text"), "{diff}");
    // It goes back as well as forth.
    let back = node.run(&["doc", "diff", &document, &node.heads(&document).unwrap().join(","), "--to", &before]).ok();
    assert!(back.stdout.contains("@@ -1,4 +1,3 @@\n one\n-2\n+two\n"), "{}", back.stdout);
}

#[test]
fn a_store_is_checked_row_by_row_while_no_node_runs() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let node = Node::start(&directory, &[]);
    node.run(&["space", "create", "work"]).ok();
    new_document(&node, "plan", &json!({ "text": "words" }));
    assert_eq!(node.stop("TERM"), Some(0));
    let tables = run(&directory, &["--json", "check"], "").ok().json_lines();
    assert!(tables.iter().all(|table| table["damaged"] == json!([])), "{tables:?}");
    assert!(tables.iter().any(|table| table["rows"].as_u64().unwrap() > 0 && table["table"] == "runs"), "{tables:?}");
    let said = run(&directory, &["check"], "").ok();
    assert!(said.stdout.contains("every row is as it was written"), "{}", said.stdout);
    run(&home.path().join("none"), &["check"], "").fails(1, "there is no replica in it");
}

#[test]
fn shells_and_manuals_know_every_command() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(home.path(), &["completions", shell], "").ok();
        assert!(script.stdout.contains("wait-synced") && script.stdout.contains("conflicts"), "{shell}");
    }
    assert!(run(home.path(), &["man"], "").ok().stdout.contains(".TH anabranch 1"));
}
