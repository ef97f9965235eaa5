//! What the corpora begin with: real encodings, in the form in which the bodies read them.

use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::document::{Edit, EditError};
use anabranch_engine::feed::FeedRow;
use anabranch_engine::frontier::Proof;
use anabranch_engine::gate::{chunks, payload_tip};
use anabranch_engine::id::{ChangeHash, DeviceId, SpaceId};
use anabranch_engine::recording::call::{Failed, Pair};
use anabranch_engine::recording::{Asked, Call, Record};
use anabranch_engine::run::Run;
use anabranch_engine::space::roles::Role;
use anabranch_engine::space::ticket::Ticket;
use anabranch_engine::storage::run_key;
use anabranch_engine::wire::frame::{Assembly, frame_lane, to_frames};
use anabranch_engine::wire::{Lane, Message};
use serde_json::json;

use super::gate::{DOCUMENT, SPACE, bodies};
use super::input::Output;
use super::session::fixture;
use super::writer::Writer;

/// Every seed: its target, its name, its bytes.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let stories = stories();
    for (name, runs) in &stories {
        seeds.push(("gate", (*name).to_owned(), recorded(runs)));
        let payload: Vec<u8> = runs[0].payload.clone();
        let mut out = Output::default();
        out.byte(0).take(&payload);
        seeds.push(("payload", format!("{name}-raw"), out.0));
        let mut out = Output::default();
        out.byte(1);
        for chunk in bodies(&payload).iter().take(4) {
            out.chunk(chunk);
        }
        seeds.push(("payload", format!("{name}-sealed"), out.0));
        seeds.push(("stored", format!("run-{name}"), [&[0], &runs[0].encode_stored()[..]].concat()));
    }
    seeds.extend(stored(&stories[0].1[0]));
    seeds.extend(texts());
    seeds.extend(edits());
    seeds.extend(requests());
    seeds.extend(waiting());
    seeds.extend(memberships());
    seeds.extend(sessions());
    seeds.extend(recordings());
    seeds
}

