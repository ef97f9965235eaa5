//! What is known of one address: who is there, who says so, and how dialing it went.

use alloc::collections::BTreeSet;
use alloc::string::String;

use super::queue::{Class, Line, TargetId, Wish};
use crate::id::DeviceId;
use crate::limits::{BACKOFF_EARLY_FOR, BACKOFF_MAX_EARLY, BACKOFF_MAX_LATE, BACKOFF_MIN, NEARBY_DIAL_EVERY_S};
use crate::time::{Duration, Timestamp};

/// Failures in a row after which an address at which a device has answered is no better than any other.
pub(super) const FAILURES_UNTIL_DOUBTED: u32 = 16;

/// Devices that may dispute an address with the one that it is known of. With more, it is dialed whoever is connected.
pub(super) const CLAIMS_MAX: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Target {
    pub address: String,
    /// Who answered there, or is said to.
    pub peer: Option<DeviceId>,
    /// That was seen here, and not too long ago.
    pub answered: bool,
    /// The device itself says that it is here.
    pub said: bool,
    /// Only others say so, of a place in a network of ours.
    pub nearby: bool,
    /// A dial has failed since the device was met here.
    pub missed: bool,
    /// Given by the application: dialed whoever answers, and not forgotten before it says so.
    pub permanent: bool,
    /// Of a ticket, and no member that was met there has said where it is.
    pub invited: bool,
    /// Others who say that it is theirs, at most `CLAIMS_MAX` of them. Who answers there decides.
    pub claimed_by: BTreeSet<DeviceId>,
    pub failures: u32,
    pub failing_since: Option<Timestamp>,
    pub next_at: Timestamp,
    pub last_failure: Option<String>,
}

impl Target {
    /// How it is to be dialed, if it is. `wanted` are the devices with which a session is wanted, `busy` those with which there
    /// is one.
    pub(super) fn wish(&self, id: TargetId, wanted: &BTreeSet<DeviceId>, busy: &BTreeSet<DeviceId>) -> Option<Wish> {
        let line = self.expected().map_or(Line::Address(id), Line::Device);
        let class = match (self.is_unproven(), self.nearby) {
            (false, _) => Class::Proven,
            (true, false) => Class::Unproven,
            (true, true) => Class::Nearby,
        };
        self.is_wanted(wanted, busy).then_some(Wish { line, class, from: self.next_at })
    }

    /// Who has to answer. Who was there last time may have moved: whoever answers at an address that was given is welcome.
    pub(super) fn expected(&self) -> Option<DeviceId> {
        if self.welcomes_anybody() { None } else { self.peer }
    }

    /// It takes a place of those for addresses at which nobody was met.
    pub(super) fn is_unproven(&self) -> bool {
        !self.answered && !self.permanent && !self.invited
    }

    pub(super) fn welcomes_anybody(&self) -> bool {
        self.permanent || self.invited || self.is_disputed()
    }

    /// Exponential backoff with full jitter on its upper half. Says whether it is the longest one.
    pub(super) fn wait(&mut self, now: Timestamp, jitter: u32) -> bool {
        let failing_since = *self.failing_since.get_or_insert(now);
        let max = if now - failing_since < BACKOFF_EARLY_FOR { BACKOFF_MAX_EARLY } else { BACKOFF_MAX_LATE };
        let doubled = BACKOFF_MIN.0.saturating_mul(1 << self.failures.min(20)).min(max.0);
        self.failures = self.failures.saturating_add(1);
        // Nobody is there, whoever says that it is theirs.
        if self.failures >= FAILURES_UNTIL_DOUBTED {
            self.claimed_by.clear();
        }
        self.next_at = now + Duration(doubled / 2 + doubled / 2 * u64::from(jitter >> 16) / (1 << 16));
        if self.nearby {
            self.next_at = self.next_at.max(now + Duration::from_secs(NEARBY_DIAL_EVERY_S));
        }
        doubled == max.0
    }

    fn is_wanted(&self, wanted: &BTreeSet<DeviceId>, busy: &BTreeSet<DeviceId>) -> bool {
        match &self.peer {
            // Who says that it is theirs need not be there: as long as nobody was met there, whoever is might be missed.
            Some(peer) if self.answered || !self.is_disputed() => {
                !busy.contains(peer) && (self.permanent || self.invited || wanted.contains(peer))
            }
            // Where all of them are connected, nobody is missed.
            Some(peer) if !self.permanent && !self.invited && self.claimed_by.len() < CLAIMS_MAX => {
                !busy.contains(peer) || !self.claimed_by.is_subset(busy)
            }
            _ => self.welcomes_anybody(),
        }
    }

    fn is_disputed(&self) -> bool {
        !self.claimed_by.is_empty()
    }
}
