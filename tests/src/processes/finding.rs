//! What a run of real processes found, and how it is told: figures, findings, an exit code.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::sim::Kind;

/// Something that is not as promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which kind of promise was broken.
    pub kind: Kind,
    /// What, for people to read.
    pub text: String,
}

impl Finding {
    /// A node ended by itself.
    pub fn crash(text: impl Into<String>) -> Self {
        Self { kind: Kind::Crash, text: text.into() }
    }

    /// Something happened that must never happen.
    pub fn safety(text: impl Into<String>) -> Self {
        Self { kind: Kind::Safety, text: text.into() }
    }

    /// Something that must happen did not.
    pub fn liveness(text: impl Into<String>) -> Self {
        Self { kind: Kind::Liveness, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Which run.
    pub name: &'static str,
    /// What was counted and measured, in this order.
    pub figures: Vec<(String, Value)>,
    /// What is not as promised.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report without anything in it.
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.figures.push((name.into(), value.into()));
    }

    /// The figure of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.figures.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The worst kind of finding, if there is any.
    pub fn worst(&self) -> Option<Kind> {
        self.findings.iter().map(|finding| finding.kind).min()
    }

    /// One JSON object.
    pub fn to_json(&self) -> Value {
        let figures: Map<String, Value> = self.figures.iter().cloned().collect();
        let findings: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        json!({ "run": self.name, "figures": figures, "findings": findings })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: Vec<String> = self.figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        write!(f, "{}: {}", self.name, figures.join(", "))?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n  FAILED {finding}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let mut report = Report::new("kill");
        assert_eq!(report.worst(), None);
        report.figure("cycles", 3);
        report.findings.push(Finding::liveness("late"));
        report.findings.push(Finding::safety("lost"));
        assert_eq!(report.worst(), Some(Kind::Safety));
        assert_eq!(report.to_string(), "kill: cycles 3\n  FAILED Liveness: late\n  FAILED Safety: lost");
        assert_eq!(report.to_json()["figures"]["cycles"], 3);
        assert_eq!(report.get("cycles"), Some(&json!(3)));
    }
}
