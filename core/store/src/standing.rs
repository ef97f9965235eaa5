//! How a store stands to what it is kept on. It *writes*; or it is *held*: what is there is read, what should be written is
//! remembered, and nothing reaches the disk; or it has *failed*, and answers everything with the same failure.
//!
//! A write that fails ends in the second state if the medium can be connected to again and be read. What was to be written is
//! laid over it in memory, so that what is read is what whoever asked for the write believes. [`Standing::resume`] tries once
//! more to write it.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anabranch_engine::storage::{Failure, Row};
use redb::Database;
use tracing::{info, warn};

use crate::error::{OpenError, Refused, Trouble, opening, panic_text};
use crate::medium::{Access, Doubt, Link, Medium};
use crate::{builder, execute, format};

/// Room that there must be beside what waits to be written, before it is tried again: redb writes new pages for all that lead
/// to a changed one. Guess.
const ROOM_BESIDE: u64 = 256 * 1024;

/// A database and its medium.
#[derive(Debug)]
pub(crate) struct Standing {
    place: String,
    /// It is a file in a directory.
    is_file: bool,
    state: RwLock<State>,
    failed: OnceLock<Failure>,
    panicked: AtomicBool,
    doubt: Doubt,
    // Behind the database, so that the lock in it is let go last.
    medium: Option<Box<dyn Medium>>,
}

#[derive(Debug)]
struct State {
    /// Gone when the store is dropped, and while it is connected again.
    database: Option<Database>,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    why: Failure,
    /// What waits to be written, in order.
    rows: Vec<Row>,
}

impl Standing {
    /// A database that nothing else can be connected to.
    pub(crate) fn alone(place: &str, database: Database) -> Self {
        Self::new(place, false, database, None, Doubt::default())
    }

    fn new(place: &str, is_file: bool, database: Database, medium: Option<Box<dyn Medium>>, doubt: Doubt) -> Self {
        Self {
            place: place.to_owned(),
            is_file,
            state: RwLock::new(State { database: Some(database), held: None }),
            failed: OnceLock::new(),
            panicked: AtomicBool::new(false),
            doubt,
            medium,
        }
    }

    /// Opens what is on a medium, or makes a store there if it is empty. Where it can be read and not be written, it is held.
    pub(crate) fn open(place: &str, file: &str, is_file: bool, medium: Box<dyn Medium>) -> Result<Self, OpenError> {
        let doubt = Doubt::default();
        let (database, why) = opening(place, file, || {
            let refused = match write(&*medium, &doubt) {
                Ok(database) => return Ok((database, None)),
                Err(Refused::Trouble(trouble)) if trouble.leaves_reading() => trouble,
                Err(refused) => return Err(refused),
            };
            match read(&*medium, &[]) {
                Ok(database) => Ok((database, Some(refused.failure(place, is_file)))),
                Err(_) => Err(Refused::Trouble(refused)),
            }
        })?;
        let standing = Self::new(place, is_file, database, Some(medium), doubt);
        if let Some(why) = why {
            warn!(place, %why, "nothing is written to the store; it can be read");
            standing.write_state().held = Some(Held { why, rows: Vec::new() });
        }
        Ok(standing)
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Why nothing is written, or nothing works at all.
    pub(crate) fn halted(&self) -> Option<Failure> {
        self.failed.get().cloned().or_else(|| self.read_state().held.as_ref().map(|held| held.why.clone()))
    }

    /// Why every request fails from now on, if it does.
    pub(crate) fn failed(&self) -> Option<&Failure> {
        self.failed.get()
    }

    /// Reads. One damaged row leaves the store usable.
    pub(crate) fn read<T>(&self, work: impl Fn(&Database) -> Result<T, Trouble>) -> Result<T, Failure> {
        let trouble = match self.attempt(&work)? {
            Ok(value) => return Ok(value),
            Err(trouble) => trouble,
        };
        if matches!(trouble, Trouble::Row(_)) || !self.hold(&trouble, Vec::new()) {
            return Err(self.give_up(&trouble));
        }
        // What redb would not read on the old connection it may read on a new one.
        self.attempt(&work)?.map_err(|trouble| self.give_up(&trouble))
    }

    /// Asks something of a store that is being opened; what goes wrong is told as it is.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn consult<T>(&self, work: impl FnOnce(&Database) -> Result<T, Trouble>) -> Result<T, Trouble> {
        self.attempt(work).unwrap_or_else(|failure| Err(Trouble::from(io::Error::other(failure.to_string()))))
    }

