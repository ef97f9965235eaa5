//! `stall`: how long edits of another document and questions about the replica take while something heavy is done with a large
//! document. The floor is the same replica when nothing else happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch::{Document, EditError, Peer};
use anyhow::{Result, ensure};
use futures::executor::block_on;

use super::{Figures, Report, Size, clock, quantile, rounded};

/// Between two edits of the other document.
const INTERVAL: Duration = Duration::from_millis(2);
/// Characters replaced by one change.
const PIECE: usize = 50_000;

/// Something heavy.
type Call = fn(&Document, usize) -> Result<()>;

const CALLS: [(&str, Call); 6] = [
    ("json", |document, _| something(document.json()?.as_object())),
    ("export", |document, _| something(Some(serde_json::to_string(&document.json()?)?))),
    ("history", |document, _| something(document.history()?.first())),
    ("conflicts", |document, _| {
        let snapshot = document.snapshot()?;
        ensure!(snapshot.view().all_conflicts().is_empty(), "there are conflicts");
        Ok(())
    }),
    ("past", |document, round| {
        let heads = document.heads()?;
        document.edit(|edit| edit.set("/n", round))?;
        something(document.read_at(&heads, |view| view.text("/text"))?)
    }),
    ("replace", replace_text),
];

fn something<T>(found: Option<T>) -> Result<()> {
    ensure!(found.is_some(), "nothing was read");
    Ok(())
}

/// Runs it.
///
/// # Errors
/// Something does not work.
pub fn run(size: Size) -> Result<Report> {
    let (strings, characters, time) = if size.quick {
        (1_000, 10_000, Duration::from_millis(50))
    } else {
        (90_000, 1_000_000, Duration::from_secs(2))
    };
    let directory = tempfile::tempdir()?;
    let peer = block_on(Peer::builder().directory(directory.path()).open())?;
    let (large, other) = block_on(async {
        let space = peer.create_space("bench").await?;
        let (large, other) = (space.create_document().await?, space.create_document().await?);
        other.edit(|edit| edit.set("/n", 0))?;
        Ok::<_, anyhow::Error>((large, other))
    })?;
    fill(&large, strings, characters)?;
    block_on(large.saved())?;

    let (mut ours, mut floor) = (Figures::new(), Figures::new());
    let quiet = while_busy(&peer, &other, time, None)?;
    for (name, call) in CALLS {
        let busy = while_busy(&peer, &other, time, Some((&large, call)))?;
        for (figure, busy, quiet) in [("edit", busy.edit, quiet.edit), ("status", busy.status, quiet.status)] {
            let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3, 3);
            ours.insert(format!("{figure}_p99_ms_{name}"), ms(busy));
            floor.insert(format!("{figure}_p99_ms_{name}"), ms(quiet));
        }
    }
    block_on(peer.shutdown());
    Ok(Report { workload: "stall", documents: 2, ours, floor })
}

/// Some 10 MB: a text, and plain strings of 100 bytes.
fn fill(document: &Document, strings: usize, characters: usize) -> Result<()> {
    let mut draft = document.draft()?;
    draft.edit(|edit| edit.set("/text", ""))?;
    for at in (0..characters).step_by(PIECE) {
        draft.edit(|edit| edit.splice_text("/text", at, 0, &letters(at, PIECE.min(characters - at))))?;
    }
    for from in (0..strings).step_by(5_000) {
        let text = "x".repeat(100);
        draft.edit(|edit| {
            (from..strings.min(from + 5_000)).try_for_each(|n| edit.set_plain_string(format!("/s{n}").as_str(), &text))
        })?;
    }
    draft.publish()?;
    Ok(())
}

fn letters(seed: usize, count: usize) -> String {
    (0..count).map(|at| char::from(b'a' + ((at * 7 + seed * 13 + at / 11) % 26) as u8)).collect()
}

/// Makes the text read something else, as a whole.
fn replace_text(document: &Document, round: usize) -> Result<()> {
    let length = document.length("/text")?.unwrap_or_default();
    let mut draft = document.draft()?;
    for at in (0..length).step_by(PIECE) {
        let count = PIECE.min(length - at);
        let text = letters(at + round, count);
        draft.edit(|edit| -> Result<(), EditError> { edit.splice_text("/text", at, count, &text) })?;
    }
    draft.publish()?;
    Ok(())
}

/// How long an edit and a question take, in 99 of 100 cases.
struct Taken {
    edit: Duration,
    status: Duration,
}

fn while_busy(peer: &Peer, other: &Document, time: Duration, busy: Option<(&Document, Call)>) -> Result<Taken> {
    let (done, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| -> Result<()> {
            let Some((document, call)) = busy else { return Ok(()) };
            while !done.load(Ordering::Relaxed) {
                call(document, calls.load(Ordering::Relaxed) as usize)?;
                calls.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let taken = measure(peer, other, time, || busy.is_none() || calls.load(Ordering::Relaxed) > 0);
        done.store(true, Ordering::Relaxed);
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        taken
    })
}

/// Until the time is over, and at least one heavy call has ended.
fn measure(peer: &Peer, other: &Document, time: Duration, has_ended: impl Fn() -> bool) -> Result<Taken> {
    let (mut edits, mut questions) = (Vec::new(), Vec::new());
    let begun = clock::now();
    while begun.elapsed() < time || !has_ended() && begun.elapsed() < 60 * time {
        let before = clock::now();
        other.edit(|edit| edit.set("/n", edits.len()))?;
        edits.push(before.elapsed());
        let before = clock::now();
        ensure!(peer.spaces().len() == 1 && peer.peers().is_empty(), "there is one space, and nobody else");
        questions.push(before.elapsed());
        std::thread::sleep(INTERVAL);
    }
    Ok(Taken { edit: quantile(&mut edits, 0.99), status: quantile(&mut questions, 0.99) })
}
