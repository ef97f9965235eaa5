//! Wrong input, wrong people, broken disks: each gets its text, and everything else goes on.

use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;

use anabranch_tests::processes::command::run;

use super::*;

#[test]
fn a_stranger_is_refused_and_the_members_do_not_notice() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({}));
    let home = tempfile::tempdir().unwrap();
    let address = trio.founder.address_through(trio.founder.port());
    let stranger = Node::start(&home.path().join("stranger"), &["--dial", &address]);
    wait_until("the stranger is told", || {
        let peers = stranger.run(&["peers"]).ok();
        match peers.stdout.contains("no shared space") {
            true => Ok(()),
            false => Err(peers.stdout),
        }
    });
    // One that has a space of its own is no better off.
    stranger.run(&["space", "create", "elsewhere"]).ok();
    stranger.run(&["doc", "new", "--name", "own"]).ok();
    trio.works(&document, "a stranger");
    assert!(!trio.founder.log().contains("stranger"), "anybody can cause that as often as they like");
    assert!(!trio.founder.run(&["peers"]).ok().stdout.contains(&stranger.device()[..8]));
    let held = stranger.run(&["--json", "space", "ls"]).ok().json_lines();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["documents"], 1);
}

#[test]
fn a_reader_reads_and_does_not_write() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({ "a": 1 }));
    trio.agree(&document);
    assert_eq!(trio.reader.run(&["doc", "get", "plan", "/a"]).ok().text(), "1");
    let says = "this device is a reader in the space, a writer is needed";
    trio.reader.run(&["doc", "set", "plan", "/a", "2"]).fails(5, says);
    trio.reader.run(&["doc", "rm", "plan", "/a"]).fails(5, says);
    trio.reader.run(&["doc", "new", "--name", "mine"]).fails(5, says);
    trio.reader.run(&["space", "invite"]).fails(5, "an admin is needed");
    trio.writer.run(&["space", "invite"]).fails(5, "an admin is needed");
    assert_eq!(trio.reader.run(&["doc", "get", "plan", "/a"]).ok().text(), "1");
    trio.works(&document, "a reader");
}

#[test]
fn a_single_use_ticket_admits_one_device() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({}));
    let home = tempfile::tempdir().unwrap();
    let link = Link::to(trio.founder.port());
    let ticket = trio.ticket("writer", &link);
    let first = Node::start(&home.path().join("first"), &[]);
    let second = Node::start(&home.path().join("second"), &[]);
    first.run(&["space", "join", &ticket]).ok();
    second.run(&["space", "join", &ticket]).fails(5, "this ticket has already been used (1 of 1 times)");
    let members = trio.founder.run(&["--json", "space", "members"]).ok().json_lines();
    assert!(members.iter().any(|member| member["device"] == json!(first.device())));
    assert!(!members.iter().any(|member| member["device"] == json!(second.device())));
    // The one that was refused can still join with a ticket of its own.
    second.run(&["space", "join", &trio.ticket("reader", &link)]).ok();
    trio.works(&document, "a used ticket");
}

#[test]
fn a_ticket_for_another_space_opens_nothing() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({}));
    let home = tempfile::tempdir().unwrap();
    let other = Node::start(&home.path().join("other"), &["--listen", LOOPBACK]);
    other.run(&["space", "create", "elsewhere"]).ok();
    // A good ticket of the other's space, with the address of a node that is not in that space.
    let address = trio.founder.address_through(trio.founder.port());
    let ticket = other.run(&["space", "invite", "elsewhere", "--address", &address]).ok();
    let joiner = Node::start(&home.path().join("joiner"), &[]);
    let says = "the peer at this address does not have the space that the ticket names";
    joiner.run(&["space", "join", ticket.text()]).fails(5, says);
    assert!(joiner.run(&["space", "ls"]).ok().stdout.contains("no spaces here"));
    // Where nobody answers, the wish is kept, visibly, and can be given up.
    let nowhere = other.run(&["space", "invite", "elsewhere", "--address", "/ip4/127.0.0.1/tcp/1"]).ok();
    let late = joiner.run(&["space", "join", nowhere.text(), "--timeout", "1"]);
    let late = late.fails(6, "no member has admitted this device within 1 s: dialing /ip4/127.0.0.1/tcp/1");
    assert!(late.stderr.contains("refused"), "{}", late.stderr);
    let spaces = joiner.run(&["--json", "space", "ls"]).ok().json_lines();
    assert_eq!(spaces[0]["role"], Value::Null);
    joiner.run(&["space", "leave", &spaces[0]["space"].as_str().unwrap()[..8]]).ok();
    // Tickets that are none.
    joiner.run(&["space", "join", "hello"]).fails(2, "this is not a ticket");
    let ticket = ticket.text();
    let swapped = if ticket.ends_with('a') { "b" } else { "a" };
    let damaged = format!("{}{swapped}", &ticket[..ticket.len() - 1]);
    joiner.run(&["space", "join", &damaged]).fails(2, "ticket");
    // And the joiner can still join the space that the address is of.
    let link = Link::to(trio.founder.port());
    joiner.run(&["space", "join", &trio.ticket("writer", &link)]).ok();
    trio.works(&document, "another ticket");
}

