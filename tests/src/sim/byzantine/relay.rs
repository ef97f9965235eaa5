//! What a relay that lies does to the frames of its engine: some are never passed on, some late.

use anabranch_engine::SessionId;
use anabranch_engine::wire::Message;
use anabranch_engine::wire::frame::{Assembly, frame_lane};

use super::{Attack, Attacker, Move, Scene, frames_on};
use crate::sim::SECONDS;

/// The largest message of one frame that is looked into.
const LOOKED_AT_MAX: usize = 1024 * 1024;

/// What became of a frame.
pub(super) enum Passed {
    /// It goes on, perhaps without some of its runs.
    On(Vec<u8>),
    /// It does not, or not now.
    Held(Attack),
}

/// What a relay does, it does to frames as they pass.
pub(super) fn nothing(_: &mut Attacker, _: &Scene<'_>) -> Vec<Move> {
    Vec::new()
}

impl Attacker {
    /// What becomes of a frame of our engine.
    pub(super) fn relay(&mut self, session: SessionId, frame: Vec<u8>, now: u64) -> Passed {
        let does = |attack| self.options.attacks.contains(&attack);
        // Frames of a long message are left as they are: what is missing in the middle is seen at once.
        let (Some(lane), [_, 3 | 7, ..]) = (frame_lane(&frame), &frame[..]) else { return Passed::On(frame) };
        let (withholds, delays) = (does(Attack::Withholds), does(Attack::Delays));
        if withholds
            && let Ok(Some(bytes)) = Assembly::default().push(&frame, LOOKED_AT_MAX)
            && let Ok(Message::Runs { space, acls, runs }) = Message::from_bytes(&bytes)
        {
            let all = runs.len();
            // Each document reaches every other session.
            let kept: Vec<_> = runs
                .into_iter()
                .filter(|run| (u64::from(run.document.0[0]) + session.0 / 2).is_multiple_of(2))
                .collect();
            if kept.is_empty() {
                return Passed::Held(Attack::Withholds);
            }
            if kept.len() < all {
                let less = frames_on(lane, &Message::Runs { space, acls, runs: kept }).swap_remove(0);
                return Passed::On(less);
            }
        }
        if delays && self.dice.percent(30) {
            if !self.dice.percent(20) {
                let at = now + self.dice.between(SECONDS / 10, 30 * SECONDS);
                self.held.push_back((at, session, frame));
            }
            return Passed::Held(Attack::Delays);
        }
        Passed::On(frame)
    }
}
