//! One image: what a disk held at some moment, and what a replica makes of it.

use std::collections::BTreeSet;
use std::io::Cursor;

use anabranch_engine::document::Json;
use anabranch_engine::space::roles::Role;
use anabranch_engine::storage::{Image, Request, ScanId, Table};
use anabranch_engine::{Command, Reply};
use anabranch_store::Store;
use anabranch_store::backend::crashable::{Disk, History, Survival};
use memchr::memmem;

use super::book::{Place, Rows, State, tokens_of};
use super::pair::{Pair, Side};
use crate::sim::dice::Dice;

/// What came of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It held a whole commit, and the replica went on.
    Whole,
    /// The same, and again after the power was cut while it went on.
    WholeTwice,
    /// It opened, and all that could be read is right.
    Readable,
    /// The store was refused, or stopped, in words; what a salvage made of it is right, and went on.
    Salvaged,
}

/// How a disk does worse than losing what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Syncs did nothing from some moment on, and the power was cut.
    LostSyncs,
    /// The same, and of all that was lost the header survived.
    HeaderOnly,
    /// A write landed elsewhere.
    Misdirected,
    /// A write was never made.
    LostWrite,
    /// Some bits changed.
    Rot,
    /// The file became shorter.
    Truncated,
    /// A page reads as zeros or as noise.
    BadPage,
}

impl Harm {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LostSyncs,
        Self::HeaderOnly,
        Self::Misdirected,
        Self::LostWrite,
        Self::Rot,
        Self::Truncated,
        Self::BadPage,
    ];

    /// An image that a disk like this may leave.
    pub fn image(self, history: &History, dice: &mut Dice) -> Vec<u8> {
        let steps = history.len();
        let step = dice.index(steps + 1);
        let sector = sector(dice);
        let seed = dice.any();
        let at = |history: &History, survival| {
            let mut moment = history.begin();
            moment.advance(step);
            moment.cut(survival, sector, seed)
        };
        match self {
            Self::LostSyncs | Self::HeaderOnly => {
                let mut moment = history.begin();
                moment.advance(dice.index(step + 1));
                moment.lie();
                moment.advance(step);
                let survivals = [Survival::Prefix, Survival::TornPrefix, Survival::Subset, Survival::Sectors];
                let drawn = survivals[dice.index(survivals.len())];
                moment.cut(if self == Self::HeaderOnly { Survival::HeaderOnly } else { drawn }, sector, seed)
            }
            Self::Misdirected | Self::LostWrite => {
                let wrong = dice.index(step + 1);
                let other = match self {
                    Self::Misdirected => history.misdirected(wrong, sector, seed),
                    _ => history.with_a_lost_write(wrong),
                };
                at(other.as_ref().unwrap_or(history), Survival::Everything)
            }
            Self::Rot => {
                let mut image = at(history, Survival::Everything);
                for _ in 0..dice.between(1, 20) {
                    let bit = dice.index(image.len() * 8);
                    if let Some(byte) = image.get_mut(bit / 8) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
                image
            }
            Self::Truncated => {
                let mut image = at(history, Survival::Everything);
                image.truncate(dice.index(image.len() + 1));
                image
            }
            Self::BadPage => {
                let mut image = at(history, Survival::Everything);
                let pages = image.len() / 4096;
                let noise = dice.percent(50);
                for byte in image.iter_mut().skip(dice.index(pages) * 4096).take(4096) {
                    *byte = if noise { dice.any() as u8 } else { 0 };
                }
                image
            }
        }
    }
}

/// What disks tear writes into.
fn sector(dice: &mut Dice) -> usize {
    if dice.percent(50) { 512 } else { 4096 }
}

/// An image that an honest disk may leave, and the moment.
pub fn honest(history: &History, dice: &mut Dice) -> (Vec<u8>, usize, Survival) {
    let step = dice.index(history.len() + 1);
    let survival = Survival::ALL[dice.index(Survival::ALL.len())];
    let mut moment = history.begin();
    moment.advance(step);
    (moment.cut(survival, sector(dice), dice.any()), step, survival)
}

/// Starts a replica on an image that an honest disk may have left at this step. It must hold a whole commit that is none
/// before the last acknowledged one; then the replica goes on, and in some cases the power goes again.
///
/// # Errors
/// Says what is lost or wrong.
pub fn check_honest(before: &Pair, image: Vec<u8>, step: usize, dice: &mut Dice) -> Result<Outcome, String> {
    let disk = Disk::from_image(image);
    let mut pair = before.on(disk.clone());
    // What was not saved is no part of this life, so what it writes is told apart.
    pair.letter = 'c';
    let again = dice.percent(25);
    let store = Store::open_with_backend(disk.backend()).map_err(|error| format!("it does not open: {error}"))?;
    let found = holds(&store, pair.book.possible(step))?.clone();
    if again {
        disk.record();
    }
    pair.book.resume(&found);
    pair.start_on(store).map_err(|error| format!("the replica does not start: {error}"))?;
    has(&mut pair, &found)?;
    go_on(&mut pair, &found)?;
    if !again {
        meet(&mut pair)?;
        return Ok(Outcome::Whole);
    }
    let history = disk.history();
    let (image, step, survival) = honest(&history, dice);
    let mut last = pair.on(Disk::from_image(image));
    let store = Store::open_with_backend(last.disk.backend())
        .map_err(|error| format!("after a second power cut ({survival:?}) it does not open: {error}"))?;
    let found =
        holds(&store, pair.book.possible(step)).map_err(|error| format!("after a second power cut: {error}"))?.clone();
    last.book.resume(&found);
    last.start_on(store).map_err(|error| format!("after a second power cut: {error}"))?;
    has(&mut last, &found)?;
    meet(&mut last)?;
    Ok(Outcome::WholeTwice)
}

