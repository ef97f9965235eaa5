//! A failing seed becomes a few steps and a story. Shown on worlds that are tampered with, where it is known what is needed
//! to see it.

use std::fs;
use std::process::{Command, Output};

use anabranch_tests::sim::campaign::{run_caught, run_told};
use anabranch_tests::sim::shrink::{Shrunk, examine, shrink};
use anabranch_tests::sim::trace::Trace;
use anabranch_tests::sim::{Options, Plan, Regression, Tamper};

/// The first seed that shows the tampering, and what it shrinks to.
fn shrunk(tamper: Tamper, checker: &str) -> Shrunk {
    for seed in 0..100 {
        let options = Options { tamper, ..Options::small(seed) };
        let Some(failure) = run_caught(options.clone()).failure.filter(|failure| failure.checker == checker) else {
            continue;
        };
        let plan = Plan::draw(&options);
        return shrink(options, plan, failure, 500, &|| false);
    }
    panic!("{tamper:?} was not noticed by {checker}");
}

fn story(shrunk: &Shrunk) -> String {
    run_told(shrunk.options.clone(), shrunk.plan.clone(), Trace::new(false, false)).1.join("\n")
}

/// What is needed is named, in order.
fn assert_tells(story: &str, wanted: &[&str]) {
    let mut rest = story;
    for words in wanted {
        let Some(at) = rest.find(words) else { panic!("`{words}` is not told, or not then:\n{story}") };
        rest = &rest[at + words.len()..];
    }
}

#[test]
fn a_lost_write_shrinks_to_a_power_cut() {
    let small = shrunk(Tamper::LyingDisks, "I7 durability");
    let story = story(&small);
    assert!(small.plan.steps.len() <= 2, "{:#?}\n{story}", small.plan.steps);
    let lost = ["alice starts", "has founded space", "power is cut", "starts again", "FAILED (I7 durability)"];
    assert_tells(&story, &lost);
}

#[test]
fn a_miscounted_increment_shrinks_to_one_edit() {
    let small = shrunk(Tamper::Miscounted, "I4 exactly once");
    let story = story(&small);
    assert!(small.plan.steps.len() <= 2, "{:#?}\n{story}", small.plan.steps);
    assert_tells(&story, &["alice has founded space", "count", "FAILED (I4 exactly once)"]);
}

#[test]
fn talk_without_end_needs_no_step_at_all() {
    let small = shrunk(Tamper::Restless, "I10 silence");
    assert_eq!(small.plan.steps, [], "{}", story(&small));
    assert_eq!((small.options.replicas, &small.options.network), (2, &Options::calm(0).network));
}

#[test]
fn a_continued_actor_shrinks_to_an_edit_a_death_and_an_edit() {
    let small = shrunk(Tamper::ReusedSeeds, "I16 actor discipline");
    let story = story(&small);
    assert!(small.plan.steps.len() <= 4, "{:#?}\n{story}", small.plan.steps);
    assert_tells(&story, &["writes", "starts again", "FAILED (I16 actor discipline)", "is continued by"]);
}

#[test]
fn a_panic_keeps_its_story() {
    let small = shrunk(Tamper::Panics, "I13 no panic");
    let story = story(&small);
    assert!(small.plan.steps.len() <= 1, "{:#?}", small.plan.steps);
    assert_tells(&story, &["alice starts", "FAILED (I13 no panic)", "a tampered world panics"]);
}

#[test]
fn shrinking_repeats_itself_and_keeps_its_bound() {
    let first = shrunk(Tamper::Miscounted, "I4 exactly once");
    let second = shrunk(Tamper::Miscounted, "I4 exactly once");
    assert_eq!((&first.options, &first.plan, first.runs), (&second.options, &second.plan, second.runs));
    let options = Options { tamper: Tamper::Panics, ..Options::small(3) };
    let plan = Plan::draw(&options);
    let failure = run_caught(options.clone()).failure.unwrap();
    let bounded = shrink(options, plan, failure, 7, &|| false);
    assert!(bounded.runs <= 7 && bounded.cut_short, "{} runs", bounded.runs);
}

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("it was built")
}

#[test]
fn a_kept_situation_is_replayed_and_says_whether_it_still_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("miscounted.json");
    let Shrunk { options, plan, failure, .. } = shrunk(Tamper::Miscounted, "I4 exactly once");
    let mut regression = Regression::new(options, plan, &failure);
    regression.write(&path).unwrap();
    assert_eq!(Regression::read(&path), Ok(regression.clone()));
    assert!(examine(&regression.options, &regression.plan, &regression.failed).is_some());
    let replay = |verbose: bool| {
        let mut arguments = vec!["replay", path.to_str().unwrap()];
        arguments.extend(verbose.then_some("--verbose"));
        let output = sim(&arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };

    let (code, told) = replay(false);
    assert_eq!(code, Some(2), "{told}");
    assert_tells(&told, &["alice starts", "FAILED (I4 exactly once)", "fails: Safety, I4 exactly once"]);
    assert!(!told.contains("<- Command"), "{told}");
    assert!(replay(true).1.contains("<- Command"));

    // What was wrong is mended.
    regression.options.tamper = Tamper::Nothing;
    regression.write(&path).unwrap();
    let (code, told) = replay(false);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.ends_with("passes\n"), "{told}");

    fs::write(&path, "{\"version\": 9}").unwrap();
    let output = sim(&["replay", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("version 9, this program reads 1"));
}

#[test]
fn a_campaign_ends_with_its_time_and_says_if_that_was_too_short() {
    let run = |arguments: &[&str]| {
        let output = sim(arguments);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, told) = run(&["--seeds", "0..", "--minutes", "0.01", "--threads", "1"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("sim: seeds "), "{told}");
    let (code, told) = run(&["--seeds", "0..", "--minutes", "0.005", "--at-least", "1000000"]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("at least 1000000 were asked for"), "{told}");
    let (code, told) = run(&["--seeds", "3.."]);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("has no end"), "{told}");
}
