//! Store requests in virtual time: executed on the real store over a disk that can fail, answered some time later, in
//! order. A process may die between the two.

use std::collections::VecDeque;

use anabranch_engine::Input;
use anabranch_engine::id::SpaceId;
use anabranch_engine::storage::{CommitId, Failure, Image, Reply, Request, Row, ScanId, Table};
use anabranch_store::backend::crashable::{Disk, Fault};
use anabranch_store::{OpenError, Store};

use super::plan::Crash;
use super::world::{Happening, World};
use super::{Kind, SECONDS};

/// A process's open store and what it still has to do.
#[derive(Debug)]
pub struct OpenStore {
    store: Store,
    requests: VecDeque<Submitted>,
    /// What commits that failed had to write: the store has it, and may write it yet.
    unwritten: Vec<Row>,
    /// When the last request so far will be answered.
    last: u64,
}

#[derive(Debug)]
enum Submitted {
    /// The disk has not begun.
    Waiting(Request),
    /// It is done, the process has not been told.
    Done {
        reply: Reply,
        /// What a commit wrote.
        rows: Vec<Row>,
    },
}

impl OpenStore {
    /// A store with nothing to do.
    pub fn new(store: Store) -> Self {
        Self { store, requests: VecDeque::new(), unwritten: Vec::new(), last: 0 }
    }

    /// Writes these rows for a replica that does not run.
    pub(super) fn write(&self, rows: Vec<Row>) -> Result<(), Failure> {
        match self.store.execute(Request::Commit { id: CommitId(1), rows }) {
            Reply::Committed { result, .. } => result,
            Reply::Scanned { .. } => Ok(()),
        }
    }

    /// The image that it starts with.
    pub(super) fn image(&self) -> Result<Image, Failure> {
        self.store.image()
    }

    /// Nothing waits for the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Every row.
    pub(super) fn rows(&self) -> Result<Vec<super::checkers::authorised::Row>, Failure> {
        let mut rows = self.store.image()?.rows;
        let mut from = Vec::new();
        loop {
            let (table, to, bytes_max) = (Table::Runs, vec![u8::MAX; 128], usize::MAX);
            let request = Request::Scan { id: ScanId(0), table, from, to, bytes_max };
            let Reply::Scanned { result, .. } = self.store.execute(request) else { return Ok(rows) };
            let scanned = result?;
            let last = scanned.rows.last().map(|(key, _)| [key, &[0][..]].concat());
            rows.extend(scanned.rows.into_iter().map(|(key, value)| (table, key, value)));
            match last {
                Some(after) if scanned.more => from = after,
                _ => return Ok(rows),
            }
        }
    }

    /// Every row that can be read.
    pub(super) fn readable_rows(&self) -> Vec<super::checkers::authorised::Row> {
        let mut rows = self.store.image().map(|image| image.rows).unwrap_or_default();
        let (table, from, to, bytes_max) = (Table::Runs, Vec::new(), Vec::new(), usize::MAX);
        let request = Request::Salvage { id: ScanId(0), table, from, to, bytes_max };
        if let Reply::Scanned { result: Ok(scanned), .. } = self.store.execute(request) {
            rows.extend(scanned.rows.into_iter().map(|(key, value)| (table, key, value)));
        }
        rows
    }

    /// Every membership entry in the store, with its space.
    pub(super) fn entries(&self) -> Vec<(SpaceId, Vec<u8>)> {
        let rows = self.store.image().map(|image| image.rows).unwrap_or_default();
        rows.into_iter()
            .filter(|(table, _, _)| *table == Table::Members)
            .filter_map(|(_, key, entry)| Some((SpaceId(*key.first_chunk()?), entry)))
            .collect()
    }

    /// Begins with the first request that waits for the disk, if one of the kind that writes does. True if it did.
    pub(super) fn execute_a_commit(&mut self) -> bool {
        let waiting = self.requests.iter_mut().find(|request| matches!(request, Submitted::Waiting(_)));
        match waiting {
            Some(request @ Submitted::Waiting(Request::Commit { .. })) => {
                request.execute(&self.store);
                true
            }
            _ => false,
        }
    }
}

impl Submitted {
    fn execute(&mut self, store: &Store) {
        if let Self::Waiting(request) = self {
            let reply = store.execute(request.clone());
            let rows = match request {
                Request::Commit { rows, .. } => std::mem::take(rows),
                Request::Resume { .. } | Request::Scan { .. } | Request::Salvage { .. } => Vec::new(),
            };
            *self = Self::Done { reply, rows };
        }
    }
}

