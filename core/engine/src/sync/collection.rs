//! A set of `key → digest` with fingerprints: a Merkle tree over the fixed 16-ary radix of 16-byte keys. Its shape depends
//! on the keys alone, so equal sets have equal trees whatever their history. It reconciles documents and membership alike.

use alloc::vec::Vec;

/// A 16-byte key: a document id, or the first half of an entry hash.
pub type Key = [u8; 16];
/// What an item is compared by.
pub type Digest = [u8; 32];
/// What crosses the wire for a node or an item: the first 8 bytes of a keyed hash of its digest.
pub type Fingerprint = [u8; 8];

/// A range of keys: those that begin with the first `nibbles` half-bytes of `key`; the rest of `key` is zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Prefix {
    /// The leading half-bytes, high one first.
    pub key: Key,
    /// How many of them count, 0 to 32.
    pub nibbles: u8,
}

/// The set.
#[derive(Debug, Clone, Default)]
pub struct Collection {}

impl Collection {
    /// A range with at most this many items is sent as the items themselves.
    pub const LEAF_ITEMS: usize = 16;

    /// Sets or removes one item. O(log n), hashing deferred to the next fingerprint.
    pub fn set(&mut self, key: Key, digest: Option<Digest>) {
        let _ = (key, digest);
        todo!()
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// No items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Digest of the whole set; all zero for the empty set.
    pub fn root(&mut self) -> Digest {
        self.digest(Prefix::default()).0
    }

    /// Digest and number of the items in a range; all zero and 0 for an empty one.
    pub fn digest(&mut self, prefix: Prefix) -> (Digest, usize) {
        let _ = prefix;
        todo!()
    }

    /// The items in a range, in key order, at most `max` of them.
    pub fn items(&self, prefix: Prefix, max: usize) -> Vec<(Key, Digest)> {
        let _ = (prefix, max);
        todo!()
    }
}

impl Prefix {
    /// The sixteen ranges that this one falls into; `None` for a whole key.
    pub fn children(self) -> Option<[Self; 16]> {
        todo!()
    }

    /// Whether `key` is in the range.
    pub fn contains(self, key: &Key) -> bool {
        let _ = key;
        todo!()
    }
}

/// The fingerprint of a digest in a session: keyed BLAKE3, so that nothing can be ground out or replayed.
pub fn fingerprint(salt: &[u8; 32], digest: &Digest) -> Fingerprint {
    let _ = (salt, digest);
    todo!()
}
