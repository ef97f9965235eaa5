//! Recordings: everything that one engine was given, in order, so that another one can be given the same. `docs/recording.md`
//! describes the format; what writes the file is the driver, what reads it is whoever replays.
//!
//! A file is [`MAGIC`] and then records, each with its length and a checksum, so that a file that ends anywhere is a
//! recording of what came before. The device's secret key is not in it: the signatures that it made are, by what they sign.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use crate::Output;
use crate::gate::Slot;
use crate::id::{ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::keys::{self, Domain, SIGNATURE_LEN, Signer};
use crate::limits::RECORD_BYTES_MAX;
use crate::storage::{Request, Row};

pub mod call;

pub use call::{Asked, Call};

/// What a file begins with.
pub const MAGIC: &[u8; 16] = b"anabranch record";
/// The version written and read.
pub const VERSION: u32 = 2;
/// Bytes before each record: its length, big endian, and the first bytes of its BLAKE3 hash.
pub const HEADER_LEN: usize = 4 + CHECK_LEN;
const CHECK_LEN: usize = 8;

/// One entry of a recording.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Record {
    /// What the engine was made with. The first record, and only the first.
    #[n(0)]
    Start {
        /// [`VERSION`].
        #[n(0)]
        version: u32,
        /// The device's public key.
        #[n(1)]
        device: DeviceId,
        /// The seed that the engine was given.
        #[n(2)]
        seed: ByteArray<32>,
        /// Microseconds on the driver's clock.
        #[n(3)]
        mono: u64,
        /// Seconds since 1970.
        #[n(4)]
        wall_s: i64,
        /// What an earlier process died of, perhaps.
        #[n(5)]
        slot: Option<DeadSlot>,
    },
    /// A row of the store's image. After `Start`, before anything else.
    #[n(1)]
    Row {
        /// The table's number.
        #[n(0)]
        table: u8,
        /// The key.
        #[n(1)]
        key: ByteVec,
        /// The value.
        #[n(2)]
        value: ByteVec,
    },
    /// A call of the engine.
    #[n(2)]
    Called {
        /// Microseconds on the driver's clock.
        #[n(0)]
        mono: u64,
        /// Seconds since 1970.
        #[n(1)]
        wall_s: i64,
        /// Outputs were asked for since the call before.
        #[n(2)]
        polled: bool,
        /// Which.
        #[n(3)]
        call: Call,
    },
    /// A signature that the device made.
    #[n(3)]
    Signed {
        /// What it signs ([`keys::digest`]).
        #[n(0)]
        digest: ByteArray<32>,
        /// The signature.
        #[n(1)]
        signature: ByteArray<SIGNATURE_LEN>,
    },
    /// What had come out so far.
    #[n(4)]
    Checkpoint {
        /// Outputs were asked for since the last call.
        #[n(0)]
        polled: bool,
        /// Outputs so far.
        #[n(1)]
        outputs: u64,
        /// [`chain`] over them.
        #[n(2)]
        hash: ByteArray<32>,
    },
    /// Nothing more was recorded.
    #[n(5)]
    End {
        /// Because of the file's limit; else the replica was closed.
        #[n(0)]
        limit: bool,
    },
}

/// [`Slot`] in a recording.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeadSlot {
    #[n(0)]
    space: SpaceId,
    #[n(1)]
    document: DocumentId,
    #[n(2)]
    tips: Vec<ChangeHash>,
}

impl From<Slot> for DeadSlot {
    fn from(slot: Slot) -> Self {
        let Slot { space, document, tips } = slot;
        Self { space, document, tips }
    }
}

impl From<DeadSlot> for Slot {
    fn from(slot: DeadSlot) -> Self {
        let DeadSlot { space, document, tips } = slot;
        Self { space, document, tips }
    }
}

/// A file is no recording, or not from here on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// It does not begin as one.
    #[error("this is not a recording")]
    NotARecording,
    /// A record is over the limit.
    #[error("record {record} is {bytes} bytes, limit {limit}", limit = RECORD_BYTES_MAX)]
    TooLong {
        /// Counted from 0.
        record: u64,
        /// Its length.
        bytes: usize,
    },
    /// Its bytes are not those that were written.
    #[error("record {record} is damaged: its checksum does not match")]
    Damaged {
        /// Counted from 0.
        record: u64,
    },
    /// It says what makes no sense.
    #[error("record {record} is malformed: {reason}")]
    Malformed {
        /// Counted from 0.
        record: u64,
        /// What is wrong.
        reason: String,
    },
    /// Written by another version.
    #[error("version {0}, this program reads {known}", known = VERSION)]
    Version(u32),
}

