//! Who sees gossip and identify, and when; which hints go on.

use std::time::Duration;

use anabranch_engine::limits::HINT_BYTES_MAX;
use anabranch_engine::{HintId, Input, Verdict};
use anabranch_net::NetCommand;
use libp2p::gossipsub;

use crate::node::{Node, PATIENCE, join};
use crate::stranger;

const TOPIC: &str = "topic";

fn subscribe(node: &Node) {
    node.execute(NetCommand::Subscribe { topic: TOPIC.to_owned() });
}

fn admit(node: &Node, peer: &Node) {
    node.execute(NetCommand::Admit { peer: peer.device });
}

fn publish(node: &Node, bytes: Vec<u8>) {
    node.execute(NetCommand::Publish { topic: TOPIC.to_owned(), bytes });
}

async fn hint(node: &mut Node) -> (HintId, Vec<u8>, anabranch_engine::id::DeviceId) {
    node.expect("a hint", |input| match input {
        Input::Hint { hint, from, topic, bytes } => {
            assert_eq!(topic, TOPIC);
            Ok((hint, bytes, from))
        }
        other => Err(other),
    })
    .await
}

/// Publishes hints until one gets through: who is subscribed, and the mesh, are learned in the background.
async fn hint_gets_through(from: &Node, to: &mut Node) -> (HintId, Vec<u8>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut number = 0_u32;
    let found = async {
        let mut arriving = std::pin::pin!(hint(to));
        loop {
            tokio::select! {
                (hint, bytes, by) = &mut arriving => {
                    assert_eq!(by, from.device);
                    return (hint, bytes);
                }
                _ = ticks.tick() => {
                    number += 1;
                    publish(from, [from.device.as_bytes().as_slice(), &number.to_be_bytes()].concat());
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("a hint gets through")
}

#[tokio::test]
async fn a_stranger_sees_neither_gossip_nor_identify() {
    let mut node = Node::new(1).await;
    subscribe(&node);
    let mut swarm = stranger::swarm();
    swarm.behaviour_mut().gossip.subscribe(&gossipsub::IdentTopic::new(TOPIC)).unwrap();
    let peer = stranger::connect(&mut swarm, &node).await;
    let mut stream = stranger::open_session(&mut swarm, peer).await;
    let stranger = stranger::beside(&mut swarm, node.opened()).await;
    for protocol in ["/meshsub/1.1.0", "/meshsub/1.2.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"] {
        assert!(!stranger::is_offered(&mut swarm, peer, protocol).await, "{protocol}");
    }
    // The session is as good as before. After admission the same protocols are there.
    node.execute(NetCommand::Admit { peer: stranger.peer });
    assert_eq!(stranger::read(&mut swarm, &mut stream, 4).await, [0; 4], "the mark");
    for protocol in ["/meshsub/1.1.0", "/ipfs/ping/1.0.0"] {
        assert!(stranger::is_offered(&mut swarm, peer, protocol).await, "{protocol}");
    }
    node.close(stranger.session, "stranger");
    assert_eq!(stranger::beside(&mut swarm, node.closed(stranger.session)).await, "stranger");
}

#[tokio::test]
async fn hints_flow_after_both_have_admitted() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    subscribe(&a);
    let (_, at_b) = join(&mut a, &mut b).await;
    admit(&a, &b);
    admit(&b, &a);
    subscribe(&b);
    hint_gets_through(&a, &mut b).await;
    hint_gets_through(&b, &mut a).await;
    // The mark was no frame.
    b.close(at_b, "done");
    assert_eq!(b.closed(at_b).await, "done");
}

#[tokio::test]
async fn it_does_not_matter_who_admits_first() {
    for first_is_dialer in [true, false] {
        let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
        subscribe(&a);
        subscribe(&b);
        let (at_a, at_b) = join(&mut a, &mut b).await;
        let (first, at_first, second, at_second) =
            if first_is_dialer { (&mut a, at_a, &mut b, at_b) } else { (&mut b, at_b, &mut a, at_a) };
        admit(first, second);
        // Long after, as far as the connection goes.
        for _ in 0..100 {
            first.send(at_first, [1]);
            second.frame(at_second).await;
            second.send(at_second, [1]);
            first.frame(at_first).await;
        }
        admit(second, first);
        hint_gets_through(first, second).await;
        hint_gets_through(second, first).await;
    }
}

#[tokio::test]
async fn admission_ends_with_the_last_connection() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    subscribe(&a);
    subscribe(&b);
    for round in 0..3 {
        let (at_a, at_b) = if round == 1 {
            let (at_b, at_a) = join(&mut b, &mut a).await;
            (at_a, at_b)
        } else {
            join(&mut a, &mut b).await
        };
        admit(&a, &b);
        for _ in 0..20 {
            a.send(at_a, [1]);
            b.frame(at_b).await;
            b.send(at_b, [1]);
            a.frame(at_a).await;
        }
        // One side's admission is not enough, and that of the connection before has ended with it.
        publish(&a, vec![round, 1]);
        publish(&b, vec![round, 2]);
        admit(&b, &a);
        let (_, bytes) = hint_gets_through(&a, &mut b).await;
        assert_ne!(bytes, [round, 1]);
        a.close(at_a, "again");
        a.closed(at_a).await;
        b.closed(at_b).await;
    }
}

#[tokio::test]
async fn admission_without_a_connection_is_nothing() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    subscribe(&a);
    subscribe(&b);
    admit(&a, &b);
    admit(&b, &a);
    join(&mut a, &mut b).await;
    admit(&b, &a);
    publish(&b, vec![0]);
    admit(&a, &b);
    hint_gets_through(&b, &mut a).await;
}

#[tokio::test]
async fn gossip_outlives_one_of_two_connections() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    subscribe(&a);
    subscribe(&b);
    let (first_a, first_b) = join(&mut a, &mut b).await;
    admit(&a, &b);
    admit(&b, &a);
    hint_gets_through(&a, &mut b).await;
    // Made after admission, shown at once.
    let (second_b, second_a) = join(&mut b, &mut a).await;
    hint_gets_through(&b, &mut a).await;
    a.close(first_a, "the older one");
    a.closed(first_a).await;
    b.closed(first_b).await;
    hint_gets_through(&a, &mut b).await;
    hint_gets_through(&b, &mut a).await;
    a.send(second_a, [1]);
    assert_eq!(b.frame(second_b).await, [1]);
}