impl World {
    pub(super) fn store(&mut self, replica: usize, request: Request) {
        let disk = &self.options.disk;
        let (low, high, permille, tail) = (disk.latency_min, disk.latency_max, disk.tail_permille, disk.tail_max);
        let latency = self.dice.disk.heavy(low, high, permille, tail);
        let latency = if self.replicas[replica].ailments.slow_disk() {
            self.dice.disk.between(SECONDS / 10, 10 * SECONDS)
        } else {
            latency
        };
        let early = self.dice.disk.percent(50);
        let now = self.now;
        let doomed =
            if matches!(request, Request::Commit { .. }) { self.replicas[replica].doomed.take() } else { None };
        if let Request::Commit { rows, .. } = &request {
            self.check_commit(replica, rows);
        }
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        let number = process.number;
        let store = &mut process.store;
        store.requests.push_back(Submitted::Waiting(request));
        if let Some(down) = doomed {
            return self.crash(replica, Crash::MidRequest, down);
        }
        // The disk may be done long before the process hears of it, or only just then.
        if early {
            for request in &mut store.requests {
                request.execute(&store.store);
            }
        }
        store.last = store.last.max(now + latency);
        let at = store.last;
        self.schedule_at(at, Happening::Stored { replica, process: number });
    }

    pub(super) fn stored(&mut self, replica: usize, process: u64) {
        let Some(running) = self.process(replica, process) else { return };
        let store = &mut running.store;
        let Some(mut request) = store.requests.pop_front() else { return };
        request.execute(&store.store);
        let Submitted::Done { reply, rows } = request else { return };
        store.unwritten.extend(rows);
        if matches!(reply, Reply::Committed { result: Ok(()), .. }) {
            let rows = std::mem::take(&mut store.unwritten);
            self.ledger.stored(replica, &rows);
        }
        let failure = match &reply {
            Reply::Committed { result, .. } => result.as_ref().err(),
            Reply::Scanned { result, .. } => result.as_ref().err(),
        };
        if let Some(failure) = failure
            && !self.replicas[replica].may_fail()
        {
            let text = format!("#{replica}: {failure}");
            return self.fail(Kind::Safety, "store", text);
        }
        if let Reply::Committed { result, .. } = &reply {
            self.watch.answered(replica, result.is_ok());
        }
        self.feed(replica, Input::Stored(reply));
    }

    /// The disk of a replica has no room, or fails, from some call on, until the replica is opened again.
    pub(super) fn fail_disk(&mut self, replica: usize, after: u64, fault: Fault) {
        let replica = &mut self.replicas[replica];
        if replica.process.is_some() && replica.has_a_sound_disk() {
            replica.disk_failed = true;
            replica.disk.fail_after(after, fault);
            match fault {
                Fault::Full => self.stats.full_disks += 1,
                _ => self.stats.broken_disks += 1,
            }
        }
    }

    /// A second process opens the store of a running one: it is told, and the first one goes on.
    pub fn start_second(&mut self, replica: usize) {
        let there = &self.replicas[replica];
        // A store that failed has let go of its file; then the directory is locked, which a simulated disk has not.
        if there.process.is_none() || there.disk_failed {
            return;
        }
        self.stats.second_processes += 1;
        let text = match Store::open_with_backend(there.disk.backend()) {
            Err(OpenError::InUse { .. }) => return,
            Err(_) if there.may_fail() => return,
            Err(error) => error.to_string(),
            Ok(_) => "the store opens".to_owned(),
        };
        self.fail(Kind::Safety, "one process at a time", format!("#{replica}, for a second process: {text}"));
    }

    /// Takes note of how far the disk was when a process dies.
    pub(super) fn count_requests(&mut self, replica: usize) {
        let Some(process) = &self.replicas[replica].process else { return };
        let requests = &process.store.requests;
        self.stats.deaths_before_execution +=
            u64::from(requests.iter().any(|request| matches!(request, Submitted::Waiting(Request::Commit { .. }))));
        self.stats.deaths_before_answer += u64::from(
            requests.iter().any(|request| matches!(request, Submitted::Done { reply: Reply::Committed { .. }, .. })),
        );
    }
}

/// A disk with the same content that no earlier connection writes to: what a killed process leaves, whose writes the
/// operating system still has.
pub(super) fn as_left_by_a_kill(disk: &Disk) -> Disk {
    Disk::from_image(disk.image())
}
