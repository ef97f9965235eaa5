//! A damaged store in a directory: kept under another name, and what is readable of it is in a new one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::id::{DeviceId, DocumentId, SpaceId};
use anabranch_engine::space::Access;
use anabranch_engine::storage::{META_FEED_SEQ, META_STORAGE_ID, Row, Table, feed_key};
use anabranch_store::backend::crashable::Disk;
use anabranch_store::conformance::{commit, row, scan};
use anabranch_store::{OpenError, Opened, Store};

const SPACE: [u8; 32] = [7; 32];
const DEVICE: DeviceId = DeviceId([3; 32]);

fn document(number: u8) -> Vec<u8> {
    [&SPACE[..], &[number; 16]].concat()
}

fn run(document_number: u8, number: u8, length: usize) -> Row {
    let key = [&document(document_number)[..], &[0; 7], &[number], &[9; 16], &[0; 7], &[number]].concat();
    row(Table::Runs, key, vec![number; length])
}

fn access() -> Row {
    let access = Access::founded([5; 32]);
    row(Table::Spaces, SPACE, minicbor::to_vec(access).unwrap())
}

/// Twenty documents of ten runs each.
fn fill(store: &Store) {
    let mut rows = vec![access(), row(Table::Meta, META_STORAGE_ID, [1; 16]), row(Table::Members, [7; 64], "an entry")];
    for number in 0..20 {
        rows.extend((0..10).map(|run_number| run(number, run_number, 700)));
        rows.push(row(Table::Documents, document(number), DocumentRecord::default().encode_stored()));
        rows.push(row(Table::Feed, feed_key(u64::from(number) + 1), "a row"));
        commit(store, std::mem::take(&mut rows)).unwrap();
    }
    commit(store, vec![run(0, 200, 30_000)]).unwrap();
}

fn filled(directory: &Path) -> Vec<u8> {
    let Opened { store, salvaged, .. } = Store::open_or_salvage(directory, DEVICE).unwrap();
    assert_eq!(salvaged, None);
    fill(&store);
    store.close();
    fs::read(directory.join("store.redb")).unwrap()
}

fn runs(store: &Store) -> usize {
    scan(store, Table::Runs, &[], &[], usize::MAX).unwrap().rows.len()
}

fn rows_of(opened: &Opened, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = opened.image.rows.iter().filter(|(of, ..)| *of == table);
    rows.map(|(_, key, value)| (key.clone(), value.clone())).collect()
}

#[test]
fn a_store_without_its_beginning_gives_back_every_row() {
    let root = tempfile::tempdir().unwrap();
    let mut bytes = filled(root.path());
    bytes[..4096].fill(0xaa);
    fs::write(root.path().join("store.redb"), &bytes).unwrap();
    // Without the copy everything is found in the file all the same.
    fs::remove_file(root.path().join("spaces")).unwrap();
    assert!(matches!(Store::open_with_copy(root.path(), DEVICE), Err(OpenError::Foreign { .. })));

    let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    let salvaged = opened.salvaged.as_ref().unwrap();
    assert_eq!((salvaged.spaces, salvaged.members, salvaged.documents, salvaged.runs), (1, 1, 20, 201));
    assert_eq!(runs(&opened.store), 201);
    let aside = root.path().join("store.redb.damaged-1");
    assert_eq!(salvaged.kept, Some(aside.display().to_string()));
    assert_eq!(fs::read(&aside).unwrap(), bytes, "it is kept as it was");
    // It is another store, whose documents are to be read again and whose feed is beyond the old one.
    let meta = rows_of(&opened, Table::Meta);
    assert_eq!(meta.len(), 1);
    assert_eq!(meta[0].0, META_FEED_SEQ);
    assert!(u64::from_be_bytes(meta[0].1.clone().try_into().unwrap()) > 20);
    for (key, value) in rows_of(&opened, Table::Documents) {
        let (space, id) = (SpaceId(SPACE), DocumentId(key[32..].try_into().unwrap()));
        assert_eq!(DocumentRecord::decode_stored(space, id, &value).unwrap(), DocumentRecord::default());
    }
    assert_eq!(rows_of(&opened, Table::Feed), []);

    // And it is a store like any other.
    commit(&opened.store, vec![run(3, 100, 10)]).unwrap();
    opened.store.close();
    let Opened { store, salvaged, .. } = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    assert_eq!((salvaged, runs(&store)), (None, 202));
}

