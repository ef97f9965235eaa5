//! What is to happen when, drawn ahead from a seed's options: a list of steps, each with its own salt. The world performs
//! them one by one and a step that makes no sense any more does nothing, so any part of a plan is a plan: that is what a
//! shrinker needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SECONDS;
use super::dice::{Dice, Stream};
use super::options::Options;

/// One planned step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, in virtual microseconds.
    pub at: u64,
    /// What.
    pub act: Act,
    /// For whatever the step leaves open.
    pub salt: u64,
}

/// What can be planned. Replicas are named by index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// An edit of a document that exists, by a writer; by a reader, an attempt.
    Edit(usize),
    /// A new document and its first edit.
    NewDocument(usize),
    /// An open document is closed.
    Close(usize),
    /// A document is read as it was.
    ReadPast(usize),
    /// A page of the feed is read.
    ReadFeed(usize),
    /// An application waits until it is in sync, for a while.
    WaitSynced(usize),
    /// One who was not there at the start is invited and joins.
    Join(usize),
    /// A process dies.
    Crash {
        /// Whose.
        replica: usize,
        /// How.
        how: Crash,
        /// How long until it is back.
        down: u64,
    },
    /// Frames stop flowing from the first to the second of each pair.
    Cut {
        /// Directed pairs.
        pairs: Vec<(usize, usize)>,
        /// How long.
        length: u64,
    },
    /// Connections between two are reset.
    Reset(usize, usize),
    /// The next commit of a replica finds no room.
    FillDisk(usize),
}

/// How a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crash {
    /// Killed: what it wrote is there, synced or not, and its connections are closed.
    Kill,
    /// The power goes: what was not synced may be lost, and nobody is told.
    PowerCut,
    /// The power goes while the store executes a request.
    MidRequest,
    /// Killed while runs from a peer are merged.
    WhileApplying,
}

/// The plan of a seed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan {
    /// In order of time.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Draws the plan that belongs to `options`.
    pub fn draw(options: &Options) -> Self {
        let mut dice = Dice::new(options.seed, Stream::Plan);
        let mut plan = Self::default();
        let end = options.chaos;
        let replicas = options.replicas;
        for joiner in replicas - options.late..replicas {
            let at = dice.between(end / 10, end / 2);
            plan.add(&mut dice, at, Act::Join(joiner));
        }
        for _ in 0..options.steps {
            let replica = dice.index(replicas);
            let act = match dice.below(100) {
                0..70 => Act::Edit(replica),
                70..80 => Act::NewDocument(replica),
                80..85 => Act::Close(replica),
                85..90 => Act::ReadPast(replica),
                90..95 => Act::ReadFeed(replica),
                _ => Act::WaitSynced(replica),
            };
            let at = dice.below(end);
            plan.add(&mut dice, at, act);
        }
        plan.add_crashes(&mut dice, options);
        plan.add_cuts(&mut dice, options);
        for _ in 0..options.faults.resets {
            let (from, to) = two(&mut dice, replicas);
            let at = dice.below(end);
            plan.add(&mut dice, at, Act::Reset(from, to));
        }
        for _ in 0..options.faults.full_disks {
            let at = dice.below(end);
            let act = Act::FillDisk(dice.index(replicas));
            plan.add(&mut dice, at, act);
        }
        plan.steps.sort_by_key(|step| step.at);
        plan
    }

    fn add(&mut self, dice: &mut Dice, at: u64, act: Act) {
        self.steps.push(Step { at, act, salt: dice.any() });
    }

    fn add_crashes(&mut self, dice: &mut Dice, options: &Options) {
        for _ in 0..options.faults.crashes {
            let how = if dice.percent(options.faults.mid_request) {
                Crash::MidRequest
            } else if dice.percent(options.faults.while_applying) {
                Crash::WhileApplying
            } else if dice.percent(options.faults.power_cuts) {
                Crash::PowerCut
            } else {
                Crash::Kill
            };
            let down = dice.heavy(SECONDS / 100, 3 * SECONDS, 200, 60 * SECONDS);
            let at = dice.below(options.chaos);
            let act = Act::Crash { replica: dice.index(options.replicas), how, down };
            self.add(dice, at, act);
        }
    }

    fn add_cuts(&mut self, dice: &mut Dice, options: &Options) {
        let end = options.chaos;
        let length = |dice: &mut Dice| dice.heavy(SECONDS / 20, 10 * SECONDS, 300, end.max(11 * SECONDS));
        for _ in 0..options.faults.splits {
            let side: Vec<bool> = (0..options.replicas).map(|_| dice.percent(50)).collect();
            let mut pairs = Vec::new();
            for from in 0..options.replicas {
                for to in 0..options.replicas {
                    if side[from] != side[to] {
                        pairs.push((from, to));
                    }
                }
            }
            let (at, length) = (dice.below(end), length(dice));
            self.add(dice, at, Act::Cut { pairs, length });
        }
        for _ in 0..options.faults.one_way {
            let pairs = vec![two(dice, options.replicas)];
            let (at, length) = (dice.below(end), length(dice));
            self.add(dice, at, Act::Cut { pairs, length });
        }
        for _ in 0..options.faults.flaps {
            let (a, b) = two(dice, options.replicas);
            let mut at = dice.below(end);
            for _ in 0..dice.between(3, 10) {
                let length = dice.between(SECONDS / 20, 2 * SECONDS);
                self.add(dice, at, Act::Cut { pairs: vec![(a, b), (b, a)], length });
                at += length + dice.between(SECONDS / 20, 2 * SECONDS);
            }
        }
    }
}

/// Two different replicas (there are at least two).
fn two(dice: &mut Dice, replicas: usize) -> (usize, usize) {
    let a = dice.index(replicas);
    let b = (a + 1 + dice.index(replicas - 1)) % replicas;
    (a, b)
}

impl Act {
    /// The replicas that it names.
    pub fn replicas(&self) -> Vec<usize> {
        self.clone().replicas_mut().into_iter().map(|replica| *replica).collect()
    }

    /// The same, to give them other numbers.
    pub fn replicas_mut(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Edit(replica)
            | Self::NewDocument(replica)
            | Self::Close(replica)
            | Self::ReadPast(replica)
            | Self::ReadFeed(replica)
            | Self::WaitSynced(replica)
            | Self::Join(replica)
            | Self::Crash { replica, .. }
            | Self::FillDisk(replica) => vec![replica],
            Self::Cut { pairs, .. } => pairs.iter_mut().flat_map(|(from, to)| [from, to]).collect(),
            Self::Reset(a, b) => vec![a, b],
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6}s {:?}", self.at as f64 / 1e6, self.act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_in_order_and_repeats_itself() {
        for seed in 0..50 {
            let options = Options::small(seed);
            let plan = Plan::draw(&options);
            assert_eq!(plan, Plan::draw(&options));
            assert!(plan.steps.is_sorted_by_key(|step| step.at));
            assert!(plan.steps.len() >= options.steps);
        }
    }
}
