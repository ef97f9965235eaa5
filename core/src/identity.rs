//! The identity file: this device's secret key, readable by its owner only. With a store it makes a replica.
//!
//! Three lines of text, so that it can be looked at, printed and kept in a safe:
//!
//! ```text
//! anabranch identity 1
//! device <64 hex digits: the public key, which is also the check that the secret was copied right>
//! secret <64 hex digits: the seed of the ed25519 key>
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anabranch_engine::id::DeviceId;
use anabranch_engine::keys::SecretKey;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::OpenError;
use crate::builder::random_seed;

/// Name of the file in a replica's directory.
pub(crate) const FILE_NAME: &str = "identity";
const VERSION: &str = "1";
/// Far more than a good file has; what is larger is something else.
const BYTES_MAX: u64 = 1024;
/// Former keys that are kept.
const FORMER_MAX: u32 = 100;

/// A secret seed, wiped when dropped.
pub(crate) type Seed = Zeroizing<[u8; 32]>;

/// What is done about files that others may write or read, and whose modes cannot be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Modes {
    /// They are refused.
    #[default]
    Strict,
    /// They are taken as they are.
    Loose,
}

/// Makes a replica's directory (mode 0700) if it is missing, and sees to it that no one else can put files into it.
pub(crate) fn prepare_directory(path: &Path, modes: Modes) -> Result<(), OpenError> {
    let refuse = |reason: String| OpenError::Directory { path: path.to_owned(), reason };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| refuse(error.to_string()))?;
    let metadata = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    #[cfg(unix)]
    {
        if let Err(owner) = is_ours(&metadata) {
            let whose = format!("it belongs to {owner}");
            if modes == Modes::Strict {
                return Err(refuse(format!(
                    "{whose}: who owns it can put files into it; run as that user, or, where owners are not yours to choose, \
                     allow it with --allow-loose-modes"
                )));
            }
            warn!(path = %path.display(), "others may write into the directory: {whose}");
        }
        // A plain `mkdir` lets the group write where the umask is 002.
        if let Err(mode) = tighten(path, 0o022) {
            if modes == Modes::Strict {
                return Err(refuse(format!(
                    "others may write into it (mode {mode:o}), and that cannot be changed from here: run `chmod 700 {}`, \
                     or, where modes are not yours to choose, allow it with --allow-loose-modes",
                    path.display()
                )));
            }
            warn!(path = %path.display(), mode = format_args!("{mode:o}"), "others may write into the directory");
        }
    }
    Ok(())
}

/// Whether a file belongs to the user that this process runs as; else whose it is.
#[cfg(unix)]
fn is_ours(metadata: &fs::Metadata) -> Result<(), String> {
    let (owner, us) = (std::os::unix::fs::MetadataExt::uid(metadata), rustix::process::geteuid().as_raw());
    if owner == us { Ok(()) } else { Err(format!("user {owner}, and this process runs as user {us}")) }
}

/// A file of ours is opened where it is: a symbolic link in its place leads to somebody else's.
#[cfg(unix)]
pub(crate) fn not_followed(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
}

/// There are no symbolic links that others could make.
#[cfg(not(unix))]
pub(crate) fn not_followed(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Why a file of ours could not be opened.
pub(crate) fn reason(path: &Path, error: &io::Error) -> String {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            "it is a symbolic link, which is not followed: put the file itself there".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Takes these bits from a file's mode, if it has any of them. Where it still has one then, its mode.
#[cfg(unix)]
fn tighten(path: &Path, bits: u32) -> Result<(), u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = || fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    let before = mode();
    if before & bits == 0 {
        return Ok(());
    }
    // Some file systems say that they did it, and did nothing.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(before & 0o7777 & !bits));
    let after = mode();
    if after & bits != 0 {
        return Err(after & 0o777);
    }
    info!(path = %path.display(), was = format_args!("{:o}", before & 0o7777), is = format_args!("{:o}", after & 0o7777), "mode changed");
    Ok(())
}

/// Reads the seed from `directory`, or makes one if there is none and `may_create`.
pub(crate) fn load_or_create(directory: &Path, may_create: bool, modes: Modes) -> Result<Seed, OpenError> {
    let path = directory.join(FILE_NAME);
    let refuse = |reason: String| OpenError::Identity { path: path.clone(), reason };
    for _ in 0..2 {
        match not_followed(OpenOptions::new().read(true)).open(&path) {
            Ok(file) => return read(&path, file, modes).map_err(refuse),
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                let seed = random_seed()?;
                match create(directory, &path, &seed) {
                    Ok(()) => return Ok(seed),
                    // Another process was faster: its key is the one.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(refuse(format!("it cannot be written: {error}"))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse(
                    "it is missing, but there is a store beside it, or the copy of its spaces: put the identity back, or move \
                     both away to begin again as another device"
                        .to_owned(),
                ));
            }
            Err(error) => return Err(refuse(reason(&path, &error))),
        }
    }
    Err(refuse("it appears and disappears while it is read: is another program at work in this directory?".to_owned()))
}

