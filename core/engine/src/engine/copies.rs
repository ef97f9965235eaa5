//! Devices of which there are several: an identity, or a whole machine, was copied, and more than one process acts with it.
//! They never meet: each takes the other for itself. Whoever meets both sees it, and tells them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use tracing::warn;

use crate::engine::Engine;
use crate::engine::input::SessionId;
use crate::engine::output::Event;
use crate::id::DeviceId;
use crate::limits::{COPY_REMEMBERED_S, DEVICES_REMEMBERED_MAX, SESSIONS_PER_DEVICE};
use crate::time::Timestamp;
use crate::wire::Message;

/// Several processes act as one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// At this moment, as far as can be seen: both are connected here, or to a peer that says so.
    pub now: bool,
    /// When it was last seen, in seconds since 1970 by this machine's clock.
    pub last_s: i64,
}

/// What was seen of copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// When, by the wall clock.
    seen: BTreeMap<DeviceId, i64>,
    /// The processes of each device that have greeted, by their random numbers: when the last session began in which each did.
    processes: BTreeMap<DeviceId, Vec<(u64, Timestamp)>>,
}

impl Copies {
    /// Devices of which something is remembered.
    pub(super) fn len(&self) -> usize {
        self.processes.len().max(self.seen.len())
    }

    /// A process of a device greets in a session that began at `began`. Says whether it was here before another one was, and
    /// began a session after that: then that one did not run in its place. When it greets says nothing, for what a process
    /// that died had sent may arrive after its successor has greeted.
    fn greets(&mut self, device: DeviceId, process: u64, began: Timestamp) -> bool {
        if self.processes.len() >= DEVICES_REMEMBERED_MAX && !self.processes.contains_key(&device) {
            self.processes.pop_first();
        }
        let known = self.processes.entry(device).or_default();
        let Some(at) = known.iter().position(|(number, _)| *number == process) else {
            if known.len() >= SESSIONS_PER_DEVICE
                && let Some(oldest) = (0..known.len()).min_by_key(|at| known[*at].1)
            {
                known.remove(oldest);
            }
            known.push((process, began));
            return false;
        };
        let before = known[at].1;
        known[at].1 = before.max(began);
        known.iter().any(|(other, last)| *other != process && before < *last && *last < began)
    }

    /// A device is said to have had copies, and not when.
    fn heard_of(&mut self, device: DeviceId, now_s: i64) -> bool {
        !self.seen.contains_key(&device) && self.saw(device, now_s)
    }

    /// Notes that a device has copies. Says whether that is news.
    fn saw(&mut self, device: DeviceId, now_s: i64) -> bool {
        if self.seen.len() >= DEVICES_REMEMBERED_MAX && !self.seen.contains_key(&device) {
            self.seen.pop_first();
        }
        let last = self.seen.insert(device, now_s);
        last.is_none_or(|last| !is_fresh(last, now_s))
    }
}

fn is_fresh(last_s: i64, now_s: i64) -> bool {
    now_s.saturating_sub(last_s) < COPY_REMEMBERED_S
}

impl Engine {
    /// Whether several processes act as this device, or did so in the last day.
    pub fn copied(&self, device: &DeviceId) -> Option<Copied> {
        let now = match *device == self.device {
            true => self.sessions.values().any(|session| session.told_copies > 0),
            false => self.others_of(device) > 0,
        };
        let last_s = if now { Some(self.now.wall_s) } else { self.copies.seen.get(device).copied() };
        last_s.filter(|last| is_fresh(*last, self.now.wall_s)).map(|last_s| Copied { now, last_s })
    }

    /// The peer of a session has said which process it is.
    pub(super) fn process_greets(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (peer, began, Some(instance)) = (session.peer, session.opened_at, session.instance) else { return };
        if self.copies.greets(peer, instance.number, began) {
            self.copy_seen(peer);
        } else {
            self.tell_copies(&peer);
        }
    }

    /// Two processes act as this device.
    pub(super) fn copy_seen(&mut self, device: DeviceId) {
        let is_news = self.copies.saw(device, self.now.wall_s);
        self.tell_of_copy(device, is_news);
    }

    fn tell_of_copy(&mut self, device: DeviceId, is_news: bool) {
        if is_news {
            warn!(%device, "several processes act as this device");
            self.event(Event::IdentityCloned { device });
        }
        if device != self.device {
            self.tell_copies(&device);
        }
    }