    /// Writes rows. On a failure they are on disk whole or not at all; where reading goes on they are read as if they were.
    pub(crate) fn commit(&self, rows: &[Row]) -> Result<(), Failure> {
        if let Some(why) = self.remember(rows)? {
            return Err(why);
        }
        let trouble = match self.attempt(|database| execute::commit(database, rows))? {
            Ok(()) => return self.check().map_or(Ok(()), Err),
            Err(trouble) => trouble,
        };
        if self.hold(&trouble, rows.to_vec()) {
            return Err(self.halted().unwrap_or_else(|| trouble.failure(&self.place, self.is_file)));
        }
        Err(self.give_up(&trouble))
    }

    /// Takes the rows into what waits, if anything does, and says why it waits.
    fn remember(&self, rows: &[Row]) -> Result<Option<Failure>, Failure> {
        if self.read_state().held.is_none() {
            return Ok(None);
        }
        let mut state = self.write_state();
        let State { database: Some(database), held: Some(held) } = &mut *state else { return Ok(None) };
        // Of a store that is not at its place any more nothing is worth writing.
        if !matches!(held.why, Failure::Gone(_)) {
            let laid_over = guarded(&self.panicked, || execute::commit(database, rows));
            held.rows.extend_from_slice(rows);
            if let Err(trouble) = laid_over {
                drop(state);
                return Err(self.give_up(&trouble));
            }
        }
        Ok(Some(held.why.clone()))
    }

    /// Tries once more to write what waits. Returns it, when it is on disk.
    pub(crate) fn resume(&self) -> Result<Vec<Row>, Failure> {
        if let Some(failure) = self.failed() {
            return Err(failure.clone());
        }
        // What lies at its place now may be another file.
        if let Some(gone) = self.check() {
            return Err(gone);
        }
        let mut state = self.write_state();
        let (Some(held), Some(medium)) = (&state.held, &self.medium) else { return Ok(Vec::new()) };
        if !matches!(held.why, Failure::Full(_)) {
            return Err(held.why.clone());
        }
        let waiting: usize = held.rows.iter().map(|row| row.key.len() + row.value.as_ref().map_or(0, Vec::len)).sum();
        if let Err(error) = medium.has_room(2 * waiting as u64 + ROOM_BESIDE) {
            return Err(Trouble::from(error).failure(&self.place, self.is_file));
        }
        let rows = state.held.take().map(|held| held.rows).unwrap_or_default();
        // What was read so far must not be believed once something is written below it.
        self.let_go(state.database.take());
        let written = guarded(&self.panicked, || {
            let database = write(&**medium, &self.doubt).map_err(Refused::trouble)?;
            // Where redb panics, its own drop might panic again, and that aborts.
            let database = mem::ManuallyDrop::new(database);
            let committed = execute::commit(&database, &rows);
            let database = mem::ManuallyDrop::into_inner(database);
            committed.map(|()| database)
        });
        match written {
            Ok(database) => {
                state.database = Some(database);
                drop(state);
                info!(place = %self.place, "the store is written to again");
                self.check().map_or(Ok(rows), Err)
            }
            Err(trouble) => {
                drop(state);
                if self.hold(&trouble, rows) {
                    return Err(self.halted().unwrap_or_else(|| trouble.failure(&self.place, self.is_file)));
                }
                Err(self.give_up(&trouble))
            }
        }
    }

    /// Says so, once, if what is written to is not what the next open would find.
    pub(crate) fn check(&self) -> Option<Failure> {
        let gone = self.medium.as_ref()?.is_in_place().err()?;
        let mut state = self.write_state();
        if self.failed().is_some() || matches!(&state.held, Some(Held { why: Failure::Gone(_), .. })) {
            return None;
        }
        let why = Failure::Gone(gone);
        warn!(place = %self.place, %why, "nothing is written to the store any more");
        let rows = state.held.take().map(|held| held.rows).unwrap_or_default();
        state.held = Some(Held { why: why.clone(), rows });
        Some(why)
    }

