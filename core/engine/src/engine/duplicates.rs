//! Several sessions with one device: both dialed at once, one end is dead, or there are two of it.

use alloc::vec::Vec;

use crate::engine::Engine;
use crate::engine::input::SessionId;
use crate::id::DeviceId;
use crate::limits::{SESSIONS_MAX, SESSIONS_PER_DEVICE};
use crate::sync::rate::Allowance;
use crate::time::Duration;

/// A session with a device is closed for a newer one this often in the long run, in seconds, and four times at once.
const REPLACEMENT_EVERY: u64 = 30;
const REPLACEMENTS: Allowance = Allowance { per_second: 1, burst: 4 * REPLACEMENT_EVERY };

/// Two sessions with one peer that opened within this time of each other were dialed at once by both sides.
const SIMULTANEOUS: Duration = Duration::from_secs(5);

impl Engine {
    /// Where two dialed each other at once, both sides keep the session that the smaller device opened.
    pub(super) fn settle_duplicates(&mut self, id: SessionId) -> bool {
        let Some(new) = self.sessions.get(&id) else { return false };
        let (peer, opener) = (new.peer, new.opener);
        let others: Vec<_> = self
            .sessions
            .iter()
            .filter(|(other, session)| **other != id && session.peer == peer && session.is_open())
            .map(|(other, session)| (*other, session.opener, session.opened_at))
            .collect();
        for (other, other_opener, opened_at) in others {
            if opener == other_opener || self.now.mono - opened_at >= SIMULTANEOUS {
                continue;
            }
            let ours_opens = self.device < peer;
            if opener != ours_opens {
                self.close_session(id, "a second session");
                return false;
            }
            self.close_session(other, "a second session");
        }
        true
    }

    /// Keeps one session with each process of a peer: the newest, because the peer would not have dialed again without need.
    /// Where a device was copied two processes share its identity, and to let each push the other out would never end: what
    /// cannot be told to be one process keeps a session each, up to `SESSIONS_PER_DEVICE`.
    pub(super) fn settle_instances(&mut self, id: SessionId) {
        let Some(peer) = self.sessions.get(&id).map(|session| session.peer) else { return };
        let mut known: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.peer == peer && session.is_open())
            .filter_map(|(id, session)| Some((session.opened_at, *id, session.instance?)))
            .collect();
        known.sort_unstable_by_key(|(opened_at, id, _)| (*opened_at, *id));
        let count = known.len();
        for (at, (_, older, instance)) in known.iter().enumerate() {
            if known[at + 1..].iter().any(|(_, _, newer)| newer.replaces(instance))
                && self.may_be_replaced(*older, peer)
            {
                self.close_session(*older, "replaced by a newer session");
            } else if count - at > SESSIONS_PER_DEVICE {
                self.close_session(*older, "there are newer sessions enough with this device");
            }
        }
        // What is said on a session after a later one of another process: both live. One that is dead is never heard again.
        for (at, (_, older, instance)) in known[..count.saturating_sub(1)].iter().enumerate() {
            if let Some(session) = self.sessions.get_mut(older) {
                session.has_rival |= known[at + 1..].iter().any(|(_, _, newer)| !newer.replaces(instance));
            }
        }
    }

    /// Whether a session with a device may be closed for a newer one. If the device opened it, not again and again: where a
    /// machine was copied with its memory there is nothing to tell the two processes apart by, but that each comes back when
    /// the other one does.
    fn may_be_replaced(&mut self, older: SessionId, peer: DeviceId) -> bool {
        if self.sessions.get(&older).is_some_and(|session| session.opener) {
            return true;
        }
        let now = self.now.mono;
        let replaced = self.replaced.entry(peer).or_default();
        let may = replaced.has_left(now, REPLACEMENTS);
        if may {
            replaced.spend(REPLACEMENT_EVERY, now, REPLACEMENTS);
        }
        if self.replaced.len() > SESSIONS_MAX {
            self.replaced.pop_first();
        }
        may
    }
}
