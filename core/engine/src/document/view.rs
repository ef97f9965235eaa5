//! `View`: how a document is read, now or at an earlier version.

use alloc::string::String;
use alloc::vec::Vec;

use automerge as am;
use automerge::ReadDoc;
use serde_json::Value as Json;

use crate::document::UnknownHeads;
use crate::document::history::{self, History, OpsLeft};
use crate::document::json;
use crate::document::lost::{self, LostEdit};
use crate::document::patch::{self, Patch};
use crate::document::path::{IntoPath, Path};
use crate::document::read;
use crate::document::value::Value;
use crate::id::{ActorId, ChangeHash, DeviceId};
use crate::limits::DEPTH_MAX;
use crate::mutants::{Mutant, Mutated};

/// A document as it is, or was.
#[derive(Clone, Debug)]
pub struct View<'a> {
    history: &'a History,
    at: Option<Vec<am::ChangeHash>>,
    mutated: Mutated,
}

/// A document as it is or was, owned: cheap to take and to clone, and read on any thread while the document goes on. While
/// there is one, the next edit of the document copies it, so let go of it soon.
#[derive(Clone, Debug)]
pub struct Snapshot {
    history: History,
    at: Option<Vec<am::ChangeHash>>,
    mutated: Mutated,
}

/// One of several values that were set at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// The value.
    pub value: Json,
    /// The actor that set it.
    pub actor: ActorId,
    /// The device that vouches for the actor.
    pub device: Option<DeviceId>,
    /// The change that set it.
    pub change: Option<ChangeHash>,
    /// When its author's clock said that it was set, in seconds since 1970.
    pub wall_s: i64,
    /// Its place in the order of operations: of values in conflict the greatest wins, then the greatest actor.
    pub counter: u64,
}

/// One change of a document's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeInfo {
    /// Its hash.
    pub hash: ChangeHash,
    /// Whose it is.
    pub actor: ActorId,
    /// The device that vouches for the actor.
    pub device: Option<DeviceId>,
    /// Its number among the actor's changes, from 1.
    pub seq: u64,
    /// When its author's clock said it was made, in seconds since 1970.
    pub wall_s: i64,
    /// The changes it was made on top of.
    pub deps: Vec<ChangeHash>,
    /// Number of operations.
    pub ops: u64,
    /// What its author wrote about it.
    pub message: Option<String>,
}

impl Snapshot {
    pub(crate) fn new(history: &History, heads: Option<&[ChangeHash]>) -> Result<Self, UnknownHeads> {
        let at = heads.map(|heads| known(history, heads)).transpose()?;
        Ok(Self { history: history.clone(), at, mutated: Mutated::default() })
    }

    /// The same, as an engine with a deliberate fault shows it.
    pub(crate) fn mutated(self, mutated: Mutated) -> Self {
        Self { mutated, ..self }
    }

    /// To read it.
    pub fn view(&self) -> View<'_> {
        View { history: &self.history, at: self.at.clone(), mutated: self.mutated }
    }
}

impl<'a> View<'a> {
    pub(crate) fn now(history: &'a History) -> Self {
        Self { history, at: None, mutated: Mutated::default() }
    }

    pub(crate) fn at(history: &'a History, heads: &[ChangeHash]) -> Result<Self, UnknownHeads> {
        Ok(Self { history, at: Some(known(history, heads)?), mutated: Mutated::default() })
    }

    /// The same, as an engine with a deliberate fault shows it.
    pub(crate) fn mutated(self, mutated: Mutated) -> Self {
        Self { mutated, ..self }
    }

    /// The same document as it was at `heads`.
    ///
    /// # Errors
    /// Names the first of `heads` that is not in the document.
    pub fn earlier(&self, heads: &[ChangeHash]) -> Result<Self, UnknownHeads> {
        Ok(Self { at: Some(known(self.history, heads)?), ..self.clone() })
    }

