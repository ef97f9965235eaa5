//! A replica's directory is copied and both run: all sides say so, and `id renew` sets it right without losing what was edited.

use super::*;

/// A founder, and a member whose directory was copied. Nothing runs of the member and of the copy.
struct Copied {
    founder: Node,
    original: std::path::PathBuf,
    copy: std::path::PathBuf,
    plan: String,
    home: tempfile::TempDir,
}

impl Copied {
    fn make() -> Self {
        let home = tempfile::tempdir().unwrap();
        let founder = Node::start(&home.path().join("founder"), &["--listen", LOOPBACK]);
        founder.run(&["space", "create", "work"]).ok();
        let plan = new_document(&founder, "plan", &json!({ "n": 0 }));
        let original = home.path().join("original");
        let member = Node::start(&original, &[]);
        member.run(&["space", "join", &ticket(&founder, "writer")]).ok();
        member.run(&["wait-synced"]).ok();
        assert_eq!(member.stop("TERM"), Some(0));
        let copy = home.path().join("copy");
        copy_directory(&original, &copy);
        Self { founder, original, copy, plan, home }
    }

    fn start(&self, directory: &Path) -> Node {
        let founder = self.founder.address_through(self.founder.port());
        Node::start(directory, &["--dial", &founder])
    }
}

fn ticket(founder: &Node, role: &str) -> String {
    founder.run(&["space", "invite", "--role", role]).ok().text().to_owned()
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Waits until each of these nodes has this value of the plan.
#[track_caller]
fn agree(nodes: &[&Node], plan: &str, key: &str, value: &Value) {
    wait_until("the edit is everywhere", || {
        for node in nodes {
            let (_, now) = node.socket().get(plan, "")?;
            if now[key] != *value {
                return Err(format!("{}: {now}", node.directory().display()));
            }
        }
        Ok(())
    });
}

fn device_in<'a>(peers: &'a [Value], device: &str) -> Option<&'a Value> {
    peers.iter().find(|peer| peer["device"] == device)
}

#[test]
fn copied_machines_are_named_on_all_sides_and_a_renewed_key_ends_it() {
    let copied = Copied::make();
    let (original, mut copy) = (copied.start(&copied.original), copied.start(&copied.copy));
    let (founder, plan) = (&copied.founder, &copied.plan);
    let device = original.device();
    assert_eq!(device, copy.device());
    wait_until("everybody sees that there are two", || {
        let peers = founder.run(&["--json", "peers"]).ok().json_lines();
        let seen_by_peer = device_in(&peers, &device).is_some_and(|peer| peer["copied"]["now"] == true);
        let seen_by_both = [&original, &copy].iter().all(|node| node.json(&["status"])["copied"]["now"] == true);
        if seen_by_peer && seen_by_both { Ok(()) } else { Err(format!("{seen_by_peer} {seen_by_both}")) }
    });
    let status = original.run(&["status"]).ok();
    assert!(status.stdout.contains("another process acts as this device now"), "{}", status.stdout);
    assert!(status.stdout.contains("id renew"), "{}", status.stdout);
    let peers = founder.run(&["peers"]).ok();
    assert!(peers.stdout.contains("several processes act as it now"), "{}", peers.stdout);
    let spaces = founder.run(&["--json", "space", "ls"]).ok().json_lines();
    assert_eq!(spaces[0]["peers"].as_array().unwrap().len(), 1, "one device is one peer: {}", spaces[0]);
    // What either writes is kept.
    original.run(&["doc", "set", plan, "/original", "1"]).ok();
    copy.run(&["doc", "set", plan, "/copy", "1"]).ok();
    agree(&[founder, &original, &copy], plan, "original", &json!(1));
    agree(&[founder, &original, &copy], plan, "copy", &json!(1));

    let renewed = copy.json(&["id", "renew"]);
    assert_eq!(renewed["former"], device);
    assert_ne!(renewed["device"], device);
    assert_eq!(
        (&renewed["spaces"][0]["name"], &renewed["spaces"][0]["held_elsewhere"]),
        (&json!("work"), &json!(true))
    );
    let new_device = renewed["device"].as_str().unwrap().to_owned();
    assert_eq!(copy.json(&["id"])["device"], new_device, "the node goes on under the new key");
    assert!(copy.is_running());
    wait_until("one is left under the old key", || {
        let peers = founder.run(&["--json", "peers"]).ok().json_lines();
        let now = device_in(&peers, &device).map(|peer| peer["copied"]["now"].clone());
        let told = original.json(&["status"])["copied"]["now"].clone();
        if now == Some(json!(false)) && told == false { Ok(()) } else { Err(format!("{now:?} {told}")) }
    });
    assert!(copy.json(&["status"])["copied"].is_null(), "nobody else has the new key");

    // Until it is let in, it reads and edits what it has, and says what it needs.
    let space = copy.run(&["--json", "space", "ls"]).ok().json_lines().remove(0);
    assert_eq!((&space["needs_ticket"], &space["former"]), (&json!(true), &json!(device)));
    let status = copy.run(&["status"]).ok();
    assert!(status.stdout.contains("needs a ticket, as the key of this device was renewed"), "{}", status.stdout);
    assert_eq!(copy.json(&["doc", "get", plan])["value"]["copy"], 1);
    copy.run(&["doc", "set", plan, "/offline", "1"]).ok();
    copy.run(&["doc", "new", "--name", "made offline"]).ok();
    copy.run(&["id", "renew"]).fails(5, "the space `work` has not let this device in yet");
    // A restart changes nothing of that.
    assert_eq!(copy.stop("TERM"), Some(0));
    let copy = copied.start(&copied.copy);
    assert_eq!(copy.device(), new_device);
    copy.run(&["doc", "set", plan, "/later", "1"]).ok();
    assert!(founder.run(&["doc", "get", plan, "/offline"]).code == Some(4), "nobody has let it in");

    copy.run(&["space", "join", &ticket(founder, "writer")]).ok();
    for key in ["offline", "later"] {
        agree(&[founder, &original, &copy], plan, key, &json!(1));
    }
    wait_until("the document that was made offline is everywhere", || {
        let found = founder.run(&["doc", "get", "made offline"]);
        if found.code == Some(0) { Ok(()) } else { Err(found.stderr) }
    });
    copy.run(&["doc", "set", plan, "/admitted", "1"]).ok();
    agree(&[founder, &original, &copy], plan, "admitted", &json!(1));
    let space = copy.run(&["--json", "space", "ls"]).ok().json_lines().remove(0);
    assert_eq!((&space["role"], &space["former"]), (&json!("writer"), &Value::Null));
    let members = founder.run(&["--json", "space", "members"]).ok().json_lines();
    assert!(members.iter().any(|member| member["device"] == new_device));
    drop(copied.home);
}

