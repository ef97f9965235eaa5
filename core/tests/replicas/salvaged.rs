//! A replica whose store is damaged: what is readable is saved, and the rest comes from the other.

use std::fs;
use std::path::Path;

use crate::common::{Pair, open, peer_in, within};
use anabranch::{CommandError, OpenError, Peer, Role};
use serde_json::json;

/// Bob's store after he edited alone, with the identity of both replicas and of the documents.
struct Scene {
    alice: Peer,
    bobs: tempfile::TempDir,
    _alices: tempfile::TempDir,
    space: anabranch::SpaceId,
    shared: anabranch::DocumentId,
    own: anabranch::DocumentId,
}

async fn scene() -> Scene {
    let (alices, bobs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pair = Pair::of(peer_in(alices.path()).await, peer_in(bobs.path()).await).await;
    let (first, second) = pair.document().await;
    first.edit(|edit| edit.set("/by", "alice")).unwrap();
    second.edit(|edit| edit.set("/and", "bob")).unwrap();
    pair.synced().await;
    let (space, shared) = (pair.of_alice.id(), first.id());
    drop((first, second));
    let Pair { alice, bob, of_alice, of_bob } = pair;
    drop((of_alice, of_bob));
    within("shutdown", alice.shutdown()).await;
    let of_bob = bob.space(space).unwrap();
    let document = within("create", of_bob.create_document()).await.unwrap();
    document.edit(|edit| edit.set("/only", "bob has it")).unwrap();
    within("saved", document.saved()).await.unwrap();
    let own = document.id();
    drop((document, of_bob));
    within("shutdown", bob.shutdown()).await;
    // Alice writes on while Bob is away.
    let alice = peer_in(alices.path()).await;
    let document = within("open", alice.space(space).unwrap().open(shared)).await.unwrap();
    document.edit(|edit| edit.set("/later", true)).unwrap();
    within("saved", document.saved()).await.unwrap();
    Scene { alice, bobs, _alices: alices, space, shared, own }
}

/// Overwrites part of a store's file; `from` counts in pages.
fn damage(directory: &Path, from: usize, to: usize) -> Vec<u8> {
    let file = directory.join("store.redb");
    let mut bytes = fs::read(&file).unwrap();
    let (from, to) = (bytes.len().min(from * 4096), bytes.len().min(to.saturating_mul(4096)));
    bytes[from..to].fill(0xaa);
    fs::write(&file, &bytes).unwrap();
    bytes
}

/// Bob and Alice end equal, with what both ever saved and could be read.
async fn ends_equal(scene: &Scene, bob: &Peer, own_is_kept: bool) {
    within("dial", bob.dial(&scene.alice.listening()[0])).await.unwrap();
    let (of_alice, of_bob) = (scene.alice.space(scene.space).unwrap(), bob.space(scene.space).unwrap());
    within("synced", of_bob.synced_with(scene.alice.device())).await.unwrap();
    within("synced", of_alice.synced_with(bob.device())).await.unwrap();
    let at_bob = within("open", of_bob.open(scene.shared)).await.unwrap();
    assert_eq!(at_bob.json().unwrap(), json!({"by": "alice", "and": "bob", "later": true}));
    let own = within("open", of_alice.open(scene.own)).await;
    match own_is_kept {
        true => assert_eq!(own.unwrap().json().unwrap(), json!({"only": "bob has it"})),
        false => assert!(matches!(own, Err(CommandError::UnknownDocument(_)))),
    }
    // And he goes on.
    at_bob.edit(|edit| edit.set("/again", 1)).unwrap();
    within("saved", at_bob.saved()).await.unwrap();
    within("synced", of_bob.synced_with(scene.alice.device())).await.unwrap();
    let at_alice = within("open", of_alice.open(scene.shared)).await.unwrap();
    assert_eq!(at_alice.json().unwrap(), at_bob.json().unwrap());
}

#[tokio::test]
async fn a_store_without_its_beginning_keeps_unsynced_edits_and_gets_the_rest_from_peers() {
    let scene = scene().await;
    let directory = scene.bobs.path();
    let damaged = damage(directory, 0, 1);
    let before = fs::read(directory.join("identity")).unwrap();
    let refused = Peer::builder().directory(directory).refuse_damaged_store().open().await.unwrap_err();
    assert!(matches!(refused, OpenError::Store(_)), "{refused}");
    assert_eq!(fs::read(directory.join("store.redb")).unwrap(), damaged);

    let bob = open(Peer::builder().directory(directory)).await;
    let salvaged = bob.salvaged().unwrap();
    assert_eq!((salvaged.spaces, salvaged.documents), (1, 2), "{salvaged}");
    assert_eq!(fs::read(directory.join("store.redb.damaged-1")).unwrap(), damaged);
    assert_eq!(fs::read(directory.join("identity")).unwrap(), before);
    assert_eq!(bob.storage().1, 1, "it is a new store");
    ends_equal(&scene, &bob, true).await;
    within("shutdown", bob.shutdown()).await;

    let bob = open(Peer::builder().directory(directory)).await;
    assert!(bob.salvaged().is_none(), "it happens once");
    within("shutdown", bob.shutdown()).await;
    within("shutdown", scene.alice.shutdown()).await;
}

#[tokio::test]
async fn a_store_of_which_nothing_is_left_gets_everything_from_peers_without_a_ticket() {
    let scene = scene().await;
    let directory = scene.bobs.path();
    damage(directory, 1, usize::MAX);
    let bob = open(Peer::builder().directory(directory)).await;
    let salvaged = bob.salvaged().unwrap();
    assert_eq!((salvaged.spaces, salvaged.runs), (1, 0), "{salvaged}");
    ends_equal(&scene, &bob, false).await;
    within("shutdown", bob.shutdown()).await;
    within("shutdown", scene.alice.shutdown()).await;
}

// The store's file alone was lost: a new replica was made beside the copy of its spaces, which it overwrote.
#[tokio::test]
async fn a_store_that_is_missing_gets_everything_from_peers_without_a_ticket() {
    let scene = scene().await;
    let directory = scene.bobs.path();
    fs::remove_file(directory.join("store.redb")).unwrap();
    let bob = open(Peer::builder().directory(directory)).await;
    let salvaged = bob.salvaged().unwrap();
    assert_eq!((salvaged.spaces, salvaged.runs, &salvaged.kept), (1, 0, &None), "{salvaged}");
    ends_equal(&scene, &bob, false).await;
    within("shutdown", bob.shutdown()).await;
    // With neither store nor copy the key alone is left, and it is a new replica.
    for name in ["store.redb", "spaces"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    let bob = open(Peer::builder().directory(directory)).await;
    assert!(bob.salvaged().is_none() && bob.spaces().is_empty());
    within("shutdown", bob.shutdown()).await;
    within("shutdown", scene.alice.shutdown()).await;
}

// The members that it stands on are known and do not include the new device, so that a salvage took it for anybody's words.
#[tokio::test]
async fn what_is_written_under_a_renewed_key_survives_a_damaged_store() {
    let scene = scene().await;
    let renewed = Peer::builder().directory(scene.bobs.path()).renew_identity(false).unwrap();
    let bob = peer_in(scene.bobs.path()).await;
    assert_eq!(bob.device(), renewed.device);
    let document = within("open", bob.space(scene.space).unwrap().open(scene.own)).await.unwrap();
    document.edit(|edit| edit.set("/renewed", 1)).unwrap();
    within("saved", document.saved()).await.unwrap();
    drop(document);
    within("shutdown", bob.shutdown()).await;
    damage(scene.bobs.path(), 0, 1);
    let bob = peer_in(scene.bobs.path()).await;
    assert!(bob.salvaged().is_some());
    let of_alice = scene.alice.space(scene.space).unwrap();
    let ticket = of_alice.invite(Role::Writer, 1, Vec::new()).await.unwrap();
    let of_bob = within("join", bob.join(&ticket)).await.unwrap();
    within("synced", of_bob.synced_with(scene.alice.device())).await.unwrap();
    let at_alice = within("open", of_alice.open(scene.own)).await.unwrap();
    assert_eq!(at_alice.json().unwrap(), json!({"only": "bob has it", "renewed": 1}));
}
