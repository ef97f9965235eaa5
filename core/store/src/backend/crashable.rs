//! A disk in memory that behaves as badly as real ones: it loses and tears what was not synced, fails at a chosen call,
//! writes to the wrong place, rots, and may lie about syncing. Tests and the simulator run the real store on it. What to
//! break and when is their business.
//!
//! A [`Disk`] is what survives: it is cheap to clone and outlives the store on it. [`Disk::backend`] is one connection to
//! it. [`Disk::crash`] cuts the power: connections made before it fail from then on, and of the writes since the last
//! sync a seeded choice survives. A [`History`] gives every image that a cut could have left along the way. Everything
//! is a function of the calls made and the seeds given.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod change;
mod connection;
mod cut;
mod dice;
mod fault;
mod history;
#[cfg(test)]
mod tests;

use change::Change;
pub use connection::{Connection, Plug};
pub use cut::{Crash, Survival};
use dice::Dice;
pub use fault::Fault;
use fault::{Call, Plan};
use history::Step;
pub use history::{History, Moment};

/// Disks write whole sectors of this many bytes, or nothing of them, unless [`Disk::set_sector`] says otherwise.
pub const SECTOR: usize = 512;

/// A disk: one file's worth of bytes. Clones are handles to the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

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
    faults: u64,
    plan: Option<Plan>,
    lies: bool,
    sector: usize,
    sync_micros: u64,
    waited_micros: u64,
    recorded: Option<History>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            synced: Vec::new(),
            current: Vec::new(),
            unsynced: Vec::new(),
            power_cycle: 0,
            locked_by: None,
            connections: 0,
            calls: 0,
            faults: 0,
            plan: None,
            lies: false,
            sector: SECTOR,
            sync_micros: 0,
            waited_micros: 0,
            recorded: None,
        }
    }
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

    /// The disk for [`crate::Store::open_on`], until the power goes or all connections are cut off.
    pub fn plug(&self) -> Plug {
        Plug { disk: self.clone(), power_cycle: self.state().power_cycle }
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
        state.recorded = None;
        crash
    }

    /// Cuts all connections off, as when a process is killed: what they wrote is there, synced or not. Planned faults are
    /// forgotten.
    pub fn cut_off(&self) {
        let mut state = self.state();
        state.power_cycle += 1;
        state.locked_by = None;
        state.plan = None;
    }

    /// What [`Disk::crash`] with this seed would leave, without doing it.
    pub fn crash_image(&self, seed: u64) -> Vec<u8> {
        self.state().crash_image(seed).0
    }

    /// What reads see now: with [`Disk::from_image`], a copy of the disk, as a backup or a cloned machine would have it.
    pub fn image(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    /// Lets `calls` more calls work; every later one that the fault can hit goes wrong until [`Disk::heal`] or a crash.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        self.plan(calls, fault, false);
    }

    /// Lets `calls` more calls work; the next one that the fault can hit goes wrong, and those after it work.
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

    /// Calls that went wrong as planned.
    pub fn faults(&self) -> u64 {
        self.state().faults
    }

    /// Whether syncing says that it worked and does nothing.
    pub fn lie_about_sync(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Writes are torn into sectors of this many bytes: 512 and 4096 are what disks have.
    pub fn set_sector(&self, bytes: usize) {
        self.state().sector = bytes.max(1);
    }

    /// Every sync takes so long from now on. It is only counted: [`Disk::take_waited`] says what it has come to.
    pub fn slow_syncs(&self, micros: u64) {
        self.state().sync_micros = micros;
    }

    /// Microseconds that syncs took since this was last asked, for a clock that is simulated.
    pub fn take_waited(&self) -> u64 {
        std::mem::take(&mut self.state().waited_micros)
    }

    /// Changes one bit, on the disk and in what reads see, as rot does. Bits beyond the end are left alone.
    pub fn flip_bit(&self, bit: u64) {
        self.state().flip_bit(bit);
    }

    /// Changes bits all over the disk, so many in each MiB on average, at places drawn from `seed`. Returns how many.
    pub fn rot(&self, bits_per_mib: u64, seed: u64) -> u64 {
        let mut state = self.state();
        let bits = state.current.len() as u64 * 8;
        if bits == 0 {
            return 0;
        }
        let mut dice = Dice(seed);
        let expected = bits_per_mib * bits;
        let per = 8 * 1024 * 1024;
        // The part of a bit that is left over is one with that probability.
        let count = expected / per + u64::from(dice.below(per) < expected % per);
        for _ in 0..count {
            let bit = dice.below(bits);
            state.flip_bit(bit);
        }
        count
    }

    /// Cuts the disk to this length, if it is longer, as a file system does that was repaired.
    pub fn truncate(&self, length: usize) {
        let mut state = self.state();
        state.synced.truncate(length);
        state.current.truncate(length);
    }

    /// Notes every change and sync from now on, for [`Disk::history`]. What was not synced before counts as synced.
    pub fn record(&self) {
        let mut state = self.state();
        state.recorded = Some(History { start: state.current.clone(), steps: Vec::new() });
    }

    /// What was done since [`Disk::record`]; nothing, if that was never called.
    pub fn history(&self) -> History {
        self.state().recorded.clone().unwrap_or(History { start: Vec::new(), steps: Vec::new() })
    }

    /// Changes and syncs since [`Disk::record`].
    pub fn steps(&self) -> usize {
        self.state().recorded.as_ref().map_or(0, History::len)
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
    /// Counts a call, and says how it goes wrong where that is planned.
    fn call(&mut self, call: Call) -> Option<Fault> {
        let number = self.calls;
        self.calls += 1;
        if call == Call::Sync {
            self.waited_micros += self.sync_micros;
        }
        let plan = self.plan.as_ref().filter(|plan| plan.hits(number, call))?;
        let fault = plan.fault;
        if plan.once {
            self.plan = None;
        }
        self.faults += 1;
        Some(fault)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        if let Some(history) = &mut self.recorded {
            history.steps.push(Step::Change(change.clone()));
        }
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        if self.lies {
            return;
        }
        if let Some(history) = &mut self.recorded {
            history.steps.push(Step::Sync);
        }
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    fn flip_bit(&mut self, bit: u64) {
        let Ok(byte) = usize::try_from(bit / 8) else { return };
        for bytes in [&mut self.synced, &mut self.current] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn crash_image(&self, seed: u64) -> (Vec<u8>, Crash) {
        let mut dice = Dice(seed);
        let survival = Survival::draw(&mut dice);
        let crash = Crash { survival, unsynced: self.unsynced.len() };
        if survival == Survival::Everything {
            return (self.current.clone(), crash);
        }
        let unsynced: Vec<&Change> = self.unsynced.iter().collect();
        (survival.image(&self.synced, &unsynced, self.sector, &mut dice), crash)
    }
}

/// Where a write lands that misses its place: on a sector boundary, inside the disk, and not where it should.
fn misplace(offset: usize, bytes: usize, length: usize, sector: usize, seed: u64) -> usize {
    let places = length.saturating_sub(bytes) / sector + 1;
    let drawn = Dice(seed).below(places as u64) as usize * sector;
    let next = if drawn + sector + bytes <= length { drawn + sector } else { 0 };
    if drawn == offset { next } else { drawn }
}
