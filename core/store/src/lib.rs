//! Executes the engine's storage requests on redb: on a file, in memory, or on any [`redb::StorageBackend`].
//!
//! What a request means is [`anabranch_engine::storage`]'s business; when to make one, and what follows from a failure,
//! is the engine's. This crate never retries. The layout of the bytes is `docs/storage.md`; in short:
//!
//! ```text
//! DIRECTORY/store.lock       held while the store is open
//! DIRECTORY/spaces           a copy of the rows that no peer can give back
//! DIRECTORY/store.redb       one redb file, commits are 1-phase and fsynced
//!   table format-1           "format"  -> checksum ‖ "anabranch store" ‖ version
//!   table meta-1 .. peers-1  key       -> checksum ‖ value
//! checksum = BLAKE3(table number ‖ key length ‖ key ‖ value), cut to 16 bytes, checked on every read
//! ```
//!
//! redb does not notice a flipped bit, so the checksums do; and it may panic on a damaged file, so everything here runs
//! guarded. After an I/O error, a full disk or a panic the store answers every request with the same [`Failure`] until
//! it is opened again: what was committed before is safe.

pub mod backend;
pub mod conformance;

mod checksum;
#[cfg(not(target_family = "wasm"))]
mod directory;
mod error;
mod execute;
mod format;
#[cfg(not(target_family = "wasm"))]
mod keepsake;
mod salvage;
mod tables;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch_engine::storage::{Failure, Image, Reply, Request};
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, StorageBackend};
use tracing::{info, warn};

pub use crate::error::OpenError;
use crate::error::{Trouble, opening, panic_text};
pub use crate::format::VERSION;
pub use crate::salvage::Salvaged;

/// Memory that redb may use for pages. The operating system caches the file as well; this only saves calls.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// An open store. Requests may come from any thread; commits wait for each other.
///
/// Dropping it closes it. Every commit that was answered is on disk before that.
#[derive(Debug)]
pub struct Store {
    /// Taken only when this is dropped.
    database: Option<Database>,
    failed: OnceLock<Failure>,
    panicked: AtomicBool,
    place: String,
    /// It is a file in a directory.
    is_file: bool,
    /// The copy of its spaces beside it.
    #[cfg(not(target_family = "wasm"))]
    keepsake: Option<std::sync::Mutex<keepsake::Keepsake>>,
    // Behind the database, so that it is let go last.
    #[cfg(not(target_family = "wasm"))]
    _lock: Option<directory::Lock>,
}

