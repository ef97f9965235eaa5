//! Executes the engine's storage requests on redb: on a file, in memory, or on any [`redb::StorageBackend`].
//!
//! What a request means is [`anabranch_engine::storage`]'s business; when to make one, and what follows from a failure,
//! is the engine's. This crate never retries. The layout of the bytes is `docs/storage.md`; in short:
//!
//! ```text
//! DIRECTORY                  locked while the store is open, as is store.lock in it
//! DIRECTORY/spaces           a copy of the rows that no peer can give back
//! DIRECTORY/store.redb       one redb file, commits are 1-phase and fsynced
//!   table format-1           "format"  -> checksum ‖ "anabranch store" ‖ version
//!   table meta-1 .. peers-1  key       -> checksum ‖ value
//! checksum = BLAKE3(table number ‖ key length ‖ key ‖ value), cut to 16 bytes, checked on every read
//! ```
//!
//! redb does not notice a flipped bit, so the checksums do; and it may panic on a damaged file, so everything here runs
//! guarded. After a write that failed the store takes no more of them and goes on reading, on a connection of which nothing
//! reaches the disk, until [`Request::Resume`] or the next open; where even that fails, and after a panic, it answers every
//! request with the same [`Failure`] ([`Medium`]). What was committed before is safe.

pub mod backend;
pub mod conformance;

mod checksum;
#[cfg(not(target_family = "wasm"))]
mod copy;
#[cfg(not(target_family = "wasm"))]
mod directory;
mod error;
mod execute;
mod format;
#[cfg(not(target_family = "wasm"))]
mod keepsake;
pub mod medium;
mod salvage;
mod standing;
mod tables;

use std::mem;

#[cfg(not(target_family = "wasm"))]
use anabranch_engine::id::DeviceId;
use anabranch_engine::storage::{Failure, Image, Reply, Request};
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, StorageBackend};
use tracing::{info, warn};

pub use crate::error::OpenError;
use crate::error::opening;
pub use crate::format::VERSION;
use crate::medium::Medium;
pub use crate::salvage::Salvaged;
use crate::standing::Standing;

/// Memory that redb may use for pages. The operating system caches the file as well; this only saves calls.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// An open store. Requests may come from any thread; commits wait for each other.
///
/// Dropping it closes it. Every commit that was answered is on disk before that.
#[derive(Debug)]
pub struct Store {
    /// The copy of its spaces beside it.
    #[cfg(not(target_family = "wasm"))]
    copy: Option<std::sync::Mutex<copy::Copy>>,
    standing: Standing,
}

