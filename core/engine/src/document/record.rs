//! The record of a document in the store: its heads and its frontier, all that syncing needs to know of it, and what lists say
//! of it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::document::summary::Summary;
use crate::frontier::{Frontier, Proof};
use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::keys::SIGNATURE_LEN;
use crate::limits::{DOCUMENT_ACTORS_MAX, DOCUMENT_NAME_BYTES_MAX};
use crate::run::RunHeader;

/// A document's row in [`crate::storage::Table::Documents`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DocumentRecord {
    /// The hashes of signed changes that no other signed change depends on, sorted.
    pub heads: Vec<ChangeHash>,
    /// Who vouches for what.
    pub frontier: Frontier,
    /// For lists.
    pub summary: Summary,
}

impl DocumentRecord {
    /// The heads, and the last change of every actor.
    pub fn tips(&self) -> Vec<ChangeHash> {
        let actors = self.frontier.actors.values().map(|proof| proof.header.tip);
        self.heads.iter().copied().chain(actors).collect()
    }

    /// Whether the change of an actor that has this number is in the document. Stored runs that end behind it were left there
    /// by a mending.
    pub fn names(&self, actor: &ActorId, seq: u64) -> bool {
        self.frontier.actors.get(actor).is_some_and(|proof| seq <= proof.header.last_seq)
    }
}

/// A stored document record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document record: {0}")]
pub struct RecordError(pub String);

/// The stored form. What lists and comparisons need comes first, so that it can be read without the actors. Fields behind the
/// known ones are skipped.
#[derive(Encode, Decode)]
struct Stored {
    #[n(0)]
    version: u8,
    #[n(1)]
    summary: Summary,
    #[n(2)]
    heads: Vec<ChangeHash>,
    #[n(3)]
    actors: Vec<StoredProof>,
}

/// One actor: its newest run's header without space and document (they are the row's key), and where its chain lies.
#[derive(Encode, Decode)]
struct StoredProof {
    #[n(0)]
    actor: ActorId,
    #[n(1)]
    device: DeviceId,
    #[n(2)]
    acl: AclHash,
    #[n(3)]
    first_seq: u64,
    #[n(4)]
    last_seq: u64,
    #[n(5)]
    tip: ChangeHash,
    #[n(6)]
    signature: ByteArray<SIGNATURE_LEN>,
    #[n(7)]
    first_lamport: u64,
    #[n(8)]
    lamport: u64,
}

impl DocumentRecord {
    /// Version of the stored form.
    pub const VERSION: u8 = 3;

    /// The row's value.
    pub fn encode_stored(&self) -> Vec<u8> {
        let actors = self
            .frontier
            .actors
            .values()
            .map(|Proof { header, first_lamport, lamport }| StoredProof {
                actor: header.actor,
                device: header.device,
                acl: header.acl,
                first_seq: header.first_seq,
                last_seq: header.last_seq,
                tip: header.tip,
                signature: header.signature.into(),
                first_lamport: *first_lamport,
                lamport: *lamport,
            })
            .collect();
        let (heads, summary) = (self.heads.clone(), self.summary.clone());
        minicbor::to_vec(Stored { version: Self::VERSION, heads, actors, summary })
            .expect("writing to memory does not fail")
    }

    /// Reads a row's value, given what its key says.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn decode_stored(space: SpaceId, document: DocumentId, value: &[u8]) -> Result<Self, RecordError> {
        let mut decoder = minicbor::Decoder::new(value);
        let Stored { version, heads, actors, summary } =
            decoder.decode().map_err(|error: minicbor::decode::Error| RecordError(error.to_string()))?;
        if version != Self::VERSION {
            return Err(RecordError(format!("version {version}, this program knows {}", Self::VERSION)));
        }
        if decoder.position() != value.len() {
            return Err(RecordError(format!("{} bytes too many", value.len() - decoder.position())));
        }
        if actors.len() > DOCUMENT_ACTORS_MAX {
            return Err(RecordError(format!("{} actors, limit {DOCUMENT_ACTORS_MAX}", actors.len())));
        }
        let name_bytes = summary.name.as_ref().map_or(0, String::len);
        if name_bytes > DOCUMENT_NAME_BYTES_MAX {
            return Err(RecordError(format!("a name of {name_bytes} bytes, limit {DOCUMENT_NAME_BYTES_MAX}")));
        }
        let mut frontier = Frontier { actors: BTreeMap::new() };
        for stored in actors {
            let StoredProof { actor, device, acl, first_seq, last_seq, tip, signature, first_lamport, lamport } =
                stored;
            let header =
                RunHeader { space, document, acl, device, actor, first_seq, last_seq, tip, signature: *signature };
            if frontier.actors.insert(actor, Proof { header, first_lamport, lamport }).is_some() {
                return Err(RecordError(format!("actor {actor} is there twice")));
            }
        }
        Ok(Self { heads, frontier, summary })
    }
}

