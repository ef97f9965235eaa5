//! What lists say of a document, so that nothing has to be opened for them: its name, how large it is, when it was last changed.
//! Kept in the document's record and brought up to date with every commit.

use alloc::string::String;

use automerge as am;
use automerge::ReadDoc;
use minicbor::{Decode, Encode};

use crate::document::Document;
use crate::document::history::History;
use crate::limits::DOCUMENT_NAME_BYTES_MAX;

/// The key of the root under which applications keep a document's name.
const NAME: &str = "name";

/// What is known of a document without opening it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Summary {
    /// The text or plain string at `/name`, cut at `DOCUMENT_NAME_BYTES_MAX` bytes.
    #[n(0)]
    pub name: Option<String>,
    /// Bytes of its changes, as they are stored and sent.
    #[n(1)]
    pub bytes: u64,
    /// Operations in it. A text has one for each character, those that were deleted included.
    #[n(2)]
    pub ops: u64,
    /// When it was last changed, as its author's clock said: seconds since 1970.
    #[n(3)]
    pub changed_s: i64,
}

impl Document {
    /// What is known of it now; `before` was recorded of it, and `bytes` of changes have come since.
    pub(crate) fn summary(&self, before: &Summary, bytes: u64) -> Summary {
        Summary {
            name: self.history.name(),
            bytes: before.bytes + bytes,
            ops: self.history.ops(),
            changed_s: self.history.changed_s().unwrap_or(before.changed_s),
        }
    }
}

impl History {
    /// Reads one key, and of a long text its beginning only: it is called with every commit.
    fn name(&self) -> Option<String> {
        let am = self.automerge();
        match am.get(am::ROOT, NAME).ok()?? {
            (am::Value::Object(am::ObjType::Text), text) => {
                let mut name = String::new();
                for item in am.list_range(&text, ..DOCUMENT_NAME_BYTES_MAX) {
                    let am::ValueRef::Scalar(am::ScalarValueRef::Str(character)) = item.value else { continue };
                    if name.len() + character.len() > DOCUMENT_NAME_BYTES_MAX {
                        break;
                    }
                    name.push_str(&character);
                }
                Some(name)
            }
            (value, _) => value.as_str().map(|name| String::from(cut(name))),
        }
    }

    /// The latest of the times of the changes that nothing depends on.
    fn changed_s(&self) -> Option<i64> {
        self.automerge().get_heads().iter().filter_map(|head| self.time_of(head)).max()
    }
}

/// As much of a name as fits.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(DOCUMENT_NAME_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Author;
    use crate::id::{ActorId, DeviceId, DocumentId, SpaceId};

    fn named(path: &str, value: impl Into<crate::document::Json>, plain: bool) -> Summary {
        let mut document = Document::empty(SpaceId([1; 32]), DocumentId([2; 16]));
        let author = Author { device: DeviceId([3; 32]), fresh_actor: ActorId([4; 16]), wall_s: 77 };
        let value = value.into();
        let edited = document.edit(author, |edit| match value.as_str() {
            Some(text) if plain => edit.set_plain_string(path, text),
            _ => edit.set(path, value.clone()),
        });
        edited.expect("a good edit");
        document.summary(&Summary { bytes: 10, ..Summary::default() }, 5)
    }

    #[test]
    fn a_summary_has_the_name_the_sizes_and_the_date() {
        let expected = Summary { name: Some("plan".into()), bytes: 15, ops: 5, changed_s: 77 };
        assert_eq!(named("/name", "plan", false), expected);
        assert_eq!(named("/name", "plan", true), Summary { ops: 1, ..expected });
    }

    #[test]
    fn what_is_no_string_is_no_name() {
        assert_eq!(named("/name", 7, false).name, None);
        assert_eq!(named("/other", "plan", false).name, None);
        assert_eq!(named("/name", serde_json::json!({"a": 1}), false).name, None);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        for plain in [false, true] {
            let name = named("/name", "\u{e4}".repeat(1_000), plain).name.expect("a name");
            assert_eq!(name, "\u{e4}".repeat(DOCUMENT_NAME_BYTES_MAX / 2));
            let name = named("/name", alloc::format!("a{}", "\u{e4}".repeat(1_000)), plain).name.expect("a name");
            assert_eq!(name.len(), DOCUMENT_NAME_BYTES_MAX);
        }
    }

    #[test]
    fn a_new_document_has_the_date_of_its_making() {
        let mut document = Document::empty(SpaceId([1; 32]), DocumentId([2; 16]));
        let author = Author { device: DeviceId([3; 32]), fresh_actor: ActorId([4; 16]), wall_s: 77 };
        assert_eq!(document.begin(author), Ok(true));
        assert_eq!(document.summary(&Summary::default(), 0), Summary { changed_s: 77, ..Summary::default() });
    }
}
