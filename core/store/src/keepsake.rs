//! The file `spaces` beside the store: a copy of what a replica cannot get back from its peers without having it, or not
//! easily: the access to its spaces, their members and what runs stand on of these, and where they were last seen. A salvage
//! reads it.
//!
//! The file is `ANBS spaces 2\n`, the device that it belongs to (32), the storage id of its store (16, zero if there is none
//! yet), how many commits have changed which spaces there are (8, big endian), then for each row: table number (1), key length
//! (4, big endian), length of what follows the key (4, big endian), key, checksum ‖ value as in the store; at the end 32 bytes
//! of BLAKE3 over all before. It is written again beside and renamed: before a commit that changes which spaces there are is
//! acknowledged, and soon after any other that changes what is in it. Without it nothing is lost but the certainty which spaces
//! were left.
//!
//! A copy that knows of more than its store, which is then from an older backup, is merged into it when it is opened; one of
//! another device is kept under another name. So none is overwritten by a store that knows less.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anabranch_engine::id::DeviceId;
use anabranch_engine::storage::{Image, META_STORAGE_ID, Row, Table};
use tracing::warn;

use crate::checksum;
use crate::directory::{private, sync_directory};
use crate::salvage::Kept;

/// Name of the file in a replica's directory.
const NAME: &str = "spaces";
const UNFINISHED: &str = "spaces.new";
const MAGIC: &[u8] = b"ANBS spaces 2\n";
/// Copies of others that are kept. They are never deleted, so somebody who goes on mixing directories up is stopped here.
const OTHERS_KEPT_MAX: u32 = 8;
const HASH: usize = 32;
/// Of more than this the membership entries, and the lists of them that runs stand on, are left out: peers have them, and the
/// file is written whole each time.
const BYTES_MAX: usize = 1024 * 1024;
/// A file with more is not ours.
const READ_MAX: u64 = 4 * 1024 * 1024;

/// Of which store a copy is, and how far that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) device: DeviceId,
    /// Zero before the engine's first commit.
    pub(crate) storage: [u8; 16],
    /// Commits that changed which spaces there are.
    pub(crate) version: u64,
}

impl Origin {
    /// Of the store with this image.
    pub(crate) fn of(device: DeviceId, image: &Image, version: u64) -> Self {
        let row = image.rows.iter().find(|(table, key, _)| *table == Table::Meta && key == META_STORAGE_ID);
        let storage = row.and_then(|(.., value)| value.as_slice().try_into().ok()).unwrap_or_default();
        Self { device, storage, version }
    }
}

/// The copy, and where it is.
#[derive(Debug)]
pub(crate) struct Keepsake {
    directory: PathBuf,
    origin: Origin,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// The file says something else.
    is_stale: bool,
    failed: bool,
}

impl Keepsake {
    /// The copy of what the store of this directory holds; brings the file up to date.
    pub(crate) fn of(directory: &Path, origin: Origin, image: &Image) -> Self {
        let kept = image.rows.iter().filter(|(table, ..)| is_kept(*table));
        let rows = kept.map(|(table, key, value)| ((*table, key.clone()), value.clone())).collect();
        let mut keepsake = Self { directory: directory.to_owned(), origin, rows, is_stale: false, failed: false };
        keepsake.is_stale = fs::read(directory.join(NAME)).ok() != Some(keepsake.encode());
        keepsake.write();
        keepsake
    }

    /// Takes note of a commit that is on disk. One that tells which spaces there are is copied before it is acknowledged: a
    /// salvage believes the copy in that.
    pub(crate) fn committed(&mut self, rows: &[Row]) {
        for Row { table, key, value } in rows.iter().filter(|row| is_kept(row.table)) {
            let place = (*table, key.clone());
            let before = match value {
                Some(value) => self.rows.insert(place, value.clone()),
                None => self.rows.remove(&place),
            };
            self.is_stale |= before != *value;
        }
        let storage = rows.iter().rfind(|row| row.table == Table::Meta && row.key == META_STORAGE_ID);
        if let Some(id) = storage.and_then(|row| row.value.as_deref()?.try_into().ok()) {
            self.is_stale |= self.origin.storage != id;
            self.origin.storage = id;
        }
        if rows.iter().any(|row| row.table == Table::Spaces) {
            // As the store counts in the same commit.
            self.origin.version = self.origin.version.saturating_add(1);
            self.is_stale = true;
        }
        if rows.iter().any(|row| row.table == Table::Spaces) {
            self.write();
            if self.is_stale {
                // One that is behind in this must not be believed. A full disk still lets it be removed, and where that fails
                // too there is nothing left to do.
                let _ = fs::remove_file(self.directory.join(NAME));
            }
        }
    }

