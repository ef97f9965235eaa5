//! The requests, carried out on an open redb database.

use std::mem::ManuallyDrop;
use std::ops::Bound;

use anabranch_engine::storage::{Image, Row, Scanned, Table};
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata, WriteTransaction};

use crate::checksum;
use crate::error::Trouble;
use crate::tables::{self, definition};

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
    }
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
/// Keys are only protected together with their values, so a damaged key could make redb's search miss rows. It then
/// stands right beside where the search ended, and so the neighbours of the range are checked as well.
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
    verify_neighbour(&open, table, (Bound::Unbounded, Bound::Excluded(from)))?;
    let end = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
    let mut bytes = 0;
    for row in open.range::<&[u8]>((Bound::Included(from), end))? {
        let row = row?;
        if !scanned.rows.is_empty() && bytes >= bytes_max {
            scanned.more = true;
            return Ok(scanned);
        }
        let (key, value) = tables::read(table, &row)?;
        let follows = scanned.rows.last().map_or(from <= key.as_slice(), |(last, _)| *last < key);
        if !follows || (!to.is_empty() && key.as_slice() >= to) {
            return Err(out_of_order(table));
        }
        bytes += key.len() + value.len();
        scanned.rows.push((key, value));
    }
    if !to.is_empty() {
        verify_neighbour(&open, table, (Bound::Included(to), Bound::Unbounded))?;
    }
    Ok(scanned)
}

/// Checks the row next to a scanned range: the last one before it, or the first one after it.
fn verify_neighbour(
    open: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    table: Table,
    bounds: (Bound<&[u8]>, Bound<&[u8]>),
) -> Result<(), Trouble> {
    let mut range = open.range::<&[u8]>(bounds)?;
    let row = if bounds.0 == Bound::Unbounded { range.next_back() } else { range.next() };
    let Some(row) = row.transpose()? else { return Ok(()) };
    tables::verify(table, &row)?;
    let key = row.0.value();
    let inside = match bounds {
        (_, Bound::Excluded(end)) => key < end,
        (Bound::Included(start), _) => key >= start,
        _ => true,
    };
    if inside { Ok(()) } else { Err(out_of_order(table)) }
}

/// Every row that a replica starts from.
pub(crate) fn image(database: &Database) -> Result<Image, Trouble> {
    let reading = database.begin_read()?;
    let mut image = Image::default();
    for table in Table::IN_IMAGE {
        let open = reading.open_table(definition(table))?;
        let first = image.rows.len();
        for row in open.range::<&[u8]>(..)? {
            let (key, value) = tables::read(table, &row?)?;
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
