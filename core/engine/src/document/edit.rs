//! `Edit`: how an application changes a document. It counts what is done and refuses what a peer's gate would refuse.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use automerge as am;
use automerge::ReadDoc;
use automerge::transaction::{Transactable, Transaction};
use serde_json::Value as Json;

use crate::document::draft::DraftError;
use crate::document::import::{Import, Rules};
use crate::document::path::{IntoPath, Path, PathError};
use crate::document::typed::TypedError;
use crate::document::value::{Value, check_increment, increments};
use crate::document::{json, read, text_diff};
use crate::gate::Refusal;
use crate::limits::{CHANGE_BYTES_MAX, CHANGE_EXPANDED_BYTES_MAX, CHANGE_OPS_MAX};

/// The document inside `edit`. Positions in text are Unicode code points. A method that fails has changed nothing.
pub struct Edit<'a> {
    pub(super) tx: Transaction<'a>,
    cache: &'a mut Cache,
    room: Room,
    value_bytes: u64,
    key_bytes: u64,
    broken: Option<EditError>,
    /// automerge is at work. If that is still so when it is asked again, or when the edit is over, it has panicked.
    at_work: bool,
}

/// Why an edit was not made. The document is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The path cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The value is no typed JSON.
    #[error(transparent)]
    Typed(#[from] TypedError),
    /// There is nothing at this path (which may be the beginning of the one given).
    #[error("there is nothing at `{0}`")]
    Missing(Path),
    /// The value that is to become the only one is none of several that are there.
    #[error("the value that was chosen is not in conflict at `{0}` any more")]
    NotInConflict(Path),
    /// Something else is there than is needed.
    #[error("`{path}` is {found}, {expected} is needed")]
    WrongType {
        /// Where.
        path: Path,
        /// What is needed: `a map`, `a text`.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Plain JSON would put something else in the place of a counter: what others add to that would be lost without a word.
    #[error(
        "`{0}` is a counter, and what would take its place is no whole number: replace everything, or set it by itself"
    )]
    NotForACounter(Path),
    /// The part of a path under a list is no index.
    #[error("`{0}`: a list is indexed by a number")]
    NotAnIndex(Path),
    /// A position or index behind the end.
    #[error("`{path}` has length {length}, position {position} is behind its end")]
    OutOfRange {
        /// The list or text.
        path: Path,
        /// What was asked for.
        position: usize,
        /// What there is.
        length: usize,
    },
    /// One value or key is too large. Text is not bounded by this, only by the limits of a change.
    #[error("{what} at `{at}` is {value} {unit}, limit {limit}")]
    ValueTooLarge {
        /// `a plain string`, `a key`, `a counter's first value`, `the nesting`
        what: &'static str,
        /// Where it would be.
        at: Path,
        /// What it is.
        value: u64,
        /// `bytes`, `levels`
        unit: &'static str,
        /// What is allowed.
        limit: u64,
    },
    /// A float that is no number that can be written.
    #[error("the number at `{at}` is {number}: only finite numbers can be written")]
    NotFinite {
        /// Where it would be.
        at: Path,
        /// `NaN`, `infinite`
        number: &'static str,
    },
    /// The edit as a whole is too large for one change. Splitting it helps ([`Import`] splits values of any size).
    #[error("this edit makes {value} {unit} in one change, limit {limit}: split it into several edits")]
    ChangeTooLarge {
        /// How many.
        value: u64,
        /// `operations`, `bytes of values`, `bytes of keys`, `bytes`
        unit: &'static str,
        /// What is allowed.
        limit: u64,
    },
    /// The document is full.
    #[error("the document has {value} {unit}, limit {limit}: go on in a new document")]
    DocumentFull {
        /// How many there are, or would be.
        value: u64,
        /// `operations`, `actors`, `heads`
        unit: &'static str,
        /// What is allowed.
        limit: u64,
    },
    /// The version to edit at has too many heads for one change to depend on. Those of the document are joined now: read it again.
    #[error("the version has {value} heads, limit {limit}: read the document again and edit at its newest version")]
    TooManyHeads {
        /// How many.
        value: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The document has marks, made by another program: it can be edited at its newest version only.
    #[error("the document has marks, which this program does not make: read it again and edit at its newest version")]
    Marked,
    /// The version to edit at is so old that peers would refuse the change.
    #[error("the version is {value} operations behind the document, limit {limit}: read the document again")]
    FarBehind {
        /// How many operation counters the document is ahead.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The draft that this is an edit of is too large, or published.
    #[error(transparent)]
    Draft(DraftError),
    /// Every peer would refuse the change.
    #[error("this edit makes a change that peers refuse: {0}")]
    Refused(Refusal),
    /// The merge library panicked, in this edit or in an earlier one. What is in memory of the document is not to be trusted:
    /// it is closed, and opens again with what was saved when the replica is opened again.
    #[error("automerge panicked in an edit of this document: open the replica again, what was saved is safe")]
    Panicked,
    /// The merge library refused what passed our checks. A bug of ours.
    #[error("automerge refused: {0}")]
    Internal(String),
}

/// How much an edit may still add.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Operations until the document is full.
    pub document_ops: u64,
    /// What that limit is, and how many there are, for the error.
    pub document_ops_limit: u64,
}

