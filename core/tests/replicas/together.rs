//! Two and three replicas over real connections on loopback.

use crate::common::{Pair, join, open, peer, peer_in, within};
use anabranch::{DocumentError, Event, Role};
use futures::StreamExt as _;
use serde_json::json;

#[tokio::test]
async fn an_edit_reaches_the_other_side_while_it_watches() {
    let pair = Pair::in_memory().await;
    let (first, second) = pair.document().await;
    let mut changes = second.subscribe(Vec::new()).unwrap();
    first.edit(|edit| edit.set("/title", "hello")).unwrap();
    // That it was made may come before that it was edited.
    let edited = async {
        loop {
            let changed = changes.next().await.unwrap();
            if changed.heads == first.heads().unwrap() {
                return changed;
            }
        }
    };
    let changed = within("a change", edited).await;
    assert_eq!(second.get("/title").unwrap(), Some(json!("hello")));
    assert!(!changed.patches.is_empty());
    // And the other way round.
    second.edit(|edit| edit.set("/answer", 42)).unwrap();
    pair.synced().await;
    assert_eq!(first.json().unwrap(), json!({"title": "hello", "answer": 42}));
    assert_eq!(first.heads().unwrap(), second.heads().unwrap());
    pair.shutdown().await;
}

#[tokio::test]
async fn what_was_written_apart_is_merged_when_they_meet() {
    let directories = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pair = Pair::of(peer_in(directories.0.path()).await, peer_in(directories.1.path()).await).await;
    let (first, second) = pair.document().await;
    first.edit(|edit| edit.set("/shared", "before")).unwrap();
    pair.synced().await;
    let (space, document) = (pair.of_alice.id(), first.id());
    drop((first, second));
    pair.shutdown().await;

    // Each runs while the other does not.
    let alice = peer_in(directories.0.path()).await;
    let first = within("open", alice.space(space).unwrap().open(document)).await.unwrap();
    first.edit(|edit| edit.set("/shared", "by alice")).unwrap();
    first.edit(|edit| edit.set("/alice", 1)).unwrap();
    within("saved", first.saved()).await.unwrap();
    within("shutdown", alice.shutdown()).await;

    let bob = open(anabranch::Peer::builder().directory(directories.1.path())).await;
    let of_bob = bob.space(space).unwrap();
    let second = within("open", of_bob.wait_for(document)).await.unwrap();
    second.edit(|edit| edit.set("/shared", "by bob")).unwrap();
    second.edit(|edit| edit.set("/bob", 2)).unwrap();

    let alice = peer_in(directories.0.path()).await;
    let of_alice = alice.space(space).unwrap();
    let first = within("open", of_alice.wait_for(document)).await.unwrap();
    assert_eq!(first.get("/shared").unwrap(), Some(json!("by alice")));
    within("dial", bob.dial(&alice.listening()[0])).await.unwrap();
    within("synced", of_bob.synced_with(alice.device())).await.unwrap();
    within("synced", of_alice.synced_with(bob.device())).await.unwrap();
    assert_eq!(first.json().unwrap(), second.json().unwrap());
    assert_eq!(first.heads().unwrap(), second.heads().unwrap());
    assert_eq!(first.get("/alice").unwrap(), Some(json!(1)));
    assert_eq!(first.get("/bob").unwrap(), Some(json!(2)));
    let mut values: Vec<_> = second.conflicts("/shared").unwrap().into_iter().map(|one| one.value).collect();
    assert_eq!(values[0], first.get("/shared").unwrap().unwrap(), "the winner is the same and comes first");
    values.sort_by_key(ToString::to_string);
    assert_eq!(values, [json!("by alice"), json!("by bob")]);
    within("shutdown", alice.shutdown()).await;
    within("shutdown", bob.shutdown()).await;
}

#[tokio::test]
async fn a_reader_sees_everything_and_writes_nothing() {
    let pair = Pair::in_memory().await;
    let carol = peer().await;
    let of_carol = join(&pair.of_alice, &carol, Role::Reader).await;
    let (first, second) = pair.document().await;
    first.edit(|edit| edit.set("/by", "alice")).unwrap();
    second.edit(|edit| edit.set("/and", "bob")).unwrap();
    pair.synced().await;
    within("synced", of_carol.synced_with(pair.alice.device())).await.unwrap();
    let third = within("open", of_carol.wait_for(first.id())).await.unwrap();
    assert_eq!(third.json().unwrap(), json!({"by": "alice", "and": "bob"}));
    assert_eq!(of_carol.role(), Some(Role::Reader));
    let refused = third.edit(|edit| edit.set("/by", "carol")).unwrap_err();
    assert!(matches!(refused, DocumentError::NotAWriter(_)), "{refused}");
    assert_eq!(third.heads().unwrap(), first.heads().unwrap());
    pair.shutdown().await;
    within("shutdown", carol.shutdown()).await;
}

