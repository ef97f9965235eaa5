//! How much of redb's bare rate is left: our commit of three rows against redb's of one row in one table, in turns on
//! the same disk. `cargo run --release -p anabranch-store --example commit_rate -- [DIRECTORY] [SECONDS]`
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark reads the clock and may panic")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anabranch_engine::storage::{Row, Table};
use anabranch_store::Store;
use anabranch_store::conformance::{commit, removal, row};
use redb::{Database, TableDefinition};

const BARE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("bare");

/// What one durable edit writes: a run, its document's record and its feed row.
fn edit(document: u64, seq: u64) -> Vec<Row> {
    let key = [&[9; 32][..], &document.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), &[1; 8]].concat();
    let run = [&key[..], &[3; 16], &seq.to_be_bytes()].concat();
    vec![
        row(Table::Runs, run, vec![seq as u8; 300]),
        row(Table::Documents, key.clone(), vec![seq as u8; 150]),
        removal(Table::Feed, seq.saturating_sub(1000).to_be_bytes()),
        row(Table::Feed, seq.to_be_bytes(), key),
    ]
}

/// Commits for a while, `work` at a time; gives commits a second.
fn rate(seconds: f64, seq: &mut u64, mut work: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    let mut commits = 0;
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        *seq += 1;
        work(*seq);
        commits += 1;
    }
    f64::from(commits) / start.elapsed().as_secs_f64()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("anabranch-commit-rate");
    let seconds: f64 = arguments.next().map_or(1.0, |text| text.parse().expect("seconds as a number"));
    let _ = std::fs::remove_dir_all(&root);
    let store = Store::open(root.join("ours")).expect("the directory can be written");
    let bare = Database::create(root.join("bare.redb")).expect("the directory can be written");
    let (mut ours_seq, mut bare_seq) = (0, 0);
    let bare_commit = |first: u64, values: u64| {
        let writing = bare.begin_write().unwrap();
        {
            let mut table = writing.open_table(BARE).unwrap();
            for seq in first..first + values {
                table.insert(&seq.to_be_bytes()[..], &[seq as u8; 300][..]).unwrap();
            }
        }
        writing.commit().unwrap();
    };
    println!(
        "{:>10} {:>10} {:>7}   {:>10} {:>10} {:>7}",
        "ours/s", "bare/s", "ratio", "16 ours/s", "16 bare/s", "ratio"
    );
    for _ in 0..5 {
        let bare_one = rate(seconds, &mut bare_seq, |seq| bare_commit(seq << 8, 1));
        let ours_one = rate(seconds, &mut ours_seq, |seq| commit(&store, edit(seq % 1000, seq)).unwrap());
        let bare_many = rate(seconds, &mut bare_seq, |seq| bare_commit(seq << 8, 16)) * 16.0;
        let ours_many = rate(seconds, &mut ours_seq, |seq| {
            commit(&store, (0..16).flat_map(|i| edit(i, seq * 16 + i)).collect()).unwrap();
        }) * 16.0;
        let (one, many) = (ours_one / bare_one, ours_many / bare_many);
        println!("{ours_one:>10.0} {bare_one:>10.0} {one:>7.2}   {ours_many:>10.0} {bare_many:>10.0} {many:>7.2}");
    }
    drop(bare);
    for first in (1..100_000).step_by(1000) {
        commit(&store, (first..first + 1000).flat_map(|i| edit(i, (1 << 40) + i)).collect()).unwrap();
    }
    store.close();
    let opening = Instant::now();
    let store = Store::open(root.join("ours")).expect("it was closed well");
    let opened = opening.elapsed();
    let rows = store.image().expect("it was closed well").rows.len();
    println!("opened in {opened:.1?}, image of {rows} rows in {:.1?}", opening.elapsed().saturating_sub(opened));
    let _ = std::fs::remove_dir_all(&root);
}
