//! `pn-counter`: every client adds to one counter, negative numbers too.

use serde_json::{Value, json};

use crate::processes::checkers::Write;
use crate::processes::checkers::counter::{History, check};
use crate::processes::finding::{Finding, Report};
use crate::processes::socket::Trouble;
use crate::processes::workloads::{Step, Turn, Workload};

/// Numbers added, from its negative on.
const ADDED_MAX: u64 = 5;

/// The workload.
pub struct PnCounter;

impl Workload for PnCounter {
    type History = History;

    fn name(&self) -> &'static str {
        "pn-counter"
    }

    fn documents(&self) -> Vec<Value> {
        vec![json!([{ "op": "counter", "path": "/value", "value": 0 }])]
    }

    fn step(&self, turn: &mut Turn<'_>, history: &mut History) -> Step {
        let value = turn.dice.below(2 * ADDED_MAX + 1) as i64 - ADDED_MAX as i64;
        let edits = json!([{ "op": "increment", "path": "/value", "by": value }]);
        let edit = json!({ "document": turn.documents[0], "edits": edits, "saved": true });
        match turn.client.ask("doc-edit", edit) {
            Ok(_) => {
                history.adds.push(Write { value, acknowledged: Some(turn.clock.elapsed()) });
                Step::Written
            }
            Err(Trouble::Unsent(_)) => Step::Nothing,
            Err(Trouble::Unanswered(_) | Trouble::Refused(_)) => {
                history.adds.push(Write { value, acknowledged: None });
                Step::Nothing
            }
        }
    }

    fn last_read(&self, turn: &mut Turn<'_>, history: &mut History) -> Result<(), Finding> {
        let read = turn.client.ask("doc-get", json!({ "document": turn.documents[0], "path": "/value" }));
        let node = turn.client.node();
        let (answer, _) = read.map_err(|trouble| Finding::liveness(format!("last read of node {node}: {trouble}")))?;
        let value = answer["value"].as_i64();
        history.last_reads.push(value.ok_or_else(|| Finding::safety(format!("node {node} reads {answer}")))?);
        Ok(())
    }

    fn join(&self, history: &mut History, other: History) {
        history.adds.extend(other.adds);
        history.last_reads.extend(other.last_reads);
    }

    fn judge(&self, history: &History, report: &mut Report) {
        let verdict = check(history);
        report.figure("acknowledged", verdict.acknowledged);
        report.figure("undecided", verdict.undecided);
        let allowed: Vec<String> = verdict.allowed.iter().map(|range| format!("{range:?}")).collect();
        report.figure("allowed", allowed.join(" "));
        report.figure("read", history.last_reads.clone());
        if !verdict.wrong.is_empty() {
            let wrong = &verdict.wrong;
            report.findings.push(Finding::safety(format!("(node, sum) that no additions make: {wrong:?}")));
        }
        if verdict.differ {
            report.findings.push(Finding::safety(format!("nodes read different sums: {:?}", history.last_reads)));
        }
    }
}
