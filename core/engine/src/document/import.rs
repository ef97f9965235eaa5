//! Large JSON into a document: split into steps that each fit into one change. Run each in an `edit` of its own.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value as Json};

use crate::document::edit::{Edit, EditError};
use crate::document::json::Cost;
use crate::document::path::Path;

/// Operations that one step makes at most.
const STEP_OPS: u64 = 50_000;
/// Bytes of values and keys in one step at most.
const STEP_BYTES: u64 = 256 * 1024;
/// Characters of a text put in at once.
const TEXT_PIECE: usize = 50_000;

/// Part of an import: an edit of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Step(Vec<Action>);

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Set(Path, Json),
    Append(Path, Json),
    Write { path: Path, position: usize, text: String },
}

impl Step {
    /// Makes this step's edits.
    ///
    /// # Errors
    /// As the [`Edit`] methods it uses. The steps before stay done.
    pub fn apply(&self, edit: &mut Edit<'_>) -> Result<(), EditError> {
        for action in &self.0 {
            match action {
                Action::Set(path, value) => edit.set(path, value.clone())?,
                Action::Append(list, value) => edit.insert(list.clone().key("-"), value.clone())?,
                Action::Write { path, position, text } => edit.splice_text(path, *position, 0, text)?,
            }
        }
        Ok(())
    }
}

/// Splits setting `value` at `path` into steps. Most values are a single one.
pub fn steps(path: Path, value: Json) -> Vec<Step> {
    let mut splitter = Splitter::default();
    splitter.put(path, value);
    splitter.close();
    splitter.steps
}

#[derive(Default)]
struct Splitter {
    steps: Vec<Step>,
    open: Vec<Action>,
    ops: u64,
    bytes: u64,
}

impl Splitter {
    fn put(&mut self, path: Path, value: Json) {
        let cost = Cost::of(&value);
        let bytes = cost.value_bytes + cost.key_bytes;
        let atom = !matches!(&value, Json::Object(_) | Json::Array(_) | Json::String(_));
        // What is nested too deep is not taken apart: the edit says so.
        if atom || cost.is_too_deep() || (cost.ops <= STEP_OPS && bytes <= STEP_BYTES) {
            return self.add(Action::Set(path, value), cost.ops, bytes);
        }
        match value {
            Json::Object(members) => {
                self.add(Action::Set(path.clone(), Json::Object(Map::new())), 1, 0);
                for (key, member) in members {
                    self.put(path.clone().key(&key), member);
                }
            }
            Json::Array(items) => {
                self.add(Action::Set(path.clone(), Json::Array(Vec::new())), 1, 0);
                for (index, item) in items.into_iter().enumerate() {
                    self.put_item(&path, index, item);
                }
            }
            Json::String(text) => {
                self.add(Action::Set(path.clone(), Json::String(String::new())), 1, 0);
                self.write(&path, &text);
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    /// An element that is itself taken apart is appended empty, and filled by its index.
    fn put_item(&mut self, list: &Path, index: usize, item: Json) {
        let cost = Cost::of(&item);
        let bytes = cost.value_bytes + cost.key_bytes;
        if cost.is_too_deep() || (cost.ops <= STEP_OPS && bytes <= STEP_BYTES) {
            return self.add(Action::Append(list.clone(), item), cost.ops, bytes);
        }
        // Setting just behind the end appends.
        self.put(list.clone().index(index), item);
    }

    fn write(&mut self, path: &Path, text: &str) {
        let mut rest = text;
        let mut position = 0;
        while !rest.is_empty() {
            let end = rest.char_indices().nth(TEXT_PIECE).map_or(rest.len(), |(at, _)| at);
            let (piece, after) = rest.split_at(end);
            let chars = piece.chars().count();
            let action = Action::Write { path: path.clone(), position, text: String::from(piece) };
            self.add(action, chars as u64, piece.len() as u64);
            position += chars;
            rest = after;
        }
    }

    fn add(&mut self, action: Action, ops: u64, bytes: u64) {
        if !self.open.is_empty() && (self.ops + ops > STEP_OPS || self.bytes + bytes > STEP_BYTES) {
            self.close();
        }
        self.open.push(action);
        self.ops += ops;
        self.bytes += bytes;
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.steps.push(Step(core::mem::take(&mut self.open)));
        }
        (self.ops, self.bytes) = (0, 0);
    }
}
