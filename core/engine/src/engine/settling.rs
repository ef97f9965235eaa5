//! What follows when runs were merged into a document: what is part of it goes into the next commit and on to the peers, what is
//! refused is answered.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tracing::warn;

use crate::document::work::{Work, WorkKind, ops_at_once};
use crate::document::{Merged, Settle, Settled};
use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::input::SessionId;
use crate::engine::output::Event;
use crate::frontier::Proof;
use crate::gate;
use crate::id::SpaceId;
use crate::limits::LIVE_BATCH_BYTES_MAX;
use crate::mutants::Mutant;
use crate::run::Run;
use crate::space::Acl;
use crate::storage::{Table, run_key, space_hash_key};

impl Engine {
    /// Merges what has arrived in this turn, one batch for each document.
    pub(super) fn settle_documents(&mut self, message_ended: bool) {
        // Where more is to come, one merge for all of it costs much less than one for each turn. At the end of any message all are
        // merged: else two peers who take turns would keep a document waiting for ever.
        let unread = &self.unread;
        let later = self.documents.put_off(|key| !message_ended && unread.has(key));
        self.has_put_off = !later.is_empty();
        while let Some(key) = self.documents.next_touched() {
            let Some(resident) = self.documents.get_mut(&key) else { continue };
            let generation = resident.generation;
            let Some(document) = resident.live_mut() else { continue };
            match document.settle(&*self.guard) {
                Settle::Done(settled) => {
                    self.after_settling(key, settled);
                    self.next_leftovers(key);
                }
                Settle::Work(work) => {
                    let (ops, kind) = (ops_at_once(work.ops()), WorkKind::Merge(work));
                    self.give_work(Work { space: key.0, document: key.1, generation, ops, kind });
                }
            }
        }
        later.into_iter().for_each(|key| self.documents.touch(key));
    }

    /// A merge that was heavy work came back.
    pub(super) fn merged(&mut self, key: DocumentKey, merged: Merged) {
        let Some(document) = self.documents.live_mut(&key) else {
            return warn!(document = %key.1, "merged before it was open");
        };
        let settled = document.finish_merge(merged, &*self.guard);
        self.after_settling(key, settled);
        self.documents.touch(key);
    }

    /// Stores and forwards what was merged, answers what was refused.
    fn after_settling(&mut self, key: DocumentKey, settled: Settled) {
        self.counters.runs_accepted += settled.accepted.len() as u64;
        self.counters.runs_known += settled.known as u64;
        self.counters.runs_waited += settled.waiting as u64;
        self.counters.orphans_evicted += settled.evicted as u64;
        if settled.waiting > 0 {
            self.has_orphans(key);
            // One of them may build on what a block has left out.
            self.ask_for_left_out(key);
        }
        if settled.cloned {
            warn!(document = %key.1, "a copy of this process writes as this device");
            self.copy_seen(self.device);
        }
        let mut brought = BTreeMap::<_, usize>::new();
        for Run { header, .. } in &settled.left_out {
            *brought.entry((header.actor, header.first_seq)).or_default() += 1;
        }
        for run in settled.left_out {
            let at = (run.header.actor, run.header.first_seq);
            let from = self.documents.get_mut(&key).and_then(|resident| resident.origins.remove(&at));
            // Of two histories of an actor it is not known who brought which.
            self.leave_out(from.filter(|_| brought.get(&at) == Some(&1)), &run);
        }
        let Some(resident) = self.documents.get_mut(&key) else { return };
        let mut refused = Vec::new();
        for (header, refusal) in settled.refused {
            let origin = resident.origins.remove(&(header.actor, header.first_seq));
            refused.push((origin, header, refusal));
        }
        let mut accepted = Vec::with_capacity(settled.accepted.len());
        let noted = self.mutated.by(Mutant::ForgetsNothing).then(|| resident.origins.clone());
        for run in without_overlaps(settled.accepted) {
            let origin = resident.origins.remove(&(run.header.actor, run.header.first_seq));
            accepted.push((origin, run));
        }
        let stood_on: Vec<Acl> = accepted.iter().filter_map(|(_, run)| resident.acls.remove(&run.header.acl)).collect();
        let nothing_waits = resident.nothing_waits();
        resident.forget_what_is_judged();
        if let Some(noted) = noted {
            resident.origins = noted;
        }
        if nothing_waits {
            self.documents.has_no_orphans(&key);
        }
        for (origin, header, refusal) in refused {
            if let Some(session) = origin {
                self.refuse(session, &header, &refusal);
            }
        }
        if accepted.is_empty() {
            return;
        }
        if settled.read_again {
            self.documents.reread(key);
        }
        for acl in &stood_on {
            self.keep_acl(&key.0, acl);
        }
        self.documents.mark_dirty(key);
        self.event(Event::DocumentChanged { space: key.0, document: key.1, remote: true });
        self.keep_and_forward(&key.0, accepted);
    }

    /// Puts runs that are now part of their documents into the next commit, and sends them to whoever did not bring them. Large
    /// ones are not sent along the live lanes, and not copied.
    pub(super) fn keep_and_forward(&mut self, space: &SpaceId, runs: Vec<(Option<SessionId>, Run)>) {
        if runs.iter().map(|(_, run)| run.payload.len()).sum::<usize>() > LIVE_BATCH_BYTES_MAX {
            return runs.into_iter().for_each(|(_, run)| self.keep_run(run));
        }
        for (_, run) in &runs {
            self.keep_run(run.clone());
        }
        self.forward(space, runs);
    }

    /// Puts a run that is now part of its document into the next commit.
    pub(super) fn keep_run(&mut self, run: Run) {
        let key = (run.header.space, run.header.document);
        let Ok((first_lamport, lamport)) = gate::lamports(&run.payload) else {
            return warn!(document = %key.1, "an accepted run that cannot be read");
        };
        let header = &run.header;
        self.poison.acquit(&header.tip, &mut self.commits);
        let row = run_key(&key.0, &key.1, lamport, &header.actor, header.last_seq);
        if let Some(resident) = self.documents.get_mut(&key) {
            let proof = Proof { header: header.clone(), first_lamport, lamport };
            resident.accept([proof], run.payload.len() as u64);
        }
        self.commits.put(Table::Runs, row, run.into_stored());
    }

    /// Puts an `acl_ref` that a good run stands on into the next commit, unless it is there already.
    pub(super) fn keep_acl(&mut self, space_id: &SpaceId, acl: &Acl) {
        if self.spaces.get_mut(space_id).is_some_and(|space| space.keep_acl(acl)) {
            let entries = minicbor::to_vec(&acl.entries).expect("writing to memory does not fail");
            self.commits.put(Table::AclRefs, space_hash_key(space_id, &acl.hash.0), entries);
            self.read_leftovers_of(space_id);
        }
    }
}

/// Of runs that end with the same change, the one that begins first: a row's key tells where its run ends, so of two such
/// runs only one can be kept, and it has to be the one with all the changes.
fn without_overlaps(runs: Vec<Run>) -> impl Iterator<Item = Run> {
    let mut first = BTreeMap::new();
    for run in &runs {
        let header = &run.header;
        let least = first.entry((header.actor, header.last_seq)).or_insert(header.first_seq);
        *least = header.first_seq.min(*least);
    }
    runs.into_iter().filter(move |run| {
        let header = &run.header;
        first.remove_entry(&(header.actor, header.last_seq)).is_some_and(|(key, least)| {
            let keep = least == header.first_seq;
            if !keep {
                first.insert(key, least);
            }
            keep
        })
    })
}
