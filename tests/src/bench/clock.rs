//! The benches' clocks: real time, because they measure, and this process's CPU time.

use std::fs;
use std::time::{Duration, Instant};

/// The time.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time and decides nothing")]
pub fn now() -> Instant {
    Instant::now()
}

/// CPU time that the living threads of this process have used, in milliseconds. Threads that have ended are not in it, so
/// take a difference only while none ends. Zero where the kernel does not say.
pub fn cpu_ms() -> f64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return 0.0 };
    let of_thread = |thread: fs::DirEntry| -> Option<u64> {
        // "time on the CPU in ns, time waiting in ns, timeslices"
        fs::read_to_string(thread.path().join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    let total: u64 = threads.flatten().filter_map(of_thread).sum();
    Duration::from_nanos(total).as_secs_f64() * 1e3
}
