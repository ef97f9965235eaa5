//! A value of any size on its way into a document: what is to be done is found and checked as a whole, and then done in pieces
//! that each fit into one change.

use alloc::collections::btree_map;
use alloc::string::String;
use alloc::vec::{self, Vec};

use automerge as am;
use automerge::ReadDoc;
use automerge::transaction::Transactable as _;

use crate::document::difference::{Action, Difference, Splice};
use crate::document::draft::DraftError;
use crate::document::edit::{Edit, EditError};
use crate::document::history::OpsLeft;
use crate::document::path::{IntoPath, Path};
use crate::document::read;
use crate::document::value::{Value, increments};
use crate::document::view::View;
use crate::limits::RUN_BYTES_MAX;

pub use crate::document::difference::{Kinds, Tally};

/// Operations that one piece makes, about. A change may have four times as many.
const PIECE_OPS: u64 = 50_000;
/// Bytes of values and keys in one piece, but for a single larger one. A change may have twice as many.
const PIECE_BYTES: u64 = 512 * 1024;

/// How a value is put into a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rules<'a> {
    /// By what differs, or in place of everything that is there.
    pub replace: bool,
    /// What becomes of the kinds of values that are there, where nothing is replaced.
    pub kinds: Kinds,
    /// A key of the document that stays though the value does not have it.
    pub kept: Option<&'a str>,
}

/// What is to be done to a document, found by [`Import::new`] and done by [`Import::write`], one change after the other. The
/// document must not change otherwise in between: do it in a draft, or in one edit.
#[derive(Debug)]
pub struct Import {
    actions: vec::IntoIter<Action>,
    /// What is under way, the innermost last.
    under_way: Vec<UnderWay>,
    tally: Tally,
    /// A lower bound of the changes' size in bytes: strings are stored unchanged.
    raw_bytes: u64,
}

/// Something larger than one piece, half done.
#[derive(Debug)]
enum UnderWay {
    Members {
        obj: am::ObjId,
        rest: btree_map::IntoIter<String, Value>,
    },
    Items {
        obj: am::ObjId,
        index: usize,
        rest: vec::IntoIter<Value>,
    },
    Remove {
        obj: am::ObjId,
        index: usize,
        left: usize,
    },
    Splices {
        obj: am::ObjId,
        rest: vec::IntoIter<Splice>,
    },
    /// The bytes of `insert` from `from` on are still to be put in.
    Splice {
        obj: am::ObjId,
        splice: Splice,
        from: usize,
    },
}

impl Import {
    /// What makes the place at `path` read as `value` does. The place may be one that is not there yet, if what holds it is: a
    /// new key, or the index behind a list's end.
    ///
    /// # Errors
    /// There is no such place, a part of the value that no document holds, a document that would be full, or changes that are
    /// surely more than what is made as a whole may have.
    pub fn new(view: &View<'_>, path: impl IntoPath, value: Value, rules: Rules<'_>) -> Result<Self, EditError> {
        Self::find(view.doc(), view.when(), &path.into_path()?, value, rules)?.fitting(view)
    }

    /// What makes the text at `path` read as `text` does.
    ///
    /// # Errors
    /// There is no text at `path`, or the document would be full.
    pub fn of_text(view: &View<'_>, path: impl IntoPath, text: String) -> Result<Self, EditError> {
        let path = path.into_path()?;
        read::text_object(view.doc(), view.when(), &path)?;
        Self::new(view, path, Value::Text(text), Rules::default())
    }

    /// Deletes characters of the text at `path` from `position` on and inserts others there.
    ///
    /// # Errors
    /// There is no text at `path`, it is shorter, or the document would be full.
    pub fn of_splice(
        view: &View<'_>,
        path: impl IntoPath,
        position: usize,
        delete: usize,
        insert: String,
    ) -> Result<Self, EditError> {
        let path = path.into_path()?;
        let obj = read::text_object(view.doc(), view.when(), &path)?;
        let length = view.length(&path).unwrap_or_default();
        let end = position.saturating_add(delete);
        if end > length {
            return Err(EditError::OutOfRange { path, position: end, length });
        }
        let operations = (delete + insert.chars().count()) as u64;
        let raw_bytes = insert.len() as u64;
        let tally = Tally { operations, bytes: raw_bytes, changed: 1, ..Tally::default() };
        let splices = Vec::from([Splice { position, delete, insert }]);
        Self::of(Vec::from([Action::Splice { obj, splices }]), tally, raw_bytes).fitting(view)
    }

    /// Inserts a value into a list before the index that `path` ends with; `-` or the list's length appends.
    ///
    /// # Errors
    /// As [`Import::new`].
    pub fn insertion(view: &View<'_>, path: impl IntoPath, value: Value) -> Result<Self, EditError> {
        let path = path.into_path()?;
        let (list, index) = read::insertion(view.doc(), view.when(), &path)?;
        let cost = value.cost(&path)?;
        let tally =
            Tally { operations: cost.ops, bytes: cost.value_bytes + cost.key_bytes, added: 1, ..Tally::default() };
        let actions = Vec::from([Action::Insert { obj: list, index, values: Vec::from([value]) }]);
        Self::of(actions, tally, cost.raw_bytes).fitting(view)
    }

