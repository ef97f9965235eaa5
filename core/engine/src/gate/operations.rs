//! The operations of a change, read from its columns one after the other and without allocation. Only for chunks that the
//! inspector and automerge have both read: that the columns make sense together is not checked here.

use alloc::vec::Vec;

use crate::gate::Refusal;
use crate::gate::input::Input;
use crate::gate::inspector::{
    ACTION, Chunk, INSERT, KEY_ACTOR, KEY_COUNTER, KEY_STRING, MARK_NAME, OBJ_ACTOR, OBJ_COUNTER, PRED_ACTOR,
    PRED_COUNT, PRED_COUNTER, VALUE_META,
};

/// An operation's id as it stands in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Place in the change's list of actors: first its own, then the others.
    pub actor: usize,
    pub counter: u32,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Map,
    List,
    Text,
    Table,
    Put { counter: bool },
    Delete,
    Increment,
    MarkBegin,
    MarkEnd,
}

/// Where in its object an operation acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Name(&'a str),
    /// Before the first element.
    Head,
    Element(Reference),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    /// The operation that made its object; `None` for the root.
    pub object: Option<Reference>,
    pub key: Key<'a>,
    pub insert: bool,
    pub action: Action,
}

/// The type of a value that is a counter, as automerge numbers them.
const VALUE_COUNTER: u64 = 8;

/// See [`Chunk::operations`].
pub(crate) struct Operations<'a> {
    left: u64,
    object_actor: Rows<'a, u64>,
    object_counter: Rows<'a, u64>,
    key_actor: Rows<'a, u64>,
    key_counter: Sums<'a>,
    key_name: Rows<'a, &'a str>,
    insert: Flags<'a>,
    action: Rows<'a, u64>,
    value: Rows<'a, u64>,
    mark_name: Rows<'a, &'a str>,
    replaced: Rows<'a, u64>,
    replaced_actor: Rows<'a, u64>,
    replaced_counter: Sums<'a>,
}

impl<'a> Chunk<'a> {
    /// Its operations, in order.
    pub(crate) fn operations(&self) -> Operations<'a> {
        let column = |index: usize| self.columns.0[index];
        let numbers = |index: usize| Rows::new(column(index), |input| input.unsigned("number"));
        let names = |index: usize| Rows::new(column(index), name);
        Operations {
            left: self.ops,
            object_actor: numbers(OBJ_ACTOR),
            object_counter: numbers(OBJ_COUNTER),
            key_actor: numbers(KEY_ACTOR),
            key_counter: Sums::new(column(KEY_COUNTER)),
            key_name: names(KEY_STRING),
            insert: Flags { input: Input(column(INSERT)), left: 0, value: true },
            action: numbers(ACTION),
            value: numbers(VALUE_META),
            mark_name: names(MARK_NAME),
            replaced: numbers(PRED_COUNT),
            replaced_actor: numbers(PRED_ACTOR),
            replaced_counter: Sums::new(column(PRED_COUNTER)),
        }
    }
}

fn name<'a>(input: &mut Input<'a>) -> Result<&'a str, Refusal> {
    let length = input.unsigned("name")?;
    core::str::from_utf8(input.take(length as usize, "name")?).map_err(|_| unreadable())
}

impl<'a> Operations<'a> {
    /// The next operation; what it replaces is put into `replaces`.
    pub(crate) fn next(&mut self, replaces: &mut Vec<Reference>) -> Result<Option<Operation<'a>>, Refusal> {
        replaces.clear();
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let object = match (self.object_actor.next()?, self.object_counter.next()?) {
            (Some(actor), Some(counter)) => Some(reference(actor, counter)),
            (None, None | Some(0)) => None,
            _ => return Err(unreadable()),
        };
        let key = match (self.key_actor.next()?, self.key_counter.next()?, self.key_name.next()?) {
            (None, None, Some(name)) => Key::Name(name),
            (None, Some(0), None) => Key::Head,
            (Some(actor), Some(counter), None) => Key::Element(reference(actor, counter)),
            _ => return Err(unreadable()),
        };
        let insert = self.insert.next()?;
        let value = self.value.next()?.unwrap_or_default() & 0xf;
        let mark_name = self.mark_name.next()?;
        let action = match self.action.next()? {
            Some(0) => Action::Map,
            Some(1) => Action::Put { counter: value == VALUE_COUNTER },
            Some(2) => Action::List,
            Some(3) => Action::Delete,
            Some(4) => Action::Text,
            Some(5) => Action::Increment,
            Some(6) => Action::Table,
            Some(7) if mark_name.is_some() => Action::MarkBegin,
            Some(7) => Action::MarkEnd,
            _ => return Err(unreadable()),
        };
        for _ in 0..self.replaced.next()?.unwrap_or_default() {
            match (self.replaced_actor.next()?, self.replaced_counter.next()?) {
                (Some(actor), Some(counter)) => replaces.push(reference(actor, counter)),
                _ => return Err(unreadable()),
            }
        }
        Ok(Some(Operation { object, key, insert, action }))
    }
}

/// The inspector has bounded both.
fn reference(actor: u64, counter: u64) -> Reference {
    Reference { actor: actor as usize, counter: counter as u32 }
}

fn unreadable() -> Refusal {
    Refusal::Malformed(alloc::string::String::from("an operation cannot be read"))
}

/// A run-length encoded column. Behind its end everything is null.
struct Rows<'a, T> {
    input: Input<'a>,
    read: fn(&mut Input<'a>) -> Result<T, Refusal>,
    left: u64,
    is_literal: bool,
    value: Option<T>,
}

impl<'a, T: Copy> Rows<'a, T> {
    fn new(data: &'a [u8], read: fn(&mut Input<'a>) -> Result<T, Refusal>) -> Self {
        Self { input: Input(data), read, left: 0, is_literal: false, value: None }
    }

    fn next(&mut self) -> Result<Option<T>, Refusal> {
        while self.left == 0 {
            if self.input.0.is_empty() {
                return Ok(None);
            }
            let length = self.input.signed("run")?;
            self.is_literal = length < 0;
            self.left = length.unsigned_abs();
            self.value = match length {
                0 => {
                    self.left = self.input.unsigned("run")?;
                    None
                }
                1.. => Some((self.read)(&mut self.input)?),
                _ => None,
            };
        }
        self.left -= 1;
        if self.is_literal {
            return (self.read)(&mut self.input).map(Some);
        }
        Ok(self.value)
    }
}

/// A column of differences.
struct Sums<'a> {
    rows: Rows<'a, i64>,
    sum: i64,
}

impl<'a> Sums<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { rows: Rows::new(data, |input| input.signed("difference")), sum: 0 }
    }

    fn next(&mut self) -> Result<Option<u64>, Refusal> {
        let Some(difference) = self.rows.next()? else { return Ok(None) };
        self.sum = self.sum.checked_add(difference).ok_or_else(unreadable)?;
        u64::try_from(self.sum).map(Some).map_err(|_| unreadable())
    }
}

/// A column of booleans: lengths of alternating runs, beginning with false. Behind its end everything is false.
struct Flags<'a> {
    input: Input<'a>,
    left: u64,
    value: bool,
}

impl Flags<'_> {
    fn next(&mut self) -> Result<bool, Refusal> {
        while self.left == 0 {
            if self.input.0.is_empty() {
                return Ok(false);
            }
            self.left = self.input.unsigned("run")?;
            self.value = !self.value;
        }
        self.left -= 1;
        Ok(self.value)
    }
}
