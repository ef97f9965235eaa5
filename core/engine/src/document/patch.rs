//! `Patch`: what changed between two versions, in our own words, so that applications do not see the merge library's.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use automerge as am;
use automerge::ReadDoc;
use serde_json::{Value as Json, json};

use crate::document::json;
use crate::document::path::Path;

/// One change to a document's content. A list of them is applied in order, each to what the ones before have made.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Where. For list elements the index, for characters the text.
    pub path: Path,
    /// What.
    pub action: PatchAction,
}

/// What a [`Patch`] does at its path.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchAction {
    /// The key or element has this value now. An object comes empty, and the patches after it fill it; a list may come whole.
    Put {
        /// The value.
        value: Json,
        /// Others set it at the same time.
        conflict: bool,
    },
    /// Elements were inserted, the first of them at the path's index. Objects come empty.
    Insert {
        /// The elements.
        values: Vec<Json>,
    },
    /// The key or, from the path's index on, elements were removed.
    Remove {
        /// Number of elements; 1 for a key.
        count: usize,
    },
    /// A counter changed.
    Increment {
        /// By how much.
        by: i64,
    },
    /// Characters were inserted into the text.
    InsertText {
        /// Before which character.
        position: usize,
        /// The characters.
        text: String,
    },
    /// Characters were removed from the text.
    RemoveText {
        /// The first of them.
        position: usize,
        /// How many.
        count: usize,
    },
    /// The value stayed, and is in conflict with others now.
    Conflict,
}

/// A patch does not fit the JSON that it was applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the patch at `{0}` does not fit")]
pub struct PatchMisfit(pub Path);

impl Patch {
    /// The patch as JSON: `{"path", "action", ..}`.
    pub fn to_json(&self) -> Json {
        let path = self.path.to_string();
        match &self.action {
            PatchAction::Put { value, conflict } => {
                json!({ "path": path, "action": "put", "value": value, "conflict": conflict })
            }
            PatchAction::Insert { values } => json!({ "path": path, "action": "insert", "values": values }),
            PatchAction::Remove { count } => json!({ "path": path, "action": "remove", "count": count }),
            PatchAction::Increment { by } => json!({ "path": path, "action": "increment", "by": by }),
            PatchAction::InsertText { position, text } => {
                json!({ "path": path, "action": "insert_text", "position": position, "text": text })
            }
            PatchAction::RemoveText { position, count } => {
                json!({ "path": path, "action": "remove_text", "position": position, "count": count })
            }
            PatchAction::Conflict => json!({ "path": path, "action": "conflict" }),
        }
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let values = match &self.action {
            PatchAction::Put { value, .. } => json::bytes(value),
            PatchAction::Insert { values } => values.iter().map(json::bytes).sum(),
            PatchAction::InsertText { text, .. } => text.len(),
            PatchAction::Remove { .. }
            | PatchAction::Increment { .. }
            | PatchAction::RemoveText { .. }
            | PatchAction::Conflict => 0,
        };
        size_of::<Self>()
            + self.path.parts().iter().map(|part| size_of::<String>() + part.len()).sum::<usize>()
            + values
    }

