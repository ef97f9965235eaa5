//! Regression files: a situation that failed once, whole, as JSON. A seed number is none: what it draws changes with every
//! new fault class. A file holds what was drawn, the options and the plan, and says what it found.
//!
//! ```json
//! {
//!   "version": 1,
//!   "found": "what went wrong, in a sentence",
//!   "mended": "what was done about it",
//!   "failed": { "kind": "safety", "checker": "I2 no acknowledged write lost" },
//!   "options": { "seed": 18, "replicas": 2, "network": { "latency_min": 1000 } },
//!   "plan": [
//!     { "at": 1204000, "act": { "edit": 0 }, "salt": 7 },
//!     { "at": 1900000, "act": { "crash": { "replica": 1, "how": "power_cut", "down": 400000 } }, "salt": 8 }
//!   ]
//! }
//! ```
//!
//! Reading is strict: a field that is not known, another version, or a replica that is not there is refused, because a
//! situation read half is another situation. An option that is missing is as in a calm world.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Failure, Kind, Options, Plan};

/// The version written and read.
pub const VERSION: u32 = 1;
/// Bytes of a file. Measured: a large seed's whole plan has 60 kB.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Replicas that a file may ask for.
pub const REPLICAS_MAX: usize = 64;

/// A situation that failed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// [`VERSION`].
    pub version: u32,
    /// What went wrong, for people.
    pub found: String,
    /// What was done about it; empty while nothing was.
    pub mended: String,
    /// What saw it.
    pub failed: Failed,
    /// Everything that was drawn.
    pub options: Options,
    /// What happens when.
    pub plan: Plan,
}

/// Which checker failed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The kind of promise that was broken.
    pub kind: Kind,
    /// The checker.
    pub checker: String,
}

impl Failed {
    /// What is kept of a failure.
    pub fn of(failure: &Failure) -> Self {
        Self { kind: failure.kind, checker: failure.checker.to_owned() }
    }
}

impl Regression {
    /// A situation that has just failed.
    pub fn new(options: Options, plan: Plan, failure: &Failure) -> Self {
        let found = failure.text.lines().next().unwrap_or_default().to_owned();
        Self { version: VERSION, found, mended: String::new(), failed: Failed::of(failure), options, plan }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is over [`FILE_BYTES_MAX`], or is not what this version writes; with what and where.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |text: String| format!("{}: {text}", path.display());
        let length = fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(named(format!("{length} bytes, limit {FILE_BYTES_MAX}")));
        }
        let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(named)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Regression::read`].
    pub fn parse(text: &str) -> Result<Self, String> {
        // Another version may have other fields: its number is looked at first.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("version {version}, this program reads {VERSION}"));
        }
        let regression: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        regression.check()?;
        Ok(regression)
    }

    /// A world can be made of it.
    fn check(&self) -> Result<(), String> {
        let Options { replicas, late, .. } = self.options;
        if !(1..=REPLICAS_MAX).contains(&replicas) {
            return Err(format!("{replicas} replicas, must be 1 to {REPLICAS_MAX}"));
        }
        if late >= replicas {
            return Err(format!("{late} of {replicas} replicas are late: someone has to be there"));
        }
        if let Some(hostile) = self.options.byzantine.as_ref().filter(|hostile| hostile.replica >= replicas) {
            return Err(format!("replica {} of {replicas}, counted from 0, is hostile", hostile.replica));
        }
        for step in &self.plan.steps {
            if let Some(replica) = step.act.replicas().into_iter().find(|replica| *replica >= replicas) {
                return Err(format!("step `{step}` names replica {replica} of {replicas}, counted from 0"));
            }
        }
        Ok(())
    }

    /// The text of a file: options as a block, and each step of the plan on a line of its own.
    pub fn text(&self) -> String {
        #[derive(Serialize)]
        struct Head<'a> {
            version: u32,
            found: &'a str,
            mended: &'a str,
            failed: &'a Failed,
            options: &'a Options,
        }
        let Self { version, found, mended, failed, options, plan } = self;
        let head = Head { version: *version, found, mended, failed, options };
        let head = serde_json::to_string_pretty(&head).expect("plain data");
        let steps: Vec<String> = plan
            .steps
            .iter()
            .map(|step| format!("\n    {}", serde_json::to_string(step).expect("plain data")))
            .collect();
        let head = head.strip_suffix("\n}").expect("an object");
        format!("{head},\n  \"plan\": [{}\n  ]\n}}\n", steps.join(","))
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        fs::write(path, self.text()).map_err(|error| format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Regression {
        let options = Options::small(18);
        let plan = Plan::draw(&options);
        let failure = Failure { kind: Kind::Safety, checker: "I4 exactly once", at: 5, text: "1 is 2\nat".to_owned() };
        Regression::new(options, plan, &failure)
    }

    #[test]
    fn a_regression_is_read_as_it_was_written() {
        for seed in 0..40 {
            let options = Options::small(seed);
            let plan = Plan::draw(&options);
            let regression = Regression { options, plan, ..some() };
            assert_eq!(Regression::parse(&regression.text()), Ok(regression));
        }
        assert_eq!(some().found, "1 is 2");
        let empty = Regression { plan: Plan::default(), ..some() };
        assert_eq!(Regression::parse(&empty.text()), Ok(empty));
    }

    #[test]
    fn an_option_that_is_missing_is_as_in_a_calm_world() {
        let text = r#"{ "version": 1, "found": "x", "mended": "y", "failed": { "kind": "liveness", "checker": "c" },
            "options": { "seed": 7, "replicas": 2, "network": { "latency_min": 5 } }, "plan": [] }"#;
        let read = Regression::parse(text).unwrap().options;
        let mut calm = Options { replicas: 2, ..Options::calm(7) };
        calm.network.latency_min = 5;
        assert_eq!(read, calm);
    }

    #[test]
    fn what_is_no_regression_is_refused_with_the_reason() {
        let refused = |from: &str, to: &str| {
            let text = some().text();
            assert!(text.contains(from), "{text}");
            Regression::parse(&text.replacen(from, to, 1)).unwrap_err()
        };
        assert_eq!(refused("\"version\": 1", "\"version\": 2"), "version 2, this program reads 1");
        assert!(refused("\"lose_live\"", "\"loose_live\"").contains("unknown field `loose_live`"));
        assert!(refused("\"edit\"", "\"edits\"").contains("unknown variant `edits`"));
        assert!(refused("\"salt\"", "\"pepper\"").contains("unknown field `pepper`"));
        assert!(refused("\"found\"", "\"lost\"").contains("unknown field `lost`"));
        let mut many = some();
        many.options.replicas = 1000;
        assert_eq!(Regression::parse(&many.text()).unwrap_err(), "1000 replicas, must be 1 to 64");
        let mut gone = some();
        gone.options.replicas = 1;
        gone.options.late = 0;
        assert!(Regression::parse(&gone.text()).unwrap_err().contains("of 1, counted from 0"));
        assert!(Regression::parse("{}").unwrap_err().contains("missing field `version`"));
    }
}
