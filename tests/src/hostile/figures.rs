//! What an attack costs, as it is seen from outside, and what it is held to.

use std::path::Path;
use std::time::Duration;

use crate::hostile::attack::Share;
use crate::processes::finding::Finding;
use crate::processes::patience::Stopwatch;

/// A slow edit is one that takes longer than this, however fast the quiet ones are.
pub const P99_FLOOR: Duration = Duration::from_millis(20);
/// And than so many times a quiet one.
pub const P99_FACTOR: u32 = 3;
/// Edits of which the slowest one in a hundred says something.
const P99_EDITS_MIN: usize = 1_000;
/// Disk that one honest edit takes, at most: some 500 bytes alone, and what the store's file plays by.
const DISK_PER_EDIT: u64 = 2 << 10;
/// Memory that one honest edit takes, at most, in the document and the store's cache.
const MEMORY_PER_EDIT: u64 = 8 << 10;
/// A log may grow by this, whatever is done.
pub const LOG_BYTES_MAX: u64 = 256 << 10;
/// So long after the attack the nodes must be at rest, where nobody writes.
pub const CALM_MAX: Duration = Duration::from_secs(10);
/// So long after a restart, or after the attack, the peers must have met and have all that is honest.
pub const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// Nodes are at rest that together take less of a core than this.
const REST_MAX: f64 = 0.20;
/// Of what a core does, seen over this time.
const CALM_WINDOW: Duration = Duration::from_millis(250);
/// The kernel counts processor time in these.
const TICKS_PER_SECOND: f64 = 100.0;
const MIB: u64 = 1 << 20;

/// One look at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// The most that it was since it was last forgotten.
    pub rss_max: u64,
    /// Files of its directory, in bytes.
    pub disk: u64,
    /// Its log.
    pub log: u64,
}

impl Look {
    /// Looks at the process and at the directory of a node; zeros where there is nothing.
    pub fn at(pid: u32, directory: &Path) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.unwrap_or_default() * 1024
        };
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
        Self {
            rss: of("VmRSS:"),
            rss_max: of("VmHWM:"),
            disk: files.map(|file| size(&file.path())).sum(),
            log: size(&directory.with_extension("log")),
        }
    }
}

/// Forgets how much memory a process has had at most.
pub fn forget_rss_max(pid: u32) {
    // Where that cannot be done the figure is that of its whole life, which is no less.
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Processor time that a process has taken, in seconds.
pub fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may have spaces; what follows it has none.
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks() + ticks()) / TICKS_PER_SECOND
}

/// Cores that these processes take together, over a short time.
pub fn busy(pids: &[u32]) -> f64 {
    let all = || pids.iter().map(|pid| processor(*pid)).sum::<f64>();
    let (before, clock) = (all(), Stopwatch::start());
    std::thread::sleep(CALM_WINDOW);
    (all() - before) / clock.elapsed().as_secs_f64()
}

/// Waits until processes are at rest; returns how long that took.
///
/// # Errors
/// They are not within [`CALM_MAX`].
pub fn rest(pids: &[u32]) -> Result<Duration, Finding> {
    let clock = Stopwatch::start();
    loop {
        let now = busy(pids);
        if now <= REST_MAX {
            return Ok(clock.elapsed().saturating_sub(CALM_WINDOW));
        }
        if clock.elapsed() > CALM_MAX {
            let max = CALM_MAX.as_secs();
            return Err(Finding::liveness(format!(
                "{now:.2} cores are busy {max} s after the attack, with nobody writing"
            )));
        }
    }
}

/// The slowest but one in a hundred.
pub fn p99(times: &[Duration]) -> Duration {
    slowest_but(times, 1)
}

fn slowest_but(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * (100 - percent)).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// What is held to a limit: the slowest but one in a hundred, where those left out are ten and more. Of fewer edits a machine that
/// was busy for a moment has slowed some, whatever the attack; there it is the slowest but one in twenty.
pub fn tail(times: &[Duration]) -> Duration {
    if times.len() >= P99_EDITS_MIN { p99(times) } else { slowest_but(times, 5) }
}

/// What the slowest but one of honest edits may take during an attack, when they take so long in quiet times.
pub fn p99_max(quiet: Duration) -> Duration {
    (quiet * P99_FACTOR).max(P99_FLOOR)
}

/// Holds what a node has grown to its share. `edits` are honest ones that were made meanwhile.
pub fn growth(name: &str, share: Share, before: Look, after: Look, edits: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut hold = |what: &str, grown: u64, limit: u64| {
        if grown > limit {
            findings.push(Finding::safety(format!("{name}'s {what} grew by {grown} bytes, share {limit}")));
        }
    };
    let memory = share.memory_mib * MIB + edits * MEMORY_PER_EDIT;
    hold("memory", after.rss_max.saturating_sub(before.rss), memory);
    hold("disk", after.disk.saturating_sub(before.disk), share.disk_mib * MIB + edits * DISK_PER_EDIT);
    hold("log", after.log.saturating_sub(before.log), LOG_BYTES_MAX);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_edit_of_a_hundred_is_left_out_and_two_are_not() {
        let mut times = vec![Duration::from_millis(1); 98];
        times.extend([Duration::from_millis(7), Duration::from_millis(900)]);
        assert_eq!(p99(&times), Duration::from_millis(7));
        times[0] = Duration::from_millis(800);
        assert_eq!(p99(&times), Duration::from_millis(800));
        assert_eq!(p99(&[]), Duration::ZERO);
        assert_eq!(tail(&times), Duration::from_millis(1), "two of a hundred may be the machine's");
        let many: Vec<_> = times.iter().cycle().take(P99_EDITS_MIN).copied().collect();
        assert_eq!(tail(&many), Duration::from_millis(800));
        assert_eq!(p99_max(Duration::from_millis(2)), P99_FLOOR);
        assert_eq!(p99_max(Duration::from_millis(9)), Duration::from_millis(27));
    }

    #[test]
    fn what_honest_edits_take_is_not_the_attackers() {
        let before = Look { rss: 20 * MIB, rss_max: 30 * MIB, disk: MIB, log: 0 };
        let after = Look { rss: 22 * MIB, rss_max: 31 * MIB, disk: 4 * MIB, log: 9 };
        assert_eq!(growth("alice", Share::of(11, 3), before, after, 0), Vec::new());
        let text = growth("alice", Share::of(10, 2), before, after, 0);
        assert_eq!(text.len(), 2, "{text:?}");
        assert_eq!(text[1].to_string(), "Safety: alice's disk grew by 3145728 bytes, share 2097152");
        assert_eq!(growth("alice", Share::of(10, 2), before, after, 512), Vec::new());
    }

    #[test]
    fn this_process_takes_memory_and_time() {
        let look = Look::at(std::process::id(), Path::new("."));
        assert!(look.rss > MIB && look.rss_max >= look.rss && look.disk > 0, "{look:?}");
        let clock = Stopwatch::start();
        while clock.elapsed() < Duration::from_millis(60) {}
        assert!(processor(std::process::id()) > 0.0);
    }
}
