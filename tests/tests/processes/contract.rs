//! What docs/node.md says of all commands, held against each of them: exit codes, one clear line on standard error, one object
//! to a line.

use std::io::Read;
use std::process::Stdio;

use anabranch_tests::processes::command::{program, run};

use super::*;

/// What makes each command fail: its arguments, the exit code, a part of what it says. `PLAN` is a document, `work` its space.
const FAILURES: &[(&[&str], i32, &str)] = &[
    (&["init", "--fold"], 2, "unexpected argument '--fold'"),
    (&["run", "--listen", "foo"], 2, "`foo` is not an address"),
    (&["run", "--dial", "foo"], 2, "`foo` is not an address"),
    (&["run", "--announce", "foo"], 2, "`foo` is not an address"),
    (&["run", "--timeout", "1"], 2, "--timeout is for commands that ask a running node"),
    (&["run"], 1, "is in use by another process"),
    (&["id", "extra"], 2, "unrecognized subcommand 'extra'"),
    (&["id", "name"], 2, "<NAME>"),
    (&["id", "name", "a\u{7}b"], 2, "control character"),
    (&["id", "renew", "now"], 2, "unexpected argument 'now'"),
    (&["id", "--timeout", "soon"], 2, "not a number of seconds"),
    (&["status", "--fold"], 2, "unexpected argument"),
    (&["peers", "--fold"], 2, "unexpected argument"),
    (&["fold"], 2, "unrecognized subcommand 'fold'"),
    (&["peer", "dial", "foo"], 2, "`foo` is not an address"),
    (&["peer", "dial", "/ip4/127.0.0.1/tcp/1", "--timeout", "0.2"], 6, "no session with /ip4/127.0.0.1/tcp/1"),
    (&["peer", "forget", "0000"], 4, "no peer `0000` here: peers go by name, by id"),
    (&["peer", "forget", "/ip4/192.0.2.7/tcp/4510"], 4, "no peer is known at /ip4/192.0.2.7/tcp/4510"),
    (&["peer", "block", "0000"], 4, "no peer `0000` here: peers go by name, by id"),
    (&["peer", "unblock", "0000"], 4, "no peer `0000` here: peers go by name, by id"),
    (&["space", "fold"], 2, "unrecognized subcommand 'fold'"),
    (&["space", "create"], 2, "<NAME>"),
    (&["space", "create", ""], 2, "a space's name is empty"),
    (&["space", "ls", "extra"], 2, "unexpected argument"),
    (&["space", "invite", "nowhere"], 4, "no space `nowhere` here"),
    (&["space", "invite", "--space", "nowhere"], 4, "no space `nowhere` here"),
    (&["space", "invite", "work", "--space", "other"], 2, "which space, `work` or `other`?"),
    (&["space", "invite", "--role", "king"], 2, "a role is `reader`, `writer` or `admin`"),
    (&["space", "invite", "--uses", "0"], 2, "an invite allows 0 uses, it may be 1 to 100"),
    (&["space", "invite", "--uses", "many"], 2, "invalid value 'many'"),
    (&["space", "join"], 2, "<TICKET>"),
    (&["space", "join", "hello"], 2, "this is not a ticket"),
    (&["space", "leave"], 2, "<SPACE>"),
    (&["space", "leave", "nowhere"], 4, "no space `nowhere` here"),
    (&["space", "leave", "work"], 5, "--force"),
    (&["space", "void"], 2, "<ENTRY>"),
    (&["space", "void", "nothing"], 2, "`nothing` is no entry"),
    (&["space", "members", "--space", "nowhere"], 4, "no space `nowhere` here"),
    (&["doc", "new", "--space", "nowhere"], 4, "no space `nowhere` here"),
    (&["doc", "new", "--name", ""], 2, "a document's name is empty"),
    (&["doc", "new", "--names", "/nonexistent/names"], 2, "cannot read /nonexistent/names"),
    (&["doc", "new", "--names", "-", "--name", "plan"], 2, "cannot be used with"),
    (&["doc", "rename", "nothing", "other"], 4, "no document `nothing` here"),
    (&["doc", "rename", "PLAN"], 2, "<NAME>"),
    (&["doc", "revert", "nothing", "--to", "ffff0000"], 4, "no document `nothing` here"),
    (&["doc", "revert", "PLAN", "--to", "ffff0000"], 4, "is not in this document"),
    (&["doc", "ls", "--space", "nowhere"], 4, "no space `nowhere` here"),
    (&["doc", "get"], 2, "<DOC>"),
    (&["doc", "get", "nothing"], 4, "no document `nothing` here"),
    (&["doc", "get", "PLAN", "/zzz"], 4, "there is nothing at `/zzz`"),
    (&["doc", "get", "PLAN", "/zzz~"], 2, "`~` in a path stands for nothing"),
    (&["doc", "get", "PLAN", "--at", "ffff0000"], 4, "is not in this document"),
    (&["doc", "set", "PLAN", "/x/y", "1"], 4, "there is nothing at `/x`"),
    (&["doc", "set", "PLAN", "/x", "{\"a\":}"], 2, "malformed JSON in the value"),
    (&["doc", "set", "PLAN", "/text/a", "1"], 2, "`/text` is a text"),
    (&["doc", "set", "nothing", "/x", "1"], 4, "no document `nothing` here"),
    (&["doc", "edit", "nothing"], 4, "no document `nothing` here"),
    (&["doc", "edit", "PLAN", "--batch", "0"], 2, "invalid value '0'"),
    (&["doc", "rm", "PLAN", "/zzz"], 4, "there is nothing at `/zzz`"),
    (&["doc", "import", "PLAN"], 2, "say which file to import"),
    (&["doc", "import", "PLAN", "/nonexistent/in.json"], 2, "cannot read /nonexistent/in.json"),
    (&["doc", "export", "nothing"], 4, "no document `nothing` here"),
    (&["doc", "export", "PLAN", "--out", "/nonexistent/out.json"], 1, "cannot write /nonexistent/out.json"),
    (&["doc", "log", "nothing"], 4, "no document `nothing` here"),
    (&["doc", "log", "PLAN", "-n", "0"], 2, "invalid value '0'"),
    (&["doc", "diff", "PLAN"], 2, "<FROM>"),
    (&["doc", "diff", "PLAN", "ffff0000"], 4, "is not in this document"),
    (&["doc", "text", "PLAN", "/list"], 2, "`/list` is not a text"),
    (&["doc", "text", "PLAN", "/zzz"], 4, "there is nothing at `/zzz`"),
    (&["doc", "text", "PLAN", "/text", "/nonexistent"], 2, "cannot read /nonexistent"),
    (&["doc", "conflicts", "nothing"], 4, "no document `nothing` here"),
    (&["doc", "resolve", "nothing", "/x", "--take", "1"], 4, "no document `nothing` here"),
    (&["doc", "resolve", "PLAN", "/text", "--take", "1"], 4, "there is no conflict at `/text`"),
    (&["doc", "resolve", "PLAN", "/text", "--take", "yours"], 2, "it is a number from 1 on, or `shown`"),
    (&["doc", "resolve", "PLAN", "/text"], 2, "--take"),
    (&["doc", "resolve", "PLAN", "--all", "--take", "2"], 2, "this is for one place"),
    (&["watch", "--doc", "nothing"], 4, "no document `nothing` here"),
    (&["watch", "--space", "nowhere"], 4, "no space `nowhere` here"),
    (&["watch", "--since", "then"], 2, "invalid value 'then'"),
    (&["wait-synced", "--space", "nowhere"], 4, "no space `nowhere` here"),
    (&["wait-synced", "--peer", "0000"], 4, "no peer `0000` here: peers go by name, by id"),
    (&["demo", "--keep", "/proc"], 2, "is not empty"),
    (&["check", "--fold"], 2, "unexpected argument"),
    (&["check"], 1, "is in use by another process"),
    (&["completions"], 2, "<SHELL>"),
    (&["completions", "csh"], 2, "invalid value 'csh'"),
    (&["man", "--out", "/nonexistent/folder"], 1, "cannot write pages to /nonexistent/folder"),
];

