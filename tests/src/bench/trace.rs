//! `trace FILE`: a person's typing, one change per transaction of the trace, into a durable replica. The floor is automerge
//! alone, in memory, and its `save`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anabranch::Peer;
use anyhow::{Context as _, Result, bail, ensure};
use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ObjType, ROOT, ReadDoc as _, TextEncoding};
use redb::{ReadableDatabase as _, ReadableTableMetadata as _, TableHandle as _};
use serde::Deserialize;
use serde_json::json;

use super::pair::within;
use super::{Figures, Report, Size, clock, rounded};

/// Transactions replayed in a quick run.
const QUICK_TRANSACTIONS: usize = 500;

/// An editing trace, as <https://github.com/josephg/editing-traces> keeps them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    start_content: String,
    pub(super) end_content: String,
    pub(super) txns: Vec<Transaction>,
}

#[derive(Deserialize)]
pub(super) struct Transaction {
    /// In a concurrent trace: the transactions on whose merge it stands.
    #[serde(default)]
    pub(super) parents: Vec<usize>,
    /// In a concurrent trace: whose it is.
    #[serde(default)]
    pub(super) agent: usize,
    /// Position, characters deleted, text inserted; in code points.
    pub(super) patches: Vec<(usize, usize, String)>,
}

impl Trace {
    /// Its positions hold only for the versions named as parents.
    pub(super) fn is_concurrent(&self) -> bool {
        self.kind.as_deref() == Some("concurrent")
    }
}

/// Runs it.
///
/// # Errors
/// The file is no sequential trace, or something does not work.
pub async fn run(file: &Path, size: Size) -> Result<Report> {
    let mut trace = read(file).with_context(|| format!("{} is not an editing trace", file.display()))?;
    if trace.is_concurrent() {
        bail!("{} is a concurrent trace: its positions hold only for the versions named as parents", file.display());
    }
    if size.quick {
        trace.txns.truncate(QUICK_TRANSACTIONS);
    }
    let end = (!size.quick).then_some(trace.end_content.as_str());
    let floor = floor(&trace, end)?;
    let ours = ours(&trace, end).await?;
    Ok(Report { workload: "trace", documents: 1, ours, floor })
}

/// Reads a trace, plain or gzipped.
pub(super) fn read(file: &Path) -> Result<Trace> {
    let mut text = String::new();
    let mut opened = File::open(file)?;
    if file.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::GzDecoder::new(opened).read_to_string(&mut text)?;
    } else {
        opened.read_to_string(&mut text)?;
    }
    let trace: Trace = serde_json::from_str(&text)?;
    ensure!(trace.start_content.is_empty(), "it starts from a text, not from nothing");
    Ok(trace)
}

async fn ours(trace: &Trace, end: Option<&str>) -> Result<Figures> {
    let directory = tempfile::tempdir()?;
    let peer = Peer::builder().directory(directory.path()).open().await?;
    let space = peer.create_space("bench").await?;
    let document = space.create_document().await?;
    document.edit(|edit| edit.set("/text", ""))?;
    document.saved().await?;

    let began = clock::now();
    for transaction in &trace.txns {
        document.edit(|edit| {
            for (position, deleted, inserted) in &transaction.patches {
                edit.splice_text("/text", *position, *deleted, inserted)?;
            }
            Ok(())
        })?;
    }
    within("saving", document.saved()).await??;
    let apply = began.elapsed();

    if let Some(end) = end {
        let text = document.read(|view| view.text("/text"))?;
        ensure!(text.as_deref() == Some(end), "our text is not the trace's endContent");
    }
    drop((document, space));
    peer.shutdown().await;
    drop(peer);
    Ok(Figures::from_iter([
        ("apply_s".to_owned(), rounded(apply.as_secs_f64(), 3)),
        ("saved_bytes".to_owned(), json!(stored_bytes(&directory.path().join("store.redb"))?)),
    ]))
}

/// Bytes of all keys and values in a closed store.
fn stored_bytes(store: &Path) -> Result<u64> {
    let database = redb::Database::open(store)?;
    let transaction = database.begin_read()?;
    let mut bytes = 0;
    for table in transaction.list_tables()? {
        let name = table.name().to_owned();
        let stats = transaction.open_untyped_table(table).with_context(|| format!("table {name}"))?.stats()?;
        bytes += stats.stored_bytes();
    }
    Ok(bytes)
}

fn floor(trace: &Trace, end: Option<&str>) -> Result<Figures> {
    let mut document = AutoCommit::new_with_encoding(TextEncoding::UnicodeCodePoint);
    let text = document.put_object(ROOT, "text", ObjType::Text)?;
    document.commit();
    let began = clock::now();
    for transaction in &trace.txns {
        for (position, deleted, inserted) in &transaction.patches {
            document.splice_text(&text, *position, isize::try_from(*deleted)?, inserted)?;
        }
        document.commit();
    }
    let saved = document.save();
    let apply = began.elapsed();
    if let Some(end) = end {
        ensure!(document.text(&text)? == end, "automerge's text is not the trace's endContent");
    }
    Ok(Figures::from_iter([
        ("apply_s".to_owned(), rounded(apply.as_secs_f64(), 3)),
        ("saved_bytes".to_owned(), json!(saved.len())),
    ]))
}
