//! What becomes of dials and listening, in words.

use std::time::Duration;

use anabranch_engine::keys::SecretKey;
use anabranch_net::{NetConfig, NetError, NetLimits, Network, parse_address, peer_id_text, with_peer_id};
use tokio::net::TcpListener;

use crate::node::{LOOPBACK, Node};
use crate::stranger;

/// Dials and returns why it failed.
async fn failure(node: &mut Node, address: &str) -> String {
    node.dial(address, None);
    let (given, reason) = node.dial_failure().await;
    assert_eq!(given, address, "the address comes back as it was given");
    reason
}

#[tokio::test]
async fn a_dial_that_nobody_answers_is_refused() {
    let mut node = Node::new(1).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(failure(&mut node, &format!("/ip4/127.0.0.1/tcp/{port}")).await, "connection refused");
}

#[tokio::test]
async fn a_dial_to_another_device_names_both() {
    let (mut a, b) = (Node::new(1).await, Node::new(2).await);
    let wanted = SecretKey::from_seed(&[9; 32]).device();
    let reason = failure(&mut a, &with_peer_id(&b.address, &wanted)).await;
    let (wanted, found) = (peer_id_text(&wanted), peer_id_text(&b.device));
    assert_eq!(reason, format!("it is another device: expected {wanted}, found {found}"));
    a.dial(&b.full_address(), Some(a.device));
    let (address, reason) = a.dial_failure().await;
    assert_eq!(address, b.full_address());
    assert!(reason.starts_with("it is another device: expected") && reason.contains(&found), "{reason}");
}

#[tokio::test]
async fn a_dial_to_oneself_is_told_so() {
    let mut node = Node::new(1).await;
    for address in
        [node.address.clone(), node.full_address(), node.address.replace("/ip4/127.0.0.1", "/dns4/localhost")]
    {
        assert_eq!(failure(&mut node, &address).await, "it is an address of this device itself", "{address}");
    }
}

#[tokio::test]
async fn a_dial_that_hangs_times_out() {
    let limits = NetLimits { dial_time_max: Duration::from_millis(200), ..NetLimits::default() };
    let mut node = Node::with(1, limits).await;
    // It takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    assert_eq!(failure(&mut node, &format!("/ip4/127.0.0.1/tcp/{port}")).await, "timed out");
}

#[tokio::test]
async fn a_dial_to_something_else_fails() {
    let limits = NetLimits { dial_time_max: Duration::from_millis(500), ..NetLimits::default() };
    let mut node = Node::with(1, limits).await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    let answer = tokio::spawn(async move {
        let (mut socket, _) = other.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        socket
    });
    let reason = failure(&mut node, &format!("/ip4/127.0.0.1/tcp/{port}")).await;
    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
    answer.await.unwrap();
}

#[tokio::test]
async fn a_libp2p_peer_that_is_not_ours_is_told_so() {
    let mut node = Node::new(1).await;
    let mut swarm = stranger::swarm();
    let address = stranger::listen(&mut swarm).await.to_string();
    node.dial(&address, None);
    // The stream is offered along with the first bytes, so it is open for a moment before it is refused.
    let session = stranger::beside(&mut swarm, node.opened()).await.session;
    let reason = stranger::beside(&mut swarm, node.closed(session)).await;
    assert_eq!(reason, "the peer does not speak /anabranch/session/1");
}

#[tokio::test]
async fn a_bad_address_is_answered_not_panicked_on() {
    let mut node = Node::new(1).await;
    for address in ["", "nonsense", "/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/70000"] {
        let reason = failure(&mut node, address).await;
        assert!(reason.contains("/ip4/192.0.2.1/tcp/4100"), "{reason}");
    }
    for address in ["/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/0"] {
        let reason = failure(&mut node, address).await;
        assert!(reason.starts_with("unsupported address"), "{address}: {reason}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_so() {
    let mut node = Node::new(1).await;
    let reason = failure(&mut node, "/dns4/nobody.invalid/tcp/1").await;
    assert_eq!(reason, "cannot resolve the host name");
}

#[tokio::test]
async fn dial_beyond_the_limit_is_put_off_and_is_no_failure() {
    let limits = NetLimits { dials_max: 1, ..NetLimits::default() };
    let mut node = Node::with(1, limits).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    node.dial(&format!("/ip4/127.0.0.1/tcp/{port}"), None);
    let second = "/ip4/127.0.0.1/tcp/1";
    node.dial(second, None);
    let (address, reason) = node.dial_put_off().await;
    assert_eq!(address, second);
    assert!(reason.contains("at most 1 dials at once"), "{reason}");
}

#[tokio::test]
async fn connection_that_says_nothing_is_closed_and_keeps_nobody_out() {
    let limits = NetLimits { inbound_pending_max: 2, setup_time_max: Duration::from_secs(600), ..NetLimits::default() };
    let (mut a, mut b) = (Node::with(1, limits).await, Node::new(2).await);
    let port = a.address.rsplit('/').next().unwrap().to_owned();
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap());
    }
    b.dial(&a.address, None);
    assert_eq!(a.opened().await.peer, b.device);
    b.opened().await;
    // The oldest ones made room.
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut silent[0], &mut rest).await.unwrap();
}

