//! What passes between the driver's task and the task of one connection: frames each way, bounded, without the swarm in
//! between, so that a frame costs one change of task and a full queue stops one session only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;
use libp2p::swarm::ConnectionId;

use crate::limits::{BATCH_BYTES, FRAME_OVERHEAD_BYTES, INCOMING_BYTES_MAX};

/// Rings for the driver when a connection has news. Holds each connection at most once.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<VecDeque<ConnectionId>>,
    driver: AtomicWaker,
}

impl Bell {
    fn ring(&self, connection: ConnectionId) {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner).push_back(connection);
        self.driver.wake();
    }

    /// The next connection that has news; wakes the task when there is one.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<ConnectionId> {
        self.driver.register(cx.waker());
        match self.rung.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            Some(connection) => Poll::Ready(connection),
            None => Poll::Pending,
        }
    }
}

/// One connection's pipe. The driver's end is used by `sessions.rs`, the connection's end by `session.rs`.
pub(crate) struct Pipe {
    connection: ConnectionId,
    bell: Arc<Bell>,
    state: Mutex<State>,
    session: AtomicWaker,
}

#[derive(Default)]
struct State {
    outgoing: VecDeque<Vec<u8>>,
    /// Of frames in `outgoing`, and of those taken from it that are not written yet.
    outgoing_bytes: usize,
    closing: Option<String>,
    news: News,
    incoming: VecDeque<Vec<u8>>,
    incoming_bytes: usize,
    /// The connection's end waits for room in `incoming`.
    paused: bool,
    /// The bell holds us.
    rung: bool,
}

/// What the driver has not been told yet, apart from frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The stream is open.
    pub(crate) opened: bool,
    /// Bytes of frames written.
    pub(crate) written: usize,
    /// There is no session, or no longer: why.
    pub(crate) ended: Option<String>,
    /// The connection serves no purpose any more.
    pub(crate) finished: bool,
    /// There are more frames.
    pub(crate) more: bool,
}

