//! What stands between bytes from a peer and automerge: stages in order, cheapest first.
//!
//! 1 frame length and rates, 2 what is known already: the session's business. 3 the author's role, 4 the form of the bytes
//! ([`inspector`]), 5 the signature: [`inspect`], without the document; what comes from a peer is read first ([`Payload`]),
//! because 2 needs what is in it, and then vouched for ([`vouch`]). 6 how the changes fit into the history
//! (`envelope`), 7 whether they are encoded the one right way (`canonical`), 8 whether each operation is one that an honest
//! replica could have made (`validator`), 9 applying them under the [`Guard`]: when the document settles its inbox.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::id::{ActorId, ChangeHash, DocumentId, SpaceId};
use crate::keys::{self, Domain};
use crate::limits::{RUN_BYTES_MAX, RUN_CHANGES_MAX};
use crate::run::{Run, RunHeader};
use crate::space::roles::Role;

pub(crate) mod canonical;
pub(crate) mod envelope;
mod input;
pub mod inspector;
mod operations;
pub(crate) mod validator;

pub use envelope::Intake;

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
    /// No honest replica makes this operation, seeing what its change has seen.
    #[error("operation {operation} is impossible: {reason}")]
    Impossible {
        /// Its counter.
        operation: u64,
        /// What is wrong with it.
        reason: String,
    },
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
    /// Tips of the runs being applied. With more than one, the next start applies them in small groups, up to sixteen of
    /// them one by one, so that another death narrows it down.
    pub tips: Vec<ChangeHash>,
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

/// For tests: lets a panic pass, which fails the test.
#[cfg(test)]
pub(crate) struct Bare;

#[cfg(test)]
impl Guard for Bare {
    fn run(&self, _: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        f();
        Ok(())
    }
}

/// Stages 3 to 5: everything that can be said of a run without its document. The payload is inspected without allocation
/// (`inspector`), what it holds is compared with the header, the role and the signature are checked.
pub fn inspect(run: &Run, authority: Authority) -> Result<(), Refusal> {
    may_write(&run.header, authority)?;
    payload_tip(&run.payload)?.is_of(&run.header)?;
    is_signed(&run.header)
}

/// The same where the payload was read already ([`Payload::read`], which is stage 4).
pub fn vouch(header: &RunHeader, payload: &Payload, authority: Authority) -> Result<(), Refusal> {
    may_write(header, authority)?;
    payload.tip.is_of(header)?;
    is_signed(header)
}

fn may_write(header: &RunHeader, authority: Authority) -> Result<(), Refusal> {
    match authority.role {
        Some(role) if role.can_write() => Ok(()),
        role => {
            let role = if role.is_some() { "a reader" } else { "not a member" };
            Err(Refusal::NotAWriter { device: header.device.to_string(), role })
        }
    }
}

fn is_signed(header: &RunHeader) -> Result<(), Refusal> {
    if keys::verify(&header.device, Domain::Run, &header.signed_bytes(), &header.signature) {
        Ok(())
    } else {
        Err(Refusal::BadSignature)
    }
}

/// What a payload holds, found without allocation: what a wire run leaves out of its header. Checks stage 4 on the way:
/// every change well formed and within the limits, all of one actor, numbered without gaps.
pub fn payload_tip(payload: &[u8]) -> Result<PayloadTip, Refusal> {
    walk(payload, |_, _| {})
}

/// A payload with what it holds, change by change, so that it is read once on its way from the wire into a document.
#[derive(Debug, Clone)]
pub struct Payload {
    bytes: Vec<u8>,
    tip: PayloadTip,
    links: Vec<envelope::Link>,
}

