//! Paths into a document, as RFC 6901 JSON pointers: `/items/0/name`, the root is the empty string.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::limits::{DEPTH_MAX, KEY_BYTES_MAX};

/// Where something is in a document: the keys and list indexes that lead to it from the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Path(Vec<String>);

/// Text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `~` is followed by neither `0` nor `1`.
    #[error("`~` in a path stands for nothing: write `~0` for `~` and `~1` for `/`")]
    BadEscape,
    /// Too many parts.
    #[error("path has {0} parts, limit {DEPTH_MAX}")]
    TooDeep(usize),
    /// One part is too long.
    #[error("path has a key of {0} bytes, limit {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
}

/// What can be given where a path is wanted: text (an RFC 6901 pointer, the leading slash may be left out) or a [`Path`].
pub trait IntoPath {
    /// The path.
    ///
    /// # Errors
    /// The text is no path.
    fn into_path(self) -> Result<Path, PathError>;

    /// The text, if it is given as text: saves parsing a path that was just used.
    fn as_pointer(&self) -> Option<&str> {
        None
    }
}

impl Path {
    /// The document itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The value at `key` of the map at this path.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(key.to_owned());
        self
    }

    /// The element at `index` of the list at this path.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(index.to_string());
        self
    }

    /// The parts, unescaped.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// Whether it is the document itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of what holds this, and the last part; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &str)> {
        let (last, parent) = self.0.split_last()?;
        Some((Self(parent.to_vec()), last))
    }

    pub(crate) fn push(&mut self, key: String) {
        self.0.push(key);
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        self.0.push(index.to_string());
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// What its first parts name.
    pub(crate) fn up_to(&self, parts: usize) -> Self {
        Self(self.0[..parts.min(self.0.len())].to_vec())
    }

    fn checked(self) -> Result<Self, PathError> {
        if self.0.len() > DEPTH_MAX {
            return Err(PathError::TooDeep(self.0.len()));
        }
        match self.0.iter().map(String::len).find(|length| *length > KEY_BYTES_MAX) {
            Some(length) => Err(PathError::KeyTooLong(length)),
            None => Ok(self),
        }
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Ok(Self::root());
        }
        let text = text.strip_prefix('/').unwrap_or(text);
        let count = text.split('/').count();
        if count > DEPTH_MAX {
            return Err(PathError::TooDeep(count));
        }
        text.split('/').map(unescape).collect::<Result<Vec<_>, _>>().and_then(|parts| Self(parts).checked())
    }
}

fn unescape(part: &str) -> Result<String, PathError> {
    if !part.contains('~') {
        return Ok(part.to_owned());
    }
    let mut out = String::with_capacity(part.len());
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(PathError::BadEscape),
            },
            other => other,
        });
    }
    Ok(out)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            f.write_str("/")?;
            for c in part.chars() {
                match c {
                    '~' => f.write_str("~0")?,
                    '/' => f.write_str("~1")?,
                    other => fmt::Write::write_char(f, other)?,
                }
            }
        }
        Ok(())
    }
}

impl IntoPath for &str {
    fn into_path(self) -> Result<Path, PathError> {
        self.parse()
    }

    fn as_pointer(&self) -> Option<&str> {
        Some(self)
    }
}

impl IntoPath for &String {
    fn into_path(self) -> Result<Path, PathError> {
        self.parse()
    }

    fn as_pointer(&self) -> Option<&str> {
        Some(self)
    }
}

impl IntoPath for String {
    fn into_path(self) -> Result<Path, PathError> {
        self.parse()
    }

    fn as_pointer(&self) -> Option<&str> {
        Some(self)
    }
}

impl IntoPath for Path {
    fn into_path(self) -> Result<Path, PathError> {
        self.checked()
    }
}

impl IntoPath for &Path {
    fn into_path(self) -> Result<Path, PathError> {
        self.clone().checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        for text in ["", "/", "/a", "/items/0/name", "/a~1b/~0", "/a//b"] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
        assert_eq!("a/b".parse::<Path>().unwrap().to_string(), "/a/b");
        assert_eq!(Path::root().key("a/b").index(3).to_string(), "/a~1b/3");
    }

    #[test]
    fn what_is_no_path_is_an_error_with_the_number() {
        assert_eq!("/a~2".parse::<Path>(), Err(PathError::BadEscape));
        assert_eq!("/a~".parse::<Path>(), Err(PathError::BadEscape));
        assert_eq!("/".repeat(65).parse::<Path>(), Err(PathError::TooDeep(65)));
        assert_eq!("k".repeat(1025).parse::<Path>(), Err(PathError::KeyTooLong(1025)));
        assert_eq!(Path::root().key(&"k".repeat(1025)).into_path(), Err(PathError::KeyTooLong(1025)));
    }
}
