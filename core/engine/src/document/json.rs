//! JSON and documents. In: objects become maps, arrays lists, strings text, whole numbers integers (signed if they fit),
//! other numbers floats. Out: text and plain strings are strings, counters numbers, timestamps integers (milliseconds since
//! 1970), bytes base64 strings (RFC 4648, padded), floats that JSON cannot write null. Keys come sorted.

use alloc::string::String;
use alloc::vec::Vec;

use automerge as am;
use automerge::ReadDoc;
use data_encoding::BASE64;
use serde_json::{Map, Value as Json};

use crate::limits::{DEPTH_MAX, KEY_BYTES_MAX};

/// What a JSON value costs as automerge operations. Counted before anything is done, so that an edit is refused whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Operations: one for each value, and one for each character of a string.
    pub ops: u64,
    /// Bytes of values.
    pub value_bytes: u64,
    /// Bytes of keys, each time they occur.
    pub key_bytes: u64,
    /// Levels: 1 for a scalar or text.
    pub depth: usize,
    /// Longest key in bytes.
    pub key_bytes_max: usize,
}

impl Cost {
    /// Counts `value`, without recursion: it may be nested as deep as memory allows.
    pub(crate) fn of(value: &Json) -> Self {
        let mut cost = Self::default();
        let mut stack = alloc::vec![(value, 1)];
        while let Some((value, depth)) = stack.pop() {
            cost.depth = cost.depth.max(depth);
            cost.ops += 1;
            match value {
                Json::Null | Json::Bool(_) => {}
                Json::Number(_) => cost.value_bytes += 9,
                Json::String(text) => {
                    cost.ops += text.chars().count() as u64;
                    cost.value_bytes += text.len() as u64;
                }
                Json::Array(items) => stack.extend(items.iter().map(|item| (item, depth + 1))),
                Json::Object(members) => {
                    for (key, member) in members {
                        cost.key_bytes += key.len() as u64;
                        cost.key_bytes_max = cost.key_bytes_max.max(key.len());
                        stack.push((member, depth + 1));
                    }
                }
            }
        }
        cost
    }

    /// Whether it is nested deeper than any document may be.
    pub(crate) fn is_too_deep(&self) -> bool {
        self.depth > DEPTH_MAX
    }

    /// Whether a key is longer than allowed.
    pub(crate) fn key_too_long(&self) -> bool {
        self.key_bytes_max > KEY_BYTES_MAX
    }
}

/// Bytes of memory that a value without members takes, about.
pub(crate) fn bytes(value: &Json) -> usize {
    size_of::<Json>() + value.as_str().map_or(0, str::len)
}

/// The scalar that a JSON value becomes; `None` for what becomes an object.
pub(crate) fn scalar_in(value: &Json) -> Option<am::ScalarValue> {
    match value {
        Json::Null => Some(am::ScalarValue::Null),
        Json::Bool(b) => Some(am::ScalarValue::Boolean(*b)),
        Json::Number(n) => Some(match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => am::ScalarValue::Int(i),
            (None, Some(u)) => am::ScalarValue::Uint(u),
            (None, None) => am::ScalarValue::F64(n.as_f64().unwrap_or(f64::NAN)),
        }),
        Json::String(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A scalar as JSON.
pub(crate) fn scalar_out(value: &am::ScalarValueRef<'_>) -> Json {
    use am::ScalarValueRef as S;
    match value {
        S::Bytes(bytes) => Json::String(BASE64.encode(bytes)),
        S::Str(text) => Json::String(String::from(text.as_ref())),
        S::Int(i) | S::Counter(i) | S::Timestamp(i) => Json::from(*i),
        S::Uint(u) => Json::from(*u),
        S::F64(f) => Json::from(*f),
        S::Boolean(b) => Json::Bool(*b),
        S::Unknown { .. } | S::Null => Json::Null,
    }
}

/// As [`scalar_out`], for the owned kind of scalar.
pub(crate) fn owned_scalar_out(value: &am::ScalarValue) -> Json {
    use am::ScalarValue as S;
    match value {
        S::Bytes(bytes) => Json::String(BASE64.encode(bytes)),
        S::Str(text) => Json::String(String::from(text.as_str())),
        S::Int(i) | S::Timestamp(i) => Json::from(*i),
        S::Counter(c) => Json::from(i64::from(c)),
        S::Uint(u) => Json::from(*u),
        S::F64(f) => Json::from(*f),
        S::Boolean(b) => Json::Bool(*b),
        S::Unknown { .. } | S::Null => Json::Null,
    }
}

/// An object as JSON, now or at `heads`. Honest documents are at most [`DEPTH_MAX`] deep; what a hostile one holds below
/// that is shown as null.
pub(crate) fn object_out<R: ReadDoc>(
    doc: &R,
    heads: Option<&[am::ChangeHash]>,
    obj: &am::ObjId,
    kind: am::ObjType,
    depth: usize,
) -> Json {
    if depth > DEPTH_MAX {
        return Json::Null;
    }
    match kind {
        am::ObjType::Map | am::ObjType::Table => {
            let range = match heads {
                None => doc.map_range(obj, ..),
                Some(heads) => doc.map_range_at(obj, .., heads),
            };
            let mut members = Map::new();
            for item in range {
                let value = value_out(doc, heads, &item.value, || item.id(), depth);
                members.insert(String::from(item.key.as_ref()), value);
            }
            Json::Object(members)
        }
        am::ObjType::List => {
            let range = match heads {
                None => doc.list_range(obj, ..),
                Some(heads) => doc.list_range_at(obj, .., heads),
            };
            Json::Array(range.map(|item| value_out(doc, heads, &item.value, || item.id(), depth)).collect::<Vec<_>>())
        }
        am::ObjType::Text => Json::String(text_out(doc, heads, obj)),
    }
}

/// A text object's characters.
pub(crate) fn text_out<R: ReadDoc>(doc: &R, heads: Option<&[am::ChangeHash]>, obj: &am::ObjId) -> String {
    match heads {
        None => doc.text(obj),
        Some(heads) => doc.text_at(obj, heads),
    }
    .unwrap_or_default()
}

fn value_out<R: ReadDoc>(
    doc: &R,
    heads: Option<&[am::ChangeHash]>,
    value: &am::ValueRef<'_>,
    id: impl FnOnce() -> am::ObjId,
    depth: usize,
) -> Json {
    match value {
        am::ValueRef::Object(kind) => object_out(doc, heads, &id(), *kind, depth + 1),
        am::ValueRef::Scalar(scalar) => scalar_out(scalar),
    }
}

/// A value found with `get` as JSON.
pub(crate) fn found_out<R: ReadDoc>(
    doc: &R,
    heads: Option<&[am::ChangeHash]>,
    value: &am::Value<'_>,
    id: &am::ObjId,
    depth: usize,
) -> Json {
    match value {
        am::Value::Object(kind) => object_out(doc, heads, id, *kind, depth),
        am::Value::Scalar(scalar) => owned_scalar_out(scalar),
    }
}
