//! What stands between bytes from a peer and automerge: stages in order, cheapest first.

use alloc::string::String;

pub mod inspector;

use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::run::Run;
use crate::space::roles::Role;

/// Why a run was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signing device was no writer in the membership that the run refers to.
    #[error("device {device} is not a writer: it is {role}")]
    NotAWriter {
        /// The device, as text.
        device: String,
        /// What it is instead: `a reader`, `not a member`.
        role: &'static str,
    },
    /// The signature does not hold.
    #[error("the signature does not hold")]
    BadSignature,
    /// Bytes that are not what they should be.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Over a limit; the text carries the value and the limit.
    #[error("over a limit: {0}")]
    TooLarge(String),
    /// Well formed, and does not fit into the document's history.
    #[error("does not fit the history: {0}")]
    Misfit(String),
    /// Another change with the same actor and sequence number is here already.
    #[error("fork: actor {actor} has another change {seq}")]
    Fork {
        /// The actor, as text.
        actor: String,
        /// The sequence number at which the two differ.
        seq: u64,
    },
    /// It was being applied when the process died, or made automerge panic.
    #[error("poisoned: it broke the merge before")]
    Poisoned,
}

/// What the space says about a run's author, so that the gate need not look members up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// The author's role in the membership that the run's `acl_ref` stands for; `None` if it was no member.
    pub role: Option<Role>,
}

/// What is being applied, written down before it is tried, so that the next start knows what killed the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub document: DocumentId,
    /// Tips of the runs being applied. With more than one, the next start applies each of them alone.
    pub tips: alloc::vec::Vec<ChangeHash>,
}

/// The guarded call panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked(pub String);

/// Runs automerge where it may panic. Given by the driver: natively it writes the slot to a side file and catches
/// unwinding, in wasm (where a panic ends the instance) it writes the slot alone.
pub trait Guard: Send + Sync {
    /// Notes `slot`, calls `f` once, clears the slot.
    fn run(&self, slot: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked>;
}

/// Stages 3 to 5: everything that can be said of a run without its document. The payload is inspected without allocation
/// (`inspector`), the tip is computed from it and compared with the header, the role and the signature are checked.
pub fn inspect(run: &Run, authority: Authority) -> Result<(), Refusal> {
    let _ = (run, authority);
    todo!()
}

/// The tip and last sequence number that a payload ends with, found without allocation: what a wire run leaves out of its
/// header. Checks stage 4 on the way.
pub fn payload_tip(payload: &[u8]) -> Result<PayloadTip, Refusal> {
    let _ = payload;
    todo!()
}

/// What [`payload_tip`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTip {
    /// Number of changes.
    pub changes: u64,
    /// Sequence number of the last.
    pub last_seq: u64,
    /// Its hash.
    pub tip: ChangeHash,
}
