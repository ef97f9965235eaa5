//! What a node costs the machine: memory and file descriptors, and whether they grow without end.

use std::time::Duration;

/// Memory that may come and go between two looks, whatever is done: allocator, caches, connections being made.
const RSS_PLAY_BYTES: u64 = 24 << 20;
/// Memory that an edit may cost for good, in the documents that are open and in the store's cache.
const RSS_PER_WRITE_BYTES: u64 = 8 << 10;
/// File descriptors that may come and go.
const FDS_PLAY: u64 = 48;

/// One look at one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// Since the beginning of the run.
    pub at: Duration,
    /// Edits of the whole run before that.
    pub writes: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open file descriptors.
    pub fds: u64,
}

/// Looks at a process; `None` if it is gone.
pub fn look(pid: u32, at: Duration, writes: u64) -> Option<Vitals> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rss.trim().strip_suffix(" kB")?.parse().ok()?;
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Vitals { at, writes, rss_bytes: kib * 1024, fds })
}

/// Says how a process grows, if it does: its highest marks of the last quarter against those of the second, so that neither
/// the start nor a single look decides. What was written in between may cost memory.
pub fn growth(looks: &[Vitals]) -> Option<String> {
    let quarter = looks.len() / 4;
    if quarter == 0 {
        return None;
    }
    let (early, late) = (&looks[quarter..2 * quarter], &looks[looks.len() - quarter..]);
    let most = |looks: &[Vitals], of: fn(&Vitals) -> u64| looks.iter().map(of).max().unwrap_or_default();
    let writes = most(late, |look| look.writes) - early[0].writes;
    let rss = [early, late].map(|looks| most(looks, |look| look.rss_bytes));
    let rss_max = rss[0] + RSS_PLAY_BYTES + writes * RSS_PER_WRITE_BYTES;
    if rss[1] > rss_max {
        return Some(format!("memory grew from {} to {} bytes with {writes} edits, allowed {rss_max}", rss[0], rss[1]));
    }
    let fds = [early, late].map(|looks| most(looks, |look| look.fds));
    (fds[1] > fds[0] + FDS_PLAY)
        .then(|| format!("open files grew from {} to {}, allowed {FDS_PLAY} more", fds[0], fds[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(rss: impl Fn(u64) -> u64, fds: impl Fn(u64) -> u64) -> Vec<Vitals> {
        let look = |n: u64| Vitals { at: Duration::from_secs(n), writes: n * 10, rss_bytes: rss(n) << 20, fds: fds(n) };
        (0..100).map(look).collect()
    }

    #[test]
    fn what_levels_off_or_swings_does_not_grow() {
        assert_eq!(growth(&looks(|n| 20 + n.min(20), |n| 30 + n % 20)), None);
        assert_eq!(growth(&[]), None);
    }

    #[test]
    fn what_climbs_to_the_end_grows() {
        let text = growth(&looks(|n| 20 + n, |_| 30)).unwrap();
        assert!(text.starts_with("memory grew from 72351744"), "{text}");
        let text = growth(&looks(|_| 20, |n| 30 + n)).unwrap();
        assert!(text.starts_with("open files grew from 79 to 129"), "{text}");
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let vitals = look(std::process::id(), Duration::ZERO, 0).unwrap();
        assert!(vitals.rss_bytes > 1 << 20 && vitals.fds >= 3, "{vitals:?}");
        assert_eq!(look(u32::MAX, Duration::ZERO, 0), None);
    }
}
