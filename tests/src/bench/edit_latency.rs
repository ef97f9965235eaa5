//! `edit-latency`: small edits at a steady 100 a second on one replica, until an observer of the other replica sees them.
//! The floor is automerge's own work (commit, encode, decode, apply) and a bare libp2p stream one way.

use std::time::{Duration, Instant};

use anabranch::Document;
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use futures::executor::block_on;
use serde_json::Value;

use super::pair::{Pair, within};
use super::{Figures, Report, Size, clock, floor, make_small, quantile, rounded};

/// From one edit to the next.
pub const EDIT_INTERVAL: Duration = Duration::from_millis(10);
/// What answers an edit comes within this.
pub const SETTLE: Duration = Duration::from_millis(500);

/// Runs it.
///
/// # Errors
/// Something does not work, or takes too long.
pub async fn run(size: Size) -> Result<Report> {
    let edits = if size.quick { 50 } else { 1_000 };
    let floor = floor::edit_latency(edits).await?;
    let ours = ours(edits).await?;
    Ok(Report { workload: "edit-latency", documents: 1, ours, floor })
}

/// The figures of so many edits, made and seen at these times.
pub fn figures(made: &[Instant], seen: &[Instant], bytes: u64) -> Figures {
    let mut latencies: Vec<Duration> =
        made.iter().zip(seen).map(|(made, seen)| seen.saturating_duration_since(*made)).collect();
    let milliseconds = |time: Duration| rounded(time.as_secs_f64() * 1e3, 3);
    Figures::from_iter([
        ("p50_ms".to_owned(), milliseconds(quantile(&mut latencies, 0.5))),
        ("p99_ms".to_owned(), milliseconds(quantile(&mut latencies, 0.99))),
        ("bytes_per_edit".to_owned(), rounded(bytes as f64 / made.len().max(1) as f64, 1)),
    ])
}

async fn ours(edits: usize) -> Result<Figures> {
    let directory = tempfile::tempdir()?;
    let pair = Pair::open(directory.path(), |space| async move {
        let document = space.create_document().await?;
        make_small(&document, 0)?;
        Ok(document.saved().await?)
    })
    .await?;
    let (written, observed) = pair.open_document().await?;
    tokio::time::sleep(SETTLE).await;

    let before = pair.link.crossed();
    let observer = std::thread::spawn(move || observe(&observed, edits));
    let writer = std::thread::spawn(move || write(&written, edits));
    let made = joined("the writer", writer).await?;
    let seen = joined("the observer", observer).await?;
    tokio::time::sleep(SETTLE).await;
    let bytes = pair.link.crossed().since(&before).bytes();
    ensure!(bytes > 0, "the peers did not talk through the link");

    pair.dialer.shutdown().await;
    pair.listener.shutdown().await;
    Ok(figures(&made, &seen, bytes))
}

/// Waits for a thread without keeping it from the runtime that it may need.
async fn joined<T>(who: &str, thread: std::thread::JoinHandle<Result<T>>) -> Result<T> {
    within(who, async {
        while !thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// When each edit was called for.
fn write(document: &Document, edits: usize) -> Result<Vec<Instant>> {
    let mut made = Vec::with_capacity(edits);
    let began = clock::now();
    for number in 1..=edits {
        let due = began + EDIT_INTERVAL * u32::try_from(number)?;
        std::thread::sleep(due.saturating_duration_since(clock::now()));
        made.push(clock::now());
        document.edit(|edit| edit.set("/count", number))?;
    }
    Ok(made)
}

/// When each edit could be read by someone who follows the document.
fn observe(document: &Document, edits: usize) -> Result<Vec<Instant>> {
    let mut changes = document.subscribe(document.heads()?)?;
    let mut seen = Vec::with_capacity(edits);
    while seen.len() < edits {
        block_on(changes.next()).context("the observed replica stopped")?;
        let count = document.get("/count")?.as_ref().and_then(Value::as_u64).context("/count is not a number")?;
        let now = clock::now();
        // Several edits that arrive together are seen together.
        seen.resize(seen.len().max(usize::try_from(count)?.min(edits)), now);
    }
    Ok(seen)
}
