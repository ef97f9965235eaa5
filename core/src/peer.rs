//! `Peer`: one replica on this device, opened from a directory or made in memory.

use std::path::PathBuf;

use crate::{
    CommandError, Counters, DeviceId, Events, FeedRow, OpenError, PeerStatus, Space, SpaceId, SpaceStatus, StorageId,
    Ticket,
};

/// One running replica. Cheap to clone; the replica stops when the last handle to it, its spaces and its documents is
/// dropped, or by [`Peer::shutdown`].
#[derive(Clone)]
pub struct Peer {
    _inner: std::sync::Arc<()>,
}

/// How to open a [`Peer`].
#[derive(Debug, Clone, Default)]
pub struct Builder {
    directory: Option<PathBuf>,
    listen: Vec<String>,
    dial: Vec<String>,
}

impl Builder {
    /// Keeps the replica in this directory, made if it is missing: its key (`identity`) and its store.
    #[must_use]
    pub fn directory(self, path: impl Into<PathBuf>) -> Self {
        Self { directory: Some(path.into()), ..self }
    }

    /// Keeps the replica in memory, under a fresh key. This is the default.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { directory: None, ..self }
    }

    /// Listens on a multiaddr such as `/ip4/0.0.0.0/tcp/4001`. May be repeated; without it nobody can dial us.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Dials a multiaddr now and whenever there is no session with it. May be repeated.
    #[must_use]
    pub fn dial(mut self, address: impl Into<String>) -> Self {
        self.dial.push(address.into());
        self
    }

    /// Opens the replica and starts it.
    ///
    /// # Errors
    /// See [`OpenError`]; each text says what to do next.
    pub async fn open(self) -> Result<Peer, OpenError> {
        todo!()
    }

    /// [`Builder::open`] for programs without an async runtime.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open_blocking(self) -> Result<Peer, OpenError> {
        todo!()
    }
}

impl Peer {
    /// How to open one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Our device: the public key that signs what we write.
    pub fn device(&self) -> DeviceId {
        todo!()
    }

    /// The same key as libp2p writes it.
    pub fn peer_id(&self) -> String {
        todo!()
    }

    /// Our store, and how often a process has started on it.
    pub fn storage(&self) -> (StorageId, u64) {
        todo!()
    }

    /// Every space that we take part in or want to join.
    pub fn spaces(&self) -> Vec<SpaceStatus> {
        todo!()
    }

    /// One of them.
    pub fn space(&self, id: SpaceId) -> Option<Space> {
        let _ = id;
        todo!()
    }

    /// Every known peer.
    pub fn peers(&self) -> Vec<PeerStatus> {
        todo!()
    }

    /// Where we can be reached: multiaddrs that end in `/p2p/<our peer id>`, ready to be dialed or put into a ticket.
    pub fn listening(&self) -> Vec<String> {
        todo!()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// The last seq of the feed.
    pub fn feed_seq(&self) -> u64 {
        todo!()
    }

    /// Founds a space with us as its admin. Returns when it is on disk.
    ///
    /// # Errors
    /// The name is empty or too long, there are too many spaces, or the replica has stopped.
    pub async fn create_space(&self, name: &str) -> Result<Space, CommandError> {
        let _ = name;
        todo!()
    }

    /// Takes part in a space. Returns when a member has admitted us and that is on disk. If the future is dropped earlier the
    /// wish is kept, over restarts too: watch for [`crate::Event::SpaceJoined`].
    ///
    /// # Errors
    /// A member refused us, or the replica has stopped.
    pub async fn join(&self, ticket: &Ticket) -> Result<Space, CommandError> {
        let _ = ticket;
        todo!()
    }

    /// Forgets a space here, with its documents. Nothing is removed elsewhere.
    ///
    /// # Errors
    /// No such space, or the replica has stopped.
    pub async fn leave(&self, space: SpaceId) -> Result<(), CommandError> {
        let _ = space;
        todo!()
    }

    /// Dials a multiaddr now and whenever there is no session with it.
    ///
    /// # Errors
    /// The address is malformed, or the replica has stopped.
    pub async fn dial(&self, address: &str) -> Result<(), CommandError> {
        let _ = address;
        todo!()
    }

    /// The feed's rows after seq `after`, oldest first, at most `limit` of them (and at most
    /// [`crate::limits::FEED_PAGE_MAX`]).
    ///
    /// # Errors
    /// The replica has stopped.
    pub async fn feed(&self, after: u64, limit: usize) -> Result<Vec<FeedRow>, CommandError> {
        let _ = (after, limit);
        todo!()
    }

    /// What happens from now on. A reader that is too slow loses the oldest and is told how many.
    pub fn events(&self) -> Events {
        todo!()
    }

    /// Why the replica takes no more edits, if so.
    pub fn stopped(&self) -> Option<String> {
        todo!()
    }

    /// Stores what is pending, closes the sessions, the network and the store, and returns when all of that is done: the
    /// directory can be opened again. Afterwards every call on any handle says that the replica has stopped.
    pub async fn shutdown(&self) {
        todo!()
    }
}
