//! The redb tables that stand for the engine's: their names, and reading a row of one with its checksum.

use anabranch_engine::storage::Table;
use redb::{AccessGuard, TableDefinition};

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

/// The key and value of a row, once the checksum was found right.
pub(crate) fn read(table: Table, row: &RawRow<'_>) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
    let key = row.0.value();
    let value = checksum::open(table as u8, key, row.1.value()).ok_or_else(|| wrong_row(table, key))?;
    Ok((key.to_vec(), value.to_vec()))
}

/// Checks a row that is not wanted itself.
pub(crate) fn verify(table: Table, row: &RawRow<'_>) -> Result<(), Trouble> {
    let key = row.0.value();
    checksum::open(table as u8, key, row.1.value()).map(|_| ()).ok_or_else(|| wrong_row(table, key))
}

fn wrong_row(table: Table, key: &[u8]) -> Trouble {
    let key: String = key.iter().take(256).map(|byte| format!("{byte:02x}")).collect();
    Trouble::Row(format!("the row {key} in table {} does not match its checksum", table.name()))
}
