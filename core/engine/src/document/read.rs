//! Finding things in a document by path. Shared by [`crate::document::Edit`] and [`crate::document::View`].

use alloc::string::{String, ToString};

use automerge as am;
use automerge::ReadDoc;
use serde_json::Value as Json;

use crate::document::edit::EditError;
use crate::document::json;
use crate::document::path::Path;
use crate::document::value::Value;

/// A position in history; `None` is the present.
pub(crate) type At<'a> = Option<&'a [am::ChangeHash]>;

/// What is at `path`, as JSON.
pub(crate) fn get<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Option<Json> {
    let (value, id) = find(doc, at, path)?;
    Some(json::found_out(doc, at, &value, &id, path.parts().len()))
}

/// What kind of value is at `path`.
pub(crate) fn kind<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Option<&'static str> {
    find(doc, at, path).map(|(value, _)| value_name(&value))
}

/// What is at `path`, each kind apart.
pub(crate) fn value<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Option<Value> {
    let (value, id) = find(doc, at, path)?;
    Some(json::found_out(doc, at, &value, &id, path.parts().len()))
}

/// Where something is or may be put.
pub(crate) struct Place<'d> {
    /// The map or list that holds it.
    pub obj: am::ObjId,
    /// Its name in there.
    pub prop: am::Prop,
    /// What is there; nothing at a new key and behind the end of a list.
    pub there: Option<(am::Value<'d>, am::ObjId)>,
}

/// The place at `path`; `None` for the root.
///
/// # Errors
/// As [`object`] for what holds it, and if that is a list and the path ends with no index of it or of its end.
pub(crate) fn place<'d, R: ReadDoc>(doc: &'d R, at: At<'_>, path: &Path) -> Result<Option<Place<'d>>, EditError> {
    let Some((parent, last)) = path.split_last() else { return Ok(None) };
    let (obj, kind) = object(doc, at, &parent)?;
    let prop = match kind {
        am::ObjType::Map | am::ObjType::Table => am::Prop::Map(last.to_string()),
        am::ObjType::List => {
            let position = index(last).ok_or_else(|| EditError::NotAnIndex(path.clone()))?;
            let length = length_of(doc, at, &obj);
            if position > length {
                return Err(EditError::OutOfRange { path: parent, position, length });
            }
            am::Prop::Seq(position)
        }
        am::ObjType::Text => {
            return Err(EditError::WrongType { path: parent, expected: "a map or a list", found: "a text" });
        }
    };
    let there = get_at(doc, at, &obj, prop.clone());
    Ok(Some(Place { obj, prop, there }))
}

/// The list and the index in it that something may be put in before; `-` is its end.
///
/// # Errors
/// As [`place`], and if it is no list.
pub(crate) fn insertion<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Result<(am::ObjId, usize), EditError> {
    let list = |path: Path, found| EditError::WrongType { path, expected: "a list", found };
    let Some((parent, last)) = path.split_last() else { return Err(list(Path::root(), "the root")) };
    let (obj, kind) = object(doc, at, &parent)?;
    if kind != am::ObjType::List {
        return Err(list(parent, kind_name(kind)));
    }
    let length = length_of(doc, at, &obj);
    match if last == "-" { Some(length) } else { index(last) } {
        None => Err(EditError::NotAnIndex(path.clone())),
        Some(position) if position > length => Err(EditError::OutOfRange { path: parent, position, length }),
        Some(position) => Ok((obj, position)),
    }
}

fn length_of<R: ReadDoc>(doc: &R, at: At<'_>, obj: &am::ObjId) -> usize {
    match at {
        None => doc.length(obj),
        Some(heads) => doc.length_at(obj, heads),
    }
}

/// The text or plain string at `path`.
pub(crate) fn text<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Option<String> {
    match find(doc, at, path)? {
        (am::Value::Object(am::ObjType::Text), id) => Some(json::text_out(doc, at, &id)),
        (value, _) => value.as_str().map(String::from),
    }
}

/// Characters of the text, elements of the list or keys of the map at `path`.
pub(crate) fn length<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Option<usize> {
    let (am::Value::Object(_), id) = find(doc, at, path)? else { return None };
    Some(length_of(doc, at, &id))
}

/// The object at `path`.
///
/// # Errors
/// `Missing` with the first part of the path that is not there, `WrongType` if a scalar is in the way.
pub(crate) fn object<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Result<(am::ObjId, am::ObjType), EditError> {
    let mut current = (am::ROOT, am::ObjType::Map);
    for (depth, part) in path.parts().iter().enumerate() {
        let here = || path.up_to(depth + 1);
        let prop = prop(current.1, part).ok_or_else(here).map_err(|path| match current.1 {
            am::ObjType::Text => {
                EditError::WrongType { path: path.up_to(depth), expected: "a map or a list", found: "a text" }
            }
            _ => EditError::NotAnIndex(path),
        })?;
        match get_at(doc, at, &current.0, prop) {
            None => return Err(EditError::Missing(here())),
            Some((am::Value::Object(kind), id)) => current = (id, kind),
            Some((value, _)) => {
                return Err(EditError::WrongType {
                    path: here(),
                    expected: "a map, a list or a text",
                    found: value_name(&value),
                });
            }
        }
    }
    Ok(current)
}

