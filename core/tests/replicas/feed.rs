//! The feed as applications follow it: from any position on, at any pace, across restarts.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use anabranch::{Document, Event, Feed, FeedError, FeedPosition, FeedRow, Peer, Space, StorageId, limits};
use futures::{FutureExt as _, StreamExt as _};

use crate::common::{Pair, peer, peer_in, within};

async fn next(feed: &mut Feed) -> FeedRow {
    within("a row", feed.next()).await.expect("the feed goes on").unwrap()
}

/// All rows after a position, up to the feed's end.
async fn rows_after(peer: &Peer, after: FeedPosition) -> Vec<FeedRow> {
    let mut feed = peer.feed(after).unwrap();
    let mut rows = Vec::new();
    while feed.position() != peer.feed_end() {
        rows.push(next(&mut feed).await);
    }
    assert!(feed.next().now_or_never().is_none(), "more than there is");
    rows
}

async fn change(document: &Document, value: i64) {
    document.edit(|edit| edit.set("/value", value)).unwrap();
    within("saved", document.saved()).await.unwrap();
}

async fn documents(space: &Space, count: i64) -> Vec<Document> {
    let mut documents = Vec::new();
    for value in 0..count {
        let document = within("create", space.create_document()).await.unwrap();
        change(&document, value).await;
        documents.push(document);
    }
    documents
}

#[tokio::test]
async fn feed_goes_on_exactly_after_any_position() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let made = documents(&space, 5).await;
    change(&made[0], 9).await;
    let all = rows_after(&peer, peer.feed_end().beginning()).await;
    let order: Vec<_> = all.iter().map(|row| row.document).collect();
    assert_eq!(order, [1, 2, 3, 4, 0].map(|at: usize| made[at].id()), "the one that changed last comes last");
    assert_eq!(all[4].heads, made[0].heads().unwrap());
    for seq in 0..=peer.feed_end().seq {
        let rest: Vec<_> = all.iter().filter(|row| row.seq > seq).cloned().collect();
        assert_eq!(rows_after(&peer, FeedPosition { seq, ..peer.feed_end() }).await, rest, "after {seq}");
    }
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn feed_gives_new_rows_as_they_are_saved_and_ends_with_the_replica() {
    let pair = Pair::in_memory().await;
    let (first, _second) = pair.document().await;
    let mut feed = pair.bob.feed(pair.bob.feed_end()).unwrap();
    assert!(feed.next().now_or_never().is_none(), "nothing has changed");
    change(&first, 1).await;
    loop {
        let row = next(&mut feed).await;
        assert_eq!(row.document, first.id());
        if row.heads == first.heads().unwrap() {
            break;
        }
    }
    let mut waiting = pin!(feed.next());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    within("shutdown", pair.bob.shutdown()).await;
    assert_eq!(within("the end", waiting).await, None);
    assert!(matches!(pair.bob.feed(pair.bob.feed_end()), Err(FeedError::Stopped(_))));
    within("shutdown", pair.alice.shutdown()).await;
}

#[tokio::test]
async fn feed_of_a_reader_that_was_too_slow_for_the_events_has_every_document() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let made = documents(&space, 3).await;
    let mut feed = peer.feed(peer.feed_end()).unwrap();
    assert!(feed.next().now_or_never().is_none());
    for value in 0..2 {
        change(&made[value as usize], 100 + value).await;
    }
    // Behind the last growth, and none of them says that the feed has grown: a reader has room for 1,024.
    let mut events = peer.events();
    for number in 0..1_100 {
        within("name", peer.name_device(&number.to_string())).await.unwrap();
    }
    let mut others = 0;
    let mut lost = 0;
    while let Some(event) = events.next().now_or_never().flatten() {
        match event {
            Ok(event) => {
                assert!(!matches!(event, Event::FeedGrew { .. }), "{event:?}");
                others += 1;
            }
            Err(lagged) => lost += lagged.0,
        }
    }
    assert!(others + lost > 1_024, "{others} events, {lost} lost");
    let mut latest = BTreeMap::new();
    let mut last = 0;
    while feed.position() != peer.feed_end() {
        let row = next(&mut feed).await;
        assert!(row.seq > last, "{} after {last}", row.seq);
        last = row.seq;
        latest.insert(row.document, row.heads);
    }
    let expected: BTreeMap<_, _> =
        made[..2].iter().map(|document| (document.id(), document.heads().unwrap())).collect();
    assert_eq!(latest, expected, "and not the one that did not change");
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn feed_of_several_pages_has_each_row_once() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let count = 2 * limits::FEED_PAGE_MAX;
    let mut last = None;
    for _ in 0..count {
        last = Some(within("create", space.create_document()).await.unwrap());
    }
    within("saved", last.unwrap().saved()).await.unwrap();
    let rows = rows_after(&peer, peer.feed_end().beginning()).await;
    let mut seen: Vec<_> = rows.iter().map(|row| row.document).collect();
    seen.sort_unstable();
    assert_eq!(seen, space.documents());
    assert!(rows.is_sorted_by(|one, other| one.seq < other.seq));
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn position_beyond_the_end_and_one_of_another_store_are_refused_with_both() {
    let peer = peer().await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    documents(&space, 2).await;
    let end = peer.feed_end();
    let error = peer.feed(FeedPosition { seq: end.seq + 7, ..end }).unwrap_err();
    assert_eq!(error, FeedError::Beyond { asked: end.seq + 7, last: end.seq });
    let (asked, last) = (end.seq + 7, end.seq);
    assert!(error.to_string().contains(&format!("ends at {last}, which is before the position {asked}")), "{error}");
    let other = FeedPosition { storage: StorageId([7; StorageId::LEN]), ..end };
    let error = peer.feed(other).unwrap_err();
    assert_eq!(error, FeedError::OtherStore { asked: other.storage, here: end.storage });
    assert!(peer.feed(end.beginning()).is_ok() && peer.feed(end).is_ok());
    within("shutdown", peer.shutdown()).await;
}

#[tokio::test]
async fn position_holds_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let peer = peer_in(directory.path()).await;
    let space = within("create", peer.create_space("home")).await.unwrap();
    let made = documents(&space, 3).await;
    let mut feed = peer.feed(peer.feed_end().beginning()).unwrap();
    let first = next(&mut feed).await;
    assert_eq!(first.document, made[0].id());
    let stored = feed.position().to_string();
    change(&made[0], 7).await;
    let (id, left) = (space.id(), [&made[1], &made[2], &made[0]].map(Document::id));
    within("shutdown", peer.shutdown()).await;
    drop((peer, space, made, feed));

    let peer = peer_in(directory.path()).await;
    let rest = rows_after(&peer, stored.parse().unwrap()).await;
    assert_eq!(rest.iter().map(|row| row.document).collect::<Vec<_>>(), left);
    // A space that is left takes its rows with it, and the position is one all the same.
    within("leave", peer.leave(id)).await.unwrap();
    let mut feed = peer.feed(stored.parse().unwrap()).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(50), feed.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    within("shutdown", peer.shutdown()).await;
}
