//! The directory of a store: made private, locked, and never holding half a store under the name of a whole one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend, StorageError};
use tracing::warn;

use crate::error::{OpenError, Refused, Trouble, opening};
use crate::keepsake::Copied;
use crate::medium::{Access, Medium};
use crate::salvage::{self, Salvaged, Wreck};
use crate::standing::Standing;
use crate::{builder, format};

const STORE: &str = "store.redb";
const UNFINISHED: &str = "store.redb.new";
const LOCK: &str = "store.lock";
/// Written and removed again to see whether there is room.
const ROOM: &str = "store.room";
/// What is wrong with a store of which only the copy of its spaces is there.
const MISSING: &str = "its file is missing, and there is a copy of its spaces beside it";
/// Damaged stores kept beside a store. They are never deleted, so a disk that damages one after the other is stopped here.
const DAMAGED_KEPT_MAX: u32 = 8;

/// The file format of redb 4, and where a file says its own.
const REDB_FORMAT: u8 = 3;
const REDB_VERSIONS: [usize; 2] = [64, 192];
const REDB_HEADER: u64 = 320;

/// The directory of a store, for this process alone as long as this is there.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PathBuf,
    lock: Lock,
    opened: Mutex<Option<Opened>>,
}

/// The store's file as it was opened.
#[derive(Debug)]
struct Opened {
    file: File,
    found: Found,
}

/// Held while the store is open; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
struct Lock {
    /// The directory itself, which nobody can remove and leave the store in it. Not every system locks directories.
    directory: Option<File>,
    /// The file that is there to be locked. Not there where the disk has no room for it and the directory is locked.
    file: Option<(File, Found)>,
}

/// What a name led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Found {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            Self { device: metadata.dev(), inode: metadata.ino() }
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Self {}
        }
    }

    fn is_on_the_disk_of(self, other: Self) -> bool {
        #[cfg(unix)]
        return self.device == other.device;
        #[cfg(not(unix))]
        true
    }
}

/// How a store is opened in a directory.
#[derive(Clone, Copy)]
pub(crate) enum Missing<'a> {
    /// One that is not there is made.
    Make,
    /// One that is not there is made, unless there is a copy of its spaces beside it.
    MakeIfNew(&'a Copied),
}

/// Opens the store in `directory`, making what is missing.
pub(crate) fn open(directory: &Path, missing: Missing<'_>) -> Result<Standing, OpenError> {
    let directory = absolute(directory);
    let place = directory.display().to_string();
    let name = directory.join(STORE).display().to_string();
    let medium = opening(&place, &name, || {
        make(&directory)?;
        // redb locks its file too, but while a store is being made there is no file of that name yet.
        let medium = Place::lock(&directory)?;
        medium.clear_away();
        let file = medium.file();
        if !file.try_exists()? {
            if let Missing::MakeIfNew(copied) = missing
                && copied.has_rows()
            {
                return Err(Refused::Trouble(Trouble::Row(MISSING.to_owned())));
            }
            create(&directory, &file)?;
        }
        refuse_other_versions(&file)?;
        Ok(medium)
    })?;
    Standing::open(&place, &name, true, Box::new(medium))
}

/// Where a relative path leads now. A process that changes its directory must not lose its store.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Place {
    fn lock(directory: &Path) -> Result<Self, Refused> {
        let lock = Lock::take(directory)?;
        Ok(Self { directory: directory.to_owned(), lock, opened: Mutex::new(None) })
    }

    fn file(&self) -> PathBuf {
        self.directory.join(STORE)
    }

    /// Removes what an earlier process did not finish. Where that fails, making the like fails too, and says why.
    fn clear_away(&self) {
        for name in [UNFINISHED, ROOM] {
            let _ = remove_if_there(&self.directory.join(name));
        }
    }

    /// Some network and FUSE file systems make up a file's number whenever it is looked up. A file of another number is ours all
    /// the same if it is locked, as ours is, and begins alike.
    fn is_ours_by_another_number(&self, opened: &Opened) -> bool {
        let Ok(there) = File::open(self.file()) else { return false };
        let begins = |file: &File| {
            let mut header = Vec::new();
            let mut file = file;
            let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(REDB_HEADER).read_to_end(&mut header));
            read.is_ok().then_some(header)
        };
        matches!(there.try_lock(), Err(TryLockError::WouldBlock))
            && begins(&there).is_some_and(|header| begins(&opened.file) == Some(header))
    }
}

impl Medium for Place {
    fn connect(&self, access: Access) -> io::Result<Box<dyn StorageBackend>> {
        let file = File::options().read(true).write(access == Access::Write).open(self.file())?;
        let metadata = file.metadata()?;
        if metadata.len() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        let opened = Opened { file: file.try_clone()?, found: Found::of(&metadata) };
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        let backend = FileBackend::new(file).map_err(|error| match error {
            DatabaseError::Storage(StorageError::Io(error)) => error,
            other => io::Error::other(other),
        })?;
        Ok(Box::new(backend))
    }

