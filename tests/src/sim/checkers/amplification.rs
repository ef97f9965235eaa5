//! I9 bounded amplification: what all replicas of a seed have sent is in proportion to what was made in it, to the sessions
//! and to the time: a change goes a bounded number of times over each link, a session costs a bounded greeting, silence a
//! bounded number of keep-alives.

use std::collections::BTreeSet;

use anabranch_engine::storage::{Row, Table};

use crate::sim::SECONDS;
use crate::sim::world::World;

/// The checker's name.
pub const CHECKER: &str = "I9 bounded amplification";

// Measured over 200 seeds with a factor of two: at most 0.44 of what these allow, 0.1 on average; where everything is sent with
// each difference of roots, up to 2.8. Of 20,000 seeds one went beyond a factor of two: live lanes that lose everything, on a
// link with seconds of delay.

/// How often a byte of what was made may go over a link, in each of its directions, and be lost or not needed.
const TIMES: u64 = 3;
/// A session: its greeting, who is a member and where, what of which document both have. Members and versions are named by
/// whole hashes: three sessions over a slow disk took 3,500 each beyond what was made.
const SESSION_BYTES: u64 = 4_000;
/// A second of a link's life: keep-alives, roots after changes.
const SECOND_BYTES: u64 = 20;

/// Runs and entries that were made, each once however many replicas store it.
#[derive(Debug, Clone, Default)]
pub struct Made {
    seen: BTreeSet<[u8; 32]>,
    bytes: u64,
}

impl Made {
    /// Takes note of rows that a replica stores.
    pub fn stored(&mut self, rows: &[Row]) {
        for row in rows.iter().filter(|row| matches!(row.table, Table::Runs | Table::Members)) {
            if let Some(value) = &row.value
                && self.seen.insert(*blake3::hash(&row.key).as_bytes())
            {
                self.bytes += value.len() as u64;
            }
        }
    }

    /// Bytes of all that was made.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Compares what was sent with what may be.
///
/// # Errors
/// It is too much.
pub fn check(world: &World) -> Result<(), String> {
    let running = world.replicas.iter().flat_map(|replica| &replica.process);
    let sent = world.stats.bytes_sent + running.map(|process| process.engine.counters().bytes_out).sum::<u64>();
    let replicas = world.replicas.len() as u64;
    bounded(sent, world.watch.made.bytes(), replicas * (replicas - 1), world.stats.sessions, world.now / SECONDS)
}

fn bounded(sent: u64, made: u64, links: u64, sessions: u64, seconds: u64) -> Result<(), String> {
    let limit = made * links * TIMES + sessions * SESSION_BYTES + seconds * links * SECOND_BYTES;
    if sent <= limit {
        return Ok(());
    }
    Err(format!(
        "{sent} bytes were sent, limit {limit}, where {made} were made, over {links} links in {sessions} sessions and \
         {seconds} s"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_was_made_explains_is_seen() {
        assert_eq!(bounded(20_000, 1_000, 2, 5, 60), Ok(()));
        assert!(bounded(50_000, 1_000, 2, 5, 60).unwrap_err().contains("where 1000 were made"));
    }

    #[test]
    fn what_two_store_was_made_once() {
        let mut made = Made::default();
        let row = Row { table: Table::Runs, key: vec![1], value: Some(vec![0; 50]) };
        made.stored(std::slice::from_ref(&row));
        made.stored(&[row, Row { table: Table::Meta, key: vec![2], value: Some(vec![0; 50]) }]);
        assert_eq!(made.bytes(), 50);
    }
}