/// The text at `path`.
///
/// # Errors
/// As [`object`], and if it is something else.
pub(crate) fn text_object<R: ReadDoc>(doc: &R, at: At<'_>, path: &Path) -> Result<am::ObjId, EditError> {
    let found = object(doc, at, path).map_err(|error| match error {
        EditError::WrongType { path: here, found, .. } if here == *path => {
            EditError::WrongType { path: here, expected: "a text", found }
        }
        other => other,
    });
    match found? {
        (obj, am::ObjType::Text) => Ok(obj),
        (_, kind) => Err(EditError::WrongType { path: path.clone(), expected: "a text", found: kind_name(kind) }),
    }
}

/// The winning value at `path` and its id.
pub(crate) fn find<'d, R: ReadDoc>(doc: &'d R, at: At<'_>, path: &Path) -> Option<(am::Value<'d>, am::ObjId)> {
    let mut current = (am::Value::Object(am::ObjType::Map), am::ROOT);
    for part in path.parts() {
        let am::Value::Object(kind) = current.0 else { return None };
        current = get_at(doc, at, &current.1, prop(kind, part)?)?;
    }
    Some(current)
}

/// Every value in conflict at `path`, the winner first; one if there is no conflict.
pub(crate) fn find_all<'d, R: ReadDoc>(
    doc: &'d R,
    at: At<'_>,
    path: &Path,
) -> alloc::vec::Vec<(am::Value<'d>, am::ObjId)> {
    let Some((parent, last)) = path.split_last() else { return alloc::vec::Vec::new() };
    let Some((am::Value::Object(kind), obj)) = find(doc, at, &parent) else { return alloc::vec::Vec::new() };
    let Some(prop) = prop(kind, last) else { return alloc::vec::Vec::new() };
    all_at(doc, at, &obj, prop)
}

/// As [`find_all`], in an object that is known.
pub(crate) fn all_at<'d, R: ReadDoc>(
    doc: &'d R,
    at: At<'_>,
    obj: &am::ObjId,
    prop: am::Prop,
) -> alloc::vec::Vec<(am::Value<'d>, am::ObjId)> {
    let mut values = match at {
        None => doc.get_all(obj, prop),
        Some(heads) => doc.get_all_at(obj, prop, heads),
    }
    .unwrap_or_default();
    // automerge lists them in the order of their ids and lets the last one win.
    values.reverse();
    values
}

fn get_at<'d, R: ReadDoc>(
    doc: &'d R,
    at: At<'_>,
    obj: &am::ObjId,
    prop: am::Prop,
) -> Option<(am::Value<'d>, am::ObjId)> {
    match at {
        None => doc.get(obj, prop),
        Some(heads) => doc.get_at(obj, prop, heads),
    }
    .ok()
    .flatten()
}

fn prop(kind: am::ObjType, part: &str) -> Option<am::Prop> {
    match kind {
        am::ObjType::Map | am::ObjType::Table => Some(am::Prop::Map(String::from(part))),
        am::ObjType::List => index(part).map(am::Prop::Seq),
        am::ObjType::Text => None,
    }
}

/// A list index as RFC 6901 writes it: digits without leading zeros.
pub(crate) fn index(part: &str) -> Option<usize> {
    let canonical = part == "0" || (!part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()));
    if canonical { part.parse().ok() } else { None }
}

pub(crate) fn kind_name(kind: am::ObjType) -> &'static str {
    match kind {
        am::ObjType::Map | am::ObjType::Table => "a map",
        am::ObjType::List => "a list",
        am::ObjType::Text => "a text",
    }
}

pub(crate) fn value_name(value: &am::Value<'_>) -> &'static str {
    match value {
        am::Value::Object(kind) => kind_name(*kind),
        am::Value::Scalar(scalar) => match scalar.as_ref() {
            am::ScalarValue::Bytes(_) => "bytes",
            am::ScalarValue::Str(_) => "a plain string",
            am::ScalarValue::Int(_) | am::ScalarValue::Uint(_) | am::ScalarValue::F64(_) => "a number",
            am::ScalarValue::Counter(_) => "a counter",
            am::ScalarValue::Timestamp(_) => "a timestamp",
            am::ScalarValue::Boolean(_) => "a boolean",
            am::ScalarValue::Unknown { .. } => "of an unknown type",
            am::ScalarValue::Null => "null",
        },
    }
}
