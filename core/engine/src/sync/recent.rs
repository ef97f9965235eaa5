//! What is remembered of the documents that came up last: a table with a limit, which forgets the oldest first.

use alloc::collections::{BTreeMap, VecDeque};

use crate::id::DocumentId;

/// Something about each of at most so many documents.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    limit: usize,
    of: BTreeMap<DocumentId, T>,
    /// In which they came up first.
    order: VecDeque<DocumentId>,
}

impl<T> Recent<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, of: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn get(&self, document: &DocumentId) -> Option<&T> {
        self.of.get(document)
    }

    pub(crate) fn insert(&mut self, document: DocumentId, value: T) {
        if self.of.insert(document, value).is_some() {
            return;
        }
        self.order.push_back(document);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.of.clear();
        self.order.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The document with the lowest id was forgotten, be it the one that was just put in.
    #[test]
    fn the_oldest_document_is_forgotten_first() {
        let mut recent = Recent::new(2);
        let document = |id| DocumentId([id; 16]);
        [9, 5, 9, 1].into_iter().for_each(|id| recent.insert(document(id), id));
        assert_eq!(recent.len(), 2);
        assert_eq!([9, 5, 1].map(|id| recent.get(&document(id)).copied()), [None, Some(5), Some(1)]);
        recent.clear();
        recent.insert(document(3), 3);
        assert_eq!((recent.len(), recent.get(&document(3))), (1, Some(&3)));
    }
}
