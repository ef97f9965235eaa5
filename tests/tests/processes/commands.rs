//! Each command does what its help says, for people and for programs.

use anabranch_tests::processes::command::{finish, program, run};
use anabranch_tests::processes::socket::strings;

use super::*;

#[test]
fn a_newcomer_can_make_a_replica_and_look_around() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("new");
    let asked = run(&directory, &["status"], "").fails(3, "no node is running on");
    assert!(asked.stderr.contains(&format!("start one with `anabranch run --dir {}`", directory.display())));
    let made = run(&directory, &["--json", "init"], "").ok().json();
    assert_eq!(made["created"], true);
    let again = run(&directory, &["init"], "").ok();
    assert!(again.stdout.contains("there is a replica already"), "{}", again.stdout);
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("identity"))), (0o700, 0o600));

    let mut node = Node::start(&directory, &["--listen", LOOPBACK]);
    assert_eq!(mode(&directory.join("node.sock")), 0o600);
    assert_eq!(json!(node.device()), made["device"]);
    assert!(node.run(&["id"]).ok().stdout.contains(&node.device()));
    let status = node.json(&["status"]);
    assert_eq!(status["device"], made["device"]);
    assert_eq!(status["stopped"], Value::Null);
    assert!(strings(&status["listening"])[0].ends_with(&node.peer_id()));
    assert!(node.run(&["status"]).ok().stdout.contains("listening  /ip4/127.0.0.1/tcp/"));
    assert!(node.run(&["space", "ls"]).ok().stdout.contains("no spaces here"));
    node.run(&["doc", "ls"]).fails(4, "there is no space here");
    assert!(node.run(&["peers"]).ok().stdout.contains("no peers are known"));
    assert!(run(&directory, &["--help"], "").ok().stdout.contains("no node is running on the directory"));
    run(&directory, &["fold"], "").expect(2);
    assert!(node.is_running());
}

#[test]
fn a_node_that_is_asked_to_end_ends_cleanly_and_one_that_was_killed_starts_again() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let mut node = Node::start(&directory, &[]);
    node.run(&["space", "create", "work"]).ok();
    let document = new_document(&node, "plan", &json!({ "n": 0 }));
    for (number, signal) in [("1", "TERM"), ("2", "INT")] {
        // Not waited for: closing cleanly saves it.
        node.run(&["doc", "set", &document, "/n", number, "--no-wait"]).ok();
        assert_eq!(node.stop(signal), Some(0));
        assert!(!directory.join("node.sock").exists());
        node = Node::start(&directory, &[]);
        assert_eq!(node.run(&["doc", "get", "plan", "/n"]).ok().text(), number);
    }
    node.kill();
    assert!(directory.join("node.sock").exists(), "a killed node leaves its socket");
    run(&directory, &["id"], "").fails(3, "no node is running");
    let node = Node::start(&directory, &[]);
    assert_eq!(node.run(&["doc", "get", "plan", "/n"]).ok().text(), "2");
    assert!(node.json(&["status"])["epoch"].as_u64().unwrap() >= 4);
}

