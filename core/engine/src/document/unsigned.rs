//! Local changes on their way from automerge into runs.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use automerge as am;

use crate::document::Document;
use crate::document::draft::DraftRun;
use crate::document::history::Change;
use crate::gate::Payload;
use crate::id::ChangeHash;
use crate::limits::{RUN_CHANGES_MAX, RUN_SHARED_BYTES_MAX};
use crate::run::UnsignedRun;

/// Local changes that no run has taken yet. They are taken out of automerge not one by one but when a run is wanted, or a
/// merge begins: taking each out as it is made would cost a third of making it.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Taken out.
    pub(super) harvested: VecDeque<Unsigned>,
    pub(super) harvested_bytes: usize,
    /// Not taken out: about how many bytes they are. Zero if there are none.
    pub(super) pending_bytes: usize,
    /// All that is not at or below these is not taken out yet.
    pub(super) base: Vec<am::ChangeHash>,
}

/// Something for a run.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are changes, and a box for each would be one more allocation an edit"
)]
pub(super) enum Unsigned {
    /// A change, which may share its run with its neighbours.
    Change(Change),
    /// A draft, which is a run by itself.
    Draft(Box<DraftRun>),
}

impl Document {
    /// Raw bytes of local changes that no run has taken yet; an estimate for the newest, never zero if there are any.
    pub fn unsigned_bytes(&self) -> usize {
        self.tail.harvested_bytes + self.tail.pending_bytes
    }

    /// Takes local changes for signing; `None` if there are none. A draft by itself; of others at most `RUN_CHANGES_MAX` changes
    /// and `RUN_SHARED_BYTES_MAX` bytes at a time: call until `None`.
    pub fn take_unsigned(&mut self) -> Option<UnsignedRun> {
        self.harvest();
        let first = match self.tail.harvested.front()? {
            Unsigned::Change(first) => first,
            Unsigned::Draft(_) => return self.take_draft(),
        };
        let (actor, first_seq) = (first.actor()?, first.seq());
        let mut run = UnsignedRun { actor, first_seq, last_seq: 0, tip: first.hash(), payload: Vec::new() };
        while let Some(Unsigned::Change(change)) = self.tail.harvested.front() {
            let count = change.seq().checked_sub(first_seq);
            let full = !run.payload.is_empty() && run.payload.len() + change.bytes().len() > RUN_SHARED_BYTES_MAX;
            if change.actor() != Some(actor) || full || count.is_none_or(|count| count >= RUN_CHANGES_MAX) {
                break;
            }
            run.last_seq = change.seq();
            run.tip = change.hash();
            run.payload.extend_from_slice(change.bytes());
            advance(&mut self.signed_heads, change.deps(), change.hash());
            self.tail.harvested_bytes -= change.bytes().len();
            self.tail.harvested.pop_front();
        }
        Some(run)
    }

    /// For a mutant: the first draft becomes two. Says whether there was one of several changes.
    pub(crate) fn split_draft(&mut self) -> bool {
        self.harvest();
        let drafts = |unsigned: &Unsigned| matches!(unsigned, Unsigned::Draft(_));
        let Some(at) = self.tail.harvested.iter().position(drafts) else { return false };
        let Some(Unsigned::Draft(draft)) = self.tail.harvested.get_mut(at) else { return false };
        let Ok(payload) = Payload::read(draft.run.payload.clone()) else { return false };
        let [.., before, last] = payload.links() else { return false };
        let rest = draft.run.payload.split_off(last.range.start);
        let first_seq = core::mem::replace(&mut draft.run.last_seq, before.seq);
        let tip = core::mem::replace(&mut draft.run.tip, before.hash);
        let run = UnsignedRun { actor: draft.run.actor, first_seq, last_seq: first_seq, tip, payload: rest };
        let second = DraftRun { run, deps: last.deps.clone(), ops: last.ops };
        self.tail.harvested.insert(at + 1, Unsigned::Draft(Box::new(second)));
        at == 0
    }

    pub(super) fn take_draft(&mut self) -> Option<UnsignedRun> {
        let Unsigned::Draft(draft) = self.tail.harvested.pop_front()? else { return None };
        let DraftRun { run, deps, .. } = *draft;
        self.tail.harvested_bytes -= run.payload.len();
        advance(&mut self.signed_heads, deps, run.tip);
        Some(run)
    }

    /// Takes the local changes out of automerge that have not been taken out yet.
    pub(super) fn harvest(&mut self) {
        if self.tail.pending_bytes > 0 {
            self.tail.pending_bytes = 0;
            let new = self.history.since(&self.tail.base);
            self.add_to_index(new.iter());
            self.keep_harvested(new);
        }
    }

    /// Adds local changes to the index, if it is here.
    pub(super) fn add_to_index(&mut self, changes: impl IntoIterator<Item = impl core::borrow::Borrow<Change>>) {
        if let Some(mut index) = self.index.take() {
            let mut changes = changes.into_iter();
            match changes.try_for_each(|change| change.borrow().add_to(&mut index, &self.history)) {
                Ok(()) => self.index = Some(index),
                Err(refusal) => {
                    tracing::warn!(document = %self.id, %refusal, "a local change is not in the index");
                }
            }
        }
    }

    pub(super) fn keep_harvested(&mut self, new: Vec<Change>) {
        for change in new {
            if self.merging {
                self.meanwhile.push(change.0.clone());
            }
            self.tail.harvested_bytes += change.bytes().len();
            self.tail.harvested.push_back(Unsigned::Change(change));
        }
        self.tail.base = self.history.automerge().get_heads();
    }
}

/// Moves heads on by one change.
pub(super) fn advance(heads: &mut BTreeSet<ChangeHash>, deps: impl IntoIterator<Item = ChangeHash>, hash: ChangeHash) {
    for dep in deps {
        heads.remove(&dep);
    }
    heads.insert(hash);
}