/// What each command does, in this order; each prints objects with `--json`.
const SUCCESSES: &[&[&str]] = &[
    &["id"],
    &["id", "name", "desk"],
    &["status"],
    &["peers"],
    &["space", "ls"],
    &["space", "invite"],
    &["space", "invite", "--space", "work", "--role", "reader"],
    &["space", "members"],
    &["space", "members", "work"],
    &["doc", "new"],
    &["doc", "new", "--names", "-"],
    &["doc", "ls"],
    &["doc", "get", "PLAN"],
    &["doc", "get", "PLAN", "/text"],
    &["doc", "set", "PLAN", "/x", "1"],
    &["doc", "edit", "PLAN", "--each"],
    &["doc", "rm", "PLAN", "/x"],
    &["doc", "text", "PLAN", "/text"],
    &["doc", "log", "PLAN"],
    &["doc", "log", "PLAN", "-n", "2", "-p", "--reverse"],
    &["doc", "conflicts", "PLAN"],
    &["doc", "resolve", "PLAN", "--all", "--take", "shown"],
    &["watch", "--since", "0", "--timeout", "0.5"],
    &["watch", "--doc", "PLAN", "--timeout", "0.2"],
    &["wait-synced"],
    &["space", "create", "another"],
    &["space", "leave", "another"],
];