#[test]
fn a_damaged_store_is_told_and_not_served() {
    let trio = Trio::start();
    let content: String = (0..20_000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    let document = new_document(&trio.founder, "plan", &json!({ "text": content }));
    trio.agree(&document);
    let directory = trio.writer.directory().to_path_buf();
    let Trio { founder, writer, reader, to_writer: _wire, to_reader: _reader_wire, space, home: _home } = trio;
    assert_eq!(writer.stop("TERM"), Some(0));

    let store = directory.join("store.redb");
    let healthy = std::fs::read(&store).unwrap();
    // In the middle of the text, as a disk forgets a bit.
    let text = content.as_bytes()[..2_000].to_vec();
    let place = healthy.windows(64).position(|window| window == &text[100..164]);
    let mut broken = healthy.clone();
    match place {
        Some(place) => broken[place + 3] ^= 0x04,
        // Kept in another form: damage every page behind the header.
        None => broken.iter_mut().skip(16 * 1024).step_by(512).for_each(|byte| *byte ^= 0x04),
    }
    std::fs::write(&store, &broken).unwrap();
    assert_says_damaged(&directory);

    // Cut short, and overwritten at its beginning.
    let file = std::fs::OpenOptions::new().write(true).open(&store).unwrap();
    file.write_all_at(&[0xAA; 4096], 0).unwrap();
    run(&directory, &["run", "--no-salvage"], "").fails(1, "damaged");
    std::fs::File::create(&store).unwrap().write_all(&healthy[..5000]).unwrap();
    run(&directory, &["run", "--no-salvage"], "").fails(1, "damaged");

    // The others never noticed; and what was healthy opens again.
    founder.run(&["doc", "set", "plan", "/after", "true"]).ok();
    wait_until("the reader has it", || reader.socket().get(&document, "/after").map(|_| ()));
    let mut file = std::fs::File::create(&store).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&healthy).unwrap();
    let writer = Node::start(&directory, &[]);
    assert_eq!(writer.json(&["status"])["spaces"][0]["space"], json!(space));
    assert_eq!(writer.run(&["doc", "get", "plan", "/text", "--raw"]).ok().text(), content);
}

#[test]
fn a_damaged_store_is_moved_aside_salvaged_and_filled_again() {
    let trio = Trio::start();
    let shared = new_document(&trio.founder, "plan", &json!({ "from": "the founder" }));
    trio.agree(&shared);
    let directory = trio.writer.directory().to_path_buf();
    let Trio { founder, writer, reader: _reader, to_writer, to_reader: _reader_wire, space, home: _home } = trio;
    // Edits that no peer has.
    drop(to_writer);
    let own = new_document(&writer, "alone", &json!({ "from": "the writer" }));
    assert_eq!(writer.stop("TERM"), Some(0));
    // Its beginning is gone, which is the only page that says where all others are.
    let store = directory.join("store.redb");
    let file = std::fs::OpenOptions::new().write(true).open(&store).unwrap();
    file.write_all_at(&[0xAA; 4096], 0).unwrap();
    let damaged = std::fs::read(&store).unwrap();
    founder.run(&["doc", "set", "plan", "/after", "true"]).ok();

    let link = Link::to(founder.port());
    let writer = Node::start(&directory, &["--dial", &founder.address_through(link.port())]);
    let aside = directory.join("store.redb.damaged-1");
    writer.wait_for_log("the store was salvaged");
    writer.wait_for_log(&format!("it is kept as {}", aside.display()));
    assert_eq!(std::fs::read(&aside).unwrap(), damaged, "the damaged file is kept as it was");
    assert_eq!(writer.json(&["status"])["spaces"][0]["space"], json!(space));
    wait_until("its own edits are there", || {
        writer
            .socket()
            .get(&own, "/from")
            .and_then(|(_, value)| if value == json!("the writer") { Ok(()) } else { Err(value.to_string()) })
    });
    wait_until("the rest has come back", || writer.socket().get(&shared, "/after").map(|_| ()));
    wait_until("its edits reach the founder", || founder.socket().get(&own, "/from").map(|_| ()));
    writer.run(&["doc", "set", "alone", "/again", "true"]).ok();
}

