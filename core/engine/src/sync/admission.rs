//! Large messages that are being put together: which sessions may go on with theirs. A message is large if it takes more than
//! the credit that every session has, so its sender waits as long as it gets none.

use alloc::collections::BTreeMap;

use crate::engine::input::SessionId;
use crate::id::DeviceId;
use crate::limits::{ASSEMBLY_BYTES_MAX, BULK_CREDIT_BYTES, STALL_AFTER};
use crate::time::Timestamp;

/// So much has to come within `STALL_AFTER` while others wait, which is 9 kB/s: a byte now and then keeps nobody out.
const PROGRESS_BYTES: usize = BULK_CREDIT_BYTES as usize;

/// A large message of which the first frame is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Who sends it.
    pub session: SessionId,
    /// The sender's device.
    pub device: DeviceId,
    /// Bytes in all.
    pub bytes: usize,
    /// Bytes that are here.
    pub here: usize,
}

/// The sessions whose large messages are being put together.
#[derive(Debug, Default)]
pub struct Admission {
    admitted: BTreeMap<SessionId, Admitted>,
    /// There are others, for which there is no room.
    others_wait: bool,
}

#[derive(Debug)]
struct Admitted {
    device: DeviceId,
    bytes: usize,
    here: usize,
    /// When it was so far as to count as progress, and how far that was.
    since: Timestamp,
    marked: usize,
}

impl Admission {
    /// Decides again, given every large message that has begun, in the order of their sessions. One for each device, as many as
    /// there is room for; who was admitted before stays.
    pub fn review(&mut self, announced: &[Announced], now: Timestamp) {
        let find = |session: &SessionId| announced.iter().find(|message| message.session == *session);
        self.admitted.retain(|session, admitted| match find(session) {
            // The next message of a session has to wait like any other.
            Some(message) if message.bytes == admitted.bytes && message.here >= admitted.here => {
                admitted.here = message.here;
                if message.here >= admitted.marked + PROGRESS_BYTES {
                    (admitted.marked, admitted.since) = (message.here, now);
                }
                true
            }
            Some(_) | None => false,
        });
        let waited = core::mem::take(&mut self.others_wait);
        for message in announced {
            if self.may_go_on(&message.session) {
                continue;
            }
            let is_fair = self.admitted.values().all(|admitted| admitted.device != message.device);
            if is_fair && self.bytes() + message.bytes <= ASSEMBLY_BYTES_MAX {
                let Announced { device, bytes, here, .. } = *message;
                self.admitted.insert(message.session, Admitted { device, bytes, here, since: now, marked: here });
            } else {
                self.others_wait |= is_fair;
            }
        }
        if self.others_wait && !waited {
            // As long as nobody waits, everybody may take their time.
            self.suspend(now);
        }
    }

    /// Progress is counted from now on: nobody could make any before, or nobody asked for it.
    pub fn suspend(&mut self, now: Timestamp) {
        self.admitted.values_mut().for_each(|admitted| (admitted.since, admitted.marked) = (now, admitted.here));
    }

    /// A session has ended.
    pub fn forget(&mut self, session: &SessionId) {
        self.admitted.remove(session);
    }

    /// Whether a session that sends a large message gets credit for it.
    pub fn may_go_on(&self, session: &SessionId) -> bool {
        self.admitted.contains_key(session)
    }

    /// Bytes of all that are admitted, as they were announced.
    pub fn bytes(&self) -> usize {
        self.admitted.values().map(|admitted| admitted.bytes).sum()
    }

    /// A session that others wait for, and of whose message too little has come for long.
    pub fn stalled(&self, now: Timestamp) -> Option<SessionId> {
        let is_stalled = |admitted: &Admitted| self.others_wait && now - admitted.since >= STALL_AFTER;
        self.admitted.iter().find(|(_, admitted)| is_stalled(admitted)).map(|(session, _)| *session)
    }

    /// When to look for one.
    pub fn deadline(&self) -> Option<Timestamp> {
        let since = self.admitted.values().map(|admitted| admitted.since).min();
        since.filter(|_| self.others_wait).map(|since| since + STALL_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BULK_MESSAGE_BYTES_MAX;
    use crate::time::Duration;

    fn message(session: u64, device: u8, here: usize) -> Announced {
        let (session, device) = (SessionId(session), DeviceId([device; 32]));
        Announced { session, device, bytes: BULK_MESSAGE_BYTES_MAX, here }
    }

    #[test]
    fn large_messages_beyond_the_limit_wait_until_others_are_complete() {
        let mut admission = Admission::default();
        let all: alloc::vec::Vec<_> = (1..=6).map(|n| message(n, n as u8, 1)).collect();
        admission.review(&all, Timestamp(0));
        let going = |admission: &Admission| {
            (1..=6).filter(|n| admission.may_go_on(&SessionId(*n))).collect::<alloc::vec::Vec<_>>()
        };
        assert_eq!(going(&admission), [1, 2, 3, 4]);
        assert!(admission.bytes() <= ASSEMBLY_BYTES_MAX);
        admission.review(&all[1..], Timestamp(1));
        assert_eq!(going(&admission), [2, 3, 4, 5]);
    }

    #[test]
    fn a_device_has_one_large_message_under_way_however_many_sessions_it_has() {
        let mut admission = Admission::default();
        admission.review(&[message(1, 1, 1), message(2, 1, 1), message(3, 2, 1)], Timestamp(0));
        assert!(admission.may_go_on(&SessionId(1)) && admission.may_go_on(&SessionId(3)));
        assert!(!admission.may_go_on(&SessionId(2)));
        // It waits for nobody but itself.
        assert_eq!(admission.deadline(), None);
    }

    #[test]
    fn a_session_that_sends_too_little_of_a_message_is_named_when_others_wait() {
        let mut admission = Admission::default();
        let mut all: alloc::vec::Vec<_> = (1..=5).map(|n| message(n, n as u8, 1)).collect();
        admission.review(&all[..4], Timestamp(0));
        let long = Timestamp(0) + Duration::from_secs(1_000);
        admission.review(&all[..4], long);
        assert_eq!((admission.stalled(long), admission.deadline()), (None, None), "nobody waits");
        admission.review(&all, long);
        let due = long + STALL_AFTER;
        assert_eq!((admission.stalled(long), admission.deadline()), (None, Some(due)));
        (all[0].here, all[1].here) = (1 + PROGRESS_BYTES, PROGRESS_BYTES);
        admission.review(&all, due);
        assert_eq!(admission.stalled(due), Some(SessionId(2)));
        admission.suspend(due);
        assert_eq!(admission.stalled(due), None);
        admission.forget(&SessionId(1));
        assert_eq!(admission.stalled(due + STALL_AFTER), Some(SessionId(2)));
    }
}
