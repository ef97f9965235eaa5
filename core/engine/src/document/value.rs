//! `Value`: what can be at a place in a document, each kind apart. `json` reads and writes it as JSON, which knows fewer kinds;
//! `typed` as JSON that keeps them all.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use automerge as am;
use serde_json::{Map, Number, Value as Json};

use crate::document::edit::EditError;
use crate::document::path::Path;
use crate::limits::{
    COUNTER_ADDITION_MAX, COUNTER_STEP_MAX, COUNTER_VALUE_MAX, DEPTH_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};

/// A value in a document. What is made of JSON has texts where JSON has strings; the kinds that JSON lacks are named
/// (`Value::Counter(0)`).
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// Nothing, said explicitly.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that may be beyond the signed ones.
    Uint(u64),
    /// A number with a fraction. Documents take finite ones only.
    Float(f64),
    /// A string that is replaced as a whole, at most [`VALUE_BYTES_MAX`] bytes: one operation.
    Plain(String),
    /// A string that several may edit at once: one operation for each character, and one for the text.
    Text(String),
    /// Bytes, at most [`VALUE_BYTES_MAX`].
    Bytes(Vec<u8>),
    /// A number to which concurrent additions add up. Its first value is at most [`COUNTER_VALUE_MAX`], either way.
    Counter(i64),
    /// A point in time, in milliseconds since 1970.
    Timestamp(i64),
    /// Values in order.
    List(Vec<Value>),
    /// Values by key; a key has at most [`KEY_BYTES_MAX`] bytes.
    Map(BTreeMap<String, Value>),
}

/// What a JSON string becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strings {
    /// [`Value::Text`]: what several people edit at once is merged, at the price of an operation for each character.
    #[default]
    Text,
    /// [`Value::Plain`]: replaced as a whole, one operation.
    Plain,
}

impl Strings {
    /// The value of a string.
    pub(crate) fn value(self, text: String) -> Value {
        match self {
            Self::Text => Value::Text(text),
            Self::Plain => Value::Plain(text),
        }
    }
}

impl Value {
    /// What it is called in errors: `a map`, `a counter`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Uint(_) | Self::Float(_) => "a number",
            Self::Plain(_) => "a plain string",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
            Self::Counter(_) => "a counter",
            Self::Timestamp(_) => "a timestamp",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// The value of JSON, whose strings become `strings`. What is nested beyond every limit is cut off, still beyond it:
    /// no document takes it either way.
    pub fn from_json(json: Json, strings: Strings) -> Self {
        from_json(json, strings, 0)
    }

