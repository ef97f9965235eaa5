//! What a frame and a connection cost. Run by hand:
//! `cargo test --release -p anabranch-net --test it latency -- --ignored --nocapture`

#![allow(clippy::disallowed_methods, reason = "this measures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_engine::Input;
use anabranch_engine::keys::SecretKey;
use anabranch_net::{NetCommand, NetConfig, NetLimits, Network};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::node::{LOOPBACK, Node};

fn network(seed: u8) -> Network {
    Network::new(NetConfig { identity: &[seed; 32], listen: vec![LOOPBACK.to_owned()], limits: NetLimits::default() })
        .unwrap()
}

/// A node in a thread of its own that sends every frame back.
fn echo(seed: u8) -> String {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut network = network(seed);
            loop {
                match network.next().await {
                    Input::Listening { address } => tell.send(address).unwrap(),
                    Input::Frame { session, bytes } => network.execute(NetCommand::Send { session, bytes }),
                    Input::SessionClosed { reason, .. } => {
                        println!("echo: {reason}");
                        return network.shutdown().await;
                    }
                    _ => {}
                }
            }
        });
    });
    told.recv().unwrap()
}

fn lo_bytes() -> u64 {
    std::fs::read_to_string("/sys/class/net/lo/statistics/tx_bytes").unwrap().trim().parse().unwrap()
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.3} ms, p90 {:.3}, p99 {:.3}", at(0.5), at(0.9), at(0.99));
}

#[tokio::test]
#[ignore = "a measurement"]
async fn latency_of_a_frame() {
    let address = echo(2);
    let mut network = network(1);
    let before = (lo_bytes(), Instant::now());
    network.execute(NetCommand::Dial { address, peer: Some(SecretKey::from_seed(&[2; 32]).device()) });
    let session = loop {
        if let Input::SessionOpened { session, .. } = network.next().await {
            break session;
        }
    };
    let opened = before.1.elapsed();
    round_trip(&mut network, session).await;
    println!(
        "dial to session {opened:?}, to the first round trip of 200 B {:?}, {} bytes with headers",
        before.1.elapsed(),
        lo_bytes() - before.0
    );
    let mut times = Vec::new();
    for _ in 0..3_000 {
        times.push(round_trip(&mut network, session).await);
    }
    percentiles("round trip of 200 B, back to back", times);
    let mut times = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..500 {
        ticks.tick().await;
        times.push(round_trip(&mut network, session).await);
    }
    percentiles("round trip of 200 B, 100/s", times);

    let (start, frames) = (Instant::now(), 2_000);
    let (mut sent, mut back, mut waiting) = (0, 0, 0);
    while back < frames {
        // The other side sends back whatever comes, so what is on its way bounds its queue too.
        while sent < frames && sent - back < 16 && waiting < 512 * 1024 {
            network.execute(NetCommand::Send { session, bytes: vec![1; 64 * 1024] });
            (sent, waiting) = (sent + 1, waiting + 64 * 1024);
        }
        match network.next().await {
            Input::Frame { .. } => back += 1,
            Input::Written { bytes, .. } => waiting -= bytes,
            Input::SessionClosed { reason, .. } => panic!("{reason}: sent {sent}, back {back}"),
            _ => {}
        }
    }
    let mib = f64::from(frames) / 16.0;
    println!("{mib} MiB there and back: {:.0} MiB/s each way", mib / start.elapsed().as_secs_f64());
}

async fn round_trip(network: &mut Network, session: anabranch_engine::SessionId) -> Duration {
    let start = Instant::now();
    network.execute(NetCommand::Send { session, bytes: vec![7; 200] });
    loop {
        if let Input::Frame { .. } = network.next().await {
            return start.elapsed();
        }
    }
}

/// Stands between two nodes and counts what they say, as TCP payload.
async fn counting_proxy(to: &Node) -> (String, Arc<AtomicU64>) {
    let target = to.address.rsplit('/').next().unwrap().parse::<u16>().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = tokio::net::TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let (near, far) = (near.into_split(), far.into_split());
        tokio::join!(pass(near.0, far.1, &counted), pass(far.0, near.1, &counted));
    });
    (address, count)
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, count: &AtomicU64) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn bytes_of_a_connection() {
    for (admitted, topics) in [(false, 0), (true, 0), (true, 1), (true, 10)] {
        let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
        for node in [&a, &b] {
            for topic in 0..topics {
                node.execute(NetCommand::Subscribe { topic: format!("{topic:064}") });
            }
        }
        let (proxy, count) = counting_proxy(&b).await;
        a.dial(&proxy, Some(b.device));
        let (at_a, _) = (a.opened().await, b.opened().await);
        if admitted {
            a.execute(NetCommand::Admit { peer: b.device });
            b.execute(NetCommand::Admit { peer: a.device });
        }
        // Long enough for whatever wants to be said.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let connected = count.load(Ordering::Relaxed);
        a.send(at_a.session, [7; 200]);
        b.expect("a frame", |input| if matches!(input, Input::Frame { .. }) { Ok(()) } else { Err(input) }).await;
        let frame = count.load(Ordering::Relaxed) - connected;
        println!(
            "admitted: {admitted}, topics: {topics}: connection {connected} B, a frame of 200 B {frame} B of TCP payload"
        );
    }
}
