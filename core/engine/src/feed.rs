//! The feed: the local, durable, resumable log of what changed in which document. One live row per document, so it is
//! bounded; it says what changed, the document's history says how.

use alloc::vec::Vec;

use crate::id::{ChangeHash, DocumentId, SpaceId};

/// One row: this document has these heads since `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRow {
    /// Position in this replica's feed, from 1, growing, with gaps.
    pub seq: u64,
    /// The space.
    pub space: SpaceId,
    /// The document.
    pub document: DocumentId,
    /// Its heads at that time.
    pub heads: Vec<ChangeHash>,
}
