//! A small part of the crash lab on every test run: some hundred images, and every script of the sweep.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_engine::Event;
use anabranch_tests::crash::campaign::Campaign;
use anabranch_tests::crash::images::Outcome;
use anabranch_tests::crash::pair::Side;
use anabranch_tests::crash::sweep::{Condition, SCRIPTS};

#[test]
fn whatever_a_disk_leaves_is_opened_right_or_refused_in_words() {
    let campaign = Campaign { seed: 3, images: 640, script: None, image: None, threads: 2, failures_max: 3 };
    let summary = campaign.run(&|| false, &|failure| println!("{failure}"));
    println!("{summary}");
    assert_eq!(summary.failures, Vec::<String>::new());
    assert_eq!((summary.scripts, summary.count(true), summary.count(false)), (10, 400, 240));
    for outcome in [Outcome::Whole, Outcome::WholeTwice, Outcome::Readable, Outcome::Salvaged] {
        assert!(summary.with(outcome) > 10, "{outcome:?}: {}", summary.with(outcome));
    }
}

#[test]
fn the_same_seed_makes_the_same_images() {
    let campaign = Campaign { seed: 5, images: 64, script: Some(2), image: None, threads: 1, failures_max: 1 };
    let (first, second) = (campaign.run(&|| false, &|_| ()), campaign.run(&|| false, &|_| ()));
    assert_eq!((first.images, first.caught), (second.images, second.caught));
}

/// `crash --sweep` fails every call; here it is every seventh.
#[test]
fn a_call_that_fails_costs_nothing_that_was_acknowledged() {
    assert!(SCRIPTS.len() >= 20);
    for script in SCRIPTS {
        let swept = script.sweep(7);
        println!("{}: {} calls, {} errors", script.name, swept.calls, swept.errors);
        assert_eq!(swept.failures, Vec::<String>::new());
        assert!(swept.errors > 0, "`{}` never fails", script.name);
    }
}

/// A bit of a stored run changed: the document lacked it for ever, and stopped being sent. Now it is built anew from the
/// other runs, and the other replica brings the one that is gone.
#[test]
fn a_rotten_run_comes_back_from_the_other_replica() {
    let scripts = SCRIPTS.iter().filter(|script| script.disk == Condition::Rotten);
    let mut count = 0;
    for script in scripts {
        let mut pair = script.prepare().unwrap();
        for step in script.script {
            step.perform(&mut pair).unwrap();
        }
        let (ours, other) = (pair.places(Side::Ours), pair.places(Side::Other));
        assert_eq!(ours, other);
        for place in ours {
            assert_eq!(pair.open(Side::Ours, place).unwrap(), pair.open(Side::Other, place).unwrap());
        }
        let damaged = |event: &Event| matches!(event, Event::DocumentDamaged { .. });
        let mended = |event: &Event| matches!(event, Event::DocumentMended { waiting, .. } if *waiting > 0);
        let told = pair.events();
        assert_eq!(told.iter().filter(|event| damaged(event)).count(), 1, "{told:?}");
        assert!(told.iter().any(mended), "later runs waited for it: {told:?}");
        // And it is whole on the disk.
        pair.stop_ours();
        pair.start_ours().unwrap();
        for place in pair.places(Side::Ours) {
            pair.open(Side::Ours, place).unwrap();
        }
        assert!(!pair.events().iter().any(damaged));
        count += 1;
    }
    assert_eq!(count, 2);
}
