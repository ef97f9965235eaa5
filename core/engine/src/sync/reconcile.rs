//! Finding which items of two sets differ, by fingerprints of ranges. Stateless: every message is answered from what is held
//! now, so a lost or repeated one does no harm. The same for membership entries and for documents.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::limits::RANGES_PER_MESSAGE_MAX;
use crate::sync::collection::{Collection, Digest, Fingerprint, Key, Prefix, fingerprint};
use crate::wire::{Item, Level, Message, Node, Range, SpaceIndex, wire_fingerprint, wire_key};

/// One side of a reconciliation of one set.
pub struct Reconciler<'a> {
    /// What we hold.
    pub collection: &'a mut Collection,
    /// Keys the session's fingerprints.
    pub salt: &'a [u8; 32],
    /// The space, as the session calls it.
    pub space: SpaceIndex,
    /// Which of its sets.
    pub level: Level,
}

/// How two sets differ within some ranges.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The peer has them, we do not.
    pub missing_here: Vec<Key>,
    /// We have them, the peer does not.
    pub missing_there: Vec<Key>,
    /// Both have them, and not alike.
    pub differing: Vec<Key>,
}

/// Whether ranges are as every honest peer sends them: ascending, none within another.
pub fn are_apart(prefixes: impl IntoIterator<Item = Prefix>) -> bool {
    let mut last: Option<Prefix> = None;
    prefixes.into_iter().all(|prefix| {
        let apart = last.is_none_or(|last| last.key < prefix.key && !last.contains(&prefix.key));
        last = Some(prefix);
        apart
    })
}

impl Reconciler<'_> {
    /// The first message: all of a small set, or the fingerprints of the sixteen parts of a larger one.
    pub fn open(mut self) -> Vec<Message> {
        let mut answer = Answer::default();
        self.descend(Prefix::default(), &mut answer);
        answer.into_messages(self.space, self.level)
    }

    /// Answers fingerprints: nothing for equal ranges, the items of small ones, the parts of large ones.
    pub fn nodes(mut self, nodes: &[Node]) -> Vec<Message> {
        let mut answer = Answer::default();
        for node in nodes {
            let (digest, _) = self.collection.digest(node.prefix);
            if self.fingerprint(&digest) != *node.fingerprint {
                self.descend(node.prefix, &mut answer);
            }
        }
        answer.into_messages(self.space, self.level)
    }

    fn descend(&mut self, prefix: Prefix, answer: &mut Answer) {
        let (_, count) = self.collection.digest(prefix);
        match prefix.children() {
            Some(children) if count > Collection::LEAF_ITEMS => {
                for child in children {
                    let (digest, _) = self.collection.digest(child);
                    let fingerprint = wire_fingerprint(self.fingerprint(&digest));
                    answer.nodes.push(Node { prefix: child, fingerprint });
                }
            }
            Some(_) | None => {
                let items = self.collection.items(prefix, Collection::LEAF_ITEMS);
                let items = items
                    .iter()
                    .map(|(key, digest)| Item {
                        key: wire_key(key),
                        fingerprint: wire_fingerprint(self.fingerprint(digest)),
                    })
                    .collect();
                answer.ranges.push(Range { prefix, items });
            }
        }
    }

    /// Compares the peer's items of some ranges with ours.
    pub fn items(self, ranges: &[Range]) -> Differences {
        let mut differences = Differences::default();
        for range in ranges {
            let theirs: BTreeMap<Key, Fingerprint> = range
                .items
                .iter()
                .filter(|item| range.prefix.contains(&item.key))
                .map(|item| (*item.key, *item.fingerprint))
                .collect();
            let ours = self.collection.items(range.prefix, usize::MAX);
            for (key, digest) in &ours {
                match theirs.get(key) {
                    None => differences.missing_there.push(*key),
                    Some(fingerprint) if *fingerprint != self.fingerprint(digest) => differences.differing.push(*key),
                    Some(_) => {}
                }
            }
            let held = |key: &Key| ours.binary_search_by(|(ours, _)| ours.cmp(key)).is_ok();
            differences.missing_here.extend(theirs.keys().filter(|key| !held(key)));
        }
        differences
    }

    fn fingerprint(&self, digest: &Digest) -> Fingerprint {
        fingerprint(self.salt, digest)
    }
}

