//! What nodes tell of where they are, in networks whose addresses come and go.

use anabranch_tests::processes::socket::strings;

use super::*;

const EVERYWHERE: &str = "/ip4/0.0.0.0/tcp/4510";

/// A network with as many hosts, or `None` where there can be none.
fn network(name: &str, hosts: usize) -> Option<Network> {
    Network::new(name, hosts).inspect_err(|reason| println!("SKIPPED: no network of its own ({reason})")).ok()
}

/// The addresses in an answer, without peer ids.
fn plain(addresses: &Value) -> Vec<String> {
    strings(addresses).iter().map(|address| address.split("/p2p/").next().unwrap().to_owned()).collect()
}

/// Waits until `arguments` are answered with exactly these addresses under `key`, whatever their order.
#[track_caller]
fn wait_for_addresses(node: &Node, arguments: &[&str], key: &str, expected: &[&str]) {
    wait_until(&format!("`{}` tells {expected:?}", arguments.join(" ")), || {
        let mut told = plain(&node.json(arguments)[key]);
        told.sort();
        if told == expected { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

/// The bug: addresses that a machine had lost were told for as long as the node ran, and filled its tickets. The cause: that they
/// ended was not heard. The fix: what is told follows from the sockets and the addresses that there are.
#[test]
fn a_node_tells_the_addresses_that_its_machine_has_now() {
    let Some(network) = network("a", 2) else { return };
    let home = tempfile::tempdir().unwrap();
    let [alice_home, bob_home] = ["alice", "bob"].map(|name| home.path().join(name));
    let alice = Node::start_command(network.program(1, &alice_home), &alice_home, &["--listen", EVERYWHERE]);
    alice.json(&["space", "create", "notes"]);
    let bob = Node::start_command(network.program(2, &bob_home), &bob_home, &["--listen", EVERYWHERE]);
    let ticket = alice.json(&["space", "invite", "notes"])["ticket"].as_str().unwrap().to_owned();
    bob.run(&["space", "join", &ticket]).ok();

    for last in 101..104 {
        let before = if last == 101 { 1 } else { last - 1 };
        network.remove_address(1, &format!("10.77.0.{before}/24"), "eth");
        network.add_address(1, &format!("10.77.0.{last}/24"), "eth");
        let now = format!("/ip4/10.77.0.{last}/tcp/4510");
        wait_for_addresses(&alice, &["status"], "listening", &[&now, "/ip4/127.0.0.1/tcp/4510"]);
        wait_for_addresses(&alice, &["space", "invite", "notes"], "addresses", &[&now]);
        let stopwatch = Stopwatch::start();
        wait_until("bob knows where alice is", || {
            let peers = bob.run(&["--json", "peers"]).ok().json_lines();
            let first = peers.first().map(|peer| (plain(&peer["addresses"]), peer["connected"] == json!(true)));
            match first {
                Some((addresses, true)) if addresses.first() == Some(&now) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        assert!(stopwatch.elapsed() < Duration::from_secs(20), "{:?}", stopwatch.elapsed());
    }
}

#[test]
fn the_local_network_is_in_a_ticket_before_bridges_and_loopback_is_not() {
    let Some(network) = network("b", 2) else { return };
    let bridges: Vec<String> = (17..22).map(|second| format!("172.{second}.0.1")).collect();
    for bridge in &bridges {
        network.add_address(1, &format!("{bridge}/16"), "lo");
    }
    let home = tempfile::tempdir().unwrap();
    let [alice_home, bob_home] = ["alice", "bob"].map(|name| home.path().join(name));
    let alice = Node::start_command(network.program(1, &alice_home), &alice_home, &["--listen", EVERYWHERE]);
    // All of them are known at the first line.
    assert_eq!(strings(&alice.ready()["listening"]).len(), 7, "{}", alice.ready());
    alice.json(&["space", "create", "notes"]);
    let invitation = alice.json(&["space", "invite", "notes"]);
    let addresses = plain(&invitation["addresses"]);
    assert_eq!(addresses[0], "/ip4/10.77.0.1/tcp/4510");
    assert_eq!(addresses.len(), 4);
    assert!(addresses.iter().all(|address| !address.contains("127.0.0.1")), "{addresses:?}");
    assert_eq!(strings(&invitation["left_out"]).len(), 2);
    let told = alice.run(&["space", "invite", "notes"]).ok().stderr;
    assert!(told.contains("2 were left out") && told.contains("--address"), "{told}");
    let bob = Node::start_command(network.program(2, &bob_home), &bob_home, &[]);
    bob.run(&["space", "join", invitation["ticket"].as_str().unwrap()]).ok();
}

#[test]
fn an_address_that_a_machine_gets_later_is_listened_on_then() {
    let Some(network) = network("c", 1) else { return };
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let later = "/ip4/10.77.0.50/tcp/4510";
    let listen = ["--listen", later, "--listen", "/ip4/127.0.0.1/tcp/4511"];
    let node = Node::start_command(network.program(1, &directory), &directory, &listen);
    assert_eq!(node.ready()["waiting_for"], json!([later]));
    assert_eq!(plain(&node.ready()["listening"]), ["/ip4/127.0.0.1/tcp/4511"]);
    node.wait_for_log("this machine does not have the address at present");
    network.add_address(1, "10.77.0.50/24", "eth");
    wait_for_addresses(&node, &["status"], "listening", &[later, "/ip4/127.0.0.1/tcp/4511"]);
    network.remove_address(1, "10.77.0.50/24", "eth");
    wait_for_addresses(&node, &["status"], "listening", &["/ip4/127.0.0.1/tcp/4511"]);
}

#[test]
fn a_peer_is_dialed_when_it_is_asked_for_and_forgotten_when_that_is() {
    let home = tempfile::tempdir().unwrap();
    let [alice_home, bob_home] = ["alice", "bob"].map(|name| home.path().join(name));
    let alice = Node::start(&alice_home, &["--listen", LOOPBACK]);
    let bob = Node::start(&bob_home, &[]);
    alice.json(&["space", "create", "notes"]);
    let ticket = alice.json(&["space", "invite", "notes"])["ticket"].as_str().unwrap().to_owned();
    bob.run(&["space", "join", &ticket]).ok();

    let nowhere = "/ip4/127.0.0.1/tcp/9";
    bob.run(&["peer", "dial", nowhere, "--timeout", "1"]).fails(6, "connection refused");
    assert_eq!(strings(&bob.json(&["peer", "forget", nowhere])["addresses"]), [nowhere]);
    bob.run(&["peer", "forget", nowhere]).fails(4, "no peer is known at");
    bob.run(&["peer", "dial", "nonsense"]).fails(2, "is not an address");

    let forgotten = bob.json(&["peer", "forget", &alice.device()]);
    assert_eq!(forgotten["device"], json!(alice.device()));
    let peer = bob.json(&["peers"]);
    assert_eq!((strings(&peer["addresses"]), &peer["connected"]), (Vec::new(), &json!(true)), "its session goes on");
    let line = bob.json(&["peer", "dial", &alice.address_through(alice.port())]);
    assert_eq!((&line["connected"], &line["device"]), (&json!(true), &json!(alice.device())));
}

#[test]
fn a_role_that_one_has_is_named_by_joining_again() {
    let home = tempfile::tempdir().unwrap();
    let [alice_home, bob_home] = ["alice", "bob"].map(|name| home.path().join(name));
    let alice = Node::start(&alice_home, &["--listen", LOOPBACK]);
    let bob = Node::start(&bob_home, &[]);
    alice.json(&["space", "create", "notes"]);
    let ticket =
        |role: &str| alice.json(&["space", "invite", "notes", "--role", role])["ticket"].as_str().unwrap().to_owned();
    let join = |ticket: &str| bob.run(&["space", "join", ticket]).ok().stdout;
    assert!(join(&ticket("reader")).contains("joined as reader"));
    bob.run(&["doc", "new", "--name", "plan"]).fails(5, "a writer is needed");
    let writer = ticket("writer");
    assert!(join(&writer).contains("now writer, before reader"));
    bob.run(&["doc", "new", "--name", "plan"]).ok();
    assert!(join(&writer).contains("a member already, as writer: a ticket for writer adds nothing"));
    assert!(join(&ticket("reader")).contains("a member already, as writer: a ticket for reader adds nothing"));
    // Nobody who knows of the invitation is there: it waits, and says as what.
    assert_eq!(bob.stop("TERM"), Some(0));
    let admin = ticket("admin");
    assert_eq!(alice.stop("TERM"), Some(0));
    let bob = Node::start(&bob_home, &[]);
    let waits = bob.run(&["space", "join", &admin, "--timeout", "1"]);
    waits.fails(6, "until then this device is a writer in the space");
    let alice = Node::start(&alice_home, &["--listen", LOOPBACK]);
    bob.run(&["peer", "dial", &alice.address_through(alice.port())]).ok();
    wait_until("bob is an admin", || match bob.json(&["space", "ls"])["role"].as_str() {
        Some("admin") => Ok(()),
        role => Err(format!("{role:?}")),
    });
}
