//! What makes a document read as a value does, and leaves all else alone: texts are edited where they differ, lists gain and lose
//! elements, maps are compared key by key. So what others do meanwhile in the same texts, lists and maps is kept.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use automerge as am;
use automerge::ReadDoc;
use data_encoding::BASE64;

use crate::document::edit::EditError;
use crate::document::json::{self, Out};
use crate::document::path::Path;
use crate::document::read::{At, Place};
use crate::document::sequence_diff::{self, STEPS_MAX};
use crate::document::text_diff;
use crate::document::value::{Value, check_increment, increments};
use crate::limits::{DEPTH_MAX, VALUE_BYTES_MAX};

/// What becomes of the kinds of values that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kinds {
    /// They stay, where the new value is one that plain JSON has instead of them: a number that comes to a counter is added up
    /// to, a string that comes to a plain string is one, base64 that comes to bytes is bytes, a whole number that comes to a
    /// timestamp is one. Equal numbers are equal, whole or not.
    #[default]
    Keep,
    /// They become those of the new value.
    Exact,
}

/// In a text, at a position in characters, delete some of them and put others there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Splice {
    pub(crate) position: usize,
    pub(crate) delete: usize,
    pub(crate) insert: String,
}

/// One thing to do. All of a list's come from its end to its beginning, so that none moves what another names; the splices of a
/// text from its beginning to its end, each on what those before it have left.
#[derive(Debug)]
pub(crate) enum Action {
    /// Put a value in place of what is there, if anything is.
    Put { obj: am::ObjId, prop: am::Prop, value: Value },
    /// Put values under keys of a map that it does not have.
    Fill { obj: am::ObjId, members: BTreeMap<String, Value> },
    /// Put values into a list.
    Insert { obj: am::ObjId, index: usize, values: Vec<Value> },
    /// Take away a key.
    Remove { obj: am::ObjId, key: String },
    /// Take elements out of a list.
    RemoveAt { obj: am::ObjId, index: usize, count: usize },
    /// Add to a counter.
    Increment { obj: am::ObjId, prop: am::Prop, by: i64 },
    /// Edit a text.
    Splice { obj: am::ObjId, splices: Vec<Splice> },
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations.
    pub operations: u64,
    /// Bytes of values and keys.
    pub bytes: u64,
    /// Keys and elements that come to be, what is in them not counted.
    pub added: u64,
    /// Keys and elements that get another value, texts that are edited and counters that are added to.
    pub changed: u64,
    /// Keys and elements that go.
    pub removed: u64,
}

/// A difference, as it is found.
pub(crate) struct Difference<'a, R> {
    doc: &'a R,
    at: At<'a>,
    kinds: Kinds,
    /// A key of the root that stays if the value does not have it.
    kept: Option<&'a str>,
    path: Path,
    pub(crate) actions: Vec<Action>,
    pub(crate) tally: Tally,
    /// A lower bound of the changes' size in bytes.
    pub(crate) raw_bytes: u64,
}

/// An element or a member that is there.
struct There<'d> {
    value: am::ValueRef<'d>,
    id: am::ObjId,
}

impl<'a, R: ReadDoc> Difference<'a, R> {
    pub(crate) fn new(doc: &'a R, at: At<'a>, kinds: Kinds, kept: Option<&'a str>) -> Self {
        Self { doc, at, kinds, kept, path: Path::root(), actions: Vec::new(), tally: Tally::default(), raw_bytes: 0 }
    }

    /// Makes the root a map of these.
    pub(crate) fn root(&mut self, members: BTreeMap<String, Value>) -> Result<(), EditError> {
        self.map(&am::ROOT, members)
    }

    /// Makes the root a map of these, whatever it is now.
    pub(crate) fn replace_root(&mut self, members: BTreeMap<String, Value>) -> Result<(), EditError> {
        let keys = match self.at {
            None => self.doc.keys(am::ROOT),
            Some(heads) => self.doc.keys_at(am::ROOT, heads),
        };
        let gone = keys.filter(|key| !members.contains_key(key) && self.kept != Some(&**key)).collect::<Vec<_>>();
        gone.into_iter().for_each(|key| self.remove(&am::ROOT, key));
        for (key, new) in members {
            self.path.push(key.clone());
            let is_new = matches!(self.doc.get(am::ROOT, &*key), Ok(None));
            self.put(&am::ROOT, am::Prop::Map(key), new, is_new)?;
            self.path.pop();
        }
        Ok(())
    }

