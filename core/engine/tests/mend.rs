//! Documents that are built from what a damaged store still has.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use anabranch_engine::document::mend::{MendWork, Mended, Readable};
use anabranch_engine::document::{Document, OpenWork};
use anabranch_engine::gate::{Authority, payload_tip};
use anabranch_engine::id::ChangeHash;
use anabranch_engine::run::Run;
use anabranch_engine::storage::run_key;
use common::{DOCUMENT, Peer, SPACE, WRITER, guard};

fn key(run: &Run) -> Vec<u8> {
    let lamport = payload_tip(&run.payload).unwrap().lamport;
    run_key(&SPACE, &DOCUMENT, lamport, &run.header.actor, run.header.last_seq)
}

/// What becomes of runs that no record names.
fn mend(runs: impl IntoIterator<Item = (Vec<u8>, Run)>) -> Mended {
    mend_after(Vec::new(), Some(WRITER), runs)
}

/// What becomes of runs where the record names these tips, and this is what is known of the author.
fn mend_after(
    tips: Vec<ChangeHash>,
    author: Option<Authority>,
    runs: impl IntoIterator<Item = (Vec<u8>, Run)>,
) -> Mended {
    let runs = runs.into_iter().map(|(row, run)| Readable { row, run, author }).collect();
    MendWork { space: SPACE, id: DOCUMENT, runs, tips, suspects: Vec::new(), poisoned: Vec::new() }.run(&guard())
}

fn edits(peer: &mut Peer, count: u64) -> Vec<Run> {
    (0..count)
        .flat_map(|value| {
            peer.edit(|edit| edit.set("/v", value)).unwrap();
            peer.take_runs()
        })
        .collect()
}

/// Of two processes of one device: they made the same first change, and then went apart.
fn twins() -> [[Run; 2]; 2] {
    [1, 2].map(|value| {
        let mut twin = Peer::new(1);
        let first = edits(&mut twin, 1).remove(0);
        twin.edit(|edit| (0..value).try_for_each(|step| edit.set("/v", 10 + step).map(|_| ()))).unwrap();
        [first, twin.take_runs().remove(0)]
    })
}

#[test]
fn what_needs_a_run_that_is_gone_waits_and_is_no_part_of_the_document() {
    let runs = edits(&mut Peer::new(1), 4);
    let mended = mend([0, 2, 3].map(|at| (key(&runs[at]), runs[at].clone())));
    assert_eq!((mended.held.len(), mended.waiting, mended.useless.len()), (1, 2, 0));
    assert_eq!(mended.document.heads(), [runs[0].header.tip]);
}

#[test]
fn of_two_runs_under_one_number_the_one_that_is_left_out_is_removed() {
    let [[first, one], [again, other]] = twins();
    assert_eq!(first, again);
    assert_eq!(one.header.first_seq, other.header.first_seq);
    assert_ne!(key(&one), key(&other));
    let mended = mend([first, one, other.clone()].map(|run| (key(&run), run)));
    assert_eq!((mended.held.len(), mended.waiting), (2, 0));
    assert_eq!(mended.useless, [key(&other)]);
}

#[test]
fn a_run_that_is_not_where_it_belongs_is_removed() {
    let runs = edits(&mut Peer::new(1), 2);
    let elsewhere = run_key(&SPACE, &DOCUMENT, 0, &runs[1].header.actor, runs[1].header.last_seq);
    let mended = mend([(key(&runs[0]), runs[0].clone()), (elsewhere.clone(), runs[1].clone())]);
    assert_eq!((mended.held.len(), mended.waiting), (1, 0));
    assert_eq!(mended.useless, [elsewhere]);
}

