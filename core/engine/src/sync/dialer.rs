//! Where peers may be found, and when to dial which address again. With whom a session is wanted is said by the caller; whose
//! turn it is, by the queue.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::DeviceId;
use crate::limits::{
    ADDRESS_BYTES_MAX, ADDRESSES_PER_DEVICE_MAX, ADDRESSES_UNPROVEN_MAX, DEVICES_REMEMBERED_MAX, PUT_OFF_FOR,
};
use crate::mutants::Mutated;
use crate::time::Timestamp;

mod queue;
mod target;

use queue::{Queue, TargetId};
use target::{CLAIMS_MAX, FAILURES_UNTIL_DOUBTED, Target};

/// The address book and its timers. Everything but `targets` follows from it, or is said by the caller, and is kept so that
/// nothing has to be looked for in the whole book.
#[derive(Debug, Default)]
pub struct Dialer {
    targets: BTreeMap<TargetId, Target>,
    last_id: u64,
    by_address: BTreeMap<String, TargetId>,
    /// Addresses that are known as a device's.
    by_device: BTreeMap<DeviceId, BTreeSet<TargetId>>,
    /// Addresses of others that a device says are its own.
    by_claim: BTreeMap<DeviceId, BTreeSet<TargetId>>,
    /// Addresses at which nobody was met, those that failed most last.
    unproven: BTreeSet<(u32, TargetId)>,
    /// With whom a session is wanted.
    wanted: BTreeSet<DeviceId>,
    /// With whom there is one.
    busy: BTreeSet<DeviceId>,
    queue: Queue,
    /// Addresses that are being dialed. They may have left the book meanwhile.
    dialed: BTreeMap<String, TargetId>,
    longest_waits: u64,
}

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
    /// From others, about a place in a network of ours: it is dialed seldom, and not told to anybody.
    Nearby,
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