    /// Makes what is at a place this value.
    pub(crate) fn place(&mut self, path: &Path, place: Place<'_>, new: Value) -> Result<(), EditError> {
        self.path = path.clone();
        let Place { obj, prop, there } = place;
        let (value, id) = match there {
            None => return self.put_at(&obj, prop, new, true),
            Some((am::Value::Object(kind), id)) => (am::ValueRef::Object(kind), id),
            Some((am::Value::Scalar(scalar), id)) => (am::ValueRef::Scalar(scalar.into_owned().into()), id),
        };
        self.value(&obj, prop, &There { value, id }, new)
    }

    /// Puts this value at a place, whatever is there.
    pub(crate) fn replace(&mut self, path: &Path, place: Place<'_>, new: Value) -> Result<(), EditError> {
        self.path = path.clone();
        self.put_at(&place.obj, place.prop, new, place.there.is_none())
    }

    /// Behind the end of a list there is nothing to put it in place of.
    fn put_at(&mut self, obj: &am::ObjId, prop: am::Prop, new: Value, is_new: bool) -> Result<(), EditError> {
        match prop {
            am::Prop::Seq(index) if is_new => self.surplus(obj, index, index, Vec::from([new])),
            prop => self.put(obj, prop, new, is_new),
        }
    }

    fn value(&mut self, obj: &am::ObjId, prop: am::Prop, there: &There<'_>, new: Value) -> Result<(), EditError> {
        match (&there.value, new) {
            // What is nested deeper than honest documents are is not looked into.
            (am::ValueRef::Object(_), new) if self.path.parts().len() > DEPTH_MAX => self.put(obj, prop, new, false),
            (am::ValueRef::Object(am::ObjType::Map | am::ObjType::Table), Value::Map(members)) => {
                self.map(&there.id, members)
            }
            (am::ValueRef::Object(am::ObjType::List), Value::List(items)) => self.list(&there.id, items),
            (am::ValueRef::Object(am::ObjType::Text), Value::Text(text)) => self.text(&there.id, &text),
            (am::ValueRef::Object(am::ObjType::Text), Value::Plain(text)) if self.kinds == Kinds::Keep => {
                self.text(&there.id, &text)
            }
            (am::ValueRef::Object(_), new) => self.put(obj, prop, new, false),
            (am::ValueRef::Scalar(scalar), new) => self.scalar(obj, prop, scalar, new),
        }
    }

    fn map(&mut self, obj: &am::ObjId, mut members: BTreeMap<String, Value>) -> Result<(), EditError> {
        let range = match self.at {
            None => self.doc.map_range(obj, ..),
            Some(heads) => self.doc.map_range_at(obj, .., heads),
        };
        for item in range {
            let key = String::from(item.key.as_ref());
            match members.remove(&key) {
                Some(new) => {
                    self.path.push(key.clone());
                    self.value(obj, am::Prop::Map(key), &There { value: item.value.clone(), id: item.id() }, new)?;
                    self.path.pop();
                }
                None if self.path.is_root() && self.kept == Some(&*key) => {}
                None => self.remove(obj, key),
            }
        }
        if members.is_empty() {
            return Ok(());
        }
        for (key, new) in &members {
            self.path.push(key.clone());
            self.charge(new)?;
            self.path.pop();
            self.tally.bytes += key.len() as u64;
        }
        self.tally.added += members.len() as u64;
        // As they are: an action for each would take as much memory again.
        self.actions.push(Action::Fill { obj: obj.clone(), members });
        Ok(())
    }

    fn remove(&mut self, obj: &am::ObjId, key: String) {
        self.tally.operations += 1;
        self.tally.removed += 1;
        self.tally.bytes += key.len() as u64;
        self.actions.push(Action::Remove { obj: obj.clone(), key });
    }

