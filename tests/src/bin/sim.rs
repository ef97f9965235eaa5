//! Runs simulator seeds: `sim --seeds 0..5000`.

use std::ops::Range;
use std::process::ExitCode;

use anabranch_tests::sim::campaign::{Campaign, run_caught_with};
use anabranch_tests::sim::trace::Trace;
use anabranch_tests::sim::{Failure, Kind, Plan};
use clap::Parser;

/// Runs simulator seeds, each a small world of replicas under its own mix of faults, and checks what must hold.
#[derive(Parser)]
#[command(
    name = "sim",
    after_help = "Exit codes: 0 all seeds passed, 1 something panicked, 2 something happened that must never happen, \
                  3 something that must happen did not, 64 the arguments are wrong. With several failing seeds the \
                  smallest of these counts."
)]
struct Arguments {
    /// The seeds to run, the last one excluded; a single number for one seed.
    #[arg(long, value_parser = seeds, default_value = "0..1000", value_name = "FROM..TO")]
    seeds: Range<u64>,
    /// Steps of applications in each seed, instead of what the seed draws.
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Print every input and output as it happens; on one thread.
    #[arg(long)]
    verbose: bool,
    /// Run every N-th seed twice and compare the traces; 0 for never.
    #[arg(long, default_value_t = 100, value_name = "N")]
    twice_every: u64,
    /// Threads.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// Fail if something that is counted has never happened; campaigns of 5,000 seeds and more always do.
    #[arg(long)]
    sometimes: bool,
    /// Give up after this many failing seeds.
    #[arg(long, default_value_t = 10, value_name = "N")]
    failures: usize,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}` is not a number: {error}"));
    let range = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => {
            let seed = number(text)?;
            seed..seed.checked_add(1).ok_or_else(|| format!("`{text}` is too large"))?
        }
    };
    if range.is_empty() { Err(format!("`{text}` holds no seeds")) } else { Ok(range) }
}

#[expect(clippy::disallowed_methods, reason = "how long a campaign took is told to people; no seed sees it")]
fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            // Nothing is left to be done if this cannot be printed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let campaign = Campaign {
        seeds: arguments.seeds.clone(),
        steps: arguments.steps,
        twice_every: arguments.twice_every,
        threads: if arguments.verbose { 1 } else { arguments.threads },
        failures_max: arguments.failures.max(1),
    };
    if arguments.verbose {
        return verbose(&campaign);
    }
    let begin = std::time::Instant::now();
    let summary = campaign.run(&|seed, failure| tell(&campaign, seed, failure));
    let stats = summary.stats;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "sim: seeds {} (run twice {}), failed {}, faults {}, virtual hours {:.1}, seconds {seconds:.1}, seeds per second {:.1}: {}",
        summary.seeds,
        summary.twice,
        summary.failures.len(),
        stats.faults(),
        stats.virtual_us as f64 / 3.6e9,
        summary.seeds as f64 / seconds.max(0.001),
        stats,
    );
    let never = summary.never(arguments.sometimes);
    if !never.is_empty() {
        println!("sim: in {} seeds never: {}", summary.seeds, never.join(", "));
    }
    let worst = summary.worst().into_iter().chain((!never.is_empty()).then_some(Kind::Liveness)).min();
    worst.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind as u8))
}

/// What went wrong, and all that is needed to see it again.
fn tell(campaign: &Campaign, seed: u64, failure: &Failure) {
    let options = campaign.options(seed);
    let steps = campaign.steps.map(|steps| format!(" --steps {steps}")).unwrap_or_default();
    println!("seed {seed} FAILED: {failure}\n  options: {options:?}\n  again: sim --seeds {seed}{steps} --verbose");
}

fn verbose(campaign: &Campaign) -> ExitCode {
    let mut worst = None;
    for seed in campaign.seeds.clone() {
        let options = campaign.options(seed);
        let plan = Plan::draw(&options);
        println!("seed {seed}: {options:#?}");
        for step in &plan.steps {
            println!("planned {step}");
        }
        let report = run_caught_with(options, plan, Trace::new(true, true));
        println!("seed {seed}: {}", report.stats);
        if let Some(failure) = report.failure {
            tell(campaign, seed, &failure);
            worst = worst.into_iter().chain([failure.kind]).min();
        }
    }
    worst.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind as u8))
}