/// Starts a replica on an image that a broken disk may have left. Whatever is served was written once. `recovered` counts
/// what a salvage made of it.
///
/// # Errors
/// Says what is wrong.
pub fn check_harmed(before: &Pair, image: Vec<u8>, recovered: &mut Recovered) -> Result<Outcome, String> {
    match read_harmed(before, image.clone())? {
        None => Ok(Outcome::Readable),
        Some(refusal) => {
            // An error must say something.
            if refusal.len() < 20 {
                return Err(format!("an error that says nothing: `{refusal}`"));
            }
            salvage(before, image, recovered).map_err(|error| format!("{refusal}; after the salvage: {error}"))?;
            Ok(Outcome::Salvaged)
        }
    }
}

/// Reads everything, and goes on where nothing refuses to; an answer is the words in which something was refused. Runs that
/// cannot be read are the engine's to mend.
fn read_harmed(before: &Pair, image: Vec<u8>) -> Result<Option<String>, String> {
    let disk = Disk::from_image(image);
    let mut pair = before.on(disk.clone());
    pair.letter = 'c';
    let store = match Store::open_with_backend(disk.backend()) {
        Ok(store) => store,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let mut rows = match store.image() {
        Ok(image) => image.rows,
        Err(failure) => return Ok(Some(failure.to_string())),
    };
    rows.extend(runs(&store).unwrap_or_default().into_iter().map(|(key, value)| (Table::Runs, key, value)));
    were_written(&pair, &rows, &Table::ALL)?;
    if let Err(error) = pair.start_on(store) {
        return Ok(Some(error));
    }
    for place in pair.places(Side::Ours) {
        match pair.open(Side::Ours, place) {
            Ok(json) => pair.book.check_prefix(&place, &json)?,
            Err(error) => return Ok(Some(error)),
        }
    }
    match meet(&mut pair) {
        // Damage that is met later ends it, in words.
        Err(error) => pair.stopped().map(Some).ok_or(error),
        Ok(()) => Ok(None),
    }
}

/// What salvages found of the runs whose bytes, as they were last acknowledged, are all in the damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// There were so many.
    pub whole: u64,
    /// So many were found.
    pub found: u64,
}

impl Recovered {
    fn count(&mut self, image: &[u8], runs: &[(Vec<u8>, Vec<u8>)], saved: &[(Table, Vec<u8>, Vec<u8>)]) {
        let found: BTreeSet<&[u8]> =
            saved.iter().filter(|(table, ..)| *table == Table::Runs).map(|(_, key, _)| key.as_slice()).collect();
        for (key, value) in runs {
            if memmem::find(image, value).is_some() && memmem::find(image, key).is_some() {
                self.whole += 1;
                self.found += u64::from(found.contains(key.as_slice()));
            }
        }
    }
}

/// Makes a new store of what is readable of an image. What it serves was written once, and it goes on with the other one.
fn salvage(before: &Pair, image: Vec<u8>, recovered: &mut Recovered) -> Result<(), String> {
    let disk = Disk::new();
    let (store, salvaged) =
        Store::salvage_with_backend(Cursor::new(&image), disk.backend()).map_err(|error| error.to_string())?;
    let mut pair = before.on(disk);
    let saved = rows(&store)?.rows;
    were_written(&pair, &saved, &[Table::Spaces, Table::Members, Table::Runs, Table::AclRefs, Table::Peers])?;
    recovered.count(&image, &pair.book.last().runs, &saved);
    let runs = saved.iter().filter(|(table, ..)| *table == Table::Runs).count();
    if runs != salvaged.runs {
        return Err(format!("{runs} runs are there, it says {}", salvaged.runs));
    }
    pair.start_on(store)?;
    for place in pair.places(Side::Ours) {
        let json = pair.open(Side::Ours, place)?;
        pair.book.check_prefix(&place, &json)?;
    }
    meet(&mut pair)
}

/// Whether each of these rows was written once, where it is in one of these tables.
fn were_written(pair: &Pair, rows: &[(Table, Vec<u8>, Vec<u8>)], tables: &[Table]) -> Result<(), String> {
    for (table, key, value) in rows.iter().filter(|(table, ..)| tables.contains(table)) {
        if !pair.book.has_written(*table, key, value) {
            return Err(format!("a row of table {} that was never written: {key:02x?}", table.name()));
        }
    }
    Ok(())
}

