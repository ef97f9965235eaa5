//! `reconnect`: two restarted replicas that hold the same documents, from the dial until both know it. The floor is the same
//! two programs without any space: connection, handshake, and a refusal.

use std::path::Path;
use std::time::{Duration, Instant};

use anabranch::{Event, Peer, SpaceId};
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::pair::{Pair, open_dialer, open_listener, through, within};
use super::{Figures, Report, Size, clock, fill, rounded};
use crate::processes::link::Link;

/// How long bytes are still counted after the dial was answered: what follows at once (subscriptions, answers, a comparison
/// of roots after a second of quiet) belongs to the reconnection, keep-alives do not.
const SETTLE: Duration = Duration::from_secs(2);
/// One way, on the line that round trips are counted on. Far above what anything takes to compute.
const SLOW_LINE: Duration = Duration::from_millis(100);

/// Runs it.
///
/// # Errors
/// Something does not work, or takes too long.
pub async fn run(size: Size) -> Result<Report> {
    let documents = size.documents.unwrap_or(if size.quick { 20 } else { 1_000 });
    let repeats = if size.quick { 1 } else { 5 };
    let floor = floor(repeats).await?;
    let mut ours = ours(documents, repeats).await?;
    let bytes = |figures: &Figures| figures.get("bytes").and_then(Value::as_u64).unwrap_or_default();
    ours.insert("bytes_beyond_floor".to_owned(), json!(bytes(&ours).saturating_sub(bytes(&floor))));
    Ok(Report { workload: "reconnect", documents, ours: in_order(ours), floor })
}

fn in_order(mut figures: Figures) -> Figures {
    let names = ["ms", "bytes", "bytes_beyond_floor", "round_trips", "cpu_ms"];
    names.into_iter().filter_map(|name| Some((name.to_owned(), figures.remove(name)?))).collect()
}

/// What one connection cost.
struct Connected {
    time: Duration,
    /// From the end of authentication, as the dialer sees it.
    after_auth: Duration,
    bytes: u64,
    cpu_ms: f64,
}

fn figures(mut runs: Vec<Connected>) -> Figures {
    let mut median = |key: fn(&Connected) -> f64| {
        runs.sort_by(|a, b| key(a).total_cmp(&key(b)));
        runs.get(runs.len() / 2).map_or(0.0, key)
    };
    let (ms, bytes, cpu_ms) =
        (median(|run| run.time.as_secs_f64() * 1e3), median(|run| run.bytes as f64), median(|run| run.cpu_ms));
    Figures::from_iter([
        ("ms".to_owned(), rounded(ms, 2)),
        ("bytes".to_owned(), json!(bytes as u64)),
        ("cpu_ms".to_owned(), rounded(cpu_ms, 2)),
    ])
}

async fn ours(documents: usize, repeats: usize) -> Result<Figures> {
    let directory = tempfile::tempdir()?;
    let pair = Pair::open(directory.path(), |space| fill(space, documents)).await?;
    let id = pair.dialer_space.id();
    let Pair { listener, dialer, listener_space, dialer_space, link } = pair;
    drop((listener_space, dialer_space));
    dialer.shutdown().await;
    listener.shutdown().await;
    drop((dialer, listener));

    let mut runs = Vec::new();
    for _ in 0..repeats {
        runs.push(reconnect(directory.path(), &link, id).await?);
    }
    let mut figures = figures(runs);
    link.set_delay(SLOW_LINE);
    let slow = reconnect(directory.path(), &link, id).await?;
    let round_trips = slow.after_auth.as_secs_f64() / (2.0 * SLOW_LINE.as_secs_f64());
    figures.insert("round_trips".to_owned(), rounded(round_trips, 1));
    Ok(figures)
}

/// Opens both again, lets them find each other, and closes them.
async fn reconnect(root: &Path, link: &Link, id: SpaceId) -> Result<Connected> {
    link.set_open(false);
    // The listener comes back on another port, so the link is the only way to it that the dialer knows.
    let (listener, address) = open_listener(&root.join("listener")).await?;
    link.retarget(address);
    let dialer = open_dialer(&root.join("dialer")).await?;
    let space = dialer.space(id).context("the space is gone")?;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let mut events = dialer.events();
    let peer = listener.device();
    let synced = space.synced_with(peer);
    let authenticated = async {
        while let Some(event) = events.next().await {
            if matches!(event, Ok(Event::PeerConnected { peer: connected }) if connected == peer) {
                return Ok(clock::now());
            }
        }
        anyhow::bail!("the dialer stopped")
    };
    let meeting = async {
        let (synced, authenticated) = tokio::join!(
            async {
                synced.await?;
                anyhow::Ok((clock::now(), clock::cpu_ms()))
            },
            authenticated
        );
        anyhow::Ok((synced?, authenticated?))
    };

    let before = link.crossed();
    let cpu_before = clock::cpu_ms();
    let began = clock::now();
    link.set_open(true);
    let address = through(link, &listener);
    let (dialed, met) = tokio::join!(dialer.dial(&address), within("reconnecting", meeting));
    dialed?;
    let ((synced, cpu_after), authenticated): ((Instant, f64), Instant) = met??;
    tokio::time::sleep(SETTLE).await;
    let crossed = link.crossed().since(&before);
    ensure!(crossed.connections > 0, "the peers did not meet through the link");

    drop(space);
    dialer.shutdown().await;
    listener.shutdown().await;
    Ok(Connected {
        time: synced.duration_since(began),
        after_auth: synced.saturating_duration_since(authenticated),
        bytes: crossed.bytes(),
        cpu_ms: cpu_after - cpu_before,
    })
}

async fn floor(repeats: usize) -> Result<Figures> {
    let mut runs = Vec::new();
    for _ in 0..repeats {
        let directory = tempfile::tempdir()?;
        let (listener, address) = open_listener(&directory.path().join("listener")).await?;
        let dialer = open_dialer(&directory.path().join("dialer")).await?;
        let link = Link::start(address)?;
        runs.push(meet_as_strangers(&listener, &dialer, &link).await?);
        dialer.shutdown().await;
        listener.shutdown().await;
    }
    Ok(figures(runs))
}

/// One connection of two replicas that share nothing, until one of them has refused the other.
async fn meet_as_strangers(listener: &Peer, dialer: &Peer, link: &Link) -> Result<Connected> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut events = futures::stream::select(listener.events(), dialer.events());
    let cpu_before = clock::cpu_ms();
    let began = clock::now();
    dialer.dial(&through(link, listener)).await?;
    within("the floor's refusal", async {
        while let Some(event) = events.next().await {
            if matches!(event, Ok(Event::StrangerRefused { .. })) {
                return Ok(());
            }
        }
        anyhow::bail!("both replicas stopped")
    })
    .await??;
    // Only the first try counts: strangers who go on dialing are not what is compared.
    link.set_open(false);
    let (time, cpu_ms) = (began.elapsed(), clock::cpu_ms() - cpu_before);
    tokio::time::sleep(SETTLE).await;
    let crossed = link.crossed();
    ensure!(crossed.connections == 1, "{} connections of strangers, expected one", crossed.connections);
    Ok(Connected { time, after_auth: Duration::ZERO, bytes: crossed.bytes(), cpu_ms })
}