/// Damage is told where it is met: at the start, or by the command that needs what is damaged.
fn assert_says_damaged(directory: &Path) {
    let mut command = anabranch_tests::processes::command::program(directory);
    command.args(["--json", "run"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let text = wait_for("the damage is told", || {
        if !Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid) {
            return Ok(String::new());
        }
        let got = run(directory, &["doc", "get", "plan", "/text"], "");
        match got.code {
            Some(3) => Err("not ready".to_owned()),
            Some(0) => panic!("a damaged document was served"),
            _ => Ok(got.stderr),
        }
    });
    anabranch_tests::processes::command::signal(pid, "TERM");
    let output = child.wait_with_output().unwrap();
    let all = text + &String::from_utf8_lossy(&output.stderr);
    assert!(all.contains("damaged"), "{all}");
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn a_second_process_on_the_same_store_is_told() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({}));
    run(trio.founder.directory(), &["run"], "").fails(1, "is in use by another process");
    run(trio.founder.directory(), &["init"], "").fails(1, "is in use by another process");
    trio.works(&document, "a second process");
}

#[test]
fn a_port_in_use_is_told_with_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let failed = run(&directory, &["run", "--listen", &address], "").fails(1, &format!("cannot listen on {address}"));
    assert!(failed.stderr.contains("in use"), "{}", failed.stderr);
    // The replica itself is fine.
    run(&directory, &["run", "--listen", "everywhere"], "").fails(2, "`everywhere` is not an address");
    let node = Node::start(&directory, &["--listen", LOOPBACK]);
    node.run(&["space", "create", "work"]).ok();
}

#[test]
fn malformed_json_is_told_with_its_place() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({ "a": 1 }));
    let node = &trio.founder;
    let failed = node.run(&["doc", "set", "plan", "/a", "hello"]).fails(2, "malformed JSON in the value");
    assert!(failed.stderr.contains("line 1 column 1") && failed.stderr.contains("a string needs quotes"));
    node.run(&["doc", "set", "plan", "/a", "{\"b\": 1,}"]).fails(2, "line 1 column 9");
    let lines = "{\"op\":\"set\",\"path\":\"/b\",\"value\":2}\n{\"op\":\"set\",\"path\":\"/c\",\"value\":}\n";
    node.run_with(&["doc", "edit", "plan"], lines).fails(2, "line 2, column 33: malformed JSON");
    node.run_with(&["doc", "edit", "plan"], "{\"op\":\"fold\"}").fails(2, "unknown op `fold`");
    let file = node.directory().with_extension("json");
    std::fs::write(&file, "{\"a\": [1, 2").unwrap();
    node.run(&["doc", "import", "--new", file.to_str().unwrap()]).fails(2, "malformed JSON in");
    std::fs::write(&file, "[1, 2]").unwrap();
    node.run(&["doc", "import", "--new", file.to_str().unwrap()]).fails(2, "a document is a JSON object");
    // Nothing of it was kept, not even of the line before the bad one.
    let (_, content) = node.socket().get(&document, "").unwrap();
    assert_eq!(content, json!({ "name": "plan", "a": 1 }));
    trio.works(&document, "malformed JSON");
}

#[test]
fn a_value_over_a_limit_is_refused_with_both_numbers() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({ "a": 1, "list": [] }));
    let before = trio.agree(&document);
    let node = &trio.founder;
    let key = "k".repeat(2_000);
    node.run(&["doc", "set", "plan", &format!("/{key}"), "1"]).fails(2, "2000 bytes, limit 1024");
    let long = json!("x".repeat(300_000)).to_string();
    let refused = node.run_with(&["doc", "set", "plan", "/a", "-", "--strings", "plain"], &long);
    refused.fails(2, "a plain string at `/a` is 300000 bytes, limit 262144");
    let deep = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    node.run(&["doc", "set", "plan", "/a", &deep]).fails(2, "limit 64");
    let full = json!("x".repeat(10_000_000)).to_string();
    node.run_with(&["doc", "set", "plan", "/a", "-"], &full).fails(2, "operations, limit 10000000");
    node.run(&["space", "create", &"n".repeat(200)]).fails(2, "128");
    node.run(&["space", "invite", "--uses", "101"]).fails(2, "100");
    node.run(&["space", "invite", "--role", "king"]).fails(2, "a role is `reader`, `writer` or `admin`");
    // Refused and rolled back.
    assert_eq!(trio.agree(&document), before);
    trio.works(&document, "too much");
}