/// A file on a disk that does not give all of it.
struct Scratched {
    file: Cursor<Vec<u8>>,
    scratch: std::ops::Range<u64>,
}

impl Read for Scratched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = self.file.position();
        let read = self.file.read(buffer)?;
        let to = from + read as u64;
        if from < self.scratch.end && self.scratch.start < to { Err(io::Error::other("a scratch")) } else { Ok(read) }
    }
}

impl Seek for Scratched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn what_the_disk_does_not_give_is_counted_and_costs_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let bytes = filled(root.path());
    let length = bytes.len() as u64;
    let salvage = |scratch| {
        let file = Scratched { file: Cursor::new(bytes.clone()), scratch };
        Store::salvage_with_backend(file, Disk::new().backend()).unwrap().1
    };
    assert_eq!(salvage(0..0).unreadable, 0);
    let mut less = 0;
    for page in 0..length / 4096 {
        let scratched = salvage(page * 4096 + 100..page * 4096 + 200);
        let text = scratched.to_string();
        let told = text.contains(&format!("({} bytes could not be read from the disk)", scratched.unreadable));
        assert!(scratched.unreadable <= 4 * 4096 && scratched.runs > 150, "{text}");
        if scratched.runs < 201 {
            assert!(told, "{text}");
            less += 1;
        }
    }
    assert!(less > 5, "runs are in the pages");
    let nothing = salvage(0..length);
    assert_eq!((nothing.unreadable, nothing.runs, nothing.spaces), (length, 0, 0));
}

#[test]
fn what_a_salvage_did_is_told_in_words() {
    let root = tempfile::tempdir().unwrap();
    let bytes = filled(root.path());
    fs::write(root.path().join("store.redb"), &bytes[..bytes.len() / 2]).unwrap();
    let salvaged = Store::open_or_salvage(root.path(), DEVICE).unwrap().salvaged.unwrap();
    let place = root.path().display();
    let text = salvaged.to_string();
    assert!(salvaged.documents > 0 && salvaged.runs < 201, "{text}");
    assert!(text.starts_with(&format!("the store at {place} was damaged (")), "{text}");
    let made = format!(
        "); it is kept as {place}/store.redb.damaged-1, and a new one was made of what is readable: {} spaces with {} \
         membership entries, {} documents with {} runs of edits; what is missing comes back from the peers that have it; \
         edits that were made here, are not readable and never reached a peer are only in the old file, if at all",
        salvaged.spaces, salvaged.members, salvaged.documents, salvaged.runs
    );
    assert!(text.ends_with(&made), "{text}");
}

#[test]
fn spaces_come_back_from_the_copy_where_nothing_of_the_store_is_left() {
    let root = tempfile::tempdir().unwrap();
    let mut bytes = filled(root.path());
    // redb still knows it for one of its own, and nothing else is there.
    bytes[4096..].fill(0);
    fs::write(root.path().join("store.redb"), &bytes).unwrap();
    let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    let salvaged = opened.salvaged.as_ref().unwrap();
    assert_eq!((salvaged.spaces, salvaged.members, salvaged.runs), (1, 1, 0));
    assert_eq!(rows_of(&opened, Table::Spaces)[0].0, SPACE);
}

#[test]
fn a_space_that_was_left_stays_left() {
    let root = tempfile::tempdir().unwrap();
    let Opened { store, .. } = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    fill(&store);
    let removal = anabranch_store::conformance::removal(Table::Spaces, SPACE);
    commit(&store, vec![removal]).unwrap();
    store.close();
    let file = root.path().join("store.redb");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..4096].fill(0);
    fs::write(&file, &bytes).unwrap();
    let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    assert_eq!(opened.salvaged.as_ref().unwrap().spaces, 0);
    assert_eq!(rows_of(&opened, Table::Spaces), []);
}

// A copy that does not know yet that a space was left would bring it back.
#[test]
fn a_copy_of_the_spaces_that_cannot_be_kept_up_to_date_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let Opened { store, .. } = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    fill(&store);
    let copy = root.path().join("spaces");
    assert!(copy.exists());
    // Where it is written before it is renamed.
    fs::create_dir(root.path().join("spaces.new")).unwrap();
    commit(&store, vec![anabranch_store::conformance::removal(Table::Spaces, SPACE)]).unwrap();
    assert!(!copy.exists());
    fs::remove_dir(root.path().join("spaces.new")).unwrap();
    commit(&store, vec![access()]).unwrap();
    assert!(copy.exists(), "it is written again when it can be");
}

