//! I12 determinism: the same seed makes the same trace.

use crate::sim::phases::Report;
use crate::sim::{Failure, Kind};

/// The checker's name.
pub const CHECKER: &str = "I12 determinism";

/// Compares two runs of one seed.
pub fn check(first: &Report, second: &Report) -> Option<Failure> {
    if first.trace_hash == second.trace_hash {
        return None;
    }
    let hex = |hash: &[u8; 32]| hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
    let (here, there) = (hex(&first.trace_hash), hex(&second.trace_hash));
    let text = format!(
        "two runs have traces {here} and {there} ({} and {} entries)",
        first.trace_entries, second.trace_entries
    );
    Some(Failure { kind: Kind::Safety, checker: CHECKER, at: first.stats.virtual_us, text })
}