    /// Brings the file up to date. The store goes on without its copy, and tries again when there is time: a full disk is for
    /// the next commit to report.
    pub(crate) fn write(&mut self) {
        if !self.is_stale {
            return;
        }
        let bytes = self.encode();
        let unfinished = self.directory.join(UNFINISHED);
        let written = (|| {
            let mut file = private().truncate(true).open(&unfinished)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.directory.join(NAME))?;
            sync_directory(&self.directory)
        })();
        match written {
            Ok(()) => (self.is_stale, self.failed) = (false, false),
            Err(_) if self.failed => {}
            Err(error) => {
                self.failed = true;
                warn!(%error, directory = %self.directory.display(), "the copy of the spaces cannot be written");
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let size: usize = self.rows.iter().map(|((_, key), value)| key.len() + value.len()).sum();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.origin.device.0);
        bytes.extend_from_slice(&self.origin.storage);
        bytes.extend_from_slice(&self.origin.version.to_be_bytes());
        for ((table, key), value) in &self.rows {
            if matches!(table, Table::Members | Table::AclRefs) && size > BYTES_MAX {
                continue;
            }
            let mut stored = vec![0; checksum::LEN + value.len()];
            checksum::seal(*table as u8, key, value, &mut stored);
            bytes.push(*table as u8);
            bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&(stored.len() as u32).to_be_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&stored);
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }
}

/// What the file of a directory says, before its store is opened.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// There is a file.
    is_there: bool,
    /// If it is one of ours, and its beginning can be read.
    origin: Option<Origin>,
    /// If it is another device's, whole.
    others: Option<Origin>,
    kept: Kept,
}

impl Copied {
    /// Reads the file; where it cannot be read, nothing is known.
    pub(crate) fn read(directory: &Path, device: DeviceId) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(directory.join(NAME)).and_then(|file| file.take(READ_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => {
                let (origin, kept) = decode(&bytes);
                match origin {
                    Some(origin) if origin.device == device => {
                        Self { is_there: true, origin: Some(origin), others: None, kept }
                    }
                    others => Self { is_there: true, others: others.filter(|_| kept.is_whole), ..Self::default() },
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                warn!(%error, "the copy of the spaces cannot be read");
                Self { is_there: true, ..Self::default() }
            }
        }
    }

    /// There is something of ours in it.
    pub(crate) fn has_rows(&self) -> bool {
        !self.kept.rows.is_empty()
    }

    /// For a salvage.
    pub(crate) fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// It is damaged, or not of this device.
    pub(crate) fn is_of_no_use(&self) -> bool {
        self.is_there && !self.kept.is_whole
    }

    /// Whose this store is, if the copy beside it says that it is another device's.
    pub(crate) fn owner(&self, store: Origin) -> Option<DeviceId> {
        let others = self.others.filter(|others| others.storage == store.storage && store.storage != [0; 16]);
        others.map(|others| others.device)
    }

    /// The version that it is of.
    pub(crate) fn version(&self) -> u64 {
        self.origin.map_or(0, |origin| origin.version)
    }

    /// What a store lacks that its copy has. Spaces only if the copy is the newer one, or of another store of this device, as
    /// nobody can tell then which of them were left. Nothing is taken from the store: a space that was left since the backup
    /// was made comes back with the backup.
    pub(crate) fn beyond(&self, store: Origin, image: &Image) -> Vec<Row> {
        let Some(copy) = self.origin.filter(|_| self.kept.is_whole) else { return Vec::new() };
        let is_of_another = ![copy.storage, store.storage].contains(&[0; 16]) && copy.storage != store.storage;
        let may_bring_spaces = copy.version > store.version || is_of_another;
        let stored: BTreeSet<(Table, &[u8])> =
            image.rows.iter().map(|(table, key, _)| (*table, key.as_slice())).collect();
        let brought = |(table, key, _): &&(Table, Vec<u8>, Vec<u8>)| {
            // What an up-to-date store lacks of these was left or forgotten.
            let may_be_gone = matches!(table, Table::Spaces | Table::Peers);
            !stored.contains(&(*table, key.as_slice())) && (!may_be_gone || may_bring_spaces)
        };
        let brought: Vec<_> = self.kept.rows.iter().filter(brought).collect();
        let spaces: BTreeSet<&[u8]> = (stored.iter().filter(|(table, _)| *table == Table::Spaces).map(|(_, key)| *key))
            .chain(brought.iter().filter(|(table, ..)| *table == Table::Spaces).map(|(_, key, _)| key.as_slice()))
            .collect();
        let belongs = |table: Table, key: &[u8]| match table {
            Table::Members | Table::AclRefs => key.get(..32).is_some_and(|space| spaces.contains(space)),
            Table::Meta | Table::Spaces | Table::Documents | Table::Runs | Table::Feed | Table::Peers => true,
        };
        let rows = brought.into_iter().filter(|(table, key, _)| belongs(*table, key));
        rows.map(|(table, key, value)| Row { table: *table, key: key.clone(), value: Some(value.clone()) }).collect()
    }
}

/// Gives the file of a directory another name that nothing has yet.
pub(crate) fn set_aside(directory: &Path) -> io::Result<PathBuf> {
    for number in 1..=OTHERS_KEPT_MAX {
        let aside = directory.join(format!("{NAME}.other-{number}"));
        if !aside.try_exists()? {
            fs::rename(directory.join(NAME), &aside)?;
            sync_directory(directory)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other(format!("{OTHERS_KEPT_MAX} copies of others are kept already, limit {OTHERS_KEPT_MAX}")))
}

/// Removes the file of a directory.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => sync_directory(directory),
    }
}

