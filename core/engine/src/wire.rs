//! The messages of a session and their bytes. minicbor arrays with numbered fields: a field that is not known is skipped, a
//! message kind that is not known is ignored, so that versions can differ. How messages become frames is `wire/frame.rs`.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::decode::{self, Decoder};
use minicbor::{Decode, Encode};

use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, EntryHash, StorageId};
use crate::keys::SIGNATURE_LEN;
use crate::limits::{ENTRIES_PER_MESSAGE_MAX, INNER_LIST_ITEMS_MAX, LIST_ITEMS_MAX};
use crate::space::auth::Tag;
use crate::sync::collection::{Fingerprint, Key, Prefix};
use crate::sync::transfer;

pub mod frame;

pub use frame::{Lane, frame_lane};

/// The version of the session protocol that this program speaks.
pub const PROTOCOL_VERSION: u32 = 3;

/// Position of a shared space in the list that both sides of a session derive from the handshake.
pub type SpaceIndex = u32;

/// Everything that peers say to each other on a session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Message {
    /// First word of each side. Nothing in it tells who or what we are.
    #[n(0)]
    Hello {
        /// Greatest version spoken. The smaller of the two is used.
        #[n(0)]
        version: u32,
        /// Fresh and random.
        #[n(1)]
        nonce: ByteArray<32>,
    },
    /// One tag for each of our spaces, sorted and padded: the acceptor's after its hello, then the opener's.
    #[n(1)]
    Tags {
        /// The tags.
        #[n(0)]
        tags: Vec<ByteArray<16>>,
    },
    /// First word to an authenticated peer.
    #[n(2)]
    Greeting {
        /// Our store.
        #[n(0)]
        storage: StorageId,
        /// How often a process has started on it.
        #[n(1)]
        epoch: u64,
        /// Where we can be reached.
        #[cbor(n(2), decode_with = "very_few")]
        addresses: Vec<String>,
        /// A random number of this process: two that share a store id are told apart by it.
        #[n(3)]
        instance: u64,
    },
    /// Where we stand, also the keep-alive.
    #[n(3)]
    Roots {
        /// Not 0: answer this with your roots and this number.
        #[n(0)]
        ask: u32,
        /// Not 0: the number that this answers.
        #[n(1)]
        answer: u32,
        /// Some or all of the shared spaces.
        #[n(2)]
        spaces: Vec<SpaceRoots>,
    },
    /// Fingerprints of ranges. The receiver answers for those that differ with the next level down, or with items.
    #[n(4)]
    Nodes {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// Which set.
        #[n(1)]
        level: Level,
        /// Ranges.
        #[n(2)]
        nodes: Vec<Node>,
    },
    /// All items of small ranges. The receiver sends what is missing and asks for what differs.
    #[n(5)]
    Items {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// Which set.
        #[n(1)]
        level: Level,
        /// Ranges.
        #[cbor(n(2), decode_with = "few")]
        ranges: Vec<Range>,
    },
    /// Send these membership entries.
    #[n(6)]
    WantEntries {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// First halves of their hashes.
        #[n(1)]
        keys: Vec<ByteArray<16>>,
    },
    /// Membership entries, each after those it names.
    #[n(7)]
    Entries {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// As kept.
        #[cbor(n(1), decode_with = "few_entries")]
        entries: Vec<ByteVec>,
    },
    /// What we hold of documents that differ. The receiver sends what we lack.
    #[n(8)]
    Frontiers {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// By document.
        #[n(1)]
        documents: Vec<DocumentFrontier>,
    },
    /// Signed runs.
    #[n(9)]
    Runs {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// The `acl_ref`s among those below that were not sent on this lane before, in full.
        #[cbor(n(1), decode_with = "few")]
        acls: Vec<Vec<EntryHash>>,
        /// In an order in which each comes after what it depends on, per document.
        #[n(2)]
        runs: Vec<WireRun>,
    },
    /// A run was refused.
    #[n(10)]
    Refused {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// The run's document.
        #[n(1)]
        document: DocumentId,
        /// Its actor.
        #[n(2)]
        actor: ActorId,
        /// Its first change.
        #[n(3)]
        first_seq: u64,
        /// From the closed list.
        #[n(4)]
        code: RefusalCode,
        /// For people to read, at most 200 bytes.
        #[n(5)]
        detail: String,
    },
    /// So many bytes of bulk frames were taken in since the session began. The sender may have `BULK_CREDIT_BYTES` more on
    /// the way. A running total, so that one lost report does no harm.
    #[n(11)]
    Credit {
        /// The total.
        #[n(0)]
        taken: u64,
    },
    /// The joiner was not admitted.
    #[n(12)]
    JoinRefused {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// For people to read.
        #[n(1)]
        reason: String,
    },
    /// Where other members of a shared space may be found. A hint: dialing proves it.
    #[n(13)]
    Peers {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// Devices and addresses.
        #[cbor(n(1), decode_with = "few")]
        peers: Vec<PeerAddresses>,
    },
    /// The sender ends the session.
    #[n(14)]
    Bye {
        /// For people to read.
        #[n(0)]
        reason: String,
    },
    /// Other processes act as the receiver's device: its identity was copied.
    #[n(15)]
    Copies {
        /// How many of them are connected to the sender now; 0 if they were here before.
        #[n(0)]
        others: u32,
    },
    /// What the sender's device is called.
    #[n(16)]
    Name {
        /// Empty if it has no name any more.
        #[n(0)]
        name: String,
    },
    /// The sender asks to be let in.
    #[n(17)]
    Join {
        /// The space.
        #[n(0)]
        space: SpaceIndex,
        /// The public half of the invite's key.
        #[n(1)]
        invite: DeviceId,
        /// The invite key's signature over the space and the sender.
        #[n(2)]
        proof: ByteArray<64>,
    },
}

