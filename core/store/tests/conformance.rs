//! Every backend does what the engine relies on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_store::Store;
use anabranch_store::backend::crashable::Disk;
use anabranch_store::conformance::{check, check_durable};

#[test]
fn a_store_in_memory_conforms() {
    check(&mut || Store::open_in_memory().unwrap());
}

#[test]
fn a_store_on_a_simulated_disk_conforms() {
    check(&mut || Store::open_with_backend(Disk::new().backend()).unwrap());
    let disk = Disk::new();
    check_durable(&mut || Store::open_with_backend(disk.backend()).unwrap());
}

#[test]
fn a_store_in_a_file_conforms() {
    let root = tempfile::tempdir().unwrap();
    let mut count = 0;
    check(&mut || {
        count += 1;
        Store::open(root.path().join(count.to_string())).unwrap()
    });
    check_durable(&mut || Store::open(root.path().join("kept")).unwrap());
}
