//! A set of `key → digest` with fingerprints: a Merkle tree over the fixed 16-ary radix of 16-byte keys. Its shape depends
//! on the keys alone, so equal sets have equal trees whatever their history. It reconciles documents and membership alike.
//!
//! Digest of a range: all zero if it is empty; of at most [`Collection::LEAF_ITEMS`] items the hash of the items in key
//! order; of more the hash of the digests of its sixteen children. What is kept in memory is coarser than that tree (pages
//! of up to `PAGE_ITEMS_MAX` items with one digest each): the levels inside a page are hashed again when needed.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::array;

use blake3::Hasher;
use minicbor::decode::{self, Decode, Decoder};
use minicbor::encode::{self, Encode, Encoder, Write};

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
pub struct Collection {
    root: Node,
}

impl Collection {
    /// A range with at most this many items is sent as the items themselves.
    pub const LEAF_ITEMS: usize = 16;

    /// Sets or removes one item. O(log n), hashing deferred to the next fingerprint.
    pub fn set(&mut self, key: Key, digest: Option<Digest>) {
        self.root.set(0, &key, digest);
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.root.len()
    }

    /// No items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item's digest.
    pub fn get(&self, key: &Key) -> Option<Digest> {
        let prefix = Prefix { key: *key, nibbles: Prefix::NIBBLES_MAX };
        match self.find(prefix) {
            Found::Items(items) => items.first().map(|(_, digest)| *digest),
            Found::Node(node) => node.items().first().map(|(_, digest)| *digest),
        }
    }

    /// Digest of the whole set; all zero for the empty set.
    pub fn root(&mut self) -> Digest {
        self.digest(Prefix::default()).0
    }

    /// Digest and number of the items in a range; all zero and 0 for an empty one.
    pub fn digest(&mut self, prefix: Prefix) -> (Digest, usize) {
        let nibbles = prefix.nibbles.min(Prefix::NIBBLES_MAX);
        let mut node = &mut self.root;
        for depth in 0..nibbles {
            match node {
                Node::Branch(branch) => node = &mut branch.children[nibble(&prefix.key, depth)],
                Node::Page(page) => {
                    let items = prefix.of(&page.items);
                    return (digest_of(items, nibbles), items.len());
                }
            }
        }
        (node.digest(nibbles), node.len())
    }

    /// The items in a range, in key order, at most `max` of them.
    pub fn items(&self, prefix: Prefix, max: usize) -> Vec<(Key, Digest)> {
        match self.find(prefix) {
            Found::Items(items) => items.iter().take(max).copied().collect(),
            Found::Node(node) => {
                let mut items = Vec::with_capacity(max.min(node.len()));
                node.collect(max, &mut items);
                items
            }
        }
    }

    fn find(&self, prefix: Prefix) -> Found<'_> {
        let mut node = &self.root;
        for depth in 0..prefix.nibbles.min(Prefix::NIBBLES_MAX) {
            match node {
                Node::Branch(branch) => node = &branch.children[nibble(&prefix.key, depth)],
                Node::Page(page) => return Found::Items(prefix.of(&page.items)),
            }
        }
        Found::Node(node)
    }
}

impl Prefix {
    /// Half-bytes of a whole key.
    pub const NIBBLES_MAX: u8 = 32;

    /// The range of the keys that share their first `nibbles` (at most 32) half-bytes with `key`.
    pub fn new(key: &Key, nibbles: u8) -> Self {
        let nibbles = nibbles.min(Self::NIBBLES_MAX);
        Self { key: with_tail(key, nibbles, 0), nibbles }
    }

    /// The sixteen ranges that this one falls into; `None` for a whole key.
    pub fn children(self) -> Option<[Self; 16]> {
        if self.nibbles >= Self::NIBBLES_MAX {
            return None;
        }
        Some(array::from_fn(|child| {
            let mut key = with_tail(&self.key, self.nibbles, 0);
            let (byte, high) = (usize::from(self.nibbles / 2), self.nibbles.is_multiple_of(2));
            key[byte] |= (child as u8) << if high { 4 } else { 0 };
            Self { key, nibbles: self.nibbles + 1 }
        }))
    }