/// Which set of a space is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Level {
    /// Membership entries, by the first half of their hash.
    #[n(0)]
    Members,
    /// Documents, by id.
    #[n(1)]
    Documents,
}

/// Where the sender stands in one space.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SpaceRoots {
    /// The space.
    #[n(0)]
    pub space: SpaceIndex,
    /// Fingerprint of the membership log.
    #[n(1)]
    pub members: ByteArray<8>,
    /// Fingerprint of the documents; absent while the receiver is not a member in the sender's log.
    #[n(2)]
    pub documents: Option<ByteArray<8>>,
}

/// One range and the fingerprint of what the sender has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Node {
    /// The range.
    #[n(0)]
    pub prefix: Prefix,
    /// Of the range's digest.
    #[n(1)]
    pub fingerprint: ByteArray<8>,
}

/// Reads a list whose items may have a single byte each, and take many times that in memory.
fn few<'b, C, T: Decode<'b, C>>(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Vec<T>, decode::Error> {
    at_most(LIST_ITEMS_MAX, decoder, context)
}

/// The same for membership entries.
fn few_entries<'b, C, T: Decode<'b, C>>(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Vec<T>, decode::Error> {
    at_most(ENTRIES_PER_MESSAGE_MAX, decoder, context)
}

/// The same for lists inside of lists.
fn very_few<'b, C, T: Decode<'b, C>>(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Vec<T>, decode::Error> {
    at_most(INNER_LIST_ITEMS_MAX, decoder, context)
}

fn at_most<'b, C, T: Decode<'b, C>>(
    max: usize,
    decoder: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Vec<T>, decode::Error> {
    let mut items = Vec::new();
    for item in decoder.array_iter_with(context)? {
        if items.len() >= max {
            return Err(decode::Error::message(alloc::format!("a list of more than {max} items")));
        }
        items.push(item?);
    }
    Ok(items)
}

/// All items of one range.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Range {
    /// The range.
    #[n(0)]
    pub prefix: Prefix,
    /// In key order.
    #[n(1)]
    pub items: Vec<Item>,
}

/// One item and the fingerprint of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Item {
    /// The key.
    #[n(0)]
    pub key: ByteArray<16>,
    /// Of the item's digest.
    #[n(1)]
    pub fingerprint: ByteArray<8>,
}

/// What the sender holds of one document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DocumentFrontier {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// Sorted by actor.
    #[n(1)]
    pub actors: Vec<ActorTip>,
    /// The sender wants the receiver's frontier back if the receiver may lack something.
    #[n(2)]
    pub reply: bool,
}

/// How far the sender holds one actor's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ActorTip {
    /// The actor.
    #[n(0)]
    pub actor: ActorId,
    /// Sequence number of its last change.
    #[n(1)]
    pub seq: u64,
    /// Greatest operation counter of that change: where the receiver's scan can begin.
    #[n(2)]
    pub lamport: u64,
    /// That change. Whole: who makes changes can find two that have their first bytes in common.
    #[n(3)]
    pub tip: ChangeHash,
}

