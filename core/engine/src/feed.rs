//! The feed: the local, durable, resumable log of what changed in which document. One live row per document, so it is
//! bounded; it says what changed, the document's history says how.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::storage;

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

/// The value of a row in `Table::Feed`.
#[derive(Encode, Decode)]
struct Stored {
    #[n(0)]
    space: SpaceId,
    #[n(1)]
    document: DocumentId,
    #[n(2)]
    heads: Vec<ChangeHash>,
}

impl FeedRow {
    /// The row's value in the store; its key is the seq.
    pub fn to_stored(&self) -> Vec<u8> {
        let Self { seq: _, space, document, heads } = self;
        minicbor::to_vec(Stored { space: *space, document: *document, heads: heads.clone() })
            .expect("writing to memory does not fail")
    }

    /// Reads a row from the store.
    pub fn from_stored(key: &[u8], value: &[u8]) -> Result<Self, String> {
        let seq = storage::counted(key)?;
        let Stored { space, document, heads } = minicbor::decode(value).map_err(|error| format!("{error}"))?;
        Ok(Self { seq, space, document, heads })
    }
}
