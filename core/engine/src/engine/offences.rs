//! Peers that made us check what costs and does not hold: their next session waits, so that opening another one gains nothing.
//! What is no message at all costs nothing, and is not noted: the handshakes of one address are few.

use alloc::collections::BTreeMap;

use crate::id::DeviceId;
use crate::limits::{OFFENCE_FORGOTTEN_AFTER, OFFENCE_WAIT_MAX, OFFENCE_WAIT_MIN, OFFENDERS_REMEMBERED_MAX};
use crate::time::{Duration, Timestamp};

/// Devices that have misbehaved lately.
#[derive(Debug, Default)]
pub(crate) struct Offences {
    by: BTreeMap<DeviceId, Offence>,
}

#[derive(Debug, Clone, Copy)]
struct Offence {
    /// In a row.
    times: u32,
    last: Timestamp,
}

impl Offence {
    /// How long it waits after its last one: twice as long each time.
    fn wait(&self) -> Duration {
        let doubled = OFFENCE_WAIT_MIN.0.saturating_mul(1 << (self.times - 1).min(20));
        Duration(doubled.min(OFFENCE_WAIT_MAX.0))
    }
}

impl Offences {
    /// A device has misbehaved.
    pub(crate) fn note(&mut self, device: DeviceId, now: Timestamp) {
        self.by.retain(|_, offence| now - offence.last < OFFENCE_FORGOTTEN_AFTER);
        if self.by.len() >= OFFENDERS_REMEMBERED_MAX && !self.by.contains_key(&device) {
            let oldest = self.by.iter().min_by_key(|(_, offence)| offence.last).map(|(device, _)| *device);
            oldest.map(|oldest| self.by.remove(&oldest));
        }
        let offence = self.by.entry(device).or_insert(Offence { times: 0, last: now });
        (offence.times, offence.last) = (offence.times.saturating_add(1), now);
    }

    /// How much longer a device has to wait, if it has.
    pub(crate) fn wait(&self, device: &DeviceId, now: Timestamp) -> Option<Duration> {
        let offence = self.by.get(device)?;
        let left = (offence.last + offence.wait()) - now;
        (left > Duration(0)).then_some(left)
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn an_offender_waits_twice_as_long_each_time_until_it_is_forgotten() {
        let (mut offences, device) = (Offences::default(), DeviceId([1; 32]));
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
            offences.note(device, Timestamp(now));
            let wait = |at: u64| offences.wait(&device, Timestamp(at));
            assert_eq!(wait(now), Some(Duration(seconds * SECOND)));
            assert_eq!(wait(now + seconds * SECOND), None);
            assert_eq!(offences.wait(&DeviceId([2; 32]), Timestamp(now)), None);
            now += seconds * SECOND;
        }
        now += OFFENCE_FORGOTTEN_AFTER.0;
        offences.note(device, Timestamp(now));
        assert_eq!(offences.wait(&device, Timestamp(now)), Some(Duration(SECOND)));
    }

    #[test]
    fn no_more_than_so_many_offenders_are_remembered() {
        let mut offences = Offences::default();
        for n in 0..=OFFENDERS_REMEMBERED_MAX as u64 {
            let mut device = [0; 32];
            device[..8].copy_from_slice(&n.to_be_bytes());
            offences.note(DeviceId(device), Timestamp(n));
        }
        assert_eq!(offences.len(), OFFENDERS_REMEMBERED_MAX);
        assert_eq!(offences.wait(&DeviceId([0; 32]), Timestamp(0)), None, "the oldest went");
    }
}