/// Documents that two devices wrote at once: all kinds of values and operations.
fn stories() -> Vec<(&'static str, Vec<Run>)> {
    type Edits = fn(&mut Edit<'_>) -> Result<(), EditError>;
    let stories: [(&str, [Edits; 3]); 6] = [
        (
            "map",
            [
                |edit| edit.set("", json!({"a": 1, "b": {"c": null, "d": [true, -1.5]}})),
                |edit| edit.set("/a", 2),
                |edit| edit.remove("/b/c"),
            ],
        ),
        (
            "text",
            [
                |edit| edit.set("/text", "the quick brown fox"),
                |edit| edit.splice_text("/text", 4, 5, "slow"),
                |edit| edit.update_text("/text", "the quick red fox 🦊 runs"),
            ],
        ),
        (
            "list",
            [
                |edit| edit.set("/list", json!([1, "two", {"three": 3}, [4]])),
                |edit| edit.insert("/list/1", "between").and_then(|()| edit.insert("/list/-", 5)),
                |edit| edit.remove("/list/0").and_then(|()| edit.set("/list/1/three", 33)),
            ],
        ),
        (
            "counter",
            [
                |edit| edit.set_counter("/n", 10),
                |edit| edit.increment("/n", -3),
                |edit| edit.increment("/n", 1 << 37).and_then(|()| edit.set_counter("/m", 1)),
            ],
        ),
        (
            "scalars",
            [
                |edit| edit.set_bytes("/bytes", &[0, 1, 255]).and_then(|()| edit.set_timestamp("/at", -5)),
                |edit| edit.set_plain_string("/name", "a name"),
                |edit| edit.set("/f", 1e300).and_then(|()| edit.set("/u", u64::MAX)),
            ],
        ),
        (
            "conflict",
            [
                |edit| edit.set("", json!({"k": {"x": 1}, "t": "t"})),
                |edit| edit.set("/k", "a text"),
                |edit| edit.set("/k/x", 2).and_then(|()| edit.set("/k", json!([1]))),
            ],
        ),
    ];
    stories
        .into_iter()
        .map(|(name, [begin, ours, theirs])| {
            let (mut alice, mut bob) = (Writer::new(1), Writer::new(2));
            alice.edit(begin);
            let mut all = alice.runs();
            bob.receive(&all);
            alice.edit(ours);
            alice.edit(|edit| edit.set("/again", 1));
            bob.edit(theirs);
            let (from_alice, from_bob) = (alice.runs(), bob.runs());
            alice.receive(&from_bob);
            bob.receive(&from_alice);
            alice.edit(|edit| edit.set("/end", "merged"));
            all.extend(from_alice.into_iter().chain(from_bob).chain(alice.runs()));
            (name, all)
        })
        .collect()
}

/// Runs in the form that the gate's target reads.
fn recorded(runs: &[Run]) -> Vec<u8> {
    let mut out = Output::default();
    let mut hashes: Vec<ChangeHash> = Vec::new();
    for run in runs {
        for (i, (chunk, body)) in chunks(&run.payload).zip(bodies(&run.payload)).enumerate() {
            let chunk = chunk.expect("a good payload");
            let deps: Vec<ChangeHash> = chunk.deps().collect();
            let set = hashes.iter().enumerate().filter(|(_, hash)| deps.contains(hash));
            let set = set.fold(0, |set, (place, _)| set | 1 << place);
            hashes.push(chunk.hash);
            let choices =
                u8::from(i == 0) | run.header.device.0[0] << 1 | if hashes.len().is_multiple_of(2) { 8 } else { 0 };
            out.byte(choices).set(set).chunk(&body[1 + 32 * deps.len()..]);
        }
    }
    out.0
}

fn stored(run: &Run) -> Vec<(&'static str, String, Vec<u8>)> {
    let tip = payload_tip(&run.payload).expect("a good payload");
    let mut record = DocumentRecord { heads: vec![tip.tip], ..DocumentRecord::default() };
    record.frontier.accept(Proof {
        header: run.header.clone(),
        first_lamport: tip.first_lamport,
        lamport: tip.lamport,
    });
    let row = FeedRow { seq: 7, space: SPACE, document: DOCUMENT, heads: vec![tip.tip] };
    let key = run_key(&SPACE, &DOCUMENT, tip.lamport, &tip.actor, tip.last_seq);
    vec![
        ("stored", "record".to_owned(), [&[1], &record.encode_stored()[..]].concat()),
        ("stored", "feed".to_owned(), [&[2], &7u64.to_be_bytes()[..], &row.to_stored()].concat()),
        ("stored", "run-key".to_owned(), [&[3], &key[..]].concat()),
    ]
}

fn texts() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, addresses) in [("plain", vec![]), ("address", vec!["/ip4/192.0.2.7/tcp/4001".to_owned(); 2])] {
        let ticket = Ticket {
            space: SpaceId([0xab; 32]),
            connection_key: [0xcd; 32],
            invite_seed: [0xef; 32],
            role: Role::Reader,
            addresses,
        };
        seeds.push(("ticket", name.to_owned(), [&[0], ticket.to_string().as_bytes()].concat()));
        let mut bytes = vec![1, Ticket::VERSION];
        bytes.extend([[0xab; 32], [0xcd; 32], [0xef; 32]].concat());
        bytes.extend([2, 1, 0, 3]);
        bytes.extend(b"/ip");
        seeds.push(("ticket", format!("{name}-sealed"), bytes));
    }
    seeds.push(("ticket", "id".to_owned(), [&[0], "ab".repeat(32).as_bytes()].concat()));
    for (name, path) in [("root", ""), ("list", "/items/0/name"), ("escapes", "/a~1b/~0"), ("bare", "a//b")] {
        seeds.push(("path", name.to_owned(), path.as_bytes().to_vec()));
    }
    seeds
}

/// A few of every kind of record.
fn recordings() -> Vec<(&'static str, String, Vec<u8>)> {
    let (space, document, device) = (SpaceId([1; 32]), DOCUMENT, DeviceId([2; 32]));
    let called = |call| Record::Called { mono: 5, wall_s: 6, polled: true, call };
    let change = vec![7; 9].into();
    let calls = [
        Call::Command { id: 1, command: Asked::Invite { space, role: 2, max_uses: 3, addresses: vec!["a".into()] } },
        Call::SessionOpened { session: 2, peer: device, opener: true, address: "b".into() },
        Call::Frame { session: 2, bytes: vec![1, 2, 3].into() },
        Call::Scanned {
            id: 4,
            rows: vec![Pair { key: vec![1].into(), value: vec![2].into() }],
            more: true,
            failure: None,
            damaged: Vec::new(),
        },
        Call::Committed { id: 5, failure: Some(Failed::Full("no room".into())) },
        Call::Worked { space, document, generation: 6 },
        Call::Edited { space, document, change },
        Call::Announced { addresses: vec!["c".into()] },
    ];
    let mut out = Output::default();
    let others = [
        Record::Row { table: 1, key: vec![3].into(), value: vec![4].into() },
        Record::Signed { digest: [5; 32].into(), signature: [6; 64].into() },
        Record::Checkpoint { polled: false, outputs: 7, hash: [8; 32].into() },
        Record::End { limit: true },
    ];
    for record in calls.into_iter().map(called).chain(others) {
        out.chunk(&minicbor::to_vec(&record).expect("writing to memory does not fail"));
    }
    vec![("recording", "every-kind".to_owned(), out.0)]
}

