//! Runs that arrived and whose turn has not come. To check a signature takes a tenth of a millisecond, and a message has up to a
//! thousand runs: a turn reads some of them, of each session in turn and live ones before bulk, so that edits and other peers get
//! in between.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::ops::Bound;

use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::input::SessionId;
use crate::id::SpaceId;
use crate::limits::RUNS_PER_TURN_MAX;
use crate::sync::transfer::wire_bytes;
use crate::time::Timestamp;
use crate::wire::{Lane, WireRun};

/// What is left of messages, by session.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    by: BTreeMap<SessionId, Queue>,
    bytes: usize,
    /// How many unread runs of each document are left in the messages that are partly read.
    to_come: BTreeMap<DocumentKey, usize>,
    /// Whose run was read last.
    last: Option<SessionId>,
}

/// What is left of the messages of one session.
#[derive(Debug, Default)]
struct Queue {
    live: VecDeque<Message>,
    bulk: VecDeque<Message>,
    bulk_bytes: usize,
}

impl Queue {
    fn lane(&mut self, is_live: bool) -> &mut VecDeque<Message> {
        if is_live { &mut self.live } else { &mut self.bulk }
    }
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
    pub(crate) fn add(&mut self, session: SessionId, lane: Lane, space: SpaceId, runs: VecDeque<WireRun>) {
        if runs.is_empty() {
            return;
        }
        let (bytes, queue) = (bytes_of(&runs), self.by.entry(session).or_default());
        self.bytes += bytes;
        queue.bulk_bytes += if lane == Lane::Bulk { bytes } else { 0 };
        queue.lane(lane != Lane::Bulk).push_back(Message { space, runs, begun: false });
    }

    /// The next one to read: of the session after the last one's, but of none of these.
    fn next(&mut self, but: &BTreeSet<SessionId>) -> Option<Next> {
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut sessions = self.by.range((behind, Bound::Unbounded)).chain(&self.by).map(|(id, _)| *id);
        let session = sessions.find(|id| !but.contains(id))?;
        let queue = self.by.get_mut(&session)?;
        let is_live = !queue.live.is_empty();
        let messages = queue.lane(is_live);
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
        }
        self.bytes -= wire_bytes(&run);
        queue.bulk_bytes -= if is_live { 0 } else { wire_bytes(&run) };
        if queue.live.is_empty() && queue.bulk.is_empty() {
            self.by.remove(&session);
        }
        self.last = Some(session);
        Some((session, space, run, ends))
    }

    /// A session is over. What it brought is found again when roots are compared.
    pub(crate) fn forget(&mut self, session: &SessionId) {
        let gone = self.by.remove(session).unwrap_or_default();
        for message in gone.live.into_iter().chain(gone.bulk) {
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

    /// Those of one session that came as bulk.
    pub(crate) fn bulk_bytes(&self, session: &SessionId) -> usize {
        self.by.get(session).map_or(0, |queue| queue.bulk_bytes)
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
        let mut add = |session: u64, runs: Vec<WireRun>| unread.add(SessionId(session), Lane::Bulk, space, runs.into());
        add(1, (0..4).map(|document| run(document, 10)).collect());
        add(2, vec![run(9, 5)]);
        add(3, vec![run(8, 1)]);
        assert!(unread.bulk_bytes(&SessionId(1)) > 40 && unread.bulk_bytes(&SessionId(4)) == 0);
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
        unread.add(SessionId(1), Lane::Bulk, space, [run(7, 1), run(7, 1)].into());
        unread.add(SessionId(1), Lane::Bulk, space, [run(7, 1)].into());
        assert!(!unread.has(&key), "nothing of it was read");
        assert!(unread.next(&nobody).is_some_and(|(.., ends)| !ends) && unread.has(&key));
        assert!(unread.next(&nobody).is_some_and(|(.., ends)| ends) && !unread.has(&key));
        assert!(unread.next(&BTreeSet::from([SessionId(1)])).is_none(), "its turn is over");
        assert!(unread.next(&nobody).is_some() && unread.is_empty());
    }

    #[test]
    fn live_runs_are_read_before_the_bulk_that_came_before_them() {
        let (mut unread, space, nobody) = (Unread::default(), SpaceId([1; 32]), BTreeSet::new());
        unread.add(SessionId(1), Lane::Bulk, space, [run(7, 1), run(7, 1), run(8, 1)].into());
        let next = |unread: &mut Unread| unread.next(&nobody).map(|(_, _, run, ends)| (run.document.0[0], ends));
        assert_eq!(next(&mut unread), Some((7, false)));
        let bulk = unread.bulk_bytes(&SessionId(1));
        unread.add(SessionId(1), Lane::Live, space, [run(9, 1)].into());
        assert_eq!(next(&mut unread), Some((9, true)));
        assert_eq!(unread.bulk_bytes(&SessionId(1)), bulk);
        assert!(unread.has(&(space, DocumentId([7; 16]))), "the message is still to be read to its end");
        assert_eq!(
            [next(&mut unread), next(&mut unread), next(&mut unread)],
            [Some((7, false)), Some((8, true)), None]
        );
        assert!(unread.bytes() == 0 && unread.is_empty());
    }
}
