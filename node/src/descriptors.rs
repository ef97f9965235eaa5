//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use anabranch_api::Failure;

/// A node without peers and commands has some 20 open.
const NEEDED: u64 = 32;
/// Enough for all sessions and commands that a node takes.
const WANTED: u64 = 1_024;

/// Raises the limit as far as this process may, and says where that is not enough.
pub(crate) fn make_room() -> Result<(), Failure> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    // `None` is no limit at all.
    let available = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            info!(%error, "the limit of open files stays as it is");
            current
        }
    };
    match available {
        Some(available) if available < NEEDED => Err(Failure::failed(format!(
            "this process may have {available} files open, at least {NEEDED} are needed: raise its limit (`ulimit -n {WANTED}`, \
             or `LimitNOFILE={WANTED}` in a systemd unit)"
        ))),
        Some(available) if available < WANTED => {
            warn!(
                available,
                "few files may be open at once: many peers or commands will be turned away (`ulimit -n {WANTED}`)"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}
