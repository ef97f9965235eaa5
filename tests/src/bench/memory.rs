//! `memory`: a replica with many documents of which none is open. It is measured in a process of its own, so that nothing that
//! making them took is in it. The floor is redb alone, which opens the same file and reads one value of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::Value;

use super::pair::{open_dialer, within};
use super::{Figures, Report, Size, clock, fill, rounded};
use crate::hostile::figures::Look;

/// The table of runs, as a file of the store has it.
const RUNS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("runs-1");
/// What is done at the start is over by then.
const SETTLE: Duration = Duration::from_secs(1);

/// What the other process opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Opens {
    /// The replica.
    Replica,
    /// Its store's file, with redb alone.
    File,
}

/// Makes the documents and has both measured.
///
/// # Errors
/// Something does not work, or takes too long.
pub async fn run(size: Size) -> Result<Report> {
    let documents = size.documents.unwrap_or(if size.quick { 20 } else { 10_000 });
    let directory = tempfile::tempdir()?;
    let peer = open_dialer(directory.path()).await?;
    let space = peer.create_space("bench").await?;
    within("making the documents", fill(space, documents)).await??;
    peer.shutdown().await;
    drop(peer);
    let ours = measured_apart(directory.path(), Opens::Replica)?;
    let floor = measured_apart(directory.path(), Opens::File)?;
    Ok(Report { workload: "memory", documents, ours, floor })
}

fn measured_apart(directory: &Path, opens: Opens) -> Result<Figures> {
    let opens = if opens == Opens::Replica { "replica" } else { "file" };
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg("memory").arg("--at").arg(directory).args(["--opens", opens, "--json"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    report["ours"].as_object().cloned().context("no figures")
}

/// What this process takes to open the replica in a directory, or its file.
///
/// # Errors
/// Something does not work.
pub async fn measure(directory: &Path, opens: Opens) -> Result<Report> {
    let ours = match opens {
        Opens::Replica => replica(directory).await?,
        Opens::File => file(directory)?,
    };
    Ok(Report { workload: "memory", documents: 0, ours, floor: Figures::new() })
}

async fn replica(directory: &Path) -> Result<Figures> {
    let begun = clock::now();
    let peer = open_dialer(directory).await?;
    let space = peer.spaces().first().and_then(|space| peer.space(space.space)).context("no space")?;
    let documents = space.documents();
    let ready = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let idle = Look::at(std::process::id(), directory).rss;
    let begun = clock::now();
    let id = *documents.get(documents.len() / 2).context("no documents")?;
    let document = space.open(id).await?;
    ensure!(document.json()?["id"].is_string(), "not the document that was made");
    Ok(figures(ready, idle, begun.elapsed()))
}

fn file(directory: &Path) -> Result<Figures> {
    let begun = clock::now();
    let database = Database::open(directory.join("store.redb"))?;
    let ready = begun.elapsed();
    std::thread::sleep(SETTLE);
    let idle = Look::at(std::process::id(), directory).rss;
    let begun = clock::now();
    let reading = database.begin_read()?;
    let table = reading.open_table(RUNS)?;
    ensure!(table.first()?.is_some(), "no runs");
    Ok(figures(ready, idle, begun.elapsed()))
}

fn figures(ready: Duration, idle: u64, first_read: Duration) -> Figures {
    Figures::from_iter([
        ("ready_ms".to_owned(), rounded(ready.as_secs_f64() * 1e3, 1)),
        ("idle_rss_mib".to_owned(), rounded(idle as f64 / f64::from(1 << 20), 1)),
        ("first_read_ms".to_owned(), rounded(first_read.as_secs_f64() * 1e3, 2)),
    ])
}