    /// Whether the next open would find what is written.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn is_in_place(&self) -> bool {
        self.medium.as_ref().is_none_or(|medium| medium.is_in_place().is_ok())
    }

    /// Runs `work` on the database, so that whatever redb does ends as a value.
    fn attempt<T>(&self, work: impl FnOnce(&Database) -> Result<T, Trouble>) -> Result<Result<T, Trouble>, Failure> {
        if let Some(failure) = self.failed() {
            return Err(failure.clone());
        }
        let state = self.read_state();
        match &state.database {
            Some(database) => Ok(guarded(&self.panicked, || work(database))),
            None => Ok(Err(Trouble::from(io::Error::other("it is closed")))),
        }
    }

    /// After a failed call: connects again for reading only, if that may help, with `rows` laid over what is there.
    fn hold(&self, trouble: &Trouble, rows: Vec<Row>) -> bool {
        let Some(medium) = self.medium.as_ref().filter(|_| trouble.leaves_reading()) else { return false };
        if medium.is_in_place().is_err() {
            // Another file may lie at its place now: nothing of it is ours.
            return false;
        }
        let mut state = self.write_state();
        if state.held.is_some() {
            // It was read only already, and even that fails.
            return false;
        }
        let mut why = trouble.failure(&self.place, self.is_file);
        if let Failure::Full(text) = &why
            && self.doubt.load(Ordering::Acquire)
        {
            // The system may have forgotten what it could not write: only a look at the disk itself tells, after a start.
            why = Failure::Io(format!("the disk is full, which syncing showed ({text}); make room and start again"));
        }
        self.let_go(state.database.take());
        match guarded(&self.panicked, || read(&**medium, &rows).map_err(Refused::trouble)) {
            Ok(database) => {
                warn!(place = %self.place, %why, "nothing is written to the store; it can be read");
                *state = State { database: Some(database), held: Some(Held { why, rows }) };
                true
            }
            Err(error) => {
                warn!(place = %self.place, error = error.detail(), "the store cannot be read either");
                false
            }
        }
    }

    fn give_up(&self, trouble: &Trouble) -> Failure {
        let failure = trouble.failure(&self.place, self.is_file);
        if !matches!(trouble, Trouble::Row(_)) {
            warn!(place = %self.place, %failure, "the store stopped");
            // Where two threads fail at once, the first reason stays.
            let _ = self.failed.set(failure.clone());
        }
        failure
    }

    /// What was read was no store: closing it may panic as well.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn distrust(&self) {
        self.panicked.store(true, Ordering::Release);
    }

    /// Closes a connection.
    fn let_go(&self, database: Option<Database>) {
        let Some(database) = database else { return };
        if self.panicked.load(Ordering::Acquire) {
            // After a panic redb's own drop may panic again, while unwinding, and that aborts. The file stays open.
            mem::forget(database);
        } else if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            warn!(place = %self.place, "closing the store panicked; what was committed is safe");
        }
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        // Panics while it is held are redb's, and are caught.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let database = self.write_state().database.take();
        self.let_go(database);
    }
}

/// Connects to write.
fn write(medium: &dyn Medium, doubt: &Doubt) -> Result<Database, Refused> {
    let link = Link::writing(medium.connect(Access::Write)?, doubt.clone());
    format::check(builder().create_with_backend(link)?)
}

/// Connects to read, with rows laid over what is there.
fn read(medium: &dyn Medium, rows: &[Row]) -> Result<Database, Refused> {
    let below = medium.connect(Access::Read)?;
    if below.len()? == 0 {
        return Err(Refused::Foreign("it is empty".to_owned()));
    }
    // Where redb panics, its own drop might panic again, and that aborts.
    let database = mem::ManuallyDrop::new(format::recognise(builder().create_with_backend(Link::reading(below)?)?)?);
    let laid_over = execute::commit(&database, rows);
    let database = mem::ManuallyDrop::into_inner(database);
    laid_over?;
    Ok(database)
}

fn guarded<T>(panicked: &AtomicBool, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        panicked.store(true, Ordering::Release);
        Err(Trouble::Panicked(panic_text(panic.as_ref())))
    })
}
