//! What people call things: spaces, documents and peers by name, by id, by the first digits of an id.
//!
//! A whole id that is here means what has it; then an exact name wins over the beginning of any id. `id:` and `name:` in front
//! settle doubt.

use std::fmt::Display;

use anabranch::{DeviceId, Document, DocumentId, Space, SpaceId};
use unicode_normalization::UnicodeNormalization as _;

use crate::service::{Kept, Service};
use crate::{Code, Failure, Which};

/// Fewer digits of an id than this are no name for it.
const PREFIX_DIGITS_MIN: usize = 4;
/// So many candidates are listed when a name fits several.
const CANDIDATES_SHOWN: usize = 8;
/// In front of what is meant as an id.
const BY_ID: &str = "id:";
/// In front of what is meant as a name.
const BY_NAME: &str = "name:";

/// One thing that a name may mean.
struct Candidate<T> {
    id: String,
    name: Option<String>,
    thing: T,
}

/// How a thing is called.
#[derive(Clone, Copy)]
struct Call<'a> {
    text: &'a str,
    by_id: bool,
    by_name: bool,
}

impl<'a> Call<'a> {
    fn of(text: &'a str) -> Self {
        if let Some(text) = text.strip_prefix(BY_ID) {
            Self { text, by_id: true, by_name: false }
        } else if let Some(text) = text.strip_prefix(BY_NAME) {
            Self { text, by_id: false, by_name: true }
        } else {
            Self { text, by_id: true, by_name: true }
        }
    }
}

impl Service {
    /// The space that is meant, or the only one there is.
    pub(super) fn space(&self, text: Option<&str>) -> Result<Space, Failure> {
        let spaces = self.peer().spaces();
        let Some(text) = text else {
            return match &spaces[..] {
                [] => Err(Failure::not_found(
                    "there is no space here: make one with `anabranch space create NAME`, or join one with `anabranch space join -`",
                )),
                [only] => self.space_handle(only.space),
                several => Err(Failure::new(
                    Code::Ambiguous,
                    format!(
                        "which space? there are {}: {}; say one with --space",
                        several.len(),
                        listed(several.iter().map(|space| (space.space.to_string(), space.name.clone()))),
                    ),
                )),
            };
        };
        let candidates = spaces.into_iter().map(|space| Candidate {
            id: space.space.to_string(),
            name: space.name,
            thing: space.space,
        });
        self.space_handle(pick("space", 2 * SpaceId::LEN, text, candidates)?)
    }

    fn space_handle(&self, id: SpaceId) -> Result<Space, Failure> {
        self.peer().space(id).ok_or_else(|| Failure::not_found(format!("no space {id} here")))
    }

    /// The device that is meant, of those that are known.
    pub(super) fn device(&self, text: &str) -> Result<DeviceId, Failure> {
        if let Ok(device) = text.parse() {
            return Ok(device);
        }
        let candidates = self.peer().peers().into_iter().map(|peer| Candidate {
            id: peer.peer.to_string(),
            // One that looks like digits of an id may have been chosen to be taken for another device.
            name: peer.name.filter(|name| !is_prefix(name)),
            thing: peer.peer,
        });
        pick("peer", 2 * DeviceId::LEN, text, candidates)
    }

    /// The document that is meant, open. It stays so for the next request, which is often about the same.
    pub(super) async fn document(&self, kept: &Kept, which: &Which) -> Result<Document, Failure> {
        let (space, id) = self.place(which)?;
        let document = match kept.take(space.id(), id) {
            Some(document) => document,
            None => space.open(id).await?,
        };
        kept.keep(&document);
        Ok(document)
    }

    /// The document that is meant, open for this request.
    pub(super) async fn open(&self, which: &Which) -> Result<Document, Failure> {
        let (space, id) = self.place(which)?;
        Ok(space.open(id).await?)
    }