    fn list(&mut self, obj: &am::ObjId, mut items: Vec<Value>) -> Result<(), EditError> {
        let range = match self.at {
            None => self.doc.list_range(obj, ..),
            Some(heads) => self.doc.list_range_at(obj, .., heads),
        };
        let old: Vec<There<'_>> = range.map(|item| There { id: item.id(), value: item.value }).collect();
        let old_digests: Vec<u64> = old.iter().map(|there| self.digest_of(there)).collect();
        let new_digests: Vec<u64> = items.iter().map(digest).collect();
        let mut steps = STEPS_MAX;
        let mut old_end = old.len();
        for hunk in sequence_diff::hunks(&old_digests, &new_digests, &mut steps).into_iter().rev() {
            self.alike(obj, &old[hunk.old.end..old_end], hunk.old.end, items.split_off(hunk.new.end))?;
            // Between what both have, elements become each other in their order; what is left over comes or goes.
            let pairs = hunk.old.len().min(hunk.new.len());
            self.surplus(obj, hunk.old.start + pairs, hunk.old.end, items.split_off(hunk.new.start + pairs))?;
            let (start, end) = (hunk.old.start, hunk.old.start + pairs);
            self.alike(obj, &old[start..end], start, items.split_off(hunk.new.start))?;
            old_end = start;
        }
        self.alike(obj, &old[..old_end], 0, items)
    }

    /// Elements from `start` on become these, each its own.
    fn alike(
        &mut self,
        obj: &am::ObjId,
        old: &[There<'_>],
        start: usize,
        mut items: Vec<Value>,
    ) -> Result<(), EditError> {
        for (offset, there) in old.iter().enumerate().rev() {
            let Some(new) = items.pop() else { break };
            self.path.push_index(start + offset);
            self.value(obj, am::Prop::Seq(start + offset), there, new)?;
            self.path.pop();
        }
        Ok(())
    }

    /// Elements from `start` to `end` go, and `values` come.
    fn surplus(&mut self, obj: &am::ObjId, start: usize, end: usize, values: Vec<Value>) -> Result<(), EditError> {
        if end > start {
            let count = end - start;
            self.tally.operations += count as u64;
            self.tally.removed += count as u64;
            self.actions.push(Action::RemoveAt { obj: obj.clone(), index: start, count });
        }
        if values.is_empty() {
            return Ok(());
        }
        for (index, value) in values.iter().enumerate() {
            self.path.push_index(start + index);
            self.charge(value)?;
            self.path.pop();
        }
        self.tally.added += values.len() as u64;
        self.actions.push(Action::Insert { obj: obj.clone(), index: start, values });
        Ok(())
    }

    fn text(&mut self, obj: &am::ObjId, new: &str) -> Result<(), EditError> {
        let old = json::text_out(self.doc, self.at, obj);
        if old == new {
            return Ok(());
        }
        let splices = text_diff::splices(&old, new).into_iter().map(|splice| Splice {
            position: splice.position,
            delete: splice.delete,
            insert: String::from(splice.insert),
        });
        let splices: Vec<Splice> = splices.collect();
        for splice in &splices {
            self.tally.operations += (splice.delete + splice.insert.chars().count()) as u64;
            self.tally.bytes += splice.insert.len() as u64;
            self.raw_bytes += splice.insert.len() as u64;
        }
        self.tally.changed += 1;
        self.actions.push(Action::Splice { obj: obj.clone(), splices });
        Ok(())
    }

    fn scalar(
        &mut self,
        obj: &am::ObjId,
        prop: am::Prop,
        there: &am::ScalarValueRef<'_>,
        new: Value,
    ) -> Result<(), EditError> {
        let there = <Value as Out>::scalar(there);
        let new = match self.kinds {
            Kinds::Keep => kept(&there, new),
            Kinds::Exact => new,
        };
        match (&there, &new) {
            (Value::Counter(_), new) if self.kinds == Kinds::Keep && !matches!(new, Value::Counter(_)) => {
                Err(EditError::NotForACounter(self.path.clone()))
            }
            (Value::Counter(old), Value::Counter(new)) if old == new => Ok(()),
            (Value::Counter(old), Value::Counter(to)) => {
                // Beyond 64 bits apart is beyond every limit.
                let by = to.checked_sub(*old).unwrap_or(i64::MAX);
                match check_increment(&self.path, by) {
                    // An earlier version comes back whatever was added since.
                    Err(_) if self.kinds == Kinds::Exact => return self.put(obj, prop, new, false),
                    checked => checked?,
                }
                self.tally.operations += increments(by).count() as u64;
                self.tally.bytes += 9;
                self.tally.changed += 1;
                self.actions.push(Action::Increment { obj: obj.clone(), prop, by });
                Ok(())
            }
            // Two NaN differ, and are the same value.
            (Value::Float(old), Value::Float(new)) if old.to_bits() == new.to_bits() => Ok(()),
            _ if there == new => Ok(()),
            _ => self.put(obj, prop, new, false),
        }
    }

    fn put(&mut self, obj: &am::ObjId, prop: am::Prop, value: Value, is_new: bool) -> Result<(), EditError> {
        self.charge(&value)?;
        if let am::Prop::Map(key) = &prop {
            self.tally.bytes += key.len() as u64;
        }
        match is_new {
            true => self.tally.added += 1,
            false => self.tally.changed += 1,
        }
        self.actions.push(Action::Put { obj: obj.clone(), prop, value });
        Ok(())
    }

    fn charge(&mut self, value: &Value) -> Result<(), EditError> {
        let cost = value.cost(&self.path)?;
        self.tally.operations += cost.ops;
        self.tally.bytes += cost.value_bytes + cost.key_bytes;
        self.raw_bytes += cost.raw_bytes;
        Ok(())
    }

    fn digest_of(&self, there: &There<'_>) -> u64 {
        digest(&match &there.value {
            am::ValueRef::Scalar(scalar) => <Value as Out>::scalar(scalar),
            am::ValueRef::Object(kind) => {
                json::object_out(self.doc, self.at, &there.id, *kind, self.path.parts().len())
            }
        })
    }
}

/// The new value as the kind of the one that is there, where plain JSON may have stood for it.
fn kept(there: &Value, new: Value) -> Value {
    match (there, new) {
        (Value::Counter(_), Value::Int(number)) => Value::Counter(number),
        (Value::Timestamp(_), Value::Int(ms)) => Value::Timestamp(ms),
        (Value::Plain(_), Value::Text(text)) if text.len() <= VALUE_BYTES_MAX => Value::Plain(text),
        (Value::Bytes(_), new) => base64(&new).map_or(new, Value::Bytes),
        (Value::Float(float), Value::Null) if !float.is_finite() => Value::Float(*float),
        (Value::Int(_) | Value::Uint(_) | Value::Float(_), new) if is_equal_number(there, &new) => there.clone(),
        (_, new) => new,
    }
}

/// The bytes that a string is base64 of.
fn base64(value: &Value) -> Option<Vec<u8>> {
    let (Value::Text(text) | Value::Plain(text)) = value else { return None };
    BASE64.decode(text.as_bytes()).ok().filter(|bytes| bytes.len() <= VALUE_BYTES_MAX)
}

fn is_equal_number(there: &Value, new: &Value) -> bool {
    matches!((number(there), number(new)), (Some(there), Some(new)) if there == new)
}

/// A number by its value: whole, or the bits of a float that is not.
#[derive(PartialEq)]
enum Number {
    Whole(i128),
    Bits(u64),
}

fn number(value: &Value) -> Option<Number> {
    /// Floats below this are whole or not; above it they are too coarse to tell.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Int(i) | Value::Counter(i) | Value::Timestamp(i) => Some(Number::Whole(i128::from(*i))),
        Value::Uint(u) => Some(Number::Whole(i128::from(*u))),
        Value::Float(float) if *float <= WHOLE_MAX && *float >= -WHOLE_MAX && *float as i64 as f64 == *float => {
            Some(Number::Whole(i128::from(*float as i64)))
        }
        Value::Float(float) => Some(Number::Bits(float.to_bits())),
        _ => None,
    }
}