    fn is_in_place(&self) -> Result<(), String> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = &*opened else { return Ok(()) };
        let file = self.file();
        match fs::metadata(&file) {
            Ok(there) if Found::of(&there) == opened.found => {}
            Ok(there)
                if Found::of(&there).is_on_the_disk_of(opened.found) && self.is_ours_by_another_number(opened) => {}
            Ok(_) => return Err(format!("{} is another file now", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("{} is not there any more", file.display()));
            }
            Err(error) => return Err(format!("{}: {error}", file.display())),
        }
        self.lock.is_in_place(&self.directory)
    }

    fn has_room(&self, bytes: u64) -> io::Result<()> {
        let path = self.directory.join(ROOM);
        let taken = (|| {
            let mut file = private().truncate(true).open(&path)?;
            io::copy(&mut io::repeat(0xff).take(bytes), &mut file)?;
            file.sync_all()
        })();
        let given_back = remove_if_there(&path);
        taken.and(given_back)
    }
}

impl Lock {
    fn take(directory: &Path) -> Result<Self, Refused> {
        let whole = if cfg!(unix) { Some(File::open(directory)?) } else { None };
        let whole = match whole.as_ref().map(File::try_lock) {
            Some(Ok(())) => whole,
            Some(Err(TryLockError::WouldBlock)) => return Err(DatabaseError::DatabaseAlreadyOpen.into()),
            // NFS, for one, locks only what is open for writing.
            Some(Err(TryLockError::Error(_))) | None => None,
        };
        let path = directory.join(LOCK);
        let file = match private().truncate(false).open(&path) {
            Ok(file) => file,
            // The file is what other systems have instead; a full disk is to be read.
            Err(error) if whole.is_some() && Trouble::from(io::Error::from(error.kind())).leaves_reading() => {
                return Ok(Self { directory: whole, file: None });
            }
            Err(error) => return Err(error.into()),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DatabaseError::DatabaseAlreadyOpen.into()),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                warn!(path = %path.display(), "this file system has no locks: nothing keeps a second process off the store");
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let found = Found::of(&file.metadata()?);
        Ok(Self { directory: whole, file: Some((file, found)) })
    }

    /// Where the directory is not locked, the file must be the one that others would try to lock.
    fn is_in_place(&self, directory: &Path) -> Result<(), String> {
        let (None, Some((_, found))) = (&self.directory, &self.file) else { return Ok(()) };
        let path = directory.join(LOCK);
        match fs::metadata(&path) {
            Ok(there) if Found::of(&there) == *found => Ok(()),
            Ok(_) => Err(format!("{} is another file now", path.display())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
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
pub(crate) fn salvage(directory: &Path, damage: OpenError, copied: &Copied) -> Result<(Standing, Salvaged), OpenError> {
    let directory = absolute(directory);
    let place = directory.display().to_string();
    let name = directory.join(STORE).display().to_string();
    let is_foreign = matches!(damage, OpenError::Foreign { .. });
    let made = opening(&place, &name, || {
        let medium = Place::lock(&directory)?;
        let made = make_anew(&medium, is_foreign, copied);
        if !matches!(made, Ok(Some(_))) {
            medium.clear_away();
        }
        Ok(made?.map(|made| (medium, made)))
    })?;
    // A file in which there is nothing of ours may be somebody's.
    let Some((medium, (salvaged, kept))) = made else { return Err(damage) };
    let kept = kept.map(|kept| kept.display().to_string());
    let salvaged = Salvaged { place: place.clone(), damage: damage.detail(), kept, ..salvaged };
    Ok((Standing::open(&place, &name, true, Box::new(medium))?, salvaged))
}

/// Makes the new store and puts it in the place of the old one. Nothing, if `something` must be found and is not.
fn make_anew(medium: &Place, something: bool, copied: &Copied) -> Result<Option<(Salvaged, Option<PathBuf>)>, Refused> {
    let (directory, file) = (&medium.directory, &medium.file());
    let unfinished = directory.join(UNFINISHED);
    remove_if_there(&unfinished)?;
    // Where redb panics, its own drop might panic again, and that aborts.
    let database = ManuallyDrop::new(format::check(builder().create_file(private().open(&unfinished)?)?)?);
    let kept = copied.kept();
    let salvaged = match File::open(file) {
        Ok(file) => salvage::salvage(Wreck { file, kept }, &database),
        // All that is left of it is the copy.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            salvage::salvage(Wreck { file: io::Cursor::new(&[] as &[u8]), kept }, &database)
        }
        Err(error) => Err(error.into()),
    };
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
fn keep_aside(directory: &Path, file: &Path) -> Result<Option<PathBuf>, Refused> {
    if !file.try_exists()? {
        return Ok(None);
    }
    for number in 1..=DAMAGED_KEPT_MAX {
        let aside = directory.join(format!("{STORE}.damaged-{number}"));
        match fs::hard_link(file, &aside) {
            Ok(()) => {
                sync_directory(directory)?;
                return Ok(Some(aside));
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
