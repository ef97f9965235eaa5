//! I7 durability: a replica that starts finds on its disk what one of its commits left, not less than the last one that the
//! store called done, and nothing in between; and each commit leaves whole documents: a record, the newest run of every
//! actor in it, the feed's row. So what was saved survives a kill and a power cut, what was not may be gone, and never half
//! of anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::feed::FeedRow;
use anabranch_engine::storage::{Row, Table, feed_key, run_key};

use crate::sim::ledger::Place;

/// The checker's name.
pub const CHECKER: &str = "I7 durability";

/// Rows by table and key; of values the hash.
pub type Rows = BTreeMap<(Table, Vec<u8>), [u8; 32]>;

/// What every replica's disk must hold.
#[derive(Debug, Clone, Default)]
pub struct Durability {
    disks: BTreeMap<usize, Disk>,
    /// Every row that a store was ever asked to write.
    written: BTreeSet<(Table, Vec<u8>, [u8; 32])>,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    /// As the last commit left it that was called done.
    done: Rows,
    /// Handed over and not called done, the oldest first.
    open: VecDeque<Vec<Row>>,
    /// Some of it was found to be gone: the next start shows what is there.
    doubtful: bool,
}

impl Durability {
    /// A commit is handed to the store; `documents` are the records in it.
    ///
    /// # Errors
    /// It leaves half a document.
    pub fn asked(&mut self, replica: usize, rows: &[Row], documents: &[(Place, DocumentRecord)]) -> Result<(), String> {
        let values = rows.iter().filter_map(|row| Some((row.table, row.key.clone(), value_hash(row.value.as_ref()?))));
        self.written.extend(values);
        let disk = self.disks.entry(replica).or_default();
        disk.open.push_back(rows.to_vec());
        let is_there = |table: Table, key: &[u8]| {
            let written = disk.open.iter().flatten().rev().find(|row| row.table == table && row.key == key);
            written.map_or_else(|| disk.done.contains_key(&(table, key.to_vec())), |row| row.value.is_some())
        };
        for ((space, document), record) in documents {
            for (actor, proof) in &record.frontier.actors {
                let last = proof.header.last_seq;
                if !is_there(Table::Runs, &run_key(space, document, proof.lamport, actor, last)) {
                    return Err(format!(
                        "#{replica} commits that {document:.8} has change {last} of actor {actor:.8}, and not the change"
                    ));
                }
            }
            let told = rows.iter().filter(|row| row.table == Table::Feed).any(|row| {
                let read = row.value.as_ref().and_then(|value| FeedRow::from_stored(&row.key, value).ok());
                read.is_some_and(|read| {
                    (read.space, read.document) == (*space, *document)
                        && read.heads == record.heads
                        && row.key == feed_key(read.seq)
                })
            });
            if !told {
                return Err(format!("#{replica} commits a version of {document:.8}, and the feed is not told"));
            }
        }
        Ok(())
    }

    /// The store has answered the oldest commit. One that it calls failed is on disk or not: the next start shows it.
    pub fn answered(&mut self, replica: usize, done: bool) {
        let disk = self.disks.entry(replica).or_default();
        if done && let Some(rows) = disk.open.pop_front() {
            apply(&mut disk.done, &rows);
        }
    }

    /// A replica has another disk than it had: whatever it holds is to be there from now on.
    pub fn forget(&mut self, replica: usize) {
        self.disks.remove(&replica);
    }

    /// What a disk holds, however damaged, was written once.
    ///
    /// # Errors
    /// Nobody wrote one of these rows.
    pub fn genuine(&self, found: &Rows) -> Result<(), String> {
        let mut found = found.iter();
        match found.find(|((table, key), value)| !self.written.contains(&(*table, key.clone(), **value))) {
            None => Ok(()),
            Some(((table, key), _)) => {
                Err(format!("reads a row of {:?} that nobody wrote, its key is {key:02x?}", table.name()))
            }
        }
    }

    /// A salvage has written these rows, records of documents among them that say less than those before.
    pub fn made_anew(&mut self, rows: &[(Table, Vec<u8>, Vec<u8>)]) {
        let made = rows.iter().filter(|(table, ..)| matches!(table, Table::Documents | Table::Feed | Table::Meta));
        self.written.extend(made.map(|(table, key, value)| (*table, key.clone(), value_hash(value))));
    }

    /// Something of what a replica holds was found to be gone.
    pub fn doubt(&mut self, replica: usize) {
        self.disks.entry(replica).or_default().doubtful = true;
    }

    /// A replica starts on a disk with these rows.
    ///
    /// # Errors
    /// No commit has left them so.
    pub fn started(&mut self, replica: usize, found: Rows) -> Result<(), String> {
        let Some(disk) = self.disks.get_mut(&replica).filter(|disk| !disk.doubtful) else {
            self.disks.insert(replica, Disk { done: found, ..Disk::default() });
            return Ok(());
        };
        let mut expected = core::mem::take(&mut disk.done);
        let mut left = disk.open.len();
        while expected != found {
            let Some(rows) = disk.open.pop_front() else {
                let differs = |(key, value): &(&(Table, Vec<u8>), &[u8; 32])| found.get(*key) != Some(value);
                let lost = expected.iter().filter(differs).map(|((table, _), _)| table.name()).collect::<Vec<_>>();
                let more = found.keys().filter(|key| !expected.contains_key(*key)).count();
                return Err(format!(
                    "#{replica} starts with what no commit left: against the last of {left}, changed or gone rows of \
                     {lost:?}, and {more} more"
                ));
            };
            apply(&mut expected, &rows);
            left += 1;
        }
        *disk = Disk { done: expected, ..Disk::default() };
        Ok(())
    }
}

