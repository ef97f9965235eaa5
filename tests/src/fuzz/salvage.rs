//! A file that is no store any more: what is readable of it, and an engine on that.

use std::io::Cursor;

use anabranch_engine::storage::{Table, prefix_end};
use anabranch_engine::time::{Now, Timestamp};
use anabranch_engine::{Command, CommandId, Input as News};
use anabranch_store::Store;
use anabranch_store::backend::crashable::Disk;
use anabranch_store::conformance::scan;

use super::engine::{Rows, documents, drain, start};
use super::input::{Input, Output};

const PAGE: usize = 4096;
/// Pairs in one leaf.
const PAIRS: usize = 3;
/// Documents opened at most.
const OPENED_MAX: usize = 8;

/// Bytes as they are, or rows that are put into pages as a store has them, of which then some bytes are changed.
pub fn salvage(data: &[u8]) {
    let mut input = Input::new(data);
    let changes = input.byte();
    let file = if changes == u8::MAX {
        input.rest().to_vec()
    } else {
        let changes: Vec<_> = (0..changes % 8).map(|_| (input.set() as usize, input.byte())).collect();
        let mut file = pages(&Rows::from_bytes(input.rest()));
        for (at, change) in changes {
            let length = file.len().max(1);
            if let Some(byte) = file.get_mut(at % length) {
                *byte ^= change;
            }
        }
        file
    };
    let (store, salvaged) = Store::salvage_with_backend(Cursor::new(file), Disk::new().backend())
        .expect("the disk works, and nothing that the file says keeps a new store from being made");
    let mut rows = Rows::default();
    for (table, key, value) in store.image().expect("it was just made").rows {
        rows.0.insert((table, key), value);
    }
    let runs = scan(&store, Table::Runs, &[], &prefix_end(&[]), usize::MAX).expect("it was just made").rows;
    assert_eq!(runs.len(), salvaged.runs);
    rows.0.extend(runs.into_iter().map(|(key, value)| ((Table::Runs, key), value)));

    let now = Now { mono: Timestamp(1), wall_s: 1 };
    let mut engine = match start(&rows, 1, 1, now) {
        Ok(engine) => engine,
        Err(error) => return assert!(!error.is_empty()),
    };
    drain(&mut engine, &mut rows, now);
    for (space, document) in documents(&mut engine).into_iter().take(OPENED_MAX) {
        engine.handle(now, News::Command(CommandId(1), Command::OpenDocument { space, document }));
        drain(&mut engine, &mut rows, now);
        let view = engine.view(&space, &document, None).expect("whatever is left of a document opens");
        assert!(!view.json().is_null());
    }
}

/// The form in which the target reads rows.
pub fn to_bytes(rows: &Rows) -> Vec<u8> {
    let mut out = Output::default();
    out.byte(0).take(&rows.to_bytes());
    out.0
}

/// The leaves of a store with these rows; nothing points to them.
fn pages(rows: &Rows) -> Vec<u8> {
    let mut file = vec![0; PAGE];
    let pairs: Vec<(&[u8], Vec<u8>)> =
        rows.0.iter().map(|((table, key), value)| (&key[..], stored(*table, key, value))).collect();
    for pairs in pairs.chunks(PAIRS) {
        let mut leaf = vec![1, 0, pairs.len() as u8, 0];
        let mut end = 4 + 8 * pairs.len();
        for length in pairs.iter().map(|(key, _)| key.len()).chain(pairs.iter().map(|(_, stored)| stored.len())) {
            end += length;
            leaf.extend_from_slice(&(end as u32).to_le_bytes());
        }
        pairs.iter().for_each(|(key, _)| leaf.extend_from_slice(key));
        pairs.iter().for_each(|(_, stored)| leaf.extend_from_slice(stored));
        leaf.resize(leaf.len().next_multiple_of(PAGE), 0);
        file.extend_from_slice(&leaf);
    }
    file
}

/// A value behind its checksum (`docs/storage.md`).
fn stored(table: Table, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[table as u8]).update(&(key.len() as u32).to_be_bytes()).update(key).update(value);
    [&hasher.finalize().as_bytes()[..16], value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::session::fixture;

    #[test]
    fn pages_made_up_are_read_as_those_of_a_store() {
        let rows = fixture().rows().clone();
        let (_, salvaged) = Store::salvage_with_backend(Cursor::new(pages(&rows)), Disk::new().backend()).unwrap();
        let runs = rows.0.keys().filter(|(table, _)| *table == Table::Runs).count();
        assert!(runs > 0);
        assert_eq!(salvaged.runs, runs);
        assert!(salvaged.spaces > 0);
        salvage(&to_bytes(&rows));
    }
}
