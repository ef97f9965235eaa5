//! What libp2p and automerge do without us: two bare swarms, one stream, one change after the other.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use automerge::transaction::Transactable as _;
use automerge::{Automerge, AutomergeError, Change, ROOT};
use futures::channel::oneshot;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, noise, tcp, yamux};

use super::edit_latency::{EDIT_INTERVAL, SETTLE, figures};
use super::pair::within;
use super::{Figures, clock};
use crate::processes::link::Link;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/1");
/// No change of this workload is larger.
const CHANGE_BYTES_MAX: usize = 64 * 1024;

/// The floor of `edit-latency`: commit, encode, one way over a bare stream through the same kind of link, decode, apply.
///
/// # Errors
/// Something does not work, or takes too long.
pub async fn edit_latency(edits: usize) -> Result<Figures> {
    let document = small_document()?;
    let copy = Automerge::load(&document.save())?;
    let (address, listening) = oneshot::channel();
    // A thread and a runtime for each side, as two replicas have.
    let receiver = on_thread(move || receive(copy, edits, address))?;
    let (peer, target) = within("the floor's listener", listening).await?.context("the floor's listener ended")?;
    let link = Link::start(target)?;
    let dialed: Multiaddr = format!("{}/p2p/{peer}", link.multiaddr()).parse()?;
    let (ready, started) = oneshot::channel();
    let (go, gone) = oneshot::channel();
    let sender = on_thread(move || send(document, edits, dialed, ready, gone))?;
    within("the floor's connection", started).await?.context("the floor's dialer ended")?;
    let before = link.crossed();
    go.send(()).ok().context("the floor's dialer ended")?;
    let seen = within("the floor's receiver", receiver).await???;
    let made = within("the floor's sender", sender).await???;
    tokio::time::sleep(SETTLE).await;
    Ok(figures(&made, &seen, link.crossed().since(&before).bytes()))
}

fn small_document() -> Result<Automerge> {
    let mut document = Automerge::new();
    let make = |document: &mut Automerge, fields: &[(&str, &str)]| {
        document
            .transact::<_, _, AutomergeError>(|transaction| {
                fields.iter().try_for_each(|(key, value)| transaction.put(ROOT, *key, *value))
            })
            .map_err(|failure| failure.error)
    };
    make(&mut document, &[("id", "doc-000000"), ("title", "Document number 0"), ("owner", "user-00")])?;
    set_count(&mut document, 0)?;
    make(&mut document, &[("title", "Document number 0, revised")])?;
    Ok(document)
}

fn set_count(document: &mut Automerge, count: u64) -> Result<()> {
    document
        .transact::<_, _, AutomergeError>(|transaction| transaction.put(ROOT, "count", count))
        .map_err(|failure| failure.error)?;
    Ok(())
}

/// Runs one side on a thread of its own, with a runtime of its own.
fn on_thread<T: Send + 'static, F: Future<Output = Result<T>>>(
    side: impl FnOnce() -> F + Send + 'static,
) -> Result<oneshot::Receiver<Result<T>>> {
    let (done, result) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("floor".to_owned()).spawn(move || {
        // Nobody waits any more if the bench has failed elsewhere.
        let _ = done.send(runtime.block_on(side()));
    })?;
    Ok(result)
}

fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>> {
    Ok(libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| libp2p_stream::Behaviour::new())?
        .build())
}

async fn receive(
    mut document: Automerge,
    edits: usize,
    address: oneshot::Sender<(PeerId, SocketAddr)>,
) -> Result<Vec<Instant>> {
    let mut swarm = swarm()?;
    let mut incoming = swarm.behaviour().new_control().accept(PROTOCOL)?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let listening = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let port = listening
        .iter()
        .find_map(|part| if let libp2p::multiaddr::Protocol::Tcp(port) = part { Some(port) } else { None })
        .context("no TCP port in the listening address")?;
    let _ = address.send((*swarm.local_peer_id(), ([127, 0, 0, 1], port).into()));
    let work = async {
        let (_, mut stream) = incoming.next().await.context("the swarm ended")?;
        let mut seen = Vec::with_capacity(edits);
        while seen.len() < edits {
            let change = read_frame(&mut stream).await?;
            document.apply_changes([Change::from_bytes(change)?])?;
            seen.push(clock::now());
        }
        Ok(seen)
    };
    with_swarm(swarm, work).await
}

async fn send(
    mut document: Automerge,
    edits: usize,
    peer: Multiaddr,
    ready: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
) -> Result<Vec<Instant>> {
    let mut swarm = swarm()?;
    let mut control = swarm.behaviour().new_control();
    swarm.dial(peer)?;
    let peer = loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
            break peer_id;
        }
    };
    let work = async {
        let mut stream = control.open_stream(peer, PROTOCOL).await?;
        let _ = ready.send(());
        go.await?;
        let mut ticks = tokio::time::interval(EDIT_INTERVAL);
        let mut made = Vec::with_capacity(edits);
        for number in 1..=edits {
            ticks.tick().await;
            made.push(clock::now());
            set_count(&mut document, number as u64)?;
            let change = document.get_last_local_change().context("no change was made")?;
            write_frame(&mut stream, change.raw_bytes()).await?;
        }
        // The other side reads to the last before this one goes.
        tokio::time::sleep(SETTLE).await;
        Ok(made)
    };
    with_swarm(swarm, work).await
}

/// Keeps a swarm turning until `work` is done.
async fn with_swarm<T>(mut swarm: Swarm<libp2p_stream::Behaviour>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = swarm.select_next_some() => {}
        }
    }
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    let mut frame = u32::try_from(bytes.len())?.to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    stream.write_all(&frame).await?;
    Ok(stream.flush().await?)
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= CHANGE_BYTES_MAX, "a change of {length} bytes, limit {CHANGE_BYTES_MAX}");
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_of_edit_latency_counts_every_edit() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let figures = runtime.block_on(edit_latency(20)).unwrap();
        let bytes = figures["bytes_per_edit"].as_f64().unwrap();
        assert!((100.0..400.0).contains(&bytes), "{bytes} bytes an edit");
        assert!(figures["p50_ms"].as_f64().unwrap() > 0.0);
    }
}
