//! Names mean what people think, or are refused at once with the reason.

use anabranch_tests::processes::command::{finish, program};

use super::*;

/// A node with one space, and its directory.
fn node() -> (tempfile::TempDir, Node) {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    (home, node)
}

fn made(node: &Node, name: &str) -> String {
    node.run(&["doc", "new", "--name", name]).ok().text().to_owned()
}

// What looked like an id was taken for one: edits went into another document, which they made, without a word.
#[test]
fn a_name_that_looks_like_an_id_means_its_document() {
    let (_home, node) = node();
    let digest = "5d41402abc4b2a76b9719d911017c592";
    let id = made(&node, digest);
    let edited = node.json(&["doc", "set", digest, "/x", "1"]);
    assert_eq!(edited["document"], json!(id));
    assert_eq!(node.run(&["doc", "get", digest, "/x"]).ok().text(), "1");
    // The first digits of an id, and a name.
    let other = made(&node, "other");
    let short = made(&node, &other[..4]);
    assert_eq!(node.json(&["doc", "get", &other[..4]])["document"], json!(short));
    assert_eq!(node.json(&["doc", "get", &format!("id:{}", &other[..4])])["document"], json!(other));
    assert_eq!(node.json(&["doc", "get", &format!("name:{}", &other[..4])])["document"], json!(short));
    node.run(&["doc", "new", "--name", &other]).fails(2, "is the id of a document here");
    assert_eq!(node.run(&["--json", "doc", "ls"]).ok().json_lines().len(), 3, "no command has made one");
}

