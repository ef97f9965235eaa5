//! One replica: its directory, its promises, its end.

use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use crate::common::{ANY_PORT, open, peer, peer_in, within};
use anabranch::{
    CommandError, DocumentError, DocumentId, EditError, Lagged, OpenError, Peer, Role, StoreProblem, limits,
};
use futures::StreamExt as _;
use serde_json::json;

#[tokio::test]
async fn a_replica_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let peer = peer_in(directory.path()).await;
    let (device, storage) = (peer.device(), peer.storage());
    let space = within("create", peer.create_space("home")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    document.edit(|edit| edit.set("/a", json!({"b": [1, 2, 3]}))).unwrap();
    let heads = document.heads().unwrap();
    within("shutdown", peer.shutdown()).await;

    let again = peer_in(directory.path()).await;
    assert_eq!(again.device(), device);
    assert_eq!(again.storage(), (storage.0, storage.1 + 1));
    assert_eq!(again.peer_id(), peer.peer_id());
    let space = again.space(space.id()).unwrap();
    assert_eq!((space.name().as_deref(), space.role()), (Some("home"), Some(Role::Admin)));
    assert_eq!(space.documents(), [document.id()]);
    assert_eq!(space.heads(&document.id()), heads);
    let document = within("open", space.open(document.id())).await.unwrap();
    assert_eq!(document.json().unwrap(), json!({"a": {"b": [1, 2, 3]}}));
    assert_eq!(document.heads().unwrap(), heads);
    assert!(again.space(anabranch::SpaceId([7; 32])).is_none());
    within("shutdown", again.shutdown()).await;
}

#[tokio::test]
async fn what_is_saved_is_in_the_files_at_that_moment() {
    let directory = tempfile::tempdir().unwrap();
    let peer = peer_in(directory.path()).await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    for round in 1..=5 {
        document.edit(|edit| edit.set("/round", round)).unwrap();
        within("saved", document.saved()).await.unwrap();
        // What a process that is killed now would leave.
        let left = tempfile::tempdir().unwrap();
        for name in ["identity", "store.redb"] {
            std::fs::copy(directory.path().join(name), left.path().join(name)).unwrap();
        }
        let killed = open(Peer::builder().directory(left.path())).await;
        let found = within("open", killed.space(space.id()).unwrap().open(document.id())).await.unwrap();
        assert_eq!(found.get("/round").unwrap(), Some(json!(round)));
        within("shutdown", killed.shutdown()).await;
    }
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn a_second_replica_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let peer = peer_in(directory.path()).await;
    let refused = Peer::builder().directory(directory.path()).open().await.unwrap_err();
    assert!(matches!(refused, OpenError::Store(StoreProblem::InUse { .. })), "{refused}");
    assert!(refused.to_string().contains("in use"), "{refused}");
    let space = within("create", peer.create_space("home")).await.unwrap();
    assert_eq!(peer.spaces().len(), 1);
    drop(space);
    within("shutdown", peer.shutdown()).await;
    within("shutdown", peer_in(directory.path()).await.shutdown()).await;
}

#[tokio::test]
async fn a_port_in_use_and_a_bad_address_are_refused_and_leave_the_directory_free() {
    let directory = tempfile::tempdir().unwrap();
    let other = peer().await;
    let taken = other.listening()[0].split("/p2p/").next().unwrap().to_owned();
    let refused = Peer::builder().directory(directory.path()).listen(taken).open().await.unwrap_err();
    assert!(matches!(refused, OpenError::Listen { .. }), "{refused}");
    assert!(refused.to_string().contains("in use"), "{refused}");
    for builder in [Peer::builder().listen("nonsense"), Peer::builder().dial("nonsense")] {
        let refused = builder.directory(directory.path()).open().await.unwrap_err();
        assert!(matches!(refused, OpenError::Address(_)), "{refused}");
    }
    let refused = other.dial("nonsense").await.unwrap_err();
    assert!(matches!(refused, CommandError::Invalid(_)), "{refused}");
    within("shutdown", peer_in(directory.path()).await.shutdown()).await;
    within("shutdown", other.shutdown()).await;
}