fn read(path: &Path, file: File, modes: Modes) -> Result<Seed, String> {
    #[cfg(unix)]
    check_mode(path, &file, modes)?;
    #[cfg(not(unix))]
    let _ = modes;
    let mut text = Zeroizing::new(String::new());
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| format!("{error} ({})", path.display()))?;
    parse(&text)
}

/// A key that everybody could read may be known, and making it private now would hide that. One that its group could read is
/// made private: most often the group is this user alone, or a volume's.
#[cfg(unix)]
fn check_mode(path: &Path, file: &File, modes: Modes) -> Result<(), String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if let Err(owner) = is_ours(&metadata) {
        let whose = format!("it belongs to {owner}: that user may have put it there");
        if modes == Modes::Strict {
            return Err(format!(
                "{whose}; run `chown` on {} if it is this device's, or, where owners are not yours to choose, allow it with \
                 --allow-loose-modes",
                path.display()
            ));
        }
        warn!(path = %path.display(), "{whose}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    if mode & 0o007 == 0 && tighten(path, 0o077).is_ok() {
        warn!(path = %path.display(), mode = format_args!("{mode:o}"), "its group could read this device's secret key");
        return Ok(());
    }
    if modes == Modes::Loose {
        warn!(path = %path.display(), mode = format_args!("{mode:o}"), "others can read this device's secret key");
        return Ok(());
    }
    Err(format!(
        "others can read this device's secret key (mode {mode:o}): run `chmod 600 {}`, or, where modes are not yours to \
         choose, allow it with --allow-loose-modes",
        path.display()
    ))
}

fn parse(text: &str) -> Result<Seed, String> {
    let damaged = || "it is damaged: put a copy of it back".to_owned();
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix("anabranch identity ")).ok_or_else(damaged)?;
    if version != VERSION {
        return Err(format!("it is of version {version:.20}, this program reads version {VERSION}: update it"));
    }
    let mut field =
        |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or_else(damaged);
    let device: DeviceId = field("device")?.parse().map_err(|_| damaged())?;
    // Read as an id for its hex digits alone.
    let mut secret: DeviceId = field("secret")?.parse().map_err(|_| damaged())?;
    let seed = Zeroizing::new(secret.0);
    zeroize::Zeroize::zeroize(&mut secret.0);
    if SecretKey::from_seed(&seed).device() != device {
        return Err("it is damaged: its secret does not belong to its device; put a copy of it back".to_owned());
    }
    Ok(seed)
}

fn format(seed: &Seed) -> Zeroizing<String> {
    let device = SecretKey::from_seed(seed).device();
    Zeroizing::new(format!("anabranch identity {VERSION}\ndevice {device}\nsecret {}\n", DeviceId(**seed)))
}

/// Written beside and linked into place: it is there whole or not at all, and never replaces one that is there.
fn create(directory: &Path, path: &Path, seed: &Seed) -> io::Result<()> {
    let beside = beside(directory)?;
    let result = write(&beside, seed).and_then(|()| fs::hard_link(&beside, path));
    let removed = fs::remove_file(&beside);
    result?;
    removed?;
    sync_directory(directory)
}

/// Puts another key in the place of the one that is there, in one step. The old one is kept beside it, under the first of the names
/// `identity.former-1`, `identity.former-2`, .. that nothing has.
pub(crate) fn replace(directory: &Path, seed: &Seed) -> io::Result<PathBuf> {
    let path = directory.join(FILE_NAME);
    let mut names = (1..=FORMER_MAX).map(|number| directory.join(format!("{FILE_NAME}.former-{number}")));
    let former = names.find(|name| !name.exists());
    let former =
        former.ok_or_else(|| io::Error::other(format!("{FORMER_MAX} former keys are kept, limit {FORMER_MAX}")))?;
    let beside = beside(directory)?;
    let replaced = write(&beside, seed).and_then(|()| {
        fs::hard_link(&path, &former)?;
        sync_directory(directory)?;
        fs::rename(&beside, &path)
    });
    if replaced.is_err() {
        let _ = fs::remove_file(&beside);
    }
    replaced?;
    if let Err(error) = sync_directory(directory) {
        // The key has been replaced, even if the disk has not confirmed it.
        warn!(%error, "the new key may not be on the disk yet");
    }
    Ok(former)
}

