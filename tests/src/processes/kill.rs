//! Nodes killed in the middle of their writes, over and over: what they said was saved is there when they are back.
//!
//! Several fleets of three at a time, each on a thread. In a cycle one of the three, the victim, is sent a stream of writes,
//! the others a write each; at a moment that the seed draws the victim is killed, sometimes killed again while it starts, and
//! started; then it must hold every write that it ever acknowledged. Every [`CYCLES_BETWEEN_MEETINGS`] cycles all three must
//! hold every write that any of them acknowledged, and the same content.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::processes::finding::{Finding, Report};
use crate::processes::fleet::Fleet;
use crate::processes::ledger::Fate;
use crate::processes::link::Link;
use crate::processes::logbook::{Durability, Logbook};
use crate::processes::node::Node;
use crate::processes::patience::{PATIENCE, Stopwatch, within};
use crate::processes::socket::Socket;
use crate::sim::dice::Dice;

/// Nodes of a fleet.
const NODES: usize = 3;
/// After so many cycles a fleet has to agree, and goes on with a new document.
pub const CYCLES_BETWEEN_MEETINGS: u64 = 25;
/// Requests on their way to the victim at once.
const REQUESTS_AHEAD: usize = 3;
/// Acknowledgements before the kill, at most.
const ACKNOWLEDGED_MAX: u64 = 12;
/// And then so much later, at most: several commits, or a part of one.
const MOMENT_MAX_US: u64 = 4_000;
/// In so many of a hundred cycles the victim is killed again before it is ready or shortly after.
const KILLED_WHILE_STARTING_PERCENT: u64 = 20;
const START_MAX_US: u64 = 30_000;

/// How long a run is: by whichever comes first.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cycles in all.
    pub cycles: u64,
    /// Time in all; the last meetings come on top of it.
    pub time: Duration,
    /// Fleets at once.
    pub fleets: usize,
    /// Which answer counts.
    pub durability: Durability,
    /// Draws victims and moments.
    pub seed: u64,
}

/// What all fleets share.
struct Run<'a> {
    settings: &'a Settings,
    clock: Stopwatch,
    begun: AtomicU64,
    failed: AtomicBool,
}

/// What was counted.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    cycles: u64,
    killed_while_starting: u64,
    acknowledged: u64,
    undecided: u64,
    undecided_kept: u64,
    meetings: u64,
}