fn decode(bytes: &[u8]) -> (Option<Origin>, Kept) {
    let body = bytes.split_last_chunk::<HASH>().filter(|(body, hash)| blake3::hash(body).as_bytes() == *hash);
    let Some((origin, mut rest)) = bytes.strip_prefix(MAGIC).and_then(header) else { return Default::default() };
    let mut rows = Vec::new();
    while let Some((Encoded { table, key, stored }, after)) = row(rest) {
        rest = after;
        let value = checksum::open(table, key, stored);
        let table = Table::ALL.into_iter().find(|known| *known as u8 == table && is_kept(*known));
        if let (Some(table), Some(value)) = (table, value) {
            rows.push((table, key.to_vec(), value.to_vec()));
        }
    }
    (Some(origin), Kept { rows, is_whole: body.is_some() })
}

fn header(bytes: &[u8]) -> Option<(Origin, &[u8])> {
    let (device, rest) = bytes.split_first_chunk()?;
    let (storage, rest) = rest.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    Some((Origin { device: DeviceId(*device), storage: *storage, version: u64::from_be_bytes(*version) }, rest))
}

/// One row of the file.
struct Encoded<'a> {
    table: u8,
    key: &'a [u8],
    stored: &'a [u8],
}

/// The first row, and what comes after it.
fn row(bytes: &[u8]) -> Option<(Encoded<'_>, &[u8])> {
    let (table, rest) = bytes.split_first()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (stored, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u32::from_be_bytes(*key) as usize)?;
    let (stored, rest) = rest.split_at_checked(u32::from_be_bytes(*stored) as usize)?;
    Some((Encoded { table: *table, key, stored }, rest))
}

