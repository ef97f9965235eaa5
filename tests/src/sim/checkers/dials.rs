//! I18 dials take turns: a replica has a bounded number of dials under way, no two of them to one device, and begins a bounded
//! number in any minute, whatever it was told of where the others are.

use std::collections::{BTreeMap, VecDeque};

use anabranch_engine::id::DeviceId;
use anabranch_engine::limits::{DIAL_TIMEOUT, DIALS_BURST, DIALS_MAX, DIALS_PER_SECOND};
use anabranch_engine::time::{Duration, Timestamp};

/// The checker's name.
pub const CHECKER: &str = "I18 dials take turns";

const MINUTE: Duration = Duration::from_secs(60);

/// The dials of every running process, by replica.
#[derive(Debug, Default)]
pub struct Dials(BTreeMap<usize, OfOne>);

#[derive(Debug, Default)]
struct OfOne {
    /// How often it has given up what was under way.
    looks_around: u64,
    under_way: BTreeMap<String, (Timestamp, Option<DeviceId>)>,
    /// When those of the last minute began.
    begun: VecDeque<Timestamp>,
}

impl Dials {
    /// A replica begins to dial. `now` is what its clock says, `looks_around` what its engine has counted.
    ///
    /// # Errors
    /// It is one too many.
    pub fn begins(
        &mut self,
        replica: usize,
        now: Timestamp,
        looks_around: u64,
        address: &str,
        peer: Option<DeviceId>,
    ) -> Result<(), String> {
        let own = self.0.entry(replica).or_default();
        if core::mem::replace(&mut own.looks_around, looks_around) != looks_around {
            own.under_way.clear();
        }
        own.under_way.retain(|_, (since, _)| now < *since + DIAL_TIMEOUT);
        if let Some((other, _)) = own.under_way.iter().find(|(_, (_, expected))| peer.is_some() && *expected == peer) {
            return Err(format!("#{replica} dials {address} while it dials the same device at {other}"));
        }
        own.under_way.insert(address.to_owned(), (now, peer));
        if own.under_way.len() > DIALS_MAX {
            return Err(format!("#{replica} has {} dials under way, limit {DIALS_MAX}", own.under_way.len()));
        }
        own.begun.push_back(now);
        while own.begun.front().is_some_and(|at| now - *at >= MINUTE) {
            own.begun.pop_front();
        }
        let limit = DIALS_BURST + DIALS_PER_SECOND * 60;
        if own.begun.len() as u64 > limit {
            return Err(format!("#{replica} has begun {} dials in a minute, limit {limit}", own.begun.len()));
        }
        Ok(())
    }

    /// A dial has come to something, or to nothing.
    pub fn ended(&mut self, replica: usize, address: &str) {
        if let Some(own) = self.0.get_mut(&replica) {
            own.under_way.remove(address);
        }
    }

    /// A replica's process is gone, and its dials with it.
    pub fn died(&mut self, replica: usize) {
        self.0.remove(&replica);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<DeviceId> = Some(DeviceId([1; 32]));

    #[test]
    fn two_dials_to_one_device_too_many_at_once_and_too_many_in_a_minute_are_seen() {
        let mut dials = Dials::default();
        let begins = |dials: &mut Dials, at: u64, address: &str, peer| dials.begins(0, Timestamp(at), 0, address, peer);
        assert_eq!(begins(&mut dials, 0, "a", A), Ok(()));
        assert!(begins(&mut dials, 1, "b", A).unwrap_err().contains("the same device at a"));
        dials.ended(0, "a");
        assert_eq!(begins(&mut dials, 2, "b", A), Ok(()));
        assert_eq!(begins(&mut dials, 2 + DIAL_TIMEOUT.0, "a", A), Ok(()), "the other has timed out");
        assert_eq!(dials.begins(0, Timestamp(3 + DIAL_TIMEOUT.0), 1, "b", A), Ok(()), "the network has changed");
        dials.died(0);
        let at_once = (0..=DIALS_MAX).map(|n| begins(&mut dials, 0, &n.to_string(), None));
        assert!(at_once.last().unwrap().unwrap_err().contains("limit 32"));
        dials.died(0);
        let errors = (0..600).filter_map(|n| {
            let result = begins(&mut dials, n * 50_000, "a", None);
            dials.ended(0, "a");
            result.err()
        });
        assert!(errors.last().unwrap().contains("in a minute, limit 544"));
    }
}
