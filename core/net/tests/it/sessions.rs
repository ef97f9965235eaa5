//! Frames, their order, their bounds, and the end of a session.

use std::time::Duration;

use anabranch_engine::Input;
use anabranch_engine::limits::FRAME_BYTES_MAX;
use anabranch_net::NetLimits;
use libp2p::swarm::SwarmEvent;

use crate::node::{Node, join};
use crate::stranger;

#[tokio::test]
async fn a_session_is_told_on_both_sides() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    a.dial(&b.full_address(), None);
    let (at_a, at_b) = (a.opened().await, b.opened().await);
    assert_eq!((at_a.peer, at_a.opener, at_a.address), (b.device, true, b.full_address()));
    assert_eq!((at_b.peer, at_b.opener), (a.device, false));
    assert!(at_b.address.starts_with("/ip4/127.0.0.1/tcp/"), "{}", at_b.address);
}

#[tokio::test]
async fn ten_thousand_frames_arrive_in_order_both_ways() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let (at_a, at_b) = join(&mut a, &mut b).await;
    // The sizes change, and every hundredth frame is of the largest size.
    let frame = |i: u32| {
        let length = if i.is_multiple_of(100) { FRAME_BYTES_MAX } else { 4 + (i as usize * 7) % 300 };
        let mut frame = vec![i as u8; length];
        frame[..4].copy_from_slice(&i.to_be_bytes());
        frame
    };
    let mut waiting = 0;
    for i in 0..10_000 {
        waiting += frame(i).len();
        a.send(at_a, frame(i));
        b.send(at_b, frame(i));
        // As the engine does: no more on its way than it may.
        if waiting > FRAME_BYTES_MAX {
            a.written(at_a, waiting).await;
            b.written(at_b, waiting).await;
            waiting = 0;
        }
    }
    a.written(at_a, waiting).await;
    b.written(at_b, waiting).await;
    for i in 0..10_000 {
        assert!(b.frame(at_b).await == frame(i), "frame {i} to b");
        assert!(a.frame(at_a).await == frame(i), "frame {i} to a");
    }
}

#[tokio::test]
async fn closing_comes_after_what_was_sent_before() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let (at_a, at_b) = join(&mut a, &mut b).await;
    // What the other side sends meanwhile does not take it away.
    for _ in 0..10 {
        a.send(at_a, vec![1; FRAME_BYTES_MAX]);
        b.send(at_b, vec![2; FRAME_BYTES_MAX]);
    }
    a.close(at_a, "enough");
    assert_eq!(a.closed(at_a).await, "enough");
    for _ in 0..10 {
        assert!(b.frame(at_b).await == vec![1; FRAME_BYTES_MAX]);
    }
    assert_eq!(b.closed(at_b).await, "the peer closed the session");
    // And they can meet again.
    join(&mut b, &mut a).await;
}

#[tokio::test]
async fn shutdown_writes_what_was_sent() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let (at_a, at_b) = join(&mut a, &mut b).await;
    for _ in 0..16 {
        a.send(at_a, vec![1; FRAME_BYTES_MAX]);
    }
    a.shutdown().await;
    for _ in 0..16 {
        assert!(b.frame(at_b).await == vec![1; FRAME_BYTES_MAX]);
    }
    b.closed(at_b).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_nobody_else() {
    let (mut a, mut slow, mut quick) = (Node::new(1).await, Node::new(2).await, Node::new(3).await);
    let (to_slow, at_slow) = join(&mut a, &mut slow).await;
    let (to_quick, at_quick) = join(&mut a, &mut quick).await;
    slow.pause();
    for _ in 0..30 {
        a.send(to_slow, vec![1; FRAME_BYTES_MAX]);
    }
    for i in 0..100 {
        a.send(to_quick, [i]);
        assert_eq!(quick.frame(at_quick).await, [i]);
        quick.send(at_quick, [i]);
        assert_eq!(a.frame(to_quick).await, [i]);
    }
    slow.resume();
    for _ in 0..30 {
        assert_eq!(slow.frame(at_slow).await.len(), FRAME_BYTES_MAX);
    }
    a.written(to_slow, 30 * FRAME_BYTES_MAX).await;
}

#[tokio::test]
async fn a_busy_driver_stops_its_peers() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let (at_a, at_b) = join(&mut a, &mut b).await;
    b.pause();
    // More than two windows of yamux, the sockets' buffers and our queue would ever take in: some of it must wait here.
    let (mut sent, mut written) = (0, 0);
    while sent - written < 16 {
        a.send(at_a, vec![1; FRAME_BYTES_MAX]);
        sent += 1;
        assert!(sent < 1_000, "{sent} frames of 64 KiB were taken in by a driver that does not look");
        // One at a time, as long as they go.
        let wait = a.expect("written", |input| match input {
            Input::Written { bytes, .. } => Ok(bytes / FRAME_BYTES_MAX),
            other => Err(other),
        });
        written += tokio::time::timeout(Duration::from_millis(300), wait).await.unwrap_or_default();
    }
    b.resume();
    for _ in 0..sent {
        assert_eq!(b.frame(at_b).await.len(), FRAME_BYTES_MAX);
    }
}