fn node_with_plan(home: &Path) -> (Node, String) {
    let node = Node::start(&home.join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let plan = new_document(&node, "plan", &json!({ "list": [1], "text": "words" }));
    (node, plan)
}

fn with_plan<'a>(arguments: &[&'a str], plan: &'a str) -> Vec<&'a str> {
    arguments.iter().map(|word| if *word == "PLAN" { plan } else { word }).collect()
}

#[test]
fn every_command_fails_with_its_code_and_one_clear_line() {
    let home = tempfile::tempdir().unwrap();
    let (mut node, plan) = node_with_plan(home.path());
    for (arguments, code, says) in FAILURES {
        let arguments = with_plan(arguments, &plan);
        let failed = node.run(&arguments).expect(*code);
        let lines: Vec<&str> = failed.stderr.lines().collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("anabranch: ") && lines[0].contains(says),
            "`{}` should say `{says}` in one line, it said: {}",
            failed.command,
            failed.stderr,
        );
        assert_eq!(failed.stdout, "", "`{}`", failed.command);

        let failed = node.run(&[&["--json"], &arguments[..]].concat()).expect(*code);
        assert_eq!(failed.stderr.lines().count(), 1, "`{}` said: {}", failed.command, failed.stderr);
        let object: Value = serde_json::from_str(&failed.stderr).unwrap();
        assert_eq!(object["error"]["code"], *code, "`{}`", failed.command);
        for name in ["exit", "reason"] {
            assert!(object["error"][name].is_string(), "`{}`: {object}", failed.command);
        }
        assert!(object["error"]["message"].as_str().is_some_and(|text| text.contains(says)), "{object}");
        assert_eq!(failed.stdout, "", "`{}`", failed.command);
    }
    assert!(node.is_running());
}

#[test]
fn every_command_without_a_node_says_that_there_is_none() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("none");
    for arguments in SUCCESSES {
        run(&directory, &with_plan(arguments, "plan"), "").fails(3, "no node is running on");
    }
    assert!(!directory.exists(), "asking makes nothing");
    // What is wrong with the arguments of `run` is noticed before anything is made.
    run(&directory, &["run", "--listen", "foo"], "").fails(2, "`foo` is not an address");
    assert!(!directory.exists());
}

