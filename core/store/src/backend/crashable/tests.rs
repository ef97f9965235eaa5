//! What the disk does to those who trust it.

use std::io;
use std::ops::Bound;

use redb::StorageBackend as _;

use super::*;

fn written(disk: &Disk) -> Connection {
    let backend = disk.backend();
    backend.set_len(4096).unwrap();
    backend.write(0, &[1; 2048]).unwrap();
    backend.sync_data().unwrap();
    backend.write(512, &[2; 1024]).unwrap();
    backend.write(2048, &[3; 1024]).unwrap();
    backend
}

#[test]
fn synced_writes_survive_every_crash_and_others_survive_some() {
    let (mut none, mut all, mut torn) = (0, 0, 0);
    for seed in 0..500 {
        let disk = Disk::new();
        written(&disk);
        let full = disk.image();
        let crash = disk.crash(seed);
        let image = disk.image();
        assert_eq!(crash.unsynced, 2);
        assert_eq!(image.len(), 4096);
        assert_eq!(image[..512], [1; 512]);
        assert_eq!(image[1536..2048], [1; 512]);
        match () {
            () if image == full => all += 1,
            () if image[512..1536] == [1; 1024] && image[2048..] == [0; 2048] => none += 1,
            () => torn += 1,
        }
        assert!(image[512..1024].iter().all(|byte| *byte == image[512]), "a sector is never split");
    }
    assert!(none > 50 && all > 50 && torn > 50, "{none} {all} {torn}");
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    let disks = [Disk::new(), Disk::new()];
    for disk in &disks {
        written(disk);
    }
    for seed in 0..100 {
        assert_eq!(disks[0].crash_image(seed), disks[1].crash_image(seed));
    }
    let crash = disks[0].crash(7);
    assert_eq!(disks[0].image(), disks[1].crash_image(7));
    assert_eq!(crash, disks[1].crash(7));
}

#[test]
fn a_connection_dies_with_the_power() {
    let disk = Disk::new();
    let old = written(&disk);
    disk.crash(1);
    let image = disk.image();
    assert!(old.write(0, &[9; 512]).is_err());
    assert!(old.sync_data().is_err());
    assert_eq!(disk.image(), image);
    assert!(disk.backend().sync_data().is_ok());
}

#[test]
fn a_connection_that_is_cut_off_leaves_what_it_wrote_unsynced() {
    let disk = Disk::new();
    let old = written(&disk);
    disk.fail_after(0, Fault::Io);
    let (image, unsynced) = (disk.image(), disk.unsynced());
    disk.cut_off();
    assert!(old.write(0, &[9; 512]).is_err());
    assert_eq!((disk.image(), disk.unsynced()), (image, unsynced));
    assert!((0..100).any(|seed| disk.crash_image(seed) != disk.image()), "the power may still take it");
    assert!(disk.backend().sync_data().is_ok());
    assert_eq!(disk.unsynced(), 0);
}

#[test]
fn a_disk_that_lies_loses_what_it_said_was_synced() {
    let disk = Disk::new();
    disk.lie_about_sync(true);
    let backend = written(&disk);
    backend.sync_data().unwrap();
    assert_eq!(disk.unsynced(), 4);
    assert!((0..100).any(|seed| disk.crash_image(seed).is_empty()));
}