/// A run as it travels: without what the session and the payload tell.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WireRun {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// The actor.
    #[n(1)]
    pub actor: ActorId,
    /// The first change; the number of changes is the payload's.
    #[n(2)]
    pub first_seq: u64,
    /// The `acl_ref` that it stands on.
    #[n(3)]
    pub acl: AclHash,
    /// Over the header (`run.rs`).
    #[n(4)]
    pub signature: ByteArray<SIGNATURE_LEN>,
    /// Raw change chunks.
    #[n(5)]
    pub payload: ByteVec,
    /// Who signed; absent if it is the sender.
    #[n(6)]
    pub device: Option<DeviceId>,
}

/// A device and where it may be found.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PeerAddresses {
    /// The device.
    #[n(0)]
    pub device: DeviceId,
    /// Multiaddrs.
    #[cbor(n(1), decode_with = "very_few")]
    pub addresses: Vec<String>,
}

/// Why a run was refused. A closed list; the numbers are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RefusalCode {
    /// The author was no writer.
    #[n(0)]
    NotAWriter,
    /// The signature does not hold.
    #[n(1)]
    BadSignature,
    /// Malformed.
    #[n(2)]
    Malformed,
    /// Over a limit.
    #[n(3)]
    TooLarge,
    /// Does not fit the history.
    #[n(4)]
    Misfit,
    /// Another change with this actor and sequence number is known.
    #[n(5)]
    Fork,
    /// It broke the merge before.
    #[n(6)]
    Poisoned,
    /// The `acl_ref` is not known here: reconcile the members, then send again.
    #[n(7)]
    MembersUnknown,
    /// The receiver does not take runs in this space (it is not a member yet, or the sender is not).
    #[n(8)]
    NotAMember,
    /// The receiver wants nothing of this document but live runs and what it asks for.
    #[n(9)]
    NotWanted,
}

/// A message could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Of a kind that this version does not know: to be ignored.
    #[error("unknown kind of message")]
    Unknown,
    /// Not a message.
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl Message {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Runs may be large, and a growing buffer would need twice the memory.
        let runs = match self {
            Self::Runs { runs, .. } => runs.as_slice(),
            _ => &[],
        };
        let mut bytes = Vec::with_capacity(runs.iter().map(transfer::wire_bytes).sum());
        minicbor::encode(self, &mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// Reads a message; never allocates more than a few times the bytes given, and 2 MiB.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut decoder = Decoder::new(bytes);
        let message = decoder.decode::<Self>().map_err(|error| {
            if error.is_unknown_variant() {
                MessageError::Unknown
            } else {
                MessageError::Malformed(alloc::format!("{error}"))
            }
        })?;
        if decoder.position() != bytes.len() {
            let extra = bytes.len() - decoder.position();
            return Err(MessageError::Malformed(alloc::format!("{extra} bytes after its end")));
        }
        Ok(message)
    }

    /// The lane that the message belongs on, where its sender has no choice.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Runs { .. } => Lane::Bulk,
            Self::Hello { .. }
            | Self::Tags { .. }
            | Self::Greeting { .. }
            | Self::Roots { .. }
            | Self::Nodes { .. }
            | Self::Items { .. }
            | Self::WantEntries { .. }
            | Self::Entries { .. }
            | Self::Frontiers { .. }
            | Self::Refused { .. }
            | Self::Credit { .. }
            | Self::Join { .. }
            | Self::JoinRefused { .. }
            | Self::Peers { .. }
            | Self::Copies { .. }
            | Self::Name { .. }
            | Self::Bye { .. } => Lane::Control,
        }
    }
}

