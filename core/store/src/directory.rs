//! The directory of a store: made private, locked, and never holding half a store under the name of a whole one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use redb::Database;
use tracing::warn;

use crate::error::{OpenError, Refused, opening};
use crate::format;

const STORE: &str = "store.redb";
const UNFINISHED: &str = "store.redb.new";
const LOCK: &str = "store.lock";

/// Held while the store is open; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "an open file holds its lock")] File);

/// Opens the store in `directory`, making what is missing; also gives the name of its file.
pub(crate) fn open(directory: &Path) -> Result<(Database, Lock, String), OpenError> {
    let place = directory.display().to_string();
    let file = directory.join(STORE);
    let name = file.display().to_string();
    let (database, lock) = opening(&place, &name, || {
        make(directory)?;
        // redb locks its file too, but while a store is being made there is no file of that name yet.
        let lock = lock(&directory.join(LOCK))?;
        remove_if_there(&directory.join(UNFINISHED))?;
        if !file.try_exists()? {
            create(directory, &file)?;
        }
        let database = format::check(crate::builder().open(&file)?)?;
        Ok((database, lock))
    })?;
    Ok((database, lock, name))
}

/// Makes the directory with its parents, for its owner alone.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    match directory.canonicalize()?.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<Lock, Refused> {
    let file = private().truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(redb::DatabaseError::DatabaseAlreadyOpen.into()),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            warn!(path = %path.display(), "this file system has no locks: nothing keeps a second process off the store");
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(Lock(file))
}

/// Makes an empty store beside its place and puts it there when it is whole and on disk: a process that is killed while
/// redb makes a file leaves one that never opens.
fn create(directory: &Path, file: &Path) -> Result<(), Refused> {
    let unfinished = directory.join(UNFINISHED);
    let made = (|| {
        drop(format::check(crate::builder().create_file(private().open(&unfinished)?)?)?);
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, file)?;
        sync_directory(directory)?;
        Ok(())
    })();
    if made.is_err() {
        // It holds nothing, and the next open would remove it as well.
        let _ = remove_if_there(&unfinished);
    }
    made
}

/// How our files are opened: made where they are missing, for their owner alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes new names in a directory survive a power cut. Other systems do that by themselves, or offer no way.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
