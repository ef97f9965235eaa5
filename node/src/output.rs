//! Files that a person names for output: written through where they are devices, pipes or links, replaced as a whole where
//! they are ordinary files.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anabranch_api::Failure;

/// Symbolic links followed, as on Linux.
const LINKS_MAX: usize = 40;
/// A new file's mode before the umask.
const NEW_FILE_MODE: u32 = 0o666;

/// Where output goes.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Standard output: nothing else is to be printed there.
    Standard,
    /// Something with a name.
    File(PathBuf),
}

impl Output {
    /// What `--out` says: `-` is standard output, as is its device.
    pub(crate) fn named(path: PathBuf) -> Self {
        let standard = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
        if standard.iter().any(|name| path == Path::new(name)) { Self::Standard } else { Self::File(path) }
    }
}

/// Writes all of `bytes` to `path`. Ordinary files are replaced as a whole and keep their mode, owner and links; a file in a
/// folder that cannot be written is written in place; anything else is written through.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // The path that the person gave, never that of a temporary file.
    write_to(path, bytes)
        .map_err(|error| Failure::failed(format!("cannot write {}: {}", path.display(), reason(&error))))
}

fn write_to(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = through_links(path)?;
    let earlier = match fs::metadata(path) {
        Ok(earlier) => earlier,
        Err(error) if error.kind() == ErrorKind::NotFound => return replace(&target, bytes, None),
        Err(error) => return Err(error),
    };
    if !earlier.is_file() || is_descriptor(path) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    // Who may not write the file may not replace it either.
    drop(OpenOptions::new().write(true).open(&target)?);
    match replace(&target, bytes, Some(&earlier)) {
        Err(error) if is_about_the_folder(&error) => in_place(&target, bytes),
        replaced => replaced,
    }
}

/// Where a path leads, also if nothing is there yet.
fn through_links(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&at) {
            // Relative to the folder that the link is in.
            Ok(to) => at = folder(&at).join(to),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Files that are open already are named there: replacing one would leave the open one as it is.
fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/dev/fd") || path.starts_with("/proc") || path == Path::new("/dev/stderr")
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file beside the target and renames it, so that there is never half of it.
fn replace(target: &Path, bytes: &[u8], earlier: Option<&Metadata>) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".anabranch-").permissions(Permissions::from_mode(NEW_FILE_MODE));
    let mut temporary = builder.tempfile_in(folder(target))?;
    if let Some(earlier) = earlier {
        keep_owner(temporary.as_file(), earlier)?;
        temporary.as_file().set_permissions(earlier.permissions())?;
    }
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(target).map_err(|error| error.error)?;
    Ok(())
}

/// A file of another owner stays theirs. Fails where that is not ours to choose.
fn keep_owner(file: &File, earlier: &Metadata) -> io::Result<()> {
    let fresh = file.metadata()?;
    if (fresh.uid(), fresh.gid()) == (earlier.uid(), earlier.gid()) {
        return Ok(());
    }
    fchown(file, Some(earlier.uid()), Some(earlier.gid()))
}

fn is_about_the_folder(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::CrossesDevices)
        || matches!(error.kind(), ErrorKind::ResourceBusy)
}

fn in_place(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(target)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// An error without the path of a temporary file, which `tempfile` puts into its text.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.to_string(),
        None if error.kind() == ErrorKind::Other => error.to_string(),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_ordinary_file_is_replaced_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.json");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&file).unwrap().ino();
        write(&file, b"new\n").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new\n");
        assert_eq!(mode(&file), 0o640);
        assert_ne!(fs::metadata(&file).unwrap().ino(), before, "it was replaced, not written over");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_has_the_mode_that_any_new_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (folder.path().join("ours"), folder.path().join("other"));
        write(&ours, b"{}\n").unwrap();
        File::create(&other).unwrap();
        assert_eq!(mode(&ours), mode(&other));
    }

    #[test]
    fn a_link_stays_a_link_and_its_target_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        symlink("real.json", &link).unwrap();
        for text in ["made through the link", "replaced through the link"] {
            write(&link, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        let round = folder.path().join("round");
        symlink("round", &round).unwrap();
        assert!(write(&round, b"x").unwrap_err().message.contains("symbolic links"));
    }

    #[test]
    fn an_error_names_the_path_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none/out.json");
        let text = write(&file, b"x").unwrap_err().message;
        assert!(text.starts_with(&format!("cannot write {}: ", file.display())), "{text}");
        assert!(!text.contains(".anabranch-"), "{text}");
        let text = write(folder.path(), b"x").unwrap_err().message;
        assert!(text.to_lowercase().contains("is a directory"), "{text}");
    }

    #[test]
    fn standard_output_has_several_names() {
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert!(matches!(Output::named(name.into()), Output::Standard), "{name}");
        }
        assert!(matches!(Output::named("out.json".into()), Output::File(_)));
    }
}
