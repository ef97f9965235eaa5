//! What each device has made this replica keep, receive and check: for who has to decide whom to block.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::engine::Engine;
use crate::engine::input::CommandId;
use crate::engine::output::{CommandError, Reply};
use crate::engine::scans::Scan;
use crate::id::{DeviceId, SpaceId};
use crate::limits::DEVICES_REMEMBERED_MAX;
use crate::run::Run;
use crate::storage::{Scanned, parse_run_key, prefix_end};

/// What a device has cost this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Runs of the space that are stored here and that it has signed.
    pub runs: u64,
    /// Their bytes, as stored.
    pub run_bytes: u64,
    /// Entries of the space's membership log that it has signed.
    pub entries: u64,
    /// Their bytes.
    pub entry_bytes: u64,
    /// What came over its sessions, of all spaces.
    pub toll: Toll,
}

/// What came over the sessions with a device, since this replica was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Toll {
    /// Bytes of frames.
    pub bytes: u64,
    /// Runs and membership entries that were read, whoever had signed them; runs that were known already, too.
    pub checks: u64,
    /// How many runs and entries were refused.
    pub refused: u64,
}

/// The tolls of the devices with the largest ones.
#[derive(Debug, Default)]
pub(crate) struct Tolls {
    by: BTreeMap<DeviceId, Toll>,
}

impl Tolls {
    /// What a device has cost, to be added to.
    pub(crate) fn of(&mut self, device: DeviceId) -> &mut Toll {
        if self.by.len() >= DEVICES_REMEMBERED_MAX && !self.by.contains_key(&device) {
            let least = self.by.iter().min_by_key(|(_, toll)| toll.bytes).map(|(device, _)| *device);
            least.map(|least| self.by.remove(&least));
        }
        self.by.entry(device).or_default()
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by.len()
    }
}

impl Engine {
    /// Reads what is stored of a space, a page at a time, and counts it by who signed it.
    pub(super) fn measure_usage(&mut self, command: CommandId, space_id: SpaceId) {
        if !self.spaces.contains_key(&space_id) {
            return self.reply(command, Err(CommandError::UnknownSpace(space_id)));
        }
        self.read_usage(command, space_id, BTreeMap::new(), space_id.0.to_vec());
    }

    fn read_usage(&mut self, command: CommandId, space: SpaceId, usage: BTreeMap<DeviceId, Usage>, from: Vec<u8>) {
        // Rows that are damaged are passed over: their documents are mended when they are opened.
        self.salvage(Scan::Usage { command, space, usage }, from, prefix_end(&space.0));
    }

    /// A page of a space's runs was read.
    pub(super) fn scanned_usage(
        &mut self,
        command: CommandId,
        space: SpaceId,
        mut usage: BTreeMap<DeviceId, Usage>,
        scanned: Scanned,
    ) {
        let Some(membership) = self.spaces.get(&space).map(|space| &space.membership) else {
            return self.reply(command, Err(CommandError::UnknownSpace(space)));
        };
        let next = scanned.rows.last().filter(|_| scanned.more).map(|(last, _)| [last.as_slice(), &[0]].concat());
        for (row, value) in scanned.rows {
            let bytes = (row.len() + value.len()) as u64;
            let run = parse_run_key(&row)
                .and_then(|at| Run::from_stored(at.space, at.document, at.actor, at.last_seq, value).ok());
            if let Some(run) = run {
                let of = usage.entry(run.header.device).or_default();
                (of.runs, of.run_bytes) = (of.runs + 1, of.run_bytes + bytes);
            }
        }
        if let Some(from) = next {
            return self.read_usage(command, space, usage, from);
        }
        for member in membership.members() {
            usage.entry(member.device).or_default();
        }
        for (author, bytes) in membership.authors() {
            let of = usage.entry(author).or_default();
            (of.entries, of.entry_bytes) = (of.entries + 1, of.entry_bytes + bytes as u64);
        }
        for (device, of) in &mut usage {
            of.toll = self.tolls.by.get(device).copied().unwrap_or_default();
        }
        self.reply(command, Ok(Reply::Usage(usage.into_iter().collect())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_toll_makes_place() {
        let mut tolls = Tolls::default();
        for n in 0..=DEVICES_REMEMBERED_MAX as u64 {
            let mut device = [0; 32];
            device[..8].copy_from_slice(&n.to_be_bytes());
            tolls.of(DeviceId(device)).bytes += 10 + n;
        }
        assert_eq!(tolls.len(), DEVICES_REMEMBERED_MAX);
        assert_eq!(tolls.of(DeviceId([0; 32])).bytes, 0, "it was the smallest");
    }
}
