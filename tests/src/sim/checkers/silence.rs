//! I10 silence: replicas that agree, and to which nothing is written, send nothing but keep-alives.

use std::collections::BTreeSet;

use anabranch_engine::limits::{KEEP_ALIVE_INTERVAL, SCOUT_INTERVAL, SESSIONS_PER_SPACE};

use crate::sim::SILENCE;
use crate::sim::world::World;

/// The checker's name.
pub const CHECKER: &str = "I10 silence";

/// What everyone has said so far: per replica its process, messages that are not keep-alives, hints, and frames of any kind.
pub type Said = Vec<(u64, u64, u64, u64)>;

/// Counts.
pub fn said(world: &World) -> Said {
    world
        .replicas
        .iter()
        .map(|replica| match &replica.process {
            Some(process) => {
                let counters = process.engine.counters();
                (process.number, counters.data_messages_out, process.gossip.published, counters.frames_out)
            }
            None => (0, 0, 0, 0),
        })
        .collect()
}

/// Messages that a session takes to begin and to end, and to find out that all is equal.
const MESSAGES_PER_SESSION: u64 = 16;

/// What is said although there is nothing to say, by each replica at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk {
    /// Frames of keep-alives.
    pub keep_alives: u64,
    /// Messages of sessions that were opened meanwhile; each may have a keep-alive behind it.
    pub looking_in: u64,
}

/// What may be said in a time in which so many sessions were opened: a keep-alive to each of the others at every interval,
/// and one at an end of it. And in a space with more members than sessions one looks in on another now and then.
pub fn allowed(world: &World, sessions: u64) -> Talk {
    let replicas = world.replicas.len();
    let spaces = (0..replicas).flat_map(|replica| world.ledger.spaces_of(replica).into_keys());
    let crowded = spaces.into_iter().any(|space| world.ledger.members_of(&space).len() > SESSIONS_PER_SPACE);
    let most = replicas as u64 * (SILENCE / SCOUT_INTERVAL.0 + 1);
    let looking_in = if crowded { sessions.min(most) * MESSAGES_PER_SESSION } else { 0 };
    // Where single frames are lost, the one may be that would have told that two sessions are with one process.
    let twice = if world.loses_frames() { duplicates(world) } else { 0 };
    Talk { keep_alives: keep_alives(replicas, SILENCE) + twice * keep_alives(2, SILENCE), looking_in }
}

/// Connections beside another one between the same two.
fn duplicates(world: &World) -> u64 {
    let ends = world.connections.values().map(|connection| connection.ends.each_ref().map(|end| end.replica));
    let pairs: BTreeSet<_> = ends.map(|[a, b]| (a.min(b), a.max(b))).collect();
    (world.connections.len() - pairs.len()) as u64
}

/// Keep-alives that one replica sends to each of the others in a time: one at every interval, and one at an end of it.
fn keep_alives(replicas: usize, time: u64) -> u64 {
    (replicas as u64 - 1) * (time / KEEP_ALIVE_INTERVAL.0 + 1)
}

/// Compares two counts.
///
/// # Errors
/// Who said what.
pub fn silent(before: &Said, after: &Said, allowed: Talk) -> Result<(), String> {
    let Talk { keep_alives, looking_in } = allowed;
    for (replica, (before, after)) in before.iter().zip(after).enumerate() {
        let messages = after.1.saturating_sub(before.1);
        if (before.0, before.2) != (after.0, after.2) || messages > looking_in {
            let (messages, hints) = (after.1.saturating_sub(before.1), after.2.saturating_sub(before.2));
            return Err(format!("#{replica} sent {messages} messages that are not keep-alives and {hints} hints"));
        }
        let frames = after.3 - before.3;
        if frames > keep_alives + 2 * looking_in {
            return Err(format!("#{replica} sent {frames} frames, where {keep_alives} keep-alives were enough"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_or_one_hint_breaks_the_silence_and_so_do_too_many_keep_alives() {
        let before = vec![(1, 10, 2, 30), (2, 20, 2, 30)];
        let silent = |after: Said| silent(&before, &after, Talk { keep_alives: 8, looking_in: 0 });
        assert_eq!(silent(before.clone()), Ok(()));
        assert_eq!(silent(vec![(1, 10, 2, 38), (2, 20, 2, 30)]), Ok(()));
        assert!(silent(vec![(1, 10, 2, 30), (2, 21, 2, 30)]).unwrap_err().contains("#1 sent 1 messages"));
        assert!(silent(vec![(1, 10, 3, 30), (2, 20, 2, 30)]).unwrap_err().contains("and 1 hints"));
        assert!(silent(vec![(1, 10, 2, 30), (2, 20, 2, 39)]).unwrap_err().contains("9 frames"));
    }
}