    /// The scalar of a value that holds no others; `None` for what becomes an object.
    pub(crate) fn scalar(&self) -> Option<am::ScalarValue> {
        Some(match self {
            Self::Null => am::ScalarValue::Null,
            Self::Bool(b) => am::ScalarValue::Boolean(*b),
            Self::Int(i) => am::ScalarValue::Int(*i),
            Self::Uint(u) => am::ScalarValue::Uint(*u),
            Self::Float(f) => am::ScalarValue::F64(*f),
            Self::Plain(text) => am::ScalarValue::Str(text.as_str().into()),
            Self::Bytes(bytes) => am::ScalarValue::Bytes(bytes.clone()),
            Self::Counter(i) => am::ScalarValue::counter(*i),
            Self::Timestamp(ms) => am::ScalarValue::Timestamp(*ms),
            Self::Text(_) | Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// Bytes that it takes itself, not what is in it.
    pub(crate) fn own_bytes(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) | Self::List(_) | Self::Map(_) => 0,
            Self::Int(_) | Self::Uint(_) | Self::Float(_) | Self::Counter(_) | Self::Timestamp(_) => 9,
            Self::Plain(text) | Self::Text(text) => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Bytes stored unchanged in the change.
    fn raw_bytes(&self) -> u64 {
        match self {
            Self::Plain(_) | Self::Text(_) | Self::Bytes(_) => self.own_bytes(),
            _ => 0,
        }
    }

    /// What it costs to put it at `at`, `depth` levels below the root.
    ///
    /// # Errors
    /// A part of it that no document may hold, with its path.
    pub(crate) fn cost(&self, at: &Path) -> Result<Cost, EditError> {
        let mut cost = Cost::default();
        cost.add(self, &Trail { at, above: None, part: Part::Here }, at.parts().len())?;
        Ok(cost)
    }
}

fn from_json(json: Json, strings: Strings, depth: usize) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(number) => from_number(&number),
        Json::String(text) => strings.value(text),
        Json::Array(_) | Json::Object(_) if depth > DEPTH_MAX => Value::Null,
        Json::Array(items) => Value::List(items.into_iter().map(|item| from_json(item, strings, depth + 1)).collect()),
        Json::Object(members) => {
            Value::Map(members.into_iter().map(|(key, member)| (key, from_json(member, strings, depth + 1))).collect())
        }
    }
}

/// Signed if it fits, then unsigned, then a float.
fn from_number(number: &Number) -> Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(i), _) => Value::Int(i),
        (None, Some(u)) => Value::Uint(u),
        (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// What a value costs as automerge operations. Counted before anything is done, so that an edit is refused whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Operations: one for each value, and one for each character of a text.
    pub ops: u64,
    /// Bytes of values.
    pub value_bytes: u64,
    /// Of these, bytes stored unchanged in the change: of strings, texts and bytes.
    pub raw_bytes: u64,
    /// Bytes of keys, each time they occur.
    pub key_bytes: u64,
}

/// The way from the value that is put to a part of it, for errors.
struct Trail<'a> {
    at: &'a Path,
    above: Option<&'a Trail<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Here,
    Key(&'a str),
    Index(usize),
}

impl Trail<'_> {
    fn path(&self) -> Path {
        let above = self.above.map_or_else(|| self.at.clone(), Trail::path);
        match self.part {
            Part::Here => above,
            Part::Key(key) => above.key(key),
            Part::Index(index) => above.index(index),
        }
    }

    fn below<'a>(&'a self, part: Part<'a>) -> Trail<'a> {
        Trail { at: self.at, above: Some(self), part }
    }
}

impl Cost {
    /// Counts a value whose place has `depth` parts. The recursion ends where the nesting does.
    fn add(&mut self, value: &Value, trail: &Trail<'_>, depth: usize) -> Result<(), EditError> {
        let too_large = |what, value: u64, unit, limit: u64| EditError::ValueTooLarge {
            what,
            at: trail.path(),
            value,
            unit,
            limit,
        };
        if depth > DEPTH_MAX {
            return Err(too_large("the nesting", depth as u64, "levels", DEPTH_MAX as u64));
        }
        self.ops += 1;
        self.value_bytes += value.own_bytes();
        self.raw_bytes += value.raw_bytes();
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Timestamp(_) => {}
            Value::Float(float) if !float.is_finite() => {
                let number = if float.is_nan() { "NaN" } else { "infinite" };
                return Err(EditError::NotFinite { at: trail.path(), number });
            }
            Value::Float(_) => {}
            Value::Plain(_) | Value::Bytes(_) if value.own_bytes() > VALUE_BYTES_MAX as u64 => {
                return Err(too_large(value.kind(), value.own_bytes(), "bytes", VALUE_BYTES_MAX as u64));
            }
            Value::Plain(_) | Value::Bytes(_) => {}
            Value::Counter(start) if start.unsigned_abs() > COUNTER_VALUE_MAX => {
                return Err(too_large("a counter's first value", start.unsigned_abs(), "units", COUNTER_VALUE_MAX));
            }
            Value::Counter(_) => {}
            Value::Text(text) => self.ops += text.chars().count() as u64,
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(item, &trail.below(Part::Index(index)), depth + 1)?;
                }
            }
            Value::Map(members) => {
                for (key, member) in members {
                    if key.len() > KEY_BYTES_MAX {
                        return Err(too_large("a key", key.len() as u64, "bytes", KEY_BYTES_MAX as u64));
                    }
                    self.key_bytes += key.len() as u64;
                    self.add(member, &trail.below(Part::Key(key)), depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// Refuses an addition to a counter that would take too many steps.
pub(crate) fn check_increment(at: &Path, by: i64) -> Result<(), EditError> {
    if by.unsigned_abs() <= COUNTER_ADDITION_MAX {
        return Ok(());
    }
    Err(EditError::ValueTooLarge {
        what: "an addition to a counter",
        at: at.clone(),
        value: by.unsigned_abs(),
        unit: "units",
        limit: COUNTER_ADDITION_MAX,
    })
}

/// An addition to a counter as steps that each may be one operation.
pub(crate) fn increments(by: i64) -> impl Iterator<Item = i64> {
    let step = COUNTER_STEP_MAX as i64;
    let (whole, rest) = (by / step, by % step);
    core::iter::repeat_n(step * whole.signum(), usize::try_from(whole.unsigned_abs()).unwrap_or(usize::MAX))
        .chain((rest != 0 || whole == 0).then_some(rest))
}

macro_rules! from_integers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                match i64::try_from(number) {
                    Ok(i) => Self::Int(i),
                    Err(_) => from_number(&Number::from(number)),
                }
            }
        }
    )*};
}

