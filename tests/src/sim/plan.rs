//! What is to happen when, drawn ahead from a seed's options: a list of steps, each with its own salt. The world performs
//! them one by one and a step that makes no sense any more does nothing, so any part of a plan is a plan: that is what a
//! shrinker needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ailments::Ailment;
use super::byzantine::Attack;
use super::clock::ClockFault;
use super::damage::Damage;
use super::network::partition::Shape;

mod draw;

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
    /// A draft of a document that is open, by a writer; by a reader, an attempt.
    Draft(usize),
    /// A tab of a document that is open edits at the version that it has seen; with a reader, it tries.
    EditInTab(usize),
    /// An open document is closed.
    Close(usize),
    /// A document is read as it was.
    ReadPast(usize),
    /// A page of the feed is read.
    ReadFeed(usize),
    /// A replica asks what each member has cost it.
    MeasureUsage(usize),
    /// A replica blocks the device of another.
    Block {
        /// Which.
        replica: usize,
        /// Whose.
        other: usize,
    },
    /// And takes the block back.
    Unblock {
        /// Which.
        replica: usize,
        /// Whose.
        other: usize,
    },
    /// An application waits until it is in sync, for a while.
    WaitSynced(usize),
    /// One who was not there at the start is invited and joins.
    Join(usize),
    /// A member leaves one of its spaces and comes back later.
    Leave(usize),
    /// A member of a space is invited once more, to any role.
    InviteAgain(usize),
    /// A machine comes into another network.
    Move(usize),
    /// A backup of a replica's disk is made.
    Backup(usize),
    /// A replica goes on from the last backup of its disk.
    Restore {
        /// Which.
        replica: usize,
        /// How long until it runs.
        down: u64,
    },
    /// A machine is copied while it runs, identity and all, and both run from then on.
    Clone {
        /// Which.
        replica: usize,
        /// After how long one of the two is gone for good, if ever.
        ends: Option<u64>,
        /// Then the copy is given a key of its own instead.
        #[serde(default)]
        renews: bool,
    },
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
        /// What that looks like, for the counts.
        #[serde(default)]
        shape: Shape,
        /// Directed pairs.
        pairs: Vec<(usize, usize)>,
        /// How long.
        length: u64,
    },
    /// Connections between two are reset.
    Reset(usize, usize),
    /// Of the connections between two, one end is gone and the other is never told.
    HalfOpen {
        /// Whose end is gone.
        gone: usize,
        /// Who is not told.
        other: usize,
    },
    /// A connection between two ends inside a frame.
    CutFrame {
        /// One of them.
        a: usize,
        /// The other.
        b: usize,
        /// So many frames go through before.
        after: u64,
    },
    /// A machine or a process ails for a while.
    Ail {
        /// Whose.
        replica: usize,
        /// What from.
        ailment: Ailment,
        /// How long.
        length: u64,
    },
    /// Something happens to the clocks of a replica.
    Clock {
        /// Whose.
        replica: usize,
        /// What.
        fault: ClockFault,
    },
    /// The next commit of a replica finds no room.
    FillDisk(usize),
    /// A replica's disk fails, or can only be read, from some call on until the replica is started again.
    BreakDisk(usize),
    /// A replica's disk is damaged for good.
    Damage {
        /// Whose.
        replica: usize,
        /// How.
        how: Damage,
    },
    /// A second process is started on the store of a running one.
    SecondProcess(usize),
    /// A hostile participant does something, if it is in all of its spaces by then.
    Strike {
        /// Who.
        replica: usize,
        /// What.
        attack: Attack,
    },
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
            | Self::Draft(replica)
            | Self::EditInTab(replica)
            | Self::Close(replica)
            | Self::ReadPast(replica)
            | Self::ReadFeed(replica)
            | Self::MeasureUsage(replica)
            | Self::WaitSynced(replica)
            | Self::Join(replica)
            | Self::Leave(replica)
            | Self::InviteAgain(replica)
            | Self::Move(replica)
            | Self::Backup(replica)
            | Self::Restore { replica, .. }
            | Self::Clone { replica, .. }
            | Self::Crash { replica, .. }
            | Self::Ail { replica, .. }
            | Self::Clock { replica, .. }
            | Self::Strike { replica, .. }
            | Self::FillDisk(replica)
            | Self::BreakDisk(replica)
            | Self::Damage { replica, .. }
            | Self::SecondProcess(replica) => vec![replica],
            Self::Cut { pairs, .. } => pairs.iter_mut().flat_map(|(from, to)| [from, to]).collect(),
            Self::Reset(a, b) | Self::CutFrame { a, b, .. } | Self::HalfOpen { gone: a, other: b } => vec![a, b],
            Self::Block { replica, other } | Self::Unblock { replica, other } => vec![replica, other],
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
    use crate::sim::Options;

    #[test]
    fn a_plan_is_in_order_and_repeats_itself() {
        for seed in 0..50 {
            let options = Options::small(seed);
            let plan = Plan::draw(&options);
            assert_eq!(plan, Plan::draw(&options));
            assert!(plan.steps.is_sorted_by_key(|step| step.at));
            assert!(plan.steps.len() >= options.steps);
            // Who is hostile may go on.
            let is_over = |step: &Step| step.at < options.chaos || matches!(step.act, Act::Strike { .. });
            assert!(plan.steps.iter().all(is_over), "everything is over before the heal");
        }
    }
}
