//! From the rows of a store's image to spaces, records and addresses.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::engine::remembered::{Remembered, RememberedDevices};
use crate::feed::FeedRow;
use crate::id::{DeviceId, DocumentId, EntryHash, SpaceId, StorageId};
use crate::space::membership::Membership;
use crate::space::records::Records;
use crate::space::{Access, Acl, Invitation, Space};
use crate::storage::{self, Image, META_BOOT_EPOCH, META_DEVICE_NAME, META_FEED_SEQ, META_STORAGE_ID, Table};

/// What an image says.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The store's id, unless it is new.
    pub storage: Option<StorageId>,
    /// Process starts so far.
    pub epoch: u64,
    /// Every space.
    pub spaces: BTreeMap<SpaceId, Space>,
    /// What this device is called.
    pub name: Option<String>,
    /// What is remembered of members.
    pub remembered: RememberedDevices,
    /// The last seq of the feed.
    pub feed_seq: u64,
    /// Spaces of which rows are left although we left them: the process died while it removed them.
    pub remnants: Vec<SpaceId>,
}

/// Reads the image of `device`'s replica. The error names the row.
pub(super) fn load(device: DeviceId, image: Image) -> Result<Loaded, String> {
    let mut loaded = Loaded::default();
    let mut accesses = BTreeMap::<SpaceId, Access>::new();
    let mut logs = BTreeMap::<SpaceId, Vec<Vec<u8>>>::new();
    let mut records = BTreeMap::<SpaceId, Records>::new();
    let mut acls = Vec::<(SpaceId, Acl)>::new();
    for (table, key, value) in image.rows {
        let bad = |what: String| format!("table {}, key {}: {what}", table.name(), hex(&key));
        match table {
            Table::Meta if key == META_STORAGE_ID => {
                loaded.storage = Some(StorageId::from_slice(&value).ok_or_else(|| bad(length_error(16, &value)))?);
            }
            Table::Meta if key == META_BOOT_EPOCH => {
                loaded.epoch = storage::counted(&value).map_err(bad)?;
            }
            Table::Meta if key == META_FEED_SEQ => {
                loaded.feed_seq = loaded.feed_seq.max(storage::counted(&value).map_err(bad)?);
            }
            Table::Meta if key == META_DEVICE_NAME => {
                loaded.name = Some(String::from_utf8(value).map_err(|error| bad(error.to_string()))?);
            }
            // A newer version's business.
            Table::Meta | Table::Runs => {}
            Table::Spaces => {
                let space = SpaceId::from_slice(&key).ok_or_else(|| bad(length_error(32, &key)))?;
                let access: Access = minicbor::decode(&value).map_err(|error| bad(format!("{error}")))?;
                if access.version > Access::VERSION {
                    return Err(bad(format!("version {}, this program reads {}", access.version, Access::VERSION)));
                }
                accesses.insert(space, access);
            }
            Table::Members => {
                let (space, _) = space_and_hash(&key).ok_or_else(|| bad(length_error(64, &key)))?;
                logs.entry(space).or_default().push(value);
            }
            Table::Documents => {
                let (space, document) = space_and_document(&key).ok_or_else(|| bad(length_error(48, &key)))?;
                let records = records.entry(space).or_insert_with(|| Records::new(space));
                records.load(document, &value).map_err(|error| bad(error.to_string()))?;
            }
            Table::Feed => {
                let row = FeedRow::from_stored(&key, &value).map_err(bad)?;
                loaded.feed_seq = loaded.feed_seq.max(row.seq);
                let records = records.entry(row.space).or_insert_with(|| Records::new(row.space));
                records.load_feed_seq(row.document, row.seq);
            }
            Table::AclRefs => {
                let (space, hash) = space_and_hash(&key).ok_or_else(|| bad(length_error(64, &key)))?;
                let entries: Vec<EntryHash> = minicbor::decode(&value).map_err(|error| bad(format!("{error}")))?;
                let acl = Acl::new(entries);
                if acl.hash.0 != hash {
                    return Err(bad(String::from("not the entries that the key stands for")));
                }
                acls.push((space, acl));
            }
            Table::Peers => {
                let device = DeviceId::from_slice(&key).ok_or_else(|| bad(length_error(32, &key)))?;
                let known = Remembered::read(&value).map_err(|error| bad(format!("{error}")))?;
                loaded.remembered.insert(device, known);
            }
        }
    }
    for (space, access) in accesses {
        let entries = logs.remove(&space).unwrap_or_default();
        let membership = Membership::load(space, entries.iter().map(Vec::as_slice))
            .map_err(|error| format!("membership log of space {space}: {error}"))?;
        let mut access = access;
        // The process died before the key was another one.
        access.former = access.former.filter(|former| *former != device);
        let is_renewed = access.former.is_some();
        if access.invite.is_none() && membership.role(&device).is_none() && !is_renewed {
            // What is lost of the log is asked of the members, as by one who joins; no invite is needed, they know us.
            access.invite = Some(Invitation::lost());
        }
        loaded.spaces.insert(space, Space::new(device, access, membership));
    }
    loaded.remnants = logs.into_keys().collect();
    for (id, records) in records {
        match loaded.spaces.get_mut(&id) {
            Some(space) => space.adopt(records.loaded()),
            None if loaded.remnants.contains(&id) => {}
            None => loaded.remnants.push(id),
        }
    }
    for (id, acl) in acls {
        if let Some(space) = loaded.spaces.get_mut(&id) {
            space.keep_acl(&acl);
        }
    }
    Ok(loaded)
}

fn space_and_hash(key: &[u8]) -> Option<(SpaceId, [u8; 32])> {
    let (space, hash) = key.split_first_chunk()?;
    Some((SpaceId(*space), hash.try_into().ok()?))
}

fn space_and_document(key: &[u8]) -> Option<(SpaceId, DocumentId)> {
    let (space, document) = key.split_first_chunk()?;
    Some((SpaceId(*space), DocumentId::from_slice(document)?))
}

fn length_error(expected: usize, bytes: &[u8]) -> String {
    format!("{} bytes where {expected} were expected", bytes.len())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::limits::COUNTED_MAX;
    use crate::storage::feed_key;

    #[test]
    fn a_store_that_counted_too_far_is_damaged_and_says_where() {
        let feed = FeedRow { seq: 0, space: SpaceId([1; 32]), document: DocumentId([2; 16]), heads: Vec::new() };
        let loaded = |number: u64| {
            let rows = [
                (Table::Meta, META_BOOT_EPOCH.to_vec(), number.to_be_bytes().to_vec()),
                (Table::Meta, META_FEED_SEQ.to_vec(), number.to_be_bytes().to_vec()),
                (Table::Feed, feed_key(number), feed.to_stored()),
            ];
            rows.map(|row| load(DeviceId([9; 32]), Image { rows: vec![row] }).map(|_| ()))
        };
        assert_eq!(loaded(COUNTED_MAX), [Ok(()), Ok(()), Ok(())]);
        for refused in loaded(COUNTED_MAX + 1) {
            let reason = refused.expect_err("too far");
            assert!(reason.starts_with("table ") && reason.contains("9223372036854775809"), "{reason}");
        }
    }
}