    /// Whether `key` is in the range.
    pub fn contains(self, key: &Key) -> bool {
        with_tail(key, self.nibbles, 0) == with_tail(&self.key, self.nibbles, 0)
    }

    /// The items of the range among sorted ones.
    fn of(self, items: &[Item]) -> &[Item] {
        let (first, last) = (with_tail(&self.key, self.nibbles, 0), with_tail(&self.key, self.nibbles, 0xff));
        let from = items.partition_point(|(key, _)| *key < first);
        let to = items.partition_point(|(key, _)| *key <= last);
        &items[from..to]
    }
}

/// One byte string: the number of half-bytes, then as many bytes as they need.
impl<C> Encode<C> for Prefix {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let nibbles = self.nibbles.min(Self::NIBBLES_MAX);
        let mut bytes = [0; 17];
        bytes[0] = nibbles;
        bytes[1..].copy_from_slice(&with_tail(&self.key, nibbles, 0));
        e.bytes(&bytes[..1 + usize::from(nibbles).div_ceil(2)])?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Prefix {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let position = d.position();
        let malformed = |what| decode::Error::message(what).at(position);
        let (&nibbles, tail) = d.bytes()?.split_first().ok_or_else(|| malformed("empty prefix"))?;
        if nibbles > Self::NIBBLES_MAX || tail.len() != usize::from(nibbles).div_ceil(2) {
            return Err(malformed("prefix of a wrong length"));
        }
        let mut key = [0; 16];
        key[..tail.len()].copy_from_slice(tail);
        if key != with_tail(&key, nibbles, 0) {
            return Err(malformed("prefix with bits behind its end"));
        }
        Ok(Self { key, nibbles })
    }
}

/// The fingerprint of a digest in a session: keyed BLAKE3, so that nothing can be ground out or replayed.
pub fn fingerprint(salt: &[u8; 32], digest: &Digest) -> Fingerprint {
    let hash = blake3::keyed_hash(salt, digest);
    array::from_fn(|i| hash.as_bytes()[i])
}

type Item = (Key, Digest);

/// Items in memory under one digest. Larger pages cost less memory and more hashing. Measured: 51 to 55 bytes
/// an item and 4 to 10 µs for one change and the new root, from 1,000 to 1,000,000 items.
const PAGE_ITEMS_MAX: usize = 128;
/// A branch that shrinks to this becomes a page again. Below the maximum, so that one item coming and going does not
/// split and merge each time; above `LEAF_ITEMS`, so that a branch is never hashed as a leaf.
const PAGE_ITEMS_MERGED: usize = 64;
const _: () = assert!(Collection::LEAF_ITEMS <= PAGE_ITEMS_MERGED && PAGE_ITEMS_MERGED < PAGE_ITEMS_MAX);

// Short domains: a leaf with one item is one block of BLAKE3, 64 bytes.
const LEAF_DOMAIN: &[u8] = b"anabranch/v1/l\0";
const NODE_DOMAIN: &[u8] = b"anabranch/v1/n\0";

