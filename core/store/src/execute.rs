//! The requests, carried out on an open redb database.

use std::mem::ManuallyDrop;

use anabranch_engine::storage::{Image, Row, Scanned, Table};
use redb::{Database, Durability, ReadableDatabase, ReadableTableMetadata, WriteTransaction};

use crate::checksum;
use crate::error::Trouble;
use crate::format;
use crate::tables::{self, definition};

/// Values of more bytes than this are copied when the walk over the rows is over: it holds the pages at both of its ends, which may
/// be the same one twice, and a large value has a page of a power of two for itself.
const LARGE_BYTES: usize = 1024 * 1024;

/// Writes all rows in one transaction and returns when they are on disk.
pub(crate) fn commit(database: &Database, rows: &[Row]) -> Result<(), Trouble> {
    if rows.is_empty() {
        // Every earlier commit is on disk already.
        return Ok(());
    }
    // Where redb panics, transaction and tables are left alone: dropping them could panic again, and that aborts.
    let mut writing = ManuallyDrop::new(database.begin_write()?);
    let written = write(&mut writing, rows);
    let writing = ManuallyDrop::into_inner(writing);
    written?;
    writing.commit()?;
    Ok(())
}

fn write(writing: &mut WriteTransaction, rows: &[Row]) -> Result<(), Trouble> {
    writing.set_durability(Durability::Immediate)?;
    // Opening a table costs more than a row: each is opened once.
    for table in Table::ALL {
        let mut rows = rows.iter().filter(|row| row.table == table).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let mut open = ManuallyDrop::new(writing.open_table(definition(table))?);
        let written = rows.try_for_each(|row| write_row(&mut open, row));
        drop(ManuallyDrop::into_inner(open));
        written?;
        if table == Table::Spaces {
            format::count_spaces_version(writing, 0)?;
        }
    }
    Ok(())
}

/// Writes rows that a copy of the spaces had and the store had not. The store knows as much as the copy then.
pub(crate) fn take_over(database: &Database, rows: &[Row], spaces_version: u64) -> Result<(), Trouble> {
    let mut writing = ManuallyDrop::new(database.begin_write()?);
    let written = write(&mut writing, rows).and_then(|()| format::count_spaces_version(&writing, spaces_version));
    let writing = ManuallyDrop::into_inner(writing);
    written?;
    writing.commit()?;
    Ok(())
}

fn write_row(open: &mut redb::Table<'_, &'static [u8], &'static [u8]>, row: &Row) -> Result<(), Trouble> {
    let key = row.key.as_slice();
    match &row.value {
        Some(value) => {
            let mut place = open.insert_reserve(key, checksum::LEN + value.len())?;
            checksum::seal(row.table as u8, key, value, place.as_mut());
        }
        None => {
            open.remove(key)?;
        }
    }
    Ok(())
}

/// Rows with `from <= key < to` in key order; an empty `to` is no bound.
///
/// A key is only protected together with its value, so a damaged one could mislead redb's search or end the walk early.
/// It then stands right beside where the search arrived, or where the walk ended: those rows are checked as well, and
/// the walk ends by our own comparison, with a key that was found right.
pub(crate) fn scan(
    database: &Database,
    table: Table,
    from: &[u8],
    to: &[u8],
    bytes_max: usize,
) -> Result<Scanned, Trouble> {
    let mut scanned = Scanned::default();
    if !to.is_empty() && from >= to {
        return Ok(scanned);
    }
    let open = database.begin_read()?.open_table(definition(table))?;
    if let Some(before) = open.range::<&[u8]>(..from)?.next_back() {
        let before = before?;
        if tables::verify(table, &before)? >= from {
            return Err(out_of_order(table));
        }
    }
    let mut bytes = 0;
    let mut large = Vec::new();
    for row in open.range::<&[u8]>(from..)? {
        let row = row?;
        let key = tables::verify(table, &row)?;
        if scanned.rows.last().map_or(key < from, |(last, _)| key <= last.as_slice()) {
            return Err(out_of_order(table));
        }
        if !to.is_empty() && key >= to {
            break;
        }
        if !scanned.rows.is_empty() && bytes >= bytes_max {
            scanned.more = true;
            break;
        }
        // It was checked, so it has a checksum.
        let value_bytes = row.1.value().len() - checksum::LEN;
        bytes += key.len() + value_bytes;
        if value_bytes > LARGE_BYTES {
            large.push(scanned.rows.len());
            scanned.rows.push((key.to_vec(), Vec::new()));
        } else {
            scanned.rows.push(tables::owned(&row));
        }
    }
    for at in large {
        let (key, value) = &mut scanned.rows[at];
        *value = tables::get(&open, table, key)?;
    }
    Ok(scanned)
}

/// The readable rows with `from <= key < to` in key order; an empty `to` is no bound. Damaged ones are passed over and
/// named where their key is within the range: a key that is damaged itself may say anything, so the walk ends only with
/// one that was found right.
pub(crate) fn salvage(
    database: &Database,
    table: Table,
    from: &[u8],
    to: &[u8],
    bytes_max: usize,
) -> Result<Scanned, Trouble> {
    let mut scanned = Scanned::default();
    let open = database.begin_read()?.open_table(definition(table))?;
    let mut bytes = 0;
    for row in open.range::<&[u8]>(from..)? {
        let row = row?;
        let is_right = tables::verify(table, &row).is_ok();
        let key = row.0.value();
        let is_inside = key >= from && (to.is_empty() || key < to);
        match (is_right, is_inside) {
            (true, false) => break,
            (true, true) => {
                if !scanned.rows.is_empty() && bytes >= bytes_max {
                    scanned.more = true;
                    break;
                }
                let (key, value) = tables::owned(&row);
                bytes += key.len() + value.len();
                scanned.rows.push((key, value));
            }
            (false, true) => scanned.damaged.push(key.to_vec()),
            (false, false) => {}
        }
    }
    Ok(scanned)
}

/// Every row that a replica starts from.
pub(crate) fn image(database: &Database) -> Result<Image, Trouble> {
    let reading = database.begin_read()?;
    let mut image = Image::default();
    for table in Table::IN_IMAGE {
        let open = reading.open_table(definition(table))?;
        let first = image.rows.len();
        for row in open.range::<&[u8]>(..)? {
            let row = row?;
            tables::verify(table, &row)?;
            let (key, value) = tables::owned(&row);
            if image.rows[first..].last().is_some_and(|(_, last, _)| *last >= key) {
                return Err(out_of_order(table));
            }
            image.rows.push((table, key, value));
        }
        // redb keeps the count beside the root: rows that damage hides from the walk are missed here.
        let (found, expected) = ((image.rows.len() - first) as u64, open.len()?);
        if found != expected {
            let text = format!("table {} has {expected} rows, {found} can be read", table.name());
            return Err(Trouble::Row(text));
        }
    }
    Ok(image)
}

fn out_of_order(table: Table) -> Trouble {
    Trouble::Row(format!("the rows of table {} are out of order", table.name()))
}
