//! A few of the cycles that `processes kill` and `processes newcomers` run by the thousand.

use anabranch_tests::processes::kill::{Settings, run};
use anabranch_tests::processes::logbook::Durability;
use anabranch_tests::processes::{cycles, imports, newcomers};
use anabranch_tests::sim::Kind;

use super::*;

fn settings(cycles: u64, durability: Durability) -> Settings {
    Settings { cycles, time: Duration::from_secs(600), fleets: 2, durability, seed: 1 }
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let report = run(&settings(16, Durability::Saved));
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.get("cycles"), Some(&json!(16)));
    assert!(report.get("acknowledged").and_then(Value::as_u64) > Some(16), "{report}");
}

#[test]
fn losses_are_found_where_a_write_is_believed_before_it_is_saved() {
    let report = run(&settings(1_000, Durability::Applied));
    assert_eq!(report.worst(), Some(Kind::Safety), "{report}");
    assert!(report.findings.iter().any(|finding| finding.text.contains("acknowledged writes are lost")), "{report}");
}

#[test]
fn an_import_is_there_as_a_whole_or_not_at_all_whoever_is_killed() {
    // `processes imports` has 5 MB in each.
    let report = imports::run(&cycles::Settings { cycles: 8, time: Duration::from_secs(600), seed: 3 }, 20_000);
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.get("cycles"), Some(&json!(8)));
}

#[test]
fn a_node_killed_while_it_is_made_starts_and_one_killed_while_it_joins_is_let_in() {
    let report = newcomers::run(&cycles::Settings { cycles: 8, time: Duration::from_secs(600), seed: 2 });
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.get("cycles"), Some(&json!(8)));
}
