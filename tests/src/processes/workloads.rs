//! Workloads: clients that write and read on every node of a fleet while [`chaos`](super::chaos) is done to it; then it is
//! healed, the nodes must come to agree, every node is read once more, and the workload's checker judges.

pub mod counter;
pub mod set;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::processes::chaos::{Chaos, Kinds, plan};
use crate::processes::client::Client;
use crate::processes::finding::{Finding, Report};
use crate::processes::fleet::Fleet;
use crate::processes::patience::Stopwatch;
use crate::processes::vitals::{self, Vitals};
use crate::sim::dice::Dice;

/// How often the run looks after its faults.
const TURN: Duration = Duration::from_millis(20);
/// A node that is not there is asked again after this.
const AFTER_NO_ANSWER: Duration = Duration::from_millis(50);

/// Looks at the nodes in a run.
const LOOKS: u32 = 60;

/// What clients do, and how that is judged.
pub trait Workload: Sync {
    /// What was asked and answered.
    type History: Default + Send;

    /// Its name.
    fn name(&self) -> &'static str;

    /// The edits that make each of its documents.
    fn documents(&self) -> Vec<Value>;

    /// One request of a client; says whether it was answered, and whether it was a write.
    fn step(&self, turn: &mut Turn<'_>, history: &mut Self::History) -> Step;

    /// The last read of a node, when all hold the same.
    ///
    /// # Errors
    /// It is not answered.
    fn last_read(&self, turn: &mut Turn<'_>, history: &mut Self::History) -> Result<(), Finding>;

    /// Joins what several clients have seen.
    fn join(&self, history: &mut Self::History, other: Self::History);

    /// Judges, and adds to the report.
    fn judge(&self, history: &Self::History, report: &mut Report);
}

/// What a client has at hand.
pub struct Turn<'a> {
    /// Who asks.
    pub client: &'a mut Client,
    /// Whom to ask about.
    pub documents: &'a [String],
    /// Chance.
    pub dice: &'a mut Dice,
    /// Since the beginning of the run.
    pub clock: Stopwatch,
    /// Nodes of the fleet.
    pub nodes: usize,
}

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A write was answered.
    Written,
    /// A read was answered.
    Read,
    /// No answer.
    Nothing,
}

/// How a workload is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Nodes, each with a client.
    pub nodes: usize,
    /// How long they are written to.
    pub time: Duration,
    /// Draws faults and requests.
    pub seed: u64,
    /// Which faults.
    pub kinds: Kinds,
    /// A client waits so long after a request, at most.
    pub pause_max: Duration,
    /// How long after the heal they may take to agree.
    pub agree_within: Duration,
    /// Looks at the nodes' memory and files, and fails if these grow without end.
    pub soak: bool,
}

/// Runs a workload.
pub fn run<W: Workload>(workload: &W, settings: &Settings) -> Report {
    let mut report = Report::new(workload.name());
    if let Err(finding) = perform(workload, settings, &mut report) {
        report.findings.push(finding);
    }
    report
}

fn perform<W: Workload>(workload: &W, settings: &Settings, report: &mut Report) -> Result<(), Finding> {
    let mut fleet = Fleet::start(settings.nodes)?;
    let documents =
        workload.documents().iter().map(|edits| fleet.new_document(edits)).collect::<Result<Vec<_>, _>>()?;
    let mut chaos = Chaos::new(plan(settings.seed, settings.nodes, settings.time, settings.kinds));
    let mut looks = vec![Vec::new(); settings.nodes];
    let shared = Shared {
        workload,
        settings,
        documents: &documents,
        clock: Stopwatch::start(),
        over: AtomicBool::new(false),
        writes: AtomicU64::new(0),
    };

    let (chaotic, mut history) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..settings.nodes)
            .map(|node| {
                let client = Client::new(node, fleet.directory(node));
                let shared = &shared;
                scope.spawn(move || shared.requests(client))
            })
            .collect();
        let chaotic = shared.do_chaos(&mut fleet, &mut chaos, &mut looks);
        shared.over.store(true, Ordering::Relaxed);
        // Also where something was found: clients of a stopped node would wait for it.
        let chaotic = chaotic.and(fleet.heal());
        let mut all = W::History::default();
        for client in clients {
            workload.join(&mut all, client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        (chaotic, all)
    });
    chaotic?;
    let healed = Stopwatch::start();
    fleet
        .agree(settings.agree_within)
        .and_then(|()| fleet.check_alive())
        .map_err(|finding| with_logs(&fleet, finding))?;
    let agreed = healed.elapsed();
    for node in 0..settings.nodes {
        let mut client = Client::new(node, fleet.directory(node));
        let mut dice = Dice::salted(settings.seed);
        workload.last_read(&mut shared.turn(&mut client, &mut dice), &mut history)?;
    }
    report.figure("nodes", settings.nodes);
    report.figure("faults", chaos.to_string());
    report.figure("agreed_after_ms", agreed.as_millis() as u64);
    workload.judge(&history, report);
    report.figure("bytes_on_links", fleet.links().map(|(_, _, link)| link.crossed().bytes()).sum::<u64>());
    report.figure("seconds", (shared.clock.elapsed().as_secs_f64() * 10.0).round() / 10.0);
    if settings.soak {
        tell_vitals(&looks, report);
    }
    Ok(())
}

