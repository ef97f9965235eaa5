//! Stores that cannot be written to, and are read all the same; and those that are written to again when there is room.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_engine::storage::{CommitId, Failure, Reply, Request, Table};
use anabranch_store::Store;
use anabranch_store::backend::crashable::{Disk, Fault};
use anabranch_store::conformance::{Model, commit, row};

fn resume(store: &Store) -> Result<(), Failure> {
    match store.execute(Request::Resume { id: CommitId(1) }) {
        Reply::Committed { id: CommitId(1), result } => result,
        other => panic!("{other:?}"),
    }
}

/// A store with something in it, on a disk that fails from one of the next calls on, and the failure of the commit that met it.
fn failed(disk: &Disk, fault: Fault, calls: u64) -> (Store, Model, Model, u64, Failure) {
    let mut seed = calls;
    let store = Store::open_on(disk.plug()).unwrap();
    let mut certain = Model::default();
    for _ in 0..3 {
        commit(&store, certain.step(&mut seed)).unwrap();
    }
    disk.fail_after(calls, fault);
    loop {
        let mut maybe = certain.clone();
        match commit(&store, maybe.step(&mut seed)) {
            Ok(()) => certain = maybe,
            Err(failure) => return (store, certain, maybe, seed, failure),
        }
    }
}

#[test]
fn a_full_disk_is_read_and_written_to_again_when_there_is_room() {
    let mut resumed = 0;
    for calls in 0..60 {
        let disk = Disk::new();
        let (store, certain, mut model, mut seed, failure) = failed(&disk, Fault::Full, calls);
        assert_eq!(store.halted().as_ref(), Some(&failure));
        assert_eq!(store.failed(), None);
        // Who asked for it believes in it, so it is read, and it is not on the disk.
        model.assert_equals(&store);
        assert!(resume(&store).is_err(), "the disk is as full as before");
        model.assert_equals(&store);
        disk.heal();
        match failure {
            Failure::Full(_) => {
                resumed += 1;
                assert_eq!(resume(&store), Ok(()));
                assert_eq!(store.halted(), None);
                model.assert_equals(&store);
                commit(&store, model.step(&mut seed)).unwrap();
                disk.crash(calls);
                drop(store);
                model.assert_equals(&Store::open_on(disk.plug()).unwrap());
            }
            // Syncing failed, and what the system remembers of the file may not be what the disk has.
            Failure::Io(text) => {
                assert!(text.contains("which syncing showed"), "{text}");
                assert!(resume(&store).is_err());
                drop(store);
                let store = Store::open_on(disk.plug()).unwrap();
                let found = store.image().unwrap();
                assert!(found == model.image() || found == certain.image());
            }
            Failure::Damaged(_) | Failure::Gone(_) => panic!("call {calls}: {failure}"),
        }
    }
    assert!(resumed > 20, "{resumed}");
}

#[test]
fn a_disk_that_cannot_be_written_to_is_read_and_is_not_tried_again() {
    for fault in [Fault::Sync, Fault::ReadOnly] {
        for calls in 0..20 {
            let disk = Disk::new();
            let (store, _, model, _, failure) = failed(&disk, fault, calls);
            assert!(matches!(failure, Failure::Io(_)), "{failure}");
            model.assert_equals(&store);
            disk.heal();
            assert_eq!(resume(&store), Err(failure));
            model.assert_equals(&store);
        }
    }
}

#[test]
fn a_disk_that_cannot_be_read_either_fails_for_good() {
    let disk = Disk::new();
    let (store, _, _, _, failure) = failed(&disk, Fault::Io, 3);
    assert_eq!(store.failed(), Some(&failure));
    disk.heal();
    assert_eq!(store.image(), Err(failure.clone()));
    assert_eq!(resume(&store), Err(failure));
}

// After an unclean end redb repairs the file before it reads it, and a full disk kept it from that.
#[test]
fn a_store_on_a_full_disk_opens_for_reading() {
    for fault in [Fault::Full, Fault::ReadOnly, Fault::Sync] {
        for (seed, calls) in (0..40).map(|number| (number, number / 4)) {
            let base = Disk::new();
            let mut model = Model::default();
            let store = Store::open_on(base.plug()).unwrap();
            for step in 0..4 {
                commit(&store, model.step(&mut { step })).unwrap();
            }
            let disk = Disk::from_image(base.crash_image(seed));
            disk.fail_after(calls, fault);
            let store = Store::open_on(disk.plug()).unwrap();
            model.assert_equals(&store);
            if store.halted().is_none() {
                continue;
            }
            let failure = commit(&store, vec![row(Table::Meta, "k", "v")]).unwrap_err();
            assert_eq!(store.halted(), Some(failure.clone()));
            disk.heal();
            if matches!(failure, Failure::Full(_)) {
                resume(&store).unwrap();
                drop(store);
                let image = Store::open_on(disk.plug()).unwrap().image().unwrap();
                assert_eq!(image.rows.len(), model.image().rows.len() + 1);
            }
        }
    }
}

#[test]
fn a_store_that_cannot_even_be_made_is_refused() {
    let disk = Disk::new();
    disk.fail_after(0, Fault::Full);
    let error = Store::open_on(disk.plug()).unwrap_err().to_string();
    assert!(error.starts_with("the disk is full: "), "{error}");
}