#[tokio::test]
async fn a_third_replica_gets_everything_through_the_second() {
    let pair = Pair::in_memory().await;
    let (first, _second) = pair.document().await;
    first.edit(|edit| edit.set("/title", "through bob")).unwrap();
    pair.synced().await;
    // Carol is invited by alice and knows bob's address only; alice is gone by the time she comes.
    let carol = peer().await;
    let ticket = within("invite", pair.of_alice.invite(Role::Reader, 1, pair.bob.listening())).await.unwrap();
    pair.synced().await;
    let document = first.id();
    drop(first);
    within("shutdown", pair.alice.shutdown()).await;
    let of_carol = within("join", carol.join(&ticket)).await.unwrap();
    within("synced", of_carol.synced_with(pair.bob.device())).await.unwrap();
    let third = within("open", of_carol.wait_for(document)).await.unwrap();
    assert_eq!(third.get("/title").unwrap(), Some(json!("through bob")));
    within("shutdown", carol.shutdown()).await;
    within("shutdown", pair.bob.shutdown()).await;
}

#[tokio::test]
async fn events_tell_who_joined_who_is_in_sync_and_what_changed() {
    let alice = peer().await;
    let bob = peer().await;
    let mut events = alice.events();
    let of_alice = within("create", alice.create_space("events")).await.unwrap();
    let of_bob = join(&of_alice, &bob, Role::Writer).await;
    let document = within("create", of_bob.create_document()).await.unwrap();
    document.edit(|edit| edit.set("/a", 1)).unwrap();
    let (mut connected, mut members, mut changed, mut in_sync) = (false, false, false, false);
    within("the events", async {
        while !(connected && members && changed && in_sync) {
            match events.next().await.unwrap().unwrap() {
                Event::PeerConnected { peer } => connected |= peer == bob.device(),
                Event::MembersChanged { space } => members |= space == of_alice.id(),
                Event::DocumentChanged { document: id, remote, .. } => changed |= id == document.id() && remote,
                Event::InSync { peer, .. } => in_sync |= peer == bob.device(),
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(of_alice.members().len(), 2);
    assert_eq!(alice.spaces()[0].name.as_deref(), Some("events"));
    assert!(alice.peers().iter().any(|peer| peer.peer == bob.device() && peer.connected));
    within("shutdown", alice.shutdown()).await;
    within("shutdown", bob.shutdown()).await;
    within("the end", async { while events.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn many_threads_edit_one_document_and_nothing_is_lost() {
    const THREADS: i64 = 8;
    const EDITS: i64 = 50;
    let pair = Pair::in_memory().await;
    let (first, second) = pair.document().await;
    first.edit(|edit| edit.set_counter("/count", 0)).unwrap();
    pair.synced().await;
    let threads: Vec<_> = [&first, &second]
        .into_iter()
        .cycle()
        .take(usize::try_from(THREADS).unwrap())
        .map(|document| {
            let document = document.clone();
            std::thread::spawn(move || {
                for _ in 0..EDITS {
                    document.edit(|edit| edit.increment("/count", 1)).unwrap();
                }
                futures::executor::block_on(document.saved()).unwrap();
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap())).await.unwrap();
    pair.synced().await;
    assert_eq!(first.get("/count").unwrap(), Some(json!(THREADS * EDITS)));
    assert_eq!(first.json().unwrap(), second.json().unwrap());
    assert_eq!(first.heads().unwrap(), second.heads().unwrap());
    pair.shutdown().await;
}

#[tokio::test]
async fn a_large_document_arrives_while_small_edits_go_on() {
    let pair = Pair::in_memory().await;
    let (large, _) = pair.document().await;
    let (small, small_of_bob) = pair.document().await;
    large.edit(|edit| edit.set("/text", "")).unwrap();
    for part in 0..60 {
        large.edit(|edit| edit.splice_text("/text", part * 500, 0, &"x".repeat(500))).unwrap();
        small.edit(|edit| edit.set("/part", part)).unwrap();
    }
    pair.synced().await;
    let arrived = within("open", pair.of_bob.wait_for(large.id())).await.unwrap();
    assert_eq!(arrived.read(|view| view.length("/text")).unwrap(), Some(30_000));
    assert_eq!(small_of_bob.get("/part").unwrap(), Some(json!(59)));
    pair.shutdown().await;
}

#[tokio::test]
async fn a_ticket_works_as_often_as_it_says() {
    let alice = peer().await;
    let (bob, carol) = (peer().await, peer().await);
    let space = within("create", alice.create_space("once")).await.unwrap();
    let ticket = within("invite", space.invite(Role::Writer, 1, Vec::new())).await.unwrap();
    within("join", bob.join(&ticket)).await.unwrap();
    let refused = within("refusal", carol.join(&ticket)).await.unwrap_err().to_string();
    assert!(refused.contains("already been used"), "{refused}");
    for peer in [alice, bob, carol] {
        within("shutdown", peer.shutdown()).await;
    }
}

#[tokio::test]
async fn a_replica_that_does_not_listen_dials_and_syncs() {
    let alice = peer().await;
    let bob = open(anabranch::Peer::builder().dial(alice.listening()[0].clone())).await;
    assert!(bob.listening().is_empty());
    let pair = Pair::of(alice, bob).await;
    let (first, second) = pair.document().await;
    second.edit(|edit| edit.set("/from", "bob")).unwrap();
    pair.synced().await;
    assert_eq!(first.get("/from").unwrap(), Some(json!("bob")));
    pair.shutdown().await;
}