impl Pipe {
    pub(crate) fn new(connection: ConnectionId, bell: Arc<Bell>) -> Self {
        Self { connection, bell, state: Mutex::default(), session: AtomicWaker::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The driver's end.

    /// Queues a frame. Returns the bytes that now wait to be written.
    pub(crate) fn send(&self, frame: Vec<u8>) -> usize {
        let waiting = {
            let mut state = self.lock();
            state.outgoing_bytes += frame.len();
            state.outgoing.push_back(frame);
            state.outgoing_bytes
        };
        self.session.wake();
        waiting
    }

    /// Ends the session once what was queued is written.
    pub(crate) fn close(&self, reason: String) {
        self.lock().closing.get_or_insert(reason);
        self.session.wake();
    }

    /// Takes up to `frames_max` frames into `frames`, and the other news. What is said of the end is held back until the
    /// last frame was taken. Rings again if more is left.
    pub(crate) fn take_news(&self, frames_max: usize, frames: &mut Vec<Vec<u8>>) -> News {
        let mut state = self.lock();
        for _ in 0..frames_max {
            let Some(frame) = state.incoming.pop_front() else { break };
            state.incoming_bytes -= frame.len() + FRAME_OVERHEAD_BYTES;
            frames.push(frame);
        }
        if state.paused && state.incoming_bytes < INCOMING_BYTES_MAX / 2 {
            state.paused = false;
            self.session.wake();
        }
        if state.incoming.is_empty() {
            state.rung = false;
            return std::mem::take(&mut state.news);
        }
        self.bell.ring(self.connection);
        News {
            opened: std::mem::take(&mut state.news.opened),
            written: std::mem::take(&mut state.news.written),
            more: true,
            ..News::default()
        }
    }

    // The connection's end.

    pub(crate) fn wake_session_with(&self, waker: &Waker) {
        self.session.register(waker);
    }

    /// Moves queued frames with their lengths into `batch` until it is large enough for one write. Returns the bytes of
    /// the frames alone.
    pub(crate) fn take_outgoing(&self, batch: &mut Vec<u8>) -> usize {
        let mut state = self.lock();
        let mut bytes = 0;
        while batch.len() < BATCH_BYTES {
            let Some(frame) = state.outgoing.pop_front() else { break };
            let length = u32::try_from(frame.len()).expect("the driver's end takes no frame over FRAME_BYTES_MAX");
            batch.extend_from_slice(&length.to_be_bytes());
            batch.extend_from_slice(&frame);
            bytes += frame.len();
        }
        bytes
    }

    /// Whether the driver wants the session closed, and why.
    pub(crate) fn closing(&self) -> Option<String> {
        self.lock().closing.clone()
    }

    /// Whether there is room for more received frames. If not, wakes the session when there is.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.lock();
        state.paused = state.incoming_bytes >= INCOMING_BYTES_MAX;
        !state.paused
    }

    pub(crate) fn opened(&self) {
        self.tell(|state| state.news.opened = true);
    }

    pub(crate) fn written(&self, bytes: usize) {
        self.tell(|state| {
            state.outgoing_bytes -= bytes;
            state.news.written += bytes;
        });
    }

    pub(crate) fn received(&self, frames: &mut Vec<Vec<u8>>) {
        if frames.is_empty() {
            return;
        }
        self.tell(|state| {
            state.incoming_bytes += frames.iter().map(|frame| frame.len() + FRAME_OVERHEAD_BYTES).sum::<usize>();
            state.incoming.extend(frames.drain(..));
        });
    }

    /// The session is over; the first reason counts.
    pub(crate) fn ended(&self, reason: String) {
        self.tell(|state| {
            state.news.ended.get_or_insert(reason);
        });
    }

    /// The connection may be closed.
    pub(crate) fn finished(&self) {
        self.tell(|state| state.news.finished = true);
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        let ring = {
            let mut state = self.lock();
            change(&mut state);
            !std::mem::replace(&mut state.rung, true)
        };
        if ring {
            self.bell.ring(self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (Arc<Bell>, Pipe) {
        let bell = Arc::new(Bell::default());
        (bell.clone(), Pipe::new(ConnectionId::new_unchecked(1), bell))
    }

    fn rings(bell: &Bell) -> usize {
        let mut count = 0;
        while bell.poll(&Context::from_waker(futures::task::noop_waker_ref())).is_ready() {
            count += 1;
        }
        count
    }

    #[test]
    fn the_bell_rings_once_until_the_news_is_taken() {
        let (bell, pipe) = pipe();
        pipe.opened();
        pipe.received(&mut vec![vec![1], vec![2]]);
        assert_eq!(rings(&bell), 1);
        pipe.received(&mut vec![vec![3]]);
        assert_eq!(rings(&bell), 0);
        let mut frames = Vec::new();
        assert!(pipe.take_news(10, &mut frames).opened);
        assert_eq!(frames, [[1], [2], [3]]);
        pipe.received(&mut vec![vec![4]]);
        assert_eq!(rings(&bell), 1);
    }

    #[test]
    fn the_end_is_told_after_the_last_frame() {
        let (bell, pipe) = pipe();
        pipe.received(&mut vec![vec![1], vec![2]]);
        pipe.ended("gone".to_owned());
        pipe.ended("again".to_owned());
        let mut frames = Vec::new();
        assert_eq!(pipe.take_news(1, &mut frames), News { more: true, ..News::default() });
        assert_eq!(rings(&bell), 2);
        assert_eq!(pipe.take_news(1, &mut frames).ended.as_deref(), Some("gone"));
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn a_full_queue_pauses_reading_until_half_of_it_is_taken() {
        let (_bell, pipe) = pipe();
        let frame = vec![0; INCOMING_BYTES_MAX / 4];
        for _ in 0..4 {
            assert!(pipe.has_room());
            pipe.received(&mut vec![frame.clone()]);
        }
        assert!(!pipe.has_room());
        let mut frames = Vec::new();
        pipe.take_news(2, &mut frames);
        assert!(pipe.lock().paused);
        pipe.take_news(1, &mut frames);
        assert!(!pipe.lock().paused);
    }

    #[test]
    fn what_is_queued_counts_until_it_is_written() {
        let (_bell, pipe) = pipe();
        assert_eq!(pipe.send(vec![7; 3]), 3);
        let mut batch = Vec::new();
        assert_eq!(pipe.take_outgoing(&mut batch), 3);
        assert_eq!(batch, [0, 0, 0, 3, 7, 7, 7]);
        assert_eq!(pipe.send(vec![7; 2]), 5);
        pipe.written(3);
        assert_eq!(pipe.send(vec![]), 2);
    }
}
