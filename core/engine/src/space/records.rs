//! The records of a space's documents, kept small: a replica has a hundred thousand of them, and needs few at a time. A record is
//! kept as it is stored and read when it is asked for; one with many actors is kept as it is used, because reading it again and
//! again would cost more than it saves.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::document::record::{self, DocumentRecord, RecordError};
use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::space::document_digest;
use crate::sync::collection::Digest;

/// Records with more actors are kept as they are used. Reading one with this many takes some microseconds.
const PACKED_ACTORS_MAX: usize = 8;

/// What is known of one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Heads and frontier, as stored.
    pub signed: DocumentRecord,
    /// Where its row in the feed is; 0 before the first.
    pub feed_seq: u64,
}

/// The records of a space.
#[derive(Debug)]
pub struct Records {
    space: SpaceId,
    kept: BTreeMap<DocumentId, Kept>,
    /// The values of all rows that were loaded, one after the other: many small pieces of memory would cost more. What is changed
    /// later leaves a gap, which the next start closes.
    loaded: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    form: Form,
    feed_seq: u64,
}

#[derive(Debug)]
enum Form {
    /// The value of its row, where it is among those that were loaded.
    Loaded {
        at: u32,
        len: u32,
    },
    /// The value of its row, written by us.
    Packed(Box<[u8]>),
    Unpacked(Box<DocumentRecord>),
}

/// A record as it is kept, to be read.
enum Kind<'a> {
    Stored(&'a [u8]),
    Unpacked(&'a DocumentRecord),
}

impl Form {
    fn of(record: DocumentRecord) -> Self {
        if record.frontier.actors.len() > PACKED_ACTORS_MAX {
            Self::Unpacked(Box::new(record))
        } else {
            Self::Packed(record.encode_stored().into())
        }
    }
}

impl Kind<'_> {
    fn heads(&self) -> Vec<ChangeHash> {
        match self {
            Self::Stored(value) => record::heads(value),
            Self::Unpacked(record) => record.heads.clone(),
        }
    }
}

impl Records {
    /// None.
    pub fn new(space: SpaceId) -> Self {
        Self { space, kept: BTreeMap::new(), loaded: Vec::new() }
    }

