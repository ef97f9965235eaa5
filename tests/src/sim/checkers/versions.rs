//! I15 upgrade: every row that is written has the version that the golden files have, so that whoever reads those reads it
//! too. There is one version of everything so far. That a store of version 1 opens is shown by `core/store/tests/golden.rs`,
//! that rows and messages have the documented bytes by the engine's golden tests; with a second version, replicas of both
//! in one world belong here.

use anabranch_engine::storage::{Row, Table};
use minicbor::Decoder;

/// The checker's name.
pub const CHECKER: &str = "I15 upgrade";

const RECORD: &str = include_str!("../../../../core/engine/golden/document_record.hex");
const RUN: &str = include_str!("../../../../core/engine/golden/run_stored.hex");
const ENTRY: &str = include_str!("../../../../core/engine/golden/membership-genesis.hex");

/// Looks at rows as they are written.
///
/// # Errors
/// The first of another version than the golden ones.
pub fn golden(rows: &[Row]) -> Result<(), String> {
    for row in rows {
        let golden = match row.table {
            Table::Documents => RECORD,
            Table::Runs => RUN,
            Table::Members => ENTRY,
            Table::Meta | Table::Spaces | Table::Feed | Table::AclRefs | Table::Peers => continue,
        };
        let Some(value) = &row.value else { continue };
        let expected = version(row.table, &bytes(golden)).expect("golden files can be read");
        let found = version(row.table, value);
        if found != Some(expected) {
            return Err(format!("a row of {} has version {found:?}, the golden one {expected}", row.table.name()));
        }
    }
    Ok(())
}

/// The version in a row's value.
fn version(table: Table, value: &[u8]) -> Option<u8> {
    let mut decoder = Decoder::new(value);
    decoder.array().ok()?;
    if table == Table::Members {
        // A body and its signature; the version is the body's.
        let body = decoder.bytes().ok()?;
        return version(Table::Documents, body);
    }
    decoder.u8().ok()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.trim().chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_another_version_is_seen() {
        for (table, hex) in [(Table::Documents, RECORD), (Table::Runs, RUN), (Table::Members, ENTRY)] {
            let value = bytes(hex);
            let row = |value: Vec<u8>| [Row { table, key: vec![1], value: Some(value) }];
            assert_eq!(golden(&row(value.clone())), Ok(()));
            // The version stands behind the head of its array, for an entry behind the heads of the body too.
            let at = if table == Table::Members { value.iter().position(|byte| *byte == 2).unwrap() } else { 1 };
            let mut later = value;
            later[at] += 1;
            let says = format!("version Some({}), the golden one {}", later[at], later[at] - 1);
            assert!(golden(&row(later)).unwrap_err().contains(&says), "{table:?}");
        }
    }
}
