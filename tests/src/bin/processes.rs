//! Runs real nodes under faults and checks what they keep: `processes kill --cycles 1500`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use anabranch_tests::processes::chaos::Kinds;
use anabranch_tests::processes::cycles::Settings;
use anabranch_tests::processes::finding::Report;
use anabranch_tests::processes::logbook::Durability;
use anabranch_tests::processes::patience::PATIENCE;
use anabranch_tests::processes::workloads::counter::PnCounter;
use anabranch_tests::processes::workloads::set::Set;
use anabranch_tests::processes::{imports, kill, newcomers, pause, workloads};
use anabranch_tests::sim::Kind;
use clap::{Args, Parser, Subcommand};

/// A client of a workload waits so long between two requests, at most.
const PAUSE_MAX: Duration = Duration::from_millis(40);
/// And in a soak: few edits, so that what grows is not what was written.
const SOAK_PAUSE_MAX: Duration = Duration::from_millis(2_000);

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
    /// New nodes are killed while they are made and while they join a space with a ticket for one device, or their host is.
    ///
    /// cycles: newcomers, each of which must be let in at the end. killed_while_starting: kills before that. admissions_told:
    /// joins that were answered before the kill, and so must be kept.
    Newcomers {
        /// Stop after so many newcomers.
        #[arg(long, default_value_t = 200, value_name = "N")]
        cycles: u64,
        /// Or after so many minutes.
        #[arg(long, default_value_t = 1.0, value_name = "M", value_parser = minutes)]
        minutes: f64,
    },
    /// Kills one of two nodes while a 5 MB file is imported: the document is the old one or the new one, here and at the peer.
    Imports {
        /// Stop after so many imports.
        #[arg(long, default_value_t = 50, value_name = "N")]
        cycles: u64,
        /// Or after so many minutes.
        #[arg(long, default_value_t = 10.0, value_name = "M", value_parser = minutes)]
        minutes: f64,
    },
    /// Maelstrom's broadcast: all nodes add to one list and read it, while links and nodes fail.
    ///
    /// lost: acknowledged elements that a node lacks at the end. vanished: elements that a node had shown. divergent: elements
    /// that only some have at the end. stable_ms_Q: how long after an element was known a read still lacked it, by quantile.
    Broadcast(Workload),
    /// Maelstrom's g-set: all nodes add to a set that is spread over a map and three lists, and read it.
    GSet(Workload),
    /// Maelstrom's pn-counter: all nodes add to one counter; at the end each reads the sum of what was acknowledged and of
    /// some of what was not.
    PnCounter(Workload),
    /// broadcast for long and slowly, with links that fail and nodes that are stopped: memory and open files of the nodes
    /// must not grow without end.
    Soak(Soak),
    /// One of three nodes is stopped, as a laptop that is closed: the others notice within 30 s, and it catches up.
    Pause {
        /// How long, at least.
        #[arg(long, default_value_t = 40, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}

#[derive(Args)]
struct Workload {
    /// How many nodes, each with a client.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=8))]
    nodes: u8,
    /// How long they are written to; healing, agreeing and reading come after that.
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

#[derive(Args)]
struct Soak {
    /// How many nodes, each with a client.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=8))]
    nodes: u8,
    /// How long.
    #[arg(long, default_value_t = 5.0, value_name = "M", value_parser = minutes)]
    minutes: f64,
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

fn settings(cycles: u64, minutes: f64, seed: u64) -> Settings {
    Settings { cycles, time: Duration::from_secs_f64(minutes * 60.0), seed }
}

fn run(arguments: &Arguments) -> Report {
    let seed = arguments.seed;
    match &arguments.run {
        Run::Kill(Kill { cycles, minutes, fleets }) => kill::run(&kill::Settings {
            cycles: *cycles,
            time: Duration::from_secs_f64(minutes * 60.0),
            fleets: usize::from(*fleets),
            durability: Durability::Saved,
            seed,
        }),
        Run::Newcomers { cycles, minutes } => newcomers::run(&settings(*cycles, *minutes, seed)),
        Run::Imports { cycles, minutes } => imports::run(&settings(*cycles, *minutes, seed), imports::ENTRIES),
        Run::Broadcast(asked) => workloads::run(&Set::Broadcast, &asked.settings(seed)),
        Run::GSet(asked) => workloads::run(&Set::GSet, &asked.settings(seed)),
        Run::PnCounter(asked) => workloads::run(&PnCounter, &asked.settings(seed)),
        Run::Soak(Soak { nodes, minutes }) => workloads::run(
            &Set::Broadcast,
            &workloads::Settings {
                nodes: usize::from(*nodes),
                time: Duration::from_secs_f64(minutes * 60.0),
                seed,
                // Figures of a process that is killed say nothing.
                kinds: Kinds::LinksAndStops,
                pause_max: SOAK_PAUSE_MAX,
                agree_within: PATIENCE,
                soak: true,
            },
        ),
        Run::Pause { seconds } => pause::run(Duration::from_secs(*seconds)),
    }
}

impl Workload {
    fn settings(&self, seed: u64) -> workloads::Settings {
        workloads::Settings {
            nodes: usize::from(self.nodes),
            time: Duration::from_secs(self.seconds),
            seed,
            kinds: Kinds::All,
            pause_max: PAUSE_MAX,
            agree_within: PATIENCE,
            soak: false,
        }
    }
}
