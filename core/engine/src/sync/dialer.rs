//! Where peers may be found, and when to dial which address again. Whether a session is wanted is asked of the caller.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::DeviceId;
use crate::limits::{
    ADDRESS_BYTES_MAX, ADDRESSES_PER_DEVICE_MAX, BACKOFF_EARLY_FOR, BACKOFF_MAX_EARLY, BACKOFF_MAX_LATE, BACKOFF_MIN,
    DEVICES_REMEMBERED_MAX, DIAL_TIMEOUT,
};
use crate::time::{Duration, Timestamp};

/// Failures in a row after which an address at which a device has answered is no better than any other.
const FAILURES_UNTIL_DOUBTED: u32 = 16;

/// The address book and its timers.
#[derive(Debug, Default)]
pub struct Dialer {
    targets: BTreeMap<String, Target>,
    longest_waits: u64,
}

/// Devices that may dispute an address with the one that it is known of. With more, it is dialed whoever is connected.
const CLAIMS_MAX: usize = 4;

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the application: dialed whoever answers, and not forgotten before it says so.
    Given,
    /// From a ticket: dialed whoever answers, until a member was met there and has said where it is.
    Ticket,
    /// From the device itself, in this process or an earlier one.
    Itself,
    /// From others. They may lie: it takes the place of nothing that was not seen to fail.
    Others,
}

#[derive(Debug, Default)]
struct Target {
    /// Who answered there, or is said to.
    peer: Option<DeviceId>,
    /// That was seen here, and not too long ago.
    answered: bool,
    /// The device itself says that it is here.
    said: bool,
    /// A dial has failed since the device was met here.
    missed: bool,
    /// Given by the application: dialed whoever answers, and not forgotten before it says so.
    permanent: bool,
    /// Of a ticket, and no member that was met there has said where it is.
    invited: bool,
    /// Others who say that it is theirs, at most `CLAIMS_MAX` of them. Who answers there decides.
    claimed_by: BTreeSet<DeviceId>,
    dialing_since: Option<Timestamp>,
    failures: u32,
    failing_since: Option<Timestamp>,
    next_at: Timestamp,
    last_failure: Option<String>,
}

/// Why an address is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Too long.
    #[error("an address of {0} bytes, limit {ADDRESS_BYTES_MAX}")]
    TooLong(usize),
    /// Too many.
    #[error("{0} addresses, limit {max}", max = DEVICES_REMEMBERED_MAX * ADDRESSES_PER_DEVICE_MAX)]
    TooMany(usize),
}

