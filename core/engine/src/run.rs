//! Signed runs: consecutive changes of one actor under one signature. The unit that is stored, sent and vouched for.

use alloc::vec::Vec;

use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::keys::{SIGNATURE_LEN, SecretKey};

/// What a signature says about a run. The signed bytes are the fields in this order, fixed width, integers big endian,
/// behind the domain and a version byte; the signature itself is not part of them (`docs/protocol.md`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunHeader {
    /// The space that the run belongs to.
    pub space: SpaceId,
    /// The document.
    pub document: DocumentId,
    /// The membership entries that the author stood on.
    pub acl: AclHash,
    /// Who signed.
    pub device: DeviceId,
    /// Whose changes these are.
    pub actor: ActorId,
    /// Sequence number of the first change, from 1.
    pub first_seq: u64,
    /// Sequence number of the last change.
    pub last_seq: u64,
    /// Hash of the last change. It commits to all changes before it.
    pub tip: ChangeHash,
    /// `device`'s signature.
    pub signature: [u8; SIGNATURE_LEN],
}

/// A header and the raw, uncompressed automerge change chunks that it speaks of, one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Who vouches for what.
    pub header: RunHeader,
    /// The chunks, as kept and sent.
    pub payload: Vec<u8>,
}

/// Local changes harvested from a document, not yet signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnsignedRun {
    /// The document's live actor.
    pub actor: ActorId,
    /// Sequence number of the first change.
    pub first_seq: u64,
    /// Sequence number of the last change.
    pub last_seq: u64,
    /// Hash of the last change.
    pub tip: ChangeHash,
    /// Raw chunks.
    pub payload: Vec<u8>,
}

impl RunHeader {
    /// Version byte of the signed form.
    pub const VERSION: u8 = 1;

    /// The bytes that are signed, without the domain (which [`crate::keys`] puts in front).
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 32 + 16 + 32 + 32 + 16 + 8 + 8 + 32);
        bytes.push(Self::VERSION);
        bytes.extend_from_slice(&self.space.0);
        bytes.extend_from_slice(&self.document.0);
        bytes.extend_from_slice(&self.acl.0);
        bytes.extend_from_slice(&self.device.0);
        bytes.extend_from_slice(&self.actor.0);
        bytes.extend_from_slice(&self.first_seq.to_be_bytes());
        bytes.extend_from_slice(&self.last_seq.to_be_bytes());
        bytes.extend_from_slice(&self.tip.0);
        bytes
    }
}

impl Run {
    /// Signs local changes.
    pub fn sign(key: &SecretKey, space: SpaceId, document: DocumentId, acl: AclHash, run: UnsignedRun) -> Self {
        let UnsignedRun { actor, first_seq, last_seq, tip, payload } = run;
        let device = key.device();
        let mut header =
            RunHeader { space, document, acl, device, actor, first_seq, last_seq, tip, signature: [0; SIGNATURE_LEN] };
        header.signature = key.sign(crate::keys::Domain::Run, &header.signed_bytes());
        Self { header, payload }
    }
}

impl Run {
    pub fn to_stored(&self) -> Vec<u8> { todo!() }
    pub fn from_stored(_space: SpaceId, _document: DocumentId, _actor: ActorId, _last_seq: u64, _value: &[u8]) -> Result<Self, alloc::string::String> { todo!() }
}
