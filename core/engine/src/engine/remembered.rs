//! What is remembered of a member over restarts: where it is, and what it calls itself.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::engine::Engine;
use crate::id::DeviceId;
use crate::limits::DEVICES_REMEMBERED_MAX;
use crate::storage::Table;

/// The value of `Table::Peers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Remembered {
    /// Where it can be dialed.
    #[n(0)]
    pub addresses: Vec<String>,
    /// What it calls itself.
    #[n(1)]
    pub name: Option<String>,
}

impl Remembered {
    /// Reads the value of a row.
    pub(super) fn read(value: &[u8]) -> Result<Self, minicbor::decode::Error> {
        // Before devices had names there were addresses alone.
        let addresses = |_| minicbor::decode(value).map(|addresses| Self { addresses, name: None });
        minicbor::decode(value).or_else(addresses)
    }
}

/// By device, as on disk.
pub(super) type RememberedDevices = BTreeMap<DeviceId, Remembered>;

impl Engine {
    /// Remembers a member. Of one more than there is room for, nothing is kept.
    pub(super) fn remember(&mut self, device: DeviceId, known: Remembered) {
        if known == Remembered::default() {
            self.remembered.remove(&device);
            return self.commits.remove(Table::Peers, device.0.to_vec());
        }
        if self.remembered.len() < DEVICES_REMEMBERED_MAX || self.remembered.contains_key(&device) {
            self.store_remembered(&device, &known);
            self.remembered.insert(device, known);
        }
    }

    /// Puts it into the next commit.
    pub(super) fn store_remembered(&mut self, device: &DeviceId, known: &Remembered) {
        let value = minicbor::to_vec(known).expect("writing to memory does not fail");
        self.commits.put(Table::Peers, device.0.to_vec(), value);
    }
}