impl Dialer {
    /// Remembers an address. For a `peer` the newest `ADDRESSES_PER_DEVICE_MAX` are kept. Says whether it is news.
    pub fn learn(
        &mut self,
        address: &str,
        peer: Option<DeviceId>,
        source: Source,
        now: Timestamp,
    ) -> Result<bool, AddressError> {
        let (permanent, invited) = (source == Source::Given, source == Source::Ticket);
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong(address.len()));
        }
        if let Some(target) = self.targets.get_mut(address) {
            if target.peer.is_some_and(|known| peer.is_some_and(|peer| peer != known)) {
                // A device may say of any address that it is its own.
                if source == Source::Itself && !target.answered && target.claimed_by.len() < CLAIMS_MAX {
                    target.claimed_by.extend(peer);
                }
                return Ok(false);
            }
            let news = (permanent && !target.permanent)
                || (invited && !target.welcomes_anybody())
                || (peer.is_some() && target.peer != peer);
            target.permanent |= permanent;
            target.invited |= invited;
            target.peer = peer.or(target.peer);
            target.said |= source == Source::Itself;
            if news || permanent || invited {
                target.next_at = target.next_at.min(now);
            }
            return Ok(news);
        }
        if self.targets.len() >= DEVICES_REMEMBERED_MAX * ADDRESSES_PER_DEVICE_MAX {
            return Err(AddressError::TooMany(self.targets.len()));
        }
        if let Some(peer) = peer {
            let known: Vec<_> = self
                .targets
                .iter()
                .filter(|(_, target)| target.peer == Some(peer) && !target.permanent && !target.invited)
                .map(|(address, target)| (!target.answered, target.failures, address.clone()))
                .collect();
            if known.len() >= ADDRESSES_PER_DEVICE_MAX
                && let Some((unproven, failures, worst)) = known.into_iter().max()
            {
                if source == Source::Others && (!unproven || failures == 0) {
                    return Ok(false);
                }
                self.targets.remove(&worst);
            }
        }
        let said = source == Source::Itself;
        let target = Target { peer, permanent, invited, said, next_at: now, ..Target::default() };
        self.targets.insert(String::from(address), target);
        Ok(true)
    }

    /// What is known of a device's addresses, first those that it says are its own, and of these those that answered.
    pub fn addresses(&self, peer: &DeviceId) -> Vec<String> {
        let mut known: Vec<_> = self
            .targets
            .iter()
            .filter(|(_, target)| target.peer.as_ref() == Some(peer))
            .map(|(address, target)| (!target.said, target.failures, address.clone()))
            .collect();
        known.sort();
        known.into_iter().map(|(_, _, address)| address).take(ADDRESSES_PER_DEVICE_MAX).collect()
    }

    /// Every device of which an address is known.
    pub fn peers(&self) -> BTreeSet<DeviceId> {
        self.targets.values().filter_map(|target| target.peer).collect()
    }

    /// Why the last dial of a device failed.
    pub fn last_failure(&self, peer: &DeviceId) -> Option<String> {
        self.targets
            .values()
            .filter(|target| target.peer.as_ref() == Some(peer))
            .find_map(|target| target.last_failure.clone())
    }

    /// Failures of addresses at which nobody is known yet.
    pub fn unanswered(&self) -> Vec<(String, Option<String>)> {
        self.targets
            .iter()
            .filter(|(_, target)| target.peer.is_none() && (target.permanent || target.invited))
            .map(|(address, target)| (address.clone(), target.last_failure.clone()))
            .collect()
    }

    /// A session came of dialing this address, or from this peer.
    pub fn connected(&mut self, address: &str, peer: DeviceId, dialed: bool) {
        if dialed && let Some(target) = self.targets.get_mut(address) {
            target.peer = Some(peer);
            target.claimed_by.clear();
            (target.answered, target.missed) = (true, false);
        }
        for target in self.targets.values_mut().filter(|target| target.peer == Some(peer)) {
            target.dialing_since = None;
            target.last_failure = None;
        }
    }

    /// The session was of use: begin with the shortest wait next time.
    pub fn authenticated(&mut self, peer: &DeviceId) {
        for target in self.targets.values_mut().filter(|target| target.peer.as_ref() == Some(peer)) {
            target.failures = 0;
            target.failing_since = None;
        }
    }

    /// The last session with a device ended. If it was of use, an outage begins now, whatever failed before: its addresses may
    /// be dialed again after the shortest wait.
    pub fn disconnected(&mut self, peer: &DeviceId, was_of_use: bool, reason: &str, now: Timestamp, jitter: u32) {
        if was_of_use {
            self.authenticated(peer);
        }
        for target in self.targets.values_mut().filter(|target| target.peer.as_ref() == Some(peer)) {
            target.last_failure = Some(String::from(reason));
            self.longest_waits += u64::from(target.wait(now, jitter));
        }
    }

    /// A dial failed.
    pub fn failed(&mut self, address: &str, reason: &str, now: Timestamp, jitter: u32) {
        if let Some(target) = self.targets.get_mut(address) {
            target.last_failure = Some(String::from(reason));
            self.longest_waits += u64::from(target.wait(now, jitter));
            target.missed = true;
            target.answered &= target.failures < FAILURES_UNTIL_DOUBTED;
        }
    }

    /// Addresses known.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// How often an address had to wait as long as there is.
    pub(crate) fn longest_waits(&self) -> u64 {
        self.longest_waits
    }

    /// A device that is known says that it is at these addresses. Others that were only said to be its own, or at which it was
    /// missed since it was met there, are forgotten unless they are `worth_keeping`, and those of a ticket are like any other now.
    pub fn keep_only(&mut self, peer: &DeviceId, said: &[String], worth_keeping: impl Fn(&str) -> bool) {
        self.targets.retain(|address, target| {
            if target.peer.as_ref() != Some(peer) {
                return true;
            }
            target.invited = false;
            target.said = said.contains(address);
            target.permanent || (target.answered && !target.missed) || target.said || worth_keeping(address)
        });
    }

    /// The address is known as that of another device.
    pub fn is_of_another(&self, address: &str, peer: &DeviceId) -> bool {
        self.targets.get(address).is_some_and(|target| target.peer.is_some_and(|known| known != *peer))
    }

    /// Forgets an address: it is our own, or the application wants it.
    pub fn forget(&mut self, address: &str) {
        self.targets.remove(address);
    }

    /// Forgets where a device is.
    pub fn forget_device(&mut self, peer: &DeviceId) {
        self.targets.retain(|_, target| target.peer.as_ref() != Some(peer));
    }

    /// We are on another network, or were asleep: what failed before says nothing, and what was dialed may hang. Everything is
    /// due, as at the beginning of an outage.
    pub fn wake(&mut self, now: Timestamp) {
        for target in self.targets.values_mut() {
            target.failing_since = None;
            target.dialing_since = None;
            target.next_at = target.next_at.min(now);
        }
    }

    /// Addresses to dial now. `wanted` says whether a session with this peer is wanted and there is none; addresses at which
    /// nobody is known are wanted if permanent.
    pub fn due(
        &mut self,
        now: Timestamp,
        wanted: impl Fn(&DeviceId) -> bool,
        connected: impl Fn(&DeviceId) -> bool,
        jitter: impl Fn() -> u32,
    ) -> Vec<(String, Option<DeviceId>)> {
        let mut dial = Vec::new();
        for (address, target) in &mut self.targets {
            if target.dialing_since.is_some_and(|since| now - since >= DIAL_TIMEOUT) {
                target.last_failure = Some(String::from("no answer"));
                self.longest_waits += u64::from(target.wait(now, jitter()));
            }
            if target.is_wanted(&wanted, &connected) && target.dialing_since.is_none() && target.next_at <= now {
                target.dialing_since = Some(now);
                // Who was there last time may have moved: whoever answers at an address that was given is welcome.
                dial.push((address.clone(), if target.welcomes_anybody() { None } else { target.peer }));
            }
        }
        dial
    }

    /// When [`Self::due`] has something to say next.
    pub fn deadline(
        &self,
        wanted: impl Fn(&DeviceId) -> bool,
        connected: impl Fn(&DeviceId) -> bool,
    ) -> Option<Timestamp> {
        self.targets
            .values()
            .filter(|target| target.is_wanted(&wanted, &connected))
            .map(|target| target.dialing_since.map_or(target.next_at, |since| since + DIAL_TIMEOUT))
            .min()
    }
}

