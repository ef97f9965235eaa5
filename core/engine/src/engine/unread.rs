//! Runs that arrived and whose turn has not come. To check a signature takes a tenth of a millisecond, and a message has up to a
//! thousand runs: a turn reads some of them, of each session in turn, so that edits and other peers get in between.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::ops::Bound;

use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::input::SessionId;
use crate::id::SpaceId;
use crate::limits::RUNS_PER_TURN_MAX;
use crate::sync::transfer::wire_bytes;
use crate::time::Timestamp;
use crate::wire::WireRun;

/// What is left of messages, by session.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    by: BTreeMap<SessionId, VecDeque<Message>>,
    bytes: usize,
    /// How many unread runs of each document are left in the messages that are partly read.
    to_come: BTreeMap<DocumentKey, usize>,
    /// Whose run was read last.
    last: Option<SessionId>,
}

#[derive(Debug)]
struct Message {
    space: SpaceId,
    runs: VecDeque<WireRun>,
    begun: bool,
}

/// The next run, and whether it is the last one of its message.
type Next = (SessionId, SpaceId, WireRun, bool);

impl Unread {
    /// A message arrived.
    pub(crate) fn add(&mut self, session: SessionId, space: SpaceId, runs: impl IntoIterator<Item = WireRun>) {
        let runs: VecDeque<WireRun> = runs.into_iter().collect();
        if !runs.is_empty() {
            self.bytes += bytes_of(&runs);
            self.by.entry(session).or_default().push_back(Message { space, runs, begun: false });
        }
    }

    /// The next one to read: of the session after the last one's, but of none of these.
    fn next(&mut self, but: &BTreeSet<SessionId>) -> Option<Next> {
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut sessions = self.by.range((behind, Bound::Unbounded)).chain(&self.by).map(|(id, _)| *id);
        let session = sessions.find(|id| !but.contains(id))?;
        let messages = self.by.get_mut(&session)?;
        let message = messages.front_mut()?;
        let (space, run) = (message.space, message.runs.pop_front()?);
        if !core::mem::replace(&mut message.begun, true) {
            for run in &message.runs {
                *self.to_come.entry((space, run.document)).or_default() += 1;
            }
        } else {
            came(&mut self.to_come, (space, run.document));
        }
        let ends = message.runs.is_empty();
        if ends {
            messages.pop_front();
            if messages.is_empty() {
                self.by.remove(&session);
            }
        }
        self.bytes -= wire_bytes(&run);
        self.last = Some(session);
        Some((session, space, run, ends))
    }

    /// A session is over. What it brought is found again when roots are compared.
    pub(crate) fn forget(&mut self, session: &SessionId) {
        let gone = self.by.remove(session).unwrap_or_default();
        for message in gone {
            self.bytes -= bytes_of(&message.runs);
            if message.begun {
                message.runs.iter().for_each(|run| came(&mut self.to_come, (message.space, run.document)));
            }
        }
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// There is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// Whether a message that is partly read has more runs of a document.
    pub(crate) fn has(&self, key: &DocumentKey) -> bool {
        self.to_come.contains_key(key)
    }
}

/// One run less is to come of a document.
fn came(to_come: &mut BTreeMap<DocumentKey, usize>, key: DocumentKey) {
    if let Some(count) = to_come.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            to_come.remove(&key);
        }
    }
}

fn bytes_of(runs: &VecDeque<WireRun>) -> usize {
    runs.iter().map(wire_bytes).sum()
}

impl Engine {
    /// Reads as many runs as one turn may. Says whether a message was read to its end.
    pub(super) fn read_runs(&mut self) -> bool {
        if self.halted.is_some() {
            // They cannot be kept. The peers are asked when they can be.
            self.unread = Unread::default();
            return true;
        }
        // A session whose message has ended goes on in the next turn, when the documents of this one are merged.
        let mut done = BTreeSet::new();
        for _ in 0..RUNS_PER_TURN_MAX {
            let Some((session, space, run, ends)) = self.unread.next(&done) else { break };
            self.heard_run(session, space, run);
            if ends {
                done.insert(session);
            }
        }
        !done.is_empty()
    }

    pub(super) fn unread_deadline(&self) -> Option<(Timestamp, &'static str)> {
        (!self.unread.is_empty() || self.has_put_off).then_some((self.now.mono, "runs that wait to be read"))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::id::{AclHash, ActorId, DocumentId};

    fn run(document: u8, bytes: usize) -> WireRun {
        WireRun {
            document: DocumentId([document; 16]),
            actor: ActorId([0; 16]),
            first_seq: 1,
            acl: AclHash([0; 32]),
            signature: [0; 64].into(),
            payload: vec![0; bytes].into(),
            device: None,
        }
    }

    #[test]
    fn sessions_take_turns_and_a_closed_one_leaves_nothing() {
        let (mut unread, space, nobody) = (Unread::default(), SpaceId([1; 32]), BTreeSet::new());
        unread.add(SessionId(1), space, (0..4).map(|document| run(document, 10)));
        unread.add(SessionId(2), space, [run(9, 5)]);
        unread.add(SessionId(3), space, [run(8, 1)]);
        assert!(unread.bytes() > 46);
        let order: Vec<u64> = (0..4).filter_map(|_| unread.next(&nobody)).map(|(session, ..)| session.0).collect();
        assert_eq!(order, [1, 2, 3, 1]);
        unread.forget(&SessionId(1));
        assert!(unread.is_empty() && unread.next(&nobody).is_none());
        assert_eq!(unread.bytes(), 0);
    }

    #[test]
    fn a_document_waits_for_the_rest_of_a_message_and_not_for_the_next() {
        let (mut unread, space, nobody) = (Unread::default(), SpaceId([1; 32]), BTreeSet::new());
        let key = (space, DocumentId([7; 16]));
        unread.add(SessionId(1), space, [run(7, 1), run(7, 1)]);
        unread.add(SessionId(1), space, [run(7, 1)]);
        assert!(!unread.has(&key), "nothing of it was read");
        assert!(unread.next(&nobody).is_some_and(|(.., ends)| !ends) && unread.has(&key));
        assert!(unread.next(&nobody).is_some_and(|(.., ends)| ends) && !unread.has(&key));
        assert!(unread.next(&BTreeSet::from([SessionId(1)])).is_none(), "its turn is over");
        assert!(unread.next(&nobody).is_some() && unread.is_empty());
    }
}
