//! Importing JSON of any size: what does not fit into one change becomes several, each within the limits.

use anabranch::{Edit, EditError, Path};
use serde_json::{Map, Value};

use crate::control::documents::{blocking, object};
use crate::control::names::{Expect, texts};
use crate::control::{Control, edits};
use crate::failure::Failure;
use crate::protocol::{EditStep, Edited, Which};

/// Operations of one change, as counted by [`weight`]: well below `limits::CHANGE_OPS_MAX`, so that no change holds up the
/// replicas that apply it.
const CHANGE_WEIGHT_MAX: usize = 20_000;

impl Control {
    /// Makes a document of `value`, or makes one say it. Several changes if it is large: a reader may see the first of them
    /// without the last.
    pub(super) async fn import(
        &self,
        space: Option<&str>,
        document: Option<&str>,
        name: Option<String>,
        value: Value,
    ) -> Result<Edited, Failure> {
        let mut members = object(value)?;
        if let Some(name) = name {
            members.insert("name".to_owned(), Value::String(name));
        }
        let document = match document {
            Some(text) => {
                let which = Which { space: space.map(str::to_owned), document: text.to_owned() };
                self.document(&mut None, &which, Expect::Any).await?
            }
            None => self.space(space)?.create_document().await?,
        };
        let changes = changes(members);
        let made = changes.len() as u64;
        let total = changes.iter().map(|change| change.len() as u64).sum();
        let editing = document.clone();
        let heads = blocking(move || {
            for (index, change) in changes.iter().enumerate() {
                editing.edit(|edit| {
                    if index == 0 {
                        edit.set("", Value::Object(Map::new()))?;
                    }
                    change.iter().try_for_each(|step| apply(edit, step))
                })?;
            }
            editing.heads()
        })
        .await??;
        document.saved().await?;
        Ok(Edited {
            space: document.space().id().to_string(),
            document: document.id().to_string(),
            heads: texts(&heads),
            edits: total,
            changes: made,
            saved: true,
        })
    }
}

fn apply(edit: &mut Edit<'_>, step: &EditStep) -> Result<(), EditError> {
    edits::apply(edit, step)
}

/// Edits that build an object in an empty document, grouped into changes of bounded weight. There is at least one.
fn changes(members: Map<String, Value>) -> Vec<Vec<EditStep>> {
    let mut plan = Plan { changes: vec![Vec::new()], room: CHANGE_WEIGHT_MAX };
    for (key, value) in members {
        plan.put(Path::root().key(&key), value, false);
    }
    plan.changes
}

struct Plan {
    changes: Vec<Vec<EditStep>>,
    /// Weight that still fits into the last change.
    room: usize,
}

impl Plan {
    /// Plans to put `value` at `path`: as the next element of a list if `appended`.
    fn put(&mut self, path: Path, value: Value, appended: bool) {
        let weight = weight(&value);
        if weight <= CHANGE_WEIGHT_MAX {
            return self.push(place(&path, value, appended), weight);
        }
        match value {
            Value::String(text) => {
                self.push(place(&path, Value::String(String::new()), appended), 1);
                self.fill_text(&path, &text);
            }
            Value::Array(elements) => {
                self.push(place(&path, Value::Array(Vec::new()), appended), 1);
                for (index, element) in elements.into_iter().enumerate() {
                    self.put(path.clone().index(index), element, true);
                }
            }
            Value::Object(members) => {
                self.push(place(&path, Value::Object(Map::new()), appended), 1);
                for (key, member) in members {
                    self.put(path.clone().key(&key), member, false);
                }
            }
            small @ (Value::Null | Value::Bool(_) | Value::Number(_)) => {
                self.push(place(&path, small, appended), weight)
            }
        }
    }

    fn fill_text(&mut self, path: &Path, text: &str) {
        let mut position = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.char_indices().nth(CHANGE_WEIGHT_MAX / 2).map_or(rest.len(), |(end, _)| end);
            let (piece, after) = rest.split_at(end);
            let characters = piece.chars().count();
            let step = EditStep::Splice { path: path.to_string(), pos: position, del: 0, ins: piece.to_owned() };
            self.push(step, characters);
            position += characters;
            rest = after;
        }
    }

    fn push(&mut self, step: EditStep, weight: usize) {
        if weight > self.room {
            self.changes.push(Vec::new());
            self.room = CHANGE_WEIGHT_MAX;
        }
        self.room = self.room.saturating_sub(weight);
        self.changes.last_mut().expect("a plan begins with one change").push(step);
    }
}

fn place(path: &Path, value: Value, appended: bool) -> EditStep {
    let path = path.to_string();
    if appended { EditStep::Insert { path, value } } else { EditStep::Set { path, value } }
}

/// Operations that a value takes: one for each object, element and character. Long keys count by their bytes.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.chars().count(),
        Value::Array(elements) => 1 + elements.iter().map(weight).sum::<usize>(),
        Value::Object(members) => 1 + members.iter().map(|(key, member)| key.len() / 8 + weight(member)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_small_is_one_change() {
        let Value::Object(members) = json!({"a": [1, {"b": "c"}], "d": null}) else { unreachable!() };
        let changes = changes(members);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].len(), 2);
        assert_eq!(super::changes(Map::new()), [vec![]]);
    }

    #[test]
    fn what_is_large_is_split_and_nothing_is_lost() {
        let text = "ß".repeat(50_000);
        let list: Vec<Value> = (0..45_000).map(|i| json!(i)).collect();
        let Value::Object(members) = json!({"text": text, "deep": {"list": list}, "nested": [["x".repeat(30_000)]]})
        else {
            unreachable!()
        };
        let changes = changes(members);
        let (mut characters, mut elements) = (0, 0);
        for change in &changes {
            let mut total = 0;
            for step in change {
                match step {
                    EditStep::Splice { ins, pos, path, .. } => {
                        if path == "/text" {
                            assert_eq!(*pos, characters);
                            characters += ins.chars().count();
                        } else {
                            assert_eq!(path, "/nested/0/0");
                        }
                        total += ins.chars().count();
                    }
                    EditStep::Insert { path, value } if path.starts_with("/deep/list/") => {
                        assert_eq!(value, &json!(elements));
                        elements += 1;
                        total += 1;
                    }
                    EditStep::Set { value, .. } | EditStep::Insert { value, .. } => total += weight(value),
                    other => panic!("{other:?}"),
                }
            }
            assert!(total <= CHANGE_WEIGHT_MAX, "{total}");
        }
        assert_eq!((characters, elements), (50_000, 45_000));
        assert!(changes.len() >= 6);
    }
}