fn requests() -> Vec<(&'static str, String, Vec<u8>)> {
    let edits = json!([
        {"op": "set", "path": "", "value": {"list": [1, 2.5, null], "text": "abc"}},
        {"op": "insert", "path": "/list/-", "value": [true]},
        {"op": "splice", "path": "/text", "pos": 1, "del": 1, "ins": "\u{e4}\u{1f98a}"},
        {"op": "text", "path": "/text", "text": "another"},
        {"op": "counter", "path": "/n", "value": 5},
        {"op": "increment", "path": "/n", "by": -7},
        {"op": "timestamp", "path": "/at", "ms": 1_700_000_000_000_i64},
        {"op": "remove", "path": "/list/0"},
    ]);
    let lines = edits.as_array().into_iter().flatten().map(|edit| format!("{edit}\n")).collect::<String>();
    let edit = json!({"do": "doc-edit", "document": "ab/cd", "edits": edits, "saved": true, "each": true});
    let import = json!({"do": "doc-import", "space": null, "document": null, "name": "a", "value": {"a": [[]]}});
    let join = json!({"do": "space-join", "ticket": "anabranch1xyz", "timeout_ms": u64::MAX});
    [("edit", edit.to_string()), ("import", import.to_string()), ("join", join.to_string()), ("lines", lines)]
        .into_iter()
        .map(|(name, text)| ("request", name.to_owned(), text.into_bytes()))
        .collect()
}

/// Runs backwards, some twice; runs among floods that go over the limits.
fn waiting() -> Vec<(&'static str, String, Vec<u8>)> {
    let history: Vec<u8> = (0..24_u8).map(|i| i.wrapping_mul(37) | if i % 3 == 0 { 192 } else { 0 }).collect();
    let mut begin = vec![history.len() as u8];
    begin.extend(history);
    let mut backwards = begin.clone();
    backwards.extend((0..20_u8).rev().flat_map(|run| [if run % 4 == 0 { 130 } else { 2 }, run]));
    let mut floods = begin;
    for i in 0..6_u8 {
        floods.extend([i << 2, 130, 19 - i, 131, i]);
    }
    floods.extend([129, 0, 9, 130, 3]);
    [("backwards", backwards), ("floods", floods)]
        .into_iter()
        .map(|(name, bytes)| ("orphans", name.to_owned(), bytes))
        .collect()
}