#[test]
fn edits_of_a_copy_that_no_peer_has_survive_its_renewal() {
    let copied = Copied::make();
    let plan = &copied.plan;
    // It never meets anybody before its key is renewed.
    let copy = Node::start(&copied.copy, &[]);
    copy.run(&["doc", "set", plan, "/unsent", "\"under the old key\""]).ok();
    copy.run(&["id", "renew", "--timeout", "0.2"]).ok();
    wait_until("it goes on", || {
        let found = copy.run(&["doc", "set", plan, "/new", "\"under the new key\""]);
        if found.code == Some(0) { Ok(()) } else { Err(found.stderr) }
    });
    assert_eq!(copy.stop("TERM"), Some(0));
    let copy = copied.start(&copied.copy);
    copy.run(&["space", "join", &ticket(&copied.founder, "writer")]).ok();
    let original = copied.start(&copied.original);
    agree(&[&copied.founder, &original], plan, "unsent", &json!("under the old key"));
    agree(&[&copied.founder, &original], plan, "new", &json!("under the new key"));
}

#[test]
fn a_key_is_renewed_where_no_node_runs_and_a_refused_ticket_takes_nothing_away() {
    let copied = Copied::make();
    let plan = &copied.plan;
    let former = anabranch_tests::processes::command::run(&copied.copy, &["id", "renew", "--json"], "").ok().json();
    assert_eq!(former["spaces"][0]["held_elsewhere"], Value::Null);
    assert!(Path::new(former["former_identity"].as_str().unwrap()).exists());
    // One use, and it is taken.
    let used = ticket(&copied.founder, "writer");
    let other = Node::start(&copied.home.path().join("other"), &[]);
    other.run(&["space", "join", &used]).ok();
    let copy = copied.start(&copied.copy);
    copy.run(&["doc", "set", plan, "/kept", "1"]).ok();
    copy.run(&["space", "join", &used]).fails(5, "has already been used");
    assert_eq!(copy.json(&["doc", "get", plan])["value"]["kept"], 1);
    // As a reader it may not bring what it wrote; nothing of it is given up.
    copy.run(&["space", "join", &ticket(&copied.founder, "reader")]).ok();
    assert!(copy.run(&["space", "ls"]).ok().stdout.contains("stays here, as this device may only read"));
    copy.run(&["id", "renew"]).fails(5, "the space `work` has not let this device in yet");
    copy.run(&["space", "join", &ticket(&copied.founder, "writer")]).ok();
    agree(&[&copied.founder], plan, "kept", &json!(1));
    assert!(!copy.run(&["space", "ls"]).ok().stdout.contains("stays here"));
}

