//! What a frame and a connection cost. Run by hand:
//! `cargo test --release -p anabranch-net --test it latency -- --ignored --nocapture`

#![allow(clippy::disallowed_methods, reason = "this measures")]

use std::time::{Duration, Instant};

use anabranch_engine::Input;
use anabranch_engine::keys::SecretKey;
use anabranch_net::{NetCommand, NetConfig, NetLimits, Network};

use crate::node::{LOOPBACK, Node, join};

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
                    Input::SessionClosed { .. } => return network.shutdown().await,
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
        while sent < frames && waiting < 512 * 1024 {
            network.execute(NetCommand::Send { session, bytes: vec![1; 64 * 1024] });
            (sent, waiting) = (sent + 1, waiting + 64 * 1024);
        }
        match network.next().await {
            Input::Frame { .. } => back += 1,
            Input::Written { bytes, .. } => waiting -= bytes,
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

#[tokio::test]
#[ignore = "a measurement"]
async fn bytes_of_a_connection() {
    for admitted in [false, true] {
        let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
        let before = lo_bytes();
        let (at_a, at_b) = join(&mut a, &mut b).await;
        if admitted {
            a.execute(NetCommand::Admit { peer: b.device });
            b.execute(NetCommand::Admit { peer: a.device });
        }
        // Long enough for whatever wants to be said.
        tokio::time::sleep(Duration::from_secs(2)).await;
        a.send(at_a, [1]);
        b.frame(at_b).await;
        println!("connection and a frame of 1 B, admitted: {admitted}: {} bytes with headers", lo_bytes() - before);
    }
}