#[tokio::test]
async fn a_hint_goes_on_only_when_accepted() {
    let (mut a, mut b, mut c) = (Node::new(1).await, Node::new(2).await, Node::new(3).await);
    for node in [&a, &b, &c] {
        subscribe(node);
    }
    join(&mut a, &mut b).await;
    join(&mut b, &mut c).await;
    for (x, y) in [(&a, &b), (&b, &a), (&b, &c), (&c, &b)] {
        admit(x, y);
    }
    let judge = |node: &Node, hint, verdict| node.execute(NetCommand::Judge { hint, verdict });
    // Both meshes are known to work.
    let (warm, _) = hint_gets_through(&b, &mut c).await;
    judge(&c, warm, Verdict::Ignore);
    let (warm, _) = hint_gets_through(&a, &mut b).await;
    judge(&b, warm, Verdict::Ignore);

    publish(&a, b"ignored".to_vec());
    publish(&a, b"accepted".to_vec());
    let mut ignored = None;
    loop {
        let (hint, bytes, from) = hint(&mut b).await;
        assert_eq!(from, a.device);
        match bytes.as_slice() {
            b"ignored" => ignored = Some(hint),
            b"accepted" => {
                judge(&b, ignored.expect("in the order sent"), Verdict::Ignore);
                judge(&b, hint, Verdict::Accept);
                break;
            }
            // Of those published to warm up; they stay unjudged.
            _ => {}
        }
    }
    loop {
        let (_, bytes, from) = hint(&mut c).await;
        assert_eq!(from, b.device);
        assert_ne!(bytes, b"ignored");
        if bytes == b"accepted" {
            break;
        }
        // From `b` itself, when it warmed up.
        assert_eq!(bytes[..32], b.device.as_bytes()[..]);
    }
}

#[tokio::test]
async fn rejected_hints_silence_their_forwarder() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    subscribe(&a);
    subscribe(&b);
    let sessions = join(&mut a, &mut b).await;
    admit(&a, &b);
    admit(&b, &a);
    hint_gets_through(&a, &mut b).await;
    for i in 0..10 {
        publish(&a, vec![i, 1, 2]);
    }
    for _ in 0..10 {
        let (id, _, _) = hint(&mut b).await;
        b.execute(NetCommand::Judge { hint: id, verdict: Verdict::Reject });
    }
    // Judged in order, so by the time this comes back they are counted.
    let (at_a, at_b) = sessions;
    b.send(at_b, [1]);
    a.frame(at_a).await;
    publish(&a, b"silenced".to_vec());
    // Forgiven after some seconds.
    let (_, bytes) = hint_gets_through(&a, &mut b).await;
    assert_ne!(bytes, b"silenced");
}

#[tokio::test]
async fn a_hint_over_the_limit_is_not_sent() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    subscribe(&a);
    subscribe(&b);
    join(&mut a, &mut b).await;
    admit(&a, &b);
    admit(&b, &a);
    hint_gets_through(&a, &mut b).await;
    publish(&a, vec![1; HINT_BYTES_MAX + 1]);
    publish(&a, vec![2; HINT_BYTES_MAX]);
    loop {
        let (_, bytes, _) = hint(&mut b).await;
        assert!(bytes.len() <= HINT_BYTES_MAX);
        if bytes.len() == HINT_BYTES_MAX {
            break;
        }
    }
}

#[tokio::test]
async fn hints_that_are_never_judged_do_not_pile_up() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    subscribe(&a);
    subscribe(&b);
    join(&mut a, &mut b).await;
    admit(&a, &b);
    admit(&b, &a);
    hint_gets_through(&a, &mut b).await;
    // In small lots, because gossipsub drops what its queue does not hold.
    let mut last = HintId(0);
    for lot in 0..24_u32 {
        for i in 0..64_u32 {
            publish(&a, [lot.to_be_bytes(), i.to_be_bytes()].concat());
        }
        for _ in 0..64 {
            last = hint(&mut b).await.0;
        }
    }
    assert!(last.0 > 1_024 + 256);
    // The first has been forgotten, the last has not; both may be judged.
    for id in [HintId(0), last] {
        b.execute(NetCommand::Judge { hint: id, verdict: Verdict::Accept });
    }
    hint_gets_through(&b, &mut a).await;
}
