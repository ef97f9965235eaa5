//! Rotten bits: whatever bit of the file changes, no row comes back with other bytes than were written under its key.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::panic;

use anabranch_engine::storage::{Failure, Row, Table, prefix_end};
use anabranch_store::Store;
use anabranch_store::backend::crashable::Disk;
use anabranch_store::conformance::{commit, removal, row, scan};

const DOCUMENTS: u16 = 150;
const RUNS: u16 = 4;

/// Everything that was ever written: rot may at worst bring back an older value, never one that was never there.
#[derive(Default)]
struct Written {
    current: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// Before the last commit.
    previous: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    ever: BTreeMap<(Table, Vec<u8>), Vec<Vec<u8>>>,
}

impl Written {
    fn commit(&mut self, store: &Store, rows: Vec<Row>) {
        self.previous.clone_from(&self.current);
        for row in &rows {
            let place = (row.table, row.key.clone());
            match &row.value {
                Some(value) => {
                    self.ever.entry(place.clone()).or_default().push(value.clone());
                    self.current.insert(place, value.clone());
                }
                None => {
                    self.current.remove(&place);
                }
            }
        }
        commit(store, rows).unwrap();
    }
}

fn document_key(document: u16) -> Vec<u8> {
    // Ids are random, so neighbours differ early.
    let id = (u64::from(document) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    [&[9; 32][..], &id, &id].concat()
}

fn filled() -> (Store, Disk, Written) {
    let disk = Disk::new();
    let store = Store::open_with_backend(disk.backend()).unwrap();
    let mut written = Written::default();
    written.commit(&store, vec![row(Table::Meta, "storage_id", vec![7; 16]), row(Table::Spaces, vec![9; 32], "space")]);
    let mut seq = 0u64;
    for run in 0..RUNS {
        for document in 0..DOCUMENTS {
            let key = document_key(document);
            let mut rows = Vec::new();
            if seq >= u64::from(DOCUMENTS) {
                rows.push(removal(Table::Feed, (seq - u64::from(DOCUMENTS)).to_be_bytes()));
            }
            rows.push(row(Table::Runs, [&key[..], &[1; 16], &run.to_be_bytes()].concat(), vec![document as u8; 180]));
            rows.push(row(Table::Documents, key.clone(), [&run.to_be_bytes()[..], &key].concat()));
            rows.push(row(Table::Feed, seq.to_be_bytes(), key));
            seq += 1;
            written.commit(&store, rows);
        }
    }
    (store, disk, written)
}

/// Damage never ends the process, also not in a write into a damaged tree or in closing it.
fn goes_on_or_says_why(store: &Store, failure: &Failure) {
    assert!(matches!(failure, Failure::Damaged(_)), "{failure}");
    let rows = (0..DOCUMENTS).step_by(10).map(|document| row(Table::Runs, document_key(document), vec![1; 50]));
    match commit(store, rows.collect()) {
        Ok(()) => assert_eq!(store.failed(), None),
        Err(failure) => assert_eq!(store.failed(), Some(&failure)),
    }
}

/// What came of reading a whole store, document by document.
#[derive(Default, Debug)]
struct Tally {
    flips: u32,
    harmless: u32,
    refused_at_open: u32,
    found_in_image: u32,
    found_in_scan: u32,
    /// The last commit was taken back whole, as if the power had gone before it.
    rolled_back: u32,
    /// Rows were missing although nothing was reported.
    missing: u32,
    /// Rows had an earlier value although nothing was reported.
    older: u32,
}

fn read_everything(tally: &mut Tally, image: Vec<u8>, written: &Written) {
    tally.flips += 1;
    let Ok(store) = Store::open_with_backend(Disk::from_image(image).backend()) else {
        tally.refused_at_open += 1;
        return;
    };
    let mut rows = match store.image() {
        Ok(image) => image.rows,
        Err(failure) => {
            tally.found_in_image += 1;
            goes_on_or_says_why(&store, &failure);
            return;
        }
    };
    for document in 0..DOCUMENTS {
        let key = document_key(document);
        match scan(&store, Table::Runs, &key, &prefix_end(&key), usize::MAX) {
            Ok(scanned) => rows.extend(scanned.rows.into_iter().map(|(key, value)| (Table::Runs, key, value))),
            Err(failure) => {
                tally.found_in_scan += 1;
                goes_on_or_says_why(&store, &failure);
                return;
            }
        }
    }
    let mut older = false;
    for (table, key, value) in &rows {
        let place = (*table, key.clone());
        if written.current.get(&place) != Some(value) {
            let ever = written.ever.get(&place).is_some_and(|values| values.contains(value));
            assert!(ever, "bytes that were never written came back: {place:?}");
            older = true;
        }
    }
    let rows: BTreeMap<_, _> = rows.into_iter().map(|(table, key, value)| ((table, key), value)).collect();
    match () {
        () if rows == written.current => tally.harmless += 1,
        () if rows == written.previous => tally.rolled_back += 1,
        () if older => tally.older += 1,
        () => tally.missing += 1,
    }
}

fn flip(image: &[u8], written: &Written, flips: u64, tally: &mut Tally) {
    // Every bit of the header, then others all over the file.
    let bits = image.len() as u64 * 8;
    let step = bits / flips;
    let places = (0..320 * 8).step_by(7).chain((0..flips).map(|i| i * step + i * 7_919 % step));
    for bit in places {
        let mut flipped = image.to_vec();
        flipped[bit as usize / 8] ^= 1 << (bit % 8);
        read_everything(tally, flipped, written);
    }
}

#[test]
fn flipped_bits_never_become_data() {
    let (store, disk, written) = filled();
    // One image of a store that was not closed, whose pages redb checks at the next open, and one of a closed store.
    let cut = disk.crash_image(1);
    store.close();
    let closed = disk.image();
    panic::set_hook(Box::new(|_| {}));
    let thorough = std::env::var("ANABRANCH_ROT").map_or(1, |factor| factor.parse().unwrap());
    for (name, image, flips) in [("cut", cut, 400 * thorough), ("closed", closed, 2000 * thorough)] {
        let mut tally = Tally::default();
        read_everything(&mut tally, image.clone(), &written);
        assert_eq!(tally.harmless, 1, "{name} is whole before it rots");
        flip(&image, &written, flips, &mut tally);
        println!("{name} ({} bytes): {tally:?}", image.len());
        let found = tally.refused_at_open + tally.found_in_image + tally.found_in_scan;
        assert!(found > 50);
        // Pointers inside redb's pages have no checksum of ours. A document's record says which runs it should have.
        assert!((tally.missing + tally.older) * 200 < found, "{tally:?}");
        assert!(name == "cut" || tally.rolled_back == 0, "{tally:?}");
    }
    let _ = panic::take_hook();
}
