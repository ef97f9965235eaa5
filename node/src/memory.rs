//! Memory that large imports and documents have taken is given back to the system.

/// Starts this program anew, once, with a fixed limit above which glibc gives a freed block back to the system at once. It begins
/// with this limit, but raises it to the size of the largest block that was freed (32 MiB at most), and from then on keeps what
/// is smaller for itself: after a large import tens of megabytes, in each thread that had a part in it. It reads the limit
/// only when a process begins, from the environment.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_back() {
    use std::os::unix::process::CommandExt as _;

    /// Who sets it knows better.
    const LIMIT: &str = "MALLOC_MMAP_THRESHOLD_";
    const LIMIT_BYTES: &str = "131072";

    if std::env::var_os(LIMIT).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only if it fails, and then the node runs as it is.
    let _failed = again.args(arguments).env(LIMIT, LIMIT_BYTES).exec();
}

/// Other allocators give back what is free, or have no such limit.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
