//! Hints, sent after changes and heard from others. They only make roots be compared sooner.

use alloc::vec::Vec;

use tracing::debug;

use crate::engine::Engine;
use crate::engine::input::HintId;
use crate::engine::output::{Output, Verdict};
use crate::id::{DeviceId, SpaceId};
use crate::limits::{HINT_INTERVAL, ROOT_QUIET};
use crate::mutants::Mutant;
use crate::space::auth::topic;
use crate::sync::hint::{Hint, hint_roots};
use crate::time::Timestamp;

/// A hint that is due at some time, or was sent.
#[derive(Debug)]
pub(super) struct PendingHint {
    due_at: Option<Timestamp>,
    sent_at: Option<Timestamp>,
}

impl Engine {
    /// A space changed: say so by gossip, at most once an interval.
    pub(super) fn hint_later(&mut self, space: &SpaceId) {
        let now = self.now.mono;
        if self.sessions.is_empty() {
            // Nobody to hear it: who comes later compares roots first.
            return;
        }
        let pending = self.hints.entry(*space).or_insert(PendingHint { due_at: None, sent_at: None });
        let earliest = pending.sent_at.map_or(now, |at| at + HINT_INTERVAL);
        pending.due_at.get_or_insert((now + ROOT_QUIET).max(earliest));
    }

    pub(super) fn hints_deadline(&self) -> Option<(Timestamp, &'static str)> {
        self.hints.values().filter_map(|pending| pending.due_at).min().map(|at| (at, "hint"))
    }

    pub(super) fn hints_due(&mut self) {
        let (now, mutated) = (self.now.mono, self.mutated);
        let due: Vec<_> = self
            .hints
            .iter_mut()
            .filter(|(_, pending)| pending.due_at.is_some_and(|at| now >= at))
            .map(|(space, pending)| {
                let due_at = mutated.by(Mutant::HintsForEver).then(|| now + HINT_INTERVAL);
                *pending = PendingHint { due_at, sent_at: Some(now) };
                *space
            })
            .collect();
        for id in due {
            let Some(space) = self.spaces.get_mut(&id) else { continue };
            let key = space.connection_key();
            let (members, documents) = hint_roots(&key, &space.entries.root(), &space.documents.root());
            let hint = Hint {
                version: Hint::VERSION,
                device: self.device,
                storage: self.storage,
                epoch: self.epoch,
                seq: self.feed_seq,
                roots: (members.into(), documents.into()),
            };
            self.counters.hints_out += 1;
            self.out(Output::Publish { topic: topic(&key), bytes: hint.to_bytes() });
        }
    }

    pub(super) fn heard_hint(&mut self, id: HintId, from: DeviceId, topic_name: &str, bytes: &[u8]) {
        let verdict = self.judge_hint(from, topic_name, bytes);
        self.out(Output::Judge { hint: id, verdict });
    }

    fn judge_hint(&mut self, from: DeviceId, topic_name: &str, bytes: &[u8]) -> Verdict {
        let Some((id, space)) = self.spaces.iter_mut().find(|(_, space)| topic(&space.connection_key()) == topic_name)
        else {
            return Verdict::Ignore;
        };
        let id = *id;
        let hint = match Hint::from_bytes(bytes) {
            Ok(hint) => hint,
            Err(error) => {
                debug!(%from, error, "a bad hint");
                return Verdict::Reject;
            }
        };
        if space.membership.role(&hint.device).is_none() {
            return Verdict::Ignore;
        }
        let key = space.connection_key();
        let (members, documents) = hint_roots(&key, &space.entries.root(), &space.documents.root());
        // A hint of a blocked device goes on to others, and means nothing here.
        let is_heard = hint.device != self.device && !self.blocked.contains(&hint.device);
        if is_heard && (*hint.roots.0, *hint.roots.1) != (members, documents) {
            self.compare_after_hint(id, hint.device, from);
        }
        Verdict::Accept
    }

    /// Asks the hint's author where it stands, or, without a session with it, whoever handed us the hint.
    fn compare_after_hint(&mut self, space: SpaceId, author: DeviceId, from: DeviceId) {
        let now = self.now.mono;
        let peer = if self.is_connected(&author) { author } else { from };
        for session in self.sessions.values_mut().filter(|session| session.peer == peer && session.is_open()) {
            if let Some((_, shared)) = session.shared_in(&space) {
                shared.roots_changed(now);
            }
        }
        self.dial_check = true;
    }
}
