//! The directory of a store: made private, locked, and never holding half a store under the name of a whole one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use redb::Database;
use tracing::warn;

use crate::error::{OpenError, Refused, Trouble, opening};
use crate::keepsake;
use crate::salvage::{self, Salvaged, Wreck};
use crate::{builder, format};

const STORE: &str = "store.redb";
const UNFINISHED: &str = "store.redb.new";
const LOCK: &str = "store.lock";
/// Damaged stores kept beside a store. They are never deleted, so a disk that damages one after the other is stopped here.
const DAMAGED_KEPT_MAX: u32 = 8;

/// The file format of redb 4, and where a file says its own.
const REDB_FORMAT: u8 = 3;
const REDB_VERSIONS: [usize; 2] = [64, 192];
const REDB_HEADER: u64 = 320;

/// Held while the store is open; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "an open file holds its lock")] File);

/// Opens the store in `directory`, making what is missing.
pub(crate) fn open(directory: &Path) -> Result<(Database, Lock), OpenError> {
    let place = directory.display().to_string();
    let file = directory.join(STORE);
    let name = file.display().to_string();
    opening(&place, &name, || {
        make(directory)?;
        // redb locks its file too, but while a store is being made there is no file of that name yet.
        let lock = lock(&directory.join(LOCK))?;
        remove_if_there(&directory.join(UNFINISHED))?;
        if !file.try_exists()? {
            create(directory, &file)?;
        }
        refuse_other_versions(&file)?;
        let database = format::check(builder().open(&file)?)?;
        Ok((database, lock))
    })
}

/// Refuses a file that another version of redb wrote. redb calls a newer one damaged, and that would have it salvaged. The
/// version stands in both commit slots (`tree_store/page_store/header.rs` there): where they differ it is damage.
fn refuse_other_versions(file: &Path) -> Result<(), Refused> {
    let mut header = Vec::new();
    File::open(file)?.take(REDB_HEADER).read_to_end(&mut header)?;
    match REDB_VERSIONS.map(|at| header.get(at).copied()) {
        [Some(found), Some(other)] if header.starts_with(b"redb") && found == other && found != REDB_FORMAT => {
            Err(Refused::OtherEngine { found, known: REDB_FORMAT })
        }
        _ => Ok(()),
    }
}

/// The name of the store's file in `directory`.
pub(crate) fn file(directory: &Path) -> String {
    directory.join(STORE).display().to_string()
}

/// Makes a new store of what is readable of the damaged one in `directory`, and keeps that one under another name. At
/// every moment there is a file of the store's name, the old one or the whole new one.
pub(crate) fn salvage(directory: &Path, damage: OpenError) -> Result<(Database, Lock, Salvaged), OpenError> {
    let place = directory.display().to_string();
    let file = directory.join(STORE);
    let name = file.display().to_string();
    let is_foreign = matches!(damage, OpenError::Foreign { .. });
    let opened = opening(&place, &name, || {
        let lock = lock(&directory.join(LOCK))?;
        let made = make_anew(directory, &file, is_foreign);
        if !matches!(made, Ok(Some(_))) {
            let _ = remove_if_there(&directory.join(UNFINISHED));
        }
        let Some((salvaged, kept)) = made? else { return Ok(None) };
        Ok(Some((format::check(builder().open(&file)?)?, lock, salvaged, kept)))
    })?;
    // A file in which there is nothing of ours may be somebody's.
    let Some((database, lock, salvaged, kept)) = opened else { return Err(damage) };
    let kept = kept.display().to_string();
    Ok((database, lock, Salvaged { place, damage: damage.detail(), kept, ..salvaged }))
}

/// Makes the new store and puts it in the place of the old one. Nothing, if `something` must be found and is not.
fn make_anew(directory: &Path, file: &Path, something: bool) -> Result<Option<(Salvaged, PathBuf)>, Refused> {
    let unfinished = directory.join(UNFINISHED);
    remove_if_there(&unfinished)?;
    // Where redb panics, its own drop might panic again, and that aborts.
    let database = ManuallyDrop::new(format::check(builder().create_file(private().open(&unfinished)?)?)?);
    let wreck = Wreck { file: File::open(file)?, kept: keepsake::read(directory) };
    let salvaged = salvage::salvage(wreck, &database);
    drop(ManuallyDrop::into_inner(database));
    let salvaged = salvaged?;
    if something && !salvaged.is_something() {
        return Ok(None);
    }
    File::open(&unfinished)?.sync_all()?;
    let kept = keep_aside(directory, file)?;
    fs::rename(&unfinished, file)?;
    sync_directory(directory)?;
    Ok(Some((salvaged, kept)))
}

/// Gives the damaged file a second name that nothing has yet.
fn keep_aside(directory: &Path, file: &Path) -> Result<PathBuf, Refused> {
    for number in 1..=DAMAGED_KEPT_MAX {
        let aside = directory.join(format!("{STORE}.damaged-{number}"));
        match fs::hard_link(file, &aside) {
            Ok(()) => {
                sync_directory(directory)?;
                return Ok(aside);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    let text = format!(
        "{DAMAGED_KEPT_MAX} damaged stores are kept in {} already, limit {DAMAGED_KEPT_MAX}: the disk is probably failing; \
         move them elsewhere",
        directory.display()
    );
    Err(Refused::Trouble(Trouble::from(io::Error::other(text))))
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
        drop(format::check(builder().create_file(private().open(&unfinished)?)?)?);
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
pub(crate) fn private() -> OpenOptions {
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
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