impl Payload {
    /// Stage 4, as [`payload_tip`]. Takes memory for each change that is found, and for as many more as there can be if they
    /// are like the first.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Refusal> {
        let mut links = Vec::new();
        let tip = walk(&bytes, |start, chunk| {
            if start == 0 {
                links.reserve_exact((bytes.len() / chunk.length).min(RUN_CHANGES_MAX as usize));
            }
            links.push(envelope::Link::of(chunk, start));
        })?;
        Ok(Self { bytes, tip, links })
    }

    /// What [`payload_tip`] finds.
    pub fn tip(&self) -> &PayloadTip {
        &self.tip
    }

    /// Its changes, in order.
    pub(crate) fn links(&self) -> &[envelope::Link] {
        &self.links
    }

    /// The payload as it was.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Greatest operation counters of the first change and of the last of a payload that has been through the gate. It may be large,
/// so nothing else of it is looked at.
pub(crate) fn lamports(payload: &[u8]) -> Result<(u64, u64), Refusal> {
    let (first, last) = inspector::first_and_last(payload)?;
    Ok((first.max_op(), last.max_op()))
}

/// Goes through the changes of a payload, each with where it begins.
fn walk(payload: &[u8], mut each: impl FnMut(usize, &inspector::Chunk<'_>)) -> Result<PayloadTip, Refusal> {
    if payload.len() > RUN_BYTES_MAX {
        return Err(Refusal::TooLarge(format!("a run of {} bytes, limit {RUN_BYTES_MAX}", payload.len())));
    }
    let mut found: Option<PayloadTip> = None;
    let mut start = 0;
    for chunk in chunks(payload) {
        let chunk = chunk?;
        let next = match &found {
            None => PayloadTip {
                changes: 1,
                actor: chunk.actor,
                first_seq: chunk.seq,
                last_seq: chunk.seq,
                tip: chunk.hash,
                first_lamport: chunk.max_op(),
                lamport: chunk.max_op(),
            },
            Some(before) if chunk.actor != before.actor => {
                return Err(Refusal::Malformed("a run has changes of two actors".to_string()));
            }
            Some(before) if chunk.seq != before.last_seq + 1 => {
                return Err(Refusal::Malformed(format!("change {} follows change {}", chunk.seq, before.last_seq)));
            }
            Some(before) if before.changes >= RUN_CHANGES_MAX => {
                return Err(Refusal::TooLarge(format!("a run has more than {RUN_CHANGES_MAX} changes")));
            }
            Some(before) => PayloadTip {
                changes: before.changes + 1,
                last_seq: chunk.seq,
                tip: chunk.hash,
                lamport: chunk.max_op(),
                ..*before
            },
        };
        each(start, &chunk);
        start += chunk.length;
        found = Some(next);
    }
    found.ok_or_else(|| Refusal::Malformed("a run without changes".to_string()))
}

/// What [`payload_tip`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTip {
    /// Number of changes.
    pub changes: u64,
    /// Whose they are.
    pub actor: ActorId,
    /// Sequence number of the first.
    pub first_seq: u64,
    /// Sequence number of the last.
    pub last_seq: u64,
    /// Its hash.
    pub tip: ChangeHash,
    /// Greatest operation counter of the first change.
    pub first_lamport: u64,
    /// Greatest operation counter of the last change.
    pub lamport: u64,
}

impl PayloadTip {
    /// A header says what was found.
    pub(crate) fn is_of(&self, header: &RunHeader) -> Result<(), Refusal> {
        let differs = |what: &str| Err(Refusal::Malformed(format!("the header's {what} is not the payload's")));
        if self.actor != header.actor {
            return differs("actor");
        }
        if self.first_seq != header.first_seq || self.last_seq != header.last_seq {
            return differs("range of sequence numbers");
        }
        if self.tip != header.tip {
            return differs("tip");
        }
        Ok(())
    }
}

/// The changes of a payload one after the other; ends after the first that is malformed.
pub fn chunks(payload: &[u8]) -> impl Iterator<Item = Result<inspector::Chunk<'_>, Refusal>> {
    let mut rest = payload;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let chunk = inspector::inspect(rest);
        rest = chunk.as_ref().map_or(&[], |chunk| &rest[chunk.length..]);
        Some(chunk)
    })
}
