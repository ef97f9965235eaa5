//! Settling what was done at the same time: one of several values becomes the only one, a lost edit is brought back or given up.

use alloc::string::{String, ToString as _};

use automerge as am;
use automerge::ReadDoc;
use automerge::transaction::Transactable as _;

use crate::document::edit::{Edit, EditError};
use crate::document::history;
use crate::document::import::{Import, Kinds, Rules};
use crate::document::json;
use crate::document::lost::{Gap, LostEdit};
use crate::document::path::{IntoPath, Path};
use crate::document::read;
use crate::document::value::Value;
use crate::document::view::{Conflict, View};

/// How the value of a conflict takes the place of all: as it is, of its own kind.
const TAKE: Rules<'_> = Rules { replace: true, kinds: Kinds::Exact, kept: None };

impl View<'_> {
    /// One of the values in conflict at `path`, each kind apart; nothing if it is none of them.
    pub fn conflict_value(&self, path: impl IntoPath, chosen: &Conflict) -> Option<Value> {
        value_of(self.doc(), self.when(), &path.into_path().ok()?, chosen)
    }

    /// What a lost edit said, each kind apart; nothing if it removed something.
    pub fn lost_value(&self, lost: &LostEdit) -> Option<Value> {
        lost.value.as_ref()?;
        self.earlier(&[lost.by.change]).ok()?.value(&lost.path)
    }
}

impl Edit<'_> {
    /// Makes one of the values in conflict at `path`, as [`View::conflicts`] lists them, the only one there. It stays of its kind.
    /// A map, list, text or counter is copied: what others do to the one that it was, and had not come here yet, is a lost edit
    /// afterwards.
    pub fn resolve(&mut self, path: impl IntoPath, chosen: &Conflict) -> Result<(), EditError> {
        let path = path.into_path()?;
        match value_of(&self.tx, None, &path, chosen) {
            Some(value) => self.set(path, value),
            None => Err(EditError::NotInConflict(path)),
        }
    }

    /// Gives up lost edits, and with each the others that went into the same thing: they are not listed any more. What the
    /// document says stays as it is.
    pub fn give_up(&mut self, lost: &[LostEdit]) -> Result<(), EditError> {
        for (index, edit) in lost.iter().enumerate() {
            if lost[..index].iter().all(|earlier| earlier.place != edit.place) {
                self.write_at(&edit.place)?;
            }
        }
        Ok(())
    }

    /// Writes where something was that is gone, and leaves what is there as it is.
    fn write_at(&mut self, place: &Gap) -> Result<(), EditError> {
        let Gap { object, key } = place;
        self.forget_places();
        let Some(key) = key else { return self.touch(object, am::ObjType::List) };
        let there = self.tx.get(object, key.as_str()).map_err(|error| EditError::Internal(error.to_string()))?;
        let there = there.map(|(value, id)| (value.into_owned(), id));
        let key_bytes = key.len() as u64;
        match there {
            Some((am::Value::Object(kind), id)) => self.touch(&id, kind),
            Some((am::Value::Scalar(scalar), _)) => match scalar.into_owned() {
                am::ScalarValue::Counter(_) => {
                    self.charge(1, 1, key_bytes)?;
                    self.done(|tx| tx.increment(object, key.as_str(), 0))
                }
                scalar => {
                    // The same value again would be no operation.
                    let other = match scalar {
                        am::ScalarValue::Null => am::ScalarValue::Boolean(false),
                        _ => am::ScalarValue::Null,
                    };
                    self.charge(2, scalar_bytes(&scalar), 2 * key_bytes)?;
                    self.put_scalar(object, am::Prop::Map(key.clone()), false, other)?;
                    self.put_scalar(object, am::Prop::Map(key.clone()), false, scalar)
                }
            },
            None => self.put_and_delete(object, am::Prop::Map(key.clone())),
        }
    }

    /// Writes into an object and leaves it as it is.
    fn touch(&mut self, object: &am::ObjId, kind: am::ObjType) -> Result<(), EditError> {
        let length = self.tx.length(object);
        match kind {
            am::ObjType::Map | am::ObjType::Table => {
                let mut key = String::from("settled");
                while self.tx.get(object, key.as_str()).is_ok_and(|there| there.is_some()) {
                    key.push('-');
                }
                self.put_and_delete(object, am::Prop::Map(key))
            }
            am::ObjType::List => self.put_and_delete(object, am::Prop::Seq(length)),
            am::ObjType::Text => {
                self.charge(2, 1, 0)?;
                self.done(|tx| tx.splice_text(object, length, 0, " "))?;
                self.done(|tx| tx.splice_text(object, length, 1, ""))
            }
        }
    }

    /// At a place where there is nothing.
    fn put_and_delete(&mut self, object: &am::ObjId, prop: am::Prop) -> Result<(), EditError> {
        let key_bytes = match &prop {
            am::Prop::Map(key) => 2 * key.len() as u64,
            am::Prop::Seq(_) => 0,
        };
        self.charge(2, 0, key_bytes)?;
        let is_in_list = matches!(prop, am::Prop::Seq(_));
        self.put_scalar(object, prop.clone(), is_in_list, am::ScalarValue::Null)?;
        self.done(|tx| tx.delete(object, prop))
    }
}

impl Import {
    /// [`Edit::resolve`] for a value of any size.
    ///
    /// # Errors
    /// [`EditError::NotInConflict`], and as [`Import::new`].
    pub fn resolution(view: &View<'_>, path: impl IntoPath, chosen: &Conflict) -> Result<Self, EditError> {
        let path = path.into_path()?;
        match view.conflict_value(&path, chosen) {
            Some(value) => Self::new(view, path, value, TAKE),
            None => Err(EditError::NotInConflict(path)),
        }
    }
}

/// Nothing where there is no conflict, or another.
fn value_of<R: ReadDoc>(doc: &R, at: read::At<'_>, path: &Path, chosen: &Conflict) -> Option<Value> {
    let values = read::find_all(doc, at, path);
    let is_chosen = |id: &am::ObjId| match id {
        am::ObjId::Id(counter, actor, _) => {
            *counter == chosen.counter && history::actor_from(actor) == Some(chosen.actor)
        }
        am::ObjId::Root => false,
    };
    let (value, id) = values.iter().filter(|_| values.len() > 1).find(|(_, id)| is_chosen(id))?;
    Some(json::found_out(doc, at, value, id, path.parts().len()))
}

fn scalar_bytes(scalar: &am::ScalarValue) -> u64 {
    match scalar {
        am::ScalarValue::Str(text) => text.len() as u64,
        am::ScalarValue::Bytes(bytes) | am::ScalarValue::Unknown { bytes, .. } => bytes.len() as u64,
        _ => 9,
    }
}