#[tokio::test]
async fn a_damaged_store_says_so_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    within("shutdown", peer_in(directory.path()).await.shutdown()).await;
    std::fs::write(directory.path().join("store.redb"), b"no store at all").unwrap();
    let refused = Peer::builder().directory(directory.path()).open().await.unwrap_err();
    assert!(matches!(refused, OpenError::Store(_)), "{refused}");
    assert!(refused.to_string().contains("aside, start again"), "{refused}");
}

#[tokio::test]
async fn after_shutdown_every_call_says_so() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    let mut changes = document.subscribe(Vec::new()).unwrap();
    let mut events = peer.events();
    document.edit(|edit| edit.set("/a", 1)).unwrap();
    let waiting = tokio::spawn({
        let space = space.clone();
        async move { space.wait_synced().await }
    });
    let other = tokio::spawn({
        let peer = peer.clone();
        async move { peer.shutdown().await }
    });
    within("shutdown", peer.shutdown()).await;
    within("the same shutdown", other).await.unwrap();

    assert!(peer.stopped().unwrap().contains("shut down"));
    assert!(matches!(document.edit(|edit| edit.set("/a", 2)), Err(DocumentError::Stopped(_))));
    assert!(matches!(document.json(), Err(DocumentError::Stopped(_))));
    assert!(matches!(within("create", peer.create_space("x")).await, Err(CommandError::Stopped(_))));
    assert!(matches!(within("open", space.create_document()).await, Err(CommandError::Stopped(_))));
    assert!(matches!(within("answer", waiting).await.unwrap(), Err(CommandError::Stopped(_))));
    within("saved", document.saved()).await.expect("all of it was saved");
    assert!(document.subscribe(Vec::new()).is_err());
    within("the end of changes", async { while changes.next().await.is_some() {} }).await;
    within("the end of events", async { while events.next().await.is_some() {} }).await;
    assert!(within("the end", peer.events().next()).await.is_none());
    assert_eq!((peer.spaces().len(), peer.peers().len(), peer.listening().len()), (0, 0, 0));
    within("shutdown again", peer.shutdown()).await;
}

#[tokio::test]
async fn the_last_handle_ends_the_replica_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let peer = peer_in(directory.path()).await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let id = space.id();
    let document = within("create", space.create_document()).await.unwrap();
    let mut events = peer.events();
    drop((peer, space));
    document.edit(|edit| edit.set("/kept", true)).unwrap();
    let document_id = document.id();
    drop(document);
    within("the end", async { while events.next().await.is_some() {} }).await;

    // The store is closed a moment later.
    let again = within("reopen", async {
        loop {
            match Peer::builder().directory(directory.path()).open().await {
                Err(OpenError::Store(StoreProblem::InUse { .. })) => tokio::task::yield_now().await,
                other => return other.unwrap(),
            }
        }
    })
    .await;
    let document = within("open", again.space(id).unwrap().open(document_id)).await.unwrap();
    assert_eq!(document.get("/kept").unwrap(), Some(json!(true)));
    within("shutdown", again.shutdown()).await;
}

