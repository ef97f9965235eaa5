//! What the two halves of one connection's task tell each other about admission. The session half carries the mark that
//! says "I have admitted you"; the gated half starts talking only when the peer's mark is here.
//!
//! Without the marks, whoever admits first would offer gossipsub to a peer that still refuses it, and gossipsub takes a
//! refusal for "not supported" and never asks again. The mark leaves only after our own half accepts streams, so a peer
//! that has seen it cannot be refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::task::AtomicWaker;
use libp2p::swarm::ConnectionId;

/// The admission of one connection, both ways.
#[derive(Default)]
pub(crate) struct Gate {
    /// We accept the gated protocols.
    open: AtomicBool,
    /// The peer has been told.
    told: AtomicBool,
    /// The peer accepts them.
    peer_open: AtomicBool,
    session: AtomicWaker,
    gated: AtomicWaker,
}

impl Gate {
    /// Our half accepts the gated protocols from now on.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.session.wake();
    }

    /// Whether the session must send the mark now. Says so once.
    pub(crate) fn take_mark(&self) -> bool {
        self.open.load(Ordering::Acquire) && !self.told.swap(true, Ordering::AcqRel)
    }

    /// The peer's mark has come, or its first gated stream.
    pub(crate) fn peer_opened(&self) {
        self.peer_open.store(true, Ordering::Release);
        self.gated.wake();
    }

    /// Whether the peer accepts the gated protocols.
    pub(crate) fn is_peer_open(&self) -> bool {
        self.peer_open.load(Ordering::Acquire)
    }

    pub(crate) fn wake_session_with(&self, waker: &std::task::Waker) {
        self.session.register(waker);
    }

    pub(crate) fn wake_gated_with(&self, waker: &std::task::Waker) {
        self.gated.register(waker);
    }
}

/// The gates of all connections: whichever half is set up first makes the gate, the other finds it.
#[derive(Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<HashMap<ConnectionId, Arc<Gate>>>>);

impl Gates {
    pub(crate) fn of(&self, connection: ConnectionId) -> Arc<Gate> {
        self.lock().entry(connection).or_default().clone()
    }

    pub(crate) fn forget(&self, connection: ConnectionId) {
        self.lock().remove(&connection);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Arc<Gate>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
