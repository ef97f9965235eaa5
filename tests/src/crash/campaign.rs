//! Many images from many scripts, on some threads, until there are enough or the time is over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anabranch_store::backend::crashable::{Disk, History};

use super::images::{Harm, Outcome, Recovered, check_harmed, check_honest, honest};
use super::pair::Pair;
use super::panics;
use super::script::{Step, draw};
use crate::sim::dice::Dice;

/// Images of each script: so many on an honest disk and so many on others.
const HONEST: u64 = 40;
const HARMED: u64 = 24;

/// What to do.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Scripts and images are drawn from it.
    pub seed: u64,
    /// Images in all, rounded up to whole scripts.
    pub images: u64,
    /// One script alone.
    pub script: Option<u64>,
    /// One image of it alone.
    pub image: Option<u64>,
    /// Threads.
    pub threads: usize,
    /// Failures after which it stops.
    pub failures_max: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Scripts run.
    pub scripts: u64,
    /// Images by kind of disk and outcome.
    pub images: BTreeMap<(Option<Harm>, Outcome), u64>,
    /// Panics in the store, or below it, that became errors.
    pub caught: u64,
    /// What salvages found of what was there to be found.
    pub recovered: Recovered,
    /// The failures, with how to reproduce each.
    pub failures: Vec<String>,
}

impl Campaign {
    /// Runs it. `stop` is asked before each script; `tell` hears of every failure at once.
    pub fn run(&self, stop: &(dyn Fn() -> bool + Sync), tell: &(dyn Fn(&str) + Sync)) -> Summary {
        let scripts = match self.script {
            Some(script) => script..script + 1,
            None => 0..self.images.div_ceil(HONEST + HARMED),
        };
        let (next, enough) = (AtomicU64::new(scripts.start), AtomicBool::new(false));
        let total = Mutex::new(Summary::default());
        thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while !enough.load(Ordering::Relaxed) && !stop() {
                        let script = next.fetch_add(1, Ordering::Relaxed);
                        if script >= scripts.end {
                            break;
                        }
                        let part = self.script(script);
                        part.failures.iter().for_each(|failure| tell(failure));
                        let mut total = total.lock().expect("no one panics while adding");
                        total.add(part);
                        enough.store(total.failures.len() >= self.failures_max, Ordering::Relaxed);
                    }
                });
            }
        });
        total.into_inner().expect("no one panics while adding")
    }

    fn script(&self, script: u64) -> Summary {
        let mut summary = Summary { scripts: 1, ..Summary::default() };
        let reproduce = |image: Option<u64>| {
            let image = image.map(|image| format!(" --image {image}")).unwrap_or_default();
            format!("reproduce: crash --seed {} --script {script}{image}", self.seed)
        };
        let mut dice = Dice::salted(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ script);
        let steps = draw(&mut dice);
        let lived = panics::catching(&reproduce(None), || live(&steps, script));
        let (pair, history) = match lived {
            Ok(lived) => lived,
            Err(error) => {
                summary.failures.push(format!("script {script}: {error}\n{steps:?}\n{}", reproduce(None)));
                return summary;
            }
        };
        for image in 0..HONEST + HARMED {
            // Each image has dice of its own, so that it can be made alone.
            let mut dice = Dice::salted(dice.any());
            if self.image.is_some_and(|only| only != image) {
                continue;
            }
            let at = reproduce(Some(image));
            let mut what = String::new();
            let mut recovered = Recovered::default();
            let harm = (image >= HONEST).then(|| Harm::ALL[(image % Harm::ALL.len() as u64) as usize]);
            let result = panics::catching(&at, || match harm {
                None => {
                    let (bytes, step, survival) = honest(&history, &mut dice);
                    what = format!("power cut at step {step} of {}, {survival:?}", history.len());
                    check_honest(&pair, bytes, step, &mut dice)
                }
                Some(harm) => {
                    what = format!("{harm:?}");
                    check_harmed(&pair, harm.image(&history, &mut dice), &mut recovered)
                }
            });
            match result {
                Ok(outcome) => *summary.images.entry((harm, outcome)).or_default() += 1,
                Err(error) => summary.failures.push(format!("script {script}, image {image}: {what}: {error}\n{at}")),
            }
            summary.caught += panics::take_count();
            summary.recovered.whole += recovered.whole;
            summary.recovered.found += recovered.found;
        }
        summary
    }
}

/// Runs a script on a disk that keeps its history, from a fresh store on.
fn live(steps: &[Step], seed: u64) -> Result<(Pair, History), String> {
    let disk = Disk::new();
    // Making a store is a rename's business on a real disk: here it is there from the beginning.
    drop(anabranch_store::Store::open_with_backend(disk.backend()).map_err(|error| error.to_string())?);
    disk.record();
    let mut pair = Pair::new(disk, seed);
    for step in steps {
        step.perform(&mut pair).map_err(|error| format!("{step:?}: {error}"))?;
    }
    pair.pass(1);
    let history = pair.disk.history();
    pair.stop_ours();
    Ok((pair, history))
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.scripts += other.scripts;
        self.caught += other.caught;
        self.recovered.whole += other.recovered.whole;
        self.recovered.found += other.recovered.found;
        self.failures.extend(other.failures);
        for (key, count) in other.images {
            *self.images.entry(key).or_default() += count;
        }
    }

    /// Images that came to an end, on honest disks or on others.
    pub fn count(&self, honest: bool) -> u64 {
        self.images.iter().filter(|((harm, _), _)| harm.is_none() == honest).map(|(_, count)| count).sum()
    }

    /// Images with this outcome.
    pub fn with(&self, outcome: Outcome) -> u64 {
        self.images.iter().filter(|((_, of), _)| *of == outcome).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "crash: scripts {}, images {} (honest disks {}, others {}), panics caught {}, whole runs {} of which salvaged {}, \
             failed {}",
            self.scripts,
            self.count(true) + self.count(false),
            self.count(true),
            self.count(false),
            self.caught,
            self.recovered.whole,
            self.recovered.found,
            self.failures.len()
        )?;
        for ((harm, outcome), count) in &self.images {
            let disk = harm.map_or("honest disk".to_owned(), |harm| format!("{harm:?}"));
            writeln!(f, "  {disk}: {outcome:?} {count}")?;
        }
        Ok(())
    }
}
