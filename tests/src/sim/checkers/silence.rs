//! I10 silence: replicas that agree, and to which nothing is written, send nothing but keep-alives.

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

/// Compares two counts.
///
/// # Errors
/// Who said what.
pub fn silent(before: &Said, after: &Said) -> Result<(), String> {
    for (replica, (before, after)) in before.iter().zip(after).enumerate() {
        if before != after {
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
        assert_eq!(silent(&before, &before.clone()), Ok(()));
        assert!(silent(&before, &vec![(1, 10, 2), (2, 21, 2)]).unwrap_err().contains("#1 sent 1 messages"));
        assert!(silent(&before, &vec![(1, 10, 3), (2, 20, 2)]).unwrap_err().contains("and 1 hints"));
    }
}