    /// The version: the hashes that nothing in it depends on, sorted.
    pub fn heads(&self) -> Vec<ChangeHash> {
        match &self.at {
            None => self.history.heads(),
            Some(heads) => heads.iter().map(|hash| ChangeHash(hash.0)).collect(),
        }
    }

    /// The whole document.
    pub fn json(&self) -> Json {
        json::object_out(self.doc(), self.when(), &am::ROOT, am::ObjType::Map, 0)
    }

    /// What is at `path`, as JSON.
    pub fn get(&self, path: impl IntoPath) -> Option<Json> {
        read::get(self.doc(), self.when(), &path.into_path().ok()?)
    }

    /// What is at `path`, each kind apart.
    pub fn value(&self, path: impl IntoPath) -> Option<Value> {
        read::value(self.doc(), self.when(), &path.into_path().ok()?)
    }

    /// How many operations may still be added to the document.
    pub(crate) fn ops_left(&self) -> OpsLeft {
        self.history.ops_left()
    }

    /// The text or plain string at `path`.
    pub fn text(&self, path: impl IntoPath) -> Option<String> {
        read::text(self.doc(), self.when(), &path.into_path().ok()?)
    }

    /// Whether there is anything at `path`. Costs the path, whatever is there.
    pub fn exists(&self, path: impl IntoPath) -> bool {
        self.kind(path).is_some()
    }

