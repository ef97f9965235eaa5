//! What people call things: spaces and documents by name, by id, by the first digits of an id.

use std::collections::HashMap;
use std::fmt::Display;

use anabranch::{ChangeHash, DeviceId, Document, DocumentId, Space, SpaceId};
use tokio::sync::Mutex;

use crate::control::Control;
use crate::failure::Failure;
use crate::show::short;
use anabranch_protocol::Which;

/// Fewer digits of an id than this are no name for it.
const PREFIX_DIGITS_MIN: usize = 4;
/// Spaces of more documents than this are not searched by name: that opens each document once.
const DOCUMENTS_SEARCHED_MAX: usize = 10_000;
/// Longer names are cut when shown, and do not find their document.
const NAME_BYTES_MAX: usize = 256;
/// So many candidates are listed when a name fits several.
const CANDIDATES_SHOWN: usize = 8;

/// The names of documents, as of the heads they were read at.
#[derive(Default)]
pub(super) struct Names {
    documents: Mutex<HashMap<(SpaceId, DocumentId), Named>>,
}

struct Named {
    heads: Vec<ChangeHash>,
    name: Option<String>,
}

/// Whether a document must exist to be meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Something of it must be here.
    Known,
    /// A whole id may be of a document of which nothing is here yet.
    Any,
}

/// One thing that a name may mean.
struct Candidate<T> {
    id: String,
    name: Option<String>,
    thing: T,
}

impl Control {
    /// The space that is meant, or the only one there is.
    pub(super) fn space(&self, text: Option<&str>) -> Result<Space, Failure> {
        let spaces = self.peer.spaces();
        let Some(text) = text else {
            return match &spaces[..] {
                [] => Err(Failure::not_found(
                    "there is no space here: make one with `anabranch space create NAME`, or join one with `anabranch space join TICKET`",
                )),
                [only] => self.space_handle(only.space),
                several => Err(Failure::usage(format!(
                    "which space? there are {}: {}; say one with --space",
                    several.len(),
                    listed(several.iter().map(|space| (space.space.to_string(), space.name.clone()))),
                ))),
            };
        };
        let candidates = spaces.into_iter().map(|space| Candidate {
            id: space.space.to_string(),
            name: space.name,
            thing: space.space,
        });
        self.space_handle(pick("space", text, candidates)?)
    }

    fn space_handle(&self, id: SpaceId) -> Result<Space, Failure> {
        self.peer.space(id).ok_or_else(|| Failure::not_found(format!("no space {id} here")))
    }

    /// The device that is meant, of those that are known.
    pub(super) fn device(&self, text: &str) -> Result<DeviceId, Failure> {
        if let Ok(device) = text.parse() {
            return Ok(device);
        }
        let candidates = self.peer.peers().into_iter().map(|peer| Candidate {
            id: peer.peer.to_string(),
            name: None,
            thing: peer.peer,
        });
        pick("peer", text, candidates)
    }

    /// The document that is meant, open. `open` is the one of the request before, often the same.
    pub(super) async fn document(
        &self,
        open: &mut Option<Document>,
        which: &Which,
        expect: Expect,
    ) -> Result<Document, Failure> {
        let (space, text) = match (&which.space, which.document.split_once('/')) {
            (Some(space), _) => (self.space(Some(space))?, which.document.as_str()),
            (None, Some((space, document))) => (self.space(Some(space))?, document),
            (None, None) => (self.space(None)?, which.document.as_str()),
        };
        let id = self.document_id(&space, text).await?;
        let document = match open.take().filter(|document| document.id() == id && document.space().id() == space.id()) {
            Some(document) => document,
            None => space.open(id).await?,
        };
        if expect == Expect::Known && document.heads()?.is_empty() {
            return Err(Failure::not_found(format!(
                "nothing of document {id} is in this space here: it was never edited, or has not arrived yet",
            )));
        }
        *open = Some(document.clone());
        Ok(document)
    }

