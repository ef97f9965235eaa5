//! What a node logs, and what it never does.

use anabranch_engine::space::ticket::Ticket;
use anabranch_tests::processes::command::program;

use super::*;

#[test]
fn no_secret_is_logged_at_any_level() {
    let home = tempfile::tempdir().unwrap();
    let directory = |name: &str| home.path().join(name);
    let start = |name: &str, arguments: &[&str]| {
        let mut command = program(&directory(name));
        command.env("RUST_LOG", "trace");
        Node::start_command(command, &directory(name), arguments)
    };
    let alice = start("alice", &["--listen", LOOPBACK]);
    alice.run(&["space", "create", "work"]).ok();
    let text = alice.run(&["space", "invite"]).ok().text().to_owned();
    let bob = start("bob", &[]);
    bob.run_with(&["space", "join", "-"], &text).ok();
    alice.run(&["doc", "new", "--name", "plan"]).ok();
    bob.run(&["wait-synced"]).ok();
    let ticket: Ticket = text.trim().parse().unwrap();
    for node in [alice, bob] {
        let log = node.log();
        assert!(log.contains("TRACE") && log.contains("Commit"), "everything is logged");
        assert!(!log.contains(text.trim()), "the ticket");
        let key = std::fs::read_to_string(node.directory().join("identity")).unwrap();
        assert!(!log.contains(key.split_whitespace().last().unwrap()), "the device's key");
        for secret in [ticket.connection_key, ticket.invite_seed] {
            let part = &secret[..8];
            let decimal = part.iter().map(u8::to_string).collect::<Vec<_>>();
            let hex = part.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
            for shown in [decimal.join(", "), hex.concat(), hex.join(", ")] {
                assert!(!log.contains(&shown), "{shown} of the ticket's secrets is in the log");
            }
        }
    }
}