#[tokio::test]
async fn connection_that_says_nothing_is_closed_in_time() {
    let limits = NetLimits { setup_time_max: Duration::from_millis(100), ..NetLimits::default() };
    let mut node = Node::with(1, limits).await;
    let port = node.address.rsplit('/').next().unwrap().to_owned();
    let mut silent = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let mut rest = Vec::new();
    tokio::select! {
        read = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest) => drop(read.unwrap()),
        _ = node.opened() => panic!("a session with nobody"),
    }
}

#[tokio::test]
async fn inbound_connections_are_limited() {
    let limits = NetLimits { inbound_max: 1, ..NetLimits::default() };
    let (mut a, mut b, mut c) = (Node::with(1, limits).await, Node::new(2).await, Node::new(3).await);
    b.dial(&a.address, None);
    b.opened().await;
    a.opened().await;
    c.dial(&a.address, None);
    // The refused side may or may not have seen the connection before it is closed.
    c.expect("no session", |input| match input {
        anabranch_engine::Input::DialFailed { .. } | anabranch_engine::Input::SessionClosed { .. } => Ok(()),
        other => Err(other),
    })
    .await;
    // Our own dials still go out.
    a.dial(&c.address, None);
    assert_eq!(a.opened().await.peer, c.device);
}

fn listen_on(address: &str) -> Result<Network, NetError> {
    Network::new(NetConfig { identity: &[5; 32], listen: vec![address.to_owned()], limits: NetLimits::default() })
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let node = Node::new(1).await;
    let error = listen_on(&node.address).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}: address in use", node.address));
    let everywhere = node.address.replace("127.0.0.1", "0.0.0.0");
    assert!(listen_on(&everywhere).unwrap_err().to_string().ends_with("address in use"));
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_an_error() {
    let error = listen_on("/ip4/192.0.2.1/udp/1").unwrap_err().to_string();
    assert!(error.contains("cannot be used here"), "{error}");
    let error = listen_on("/ip4/192.0.2.1/tcp/4100/p2p/12D3KooWGRUfQVZqPr4oJ3Dp5i6v9uP4Bv8N7VHGAzq9VUwUoQ7b");
    assert!(error.is_err());
    assert!(listen_on("/dns4/localhost/tcp/0").unwrap_err().to_string().contains("an ip4 or ip6 address"));
    assert!(matches!(listen_on("4100"), Err(NetError::Address(_))));
}

#[tokio::test]
async fn an_address_that_this_machine_does_not_have_is_waited_for_and_the_others_are_listened_on() {
    let listen = vec!["/ip4/192.0.2.1/tcp/4100".to_owned(), LOOPBACK.to_owned()];
    let config = NetConfig { identity: &[5; 32], listen, limits: NetLimits::default() };
    let mut network = Network::new(config).unwrap();
    let anabranch_engine::Input::Listening { address } = network.next().await else { panic!("not listening") };
    assert!(address.starts_with("/ip4/127.0.0.1/tcp/"), "{address}");
    assert!(network.is_settled());
}

#[tokio::test]
async fn whoever_dials_one_address_of_a_node_that_listens_on_all_gets_a_session() {
    let limits = NetLimits::default();
    let config = NetConfig { identity: &[6; 32], listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned()], limits };
    let mut network = Network::new(config).unwrap();
    let mut told = Vec::new();
    while !network.is_settled() {
        let anabranch_engine::Input::Listening { address } = network.next().await else { panic!("not listening") };
        told.push(address);
    }
    let loopback = told.iter().find(|address| address.starts_with("/ip4/127.0.0.1/")).unwrap();
    let mut node = Node::new(1).await;
    node.dial(loopback, None);
    let (opened, heard) = tokio::join!(node.opened(), network.next());
    assert_eq!(opened.peer, SecretKey::from_seed(&[6; 32]).device());
    assert!(matches!(heard, anabranch_engine::Input::SessionOpened { opener: false, .. }), "{heard:?}");
}

#[test]
fn a_network_needs_a_runtime() {
    assert!(listen_on(LOOPBACK).unwrap_err().to_string().contains("inside a tokio runtime"));
}

#[tokio::test]
async fn listening_everywhere_tells_the_addresses() {
    let mut network = listen_on("/ip4/0.0.0.0/tcp/0").unwrap();
    let anabranch_engine::Input::Listening { address } = network.next().await else { panic!("not listening") };
    assert!(!address.contains("0.0.0.0") && !address.ends_with("/tcp/0"), "{address}");
    assert!(parse_address(&address).is_ok());
}
