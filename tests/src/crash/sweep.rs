//! Fail the first call to the disk, then the second, and so on until a script no longer makes so many: after each, nothing
//! acknowledged is lost, the error is one of words, and a replica on the healed disk goes on.

use anabranch_engine::space::roles::Role;
use anabranch_store::Store;
use anabranch_store::backend::crashable::{Disk, Fault};

use super::images::{Recovered, check_harmed, check_honest};
use super::pair::Pair;
use super::panics;
use super::script::Step;
use crate::sim::dice::Dice;

/// The faults that are tried at each call.
pub const FAULTS: [Fault; 3] = [Fault::Io, Fault::Full, Fault::Sync];

/// A script whose calls fail one by one.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// What it is about.
    pub name: &'static str,
    /// Done before, on a disk that works.
    pub before: &'static [Step],
    /// What the disk goes through then.
    pub disk: Condition,
    /// What is done while calls fail.
    pub script: &'static [Step],
}

/// How our store is found when calls begin to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The disk is empty.
    Empty,
    /// It was closed.
    Closed,
    /// The power was cut.
    Cut,
    /// Our replica runs.
    Running,
    /// It was closed, and a run in it has rotted.
    Rotten,
    /// Its beginning is gone: a new store is to be made, on an empty disk, of what is readable.
    Wrecked,
}

use Condition::{Closed, Cut, Empty, Rotten, Running, Wrecked};
use Step::{
    Admit, Agree, Document, EachSaved, Edits, Feed, Found, Invite, Join, Leave, OpenAll, Salvage, ShutDown, Start,
    Stop, TheirDocument, TheirEdits, Wait,
};

const SOME: &[Step] = &[Start, Found, Document(0), Edits(0, 3, 50), Document(0)];
const SHARED: &[Step] = &[Start, Join(Role::Writer), TheirDocument(0), Document(0), TheirEdits(0, 3), Agree];
const BEHIND: &[Step] = &[
    Start,
    Join(Role::Writer),
    TheirDocument(0),
    Agree,
    Step::Cut,
    TheirDocument(0),
    TheirDocument(0),
    TheirEdits(0, 12),
];

/// Every script.
pub const SCRIPTS: &[Script] = &[
    Script { name: "make a store and start", before: &[], disk: Empty, script: &[Start] },
    Script { name: "open a store that was closed", before: SOME, disk: Closed, script: &[Start] },
    Script { name: "open a store after a power cut", before: SOME, disk: Cut, script: &[Start] },
    Script {
        name: "open, edit, close, open again",
        before: SOME,
        disk: Closed,
        script: &[Start, EachSaved(2), Stop, Start],
    },
    Script { name: "found a space", before: &[Start], disk: Running, script: &[Found] },
    Script { name: "found three spaces", before: &[Start], disk: Running, script: &[Found, Found, Found] },
    Script { name: "invite", before: SOME, disk: Running, script: &[Invite] },
    Script { name: "let a writer in", before: SOME, disk: Running, script: &[Admit(Role::Writer)] },
    Script { name: "let a reader in and wait", before: SOME, disk: Running, script: &[Admit(Role::Reader), Wait(20)] },
    Script { name: "join as a writer", before: SOME, disk: Running, script: &[Join(Role::Writer)] },
    Script {
        name: "join as a reader",
        before: &[Start],
        disk: Running,
        script: &[Join(Role::Reader), TheirDocument(0), Agree],
    },
    Script { name: "first edit", before: &[Start, Found], disk: Running, script: &[Document(0)] },
    Script { name: "twelve edits, each saved", before: SOME, disk: Running, script: &[EachSaved(12)] },
    Script { name: "fifty edits in one commit", before: SOME, disk: Running, script: &[Edits(0, 50, 20)] },
    Script { name: "a large edit", before: SOME, disk: Running, script: &[Edits(0, 1, 120_000)] },
    Script {
        name: "many documents",
        before: SOME,
        disk: Running,
        script: &[Document(0), Document(0), Document(0), EachSaved(5)],
    },
    Script { name: "runs arrive", before: SHARED, disk: Running, script: &[TheirEdits(0, 6), Agree] },
    Script { name: "catch up with documents and runs", before: BEHIND, disk: Running, script: &[Agree] },
    Script { name: "catch up after a power cut", before: BEHIND, disk: Cut, script: &[Start, Agree] },
    Script { name: "both write at once", before: BEHIND, disk: Running, script: &[EachSaved(3), Agree, EachSaved(2)] },
    Script { name: "read the feed", before: SHARED, disk: Running, script: &[Feed, EachSaved(1), Feed] },
    Script { name: "leave a space", before: SHARED, disk: Running, script: &[Leave, Wait(1)] },
    Script {
        name: "leave a space and found another",
        before: SHARED,
        disk: Running,
        script: &[Leave, Found, Document(0)],
    },
    Script {
        name: "finish leaving after a power cut",
        before: &[Start, Found, Document(0), Found, Leave],
        disk: Cut,
        script: &[Start, Wait(1)],
    },
    Script {
        name: "mend a document with a rotten run",
        before: SHARED,
        disk: Rotten,
        script: &[Start, OpenAll, Agree],
    },
    Script {
        name: "mend and write at once",
        before: SHARED,
        disk: Rotten,
        script: &[Start, OpenAll, Document(0), Agree],
    },
    Script { name: "salvage", before: SOME, disk: Wrecked, script: &[Salvage, OpenAll, EachSaved(2)] },
    Script { name: "salvage and sync", before: SHARED, disk: Wrecked, script: &[Salvage, Agree, EachSaved(1)] },
    Script { name: "shut down", before: SHARED, disk: Running, script: &[EachSaved(1), ShutDown] },
    Script { name: "shut down and start again", before: SHARED, disk: Running, script: &[ShutDown, Start, Agree] },
];

