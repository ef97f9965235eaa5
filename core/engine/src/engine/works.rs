//! Heavy work on its way to the workers. How many of them there are is the driver's business; how much memory they take at once is
//! decided here: while automerge applies operations it takes hundreds of bytes for each, whatever is left of them afterwards.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use tracing::debug;

use crate::document::work::{Work, WorkDone, WorkResult};
use crate::engine::Engine;
use crate::engine::output::Output;
use crate::limits::WORK_OPS_MAX;

/// How often the work that has waited longest is passed over for some that there is room for.
const PASSED_OVER_MAX: u32 = 16;

/// Work that is under way, and what waits until there is room for it.
#[derive(Debug, Default)]
pub(super) struct Works {
    waiting: VecDeque<Box<Work>>,
    /// Operations that are applied at once, of all that is under way.
    ops: u64,
    under_way: usize,
    /// How often the first that waits was passed over.
    passed_over: u32,
}

impl Works {
    /// Takes in work to be done.
    pub(super) fn add(&mut self, work: Work) {
        self.waiting.push_back(Box::new(work));
    }

    /// Work with so many operations has come back.
    pub(super) fn done(&mut self, ops: u64) {
        self.ops -= ops;
        self.under_way -= 1;
    }

    /// The oldest work that there is room for: small documents do not wait for large ones, until many of them have gone before.
    /// Something is always under way.
    pub(super) fn next(&mut self) -> Option<Box<Work>> {
        let fits = |work: &Work| self.under_way == 0 || self.ops + work.ops <= WORK_OPS_MAX;
        let at = self.waiting.iter().position(|work| fits(work))?;
        self.passed_over = match at {
            0 => 0,
            _ if self.passed_over >= PASSED_OVER_MAX => return None,
            _ => self.passed_over + 1,
        };
        let work = self.waiting.remove(at)?;
        self.ops += work.ops;
        self.under_way += 1;
        Some(work)
    }

    /// How much of it waits.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Engine {
    /// Has work done as soon as there is room for it.
    pub(super) fn give_work(&mut self, work: Work) {
        self.works.add(work);
        self.hand_out_work();
    }

    fn hand_out_work(&mut self) {
        while let Some(work) = self.works.next() {
            self.out(Output::Work(work));
        }
    }

    /// Heavy work came back.
    pub(super) fn worked(&mut self, done: WorkDone) {
        self.works.done(done.ops);
        self.hand_out_work();
        let key = (done.space, done.document);
        if self.documents.of_generation(&key, done.generation).is_none() {
            return debug!(document = %key.1, "work came back for a document that is gone");
        }
        match done.result {
            WorkResult::Opened(Ok(document)) => self.opened(key, document),
            WorkResult::Opened(Err(error)) => self.mend_document(key, &error),
            WorkResult::Mended(mended) => self.mended(key, *mended),
            WorkResult::Merged(merged) => self.merged(key, merged),
            WorkResult::Vouched(runs) => self.leftovers_read(key, runs),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::document::work::WorkKind;
    use crate::id::{DocumentId, SpaceId};

    fn work(document: u8, ops: u64) -> Work {
        let (space, document) = (SpaceId([1; 32]), DocumentId([document; 16]));
        Work { space, document, generation: 1, ops, kind: WorkKind::Vouch(Vec::new()) }
    }

    #[test]
    fn large_documents_wait_for_each_other_and_small_ones_for_nobody() {
        let mut works = Works::default();
        let half = WORK_OPS_MAX / 2;
        for (document, ops) in [(1, half), (2, half - 10), (3, half), (4, 10), (5, 1)] {
            works.add(work(document, ops));
        }
        let taken = |works: &mut Works| {
            let next = core::iter::from_fn(|| works.next());
            next.map(|work| work.document.0[0]).collect::<Vec<u8>>()
        };
        assert_eq!(taken(&mut works), [1, 2, 4]);
        assert_eq!(works.waiting(), 2);
        works.done(10);
        assert_eq!(taken(&mut works), [5]);
        works.done(half - 10);
        assert!(taken(&mut works).is_empty());
        works.done(1);
        assert_eq!(taken(&mut works), [3]);
    }

    #[test]
    fn a_large_document_is_not_passed_over_for_ever() {
        let mut works = Works::default();
        works.add(work(1, 10));
        assert!(works.next().is_some());
        works.add(work(2, WORK_OPS_MAX));
        let mut before = 0;
        loop {
            works.add(work(3, 10));
            let Some(next) = works.next() else { break };
            assert_eq!(next.document, DocumentId([3; 16]));
            works.done(10);
            before += 1;
        }
        assert_eq!(before, PASSED_OVER_MAX);
        works.done(10);
        assert_eq!(works.next().unwrap().document, DocumentId([2; 16]));
    }

    #[test]
    fn work_that_is_more_than_the_limit_is_done_alone() {
        let mut works = Works::default();
        works.add(work(1, WORK_OPS_MAX + 1));
        works.add(work(2, 0));
        assert_eq!(works.next().unwrap().document, DocumentId([1; 16]));
        assert!(works.next().is_none());
        works.done(WORK_OPS_MAX + 1);
        assert_eq!(works.next().unwrap().document, DocumentId([2; 16]));
    }
}