    /// Where the document is that is meant.
    fn place(&self, which: &Which) -> Result<(Space, DocumentId), Failure> {
        let text = which.document.as_str();
        let meant = |space: Space| document_id(&space, text).map(|id| (space, id));
        if let Some(space) = &which.space {
            return meant(self.space(Some(space))?);
        }
        let home = self.space(which.default_space.as_deref());
        if !text.contains('/') || text.starts_with(BY_ID) || text.starts_with(BY_NAME) {
            return meant(home?);
        }
        if let Ok(home) = home
            && !home.find(text).is_empty()
        {
            return meant(home);
        }
        self.in_another_space(text)
    }

    /// `SPACE/DOC`, where either may have slashes in its name.
    fn in_another_space(&self, text: &str) -> Result<(Space, DocumentId), Failure> {
        let mut parts = text.match_indices('/').map(|(at, _)| (&text[..at], &text[at + 1..]));
        let found = parts.find_map(|(space, document)| self.space(Some(space)).ok().map(|space| (space, document)));
        match found {
            Some((space, document)) => document_id(&space, document).map(|id| (space, id)),
            None => {
                let (space, _) = text.split_once('/').unwrap_or((text, ""));
                // Several spaces may be meant: it says which.
                self.space(Some(space)).map_err(|failure| Failure {
                    message: format!("no document `{text}` here; as SPACE/DOC: {failure}"),
                    ..failure
                })?;
                Err(Failure::not_found(format!("no document `{text}` here")))
            }
        }
    }
}

/// The document that is meant in a space.
fn document_id(space: &Space, text: &str) -> Result<DocumentId, Failure> {
    let call = Call::of(text);
    let whole: Option<DocumentId> = call.text.parse().ok().filter(|_| call.by_id);
    if let Some(id) = whole
        && space.info(&id).is_some()
    {
        return Ok(id);
    }
    let candidate = |thing: DocumentId| Candidate {
        id: thing.to_string(),
        name: space.info(&thing).and_then(|info| info.summary.name),
        thing,
    };
    let named = if call.by_name { space.find(call.text) } else { Vec::new() };
    if named.is_empty()
        && let Some(id) = whole
    {
        // As `open` says it.
        return Err(anabranch::CommandError::UnknownDocument(id).into());
    }
    let candidates = if named.is_empty() && call.by_id && is_prefix(call.text) {
        let lower = call.text.to_ascii_lowercase();
        space.documents().into_iter().filter(|id| id.to_string().starts_with(&lower)).collect()
    } else {
        named
    };
    pick("document", 2 * DocumentId::LEN, text, candidates.into_iter().map(candidate))
}

fn is_prefix(text: &str) -> bool {
    text.len() >= PREFIX_DIGITS_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The one thing that has the id `text`, or else whose name it is, or else whose id begins with it.
fn pick<T>(
    what: &str,
    id_digits: usize,
    text: &str,
    candidates: impl Iterator<Item = Candidate<T>>,
) -> Result<T, Failure> {
    let call = Call::of(text);
    let (lower, normal) = (call.text.to_ascii_lowercase(), call.text.nfc().collect::<String>());
    let mut candidates: Vec<Candidate<T>> = candidates.collect();
    if let Some(at) = candidates.iter().position(|candidate| call.by_id && candidate.id == lower) {
        return Ok(candidates.swap_remove(at).thing);
    }
    let is_named = |candidate: &Candidate<T>| {
        call.by_name && candidate.name.as_deref().is_some_and(|name| name.nfc().eq(normal.chars()))
    };
    let (named, others): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_named);
    let by_name = !named.is_empty();
    let mut found = if by_name {
        named
    } else {
        let begins = |candidate: &Candidate<T>| call.by_id && is_prefix(call.text) && candidate.id.starts_with(&lower);
        others.into_iter().filter(begins).collect()
    };
    let hint = if by_name { "say which by its id, as in `id:0123abcd`" } else { "use more digits of the id" };
    match found.len() {
        1 => Ok(found.remove(0).thing),
        0 if call.text.len() == id_digits && is_prefix(call.text) => {
            Err(Failure::not_found(format!("no {what} {} here", call.text)))
        }
        0 => Err(Failure::not_found(format!(
            "no {what} `{text}` here: {what}s go by name, by id, or by at least {PREFIX_DIGITS_MIN} digits of it"
        ))),
        several => Err(Failure::new(
            Code::Ambiguous,
            format!(
                "`{text}` may be {several} {what}s: {}; {hint}",
                listed(found.into_iter().map(|candidate| (candidate.id, candidate.name))),
            ),
        )),
    }
}

