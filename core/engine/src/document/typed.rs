//! Typed JSON: JSON that keeps all kinds of values. What JSON cannot say is an object with one key that begins with `$`:
//!
//! ```json
//! {"$counter": 5}   {"$timestamp": 0}   {"$bytes": "AAE="}   {"$plain": "words"}   {"$text": "words"}   {"$uint": 5}
//! ```
//!
//! `$timestamp` is in milliseconds since 1970, `$bytes` is base64 (RFC 4648, padded), `$uint` a whole number that is kept as an
//! unsigned one though it would fit into a signed one, `$float` one of `"NaN"`, `"Infinity"` and `"-Infinity"`. A map that has
//! one key, and one that begins with `$`, is written `{"$map": {..}}`. Everything else is as in JSON.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use data_encoding::BASE64;

use crate::document::path::Path;
use crate::document::value::Value;

/// Something that is no typed JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("typed JSON at `{at}`: {reason}")]
pub struct TypedError {
    /// Where in the value.
    pub at: Path,
    /// What is wrong.
    pub reason: String,
}

const TAGS: &str = "$counter, $timestamp, $bytes, $plain, $text, $uint, $float, $map";

impl Value {
    /// The same with everything that JSON cannot say as an object with one key that begins with `$`.
    #[must_use]
    pub fn tagged(self) -> Self {
        match self {
            Self::Plain(text) => tag("$plain", Self::Text(text)),
            Self::Bytes(bytes) => tag("$bytes", Self::Text(BASE64.encode(&bytes))),
            Self::Counter(value) => tag("$counter", Self::Int(value)),
            Self::Timestamp(ms) => tag("$timestamp", Self::Int(ms)),
            Self::Uint(number) if i64::try_from(number).is_ok() => tag("$uint", Self::Uint(number)),
            Self::Float(number) if !number.is_finite() => {
                let name = match number {
                    f64::INFINITY => "Infinity",
                    f64::NEG_INFINITY => "-Infinity",
                    _ => "NaN",
                };
                tag("$float", Self::Text(name.to_owned()))
            }
            Self::List(items) => Self::List(items.into_iter().map(Self::tagged).collect()),
            Self::Map(members) => {
                let is_like_a_tag = lone_tag(&members).is_some();
                let members = Self::Map(members.into_iter().map(|(key, member)| (key, member.tagged())).collect());
                if is_like_a_tag { tag("$map", members) } else { members }
            }
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Float(_) | Self::Text(_) => self,
        }
    }

    /// What [`Self::tagged`] was made of.
    ///
    /// # Errors
    /// An unknown tag, or one whose value is of another kind.
    pub fn untagged(self) -> Result<Self, TypedError> {
        untag(self, &Path::root())
    }
}

fn tag(name: &str, value: Value) -> Value {
    Value::Map(BTreeMap::from([(name.to_owned(), value)]))
}

/// The one key of a map, if it is like that of a tag.
fn lone_tag(members: &BTreeMap<String, Value>) -> Option<&str> {
    let (key, _) = members.first_key_value().filter(|_| members.len() == 1)?;
    key.starts_with('$').then_some(key)
}

fn untag(value: Value, at: &Path) -> Result<Value, TypedError> {
    match value {
        Value::List(items) => {
            let items = items.into_iter().enumerate().map(|(index, item)| untag(item, &at.clone().index(index)));
            items.collect::<Result<_, _>>().map(Value::List)
        }
        Value::Map(members) if lone_tag(&members).is_some() => {
            let Some((name, inner)) = members.into_iter().next() else { return Ok(Value::Map(BTreeMap::new())) };
            untag_one(&name, inner, at)
        }
        Value::Map(members) => untag_members(members, at),
        scalar => Ok(scalar),
    }
}

fn untag_members(members: BTreeMap<String, Value>, at: &Path) -> Result<Value, TypedError> {
    let untagged = |(key, member): (String, Value)| {
        let member = untag(member, &at.clone().key(&key))?;
        Ok((key, member))
    };
    members.into_iter().map(untagged).collect::<Result<_, _>>().map(Value::Map)
}

fn untag_one(name: &str, inner: Value, at: &Path) -> Result<Value, TypedError> {
    let wrong = |reason| Err(TypedError { at: at.clone(), reason });
    Ok(match (name, inner) {
        ("$counter", Value::Int(value)) => Value::Counter(value),
        ("$timestamp", Value::Int(ms)) => Value::Timestamp(ms),
        ("$uint", Value::Int(number)) if number >= 0 => Value::Uint(number.unsigned_abs()),
        ("$uint", Value::Uint(number)) => Value::Uint(number),
        ("$plain", Value::Text(text) | Value::Plain(text)) => Value::Plain(text),
        ("$text", Value::Text(text) | Value::Plain(text)) => Value::Text(text),
        ("$bytes", Value::Text(text) | Value::Plain(text)) => match BASE64.decode(text.as_bytes()) {
            Ok(bytes) => Value::Bytes(bytes),
            Err(error) => return wrong(format!("`$bytes` is no base64: {error}")),
        },
        ("$float", Value::Text(text) | Value::Plain(text)) => Value::Float(match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => return wrong("`$float` is one of NaN, Infinity and -Infinity".to_owned()),
        }),
        ("$map", Value::Map(members)) => untag_members(members, at)?,
        ("$counter" | "$timestamp" | "$uint" | "$plain" | "$text" | "$bytes" | "$float" | "$map", inner) => {
            return wrong(format!("`{name}` with {}", inner.kind()));
        }
        _ => {
            return wrong(format!(
                "`{name}` is none of {TAGS}: a map with this key alone is written {{\"$map\": {{..}}}}"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::document::value::Strings;

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Uint),
            any::<f64>().prop_filter("NaN equals nothing", |float| !float.is_nan()).prop_map(Value::Float),
            ".{0,5}".prop_map(Value::Plain),
            ".{0,5}".prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
            any::<i64>().prop_map(Value::Counter),
            any::<i64>().prop_map(Value::Timestamp),
        ];
        let key = prop_oneof![Just("$counter".to_string()), Just("$map".to_string()), "[$a]{0,2}"];
        scalar.prop_recursive(4, 40, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::btree_map(key.clone(), inner, 0..3).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_comes_back_from_typed_json(value in any_value()) {
            let text = value.clone().tagged().into_json().to_string();
            let read = Value::parse(text.as_bytes(), Strings::Text).unwrap().untagged().unwrap();
            prop_assert_eq!(read, value);
        }
    }

    #[test]
    fn a_tag_that_is_none_is_named_with_its_path() {
        let error = |json: serde_json::Value| Value::from(json).untagged().unwrap_err().to_string();
        assert!(
            error(json!({"a": [{"$count": 1}]})).starts_with("typed JSON at `/a/0`: `$count` is none of $counter,")
        );
        assert_eq!(error(json!({"$counter": "1"})), "typed JSON at ``: `$counter` with a text");
        assert!(error(json!({"$bytes": "?"})).contains("is no base64"));
    }

    #[test]
    fn a_map_with_more_keys_is_no_tag() {
        let json = json!({"$counter": 1, "b": 2});
        assert_eq!(Value::from(json.clone()).untagged().unwrap().into_json(), json);
    }
}