impl Store {
    /// Opens the store in a directory, which is created (0700) if it is missing, as is the store. On a disk that is full or
    /// fails when it is written to, it can be read ([`Store::halted`]).
    ///
    /// # Errors
    /// See [`OpenError`]. A failed open changes nothing that was committed.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        let standing = directory::open(path.as_ref(), directory::Missing::Make)?;
        info!(place = standing.place(), "store opened");
        Ok(Self::on(standing))
    }

    /// Opens the store of a device in a directory as [`Store::open_with_copy`] does. A store that is damaged is moved aside under another
    /// name and kept, and a new one is made of what is readable of it; one that is missing beside the copy of its spaces is made
    /// from that. Nothing else that keeps a store from opening is touched: one that is in use, not permitted, of a newer format,
    /// or on a disk that does not answer, and a file in which nothing of a store is found.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[cfg(not(target_family = "wasm"))]
    pub fn open_or_salvage(path: impl AsRef<std::path::Path>, device: DeviceId) -> Result<Opened, OpenError> {
        let path = path.as_ref();
        let damage = match Self::open_with_copy(path, device) {
            Ok(opened) => return Ok(opened),
            Err(error @ (OpenError::Damaged { .. } | OpenError::Foreign { .. })) => error,
            Err(error) => return Err(error),
        };
        let copied = keepsake::Copied::read(path, device);
        let (standing, salvaged) = directory::salvage(path, damage, &copied)?;
        warn!(%salvaged, "the store was salvaged");
        let (store, image) = Self::on(standing).keeping(path, device, &copied)?;
        Ok(Opened { store, image, salvaged: Some(salvaged) })
    }

    /// Opens the store of a device in a directory as [`Store::open`] does, reads its image, and keeps a copy of what no peer can
    /// give back beside it from now on. What the copy knows and the store does not is merged into the store. A damaged store is
    /// refused, as is one that is missing beside its copy.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[cfg(not(target_family = "wasm"))]
    pub fn open_with_copy(path: impl AsRef<std::path::Path>, device: DeviceId) -> Result<Opened, OpenError> {
        let path = path.as_ref();
        let copied = keepsake::Copied::read(path, device);
        let standing = directory::open(path, directory::Missing::MakeIfNew(&copied))?;
        info!(place = standing.place(), "store opened");
        let (store, image) = Self::on(standing).keeping(path, device, &copied)?;
        Ok(Opened { store, image, salvaged: None })
    }

    /// Reads the image, and begins to keep the copy.
    #[cfg(not(target_family = "wasm"))]
    fn keeping(
        mut self,
        path: &std::path::Path,
        device: DeviceId,
        copied: &keepsake::Copied,
    ) -> Result<(Self, Image), OpenError> {
        let mut copy = copy::Copy::new(directory::absolute(path), device);
        let place = self.standing.place().to_owned();
        let image = opening(&place, &directory::file(path), || copy.begin(&self.standing, copied));
        match image {
            Ok(image) => {
                self.copy = Some(std::sync::Mutex::new(copy));
                Ok((self, image))
            }
            Err(error) => {
                if matches!(error, OpenError::Damaged { .. }) {
                    self.standing.distrust();
                }
                Err(error)
            }
        }
    }

    /// Makes a store on an empty disk of the caller's from what is readable of a damaged one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn salvage_with_backend(
        damaged: impl std::io::Read + std::io::Seek,
        backend: impl StorageBackend,
    ) -> Result<(Self, Salvaged), OpenError> {
        let place = "the given disk";
        let (database, salvaged) = opening(place, place, || {
            // Where redb panics, its own drop might panic again, and that aborts.
            let database = mem::ManuallyDrop::new(format::check(builder().create_with_backend(backend)?)?);
            let wreck = salvage::Wreck { file: damaged, kept: salvage::Kept::default() };
            let salvaged = salvage::salvage(wreck, &database);
            Ok((mem::ManuallyDrop::into_inner(database), salvaged?))
        })?;
        Ok((Self::on(Standing::alone(place, database)), salvaged))
    }

    /// Opens the store on a medium of the caller's, making it where that is empty. If it can be read and not be written to, the
    /// store is [`Store::halted`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(medium: impl Medium) -> Result<Self, OpenError> {
        let place = "the given disk";
        Ok(Self::on(Standing::open(place, place, false, Box::new(medium))?))
    }

    /// A store that is gone when it is dropped.
    ///
    /// # Errors
    /// None in practice.
    pub fn open_in_memory() -> Result<Self, OpenError> {
        Self::open_in("memory", InMemoryBackend::new())
    }

    /// Opens the store on a disk of the caller's, making it where the disk is empty.
    ///
    /// A disk has no rename: where the first open of an empty disk does not return, start again with an empty one. After a
    /// failed call it cannot be connected to again, so the store answers nothing more: see [`Store::open_on`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with_backend(backend: impl StorageBackend) -> Result<Self, OpenError> {
        Self::open_in("the given disk", backend)
    }

    fn open_in(place: &str, backend: impl StorageBackend) -> Result<Self, OpenError> {
        let database = opening(place, place, || format::check(builder().create_with_backend(backend)?))?;
        Ok(Self::on(Standing::alone(place, database)))
    }

    fn on(standing: Standing) -> Self {
        Self {
            #[cfg(not(target_family = "wasm"))]
            copy: None,
            standing,
        }
    }

    /// Everything that a replica must know to start.
    ///
    /// # Errors
    /// [`Failure::Damaged`] with the first row that is not what was written, or what the disk answered.
    pub fn image(&self) -> Result<Image, Failure> {
        self.standing.read(execute::image)
    }

    /// Does what is asked.
    ///
    /// A commit that is answered with `Ok` is on disk. One that is answered with a failure is on disk whole or not at
    /// all, and the next open shows which.
    pub fn execute(&self, request: Request) -> Reply {
        match request {
            Request::Commit { id, rows } => {
                let result = self.standing.commit(&rows);
                #[cfg(not(target_family = "wasm"))]
                if result.is_ok() {
                    self.copied(|copy| copy.committed(&rows));
                }
                Reply::Committed { id, result }
            }
            Request::Resume { id } => {
                let resumed = self.standing.resume();
                #[cfg(not(target_family = "wasm"))]
                if let Ok(rows) = &resumed {
                    self.copied(|copy| copy.resumed(&self.standing, rows));
                }
                Reply::Committed { id, result: resumed.map(drop) }
            }
            Request::Scan { id, table, from, to, bytes_max } => {
                let scan = |database: &Database| execute::scan(database, table, &from, &to, bytes_max);
                Reply::Scanned { id, result: self.standing.read(scan) }
            }
            Request::Salvage { id, table, from, to, bytes_max } => {
                let salvage = |database: &Database| execute::salvage(database, table, &from, &to, bytes_max);
                Reply::Scanned { id, result: self.standing.read(salvage) }
            }
        }
    }

    /// Brings the copy of the spaces beside the store up to date, where it has one that is not. To be called when nothing else
    /// waits to be done: it takes as long as a commit. Closing does it as well.
    #[cfg(not(target_family = "wasm"))]
    pub fn write_copy(&self) {
        // Beside a store that is not ours any more lies the copy of another.
        if self.standing.halted().is_none() && self.standing.is_in_place() {
            self.copied(copy::Copy::write);
        }
    }

    /// Removes the copy of the spaces beside the store, and keeps none from now on: the store is to be another device's.
    ///
    /// # Errors
    /// The file cannot be removed.
    #[cfg(not(target_family = "wasm"))]
    pub fn remove_copy(&mut self) -> std::io::Result<()> {
        self.copy
            .take()
            .map_or(Ok(()), |copy| copy.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).remove())
    }

    #[cfg(not(target_family = "wasm"))]
    fn copied(&self, work: impl FnOnce(&mut copy::Copy)) {
        if let Some(copy) = &self.copy {
            work(&mut copy.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }

    /// Looks whether the store is where it was opened, which costs a microsecond. If it is not, nothing is written to it any
    /// more: the next open would not find that. Says so the first time. Every commit looks as well.
    pub fn check(&self) -> Option<Failure> {
        self.standing.check()
    }

    /// Why nothing is written, if so. Most often it can be read all the same.
    pub fn halted(&self) -> Option<Failure> {
        self.standing.halted()
    }

    /// Why every request fails from now on, if it does.
    pub fn failed(&self) -> Option<&Failure> {
        self.standing.failed()
    }

    /// Closes the store, as dropping it does.
    pub fn close(self) {}
}

#[cfg(not(target_family = "wasm"))]
impl Drop for Store {
    fn drop(&mut self) {
        self.write_copy();
    }
}

/// A store in a directory, open.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Its image.
    pub image: Image,
    /// What was done if it was damaged.
    pub salvaged: Option<Salvaged>,
}

/// What every database of ours is opened with. Commits are 1-phase, redb's default: on disks that lie about syncing it
/// fails clean where 2-phase commits were seen to panic, it is twice as fast, and every value has its own checksum.
fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_repair_callback(|session| {
        info!(progress = session.progress(), "checking the store after an unclean stop");
    });
    builder
}
