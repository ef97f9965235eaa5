//! Nodes killed in the middle of a large import, or of receiving one: here and at the peer the document is the old one or the
//! new one, as a whole, and nothing else.
//!
//! Two nodes share a document. In a cycle it is imported over with other content of 5 MB on the first node, and at a moment that
//! the seed draws one of the two is killed, the importing one in two of three cycles. Then it is looked at on both, before they
//! can have caught up with each other, and once more when they have.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::processes::command::{self, Finished};
use crate::processes::cycles::{self, Cycles, Settings};
use crate::processes::finding::{Finding, Report};
use crate::processes::fleet::Fleet;
use crate::processes::patience::{PATIENCE, Stopwatch};
use crate::sim::dice::Dice;

/// Entries of a file of about 5 MB.
pub const ENTRIES: u64 = 160_000;
/// A document takes 10 million operations; an import makes two for each entry.
const CYCLES_PER_DOCUMENT: u64 = 25;
/// Who imports, and who receives.
const HERE: usize = 0;
const PEER: usize = 1;

#[derive(Debug, Default)]
struct Counts {
    here_killed: u64,
    peer_killed: u64,
    acknowledged: u64,
    new_here: u64,
    new_at_peer: u64,
}

/// Imports until there are enough of them, or the time is over, or something is found. Each has so many entries of some 32 bytes.
pub fn run(settings: &Settings, entries: u64) -> Report {
    cycles::run(&Imports { entries }, settings)
}

/// A cycle for each import.
struct Imports {
    entries: u64,
}

impl Cycles for Imports {
    const RUN: &'static str = "imports";
    const ONE: &'static str = "import";
    const PER_STAGE: u64 = CYCLES_PER_DOCUMENT;
    type Stage = Shared;
    type Counts = Counts;

    fn stage(&self, first: u64) -> Result<Shared, Finding> {
        Shared::found(first, self.entries)
    }

    fn cycle(&self, shared: &mut Shared, _: u64, dice: &mut Dice, counts: &mut Counts) -> Result<(), Finding> {
        shared.import_and_kill(dice, counts)
    }

    fn leave(&self, mut shared: Shared) -> Result<(), Finding> {
        shared.fleet.check_alive()
    }

    fn figures(counts: &Counts) -> Vec<(&'static str, u64)> {
        vec![
            ("importing_node_killed", counts.here_killed),
            ("peer_killed", counts.peer_killed),
            ("acknowledged", counts.acknowledged),
            ("new_here_after_the_kill", counts.new_here),
            ("new_at_the_peer_after_the_kill", counts.new_at_peer),
        ]
    }
}

/// Two nodes and their document.
struct Shared {
    fleet: Fleet,
    document: String,
    /// Which content it has.
    version: u64,
    /// Entries of that.
    entries: u64,
    /// How long an import takes until the peer has it, when nobody is killed.
    whole: Duration,
}

impl Shared {
    fn found(version: u64, entries: u64) -> Result<Self, Finding> {
        let fleet = Fleet::start(2)?;
        let document = fleet.new_document(&json!([{ "op": "set", "path": "/version", "value": version }]))?;
        let mut shared = Self { fleet, document, version, entries, whole: Duration::ZERO };
        let clock = Stopwatch::start();
        let file = shared.file(version)?;
        let imported = import(shared.fleet.directory(HERE).to_path_buf(), &shared.document, file);
        if imported.code != Some(0) {
            return Err(Finding::safety(format!("an import in peace failed: {}", imported.stderr)));
        }
        shared.fleet.agree(PATIENCE)?;
        shared.whole = clock.elapsed();
        Ok(shared)
    }

    fn import_and_kill(&mut self, dice: &mut Dice, counts: &mut Counts) -> Result<(), Finding> {
        let (old, new) = (self.version, self.version + 1);
        let victim = if dice.percent(66) { HERE } else { PEER };
        let moment = Duration::from_micros(dice.below(self.whole.as_micros() as u64));
        let (directory, file) = (self.fleet.directory(HERE).to_path_buf(), self.file(new)?);
        let document = self.document.clone();
        let importing = std::thread::spawn(move || import(directory, &document, file));
        std::thread::sleep(moment);
        self.fleet.kill(victim);
        *(if victim == HERE { &mut counts.here_killed } else { &mut counts.peer_killed }) += 1;
        let imported = importing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let is_acknowledged = imported.code == Some(0);
        counts.acknowledged += u64::from(is_acknowledged);
        if victim == PEER && !is_acknowledged {
            return Err(Finding::safety(format!("an import failed as its peer was killed: {}", imported.stderr)));
        }
        // First who was not killed: the other one may bring it more.
        let mut seen = [old; 2];
        seen[1 - victim] = self.look(1 - victim, old, new)?;
        self.fleet.restart(victim)?;
        seen[victim] = self.look(victim, old, new)?;
        if is_acknowledged && seen[HERE] == old {
            return Err(Finding::safety("an import that was said to be saved is gone".to_owned()));
        }
        counts.new_here += u64::from(seen[HERE] == new);
        counts.new_at_peer += u64::from(seen[PEER] == new);
        self.fleet.agree(PATIENCE)?;
        self.version = self.look(HERE, old, new)?;
        let at_peer = self.look(PEER, old, new)?;
        if at_peer != self.version {
            let text = format!("in sync, and the one has {} and the other {at_peer}", self.version);
            return Err(Finding::safety(text));
        }
        Ok(())
    }

    /// Which of the two a node shows; anything else is what must not be.
    fn look(&self, node: usize, old: u64, new: u64) -> Result<u64, Finding> {
        let shown = command::run(self.fleet.directory(node), &["--json", "doc", "get", &self.document], "");
        let value: Value = serde_json::from_str(&shown.stdout)
            .map_err(|error| Finding::liveness(format!("node {node} shows no document: {error}: {}", shown.stderr)))?;
        let value = &value["value"];
        match [old, new].into_iter().find(|version| *value == content(*version, self.entries)) {
            Some(version) => Ok(version),
            None => {
                let members = value.as_object().map_or(0, Map::len);
                let version = &value["version"];
                let text = format!("node {node} shows {members} entries of version {version}, neither {old} nor {new}");
                Err(Finding::safety(text))
            }
        }
    }

    fn file(&self, version: u64) -> Result<PathBuf, Finding> {
        let path = self.fleet.directory(HERE).with_extension(format!("{version}.json"));
        std::fs::write(&path, content(version, self.entries).to_string())
            .map_err(|error| Finding::crash(format!("cannot write {}: {error}", path.display())))?;
        Ok(path)
    }
}

/// Numbers only: every one differs between versions, and takes one operation.
fn content(version: u64, entries: u64) -> Value {
    let number = |entry: u64| (entry + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (version << 20)) >> 5;
    let entries = (0..entries).map(|entry| (format!("k{entry:07}"), json!(number(entry))));
    let mut members: Map<String, Value> = entries.collect();
    members.insert("version".to_owned(), json!(version));
    Value::Object(members)
}

fn import(directory: PathBuf, document: &str, file: PathBuf) -> Finished {
    let path = file.to_string_lossy();
    let finished = command::run(&directory, &["doc", "import", document, path.as_ref()], "");
    // What cannot be removed lies in the fleet's folder, which goes with it.
    let _ = std::fs::remove_file(file);
    finished
}