#[test]
fn every_command_ends_in_the_time_that_it_was_given() {
    let home = tempfile::tempdir().unwrap();
    let (node, plan) = node_with_plan(home.path());
    let waiting: &[&[&str]] = &[&["peer", "dial", "/ip4/127.0.0.1/tcp/1"], &["peer", "forget", "/ip4/192.0.2.7/tcp/1"]];
    node.suspend();
    for arguments in SUCCESSES.iter().chain(waiting) {
        let mut arguments = with_plan(arguments, &plan);
        if !arguments.contains(&"--timeout") {
            arguments.extend(["--timeout", "0.2"]);
        }
        let asked = Stopwatch::start();
        let finished = node.run(&arguments);
        if arguments[0] == "watch" {
            finished.ok();
        } else {
            finished.fails(6, "the node has not answered within 0.2 s; what was asked may still be done");
        }
        assert!(asked.elapsed() < Duration::from_secs(10), "{arguments:?}: {:?}", asked.elapsed());
    }
    node.proceed();
    // An input that does not end.
    for (arguments, says) in [
        (&["doc", "edit", "PLAN"][..], "its input has not ended"),
        (&["doc", "edit", "PLAN", "--batch", "2"], "its input has not ended"),
        (&["doc", "edit", "PLAN", "--each"], "the input has not ended within 0.5 s: 0 edits made"),
        (&["doc", "import", "PLAN", "-"], "its input has not ended"),
        (&["doc", "import", "--new", "-"], "its input has not ended"),
        (&["doc", "set", "PLAN", "/x", "-"], "its input has not ended"),
        (&["doc", "text", "PLAN", "/text", "-"], "its input has not ended"),
        (&["space", "join", "-"], "its input has not ended"),
    ] {
        let mut command = program(node.directory());
        command.args(with_plan(arguments, &plan)).args(["--timeout", "0.5"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(6) && said.contains(says), "{arguments:?}: {:?}: {said}", output.status);
    }
    // An output that nobody reads.
    let long = json!({ "text": "x".repeat(1_000_000) }).to_string();
    // Commands that were not answered in time have made a space.
    node.run_with(&["doc", "import", &plan, "-", "--space", "work"], &long).ok();
    let mut command = program(node.directory());
    command.args(["doc", "export", &plan, "--space", "work", "--timeout", "0.5"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = ended(child);
    assert!(ended.contains("its output is not read"), "{ended}");
}

/// What a command says that ends with code 6 though nobody reads its output.
fn ended(mut child: std::process::Child) -> String {
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(6));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn every_command_prints_one_object_to_a_line() {
    let home = tempfile::tempdir().unwrap();
    let (node, plan) = node_with_plan(home.path());
    for arguments in SUCCESSES {
        let arguments = with_plan(arguments, &plan);
        let done = node.run(&[&["--json"], &arguments[..]].concat()).ok();
        assert!(done.json_lines().iter().all(Value::is_object), "`{}`: {}", done.command, done.stdout);
        assert_eq!(done.stderr, "", "`{}`", done.command);
    }
}

#[test]
fn every_command_of_the_grammar_is_in_these_tables() {
    let home = tempfile::tempdir().unwrap();
    let pages = home.path().join("pages");
    std::fs::create_dir(&pages).unwrap();
    run(&home.path().join("none"), &["man", "--out", pages.to_str().unwrap()], "").ok();
    let names: Vec<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".1").to_owned())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in &names {
        let is_group = names.iter().any(|other| other.starts_with(&format!("{name}-")));
        let words = name.trim_start_matches("anabranch").trim_start_matches('-');
        let is_tested =
            FAILURES.iter().any(|(arguments, ..)| arguments.join("-").starts_with(words) && !words.is_empty());
        assert!(is_group || is_tested || words.ends_with("help"), "`{words}` has no line in the table of failures");
    }
}
