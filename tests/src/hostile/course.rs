//! The course of one attack: a fresh stage, a quiet time, the attack, what is left of it, and how the peers meet again.
//!
//! On a machine that others use too, slow edits may be theirs. So an attack that fails by nothing but slow edits is made again on
//! a fresh stage, three times in all, and one of them must not.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::Value;

use crate::hostile::attack::{Attack, Effect, Who};
use crate::hostile::figures::{self, Look, RECONNECT_MAX};
use crate::hostile::honest::Honest;
use crate::hostile::scene::Scene;
use crate::hostile::stage::{Actor, Stage};
use crate::processes::finding::{Finding, Report};
use crate::processes::patience::Stopwatch;

/// The quiet time before the attack, and again after it.
const QUIET: Duration = Duration::from_millis(1_200);
const QUIET_AFTER: Duration = Duration::from_millis(900);
/// How often an attack is made that fails by slow edits alone.
pub const TRIES: u32 = 3;
/// An attack may take this much longer than it was given: it waits for what it has said to be heard.
const LATE_MAX: Duration = Duration::from_secs(60);
/// How often the nodes are looked at during the attack.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How an attack is made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long the attacker goes on.
    pub length: Duration,
    /// What it draws by.
    pub seed: u64,
    /// How often it is made if it fails by slow edits alone.
    pub tries: u32,
}

/// Makes one attack and says what came of it.
pub fn run(attack: &Attack, settings: Settings) -> Report {
    let mut tried = 0;
    loop {
        tried += 1;
        let mut report = once(attack, settings);
        let slow_alone = !report.findings.is_empty() && report.findings.iter().all(is_slow);
        if !slow_alone || tried >= settings.tries {
            report.figure("tried", tried);
            return report;
        }
    }
}

const SLOW: &str = "honest edits are slow";

/// Whether a finding is about slow edits, which may be others' doing.
pub fn is_slow(finding: &Finding) -> bool {
    finding.text.starts_with(SLOW)
}

fn once(attack: &Attack, settings: Settings) -> Report {
    let mut report = Report::new(attack.name);
    if let Err(finding) = perform(attack, settings, &mut report) {
        report.findings.push(finding);
    }
    report
}

fn perform(attack: &Attack, settings: Settings, report: &mut Report) -> Result<(), Finding> {
    let whole = Stopwatch::start();
    let mut stage = Stage::start()?;
    let honest = Honest::begin(&stage.directory(Actor::Alice), &stage.ground.document_text);
    let pids = Actor::ALL.map(|actor| stage.pid(actor));
    // The first edits open the document and warm the caches.
    std::thread::sleep(QUIET / 4);
    let begun = honest.now();
    std::thread::sleep(QUIET);
    let quiet = honest.between(begun, honest.now());

    let looks = Actor::ALL.map(|actor| Look::at(stage.pid(actor), &stage.directory(actor)));
    pids.into_iter().for_each(figures::forget_rss_max);
    let begun = honest.now();
    let effect = strike(attack, settings, &mut stage, report)?;
    let over = honest.now();
    let attacked = honest.between(begun, over);
    report.figure("attack_ms", millis(over - begun));
    match effect {
        Ok(Effect { sent, seen, broken }) => {
            report.figure("sent", sent);
            report.figure("seen", seen);
            report.findings.extend(broken.into_iter().map(Finding::safety));
        }
        Err(why) => report.findings.push(Finding::liveness(format!("the attack did not reach: {why}"))),
    }

    let peaks = Actor::ALL.map(|actor| Look::at(stage.pid(actor), &stage.directory(actor)));
    honest.rest(true);
    match figures::rest(&pids) {
        Ok(time) => report.figure("calm_ms", millis(time)),
        Err(finding) => report.findings.push(finding),
    }
    honest.rest(false);
    let begun = honest.now();
    std::thread::sleep(QUIET_AFTER);
    let later = honest.between(begun, honest.now());
    let edits = attacked.len() as u64 + later.len() as u64;
    if let Err(trouble) = honest.end() {
        report.findings.push(Finding::liveness(format!("an honest edit: {trouble}")));
    }
    hold_edits(attack.who, &quiet, &attacked, &later, report);
    stage.check_alive()?;

    let clock = Stopwatch::start();
    match stage.meet(RECONNECT_MAX) {
        Ok(()) => report.figure("seen_ms", millis(clock.elapsed())),
        Err(finding) => report.findings.push(Finding::liveness(format!("after the attack {}", finding.text))),
    }
    for ((actor, before), peak) in Actor::ALL.into_iter().zip(looks).zip(peaks) {
        let now = Look::at(stage.pid(actor), &stage.directory(actor));
        let after = Look { rss_max: peak.rss_max.max(now.rss_max), ..now };
        let name = actor.name();
        report.figure(format!("{name}_memory_kib"), after.rss_max.saturating_sub(before.rss) >> 10);
        report.figure(format!("{name}_kept_kib"), now.rss.saturating_sub(before.rss) >> 10);
        report.figure(format!("{name}_disk_kib"), after.disk.saturating_sub(before.disk) >> 10);
        report.figure(format!("{name}_log_bytes"), after.log.saturating_sub(before.log));
        report.findings.extend(figures::growth(name, attack.share, before, after, edits));
    }
    note_state(&stage, report);

    for actor in [Actor::Bob, Actor::Alice] {
        let clock = Stopwatch::start();
        stage.restart(actor)?;
        let met = stage.meet(RECONNECT_MAX.saturating_sub(clock.elapsed()));
        match met {
            Ok(()) => report.figure(format!("{}_back_ms", actor.name()), millis(clock.elapsed())),
            Err(finding) => {
                report.findings.push(Finding::liveness(format!(
                    "after a restart of {}: {}",
                    actor.name(),
                    finding.text
                )));
            }
        }
    }
    stage.check_alive()?;
    report.figure("whole_ms", millis(whole.elapsed()));
    Ok(())
}