/// Rows with the hashes of their values.
pub fn hashed(rows: Vec<(Table, Vec<u8>, Vec<u8>)>) -> Rows {
    rows.into_iter().map(|(table, key, value)| ((table, key), value_hash(&value))).collect()
}

/// The hash by which values are compared.
pub fn value_hash(value: &[u8]) -> [u8; 32] {
    *blake3::hash(value).as_bytes()
}

fn apply(disk: &mut Rows, rows: &[Row]) {
    for row in rows {
        let key = (row.table, row.key.clone());
        match &row.value {
            Some(value) => _ = disk.insert(key, value_hash(value)),
            None => _ = disk.remove(&key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::frontier::Proof;
    use anabranch_engine::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, SpaceId};
    use anabranch_engine::run::RunHeader;

    const PLACE: Place = (SpaceId([1; 32]), DocumentId([2; 16]));

    fn row(key: u8, value: u8) -> Row {
        Row { table: Table::Meta, key: vec![key], value: Some(vec![value]) }
    }

    fn found(rows: &[(u8, u8)]) -> Rows {
        rows.iter().map(|(key, value)| ((Table::Meta, vec![*key]), value_hash(&[*value]))).collect()
    }

    #[test]
    fn a_disk_that_no_commit_left_so_is_seen() {
        let mut durability = Durability::default();
        durability.started(0, Rows::new()).unwrap();
        durability.asked(0, &[row(1, 1), row(2, 1)], &[]).unwrap();
        durability.answered(0, true);
        durability.asked(0, &[row(1, 2), row(3, 2)], &[]).unwrap();
        for allowed in [found(&[(1, 1), (2, 1)]), found(&[(1, 2), (2, 1), (3, 2)])] {
            assert_eq!(durability.clone().started(0, allowed), Ok(()));
        }
        for (half, why) in [
            (found(&[(1, 2), (2, 1)]), "half of the second"),
            (found(&[(1, 1)]), "not all of the first"),
            (Rows::new(), "nothing"),
            (found(&[(1, 1), (2, 1), (9, 9)]), "something else"),
        ] {
            assert!(durability.clone().started(0, half).is_err(), "{why}");
        }
        durability.forget(0);
        assert_eq!(durability.started(0, found(&[(9, 9)])), Ok(()));
    }

    #[test]
    fn a_row_that_nobody_wrote_is_seen() {
        let mut durability = Durability::default();
        let run = |value: u8| Row { table: Table::Runs, key: vec![1], value: Some(vec![value]) };
        durability.asked(0, &[run(1)], &[]).unwrap();
        durability.forget(0);
        let found = |value: u8| Rows::from([((Table::Runs, vec![1]), value_hash(&[value]))]);
        assert_eq!(durability.genuine(&found(1)), Ok(()));
        assert!(durability.genuine(&found(2)).unwrap_err().contains("that nobody wrote"));
        let record = (Table::Documents, vec![1], vec![9]);
        let again = Rows::from([((Table::Documents, vec![1]), value_hash(&[9]))]);
        assert!(durability.genuine(&again).is_err());
        durability.made_anew(&[record]);
        assert_eq!(durability.genuine(&again), Ok(()));
        durability.doubt(0);
        assert_eq!(durability.started(0, found(1)), Ok(()), "whatever is there");
        assert!(durability.started(0, Rows::new()).is_err(), "and that stays");
    }

    #[test]
    fn a_record_without_its_run_or_its_feed_row_is_seen() {
        let header = RunHeader {
            space: PLACE.0,
            document: PLACE.1,
            acl: AclHash([0; 32]),
            device: DeviceId([0; 32]),
            actor: ActorId([1; 16]),
            first_seq: 1,
            last_seq: 3,
            tip: ChangeHash([3; 32]),
            signature: [0; 64],
        };
        let mut record = DocumentRecord { heads: vec![header.tip], ..DocumentRecord::default() };
        record.frontier.accept(Proof { header, first_lamport: 1, lamport: 7 });
        let key = run_key(&PLACE.0, &PLACE.1, 7, &ActorId([1; 16]), 3);
        let run = Row { table: Table::Runs, key, value: Some(vec![1]) };
        let feed = FeedRow { seq: 1, space: PLACE.0, document: PLACE.1, heads: record.heads.clone() };
        let feed = Row { table: Table::Feed, key: feed_key(1), value: Some(feed.to_stored()) };
        let documents = [(PLACE, record)];
        let asked = |rows: &[Row]| Durability::default().asked(0, rows, &documents);
        assert_eq!(asked(&[run.clone(), feed.clone()]), Ok(()));
        assert!(asked(&[feed]).unwrap_err().contains("and not the change"));
        assert!(asked(&[run]).unwrap_err().contains("the feed is not told"));
    }
}