fn is_kept(table: Table) -> bool {
    matches!(table, Table::Spaces | Table::Members | Table::AclRefs | Table::Peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { device: DeviceId([5; 32]), storage: [6; 16], version: 3 };

    fn image() -> Image {
        let rows = vec![
            (Table::Meta, b"k".to_vec(), b"not kept".to_vec()),
            (Table::Spaces, vec![1; 32], b"access".to_vec()),
            (Table::Members, vec![1; 64], b"entry".to_vec()),
        ];
        Image { rows }
    }

    fn keepsake(directory: &Path) -> Keepsake {
        Keepsake::of(directory, ORIGIN, &image())
    }

    fn read(directory: &Path) -> Kept {
        Copied::read(directory, ORIGIN.device).kept
    }

    #[test]
    fn a_copy_that_is_newer_than_its_store_brings_what_the_store_lacks() {
        let root = tempfile::tempdir().unwrap();
        drop(keepsake(root.path()));
        let copied = Copied::read(root.path(), ORIGIN.device);
        let tables = |store: Origin, image: &Image| -> Vec<Table> {
            copied.beyond(store, image).into_iter().map(|row| row.table).collect()
        };
        let empty = Image::default();
        let older = Origin { version: 2, ..ORIGIN };
        assert_eq!(tables(older, &empty), [Table::Spaces, Table::Members]);
        assert_eq!(tables(older, &image()), []);
        // The store has not that space because it was left, with its members.
        assert_eq!(tables(ORIGIN, &empty), []);
        assert_eq!(tables(Origin { version: 9, ..ORIGIN }, &empty), []);
        // Of another store of this device nothing is known.
        assert_eq!(tables(Origin { version: 9, storage: [7; 16], ..ORIGIN }, &empty), [Table::Spaces, Table::Members]);
        // Members of a space that is there belong to it, whichever is newer.
        let mut without_members = image();
        without_members.rows.pop();
        assert_eq!(tables(ORIGIN, &without_members), [Table::Members]);
    }

    #[test]
    fn a_copy_of_another_device_says_nothing_and_is_kept() {
        let root = tempfile::tempdir().unwrap();
        drop(keepsake(root.path()));
        let bytes = fs::read(root.path().join(NAME)).unwrap();
        let copied = Copied::read(root.path(), DeviceId([4; 32]));
        assert!(copied.is_of_no_use() && !copied.has_rows());
        let aside = set_aside(root.path()).unwrap();
        assert_eq!(fs::read(aside).unwrap(), bytes);
        assert!(!Copied::read(root.path(), ORIGIN.device).is_there);
    }

    #[test]
    fn what_is_kept_comes_back_and_follows_commits() {
        let root = tempfile::tempdir().unwrap();
        let mut keepsake = keepsake(root.path());
        let kept = read(root.path());
        assert!(kept.is_whole);
        assert_eq!(kept.rows.len(), 2);
        let row = |table, key: [u8; 32], value: Option<&[u8]>| Row {
            table,
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        };
        keepsake.committed(&[row(Table::Peers, [3; 32], Some(b"address"))]);
        assert_eq!(read(root.path()).rows.len(), 2, "it is written when there is time");
        keepsake.write();
        assert_eq!(read(root.path()).rows.len(), 3);
        keepsake.committed(&[row(Table::Spaces, [1; 32], None)]);
        let tables: Vec<Table> = read(root.path()).rows.into_iter().map(|(table, ..)| table).collect();
        assert_eq!(tables, [Table::Members, Table::Peers]);
        assert!(!root.path().join(UNFINISHED).exists());
    }

    #[test]
    fn one_that_cannot_be_written_is_written_when_it_can_be() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = root.path().join(UNFINISHED);
        fs::create_dir(&unfinished).unwrap();
        let mut keepsake = keepsake(root.path());
        keepsake.write();
        assert!(keepsake.failed && keepsake.is_stale && !root.path().join(NAME).exists());
        // Something is in the way of the file itself.
        fs::create_dir(root.path().join(NAME)).unwrap();
        assert!(!read(root.path()).is_whole);
        fs::remove_dir(root.path().join(NAME)).unwrap();
        fs::remove_dir(&unfinished).unwrap();
        keepsake.write();
        assert!(!keepsake.failed && read(root.path()).is_whole);
    }

    #[test]
    fn damage_costs_rows_and_never_changes_one() {
        let root = tempfile::tempdir().unwrap();
        let whole = keepsake(root.path()).encode();
        let all = decode(&whole).1.rows;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            for (_, damaged) in [decode(&bytes), decode(&whole[..at])] {
                assert!(!damaged.is_whole, "byte {at}");
                assert!(damaged.rows.iter().all(|row| all.contains(row)));
            }
        }
    }
}