/// What clients and chaos share.
struct Shared<'a, W> {
    workload: &'a W,
    settings: &'a Settings,
    documents: &'a [String],
    clock: Stopwatch,
    over: AtomicBool,
    writes: AtomicU64,
}

impl<W: Workload> Shared<'_, W> {
    fn turn<'a>(&'a self, client: &'a mut Client, dice: &'a mut Dice) -> Turn<'a> {
        Turn { client, documents: self.documents, dice, clock: self.clock, nodes: self.settings.nodes }
    }

    /// What one client does until the time is over.
    fn requests(&self, mut client: Client) -> W::History {
        let mut history = W::History::default();
        let mut dice = Dice::salted(self.settings.seed.wrapping_add(1 + client.node() as u64));
        while !self.over.load(Ordering::Relaxed) {
            let pause = Duration::from_micros(dice.below(self.settings.pause_max.as_micros() as u64 + 1));
            match self.workload.step(&mut self.turn(&mut client, &mut dice), &mut history) {
                Step::Written => drop(self.writes.fetch_add(1, Ordering::Relaxed)),
                Step::Read => {}
                Step::Nothing => std::thread::sleep(AFTER_NO_ANSWER),
            }
            std::thread::sleep(pause);
        }
        history
    }

    fn do_chaos(&self, fleet: &mut Fleet, chaos: &mut Chaos, looks: &mut [Vec<Vitals>]) -> Result<(), Finding> {
        let look_every = self.settings.time / LOOKS;
        let mut next_look = Duration::ZERO;
        while self.clock.elapsed() < self.settings.time {
            let now = self.clock.elapsed();
            chaos.turn(now, fleet)?;
            if now >= next_look {
                next_look += look_every;
                fleet.check_alive()?;
                for (number, node) in fleet.running() {
                    let writes = self.writes.load(Ordering::Relaxed);
                    looks[number].extend(vitals::look(node.pid(), now, writes));
                }
            }
            std::thread::sleep(TURN);
        }
        Ok(())
    }
}

fn with_logs(fleet: &Fleet, finding: Finding) -> Finding {
    let logs = fleet.running().map(|(number, node)| format!("--- node {number}:\n{}", node.log_end()));
    let text = [finding.text.clone()].into_iter().chain(logs).collect::<Vec<_>>().join("\n");
    Finding { text, ..finding }
}

/// Memory and files of each node at the quarters of the run, and whether they grow.
fn tell_vitals(looks: &[Vec<Vitals>], report: &mut Report) {
    for (number, looks) in looks.iter().enumerate() {
        let at = |quarter: usize| looks.get((looks.len() * quarter / 4).min(looks.len().saturating_sub(1)));
        let quarters: Vec<&Vitals> = (0..=4).filter_map(at).collect();
        let mib: Vec<u64> = quarters.iter().map(|look| look.rss_bytes >> 20).collect();
        let fds: Vec<u64> = quarters.iter().map(|look| look.fds).collect();
        report.figure(format!("node_{number}_rss_mib"), mib);
        report.figure(format!("node_{number}_fds"), fds);
        if let Some(growth) = vitals::growth(looks) {
            report.findings.push(Finding::safety(format!("node {number}: {growth}")));
        }
    }
}
