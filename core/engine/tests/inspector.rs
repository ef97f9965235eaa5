//! The inspector, which reads the bytes of changes before automerge does: no bytes harm it, and it reads what automerge reads.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use anabranch_engine::gate::payload_tip;
use anabranch_engine::run::UnsignedRun;
use automerge::Change;
use common::{Peer, with_checksum};
use proptest::prelude::*;
use serde_json::json;

fn sample() -> Vec<Vec<u8>> {
    let mut alice = Peer::new(1);
    alice
        .edit(|edit| {
            edit.set("", json!({"map": {"a": [1, -2.5, null, true, "text"]}, "n": 0}))?;
            edit.set_counter("/c", 5)?;
            edit.set_bytes("/b", &[0; 40])
        })
        .unwrap();
    alice
        .edit(|edit| {
            edit.splice_text("/map/a/4", 1, 2, "longer")?;
            edit.increment("/c", -3)?;
            edit.remove("/map/a/0")?;
            edit.set("/n", "x")
        })
        .unwrap();
    let run = alice.take_runs().remove(0);
    let length = anabranch_engine::gate::inspector::inspect(&run.payload).unwrap().length;
    vec![run.payload[..length].to_vec(), run.payload[length..].to_vec()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_inspector_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = payload_tip(&bytes);
        let framed = [&[0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1][..], &[bytes.len() as u8 & 0x7f], &bytes].concat();
        let _ = payload_tip(&with_checksum(framed));
    }

    #[test]
    fn a_mutated_change_never_gets_a_panic_past_the_guard(
        which in 0..2_usize,
        mutations in proptest::collection::vec((10..400_usize, any::<u8>()), 1..4),
    ) {
        let sample = sample();
        let mut chunk = sample[which].clone();
        for (at, byte) in mutations {
            let at = at % chunk.len();
            if at >= 11 {
                chunk[at] = byte;
            }
        }
        let chunk = with_checksum(chunk);
        let mut bob = Peer::new(2);
        let alice = Peer::new(1);
        if which == 1 {
            let found = payload_tip(&sample[0]).unwrap();
            let run = UnsignedRun { actor: found.actor, first_seq: 1, last_seq: 1, tip: found.tip, payload: sample[0].clone() };
            bob.receive([alice.sign(run)]);
        }
        let Ok(found) = payload_tip(&chunk) else { return Ok(()) };
        let run = UnsignedRun { actor: found.actor, first_seq: found.first_seq, last_seq: found.last_seq, tip: found.tip, payload: chunk };
        bob.receive([alice.sign(run)]);
        // Whatever became of it, the document reads and writes on.
        let _ = (bob.document.view().json(), bob.document.view().all_conflicts());
        bob.edit(|edit| edit.set("/after", 1)).unwrap();
        prop_assert_eq!(bob.document.view().get("/after"), Some(json!(1)));
    }
}

#[test]
fn what_the_inspector_says_is_what_automerge_says() {
    for chunk in sample() {
        let ours = anabranch_engine::gate::inspector::inspect(&chunk).unwrap();
        let theirs = Change::from_bytes(chunk.clone()).unwrap();
        assert_eq!(ours.hash.0, theirs.hash().0);
        assert_eq!((ours.seq, ours.start_op, ours.ops), (theirs.seq(), theirs.start_op().get(), theirs.len() as u64));
        assert_eq!(ours.max_op(), theirs.max_op());
        assert_eq!(
            ours.deps().map(|hash| hash.0).collect::<Vec<_>>(),
            theirs.deps().iter().map(|hash| hash.0).collect::<Vec<_>>()
        );
        assert_eq!(ours.author.and_then(|author| author.device()).is_some(), theirs.author().is_some());
    }
}