    /// Takes in a row of the table of documents.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(&mut self, document: DocumentId, value: &[u8]) -> Result<(), RecordError> {
        let signed = DocumentRecord::decode_stored(self.space, document, value)?;
        let place = (u32::try_from(self.loaded.len()), u32::try_from(value.len()));
        let form = match place {
            (Ok(at), Ok(len)) if signed.frontier.actors.len() <= PACKED_ACTORS_MAX => {
                self.loaded.extend_from_slice(value);
                Form::Loaded { at, len }
            }
            _ => Form::of(signed),
        };
        let feed_seq = self.feed_seq(&document).unwrap_or(0);
        self.kept.insert(document, Kept { form, feed_seq });
        Ok(())
    }

    /// Takes in where a document's row in the feed is. A document may have that alone, after damage.
    pub fn load_feed_seq(&mut self, document: DocumentId, feed_seq: u64) {
        let empty = || Kept { form: Form::of(DocumentRecord::default()), feed_seq };
        self.kept.entry(document).or_insert_with(empty).feed_seq = feed_seq;
    }

    /// Everything was taken in: gives back the room that was left for more.
    pub fn loaded(mut self) -> Self {
        self.loaded.shrink_to_fit();
        Self { kept: self.kept.into_iter().collect(), ..self }
    }

    fn kind<'a>(&'a self, kept: &'a Kept) -> Kind<'a> {
        match &kept.form {
            Form::Loaded { at, len } => {
                let (at, len) = (*at as usize, *len as usize);
                Kind::Stored(&self.loaded[at..at + len])
            }
            Form::Packed(value) => Kind::Stored(value),
            Form::Unpacked(record) => Kind::Unpacked(record),
        }
    }

    fn unpacked<'a>(&'a self, document: &DocumentId, kept: &'a Kept) -> Cow<'a, DocumentRecord> {
        match self.kind(kept) {
            Kind::Stored(value) => Cow::Owned(
                DocumentRecord::decode_stored(self.space, *document, value)
                    .expect("it was read before, or written by us"),
            ),
            Kind::Unpacked(record) => Cow::Borrowed(record),
        }
    }

    fn is_one_salvaged(&self, kept: &Kept) -> bool {
        kept.feed_seq == 0 && self.kind(kept).heads().is_empty()
    }

    /// How many documents have one.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// No document has one.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether a document has one.
    pub fn has(&self, document: &DocumentId) -> bool {
        self.kept.contains_key(document)
    }

    /// Heads and frontier of a document. Costs microseconds.
    pub fn signed(&self, document: &DocumentId) -> Option<Cow<'_, DocumentRecord>> {
        Some(self.unpacked(document, self.kept.get(document)?))
    }

    /// All that is known of a document. Costs microseconds.
    pub fn get(&self, document: &DocumentId) -> Option<Record> {
        let kept = self.kept.get(document)?;
        Some(Record { signed: self.unpacked(document, kept).into_owned(), feed_seq: kept.feed_seq })
    }

    /// The heads of a document alone.
    pub fn heads(&self, document: &DocumentId) -> Option<Vec<ChangeHash>> {
        self.kept.get(document).map(|kept| self.kind(kept).heads())
    }

    /// Where a document's row in the feed is.
    pub fn feed_seq(&self, document: &DocumentId) -> Option<u64> {
        self.kept.get(document).map(|kept| kept.feed_seq)
    }

    /// Takes a record out to change it: [`Self::set`] puts it back. It may name very many actors, so it is not copied.
    pub fn take(&mut self, document: &DocumentId) -> Option<Record> {
        let kept = self.kept.remove(document)?;
        let feed_seq = kept.feed_seq;
        let signed = match kept.form {
            Form::Unpacked(record) => *record,
            Form::Loaded { .. } | Form::Packed(_) => self.unpacked(document, &kept).into_owned(),
        };
        Some(Record { signed, feed_seq })
    }

    /// Puts a record in place of another.
    pub fn set(&mut self, document: DocumentId, Record { signed, feed_seq }: Record) {
        self.kept.insert(document, Kept { form: Form::of(signed), feed_seq });
    }

    /// Every document that has one, in order.
    pub fn documents(&self) -> impl Iterator<Item = &DocumentId> {
        self.kept.keys()
    }

    /// Where in the feed each document is.
    pub fn feed_seqs(&self) -> impl Iterator<Item = (&DocumentId, u64)> {
        self.kept.iter().map(|(document, kept)| (document, kept.feed_seq))
    }

    /// Every document, with what it is compared by.
    pub fn digests(&self) -> impl Iterator<Item = (&DocumentId, Option<Digest>)> {
        self.kept.iter().map(|(document, kept)| (document, document_digest(document, &self.kind(kept).heads())))
    }

    /// The documents with a name, and their names. Costs a tenth of a microsecond for each document.
    pub fn names(&self) -> impl Iterator<Item = (DocumentId, &str)> {
        self.kept.iter().filter_map(|(document, kept)| {
            let name = match self.kind(kept) {
                Kind::Stored(value) => record::name(value),
                Kind::Unpacked(record) => record.summary.name.as_deref(),
            };
            Some((*document, name?))
        })
    }

    /// Whether a salvage made a document's record: it names no version, and nothing was stored of the document since. `None` if
    /// it has none.
    pub fn is_salvaged(&self, document: &DocumentId) -> Option<bool> {
        self.kept.get(document).map(|kept| self.is_one_salvaged(kept))
    }

    /// Documents whose record a salvage made.
    pub fn salvaged(&self) -> impl Iterator<Item = &DocumentId> {
        self.kept.iter().filter(|(_, kept)| self.is_one_salvaged(kept)).map(|(document, _)| document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::Proof;
    use crate::id::{AclHash, ActorId, DeviceId};
    use crate::keys::SIGNATURE_LEN;
    use crate::run::RunHeader;

    const SPACE: SpaceId = SpaceId([1; 32]);
    const DOCUMENT: DocumentId = DocumentId([2; 16]);

    fn record(actors: usize, feed_seq: u64) -> Record {
        let mut record = Record { feed_seq, ..Record::default() };
        for actor in 0..actors {
            let actor = u8::try_from(actor).unwrap();
            let header = RunHeader {
                space: SPACE,
                document: DOCUMENT,
                acl: AclHash([3; 32]),
                device: DeviceId([4; 32]),
                actor: ActorId([actor; 16]),
                first_seq: 1,
                last_seq: 2,
                tip: ChangeHash([actor; 32]),
                signature: [6; SIGNATURE_LEN],
            };
            record.signed.frontier.accept(Proof { header, first_lamport: 1, lamport: 9 });
            record.signed.heads.push(ChangeHash([actor; 32]));
        }
        record.signed.summary.name = (actors > 1).then(|| alloc::format!("of {actors}"));
        record
    }

    #[test]
    fn a_record_reads_as_it_was_set_or_loaded_however_it_is_kept() {
        let mut records = Records::new(SPACE);
        for actors in [0, 1, PACKED_ACTORS_MAX, PACKED_ACTORS_MAX + 1] {
            let record = record(actors, 7);
            let mut loaded = Records::new(SPACE);
            loaded.load_feed_seq(DOCUMENT, 7);
            loaded.load(DOCUMENT, &record.signed.encode_stored()).unwrap();
            records.set(DOCUMENT, record.clone());
            for records in [&mut records, &mut loaded.loaded()] {
                assert_eq!(records.get(&DOCUMENT), Some(record.clone()));
                assert_eq!(records.signed(&DOCUMENT).as_deref(), Some(&record.signed));
                assert_eq!(records.heads(&DOCUMENT), Some(record.signed.heads.clone()));
                assert_eq!(records.names().next().map(|(_, name)| name), record.signed.summary.name.as_deref());
                assert_eq!(records.take(&DOCUMENT), Some(record.clone()));
                assert!(records.is_empty() && records.signed(&DOCUMENT).is_none());
            }
        }
    }

    #[test]
    fn a_document_that_damage_left_a_feed_row_alone_is_not_one_that_a_salvage_made() {
        let mut records = Records::new(SPACE);
        records.load_feed_seq(DOCUMENT, 7);
        records.set(DocumentId([3; 16]), Record::default());
        records.set(DocumentId([4; 16]), record(1, 0));
        assert!(records.salvaged().eq(&[DocumentId([3; 16])]));
        assert_eq!(records.is_salvaged(&DOCUMENT), Some(false));
        assert_eq!(records.is_salvaged(&DocumentId([9; 16])), None);
    }

    #[test]
    fn a_row_that_is_no_record_is_not_loaded() {
        let mut records = Records::new(SPACE);
        assert!(records.load(DOCUMENT, &[0x84, 9]).is_err());
        assert!(records.is_empty());
    }
}
