//! The bytes on disk, as `docs/storage.md` describes them. A difference here is a change of the format: it needs a new
//! version and a way from the old one.
//!
//! `ANABRANCH_GOLDEN=write` writes the files again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anabranch_engine::id::{ActorId, DocumentId, SpaceId};
use anabranch_engine::storage::{
    META_BOOT_EPOCH, META_POISONED, META_STORAGE_ID, Row, Table, document_key, feed_key, run_key, space_hash_key,
};
use anabranch_store::conformance::{Model, commit, row};
use anabranch_store::{Store, VERSION};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn writes() -> bool {
    std::env::var_os("ANABRANCH_GOLDEN").is_some_and(|value| value == "write")
}

/// One row in every table, each under the key that the engine makes for it.
fn rows() -> Vec<Row> {
    let (space, document, actor) = (SpaceId([0x51; 32]), DocumentId([0xd0; 16]), ActorId([0xac; 16]));
    vec![
        row(Table::Meta, META_STORAGE_ID, [0x1d; 16]),
        row(Table::Meta, META_BOOT_EPOCH, 3u64.to_be_bytes()),
        row(Table::Meta, [META_POISONED, &[0x71; 32]].concat(), ""),
        row(Table::Spaces, space.0, "space"),
        row(Table::Members, space_hash_key(&space, &[0xe1; 32]), "entry"),
        row(Table::Documents, document_key(&space, &document), "document"),
        row(Table::Runs, run_key(&space, &document, 300, &actor, 7), "run"),
        row(Table::Feed, feed_key(258), "feed"),
        row(Table::AclRefs, space_hash_key(&space, &[0xac; 32]), "acl"),
        row(Table::Peers, [0xde; 32], ""),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Every redb table with its keys and values as redb has them, without our code in between.
fn dump(file: &std::path::Path) -> String {
    let database = redb::Database::open(file).unwrap();
    let reading = database.begin_read().unwrap();
    let mut names: Vec<_> = reading.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        writeln!(text, "{name}").unwrap();
        let table = reading.open_table(TableDefinition::<&[u8], &[u8]>::new(&name)).unwrap();
        for row in table.iter().unwrap() {
            let (key, value) = row.unwrap();
            let (checksum, value) = value.value().split_at(16);
            writeln!(text, "  {}\n    {} {}", hex(key.value()), hex(checksum), hex(value)).unwrap();
        }
    }
    text
}

#[test]
fn rows_are_stored_as_documented() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    commit(&store, rows()).unwrap();
    store.close();
    let found = dump(&root.path().join("store.redb"));
    let path = golden(&format!("store-{VERSION}.txt"));
    if writes() {
        fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[test]
fn the_checksum_is_what_the_page_says() {
    let table = Table::Feed as u8;
    let (key, value) = (258u64.to_be_bytes(), b"feed");
    let bytes = [&[table][..], &8u32.to_be_bytes(), &key, value].concat();
    let expected = hex(&blake3::hash(&bytes).as_bytes()[..16]);
    let text = fs::read_to_string(golden(&format!("store-{VERSION}.txt"))).unwrap();
    assert!(text.contains(&format!("  {}\n    {expected} {}\n", hex(&key), hex(value))), "{expected}");
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.redb");
    Store::open(root.path()).unwrap().close();
    let database = redb::Database::open(&file).unwrap();
    let writing = database.begin_write().unwrap();
    let (key, value) = (b"format", [&b"anabranch store"[..], &(VERSION + 1).to_be_bytes()].concat());
    let checksum = blake3::hash(&[&[255, 0, 0, 0, 6][..], key, &value].concat());
    let stored = [&checksum.as_bytes()[..16], &value].concat();
    let format = TableDefinition::<&[u8], &[u8]>::new("format-1");
    writing.open_table(format).unwrap().insert(&key[..], &*stored).unwrap();
    writing.commit().unwrap();
    drop(database);
    let error = Store::open(root.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the store at {} has format version 2, this program knows up to 1; use a newer program",
            root.path().display()
        )
    );
}

/// A store as version 1 wrote it, file and all.
#[test]
fn a_store_of_version_1_opens() {
    let path = golden("store-1.redb");
    if writes() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        commit(&store, rows()).unwrap();
        store.close();
        fs::copy(root.path().join("store.redb"), &path).unwrap();
    }
    let root = tempfile::tempdir().unwrap();
    fs::copy(&path, root.path().join("store.redb")).unwrap();
    let store = Store::open(root.path()).unwrap();
    let mut model = Model::default();
    model.apply(&rows());
    model.assert_equals(&store);
    commit(&store, vec![row(Table::Meta, "more", "v")]).unwrap();
}
