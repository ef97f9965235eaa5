//! The rows in the raw pages of a redb file, whether or not anything still points to them.
//!
//! A leaf of redb 4 (`tree_store/btree_base.rs` there) begins on a page boundary and is, in little endian: `1`, a byte
//! unused, the number of pairs (2 bytes), where each key ends (4 bytes each), where each value ends (4 bytes each), the keys,
//! the values; ends count from the leaf's beginning. Nothing of that is believed: a pair counts if its checksum is right.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use anabranch_engine::storage::Table;

use crate::checksum;
use crate::error::Trouble;

/// redb's pages. Larger leaves begin on a multiple of it as well.
const PAGE: u64 = 4096;
const LEAF: u8 = 1;
/// No leaf of ours is larger: the largest run is far below it.
const LEAF_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// So much is read at a time.
const WINDOW: usize = 1024 * 1024;
/// A real file has each byte in one leaf, and where a length is damaged a pair may seem as long as the file. Reading and
/// hashing this many times the file's length, and so many bytes besides, is enough for all but one that was made up to take
/// long.
const WORK_FACTOR: u64 = 16;
const WORK_BYTES: u64 = 256 * 1024 * 1024;

/// Is told table, key and value of a row.
type Found<'a> = dyn FnMut(Table, &[u8], &[u8]) -> Result<(), Trouble> + 'a;

/// Calls `found` for every row in `file`. Returns how many bytes could not be read.
///
/// # Errors
/// What `found` answers. A file of which nothing can be read is not an error.
pub(super) fn rows(file: impl Read + Seek, found: &mut Found<'_>) -> Result<u64, Trouble> {
    let Ok(mut window) = Window::new(file) else { return Ok(0) };
    let mut unreadable = 0;
    for at in (0..window.length).step_by(PAGE as usize) {
        match leaf(&mut window, at, found) {
            Ok(is_whole) => unreadable += if is_whole { 0 } else { PAGE.min(window.length - at) },
            Err(Stop::Unreadable) => unreadable += PAGE.min(window.length - at),
            Err(Stop::Enough) => {
                unreadable += window.length - at;
                break;
            }
            Err(Stop::Trouble(trouble)) => return Err(trouble),
        }
    }
    Ok(unreadable)
}

/// Why a page, or the search, ends.
enum Stop {
    Unreadable,
    /// The file was made up to take long.
    Enough,
    Trouble(Trouble),
}

/// Finds the rows of one leaf. Says whether all of them could be read.
fn leaf<F: Read + Seek>(window: &mut Window<F>, at: u64, found: &mut Found<'_>) -> Result<bool, Stop> {
    let head = window.at(at, 4)?;
    let &[LEAF, _, low, high] = head else { return Ok(true) };
    let pairs = usize::from(u16::from_le_bytes([low, high]));
    let ends: Vec<u64> = window
        .at(at, 4 + 8 * pairs)?
        .get(4..)
        .unwrap_or_default()
        .chunks_exact(4)
        .map(|end| u32::from_le_bytes(end.try_into().unwrap_or_default()).into())
        .collect();
    let (keys, values) = ends.split_at(ends.len() / 2);
    if values.len() != pairs {
        return Ok(true);
    }
    let mut is_whole = true;
    let first_key = 4 + 8 * pairs as u64;
    for pair in 0..pairs {
        let before = |ends: &[u64], first: u64| if pair == 0 { first } else { ends[pair - 1] };
        let key = before(keys, first_key)..keys[pair];
        let value = before(values, keys[pairs - 1])..values[pair];
        let room = LEAF_BYTES_MAX.min(window.length - at);
        let inside = |range: &Range<u64>| range.start <= range.end && range.end <= room;
        // A key of ours is short, and what is stored is a checksum at least.
        if !inside(&key) || !inside(&value) || key.end - key.start > 128 || value.end - value.start < 16 {
            continue;
        }
        match row(window, at, key, value, found) {
            Err(Stop::Unreadable) => is_whole = false,
            result => result?,
        }
    }
    Ok(is_whole)
}

/// Tells of one pair of the leaf that begins at `at`, if it is a row.
fn row<F: Read + Seek>(
    window: &mut Window<F>,
    at: u64,
    key: Range<u64>,
    value: Range<u64>,
    found: &mut Found<'_>,
) -> Result<(), Stop> {
    let key = window.at(at + key.start, (key.end - key.start) as usize)?.to_vec();
    let candidates = tables(&key);
    if candidates.is_empty() {
        return Ok(());
    }
    window.work((value.end - value.start).saturating_mul(candidates.len() as u64))?;
    let stored = window.at(at + value.start, (value.end - value.start) as usize)?;
    for table in candidates {
        if let Some(value) = checksum::open(*table as u8, &key, stored) {
            return found(*table, &key, value).map_err(Stop::Trouble);
        }
    }
    Ok(())
}

/// The tables whose keys may look like this.
fn tables(key: &[u8]) -> &'static [Table] {
    match key.len() {
        8 => &[Table::Feed, Table::Meta],
        32 => &[Table::Spaces, Table::Peers],
        48 => &[Table::Documents],
        64 => &[Table::Members, Table::AclRefs],
        80 => &[Table::Runs],
        _ => &[],
    }
}

/// A file read in large pieces.
struct Window<F> {
    file: F,
    length: u64,
    /// Bytes that may still be read or hashed.
    work: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<F: Read + Seek> Window<F> {
    fn new(mut file: F) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let work = WORK_FACTOR.saturating_mul(length).saturating_add(WORK_BYTES);
        Ok(Self { file, length, work, start: 0, bytes: Vec::new() })
    }

    /// So many bytes are about to be read or hashed.
    fn work(&mut self, bytes: u64) -> Result<(), Stop> {
        self.work = self.work.checked_sub(bytes).ok_or(Stop::Enough)?;
        Ok(())
    }

    /// The bytes there; empty where the file is shorter.
    fn at(&mut self, at: u64, count: usize) -> Result<&[u8], Stop> {
        if at.saturating_add(count as u64) > self.length {
            return Ok(&[]);
        }
        let is_inside = at >= self.start && at + count as u64 <= self.start + self.bytes.len() as u64;
        if !is_inside {
            if self.read(at, count.max(WINDOW)).is_err() && self.read(at, count).is_err() {
                self.bytes.clear();
                return Err(Stop::Unreadable);
            }
            self.work(self.bytes.len() as u64)?;
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.get(from..from + count).unwrap_or_default())
    }

    fn read(&mut self, at: u64, count: usize) -> io::Result<()> {
        let count = (self.length - at).min(count as u64) as usize;
        self.start = at;
        self.bytes.resize(count, 0);
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut self.bytes)
    }
}
