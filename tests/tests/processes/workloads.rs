//! A few seconds of what `processes broadcast|g-set|pn-counter|soak` runs for minutes, and of a node that is stopped for long.

use anabranch_tests::processes::chaos::Kinds;
use anabranch_tests::processes::patience::PATIENCE;
use anabranch_tests::processes::workloads::counter::PnCounter;
use anabranch_tests::processes::workloads::set::Set;
use anabranch_tests::processes::workloads::{Settings, Workload, run};
use anabranch_tests::processes::{finding::Report, pause};

use super::*;

fn passes(workload: &impl Workload, settings: &Settings) -> Report {
    let report = run(workload, settings);
    println!("{report}");
    assert!(report.findings.is_empty(), "{report}");
    assert!(report.get("acknowledged").and_then(Value::as_u64) > Some(0), "{report}");
    report
}

fn short(nodes: usize) -> Settings {
    Settings {
        nodes,
        time: Duration::from_secs(6),
        seed: 3,
        kinds: Kinds::All,
        pause_max: Duration::from_millis(40),
        agree_within: PATIENCE,
        soak: false,
    }
}

#[test]
fn broadcast_reaches_everyone_whatever_happens_to_links_and_nodes() {
    let report = passes(&Set::Broadcast, &short(4));
    assert_eq!(report.get("lost"), Some(&json!(0)));
}

#[test]
fn a_growing_set_loses_and_doubles_nothing() {
    let report = passes(&Set::GSet, &short(3));
    assert_eq!(report.get("duplicated"), Some(&json!(0)));
}

#[test]
fn a_counter_is_the_sum_of_what_was_acknowledged() {
    let report = passes(&PnCounter, &short(5));
    assert_eq!(report.get("read").and_then(Value::as_array).map(Vec::len), Some(5));
}

#[test]
fn memory_and_files_of_nodes_are_looked_at_in_a_soak() {
    let gentle = Settings { kinds: Kinds::LinksAndStops, soak: true, ..short(3) };
    let report = passes(&Set::Broadcast, &gentle);
    assert!(report.get("node_2_rss_mib").is_some() && report.get("node_2_fds").is_some(), "{report}");
}

#[test]
fn a_node_that_was_stopped_for_long_is_noticed_and_catches_up() {
    let report = pause::run(Duration::from_secs(1));
    println!("{report}");
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.get("noticed_after_ms").and_then(Value::as_array).map(Vec::len), Some(2));
}
