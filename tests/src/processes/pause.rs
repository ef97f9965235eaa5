//! A node that is stopped for long, as a laptop that is closed, and goes on: the others notice and work, and it catches up.

use std::time::Duration;

use anabranch_engine::limits::DEAD_PEER_AFTER;

use crate::processes::finding::{Finding, Report};
use crate::processes::fleet::Fleet;
use crate::processes::ledger::Fate;
use crate::processes::logbook::{Durability, Logbook};
use crate::processes::patience::{PATIENCE, Stopwatch};

/// Nodes, of which the last is stopped.
const NODES: usize = 3;
/// From one write of the others to the next.
const WRITE_EVERY: Duration = Duration::from_millis(100);
/// What the engine promises, and time for processes to be scheduled.
const NOTICED_WITHIN: Duration = Duration::from_micros(DEAD_PEER_AFTER.0 + 10_000_000);

/// Stops a node for at least `time`, and at least until the others have noticed.
pub fn run(time: Duration) -> Report {
    let mut report = Report::new("pause");
    if let Err(finding) = perform(time, &mut report) {
        report.findings.push(finding);
    }
    report
}

fn perform(time: Duration, report: &mut Report) -> Result<(), Finding> {
    let mut fleet = Fleet::start(NODES)?;
    let book = Logbook::begin(&fleet, Durability::Saved)?;
    let stopped = NODES - 1;
    let others = 0..stopped;
    let device = fleet.node(stopped)?.device();
    book.write(&mut fleet.socket(stopped)?, stopped, "before".to_owned())?;

    fleet.suspend(stopped);
    let clock = Stopwatch::start();
    let mut noticed = vec![None; stopped];
    let mut sockets = others.clone().map(|node| fleet.socket(node)).collect::<Result<Vec<_>, _>>()?;
    for number in 0.. {
        for node in others.clone() {
            book.write(&mut sockets[node], node, format!("{node}-{number}"))?;
            let peers = fleet.peers(node).map_err(Finding::liveness)?;
            if !peers.iter().any(|peer| peer["device"] == device.as_str() && peer["connected"] == true) {
                noticed[node].get_or_insert(clock.elapsed());
            }
        }
        let all = noticed.iter().all(Option::is_some);
        if all && clock.elapsed() >= time {
            break;
        }
        if !all && clock.elapsed() > NOTICED_WITHIN {
            let late = format!("after {:?} the others still believe in a stopped node: {noticed:?}", clock.elapsed());
            return Err(Finding::liveness(late));
        }
        std::thread::sleep(WRITE_EVERY);
    }
    let stood = clock.elapsed();
    fleet.proceed(stopped);
    let going = Stopwatch::start();
    fleet.agree(PATIENCE)?;
    let caught_up = going.elapsed();
    book.check_all(&fleet)?;
    fleet.check_alive()?;

    let ms = |time: Duration| time.as_millis() as u64;
    report.figure("stopped_ms", ms(stood));
    report.figure("noticed_after_ms", noticed.into_iter().flatten().map(ms).collect::<Vec<_>>());
    report.figure("acknowledged_meanwhile", book.ledger().count(Fate::Acknowledged) - 1);
    report.figure("caught_up_after_ms", ms(caught_up));
    Ok(())
}
