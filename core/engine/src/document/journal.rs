//! The latest changes of a document as patches, for those who follow it. Patches come out of the edit or merge that made the
//! change, so that following costs what changed, not what the document holds. Of several changes that were merged together
//! automerge's patches may be wrong: of those none are kept, and who follows compares the two versions.
//!
//! Nothing is kept until somebody asks. When nobody asks any more, it ends by itself.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::document::patch::Patch;
use crate::document::view::Snapshot;
use crate::id::ChangeHash;
use crate::limits::{JOURNAL_BYTES_MAX, JOURNAL_STEPS_MAX};

/// Who changed a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An edit made here.
    Local,
    /// Runs of peers.
    Remote,
    /// Both, or it is not known any more.
    Mixed,
}

/// One change of a document's content.
#[derive(Clone, Debug)]
pub struct Step {
    /// From the version before to `heads`.
    pub patches: Vec<Patch>,
    /// The version after it.
    pub heads: Vec<ChangeHash>,
    /// Who made it.
    pub origin: Origin,
}

/// What is new for somebody who follows a document.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The steps since the version last seen, in order. None if it is the present one.
    Steps(Vec<Arc<Step>>),
    /// They are not known. The version last seen has to be compared with this one, which takes time in what the document
    /// holds.
    Compare(Snapshot),
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The version before the first step.
    start: Vec<ChangeHash>,
    steps: VecDeque<Arc<Step>>,
    /// Bytes of their patches, about.
    bytes: usize,
    /// Steps since somebody last asked.
    unread: usize,
}

impl Journal {
    /// Whether patches are wanted.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Adds what has just changed.
    pub(crate) fn add(&mut self, step: Step) {
        let Some(kept) = self.unread() else { return };
        kept.bytes += step.bytes();
        kept.steps.push_back(Arc::new(step));
        while kept.bytes > JOURNAL_BYTES_MAX || kept.steps.len() > JOURNAL_STEPS_MAX {
            let Some(first) = kept.steps.pop_front() else { break };
            kept.bytes -= first.bytes();
            kept.start.clone_from(&first.heads);
        }
    }

    /// The document has changed in a way that no patches are known of.
    pub(crate) fn interrupt(&mut self, heads: Vec<ChangeHash>) {
        if let Some(kept) = self.unread() {
            *kept = Kept { unread: kept.unread, ..Kept::at(heads) };
        }
    }

    /// Counts one more step that nobody has asked for; `None` if nothing is kept, or not any more.
    fn unread(&mut self) -> Option<&mut Kept> {
        let kept = self.kept.as_mut()?;
        kept.unread += 1;
        if kept.unread > JOURNAL_STEPS_MAX {
            self.kept = None;
        }
        self.kept.as_mut()
    }

    /// The steps that lead from `seen` to `now`, the present version; `None` if they are not known. From now on steps are kept.
    pub(crate) fn since(&mut self, seen: &[ChangeHash], now: Vec<ChangeHash>) -> Option<Vec<Arc<Step>>> {
        let is_present = seen == now;
        let kept = self.kept.get_or_insert_with(|| Kept::at(now));
        kept.unread = 0;
        if is_present {
            return Some(Vec::new());
        }
        let after = match kept.steps.iter().rposition(|step| step.heads == seen) {
            Some(last) => last + 1,
            None if kept.start == seen => 0,
            None => return None,
        };
        Some(kept.steps.range(after..).cloned().collect())
    }
}

impl Kept {
    fn at(start: Vec<ChangeHash>) -> Self {
        Self { start, steps: VecDeque::new(), bytes: 0, unread: 0 }
    }
}

impl Step {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.heads.len() * size_of::<ChangeHash>()
            + self.patches.iter().map(Patch::bytes).sum::<usize>()
    }
}

impl Origin {
    /// Of two changes together.
    pub fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Mixed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{PatchAction, Path};
    use alloc::string::String;
    use alloc::vec;

    fn heads(n: usize) -> Vec<ChangeHash> {
        vec![ChangeHash([n as u8; 32])]
    }

    fn step(n: usize, bytes: usize) -> Step {
        let text = "x".repeat(bytes);
        let action = PatchAction::InsertText { position: 0, text };
        Step { patches: vec![Patch { path: Path::root(), action }], heads: heads(n), origin: Origin::Local }
    }

    fn told(journal: &mut Journal, seen: usize, now: usize) -> Option<Vec<Vec<ChangeHash>>> {
        let steps = journal.since(&heads(seen), heads(now))?;
        Some(steps.iter().map(|step| step.heads.clone()).collect())
    }

    #[test]
    fn steps_are_kept_from_the_first_question_on() {
        let mut journal = Journal::default();
        journal.add(step(1, 1));
        assert!(!journal.is_kept());
        assert_eq!(told(&mut journal, 0, 1), None);
        journal.add(step(2, 1));
        journal.add(step(3, 1));
        assert_eq!(told(&mut journal, 1, 3), Some(vec![heads(2), heads(3)]));
        assert_eq!(told(&mut journal, 2, 3), Some(vec![heads(3)]));
        assert_eq!(told(&mut journal, 3, 3), Some(vec![]));
        assert_eq!(told(&mut journal, 9, 3), None);
    }

    #[test]
    fn interruption_leaves_no_step_across_it() {
        let mut journal = Journal::default();
        assert_eq!(told(&mut journal, 1, 1), Some(vec![]));
        journal.add(step(2, 1));
        journal.interrupt(heads(3));
        journal.add(step(4, 1));
        assert_eq!(told(&mut journal, 2, 4), None);
        assert_eq!(told(&mut journal, 3, 4), Some(vec![heads(4)]));
    }

    #[test]
    fn journal_that_nobody_reads_ends() {
        let mut journal = Journal::default();
        assert_eq!(told(&mut journal, 0, 0), Some(vec![]));
        (0..=JOURNAL_STEPS_MAX).for_each(|n| journal.add(step(n, 1)));
        assert!(!journal.is_kept());
    }

    // Only steps were counted, so that one of a document that peers alone change, by merges without patches, never ended.
    #[test]
    fn journal_that_is_only_interrupted_ends() {
        let mut journal = Journal::default();
        assert_eq!(told(&mut journal, 0, 0), Some(vec![]));
        (0..JOURNAL_STEPS_MAX).for_each(|n| journal.interrupt(heads(n)));
        assert!(journal.is_kept());
        journal.interrupt(heads(JOURNAL_STEPS_MAX));
        assert!(!journal.is_kept());
    }

    #[test]
    fn journal_has_a_limit_in_bytes() {
        let mut journal = Journal::default();
        assert_eq!(told(&mut journal, 0, 0), Some(vec![]));
        (1..=20).for_each(|n| journal.add(step(n, JOURNAL_BYTES_MAX / 10)));
        let kept = journal.kept.as_ref().expect("it is kept");
        assert!(kept.bytes <= JOURNAL_BYTES_MAX && kept.steps.len() >= 8, "{} steps", kept.steps.len());
        assert_eq!(told(&mut journal, 0, 20), None);
        assert_eq!(told(&mut journal, 19, 20), Some(vec![heads(20)]));
        let text = String::from("a step larger than the limit is not kept at all");
        journal.add(step(21, JOURNAL_BYTES_MAX + 1));
        assert_eq!(told(&mut journal, 20, 21), None, "{text}");
    }
}
