//! The file `spaces` beside the store: a copy of what a replica cannot get back from its peers without having it, or not
//! easily: the access to its spaces, their members and what runs stand on of these, and where they were last seen. A salvage
//! reads it.
//!
//! The file is `ANBS spaces 1\n`, then for each row: table number (1), key length (4, big endian), length of what follows the
//! key (4, big endian), key, checksum ‖ value as in the store; at the end 32 bytes of BLAKE3 over all before. It is written
//! anew beside and renamed: before a commit that changes which spaces there are is acknowledged, and soon after any other
//! that changes what is in it. Without it nothing is lost but the certainty which spaces were left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anabranch_engine::storage::{Image, Row, Table};
use tracing::warn;

use crate::checksum;
use crate::directory::{private, sync_directory};
use crate::salvage::Kept;

/// Name of the file in a replica's directory.
const NAME: &str = "spaces";
const UNFINISHED: &str = "spaces.new";
const MAGIC: &[u8] = b"ANBS spaces 1\n";
const HASH: usize = 32;
/// Of more than this the membership entries, and the lists of them that runs stand on, are left out: peers have them, and the
/// file is written whole each time.
const BYTES_MAX: usize = 1024 * 1024;
/// A file with more is not ours.
const READ_MAX: u64 = 4 * 1024 * 1024;

/// The copy, and where it is.
#[derive(Debug)]
pub(crate) struct Keepsake {
    directory: PathBuf,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// The file says something else.
    is_stale: bool,
    failed: bool,
}

impl Keepsake {
    /// The copy of what the store of this directory holds; brings the file up to date.
    pub(crate) fn of(directory: &Path, image: &Image) -> Self {
        let kept = image.rows.iter().filter(|(table, ..)| is_kept(*table));
        let rows = kept.map(|(table, key, value)| ((*table, key.clone()), value.clone())).collect();
        let mut keepsake = Self { directory: directory.to_owned(), rows, is_stale: false, failed: false };
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

/// Reads the file of a directory; where it cannot be read, nothing is known.
pub(crate) fn read(directory: &Path) -> Kept {
    let mut bytes = Vec::new();
    let read = File::open(directory.join(NAME)).and_then(|file| file.take(READ_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => decode(&bytes),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(%error, "the copy of the spaces cannot be read");
            }
            Kept::default()
        }
    }
}

fn decode(bytes: &[u8]) -> Kept {
    let body = bytes.split_last_chunk::<HASH>().filter(|(body, hash)| blake3::hash(body).as_bytes() == *hash);
    let is_whole = body.is_some() && bytes.starts_with(MAGIC);
    let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
    let mut rows = Vec::new();
    while let Some((Copied { table, key, stored }, after)) = row(rest) {
        rest = after;
        let value = checksum::open(table, key, stored);
        let table = Table::ALL.into_iter().find(|known| *known as u8 == table && is_kept(*known));
        if let (Some(table), Some(value)) = (table, value) {
            rows.push((table, key.to_vec(), value.to_vec()));
        }
    }
    Kept { rows, is_whole }
}

/// One row of the file.
struct Copied<'a> {
    table: u8,
    key: &'a [u8],
    stored: &'a [u8],
}

/// The first row, and what comes after it.
fn row(bytes: &[u8]) -> Option<(Copied<'_>, &[u8])> {
    let (table, rest) = bytes.split_first()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (stored, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u32::from_be_bytes(*key) as usize)?;
    let (stored, rest) = rest.split_at_checked(u32::from_be_bytes(*stored) as usize)?;
    Some((Copied { table: *table, key, stored }, rest))
}

fn is_kept(table: Table) -> bool {
    matches!(table, Table::Spaces | Table::Members | Table::AclRefs | Table::Peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepsake(directory: &Path) -> Keepsake {
        let rows = vec![
            (Table::Meta, b"k".to_vec(), b"not kept".to_vec()),
            (Table::Spaces, vec![1; 32], b"access".to_vec()),
            (Table::Members, vec![2; 64], b"entry".to_vec()),
        ];
        Keepsake::of(directory, &Image { rows })
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
        let all = decode(&whole).rows;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            for damaged in [decode(&bytes), decode(&whole[..at])] {
                assert!(!damaged.is_whole, "byte {at}");
                assert!(damaged.rows.iter().all(|row| all.contains(row)));
            }
        }
    }
}