/// Every row of a store.
fn rows(store: &Store) -> Result<Image, String> {
    let mut image = store.image().map_err(|failure| failure.to_string())?;
    image.rows.extend(runs(store)?.into_iter().map(|(key, value)| (Table::Runs, key, value)));
    Ok(image)
}

/// The rows of the table of runs.
///
/// # Errors
/// They cannot be read.
pub fn runs(store: &Store) -> Result<Rows, String> {
    let (from, to) = (Vec::new(), Vec::new());
    let request = Request::Scan { id: ScanId(1), table: Table::Runs, from, to, bytes_max: usize::MAX };
    match store.execute(request) {
        anabranch_engine::storage::Reply::Scanned { result, .. } => {
            result.map(|scanned| scanned.rows).map_err(|failure| failure.to_string())
        }
        anabranch_engine::storage::Reply::Committed { .. } => Err("a scan was answered with a commit".to_owned()),
    }
}

/// Which of the possible states a store holds, exactly.
fn holds<'a>(store: &Store, possible: impl Iterator<Item = &'a State>) -> Result<&'a State, String> {
    let image = store.image().map_err(|failure| failure.to_string())?;
    let runs = runs(store)?;
    let mut count = 0;
    for state in possible {
        if state.is(&image, &runs) {
            return Ok(state);
        }
        count += 1;
    }
    Err(format!("it holds none of the {count} commits that it may hold: an acknowledged one is lost, or one is torn"))
}

/// Whether our running replica has exactly what it had then.
fn has(pair: &mut Pair, state: &State) -> Result<(), String> {
    let spaces = pair.spaces_of(Side::Ours);
    if let Some(expected) = state.spaces.as_ref().filter(|expected| **expected != spaces) {
        return Err(format!("its spaces are {spaces:?}, not {expected:?}"));
    }
    for (place, expected) in &state.documents {
        let json = pair.open(Side::Ours, *place)?;
        if *expected != Json::Null && json != *expected {
            return Err(format!("document {} is {json}, not {expected}", place.1));
        }
        pair.book.check_prefix(place, &json)?;
    }
    let Reply::Feed(feed) = pair.ask(Side::Ours, Command::ReadFeed { after: 0, limit: 1_000 })? else {
        return Err("reading the feed was answered with something else".to_owned());
    };
    for (space, document) in state.documents.keys() {
        if feed.iter().filter(|row| row.space == *space && row.document == *document).count() != 1 {
            return Err(format!("document {document} is not once in the feed"));
        }
    }
    panicked(pair)
}

/// It edits and saves; where there is nothing to edit, it makes it.
fn go_on(pair: &mut Pair, state: &State) -> Result<(), String> {
    let writer = |role: &Option<Role>| role.is_some_and(Role::can_write);
    let spaces = pair.spaces_of(Side::Ours);
    let may = |place: &&Place| spaces.iter().any(|(space, _, role)| *space == place.0 && writer(role));
    let place = match (state.documents.keys().find(may), spaces.iter().find(|(_, _, role)| writer(role))) {
        (Some(place), _) => *place,
        (None, Some((space, ..))) => pair.new_document(Side::Ours, *space)?,
        (None, None) => {
            pair.ask(Side::Ours, Command::CreateSpace { name: "anew".to_owned() })?;
            return panicked(pair);
        }
    };
    let token = pair.edit(Side::Ours, place, 0)?;
    pair.saved()?;
    let json = pair.open(Side::Ours, place)?;
    if !tokens_of(&json)?.contains(&token) {
        return Err(format!("document {} has not what was just saved: {json}", place.1));
    }
    panicked(pair)
}

/// It meets the other one, which may know more of it than it does itself: then both are equal, and nothing is gone.
pub fn meet(pair: &mut Pair) -> Result<(), String> {
    pair.start_other();
    let mut held = Vec::new();
    for side in [Side::Ours, Side::Other] {
        for place in pair.places(side) {
            held.push((place, tokens_of(&pair.open(side, place)?)?));
        }
    }
    pair.agree()?;
    let inside = |pair: &mut Pair, side| -> Vec<_> { pair.spaces_of(side).iter().map(|(space, ..)| *space).collect() };
    let (ours, theirs) = (inside(pair, Side::Ours), inside(pair, Side::Other));
    for (place, tokens) in held {
        if !ours.contains(&place.0) || !theirs.contains(&place.0) {
            continue;
        }
        let contents = (pair.open(Side::Ours, place)?, pair.open(Side::Other, place)?);
        if contents.0 != contents.1 {
            return Err(format!("document {} is {} here and {} there", place.1, contents.0, contents.1));
        }
        if let Some(gone) = tokens.difference(&tokens_of(&contents.0)?).next() {
            return Err(format!("document {} has not {gone} any more", place.1));
        }
    }
    panicked(pair)
}

/// Fails if automerge panicked: on honest runs it never does.
fn panicked(pair: &Pair) -> Result<(), String> {
    pair.take_panics().into_iter().next().map_or(Ok(()), |text| Err(format!("automerge panicked: {text}")))
}
