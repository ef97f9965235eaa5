//! JSON and documents. In: objects become maps, arrays lists, strings texts or plain strings, whole numbers integers (signed if
//! they fit, refused beyond 64 bits), other numbers floats (refused if they would be rounded). Out: texts and plain strings are
//! strings, counters numbers, timestamps integers (milliseconds since 1970), bytes base64 strings (RFC 4648, padded), floats
//! that JSON cannot write null. Keys come sorted.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use automerge as am;
use automerge::ReadDoc;
use data_encoding::BASE64;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use crate::document::value::{Strings, Value};
use crate::limits::{DEPTH_MAX, KEY_BYTES_MAX};

/// Text that is not JSON, or none that a document can hold; says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl Value {
    /// Reads JSON text (UTF-8), whose strings become `strings`.
    ///
    /// # Errors
    /// It is not JSON, has a key or a nesting over the limits, or a number that would be rounded ([`check_numbers`]). The error
    /// names line and column.
    pub fn parse(text: &[u8], strings: Strings) -> Result<Self, JsonError> {
        check_numbers(text)?;
        let read = |text| {
            let mut deserializer = serde_json::Deserializer::from_slice(text);
            let value = Seed { strings, depth: 0 }.deserialize(&mut deserializer)?;
            deserializer.end().map(|()| value)
        };
        read(text).map_err(|error: serde_json::Error| JsonError(error.to_string()))
    }

    /// As plain JSON: the kinds that JSON lacks become those that it has.
    pub fn into_json(self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(b),
            Self::Int(i) | Self::Counter(i) | Self::Timestamp(i) => Json::from(i),
            Self::Uint(u) => Json::from(u),
            Self::Float(float) => Json::from(float),
            Self::Plain(text) | Self::Text(text) => Json::String(text),
            Self::Bytes(bytes) => Json::String(BASE64.encode(&bytes)),
            Self::List(items) => Json::Array(items.into_iter().map(Self::into_json).collect()),
            Self::Map(members) => {
                Json::Object(members.into_iter().map(|(key, member)| (key, member.into_json())).collect())
            }
        }
    }
}

/// No float of 64 bits has more digits, written exactly.
const FLOAT_DIGITS_MAX: usize = 767;

/// Bytes of memory that a value without members takes, about.
pub(crate) fn bytes(value: &Json) -> usize {
    size_of::<Json>() + value.as_str().map_or(0, str::len)
}

/// Refuses numbers that documents cannot keep exactly, and that readers of JSON round in silence: integers that 64 bits do not
/// hold, and others whose nearest float is another value when it is written with as many digits. Anything else that is wrong
/// with the text is left to the reader.
///
/// # Errors
/// Names the first such number, its line and column.
pub fn check_numbers(text: &[u8]) -> Result<(), JsonError> {
    let (mut at, mut line, mut line_start) = (0, 1, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = text[at..].iter().take_while(|byte| is_in_number(**byte)).count();
                if let Ok(number) = core::str::from_utf8(&text[at..at + length])
                    && let Err(reason) = check_number(number)
                {
                    let shown = number.get(..40).map_or_else(|| number.to_string(), |start| format!("{start}.."));
                    let column = at - line_start + 1;
                    return Err(JsonError(format!(
                        "{} {shown} {reason}: write it as a string at line {line} column {column}",
                        if is_integer(number) { "integer" } else { "number" }
                    )));
                }
                at += length;
                continue;
            }
            b'\n' => (line, line_start) = (line + 1, at + 1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Where the quote that ends a string is. Strings hold no line ends.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    loop {
        match memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
            None => return text.len(),
            Some(offset) if text[at + offset] == b'"' => return at + offset,
            Some(offset) => at += offset + 2,
        }
    }
}

fn is_in_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

fn is_integer(number: &str) -> bool {
    number.strip_prefix('-').unwrap_or(number).bytes().all(|byte| byte.is_ascii_digit())
}

/// Why a number cannot be kept exactly, if so.
fn check_number(number: &str) -> Result<(), String> {
    // A float holds every decimal of 15 digits, unless its exponent is extreme, and an integer of 64 bits one of 18.
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    if is_integer(number) {
        let fits = digits <= 18 || number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
        return if fits { Ok(()) } else { Err(String::from("is beyond 64 bits")) };
    }
    if digits <= 15 && !number.contains(['e', 'E']) {
        return Ok(());
    }
    // What is no number at all, the reader says.
    let Ok(nearest) = number.parse::<f64>() else { return Ok(()) };
    if !nearest.is_finite() {
        return Err(String::from("is beyond the floats of 64 bits"));
    }
    // Written with as many digits, the float is what was written: some programs write the 17 that tell it from all others, and
    // some all that it has.
    let written = Decimal::read(number);
    let digits = written.digits.len().clamp(1, FLOAT_DIGITS_MAX);
    if Decimal::read(&format!("{nearest:.*e}", digits - 1)) == written {
        return Ok(());
    }
    Err(format!("would be rounded to {nearest:?}"))
}

