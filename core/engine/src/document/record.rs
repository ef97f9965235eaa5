//! stub
use alloc::vec::Vec;
use crate::frontier::Frontier;
use crate::id::ChangeHash;
/// Heads and frontier.
#[derive(Debug, Clone, Default)]
pub struct DocumentRecord {
    /// Sorted.
    pub heads: Vec<ChangeHash>,
    /// Frontier.
    pub frontier: Frontier,
}

impl DocumentRecord {
    pub fn to_bytes(&self) -> Vec<u8> { todo!() }
    pub fn from_bytes(_space: crate::id::SpaceId, _document: crate::id::DocumentId, _bytes: &[u8]) -> Result<Self, alloc::string::String> { todo!() }
}
