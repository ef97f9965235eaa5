//! What is read of a run's payload, and held against its header.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use anabranch_engine::gate::{Intake, Payload, inspect, payload_tip, vouch};
use anabranch_engine::limits::{RUN_BYTES_MAX, RUN_CHANGES_MAX};
use anabranch_engine::run::{Run, UnsignedRun};
use common::{Peer, WRITER, settle};
use serde_json::json;

/// So many changes of one author, each in a run of its own.
fn typed(alice: &mut Peer, changes: u64) -> Vec<Run> {
    (0..changes)
        .map(|n| {
            alice.edit(|edit| edit.set("/n", n as i64)).unwrap();
            alice.take_runs().remove(0)
        })
        .collect()
}

/// One run of all these.
fn joined(alice: &Peer, runs: &[Run]) -> Run {
    let (first, last) = (&runs[0].header, &runs[runs.len() - 1].header);
    let payload = runs.iter().flat_map(|run| run.payload.clone()).collect();
    let (actor, first_seq, last_seq, tip) = (first.actor, first.first_seq, last.last_seq, last.tip);
    alice.sign(UnsignedRun { actor, first_seq, last_seq, tip, payload })
}

#[test]
fn a_payload_says_what_is_in_it() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("/list", json!([1, 2, 3]))).unwrap();
    let mut runs = alice.take_runs();
    runs.extend(typed(&mut alice, 2));
    let run = joined(&alice, &runs);
    let tip = payload_tip(&run.payload).unwrap();
    assert_eq!((tip.changes, tip.first_seq, tip.last_seq, tip.tip), (3, 1, 3, runs[2].header.tip));
    // The list and its three items, then an operation each.
    assert_eq!((tip.first_lamport, tip.lamport), (4, 6));
    assert_eq!(*Payload::read(run.payload).unwrap().tip(), tip);
}

#[test]
fn a_run_has_a_limited_number_of_changes_and_bytes() {
    let mut alice = Peer::new(1);
    let runs = typed(&mut alice, RUN_CHANGES_MAX + 1);
    let most = joined(&alice, &runs[..RUN_CHANGES_MAX as usize]);
    assert_eq!(inspect(&most, WRITER), Ok(()));
    let more = joined(&alice, &runs);
    assert_eq!(inspect(&more, WRITER).unwrap_err().to_string(), "over a limit: a run has more than 1024 changes");
    let length = |bytes: usize| payload_tip(&vec![0; bytes]).unwrap_err().to_string();
    assert_eq!(length(RUN_BYTES_MAX), "malformed: not a change: wrong magic bytes");
    assert_eq!(length(RUN_BYTES_MAX + 1), "over a limit: a run of 16711681 bytes, limit 16711680");
    let mut bob = Peer::new(2);
    assert_eq!(bob.receive([most]).accepted.len(), 1);
}

#[test]
fn a_header_says_what_is_in_the_payload() {
    let mut alice = Peer::new(1);
    let runs = typed(&mut alice, 3);
    let run = joined(&alice, &runs);
    let payload = Payload::read(run.payload.clone()).unwrap();
    assert_eq!(vouch(&run.header, &payload, WRITER), Ok(()));
    let refused = |what: &str, change: fn(&mut Run)| {
        let mut other = run.clone();
        change(&mut other);
        let reason = format!("malformed: the header's {what} is not the payload's");
        assert_eq!(inspect(&other, WRITER).unwrap_err().to_string(), reason);
        assert_eq!(vouch(&other.header, &payload, WRITER).unwrap_err().to_string(), reason);
        let mut bob = Peer::new(2);
        bob.document.receive_read(other.header, Ok(payload.clone()), Intake::Always);
        assert_eq!(settle(&mut bob.document).refused[0].1.to_string(), reason);
    };
    refused("range of sequence numbers", |run| run.header.first_seq += 1);
    refused("range of sequence numbers", |run| run.header.last_seq += 1);
    refused("actor", |run| run.header.actor.0[0] ^= 1);
    refused("tip", |run| run.header.tip.0[0] ^= 1);
    let length = run.payload.len();
    let mut bob = Peer::new(2);
    bob.document.receive_read(run.header, Ok(payload), Intake::Always);
    assert_eq!(bob.document.inbox_bytes(), length);
    assert_eq!(settle(&mut bob.document).accepted.len(), 1);
}