#[test]
fn documents_are_made_edited_and_read_by_name_and_by_digits() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let node = Node::start(&directory, &[]);
    node.run(&["doc", "new"]).fails(4, "there is no space here");
    let space = node.json(&["space", "create", "work"])["space"].as_str().unwrap().to_owned();
    let id = node.run(&["doc", "new", "--name", "plan"]).ok().text().to_owned();
    assert_eq!(id.len(), 32);

    node.run(&["doc", "set", "plan", "/items", "[]"]).ok();
    node.run(&["doc", "set", &id[..8], "/items/-", r#"{"title":"tent","n":2.5}"#]).ok();
    node.run(&["doc", "set", &format!("work/{id}"), "/items/1", "\"rope\""]).ok();
    node.run(&["doc", "set", "work/plan", "/done", "-"]).fails(2, "malformed JSON in standard input");
    node.run_with(&["doc", "set", &format!("{}/plan", &space[..6]), "/done", "-"], "false\n").ok();
    let whole = node.run(&["doc", "get", "plan"]).ok().json();
    let expected = json!({ "name": "plan", "items": [{ "title": "tent", "n": 2.5 }, "rope"], "done": false });
    assert_eq!(whole, expected);
    assert_eq!(node.run(&["doc", "get", "plan", "/items/0/title"]).ok().text(), "\"tent\"");
    assert_eq!(node.run(&["doc", "get", "plan", "/items/0/title", "--raw"]).ok().text(), "tent");
    node.run(&["doc", "get", "plan", "/nowhere"]).fails(4, "there is nothing at `/nowhere`");
    node.run(&["doc", "get", "nothing"]).fails(4, "no document `nothing` here");
    node.run(&["doc", "get", &"0".repeat(32)]).fails(4, "was never made, or has not arrived yet");
    node.run(&["doc", "set", "plan", "/a/b/c", "1"]).fails(4, "there is nothing at `/a`");

    // The past can be read.
    let before = strings(&node.json(&["doc", "get", "plan"])["heads"]).join(",");
    node.run(&["doc", "rm", "plan", "/items/0"]).ok();
    assert_eq!(node.run(&["doc", "get", "plan", "/items"]).ok().json(), json!(["rope"]));
    assert_eq!(node.run(&["doc", "get", "plan", "--at", &before]).ok().json(), expected);
    assert_eq!(node.run(&["doc", "get", "plan", "--at", &before[..10]]).ok().json(), expected);
    node.run(&["doc", "get", "plan", "--at", "ffff0000"]).fails(4, "is not in this document");
    let log = node.run(&["--json", "doc", "log", "plan"]).ok().json_lines();
    assert_eq!(log.len(), 6);
    assert_eq!(log[0]["deps"], json!([]));
    assert!(log.iter().all(|change| change["device"] == json!(node.device())));
    assert_eq!(node.run(&["doc", "log", "plan"]).ok().stdout.lines().count(), 6);

    // Two of one name have to be told apart.
    let other = node.run(&["doc", "new", "--name", "plan", "--force"]).ok().text().to_owned();
    let both = node.run(&["doc", "get", "plan"]).fails(2, "`plan` may be 2 documents");
    assert!(both.stderr.contains(&id[..16]) && both.stderr.contains(&other[..16]));
    let listed = node.run(&["--json", "doc", "ls"]).ok().json_lines();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|line| line["name"] == "plan"));
    node.run(&["doc", "set", &other, "/name", "\"second plan\""]).ok();
    node.run(&["doc", "get", "second plan"]).ok();
    node.run(&["space", "create", "home"]).ok();
    node.run(&["doc", "get", "plan"]).fails(2, "which space?");
    node.run(&["doc", "get", "plan", "--space", "work"]).ok();
    let left = node.json(&["space", "leave", "home"]);
    assert_eq!(left["name"], "home");
    node.run(&["doc", "get", "plan"]).ok();
}