enum Found<'a> {
    /// Part of a page.
    Items(&'a [Item]),
    /// A whole node.
    Node(&'a Node),
}

#[derive(Debug, Clone)]
enum Node {
    Page(Page),
    Branch(Box<Branch>),
}

#[derive(Debug, Clone, Default)]
struct Page {
    /// Sorted by key.
    items: Vec<Item>,
    /// `None` after a change.
    digest: Option<Digest>,
}

#[derive(Debug, Clone)]
struct Branch {
    children: [Node; 16],
    len: usize,
    /// `None` after a change anywhere below.
    digest: Option<Digest>,
}

/// What one change did to the number of items below a node.
enum Changed {
    Added,
    Removed,
    Replaced,
    Nothing,
}

impl Default for Node {
    fn default() -> Self {
        Self::Page(Page::default())
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Page(page) => page.items.len(),
            Self::Branch(branch) => branch.len,
        }
    }

    /// The items of a page. A branch is never asked: this is for whole keys.
    fn items(&self) -> &[Item] {
        match self {
            Self::Page(page) => &page.items,
            Self::Branch(_) => &[],
        }
    }

    fn set(&mut self, depth: u8, key: &Key, digest: Option<Digest>) -> Changed {
        match self {
            Self::Page(page) => {
                let changed = page.set(key, digest);
                if page.items.len() > PAGE_ITEMS_MAX {
                    *self = Self::Branch(Box::new(Branch::of(&page.items, depth)));
                }
                changed
            }
            Self::Branch(branch) => {
                let changed = branch.children[nibble(key, depth)].set(depth + 1, key, digest);
                match changed {
                    Changed::Nothing => return changed,
                    Changed::Added => branch.len += 1,
                    Changed::Removed => branch.len -= 1,
                    Changed::Replaced => {}
                }
                branch.digest = None;
                if branch.len <= PAGE_ITEMS_MERGED {
                    let mut items = Vec::with_capacity(branch.len);
                    self.collect(usize::MAX, &mut items);
                    *self = Self::Page(Page { items, digest: None });
                }
                changed
            }
        }
    }

    fn digest(&mut self, depth: u8) -> Digest {
        match self {
            Self::Page(page) => *page.digest.get_or_insert_with(|| digest_of(&page.items, depth)),
            Self::Branch(branch) => {
                let Branch { children, digest, .. } = &mut **branch;
                *digest.get_or_insert_with(|| {
                    let mut hasher = Hasher::new();
                    hasher.update(NODE_DOMAIN);
                    for child in children {
                        hasher.update(&child.digest(depth + 1));
                    }
                    *hasher.finalize().as_bytes()
                })
            }
        }
    }

    /// Appends items in key order until there are `max`.
    fn collect(&self, max: usize, into: &mut Vec<Item>) {
        match self {
            Self::Page(page) => into.extend(page.items.iter().take(max - into.len())),
            Self::Branch(branch) => {
                for child in &branch.children {
                    if into.len() == max {
                        break;
                    }
                    child.collect(max, into);
                }
            }
        }
    }
}

impl Page {
    fn set(&mut self, key: &Key, digest: Option<Digest>) -> Changed {
        let changed = match (self.items.binary_search_by(|(k, _)| k.cmp(key)), digest) {
            (Ok(at), Some(digest)) if self.items[at].1 == digest => Changed::Nothing,
            (Ok(at), Some(digest)) => {
                self.items[at].1 = digest;
                Changed::Replaced
            }
            (Ok(at), None) => {
                self.items.remove(at);
                self.items.shrink_to(self.items.len() + self.items.len() / 4);
                Changed::Removed
            }
            (Err(at), Some(digest)) => {
                if self.items.len() == self.items.capacity() {
                    // Most of the memory is here: grow by an eighth and not by doubling.
                    self.items.reserve_exact((self.items.len() / 8).max(2));
                }
                self.items.insert(at, (*key, digest));
                Changed::Added
            }
            (Err(_), None) => Changed::Nothing,
        };
        if !matches!(changed, Changed::Nothing) {
            self.digest = None;
        }
        changed
    }
}

impl Branch {
    /// Splits sorted items that share their first `depth` half-bytes.
    fn of(items: &[Item], depth: u8) -> Self {
        let mut children: [Node; 16] = array::from_fn(|_| Node::default());
        for (child, items) in split(items, depth) {
            children[child] = if items.len() > PAGE_ITEMS_MAX {
                Node::Branch(Box::new(Self::of(items, depth + 1)))
            } else {
                Node::Page(Page { items: items.to_vec(), digest: None })
            };
        }
        Self { children, len: items.len(), digest: None }
    }
}

/// Digest of sorted items that share their first `depth` half-bytes and are all of that range.
fn digest_of(items: &[Item], depth: u8) -> Digest {
    if items.is_empty() {
        return [0; 32];
    }
    let mut hasher = Hasher::new();
    if items.len() <= Collection::LEAF_ITEMS {
        hasher.update(LEAF_DOMAIN);
        for (key, digest) in items {
            hasher.update(key).update(digest);
        }
    } else {
        let mut children = [[0; 32]; 16];
        for (child, items) in split(items, depth) {
            children[child] = digest_of(items, depth + 1);
        }
        hasher.update(NODE_DOMAIN).update(children.as_flattened());
    }
    *hasher.finalize().as_bytes()
}

