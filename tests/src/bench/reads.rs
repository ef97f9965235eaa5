//! `reads`: values read by eight threads while one writes into the same document. The floor is automerge alone behind a lock for
//! readers and writers.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use automerge::transaction::Transactable as _;
use automerge::{Automerge, ROOT, ReadDoc as _, TextEncoding};
use serde_json::json;

use super::pair::open_dialer;
use super::{Figures, Report, Size, clock};

const READERS: usize = 8;
const KEYS: usize = 1_000;
/// Between two edits of the writer.
const PAUSE: Duration = Duration::from_millis(1);

/// Runs it.
///
/// # Errors
/// Something does not work.
pub async fn run(size: Size) -> Result<Report> {
    let length = Duration::from_millis(if size.quick { 50 } else { 2_000 });
    let directory = tempfile::tempdir()?;
    let peer = open_dialer(directory.path()).await?;
    let document = peer.create_space("bench").await?.create_document().await?;
    document.edit(|edit| (0..KEYS).try_for_each(|key| edit.set(format!("/k{key}"), key as i64)))?;
    let ours = measure(
        length,
        |key| Ok(document.get(format!("/k{key}"))?.is_some()),
        |key, value| Ok(document.edit(|edit| edit.set(format!("/k{key}"), value))?),
    )?;

    let mut bare = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
    let set = |bare: &mut Automerge, key: usize, value: i64| -> Result<()> {
        let mut transaction = bare.transaction();
        transaction.put(ROOT, format!("k{key}"), value)?;
        transaction.commit();
        Ok(())
    };
    (0..KEYS).try_for_each(|key| set(&mut bare, key, key as i64))?;
    let bare = RwLock::new(bare);
    let floor = measure(
        length,
        |key| Ok(bare.read().ok().context("a thread panicked")?.get(ROOT, format!("k{key}"))?.is_some()),
        |key, value| set(&mut *bare.write().ok().context("a thread panicked")?, key, value),
    )?;
    Ok(Report { workload: "reads", documents: 1, ours, floor })
}

/// Reads a second and edits a second.
fn measure(
    length: Duration,
    read: impl Fn(usize) -> Result<bool> + Sync,
    write: impl Fn(usize, i64) -> Result<()> + Sync,
) -> Result<Figures> {
    let (is_over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = clock::now();
    let edits = thread::scope(|scope| -> Result<u64> {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (is_over, reads, read) = (&is_over, &reads, &read);
                scope.spawn(move || -> Result<()> {
                    let mut key = reader * KEYS / READERS;
                    while !is_over.load(Ordering::Relaxed) {
                        ensure!(read(key)?, "a value is missing");
                        reads.fetch_add(1, Ordering::Relaxed);
                        key = (key + 1) % KEYS;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut edits = 0;
        let mut written = Ok(());
        while begun.elapsed() < length && written.is_ok() {
            written = write(edits as usize % KEYS, edits as i64);
            edits += 1;
            thread::sleep(PAUSE);
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().ok().context("a reader panicked")??;
        }
        written.map(|()| edits)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let per_second = |count: u64| json!((count as f64 / seconds) as u64);
    Ok(Figures::from_iter([
        ("gets_per_s".to_owned(), per_second(reads.into_inner())),
        ("edits_per_s".to_owned(), per_second(edits)),
    ]))
}