    /// One of several sessions with a device has ended; `others` of its processes were connected besides the first until then.
    pub(super) fn copy_went(&mut self, device: &DeviceId, others: u32) {
        if others > 0 {
            self.copies.saw(*device, self.now.wall_s);
        }
        self.tell_copies(device);
    }

    /// A peer says that so many other processes act as our device.
    pub(super) fn heard_copies(&mut self, id: SessionId, others: u32) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = core::mem::replace(&mut session.told_copies, others);
        let is_news = match others.max(before) {
            0 => self.copies.heard_of(self.device, self.now.wall_s),
            _ => self.copies.saw(self.device, self.now.wall_s),
        };
        self.tell_of_copy(self.device, is_news);
    }

    /// Tells each process of a device that has copies how many others there are.
    pub(super) fn tell_copies(&mut self, device: &DeviceId) {
        if self.copied(device).is_none() {
            return;
        }
        let others = self.others_of(device);
        for id in self.open_sessions() {
            let Some(session) = self.sessions.get_mut(&id).filter(|session| session.peer == *device) else { continue };
            if session.copies_told != Some(others) {
                session.copies_told = Some(others);
                self.say(id, &Message::Copies { others });
            }
        }
    }

    /// How many processes of a device are connected here besides the first one, if it was seen that they live side by side. The
    /// session of one that was replaced may be dead.
    pub(super) fn others_of(&self, device: &DeviceId) -> u32 {
        let open = self.sessions.values().filter(|session| session.peer == *device && session.is_open());
        let mut live = false;
        let processes: BTreeSet<u64> = open
            .inspect(|session| live |= session.lives_beside_another)
            .filter_map(|session| session.instance.map(|instance| instance.number))
            .collect();
        if live { processes.len().saturating_sub(1) as u32 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId([7; 32]);

    #[test]
    fn a_process_that_comes_back_after_another_one_is_a_copy_and_a_restart_is_not() {
        let mut copies = Copies::default();
        let mut greets = |process, began| copies.greets(DEVICE, process, Timestamp(began));
        assert!(!greets(1, 10));
        assert!(!greets(1, 20), "a second session");
        assert!(!greets(2, 30), "started again");
        assert!(!greets(3, 40), "and again");
        assert!(greets(2, 50));
        assert!(greets(3, 60));
        assert!(!greets(3, 70));
        assert!(!copies.greets(DeviceId([8; 32]), 3, Timestamp(80)));
    }

    // What a process had sent before it was killed arrived after its successor had greeted, and it was taken for a copy.
    #[test]
    fn greetings_of_a_dead_process_that_come_late_are_no_copy() {
        let mut copies = Copies::default();
        let mut greets = |process, began| copies.greets(DEVICE, process, Timestamp(began));
        assert!(!greets(1, 10));
        assert!(!greets(2, 30), "started again");
        assert!(!greets(1, 20), "a session of the first one");
        assert!(!greets(2, 40), "its successor goes on");
        assert!(!greets(3, 60), "started again");
        assert!(!greets(4, 80), "and again");
        assert!(!greets(3, 70));
        assert!(!greets(4, 90));
        assert!(greets(3, 100));
    }

    #[test]
    fn copies_are_news_once_a_day_and_bounded() {
        let mut copies = Copies::default();
        assert!(copies.saw(DEVICE, 1_000));
        assert!(!copies.saw(DEVICE, 1_000 + COPY_REMEMBERED_S - 1));
        assert!(!copies.saw(DEVICE, 1_000 + 2 * COPY_REMEMBERED_S - 2));
        assert!(copies.saw(DEVICE, 1_000 + 3 * COPY_REMEMBERED_S));
        assert!(!copies.heard_of(DEVICE, 5_000_000), "that was known");
        assert_eq!(copies.seen[&DEVICE], 1_000 + 3 * COPY_REMEMBERED_S);
        for number in 0..2 * DEVICES_REMEMBERED_MAX {
            let mut device = [0; 32];
            device[..8].copy_from_slice(&(number as u64).to_be_bytes());
            copies.saw(DeviceId(device), 0);
            copies.greets(DeviceId(device), 0, Timestamp(0));
        }
        assert_eq!(copies.seen.len(), DEVICES_REMEMBERED_MAX);
        assert_eq!(copies.processes.len(), DEVICES_REMEMBERED_MAX);
    }
}
