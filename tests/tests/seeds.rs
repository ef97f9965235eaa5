//! Seeds that every test run performs: some that were drawn, the situations that once failed, and tampered ones, which have
//! to fail.

use std::fs;
use std::path::Path;

use anabranch_tests::sim::campaign::{Campaign, Size, run_caught, run_caught_with};
use anabranch_tests::sim::checkers::determinism;
use anabranch_tests::sim::damage::Damage;
use anabranch_tests::sim::plan::{Act, Step};
use anabranch_tests::sim::stats::Stats;
use anabranch_tests::sim::trace::Trace;
use anabranch_tests::sim::{Failure, Kind, Options, Plan, Regression, SECONDS, Tamper};

#[test]
fn sixty_seeds_pass_and_repeat_themselves() {
    let campaign = Campaign {
        seeds: 0..60,
        size: Size::Small,
        steps: None,
        hostile: true,
        twice_every: 6,
        threads: 2,
        failures_max: 5,
    };
    let summary =
        campaign.run(&|_| false, &|seed, failure| eprintln!("seed {seed}: {failure}\n{:?}", Options::small(seed)));
    assert_eq!(summary.failures, []);
    assert_eq!((summary.seeds, summary.twice), (60, 10));
    let stats = summary.stats;
    assert!(stats.edits > 500 && stats.acknowledged > 400, "{stats}");
    assert!(stats.kills > 0 && stats.power_cuts > 0 && stats.cuts_mid_request > 0, "{stats}");
    assert!(stats.splits > 0 && stats.resets > 0 && stats.frames_dropped > 0, "{stats}");
    assert!(stats.live_lost > 0 && stats.hints_lost > 0 && stats.refused_edits > 0, "{stats}");
}

/// Situations that failed once, each in a file that says what it found. A new one is written by `sim --save`.
#[test]
fn what_failed_once_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let regression = Regression::read(&file).unwrap();
        assert!(!regression.found.is_empty() && !regression.mended.is_empty(), "{}", file.display());
        let report = run_caught_with(regression.options, regression.plan, Trace::new(false, false));
        assert_eq!(report.failure, None, "{}, which once found: {}", file.display(), regression.found);
    }
}

/// Every way in which a disk is damaged for good, in worlds where nothing else happens.
#[test]
fn a_damaged_disk_is_replaced_and_its_replica_gets_back_what_the_others_have() {
    let mut sum = Stats::default();
    for how in [Damage::Rot, Damage::Shortened, Damage::StrayWrite, Damage::LyingSyncs, Damage::LostName] {
        for seed in 0..6 {
            let options = Options { steps: 80, replicas: 3, spaces: 1, chaos: 120 * SECONDS, ..Options::calm(seed) };
            let mut plan = Plan::draw(&options);
            // What was salvaged may be lost again.
            let before = if how == Damage::LostName { Damage::Shortened } else { how };
            let damages = [(30, 1, before), (50, 2, how), (70, 1, how), (90, 2, before)];
            plan.steps.extend(damages.into_iter().zip(4 * seed..).map(|((at, replica, how), salt)| Step {
                at: at * SECONDS,
                act: Act::Damage { replica, how },
                salt,
            }));
            plan.steps.sort_by_key(|step| step.at);
            let report = run_caught_with(options, plan, Trace::new(false, false));
            assert_eq!(report.failure, None, "{how:?}, seed {seed}");
            sum.add(&report.stats);
        }
    }
    let damages = [sum.rots, sum.short_files, sum.stray_writes, sum.lying_disks, sum.lost_stores, sum.lost_salvages];
    assert!(damages.iter().all(|count| *count > 0), "{sum}");
    assert!(sum.damage_found > 20 && sum.documents_mended > 10, "{sum}");
    assert!(sum.salvages > 10 && sum.runs_salvaged > 10, "{sum}");
}

/// The first failure among seeds that are tampered with, if it is the checker's.
fn caught(tamper: Tamper, checker: &str) -> Failure {
    let mut others = Vec::new();
    for seed in 0..20 {
        let options = Options { tamper, ..Options::small(seed) };
        match run_caught(options).failure {
            Some(failure) if failure.checker == checker => return failure,
            other => others.extend(other),
        }
    }
    panic!("{tamper:?} was not noticed by {checker}, only {others:?}");
}

#[test]
fn a_replica_that_hears_nothing_is_noticed() {
    assert_eq!(caught(Tamper::Deaf(1), "I11 liveness").kind, Kind::Liveness);
}

#[test]
fn disks_that_lie_about_syncing_are_noticed() {
    assert_eq!(caught(Tamper::LyingDisks, "I7 durability").kind, Kind::Safety);
}

#[test]
fn increments_that_count_twice_are_noticed() {
    assert_eq!(caught(Tamper::Miscounted, "I4 exactly once").kind, Kind::Safety);
}

#[test]
fn talk_among_equals_is_noticed() {
    assert_eq!(caught(Tamper::Restless, "I10 silence").kind, Kind::Liveness);
}

#[test]
fn actors_that_are_continued_are_noticed() {
    assert_eq!(caught(Tamper::ReusedSeeds, "I16 actor discipline").kind, Kind::Safety);
}

#[test]
fn chance_from_outside_the_seed_is_noticed() {
    // What comes from outside repeats itself by chance now and then.
    let twice = |seed| {
        let options = Options { tamper: Tamper::Undetermined, ..Options::small(seed) };
        determinism::check(&run_caught(options.clone()), &run_caught(options))
    };
    let failure = (1..20).find_map(twice).unwrap();
    assert_eq!((failure.kind, failure.checker), (Kind::Safety, "I12 determinism"));
}

#[test]
fn panics_and_logged_errors_are_failures_of_their_seed() {
    let crashed = caught(Tamper::Panics, "I13 no panic");
    assert_eq!(crashed.kind, Kind::Crash);
    assert!(crashed.text.contains("a tampered world panics"), "{crashed}");
    let logged = caught(Tamper::LogsError, "no logged error");
    assert_eq!(logged.kind, Kind::Safety);
    assert!(logged.text.contains("a tampered world logs an error"), "{logged}");
}