/// Makes the attack in a thread that is less urgent than the nodes, and watches that they live.
fn strike(
    attack: &Attack,
    settings: Settings,
    stage: &mut Stage,
    report: &mut Report,
) -> Result<Result<Effect, String>, Finding> {
    let (done, wait) = sync_channel(1);
    let (strike, ground) = (attack.strike, stage.ground.clone());
    std::thread::spawn(move || {
        be_less_urgent();
        let effect = Scene::new(ground, settings.length, settings.seed).and_then(|mut scene| strike(&mut scene));
        // Nobody waits any more if it is far too late.
        let _ = done.send(effect);
    });
    let clock = Stopwatch::start();
    loop {
        match wait.recv_timeout(LOOK_EVERY) {
            Ok(effect) => return Ok(effect),
            Err(RecvTimeoutError::Disconnected) => return Err(Finding::crash("the attacker panicked")),
            Err(RecvTimeoutError::Timeout) => stage.check_alive()?,
        }
        if clock.elapsed() > settings.length + LATE_MAX {
            report.figure("attack_ms", millis(clock.elapsed()));
            return Ok(Err(format!("it has not come to its end in {} s", clock.elapsed().as_secs())));
        }
    }
}

/// Where the machine has few cores, what the attacker makes must not take the time of those who are measured. If the system
/// refuses that, the figures are the stricter.
fn be_less_urgent() {
    let own = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(thread) = own.file_name().and_then(|name| name.to_str()) {
        let _ = std::process::Command::new("renice").args(["-n", "15", "-p", thread]).output();
    }
}

fn hold_edits(who: Who, quiet: &[Duration], attacked: &[Duration], later: &[Duration], report: &mut Report) {
    let quiet = figures::p99(quiet);
    let limit = figures::p99_max(quiet);
    report.figure("edits", attacked.len() as u64);
    report.figure("quiet_p99_us", micros(quiet));
    report.figure("slowest_us", micros(attacked.iter().max().copied().unwrap_or_default()));
    for (when, name, times) in [("during", "p99_us", attacked), ("after", "later_p99_us", later)] {
        report.figure(name, micros(figures::p99(times)));
        let tail = figures::tail(times);
        // A process of the same user could as well end the node: it is held to memory, and to what comes after it.
        let is_held = when == "after" || who != Who::Process;
        if is_held && tail > limit {
            let text = format!("{SLOW} {when} the attack: {tail:?}, quiet {quiet:?}, limit {limit:?}");
            report.findings.push(Finding::liveness(text));
        }
    }
}

/// What the attacked node says of itself afterwards: nothing of the space may have stopped.
fn note_state(stage: &Stage, report: &mut Report) {
    let status = match stage.status(Actor::Alice) {
        Ok(status) => status,
        Err(trouble) => return report.findings.push(Finding::liveness(trouble)),
    };
    report.figure("runs_refused", status["counters"]["runs_refused"].clone());
    report.figure("documents", status["spaces"][0]["documents"].clone());
    for (what, value) in [("stopped", &status["stopped"]), ("read-only", &status["spaces"][0]["read_only"])] {
        if *value != Value::Null {
            report.findings.push(Finding::safety(format!("alice is {what}: {value}")));
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What one attack takes beside its own length, when all goes well.
pub const AROUND: Duration = Duration::from_millis(3_100);