#[test]
fn many_edits_go_in_one_command() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let node = Node::start(&directory, &[]);
    node.run(&["space", "create", "work"]).ok();
    let document = new_document(&node, "plan", &json!({ "text": "", "list": [], "old": 1 }));
    let lines = [
        r#"{"op":"splice","path":"/text","pos":0,"ins":"héllo wörld"}"#,
        "",
        r#"{"op":"splice","path":"/text","pos":0,"del":5,"ins":"goodbye"}"#,
        r#"{"op":"insert","path":"/list/0","value":"b"}"#,
        r#"{"op":"insert","path":"/list/0","value":"a"}"#,
        r#"{"op":"counter","path":"/count","value":40}"#,
        r#"{"op":"increment","path":"/count","by":2}"#,
        r#"{"op":"remove","path":"/old"}"#,
    ];
    let made = node.run_with(&["--json", "doc", "edit", "plan"], &lines.join("\n")).ok().json();
    assert_eq!((&made["edits"], &made["changes"], &made["saved"]), (&json!(7), &json!(1), &json!(true)));
    let (heads, content) = node.socket().get(&document, "").unwrap();
    assert_eq!(heads, strings(&made["heads"]));
    let expected = json!({ "name": "plan", "text": "goodbye wörld", "list": ["a", "b"], "count": 42 });
    assert_eq!(content, expected);

    // One that fails takes the others of its change with it.
    let bad = "{\"op\":\"set\",\"path\":\"/a\",\"value\":1}\n\n{\"op\":\"remove\",\"path\":\"/none\"}\n";
    node.run_with(&["doc", "edit", "plan"], bad).fails(4, "there is nothing at `/none`");
    assert_eq!(node.socket().get(&document, "").unwrap().1, expected);
    // With a change for each, what was made before it stays.
    node.run_with(&["doc", "edit", "plan", "--each"], bad)
        .fails(4, "line 3: there is nothing at `/none` (1 edit made before it)");
    assert_eq!(node.run(&["doc", "get", "plan", "/a"]).ok().text(), "1");

    let many: String = (0..1_000).map(|i| format!("{{\"op\":\"set\",\"path\":\"/n\",\"value\":{i}}}\n")).collect();
    let made = node.run_with(&["--json", "doc", "edit", "plan", "--batch", "300"], &many).ok().json();
    assert_eq!((&made["edits"], &made["changes"]), (&json!(1000), &json!(4)));
    // What the batches before made stays, and the failure says so.
    let set = "{\"op\":\"set\",\"path\":\"/n\",\"value\":0}\n";
    for (last, code) in [("{\"op\":\"remove\",\"path\":\"/none\"}", 4), ("no", 2)] {
        let lines = format!("{set}{set}{set}{last}");
        node.run_with(&["doc", "edit", "plan", "--batch", "2"], &lines).fails(code, "(2 edits made before it)");
    }
    let acks =
        node.run_with(&["--json", "doc", "edit", "plan", "--each", "--ack"], &many[..many.len() / 20]).fails(2, "line");
    assert!(acks.json_lines().iter().enumerate().all(|(i, ack)| ack["line"] == json!(i + 1) && ack["saved"] == true));
    let made = node.run_with(&["doc", "edit", "plan", "--each", "--no-wait"], &many).ok();
    assert!(made.stdout.contains("1000 edits in 1000 changes, not yet saved"), "{}", made.stdout);
}

#[test]
fn json_goes_in_and_comes_out_the_same() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    let paper: Sequential = trace::load("automerge-paper.json.gz");
    let value = json!({
        "paper": paper.end_content,
        "numbers": [0, -1, 9_007_199_254_740_993_i64, 0.1, 1.0e-7, 123_456.789],
        "words": { "": "empty key", "a/b": "slash", "~": "tilde", "ünï": "\u{1F600} and \t" },
        "nothing": [null, true, false, {}, [], ""],
        "rows": (0..30_000).map(|i| json!({ "i": i })).collect::<Vec<_>>(),
    });
    let file = home.path().join("in.json");
    std::fs::write(&file, value.to_string()).unwrap();
    let path = file.to_str().unwrap();
    let imported = node.json(&["doc", "import", "--new", path, "--name", "big"]);
    assert!(imported["changes"].as_u64().unwrap() > 1, "{imported}");
    let mut expected = value.clone();
    expected["name"] = json!("big");
    assert_eq!(node.run(&["doc", "export", "big"]).ok().json(), expected);
    let out = home.path().join("out.json");
    node.run(&["doc", "export", "big", "--out", out.to_str().unwrap()]).ok();
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(written, expected);
    // In place of what a document says.
    let small = json!({ "name": "big", "small": 1 });
    let imported = node.run_with(&["doc", "import", "big", "-"], &small.to_string()).ok();
    assert!(imported.stdout.contains("imported in 1 change, saved"), "{}", imported.stdout);
    assert_eq!(node.run(&["doc", "get", "big"]).ok().json(), small);
    node.run(&["doc", "import", "big"]).fails(2, "say which file");
    node.run(&["doc", "import", "big", "/no/such/file"]).fails(2, "cannot read /no/such/file");
}

