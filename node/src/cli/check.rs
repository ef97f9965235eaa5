//! `anabranch check`: whether everything in a store can be read.

use serde::Serialize;

use crate::directory::Directory;
use crate::show::{Show, count};
use anabranch_api::Failure;

/// One table of the store.
#[derive(Debug, Serialize)]
struct TableLine {
    table: &'static str,
    rows: u64,
    bytes: u64,
    /// Keys of rows that are not what was written, in hex.
    damaged: Vec<String>,
}

/// Reads the whole store of a directory that no node runs on.
pub(crate) fn check(directory: &Directory, show: Show) -> Result<(), Failure> {
    let mut damaged = 0;
    for table in anabranch::check(directory.path())? {
        damaged += table.damaged.len();
        let keys = table.damaged.iter().map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect());
        let line = TableLine { table: table.name, rows: table.rows, bytes: table.bytes, damaged: keys.collect() };
        show.one(&line, |line| {
            let bad = match line.damaged.len() {
                0 => String::new(),
                some => format!("  {} DAMAGED", count(some, "row")),
            };
            let (rows, bytes) = (count(line.rows as usize, "row"), count(line.bytes as usize, "byte"));
            format!("{:12}  {rows:>14}  {bytes:>18}{bad}", line.table)
        })?;
    }
    if damaged > 0 {
        return Err(Failure::failed(format!(
            "{} damaged: the next `anabranch run` rebuilds their documents from what could be read; peers send the rest",
            count(damaged, "row"),
        )));
    }
    show.remark("every row is as it was written, by its checksum; what the rows say was not looked at")
}
