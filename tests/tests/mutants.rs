//! Every checker of the simulator catches the engine that breaks its promise: for each there is a mutant, and a seed is
//! looked for in which that checker, and no other, is the first to see it. Needs the feature `mutants`:
//!
//! ```sh
//! cargo test --release -p anabranch-tests --features mutants --test mutants -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anabranch_engine::Mutant;
use anabranch_tests::sim::mutants::{Hunt, checker, hunt};

/// Seeds tried for each. Measured: most are caught in the first ten; one that tells what it refused in other spaces takes some
/// hundreds.
const SEEDS_MAX: u64 = 1_000;
/// Mutants hunted at once.
const THREADS: usize = 2;

#[test]
fn every_mutant_is_caught_by_its_checker() {
    let next = AtomicUsize::new(0);
    let hunts: Mutex<Vec<(usize, Hunt)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((index, mutant)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, *Mutant::ALL.get(index)?)))
                {
                    let hunt = hunt(mutant, SEEDS_MAX);
                    hunts.lock().unwrap().push((index, hunt));
                }
            });
        }
    });
    let mut hunts = hunts.into_inner().unwrap();
    hunts.sort_by_key(|(index, _)| *index);
    let mut missed = Vec::new();
    println!("{:<22} {:<32} {:>5}  what it saw", "mutant", "checker", "seed");
    for (_, Hunt { mutant, caught, others }) in hunts {
        let name = format!("{mutant:?}");
        match caught {
            Some((seed, failure)) => {
                println!("{name:<22} {:<32} {seed:>5}  {}", failure.checker, failure.text.lines().next().unwrap_or(""));
            }
            None => {
                let others: Vec<String> =
                    others.iter().map(|(seed, failure)| format!("\n  {seed}: {failure}")).collect();
                missed.push(format!("{name}, not by {}, but:{}", checker(mutant), others.concat()));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {}", missed.join("\n"));
}
