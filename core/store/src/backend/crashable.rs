//! A disk in memory that behaves as badly as real ones: it loses and tears what was not synced, fails at a chosen call,
//! and may lie about syncing. Tests and the simulator run the real store on it. What to break and when is their business.
//!
//! A [`Disk`] is what survives: it is cheap to clone and outlives the store on it. [`Disk::backend`] is one connection to
//! it. [`Disk::crash`] cuts the power: connections made before it fail from then on, and of the writes since the last
//! sync a seeded choice survives. Everything is a function of the calls made and the seeds given.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// Disks write whole sectors of this many bytes, or nothing of them.
const SECTOR: usize = 512;

/// A disk: one file's worth of bytes. Clones are handles to the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No room: writing, growing and syncing fail, reading works.
    Full,
    /// The device fails: every call does.
    Io,
}

/// What a power cut leaves of the writes since the last sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// The first ones, in order.
    Prefix,
    /// The first ones, and of the one after them some sectors.
    TornPrefix,
    /// Any of them, each whole.
    Subset,
    /// Any of their sectors.
    Sectors,
}

/// What happened in a crash, for traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// What was left of the unsynced writes.
    pub survival: Survival,
    /// Writes and length changes since the last sync.
    pub unsynced: usize,
}

#[derive(Default)]
struct State {
    /// What is safe.
    synced: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// What led from `synced` to `current`.
    unsynced: Vec<Change>,
    /// Counts crashes: a connection of an earlier one is dead.
    power_cycle: u64,
    /// The connection that holds the lock.
    locked_by: Option<u64>,
    connections: u64,
    calls: u64,
    plan: Option<Plan>,
    lies: bool,
}

