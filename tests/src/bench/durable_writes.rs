//! `durable-writes`: small edits, each waited for until it is fsynced, by one writer and by sixteen on a document each. The
//! floor is redb alone: one value of 200 bytes in one table a commit, and the same values committed in groups.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch::{Document, Peer};
use anyhow::Result;
use futures::executor::block_on;
use redb::{Database, TableDefinition};

use super::{Figures, Report, Size, clock, make_small, rounded};

const WRITERS: usize = 16;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("values");
/// About what a small edit's change and its signature take.
const VALUE: [u8; 200] = [7; 200];

/// Runs it.
///
/// # Errors
/// Something does not work.
pub async fn run(size: Size) -> Result<Report> {
    let time = if size.quick { Duration::from_millis(200) } else { Duration::from_secs(4) };
    let floor = floor(time)?;
    let ours = ours(time).await?;
    Ok(Report { workload: "durable-writes", documents: WRITERS, ours, floor })
}

fn figures(one: f64, sixteen: f64) -> Figures {
    Figures::from_iter([("per_s_1".to_owned(), rounded(one, 0)), ("per_s_16".to_owned(), rounded(sixteen, 0))])
}

async fn ours(time: Duration) -> Result<Figures> {
    let directory = tempfile::tempdir()?;
    let peer = Peer::builder().directory(directory.path()).open().await?;
    let space = peer.create_space("bench").await?;
    let mut documents = Vec::new();
    for number in 0..WRITERS {
        let document = space.create_document().await?;
        make_small(&document, number)?;
        document.saved().await?;
        documents.push(document);
    }
    let one = writers(&documents[..1], time)?;
    let sixteen = writers(&documents, time)?;
    drop((documents, space));
    peer.shutdown().await;
    Ok(figures(one, sixteen))
}

/// A thread for each document; durable edits a second of all of them.
fn writers(documents: &[Document], time: Duration) -> Result<f64> {
    let began = clock::now();
    let counts: Vec<Result<u64>> = std::thread::scope(|scope| {
        let writers: Vec<_> = documents
            .iter()
            .map(|document| {
                scope.spawn(move || {
                    let mut count = 0u64;
                    while began.elapsed() < time {
                        document.edit(|edit| edit.set("/count", count))?;
                        block_on(document.saved())?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let elapsed = began.elapsed();
    let total: u64 = counts.into_iter().sum::<Result<u64>>()?;
    Ok(total as f64 / elapsed.as_secs_f64())
}

fn floor(time: Duration) -> Result<Figures> {
    let directory = tempfile::tempdir()?;
    Ok(figures(single_commits(directory.path(), time)?, group_commits(directory.path(), time)?))
}

fn single_commits(directory: &Path, time: Duration) -> Result<f64> {
    let database = Database::create(directory.join("single.redb"))?;
    let began = clock::now();
    let mut count = 0u64;
    while began.elapsed() < time {
        commit(&database, &[count])?;
        count += 1;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn commit(database: &Database, keys: &[u64]) -> Result<()> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for key in keys {
            table.insert(key, &VALUE[..])?;
        }
    }
    // redb's default durability is Immediate: this returns after the fsync.
    transaction.commit()?;
    Ok(())
}

/// What the writers wait for and the committer takes.
#[derive(Default)]
struct Queue {
    pending: Vec<u64>,
    last: u64,
    durable: u64,
    stopped: bool,
}

#[derive(Default)]
struct Group {
    queue: Mutex<Queue>,
    asked: Condvar,
    answered: Condvar,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One value, and the wait until it is durable; `false` when the run is over.
    fn write(&self) -> bool {
        let mut queue = self.lock();
        if queue.stopped {
            return false;
        }
        queue.last += 1;
        let own = queue.last;
        queue.pending.push(own);
        self.asked.notify_one();
        while queue.durable < own && !queue.stopped {
            queue = self.answered.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.durable >= own
    }

    /// Everything that came together while the last commit was under way.
    fn take(&self) -> Vec<u64> {
        let mut queue = self.lock();
        while queue.pending.is_empty() {
            queue = self.asked.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut queue.pending)
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.answered.notify_all();
    }
}

fn group_commits(directory: &Path, time: Duration) -> Result<f64> {
    let database = Database::create(directory.join("group.redb"))?;
    let group = Group::default();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| while group.write() {});
        }
        let result = commit_groups(&database, &group, time);
        group.stop();
        result
    })
}

fn commit_groups(database: &Database, group: &Group, time: Duration) -> Result<f64> {
    let began = clock::now();
    let mut count = 0usize;
    while began.elapsed() < time {
        let keys = group.take();
        commit(database, &keys)?;
        count += keys.len();
        group.lock().durable = keys.last().copied().unwrap_or_default();
        group.answered.notify_all();
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_writes_alone_and_in_groups() {
        let figures = floor(Duration::from_millis(300)).unwrap();
        let figure = |name: &str| figures[name].as_f64().unwrap();
        assert!(figure("per_s_1") > 0.0 && figure("per_s_16") > 0.0, "{figures:?}");
    }
}