impl Source {
    fn is_hearsay(self) -> bool {
        matches!(self, Self::Others | Self::Nearby)
    }
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
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong(address.len()));
        }
        if let Some(id) = self.by_address.get(address) {
            return Ok(self.learn_more(*id, peer, source, now));
        }
        if self.targets.len() >= DEVICES_REMEMBERED_MAX * ADDRESSES_PER_DEVICE_MAX {
            return Err(AddressError::TooMany(self.targets.len()));
        }
        let mut target = Target { address: String::from(address), peer, next_at: now, ..Target::default() };
        target.permanent = source == Source::Given;
        target.invited = source == Source::Ticket;
        target.said = source == Source::Itself;
        target.nearby = source == Source::Nearby;
        if !self.make_room_for(&target, source) {
            return Ok(false);
        }
        self.last_id += 1;
        let id = TargetId(self.last_id);
        self.by_address.insert(target.address.clone(), id);
        self.targets.insert(id, target);
        self.index(id);
        Ok(true)
    }

    fn learn_more(&mut self, id: TargetId, peer: Option<DeviceId>, source: Source, now: Timestamp) -> bool {
        let (permanent, invited) = (source == Source::Given, source == Source::Ticket);
        let news = self.change(id, |target| {
            if target.peer.is_some_and(|known| peer.is_some_and(|peer| peer != known)) {
                // A device may say of any address that it is its own.
                if source == Source::Itself && !target.answered && target.claimed_by.len() < CLAIMS_MAX {
                    target.claimed_by.extend(peer);
                }
                return false;
            }
            let news = (permanent && !target.permanent)
                || (invited && !target.welcomes_anybody())
                || (peer.is_some() && target.peer != peer)
                || (target.nearby && !source.is_hearsay());
            target.permanent |= permanent;
            target.invited |= invited;
            target.peer = peer.or(target.peer);
            target.said |= source == Source::Itself;
            target.nearby &= source.is_hearsay();
            if news || permanent || invited {
                target.next_at = target.next_at.min(now);
            }
            news
        });
        news == Some(true)
    }

    /// Lets go of what is worth least where there are addresses enough. Says whether there is room then.
    fn make_room_for(&mut self, new: &Target, source: Source) -> bool {
        let gives_way = |failures: u32| !source.is_hearsay() || failures > 0;
        if let Some(peer) = new.peer {
            let known = self.of_device(&peer).filter(|(_, target)| !target.permanent && !target.invited);
            let known: Vec<_> = known.map(|(id, target)| (!target.answered, target.failures, *id)).collect();
            if known.len() >= ADDRESSES_PER_DEVICE_MAX
                && let Some((unproven, failures, worst)) = known.into_iter().max()
            {
                if source.is_hearsay() && !unproven || !gives_way(failures) {
                    return false;
                }
                self.remove(worst);
            }
        }
        if new.is_unproven()
            && self.unproven.len() >= ADDRESSES_UNPROVEN_MAX
            && let Some((failures, worst)) = self.unproven.last().copied()
        {
            if !gives_way(failures) {
                return false;
            }
            self.remove(worst);
        }
        true
    }

    /// What is known of a device's addresses, first those that it says are its own, and of these those where it was met.
    pub fn addresses(&self, peer: &DeviceId) -> Vec<String> {
        self.addresses_where(peer, |_| true)
    }

    /// Those of them that are remembered, and told to others.
    pub fn addresses_to_tell(&self, peer: &DeviceId) -> Vec<String> {
        self.addresses_where(peer, |target| !target.nearby)
    }

    fn addresses_where(&self, peer: &DeviceId, is_meant: impl Fn(&Target) -> bool) -> Vec<String> {
        let known = self.of_device(peer).filter(|(_, target)| is_meant(target));
        let mut known: Vec<_> = known.map(|(_, target)| (!target.said, !target.answered, &target.address)).collect();
        known.sort();
        known.into_iter().map(|(_, _, address)| address.clone()).take(ADDRESSES_PER_DEVICE_MAX).collect()
    }

    /// Every device of which an address is known.
    pub fn peers(&self) -> BTreeSet<DeviceId> {
        self.by_device.keys().copied().collect()
    }

    /// An address of this device is known.
    pub fn knows(&self, peer: &DeviceId) -> bool {
        self.by_device.contains_key(peer)
    }

    /// Why the last dial of a device failed.
    pub fn last_failure(&self, peer: &DeviceId) -> Option<String> {
        self.of_device(peer).find_map(|(_, target)| target.last_failure.clone())
    }

    /// Failures of addresses at which nobody is known yet.
    pub fn unanswered(&self) -> Vec<(String, Option<String>)> {
        self.by_address
            .iter()
            .map(|(address, id)| (address, &self.targets[id]))
            .filter(|(_, target)| target.peer.is_none() && (target.permanent || target.invited))
            .map(|(address, target)| (address.clone(), target.last_failure.clone()))
            .collect()
    }

    /// A session came of dialing this address, or from this peer.
    pub fn connected(&mut self, address: &str, peer: DeviceId, dialed: bool) {
        if dialed {
            self.dial_ended(address);
        }
        if dialed && let Some(id) = self.by_address.get(address) {
            self.change(*id, |target| {
                target.peer = Some(peer);
                target.claimed_by.clear();
                (target.answered, target.missed, target.nearby) = (true, false, false);
            });
        }
        self.change_all_of(&peer, |target| target.last_failure = None);
    }

    /// The session was of use: begin with the shortest wait next time.
    pub fn authenticated(&mut self, peer: &DeviceId) {
        self.change_all_of(peer, |target| {
            target.failures = 0;
            target.failing_since = None;
        });
    }

    /// The last session with a device ended. If it was of use, an outage begins now, whatever failed before: its addresses may
    /// be dialed again after the shortest wait.
    pub fn disconnected(&mut self, peer: &DeviceId, was_of_use: bool, reason: &str, now: Timestamp, jitter: u32) {
        if was_of_use {
            self.authenticated(peer);
        }
        let mut longest_waits = 0;
        self.change_all_of(peer, |target| {
            target.last_failure = Some(String::from(reason));
            longest_waits += u64::from(target.wait(now, jitter));
        });
        self.longest_waits += longest_waits;
    }

    /// A dial failed.
    pub fn failed(&mut self, address: &str, reason: &str, now: Timestamp, jitter: u32) {
        self.dial_ended(address);
        let Some(id) = self.by_address.get(address).copied() else { return };
        self.failed_at(id, reason, now, jitter);
        self.change(id, |target| {
            target.missed = true;
            target.answered &= target.failures < FAILURES_UNTIL_DOUBTED;
        });
    }

    fn failed_at(&mut self, id: TargetId, reason: &str, now: Timestamp, jitter: u32) {
        let was_longest = self.change(id, |target| {
            target.last_failure = Some(String::from(reason));
            target.wait(now, jitter)
        });
        self.longest_waits += u64::from(was_longest == Some(true));
    }

    /// A dial was not begun, for a limit of ours. That says nothing about the address.
    pub fn put_off(&mut self, address: &str, now: Timestamp) {
        self.dial_ended(address);
        if let Some(id) = self.by_address.get(address) {
            self.change(*id, |target| target.next_at = target.next_at.max(now + PUT_OFF_FOR));
        }
    }

    /// A dial is over, whatever came of it.
    pub fn dial_ended(&mut self, address: &str) {
        if let Some(id) = self.dialed.remove(address) {
            self.queue.ended(id);
            self.review(id);
        }
    }

    /// Addresses known.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Of these, addresses at which nobody was ever met.
    pub(crate) fn unproven_len(&self) -> usize {
        self.unproven.len()
    }

    /// How often an address had to wait as long as there is.
    pub(crate) fn longest_waits(&self) -> u64 {
        self.longest_waits
    }

    /// A device that is known says that it is at these addresses. Others that were only said to be its own, or at which it was
    /// missed since it was met there, are forgotten unless they are `worth_keeping`, and those of a ticket are like any other now.
    pub fn keep_only(&mut self, peer: &DeviceId, said: &[String], worth_keeping: impl Fn(&str) -> bool) {
        for id in self.ids_of(peer) {
            let stays = self.change(id, |target| {
                target.invited = false;
                target.said = said.contains(&target.address);
                let was_met = target.answered && !target.missed;
                target.permanent || was_met || target.said || worth_keeping(&target.address)
            });
            if stays == Some(false) {
                self.remove(id);
            }
        }
    }

    /// The address is known as that of another device.
    pub fn is_of_another(&self, address: &str, peer: &DeviceId) -> bool {
        let target = self.by_address.get(address).map(|id| &self.targets[id]);
        target.is_some_and(|target| target.peer.is_some_and(|known| known != *peer))
    }

    /// Forgets an address: it is our own, or the application wants it.
    pub fn forget(&mut self, address: &str) {
        if let Some(id) = self.by_address.get(address) {
            self.remove(*id);
        }
    }

    /// Forgets where a device is.
    pub fn forget_device(&mut self, peer: &DeviceId) {
        self.ids_of(peer).into_iter().for_each(|id| self.remove(id));
    }

    /// We are on another network, or were asleep: what failed before says nothing, and what was dialed may hang. Everything is
    /// due, as at the beginning of an outage.
    pub fn wake(&mut self, now: Timestamp) {
        self.queue.end_all();
        self.dialed.clear();
        for id in self.targets.keys().copied().collect::<Vec<_>>() {
            self.change(id, |target| {
                target.failing_since = None;
                target.next_at = target.next_at.min(now);
            });
        }
    }

    /// With whom a session is wanted from now on.
    pub fn want(&mut self, wanted: BTreeSet<DeviceId>) {
        let before = core::mem::replace(&mut self.wanted, wanted);
        let changed: Vec<_> = self.wanted.symmetric_difference(&before).copied().collect();
        changed.iter().for_each(|device| self.review_device(device));
    }

    /// With whom no session is to be dialed, because there is one, or because it is ourselves.
    pub fn leave_alone(&mut self, busy: BTreeSet<DeviceId>) {
        let before = core::mem::replace(&mut self.busy, busy);
        let changed: Vec<_> = self.busy.symmetric_difference(&before).copied().collect();
        changed.iter().for_each(|device| self.review_device(device));
    }

    /// Addresses to dial now, each with who has to answer there.
    pub(crate) fn due(&mut self, now: Timestamp, jitter: u32, mutated: Mutated) -> Vec<(String, Option<DeviceId>)> {
        for id in self.queue.timed_out(now) {
            self.dialed.retain(|_, dialed| *dialed != id);
            self.failed_at(id, "no answer", now, jitter);
            self.review(id);
        }
        let mut dial = Vec::new();
        while let Some(id) = self.queue.begin(now, mutated) {
            let target = &self.targets[&id];
            self.dialed.insert(target.address.clone(), id);
            dial.push((target.address.clone(), target.expected()));
        }
        dial
    }

    /// When the next dial may begin, if nothing happens before.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.queue.deadline()
    }

    fn of_device(&self, peer: &DeviceId) -> impl Iterator<Item = (&TargetId, &Target)> {
        self.by_device.get(peer).into_iter().flatten().map(|id| (id, &self.targets[id]))
    }

    fn ids_of(&self, peer: &DeviceId) -> Vec<TargetId> {
        self.by_device.get(peer).into_iter().flatten().copied().collect()
    }

    /// Changes what is known of an address, and all that follows from it.
    fn change<R>(&mut self, id: TargetId, change: impl FnOnce(&mut Target) -> R) -> Option<R> {
        self.unindex(id);
        let result = self.targets.get_mut(&id).map(change);
        self.index(id);
        result
    }

    fn change_all_of(&mut self, peer: &DeviceId, mut change: impl FnMut(&mut Target)) {
        self.ids_of(peer).into_iter().for_each(|id| _ = self.change(id, &mut change));
    }

    fn remove(&mut self, id: TargetId) {
        self.unindex(id);
        self.queue.put(id, None);
        if let Some(target) = self.targets.remove(&id) {
            self.by_address.remove(&target.address);
        }
    }

    fn index(&mut self, id: TargetId) {
        let Some(target) = self.targets.get(&id) else { return };
        if let Some(peer) = target.peer {
            self.by_device.entry(peer).or_default().insert(id);
        }
        for device in &target.claimed_by {
            self.by_claim.entry(*device).or_default().insert(id);
        }
        if target.is_unproven() {
            self.unproven.insert((target.failures, id));
        }
        self.review(id);
    }

    fn unindex(&mut self, id: TargetId) {
        let Some(target) = self.targets.get(&id) else { return };
        let take = |ids: &mut BTreeMap<DeviceId, BTreeSet<TargetId>>, device: &DeviceId| {
            if let Some(of_it) = ids.get_mut(device) {
                of_it.remove(&id);
                if of_it.is_empty() {
                    ids.remove(device);
                }
            }
        };
        target.peer.iter().for_each(|peer| take(&mut self.by_device, peer));
        target.claimed_by.iter().for_each(|device| take(&mut self.by_claim, device));
        self.unproven.remove(&(target.failures, id));
    }

    /// Tells the queue whether an address is to be dialed.
    fn review(&mut self, id: TargetId) {
        if let Some(target) = self.targets.get(&id) {
            self.queue.put(id, target.wish(id, &self.wanted, &self.busy));
        }
    }

    fn review_device(&mut self, device: &DeviceId) {
        let claimed = self.by_claim.get(device).into_iter().flatten().copied();
        let ids: Vec<_> = self.ids_of(device).into_iter().chain(claimed).collect();
        ids.into_iter().for_each(|id| self.review(id));
    }
}

#[cfg(test)]
mod tests;