/// What came of one script.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// Calls that were made to fail.
    pub calls: u64,
    /// Runs in which the script ended with an error.
    pub errors: u64,
    /// What went wrong, with where.
    pub failures: Vec<String>,
}

impl Script {
    /// Fails every `stride`-th call with every fault.
    pub fn sweep(&self, stride: u64) -> Swept {
        let mut swept = Swept::default();
        for fault in FAULTS {
            let mut call = 0;
            loop {
                let at = format!("sweep `{}`, call {call}, {fault:?}", self.name);
                match panics::catching(&at, || self.fail_at(call, fault)) {
                    Ok(Tried { hit: false, .. }) => break,
                    Ok(tried) => {
                        swept.calls += 1;
                        swept.errors += u64::from(tried.error);
                    }
                    Err(error) => {
                        swept.calls += 1;
                        swept.failures.push(format!("{at}: {error}"));
                        if swept.failures.len() > 3 {
                            return swept;
                        }
                    }
                }
                call += stride;
            }
        }
        swept
    }

    fn fail_at(&self, call: u64, fault: Fault) -> Result<Tried, String> {
        let mut pair = self.prepare()?;
        pair.disk.fail_after(call, fault);
        let result = self.script.iter().try_for_each(|step| step.perform(&mut pair));
        let hit = pair.disk.faults() > 0;
        if let Err(error) = &result {
            says_what(error, fault, hit)?;
        }
        if let Err(error) = pair.check_contents() {
            return Err(format!("while it ran: {error}"));
        }
        pair.disk.heal();
        if fault == Fault::Full && hit {
            goes_on(&mut pair)?;
        }
        let seed = call * 31 + fault as u64;
        let (killed, cut) = (pair.disk.image(), pair.disk.crash_image(seed));
        let steps = pair.disk.steps();
        pair.disk.crash(seed);
        pair.stop_ours();
        for (how, image) in [("killed", killed), ("power cut", cut)] {
            // A store that was never whole has no name on a real disk.
            let opens = || Store::open_with_backend(Disk::from_image(image.clone()).backend()).is_ok();
            if self.disk == Empty && !opens() || self.disk == Wrecked && !pair.is_salvaged() {
                continue;
            }
            if self.disk == Rotten {
                check_harmed(&pair, image, &mut Recovered::default())
                    .map_err(|error| format!("then {how}: {error}"))?;
                continue;
            }
            let mut dice = Dice::salted(seed);
            check_honest(&pair, image, steps, &mut dice).map_err(|error| format!("then {how}: {error}"))?;
        }
        Ok(Tried { hit, error: result.is_err() })
    }

    /// The two replicas as they are when the script begins.
    ///
    /// # Errors
    /// A step before it fails.
    pub fn prepare(&self) -> Result<Pair, String> {
        let mut pair = Pair::new(Disk::new(), 7);
        for step in self.before {
            step.perform(&mut pair).map_err(|error| format!("before: {step:?}: {error}"))?;
        }
        let image = match self.disk {
            Running => {
                pair.disk.record();
                pair.book.begin_anew();
                return Ok(pair);
            }
            Empty => Vec::new(),
            Closed => {
                pair.stop_ours();
                pair.disk.image()
            }
            Cut => pair.disk.crash_image(5),
            Rotten => {
                pair.stop_ours();
                rotten(&pair)?
            }
            Wrecked => {
                pair.stop_ours();
                let mut wreck = pair.disk.image();
                wreck[..4096].fill(0xaa);
                let mut pair = pair.on(Disk::new());
                pair.wreck = Some(wreck);
                return Ok(pair);
            }
        };
        pair.stop_ours();
        let disk = Disk::from_image(image);
        disk.record();
        let mut pair = pair.on(disk);
        pair.book.begin_anew();
        Ok(pair)
    }
}

/// A closed store in which a bit of the oldest run has changed.
fn rotten(pair: &Pair) -> Result<Vec<u8>, String> {
    let mut image = pair.disk.image();
    let (_, run) = pair.book.last().runs.first().ok_or("there is no run")?;
    // Long enough to be nowhere else: keys and hashes have 32 bytes.
    let tail = &run[run.len() - 64..];
    let places: Vec<usize> = image.windows(64).enumerate().filter(|(_, at)| *at == tail).map(|(at, _)| at).collect();
    if places.is_empty() {
        return Err("the run is not in the file".to_owned());
    }
    for place in places {
        image[place] ^= 4;
    }
    Ok(image)
}

/// There is room again: a replica that runs takes edits in a while, unless it was a sync that failed.
fn goes_on(pair: &mut Pair) -> Result<(), String> {
    pair.pass(12);
    if pair.waits_for_room() {
        return Err("there is room on the disk, and it does not go on".to_owned());
    }
    pair.check_contents().map_err(|error| format!("when there is room again: {error}"))
}

struct Tried {
    hit: bool,
    error: bool,
}

/// An error must name what happened to the disk.
fn says_what(error: &str, fault: Fault, hit: bool) -> Result<(), String> {
    if !hit {
        return Err(format!("it fails on a disk that works: {error}"));
    }
    let expected = if fault == Fault::Full { "the disk is full" } else { "the simulated disk failed" };
    // redb says of a store that has failed only that it has.
    if error.contains(expected) || error.contains("Previous I/O error") {
        return Ok(());
    }
    Err(format!("an error that does not say `{expected}`: {error}"))
}