    /// Adds `next`, which comes right after this patch, to it, if the two can be one: a value that is put again, text that
    /// goes on where the last ended. Says whether it did.
    pub fn join(&mut self, next: &Self) -> bool {
        use PatchAction as A;
        if self.path != next.path {
            return false;
        }
        match (&mut self.action, &next.action) {
            (A::Put { value, conflict }, A::Put { value: newer, conflict: newer_conflict }) => {
                value.clone_from(newer);
                *conflict = *newer_conflict;
            }
            (A::InsertText { position, text }, A::InsertText { position: at, text: more })
                if *at == *position + text.chars().count() =>
            {
                text.push_str(more);
            }
            (A::Increment { by }, A::Increment { by: more }) => match by.checked_add(*more) {
                Some(sum) => *by = sum,
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// Brings `json`, a document as of the version that the patches start from, one patch further.
    ///
    /// # Errors
    /// The patch does not fit; `json` is unchanged.
    pub fn apply(&self, json: &mut Json) -> Result<(), PatchMisfit> {
        self.try_apply(json).ok_or_else(|| PatchMisfit(self.path.clone()))
    }

    fn try_apply(&self, json: &mut Json) -> Option<()> {
        if let PatchAction::InsertText { .. } | PatchAction::RemoveText { .. } = self.action {
            let Json::String(text) = at(json, self.path.parts())? else { return None };
            let offset =
                |text: &str, position: usize| text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(position);
            match &self.action {
                PatchAction::InsertText { position, text: new } => {
                    let start = offset(text, *position)?;
                    text.insert_str(start, new);
                }
                PatchAction::RemoveText { position, count } => {
                    let range = offset(text, *position)?..offset(text, position.checked_add(*count)?)?;
                    text.replace_range(range, "");
                }
                _ => {}
            }
            return Some(());
        }
        let (last, parents) = self.path.parts().split_last()?;
        match at(json, parents)? {
            Json::Object(members) => match &self.action {
                PatchAction::Put { value, .. } => {
                    members.insert(last.clone(), value.clone());
                }
                PatchAction::Remove { .. } => {
                    members.shift_remove(last)?;
                }
                PatchAction::Increment { by } => add(members.get_mut(last)?, *by)?,
                PatchAction::Conflict => {}
                _ => return None,
            },
            Json::Array(items) => {
                let index: usize = last.parse().ok()?;
                match &self.action {
                    PatchAction::Put { value, .. } => *items.get_mut(index)? = value.clone(),
                    PatchAction::Insert { values } if index <= items.len() => {
                        items.splice(index..index, values.iter().cloned());
                    }
                    PatchAction::Remove { count } if index.checked_add(*count)? <= items.len() => {
                        items.drain(index..index + count);
                    }
                    PatchAction::Increment { by } => add(items.get_mut(index)?, *by)?,
                    PatchAction::Conflict => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }
}

fn at<'a>(json: &'a mut Json, parts: &[String]) -> Option<&'a mut Json> {
    parts.iter().try_fold(json, |json, part| match json {
        Json::Object(members) => members.get_mut(part),
        Json::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn add(json: &mut Json, by: i64) -> Option<()> {
    *json = Json::from(json.as_i64()?.checked_add(by)?);
    Some(())
}

/// Formatting marks are left out: we do not show them anywhere yet.
pub(crate) fn from_automerge(doc: &am::Automerge, patches: Vec<am::Patch>) -> Vec<Patch> {
    patches.into_iter().flat_map(|patch| translate(doc, patch)).collect()
}

/// What leads from one version to another. Takes time in what the document holds.
///
/// Where a list element has several values, and one of them is new, one is gone and one is as before, automerge 0.12 may report
/// the wrong one as shown. We ignore what it says about such a list and put the whole list.
pub(crate) fn between(doc: &am::Automerge, from: &[am::ChangeHash], to: &[am::ChangeHash]) -> Vec<Patch> {
    let found = doc.diff(from, to);
    let mut puts = BTreeMap::<&am::ObjId, Vec<(usize, &am::Patch, &am::ObjId)>>::new();
    for patch in &found {
        if let am::PatchAction::PutSeq { index, value, .. } = &patch.action {
            puts.entry(&patch.obj).or_default().push((*index, patch, &value.1));
        }
    }
    let mut lists = BTreeMap::<Path, PatchAction>::new();
    for (list, puts) in puts {
        let [(_, patch, _), ..] = puts[..] else { continue };
        if !matches!(doc.object_type(list), Ok(am::ObjType::List)) || is_shown(doc, list, &puts, to) {
            continue;
        }
        let path = object_path(patch);
        let all = patch.path.last().map(|(holder, prop)| doc.get_all_at(holder, prop.clone(), to));
        let conflict = all.is_some_and(|all| all.is_ok_and(|all| all.len() > 1));
        let value = json::object_out(doc, Some(to), list, am::ObjType::List, path.parts().len());
        lists.insert(path, PatchAction::Put { value, conflict });
    }
    let is_within = |patch: &Patch| {
        !lists.is_empty() && (0..patch.path.parts().len()).any(|parts| lists.contains_key(&patch.path.up_to(parts)))
    };
    let mut patches: Vec<Patch> = from_automerge(doc, found).into_iter().filter(|patch| !is_within(patch)).collect();
    patches.extend(lists.into_iter().map(|(path, action)| Patch { path, action }));
    patches
}

/// Whether a version of a list shows all of these values where they are put. One pass, however many they are: to look for one
/// position takes a pass too.
fn is_shown(
    doc: &am::Automerge,
    list: &am::ObjId,
    puts: &[(usize, &am::Patch, &am::ObjId)],
    version: &[am::ChangeHash],
) -> bool {
    let put: BTreeMap<usize, &am::ObjId> = puts.iter().map(|(index, _, id)| (*index, *id)).collect();
    let Some((last, _)) = put.last_key_value() else { return true };
    let mut shown = doc.list_range_at(list, ..=*last, version);
    shown.all(|item| put.get(&item.index).is_none_or(|id| **id == item.id()))
}

fn translate(doc: &am::Automerge, patch: am::Patch) -> Vec<Patch> {
    use am::PatchAction as A;
    let object = object_path(&patch);
    let is_text = matches!(doc.object_type(&patch.obj), Ok(am::ObjType::Text));
    let one = |path, action| alloc::vec![Patch { path, action }];
    let insert = |position, text| Patch { path: object.clone(), action: PatchAction::InsertText { position, text } };
    let remove = |position, count| Patch { path: object.clone(), action: PatchAction::RemoveText { position, count } };
    match patch.action {
        A::PutMap { key, value, conflict } => {
            one(object.key(&key), PatchAction::Put { value: empty(&value.0), conflict })
        }
        A::PutSeq { index, value, .. } if is_text => {
            alloc::vec![remove(index, 1), insert(index, character(&value.0))]
        }
        A::PutSeq { index, value, conflict } => {
            one(object.index(index), PatchAction::Put { value: empty(&value.0), conflict })
        }
        A::Insert { index, values } if is_text => {
            alloc::vec![insert(index, values.iter().map(|(value, ..)| character(value)).collect())]
        }
        A::Insert { index, values } => {
            let values = values.iter().map(|(value, ..)| empty(value)).collect();
            one(object.index(index), PatchAction::Insert { values })
        }
        A::SpliceText { index, value, .. } => alloc::vec![insert(index, value.make_string())],
        A::Increment { prop, value } => one(push(object, &prop), PatchAction::Increment { by: value }),
        A::Conflict { prop } => one(push(object, &prop), PatchAction::Conflict),
        A::DeleteMap { key } => one(object.key(&key), PatchAction::Remove { count: 1 }),
        A::DeleteSeq { index, length } if is_text => alloc::vec![remove(index, length)],
        A::DeleteSeq { index, length } => one(object.index(index), PatchAction::Remove { count: length }),
        A::Mark { .. } => Vec::new(),
    }
}

/// Where the object is that a patch is about.
pub(crate) fn object_path(patch: &am::Patch) -> Path {
    patch.path.iter().fold(Path::root(), |path, (_, prop)| push(path, prop))
}

/// What a text shows for an element: its characters, or what stands for an object in it.
fn character(value: &am::Value<'_>) -> String {
    value.as_str().unwrap_or("\u{fffc}").to_string()
}

fn push(path: Path, prop: &am::Prop) -> Path {
    match prop {
        am::Prop::Map(key) => path.key(key),
        am::Prop::Seq(index) => path.index(*index),
    }
}

fn empty(value: &am::Value<'_>) -> Json {
    match value {
        am::Value::Object(am::ObjType::Map | am::ObjType::Table) => json!({}),
        am::Value::Object(am::ObjType::List) => json!([]),
        am::Value::Object(am::ObjType::Text) => json!(""),
        am::Value::Scalar(scalar) => json::owned_scalar_out(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(path: &str, action: PatchAction) -> Patch {
        Patch { path: path.parse().expect("a path"), action }
    }

    #[test]
    fn patches_that_go_on_from_each_other_become_one_with_the_same_effect() {
        let put = |path, n: i64| patch(path, PatchAction::Put { value: json!(n), conflict: false });
        let insert = |position, text: &str| patch("/t", PatchAction::InsertText { position, text: String::from(text) });
        let by = |by| patch("/n", PatchAction::Increment { by });
        for (first, next, joins) in [
            (put("/n", 1), put("/n", 2), true),
            (put("/n", 1), put("/m", 2), false),
            (insert(1, "h\u{e9}"), insert(3, "y"), true),
            (insert(1, "he"), insert(2, "y"), false),
            (by(2), by(-5), true),
            (by(2), put("/n", 1), false),
        ] {
            let mut apart = json!({"n": 0, "m": 0, "t": "abc"});
            let mut together = apart.clone();
            for patch in [&first, &next] {
                patch.apply(&mut apart).expect("it fits");
            }
            let mut joined = first.clone();
            assert_eq!(joined.join(&next), joins, "{first:?} and {next:?}");
            joined.apply(&mut together).expect("it fits");
            if joins {
                assert_eq!(together, apart);
            } else {
                assert_eq!(joined, first);
            }
        }
    }
}
