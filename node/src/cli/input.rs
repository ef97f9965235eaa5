//! JSON as other programs write it: from a file or standard input, in UTF-8 or UTF-16, with or without a byte order mark.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anabranch::json::check_numbers;
use serde::de::DeserializeOwned;

use anabranch_api::Failure;

/// A file's text, and what it is called in errors.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

impl Input {
    /// Reads `file`, or standard input if it is `-`, whole.
    pub(crate) fn read(file: &Path, bytes_max: usize) -> Result<Self, Failure> {
        let (name, reader): (String, Box<dyn Read>) = if file == Path::new("-") {
            ("standard input".to_owned(), Box::new(std::io::stdin()))
        } else {
            let opened =
                File::open(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
            (file.display().to_string(), Box::new(opened))
        };
        let mut bytes = Vec::new();
        reader
            .take(bytes_max as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
        if bytes.len() > bytes_max {
            return Err(Failure::usage(format!("{name} is over {bytes_max} bytes, the limit of one command")));
        }
        let text = decoded(&bytes).map_err(|reason| Failure::usage(format!("malformed JSON in {name}: {reason}")))?;
        let text = match text {
            Cow::Borrowed(text) if text.len() == bytes.len() => bytes,
            text => text.into_owned(),
        };
        Ok(Self { name, text })
    }

    /// Reads it as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        parse_json(&self.text, &self.name)
    }
}

/// Reads JSON, or says where it stops being JSON.
pub(crate) fn parse_json<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, Failure> {
    let read = match serde_json::from_slice(text) {
        Ok(value) => check_numbers(text).map(|()| value).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|error| {
        // A word that is not JSON is most often meant as a string.
        let word = String::from_utf8_lossy(text);
        let word = word.trim();
        let looks_like_words =
            !word.is_empty() && !word.starts_with(['{', '[', '"', '-']) && word.len() <= 200 && !is_number(word);
        let hint = if looks_like_words { format!("; a string needs quotes: '\"{word}\"'") } else { String::new() };
        Failure::usage(format!("malformed JSON in {what}: {error}{hint}"))
    })
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

/// The text in UTF-8, without a byte order mark. JSON begins with a character of ASCII, so the zeros beside it tell the encoding
/// (RFC 4627, section 3).
fn decoded(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => {
            Err("it is UTF-32: write it as UTF-8".to_owned())
        }
        [0xef, 0xbb, 0xbf, text @ ..] => utf8(text),
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes),
        [0, 0, ..] => utf8(bytes),
        [_, 0, ..] => utf16(bytes, u16::from_le_bytes),
        [0, _, ..] => utf16(bytes, u16::from_be_bytes),
        [0x1f, 0x8b, ..] => Err("it is compressed by gzip: unpack it".to_owned()),
        _ => utf8(bytes),
    }
}

fn utf8(text: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(Cow::Borrowed(text)),
        Err(error) => {
            let at = error.valid_up_to();
            let line = text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(format!("it is neither UTF-8 nor UTF-16: byte {:#04x} in line {line}", text[at]))
        }
    }
}

fn utf16(text: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'static, [u8]>, String> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!("it is UTF-16 of {} bytes, an odd number", text.len()));
    }
    let characters = char::decode_utf16(pairs.iter().map(|pair| unit(*pair)));
    match characters.collect::<Result<String, _>>() {
        Ok(text) => Ok(Cow::Owned(text.into_bytes())),
        Err(error) => Err(format!("it is UTF-16 with half a character: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_bare_word_is_told_how_to_become_json() {
        let failure = parse_json::<Value>(b"hello", "the value").unwrap_err();
        assert!(failure.message.contains("malformed JSON in the value"), "{failure}");
        assert!(failure.message.contains("line 1 column 1"), "{failure}");
        assert!(failure.message.contains("'\"hello\"'"), "{failure}");
    }

    #[test]
    fn broken_json_says_where_it_breaks() {
        let failure = parse_json::<Value>(b"{\"a\": [1,\n 2,,]}", "x.json").unwrap_err();
        assert!(failure.message.contains("line 2 column 4"), "{failure}");
        assert!(!failure.message.contains("quotes"), "{failure}");
    }

    #[test]
    fn numbers_that_would_be_rounded_are_refused() {
        let failure = parse_json::<Value>(b"123456789012345678901234567890", "the value").unwrap_err();
        assert!(failure.message.contains("123456789012345678901234567890 is beyond 64 bits"), "{failure}");
        assert!(!failure.message.contains("quotes"), "{failure}");
    }

    #[test]
    fn every_encoding_of_json_is_read_or_named() {
        let text = "{\r\n\"\u{e4}\": \"\u{1f600}\"}\r\n";
        let expected = json!({"\u{e4}": "\u{1f600}"});
        let read = |bytes: &[u8]| decoded(bytes).map(|text| serde_json::from_slice::<Value>(&text).unwrap());
        let wide = |bytes: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
            format!("{mark}{text}").encode_utf16().flat_map(bytes).collect()
        };
        for mark in ["", "\u{feff}"] {
            assert_eq!(read(format!("{mark}{text}").as_bytes()).unwrap(), expected);
            assert_eq!(read(&wide(u16::to_le_bytes, mark)).unwrap(), expected);
            assert_eq!(read(&wide(u16::to_be_bytes, mark)).unwrap(), expected);
        }
        assert_eq!(read(b"{\n\"a\": \"\xe4\"}").unwrap_err(), "it is neither UTF-8 nor UTF-16: byte 0xe4 in line 2");
        assert!(read(b"{\0\0\0").unwrap_err().contains("UTF-32"));
        assert!(read(b"{\0}").unwrap_err().contains("an odd number"));
        assert!(read(b"\x1f\x8b\x08").unwrap_err().contains("gzip"));
    }
}
