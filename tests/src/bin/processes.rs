//! Runs real nodes under faults and checks what they keep: `processes kill --cycles 1500`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use anabranch_tests::processes::finding::Report;
use anabranch_tests::processes::kill;
use anabranch_tests::sim::Kind;
use clap::{Args, Parser, Subcommand};

/// Runs real nodes under faults and checks what they keep.
#[derive(Parser)]
#[command(
    name = "processes",
    after_help = "Exit codes: 0 all is as promised, 1 something panicked or ended by itself, 2 something happened that must \
                  never happen, 3 something that must happen did not, 64 the arguments are wrong. With several findings the \
                  smallest of these counts."
)]
struct Arguments {
    #[command(subcommand)]
    run: Run,
    /// Draws the faults.
    #[arg(long, global = true, default_value_t = 0, value_name = "SEED")]
    seed: u64,
    /// One JSON object on one line: run, figures, findings.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Run {
    /// Fleets of three; one node is killed in the middle of its writes, started again and asked for what it acknowledged.
    ///
    /// cycles: kills with their check. killed_while_starting: further kills, during the start. acknowledged: writes that a
    /// node said were saved. undecided: writes without an answer, and how many of them were kept. meetings: how often all of
    /// a fleet had to hold everything.
    Kill(Kill),
}

#[derive(Args)]
struct Kill {
    /// Stop after so many cycles.
    #[arg(long, default_value_t = 1_500, value_name = "N")]
    cycles: u64,
    /// Or after so many minutes.
    #[arg(long, default_value_t = 4.0, value_name = "M", value_parser = minutes)]
    minutes: f64,
    /// Fleets at once.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    fleets: u8,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 10_000.0 => Ok(minutes),
        Ok(_) => Err(format!("`{text}` minutes, more than 0 and at most 10000")),
        Err(error) => Err(format!("`{text}` is not a number: {error}")),
    }
}

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
    // What panicked has said so.
    let Ok(report) = catch_unwind(AssertUnwindSafe(|| run(&arguments))) else {
        return ExitCode::from(Kind::Crash as u8);
    };
    if arguments.json {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    report.worst().map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind as u8))
}

fn run(arguments: &Arguments) -> Report {
    let seed = arguments.seed;
    match &arguments.run {
        Run::Kill(Kill { cycles, minutes, fleets }) => kill::run(&kill::Settings {
            cycles: *cycles,
            time: Duration::from_secs_f64(minutes * 60.0),
            fleets: usize::from(*fleets),
            seed,
        }),
    }
}
