//! What a hostile participant must not reach: other spaces are as quiet as always, honest members of its own space have
//! nothing endless to say to each other because of it, and what it is sent is bounded by what it sends (I9).

use std::collections::BTreeMap;

use anabranch_engine::id::SpaceId;
use anabranch_engine::wire::Message;
use anabranch_engine::wire::frame::Assembly;

use crate::sim::world::World;

/// The checker's name.
pub const CHECKER: &str = "I9 others untouched";

/// Messages about a space between honest replicas that were no keep-alives.
pub type Talk = BTreeMap<SpaceId, u64>;

/// Largest message of one frame that is looked into.
const LOOKED_AT_MAX: usize = 1024 * 1024;
/// Of an attacked space, how many messages any two honest members may exchange in the time in which others have to be silent:
/// histories that were forked cannot be made equal, and it is looked again, ever more rarely, whether that is still so; and
/// what somebody hostile goes on adding goes round.
pub const TALK_PER_PAIR_MAX: u64 = 200;
/// Bytes that an attacker may be sent for each byte of its own. What it asks for it is given: a frontier of 40 bytes brings a
/// document.
const AMPLIFICATION_MAX: u64 = 40;
/// Bytes that it may be sent beyond that: a member is brought everything, in each session again if it says that it has nothing.
const FREE_BYTES: u64 = 1024 * 1024;
/// Membership entries that a process may check for nothing.
const FREE_CHECKS: u64 = 100;
/// And one more for so many bytes that it was sent: keys, hashes and a signature cannot be compressed to less.
const ENTRY_BYTES_MIN: u64 = 128;
/// Bytes that it may be sent in a second of its life: keep-alives, and edits of others.
const FREE_BYTES_PER_SECOND: u64 = 1_000;

/// Takes note of a frame between two honest replicas.
pub fn overhear(world: &World, from: usize, to: usize, frame: &[u8], talk: &mut Talk) {
    let [_, 3 | 7, ..] = frame else { return };
    let Ok(Some(bytes)) = Assembly::default().push(frame, LOOKED_AT_MAX) else { return };
    let message = Message::from_bytes(&bytes);
    // Where a member is, is told in every space that it is in, whatever was heard of that in another.
    let is_of_attacked_alone = matches!(message, Ok(Message::Peers { .. }));
    let index = match message {
        Ok(
            Message::Nodes { space, .. }
            | Message::Items { space, .. }
            | Message::WantEntries { space, .. }
            | Message::Entries { space, .. }
            | Message::Frontiers { space, .. }
            | Message::Runs { space, .. }
            | Message::Peers { space, .. }
            | Message::Refused { space, .. },
        ) => space,
        _ => return,
    };
    let Some(process) = &world.replicas[from].process else { return };
    let peer = process.engine.peers().into_iter().find(|peer| peer.peer == world.replicas[to].device);
    if let Some(space) = peer.and_then(|peer| peer.spaces.get(index as usize).copied())
        && (world.is_attacked(&space) || !is_of_attacked_alone)
    {
        *talk.entry(space).or_default() += 1;
    }
}

/// Honest replicas were silent about spaces that nobody hostile is in, and said little about the others.
///
/// # Errors
/// What was said too much.
pub fn silent(talk: &Talk, honest: u64, is_attacked: impl Fn(&SpaceId) -> bool) -> Result<(), String> {
    for (space, messages) in talk {
        let pairs = honest * honest.saturating_sub(1) / 2;
        let limit = if is_attacked(space) { pairs * TALK_PER_PAIR_MAX } else { 0 };
        if *messages > limit {
            return Err(format!("honest replicas sent {messages} messages about space {space:.8}, limit {limit}"));
        }
    }
    Ok(())
}

/// Nobody makes an honest replica check more membership entries than it was sent bytes for: however well the same one over and over
/// is compressed.
///
/// # Errors
/// Who checked too many.
pub fn checks(world: &World) -> Result<(), String> {
    for replica in world.honest() {
        if let Some(process) = &world.replicas[replica].process {
            let counters = process.engine.counters();
            in_proportion(counters.entries_checked, counters.bytes_in)
                .map_err(|text| format!("#{replica} checked {text}"))?;
        }
    }
    Ok(())
}

fn in_proportion(entries: u64, bytes: u64) -> Result<(), String> {
    let limit = FREE_CHECKS + bytes / ENTRY_BYTES_MIN;
    if entries <= limit { Ok(()) } else { Err(format!("{entries} entries for {bytes} bytes, limit {limit}")) }
}

/// What attackers were sent is bounded by what they sent.
///
/// # Errors
/// Who was sent too much by whom.
pub fn amplification(world: &World) -> Result<(), String> {
    for (attacker, hostile) in &world.attackers {
        for (victim, (to, from)) in &hostile.traffic {
            bounded(*to, *from, world.now).map_err(|text| format!("#{victim} sent the attacker #{attacker} {text}"))?;
        }
    }
    Ok(())
}

fn bounded(to: u64, from: u64, now: u64) -> Result<(), String> {
    let limit = from * AMPLIFICATION_MAX + FREE_BYTES + now / crate::sim::SECONDS * FREE_BYTES_PER_SECOND;
    if to <= limit { Ok(()) } else { Err(format!("{to} bytes for {from} of its own, limit {limit}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_a_clean_space_and_too_many_about_an_attacked_one_are_seen() {
        let (clean, attacked) = (SpaceId([1; 32]), SpaceId([2; 32]));
        let is_attacked = |space: &SpaceId| *space == attacked;
        let most = 3 * TALK_PER_PAIR_MAX;
        assert_eq!(silent(&Talk::from([(attacked, most)]), 3, is_attacked), Ok(()));
        assert!(silent(&Talk::from([(attacked, most + 1)]), 3, is_attacked).unwrap_err().contains("601 messages"));
        assert!(silent(&Talk::from([(clean, 1)]), 3, is_attacked).unwrap_err().contains("1 messages"));
    }

    #[test]
    fn a_flood_of_copies_is_seen() {
        assert_eq!(in_proportion(FREE_CHECKS + 10, 10 * ENTRY_BYTES_MIN), Ok(()));
        assert!(in_proportion(FREE_CHECKS + 11, 10 * ENTRY_BYTES_MIN).unwrap_err().contains("111 entries"));
    }

    #[test]
    fn a_lever_is_seen() {
        assert_eq!(bounded(FREE_BYTES + 40_000, 1_000, 0), Ok(()));
        assert!(bounded(FREE_BYTES + 41_000, 1_000, 0).unwrap_err().contains("for 1000 of its own"));
    }
}
