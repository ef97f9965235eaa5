//! Runs simulator seeds (`sim --seeds 0..5000`), shrinks those that fail, and replays what was kept (`sim replay FILE`).

use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anabranch_tests::sim::campaign::{Campaign, Size, Summary, run_told};
use anabranch_tests::sim::recording::{self, Ended};
use anabranch_tests::sim::shrink::{Shrunk, shrink};
use anabranch_tests::sim::trace::Trace;
use anabranch_tests::sim::{Failure, Kind, Plan, Regression};
use clap::{Args, Parser, Subcommand};

/// Runs simulator seeds, each a small world of replicas under its own mix of faults, and checks what must hold.
#[derive(Parser)]
#[command(
    name = "sim",
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 all seeds passed, 1 something panicked, 2 something happened that must never happen, \
                  3 something that must happen did not, 4 there was no time for `--at-least` seeds, 64 the arguments are \
                  wrong. With several failing seeds the smallest of these counts."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Runs what a file holds, tells it as a story, and says whether it still fails, or, for a recorded node, whether it took
    /// the same course. Exit codes as for seeds.
    Replay(Replay),
}

#[derive(Args)]
struct Replay {
    /// A file from `tests/regressions/`, one that a failing seed left, or what `anabranch run --record` wrote.
    file: PathBuf,
    /// Print every input and output as it happens, too.
    #[arg(long)]
    verbose: bool,
}

#[derive(Args)]
struct Run {
    /// The seeds to run, the last one excluded; `FROM..` for as many as `--minutes` allow; a single number for one seed.
    #[arg(long, value_parser = seeds, default_value = "0..1000", value_name = "FROM..TO")]
    seeds: Range<u64>,
    /// Large worlds: up to 16 replicas and 500 steps.
    #[arg(long)]
    large: bool,
    /// Begin no seed after so many minutes, unless `--at-least` asks for more.
    #[arg(long, value_parser = minutes, value_name = "M")]
    minutes: Option<Duration>,
    /// Run so many seeds even if it takes up to twice the `--minutes`. Fewer by then are a failure.
    #[arg(long, requires = "minutes", value_name = "N")]
    at_least: Option<u64>,
    /// Steps of applications in each seed, instead of what the seed draws.
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Let everybody be honest, also in seeds that draw a hostile member.
    #[arg(long)]
    honest: bool,
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
    /// Shrink what failed, in at most so many runs and two minutes; 0 to leave it as it is.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    shrink: usize,
    /// Put what failed here, as files for `sim replay`.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir().join("anabranch-sim"))]
    save: PathBuf,
}

