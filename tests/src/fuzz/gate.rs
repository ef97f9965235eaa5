//! Changes from a peer: the inspector alone, and the gate with everything behind it. Bytes are put into chunks with the
//! right length, checksum and dependencies, because random ones never get past these.

use std::collections::BTreeMap;

use anabranch_engine::document::{Document, EditError, OpenWork, Settle, Settled, View};
use anabranch_engine::gate::{Refusal, chunks, payload_tip};
use anabranch_engine::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
use anabranch_engine::run::{Run, RunHeader};
use automerge::hydrate::Value;
use automerge::{Automerge, Change, ScalarValue, TextEncoding};
use sha2::{Digest as _, Sha256};

use super::guard::FuzzGuard;
use super::input::Input;

/// The space of all documents here.
pub const SPACE: SpaceId = SpaceId([1; 32]);
/// The document.
pub const DOCUMENT: DocumentId = DocumentId([2; 16]);
/// Changes made of one input at most.
const CHANGES_MAX: usize = 32;

/// Magic, type and length of a chunk around a body, and the checksum that belongs to them.
pub fn seal(body: &[u8]) -> (ChangeHash, Vec<u8>) {
    let mut hashed = vec![1];
    hashed.extend(leb128(body.len()));
    hashed.extend_from_slice(body);
    let hash: [u8; 32] = Sha256::digest(&hashed).into();
    (ChangeHash(hash), [&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &hashed].concat())
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

/// Chunk bodies of a payload.
pub fn bodies(payload: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = payload;
    let mut bodies = Vec::new();
    for chunk in chunks(payload) {
        let (bytes, after) = rest.split_at(chunk.expect("a good payload").length);
        // Magic, checksum and type, then the length in LEB128.
        let length = bytes[9..].iter().position(|byte| byte & 0x80 == 0).expect("a good length") + 1;
        bodies.push(bytes[9 + length..].to_vec());
        rest = after;
    }
    bodies
}

/// A payload as it came, or one of sealed bodies.
pub fn payload(data: &[u8]) {
    let mut input = Input::new(data);
    let mut payload = Vec::new();
    if input.byte() & 1 == 0 {
        payload.extend_from_slice(input.rest());
    }
    while !input.is_empty() {
        payload.extend(seal(input.chunk()).1);
    }
    let mut length = 0;
    let mut count = 0;
    for chunk in chunks(&payload) {
        let Ok(chunk) = chunk else {
            assert!(payload_tip(&payload).is_err());
            return;
        };
        length += chunk.length;
        count += 1;
        assert!(chunk.length > 0 && chunk.seq > 0 && chunk.start_op > 0);
        assert!(chunk.deps().is_sorted() && chunk.others().all(|other| other != chunk.actor));
    }
    assert_eq!(length, payload.len());
    match payload_tip(&payload) {
        Ok(tip) => assert!(tip.changes == count && tip.last_seq - tip.first_seq + 1 == count),
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

/// Runs into a document. Whatever it accepts, another document that gets it in another order accepts too, a third one opens
/// from what is stored of it, bare automerge saves and loads it, and all are equal; and the document can be edited afterwards.
/// What it refuses, it refuses without having tried it.
pub fn differential(data: &[u8]) {
    accepted(data);
}

/// As [`differential`]; returns how many changes were accepted.
pub fn accepted(data: &[u8]) -> u64 {
    judged(data).0
}

/// As [`differential`]; returns how many changes were accepted, and why runs were refused.
pub fn judged(data: &[u8]) -> (u64, Vec<Refusal>) {
    let mut document = Document::empty(SPACE, DOCUMENT);
    let mut accepted = Vec::new();
    let mut refused = Vec::new();
    let mut take = |settled: Settled| {
        accepted.extend(settled.accepted);
        refused.extend(settled.refused.into_iter().map(|(_, refusal)| refusal));
    };
    for (run, settles) in runs(data) {
        document.receive(run);
        if settles {
            take(settle(&mut document));
        }
    }
    take(settle(&mut document));
    assert!(!refused.contains(&Refusal::Poisoned), "automerge broke over what passed the gate");
    let seen = Seen::of(&document.view());
    assert_eq!(document.heads(), document.signed_heads());

    let mut other = Document::empty(SPACE, DOCUMENT);
    for run in accepted.iter().rev() {
        other.receive(run.clone());
    }
    let settled = settle(&mut other);
    assert_eq!(settled.refused, [], "what one accepts another one refuses");
    assert_eq!((settled.accepted.len() + settled.known, settled.waiting), (accepted.len(), 0));
    assert_eq!(Seen::of(&other.view()), seen, "two orders, two documents");

    let middle = accepted.len() / 2;
    let (first, second) = accepted.split_at(middle);
    let runs = second.iter().chain(first).map(store_and_load).collect();
    let opened =
        OpenWork { space: SPACE, id: DOCUMENT, runs, tips: Vec::new(), suspects: Vec::new(), poisoned: Vec::new() }
            .run(&FuzzGuard);
    let opened = opened.unwrap_or_else(|error| panic!("what was accepted does not open: {error}"));
    assert_eq!(Seen::of(&opened.view()), seen, "it opens as another document");

    saves_and_loads(&accepted, &seen.heads);
    goes_on(&mut document);
    (accepted.iter().map(|run| run.header.last_seq - run.header.first_seq + 1).sum(), refused)
}

/// Bare automerge can save what was accepted, and loads from that what it saved.
fn saves_and_loads(accepted: &[Run], heads: &[ChangeHash]) {
    let changes = accepted.iter().flat_map(|run| {
        let mut start = 0;
        chunks(&run.payload).map(move |chunk| {
            let length = chunk.expect("it was accepted").length;
            start += length;
            Change::try_from(&run.payload[start - length..start]).expect("it was accepted")
        })
    });
    let mut document = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    document.apply_changes(changes.collect::<Vec<_>>()).expect("it was accepted");
    let loaded =
        Automerge::load(&document.save()).unwrap_or_else(|error| panic!("it is saved and not loaded: {error}"));
    assert!(loaded.get_heads().iter().map(|hash| hash.0).eq(heads.iter().map(|hash| hash.0)), "it loads as others");
    let (loaded, saved) = (loaded.hydrate(None), document.hydrate(None));
    assert!(alike(&loaded, &saved), "it loads as another document: {loaded:?}, not {saved:?}");
}

/// Whether two values are equal. Automerge's own comparison says of a number that is none that it is not even like itself.
fn alike(a: &Value, b: &Value) -> bool {
    let scalars = |a: &ScalarValue, b: &ScalarValue| match (a, b) {
        (ScalarValue::F64(a), ScalarValue::F64(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    };
    match (a, b) {
        (Value::Scalar(a), Value::Scalar(b)) => scalars(a, b),
        (Value::Map(a), Value::Map(b)) => {
            let (a, b): (BTreeMap<_, _>, BTreeMap<_, _>) = (a.iter().collect(), b.iter().collect());
            a.len() == b.len()
                && a.iter()
                    .zip(&b)
                    .all(|((key, a), (other, b))| key == other && a.conflict == b.conflict && alike(&a.value, &b.value))
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len()
                && a.iter().zip(b.iter()).all(|(a, b)| {
                    a.conflict == b.conflict
                        && alike(&a.value, &b.value)
                        && a.marks.len() == b.marks.len()
                        && a.marks
                            .iter()
                            .all(|(name, mark)| b.marks.get(name).is_some_and(|other| scalars(mark, other)))
                })
        }
        _ => a == b,
    }
}

/// A document can still be edited, within the limits.
fn goes_on(document: &mut Document) {
    let author =
        anabranch_engine::document::Author { device: DeviceId([9; 32]), fresh_actor: ActorId([9; 16]), wall_s: 1 };
    let result = document.edit(author, |edit| edit.set("/on", 1));
    if let Err(error @ (EditError::Internal(_) | EditError::Refused(_))) = result {
        panic!("{error}");
    }
    while let Some(run) = document.take_unsigned() {
        payload_tip(&run.payload).expect("what we make passes the gate");
    }
}

/// What there is to see of a document, all of it independent of the order in which it was put together.
#[derive(Debug, PartialEq)]
struct Seen {
    heads: Vec<ChangeHash>,
    json: String,
    conflicts: String,
    changes: usize,
}

impl Seen {
    fn of(view: &View<'_>) -> Self {
        let patches = view.diff(&[]).expect("nothing is a version of every document");
        assert!(patches.iter().all(|patch| !patch.to_json().is_null()));
        Self {
            heads: view.heads(),
            json: view.json().to_string(),
            conflicts: format!("{:?}", view.all_conflicts()),
            changes: view.history().len(),
        }
    }
}

fn store_and_load(run: &Run) -> Run {
    let RunHeader { space, document, actor, last_seq, .. } = run.header;
    let loaded = Run::decode_stored(space, document, actor, last_seq, &run.encode_stored());
    let loaded = loaded.unwrap_or_else(|error| panic!("what was accepted does not load: {error}"));
    assert_eq!(&loaded, run);
    loaded
}

/// Settles, doing heavy work at once.
pub fn settle(document: &mut Document) -> Settled {
    match document.settle(&FuzzGuard) {
        Settle::Done(settled) => settled,
        Settle::Work(work) => {
            let merged = work.run(&FuzzGuard);
            document.finish_merge(merged, &FuzzGuard)
        }
    }
}

/// Runs made of bytes, each with whether the document settles after it. A change is a byte of choices (1: a new run begins
/// with it, 2 and 4: the device, 8: settle after its run), the set of changes before it that it depends on, and what follows
/// the dependencies in its body.
fn runs(data: &[u8]) -> Vec<(Run, bool)> {
    let mut input = Input::new(data);
    let mut hashes: Vec<ChangeHash> = Vec::new();
    let mut groups: Vec<(u8, Vec<u8>)> = Vec::new();
    while !input.is_empty() && hashes.len() < CHANGES_MAX {
        let (choices, set, rest) = (input.byte(), input.set(), input.chunk());
        let (hash, chunk) = change(&hashes, set, rest);
        hashes.push(hash);
        match groups.last_mut() {
            Some((_, payload)) if choices & 1 == 0 => payload.extend(chunk),
            _ => groups.push((choices, chunk)),
        }
    }
    groups
        .into_iter()
        .filter_map(|(choices, payload)| Some((run_of(DeviceId([choices >> 1 & 3; 32]), payload)?, choices & 8 != 0)))
        .collect()
}

/// A chunk that depends on some of the changes before it.
pub fn change(before: &[ChangeHash], set: u32, rest: &[u8]) -> (ChangeHash, Vec<u8>) {
    let deps: BTreeMap<ChangeHash, ()> = before
        .iter()
        .take(32)
        .enumerate()
        .filter(|(place, _)| set >> place & 1 == 1)
        .map(|(_, hash)| (*hash, ()))
        .collect();
    let mut body = leb128(deps.len());
    deps.keys().for_each(|dep| body.extend_from_slice(&dep.0));
    body.extend_from_slice(rest);
    seal(&body)
}

/// The run of a payload, as the gate lets it through. Signatures are left out: they take most of the time, and whoever makes
/// hostile changes can sign them.
pub fn run_of(device: DeviceId, payload: Vec<u8>) -> Option<Run> {
    let tip = payload_tip(&payload).ok()?;
    let header = RunHeader {
        space: SPACE,
        document: DOCUMENT,
        acl: AclHash([3; 32]),
        device,
        actor: tip.actor,
        first_seq: tip.first_seq,
        last_seq: tip.last_seq,
        tip: tip.tip,
        signature: [0; 64],
    };
    Some(Run { header, payload })
}
