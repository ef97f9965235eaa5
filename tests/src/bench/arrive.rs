//! `arrive FILE`: what people typed arrives from their peers, in signed runs, through the whole gate. The floor is automerge
//! alone, which parses and applies the same changes in the same batches.

use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_engine::document::{Document, Settle};
use anabranch_engine::gate::{Authority, Guard, Intake, Panicked, Payload, Slot, payload_tip, vouch};
use anabranch_engine::id::{AclHash, DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::run::{Run, UnsignedRun};
use anabranch_engine::space::roles::Role;
use anyhow::{Context as _, Result, bail, ensure};
use automerge::transaction::Transactable as _;
use automerge::{ActorId, AutoCommit, Automerge, Change, ObjId, ObjType, ROOT, ReadDoc as _, TextEncoding};
use serde_json::json;

use super::trace::{Trace, Transaction, read};
use super::{Figures, Report, Size, clock, rounded};

const SPACE: SpaceId = SpaceId([1; 32]);
const DOCUMENT: DocumentId = DocumentId([2; 16]);
/// Transactions replayed in a quick run.
const QUICK_TRANSACTIONS: usize = 500;
/// Changes merged at once: about what a bulk transfer brings while the batch before it is merged, and enough for automerge
/// to be at its best.
const BATCH_CHANGES: usize = 4_096;
/// Changes under one signature at most.
const RUN_CHANGES: usize = 64;
/// Both sides are measured this often, in turn, and the fastest of each counts.
const ROUNDS: usize = 3;

/// Runs it.
///
/// # Errors
/// The file is no trace, or something does not work.
pub fn run(file: &Path, size: Size) -> Result<Report> {
    let mut trace = read(file).with_context(|| format!("{} is not an editing trace", file.display()))?;
    if size.quick {
        trace.txns.truncate(QUICK_TRANSACTIONS);
    }
    let end = (!size.quick).then_some(trace.end_content.as_str());
    let changes = type_it(&trace)?;
    let runs = sign(&changes)?;
    let payloads: Vec<&[u8]> = changes.iter().map(|(_, change)| change.raw_bytes()).collect();
    let (mut ours_best, mut floor_best) = (Duration::MAX, Duration::MAX);
    let mut index_bytes = 0;
    for _ in 0..if size.quick { 1 } else { ROUNDS } {
        let (took, document) = ours(&runs)?;
        ours_best = ours_best.min(took);
        index_bytes = document.index_bytes();
        if let Some(end) = end {
            ensure!(document.view().text("/text").as_deref() == Some(end), "our text is not the trace's endContent");
        }
        let (took, text) = floor(&payloads)?;
        floor_best = floor_best.min(took);
        if let Some(end) = end {
            ensure!(text == end, "automerge's text is not the trace's endContent");
        }
    }
    let figures = |took: Duration| {
        Figures::from_iter([
            ("arrive_s".to_owned(), rounded(took.as_secs_f64(), 4)),
            ("us_per_change".to_owned(), rounded(took.as_secs_f64() * 1e6 / changes.len() as f64, 2)),
        ])
    };
    let mut ours = figures(ours_best);
    ours.insert("changes".to_owned(), json!(changes.len()));
    let operations: usize = changes.iter().map(|(_, change)| change.len()).sum();
    ours.insert("index_bytes_per_op".to_owned(), rounded(index_bytes as f64 / operations as f64, 1));
    Ok(Report { workload: "arrive", documents: 1, ours, floor: figures(floor_best) })
}

/// The changes that the authors make, each with the number of its author, in the order of the trace.
fn type_it(trace: &Trace) -> Result<Vec<(usize, Change)>> {
    let mut first = writer(0);
    let text = first.put_object(ROOT, "text", ObjType::Text)?;
    first.commit();
    let base = first.get_last_local_change().context("a document without a change")?;
    let mut writers = vec![first];
    let mut changes = vec![(0, base)];
    // For each author, the numbers of its changes; for each of the others, how many of them it has.
    let mut made: Vec<Vec<usize>> = vec![vec![0]];
    let mut known: Vec<Vec<usize>> = vec![vec![1]];
    let mut stands_on: Vec<Vec<usize>> = Vec::with_capacity(trace.txns.len());
    for (number, transaction) in trace.txns.iter().enumerate() {
        let agent = transaction.agent;
        while writers.len() <= agent {
            let mut next = writer(writers.len());
            next.apply_changes([changes[0].1.clone()])?;
            writers.push(next);
            made.push(Vec::new());
            known.iter_mut().for_each(|of| of.push(0));
            known.push((0..writers.len()).map(|author| usize::from(author == 0)).collect());
        }
        let mut seen = vec![0; writers.len()];
        let previous = [number.wrapping_sub(1)];
        let parents = if trace.is_concurrent() { transaction.parents.as_slice() } else { &previous[..number.min(1)] };
        for parent in parents {
            let of_parent = stands_on.get(*parent).context("a parent that comes later")?;
            seen.iter_mut().zip(of_parent).for_each(|(seen, count)| *seen = (*seen).max(*count));
        }
        for author in (0..writers.len()).filter(|author| *author != agent) {
            let from = known[agent][author];
            let news = made[author].get(from..seen[author].max(from)).context("a parent of nobody")?;
            writers[agent].apply_changes(news.iter().map(|change| changes[*change].1.clone()).collect::<Vec<_>>())?;
            known[agent][author] = seen[author].max(from);
        }
        edit(&mut writers[agent], &text, transaction)?;
        if let Some(change) = writers[agent].get_last_local_change()
            && change.seq() as usize == made[agent].len() + 1
        {
            made[agent].push(changes.len());
            changes.push((agent, change));
        }
        seen[agent] = made[agent].len();
        stands_on.push(seen);
    }
    Ok(changes)
}

fn writer(author: usize) -> AutoCommit {
    AutoCommit::new_with_encoding(TextEncoding::UnicodeCodePoint).with_actor(ActorId::from([1 + author as u8; 16]))
}

fn edit(document: &mut AutoCommit, text: &ObjId, transaction: &Transaction) -> Result<()> {
    for (position, deleted, inserted) in &transaction.patches {
        document.splice_text(text, *position, isize::try_from(*deleted)?, inserted)?;
    }
    document.commit();
    Ok(())
}

/// Runs of changes that follow one another and have one author.
fn sign(changes: &[(usize, Change)]) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for group in changes.chunk_by(|(a, _), (b, _)| a == b).flat_map(|group| group.chunks(RUN_CHANGES)) {
        let payload: Vec<u8> = group.iter().flat_map(|(_, change)| change.raw_bytes().to_vec()).collect();
        let tip = payload_tip(&payload)?;
        let unsigned =
            UnsignedRun { actor: tip.actor, first_seq: tip.first_seq, last_seq: tip.last_seq, tip: tip.tip, payload };
        let key = SecretKey::from_seed(&[1 + group[0].0 as u8; 32]);
        runs.push(Run::sign(&key, SPACE, DOCUMENT, AclHash([3; 32]), unsigned));
    }
    Ok(runs)
}

