//! What is being read from the store, and what for.

use alloc::collections::BTreeMap;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::input::{CommandId, SessionId};
use crate::engine::output::{CommandError, Output};
use crate::engine::usage::Usage;
use crate::feed::FeedRow;
use crate::id::{DeviceId, SpaceId};
use crate::limits::SCAN_BYTES;
use crate::storage::{Failure, Request, ScanId, Scanned, Table, document_key, prefix_end};
use crate::sync::transfer::Job;

/// What a page is read for. Documents are named with their generation.
#[derive(Debug)]
pub(super) enum Scan {
    Open(DocumentKey, u64),
    Leftovers(DocumentKey, u64),
    Transfer { session: SessionId, key: DocumentKey, job: Job },
    Feed { command: CommandId, limit: usize, rows: Vec<FeedRow> },
    Purge(SpaceId, Table),
    Usage { command: CommandId, space: SpaceId, usage: BTreeMap<DeviceId, Usage> },
}

impl Scan {
    /// The command that waits for it.
    fn command(&self) -> Option<CommandId> {
        match self {
            Self::Feed { command, .. } | Self::Usage { command, .. } => Some(*command),
            Self::Open(..) | Self::Leftovers(..) | Self::Transfer { .. } | Self::Purge(..) => None,
        }
    }
}

/// The scans under way.
#[derive(Debug, Default)]
pub(super) struct Scans {
    under_way: BTreeMap<ScanId, Scan>,
    last: u64,
}

impl Scans {
    /// Notes one; its answer comes under this id.
    fn begin(&mut self, scan: Scan) -> ScanId {
        self.last += 1;
        let id = ScanId(self.last);
        self.under_way.insert(id, scan);
        id
    }

    /// Forgets all of them. Returns the commands that wait for one.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = CommandId> {
        core::mem::take(&mut self.under_way).into_values().filter_map(|scan| scan.command())
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }
}

impl Engine {
    /// Asks for the rows of a table from one key up to another, of about so many bytes. One damaged row fails it.
    pub(super) fn scan(&mut self, scan: Scan, table: Table, from: Vec<u8>, to: Vec<u8>, bytes_max: usize) {
        let id = self.scans.begin(scan);
        self.out(Output::Store(Request::Scan { id, table, from, to, bytes_max }));
    }

    /// Asks for a page of a document's runs.
    pub(super) fn scan_runs(&mut self, scan: Scan, key: DocumentKey, from: Vec<u8>) {
        self.scan(scan, Table::Runs, from, prefix_end(&document_key(&key.0, &key.1)), SCAN_BYTES);
    }

    /// Asks for a page of what is readable of a document's runs.
    pub(super) fn salvage_runs(&mut self, scan: Scan, key: DocumentKey, from: Vec<u8>) {
        self.salvage(scan, from, prefix_end(&document_key(&key.0, &key.1)));
    }

    /// Asks for a page of runs. Rows that cannot be read are named, not fatal.
    pub(super) fn salvage(&mut self, scan: Scan, from: Vec<u8>, to: Vec<u8>) {
        let id = self.scans.begin(scan);
        self.out(Output::Store(Request::Salvage { id, table: Table::Runs, from, to, bytes_max: SCAN_BYTES }));
    }

    /// A page was read, or could not be.
    pub(super) fn scanned(&mut self, id: ScanId, result: Result<Scanned, Failure>) {
        let Some(scan) = self.scans.under_way.remove(&id) else { return };
        let scanned = match (result, &scan) {
            (Ok(scanned), _) => scanned,
            (Err(Failure::Damaged(error)), Scan::Open(key, generation)) => {
                return self.opening_failed(*key, *generation, &error);
            }
            (Err(Failure::Damaged(error)), Scan::Leftovers(key, generation)) => {
                return self.leftovers_unreadable(*key, *generation, &error);
            }
            (Err(Failure::Damaged(error)), Scan::Transfer { session, key, .. }) => {
                self.transfer_ended(*session, key);
                return self.mend_document(*key, &error);
            }
            (Err(failure @ Failure::Damaged(_)), Scan::Usage { command, .. }) => {
                return self.reply(*command, Err(CommandError::Damaged(failure.to_string())));
            }
            (Err(failure), _) => return self.stop(failure.to_string()),
        };
        match scan {
            Scan::Open(key, generation) => self.scanned_open(key, generation, scanned),
            Scan::Leftovers(key, generation) => self.scanned_leftovers(key, generation, scanned),
            Scan::Transfer { session, key, job } => self.scanned_transfer(session, key, job, scanned),
            Scan::Feed { command, limit, rows } => self.scanned_feed(command, limit, rows, &scanned),
            Scan::Purge(space, table) => self.scanned_purge(space, table, scanned),
            Scan::Usage { command, space, usage } => self.scanned_usage(command, space, usage, scanned),
        }
    }
}
