//! The row that says: this is an Anabranch store, of this version.

use std::mem::ManuallyDrop;

use anabranch_engine::storage::Table;
use redb::{Database, ReadableDatabase, ReadableTable, TableError, TableHandle, WriteTransaction};

use crate::checksum;
use crate::error::{Refused, Trouble};
use crate::tables::{self, FORMAT, FORMAT_NUMBER};

/// The store format that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;

const KEY: &[u8] = b"format";
/// Counts the commits that changed which spaces there are, so that of a store and the copy of its spaces the one is known that
/// is behind.
const SPACES_VERSION: &[u8] = b"spaces_version";
const MAGIC: &[u8] = b"anabranch store";

/// Accepts a database that holds a store of a known version. One without any table becomes an empty store.
///
/// The row's own form never changes, so that every version can tell every other.
pub(crate) fn check(database: Database) -> Result<Database, Refused> {
    with(database, |database| read_or_initialise(database, true))
}

/// Accepts a database that holds a store of a known version.
pub(crate) fn recognise(database: Database) -> Result<Database, Refused> {
    with(database, |database| read_or_initialise(database, false))
}

fn with(database: Database, look: impl FnOnce(&Database) -> Result<(), Refused>) -> Result<Database, Refused> {
    // Not dropped where redb panics in between: its drop might panic again, and that aborts.
    let database = ManuallyDrop::new(database);
    let result = look(&database);
    let database = ManuallyDrop::into_inner(database);
    result.map(|()| database)
}

fn read_or_initialise(database: &Database, may_initialise: bool) -> Result<(), Refused> {
    let reading = database.begin_read()?;
    let table = match reading.open_table(FORMAT) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => {
            let names: Vec<String> = reading.list_tables()?.map(|table| table.name().to_owned()).take(3).collect();
            drop(reading);
            return if names.is_empty() && may_initialise {
                initialise(database).map_err(Refused::from)
            } else {
                Err(Refused::Foreign(format!("a redb file with the tables {}", names.join(", "))))
            };
        }
        Err(error) => return Err(error.into()),
    };
    let stored = table.get(KEY)?.ok_or_else(|| Trouble::Row("the row `format` is missing".to_owned()))?;
    let value = checksum::open(FORMAT_NUMBER, KEY, stored.value())
        .ok_or_else(|| Trouble::Row("the row `format` does not match its checksum".to_owned()))?;
    let version = value.strip_prefix(MAGIC).and_then(|version| version.try_into().ok()).map(u32::from_be_bytes);
    match version {
        Some(VERSION) => Ok(()),
        Some(version) if version > VERSION => Err(Refused::Newer(version)),
        _ => Err(Refused::Foreign("its format row is not ours".to_owned())),
    }
}

/// How many commits changed which spaces there are.
pub(crate) fn spaces_version(database: &Database) -> Result<u64, Trouble> {
    read_spaces_version(&database.begin_read()?.open_table(FORMAT)?)
}

/// Counts one more in a transaction, or begins from `at_least` if that is more.
pub(crate) fn count_spaces_version(writing: &WriteTransaction, at_least: u64) -> Result<(), Trouble> {
    let mut table = ManuallyDrop::new(writing.open_table(FORMAT)?);
    let counted = read_spaces_version(&*table).and_then(|version| {
        let value = version.saturating_add(1).max(at_least).to_be_bytes();
        let mut stored = vec![0; checksum::LEN + value.len()];
        checksum::seal(FORMAT_NUMBER, SPACES_VERSION, &value, &mut stored);
        table.insert(SPACES_VERSION, &*stored)?;
        Ok(())
    });
    drop(ManuallyDrop::into_inner(table));
    counted
}

fn read_spaces_version(table: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<u64, Trouble> {
    let Some(stored) = table.get(SPACES_VERSION)? else { return Ok(0) };
    let value = checksum::open(FORMAT_NUMBER, SPACES_VERSION, stored.value());
    let version = value.and_then(|value| value.try_into().ok()).map(u64::from_be_bytes);
    version.ok_or_else(|| Trouble::Row("the row `spaces_version` does not match its checksum".to_owned()))
}

/// Writes the format row and makes every table, in one commit.
fn initialise(database: &Database) -> Result<(), Trouble> {
    let writing = database.begin_write()?;
    {
        let mut table = writing.open_table(FORMAT)?;
        let value = [MAGIC, &VERSION.to_be_bytes()].concat();
        let mut stored = vec![0; checksum::LEN + value.len()];
        checksum::seal(FORMAT_NUMBER, KEY, &value, &mut stored);
        table.insert(KEY, &*stored)?;
    }
    for table in Table::ALL {
        writing.open_table(tables::definition(table))?;
    }
    writing.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn empty() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
    }

    fn with_format(value: &[u8], damage: u8) -> Result<Database, Refused> {
        let database = empty();
        let writing = database.begin_write().unwrap();
        let mut stored = vec![0; checksum::LEN + value.len()];
        checksum::seal(FORMAT_NUMBER, KEY, value, &mut stored);
        stored[0] ^= damage;
        writing.open_table(FORMAT).unwrap().insert(KEY, &*stored).unwrap();
        writing.commit().unwrap();
        check(database)
    }

    #[test]
    fn an_empty_database_becomes_a_store_of_this_version() {
        let database = check(check(empty()).unwrap()).unwrap();
        let names = database.begin_read().unwrap().list_tables().unwrap().count();
        assert_eq!(names, Table::ALL.len() + 1);
    }

    #[test]
    fn other_versions_and_other_files_are_told_apart() {
        let value = |version: u32| [MAGIC, &version.to_be_bytes()].concat();
        assert!(with_format(&value(1), 0).is_ok());
        assert!(matches!(with_format(&value(2), 0), Err(Refused::Newer(2))));
        assert!(matches!(with_format(&value(0), 0), Err(Refused::Foreign(_))));
        assert!(matches!(with_format(b"something else", 0), Err(Refused::Foreign(_))));
        assert!(matches!(with_format(&value(1), 1), Err(Refused::Trouble(Trouble::Row(_)))));

        let database = empty();
        let writing = database.begin_write().unwrap();
        writing.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
        writing.commit().unwrap();
        let Err(Refused::Foreign(detail)) = check(database) else { panic!("accepted") };
        assert_eq!(detail, "a redb file with the tables theirs");
    }
}
