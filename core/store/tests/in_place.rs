//! A store that is moved, removed or replaced while it is open: nothing is called saved that the next start would not find.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use anabranch_engine::id::DeviceId;
use anabranch_engine::storage::{Failure, Table};
use anabranch_store::conformance::{commit, row, scan};
use anabranch_store::{OpenError, Store};

const DEVICE: DeviceId = DeviceId([3; 32]);

/// What is done to an open store, and what is said then.
fn displaced(what: impl Fn(&Path), says: &str) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("replica");
    let store = Store::open_with_copy(&directory, DEVICE).unwrap().store;
    commit(&store, vec![row(Table::Spaces, [1; 32], "access")]).unwrap();
    assert_eq!(store.check(), None);
    what(&directory);
    let copy = fs::read(directory.join("spaces")).ok();
    let failure = commit(&store, vec![row(Table::Spaces, [2; 32], "access")]).unwrap_err();
    assert!(matches!(&failure, Failure::Gone(text) if text.contains(says)), "{failure}");
    assert_eq!(store.halted(), Some(failure.clone()));
    assert_eq!(store.check(), None, "it is said once");
    assert_eq!(commit(&store, vec![row(Table::Meta, "k", "v")]), Err(failure));
    // What is open is still read.
    assert_eq!(scan(&store, Table::Spaces, &[], &[], usize::MAX).unwrap().rows.len(), 2);
    drop(store);
    assert_eq!(fs::read(directory.join("spaces")).ok(), copy, "the copy there is another's now");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_store_that_was_removed_takes_nothing_more() {
    displaced(|at| fs::remove_file(at.join("store.redb")).unwrap(), "is not there any more");
    displaced(|at| fs::remove_dir_all(at).unwrap(), "is not there any more");
}

#[test]
fn a_store_that_was_moved_takes_nothing_more() {
    displaced(|at| fs::rename(at, at.with_extension("moved")).unwrap(), "is not there any more");
    displaced(|at| fs::rename(at.join("store.redb"), at.join("aside")).unwrap(), "is not there any more");
}

#[test]
fn a_store_that_was_replaced_takes_nothing_more() {
    let by_a_copy = |at: &Path| {
        let aside = at.join("copied");
        fs::copy(at.join("store.redb"), &aside).unwrap();
        fs::rename(aside, at.join("store.redb")).unwrap();
    };
    displaced(by_a_copy, "is another file now");
    let with_its_directory = |at: &Path| {
        let moved = at.with_extension("moved");
        fs::rename(at, &moved).unwrap();
        copy(&moved, at);
    };
    displaced(with_its_directory, "is another file now");
}

#[test]
fn an_idle_store_says_by_itself_that_it_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    fs::remove_file(root.path().join("store.redb")).unwrap();
    assert!(matches!(store.check(), Some(Failure::Gone(_))));
    assert_eq!(store.check(), None);
}

// The lock was a file that could be removed.
#[test]
fn the_lock_is_not_dodged_by_removing_files() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("replica");
    let store = Store::open(&directory).unwrap();
    for name in ["store.lock", "store.redb"] {
        fs::remove_file(directory.join(name)).unwrap();
        assert!(matches!(Store::open(&directory), Err(OpenError::InUse { .. })), "without {name}");
    }
    // Nor by moving the directory.
    let moved = root.path().join("moved");
    fs::rename(&directory, &moved).unwrap();
    assert!(matches!(Store::open(&moved), Err(OpenError::InUse { .. })));
    store.close();
    Store::open(&moved).unwrap();
}