#[derive(Default)]
struct Answer {
    nodes: Vec<Node>,
    ranges: Vec<Range>,
}

impl Answer {
    fn into_messages(self, space: SpaceIndex, level: Level) -> Vec<Message> {
        let nodes = self.nodes.chunks(RANGES_PER_MESSAGE_MAX).map(|nodes| Message::Nodes {
            space,
            level,
            nodes: nodes.to_vec(),
        });
        // Sixteen items for each range at most: as many bytes as a full message of nodes.
        let ranges = self.ranges.chunks(RANGES_PER_MESSAGE_MAX / Collection::LEAF_ITEMS).map(|ranges| Message::Items {
            space,
            level,
            ranges: ranges.to_vec(),
        });
        nodes.chain(ranges).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::collections::VecDeque;

    use super::*;

    fn key(i: u64) -> Key {
        *blake3::hash(&i.to_be_bytes()).as_bytes().first_chunk().expect("32 bytes begin with 16")
    }

    fn set(items: impl Iterator<Item = (u64, u8)>) -> Collection {
        let mut collection = Collection::default();
        for (i, digest) in items {
            collection.set(key(i), Some([digest; 32]));
        }
        collection
    }

    /// Runs the exchange and returns what both sides found, with the number of messages.
    fn exchange(a: &mut Collection, b: &mut Collection) -> ([Differences; 2], usize) {
        let salt = [9; 32];
        let mut found = [Differences::default(), Differences::default()];
        let first = Reconciler { collection: a, salt: &salt, space: 0, level: Level::Documents }.open();
        let mut queue: VecDeque<_> = first.into_iter().map(|message| (1, message)).collect();
        let mut messages = 0;
        while let Some((to, message)) = queue.pop_front() {
            messages += 1;
            let collection = if to == 0 { &mut *a } else { &mut *b };
            let reconciler = Reconciler { collection, salt: &salt, space: 0, level: Level::Documents };
            match message {
                Message::Nodes { nodes, .. } => {
                    queue.extend(reconciler.nodes(&nodes).into_iter().map(|message| (1 - to, message)));
                }
                Message::Items { ranges, .. } => {
                    let more = reconciler.items(&ranges);
                    found[to].missing_here.extend(more.missing_here);
                    found[to].missing_there.extend(more.missing_there);
                    found[to].differing.extend(more.differing);
                }
                other => panic!("{other:?}"),
            }
        }
        (found, messages)
    }

    #[test]
    fn every_difference_is_found_once_and_nothing_else() {
        for (shared, only_a, only_b, changed) in
            [(0, 0, 5, 0), (3, 1, 1, 1), (1_000, 7, 9, 11), (5_000, 0, 0, 1), (0, 400, 0, 0)]
        {
            let mut a = set((0..shared).map(|i| (i, 1)).chain((10_000..10_000 + only_a).map(|i| (i, 1))));
            let mut b = set((0..shared)
                .map(|i| (i, if i < changed { 2 } else { 1 }))
                .chain((20_000..20_000 + only_b).map(|i| (i, 1))));
            let (found, _) = exchange(&mut a, &mut b);
            let [at_a, at_b] = &found;
            let both = |x: &[Key], y: &[Key]| x.iter().chain(y).copied().collect::<Vec<_>>();
            for (got, expected) in [
                (
                    both(&at_a.missing_there, &at_b.missing_here),
                    (10_000..10_000 + only_a).map(key).collect::<BTreeSet<_>>(),
                ),
                (both(&at_a.missing_here, &at_b.missing_there), (20_000..20_000 + only_b).map(key).collect()),
                (both(&at_a.differing, &at_b.differing), (0..changed.min(shared)).map(key).collect()),
            ] {
                assert_eq!(got.len(), expected.len(), "each once");
                assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), expected);
            }
        }
    }

    #[test]
    fn equal_sets_have_nothing_to_say_after_the_first_message() {
        let mut a = set((0..1_000).map(|i| (i, 1)));
        let mut b = set((0..1_000).rev().map(|i| (i, 1)));
        assert_eq!(exchange(&mut a, &mut b).1, 1);
    }
}
