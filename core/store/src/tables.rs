//! The redb tables that stand for the engine's: their names, and reading a row of one with its checksum.

use anabranch_engine::storage::Table;
use redb::{AccessGuard, ReadableTable, TableDefinition};

use crate::checksum;
use crate::error::Trouble;

/// Keys and values are bytes. The number behind the dash is the version of the table's layout.
pub(crate) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Says which store this is; its own form never changes ([`crate::format`]).
pub(crate) const FORMAT: Definition = TableDefinition::new("format-1");
/// What stands for the table number in the checksum of the format row.
pub(crate) const FORMAT_NUMBER: u8 = 255;

/// The redb table of an engine table.
pub(crate) const fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Meta => "meta-1",
        Table::Spaces => "spaces-1",
        Table::Members => "members-1",
        Table::Documents => "documents-1",
        Table::Runs => "runs-1",
        Table::Feed => "feed-1",
        Table::AclRefs => "acl_refs-1",
        Table::Peers => "peers-1",
    })
}

/// A row as redb hands it out.
pub(crate) type RawRow<'a> = (AccessGuard<'a, &'static [u8]>, AccessGuard<'a, &'static [u8]>);

/// Checks a row and gives its key.
pub(crate) fn verify<'a>(table: Table, row: &'a RawRow<'_>) -> Result<&'a [u8], Trouble> {
    let key = row.0.value();
    match checksum::open(table as u8, key, row.1.value()) {
        Some(_) => Ok(key),
        None => Err(wrong_row(table, key)),
    }
}

/// The key and value of a row that was checked.
pub(crate) fn owned(row: &RawRow<'_>) -> (Vec<u8>, Vec<u8>) {
    (row.0.value().to_vec(), row.1.value()[checksum::LEN..].to_vec())
}

/// Reads the value of one row that is there, and checks it.
pub(crate) fn get(
    open: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: Table,
    key: &[u8],
) -> Result<Vec<u8>, Trouble> {
    let value = open.get(key)?.ok_or_else(|| wrong_row(table, key))?;
    checksum::open(table as u8, key, value.value()).map(<[u8]>::to_vec).ok_or_else(|| wrong_row(table, key))
}

fn wrong_row(table: Table, key: &[u8]) -> Trouble {
    let key: String = key.iter().take(256).map(|byte| format!("{byte:02x}")).collect();
    Trouble::Row(format!("the row {key} in table {} does not match its checksum", table.name()))
}
