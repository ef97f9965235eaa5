//! A document's frontier: for each actor its newest run. At once the version vector and the proof of authorship. And the
//! record of a document in the store: its heads and its frontier.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::{Decoder, Encoder};

use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::keys::SIGNATURE_LEN;
use crate::limits::DOCUMENT_ACTORS_MAX;
use crate::run::RunHeader;

/// What is held of each actor: the header of its newest run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    /// By actor.
    pub actors: BTreeMap<ActorId, RunHeader>,
}

/// A document's row in [`crate::storage::Table::Documents`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DocumentRecord {
    /// The hashes of signed changes that no other signed change depends on, sorted.
    pub heads: Vec<ChangeHash>,
    /// Who vouches for what.
    pub frontier: Frontier,
}

/// A stored document record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document record: {0}")]
pub struct RecordError(pub String);

impl Frontier {
    /// Takes note of an accepted run. Says whether it is news: a run that ends before what is held says nothing new.
    pub fn accept(&mut self, header: &RunHeader) -> bool {
        match self.actors.get(&header.actor) {
            Some(held) if held.last_seq >= header.last_seq => false,
            _ => {
                self.actors.insert(header.actor, header.clone());
                true
            }
        }
    }

    /// Last sequence number that is vouched for; 0 for an actor that is not known.
    pub fn last_seq(&self, actor: &ActorId) -> u64 {
        self.actors.get(actor).map_or(0, |header| header.last_seq)
    }
}

impl DocumentRecord {
    /// Version of the stored form.
    pub const VERSION: u8 = 1;

    /// The stored form: a CBOR array of version, heads, and for each actor an array of actor, device, acl, first seq, last
    /// seq, tip, signature. Space and document are the row's key.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 34 * self.heads.len() + 220 * self.frontier.actors.len());
        let mut e = Encoder::new(&mut out);
        // Writing to a vector does not fail.
        let written = (|| -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
            e.array(3)?.u8(Self::VERSION)?.array(self.heads.len() as u64)?;
            for head in &self.heads {
                e.bytes(&head.0)?;
            }
            e.array(self.frontier.actors.len() as u64)?;
            for header in self.frontier.actors.values() {
                e.array(7)?.bytes(&header.actor.0)?.bytes(&header.device.0)?.bytes(&header.acl.0)?;
                e.u64(header.first_seq)?.u64(header.last_seq)?.bytes(&header.tip.0)?.bytes(&header.signature)?;
            }
            Ok(())
        })();
        written.expect("a vector takes every byte");
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn decode(space: SpaceId, document: DocumentId, bytes: &[u8]) -> Result<Self, RecordError> {
        let error = |error: minicbor::decode::Error| RecordError(error.to_string());
        let mut d = Decoder::new(bytes);
        expect_array(&mut d, 3)?;
        let version = d.u8().map_err(error)?;
        if version != Self::VERSION {
            return Err(RecordError(format!("version {version}, this program knows {}", Self::VERSION)));
        }
        let count = bounded_array(&mut d, "heads")?;
        let mut heads = Vec::with_capacity(count.min(bytes.len() / 33));
        for _ in 0..count {
            heads.push(d.decode::<ChangeHash>().map_err(error)?);
        }
        let mut frontier = Frontier::default();
        for _ in 0..bounded_array(&mut d, "actors")? {
            expect_array(&mut d, 7)?;
            let actor = d.decode::<ActorId>().map_err(error)?;
            let device = d.decode::<DeviceId>().map_err(error)?;
            let acl = d.decode::<AclHash>().map_err(error)?;
            let first_seq = d.u64().map_err(error)?;
            let last_seq = d.u64().map_err(error)?;
            let tip = d.decode::<ChangeHash>().map_err(error)?;
            let signature = *d.decode::<minicbor::bytes::ByteArray<SIGNATURE_LEN>>().map_err(error)?;
            let header = RunHeader { space, document, acl, device, actor, first_seq, last_seq, tip, signature };
            if frontier.actors.insert(actor, header).is_some() {
                return Err(RecordError(format!("actor {actor} is there twice")));
            }
        }
        if d.position() != bytes.len() {
            return Err(RecordError(format!("{} bytes too many", bytes.len() - d.position())));
        }
        Ok(Self { heads, frontier })
    }
}

fn expect_array(d: &mut Decoder<'_>, expected: u64) -> Result<(), RecordError> {
    match d.array() {
        Ok(Some(length)) if length == expected => Ok(()),
        Ok(length) => Err(RecordError(format!("an array of {length:?} fields, {expected} expected"))),
        Err(error) => Err(RecordError(error.to_string())),
    }
}

fn bounded_array(d: &mut Decoder<'_>, what: &str) -> Result<usize, RecordError> {
    match d.array() {
        Ok(Some(length)) if length <= DOCUMENT_ACTORS_MAX as u64 => Ok(length as usize),
        Ok(Some(length)) => Err(RecordError(format!("{length} {what}, limit {DOCUMENT_ACTORS_MAX}"))),
        Ok(None) => Err(RecordError(format!("{what} without a length"))),
        Err(error) => Err(RecordError(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(actor: u8, last_seq: u64) -> RunHeader {
        RunHeader {
            space: SpaceId([1; 32]),
            document: DocumentId([2; 16]),
            acl: AclHash([3; 32]),
            device: DeviceId([4; 32]),
            actor: ActorId([actor; 16]),
            first_seq: 1,
            last_seq,
            tip: ChangeHash([5; 32]),
            signature: [6; SIGNATURE_LEN],
        }
    }

    #[test]
    fn a_frontier_only_grows() {
        let mut frontier = Frontier::default();
        assert!(frontier.accept(&header(1, 5)));
        assert!(!frontier.accept(&header(1, 5)));
        assert!(!frontier.accept(&header(1, 3)));
        assert!(frontier.accept(&header(1, 6)));
        assert!(frontier.accept(&header(2, 1)));
        assert_eq!((frontier.last_seq(&ActorId([1; 16])), frontier.last_seq(&ActorId([9; 16]))), (6, 0));
    }

    fn record() -> DocumentRecord {
        let mut record = DocumentRecord { heads: alloc::vec![ChangeHash([7; 32])], ..DocumentRecord::default() };
        record.frontier.accept(&header(1, 5));
        record.frontier.accept(&header(2, 1000));
        record
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let bytes = record().encode();
        assert_eq!(DocumentRecord::decode(SpaceId([1; 32]), DocumentId([2; 16]), &bytes), Ok(record()));
    }

    #[test]
    fn a_damaged_record_is_an_error_never_a_panic() {
        let bytes = record().encode();
        let decode = |bytes: &[u8]| DocumentRecord::decode(SpaceId([1; 32]), DocumentId([2; 16]), bytes);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        let mut other = bytes.clone();
        other[1] = 9;
        assert_eq!(decode(&other), Err(RecordError("version 9, this program knows 1".to_string())));
        // An array that says it has 2^60 heads.
        assert!(decode(&[0x83, 0x01, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn the_stored_form_of_a_record_stays() {
        let golden = include_str!("../golden/document_record.hex").trim();
        assert_eq!(data_encoding::HEXLOWER.encode(&record().encode()), golden);
    }
}