/// A row whose number the record names may be another run's: one that somebody hid where a salvage found it.
#[test]
fn what_the_last_version_does_not_lead_to_needs_its_signature() {
    let runs = edits(&mut Peer::new(1), 3);
    let forged = |at: usize| {
        let mut run = runs[at].clone();
        run.header.signature[0] ^= 1;
        (key(&run), run)
    };
    let tip = runs[1].header.tip;
    // It was seen before they became part of the document, and who may write is not known any more.
    let mended = mend_after(vec![tip], None, [0, 1].map(forged));
    assert_eq!((mended.held.len(), mended.unvouched.len(), mended.useless.len()), (2, 0, 0));
    // What comes after that was never part of it.
    let mended = mend_after(vec![tip], None, [0, 1, 2].map(forged));
    assert_eq!((mended.held.len(), mended.unvouched.len(), mended.useless.len()), (2, 1, 0));
    // Nor is it told of what can only be reached by way of what is gone.
    let mended = mend_after(vec![tip], None, [forged(0)]);
    assert_eq!((mended.held.len(), mended.unvouched.len(), mended.useless.len()), (0, 1, 0));
    // Where the members are known, it is looked at again.
    let mended = mend_after(vec![tip], Some(WRITER), [0, 1].map(forged));
    assert_eq!((mended.held.len(), mended.unvouched.len(), mended.useless.len()), (0, 0, 2));
}

#[test]
fn what_stands_on_unknown_members_is_left_where_it_is() {
    let runs = edits(&mut Peer::new(1), 2);
    let rows = || runs.iter().map(|run| (key(run), run.clone()));
    let mended = mend_after(vec![runs[0].header.tip], None, rows());
    assert_eq!((mended.held.len(), mended.waiting, mended.unvouched.len()), (1, 0, 1));
    assert!(mended.useless.is_empty());
    let mended = mend_after(Vec::new(), None, rows());
    assert_eq!((mended.held.len(), mended.waiting, mended.unvouched.len()), (0, 0, 2));
}

/// It was left where it is, and its document mended again at every opening.
#[test]
fn what_stands_on_unknown_members_is_removed_if_its_number_is_taken() {
    let [one, other] = twins();
    let tip = one.last().unwrap().header.tip;
    let rows: Vec<_> = one.iter().chain(&other[1..]).map(|run| (key(run), run.clone())).collect();
    let mended = mend_after(vec![tip], None, rows);
    assert_eq!((mended.held.len(), mended.unvouched.len()), (2, 0));
    assert_eq!(mended.useless, [key(&other[1])]);
}

#[test]
fn what_was_given_up_is_asked_for_when_what_it_waited_for_is_there() {
    let mut alice = Peer::new(1);
    let runs = edits(&mut alice, 4);
    let mut bob = Peer::new(2);
    bob.document.note_what_is_given_up();
    bob.receive(runs[2..].to_vec());
    assert_eq!(bob.document.shrink_orphans(0), 2);
    let mut carol = Peer::new(3);
    assert!(!bob.receive(edits(&mut carol, 1)).read_again, "nobody waited for it");
    assert!(!bob.receive(runs[..1].to_vec()).read_again, "nor for this");
    assert!(bob.receive(runs[1..2].to_vec()).read_again);
    let settled = bob.receive(runs[2..].to_vec());
    assert_eq!((settled.accepted.len(), settled.read_again), (2, false));
    // One that was not asked to does not note it.
    carol.receive(runs[1..].to_vec());
    assert_eq!(carol.document.shrink_orphans(0), 3);
    assert!(!carol.receive(runs[..1].to_vec()).read_again);
}

/// Opens what the record names by its tips.
fn open(tips: Vec<ChangeHash>, runs: Vec<Run>) -> Result<Document, String> {
    let work = OpenWork { space: SPACE, id: DOCUMENT, runs, tips, suspects: Vec::new(), poisoned: Vec::new() };
    work.run(&guard())
}

#[test]
fn of_two_runs_under_one_number_the_one_that_the_record_leads_to_is_opened() {
    let [[first, one], [_, other]] = twins();
    for (held, left) in [(&one, &other), (&other, &one)] {
        let document = open(vec![held.header.tip], vec![left.clone(), first.clone(), held.clone()]).unwrap();
        assert_eq!(document.heads(), [held.header.tip]);
    }
}

#[test]
fn a_run_left_out_for_another_with_its_number_may_need_what_is_gone() {
    let [[first, held], _] = twins();
    let mut twin = Peer::new(1);
    edits(&mut twin, 1);
    twin.receive(edits(&mut Peer::new(2), 1));
    let left = edits(&mut twin, 1).remove(0);
    assert_eq!(left.header.first_seq, held.header.first_seq);
    let document = open(vec![held.header.tip], vec![left.clone(), first, held.clone()]).unwrap();
    assert_eq!(document.heads(), [held.header.tip]);
    assert!(open(vec![left.header.tip], vec![left]).unwrap_err().contains("not stored"));
}
