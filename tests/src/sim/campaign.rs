//! Many seeds, on a few threads. Panics and logged errors are caught per seed and belong to it.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::checkers::{determinism, panics};
use super::narrate::{self, Narrative};
pub use super::options::Size;
use super::phases::{Report, run_with};
use super::stats::{SOMETIMES_SEEDS, Stats};
use super::trace::Trace;
use super::{Failure, Kind, Options, Plan};

/// What a campaign is to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The seeds.
    pub seeds: Range<u64>,
    /// What a seed draws.
    pub size: Size,
    /// Steps of applications, instead of what each seed draws.
    pub steps: Option<usize>,
    /// Seeds that draw a hostile member have one; else it is an honest one.
    pub hostile: bool,
    /// Every so many seeds, one runs twice; 0 for never.
    pub twice_every: u64,
    /// Threads.
    pub threads: usize,
    /// Seeds that fail before the campaign gives up.
    pub failures_max: usize,
}

/// What came of a campaign.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Of these, run twice.
    pub twice: u64,
    /// Sums of all.
    pub stats: Stats,
    /// Seeds with a hostile member.
    pub byzantine: u64,
    /// In how many seeds each thing happened that is counted.
    pub seeds_with: BTreeMap<&'static str, u64>,
    /// The seeds that failed, in order.
    pub failures: Vec<(u64, Failure)>,
}

impl Campaign {
    /// The options of one of its seeds.
    pub fn options(&self, seed: u64) -> Options {
        let mut options = match self.size {
            Size::Small => Options::small(seed),
            Size::Large => Options::large(seed),
        };
        options.steps = self.steps.unwrap_or(options.steps);
        if !self.hostile {
            options.byzantine = None;
        }
        options
    }

    /// Runs the seeds in order, until `enough` says so of how many were begun. `on_failure` hears of each failing one as it
    /// happens, on the thread that ran it.
    pub fn run(&self, enough: &(dyn Fn(u64) -> bool + Sync), on_failure: &(dyn Fn(u64, &Failure) + Sync)) -> Summary {
        let next = AtomicU64::new(self.seeds.start);
        let failed = AtomicU64::new(0);
        let worker = || {
            let mut summary = Summary::default();
            loop {
                if failed.load(Ordering::Relaxed) >= self.failures_max as u64
                    || enough(next.load(Ordering::Relaxed).saturating_sub(self.seeds.start))
                {
                    return summary;
                }
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end {
                    return summary;
                }
                let options = self.options(seed);
                summary.byzantine += u64::from(options.byzantine.is_some());
                let report = run_caught(options);
                let mut failure = report.failure.clone();
                if failure.is_none() && self.twice_every > 0 && seed.is_multiple_of(self.twice_every) {
                    summary.twice += 1;
                    failure = determinism::check(&report, &run_caught(self.options(seed)));
                }
                summary.seeds += 1;
                summary.stats.add(&report.stats);
                for (name, count) in report.stats.named() {
                    *summary.seeds_with.entry(name).or_default() += u64::from(count > 0);
                }
                if let Some(failure) = failure {
                    failed.fetch_add(1, Ordering::Relaxed);
                    on_failure(seed, &failure);
                    summary.failures.push((seed, failure));
                }
            }
        };
        let mut total = Summary::default();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(worker)).collect();
            for done in workers {
                let part = done.join().expect("a worker catches the panics of its seeds");
                total.seeds += part.seeds;
                total.twice += part.twice;
                total.byzantine += part.byzantine;
                total.stats.add(&part.stats);
                for (name, seeds) in part.seeds_with {
                    *total.seeds_with.entry(name).or_default() += seeds;
                }
                total.failures.extend(part.failures);
            }
        });
        total.failures.sort_by_key(|(seed, _)| *seed);
        total
    }
}

