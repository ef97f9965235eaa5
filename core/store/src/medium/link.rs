//! One connection of a store, as redb sees it: with a layer over it where nothing may be written, and with a memory of whether
//! syncing ever failed.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use super::layer::Layer;

/// Set when syncing failed. What the system's cache says of a file since then may not be what is on the disk.
pub(crate) type Doubt = Arc<AtomicBool>;

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    below: Box<dyn StorageBackend>,
    layer: Option<Mutex<Layer>>,
    doubt: Doubt,
}

impl Link {
    /// A connection that writes.
    pub(crate) fn writing(below: Box<dyn StorageBackend>, doubt: Doubt) -> Self {
        Self { below, layer: None, doubt }
    }

    /// A connection of which everything that is written stays in memory.
    pub(crate) fn reading(below: Box<dyn StorageBackend>) -> io::Result<Self> {
        let layer = Layer::over(below.len()?);
        Ok(Self { below, layer: Some(Mutex::new(layer)), doubt: Doubt::default() })
    }

    fn layer(&self) -> Option<MutexGuard<'_, Layer>> {
        self.layer.as_ref().map(|layer| layer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StorageBackend for Link {
    fn len(&self) -> io::Result<u64> {
        match self.layer() {
            Some(layer) => Ok(layer.length()),
            None => self.below.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.layer() {
            Some(layer) => layer.read(offset, out, |offset, out| self.below.read(offset, out)),
            None => self.below.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.layer() {
            Some(mut layer) => {
                layer.set_length(len);
                Ok(())
            }
            None => self.below.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.layer.is_some() {
            return Ok(());
        }
        self.below.sync_data().inspect_err(|_| self.doubt.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.layer() {
            Some(mut layer) => layer.write(offset, data, |offset, out| self.below.read(offset, out)),
            None => self.below.write(offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    // What is only read may not be lockable (files that are open for reading only are not, by range): then the store's own
    // lock has to do.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let locked = self.below.try_lock_range(start, end);
        if self.layer.is_some() { Ok(locked.unwrap_or(true)) } else { locked }
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let locked = self.below.try_lock_shared_range(start, end);
        if self.layer.is_some() { Ok(locked.unwrap_or(true)) } else { locked }
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        let locked = self.below.lock_range(start, end);
        if self.layer.is_some() { Ok(()) } else { locked }
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        let locked = self.below.lock_shared_range(start, end);
        if self.layer.is_some() { Ok(()) } else { locked }
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        let unlocked = self.below.unlock_range(start, end);
        if self.layer.is_some() { Ok(()) } else { unlocked }
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let locked = self.below.query_lock_range(start, end);
        if self.layer.is_some() { Ok(locked.unwrap_or(false)) } else { locked }
    }
}