    pub(crate) fn find<R: ReadDoc>(
        doc: &R,
        at: read::At<'_>,
        path: &Path,
        value: Value,
        rules: Rules<'_>,
    ) -> Result<Self, EditError> {
        value.cost(path)?;
        let mut difference = Difference::new(doc, at, rules.kinds, rules.kept);
        let place = read::place(doc, at, path)?;
        match (place, value) {
            (None, Value::Map(members)) if rules.replace => difference.replace_root(members)?,
            (None, Value::Map(members)) => difference.root(members)?,
            (None, value) => {
                return Err(EditError::WrongType {
                    path: path.clone(),
                    expected: "a JSON object",
                    found: value.kind(),
                });
            }
            (Some(place), value) if rules.replace => difference.replace(path, place, value)?,
            (Some(place), value) => difference.place(path, place, value)?,
        }
        Ok(Self::of(difference.actions, difference.tally, difference.raw_bytes))
    }

    fn of(actions: Vec<Action>, tally: Tally, raw_bytes: u64) -> Self {
        Self { actions: actions.into_iter(), under_way: Vec::new(), tally, raw_bytes }
    }

    /// Refuses what cannot be written, as far as that can be told before it is.
    fn fitting(self, view: &View<'_>) -> Result<Self, EditError> {
        view.ops_left().check(self.tally.operations)?;
        if self.raw_bytes > RUN_BYTES_MAX as u64 {
            let (value, unit, limit) = (self.raw_bytes, "bytes of strings", RUN_BYTES_MAX as u64);
            return Err(EditError::Draft(DraftError::TooLarge { value, unit, limit }));
        }
        Ok(self)
    }

