//! What every executor of storage requests must do, as checks that panic where it does not. Each backend runs them in
//! its tests; the engine relies on nothing beyond them.

use std::collections::BTreeMap;

use anabranch_engine::storage::{CommitId, Failure, Image, Reply, Request, Row, ScanId, Scanned, Table, prefix_end};

use crate::Store;

/// The largest value that is tried, beyond what the engine writes at once.
const VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Checks an executor that need not keep anything. `fresh` gives an empty store each time.
///
/// # Panics
/// Where the store does not do what is asked of it.
pub fn check(fresh: &mut dyn FnMut() -> Store) {
    new_stores_are_empty(&fresh());
    scans_see_earlier_commits_in_key_order(&fresh());
    later_rows_win(&fresh());
    rows_can_be_removed(&fresh());
    tables_are_apart(&fresh());
    ranges_end_before_their_end(&fresh());
    pages_join_without_gap_or_overlap(&fresh());
    an_empty_commit_is_answered(&fresh());
    the_image_is_everything_but_runs(&fresh());
    values_of_all_sizes_come_back(&fresh());
    a_long_history_equals_the_model(&fresh());
}

/// Checks an executor that keeps what it commits. `open` gives the same store each time, empty at first.
///
/// # Panics
/// Where the store does not do what is asked of it, or forgets.
pub fn check_durable(open: &mut dyn FnMut() -> Store) {
    let mut model = Model::default();
    let mut seed = 1;
    for round in 0..8 {
        let store = open();
        model.assert_equals(&store);
        for _ in 0..10 {
            let rows = model.step(&mut seed);
            commit(&store, rows).expect("a commit works");
        }
        model.assert_equals(&store);
        if round % 2 == 0 {
            store.close();
        }
    }
    model.assert_equals(&open());
}

/// Commits rows and gives the answer, checking that it is one to this request.
///
/// # Errors
/// What the store answered.
///
/// # Panics
/// If the store answers something else.
pub fn commit(store: &Store, rows: Vec<Row>) -> Result<(), Failure> {
    let asked = CommitId(rows.len() as u64 + 7);
    match store.execute(Request::Commit { id: asked, rows }) {
        Reply::Committed { id, result } => {
            assert_eq!(id, asked, "the reply names another commit");
            result
        }
        Reply::Scanned { .. } => panic!("a commit was answered with rows"),
    }
}

/// Scans one page and gives the answer, checking that it is one to this request.
///
/// # Errors
/// What the store answered.
///
/// # Panics
/// If the store answers something else.
pub fn scan(store: &Store, table: Table, from: &[u8], to: &[u8], bytes_max: usize) -> Result<Scanned, Failure> {
    let id = ScanId(bytes_max as u64);
    page(store, id, Request::Scan { id, table, from: from.to_vec(), to: to.to_vec(), bytes_max })
}

/// The same for a page of what is readable.
///
/// # Errors
/// What the store answered.
///
/// # Panics
/// If the store answers something else.
pub fn salvage(store: &Store, table: Table, from: &[u8], to: &[u8], bytes_max: usize) -> Result<Scanned, Failure> {
    let id = ScanId(bytes_max as u64 ^ 1);
    page(store, id, Request::Salvage { id, table, from: from.to_vec(), to: to.to_vec(), bytes_max })
}

fn page(store: &Store, asked: ScanId, request: Request) -> Result<Scanned, Failure> {
    match store.execute(request) {
        Reply::Scanned { id, result } => {
            assert_eq!(id, asked, "the reply names another scan");
            result
        }
        Reply::Committed { .. } => panic!("a scan was answered with a commit"),
    }
}