#[test]
fn a_feed_number_that_nobody_reaches_is_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let Opened { store, .. } = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    let highest = [u64::MAX, (1 << 56) + 1, 7].map(|seq| row(Table::Feed, feed_key(seq), "a row"));
    commit(&store, highest.into_iter().chain([access()]).collect()).unwrap();
    store.close();
    let file = root.path().join("store.redb");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..4096].fill(0xaa);
    fs::write(&file, &bytes).unwrap();
    let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    let seq = rows_of(&opened, Table::Meta).into_iter().find(|(key, _)| key == META_FEED_SEQ).unwrap().1;
    let seq = u64::from_be_bytes(seq.try_into().unwrap());
    assert!((7..1 << 56).contains(&seq), "{seq}");
}

#[test]
fn a_store_of_another_redb_is_not_taken_for_damage() {
    let root = tempfile::tempdir().unwrap();
    let bytes = filled(root.path());
    let file = root.path().join("store.redb");
    // redb writes the version of its file format in each of its two commit slots.
    for version in [1, 250] {
        let mut bytes = bytes.clone();
        for slot in [64, 192] {
            bytes[slot] = version;
        }
        fs::write(&file, &bytes).unwrap();
        let refused = Store::open_or_salvage(root.path(), DEVICE).unwrap_err();
        assert!(matches!(refused, OpenError::OtherEngine { .. }), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
}

#[test]
fn what_is_not_damage_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.redb");
    for content in [&b"somebody's file"[..], b"", &[0; 20_000]] {
        fs::write(&file, content).unwrap();
        assert!(matches!(Store::open_or_salvage(root.path(), DEVICE), Err(OpenError::Foreign { .. })));
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    fs::remove_file(&file).unwrap();
    let held = Store::open(root.path()).unwrap();
    assert!(matches!(Store::open_or_salvage(root.path(), DEVICE), Err(OpenError::InUse { .. })));
    drop(held);
    let names: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("damaged")), "{names:?}");
}