    /// What is at `path`: `a map`, `a list`, `a text`, `a plain string`, `a number`, `a counter`, `a timestamp`, `bytes`,
    /// `a boolean`, `null`. Costs the path, whatever is there.
    pub fn kind(&self, path: impl IntoPath) -> Option<&'static str> {
        read::kind(self.doc(), self.when(), &path.into_path().ok()?)
    }

    /// Characters of the text, elements of the list or keys of the map at `path`.
    pub fn length(&self, path: impl IntoPath) -> Option<usize> {
        read::length(self.doc(), self.when(), &path.into_path().ok()?)
    }

    /// The keys of the map at `path`, sorted; `None` if there is no map.
    pub fn keys(&self, path: impl IntoPath) -> Option<Vec<String>> {
        let (obj, kind) = read::object(self.doc(), self.when(), &path.into_path().ok()?).ok()?;
        if !matches!(kind, am::ObjType::Map | am::ObjType::Table) {
            return None;
        }
        Some(match self.when() {
            None => self.doc().keys(&obj).collect(),
            Some(heads) => self.doc().keys_at(&obj, heads).collect(),
        })
    }

    /// The values that were set at `path` at once, the winner first; none if there is no conflict.
    pub fn conflicts(&self, path: impl IntoPath) -> Vec<Conflict> {
        let Ok(path) = path.into_path() else { return Vec::new() };
        let values = read::find_all(self.doc(), self.when(), &path);
        self.conflict_values(values, path.parts().len())
    }

    /// Every conflict in the document.
    pub fn all_conflicts(&self) -> Vec<(Path, Vec<Conflict>)> {
        let mut found = Vec::new();
        self.conflicts_in(&am::ROOT, am::ObjType::Map, &Path::root(), &mut found);
        found
    }

    /// Edits that went into something that another removed or replaced at the same time, so that nobody sees them: at most
    /// [`LOST_EDITS_MAX`](crate::document::LOST_EDITS_MAX), until somebody who has seen both writes there again. Reads the whole
    /// history.
    pub fn lost_edits(&self) -> Vec<LostEdit> {
        self.lost_edits_below(&Path::root())
    }

    /// The same, at or below a path.
    pub fn lost_edits_below(&self, path: &Path) -> Vec<LostEdit> {
        lost::find(self.history, self.when(), path)
    }

    /// Every change up to this version, each after those it depends on.
    pub fn history(&self) -> Vec<ChangeInfo> {
        self.history.changes_up_to(self.when())
    }

    /// One change of the document, whatever version this is. Costs nothing.
    pub fn change(&self, hash: &ChangeHash) -> Option<ChangeInfo> {
        self.history.change(hash)
    }

    /// What changed between the version `from` and this one, to be applied in order.
    ///
    /// # Errors
    /// Names the first of `from` that is not in the document.
    pub fn diff(&self, from: &[ChangeHash]) -> Result<Vec<Patch>, UnknownHeads> {
        let from = known(self.history, from)?;
        let to = match &self.at {
            None => self.doc().get_heads(),
            Some(heads) => heads.clone(),
        };
        let mut patches = patch::between(self.doc(), &from, &to);
        if self.mutated.by(Mutant::SkipsPatches) {
            patches.pop();
        }
        Ok(patches)
    }

    pub(crate) fn known(&self, heads: &[ChangeHash]) -> Result<Vec<am::ChangeHash>, UnknownHeads> {
        known(self.history, heads)
    }

    pub(crate) fn doc(&self) -> &'a am::Automerge {
        self.history.automerge()
    }

    pub(crate) fn when(&self) -> read::At<'_> {
        self.at.as_deref()
    }

    fn conflict_values(&self, values: Vec<(am::Value<'_>, am::ObjId)>, depth: usize) -> Vec<Conflict> {
        if values.len() < 2 {
            return Vec::new();
        }
        values
            .into_iter()
            .filter_map(|(value, id)| {
                let am::ObjId::Id(counter, actor, _) = &id else { return None };
                let actor = history::actor_from(actor)?;
                let change = self.doc().hash_for_opid(&id);
                let meta = change.and_then(|hash| self.doc().get_change_meta_by_hash(&hash));
                Some(Conflict {
                    value: json::found_out(self.doc(), self.when(), &value, &id, depth),
                    actor,
                    device: self.history.device(&actor),
                    change: change.map(|hash| ChangeHash(hash.0)),
                    wall_s: meta.map_or(0, |meta| meta.timestamp),
                    counter: *counter,
                })
            })
            .collect()
    }

    fn conflicts_in(&self, obj: &am::ObjId, kind: am::ObjType, path: &Path, found: &mut Vec<(Path, Vec<Conflict>)>) {
        if path.parts().len() > DEPTH_MAX {
            return;
        }
        let mut visit = |prop: am::Prop, path: Path, value: am::ValueRef<'_>, id: am::ObjId, conflict: bool| {
            if conflict {
                let values = read::all_at(self.doc(), self.when(), obj, prop);
                let values = self.conflict_values(values, path.parts().len());
                if !values.is_empty() {
                    found.push((path.clone(), values));
                }
            }
            if let am::ValueRef::Object(kind) = value {
                self.conflicts_in(&id, kind, &path, found);
            }
        };
        match kind {
            am::ObjType::Map | am::ObjType::Table => {
                let range = match self.when() {
                    None => self.doc().map_range(obj, ..),
                    Some(heads) => self.doc().map_range_at(obj, .., heads),
                };
                for item in range {
                    let key = String::from(item.key.as_ref());
                    let id = item.id();
                    visit(am::Prop::Map(key.clone()), path.clone().key(&key), item.value, id, item.conflict);
                }
            }
            am::ObjType::List => {
                let range = match self.when() {
                    None => self.doc().list_range(obj, ..),
                    Some(heads) => self.doc().list_range_at(obj, .., heads),
                };
                for item in range {
                    let id = item.id();
                    visit(am::Prop::Seq(item.index), path.clone().index(item.index), item.value, id, item.conflict);
                }
            }
            am::ObjType::Text => {}
        }
    }
}

fn known(history: &History, heads: &[ChangeHash]) -> Result<Vec<am::ChangeHash>, UnknownHeads> {
    match heads.iter().find(|hash| !history.has(hash)) {
        Some(unknown) => Err(UnknownHeads(*unknown)),
        None => {
            let mut heads: Vec<_> = heads.iter().map(|hash| am::ChangeHash(hash.0)).collect();
            heads.sort_unstable();
            heads.dedup();
            Ok(heads)
        }
    }
}
