//! I10 silence: replicas that agree, and to which nothing is written, send nothing but keep-alives.

use anabranch_engine::limits::{SCOUT_INTERVAL, SESSIONS_PER_SPACE};

use crate::sim::SILENCE;
use crate::sim::world::World;

/// What everyone has said so far that was not a keep-alive: per replica its process, messages and hints.
pub type Said = Vec<(u64, u64, u64)>;

/// Counts.
pub fn said(world: &World) -> Said {
    world
        .replicas
        .iter()
        .map(|replica| match &replica.process {
            Some(process) => (process.number, process.engine.counters().data_messages_out, process.gossip.published),
            None => (0, 0, 0),
        })
        .collect()
}

/// Messages that a session takes to begin and to end, and to find out that all is equal.
const MESSAGES_PER_SESSION: u64 = 16;

/// Messages that each replica may send for the sessions that were opened while all were silent. None, but that in a space
/// with more members than sessions one looks in on another now and then.
pub fn looking_in(world: &World, sessions: u64) -> u64 {
    let replicas = world.replicas.len();
    let spaces = (0..replicas).flat_map(|replica| world.ledger.spaces_of(replica).into_keys());
    let crowded = spaces.into_iter().any(|space| world.ledger.members_of(&space).len() > SESSIONS_PER_SPACE);
    let most = replicas as u64 * (SILENCE / SCOUT_INTERVAL.0 + 1);
    if crowded { sessions.min(most) * MESSAGES_PER_SESSION } else { 0 }
}

/// Compares two counts, with so many messages of each replica excepted.
///
/// # Errors
/// Who said what.
pub fn silent(before: &Said, after: &Said, excepted: u64) -> Result<(), String> {
    for (replica, (before, after)) in before.iter().zip(after).enumerate() {
        let messages = after.1.saturating_sub(before.1);
        if (before.0, before.2) != (after.0, after.2) || messages > excepted {
            let (messages, hints) = (after.1.saturating_sub(before.1), after.2.saturating_sub(before.2));
            return Err(format!("#{replica} sent {messages} messages that are not keep-alives and {hints} hints"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_or_one_hint_breaks_the_silence() {
        let before = vec![(1, 10, 2), (2, 20, 2)];
        assert_eq!(silent(&before, &before.clone(), 0), Ok(()));
        assert!(silent(&before, &vec![(1, 10, 2), (2, 21, 2)], 0).unwrap_err().contains("#1 sent 1 messages"));
        assert!(silent(&before, &vec![(1, 10, 3), (2, 20, 2)], 9).unwrap_err().contains("and 1 hints"));
    }
}
