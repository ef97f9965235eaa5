//! What a hostile member makes with its own valid key: changes that no honest replica makes, runs of them, membership
//! entries. Nothing is checked here.

use std::num::NonZeroU64;

use anabranch_engine::id::{ActorId, ChangeHash, DeviceId, DocumentId, EntryHash, SpaceId};
use anabranch_engine::keys::{Domain, SecretKey};
use anabranch_engine::run::{Run, UnsignedRun};
use anabranch_engine::space::Acl;
use anabranch_engine::wire::{Message, SpaceIndex, WireRun};
use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType, SortedVec};
use automerge::{Change, ExpandedChange, ObjType, ScalarValue};
use minicbor::bytes::ByteArray;
use minicbor::{Decoder, Encoder};

/// An actor's chain of changes, each of which sets a value of its own at the root of the document. A copy that goes on
/// differently is a fork.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Whose.
    pub actor: ActorId,
    /// Number of the next change.
    pub seq: u64,
    /// Counter of its operation.
    pub start_op: u64,
    /// What it depends on.
    pub deps: Vec<ChangeHash>,
}

impl Chain {
    /// A chain that begins on top of these changes, whose operations are numbered up to `max_op`.
    pub fn new(actor: ActorId, deps: Vec<ChangeHash>, max_op: u64) -> Self {
        Self { actor, seq: 1, start_op: max_op + 1, deps }
    }

    /// The next change.
    pub fn grow(&mut self, value: u64) -> Change {
        let change = self.change(value);
        (self.seq, self.start_op) = (self.seq.wrapping_add(1), self.start_op + 1);
        self.deps = vec![ChangeHash(change.hash().0)];
        change
    }

    /// The change that would be next.
    pub fn change(&self, value: u64) -> Change {
        self.change_replacing(value, None)
    }

    /// The same, said to replace what this operation of the same actor wrote.
    pub fn change_replacing(&self, value: u64, replaced: Option<u64>) -> Change {
        let actor = self.automerge_actor();
        let operation = Op {
            action: OpType::Put(ScalarValue::Uint(value)),
            obj: ObjectId::Root,
            key: Key::Map(format!("x{:.8}-{}", self.actor, self.seq).into()),
            pred: SortedVec::from(replaced.into_iter().map(|counter| OpId(counter, actor.clone())).collect::<Vec<_>>()),
            insert: false,
        };
        self.change_of(vec![operation])
    }

    /// The change that would be next, which puts so many nulls into a new list: a hundred bytes, however many there are.
    pub fn change_of_nulls(&self, count: u64) -> Change {
        let actor = self.automerge_actor();
        let key = Key::Map(format!("l{:.8}-{}", self.actor, self.seq).into());
        let (obj, pred) = (ObjectId::Root, SortedVec::new());
        let mut operations = vec![Op { action: OpType::Make(ObjType::List), obj, key, pred, insert: false }];
        operations.extend((0..count).map(|at| {
            let before = OpId(self.start_op + at, actor.clone());
            let element = if at == 0 { ElementId::Head } else { ElementId::Id(before) };
            Op {
                action: OpType::Put(ScalarValue::Null),
                obj: ObjectId::Id(OpId(self.start_op, actor.clone())),
                key: Key::Seq(element),
                pred: SortedVec::new(),
                insert: true,
            }
        }));
        self.change_of(operations)
    }

    fn automerge_actor(&self) -> automerge::ActorId {
        automerge::ActorId::from(self.actor.0.to_vec())
    }

    fn change_of(&self, operations: Vec<Op>) -> Change {
        let mut deps: Vec<automerge::ChangeHash> = self.deps.iter().map(|dep| automerge::ChangeHash(dep.0)).collect();
        deps.sort_unstable();
        Change::from(ExpandedChange {
            operations,
            actor_id: self.automerge_actor(),
            hash: None,
            seq: self.seq,
            start_op: NonZeroU64::new(self.start_op).unwrap_or(NonZeroU64::MIN),
            time: 0,
            message: None,
            deps,
            extra_bytes: Vec::new(),
            author: None,
        })
    }
}

/// A signed run of these changes of one actor.
pub fn run(key: &SecretKey, space: SpaceId, document: DocumentId, acl: &Acl, changes: &[Change]) -> Run {
    let (first, last) = (&changes[0], &changes[changes.len() - 1]);
    let unsigned = UnsignedRun {
        actor: ActorId(first.actor_id().to_bytes().try_into().unwrap_or_default()),
        first_seq: first.seq(),
        last_seq: last.seq(),
        tip: ChangeHash(last.hash().0),
        payload: changes.iter().flat_map(|change| change.raw_bytes().to_vec()).collect(),
    };
    Run::sign(key, space, document, acl.hash, unsigned)
}

/// Runs as a message, with the `acl_ref` in full.
pub fn message(index: SpaceIndex, acl: &Acl, runs: &[Run]) -> Message {
    let runs = runs.iter().map(|run| wire(acl, run)).collect();
    Message::Runs { space: index, acls: vec![acl.entries.clone()], runs }
}

/// A run as it travels.
pub fn wire(acl: &Acl, run: &Run) -> WireRun {
    let header = &run.header;
    WireRun {
        document: header.document,
        actor: header.actor,
        first_seq: header.first_seq,
        acl: acl.hash,
        signature: header.signature.into(),
        payload: run.payload.clone().into(),
        device: Some(header.device),
    }
}

/// A membership entry with fields as they are given.
pub fn entry(
    key: &SecretKey,
    space: SpaceId,
    prev: &[EntryHash],
    depth: u32,
    (kind, fields): (u8, &[u8]),
    nonce: [u8; 16],
) -> Vec<u8> {
    let mut prev = prev.to_vec();
    prev.sort_unstable();
    let body = cbor(|e| {
        e.array(8)?.u8(2)?.encode(space)?.encode(&prev)?.encode(key.device())?.u32(depth)?.u8(kind)?;
        e.writer_mut().extend_from_slice(fields);
        e.encode(ByteArray::from(nonce))?;
        Ok(())
    });
    let signature = key.sign(Domain::Entry, &body);
    cbor(|e| {
        e.array(2)?.bytes(&body)?.bytes(&signature)?;
        Ok(())
    })
}

/// The fields of an invite for somebody with this key.
pub fn invite(key: &SecretKey) -> Vec<u8> {
    cbor(|e| {
        e.array(3)?.encode(key.device())?.u8(1)?.u32(1)?;
        Ok(())
    })
}

/// The fields of an admission of a joiner by this invite, with a proof that holds.
pub fn admission(entry: EntryHash, space: &SpaceId, joiner: &DeviceId, invite: &SecretKey) -> Vec<u8> {
    let proof = invite.sign(Domain::Invite, &[&space.0[..], &joiner.0[..]].concat());
    cbor(|e| {
        e.array(3)?.encode(entry)?.encode(joiner)?.bytes(&proof)?;
        Ok(())
    })
}

/// The depth that an entry says it has.
pub fn depth(entry: &[u8]) -> Option<u32> {
    let mut envelope = Decoder::new(entry);
    envelope.array().ok()?;
    let mut body = Decoder::new(envelope.bytes().ok()?);
    body.array().ok()?;
    for _ in 0..4 {
        body.skip().ok()?;
    }
    body.u32().ok()
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn cbor(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes)).expect("a vector takes every byte");
    bytes
}