/// The object that was edited last. An edit inside an object never moves the object itself, so this stays right until a
/// merge or a rollback.
#[derive(Debug, Default)]
pub(crate) struct Cache(Option<Cached>);

#[derive(Debug)]
struct Cached {
    pointer: Option<String>,
    path: Path,
    obj: am::ObjId,
    kind: am::ObjType,
    length: Option<usize>,
}

/// What an edit did, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Operations.
    pub ops: u64,
    /// Bytes of values and keys.
    pub bytes: u64,
}

impl Cache {
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

impl<'a> Edit<'a> {
    pub(crate) fn new(tx: Transaction<'a>, cache: &'a mut Cache, room: Room) -> Self {
        Self { tx, cache, room, value_bytes: 0, key_bytes: 0, broken: None, at_work: false }
    }

    /// The transaction, to commit if there is a count, to roll back if there is an error. To be forgotten, with the document
    /// that it belongs to, if the error is [`EditError::Panicked`].
    pub(crate) fn finish(self) -> (Transaction<'a>, Result<Counted, EditError>) {
        if self.at_work {
            return (self.tx, Err(EditError::Panicked));
        }
        let counted = Counted { ops: self.tx.pending_ops() as u64, bytes: self.value_bytes + self.key_bytes };
        (self.tx, self.broken.map_or(Ok(counted), Err))
    }

    /// Puts a value at `path`, JSON or any other, replacing what is there: two replicas that do this at once leave a conflict. At the
    /// root (`""`) the object's members replace all keys. At the index just behind a list's end, or `-`, it appends. Makes no
    /// missing parents.
    pub fn set(&mut self, path: impl IntoPath, value: impl Into<Value>) -> Result<(), EditError> {
        let path = path.into_path()?;
        let value = value.into();
        let Some((obj, kind, last)) = self.container(&path)? else { return self.set_root(&path, &value) };
        let (prop, insert) = self.slot(&path, kind, &last)?;
        self.check_value(&value, &path)?;
        self.put(&obj, prop, insert, &value)
    }