/// The value of a decimal: 0.`digits` times ten to the `exponent`. It has one such form, so equal ones are equal.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn read(number: &str) -> Self {
        let number = number.strip_prefix('-').unwrap_or(number);
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let zeros = all.len() - all.trim_start_matches('0').len();
        let digits = String::from(all.trim_matches('0'));
        if digits.is_empty() {
            return Self { digits, exponent: 0 };
        }
        // One that no integer holds is far beyond every float, or nearer to zero.
        let beyond = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let exponent = exponent.parse::<i64>().unwrap_or(beyond);
        Self { digits, exponent: exponent.saturating_add(whole.len() as i64 - zeros as i64) }
    }
}

/// Reads a value straight from text. The levels are counted, so that the error has the line.
#[derive(Clone, Copy)]
struct Seed {
    strings: Strings,
    depth: usize,
}

impl Seed {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX} levels, the limit")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(self.strings.value(String::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(self.strings.value(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = BTreeMap::new();
        while let Some(key) = members.next_key::<String>()? {
            if key.len() > KEY_BYTES_MAX {
                return Err(A::Error::custom(format!("a key is {} bytes, limit {KEY_BYTES_MAX}", key.len())));
            }
            map.insert(key, members.next_value_seed(below)?);
        }
        Ok(Value::Map(map))
    }
}

/// What a document's content is read into.
pub(crate) trait Out: Sized {
    fn scalar(scalar: &am::ScalarValueRef<'_>) -> Self;
    fn text(text: String) -> Self;
    fn list(items: impl Iterator<Item = Self>) -> Self;
    fn map(members: impl Iterator<Item = (String, Self)>) -> Self;
    fn nothing() -> Self;
}

impl Out for Json {
    fn scalar(scalar: &am::ScalarValueRef<'_>) -> Self {
        scalar_out(scalar)
    }

    fn text(text: String) -> Self {
        Self::String(text)
    }

    fn list(items: impl Iterator<Item = Self>) -> Self {
        Self::Array(items.collect())
    }

    fn map(members: impl Iterator<Item = (String, Self)>) -> Self {
        Self::Object(members.collect())
    }

    fn nothing() -> Self {
        Self::Null
    }
}

impl Out for Value {
    fn scalar(scalar: &am::ScalarValueRef<'_>) -> Self {
        use am::ScalarValueRef as S;
        match scalar {
            S::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            S::Str(text) => Self::Plain(String::from(text.as_ref())),
            S::Int(i) => Self::Int(*i),
            S::Counter(i) => Self::Counter(*i),
            S::Timestamp(ms) => Self::Timestamp(*ms),
            S::Uint(u) => Self::Uint(*u),
            S::F64(float) => Self::Float(*float),
            S::Boolean(b) => Self::Bool(*b),
            S::Unknown { .. } | S::Null => Self::Null,
        }
    }

    fn text(text: String) -> Self {
        Self::Text(text)
    }

    fn list(items: impl Iterator<Item = Self>) -> Self {
        Self::List(items.collect())
    }

    fn map(members: impl Iterator<Item = (String, Self)>) -> Self {
        Self::Map(members.collect())
    }