/// A record as it stands in a file.
///
/// # Errors
/// It is over [`RECORD_BYTES_MAX`].
pub fn frame(record: &Record) -> Result<Vec<u8>, RecordingError> {
    let body = minicbor::to_vec(record).expect("writing to memory does not fail");
    if body.len() > RECORD_BYTES_MAX {
        return Err(RecordingError::TooLong { record: 0, bytes: body.len() });
    }
    Ok(seal(&body))
}

/// A record's body behind its length and checksum.
pub fn seal(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], &check(body), body].concat()
}

fn check(body: &[u8]) -> [u8; CHECK_LEN] {
    *blake3::hash(body).as_bytes().first_chunk().expect("a hash is longer")
}

/// Reads the records of a file, one by one. Ends before a record that is not there whole; ends for good with an error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    next: u64,
}

impl<'a> Reader<'a> {
    /// Begins with a whole file.
    ///
    /// # Errors
    /// It is no recording.
    pub fn new(file: &'a [u8]) -> Result<Self, RecordingError> {
        let rest = file.strip_prefix(MAGIC).ok_or(RecordingError::NotARecording)?;
        Ok(Self { rest, next: 0 })
    }

    /// Bytes of a last record that is not there whole: the file was cut off while it was written.
    pub fn left_over(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Option<Result<Record, RecordingError>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let (expected, rest) = rest.split_first_chunk::<CHECK_LEN>()?;
        let (record, bytes) = (self.next, u32::from_be_bytes(*length) as usize);
        if bytes > RECORD_BYTES_MAX {
            return Some(Err(RecordingError::TooLong { record, bytes }));
        }
        let (body, rest) = rest.split_at_checked(bytes)?;
        self.rest = rest;
        self.next += 1;
        if check(body) != *expected {
            return Some(Err(RecordingError::Damaged { record }));
        }
        let malformed = |reason: String| RecordingError::Malformed { record, reason };
        let mut decoder = minicbor::Decoder::new(body);
        let read = match decoder.decode::<Record>() {
            Ok(_) if decoder.position() != body.len() => {
                Err(malformed(format!("{} bytes too many", body.len() - decoder.position())))
            }
            Ok(Record::Start { version, .. }) if version != VERSION => Err(RecordingError::Version(version)),
            Ok(read) if matches!(read, Record::Start { .. }) != (record == 0) => {
                Err(malformed(String::from("the first record, and only that, is the start")))
            }
            Ok(read) => Ok(read),
            Err(error) => Err(malformed(error.to_string())),
        };
        Some(read)
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Record, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if let Some(Err(_)) = read {
            self.rest = &[];
        }
        read
    }
}

/// The hash of the outputs so far and one more. It begins with zeros.
pub fn chain(before: &[u8; 32], output: &Output) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hash_output(&mut hasher, output);
    *hasher.finalize().as_bytes()
}

/// Adds an output to a hash: every field that decides what the world does with it.
pub fn hash_output(hasher: &mut blake3::Hasher, output: &Output) {
    let mut put = |parts: &[&[u8]]| {
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    };
    match output {
        Output::Reply(id, reply) => put(&[b"reply", &id.0.to_be_bytes(), format!("{reply:?}").as_bytes()]),
        Output::Event(event) => put(&[b"event", format!("{event:?}").as_bytes()]),
        Output::Send { session, bytes } => put(&[b"send", &session.0.to_be_bytes(), bytes]),
        Output::Close { session, reason } => put(&[b"close", &session.0.to_be_bytes(), reason.as_bytes()]),
        Output::Dial { address, peer } => put(&[b"dial", address.as_bytes(), &peer.map_or([0; 32], |peer| peer.0)]),
        Output::Admit { peer } => put(&[b"admit", &peer.0]),
        Output::Subscribe { topic } => put(&[b"subscribe", topic.as_bytes()]),
        Output::Unsubscribe { topic } => put(&[b"unsubscribe", topic.as_bytes()]),
        Output::Publish { topic, bytes } => put(&[b"publish", topic.as_bytes(), bytes]),
        Output::Judge { hint, verdict } => put(&[b"judge", &hint.0.to_be_bytes(), format!("{verdict:?}").as_bytes()]),
        Output::Store(Request::Commit { id, rows }) => {
            put(&[b"commit", &id.0.to_be_bytes()]);
            for Row { table, key, value } in rows {
                put(&[&[*table as u8, u8::from(value.is_some())], key, value.as_deref().unwrap_or_default()]);
            }
        }
        Output::Store(Request::Resume { id }) => put(&[b"resume", &id.0.to_be_bytes()]),
        Output::Store(Request::Scan { id, table, from, to, bytes_max }) => {
            put(&[b"scan", &id.0.to_be_bytes(), &[*table as u8], from, to, &(*bytes_max as u64).to_be_bytes()]);
        }
        Output::Store(Request::Salvage { id, table, from, to, bytes_max }) => {
            put(&[b"salvage", &id.0.to_be_bytes(), &[*table as u8], from, to, &(*bytes_max as u64).to_be_bytes()]);
        }
        Output::Work(work) => put(&[b"work", &work.space.0, &work.document.0]),
    }
}

