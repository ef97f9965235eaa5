//! `g-set` and `broadcast`: every client adds elements of its own to a set that all share, and reads all of it now and then.

use std::fmt::Debug;

use serde_json::{Value, json};

use crate::processes::checkers::Write;
use crate::processes::checkers::set_full::{History, QUANTILES, Read, check};
use crate::processes::finding::{Finding, Report};
use crate::processes::socket::Trouble;
use crate::processes::workloads::{Step, Turn, Workload};

/// Elements that a finding shows.
const SHOWN: usize = 20;
const ELEMENTS: &str = "/elements";

/// Which of the two: how elements lie in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Messages at the end of one list, in one document that all write.
    Broadcast,
    /// Every other element is a key of a map in one document; the others are in lists, spread over three documents.
    GSet,
}

impl Set {
    /// Reads in a hundred requests.
    fn reads_percent(self) -> u64 {
        match self {
            Self::Broadcast => 10,
            Self::GSet => 5,
        }
    }

    /// The document that an element belongs to, and the edit that puts it there.
    fn place(self, element: u64) -> (usize, Value) {
        let to_list = json!([{ "op": "insert", "path": "/elements/-", "value": element }]);
        match (self, element % 2) {
            (Self::Broadcast, _) => (0, to_list),
            (Self::GSet, 0) => (0, json!([{ "op": "set", "path": format!("/elements/{element}"), "value": element }])),
            (Self::GSet, _) => (1 + (element / 2 % 3) as usize, to_list),
        }
    }

    fn read(turn: &mut Turn<'_>, is_last: bool) -> Result<Read, Trouble> {
        let mut read = Read { node: turn.client.node(), asked: turn.clock.elapsed(), is_last, ..Read::default() };
        for document in turn.documents {
            let (answer, life) = turn.client.ask("doc-get", json!({ "document": document, "path": ELEMENTS }))?;
            let first = read.life == 0;
            if !first && read.life != life {
                return Err(Trouble::Unanswered("the node was started again in the middle of a read".to_owned()));
            }
            read.life = life;
            match &answer["value"] {
                Value::Array(list) => read.elements.extend(list.iter().filter_map(Value::as_u64)),
                Value::Object(map) => read.elements.extend(map.keys().filter_map(|key| key.parse::<u64>().ok())),
                _ => {}
            }
        }
        read.answered = turn.clock.elapsed();
        Ok(read)
    }
}

impl Workload for Set {
    /// The elements of a client are numbers with a remainder of their own.
    type History = History;

    fn name(&self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::GSet => "g-set",
        }
    }

    fn documents(&self) -> Vec<Value> {
        let with = |value: Value| json!([{ "op": "set", "path": ELEMENTS, "value": value }]);
        match self {
            Self::Broadcast => vec![with(json!([]))],
            Self::GSet => vec![with(json!({})), with(json!([])), with(json!([])), with(json!([]))],
        }
    }

    fn step(&self, turn: &mut Turn<'_>, history: &mut History) -> Step {
        if turn.dice.percent(self.reads_percent()) {
            return match Self::read(turn, false) {
                Ok(read) => {
                    history.reads.push(read);
                    Step::Read
                }
                Err(_) => Step::Nothing,
            };
        }
        let value = (history.adds.len() * turn.nodes + turn.client.node()) as u64;
        let (document, edits) = self.place(value);
        let edit = json!({ "document": turn.documents[document], "edits": edits, "saved": true });
        match turn.client.ask("doc-edit", edit) {
            Ok(_) => {
                history.adds.push(Write { value, acknowledged: Some(turn.clock.elapsed()) });
                Step::Written
            }
            // Not added: its number is free for the next one.
            Err(Trouble::Unsent(_)) => Step::Nothing,
            Err(Trouble::Unanswered(_) | Trouble::Refused(_)) => {
                history.adds.push(Write { value, acknowledged: None });
                Step::Nothing
            }
        }
    }

    fn last_read(&self, turn: &mut Turn<'_>, history: &mut History) -> Result<(), Finding> {
        let node = turn.client.node();
        let read = Self::read(turn, true)
            .map_err(|trouble| Finding::liveness(format!("last read of node {node}: {trouble}")))?;
        history.reads.push(read);
        Ok(())
    }

    fn join(&self, history: &mut History, other: History) {
        history.adds.extend(other.adds);
        history.reads.extend(other.reads);
    }

    fn judge(&self, history: &History, report: &mut Report) {
        let verdict = check(history);
        report.figure("acknowledged", verdict.acknowledged);
        report.figure("undecided", verdict.undecided);
        report.figure("reads", history.reads.len());
        report.figure("never_read", verdict.never_read);
        report.figure("stale", verdict.stale);
        for (point, latency) in QUANTILES.iter().zip(verdict.stable_latencies_ms) {
            report.figure(format!("stable_ms_{point}"), latency);
        }
        let mut tell = |what: &str, count: usize, shown: String| {
            report.figure(what, count);
            if count > 0 {
                report.findings.push(Finding::safety(format!("{count} elements {what}: {shown}")));
            }
        };
        tell("lost", verdict.lost.len(), first(&verdict.lost));
        tell("vanished", verdict.vanished.len(), first(&verdict.vanished));
        tell("divergent", verdict.divergent.len(), first(&verdict.divergent));
        tell("duplicated", verdict.duplicated.len(), first(&verdict.duplicated));
        tell("unexpected", verdict.unexpected.len(), first(&verdict.unexpected));
    }
}

fn first<T: Debug>(elements: impl IntoIterator<Item = T>) -> String {
    format!("{:?}", elements.into_iter().take(SHOWN).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_a_g_set_lie_in_all_of_its_documents() {
        let mut documents: Vec<usize> = (0..12).map(|element| Set::GSet.place(element).0).collect();
        documents.sort_unstable();
        assert_eq!(documents, [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(Set::GSet.documents().len(), 4);
        assert_eq!((Set::Broadcast.place(4).0, Set::Broadcast.documents().len()), (0, 1));
    }
}
