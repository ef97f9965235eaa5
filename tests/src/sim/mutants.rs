//! Engines with a deliberate fault: which checker has to see each, and the search for a seed in which it does.

use anabranch_engine::Mutant;

use super::campaign::caught;
use super::checkers::{
    acknowledged, actors, amplification, atomic, authorised, causality, convergence, counters, deletions, determinism,
    dials, durability, liveness, memory, panics, patches, sessions, silence, untouched, versions,
};
use super::phases::{Report, run_world};
use super::trace::Trace;
use super::{Failure, Options, Plan, World};

/// The checker that a mutant must be caught by.
pub fn checker(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::BlindDigest => convergence::CHECKER,
        Mutant::SkipsPatches => patches::CHECKER,
        Mutant::AcknowledgesEarly => acknowledged::CHECKER,
        Mutant::HoldsBeforeAncestors => causality::CHECKER,
        Mutant::CountsTwice => counters::CHECKER,
        Mutant::ReadsStale => sessions::CHECKER,
        Mutant::LeavesInMemoryOnly => deletions::CHECKER,
        Mutant::SplitsCommits => durability::CHECKER,
        Mutant::ForgetsNothing => memory::CHECKER,
        Mutant::SendsEverything => amplification::CHECKER,
        Mutant::TellsEveryone => untouched::CHECKER,
        Mutant::ChecksRepeats => untouched::CHECKER,
        Mutant::HintsForEver => silence::CHECKER,
        Mutant::NeverTriesAgain => liveness::CHECKER,
        Mutant::Undetermined => determinism::CHECKER,
        Mutant::Panics => panics::CHECKER,
        Mutant::SkipsRoleCheck => authorised::CHECKER,
        Mutant::WritesAnotherVersion => versions::CHECKER,
        Mutant::ContinuesActors => actors::CHECKER,
        Mutant::SplitsDrafts => atomic::CHECKER,
        Mutant::DialsAtOnce => dials::CHECKER,
    }
}

/// What came of a search.
#[derive(Debug, Clone)]
pub struct Hunt {
    /// The mutant.
    pub mutant: Mutant,
    /// The seed in which its checker caught it, and what it said.
    pub caught: Option<(u64, Failure)>,
    /// What other checkers saw in the seeds before.
    pub others: Vec<(u64, Failure)>,
}

/// Runs small seeds of a world of mutants until their checker has caught one, `seeds_max` of them at most.
pub fn hunt(mutant: Mutant, seeds_max: u64) -> Hunt {
    let mut hunt = Hunt { mutant, caught: None, others: Vec::new() };
    for seed in 0..seeds_max {
        let mut failure = run(mutant, seed).failure;
        if mutant == Mutant::Undetermined && failure.is_none() {
            failure = determinism::check(&run(mutant, seed), &run(mutant, seed));
        }
        match failure {
            Some(failure) if failure.checker == checker(mutant) => {
                hunt.caught = Some((seed, failure));
                break;
            }
            Some(failure) => hunt.others.push((seed, failure)),
            None => {}
        }
    }
    hunt
}

fn run(mutant: Mutant, seed: u64) -> Report {
    let mut options = Options::small(seed);
    // Spaces are left at the end of seeds that end with a restart.
    options.reopen |= mutant == Mutant::LeavesInMemoryOnly;
    caught(seed, || {
        let plan = Plan::draw(&options);
        let mut world = World::new(options, Trace::new(false, false));
        world.mutant = Some(mutant);
        run_world(world, plan)
    })
}