struct Plan {
    /// Calls before this number work.
    from: u64,
    fault: Fault,
    once: bool,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

/// One connection to a [`Disk`], as given to redb.
pub struct Connection {
    disk: Disk,
    power_cycle: u64,
    number: u64,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these bytes on it, all synced.
    pub fn from_image(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { current: bytes.clone(), synced: bytes, ..State::default() })))
    }

    /// A new connection, for [`crate::Store::open_with_backend`].
    pub fn backend(&self) -> Connection {
        let mut state = self.state();
        state.connections += 1;
        Connection { disk: self.clone(), power_cycle: state.power_cycle, number: state.connections }
    }

    /// Cuts the power. What survives of the unsynced writes is drawn from `seed`; planned faults are forgotten.
    pub fn crash(&self, seed: u64) -> Crash {
        let mut state = self.state();
        let (image, crash) = state.crash_image(seed);
        state.current.clone_from(&image);
        state.synced = image;
        state.unsynced.clear();
        state.power_cycle += 1;
        state.locked_by = None;
        state.plan = None;
        crash
    }

    /// What [`Disk::crash`] with this seed would leave, without doing it.
    pub fn crash_image(&self, seed: u64) -> Vec<u8> {
        self.state().crash_image(seed).0
    }

    /// What reads see now: with [`Disk::from_image`], a copy of the disk, as a backup or a cloned machine would have it.
    pub fn image(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    /// Lets `calls` more calls work; every later one fails until [`Disk::heal`] or a crash.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        self.plan(calls, fault, false);
    }

    /// Lets `calls` more calls work; the next one that the fault can hit fails, and those after it work.
    pub fn fail_once_after(&self, calls: u64, fault: Fault) {
        self.plan(calls, fault, true);
    }

    fn plan(&self, calls: u64, fault: Fault, once: bool) {
        let mut state = self.state();
        state.plan = Some(Plan { from: state.calls + calls, fault, once });
    }

    /// Forgets planned faults.
    pub fn heal(&self) {
        self.state().plan = None;
    }

    /// Whether syncing says that it worked and does nothing.
    pub fn lie_about_sync(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Changes one bit, on the disk and in what reads see, as rot does. Bits beyond the end are left alone.
    pub fn flip_bit(&self, bit: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Ok(byte) = usize::try_from(bit / 8) else { return };
        for bytes in [&mut state.synced, &mut state.current] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Reads, writes, length changes and syncs so far, failed ones too.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Writes and length changes since the last sync.
    pub fn unsynced(&self) -> usize {
        self.state().unsynced.len()
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.state().current.len() as u64
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.state().current.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held is redb's: the bytes are whole after every call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Disk").field("len", &state.current.len()).field("unsynced", &state.unsynced.len()).finish()
    }
}

impl State {
    /// Counts a call and fails it where that is planned.
    fn call(&mut self, writes: bool) -> io::Result<()> {
        let number = self.calls;
        self.calls += 1;
        let hit = |plan: &Plan| number >= plan.from && (writes || plan.fault == Fault::Io);
        let Some((fault, once)) = self.plan.as_ref().filter(|plan| hit(plan)).map(|plan| (plan.fault, plan.once))
        else {
            return Ok(());
        };
        if once {
            self.plan = None;
        }
        Err(match fault {
            Fault::Full => io::ErrorKind::StorageFull.into(),
            Fault::Io => io::Error::other("the simulated disk failed"),
        })
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    fn crash_image(&self, seed: u64) -> (Vec<u8>, Crash) {
        let mut dice = Dice(seed);
        let survival = match dice.below(6) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::Prefix,
            3 => Survival::TornPrefix,
            4 => Survival::Subset,
            _ => Survival::Sectors,
        };
        let count = self.unsynced.len();
        let crash = Crash { survival, unsynced: count };
        if survival == Survival::Everything {
            return (self.current.clone(), crash);
        }
        let mut image = self.synced.clone();
        let kept = dice.below(count as u64 + 1) as usize;
        // A file system keeps changes of length in order (they are in its journal) while data may reach the disk in any.
        let lengths = self.unsynced.iter().filter(|change| matches!(change, Change::Length(_))).count() as u64;
        let mut lengths_kept = dice.below(lengths + 1);
        for (i, change) in self.unsynced.iter().enumerate() {
            match (survival, change) {
                (Survival::Nothing | Survival::Everything, _) => {}
                (Survival::Prefix | Survival::TornPrefix, _) if i < kept => change.apply(&mut image),
                (Survival::TornPrefix, Change::Write { offset, data }) if i == kept => {
                    write_some_sectors(&mut image, *offset, data, &mut dice);
                }
                (Survival::Prefix | Survival::TornPrefix, _) => {}
                (Survival::Subset | Survival::Sectors, Change::Length(_)) => {
                    if lengths_kept > 0 {
                        lengths_kept -= 1;
                        change.apply(&mut image);
                    }
                }
                (Survival::Subset, Change::Write { .. }) => {
                    if dice.below(2) == 0 {
                        change.apply(&mut image);
                    }
                }
                (Survival::Sectors, Change::Write { offset, data }) => {
                    write_some_sectors(&mut image, *offset, data, &mut dice);
                }
            }
        }
        (image, crash)
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => write_inside(bytes, *offset, data),
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

/// Writes what fits: beyond a length that did not survive, the data did not either.
fn write_inside(bytes: &mut [u8], offset: usize, data: &[u8]) {
    let end = bytes.len().min(offset.saturating_add(data.len()));
    if let Some(room) = bytes.get_mut(offset..end) {
        room.copy_from_slice(&data[..room.len()]);
    }
}

fn write_some_sectors(bytes: &mut [u8], offset: usize, data: &[u8], dice: &mut Dice) {
    let mut at = 0;
    while at < data.len() {
        // Sectors are aligned on the disk, not in the write.
        let end = data.len().min(at + SECTOR - (offset + at) % SECTOR);
        if dice.below(2) == 0 {
            write_inside(bytes, offset + at, &data[at..end]);
        }
        at = end;
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): all the randomness that a crash needs, the same everywhere and for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

impl Connection {
    fn state(&self, writes: bool) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state();
        if state.power_cycle != self.power_cycle {
            return Err(cut_off());
        }
        state.call(writes)?;
        Ok(state)
    }
}

fn cut_off() -> io::Error {
    io::Error::other("the simulated disk was cut off")
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.disk).finish()
    }
}

impl StorageBackend for Connection {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state(false)?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state(false)?;
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = state.current.get(from..from.saturating_add(out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.state(true)?.change(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.state(true)?;
        let state = &mut *guard;
        if !state.lies {
            for change in state.unsynced.drain(..) {
                change.apply(&mut state.synced);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match self.state(true) {
            Ok(mut state) => {
                if offset.saturating_add(data.len()) > state.current.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                state.change(Change::Write { offset, data: data.to_vec() });
                Ok(())
            }
            Err(error) => {
                // A write that fails may have got half way.
                let mut state = self.disk.state();
                if state.power_cycle == self.power_cycle {
                    state.change(Change::Write { offset, data: data[..data.len() / 2].to_vec() });
                }
                Err(error)
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.locked_by == Some(self.number) {
            state.locked_by = None;
        }
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        // Only the whole disk can be locked; redb asks for that when parts are refused.
        if !matches!(start, Bound::Unbounded | Bound::Included(0)) || end != Bound::Unbounded {
            return Err(BackendError::Unsupported);
        }
        let mut state = self.disk.state();
        if state.power_cycle != self.power_cycle {
            return Err(cut_off().into());
        }
        if state.locked_by.is_some_and(|holder| holder != self.number) {
            return Ok(false);
        }
        state.locked_by = Some(self.number);
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        self.close().map_err(BackendError::from)
    }
}

#[cfg(test)]
mod tests {
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
}
