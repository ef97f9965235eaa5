//! Signed runs: consecutive changes of one actor under one signature. The unit that is stored, sent and vouched for.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::{Decoder, Encoder};

use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::keys::{self, Domain, SIGNATURE_LEN, Signer};
use crate::limits::RUN_BYTES_MAX;

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

    /// Whether the signature is the device's.
    pub fn verify(&self) -> bool {
        keys::verify(&self.device, Domain::Run, &self.signed_bytes(), &self.signature)
    }
}

/// A stored run cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run: {0}")]
pub struct RunError(pub String);

impl Run {
    /// Version of the stored form.
    pub const STORED_VERSION: u8 = 1;

    /// The value of the run's row in [`crate::storage::Table::Runs`]: a CBOR array of version, device, acl, first seq, tip,
    /// signature, payload. The other fields are the row's key.
    pub fn encode_stored(&self) -> Vec<u8> {
        self.clone().into_stored()
    }

    /// [`Self::encode_stored`] without a copy of the payload, which may be large.
    pub fn into_stored(self) -> Vec<u8> {
        let Self { header, payload } = self;
        let mut out = Vec::with_capacity(240);
        let mut e = Encoder::new(&mut out);
        // Writing to a vector does not fail.
        let written = (|| -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
            e.array(7)?.u8(Self::STORED_VERSION)?.bytes(&header.device.0)?.bytes(&header.acl.0)?;
            e.u64(header.first_seq)?.bytes(&header.tip.0)?.bytes(&header.signature)?;
            e.bytes_len(payload.len() as u64)?;
            Ok(())
        })();
        written.expect("a vector takes every byte");
        let mut value = payload;
        value.reserve_exact(out.len());
        value.splice(..0, out);
        value
    }

    /// Reads the value of a row, given what its key says.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn decode_stored(
        space: SpaceId,
        document: DocumentId,
        actor: ActorId,
        last_seq: u64,
        value: &[u8],
    ) -> Result<Self, RunError> {
        Self::from_stored(space, document, actor, last_seq, value.to_vec())
    }

    /// [`Self::decode_stored`] without a copy of the payload, which may be large.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_stored(
        space: SpaceId,
        document: DocumentId,
        actor: ActorId,
        last_seq: u64,
        mut value: Vec<u8>,
    ) -> Result<Self, RunError> {
        let error = |error: minicbor::decode::Error| RunError(error.to_string());
        let mut d = Decoder::new(&value);
        let fields = d.array().map_err(error)?;
        if fields != Some(7) {
            return Err(RunError(format!("an array of {fields:?} fields, 7 expected")));
        }
        let version = d.u8().map_err(error)?;
        if version != Self::STORED_VERSION {
            return Err(RunError(format!("version {version}, this program knows {}", Self::STORED_VERSION)));
        }
        let device = d.decode::<DeviceId>().map_err(error)?;
        let acl = d.decode::<AclHash>().map_err(error)?;
        let first_seq = d.u64().map_err(error)?;
        let tip = d.decode::<ChangeHash>().map_err(error)?;
        let signature = *d.decode::<minicbor::bytes::ByteArray<SIGNATURE_LEN>>().map_err(error)?;
        let payload = d.bytes().map_err(error)?.len();
        if payload > RUN_BYTES_MAX {
            return Err(RunError(format!("{payload} bytes of changes, limit {RUN_BYTES_MAX}")));
        }
        if d.position() != value.len() {
            return Err(RunError(format!("{} bytes too many", value.len() - d.position())));
        }
        let header = RunHeader { space, document, acl, device, actor, first_seq, last_seq, tip, signature };
        value.drain(..value.len() - payload);
        Ok(Self { header, payload: value })
    }

    /// Signs local changes.
    pub fn sign(key: &dyn Signer, space: SpaceId, document: DocumentId, acl: AclHash, run: UnsignedRun) -> Self {
        let UnsignedRun { actor, first_seq, last_seq, tip, payload } = run;
        let device = key.device();
        let mut header =
            RunHeader { space, document, acl, device, actor, first_seq, last_seq, tip, signature: [0; SIGNATURE_LEN] };
        header.signature = key.sign(Domain::Run, &header.signed_bytes());
        Self { header, payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn run() -> Run {
        let key = SecretKey::from_seed(&[1; 32]);
        let unsigned = UnsignedRun {
            actor: ActorId([2; 16]),
            first_seq: 3,
            last_seq: 300,
            tip: ChangeHash([5; 32]),
            payload: alloc::vec![6, 7, 8],
        };
        Run::sign(&key, SpaceId([9; 32]), DocumentId([10; 16]), AclHash([11; 32]), unsigned)
    }

    fn decode(value: &[u8]) -> Result<Run, RunError> {
        Run::decode_stored(SpaceId([9; 32]), DocumentId([10; 16]), ActorId([2; 16]), 300, value)
    }

    #[test]
    fn a_stored_run_with_more_than_a_run_may_have_is_not_read() {
        let long = |length| decode(&Run { payload: alloc::vec![0; length], ..run() }.encode_stored());
        assert!(long(RUN_BYTES_MAX).is_ok());
        let error = long(RUN_BYTES_MAX + 1).unwrap_err().to_string();
        assert!(error.contains(&format!("{} bytes of changes, limit {RUN_BYTES_MAX}", RUN_BYTES_MAX + 1)), "{error}");
    }

    #[test]
    fn a_signature_holds_for_exactly_the_header_that_was_signed() {
        let run = run();
        assert!(run.header.verify());
        let changed: [fn(&mut RunHeader); 9] = [
            |header| header.space.0[0] ^= 1,
            |header| header.document.0[0] ^= 1,
            |header| header.acl.0[0] ^= 1,
            |header| header.device.0[0] ^= 1,
            |header| header.actor.0[0] ^= 1,
            |header| header.first_seq += 1,
            |header| header.last_seq += 1,
            |header| header.tip.0[0] ^= 1,
            |header| header.signature[0] ^= 1,
        ];
        for change in changed {
            let mut header = run.header.clone();
            change(&mut header);
            assert!(!header.verify());
        }
    }

    #[test]
    fn a_stored_run_reads_back_as_it_was_written() {
        assert_eq!(decode(&run().encode_stored()), Ok(run()));
    }

    #[test]
    fn a_damaged_stored_run_is_an_error_never_a_panic() {
        let value = run().encode_stored();
        for cut in 0..value.len() {
            assert!(decode(&value[..cut]).is_err());
        }
        assert!(decode(&[&value[..], &[0]].concat()).is_err());
        let mut other = value;
        other[1] = 2;
        assert_eq!(decode(&other), Err(RunError("version 2, this program knows 1".to_string())));
    }

    #[test]
    fn the_signed_and_the_stored_form_of_a_run_stay() {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(hex(&run().header.signed_bytes()), include_str!("../golden/run_signed.hex").trim());
        assert_eq!(hex(&run().encode_stored()), include_str!("../golden/run_stored.hex").trim());
    }
}
