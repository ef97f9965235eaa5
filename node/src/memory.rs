//! Memory that large imports and documents have taken is given back to the system.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use glibc::give_back;

/// Other allocators give back what is free, or have no such limit.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::OsStr;
    use std::os::unix::process::CommandExt as _;
    use std::path::Path;

    /// Who sets it knows better.
    const LIMIT: &str = "MALLOC_MMAP_THRESHOLD_";
    const LIMIT_BYTES: &str = "131072";
    /// Says that this was done. The limit cannot say it: glibc takes it from a program that has more rights than who starts it.
    const STARTED_AGAIN: &str = "ANABRANCH_STARTED_AGAIN";

    /// Starts this program again, once, with a fixed limit above which glibc gives a freed block back to the system at once. It
    /// begins with this limit, but raises it to the size of the largest block that was freed (32 MiB at most), and from then
    /// on keeps what is smaller for itself: after a large import tens of megabytes, in each thread that had a part in it. It
    /// reads the limit only when a process begins, from the environment.
    pub(crate) fn give_back() {
        let Ok(program) = std::env::current_exe() else { return };
        let mut arguments = std::env::args_os();
        let Some(name) = arguments.next() else { return };
        if !starts_again(|variable| std::env::var_os(variable).is_some(), &program, &name) {
            return;
        }
        let mut again = std::process::Command::new(program);
        again.arg0(name).args(arguments).env(LIMIT, LIMIT_BYTES).env(STARTED_AGAIN, "1");
        // It returns only if it fails, and then the node runs as it is.
        let _failed = again.exec();
    }

    /// Whether to start `program`, the file that runs here, again. It must be what was called, `name`: where the system's
    /// loader was told to load that, the file is the loader.
    fn starts_again(is_set: impl Fn(&str) -> bool, program: &Path, name: &OsStr) -> bool {
        let is_called = Path::new(name).file_name().is_some_and(|name| program.file_name() == Some(name));
        is_called && !is_set(LIMIT) && !is_set(STARTED_AGAIN)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn starts(set: &[&str], program: &str, name: &str) -> bool {
            starts_again(|variable| set.contains(&variable), program.as_ref(), name.as_ref())
        }

        #[test]
        fn a_node_starts_itself_again_only_once() {
            let program = "/usr/bin/anabranch";
            assert!(starts(&["PATH"], program, "anabranch"));
            assert!(!starts(&["PATH", LIMIT], program, "anabranch"));
            assert!(!starts(&[LIMIT, STARTED_AGAIN], program, "anabranch"));
            assert!(!starts(&[STARTED_AGAIN], program, "anabranch"), "the system has taken the limit away");
        }

        #[test]
        fn a_node_starts_no_other_file_than_the_one_that_was_called() {
            assert!(starts(&[], "/opt/anabranch-1/anabranch", "./anabranch"));
            assert!(!starts(&[], "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/bin/anabranch"));
            assert!(!starts(&[], "/usr/bin/anabranch (deleted)", "anabranch"));
            assert!(!starts(&[], "/usr/bin/anabranch", ""));
        }
    }
}