fn edits() -> Vec<(&'static str, String, Vec<u8>)> {
    let operation = |out: &mut Output, choices: u8, path: &str, position: u8, value: &[u8]| {
        out.byte(choices).byte(position).chunk(path.as_bytes()).chunk(value);
    };
    let mut map = Output::default();
    operation(&mut map, 128 | 11, "", 0, br#"{"a":{"b":[1,2,{"c":null}]},"t":"text"}"#);
    operation(&mut map, 0, "/a/b/1", 0, b"\"two\"");
    operation(&mut map, 2, "/a/b/-", 0, b"[true]");
    operation(&mut map, 128 | 3, "/a/b/0", 1, b"");
    operation(&mut map, 128 | 64, "/missing/x", 0, b"1");
    let mut text = Output::default();
    operation(&mut text, 128, "/t", 0, br#""a text with an \ud83e\udd8a in it""#);
    operation(&mut text, 9 | 16, "/t", 3, b"more");
    operation(&mut text, 128 | 10, "/t", 1, b"another text");
    operation(&mut text, 12, "/t", 0, b"");
    let mut scalars = Output::default();
    operation(&mut scalars, 4, "/n", 0, &5i64.to_le_bytes());
    operation(&mut scalars, 5, "/n", 0, &(-7i64).to_le_bytes());
    operation(&mut scalars, 6, "/bytes", 0, &[0, 255]);
    operation(&mut scalars, 7, "/at", 0, &1i64.to_le_bytes());
    operation(&mut scalars, 128 | 8, "/name", 1, b"plain");
    operation(&mut scalars, 0, "/import", 0, br#"{"list":[1,2.5,"x",{"y":[[]]}]}"#);
    [("map", map), ("text", text), ("scalars", scalars)]
        .into_iter()
        .map(|(name, out)| ("edit", name.to_owned(), out.0))
        .collect()
}

fn memberships() -> Vec<(&'static str, String, Vec<u8>)> {
    const BUILT: u8 = 2;
    /// What stands in front of every built entry: author, set of earlier ones, nothing added to the depth, kind, nonce.
    fn entry(out: &mut Output, author: u8, set: u32, kind: u8, fields: &[u8], joiner: u8) {
        out.byte(BUILT | author << 2).set(set).byte(0).byte(kind).byte(0).take(fields).byte(joiner);
    }
    let mut joins = Output::default();
    entry(&mut joins, 0, 1, 1, &[0, 1, 2], 1);
    entry(&mut joins, 1, 2, 2, &[0, 1], 1);
    entry(&mut joins, 2, 2, 2, &[0, 1], 2);
    entry(&mut joins, 3, 2, 2, &[0, 1], 3);
    let mut admin = Output::default();
    entry(&mut admin, 0, 1, 1, &[1, 0, 5], 0);
    entry(&mut admin, 1, 2, 2, &[1, 1], 1);
    entry(&mut admin, 1, 4, 1, &[2, 2, 1], 2);
    entry(&mut admin, 2, 0b1110, 2, &[2, 3], 2);
    let mut kinds = Output::default();
    entry(&mut kinds, 0, 1, 3, &[0, 0, 1, 0x80], 0);
    entry(&mut kinds, 0, 0b11, 128, &[0, 0, 1, 0x80], 0);
    entry(&mut kinds, 3, 0b111, 9, &[0, 0, 2, 0x81, 0x01], 0);
    let mut raw = Output::default();
    raw.byte(0).chunk(&[0x82, 0x41, 0x80, 0x40]).byte(1);
    raw.byte(1).chunk(&[0x88, 0x01, 0xf6, 0xf6]).byte(2);
    [("joins", joins), ("admin", admin), ("kinds", kinds), ("raw", raw)]
        .into_iter()
        .map(|(name, out)| ("membership", name.to_owned(), out.0))
        .collect()
}

/// What a real session is made of: its frames, their messages, a store's rows.
fn sessions() -> Vec<(&'static str, String, Vec<u8>)> {
    let fixture = fixture();
    let mut seeds = vec![
        ("image", "alice".to_owned(), fixture.rows().to_bytes()),
        ("salvage", "alice".to_owned(), super::salvage::to_bytes(fixture.rows())),
    ];
    for (i, hint) in fixture.hints.iter().take(2).enumerate() {
        seeds.push(("hint", format!("{i}"), hint.clone()));
    }
    let mut kinds = std::collections::BTreeMap::new();
    for (name, frames) in ["joining", "live", "reconnecting"].into_iter().zip(&fixture.said) {
        let mut all_frames = Output::default();
        all_frames.byte(1);
        let mut spoken = Output::default();
        let mut assemblies: [Assembly; 3] = Default::default();
        for frame in frames {
            all_frames.chunk(frame);
            let lane = frame_lane(frame).expect("an engine sent it");
            let message = assemblies[lane as usize].push(frame, 1 << 20).expect("an engine sent it");
            let message = message.expect("messages this small are one frame");
            match Message::from_bytes(&message).expect("an engine sent it") {
                Message::Hello { .. } | Message::Tags { .. } => {}
                _ => {
                    spoken.byte(1 | (lane as u8) << 3).chunk(&message);
                }
            }
            kinds.entry(message[1]).or_insert(message);
        }
        seeds.push(("frame", name.to_owned(), all_frames.0));
        // Time passes, the store is slow for a while, Alice writes.
        for tail in [vec![3, 1, 0, 4], vec![7, 6, 3, 1, 0, 7]] {
            let name = format!("{name}-{}", tail.len());
            let hint = fixture.hints.first().map_or(&[][..], Vec::as_slice);
            let mut seed = Output(spoken.0.clone());
            seed.take(&tail).byte(5).chunk(hint);
            seeds.push(("session", name, seed.0));
        }
    }
    for (kind, message) in kinds {
        seeds.push(("message", format!("kind-{kind}"), message.clone()));
        seeds.push(("session", format!("kind-{kind}"), Output::default().byte(1).chunk(&message).0.clone()));
    }
    let long = Message::Bye { reason: "a long goodbye ".repeat(100) };
    let mut out = Output::default();
    out.byte(1);
    to_frames(Lane::Control, long.to_bytes()).iter().for_each(|frame| _ = out.chunk(frame));
    seeds.push(("frame", "compressed".to_owned(), out.0));
    let mut out = Output::default();
    out.byte(1).chunk(&[0x12, 1, 0, 0, 0, 4, 1, 2]).chunk(&[0x12, 2, 3, 4]);
    seeds.push(("frame", "parts".to_owned(), out.0));
    let mut out = Output::default();
    let (_, runs) = &stories()[0];
    for choices in [2, 2 | 16, 2 | 8, 2 | 24] {
        for body in bodies(&runs[0].payload) {
            out.byte(choices).set(0).chunk(&body[1..]);
        }
    }
    seeds.push(("session", "runs".to_owned(), out.0));
    seeds
}