/// A key as it travels.
pub fn wire_key(key: &Key) -> ByteArray<16> {
    ByteArray::from(*key)
}

/// A fingerprint as it travels.
pub fn wire_fingerprint(fingerprint: Fingerprint) -> ByteArray<8> {
    ByteArray::from(fingerprint)
}

/// Tags as they travel.
pub fn wire_tags(tags: &[Tag]) -> Vec<ByteArray<16>> {
    tags.iter().map(|tag| ByteArray::from(*tag)).collect()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::sync::hint::Hint;
    use crate::wire::frame::to_frames;

    /// One of each, with every optional field present somewhere.
    fn samples() -> Vec<(&'static str, Message)> {
        let (document, actor) = (DocumentId([0xd0; 16]), ActorId([0xac; 16]));
        let prefix = Prefix::new(&[0xab; 16], 3);
        let payload = ByteVec::from(vec![1, 2, 3]);
        let run = WireRun {
            document,
            actor,
            first_seq: 7,
            acl: AclHash([0xa1; 32]),
            signature: [0x51; 64].into(),
            payload,
            device: None,
        };
        let forwarded = WireRun { device: Some(DeviceId([0xde; 32])), first_seq: 300, ..run.clone() };
        let tip = ActorTip { actor, seq: 5, lamport: 1_000, tip: ChangeHash([0x71; 32]) };
        vec![
            ("hello", Message::Hello { version: 1, nonce: [0x0e; 32].into() }),
            ("tags", Message::Tags { tags: vec![[0x7a; 16].into(); 2] }),
            (
                "greeting",
                Message::Greeting {
                    storage: StorageId([0x50; 16]),
                    epoch: 3,
                    addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
                    instance: 7,
                },
            ),
            (
                "roots",
                Message::Roots {
                    ask: 1,
                    answer: 0,
                    spaces: vec![
                        SpaceRoots { space: 0, members: [1; 8].into(), documents: Some([2; 8].into()) },
                        SpaceRoots { space: 1, members: [1; 8].into(), documents: None },
                    ],
                },
            ),
            (
                "nodes",
                Message::Nodes {
                    space: 0,
                    level: Level::Documents,
                    nodes: vec![Node { prefix, fingerprint: [3; 8].into() }],
                },
            ),
            (
                "items",
                Message::Items {
                    space: 0,
                    level: Level::Members,
                    ranges: vec![Range {
                        prefix,
                        items: vec![Item { key: [4; 16].into(), fingerprint: [5; 8].into() }],
                    }],
                },
            ),
            ("want entries", Message::WantEntries { space: 2, keys: vec![[6; 16].into()] }),
            ("entries", Message::Entries { space: 2, entries: vec![vec![0xe0, 0xe1].into()] }),
            (
                "frontiers",
                Message::Frontiers {
                    space: 0,
                    documents: vec![DocumentFrontier { document, actors: vec![tip], reply: true }],
                },
            ),
            ("runs", Message::Runs { space: 0, acls: vec![vec![EntryHash([0xe7; 32])]], runs: vec![run, forwarded] }),
            (
                "refused",
                Message::Refused {
                    space: 0,
                    document,
                    actor,
                    first_seq: 7,
                    code: RefusalCode::Fork,
                    detail: "fork".into(),
                },
            ),
            (
                "not wanted",
                Message::Refused {
                    space: 0,
                    document,
                    actor,
                    first_seq: 1,
                    code: RefusalCode::NotWanted,
                    detail: "not wanted".into(),
                },
            ),
            ("credit", Message::Credit { taken: 1 << 33 }),
            ("join refused", Message::JoinRefused { space: 0, reason: "used".into() }),
            ("copies", Message::Copies { others: 2 }),
            ("name", Message::Name { name: "laptop".into() }),
            ("join", Message::Join { space: 0, invite: DeviceId([0xde; 32]), proof: [0x51; 64].into() }),
            (
                "peers",
                Message::Peers {
                    space: 0,
                    peers: vec![PeerAddresses {
                        device: DeviceId([0xde; 32]),
                        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
                    }],
                },
            ),
            ("bye", Message::Bye { reason: "shutting down".into() }),
        ]
    }

    #[test]
    fn messages_have_these_bytes() {
        let mut lines: Vec<String> = samples()
            .iter()
            .map(|(name, message)| alloc::format!("{name}: {}", HEXLOWER.encode(&message.to_bytes())))
            .collect();
        let hint = Hint {
            version: Hint::VERSION,
            device: DeviceId([0xde; 32]),
            storage: StorageId([0x50; 16]),
            epoch: 3,
            seq: 9,
            roots: ([1; 8].into(), [2; 8].into()),
        };
        lines.push(alloc::format!("hint: {}", HEXLOWER.encode(&hint.to_bytes())));
        for (name, lane, message) in
            [("frame", Lane::Live, vec![1, 2, 3]), ("compressed frame", Lane::Bulk, vec![7; 600])]
        {
            lines.push(alloc::format!("{name}: {}", HEXLOWER.encode(&to_frames(lane, message)[0])));
        }
        let golden = include_str!("../golden/messages.hex");
        assert_eq!(lines.join("\n"), golden.trim_end(), "the bytes of the protocol have changed");
    }

    #[test]
    fn messages_come_back() {
        for (name, message) in samples() {
            assert_eq!(Message::from_bytes(&message.to_bytes()).as_ref(), Ok(&message), "{name}");
        }
    }

    #[test]
    fn what_a_newer_version_adds_is_skipped() {
        // A credit with a second field, and a kind of message that is not known.
        assert_eq!(Message::from_bytes(&[0x83, 11, 5, 6]), Ok(Message::Credit { taken: 5 }));
        assert_eq!(Message::from_bytes(&[0x82, 0x18, 99, 5]), Err(MessageError::Unknown));
    }

    #[test]
    fn bytes_after_the_end_are_refused_by_number() {
        let mut bytes = Message::Credit { taken: 5 }.to_bytes();
        bytes.extend([0, 0]);
        let error = Message::from_bytes(&bytes).expect_err("two bytes too many");
        assert!(alloc::format!("{error}").contains("2 bytes after its end"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::from_bytes(&bytes);
        }

        #[test]
        fn any_change_to_a_message_is_read_or_refused(which in 0_usize..16, at in any::<prop::sample::Index>(), byte: u8) {
            let mut bytes = samples()[which].1.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Message::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_list_of_too_many_small_items_is_refused_before_it_is_kept() {
        let of = |count: usize| Message::Entries { space: 0, entries: vec![Vec::new().into(); count] }.to_bytes();
        assert!(Message::from_bytes(&of(ENTRIES_PER_MESSAGE_MAX)).is_ok());
        let error = Message::from_bytes(&of(ENTRIES_PER_MESSAGE_MAX + 1)).expect_err("one too many");
        assert!(alloc::format!("{error}").contains("more than 16 items"), "{error}");
    }
}
