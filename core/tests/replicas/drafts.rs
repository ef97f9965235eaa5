//! Drafts through the handles of whole replicas.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anabranch::{DocumentError, EditError, Role};
use serde_json::json;

use crate::common::{Pair, join, peer, peer_in, within};

#[tokio::test]
async fn a_published_draft_is_there_at_once_saved_and_at_the_peer() {
    let pair = Pair::in_memory().await;
    let (first, second) = pair.document().await;
    first.edit(|edit| edit.set("/old", 1)).unwrap();
    let mut draft = first.draft().unwrap();
    for value in 0..3 {
        draft.edit(|edit| edit.set("/new", value)).unwrap();
    }
    // The other side, and other handles here, go on meanwhile.
    first.edit(|edit| edit.set("/typed", true)).unwrap();
    assert_eq!(draft.read(|view| view.get("")), Some(json!({"old": 1, "new": 2})));
    assert_eq!(first.json().unwrap(), json!({"old": 1, "typed": true}));
    assert!(draft.publish().unwrap());
    assert_eq!(first.json().unwrap(), json!({"old": 1, "typed": true, "new": 2}));
    within("saved", first.saved()).await.unwrap();
    pair.synced().await;
    assert_eq!(second.json().unwrap(), first.json().unwrap());
    assert_eq!(second.heads().unwrap(), first.heads().unwrap());
    assert!(!first.draft().unwrap().publish().unwrap(), "there is nothing in it");
    pair.shutdown().await;
}

#[tokio::test]
async fn a_published_draft_is_there_after_a_restart_and_an_unpublished_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let alice = peer_in(directory.path()).await;
    let space = within("create", alice.create_space("test")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    let (mut kept, mut dropped) = (document.draft().unwrap(), document.draft().unwrap());
    kept.edit(|edit| edit.set("/kept", "a text")).unwrap();
    kept.edit(|edit| edit.splice_text("/kept", 0, 1, "the")).unwrap();
    dropped.edit(|edit| edit.set("/dropped", 1)).unwrap();
    kept.publish().unwrap();
    within("saved", document.saved()).await.unwrap();
    let (space, id, heads) = (space.id(), document.id(), document.heads().unwrap());
    drop((document, kept, dropped));
    within("shutdown", alice.shutdown()).await;
    let alice = peer_in(directory.path()).await;
    let document = within("open", alice.space(space).unwrap().open(id)).await.unwrap();
    assert_eq!(document.json().unwrap(), json!({"kept": "the text"}));
    assert_eq!(document.heads().unwrap(), heads);
    within("shutdown", alice.shutdown()).await;
}

#[tokio::test]
async fn a_draft_in_the_making_holds_nothing_up() {
    let alice = peer().await;
    let space = within("create", alice.create_space("test")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    let other = within("create", space.create_document()).await.unwrap();
    let (inside, go_on) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    let mut draft = document.draft().unwrap();
    let (edited, entered) = (other.clone(), inside.0);
    let making = thread::spawn(move || {
        draft.edit(|edit| {
            edit.set("/made", "slowly")?;
            // Inside it the replica may be used, by this thread too.
            edited.edit(|edit| edit.set("/inside", 1)).unwrap();
            entered.send(()).unwrap();
            go_on.1.recv_timeout(Duration::from_secs(30)).unwrap();
            Ok(())
        })?;
        draft.publish()
    });
    inside.1.recv_timeout(Duration::from_secs(30)).unwrap();
    document.edit(|edit| edit.set("/typed", 1)).unwrap();
    other.edit(|edit| edit.set("/outside", 2)).unwrap();
    go_on.0.send(()).unwrap();
    assert!(making.join().unwrap().unwrap());
    assert_eq!(document.json().unwrap(), json!({"typed": 1, "made": "slowly"}));
    assert_eq!(other.json().unwrap(), json!({"inside": 1, "outside": 2}));
    within("shutdown", alice.shutdown()).await;
}

#[tokio::test]
async fn a_draft_is_not_made_by_a_reader_nor_published_in_a_space_that_was_left() {
    let pair = Pair::in_memory().await;
    let carol = peer().await;
    let of_carol = join(&pair.of_alice, &carol, Role::Reader).await;
    let (first, second) = pair.document().await;
    first.edit(|edit| edit.set("/v", 1)).unwrap();
    pair.synced().await;
    let third = within("open", of_carol.wait_for(first.id())).await.unwrap();
    let error = third.draft().unwrap_err();
    assert!(matches!(error, DocumentError::NotAWriter("a reader")), "{error}");
    let mut draft = second.draft().unwrap();
    draft.edit(|edit| edit.set("/v", 2)).unwrap();
    within("leave", pair.bob.leave(pair.of_bob.id())).await.unwrap();
    let error = draft.publish().unwrap_err();
    assert!(matches!(error, DocumentError::UnknownSpace(_)), "{error}");
    assert_eq!(first.json().unwrap(), json!({"v": 1}));
    within("shutdown", carol.shutdown()).await;
    pair.shutdown().await;
}

#[tokio::test]
async fn a_draft_of_a_replica_that_was_shut_down_is_not_published() {
    let alice = peer().await;
    let space = within("create", alice.create_space("test")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    let mut draft = document.draft().unwrap();
    draft.edit(|edit| edit.set("/v", 1)).unwrap();
    within("shutdown", alice.shutdown()).await;
    let error = draft.publish().unwrap_err();
    assert!(matches!(error, DocumentError::Stopped(_)), "{error}");
}

#[tokio::test]
async fn an_edit_of_a_draft_that_panics_leaves_it_as_before() {
    let alice = peer().await;
    let space = within("create", alice.create_space("test")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    let mut draft = document.draft().unwrap();
    draft.edit(|edit| edit.set("/good", 1)).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        draft.edit(|edit| -> Result<(), EditError> {
            edit.set("/half", 1)?;
            panic!("in the middle")
        })
    }));
    assert!(panicked.is_err());
    draft.publish().unwrap();
    assert_eq!(document.json().unwrap(), json!({"good": 1}));
    within("shutdown", alice.shutdown()).await;
}
