//! I13 no panic and no endless loop, whatever comes in: a seed has an end, and so has every turn of an engine. Panics are
//! caught by the campaign, those under the engine's guard by the simulator's guard.

use crate::sim::options::Size;
use crate::sim::{EVENTS_MAX, EVENTS_MAX_LARGE, OUTPUTS_PER_TURN_MAX};

/// The checker's name.
pub const CHECKER: &str = "I13 no panic";
/// Its name where something does not end.
pub const ENDLESS: &str = "I13 no endless loop";

/// Events of a seed so far.
///
/// # Errors
/// There is no end to them.
pub fn seed_ends(events: u64, size: Size) -> Result<(), String> {
    let most = match size {
        Size::Small => EVENTS_MAX,
        Size::Large => EVENTS_MAX_LARGE,
    };
    if events > most { Err(format!("more than {most} events: something goes on for ever")) } else { Ok(()) }
}

/// Outputs of a replica's turn so far.
///
/// # Errors
/// There is no end to them.
pub fn turn_ends(replica: usize, outputs: usize) -> Result<(), String> {
    if outputs >= OUTPUTS_PER_TURN_MAX {
        return Err(format!("#{replica} has no end of outputs in one turn, limit {OUTPUTS_PER_TURN_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_seen() {
        assert_eq!(seed_ends(EVENTS_MAX, Size::Small), Ok(()));
        assert!(seed_ends(EVENTS_MAX + 1, Size::Small).is_err());
        assert_eq!(seed_ends(EVENTS_MAX + 1, Size::Large), Ok(()));
        assert_eq!(turn_ends(0, 1_000), Ok(()));
        assert!(turn_ends(3, OUTPUTS_PER_TURN_MAX).unwrap_err().contains("#3"));
    }
}