impl Store {
    /// Opens the store in a directory, which is created (0700) if it is missing, as is the store.
    ///
    /// # Errors
    /// See [`OpenError`]. A failed open changes nothing that was committed.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let (database, lock) = directory::open(path)?;
        Ok(Self::in_directory(path, database, lock))
    }

    #[cfg(not(target_family = "wasm"))]
    fn in_directory(path: &std::path::Path, database: Database, lock: directory::Lock) -> Self {
        let mut store = Self::on(path.display().to_string(), database);
        store.is_file = true;
        store._lock = Some(lock);
        info!(place = %store.place, "store opened");
        store
    }

    /// Opens the store in a directory as [`Store::open_with_copy`] does. A store that is damaged is moved aside under another name and kept, and a new one is made
    /// of what is readable of it. Nothing else that keeps a store from opening is touched: one that is in use, not permitted,
    /// of a newer format, or on a disk that is full or does not answer, and a file in which nothing of a store is found.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[cfg(not(target_family = "wasm"))]
    pub fn open_or_salvage(path: impl AsRef<std::path::Path>) -> Result<Opened, OpenError> {
        let path = path.as_ref();
        let damage = match Self::open_with_copy(path) {
            Ok(opened) => return Ok(opened),
            Err(error @ (OpenError::Damaged { .. } | OpenError::Foreign { .. })) => error,
            Err(error) => return Err(error),
        };
        let (database, lock, salvaged) = directory::salvage(path, damage)?;
        warn!(%salvaged, "the store was salvaged");
        let (store, image) = Self::in_directory(path, database, lock).keeping(path)?;
        Ok(Opened { store, image, salvaged: Some(salvaged) })
    }

    /// Opens the store in a directory as [`Store::open`] does, reads its image, and keeps a copy of what no peer can give
    /// back beside it from now on. A damaged store is refused.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[cfg(not(target_family = "wasm"))]
    pub fn open_with_copy(path: impl AsRef<std::path::Path>) -> Result<Opened, OpenError> {
        let path = path.as_ref();
        let (store, image) = Self::open(path)?.keeping(path)?;
        Ok(Opened { store, image, salvaged: None })
    }

    /// Reads the image, and begins to keep the copy.
    #[cfg(not(target_family = "wasm"))]
    fn keeping(mut self, path: &std::path::Path) -> Result<(Self, Image), OpenError> {
        let database = self.database.as_ref().expect("taken only when this is dropped");
        match opening(&self.place, &directory::file(path), || Ok(execute::image(database)?)) {
            Ok(image) => {
                self.keepsake = Some(std::sync::Mutex::new(keepsake::Keepsake::of(path, &image)));
                Ok((self, image))
            }
            Err(error) => {
                // Closing what is damaged may panic as well as reading it.
                self.panicked.store(matches!(error, OpenError::Damaged { .. }), Ordering::Release);
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
        Ok((Self::on(place.to_owned(), database), salvaged))
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
    /// A disk has no rename: where the first open of an empty disk does not return, start again with an empty one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with_backend(backend: impl StorageBackend) -> Result<Self, OpenError> {
        Self::open_in("the given disk", backend)
    }

    fn open_in(place: &str, backend: impl StorageBackend) -> Result<Self, OpenError> {
        let database = opening(place, place, || format::check(builder().create_with_backend(backend)?))?;
        Ok(Self::on(place.to_owned(), database))
    }

    fn on(place: String, database: Database) -> Self {
        Self {
            database: Some(database),
            failed: OnceLock::new(),
            panicked: AtomicBool::new(false),
            place,
            is_file: false,
            #[cfg(not(target_family = "wasm"))]
            keepsake: None,
            #[cfg(not(target_family = "wasm"))]
            _lock: None,
        }
    }

    /// Everything that a replica must know to start.
    ///
    /// # Errors
    /// [`Failure::Damaged`] with the first row that is not what was written, or what the disk answered.
    pub fn image(&self) -> Result<Image, Failure> {
        self.guarded(execute::image)
    }

    /// Does what is asked.
    ///
    /// A commit that is answered with `Ok` is on disk. One that is answered with a failure is on disk whole or not at
    /// all, and the next open shows which.
    pub fn execute(&self, request: Request) -> Reply {
        match request {
            Request::Commit { id, rows } => {
                let result = self.guarded(|database| execute::commit(database, &rows));
                #[cfg(not(target_family = "wasm"))]
                if let (Ok(()), Some(keepsake)) = (&result, &self.keepsake) {
                    keepsake.lock().unwrap_or_else(std::sync::PoisonError::into_inner).committed(&rows);
                }
                Reply::Committed { id, result }
            }
            Request::Scan { id, table, from, to, bytes_max } => {
                let scan = |database: &Database| execute::scan(database, table, &from, &to, bytes_max);
                Reply::Scanned { id, result: self.guarded(scan) }
            }
            Request::Salvage { id, table, from, to, bytes_max } => {
                let salvage = |database: &Database| execute::salvage(database, table, &from, &to, bytes_max);
                Reply::Scanned { id, result: self.guarded(salvage) }
            }
        }
    }

    /// Brings the copy of the spaces beside the store up to date, where it has one that is not. To be called when nothing else
    /// waits to be done: it takes as long as a commit. Closing does it as well.
    #[cfg(not(target_family = "wasm"))]
    pub fn write_copy(&self) {
        if let Some(keepsake) = &self.keepsake {
            keepsake.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write();
        }
    }

    /// Why every request fails from now on, if it does.
    pub fn failed(&self) -> Option<&Failure> {
        self.failed.get()
    }

    /// Closes the store, as dropping it does.
    pub fn close(self) {}

    /// Runs `work` so that whatever redb does ends as a [`Failure`]. One damaged row leaves the store usable; anything
    /// else stops it.
    fn guarded<T>(&self, work: impl FnOnce(&Database) -> Result<T, Trouble>) -> Result<T, Failure> {
        if let Some(failure) = self.failed() {
            return Err(failure.clone());
        }
        let database = self.database.as_ref().expect("taken only when this is dropped");
        let trouble = match catch_unwind(AssertUnwindSafe(|| work(database))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(trouble)) => trouble,
            Err(panic) => {
                self.panicked.store(true, Ordering::Release);
                Trouble::Panicked(panic_text(panic.as_ref()))
            }
        };
        let failure = trouble.failure(&self.place, self.is_file);
        if !matches!(trouble, Trouble::Row(_)) {
            warn!(place = %self.place, %failure, "the store stopped");
            // Where two threads fail at once, the first reason stays.
            let _ = self.failed.set(failure.clone());
        }
        Err(failure)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        #[cfg(not(target_family = "wasm"))]
        self.write_copy();
        let Some(database) = self.database.take() else { return };
        if self.panicked.load(Ordering::Acquire) {
            // After a panic redb's own drop may panic again, while unwinding, and that aborts. The file stays open.
            mem::forget(database);
        } else if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            warn!(place = %self.place, "closing the store panicked; what was committed is safe");
        }
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