#[tokio::test]
async fn a_subscriber_starts_where_it_says_and_gets_one_difference_for_many_edits() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    document.edit(|edit| edit.set("/old", 1)).unwrap();
    let seen = document.heads().unwrap();
    let mut changes = document.subscribe(seen.clone()).unwrap();
    assert!(futures::poll!(changes.next()).is_pending(), "nothing is new");
    for round in 0..100 {
        document.edit(|edit| edit.set("/new", round)).unwrap();
    }
    let changed = within("a change", changes.next()).await.unwrap();
    assert_eq!(changed.heads, document.heads().unwrap());
    assert_eq!(changed.patches.len(), 1, "{:?}", changed.patches);
    assert!(futures::poll!(changes.next()).is_pending());

    // Another that saw nothing yet gets all of it at once.
    let mut late = document.subscribe(Vec::new()).unwrap();
    let changed = within("a change", late.next()).await.unwrap();
    assert_eq!(changed.heads, document.heads().unwrap());
    assert_eq!(changed.patches.len(), 2, "{:?}", changed.patches);
    let unknown = document.subscribe(vec![anabranch::ChangeHash([9; 32])]).unwrap_err();
    assert!(matches!(unknown, DocumentError::UnknownHeads(_)), "{unknown}");
    let old = document.read_at(&seen, |view| view.get("").unwrap()).unwrap();
    assert_eq!(old, json!({"old": 1}));
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn a_failed_or_panicking_edit_leaves_the_document_as_it_was() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    document.edit(|edit| edit.set("/a", 1)).unwrap();
    let heads = document.heads().unwrap();

    #[derive(Debug)]
    struct Mine;
    impl From<DocumentError> for Mine {
        fn from(_: DocumentError) -> Self {
            Self
        }
    }
    impl From<EditError> for Mine {
        fn from(_: EditError) -> Self {
            Self
        }
    }
    let failed: Result<(), Mine> = document.try_edit(|edit| {
        edit.set("/a", 2)?;
        Err(Mine)
    });
    assert!(failed.is_err());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        document.edit(|edit| {
            edit.set("/a", 3)?;
            if edit.get("/a") == Some(json!(3)) {
                panic!("on purpose");
            }
            Ok(())
        })
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
    // Using the replica inside the closure would wait for itself: it panics instead, and nothing is lost by it.
    let inside = catch_unwind(AssertUnwindSafe(|| {
        document.edit(|_| {
            let _ = document.json();
            Ok(())
        })
    }));
    assert!(inside.unwrap_err().downcast_ref::<String>().unwrap().contains("inside one of its own"));
    // A reader has the replica's lock no more: it may read and edit.
    let read = document.read(|_| document.json());
    assert_eq!(read.unwrap().unwrap(), json!({"a": 1}));
    // Dropping a handle inside is fine.
    let other = within("open", space.open(document.id())).await.unwrap();
    document.read(|_| drop(other)).unwrap();

    assert_eq!(document.heads().unwrap(), heads);
    assert_eq!(document.json().unwrap(), json!({"a": 1}));
    document.edit(|edit| edit.set("/a", 4)).unwrap();
    within("saved", document.saved()).await.unwrap();
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_with_both_numbers() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    let large = vec![7; limits::VALUE_BYTES_MAX + 1];
    let refused = document.edit(|edit| edit.set_bytes("/a", &large)).unwrap_err().to_string();
    assert!(refused.contains(&large.len().to_string()), "{refused}");
    assert!(refused.contains(&limits::VALUE_BYTES_MAX.to_string()), "{refused}");
    assert_eq!(document.json().unwrap(), json!({}));
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn too_many_waiting_commands_are_refused_until_some_are_given_up() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut waiting: Vec<_> = (0..limits::COMMANDS_PENDING_MAX).map(|_| Box::pin(space.wait_synced())).collect();
    // Nobody is connected, so none of them is answered.
    assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut cx).is_pending()));
    let refused = within("refusal", space.wait_synced()).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("limit {}", limits::COMMANDS_PENDING_MAX)), "{refused}");
    waiting.pop();
    let mut one = Box::pin(space.wait_synced());
    assert!(matches!(one.as_mut().poll(&mut cx), Poll::Pending));
    drop(waiting);
    within("create", space.create_document()).await.unwrap();
    within("shutdown", peer.shutdown()).await;
    assert!(matches!(one.as_mut().poll(&mut cx), Poll::Ready(Err(CommandError::Stopped(_)))));
}