    async fn document_id(&self, space: &Space, text: &str) -> Result<DocumentId, Failure> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let documents = space.documents();
        let names = if documents.len() <= DOCUMENTS_SEARCHED_MAX {
            self.document_names(space, &documents).await?
        } else if is_prefix(text) {
            HashMap::new()
        } else {
            return Err(Failure::usage(format!(
                "the space has {} documents, names are searched among at most {DOCUMENTS_SEARCHED_MAX}: give the document's id",
                documents.len(),
            )));
        };
        let candidates =
            documents.into_iter().map(|id| Candidate { id: id.to_string(), name: names.get(&id).cloned(), thing: id });
        pick("document", text, candidates)
    }

    /// The names of those documents that have one.
    pub(super) async fn document_names(
        &self,
        space: &Space,
        documents: &[DocumentId],
    ) -> Result<HashMap<DocumentId, String>, Failure> {
        let mut known = self.names.documents.lock().await;
        let mut names = HashMap::new();
        for &id in documents {
            let heads = space.heads(&id);
            let entry = match known.remove(&(space.id(), id)).filter(|named| named.heads == heads) {
                Some(named) => named,
                None => Named { heads, name: read_name(&space.open(id).await?)? },
            };
            names.extend(entry.name.clone().map(|name| (id, name)));
            known.insert((space.id(), id), entry);
        }
        // What is not in the space any more has no name.
        known.retain(|(in_space, id), _| *in_space != space.id() || documents.binary_search(id).is_ok());
        Ok(names)
    }
}

fn read_name(document: &Document) -> Result<Option<String>, Failure> {
    let name = document.get("/name")?;
    Ok(name.and_then(|name| name.as_str().map(|name| name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned())))
}

fn is_prefix(text: &str) -> bool {
    text.len() >= PREFIX_DIGITS_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The one thing whose name is `text` or whose id begins with it.
fn pick<T>(what: &str, text: &str, candidates: impl Iterator<Item = Candidate<T>>) -> Result<T, Failure> {
    let lower = text.to_ascii_lowercase();
    let fits = |candidate: &Candidate<T>| {
        candidate.name.as_deref() == Some(text) || (is_prefix(text) && candidate.id.starts_with(&lower))
    };
    let mut found: Vec<Candidate<T>> = candidates.filter(fits).collect();
    match found.len() {
        1 => Ok(found.remove(0).thing),
        0 => {
            let name = if what == "peer" { "" } else { "by name, " };
            Err(Failure::not_found(format!(
                "no {what} `{text}` here: {what}s go {name}by id, or by at least {PREFIX_DIGITS_MIN} digits of it"
            )))
        }
        several => Err(Failure::usage(format!(
            "`{text}` may be {several} {what}s: {}; use more digits of the id",
            listed(found.into_iter().map(|candidate| (candidate.id, candidate.name))),
        ))),
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
        let digits = id.get(..16).unwrap_or(short(&id)).to_owned();
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
    use anabranch_protocol::Exit;

    fn choose(text: &str) -> Result<u32, Failure> {
        let things = [
            ("0123456789abcdef", Some("plan")),
            ("0123ffffffffffff", None),
            ("beefbeefbeefbeef", Some("plan b")),
            ("77777777", Some("beef")),
        ];
        let candidates = things.into_iter().enumerate().map(|(i, (id, name))| Candidate {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            thing: i as u32,
        });
        pick("document", text, candidates)
    }

    #[test]
    fn a_name_or_enough_digits_find_a_thing() {
        assert_eq!(choose("plan").unwrap(), 0);
        assert_eq!(choose("01234").unwrap(), 0);
        assert_eq!(choose("0123F").unwrap(), 1);
        assert_eq!(choose("plan b").unwrap(), 2);
    }

    #[test]
    fn what_fits_several_things_lists_them() {
        let failure = choose("0123").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("0123456789abcdef (plan), 0123ffffffffffff"), "{failure}");
        assert_eq!(choose("beef").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn too_few_digits_find_nothing() {
        assert_eq!(choose("777").unwrap_err().exit, Exit::NotFound);
        assert_eq!(choose("").unwrap_err().exit, Exit::NotFound);
    }
}