    /// How much there was to do.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.under_way.is_empty() && self.actions.len() == 0
    }

    /// Does as much as fits well into one change.
    ///
    /// # Errors
    /// As the [`Edit`] methods. What was found has been checked, so it is unexpected; what was done in earlier edits stays.
    pub fn write(&mut self, edit: &mut Edit<'_>) -> Result<(), EditError> {
        edit.forget_places();
        let mut room = Room { ops: PIECE_OPS, bytes: PIECE_BYTES };
        while !room.is_used_up() {
            match self.under_way.pop() {
                Some(under_way) => self.go_on(under_way, edit, &mut room)?,
                None => match self.actions.next() {
                    Some(action) => self.begin(action, edit, &mut room)?,
                    None => return Ok(()),
                },
            }
        }
        Ok(())
    }

    fn begin(&mut self, action: Action, edit: &mut Edit<'_>, room: &mut Room) -> Result<(), EditError> {
        match action {
            Action::Put { obj, prop, value } => self.put(edit, room, &obj, prop, false, value),
            Action::Fill { obj, members } => {
                self.under_way.push(UnderWay::Members { obj, rest: members.into_iter() });
                Ok(())
            }
            Action::Insert { obj, index, values } => {
                self.under_way.push(UnderWay::Items { obj, index, rest: values.into_iter() });
                Ok(())
            }
            Action::Remove { obj, key } => {
                room.take(1, key.len() as u64);
                edit.charge(1, 0, key.len() as u64)?;
                edit.done(|tx| tx.delete(&obj, key))
            }
            Action::RemoveAt { obj, index, count } => {
                self.under_way.push(UnderWay::Remove { obj, index, left: count });
                Ok(())
            }
            Action::Increment { obj, prop, by } => {
                for step in increments(by) {
                    room.take(1, 9);
                    edit.charge(1, 9, 0)?;
                    edit.done(|tx| tx.increment(&obj, prop.clone(), step))?;
                }
                Ok(())
            }
            Action::Splice { obj, splices } => {
                self.under_way.push(UnderWay::Splices { obj, rest: splices.into_iter() });
                Ok(())
            }
        }
    }

    fn go_on(&mut self, under_way: UnderWay, edit: &mut Edit<'_>, room: &mut Room) -> Result<(), EditError> {
        match under_way {
            UnderWay::Members { obj, mut rest } => {
                let Some((key, value)) = rest.next() else { return Ok(()) };
                self.under_way.push(UnderWay::Members { obj: obj.clone(), rest });
                self.put(edit, room, &obj, am::Prop::Map(key), false, value)
            }
            UnderWay::Items { obj, index, rest } => self.items(obj, index, rest, edit, room),
            UnderWay::Remove { obj, index, left } => {
                let count = left.min(room.ops_left());
                room.take(count as u64, 0);
                edit.charge(count as u64, 0, 0)?;
                edit.done(|tx| tx.splice(&obj, index, count as isize, [] as [am::ScalarValue; 0]))?;
                if left > count {
                    self.under_way.push(UnderWay::Remove { obj, index, left: left - count });
                }
                Ok(())
            }
            UnderWay::Splices { obj, mut rest } => {
                if let Some(splice) = rest.next() {
                    self.under_way.push(UnderWay::Splices { obj: obj.clone(), rest });
                    self.under_way.push(UnderWay::Splice { obj, splice, from: 0 });
                }
                Ok(())
            }
            UnderWay::Splice { obj, splice, from } => self.splice(obj, splice, from, edit, room),
        }
    }

    /// Scalars that follow each other go in in one splice, which is much faster than one by one.
    fn items(
        &mut self,
        obj: am::ObjId,
        mut index: usize,
        mut rest: vec::IntoIter<Value>,
        edit: &mut Edit<'_>,
        room: &mut Room,
    ) -> Result<(), EditError> {
        let mut scalars = Vec::new();
        let mut bytes = 0;
        while !room.is_used_up()
            && let Some(value) = rest.as_slice().first()
            && let Some(scalar) = value.scalar()
        {
            room.take(1, value.own_bytes());
            bytes += value.own_bytes();
            scalars.push(scalar);
            rest.next();
        }
        if !scalars.is_empty() {
            let count = scalars.len();
            edit.charge(count as u64, bytes, 0)?;
            edit.done(|tx| tx.splice(&obj, index, 0, scalars))?;
            index += count;
        }
        if room.is_used_up() {
            self.under_way.push(UnderWay::Items { obj, index, rest });
            return Ok(());
        }
        let Some(value) = rest.next() else { return Ok(()) };
        self.under_way.push(UnderWay::Items { obj: obj.clone(), index: index + 1, rest });
        self.put(edit, room, &obj, am::Prop::Seq(index), true, value)
    }

    fn splice(
        &mut self,
        obj: am::ObjId,
        mut splice: Splice,
        from: usize,
        edit: &mut Edit<'_>,
        room: &mut Room,
    ) -> Result<(), EditError> {
        let delete = splice.delete.min(room.ops_left());
        let rest = &splice.insert[from..];
        let characters = room.ops_left() - delete;
        let end = rest.char_indices().nth(characters).map_or(rest.len(), |(at, _)| at);
        let piece = &rest[..end];
        let inserted = piece.chars().count();
        room.take((delete + inserted) as u64, piece.len() as u64);
        edit.charge((delete + inserted) as u64, piece.len() as u64, 0)?;
        edit.done(|tx| tx.splice_text(&obj, splice.position, delete as isize, piece))?;
        splice.position += inserted;
        splice.delete -= delete;
        let from = from + end;
        if splice.delete > 0 || from < splice.insert.len() {
            self.under_way.push(UnderWay::Splice { obj, splice, from });
        }
        Ok(())
    }

    /// Puts a value, or the empty object that is then filled.
    fn put(
        &mut self,
        edit: &mut Edit<'_>,
        room: &mut Room,
        obj: &am::ObjId,
        prop: am::Prop,
        insert: bool,
        value: Value,
    ) -> Result<(), EditError> {
        let key_bytes = match &prop {
            am::Prop::Map(key) => key.len() as u64,
            am::Prop::Seq(_) => 0,
        };
        if let Some(scalar) = value.scalar() {
            room.take(1, value.own_bytes() + key_bytes);
            edit.charge(1, value.own_bytes(), key_bytes)?;
            return edit.put_scalar(obj, prop, insert, scalar);
        }
        room.take(1, key_bytes);
        edit.charge(1, 0, key_bytes)?;
        let obj = edit.put_object(obj, prop, insert, &value)?;
        self.under_way.push(match value {
            Value::Map(members) => UnderWay::Members { obj, rest: members.into_iter() },
            Value::List(items) => UnderWay::Items { obj, index: 0, rest: items.into_iter() },
            Value::Text(text) => {
                UnderWay::Splice { obj, splice: Splice { position: 0, delete: 0, insert: text }, from: 0 }
            }
            _ => return Ok(()),
        });
        Ok(())
    }
}

/// What is left of a piece.
struct Room {
    ops: u64,
    bytes: u64,
}

impl Room {
    fn take(&mut self, ops: u64, bytes: u64) {
        self.ops = self.ops.saturating_sub(ops);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn is_used_up(&self) -> bool {
        self.ops == 0 || self.bytes == 0
    }

    fn ops_left(&self) -> usize {
        usize::try_from(self.ops).unwrap_or(usize::MAX)
    }
}

impl OpsLeft {
    fn check(self, ops: u64) -> Result<(), EditError> {
        if ops <= self.left {
            return Ok(());
        }
        Err(EditError::DocumentFull {
            value: self.limit.saturating_sub(self.left).saturating_add(ops),
            unit: "operations",
            limit: self.limit,
        })
    }
}
