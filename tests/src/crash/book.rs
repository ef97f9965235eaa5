//! What our replica wrote, commit by commit, and what of it was acknowledged when: the measure for every image.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::document::Json;
use anabranch_engine::id::{DocumentId, SpaceId};
use anabranch_engine::space::Access;
use anabranch_engine::space::roles::Role;
use anabranch_engine::storage::{Image, Row, Table};
use anabranch_store::conformance::Model;

/// A document in its space.
pub type Place = (SpaceId, DocumentId);
/// A space as a replica lists it: id, name, role.
pub type Listed = (SpaceId, Option<String>, Option<Role>);
/// Rows in key order.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything that our replica ever asked its store to write.
#[derive(Clone, Default)]
pub struct Book {
    model: Model,
    states: Vec<State>,
    /// Every value that was ever written under a key.
    ever: BTreeMap<(Table, Vec<u8>), BTreeSet<Vec<u8>>>,
    /// The tokens written into each document by each writer, in order.
    tokens: BTreeMap<(Place, char), Vec<String>>,
}

/// What the store held after a commit, and what the replica said that it held.
#[derive(Clone)]
pub struct State {
    /// The rows of every table but one.
    pub image: Image,
    /// The rows of that one.
    pub runs: Rows,
    /// The content of each document.
    pub documents: BTreeMap<Place, Json>,
    /// Id, name, role; `None` if nobody has said yet.
    pub spaces: Option<Vec<Listed>>,
    /// Steps of the disk when it was asked for.
    asked_at: usize,
    /// Steps of the disk when it was acknowledged.
    saved_at: Option<usize>,
}

impl Book {
    /// A book about a store that is empty.
    pub fn new() -> Self {
        let mut book = Self::default();
        book.ask(&[], BTreeMap::new(), Vec::new(), 0);
        book.saved(0);
        book
    }

    /// A commit is asked for, after so many steps of the disk.
    pub fn ask(&mut self, rows: &[Row], mut documents: BTreeMap<Place, Json>, mut spaces: Vec<Listed>, step: usize) {
        self.model.apply(rows);
        for row in rows {
            if let Some(value) = &row.value {
                self.ever.entry((row.table, row.key.clone())).or_default().insert(value.clone());
            }
        }
        // What is not in memory is as it was.
        if let Some(before) = self.states.last() {
            for (place, json) in &mut documents {
                if json.is_null() {
                    *json = before.documents.get(place).cloned().unwrap_or(Json::Null);
                }
            }
        }
        let (image, runs) = (self.model.image(), self.model.rows(Table::Runs));
        // It may know already that it is admitted, and write it with the next commit.
        for (space, _, role) in &mut spaces {
            if is_joining(&image, space) {
                *role = None;
            }
        }
        self.states.push(State { image, runs, documents, spaces: Some(spaces), asked_at: step, saved_at: None });
    }

    /// The last commit is acknowledged.
    pub fn saved(&mut self, step: usize) {
        if let Some(state) = self.states.last_mut() {
            state.saved_at = Some(step);
        }
    }

    /// A token is written.
    pub fn wrote(&mut self, place: Place, writer: char, token: &str) {
        self.tokens.entry((place, writer)).or_default().push(token.to_owned());
    }

    /// The steps of the disk count from zero again: what was saved is the beginning.
    pub fn begin_anew(&mut self) {
        for state in &mut self.states {
            state.asked_at = 0;
            state.saved_at = state.saved_at.map(|_| 0);
        }
    }

    /// A new life begins on a store that holds this.
    pub fn resume(&mut self, found: &State) {
        let put = |table, key: &Vec<u8>, value: &Vec<u8>| Row { table, key: key.clone(), value: Some(value.clone()) };
        let mut rows: Vec<Row> = found.image.rows.iter().map(|(table, key, value)| put(*table, key, value)).collect();
        rows.extend(found.runs.iter().map(|(key, value)| put(Table::Runs, key, value)));
        for row in &rows {
            self.ever.entry((row.table, row.key.clone())).or_default().extend(row.value.clone());
        }
        self.model = Model::default();
        self.model.apply(&rows);
        self.states = vec![found.clone()];
        self.begin_anew();
        self.saved(0);
    }

    /// The same, with rows that nobody has read yet.
    pub fn resume_with(&mut self, image: Image, runs: Rows) {
        self.resume(&State { image, runs, documents: BTreeMap::new(), spaces: None, asked_at: 0, saved_at: Some(0) });
    }

    /// The states that a store may be in after a power cut before this step: the last that was acknowledged, and those
    /// asked for since.
    pub fn possible(&self, step: usize) -> impl Iterator<Item = &State> {
        let saved = |state: &State| state.saved_at.is_some_and(|at| at <= step);
        let first = self.states.iter().rposition(saved).unwrap_or(0);
        self.states[first..].iter().filter(move |state| state.asked_at <= step)
    }

    /// The newest state.
    pub fn last(&self) -> &State {
        self.states.last().expect("a book begins with one")
    }

    /// Whether these bytes were ever written under this key.
    pub fn has_written(&self, table: Table, key: &[u8], value: &[u8]) -> bool {
        self.ever.get(&(table, key.to_vec())).is_some_and(|values| values.contains(value))
    }

    /// Checks that content is what some of the edits of a document make: all of each writer's up to some point, each
    /// counted once.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check_prefix(&self, place: &Place, json: &Json) -> Result<(), String> {
        let tokens = tokens_of(json)?;
        for writer in ['a', 'b'] {
            let wrote = self.tokens.get(&(*place, writer)).map(Vec::as_slice).unwrap_or_default();
            let here = tokens.iter().filter(|token| token.starts_with(writer)).count();
            if let Some(hole) = wrote.iter().take(here).find(|token| !tokens.contains(*token)) {
                return Err(format!("document {}: {here} edits of {writer} are here, but not {hole}", place.1));
            }
        }
        Ok(())
    }
}

impl State {
    /// Whether a store holds exactly this.
    pub fn is(&self, image: &Image, runs: &Rows) -> bool {
        self.image == *image && self.runs == *runs
    }
}

/// Whether a store says that the space is still to be joined.
fn is_joining(image: &Image, space: &SpaceId) -> bool {
    let rows = image.rows.iter().filter(|(table, key, _)| *table == Table::Spaces && *key == space.0);
    rows.filter_map(|(.., value)| minicbor::decode::<Access>(value).ok()).any(|access| access.invite.is_some())
}

/// The tokens in a document's content, after a check that each was counted once.
///
/// # Errors
/// Says how many there are and how many were counted.
pub fn tokens_of(json: &Json) -> Result<BTreeSet<String>, String> {
    let Some(map) = json.as_object() else { return Ok(BTreeSet::new()) };
    let tokens: BTreeSet<String> =
        map.keys().filter(|key| *key != "count" && *key != "text").map(String::clone).collect();
    let counted = map.get("count").and_then(Json::as_i64).unwrap_or(0);
    if counted != tokens.len() as i64 {
        return Err(format!("{} edits are here, {counted} were counted: {json}", tokens.len()));
    }
    Ok(tokens)
}