#[tokio::test]
async fn a_slow_reader_of_events_is_told_what_it_lost() {
    let peer = peer().await;
    let mut events = peer.events();
    let space = within("create", peer.create_space("home")).await.unwrap();
    let document = within("create", space.create_document()).await.unwrap();
    for at in 0..1_500 {
        document.edit(|edit| edit.set("/at", at)).unwrap();
    }
    assert!(matches!(within("event", events.next()).await, Some(Err(Lagged(lost))) if lost > 0));
    assert!(matches!(within("event", events.next()).await, Some(Ok(_))));
    within("shutdown", peer.shutdown()).await;
}

#[test]
fn no_runtime_is_needed() {
    let peer = Peer::builder().listen(ANY_PORT).open_blocking().unwrap();
    let document = futures::executor::block_on(async {
        let space = peer.create_space("home").await?;
        space.create_document().await
    })
    .unwrap();
    document.edit(|edit| edit.set("/a", "b")).unwrap();
    futures::executor::block_on(async {
        document.saved().await.unwrap();
        peer.shutdown().await;
    });
}

#[tokio::test]
async fn an_empty_document_and_one_with_an_id_of_its_own_are_found_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let peer = peer_in(directory.path()).await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let empty = within("create", space.create_document()).await.unwrap();
    let today = DocumentId([0x20; 16]);
    assert_eq!(within("open", space.open(today)).await.unwrap_err(), CommandError::UnknownDocument(today));
    let made = within("create", space.create_document_with(today)).await.unwrap();
    made.edit(|edit| edit.set("/n", 1)).unwrap();
    let opened = within("create", space.create_document_with(today)).await.unwrap();
    assert_eq!(opened.get("/n").unwrap(), Some(json!(1)));
    // Nothing is left of what had no first edit.
    drop(within("create", space.create_with_first_edit()).await.unwrap());
    within("saved", empty.saved()).await.unwrap();
    let mut both = vec![empty.id(), today];
    both.sort_unstable();
    assert_eq!(space.documents(), both);
    let id = space.id();
    within("shutdown", peer.shutdown()).await;

    let again = peer_in(directory.path()).await;
    let space = again.space(id).unwrap();
    assert_eq!(space.documents(), both);
    let empty = within("open", space.open(empty.id())).await.unwrap();
    assert_eq!(empty.json().unwrap(), json!({}));
    within("shutdown", again.shutdown()).await;
}

// Names were looked for among at most ten thousand documents, each of which was opened for it.
#[tokio::test]
async fn ten_thousand_and_one_documents_are_listed_and_found_by_name_without_opening_any() {
    let directory = tempfile::tempdir().unwrap();
    let peer = peer_in(directory.path()).await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    for n in 0..=10_000 {
        let document = within("create", space.create_with_first_edit()).await.unwrap();
        document.edit(|edit| edit.set_plain_string("/name", &format!("n{n}"))).unwrap();
        if n % 1_000 == 0 {
            within("saved", document.saved()).await.unwrap();
        }
    }
    let id = space.id();
    within("shutdown", peer.shutdown()).await;

    let again = peer_in(directory.path()).await;
    let space = again.space(id).unwrap();
    let listed = space.list();
    assert_eq!(listed.len(), 10_001);
    assert!(listed.iter().all(|info| info.summary.name.is_some() && info.summary.ops == 1), "{:?}", listed[0]);
    let found = space.find("n10000");
    assert_eq!(found.len(), 1);
    assert_eq!(space.info(&found[0]).and_then(|info| info.summary.name).as_deref(), Some("n10000"));
    assert_eq!(again.counters().documents_opened, 0);
    let document = within("open", space.open(found[0])).await.unwrap();
    assert_eq!(document.get("/name").unwrap(), Some(json!("n10000")));
    assert_eq!(again.counters().documents_opened, 1);
    within("shutdown", again.shutdown()).await;
}