/// A digest by which elements of lists find each other: equal for values that plain JSON does not tell apart. Should two others
/// have the same, one becomes the other as any two do.
fn digest(value: &Value) -> u64 {
    let mut hash = Fnv::default();
    hash.value(value);
    hash.0
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.0 = (self.0 ^ bytes.len() as u64).wrapping_mul(0x0100_0000_01b3);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"null"),
            Value::Bool(b) => self.bytes(&[u8::from(*b)]),
            Value::Plain(text) | Value::Text(text) => self.bytes(text.as_bytes()),
            Value::Bytes(bytes) => self.bytes(BASE64.encode(bytes).as_bytes()),
            Value::List(items) => {
                self.bytes(b"[");
                items.iter().for_each(|item| self.value(item));
                self.bytes(b"]");
            }
            Value::Map(members) => {
                self.bytes(b"{");
                for (key, member) in members {
                    self.bytes(key.as_bytes());
                    self.value(member);
                }
                self.bytes(b"}");
            }
            Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::Counter(_) | Value::Timestamp(_) => {
                match number(value) {
                    Some(Number::Whole(whole)) => self.bytes(&whole.to_le_bytes()),
                    Some(Number::Bits(bits)) => self.bytes(&bits.to_le_bytes()),
                    None => {}
                }
            }
        }
    }
}
