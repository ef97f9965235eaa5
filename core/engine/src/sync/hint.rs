//! Hints: "this changed", by gossip, to peers without a session. They may be lost entirely.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::id::{DeviceId, StorageId};
use crate::limits::HINT_BYTES_MAX;
use crate::sync::collection::{Digest, Fingerprint, fingerprint};

/// What a hint says. Nobody signs it: all it can do is make us compare roots.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hint {
    /// Version of the form.
    #[n(0)]
    pub version: u8,
    /// Whose hint it is.
    #[n(1)]
    pub device: DeviceId,
    /// Its store.
    #[n(2)]
    pub storage: StorageId,
    /// Its boot epoch.
    #[n(3)]
    pub epoch: u64,
    /// Where its feed is.
    #[n(4)]
    pub seq: u64,
    /// Fingerprints of its membership log and documents, keyed with the space's connection key.
    #[n(5)]
    pub roots: (ByteArray<8>, ByteArray<8>),
}

impl Hint {
    /// Version of the form.
    pub const VERSION: u8 = 1;

    /// The hint's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = minicbor::to_vec(self).expect("writing to memory does not fail");
        debug_assert!(bytes.len() <= HINT_BYTES_MAX);
        bytes
    }

    /// Reads a hint, or says what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > HINT_BYTES_MAX {
            return Err(alloc::format!("a hint of {} bytes, limit {HINT_BYTES_MAX}", bytes.len()));
        }
        minicbor::decode(bytes).map_err(|error| alloc::format!("a malformed hint: {error}"))
    }
}

/// The roots of a space as hints carry them.
pub fn hint_roots(connection_key: &[u8; 32], members: &Digest, documents: &Digest) -> (Fingerprint, Fingerprint) {
    (fingerprint(connection_key, members), fingerprint(connection_key, documents))
}