#[test]
fn damage_after_damage_is_kept_up_to_a_limit() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.redb");
    filled(root.path());
    for number in 1..=8 {
        let mut bytes = fs::read(&file).unwrap();
        bytes[..4096].fill(number);
        fs::write(&file, &bytes).unwrap();
        let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
        assert_eq!(runs(&opened.store), 201);
        assert!(opened.salvaged.unwrap().kept.unwrap().ends_with(&format!("damaged-{number}")));
    }
    let mut bytes = fs::read(&file).unwrap();
    bytes[..4096].fill(9);
    fs::write(&file, &bytes).unwrap();
    let error = Store::open_or_salvage(root.path(), DEVICE).unwrap_err().to_string();
    assert!(error.contains("8 damaged stores are kept") && error.contains("limit 8"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

/// The states that a power cut can leave in the folder while a damaged store is replaced.
#[test]
fn a_salvage_that_was_cut_short_begins_again() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.redb");
    let mut bytes = filled(root.path());
    bytes[..4096].fill(0xaa);
    for half_way in ["store.redb.new", "store.redb.damaged-1"] {
        fs::write(&file, &bytes).unwrap();
        if half_way.ends_with("new") {
            fs::write(root.path().join(half_way), &bytes[..9_000]).unwrap();
        } else {
            let _ = fs::remove_file(root.path().join(half_way));
            fs::hard_link(&file, root.path().join(half_way)).unwrap();
        }
        let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
        assert_eq!(runs(&opened.store), 201);
        opened.store.close();
    }
}

#[test]
fn whatever_a_page_says_nothing_is_taken_that_was_not_written() {
    let disk = Disk::new();
    let store = Store::open_with_backend(disk.backend()).unwrap();
    fill(&store);
    let whole: Vec<_> = scan(&store, Table::Runs, &[], &[], usize::MAX).unwrap().rows;
    store.close();
    let bytes = disk.image();
    let mut least = whole.len();
    for round in 0..60usize {
        let mut damaged = bytes.clone();
        for hit in 0..40 {
            let at = (round * 7_919 + hit * 104_729) % damaged.len();
            damaged[at] = damaged[at].wrapping_add(1 + round as u8);
        }
        let (store, salvaged) = Store::salvage_with_backend(Cursor::new(damaged), Disk::new().backend()).unwrap();
        let found = scan(&store, Table::Runs, &[], &[], usize::MAX).unwrap().rows;
        assert_eq!(found.len(), salvaged.runs);
        assert!(found.iter().all(|row| whole.contains(row)));
        least = least.min(found.len());
    }
    assert!(least > 100, "{least} of {} runs were left by forty damaged bytes", whole.len());
}

// The store's file alone was lost, or a backup had left it out: a new one was made, and the copy of the spaces overwritten.
#[test]
fn a_store_that_is_missing_comes_back_from_its_copy() {
    let root = tempfile::tempdir().unwrap();
    filled(root.path());
    fs::remove_file(root.path().join("store.redb")).unwrap();
    let refused = Store::open_with_copy(root.path(), DEVICE).unwrap_err().to_string();
    assert!(refused.contains("its file is missing, and there is a copy of its spaces beside it"), "{refused}");

    let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    let salvaged = opened.salvaged.as_ref().unwrap();
    assert_eq!((salvaged.spaces, salvaged.members, salvaged.runs, &salvaged.kept), (1, 1, 0, &None));
    assert!(salvaged.to_string().contains("a new one was made of the copy of its spaces: 1 spaces"), "{salvaged}");
    assert_eq!(rows_of(&opened, Table::Spaces)[0].0, SPACE);
    drop(opened);
    assert_eq!(Store::open_or_salvage(root.path(), DEVICE).unwrap().salvaged, None, "it happens once");
}

#[test]
fn a_directory_with_neither_is_a_new_replica() {
    let root = tempfile::tempdir().unwrap();
    let opened = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    assert_eq!((opened.image.rows, opened.salvaged), (Vec::new(), None));
    drop(opened.store);
    // Nothing was ever in it, so nothing is missing.
    fs::remove_file(root.path().join("store.redb")).unwrap();
    assert_eq!(Store::open_with_copy(root.path(), DEVICE).unwrap().image.rows, []);
}

#[test]
fn a_store_from_an_older_backup_takes_over_what_its_copy_knows() {
    let root = tempfile::tempdir().unwrap();
    let older = filled(root.path());
    let joined = [row(Table::Spaces, [8; 32], "access"), row(Table::Members, [8; 64], "an entry")];
    let Opened { store, .. } = Store::open_or_salvage(root.path(), DEVICE).unwrap();
    commit(&store, joined.to_vec()).unwrap();
    store.close();
    fs::write(root.path().join("store.redb"), older).unwrap();
    let opened = Store::open_with_copy(root.path(), DEVICE).unwrap();
    assert_eq!(rows_of(&opened, Table::Spaces).len(), 2);
    assert_eq!(rows_of(&opened, Table::Members).len(), 2);
    // From then on the two are one again: what is left stays left.
    commit(&opened.store, vec![anabranch_store::conformance::removal(Table::Spaces, [8; 32])]).unwrap();
    drop(opened);
    assert_eq!(rows_of(&Store::open_with_copy(root.path(), DEVICE).unwrap(), Table::Spaces).len(), 1);
}

#[test]
fn a_store_of_another_device_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let before = filled(root.path());
    let error = Store::open_or_salvage(root.path(), DeviceId([4; 32])).unwrap_err();
    assert!(matches!(error, OpenError::OtherDevice { found: DEVICE, .. }), "{error}");
    assert_eq!(fs::read(root.path().join("store.redb")).unwrap().len(), before.len());
    assert_eq!(Store::open_or_salvage(root.path(), DEVICE).unwrap().salvaged, None);
}

#[test]
fn a_copy_of_another_device_is_kept_and_not_taken() {
    let root = tempfile::tempdir().unwrap();
    filled(root.path());
    let theirs = fs::read(root.path().join("spaces")).unwrap();
    let other = DeviceId([4; 32]);
    fs::remove_file(root.path().join("store.redb")).unwrap();
    let opened = Store::open_or_salvage(root.path(), other).unwrap();
    assert_eq!((opened.image.rows, opened.salvaged), (Vec::new(), None));
    assert_eq!(fs::read(root.path().join("spaces.other-1")).unwrap(), theirs);
}