/// The document's name in a stored record that was read before.
///
/// # Panics
/// Where it is no such record.
pub fn name(stored: &[u8]) -> Option<&str> {
    let mut decoder = minicbor::Decoder::new(stored);
    let name = to_summary(&mut decoder).and_then(|()| decoder.array()).and_then(|_| decoder.decode());
    name.expect("a record that was read before")
}

/// The heads in a stored record that was read before.
///
/// # Panics
/// Where it is no such record.
pub fn heads(stored: &[u8]) -> Vec<ChangeHash> {
    let mut decoder = minicbor::Decoder::new(stored);
    let heads = to_summary(&mut decoder).and_then(|()| decoder.skip()).and_then(|()| decoder.decode());
    heads.expect("a record that was read before")
}

fn to_summary(decoder: &mut minicbor::Decoder<'_>) -> Result<(), minicbor::decode::Error> {
    decoder.array()?;
    decoder.u8().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(actor: u8, last_seq: u64) -> Proof {
        let header = RunHeader {
            space: SpaceId([1; 32]),
            document: DocumentId([2; 16]),
            acl: AclHash([3; 32]),
            device: DeviceId([4; 32]),
            actor: ActorId([actor; 16]),
            first_seq: 1,
            last_seq,
            tip: ChangeHash([5; 32]),
            signature: [6; SIGNATURE_LEN],
        };
        Proof { header, first_lamport: 4, lamport: 2_000 }
    }

    fn record() -> DocumentRecord {
        let summary = Summary { name: Some("plan".to_string()), bytes: 4_096, ops: 2_000, changed_s: 1_700_000_000 };
        let heads = alloc::vec![ChangeHash([7; 32])];
        let mut record = DocumentRecord { heads, summary, ..DocumentRecord::default() };
        record.frontier.accept(proof(1, 5));
        record.frontier.accept(proof(2, 1000));
        record
    }

    fn decode(value: &[u8]) -> Result<DocumentRecord, RecordError> {
        DocumentRecord::decode_stored(SpaceId([1; 32]), DocumentId([2; 16]), value)
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let stored = record().encode_stored();
        assert_eq!((name(&stored), heads(&stored)), (Some("plan"), record().heads));
        assert_eq!(decode(&stored), Ok(record()));
    }

    #[test]
    fn a_damaged_record_is_an_error_never_a_panic() {
        let value = record().encode_stored();
        for cut in 0..value.len() {
            assert!(decode(&value[..cut]).is_err());
        }
        assert!(decode(&[&value[..], &[0]].concat()).is_err());
        let mut other = value.clone();
        other[1] = 9;
        assert_eq!(decode(&other), Err(RecordError("version 9, this program knows 3".to_string())));
        // An array that says it has 2^60 heads.
        assert!(decode(&[0x84, 0x03, 0x80, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn an_actor_is_there_once_and_there_are_not_too_many() {
        let stored = |actor: u16| StoredProof {
            actor: ActorId([&[0; 14][..], &actor.to_be_bytes()].concat().try_into().expect("16 bytes")),
            device: DeviceId([4; 32]),
            acl: AclHash([3; 32]),
            first_seq: 1,
            last_seq: 5,
            tip: ChangeHash([5; 32]),
            signature: [6; SIGNATURE_LEN].into(),
            first_lamport: 1,
            lamport: 5,
        };
        let read = |actors: Vec<u16>| {
            let actors = actors.into_iter().map(stored).collect();
            let value = minicbor::to_vec(Stored { version: 3, heads: Vec::new(), actors, summary: Summary::default() })
                .expect("a vector grows");
            decode(&value).map(|record| record.frontier.actors.len()).map_err(|error| error.to_string())
        };
        assert_eq!(read((0..20_000).collect()), Ok(20_000));
        assert_eq!(read((0..20_001).collect()).unwrap_err(), "document record: 20001 actors, limit 20000");
        let twice = read(alloc::vec![1, 2, 1]).unwrap_err();
        assert!(twice.ends_with("0001 is there twice"), "{twice}");
    }

    #[test]
    fn a_name_over_its_limit_is_no_record() {
        let mut long = record();
        long.summary.name = Some("n".repeat(DOCUMENT_NAME_BYTES_MAX + 1));
        let error = decode(&long.encode_stored()).unwrap_err();
        assert_eq!(error.to_string(), "document record: a name of 256 bytes, limit 255");
    }

    #[test]
    fn the_stored_form_of_a_record_stays() {
        let golden = include_str!("../../golden/document_record.hex").trim();
        assert_eq!(data_encoding::HEXLOWER.encode(&record().encode_stored()), golden);
    }
}
