//! Disks that fail or fill up: one clean failure, the same one from then on, and everything answered is there again
//! once the disk works.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_engine::storage::{Failure, Table};
use anabranch_store::backend::crashable::{Disk, Fault};
use anabranch_store::conformance::{Model, commit, row, scan};
use anabranch_store::{OpenError, Store};

fn failing(fault: Fault, once: bool) {
    let mut failures = 0;
    for calls in 1..60 {
        let disk = Disk::new();
        let mut certain = Model::default();
        let mut seed = calls;
        let store = Store::open_with_backend(disk.backend()).unwrap();
        for _ in 0..3 {
            commit(&store, certain.step(&mut seed)).unwrap();
        }
        if once {
            disk.fail_once_after(calls, fault);
        } else {
            disk.fail_after(calls, fault);
        }

        let mut maybe = certain.clone();
        let mut failure = None;
        for _ in 0..40 {
            match commit(&store, maybe.step(&mut seed)) {
                Ok(()) => certain = maybe.clone(),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let failure = failure.expect("forty commits make more than sixty calls");
        failures += 1;
        match fault {
            Fault::Full => {
                assert!(matches!(&failure, Failure::Full(_)), "call {calls}: {failure}");
                assert!(failure.to_string().starts_with("the disk is full: the given disk: "), "{failure}");
            }
            Fault::Io | Fault::Read | Fault::Sync | Fault::ReadOnly | Fault::Misdirected | Fault::Lost => {
                assert!(matches!(failure, Failure::Io(_)), "call {calls}: {failure}");
            }
        }
        // The store says the same for everything that follows, also if the disk is well again.
        disk.heal();
        assert_eq!(store.failed(), Some(&failure));
        assert_eq!(commit(&store, vec![row(Table::Meta, "k", "v")]), Err(failure.clone()));
        assert_eq!(scan(&store, Table::Runs, &[], &[], 1), Err(failure.clone()));
        assert_eq!(store.image(), Err(failure));
        store.close();

        let store = Store::open_with_backend(disk.backend()).unwrap();
        let state = if store.image().unwrap() == maybe.image() { &mut maybe } else { &mut certain };
        state.assert_equals(&store);
        commit(&store, state.step(&mut seed)).unwrap();
        state.assert_equals(&store);
    }
    assert_eq!(failures, 59);
}

#[test]
fn a_disk_that_fills_up_fails_clean_at_any_call() {
    failing(Fault::Full, false);
}

#[test]
fn a_disk_that_breaks_fails_clean_at_any_call() {
    failing(Fault::Io, false);
}

#[test]
fn a_disk_that_cannot_sync_or_is_read_only_fails_clean_at_any_call() {
    failing(Fault::Sync, false);
    failing(Fault::Sync, true);
    failing(Fault::ReadOnly, false);
}

#[test]
fn a_single_failed_call_stops_the_store_too() {
    failing(Fault::Io, true);
    failing(Fault::Full, true);
}

#[test]
fn opening_fails_clean_at_any_call_and_works_later() {
    let clean = Disk::new();
    let mut model = Model::default();
    let store = Store::open_with_backend(clean.backend()).unwrap();
    for seed in 0..4 {
        commit(&store, model.step(&mut { seed })).unwrap();
    }
    // One disk that was closed, one whose power was cut.
    let cut = Disk::from_image(clean.crash_image(1));
    drop(store);
    for base in [clean, cut] {
        for fault in [Fault::Full, Fault::Io] {
            let mut opened = false;
            for calls in 0..200 {
                let disk = Disk::from_image(base.image());
                disk.fail_after(calls, fault);
                match Store::open_with_backend(disk.backend()) {
                    Ok(_) => {
                        opened = true;
                        break;
                    }
                    Err(error @ OpenError::Full { .. }) => {
                        assert_eq!(fault, Fault::Full);
                        assert!(error.to_string().starts_with("the disk is full: "), "{error}");
                    }
                    Err(OpenError::Io { .. }) => assert_eq!(fault, Fault::Io),
                    Err(error) => panic!("call {calls}: {error}"),
                }
                disk.heal();
                model.assert_equals(&Store::open_with_backend(disk.backend()).unwrap());
            }
            assert!(opened);
        }
    }
}

#[test]
fn a_store_that_cannot_be_made_says_why() {
    for fault in [Fault::Full, Fault::Io] {
        for calls in 0..8 {
            let disk = Disk::new();
            disk.fail_after(calls, fault);
            let error = Store::open_with_backend(disk.backend()).unwrap_err();
            assert_eq!(matches!(error, OpenError::Full { .. }), fault == Fault::Full && disk.calls() > 0, "{error}");
        }
    }
}