#[test]
fn a_mistyped_id_is_no_such_document() {
    let (_home, node) = node();
    let id = made(&node, "plan");
    let digit = if id.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{digit}", &id[..31]);
    for command in
        [&["doc", "set", &mistyped, "/a", "1"][..], &["doc", "get", &mistyped], &["doc", "rm", &mistyped, "/a"]]
    {
        node.run(command).fails(4, &format!("no document {mistyped} in this space here"));
    }
    node.run_with(&["doc", "edit", &mistyped], r#"{"op":"set","path":"/a","value":1}"#)
        .fails(4, &format!("no document {mistyped} in this space here"));
    assert_eq!(node.run(&["--json", "doc", "ls"]).ok().json_lines().len(), 1);
}

#[test]
fn slashes_accents_and_a_dash_are_found_again_and_what_never_could_be_is_refused() {
    let (_home, node) = node();
    let id = made(&node, "2026/05");
    assert_eq!(node.json(&["doc", "get", "2026/05"])["document"], json!(id));
    assert_eq!(node.json(&["doc", "get", "work/2026/05"])["document"], json!(id));
    let id = made(&node, "caf\u{e9}");
    assert_eq!(node.json(&["doc", "get", "cafe\u{301}"])["document"], json!(id));
    let id = made(&node, "-");
    assert_eq!(node.json(&["doc", "get", "-"])["document"], json!(id));
    for (name, reason) in [
        ("n".repeat(300).as_str(), "300 bytes, limit 255"),
        ("", "name is empty"),
        ("a\u{1b}[31m", "control character"),
        ("id:plan", "begins with `id:`"),
        ("name:plan", "begins with `name:`"),
    ] {
        node.run(&["doc", "new", "--name", name]).fails(2, reason);
        node.run(&["doc", "rename", "-", name]).fails(2, reason);
        // Also where a file says it.
        let file = json!({ "name": name }).to_string();
        for strings in ["text", "plain"] {
            node.run_with(&["doc", "import", "--new", "-", "--strings", strings], &file).fails(2, reason);
        }
    }
    node.run(&["space", "create", &"n".repeat(129)]).fails(2, "129 bytes, limit 128");
    node.run(&["doc", "get", "no/where"]).fails(4, "no document `no/where` here");
    // A key may be called like the end of a list.
    let id = made(&node, "menu");
    node.run(&["doc", "set", &id, "/m", r#"{"-":1}"#]).ok();
    node.run(&["doc", "set", "menu", "/m/-", "2"]).ok();
    node.run(&["doc", "set", "menu", "/-", "3"]).ok();
    assert_eq!(node.run(&["doc", "get", "menu"]).ok().json(), json!({ "name": "menu", "m": { "-": 2 }, "-": 3 }));
}

#[test]
fn a_name_is_given_twice_only_by_force_and_then_both_are_listed() {
    let (_home, node) = node();
    let first = made(&node, "plan");
    node.run(&["doc", "new", "--name", "plan"]).fails(2, "there is a document `plan` here already");
    let second = node.run(&["doc", "new", "--name", "plan", "--force"]).ok().text().to_owned();
    let both = node.run(&["doc", "get", "plan"]).fails(2, "`plan` may be 2 documents");
    assert!(both.stderr.contains(&first[..16]) && both.stderr.contains(&second[..16]), "{}", both.stderr);
    assert!(both.stderr.contains("id:"), "{}", both.stderr);
    node.run(&["doc", "rename", &second, "plan b"]).ok();
    assert_eq!(node.json(&["doc", "get", "plan"])["document"], json!(first));
    node.run(&["doc", "rename", "plan b", "plan"]).fails(2, "there is a document `plan` here already");
    assert_eq!(node.json(&["doc", "rename", "plan b", "plan b"])["changes"], json!(0), "it is called so");
    let cafe = made(&node, "caf\u{e9}");
    let renamed = node.json(&["doc", "rename", &cafe, "cafe\u{301}"]);
    assert_eq!(renamed["changes"], json!(1), "another spelling of its own name");
    node.run(&["doc", "rename", "plan b", "caf\u{e9}"]).fails(2, "here already");
    node.run(&["space", "create", "caf\u{e9}"]).ok();
    node.run(&["space", "create", "cafe\u{301}"]).fails(2, "here already");
    node.run(&["space", "leave", "caf\u{e9}", "--force"]).ok();
    node.run(&["space", "create", "work"]).fails(2, "there is a space `work` here already");
    node.run(&["space", "create", "work", "--force"]).ok();
    node.run(&["doc", "ls", "--space", "work"]).fails(2, "`work` may be 2 spaces");
}

#[test]
fn a_space_that_is_said_wins_over_the_environment() {
    let (_home, node) = node();
    let plan = made(&node, "plan");
    let notes = node.json(&["space", "create", "notes"])["space"].as_str().unwrap().to_owned();
    let in_notes = |arguments: &[&str]| {
        let mut command = program(node.directory());
        let output = command.env("ANABRANCH_SPACE", "notes").arg("--json").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(in_notes(&["doc", "get", "work/plan"])["document"], json!(plan));
    assert_eq!(in_notes(&["doc", "get", "plan", "--space", "work"])["document"], json!(plan));
    assert_eq!(in_notes(&["doc", "new", "--name", "work/plan"])["space"], json!(notes));
    assert_eq!(in_notes(&["doc", "get", "work/plan"])["space"], json!(notes), "its exact name");
    assert_eq!(in_notes(&["doc", "get", "work/plan", "--space", "notes"])["space"], json!(notes));
}

#[test]
fn a_list_has_names_sizes_and_dates_and_is_sorted_and_filtered() {
    let (_home, node) = node();
    let (small, large) = (made(&node, "a small one"), made(&node, "large"));
    let nameless = node.run(&["doc", "new"]).ok().text().to_owned();
    node.run(&["doc", "set", &large, "/text", &format!("\"{}\"", "x".repeat(5_000))]).ok();
    let listed = |arguments: &[&str]| {
        let lines = node.run(&[&["--json", "doc", "ls"][..], arguments].concat()).ok().json_lines();
        lines.iter().map(|line| line["document"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut by_id = vec![small.clone(), large.clone(), nameless.clone()];
    by_id.sort_unstable();
    assert_eq!(listed(&[]), by_id);
    assert_eq!(listed(&["--sort", "name"]), [small.clone(), large.clone(), nameless.clone()]);
    assert_eq!(listed(&["--sort", "size"])[0], large);
    assert_eq!(listed(&["--sort", "changed"]).len(), 3);
    assert_eq!(listed(&["l*"]), std::slice::from_ref(&large));
    assert_eq!(listed(&["small"]), [small]);
    assert_eq!(node.run(&["doc", "ls", "nothing*"]).ok().text(), "no name matches");
    let line = node.run(&["--json", "doc", "ls", "large"]).ok().json();
    assert!(line["bytes"].as_u64().unwrap() > 5_000 && line["ops"].as_u64().unwrap() > 5_000, "{line}");
    assert!(line["changed_s"].as_i64().unwrap() > 1_700_000_000 && line["problem"].is_null(), "{line}");
    assert!(node.run(&["doc", "ls", "large"]).ok().stdout.contains("  large  "));
    assert_eq!(node.run(&["doc", "get", &nameless]).ok().json(), json!({}));
}

#[test]
fn two_documents_that_were_given_one_name_while_apart_are_both_there_until_one_is_renamed() {
    let home = tempfile::tempdir().unwrap();
    let here = Node::start(&home.path().join("here"), &["--listen", LOOPBACK, "--announce", "none"]);
    here.run(&["space", "create", "work"]).ok();
    let link = Link::to(here.port());
    let there = Node::start(&home.path().join("there"), &[]);
    let address = here.address_through(link.port());
    let ticket = here.run(&["space", "invite", "--address", &address]).ok().text().to_owned();
    there.run(&["space", "join", &ticket]).ok();
    let both = [&here, &there];
    let meet = |document: &str| wait_for("both have it", || equal_heads(&both, document));

    link.cut();
    let (ours, theirs) = (made(&here, "plan"), made(&there, "plan"));
    here.run(&["doc", "set", "plan", "/by", "\"here\""]).ok();
    there.run(&["doc", "set", "plan", "/by", "\"there\""]).ok();
    link.open();
    meet(&ours);
    meet(&theirs);
    for node in both {
        let listed = node.run(&["--json", "doc", "ls", "plan"]).ok().json_lines();
        assert_eq!(listed.len(), 2, "{listed:?}");
        for command in [&["doc", "get", "plan"][..], &["doc", "set", "plan", "/x", "1"], &["doc", "get", "work/plan"]] {
            let failed = node.run(command).fails(2, "may be 2 documents");
            assert!(failed.stderr.contains(&ours[..16]) && failed.stderr.contains(&theirs[..16]), "{}", failed.stderr);
            assert!(failed.stderr.contains("id:"), "{}", failed.stderr);
        }
        for (id, by) in [(&ours, "here"), (&theirs, "there")] {
            assert_eq!(node.json(&["doc", "get", &format!("id:{}", &id[..16]), "/by"])["value"], json!(by));
            assert_eq!(node.json(&["doc", "get", &format!("work/id:{}", &id[..16]), "/by"])["value"], json!(by));
        }
    }
    let renamed = format!("id:{}", &theirs[..16]);
    here.run(&["doc", "rename", &renamed, "their plan"]).ok();
    meet(&theirs);
    for node in both {
        assert_eq!(node.json(&["doc", "get", "plan"])["document"], json!(ours));
        assert_eq!(node.json(&["doc", "get", "their plan", "/by"])["value"], json!("there"));
    }
}

#[test]
fn many_documents_are_made_by_one_command_or_none_where_a_name_is_bad() {
    let (_home, node) = node();
    made(&node, "plan");
    let names: Vec<String> = (0..2_000).map(|number| format!("note {number}")).collect();
    let text = |names: &[String]| names.join("\r\n");
    for (bad, reason) in [
        ("plan", "line 2001: there is a document `plan` already"),
        ("note 7", "line 2001: there is a document `note 7` already"),
        ("id:x", "line 2001: a document's name begins with `id:`"),
    ] {
        let mut names = names.clone();
        names.push(bad.to_owned());
        node.run_with(&["doc", "new", "--names", "-"], &text(&names)).fails(2, reason);
        assert_eq!(node.run(&["--json", "doc", "ls"]).ok().json_lines().len(), 1, "none was made");
    }
    let ids = node.run_with(&["doc", "new", "--names", "-"], &text(&names)).ok();
    let ids: Vec<&str> = ids.stdout.lines().collect();
    assert_eq!(ids.len(), 2_000);
    assert_eq!(node.json(&["doc", "get", "note 1999"])["document"], json!(ids[1_999]));
    node.run_with(&["doc", "new", "--names", "-", "--force"], "\u{feff}plan\n\nplan\n").ok();
    assert_eq!(node.run(&["--json", "doc", "ls"]).ok().json_lines().len(), 2_003);
    let watched = node.run(&["watch", "--since", "0", "--timeout", "0.5"]).ok();
    assert!(watched.stdout.contains("  note 7  at "), "{}", &watched.stdout[..500]);
}

// Documents are made a hundred at a time, and where one of them failed, the others of its hundred were there without being printed
// or counted. They are saved first now, and told.
#[test]
fn documents_made_before_a_name_was_taken_are_all_printed_and_counted() {
    let (home, node) = node();
    let names: Vec<String> = (0..2_000).map(|number| format!("note {number}")).collect();
    let file = home.path().join("names");
    std::fs::write(&file, names.join("\n")).unwrap();
    let mut command = program(node.directory());
    command.args(["doc", "new", "--names", file.to_str().unwrap()]);
    let making = std::thread::spawn(move || finish(command, "doc new --names".to_owned(), ""));
    let made = || node.run(&["--json", "doc", "ls"]).ok().json_lines().len();
    wait_until("it has begun", || if made() > 0 { Ok(()) } else { Err("none".to_owned()) });
    node.run(&["doc", "new", "--name", "note 1999"]).ok();
    let refused = making.join().unwrap().fails(2, "there is a document `note 1999` here already");
    let printed = refused.stdout.lines().count();
    assert_eq!((printed, made()), (1_999, 2_000));
    assert!(refused.stderr.contains("1999 of 2000 documents are made and saved, no more"), "{}", refused.stderr);
}