/// Nothing panics here.
pub struct Unguarded;

impl Guard for Unguarded {
    fn run(&self, _: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        f();
        Ok(())
    }
}

/// How long the runs take through the gate, and the document that they make.
fn ours(runs: &[Run]) -> Result<(Duration, Document)> {
    let arriving = runs.to_vec();
    let authority = Authority { role: Some(Role::Writer) };
    let mut document = Document::empty(SPACE, DOCUMENT);
    let began = clock::now();
    let mut waiting = 0;
    for run in arriving {
        let payload = Payload::read(run.payload)?;
        vouch(&run.header, &payload, authority)?;
        waiting += payload.tip().changes as usize;
        document.receive_read(run.header, Ok(payload), Intake::Always);
        if waiting >= BATCH_CHANGES {
            settle(&mut document)?;
            waiting = 0;
        }
    }
    settle(&mut document)?;
    Ok((began.elapsed(), document))
}

fn settle(document: &mut Document) -> Result<()> {
    let settled = match document.settle(&Unguarded) {
        Settle::Done(settled) => settled,
        Settle::Work(work) => {
            let merged = work.run(&Unguarded);
            document.finish_merge(merged, &Unguarded)
        }
    };
    if let Some((_, refusal)) = settled.refused.first() {
        bail!("an honest run is refused: {refusal}");
    }
    ensure!(settled.waiting == 0, "{} runs wait for others", settled.waiting);
    Ok(())
}

/// How long automerge takes, and the text that it makes.
fn floor(payloads: &[&[u8]]) -> Result<(Duration, String)> {
    let mut document = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    let began: Instant = clock::now();
    for batch in payloads.chunks(BATCH_CHANGES) {
        let batch: Vec<Change> = batch.iter().map(|bytes| Change::try_from(*bytes)).collect::<Result<_, _>>()?;
        document.apply_changes(batch)?;
    }
    let took = began.elapsed();
    let (_, text) = document.get(ROOT, "text")?.context("no text")?;
    Ok((took, document.text(text)?))
}
