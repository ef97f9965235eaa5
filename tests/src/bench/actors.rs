//! `actors`: a document that very many processes have written in. What it costs to open it, and to commit one more change: a
//! document's record names every actor, and is written with every commit. The floor is automerge alone, which parses and
//! applies the same changes.
//!
//! With more actors than a document may have only the record and its commit are measured.

use std::num::NonZeroU64;
use std::time::Duration;

use anabranch_engine::document::OpenWork;
use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::frontier::Proof;
use anabranch_engine::gate::payload_tip;
use anabranch_engine::id::{AclHash, DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::{DOCUMENT_ACTORS_MAX, DOCUMENT_ACTORS_PER_DEVICE_MAX};
use anabranch_engine::run::{Run, UnsignedRun};
use anabranch_engine::storage::{CommitId, Reply, Request, Row, Table, document_key};
use anabranch_store::Store;
use anyhow::{Context as _, Result, anyhow, bail};
use automerge::legacy::OpId;
use automerge::transaction::Transactable as _;
use automerge::{ActorId, Automerge, Change, ROOT, TextEncoding};
use serde_json::json;

use super::arrive::Unguarded;
use super::{Figures, Report, Size, clock, quantile, rounded};

const SPACE: SpaceId = SpaceId([1; 32]);
const DOCUMENT: DocumentId = DocumentId([2; 16]);
/// Actors of a document.
const STEPS: [(&str, usize); 3] = [("1k", 1_000), ("10k", 10_000), ("100k", 100_000)];
/// Actors in a quick run, under the same names.
const QUICK_STEPS: [(&str, usize); 3] = [("1k", 10), ("10k", 20), ("100k", 30)];
/// Commits of which the median counts.
const COMMITS: usize = 15;

/// Runs it.
///
/// # Errors
/// Something does not work.
pub fn run(size: Size) -> Result<Report> {
    let (mut ours, mut floor) = (Figures::new(), Figures::new());
    for (name, actors) in if size.quick { QUICK_STEPS } else { STEPS } {
        let runs = runs(actors)?;
        let record = record_of(&runs)?;
        let (bytes, commit) = commit(&record)?;
        ours.insert(format!("record_bytes_{name}"), json!(bytes));
        ours.insert(format!("commit_ms_{name}"), rounded(commit.as_secs_f64() * 1e3, 3));
        if actors <= DOCUMENT_ACTORS_MAX {
            let payloads: Vec<&[u8]> = runs.iter().map(|run| run.payload.as_slice()).collect();
            let alone = apply(&payloads)?;
            floor.insert(format!("open_ms_{name}"), rounded(alone.as_secs_f64() * 1e3, 2));
            let opened = open(runs)?;
            ours.insert(format!("open_ms_{name}"), rounded(opened.as_secs_f64() * 1e3, 2));
        }
    }
    Ok(Report { workload: "actors", documents: 1, ours, floor })
}

/// A run of one change of each actor, each on top of the one before it; as many devices as it takes. Made by hand: automerge takes
/// ever longer for one more actor.
fn runs(actors: usize) -> Result<Vec<Run>> {
    let mut template = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    let mut transaction = template.transaction();
    transaction.put(ROOT, "n", 0)?;
    transaction.commit();
    let mut change = template.get_last_local_change().context("no change")?.decode();
    change.hash = None;
    let mut runs = Vec::with_capacity(actors);
    for number in 1..=actors as u64 {
        let mut actor = [0; 16];
        actor[..8].copy_from_slice(&number.to_be_bytes());
        let replaced = (number > 1).then(|| OpId(number - 1, change.actor_id.clone()));
        change.operations[0].pred = replaced.into_iter().collect::<Vec<_>>().into();
        change.actor_id = ActorId::from(actor);
        change.start_op = NonZeroU64::new(number).context("numbers begin with 1")?;
        let made = Change::from(change.clone());
        change.deps = vec![made.hash()];
        let payload = made.raw_bytes().to_vec();
        let tip = payload_tip(&payload)?;
        let unsigned =
            UnsignedRun { actor: tip.actor, first_seq: tip.first_seq, last_seq: tip.last_seq, tip: tip.tip, payload };
        let key = SecretKey::from_seed(&[1 + (number as usize / DOCUMENT_ACTORS_PER_DEVICE_MAX) as u8; 32]);
        runs.push(Run::sign(&key, SPACE, DOCUMENT, AclHash([3; 32]), unsigned));
    }
    Ok(runs)
}

fn record_of(runs: &[Run]) -> Result<DocumentRecord> {
    let last = runs.last().context("no runs")?.header.tip;
    let mut record = DocumentRecord { heads: vec![last], ..DocumentRecord::default() };
    for run in runs {
        record.frontier.accept(Proof::of(run).context("a run without a tip")?);
    }
    Ok(record)
}

/// Bytes of the record, and how long it takes to encode and to commit it.
fn commit(record: &DocumentRecord) -> Result<(usize, Duration)> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let mut took = Vec::with_capacity(COMMITS);
    let mut bytes = 0;
    for number in 1..=COMMITS {
        let began = clock::now();
        let value = record.encode_stored();
        bytes = value.len();
        let row = Row { table: Table::Documents, key: document_key(&SPACE, &DOCUMENT), value: Some(value) };
        let reply = store.execute(Request::Commit { id: CommitId(number as u64), rows: vec![row] });
        took.push(began.elapsed());
        let Reply::Committed { result, .. } = reply else { bail!("a commit was answered with {reply:?}") };
        result.map_err(|failure| anyhow!("the commit failed: {failure}"))?;
    }
    Ok((bytes, quantile(&mut took, 0.5)))
}

/// How long the document takes to open from its stored runs.
fn open(runs: Vec<Run>) -> Result<Duration> {
    let work =
        OpenWork { space: SPACE, id: DOCUMENT, runs, tips: Vec::new(), suspects: Vec::new(), poisoned: Vec::new() };
    let began = clock::now();
    work.run(&Unguarded).map_err(|error| anyhow!(error))?;
    Ok(began.elapsed())
}

/// How long automerge takes.
fn apply(payloads: &[&[u8]]) -> Result<Duration> {
    let mut document = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    let began = clock::now();
    let changes: Vec<Change> = payloads.iter().map(|bytes| Change::try_from(*bytes)).collect::<Result<_, _>>()?;
    document.apply_changes(changes)?;
    Ok(began.elapsed())
}
