//! Events for the application: a bounded queue for each subscriber, so that a slow one loses events and nobody waits.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::Event;

/// So many events were lost, because this subscriber was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were lost: the reader was too slow")]
pub struct Lagged(pub u64);

/// What happens in a replica, from the moment of [`crate::Peer::events`]. Ends when the replica stops.
pub struct Events {
    _private: (),
}

impl Stream for Events {
    type Item = Result<Event, Lagged>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let _ = cx;
        todo!()
    }
}
