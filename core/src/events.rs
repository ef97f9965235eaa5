//! Events for the application: a bounded queue for each reader, so that a slow one loses events and nobody waits for it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender};
use futures::Stream;

use crate::Event;

/// Events kept for one reader. A burst of some hundred documents fits.
const EVENTS_QUEUED_MAX: usize = 1024;

/// So many events were lost, because this reader was too slow. They lie between the event before and the one after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were lost: the reader was too slow")]
pub struct Lagged(pub u64);

/// What happens in a replica, from the moment of [`crate::Peer::events`]. Ends when the replica is shut down.
pub struct Events {
    queue: Pin<Box<Receiver<Event>>>,
    lost: Arc<AtomicU64>,
}

/// The readers of one replica's events.
#[derive(Default)]
pub(crate) struct Broadcast {
    readers: Vec<Reader>,
}

struct Reader {
    queue: Sender<Event>,
    lost: Arc<AtomicU64>,
}

impl Broadcast {
    pub(crate) fn subscribe(&mut self) -> Events {
        self.readers.retain(|reader| !reader.queue.is_closed());
        let (sender, receiver) = async_channel::bounded(EVENTS_QUEUED_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        self.readers.push(Reader { queue: sender, lost: lost.clone() });
        Events { queue: Box::pin(receiver), lost }
    }

    /// Gives the event to every reader. Pushes out the oldest where there is no room.
    pub(crate) fn send(&mut self, event: &Event) {
        self.readers.retain(|reader| match reader.queue.force_send(event.clone()) {
            Ok(None) => true,
            Ok(Some(_oldest)) => {
                reader.lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(_closed) => false,
        });
    }
}

impl Stream for Events {
    type Item = Result<Event, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // What was lost is older than all that is queued.
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => self.queue.as_mut().poll_next(cx).map(|event| event.map(Ok)),
            lost => Poll::Ready(Some(Err(Lagged(lost)))),
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use anabranch_engine::storage::CommitId;
    use futures::StreamExt as _;
    use futures::executor::block_on;

    use super::*;

    fn event(id: usize) -> Event {
        Event::Committed(CommitId(id as u64))
    }

    #[test]
    fn a_reader_gets_every_event_in_order_and_then_the_end() {
        let mut broadcast = Broadcast::default();
        let (first, second) = (broadcast.subscribe(), broadcast.subscribe());
        (1..=3).for_each(|id| broadcast.send(&event(id)));
        drop(broadcast);
        let all: Vec<_> = block_on(first.collect());
        assert_eq!(all, [Ok(event(1)), Ok(event(2)), Ok(event(3))]);
        assert_eq!(block_on(second.count()), 3);
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
        let mut broadcast = Broadcast::default();
        let mut slow = broadcast.subscribe();
        (1..=EVENTS_QUEUED_MAX + 5).for_each(|id| broadcast.send(&event(id)));
        assert_eq!(block_on(slow.next()), Some(Err(Lagged(5))));
        assert_eq!(block_on(slow.next()), Some(Ok(event(6))));
        drop(broadcast);
        assert_eq!(block_on(slow.count()), EVENTS_QUEUED_MAX - 1);
    }

    #[test]
    fn a_reader_that_is_gone_costs_nothing() {
        let mut broadcast = Broadcast::default();
        drop(broadcast.subscribe());
        broadcast.send(&event(1));
        assert!(broadcast.readers.is_empty());
    }
}
