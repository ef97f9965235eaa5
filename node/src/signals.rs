//! The signals with which terminals and service managers ask a program to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use anabranch_api::Failure;

/// Somebody asked the program to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ending {
    /// For people.
    pub(crate) name: &'static str,
    number: u8,
}

impl Ending {
    #[cfg(test)]
    pub(crate) const TERMINATE: Self = Self { name: "SIGTERM", number: 15 };

    /// The exit code that shells give to a command that such a signal has ended.
    pub(crate) fn exit_code(self) -> i32 {
        128 + i32::from(self.number)
    }
}

/// SIGTERM, SIGINT (Ctrl-C) and SIGHUP (the terminal is gone) from now on.
pub(crate) struct Endings {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where it is ignored: that is how `nohup` asks a program to outlive its terminal.
    hang_up: Option<Signal>,
}

impl Endings {
    /// To be called in a runtime.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot watch for signals: {error}")));
        let hang_up = if is_ignored(SignalKind::hangup()) { None } else { Some(watch(SignalKind::hangup())?) };
        Ok(Self { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())?, hang_up })
    }

    /// The next of them.
    pub(crate) async fn next(&mut self) -> Ending {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let (name, kind) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = self.interrupt.recv() => ("Ctrl-C", SignalKind::interrupt()),
            _ = hang_up => ("SIGHUP", SignalKind::hangup()),
        };
        Ending { name, number: kind.as_raw_value() as u8 }
    }
}

/// Whether this process was started with a signal ignored. Where the system does not say it, none is.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    mask(&status) & (1 << (kind.as_raw_value() - 1)) != 0
}

/// The signals that are ignored, a bit for each, as `proc(5)` has them.
fn mask(status: &str) -> u64 {
    let digits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        assert_eq!(mask("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(mask(""), 0);
    }
}
