//! Power cuts: whatever a disk keeps of unsynced writes, the store opens and holds every commit that was answered.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_engine::storage::{Row, Table};
use anabranch_store::Store;
use anabranch_store::backend::crashable::{Disk, Fault};
use anabranch_store::conformance::{Model, commit, removal, row, scan};

/// Opens a disk and tells which of the given states it holds.
fn state_after(image: Vec<u8>, states: &[Model]) -> Option<usize> {
    let store = Store::open_with_backend(Disk::from_image(image).backend()).unwrap();
    let holds = |model: &Model| {
        store.image().unwrap() == model.image()
            && scan(&store, Table::Runs, &[], &[], usize::MAX).unwrap().rows == model.rows(Table::Runs)
    };
    states.iter().position(holds)
}

#[test]
fn acknowledged_commits_survive_a_power_cut_between_commits() {
    let disk = Disk::new();
    let mut model = Model::default();
    let mut seed = 11;
    let store = Store::open_with_backend(disk.backend()).unwrap();
    for round in 0..50 {
        commit(&store, model.step(&mut seed)).unwrap();
        for image in 0..8 {
            let image = disk.crash_image(round * 100 + image);
            assert_eq!(state_after(image, &[model.clone()]), Some(0), "round {round}");
        }
    }
}

/// Cuts the power at every call inside a commit. The state must be the one before it or the one after it.
#[test]
fn a_power_cut_inside_a_commit_leaves_all_of_it_or_nothing() {
    let mut images = 0;
    let mut seen = [0; 2];
    for round in 0..12u64 {
        let base = Disk::new();
        let (mut before, mut seed) = (Model::default(), round * 1000);
        let store = Store::open_with_backend(base.backend()).unwrap();
        for _ in 0..6 {
            commit(&store, before.step(&mut seed)).unwrap();
        }
        drop(store);
        let mut after = before.clone();
        let rows = after.step(&mut seed);
        let states = [before, after];

        for calls in 0.. {
            let disk = Disk::from_image(base.image());
            let store = Store::open_with_backend(disk.backend()).unwrap();
            disk.fail_after(calls, Fault::Io);
            let result = commit(&store, rows.clone());
            for seed in 0..6 {
                let state = state_after(disk.crash_image(calls * 10 + seed), &states);
                let state = state.unwrap_or_else(|| panic!("round {round}, call {calls}, seed {seed}: a mixed state"));
                assert!(result.is_err() || state == 1, "round {round}, call {calls}, seed {seed}: a commit was lost");
                seen[state] += 1;
                images += 1;
            }
            // The power goes before the store can close.
            disk.crash(calls);
            drop(store);
            if result.is_ok() {
                break;
            }
        }
    }
    println!("{images} images, {seen:?} before and after");
    assert!(images > 300 && seen[0] > 50 && seen[1] > 50, "{images} images, {seen:?}");
}

/// A life of crashes on one disk: each start goes on from what the last power cut left.
#[test]
fn a_store_lives_through_two_hundred_power_cuts() {
    let disk = Disk::new();
    let mut certain = Model::default();
    let mut maybe: Option<Model> = None;
    let mut seed = 77;
    for life in 0..200u64 {
        let store = Store::open_with_backend(disk.backend()).unwrap();
        let image = store.image().unwrap();
        if let Some(maybe) = maybe.take()
            && image == maybe.image()
        {
            certain = maybe;
        }
        certain.assert_equals(&store);
        for _ in 0..life % 4 {
            commit(&store, certain.step(&mut seed)).unwrap();
        }
        disk.fail_after(life % 23, Fault::Io);
        let mut next = certain.clone();
        match commit(&store, next.step(&mut seed)) {
            Ok(()) => certain = next,
            Err(_) => maybe = Some(next),
        }
        disk.crash(life);
    }
}

/// Nothing can keep commits on such a disk; it must not give back bytes that were never written.
#[test]
fn a_disk_that_lies_about_syncing_yields_an_old_state_or_an_error() {
    let (mut opened, mut refused) = (0, 0);
    for round in 0..60u64 {
        let disk = Disk::new();
        let mut model = Model::default();
        let mut states = vec![model.clone()];
        let mut seed = round;
        let store = Store::open_with_backend(disk.backend()).unwrap();
        commit(&store, model.step(&mut seed)).unwrap();
        states.push(model.clone());
        disk.lie_about_sync(true);
        for _ in 0..6 {
            commit(&store, model.step(&mut seed)).unwrap();
            states.push(model.clone());
        }
        for seed in 0..5 {
            let Ok(store) = Store::open_with_backend(Disk::from_image(disk.crash_image(seed)).backend()) else {
                refused += 1;
                continue;
            };
            opened += 1;
            let runs = scan(&store, Table::Runs, &[], &[], usize::MAX);
            if let (Ok(image), Ok(runs)) = (store.image(), runs) {
                let known = states.iter().any(|state| state.image() == image && state.rows(Table::Runs) == runs.rows);
                assert!(known, "round {round}, seed {seed}: a state that never was");
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > 0);
}

#[test]
fn a_removed_row_stays_removed() {
    let disk = Disk::new();
    let store = Store::open_with_backend(disk.backend()).unwrap();
    let feed = |key: &str| -> Row { row(Table::Feed, key, "x") };
    commit(&store, vec![feed("1"), feed("2")]).unwrap();
    commit(&store, vec![removal(Table::Feed, "1"), feed("3")]).unwrap();
    disk.crash(0);
    let store = Store::open_with_backend(disk.backend()).unwrap();
    let keys: Vec<_> = store.image().unwrap().rows.into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, [b"2", b"3"]);
}
