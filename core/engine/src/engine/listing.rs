//! What the documents of a space are called, how large they are and when they were changed, without opening any.

use alloc::string::String;
use alloc::vec::Vec;

use crate::document::summary::Summary;
use crate::engine::Engine;
use crate::engine::documents::{DocumentKey, Standing};
use crate::id::{ChangeHash, DocumentId, SpaceId};

/// A document in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentInfo {
    /// Its id.
    pub document: DocumentId,
    /// Its name, sizes and date.
    pub summary: Summary,
    /// Its signed heads.
    pub heads: Vec<ChangeHash>,
    /// Why it cannot be read whole, if so. The rest is what was known of it before.
    pub problem: Option<String>,
}

impl Engine {
    /// Every document of a space, in order of their ids.
    pub fn list(&self, space: &SpaceId) -> Vec<DocumentInfo> {
        self.documents(space).into_iter().filter_map(|document| self.info(space, &document)).collect()
    }

    /// What is known of one document; `None` if nothing of it is here.
    pub fn info(&self, space: &SpaceId, document: &DocumentId) -> Option<DocumentInfo> {
        let key = (*space, *document);
        let record = self.spaces.get(space)?.records.signed(document);
        let (summary, heads) = match record {
            Some(record) => (record.summary.clone(), record.heads.clone()),
            // Made, and not in a commit yet.
            None => {
                let live = self.documents.live(&key).filter(|live| !live.is_empty())?;
                (live.summary(&Summary::default(), live.unsigned_bytes() as u64), live.signed_heads())
            }
        };
        Some(DocumentInfo { document: *document, summary, heads, problem: self.problem(&key) })
    }

    /// The names of a space's documents that have one.
    pub fn names(&self, space: &SpaceId) -> impl Iterator<Item = (DocumentId, &str)> {
        self.spaces.get(space).into_iter().flat_map(|space| space.records.names())
    }

    fn problem(&self, key: &DocumentKey) -> Option<String> {
        if let Standing::Broken(reason) = self.documents.standing(key) {
            return Some(String::from(reason));
        }
        self.documents
            .is_damaged(key)
            .then(|| String::from("damage in the store: it is being built from what is readable"))
    }
}