#[tokio::test]
async fn a_session_whose_queue_is_over_the_limit_ends() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let (at_a, _) = join(&mut a, &mut b).await;
    b.pause();
    a.pause();
    for _ in 0..33 {
        a.send(at_a, vec![1; FRAME_BYTES_MAX]);
    }
    a.resume();
    let reason = a.closed(at_a).await;
    assert!(reason.contains("the peer does not read") && reason.ends_with("limit 2097152"), "{reason}");
}

#[tokio::test]
async fn closing_does_not_wait_long_for_a_peer_that_does_not_read() {
    let limits = NetLimits { close_time_max: Duration::from_millis(200), ..NetLimits::default() };
    let (mut a, mut b) = (Node::with(1, limits).await, Node::new(2).await);
    let (at_a, _) = join(&mut a, &mut b).await;
    b.pause();
    for _ in 0..30 {
        a.send(at_a, vec![1; FRAME_BYTES_MAX]);
    }
    a.close(at_a, "enough");
    assert!(a.closed(at_a).await.contains("did not read what was left"));
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_session() {
    let mut node = Node::new(1).await;
    let mut swarm = stranger::swarm();
    let peer = stranger::connect(&mut swarm, &node).await;
    let mut stream = stranger::open_session(&mut swarm, peer).await;
    stranger::write(&mut swarm, &mut stream, &[0, 0, 0, 2, 7, 7, 0, 1, 0, 1]).await;
    let session = stranger::beside(&mut swarm, node.opened()).await.session;
    assert_eq!(stranger::beside(&mut swarm, node.frame(session)).await, [7, 7]);
    assert_eq!(stranger::beside(&mut swarm, node.closed(session)).await, "frame is 65537 bytes, limit 65536");
    assert!(stranger::read(&mut swarm, &mut stream, 1).await.is_empty());
}

#[tokio::test]
async fn the_admission_mark_comes_once() {
    let mut node = Node::new(1).await;
    let mut swarm = stranger::swarm();
    let peer = stranger::connect(&mut swarm, &node).await;
    let mut stream = stranger::open_session(&mut swarm, peer).await;
    stranger::write(&mut swarm, &mut stream, &[0; 8]).await;
    let session = stranger::beside(&mut swarm, node.opened()).await.session;
    assert_eq!(stranger::beside(&mut swarm, node.closed(session)).await, "second admission mark");
}

#[tokio::test]
async fn a_connection_has_one_session() {
    let mut node = Node::new(1).await;
    let mut swarm = stranger::swarm();
    let peer = stranger::connect(&mut swarm, &node).await;
    let mut first = stranger::open_session(&mut swarm, peer).await;
    let session = stranger::beside(&mut swarm, node.opened()).await.session;
    let mut second = stranger::open_session(&mut swarm, peer).await;
    assert!(stranger::read(&mut swarm, &mut second, 1).await.is_empty());
    stranger::write(&mut swarm, &mut first, &[0, 0, 0, 1, 9]).await;
    assert_eq!(stranger::beside(&mut swarm, node.frame(session)).await, [9]);
    node.send(session, [1, 2]);
    assert_eq!(stranger::read(&mut swarm, &mut first, 6).await, [0, 0, 0, 2, 1, 2]);
}

#[tokio::test]
async fn a_connection_without_a_session_is_closed() {
    let limits = NetLimits { session_wait_max: Duration::from_millis(200), ..NetLimits::default() };
    let node = Node::with(1, limits).await;
    let mut swarm = stranger::swarm();
    stranger::connect(&mut swarm, &node).await;
    stranger::wait(&mut swarm, "the connection is closed", |event| match event {
        SwarmEvent::ConnectionClosed { .. } => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_gone_ends_the_session() {
    let mut node = Node::new(1).await;
    let mut swarm = stranger::swarm();
    let peer = stranger::connect(&mut swarm, &node).await;
    let mut stream = stranger::open_session(&mut swarm, peer).await;
    stranger::write(&mut swarm, &mut stream, &[0, 0, 0, 1, 9, 0, 0]).await;
    let session = stranger::beside(&mut swarm, node.opened()).await.session;
    assert_eq!(stranger::beside(&mut swarm, node.frame(session)).await, [9]);
    drop(stream);
    drop(swarm);
    let reason = node.closed(session).await;
    assert!(reason.contains("closed") || reason.contains("reset"), "{reason}");
}

#[tokio::test]
async fn both_may_dial_at_once() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    a.dial(&b.address, Some(b.device));
    b.dial(&a.address, Some(a.device));
    let ends = [a.opened().await, a.opened().await];
    assert_eq!(ends.iter().filter(|end| end.opener).count(), 1);
    assert_ne!(ends[0].session, ends[1].session);
    b.opened().await;
    b.opened().await;
    // So may copies of a device, up to a limit.
    for _ in 2..5 {
        a.dial(&b.address, None);
        a.opened().await;
    }
    a.dial(&b.address, None);
    let (address, reason) = a.dial_put_off().await;
    assert_eq!(address, b.address);
    assert!(reason.contains("at most 5"), "{reason}");
}