/// Shrinking one failing seed takes no longer.
const SHRINK_TIME_MAX: Duration = Duration::from_secs(120);
/// Exit code when there was no time for as many seeds as were asked for.
const TOO_FEW: u8 = 4;
/// Exit code for arguments and files that make no sense.
const USAGE: u8 = 64;

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}` is not a number: {error}"));
    let range = match text.split_once("..") {
        Some((from, "")) => number(from)?..u64::MAX,
        Some((from, to)) => number(from)?..number(to)?,
        None => {
            let seed = number(text)?;
            seed..seed.checked_add(1).ok_or_else(|| format!("`{text}` is too large"))?
        }
    };
    if range.is_empty() { Err(format!("`{text}` holds no seeds")) } else { Ok(range) }
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|error| format!("`{text}` is not a number: {error}"))?;
    let seconds = minutes * 60.0;
    if !(seconds > 0.0 && seconds < 1e9) {
        return Err(format!("`{text}` minutes cannot be waited for"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nothing is left to be done if this cannot be printed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match arguments.command {
        Some(Command::Replay(replay)) => replay.execute(),
        None => arguments.run.execute(),
    }
}

/// How long it has been since this was made. Told to people and compared with `--minutes`; no seed sees it.
struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "how long a campaign takes is the business of whoever runs it")]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn time(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Run {
    fn execute(self) -> ExitCode {
        if self.seeds.end == u64::MAX && self.minutes.is_none() {
            eprintln!("error: `--seeds {}..` has no end: give `--minutes` too", self.seeds.start);
            return ExitCode::from(USAGE);
        }
        let campaign = Campaign {
            seeds: self.seeds.clone(),
            size: if self.large { Size::Large } else { Size::Small },
            steps: self.steps,
            hostile: !self.honest,
            twice_every: self.twice_every,
            threads: if self.verbose { 1 } else { self.threads },
            failures_max: self.failures.max(1),
        };
        if self.verbose {
            return self.verbose(&campaign);
        }
        let clock = Stopwatch::start();
        let enough = |begun: u64| {
            let (Some(minutes), time) = (self.minutes, clock.time()) else { return false };
            time >= 2 * minutes || (time >= minutes && self.at_least.is_none_or(|wanted| begun >= wanted))
        };
        let summary = campaign.run(&enough, &|seed, failure| self.tell(&campaign, seed, failure));
        print_summary(&summary, clock.time().as_secs_f64());
        let never = summary.never(&campaign, self.sometimes);
        if !never.is_empty() {
            println!("sim: FAILED: in {} seeds never: {}", summary.seeds, never.join(", "));
        }
        let worst = summary.worst().into_iter().chain((!never.is_empty()).then_some(Kind::Liveness)).min();
        match (worst, self.at_least) {
            (Some(kind), _) => ExitCode::from(kind as u8),
            (None, Some(wanted)) if summary.seeds < wanted => {
                println!(
                    "sim: FAILED: {} seeds in {:.0} s, at least {wanted} were asked for",
                    summary.seeds,
                    clock.time().as_secs_f64()
                );
                ExitCode::from(TOO_FEW)
            }
            (None, _) => ExitCode::SUCCESS,
        }
    }

    /// What went wrong, all that is needed to see it again, and the story of the smallest situation in which it does.
    fn tell(&self, campaign: &Campaign, seed: u64, failure: &Failure) {
        let options = campaign.options(seed);
        let plan = Plan::draw(&options);
        let (large, steps) = (if self.large { " --large" } else { "" }, plan.steps.len());
        let fixed = self.steps.map(|steps| format!(" --steps {steps}")).unwrap_or_default();
        let honest = if self.honest { " --honest" } else { "" };
        println!(
            "seed {seed} FAILED: {failure}\n  options: {options:?}\n  again: sim --seeds {seed}{large}{honest}{fixed} --verbose"
        );
        let clock = Stopwatch::start();
        let over = || clock.time() >= SHRINK_TIME_MAX;
        let small = match self.shrink {
            0 => Shrunk { options, plan, failure: failure.clone(), runs: 0, cut_short: false },
            runs => shrink(options, plan, failure.clone(), runs, &over),
        };
        let kept = self.keep(seed, &small).unwrap_or_else(|error| format!("nowhere: {error}"));
        let (_, story) = run_told(small.options.clone(), small.plan.clone(), Trace::new(false, false));
        println!(
            "  of {steps} steps {} are needed, found in {} runs{}: {:?}\n  kept in {kept}\n  story:\n    {}",
            small.plan.steps.len(),
            small.runs,
            if small.cut_short { " (cut short)" } else { "" },
            small.options,
            story.join("\n    "),
        );
    }

    fn keep(&self, seed: u64, small: &Shrunk) -> Result<String, String> {
        fs::create_dir_all(&self.save).map_err(|error| format!("{}: {error}", self.save.display()))?;
        let name = if self.large { format!("large-seed-{seed}.json") } else { format!("seed-{seed}.json") };
        let path = self.save.join(name);
        Regression::new(small.options.clone(), small.plan.clone(), &small.failure).write(&path)?;
        Ok(path.display().to_string())
    }

    fn verbose(&self, campaign: &Campaign) -> ExitCode {
        let mut worst = None;
        for seed in campaign.seeds.clone() {
            let options = campaign.options(seed);
            let plan = Plan::draw(&options);
            println!("seed {seed}: {options:#?}");
            let failure = print_run(options, plan, true);
            if let Some(failure) = &failure {
                println!("seed {seed} FAILED: {failure}");
            }
            worst = worst.into_iter().chain(failure.map(|failure| failure.kind)).min();
        }
        exit(worst)
    }
}

impl Replay {
    fn execute(self) -> ExitCode {
        match replay(&self.file, self.verbose) {
            Ok(kind) => exit(kind),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(USAGE)
            }
        }
    }
}

fn replay(file: &Path, verbose: bool) -> Result<Option<Kind>, String> {
    let mut begin = [0; 64];
    let length =
        fs::File::open(file).and_then(|mut file| file.read(&mut begin)).map_err(|error| cannot_read(file, &error))?;
    if recording::is_recording(&begin[..length]) {
        return replay_recording(file, verbose);
    }
    let regression = Regression::read(file)?;
    println!("found: {}", regression.found);
    if !regression.mended.is_empty() {
        println!("mended: {}", regression.mended);
    }
    println!("options: {:?}", regression.options);
    let failure = print_run(regression.options, regression.plan, verbose);
    match &failure {
        None => println!("passes"),
        Some(failure) => println!("fails: {failure}"),
    }
    Ok(failure.map(|failure| failure.kind))
}

fn replay_recording(file: &Path, verbose: bool) -> Result<Option<Kind>, String> {
    let length = fs::metadata(file).map_err(|error| cannot_read(file, &error))?.len();
    if length > recording::FILE_BYTES_MAX {
        return Err(format!("{}: {length} bytes, limit {}", file.display(), recording::FILE_BYTES_MAX));
    }
    let bytes = fs::read(file).map_err(|error| cannot_read(file, &error))?;
    let replayed = recording::replay(&bytes, verbose).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("story:\n  {}", replayed.story.join("\n  "));
    println!(
        "recording of device {}: calls {} (frames {}, edits {}), outputs {}, compared {} times, ended: {}",
        replayed.device,
        replayed.calls,
        replayed.frames,
        replayed.edits,
        replayed.outputs,
        replayed.checkpoints,
        match replayed.ended {
            Ended::Closed => "the replica was closed",
            Ended::Limit => "its limit was reached",
            Ended::CutOff => "cut off",
        },
    );
    match &replayed.failure {
        None => println!("agrees"),
        Some(failure) => println!("fails: {failure}"),
    }
    Ok(replayed.failure.map(|failure| failure.kind))
}

fn cannot_read(file: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", file.display())
}

/// Runs a situation and prints its plan, what happens if `verbose`, its story and its counts.
fn print_run(options: anabranch_tests::sim::Options, plan: Plan, verbose: bool) -> Option<Failure> {
    for step in &plan.steps {
        println!("planned {step}");
    }
    let (report, story) = run_told(options, plan, Trace::new(verbose, verbose));
    println!("story:\n  {}\ncounts: {}", story.join("\n  "), report.stats);
    report.failure
}

fn print_summary(summary: &Summary, seconds: f64) {
    let stats = &summary.stats;
    println!(
        "sim: seeds {} (run twice {}, with a hostile member {}), failed {}, faults {}, virtual hours {:.1}, seconds {seconds:.1}, seeds per second {:.1}",
        summary.seeds,
        summary.twice,
        summary.byzantine,
        summary.failures.len(),
        stats.faults(),
        stats.virtual_us as f64 / 3.6e9,
        summary.seeds as f64 / seconds.max(0.001),
    );
    let counts: Vec<String> = stats
        .named()
        .into_iter()
        .map(|(name, count)| match summary.seeds_with.get(name) {
            Some(seeds) if *seeds < summary.seeds => format!("{name} {count} in {seeds} seeds"),
            _ => format!("{name} {count}"),
        })
        .collect();
    println!("sim: {}", counts.join(", "));
}

fn exit(kind: Option<Kind>) -> ExitCode {
    kind.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind as u8))
}