    fn nothing() -> Self {
        Self::Null
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
    scalar_out(&value.clone().into())
}

/// An object's content, now or at `heads`. Honest documents are at most [`DEPTH_MAX`] deep; what a hostile one holds below
/// that is shown as null.
pub(crate) fn object_out<R: ReadDoc, O: Out>(
    doc: &R,
    heads: Option<&[am::ChangeHash]>,
    obj: &am::ObjId,
    kind: am::ObjType,
    depth: usize,
) -> O {
    if depth > DEPTH_MAX {
        return O::nothing();
    }
    match kind {
        am::ObjType::Map | am::ObjType::Table => {
            let range = match heads {
                None => doc.map_range(obj, ..),
                Some(heads) => doc.map_range_at(obj, .., heads),
            };
            O::map(range.map(|item| {
                let value = value_out(doc, heads, &item.value, || item.id(), depth);
                (String::from(item.key.as_ref()), value)
            }))
        }
        am::ObjType::List => {
            let range = match heads {
                None => doc.list_range(obj, ..),
                Some(heads) => doc.list_range_at(obj, .., heads),
            };
            O::list(range.map(|item| value_out(doc, heads, &item.value, || item.id(), depth)))
        }
        am::ObjType::Text => O::text(text_out(doc, heads, obj)),
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

fn value_out<R: ReadDoc, O: Out>(
    doc: &R,
    heads: Option<&[am::ChangeHash]>,
    value: &am::ValueRef<'_>,
    id: impl FnOnce() -> am::ObjId,
    depth: usize,
) -> O {
    match value {
        am::ValueRef::Object(kind) => object_out(doc, heads, &id(), *kind, depth + 1),
        am::ValueRef::Scalar(scalar) => O::scalar(scalar),
    }
}

/// A value found with `get`.
pub(crate) fn found_out<R: ReadDoc, O: Out>(
    doc: &R,
    heads: Option<&[am::ChangeHash]>,
    value: &am::Value<'_>,
    id: &am::ObjId,
    depth: usize,
) -> O {
    match value {
        am::Value::Object(kind) => object_out(doc, heads, id, *kind, depth),
        am::Value::Scalar(scalar) => O::scalar(&scalar.as_ref().clone().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_beyond_64_bits_are_refused_with_their_place() {
        let error = |text: &str| Value::parse(text.as_bytes(), Strings::Text).unwrap_err().to_string();
        let text = "{\"a\": \"123456789012345678901\\\"\",\n \"b\": -123456789012345678901}";
        assert_eq!(
            error(text),
            "integer -123456789012345678901 is beyond 64 bits: write it as a string at line 2 column 7"
        );
        assert!(error("18446744073709551616").contains("beyond 64 bits"));
        for exact in ["18446744073709551615", "-9223372036854775808"] {
            assert!(Value::parse(exact.as_bytes(), Strings::Text).is_ok(), "{exact}");
        }
        assert_eq!(Value::parse(b"18446744073709551615", Strings::Text), Ok(Value::Uint(u64::MAX)));
    }

    #[test]
    fn decimals_are_kept_exactly_or_refused() {
        let read = |text: &str| Value::parse(text.as_bytes(), Strings::Text).map_err(|error| error.to_string());
        for (text, float) in [
            ("0.1", 0.1),
            ("-0.10", -0.1),
            ("0.30000000000000004", 0.1 + 0.2),
            ("0.1000000000000000000000", 0.1),
            ("0.10000000000000001", 0.1),
            ("0.1000000000000000055511151231257827", 0.1),
            ("1152921504606846976.0", 1_152_921_504_606_846_976.0),
            ("9.31322574615478515625e-10", 9.313_225_746_154_785e-10),
            ("1.0000000000000000e-1", 0.1),
            ("1e30", 1e30),
            ("1000000000000000000000.0", 1e21),
            ("1234567890123456.5e-3", 1_234_567_890_123.456_5),
            ("1.7976931348623157E+308", f64::MAX),
            ("5e-324", 5e-324),
            ("0.000e-999", 0.0),
            ("0e99999999999999999999", 0.0),
        ] {
            assert_eq!(read(text), Ok(Value::Float(float)), "{text}");
        }
        assert!(matches!(read("-0.0"), Ok(Value::Float(zero)) if zero.is_sign_negative()));
        // The float that has the most digits.
        let longest = f64::from_bits((1 << 53) - 1);
        assert_eq!(read(&format!("{longest:.1100}")), Ok(Value::Float(longest)));
        assert_eq!(Decimal::read(&format!("{longest:.1100}")).digits.len(), FLOAT_DIGITS_MAX);
        let error = read("[1,\n 123456789012345678901.5]").unwrap_err();
        let rounded = "number 123456789012345678901.5 would be rounded to 1.2345678901234568e20";
        assert_eq!(error, format!("{rounded}: write it as a string at line 2 column 2"));
        for rounded in [
            "9007199254740993.0",
            "3.14159265358979323846",
            "0.10000000000000004",
            "0.100000000000000005",
            "1152921504606846977.0",
            "9.31322574615478515624e-10",
            "1e-400",
            "4e-324",
            "1e-99999999999999999999",
        ] {
            assert!(read(rounded).is_err_and(|error| error.contains("would be rounded to")), "{rounded}");
        }
        assert!(read("1e400").is_err_and(|error| error.contains("is beyond the floats of 64 bits")));
        // What is no number is none because of what it looks like, not because of its digits.
        for none in ["1234567890123456.", "1.5e+", "--1.0e5", "1.2.3e4", "01.5"] {
            assert!(read(none).is_err_and(|error| !error.contains("write it as a string")), "{none}");
        }
    }

    #[test]
    fn what_no_document_holds_is_refused_with_its_line() {
        let error = |text: &str| Value::parse(text.as_bytes(), Strings::Text).unwrap_err().to_string();
        let key = format!("{{\n\"{}\": 1}}", "k".repeat(1_100));
        assert_eq!(error(&key), "a key is 1100 bytes, limit 1024 at line 2 column 1102");
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert_eq!(error(&deep), "nested deeper than 64 levels, the limit at line 1 column 66");
        assert!(Value::parse(&deep.as_bytes()[1..129], Strings::Text).is_ok());
    }

    #[test]
    fn strings_become_what_is_asked_for() {
        let read = |strings| Value::parse(br#"{"a":["\u00e4"]}"#, strings).map(Value::into_json);
        assert_eq!(Value::parse(b"\"a\"", Strings::Plain), Ok(Value::Plain("a".to_string())));
        assert_eq!(Value::parse(b"\"a\"", Strings::Text), Ok(Value::Text("a".to_string())));
        assert_eq!(read(Strings::Plain), read(Strings::Text));
    }
}