/// A name that nothing has.
fn beside(directory: &Path) -> io::Result<PathBuf> {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique)?;
    Ok(directory.join(format!("{FILE_NAME}.{:016x}", u64::from_be_bytes(unique))))
}

fn write(path: &Path, seed: &Seed) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(format(seed).as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let made = load_or_create(directory.path(), true, Modes::Strict).unwrap();
        let read = load_or_create(directory.path(), false, Modes::Strict).unwrap();
        assert_eq!(*made, *read);
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["identity"], "nothing is left beside it");
    }

    #[test]
    fn what_is_there_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let made = load_or_create(directory.path(), true, Modes::Strict).unwrap();
        let error = create(directory.path(), &directory.path().join(FILE_NAME), &random_seed().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(*load_or_create(directory.path(), false, Modes::Strict).unwrap(), *made);
    }

    #[test]
    fn another_key_takes_its_place_and_the_former_one_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let first = load_or_create(directory.path(), true, Modes::Strict).unwrap();
        let (second, third) = (random_seed().unwrap(), random_seed().unwrap());
        let former = replace(directory.path(), &second).unwrap();
        replace(directory.path(), &third).unwrap();
        assert_eq!(*load_or_create(directory.path(), false, Modes::Strict).unwrap(), *third);
        assert_eq!(former, directory.path().join("identity.former-1"));
        let kept = |number: u32| {
            parse(&fs::read_to_string(directory.path().join(format!("identity.former-{number}"))).unwrap())
        };
        assert_eq!((*kept(1).unwrap(), *kept(2).unwrap()), (*first, *second));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing else is left beside it");
    }

    #[test]
    fn many_starts_at_once_agree_on_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let seeds: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| *load_or_create(directory.path(), true, Modes::Strict).unwrap()))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(seeds.iter().all(|seed| seed == &seeds[0]));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_everybody_can_read_is_refused_with_the_remedy() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let made = load_or_create(directory.path(), true, Modes::Strict).unwrap();
        let path = directory.path().join(FILE_NAME);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let text = load_or_create(directory.path(), true, Modes::Strict).unwrap_err().to_string();
        assert!(
            text.contains("mode 644") && text.contains("chmod 600") && text.contains("--allow-loose-modes"),
            "{text}"
        );
        assert_eq!(mode(), 0o644, "what was seen is not hidden");
        assert_eq!(*load_or_create(directory.path(), true, Modes::Loose).unwrap(), *made);
    }

    // Kubernetes gives files of a volume to a group of its own at every mount, and a umask of 002 gives them to the user's.
    #[cfg(unix)]
    #[test]
    fn modes_that_let_a_group_in_are_tightened() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        set(directory.path(), 0o2770);
        prepare_directory(directory.path(), Modes::Strict).unwrap();
        assert_eq!(mode(directory.path()), 0o2750);
        load_or_create(directory.path(), true, Modes::Strict).unwrap();
        let path = directory.path().join(FILE_NAME);
        set(&path, 0o660);
        load_or_create(directory.path(), false, Modes::Strict).unwrap();
        assert_eq!(mode(&path), 0o600);
        // A plain `mkdir` where everybody may write.
        set(directory.path(), 0o777);
        prepare_directory(directory.path(), Modes::Strict).unwrap();
        assert_eq!(mode(directory.path()), 0o755);
    }

    // The proc file system changes no modes, as exFAT does not.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_mode_that_cannot_be_changed_is_told() {
        let mode = tighten(Path::new("/proc/self/stat"), 0o444).unwrap_err();
        assert_eq!(mode & 0o444, 0o444);
    }

    #[test]
    fn a_missing_key_beside_a_store_is_not_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let text = load_or_create(directory.path(), false, Modes::Strict).unwrap_err().to_string();
        assert!(text.contains("put the identity back"), "{text}");
    }

    #[test]
    fn every_damage_is_an_error_and_nothing_panics() {
        let seed = random_seed().unwrap();
        let good = format(&seed);
        assert_eq!(*parse(&good).unwrap(), *seed);
        for at in 0..good.len() {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] ^= 1;
            if let Ok(text) = str::from_utf8(&bytes)
                && at != good.len() - 1
            {
                assert!(parse(text).is_err(), "byte {at} flipped");
            }
            assert!(at == good.len() - 1 || parse(&good[..at]).is_err(), "cut at {at}");
        }
        let later = good.replacen("identity 1", "identity 2", 1);
        assert!(parse(&later).unwrap_err().contains("version 2"));
    }
}
