//! Attacks real nodes with a hostile client and holds what it costs to figures: `hostile --minutes 5`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use anabranch_tests::hostile::attack::Attack;
use anabranch_tests::hostile::attacks;
use anabranch_tests::hostile::course::{self, AROUND, Settings, TRIES};
use anabranch_tests::processes::finding::Report;
use anabranch_tests::processes::patience::Stopwatch;
use anabranch_tests::sim::Kind;
use clap::Parser;

/// An attack of the lane takes this long at least, and at most.
const LENGTH_MIN: Duration = Duration::from_millis(1_000);
const LENGTH_MAX: Duration = Duration::from_secs(8);
/// And one of full length.
const LENGTH_FULL: Duration = Duration::from_secs(60);

/// Attacks real nodes with a hostile client and holds what it costs to figures.
///
/// Each attack has nodes of its own, on loopback and under a limit of memory: Alice, who is attacked, and Bob. Meanwhile an
/// honest writer edits at Alice's. p99_us, quiet_p99_us: how long its edits took, the slowest of a hundred left out, during the
/// attack and in the quiet times around it. memory: resident memory at its highest, disk: files, both beyond what was there
/// before. calm_ms: until the nodes were as busy as before. seen_ms: until each had what the other wrote after the attack. back_ms:
/// the same after a restart.
#[derive(Parser)]
#[command(
    name = "hostile",
    after_help = "Exit codes: 0 all is as promised, 1 something panicked or ended by itself, 2 something happened that must \
                  never happen, 3 something that must happen did not, 64 the arguments are wrong. With several findings the \
                  smallest of these counts."
)]
struct Arguments {
    /// Attacks to make; without any, all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print every attack with who makes it, and end.
    #[arg(long)]
    list: bool,
    /// A minute for each attack.
    #[arg(long, conflicts_with = "minutes")]
    full: bool,
    /// All of them within so many minutes, as far as the nodes keep their promises: each is shorter or longer, 8 s at most.
    #[arg(long, default_value_t = 5.5, value_name = "M", value_parser = minutes)]
    minutes: f64,
    /// What the attackers draw by.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    seed: u64,
    /// For each attack one JSON object on one line: run, figures, findings.
    #[arg(long)]
    json: bool,
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
    let attacks = match attacks::named(&arguments.names) {
        Ok(attacks) => attacks,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(64);
        }
    };
    if arguments.list {
        attacks
            .iter()
            .for_each(|attack| println!("{:<20} {:<14} {}", attack.name, attack.who.to_string(), attack.does));
        return ExitCode::SUCCESS;
    }
    // What panicked has said so.
    let Ok(worst) = catch_unwind(AssertUnwindSafe(|| run(&arguments, &attacks))) else {
        return ExitCode::from(Kind::Crash as u8);
    };
    worst.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind as u8))
}

/// Makes the attacks one after the other, and prints what came of each; the worst kind of finding.
fn run(arguments: &Arguments, attacks: &[Attack]) -> Option<Kind> {
    let (clock, time) = (Stopwatch::start(), Duration::from_secs_f64(arguments.minutes * 60.0));
    let mut worst = None;
    for (number, attack) in attacks.iter().enumerate() {
        let left = (attacks.len() - number) as u32;
        let fair = (time.saturating_sub(clock.elapsed()) / left).saturating_sub(AROUND);
        let length = if arguments.full { LENGTH_FULL } else { fair.clamp(LENGTH_MIN, LENGTH_MAX) };
        let report = course::run(attack, Settings { length, seed: arguments.seed, tries: TRIES });
        worst = worst.into_iter().chain(report.worst()).min();
        print(&report, arguments.json);
    }
    if !arguments.json {
        println!("{} attacks in {} s", attacks.len(), clock.elapsed().as_secs());
    }
    worst
}

fn print(report: &Report, json: bool) {
    if json {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
}