/// Sorted items that share their first `depth` half-bytes, by the next one. Empty groups are left out.
fn split(items: &[Item], depth: u8) -> impl Iterator<Item = (usize, &[Item])> {
    items
        .chunk_by(move |(a, _), (b, _)| nibble(a, depth) == nibble(b, depth))
        .map(move |group| (nibble(&group[0].0, depth), group))
}

fn nibble(key: &Key, depth: u8) -> usize {
    let byte = key[usize::from(depth / 2)];
    usize::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

/// `key` with everything behind its first `nibbles` half-bytes replaced by bits of `fill`.
fn with_tail(key: &Key, nibbles: u8, fill: u8) -> Key {
    let whole = usize::from(nibbles / 2);
    array::from_fn(|i| match i {
        i if i < whole => key[i],
        i if i == whole && nibbles % 2 == 1 => key[i] & 0xf0 | fill & 0x0f,
        _ => fill,
    })
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The definition in the file's head, without any tree.
    fn reference(set: &BTreeMap<Key, Digest>, prefix: Prefix) -> (Digest, usize) {
        let items: Vec<_> = set.iter().filter(|(key, _)| prefix.contains(key)).collect();
        let mut bytes = Vec::new();
        match items.len() {
            0 => return ([0; 32], 0),
            1..=Collection::LEAF_ITEMS => {
                bytes.extend_from_slice(LEAF_DOMAIN);
                items.iter().for_each(|(key, digest)| bytes.extend([&key[..], &digest[..]].concat()));
            }
            _ => {
                bytes.extend_from_slice(NODE_DOMAIN);
                let children = prefix.children().expect("a whole key has one item");
                let below: BTreeMap<_, _> = items.iter().map(|(key, digest)| (**key, **digest)).collect();
                children.iter().for_each(|child| bytes.extend(reference(&below, *child).0));
            }
        }
        (*blake3::hash(&bytes).as_bytes(), items.len())
    }

    fn built(set: &BTreeMap<Key, Digest>) -> Collection {
        let mut collection = Collection::default();
        set.iter().for_each(|(key, digest)| collection.set(*key, Some(*digest)));
        collection
    }

    /// Keys that share their beginnings more often than random ones do: 0 to 31 common half-bytes.
    fn key() -> impl Strategy<Value = Key> {
        (any::<Key>(), 0..32u8, any::<bool>()).prop_map(|(key, common, crowded)| {
            let mut crowd = with_tail(&[0xab; 16], common, 0);
            let own = with_tail(&[0; 16], common, 0xff);
            for i in 0..16 {
                crowd[i] |= key[i] & own[i];
            }
            if crowded { crowd } else { key }
        })
    }

    fn steps() -> impl Strategy<Value = Vec<(Key, Option<Digest>)>> {
        let digest = prop_oneof![3 => any::<u8>().prop_map(|b| Some([b; 32])), 1 => Just(None)];
        // Some keys twice, so that items are replaced and removed.
        (vec((key(), digest), 0..600), any::<bool>()).prop_map(|(mut steps, again)| {
            if again {
                let removals: Vec<_> = steps.iter().step_by(2).map(|(key, _)| (*key, None)).collect();
                steps.extend(removals);
            }
            steps
        })
    }

    proptest! {
        #[test]
        fn any_history_gives_the_digests_of_the_set(steps in steps(), looks in vec((key(), 0..=32u8), 20)) {
            let (mut set, mut collection) = (BTreeMap::new(), Collection::default());
            for (at, (key, digest)) in steps.iter().enumerate() {
                match digest {
                    Some(digest) => set.insert(*key, *digest),
                    None => set.remove(key),
                };
                collection.set(*key, *digest);
                if at % 97 == 0 {
                    // Hashing in between must leave nothing stale behind.
                    prop_assert_eq!(collection.root(), reference(&set, Prefix::default()).0);
                }
            }
            prop_assert_eq!(collection.len(), set.len());
            let mut fresh = built(&set);
            let present = set.keys().take(10).flat_map(|key| [1, 2, 7, 31, 32].map(|nibbles| (*key, nibbles)));
            for (key, nibbles) in looks.into_iter().chain(present).chain([([0; 16], 0)]) {
                let prefix = Prefix::new(&key, nibbles);
                let expected = reference(&set, prefix);
                prop_assert_eq!(collection.digest(prefix), expected);
                prop_assert_eq!(fresh.digest(prefix), expected);
                let items: Vec<_> = set.iter().filter(|(k, _)| prefix.contains(k)).map(|(k, d)| (*k, *d)).collect();
                prop_assert_eq!(&collection.items(prefix, usize::MAX), &items);
                prop_assert_eq!(&collection.items(prefix, 3)[..], &items[..items.len().min(3)]);
                prop_assert_eq!(collection.get(&key), set.get(&key).copied());
            }
        }

        #[test]
        fn different_sets_have_different_roots(steps in steps(), key in key(), digest in any::<Digest>()) {
            let set: BTreeMap<_, _> = steps.into_iter().filter_map(|(key, digest)| Some((key, digest?))).collect();
            let mut collection = built(&set);
            let root = collection.root();
            let same = set.get(&key) == Some(&digest);
            collection.set(key, Some(digest));
            prop_assert_eq!(collection.root() == root, same);
            collection.set(key, set.get(&key).copied());
            prop_assert_eq!(collection.root(), root);
        }

        #[test]
        fn a_prefix_survives_the_wire(key in any::<Key>(), nibbles in 0..=32u8) {
            let prefix = Prefix::new(&key, nibbles);
            let bytes = minicbor::to_vec(prefix).unwrap();
            prop_assert_eq!(bytes.len(), 2 + usize::from(nibbles).div_ceil(2));
            prop_assert_eq!(minicbor::decode::<Prefix>(&bytes).unwrap(), prefix);
        }

        #[test]
        fn a_prefix_that_decodes_is_in_form(bytes in vec(any::<u8>(), 0..24)) {
            if let Ok(prefix) = minicbor::decode::<Prefix>(&bytes) {
                prop_assert_eq!(Prefix::new(&prefix.key, prefix.nibbles), prefix);
            }
        }

        #[test]
        fn children_share_out_their_parent(key in key(), nibbles in 0..32u8, other in key()) {
            let prefix = Prefix::new(&key, nibbles);
            let holders = prefix.children().unwrap().iter().filter(|child| child.contains(&other)).count();
            prop_assert_eq!(holders, usize::from(prefix.contains(&other)));
        }
    }

    #[test]
    fn an_empty_set_has_a_zero_root() {
        let mut collection = Collection::default();
        assert_eq!(collection.digest(Prefix::default()), ([0; 32], 0));
        collection.set([1; 16], Some([2; 32]));
        assert_ne!(collection.root(), [0; 32]);
        collection.set([1; 16], None);
        assert_eq!(collection.root(), [0; 32]);
        assert!(collection.is_empty());
    }

    #[test]
    fn sets_have_these_digests() {
        let mut lines = Vec::new();
        for items in [1u8, 16, 17, 200] {
            let mut collection = Collection::default();
            for i in 0..items {
                // Bytes of three beginnings, so that some ranges lie deep.
                let key = array::from_fn(|at| if at < 2 { i % 3 } else { i.wrapping_mul(at as u8 + 1) });
                collection.set(key, Some([i; 32]));
            }
            lines.push(data_encoding::HEXLOWER.encode(&collection.root()));
        }
        lines.push(data_encoding::HEXLOWER.encode(&fingerprint(&[5; 32], &[6; 32])));
        lines.push(data_encoding::HEXLOWER.encode(&minicbor::to_vec(Prefix::new(&[0xab; 16], 5)).unwrap()));
        assert_eq!(lines.join("\n"), include_str!("../../golden/collection.hex").trim_end());
    }

    #[test]
    fn a_whole_key_has_no_children() {
        assert_eq!(Prefix::new(&[1; 16], 32).children(), None);
    }

    #[test]
    fn a_prefix_out_of_form_is_refused() {
        for bytes in [&[0x40][..], &[0x41, 33], &[0x42, 1, 0x11], &[0x41, 1], &[0x43, 2, 1, 1], &[0x52, 33]] {
            assert!(minicbor::decode::<Prefix>(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_fingerprint_depends_on_session_and_digest() {
        assert_ne!(fingerprint(&[1; 32], &[0; 32]), fingerprint(&[2; 32], &[0; 32]));
        assert_ne!(fingerprint(&[1; 32], &[0; 32]), fingerprint(&[1; 32], &[1; 32]));
    }
}
