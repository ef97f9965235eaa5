//! What nodes have acknowledged, written down outside of any node: a write is a key of a document, acknowledged when its node
//! said `saved`, undecided when no answer came.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What is known of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The node said that it is saved: it must be there from then on.
    Acknowledged,
    /// Asked for, and no answer came: it may be there.
    Undecided,
}

/// The writes into one document.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Who was asked to write each key, and what came of it.
    writes: BTreeMap<String, (usize, Fate)>,
}

impl Ledger {
    /// A node was asked to write a key.
    pub fn asked(&mut self, node: usize, key: String) {
        self.writes.insert(key, (node, Fate::Undecided));
    }

    /// The node said that it is saved.
    pub fn acknowledged(&mut self, key: &str) {
        if let Some((_, fate)) = self.writes.get_mut(key) {
            *fate = Fate::Acknowledged;
        }
    }

    /// The node never got the request.
    pub fn withdrawn(&mut self, key: &str) {
        self.writes.remove(key);
    }

    /// How many writes had this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.writes.values().filter(|(_, known)| *known == fate).count()
    }

    /// Undecided writes that are there after all.
    pub fn decided(&self, content: &Value) -> usize {
        let undecided = self.writes.iter().filter(|(_, (_, fate))| *fate == Fate::Undecided);
        undecided.filter(|(key, _)| content["keys"].get(key).is_some()).count()
    }

    /// What is wrong with `content`, as a node has it: an acknowledged write is lost (of those that `by` acknowledged, or of
    /// all), there is a write that nobody asked for, or the document's counter, which is raised by one in the same change
    /// as each key is written, is not the number of keys.
    pub fn faults(&self, content: &Value, by: Option<usize>) -> Vec<String> {
        let empty = serde_json::Map::new();
        let keys = content["keys"].as_object().unwrap_or(&empty);
        let due = self
            .writes
            .iter()
            .filter(|(_, (node, fate))| *fate == Fate::Acknowledged && by.is_none_or(|by| by == *node));
        let lost: Vec<&String> = due.map(|(key, _)| key).filter(|key| !keys.contains_key(*key)).collect();
        let unexpected: BTreeSet<&String> = keys.keys().filter(|key| !self.writes.contains_key(*key)).collect();
        let mut faults = Vec::new();
        if !lost.is_empty() {
            faults.push(format!("{} acknowledged writes are lost: {lost:?}", lost.len()));
        }
        if !unexpected.is_empty() {
            faults.push(format!("nobody asked for {unexpected:?}"));
        }
        if content["count"] != keys.len() {
            faults.push(format!("{} keys, each counted once, make {}", keys.len(), content["count"]));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for (node, key) in [(0, "a"), (1, "b"), (1, "c"), (1, "d")] {
            ledger.asked(node, key.to_owned());
        }
        ledger.acknowledged("a");
        ledger.acknowledged("b");
        ledger.withdrawn("d");
        ledger
    }

    #[test]
    fn an_undecided_write_may_be_there_or_not() {
        let (with, without) = (
            json!({ "keys": { "a": 1, "b": 1, "c": 1 }, "count": 3 }),
            json!({ "keys": { "a": 1, "b": 1 }, "count": 2 }),
        );
        let ledger = ledger();
        assert!(ledger.faults(&with, None).is_empty() && ledger.faults(&without, None).is_empty());
        assert_eq!((ledger.decided(&with), ledger.decided(&without)), (1, 0));
        assert_eq!((ledger.count(Fate::Acknowledged), ledger.count(Fate::Undecided)), (2, 1));
    }

    #[test]
    fn a_lost_write_is_seen_where_it_is_due() {
        let content = json!({ "keys": { "b": 1 }, "count": 1 });
        let ledger = ledger();
        assert_eq!(ledger.faults(&content, None), [r#"1 acknowledged writes are lost: ["a"]"#]);
        assert_eq!(ledger.faults(&content, Some(0)).len(), 1);
        assert!(ledger.faults(&content, Some(1)).is_empty(), "the other's may not have arrived yet");
        assert!(!ledger.faults(&Value::Null, Some(1)).is_empty(), "no document is nothing of it");
    }

    #[test]
    fn what_nobody_wrote_and_what_counts_twice_is_seen() {
        let ledger = ledger();
        let twice = json!({ "keys": { "a": 1, "b": 1 }, "count": 3 });
        assert_eq!(ledger.faults(&twice, None), ["2 keys, each counted once, make 3"]);
        let withdrawn = json!({ "keys": { "a": 1, "b": 1, "d": 1 }, "count": 3 });
        assert_eq!(ledger.faults(&withdrawn, None), [r#"nobody asked for {"d"}"#]);
    }
}