from_integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        Self::from_json(json, Strings::Text)
    }
}

impl From<Map<String, Json>> for Value {
    fn from(members: Map<String, Json>) -> Self {
        Self::from(Json::Object(members))
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<f32> for Value {
    fn from(float: f32) -> Self {
        Self::Float(f64::from(float))
    }
}

impl From<f64> for Value {
    fn from(float: f64) -> Self {
        Self::Float(float)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(String::from(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<BTreeMap<String, T>> for Value {
    fn from(members: BTreeMap<String, T>) -> Self {
        Self::Map(members.into_iter().map(|(key, member)| (key, member.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_signed_if_they_fit() {
        assert_eq!(Value::from(7_u64), Value::Int(7));
        assert_eq!(Value::from(u64::MAX), Value::Uint(u64::MAX));
        assert_eq!(
            Value::from(json!([1, -1, u64::MAX, 0.5])),
            Value::List([Value::Int(1), Value::Int(-1), Value::Uint(u64::MAX), Value::Float(0.5),].into())
        );
    }

    #[test]
    fn what_no_document_holds_is_named_by_its_path() {
        let cost = |value: Value| value.cost(&Path::root().key("at")).unwrap_err().to_string();
        let key = Value::from(json!({"list": [1, {"k".repeat(1_100): 1}]}));
        assert_eq!(cost(key), "a key at `/at/list/1` is 1100 bytes, limit 1024");
        let plain = Value::Map([(String::from("p"), Value::Plain("x".repeat(300_000)))].into());
        assert_eq!(cost(plain), "a plain string at `/at/p` is 300000 bytes, limit 262144");
        assert_eq!(cost([f64::NAN].into()), "the number at `/at/0` is NaN: only finite numbers can be written");
        let counter = Value::Counter(i64::MIN);
        assert_eq!(
            cost(counter),
            "a counter's first value at `/at` is 9223372036854775808 units, limit 9007199254740992"
        );
        let deep = (0..70).fold(Value::Null, |inner, _| Value::List([inner].into()));
        assert!(cost(deep).ends_with(" is 65 levels, limit 64"));
    }

    #[test]
    fn a_large_addition_is_several_steps() {
        let steps = |by: i64| increments(by).collect::<Vec<_>>();
        assert_eq!(steps(5), [5]);
        assert_eq!(steps(0), [0]);
        assert_eq!(steps(-5), [-5]);
        let step = COUNTER_STEP_MAX as i64;
        assert_eq!(steps(2 * step + 3), [step, step, 3]);
        assert_eq!(steps(-2 * step), [-step, -step]);
    }
}