/// Signs in a replay: it has the signatures that the device made, and not its key. What the device never signed gets a
/// signature that does not verify; the replay has left its course by then.
#[derive(Debug, Clone)]
pub struct RecordedSignatures {
    device: DeviceId,
    made: BTreeMap<[u8; 32], [u8; SIGNATURE_LEN]>,
}

impl RecordedSignatures {
    /// Those of a recording.
    pub fn new(device: DeviceId, made: impl IntoIterator<Item = ([u8; 32], [u8; SIGNATURE_LEN])>) -> Self {
        Self { device, made: made.into_iter().collect() }
    }
}

impl Signer for RecordedSignatures {
    fn device(&self) -> DeviceId {
        self.device
    }

    fn sign(&self, domain: Domain, bytes: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.made.get(&keys::digest(domain, bytes)).copied().unwrap_or([0; SIGNATURE_LEN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;
    use alloc::vec;

    fn start(version: u32) -> Record {
        let slot = Slot { space: SpaceId([3; 32]), document: DocumentId([4; 16]), tips: vec![ChangeHash([5; 32])] };
        let (device, seed) = (DeviceId([1; 32]), ByteArray::from([2; 32]));
        Record::Start { version, device, seed, mono: 5, wall_s: -6, slot: Some(slot.into()) }
    }

    fn file(records: &[Record]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for record in records {
            file.extend(frame(record).unwrap());
        }
        file
    }

    fn read(file: &[u8]) -> Result<Vec<Record>, RecordingError> {
        Reader::new(file)?.collect()
    }

    #[test]
    fn a_file_that_ends_anywhere_is_a_recording_of_what_came_before() {
        let records = [
            start(VERSION),
            Record::Row { table: 3, key: vec![1].into(), value: vec![2; 100].into() },
            Record::Called { mono: 9, wall_s: 1, polled: true, call: Call::Timeout },
            Record::Checkpoint { polled: true, outputs: 7, hash: [8; 32].into() },
            Record::End { limit: true },
        ];
        let whole = file(&records);
        assert!(read(&whole).unwrap() == records);
        let mut before = 0;
        for end in MAGIC.len()..whole.len() {
            let mut reader = Reader::new(&whole[..end]).unwrap();
            let found: Vec<Record> = reader.by_ref().map(Result::unwrap).collect();
            assert!(found == records[..found.len()] && found.len() >= before && found.len() < records.len());
            assert_eq!(reader.left_over() == 0, whole[..end] == file(&records[..found.len()]));
            before = found.len();
        }
    }

    #[test]
    fn what_is_no_recording_is_refused_with_the_reason() {
        let error = |file: &[u8]| read(file).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error(b"{ \"version\": 1 }"), "this is not a recording");
        assert_eq!(error(&file(&[start(9)])), "version 9, this program reads 2");
        assert!(error(&file(&[Record::End { limit: false }])).contains("the first record"));
        let mut damaged = file(&[start(VERSION)]);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(error(&damaged), "record 0 is damaged: its checksum does not match");
        let mut long = MAGIC.to_vec();
        long.extend([0xff; HEADER_LEN]);
        assert_eq!(error(&long), format!("record 0 is 4294967295 bytes, limit {RECORD_BYTES_MAX}"));
        let big = Record::Row { table: 0, key: vec![].into(), value: vec![0; RECORD_BYTES_MAX].into() };
        assert!(matches!(frame(&big), Err(RecordingError::TooLong { .. })));
    }

    #[test]
    fn recorded_signatures_stand_in_for_the_key() {
        let key = SecretKey::from_seed(&[7; 32]);
        let made = (keys::digest(Domain::Run, b"run"), key.sign(Domain::Run, b"run"));
        let recorded = RecordedSignatures::new(key.device(), [made]);
        assert!(keys::verify(&key.device(), Domain::Run, b"run", &recorded.sign(Domain::Run, b"run")));
        assert!(!keys::verify(&key.device(), Domain::Run, b"other", &recorded.sign(Domain::Run, b"other")));
    }
}
