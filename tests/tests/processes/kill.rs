//! A few of the cycles that `processes kill` runs by the thousand.

use anabranch_tests::processes::kill::{Settings, run};

use super::*;

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let report = run(&Settings { cycles: 16, time: Duration::from_secs(600), fleets: 2, seed: 1 });
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.get("cycles"), Some(&json!(16)));
    assert!(report.get("acknowledged").and_then(Value::as_u64) > Some(16), "{report}");
}
