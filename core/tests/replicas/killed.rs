//! A process that dies while it applies runs, and the note that it leaves.

use std::path::Path;

use anabranch::{ChangeHash, Document, DocumentId, Event, Peer, SpaceId, limits};
use futures::StreamExt as _;
use serde_json::json;

use crate::common::{Pair, open, peer_in, within};

/// What a process leaves that dies while it applies the run with this tip. The format is `core/src/slot.rs`.
fn leave_note(directory: &Path, space: SpaceId, document: DocumentId, tip: ChangeHash) {
    let body = [&space.0[..], &document.0, &1_u32.to_be_bytes(), &tip.0].concat();
    let sum = body.iter().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let note = [b"ANBS\x01".as_slice(), &length, &sum.to_be_bytes(), &body].concat();
    std::fs::write(directory.join("applying"), note).unwrap();
}

/// Alice has a change that bob, who is closed, does not have. Returns its hash.
async fn one_ahead(pair: &Pair, first: &Document) -> ChangeHash {
    first.edit(|edit| edit.set("/both", 1)).unwrap();
    pair.synced().await;
    within("shutdown", pair.bob.shutdown()).await;
    first.edit(|edit| edit.set("/ahead", 2)).unwrap();
    within("saved", first.saved()).await.unwrap();
    first.heads().unwrap()[0]
}

// A killed process leaves a note of what it was applying. The run named there was refused for ever, so that a replica killed
// at the wrong moment never agreed with the others again. Now it is refused only after several deaths that name it alone.
#[tokio::test]
async fn a_run_named_in_one_death_is_tried_again() {
    let directories = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pair = Pair::of(peer_in(directories.0.path()).await, peer_in(directories.1.path()).await).await;
    let (first, _) = pair.document().await;
    let tip = one_ahead(&pair, &first).await;
    leave_note(directories.1.path(), first.space().id(), first.id(), tip);
    let bob = open(Peer::builder().directory(directories.1.path()).dial(&pair.alice.listening()[0])).await;
    let of_bob = bob.space(pair.of_bob.id()).unwrap();
    within("synced", of_bob.synced_with(pair.alice.device())).await.unwrap();
    let second = within("open", of_bob.wait_for(first.id())).await.unwrap();
    assert_eq!(second.json().unwrap(), json!({"both": 1, "ahead": 2}));
    assert_eq!(second.heads().unwrap(), first.heads().unwrap());
    within("shutdown", bob.shutdown()).await;
    within("shutdown", pair.alice.shutdown()).await;
}

#[tokio::test]
async fn a_run_that_several_processes_died_of_is_refused_and_all_else_goes_on() {
    let directories = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pair = Pair::of(peer_in(directories.0.path()).await, peer_in(directories.1.path()).await).await;
    let (first, _) = pair.document().await;
    let tip = one_ahead(&pair, &first).await;
    let (space, first) = (first.space().id(), first.id());
    // Bob knows where alice is and dials her as he opens: he must not find her before he is the one who was killed often.
    within("shutdown", pair.alice.shutdown()).await;
    for _ in 1..limits::DEATHS_UNTIL_POISONED {
        leave_note(directories.1.path(), space, first, tip);
        within("shutdown", open(Peer::builder().directory(directories.1.path())).await.shutdown()).await;
    }
    leave_note(directories.1.path(), space, first, tip);
    let bob = open(Peer::builder().directory(directories.1.path())).await;
    let mut events = bob.events();
    let alice = peer_in(directories.0.path()).await;
    within("dial", bob.dial(&alice.listening()[0])).await.unwrap();
    within("the refusal", async {
        loop {
            let event = events.next().await.unwrap().unwrap();
            if let Event::RunRefused { by_us: true, reason, .. } = event {
                assert!(reason.contains("poisoned"), "{reason}");
                return;
            }
        }
    })
    .await;
    let other = within("create", alice.space(space).unwrap().create_document()).await.unwrap();
    other.edit(|edit| edit.set("/other", 3)).unwrap();
    let of_bob = bob.space(space).unwrap();
    within("the other document", async {
        while !of_bob.documents().contains(&other.id()) {
            events.next().await.unwrap().unwrap();
        }
    })
    .await;
    let second = within("open", of_bob.open(first)).await.unwrap();
    assert_eq!(second.json().unwrap(), json!({"both": 1}));
    within("shutdown", bob.shutdown()).await;
    within("shutdown", alice.shutdown()).await;
}

/// Bob, who is closed and was killed so often while he applied the one run that alice is ahead with; nobody runs.
async fn killed_often(times: u8) -> ((tempfile::TempDir, tempfile::TempDir), SpaceId, DocumentId, ChangeHash) {
    let directories = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pair = Pair::of(peer_in(directories.0.path()).await, peer_in(directories.1.path()).await).await;
    let (first, _) = pair.document().await;
    let tip = one_ahead(&pair, &first).await;
    let (space, document) = (first.space().id(), first.id());
    within("shutdown", pair.alice.shutdown()).await;
    for _ in 0..times {
        leave_note(directories.1.path(), space, document, tip);
        within("shutdown", open(Peer::builder().directory(directories.1.path())).await.shutdown()).await;
    }
    (directories, space, document, tip)
}

/// Opens both and waits until bob has what alice has.
async fn both_agree(alice: &Path, bob: &Path, space: SpaceId, document: DocumentId) {
    let alice = peer_in(alice).await;
    let bob = open(Peer::builder().directory(bob).dial(&alice.listening()[0])).await;
    let of_bob = bob.space(space).unwrap();
    within("synced", of_bob.synced_with(alice.device())).await.unwrap();
    let second = within("open", of_bob.open(document)).await.unwrap();
    assert_eq!(second.json().unwrap(), json!({"both": 1, "ahead": 2}));
    within("shutdown", bob.shutdown()).await;
    within("shutdown", alice.shutdown()).await;
}

// A replica killed at one point of its catching up, now and then over its life, refused an innocent run: deaths were added up
// over all starts. Now a start that is not after such a death begins to count again.
#[tokio::test]
async fn deaths_count_in_a_row_only() {
    let (directories, space, document, tip) = killed_often(limits::DEATHS_UNTIL_POISONED - 1).await;
    within("shutdown", open(Peer::builder().directory(directories.1.path())).await.shutdown()).await;
    leave_note(directories.1.path(), space, document, tip);
    both_agree(directories.0.path(), directories.1.path(), space, document).await;
}

// A replica killed several times in a row while it caught up refused an innocent run for ever and never agreed with the others
// again. Now the verdict is that of one process: the next one tries the run once more.
#[tokio::test]
async fn a_run_refused_for_deaths_is_tried_again_by_the_next_process() {
    let (directories, space, document, _) = killed_often(limits::DEATHS_UNTIL_POISONED).await;
    both_agree(directories.0.path(), directories.1.path(), space, document).await;
}