#[test]
fn members_see_each_other_and_what_changes() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({ "n": 0 }));
    trio.agree(&document);
    let members = trio.reader.run(&["--json", "space", "members"]).ok().json_lines();
    let mut roles: Vec<&str> = members.iter().filter_map(|member| member["role"].as_str()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["admin", "reader", "writer"]);
    assert!(trio.reader.run(&["space", "members"]).ok().stdout.contains("(this device)"));
    for node in trio.nodes() {
        let synced = node.run(&["--json", "wait-synced", "--timeout", "60"]).ok().json_lines();
        assert_eq!(synced.len(), 1);
        assert!(!strings(&synced[0]["peers"]).is_empty(), "{synced:?}");
    }
    let founder = trio.founder.device();
    trio.writer.run(&["wait-synced", "--peer", &founder[..8], "--space", "expedition", "--timeout", "60"]).ok();
    let peers = trio.writer.run(&["--json", "peers"]).ok().json_lines();
    assert!(peers.iter().any(|peer| peer["device"] == json!(founder) && peer["in_sync"] == true), "{peers:?}");

    // The feed, from its beginning and as it grows; and one document's changes.
    let mut feed = watch(trio.reader.directory(), &["watch", "--since", "0"]);
    assert_eq!(feed.next_line()["document"], json!(document));
    let mut changes = watch(trio.reader.directory(), &["watch", "--doc", "plan"]);
    // Another number each time: to set what is there changes nothing.
    let mut number = 0;
    wait_until("the change is seen by both", || {
        number += 1;
        trio.writer.run(&["doc", "set", "plan", "/n", &number.to_string()]).ok();
        changes.seen("/n").and_then(|()| feed.seen(&document))
    });

    // Cut off, it says so.
    trio.to_writer.cut();
    wait_until("the writer is alone", || {
        let late = trio.writer.run(&["wait-synced", "--timeout", "0.3"]);
        match late.stderr.contains("no member is connected") && late.code == Some(6) {
            true => Ok(()),
            false => Err(format!("{late:?}")),
        }
    });
    let late = trio.writer.run(&["wait-synced", "--peer", &founder, "--timeout", "0.3"]);
    late.fails(6, "is not connected");
}

/// A command that goes on printing.
struct Watching {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<Value>,
}

fn watch(directory: &Path, arguments: &[&str]) -> Watching {
    use std::io::BufRead;
    let mut command = program(directory);
    command.arg("--json").args(arguments).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = std::sync::mpsc::sync_channel(1_000);
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if send.send(serde_json::from_str(&line).unwrap()).is_err() {
                return;
            }
        }
    });
    Watching { child, lines }
}

impl Watching {
    fn next_line(&mut self) -> Value {
        self.lines.recv_timeout(anabranch_tests::processes::patience::PATIENCE).expect("a line comes")
    }

    /// Whether a line with `text` in it has come soon.
    fn seen(&mut self, text: &str) -> Result<(), String> {
        match self.lines.recv_timeout(Duration::from_secs(2)) {
            Ok(line) if line.to_string().contains(text) => Ok(()),
            Ok(line) => Err(line.to_string()),
            Err(_) => Err("nothing yet".to_owned()),
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_tells_its_story_and_leaves_its_stores() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let clock = Stopwatch::start();
    let told = run(&directory, &["demo"], "").ok();
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    for part in ["The link to Carol is cut", "The link heals", "Written by two at once: /meet at", "All three agree"] {
        assert!(told.stdout.contains(part), "the story lacks `{part}`:\n{}", told.stdout);
    }
    println!("{}", told.stdout);

    let keep = home.path().join("kept");
    let mut command = program(&directory);
    command.args(["--json", "demo", "--keep"]).arg(&keep);
    let outcome = finish(command, "demo --keep".to_owned(), "").ok().json();
    assert_eq!(outcome["agree"], true);
    assert_eq!(outcome["content"]["cost"], 35);
    assert_eq!(outcome["content"]["notes"], "Leave early. Bring rope. Check the tide. ");
    assert_eq!(outcome["conflicts"][0]["values"].as_array().unwrap().len(), 2);
    assert!(outcome["bytes"].as_u64().unwrap() > 0);
    run(&directory, &["demo", "--keep", keep.to_str().unwrap()], "").fails(2, "is not empty");
    // The stores are what an ordinary node runs on.
    let carol = Node::start(&keep.join("carol"), &[]);
    assert_eq!(carol.run(&["doc", "get", "River trip", "/cost"]).ok().text(), "35");
}