impl Summary {
    /// What has never happened although it must have in a campaign this long; in a shorter one if `asked`.
    pub fn never(&self, campaign: &Campaign, asked: bool) -> Vec<&'static str> {
        if asked || self.seeds >= SOMETIMES_SEEDS { self.stats.never(campaign.hostile) } else { Vec::new() }
    }

    /// The worst kind of failure: the exit code.
    pub fn worst(&self) -> Option<Kind> {
        self.failures.iter().map(|(_, failure)| failure.kind).min()
    }
}

/// Runs a seed; a panic or a logged error is its failure.
pub fn run_caught(options: Options) -> Report {
    let plan = Plan::draw(&options);
    run_caught_with(options, plan, Trace::new(false, false))
}

/// Runs a situation and tells it, to the end.
pub fn run_told(options: Options, plan: Plan, trace: Trace) -> (Report, Vec<String>) {
    let story = Narrative::default();
    let report = run_caught_with(options, plan, trace.telling(&story));
    let mut lines = story.lines();
    if let Some(failure) = &report.failure {
        // A panic does not say when it was; it ends the story anyway.
        let at = if failure.at > 0 { format!("{} ", narrate::time(failure.at)) } else { String::new() };
        lines.push(format!("{at}FAILED ({}): {}", failure.checker, narrate::with_names(&failure.text)));
    }
    (report, lines)
}

/// Runs a seed with the given plan and trace; a panic or a logged error is its failure.
pub fn run_caught_with(options: Options, plan: Plan, trace: Trace) -> Report {
    caught(options.seed, || run_with(options, plan, trace))
}

/// As [`run_caught`], for whoever runs a seed in a way of its own.
pub fn caught(seed: u64, run: impl FnOnce() -> Report) -> Report {
    let failed = |kind, checker, text| Failure { kind, checker, at: 0, text };
    let mut report = catching(run).unwrap_or_else(|text| Report {
        seed,
        failure: Some(failed(Kind::Crash, panics::CHECKER, text)),
        stats: Stats::default(),
        trace_hash: [0; 32],
        trace_entries: 0,
        lines: Vec::new(),
    });
    if let Some(error) = logged_error() {
        match &mut report.failure {
            Some(failure) => failure.text.push_str(&format!(" (and logged: {error})")),
            None => report.failure = Some(failed(Kind::Safety, "no logged error", error)),
        }
    }
    report
}

/// Runs something whose panic, and whose logged errors, are its own affair. If it panics: what was said, and where.
///
/// # Errors
/// It panicked.
pub fn catching<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    listen();
    ERRORS.with_borrow_mut(Vec::clear);
    PANIC.take();
    CATCHING.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(false);
    result.map_err(|panic| PANIC.take().unwrap_or_else(|| panic_text(&*panic)))
}

/// The last error that was logged on this thread since [`catching`] began.
pub fn logged_error() -> Option<String> {
    ERRORS.with_borrow_mut(std::mem::take).into_iter().next_back()
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

thread_local! {
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// A seed runs on this thread: its panics are its own affair.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes, per thread, what panics say and where, and every error that is logged. Once per process.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return before(info);
            }
            let trace = Backtrace::force_capture().to_string();
            // The frames of the panic itself and of the runtime say nothing.
            let ours = |line: &&str| line.contains("anabranch") || line.contains("automerge") || line.contains("redb");
            let frames: Vec<&str> = trace.lines().filter(ours).take(40).collect();
            PANIC.set(Some(format!("{info}\n{}", frames.join("\n"))));
        }));
        // Where a test has its own subscriber, errors are not seen; nobody has one here.
        let _ = tracing::subscriber::set_global_default(Errors);
    });
}

/// A subscriber that keeps errors and ignores the rest.
struct Errors;

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.is_event()
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::ERROR)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Words(String::new());
        event.record(&mut text);
        ERRORS.with_borrow_mut(|errors| {
            // One is enough to fail; the last is nearest to whatever else goes wrong.
            errors.clear();
            errors.push(format!("{}:{}", event.metadata().target(), text.0));
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        // Writing to a string does not fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
