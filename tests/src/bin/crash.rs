//! Makes crash images of a store under the whole engine, or fails every call to its disk: `crash --images 50000`.

use std::process::ExitCode;
use std::time::Duration;

use anabranch_tests::crash::campaign::Campaign;
use anabranch_tests::crash::sweep::SCRIPTS;
use clap::Parser;

/// Starts replicas on what disks may leave after a power cut, or after worse, and checks that nothing acknowledged is lost
/// and nothing wrong is served.
#[derive(Parser)]
#[command(
    name = "crash",
    after_help = "Exit codes: 0 everything held, 2 something did not, 64 the arguments are wrong."
)]
struct Arguments {
    /// Images to make, in all.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    images: u64,
    /// Stop after so many minutes, whatever was made by then.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Scripts and images are drawn from it.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Threads.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// This script alone.
    #[arg(long, value_name = "N")]
    script: Option<u64>,
    /// This image of it alone.
    #[arg(long, value_name = "N", requires = "script")]
    image: Option<u64>,
    /// Give up after this many failures.
    #[arg(long, default_value_t = 10, value_name = "N")]
    failures: usize,
    /// Fail every call to the disk instead, one at a time, in every script.
    #[arg(long)]
    sweep: bool,
}

#[expect(clippy::disallowed_methods, reason = "how long it took is told to people, and ends it; no image sees it")]
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
    let begin = std::time::Instant::now();
    let failed = if arguments.sweep { sweep(arguments.threads) } else { images(&arguments, begin) };
    println!("seconds {:.1}", begin.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn images(arguments: &Arguments, begin: std::time::Instant) -> usize {
    let campaign = Campaign {
        seed: arguments.seed,
        images: arguments.images,
        script: arguments.script,
        image: arguments.image,
        threads: arguments.threads,
        failures_max: arguments.failures.max(1),
    };
    let limit = arguments.minutes.map(|minutes| Duration::from_secs_f64((minutes * 60.0).max(0.0)));
    let over = || limit.is_some_and(|limit| begin.elapsed() >= limit);
    let summary = campaign.run(&over, &|failure| println!("{failure}"));
    print!("{summary}");
    summary.failures.len()
}

fn sweep(threads: usize) -> usize {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let total = std::sync::Mutex::new((0, 0, 0));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(script) = SCRIPTS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let swept = script.sweep(1);
                    println!("sweep: {}: {} failed calls, {} errors", script.name, swept.calls, swept.errors);
                    swept.failures.iter().for_each(|failure| println!("{failure}"));
                    let mut total = total.lock().expect("no one panics while adding");
                    *total = (total.0 + swept.calls, total.1 + swept.errors, total.2 + swept.failures.len());
                }
            });
        }
    });
    let (calls, errors, failed) = total.into_inner().expect("no one panics while adding");
    println!("sweep: scripts {}, failed calls {calls}, errors {errors}, failed {failed}", SCRIPTS.len());
    failed
}