#[test]
fn faults_come_at_their_call_and_end_with_healing() {
    let disk = Disk::new();
    let backend = written(&disk);
    disk.fail_after(1, Fault::Full);
    backend.write(0, &[4; 512]).unwrap();
    assert_eq!(backend.write(0, &[5; 512]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(backend.read(0, &mut [0; 8]).is_ok(), "a full disk can be read");
    assert!(backend.sync_data().is_err());
    disk.heal();
    backend.sync_data().unwrap();
    disk.fail_once_after(0, Fault::Io);
    assert!(backend.read(0, &mut [0; 8]).is_err());
    assert!(backend.read(0, &mut [0; 8]).is_ok());
    disk.fail_once_after(0, Fault::Read);
    assert!(backend.write(0, &[6; 512]).is_ok() && backend.sync_data().is_ok());
    assert!(backend.read(0, &mut [0; 8]).is_err());
}

#[test]
fn one_connection_at_a_time_holds_the_lock() {
    let disk = Disk::new();
    let (first, second) = (disk.backend(), disk.backend());
    let whole = (Bound::Unbounded, Bound::Unbounded);
    assert!(first.try_lock_range(whole.0, whole.1).unwrap());
    assert!(!second.try_lock_range(whole.0, whole.1).unwrap());
    first.close().unwrap();
    assert!(second.try_lock_range(whole.0, whole.1).unwrap());
    assert!(first.try_lock_range(Bound::Included(4), Bound::Excluded(5)).is_err());
}

#[test]
fn sectors_of_a_page_are_never_split_where_the_disk_has_large_ones() {
    let disk = Disk::new();
    disk.set_sector(4096);
    let backend = disk.backend();
    backend.set_len(4 * 4096).unwrap();
    backend.sync_data().unwrap();
    backend.write(0, &[7; 3 * 4096]).unwrap();
    let mut torn = 0;
    for seed in 0..200 {
        let image = disk.crash_image(seed);
        for page in image.chunks(4096) {
            assert!(page.iter().all(|byte| *byte == page[0]));
        }
        let pages: Vec<u8> = image.chunks(4096).map(|page| page[0]).collect();
        torn += u32::from(pages[..3] != [0; 3] && pages[..3] != [7; 3]);
    }
    assert!(torn > 20, "{torn}");
}

#[test]
fn a_misdirected_write_lands_elsewhere_and_a_lost_one_nowhere() {
    let disk = Disk::new();
    let backend = written(&disk);
    backend.sync_data().unwrap();
    let before = disk.image();
    disk.fail_once_after(0, Fault::Lost);
    backend.write(0, &[8; 512]).unwrap();
    assert_eq!(disk.image(), before);
    disk.fail_once_after(0, Fault::Misdirected);
    backend.write(0, &[8; 512]).unwrap();
    let after = disk.image();
    assert_eq!(after[..512], before[..512]);
    let there: Vec<usize> = (0..8).filter(|sector| after[sector * 512..][..512] == [8; 512]).collect();
    assert_eq!(there.len(), 1, "{there:?}");
    assert_eq!(disk.faults(), 2);
    for seed in 0..50 {
        let place = misplace(512, 512, 4096, 512, seed);
        assert!(place != 512 && place + 512 <= 4096 && place.is_multiple_of(512));
    }
}

#[test]
fn a_disk_that_is_read_only_or_cannot_sync_says_so() {
    let disk = Disk::new();
    let backend = written(&disk);
    disk.fail_after(0, Fault::Sync);
    backend.write(0, &[4; 512]).unwrap();
    assert!(backend.sync_data().is_err());
    disk.fail_after(0, Fault::ReadOnly);
    assert_eq!(backend.write(0, &[5; 512]).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(backend.set_len(0).is_err());
    assert!(backend.read(0, &mut [0; 8]).is_ok());
}

#[test]
fn rot_flips_about_as_many_bits_as_asked() {
    let disk = Disk::from_image(vec![0; 64 * 1024]);
    let flipped: u64 = (0..400).map(|seed| disk.rot(40, seed)).sum();
    assert!((900..1100).contains(&flipped), "{flipped} where 1000 were expected");
    assert!(disk.image().iter().any(|byte| *byte != 0));
    disk.truncate(100);
    assert_eq!((disk.len(), disk.crash_image(3).len()), (100, 100));
    assert_eq!(Disk::new().rot(40, 1), 0);
}

#[test]
fn slow_syncs_are_counted_for_a_simulated_clock() {
    let disk = Disk::new();
    let backend = disk.backend();
    disk.slow_syncs(250_000);
    backend.sync_data().unwrap();
    backend.sync_data().unwrap();
    assert_eq!((disk.take_waited(), disk.take_waited()), (500_000, 0));
}

#[test]
fn a_history_gives_what_a_crash_at_that_moment_would_have_left() {
    let disk = Disk::new();
    disk.record();
    let backend = written(&disk);
    let (history, last) = (disk.history(), disk.steps());
    assert_eq!((history.len(), last), (5, 5));
    let mut moment = history.begin();
    moment.advance(2);
    assert!(moment.cut(Survival::Nothing, SECTOR, 0).is_empty());
    assert_eq!(moment.cut(Survival::Everything, SECTOR, 0)[..2048], [1; 2048]);
    moment.advance(last);
    assert_eq!(moment.cut(Survival::Everything, SECTOR, 0), disk.image());
    assert_eq!(moment.cut(Survival::Nothing, SECTOR, 0)[..2048], [1; 2048]);

    let mut moment = history.begin();
    moment.lie();
    moment.advance(last);
    assert!(moment.cut(Survival::Nothing, SECTOR, 0).is_empty());

    let lost = history.with_a_lost_write(1).unwrap();
    let mut moment = lost.begin();
    moment.advance(last);
    assert_eq!(moment.cut(Survival::Everything, SECTOR, 0)[..512], [0; 512]);
    let astray = history.misdirected(1, SECTOR, 5).unwrap();
    let mut moment = astray.begin();
    moment.advance(3);
    let image = moment.cut(Survival::Everything, SECTOR, 0);
    assert_eq!(image.iter().filter(|byte| **byte == 1).count(), 2048);
    assert_ne!(image[..2048], [1; 2048]);
    assert!(history.with_a_lost_write(5).is_none() && history.misdirected(5, SECTOR, 0).is_none());
    drop(backend);
}