    /// Makes what is at `path` read as `value` does, by what differs: texts are edited, lists gain and lose elements, maps are
    /// compared key by key. So what others do meanwhile in the same texts, lists and maps is kept. With [`Kinds::Keep`] a number
    /// that comes to a counter is added up to, and likewise for other kinds; anything else that comes to one is an error.
    ///
    /// [`Kinds::Keep`]: crate::document::import::Kinds::Keep
    pub fn merge(&mut self, path: impl IntoPath, value: impl Into<Value>, rules: Rules<'_>) -> Result<(), EditError> {
        let mut import = Import::find(&self.tx, None, &path.into_path()?, value.into(), rules)?;
        while !import.is_done() {
            if let Err(error) = import.write(self) {
                // Half of it is done.
                self.broken = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether anything was done so far.
    pub fn has_changed(&self) -> bool {
        self.tx.pending_ops() > 0
    }

    /// Inserts a value into a list before the index that `path` ends with; `-` or the list's length appends.
    pub fn insert(&mut self, path: impl IntoPath, value: impl Into<Value>) -> Result<(), EditError> {
        let path = path.into_path()?;
        let value = value.into();
        let Some((obj, kind, last)) = self.container(&path)? else {
            return Err(wrong_type(path, "a list and an index", "the root"));
        };
        if kind != am::ObjType::List {
            return Err(wrong_type(parent(&path), "a list", read::kind_name(kind)));
        }
        let length = self.cached_length();
        let index = index(&path, &last, length)?;
        if index > length {
            return Err(EditError::OutOfRange { path: parent(&path), position: index, length });
        }
        self.check_value(&value, &path)?;
        self.put(&obj, am::Prop::Seq(index), true, &value)
    }

    /// Removes a map's key or a list's element.
    pub fn remove(&mut self, path: impl IntoPath) -> Result<(), EditError> {
        let path = path.into_path()?;
        let Some((obj, kind, last)) = self.container(&path)? else {
            return Err(wrong_type(path, "a key or an index", "the root"));
        };
        let prop = existing_prop(&path, kind, &last)?;
        if self.lookup(&obj, &prop)?.is_none() {
            return Err(EditError::Missing(path));
        }
        self.charge(1, 0, key_len(&prop))?;
        if let (am::Prop::Seq(_), Some(cached)) = (&prop, &mut self.cache.0) {
            cached.length = cached.length.map(|length| length.saturating_sub(1));
        }
        self.done(|tx| tx.delete(&obj, prop))
    }

    /// Puts a counter at `path`, whose first value is at most [`COUNTER_VALUE_MAX`] either way. Setting it again replaces it;
    /// concurrent [`Self::increment`]s add up.
    ///
    /// [`COUNTER_VALUE_MAX`]: crate::limits::COUNTER_VALUE_MAX
    pub fn set_counter(&mut self, path: impl IntoPath, value: i64) -> Result<(), EditError> {
        self.set(path, Value::Counter(value))
    }

    /// Adds to the counter at `path`, at most [`COUNTER_ADDITION_MAX`] either way: one operation for every [`COUNTER_STEP_MAX`].
    ///
    /// [`COUNTER_ADDITION_MAX`]: crate::limits::COUNTER_ADDITION_MAX
    /// [`COUNTER_STEP_MAX`]: crate::limits::COUNTER_STEP_MAX
    pub fn increment(&mut self, path: impl IntoPath, by: i64) -> Result<(), EditError> {
        let path = path.into_path()?;
        check_increment(&path, by)?;
        let Some((obj, kind, last)) = self.container(&path)? else {
            return Err(wrong_type(path, "a counter", "the root"));
        };
        let prop = existing_prop(&path, kind, &last)?;
        match self.lookup(&obj, &prop)? {
            None => return Err(EditError::Missing(path)),
            Some((am::Value::Scalar(scalar), _)) if matches!(scalar.as_ref(), am::ScalarValue::Counter(_)) => {}
            Some((found, _)) => return Err(wrong_type(path, "a counter", read::value_name(&found))),
        }
        let steps = increments(by).count() as u64;
        self.charge(steps, 9 * steps, steps * key_len(&prop))?;
        for step in increments(by) {
            self.done(|tx| tx.increment(&obj, prop.clone(), step))?;
        }
        Ok(())
    }

    /// Puts bytes at `path`. JSON shows them as base64.
    pub fn set_bytes(&mut self, path: impl IntoPath, bytes: &[u8]) -> Result<(), EditError> {
        self.set(path, Value::Bytes(bytes.to_vec()))
    }

    /// Puts a point in time at `path`, in milliseconds since 1970.
    pub fn set_timestamp(&mut self, path: impl IntoPath, ms: i64) -> Result<(), EditError> {
        self.set(path, Value::Timestamp(ms))
    }

    /// Puts a string at `path` that is replaced as a whole and never merged: for names of things, not for prose.
    pub fn set_plain_string(&mut self, path: impl IntoPath, text: &str) -> Result<(), EditError> {
        self.set(path, Value::Plain(String::from(text)))
    }

    /// Deletes `delete` characters of the text at `path` from `position` on and inserts `insert` there.
    pub fn splice_text(
        &mut self,
        path: impl IntoPath,
        position: usize,
        delete: usize,
        insert: &str,
    ) -> Result<(), EditError> {
        let obj = self.text_object(path)?;
        let length = self.tx.length(&obj);
        let end = position.saturating_add(delete);
        if end > length {
            // Where it begins, unless only its end is out of reach.
            let position = if position > length { position } else { end };
            return Err(EditError::OutOfRange { path: self.cached_path(), position, length });
        }
        let chars = insert.chars().count();
        self.charge(delete as u64 + chars as u64, insert.len() as u64, 0)?;
        self.done(|tx| tx.splice_text(&obj, position, delete as isize, insert))
    }

    /// Makes the text at `path` read `text`, by changing what differs. What others change elsewhere in the text at the same
    /// time is kept. Takes time in the length of both texts; where long passages are unlike, they are replaced.
    pub fn update_text(&mut self, path: impl IntoPath, text: &str) -> Result<(), EditError> {
        let obj = self.text_object(path)?;
        let old = json::text_out(&self.tx, None, &obj);
        let splices = text_diff::splices(&old, text);
        let ops = splices.iter().map(|splice| splice.delete + splice.insert.chars().count()).sum::<usize>();
        let bytes = splices.iter().map(|splice| splice.insert.len()).sum::<usize>();
        self.charge(ops as u64, bytes as u64, 0)?;
        for splice in splices {
            self.done(|tx| tx.splice_text(&obj, splice.position, splice.delete as isize, splice.insert))?;
        }
        Ok(())
    }

    /// What is at `path` now, as JSON.
    pub fn get(&self, path: impl IntoPath) -> Option<Json> {
        read::get(&self.tx, None, &path.into_path().ok()?)
    }

    /// Whether there is anything at `path`. Costs the path, whatever is there.
    pub fn exists(&self, path: impl IntoPath) -> bool {
        self.kind(path).is_some()
    }

    /// What is at `path`, in the words of [`crate::document::View::kind`].
    pub fn kind(&self, path: impl IntoPath) -> Option<&'static str> {
        read::kind(&self.tx, None, &path.into_path().ok()?)
    }

    /// What is at `path` now, each kind apart.
    pub fn value(&self, path: impl IntoPath) -> Option<Value> {
        read::value(&self.tx, None, &path.into_path().ok()?)
    }

    /// The text or plain string at `path`.
    pub fn text(&self, path: impl IntoPath) -> Option<String> {
        read::text(&self.tx, None, &path.into_path().ok()?)
    }

    /// Characters of the text, elements of the list or keys of the map at `path`.
    pub fn length(&self, path: impl IntoPath) -> Option<usize> {
        read::length(&self.tx, None, &path.into_path().ok()?)
    }

    fn set_root(&mut self, path: &Path, value: &Value) -> Result<(), EditError> {
        let Value::Map(members) = value else {
            return Err(wrong_type(path.clone(), "a JSON object", value.kind()));
        };
        self.check_value(value, path)?;
        let gone: Vec<String> =
            self.tx.keys(am::ROOT).filter(|key| !members.contains_key(key)).collect::<Vec<String>>();
        self.charge(gone.len() as u64, 0, gone.iter().map(|key| key.len() as u64).sum())?;
        for key in gone {
            self.done(|tx| tx.delete(am::ROOT, key))?;
        }
        for (key, member) in members {
            self.put_value(&am::ROOT, am::Prop::Map(key.clone()), false, member)?;
        }
        Ok(())
    }

    /// The object that holds what `path` names, and the name in it; `None` for the root.
    fn container(&mut self, path: &Path) -> Result<Option<(am::ObjId, am::ObjType, String)>, EditError> {
        let Some((last, parents)) = path.parts().split_last() else { return Ok(None) };
        if let Some(cached) = self.cache.0.as_ref().filter(|cached| cached.path.parts() == parents) {
            return Ok(Some((cached.obj.clone(), cached.kind, last.clone())));
        }
        let parent = path.up_to(parents.len());
        let (obj, kind) = read::object(&self.tx, None, &parent)?;
        self.cache.0 = Some(Cached { pointer: None, path: parent, obj: obj.clone(), kind, length: None });
        Ok(Some((obj, kind, last.clone())))
    }

    fn text_object(&mut self, path: impl IntoPath) -> Result<am::ObjId, EditError> {
        if let (Some(pointer), Some(cached)) = (path.as_pointer(), &self.cache.0)
            && cached.pointer.as_deref() == Some(pointer)
        {
            return Ok(cached.obj.clone());
        }
        let pointer = path.as_pointer().map(String::from);
        let path = path.into_path()?;
        let (obj, kind) = (read::text_object(&self.tx, None, &path)?, am::ObjType::Text);
        self.cache.0 = Some(Cached { pointer, path, obj: obj.clone(), kind, length: None });
        Ok(obj)
    }

    fn cached_path(&self) -> Path {
        self.cache.0.as_ref().map(|cached| cached.path.clone()).unwrap_or_default()
    }

    /// Length of the list just found by [`Self::container`]. Counting a list takes time in its length, so it is kept.
    fn cached_length(&mut self) -> usize {
        let Some(cached) = &mut self.cache.0 else { return 0 };
        *cached.length.get_or_insert_with(|| self.tx.length(&cached.obj))
    }

    /// Where in its container `path` is put, and whether that is an insertion.
    fn slot(&mut self, path: &Path, kind: am::ObjType, last: &str) -> Result<(am::Prop, bool), EditError> {
        match kind {
            am::ObjType::Map | am::ObjType::Table => Ok((am::Prop::Map(last.to_string()), false)),
            am::ObjType::List => {
                let length = self.cached_length();
                let index = index(path, last, length)?;
                match index.cmp(&length) {
                    core::cmp::Ordering::Less => Ok((am::Prop::Seq(index), false)),
                    core::cmp::Ordering::Equal => Ok((am::Prop::Seq(index), true)),
                    core::cmp::Ordering::Greater => {
                        Err(EditError::OutOfRange { path: parent(path), position: index, length })
                    }
                }
            }
            am::ObjType::Text => Err(wrong_type(parent(path), "a map or a list", "a text")),
        }
    }

    fn lookup(&self, obj: &am::ObjId, prop: &am::Prop) -> Result<Option<(am::Value<'_>, am::ObjId)>, EditError> {
        self.tx.get(obj, prop.clone()).map_err(internal)
    }

    /// Refuses a value with a part that is over a limit, counted whole before anything is done, and charges for it.
    fn check_value(&mut self, value: &Value, path: &Path) -> Result<(), EditError> {
        let cost = value.cost(path)?;
        self.charge(cost.ops, cost.value_bytes, cost.key_bytes)
    }

    pub(super) fn charge(&mut self, ops: u64, value_bytes: u64, key_bytes: u64) -> Result<(), EditError> {
        let ops = self.tx.pending_ops() as u64 + ops;
        let value_bytes = self.value_bytes + value_bytes;
        let key_bytes = self.key_bytes + key_bytes;
        let over = |value: u64, unit, limit: u64| EditError::ChangeTooLarge { value, unit, limit };
        if ops > CHANGE_OPS_MAX {
            return Err(over(ops, "operations", CHANGE_OPS_MAX));
        }
        if value_bytes > CHANGE_BYTES_MAX as u64 {
            return Err(over(value_bytes, "bytes of values", CHANGE_BYTES_MAX as u64));
        }
        if key_bytes > CHANGE_EXPANDED_BYTES_MAX {
            return Err(over(key_bytes, "bytes of keys", CHANGE_EXPANDED_BYTES_MAX));
        }
        if ops > self.room.document_ops {
            return Err(EditError::DocumentFull {
                value: self.room.document_ops_limit.saturating_sub(self.room.document_ops).saturating_add(ops),
                unit: "operations",
                limit: self.room.document_ops_limit,
            });
        }
        self.value_bytes = value_bytes;
        self.key_bytes = key_bytes;
        Ok(())
    }

    fn grow(&mut self, insert: bool) {
        if let (true, Some(cached)) = (insert, &mut self.cache.0) {
            cached.length = cached.length.map(|length| length + 1);
        }
    }

    fn put(&mut self, obj: &am::ObjId, prop: am::Prop, insert: bool, value: &Value) -> Result<(), EditError> {
        self.key_bytes += key_len(&prop);
        self.grow(insert);
        self.put_value(obj, prop, insert, value)
    }

    /// Puts a value that has been checked and charged for. Recursion is bounded by `DEPTH_MAX`.
    fn put_value(&mut self, obj: &am::ObjId, prop: am::Prop, insert: bool, value: &Value) -> Result<(), EditError> {
        if let Some(scalar) = value.scalar() {
            return self.put_scalar(obj, prop, insert, scalar);
        }
        let new = self.put_object(obj, prop, insert, value)?;
        match value {
            Value::Text(text) => self.done(|tx| tx.splice_text(&new, 0, 0, text)),
            Value::List(items) => self.fill_list(&new, items),
            Value::Map(members) => {
                for (key, member) in members {
                    self.put_value(&new, am::Prop::Map(key.clone()), false, member)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Puts the object that a value becomes, empty.
    pub(super) fn put_object(
        &mut self,
        obj: &am::ObjId,
        prop: am::Prop,
        insert: bool,
        value: &Value,
    ) -> Result<am::ObjId, EditError> {
        let kind = match value {
            Value::Text(_) => am::ObjType::Text,
            Value::List(_) => am::ObjType::List,
            _ => am::ObjType::Map,
        };
        self.done(|tx| match prop {
            am::Prop::Seq(index) if insert => tx.insert_object(obj, index, kind),
            prop => tx.put_object(obj, prop, kind),
        })
    }

    /// Scalars go in in one splice, which is much faster than one by one.
    fn fill_list(&mut self, list: &am::ObjId, items: &[Value]) -> Result<(), EditError> {
        if let Some(scalars) = items.iter().map(Value::scalar).collect::<Option<Vec<_>>>() {
            return self.done(|tx| tx.splice(list, 0, 0, scalars));
        }
        for (index, item) in items.iter().enumerate() {
            self.put_value(list, am::Prop::Seq(index), true, item)?;
        }
        Ok(())
    }

    pub(super) fn put_scalar(
        &mut self,
        obj: &am::ObjId,
        prop: am::Prop,
        insert: bool,
        scalar: am::ScalarValue,
    ) -> Result<(), EditError> {
        self.done(|tx| match prop {
            am::Prop::Seq(index) if insert => tx.insert(obj, index, scalar),
            prop => tx.put(obj, prop, scalar),
        })
    }

    /// Where things are is to be found again: something else goes on to write.
    pub(super) fn forget_places(&mut self) {
        self.cache.clear();
    }

    /// Everything is checked before automerge is asked, so a refusal is unexpected and leaves the edit half done: it is
    /// given up as a whole, even if the closure ignores the error.
    pub(super) fn done<T>(
        &mut self,
        f: impl FnOnce(&mut Transaction<'a>) -> Result<T, am::AutomergeError>,
    ) -> Result<T, EditError> {
        if self.at_work {
            return Err(EditError::Panicked);
        }
        self.at_work = true;
        let done = f(&mut self.tx);
        self.at_work = false;
        done.map_err(|error| {
            let error = internal(error);
            self.broken = Some(error.clone());
            error
        })
    }
}

fn internal(error: am::AutomergeError) -> EditError {
    EditError::Internal(error.to_string())
}

fn wrong_type(path: Path, expected: &'static str, found: &'static str) -> EditError {
    EditError::WrongType { path, expected, found }
}

/// The index in a list that a path's last part says. The place behind the end has a name of its own in JSON Pointers (RFC 6901,
/// section 4).
fn index(path: &Path, last: &str, length: usize) -> Result<usize, EditError> {
    if last == "-" { Ok(length) } else { read::index(last).ok_or_else(|| EditError::NotAnIndex(path.clone())) }
}

fn parent(path: &Path) -> Path {
    path.up_to(path.parts().len().saturating_sub(1))
}

fn key_len(prop: &am::Prop) -> u64 {
    match prop {
        am::Prop::Map(key) => key.len() as u64,
        am::Prop::Seq(_) => 0,
    }
}

fn existing_prop(path: &Path, kind: am::ObjType, last: &str) -> Result<am::Prop, EditError> {
    match kind {
        am::ObjType::Map | am::ObjType::Table => Ok(am::Prop::Map(last.to_string())),
        am::ObjType::List => read::index(last).map(am::Prop::Seq).ok_or_else(|| EditError::NotAnIndex(path.clone())),
        am::ObjType::Text => Err(wrong_type(parent(path), "a map or a list", "a text")),
    }
}

#[cfg(test)]
impl Edit<'_> {
    /// As if automerge had panicked half-way, and whoever called it had caught that.
    pub(crate) fn panic_half_way(&mut self) {
        let _ = self.tx.put(am::ROOT, "half", 1);
        self.at_work = true;
    }
}