fn listed(things: impl Iterator<Item = (String, Option<String>)>) -> String {
    let mut words = Vec::new();
    for (id, name) in things {
        if words.len() == CANDIDATES_SHOWN {
            words.push("..".to_owned());
            break;
        }
        // Enough digits to tell apart what a shorter prefix did not.
        let digits = id.get(..16).unwrap_or(&id).to_owned();
        words.push(name.map_or(digits.clone(), |name| format!("{digits} ({name})")));
    }
    words.join(", ")
}

/// Hex of each.
pub(super) fn texts(ids: &[impl Display]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(text: &str) -> Result<u32, Failure> {
        let things = [
            ("0123456789abcdef", Some("plan")),
            ("0123ffffffffffff", None),
            ("beefbeefbeefbeef", Some("plan b")),
            ("7777777777777777", Some("beef")),
            ("8888888888888888", Some("caf\u{e9}")),
            ("9999999999999999", Some("beefbeefbeefbeef")),
            ("aaaaaaaaaaaaaaaa", Some("twice")),
            ("bbbbbbbbbbbbbbbb", Some("twice")),
            ("cccccccccccccccc", Some("dddddddddddddddd")),
        ];
        let candidates = things.into_iter().enumerate().map(|(i, (id, name))| Candidate {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            thing: i as u32,
        });
        pick("document", 16, text, candidates)
    }

    #[test]
    fn a_name_or_enough_digits_find_a_thing() {
        assert_eq!(choose("plan").unwrap(), 0);
        assert_eq!(choose("01234").unwrap(), 0);
        assert_eq!(choose("0123F").unwrap(), 1);
        assert_eq!(choose("plan b").unwrap(), 2);
        assert_eq!(choose("cafe\u{301}").unwrap(), 4);
    }

    // A name that looked like the beginning of an id was taken for both, and nothing could mean it alone.
    #[test]
    fn a_name_wins_over_the_beginning_of_an_id_and_a_whole_id_over_a_name() {
        assert_eq!(choose("beef").unwrap(), 3);
        assert_eq!(choose("id:beef").unwrap(), 2);
        assert_eq!(choose("beefbeefbeefbeef").unwrap(), 2);
        assert_eq!(choose("name:beefbeefbeefbeef").unwrap(), 5);
        assert_eq!(choose("dddddddddddddddd").unwrap(), 8);
    }

    #[test]
    fn what_fits_several_things_lists_them_and_says_how_to_settle_it() {
        let failure = choose("0123").unwrap_err();
        assert_eq!(failure.code, Code::Ambiguous);
        assert!(failure.message.contains("0123456789abcdef (plan), 0123ffffffffffff; use more digits"), "{failure}");
        let failure = choose("twice").unwrap_err();
        assert_eq!(failure.code, Code::Ambiguous);
        assert!(failure.message.contains("aaaaaaaaaaaaaaaa (twice), bbbbbbbbbbbbbbbb (twice); say which"), "{failure}");
        assert_eq!(choose("id:bbbb").unwrap(), 7);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for text in ["777", "", "id:plan", "name:0123", "name:", "id:", "eeeeeeeeeeeeeeee"] {
            assert_eq!(choose(text).unwrap_err().code, Code::NotFound, "{text}");
        }
        assert_eq!(choose("eeeeeeeeeeeeeeee").unwrap_err().message, "no document eeeeeeeeeeeeeeee here");
    }
}