impl Target {
    fn is_wanted(&self, wanted: &impl Fn(&DeviceId) -> bool, connected: &impl Fn(&DeviceId) -> bool) -> bool {
        match &self.peer {
            // Who says that it is theirs need not be there: as long as nobody was met there, whoever is might be missed.
            Some(peer) if self.answered || !self.is_disputed() => {
                !connected(peer) && (self.permanent || self.invited || wanted(peer))
            }
            // Where all of them are connected, nobody is missed.
            Some(peer) if !self.permanent && !self.invited && self.claimed_by.len() < CLAIMS_MAX => {
                !connected(peer) || !self.claimed_by.iter().all(connected)
            }
            _ => self.welcomes_anybody(),
        }
    }

    fn welcomes_anybody(&self) -> bool {
        self.permanent || self.invited || self.is_disputed()
    }

    fn is_disputed(&self) -> bool {
        !self.claimed_by.is_empty()
    }

    /// Exponential backoff with full jitter on its upper half. Says whether it is the longest one.
    fn wait(&mut self, now: Timestamp, jitter: u32) -> bool {
        self.dialing_since = None;
        let failing_since = *self.failing_since.get_or_insert(now);
        let max = if now - failing_since < BACKOFF_EARLY_FOR { BACKOFF_MAX_EARLY } else { BACKOFF_MAX_LATE };
        let doubled = BACKOFF_MIN.0.saturating_mul(1 << self.failures.min(20)).min(max.0);
        self.failures = self.failures.saturating_add(1);
        // Nobody is there, whoever says that it is theirs.
        if self.failures >= FAILURES_UNTIL_DOUBTED {
            self.claimed_by.clear();
        }
        self.next_at = now + Duration(doubled / 2 + doubled / 2 * u64::from(jitter >> 16) / (1 << 16));
        doubled == max.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: DeviceId = DeviceId([1; 32]);

    fn due(dialer: &mut Dialer, now: Timestamp) -> usize {
        dialer.due(now, |_| true, |_| false, || 0).len()
    }

    #[test]
    fn waits_grow_to_five_seconds_and_after_ten_minutes_to_sixty() {
        let mut dialer = Dialer::default();
        let mut now = Timestamp(0);
        dialer.learn("a", Some(A), Source::Itself, now).expect("short");
        let mut longest = [0, 0];
        for _ in 0..400 {
            now = dialer.deadline(|_| true, |_| false).expect("one target");
            assert_eq!(due(&mut dialer, now), 1);
            assert_eq!(due(&mut dialer, now), 0, "not again while dialing");
            dialer.failed("a", "refused", now, u32::MAX);
            let wait = dialer.deadline(|_| true, |_| false).expect("one target") - now;
            longest[usize::from(now.0 > BACKOFF_EARLY_FOR.0)] =
                wait.0.max(longest[usize::from(now.0 > BACKOFF_EARLY_FOR.0)]);
        }
        assert!((4_900_000..=5_000_000).contains(&longest[0]), "{longest:?}");
        assert!((59_000_000..=60_000_000).contains(&longest[1]), "{longest:?}");
    }

    /// What failed long before counted, so that after a short outage it was waited for as after a long one.
    #[test]
    fn an_outage_begins_when_the_last_session_ends() {
        let mut dialer = Dialer::default();
        let mut now = Timestamp(0);
        dialer.learn("a", Some(A), Source::Itself, now).expect("short");
        dialer.connected("elsewhere", A, false);
        dialer.authenticated(&A);
        dialer.failed("a", "refused", now, u32::MAX);
        now = now + Duration(2 * BACKOFF_EARLY_FOR.0);
        dialer.disconnected(&A, true, "reset", now, u32::MAX);
        for _ in 0..20 {
            let next = dialer.deadline(|_| true, |_| false).expect("one target");
            assert!(next - now <= BACKOFF_MAX_EARLY, "{} s", (next - now).0 / 1_000_000);
            now = next;
            assert_eq!(due(&mut dialer, now), 1);
            dialer.failed("a", "refused", now, u32::MAX);
        }
        // Sessions that are of no use end none.
        now = now + BACKOFF_EARLY_FOR;
        dialer.disconnected(&A, false, "no shared space", now, u32::MAX);
        let next = dialer.deadline(|_| true, |_| false).expect("one target");
        assert!(next - now > BACKOFF_MAX_EARLY);
    }

    #[test]
    fn a_device_keeps_its_newest_addresses() {
        let mut dialer = Dialer::default();
        for i in 0..20 {
            dialer.learn(&alloc::format!("address {i:02}"), Some(A), Source::Itself, Timestamp(i)).expect("short");
        }
        assert_eq!(dialer.addresses(&A).len(), ADDRESSES_PER_DEVICE_MAX);
    }

    #[test]
    fn what_others_say_takes_no_place_of_what_was_seen() {
        const B: DeviceId = DeviceId([2; 32]);
        let mut dialer = Dialer::default();
        let now = Timestamp(0);
        assert_eq!(dialer.learn("home of a", Some(A), Source::Itself, now), Ok(true));
        assert_eq!(dialer.learn("home of a", Some(B), Source::Others, now), Ok(false));
        assert_eq!(dialer.addresses(&A), ["home of a"]);
        dialer.connected("home of a", A, true);
        assert_eq!(dialer.learn("home of a", Some(B), Source::Itself, now), Ok(false));
        let news = (0..100)
            .filter(|i| dialer.learn(&alloc::format!("nowhere {i}"), Some(A), Source::Others, now).expect("short"));
        assert_eq!(news.count(), ADDRESSES_PER_DEVICE_MAX - 1);
        assert!(dialer.addresses(&A).contains(&String::from("home of a")));
        // What was tried and failed gives way.
        dialer.failed("nowhere 3", "refused", now, 0);
        assert_eq!(dialer.learn("elsewhere", Some(A), Source::Others, now), Ok(true));
        assert!(!dialer.addresses(&A).contains(&String::from("nowhere 3")));
    }

    #[test]
    fn what_a_device_says_takes_the_place_of_where_it_was_missed() {
        let mut dialer = Dialer::default();
        let now = Timestamp(0);
        let said = |texts: &[&str]| texts.iter().map(|text| String::from(*text)).collect::<Vec<_>>();
        dialer.learn("ticket", None, Source::Ticket, now).expect("short");
        dialer.learn("given", Some(A), Source::Given, now).expect("short");
        for address in ["forwarded", "old network", "hearsay", "from afar"] {
            dialer.learn(address, Some(A), Source::Itself, now).expect("short");
        }
        for address in ["ticket", "forwarded", "old network"] {
            dialer.connected(address, A, true);
        }
        dialer.failed("old network", "timed out", now, 0);
        dialer.failed("ticket", "timed out", now, 0);
        dialer.failed("given", "timed out", now, 0);
        dialer.authenticated(&A);
        dialer.keep_only(&A, &said(&["new network"]), |address| address == "from afar");
        let mut known = dialer.addresses(&A);
        known.sort();
        assert_eq!(known, ["forwarded", "from afar", "given"]);
        dialer.forget_device(&A);
        assert_eq!(dialer.addresses(&A), [""; 0]);
    }

    // A member that said of another's address that it is its own had it dialed, and the session with the other replaced.
    #[test]
    fn disputed_address_is_dialed_unless_all_who_claim_it_are_connected() {
        let device = |n: u8| DeviceId([n; 32]);
        let dialed = |claims: u8, connected: &[u8]| {
            let mut dialer = Dialer::default();
            for n in 1..=claims {
                dialer.learn("a", Some(device(n)), Source::Itself, Timestamp(0)).expect("short");
            }
            let is_connected = |other: &DeviceId| connected.iter().any(|n| device(*n) == *other);
            dialer.due(Timestamp(0), |_| false, is_connected, || 0).len()
        };
        assert_eq!(dialed(2, &[1, 2]), 0);
        assert_eq!(dialed(2, &[1]), 1);
        assert_eq!(dialed(2, &[2]), 1);
        // Not all of so many are known.
        assert_eq!(dialed(9, &[1, 2, 3, 4, 5, 6, 7, 8, 9]), 1);
    }

    #[test]
    fn after_sleep_everything_is_due_as_at_the_beginning_of_an_outage() {
        let mut dialer = Dialer::default();
        let mut now = Timestamp(0);
        dialer.learn("a", Some(A), Source::Itself, now).expect("short");
        for _ in 0..400 {
            now = dialer.deadline(|_| true, |_| false).expect("one target");
            due(&mut dialer, now);
            dialer.failed("a", "refused", now, u32::MAX);
        }
        assert_eq!(due(&mut dialer, now), 0);
        dialer.wake(now);
        assert_eq!(due(&mut dialer, now), 1);
        dialer.failed("a", "unreachable", now, u32::MAX);
        let next = dialer.deadline(|_| true, |_| false).expect("one target");
        assert!(next - now <= BACKOFF_MAX_EARLY, "{} s", (next - now).0 / 1_000_000);
        // A dial that hangs from before is not waited for.
        assert_eq!(due(&mut dialer, next), 1);
        dialer.wake(next);
        assert_eq!(due(&mut dialer, next), 1);
    }

    #[test]
    fn an_overlong_address_is_refused_by_number() {
        let error =
            Dialer::default().learn(&"x".repeat(300), None, Source::Given, Timestamp(0)).expect_err("300 bytes");
        assert!(alloc::format!("{error}").contains("300 bytes, limit 256"));
    }
}