/// A row to write.
pub fn row(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Row {
    Row { table, key: key.into(), value: Some(value.into()) }
}

/// A row to remove.
pub fn removal(table: Table, key: impl Into<Vec<u8>>) -> Row {
    Row { table, key: key.into(), value: None }
}

fn rows_of(store: &Store, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let scanned = scan(store, table, &[], &[], usize::MAX).expect("a scan works");
    assert!(!scanned.more, "everything fits, yet there is more");
    scanned.rows
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn new_stores_are_empty(store: &Store) {
    assert_eq!(store.image(), Ok(Image::default()));
    for table in Table::ALL {
        assert_eq!(rows_of(store, table), []);
    }
}

fn scans_see_earlier_commits_in_key_order(store: &Store) {
    commit(store, vec![row(Table::Runs, "b", "2"), row(Table::Runs, "a", "1")]).expect("a commit works");
    commit(store, vec![row(Table::Runs, "ab", "3"), row(Table::Runs, "", "0")]).expect("a commit works");
    assert_eq!(rows_of(store, Table::Runs), pairs(&[("", "0"), ("a", "1"), ("ab", "3"), ("b", "2")]));
}

fn later_rows_win(store: &Store) {
    let rows = vec![
        row(Table::Feed, "k", "first"),
        row(Table::Meta, "k", "elsewhere"),
        row(Table::Feed, "k", "a longer second"),
        removal(Table::Feed, "gone"),
        row(Table::Feed, "gone", "there"),
        removal(Table::Feed, "gone"),
    ];
    commit(store, rows).expect("a commit works");
    assert_eq!(rows_of(store, Table::Feed), pairs(&[("k", "a longer second")]));
    commit(store, vec![row(Table::Feed, "k", "third")]).expect("a commit works");
    assert_eq!(rows_of(store, Table::Feed), pairs(&[("k", "third")]));
}

fn rows_can_be_removed(store: &Store) {
    commit(store, vec![row(Table::Peers, "a", "1"), row(Table::Peers, "b", "2")]).expect("a commit works");
    commit(store, vec![removal(Table::Peers, "a"), removal(Table::Peers, "never there")]).expect("a commit works");
    assert_eq!(rows_of(store, Table::Peers), pairs(&[("b", "2")]));
}

fn tables_are_apart(store: &Store) {
    for table in Table::ALL {
        commit(store, vec![row(table, "key", table.name())]).expect("a commit works");
    }
    for table in Table::ALL {
        assert_eq!(rows_of(store, table), pairs(&[("key", table.name())]));
    }
}

fn ranges_end_before_their_end(store: &Store) {
    let keys: [&[u8]; 7] = [&[1], &[1, 0], &[1, 255], &[2], &[2, 255, 255], &[255], &[255, 255, 1]];
    commit(store, keys.iter().map(|key| row(Table::Runs, *key, *key)).collect()).expect("a commit works");
    let found = |from: &[u8], to: &[u8]| -> Vec<Vec<u8>> {
        let scanned = scan(store, Table::Runs, from, to, usize::MAX).expect("a scan works");
        scanned.rows.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(found(&[1], &prefix_end(&[1])), [&[1][..], &[1, 0], &[1, 255]], "a prefix is a range");
    assert_eq!(found(&[2], &prefix_end(&[2])), [&[2][..], &[2, 255, 255]]);
    assert_eq!(found(&[255], &prefix_end(&[255])), [&[255][..], &[255, 255, 1]], "an empty end is no end");
    assert_eq!(found(&[1], &[2]), [&[1][..], &[1, 0], &[1, 255]], "the end is not in it");
    assert_eq!(found(&[1, 1], &[2, 1]), [&[1, 255][..], &[2]]);
    assert!(found(&[2], &[2]).is_empty());
    assert!(found(&[2], &[1]).is_empty(), "a range that ends before it begins is empty");
    assert!(found(&[3], &[4]).is_empty());
}

fn pages_join_without_gap_or_overlap(store: &Store) {
    let all: Vec<(Vec<u8>, Vec<u8>)> = (0..100u8).map(|i| (vec![7, i], vec![i; usize::from(i) * 5])).collect();
    commit(store, all.iter().map(|(key, value)| row(Table::Runs, key.clone(), value.clone())).collect())
        .expect("a commit works");
    // What is whole is salvaged as it is read.
    let ways = [scan, salvage];
    for (way, bytes_max) in
        ways.into_iter().flat_map(|way| [0, 1, 2, 100, 1000, 24_950, usize::MAX].map(|bytes_max| (way, bytes_max)))
    {
        let mut found = Vec::new();
        let mut from = vec![7];
        loop {
            let page = way(store, Table::Runs, &from, &prefix_end(&[7]), bytes_max).expect("a scan works");
            assert_eq!(page.damaged, Vec::<Vec<u8>>::new(), "nothing is damaged");
            let bytes: usize = page.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
            let last = page.rows.last().expect("a page that was announced is not empty");
            let before_last = bytes - last.0.len() - last.1.len();
            assert!(page.rows.len() == 1 || before_last < bytes_max, "a page stops at its limit");
            assert!(!page.more || bytes >= bytes_max, "a page with more after it is full");
            from = [last.0.as_slice(), &[0]].concat();
            found.extend(page.rows);
            if !page.more {
                break;
            }
        }
        assert_eq!(found, all, "in pages of {bytes_max} bytes");
    }
}

fn an_empty_commit_is_answered(store: &Store) {
    commit(store, Vec::new()).expect("a commit works");
    assert_eq!(store.image(), Ok(Image::default()));
}

fn the_image_is_everything_but_runs(store: &Store) {
    let mut rows = Vec::new();
    for table in Table::ALL {
        for key in ["b", "a", "c"] {
            rows.push(row(table, key, format!("{key} of {}", table.name())));
        }
    }
    commit(store, rows).expect("a commit works");
    let mut expected = Vec::new();
    for table in Table::IN_IMAGE {
        for key in ["a", "b", "c"] {
            expected.push((table, key.as_bytes().to_vec(), format!("{key} of {}", table.name()).into_bytes()));
        }
    }
    assert_eq!(store.image(), Ok(Image { rows: expected }));
}

fn values_of_all_sizes_come_back(store: &Store) {
    for size in [0, 1, 15, 16, 17, 511, 512, 4080, 4096, 65_536, 1024 * 1024, VALUE_BYTES_MAX] {
        let value: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let key = [b'k'; 300][..(size % 300) + 1].to_vec();
        commit(store, vec![row(Table::Runs, key.clone(), value.clone())]).expect("a commit works");
        assert_eq!(rows_of(store, Table::Runs), [(key.clone(), value)], "a value of {size} bytes");
        commit(store, vec![removal(Table::Runs, key)]).expect("a commit works");
    }
}

fn a_long_history_equals_the_model(store: &Store) {
    let mut model = Model::default();
    let mut seed = 2;
    for _ in 0..60 {
        let rows = model.step(&mut seed);
        commit(store, rows).expect("a commit works");
    }
    model.assert_equals(store);
}

/// What a store should hold.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Model(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Model {
    /// Makes up a commit, in a way that depends only on `seed`, which moves on; applies it here and gives its rows.
    pub fn step(&mut self, seed: &mut u64) -> Vec<Row> {
        let mut next = |limit: u64| {
            // Numerical Recipes' generator; its upper bits are good enough to shuffle test rows.
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) % limit
        };
        let count = 1 + next(12);
        let rows: Vec<Row> = (0..count)
            .map(|_| {
                let table = Table::ALL[next(Table::ALL.len() as u64) as usize];
                let key = [next(4) as u8].repeat(1 + next(20) as usize);
                let length = if next(20) == 0 { next(20_000) } else { next(300) };
                let fill = next(256) as u8;
                if next(5) == 0 { removal(table, key) } else { row(table, key, vec![fill; length as usize]) }
            })
            .collect();
        self.apply(&rows);
        rows
    }

    /// Applies a commit.
    pub fn apply(&mut self, rows: &[Row]) {
        for row in rows {
            let place = (row.table, row.key.clone());
            match &row.value {
                Some(value) => self.0.insert(place, value.clone()),
                None => self.0.remove(&place),
            };
        }
    }

    /// Does what is asked, as a store that never fails.
    pub fn execute(&mut self, request: Request) -> Reply {
        match request {
            Request::Commit { id, rows } => {
                self.apply(&rows);
                Reply::Committed { id, result: Ok(()) }
            }
            Request::Resume { id } => Reply::Committed { id, result: Ok(()) },
            Request::Scan { id, table, from, to, bytes_max } | Request::Salvage { id, table, from, to, bytes_max } => {
                let within = |key: &[u8]| key >= from.as_slice() && (to.is_empty() || key < to.as_slice());
                let mut scanned = Scanned::default();
                let mut bytes = 0;
                for (key, value) in self.rows(table).into_iter().filter(|(key, _)| within(key)) {
                    if !scanned.rows.is_empty() && bytes >= bytes_max {
                        scanned.more = true;
                        break;
                    }
                    bytes += key.len() + value.len();
                    scanned.rows.push((key, value));
                }
                Reply::Scanned { id, result: Ok(scanned) }
            }
        }
    }

    /// The rows of one table.
    pub fn rows(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = self.0.iter().filter(|((of, _), _)| *of == table);
        rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    /// The image of a store that holds this.
    pub fn image(&self) -> Image {
        let rows = |table| self.rows(table).into_iter().map(move |(key, value)| (table, key, value));
        Image { rows: Table::IN_IMAGE.into_iter().flat_map(rows).collect() }
    }

    /// Checks that the store holds exactly this.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_equals(&self, store: &Store) {
        assert_eq!(store.image(), Ok(self.image()));
        for table in Table::ALL {
            assert_eq!(rows_of(store, table), self.rows(table), "table {}", table.name());
        }
    }
}
