//! A few of the attacks that `hostile` makes, short ones: the client reaches the nodes, and what they do to them is found.

use anabranch_tests::hostile::attack::{Attack, Effect, Share, Who};
use anabranch_tests::hostile::attacks;
use anabranch_tests::hostile::course::{self, Settings};
use anabranch_tests::processes::finding::{Finding, Report};

use super::*;

const SETTINGS: Settings = Settings { length: Duration::from_millis(400), seed: 1, tries: 1 };

/// What was found, but for slow edits: other tests use the machine at the same time.
fn found(report: &Report) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| !course::is_slow(finding)).collect()
}

#[test]
fn a_node_stands_what_strangers_and_readers_do() {
    for attack in attacks::named(&["no-ticket".to_owned(), "reader-writes".to_owned()]).unwrap() {
        let report = course::run(&attack, SETTINGS);
        assert_eq!(found(&report), Vec::<&Finding>::new(), "{report}");
        assert!(report.get("sent").and_then(Value::as_u64) > Some(0), "{report}");
    }
}

#[test]
fn what_an_attack_costs_too_much_is_found() {
    let attack = |strike| Attack {
        name: "made-up",
        who: Who::Process,
        does: "What a test needs.",
        share: Share::of(1, 0),
        strike,
    };
    let nothing = course::run(&attack(|_| Err("nobody is there".to_owned())), SETTINGS);
    assert!(nothing.to_string().contains("the attack did not reach: nobody is there"), "{nothing}");
    let broken = course::run(
        &attack(|scene| {
            // Much more than the share, and a promise that does not hold.
            let file = scene.ground.directory.join("filled");
            std::fs::write(file, vec![7; 4 << 20]).map_err(|error| error.to_string())?;
            Ok(Effect { sent: 1, seen: "a file".to_owned(), broken: vec!["nobody may do that".to_owned()] })
        }),
        SETTINGS,
    );
    let text = broken.to_string();
    assert!(text.contains("alice's disk grew by") && text.contains("Safety: nobody may do that"), "{text}");
    let dead = course::run(
        &attack(|scene| {
            anabranch_tests::processes::command::signal(scene.ground.pid, "KILL");
            std::thread::sleep(Duration::from_secs(1));
            Ok(Effect { sent: 1, seen: "a signal".to_owned(), broken: Vec::new() })
        }),
        SETTINGS,
    );
    assert!(dead.to_string().contains("Crash: alice has ended by itself"), "{dead}");
}