#[test]
fn renewing_the_key_of_the_only_admin_asks_for_force_and_a_refusal_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "solo"]).ok();
    let plan = new_document(&node, "plan", &json!({ "n": 1 }));
    let device = node.device();
    node.run(&["id", "renew"]).fails(5, "the only admin of the space `solo`");
    assert_eq!(node.json(&["id"])["device"], device);
    let renewed = node.json(&["id", "renew", "--force"]);
    // It can be asked as soon as the command has ended.
    assert_eq!(node.json(&["id"])["device"], renewed["device"]);
    assert_eq!(node.json(&["doc", "get", &plan])["value"]["n"], 1);
}

// The node was closed before it was found out that a space was being joined, and the space had no name in the reason.
#[test]
fn a_node_that_is_joining_a_space_refuses_another_key_without_being_closed() {
    let home = tempfile::tempdir().unwrap();
    let other = Node::start(&home.path().join("other"), &["--listen", LOOPBACK]);
    let space = other.json(&["space", "create", "work"])["space"].as_str().unwrap().to_owned();
    let ticket = ticket(&other, "writer");
    assert_eq!(other.stop("TERM"), Some(0));
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "join", &ticket, "--timeout", "0.3"]).expect(6);
    let reason = format!("the space `{}` has not let this device in yet", &space[..8]);
    node.run(&["id", "renew", "--force"]).fails(5, &reason);
    assert!(!node.log().contains("closing to renew"), "{}", node.log_end());
}

#[test]
fn devices_are_shown_with_the_names_that_they_give_themselves() {
    let trio = Trio::start();
    let plan = new_document(&trio.founder, "plan", &json!({ "n": 0 }));
    trio.agree(&plan);
    // One that has a name before it joins, as most have.
    let newcomer = Node::start(&trio.home.path().join("newcomer"), &[]);
    newcomer.run(&["id", "name", "Newcomer"]).ok();
    trio.founder.run(&["id", "name", "Founder"]).ok();
    newcomer.run(&["space", "join", &trio.ticket("reader", &trio.to_reader)]).ok();
    for (node, other, name) in [(&trio.founder, &newcomer, "Newcomer"), (&newcomer, &trio.founder, "Founder")] {
        wait_until("a joining tells names", || {
            let peers = node.run(&["--json", "peers"]).ok().json_lines();
            let found = device_in(&peers, &other.device()).map(|peer| peer["name"].clone());
            if found == Some(json!(name)) { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    // Digits are no name for another device.
    newcomer.run(&["id", "name", &trio.writer.device()[..8]]).ok();
    trio.founder.run(&["wait-synced", "--peer", &trio.writer.device()[..8]]).ok();
    trio.writer.run(&["id", "name", "  Ada's laptop "]).ok();
    assert_eq!(trio.writer.json(&["id"])["name"], "Ada's laptop");
    trio.writer.run(&["doc", "set", &plan, "/n", "1"]).ok();
    trio.agree(&plan);
    let device = trio.writer.device();
    wait_until("the founder knows the name", || {
        let peers = trio.founder.run(&["--json", "peers"]).ok().json_lines();
        let name = device_in(&peers, &device).map(|peer| peer["name"].clone());
        if name == Some(json!("Ada's laptop")) { Ok(()) } else { Err(format!("{name:?}")) }
    });
    let shown = format!("{} (Ada's laptop)", &device[..8]);
    let log = trio.founder.run(&["doc", "log", &plan]).ok();
    assert!(log.stdout.contains(&format!("device {shown}")), "{}", log.stdout);
    assert!(trio.founder.run(&["peers"]).ok().stdout.contains(&shown));
    let members = trio.founder.run(&["space", "members"]).ok();
    assert!(
        members.stdout.lines().any(|line| line.contains(&device) && line.contains("  Ada's laptop  let in by ")),
        "{}",
        members.stdout
    );
    trio.founder.run(&["wait-synced", "--peer", "Ada's laptop"]).ok();
    trio.writer.run(&["id", "name", &"x".repeat(65)]).fails(2, "65 bytes, limit 64");
    trio.writer.run(&["id", "name", "a\u{1b}[2J"]).fails(2, "control character");
    trio.writer.run(&["id", "name", ""]).ok();
    wait_until("the name is gone", || {
        let peers = trio.founder.run(&["--json", "peers"]).ok().json_lines();
        let name = device_in(&peers, &device).map(|peer| peer["name"].clone());
        if name == Some(Value::Null) { Ok(()) } else { Err(format!("{name:?}")) }
    });
}