/// Runs cycles until there are enough of them, or the time is over, or something is found.
pub fn run(settings: &Settings) -> Report {
    let run = Run { settings, clock: Stopwatch::start(), begun: AtomicU64::new(0), failed: AtomicBool::new(false) };
    let results: Vec<(Counts, Result<(), Finding>)> = std::thread::scope(|scope| {
        let fleets: Vec<_> = (0..settings.fleets as u64)
            .map(|number| {
                let run = &run;
                scope.spawn(move || {
                    let mut counts = Counts::default();
                    let result = run.fleet(number, &mut counts);
                    run.failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    (counts, result)
                })
            })
            .collect();
        fleets.into_iter().map(|fleet| fleet.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let seconds = run.clock.elapsed().as_secs_f64();
    let sum = |count: fn(&Counts) -> u64| results.iter().map(|(counts, _)| count(counts)).sum::<u64>();
    let cycles = sum(|counts| counts.cycles);
    let mut report = Report::new("kill");
    report.figure("cycles", cycles);
    report.figure("killed_while_starting", sum(|counts| counts.killed_while_starting));
    report.figure("acknowledged", sum(|counts| counts.acknowledged));
    report.figure("undecided", sum(|counts| counts.undecided));
    report.figure("undecided_kept", sum(|counts| counts.undecided_kept));
    report.figure("meetings", sum(|counts| counts.meetings));
    report.figure("seconds", (seconds * 10.0).round() / 10.0);
    report.figure("cycles_per_second", (cycles as f64 / seconds * 10.0).round() / 10.0);
    report.findings = results.into_iter().filter_map(|(_, result)| result.err()).collect();
    report
}

impl Run<'_> {
    /// Takes the next cycle, if there is one.
    fn next(&self) -> Option<u64> {
        if self.failed.load(Ordering::Relaxed) || self.clock.elapsed() > self.settings.time {
            return None;
        }
        Some(self.begun.fetch_add(1, Ordering::Relaxed)).filter(|cycle| *cycle < self.settings.cycles)
    }

    fn fleet(&self, number: u64, counts: &mut Counts) -> Result<(), Finding> {
        let mut dice = Dice::salted(self.settings.seed.wrapping_mul(1_000).wrapping_add(number));
        let mut fleet = Fleet::start(NODES)?;
        let mut next = self.next();
        while next.is_some() {
            let book = Logbook::begin(&fleet, self.settings.durability)?;
            for _ in 0..CYCLES_BETWEEN_MEETINGS {
                let Some(cycle) = next else { break };
                let victim = dice.index(NODES);
                kill_one(&book, &mut fleet, cycle, victim, &mut dice, counts).map_err(|finding| {
                    let node = fleet.node(victim).map(Node::log_end).unwrap_or_default();
                    let text = format!("cycle {cycle}, victim {victim}: {}\n{node}", finding.text);
                    Finding { text, ..finding }
                })?;
                counts.cycles += 1;
                next = self.next();
            }
            meet(&book, &mut fleet, counts)?;
        }
        Ok(())
    }
}

/// Kills the victim in the middle of its writes, and looks after it.
fn kill_one(
    book: &Logbook,
    fleet: &mut Fleet,
    cycle: u64,
    victim: usize,
    dice: &mut Dice,
    counts: &mut Counts,
) -> Result<(), Finding> {
    let (acknowledged, moment) = (dice.below(ACKNOWLEDGED_MAX + 1), dice.below(MOMENT_MAX_US + 1));
    let seen = AtomicU64::new(0);
    let mut socket = fleet.socket(victim)?;
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| stream(book, &mut socket, victim, cycle, &seen));
        // Whatever goes wrong here, the victim is killed: that ends the stream.
        let others = (0..NODES)
            .filter(|&node| node != victim)
            .try_for_each(|node| book.write(&mut fleet.socket(node)?, node, format!("{cycle}-{node}")));
        let streaming = within(PATIENCE, Duration::from_micros(200), || match seen.load(Ordering::Relaxed) {
            enough if enough >= acknowledged || stream.is_finished() => Ok(()),
            few => Err(format!("{few} writes acknowledged")),
        });
        std::thread::sleep(Duration::from_micros(moment));
        fleet.kill(victim);
        let streamed = stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        others?;
        streamed?;
        streaming.map_err(|state| Finding::liveness(format!("the victim acknowledges its writes: {state}")))
    })?;
    if dice.percent(KILLED_WHILE_STARTING_PERCENT) {
        fleet.start_and_kill(victim, Duration::from_micros(dice.below(START_MAX_US)))?;
        counts.killed_while_starting += 1;
    }
    // What it has forgotten is not to come back from the others before it is looked for.
    let set_links = |fleet: &Fleet, set: fn(&Link)| {
        fleet.links().filter(|(from, to, _)| [*from, *to].contains(&victim)).for_each(|(_, _, link)| set(link));
    };
    set_links(fleet, Link::cut);
    fleet.restart(victim)?;
    book.check(fleet, victim, Some(victim))?;
    set_links(fleet, Link::open);
    Ok(())
}

/// Writes until the node is gone.
fn stream(
    book: &Logbook,
    socket: &mut Socket,
    node: usize,
    cycle: u64,
    acknowledged: &AtomicU64,
) -> Result<(), Finding> {
    let mut waiting = VecDeque::new();
    let key = |number: u64| format!("{cycle}-{node}-{number}");
    for number in 0.. {
        if book.send(socket, node, key(number)).is_err() {
            break;
        }
        waiting.push_back(key(number));
        if waiting.len() < REQUESTS_AHEAD {
            continue;
        }
        if !book.hear(socket, waiting.pop_front().as_deref())? {
            return Ok(());
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    // What it said before it died.
    while let Some(key) = waiting.pop_front() {
        if !book.hear(socket, Some(&key))? {
            return Ok(());
        }
    }
    Ok(())
}

/// All three hold everything.
fn meet(book: &Logbook, fleet: &mut Fleet, counts: &mut Counts) -> Result<(), Finding> {
    fleet.agree(PATIENCE)?;
    fleet.check_alive()?;
    let content = book.check_all(fleet)?;
    let ledger = book.ledger();
    counts.acknowledged += ledger.count(Fate::Acknowledged) as u64;
    counts.undecided += ledger.count(Fate::Undecided) as u64;
    counts.undecided_kept += ledger.decided(&content) as u64;
    counts.meetings += 1;
    Ok(())
}
