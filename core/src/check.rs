//! Reads everything in a store, to find out whether it can be read. Mends nothing.

use std::path::Path;

use anabranch_engine::storage::{Failure, Reply, Request, ScanId, Table};
use anabranch_store::Store;

use crate::{OpenError, StoreProblem};

/// Rows are read in pieces of about so many bytes.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// What was read of one table of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTable {
    /// Its name, as in `docs/storage.md`.
    pub name: &'static str,
    /// Rows that are as they were written, by their checksums.
    pub rows: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Keys of rows that are not, as far as they can be read.
    pub damaged: Vec<Vec<u8>>,
}

/// Reads every row of the store in a directory that no replica runs on, against its checksum. What the rows mean, signatures
/// among it, is not looked at: a replica does that when it needs them.
///
/// # Errors
/// There is no store, it is in use, or so much of it is damaged that its rows cannot be found.
pub fn check(directory: &Path) -> Result<Vec<CheckedTable>, OpenError> {
    let file = directory.join(crate::builder::STORE_FILE);
    if !file.exists() {
        let reason = "there is no replica in it".to_owned();
        return Err(OpenError::Directory { path: directory.to_path_buf(), reason });
    }
    let store = Store::open(directory)?;
    let tables = Table::ALL.into_iter().map(|table| read(&store, table)).collect::<Result<Vec<_>, Failure>>();
    tables.map_err(|failure| {
        let (place, file) = (directory.display().to_string(), file.display().to_string());
        OpenError::Store(match failure {
            Failure::Full(detail) => StoreProblem::Full { place, detail },
            Failure::Damaged(detail) => StoreProblem::Damaged { place, file, detail },
            Failure::Io(detail) | Failure::Gone(detail) => StoreProblem::Io { place, detail },
        })
    })
}

fn read(store: &Store, table: Table) -> Result<CheckedTable, Failure> {
    let mut checked = CheckedTable { name: table.name(), rows: 0, bytes: 0, damaged: Vec::new() };
    let mut from = Vec::new();
    loop {
        let request = Request::Salvage { id: ScanId(0), table, from, to: Vec::new(), bytes_max: PIECE_BYTES };
        let Reply::Scanned { result, .. } = store.execute(request) else {
            return Err(Failure::Io("a store answered another question".to_owned()));
        };
        let scanned = result?;
        checked.rows += scanned.rows.len() as u64;
        checked.bytes += scanned.rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        checked.damaged.extend(scanned.damaged);
        match scanned.rows.last() {
            Some((last, _)) if scanned.more => from = [last.as_slice(), &[0]].concat(),
            _ => return Ok(checked),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::Peer;

    #[test]
    fn every_row_of_a_store_is_read_and_a_directory_without_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(check(directory.path()), Err(OpenError::Directory { .. })));
        assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "a check makes nothing");
        block_on(async {
            let peer = Peer::builder().directory(directory.path()).open().await.unwrap();
            let document = peer.create_space("notes").await.unwrap().create_document().await.unwrap();
            document.edit(|edit| edit.set("/text", "words")).unwrap();
            document.saved().await.unwrap();
            assert!(matches!(check(directory.path()), Err(OpenError::Store(StoreProblem::InUse { .. }))));
            peer.shutdown().await;
        });
        let tables = check(directory.path()).unwrap();
        let rows = |name| tables.iter().find(|table| table.name == name).map(|table| table.rows);
        assert!(rows(Table::Documents.name()) > Some(0) && rows(Table::Runs.name()) > Some(0), "{tables:?}");
        assert!(tables.iter().all(|table| table.damaged.is_empty()));
    }
}
