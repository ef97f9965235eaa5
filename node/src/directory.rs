//! Where a replica lives on this machine, and the socket in it through which commands reach its node.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anabranch_api::{Code, Failure};

use crate::time_limit::TimeLimit;

/// The socket's file name.
const SOCKET: &str = "node.sock";

/// The longest path that fits into a unix socket address on every system (macOS: 104 bytes with the end mark, Linux: 108).
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// The directory of one replica, and how long a command on it may take.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    time_limit: Option<TimeLimit>,
}

impl Directory {
    /// The one that was asked for, or the one of this user: `anabranch` in the XDG data directory.
    pub(crate) fn resolve(asked: Option<PathBuf>, time_limit: Option<TimeLimit>) -> Result<Self, Failure> {
        if let Some(path) = asked {
            if path.as_os_str().is_empty() {
                return Err(Failure::usage("the directory given with --dir or ANABRANCH_DIR is empty"));
            }
            return Ok(Self { path, time_limit });
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|data| Self { path: data.join("anabranch"), time_limit })
            .ok_or_else(|| Failure::usage("there is no home directory here: say where the replica is with --dir DIR"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long a command may take; `None` if it is to say so itself.
    pub(crate) fn time_limit(&self) -> Option<TimeLimit> {
        self.time_limit
    }

    /// There is a replica in it.
    pub(crate) fn is_initialised(&self) -> bool {
        self.path.join("identity").exists()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Listens for commands. To be called while the store's lock is held: then a socket that is there already was left by
    /// a node that died.
    pub(crate) fn listen(&self) -> Result<UnixListener, Failure> {
        let socket = self.socket();
        let cannot = |error: io::Error| Failure::failed(format!("cannot listen on {}: {error}", socket.display()));
        match fs::remove_file(&socket) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(error)),
        }
        let listener = self.with_short_path(|path| UnixListener::bind(path)).map_err(cannot)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(listener)
    }

    /// Connects to the running node.
    pub(crate) fn connect(&self) -> Result<UnixStream, Failure> {
        let shown = self.path.display();
        self.with_short_path(|path| UnixStream::connect(path)).map_err(|error| match error.kind() {
            // No socket, or one that nobody listens on any more.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
                Code::Unreachable,
                format!("no node is running on {shown}: start one with `anabranch run --dir {shown}`"),
            ),
            io::ErrorKind::PermissionDenied => Failure::refused(format!(
                "the node on {shown} belongs to another user: {} may be used by its owner alone",
                self.socket().display()
            )),
            _ => Failure::failed(format!("cannot reach the node on {shown}: {error}")),
        })
    }

    /// Removes the socket, at the end of a node.
    pub(crate) fn remove_socket(&self) {
        // It may be gone already; one that stays behind is replaced by the next node.
        let _ = fs::remove_file(self.socket());
    }

    /// Calls `f` with a path of the socket that fits into a socket address, however long the directory's own path is.
    fn with_short_path<T>(&self, f: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let socket = self.socket();
        if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return f(&socket);
        }
        let directory = File::open(&self.path)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        if !through.exists() {
            return Err(io::Error::other(format!(
                "the path is {} bytes long, limit {SOCKET_PATH_BYTES_MAX} on this system: use a directory with a shorter path",
                socket.as_os_str().len(),
            )));
        }
        f(&through.join(SOCKET))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn directory(path: &Path) -> Directory {
        Directory { path: path.to_path_buf(), time_limit: None }
    }

    #[test]
    fn a_directory_without_a_node_says_how_to_start_one() {
        let temporary = tempfile::tempdir().unwrap();
        let failure = directory(temporary.path()).connect().unwrap_err();
        assert_eq!(failure.code, Code::Unreachable);
        let expected = format!("start one with `anabranch run --dir {}`", temporary.path().display());
        assert!(failure.message.contains(&expected), "{failure}");
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_only_its_owner_may_use_it() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = directory(temporary.path());
        drop(directory.listen().unwrap());
        assert!(directory.socket().exists());
        assert_eq!(directory.connect().unwrap_err().code, Code::Unreachable);
        let _listener = directory.listen().unwrap();
        let mode = fs::metadata(directory.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        directory.connect().unwrap();
    }

    #[test]
    fn a_path_too_long_for_a_socket_address_works() {
        let temporary = tempfile::tempdir().unwrap();
        let deep = temporary.path().join("a".repeat(120)).join("b".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        let directory = directory(&deep);
        let listener = directory.listen().unwrap();
        listener.set_nonblocking(false).unwrap();
        directory.connect().unwrap().write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
