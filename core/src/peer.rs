//! `Peer`: one replica on this device, opened from a directory or made in memory.

use std::fmt;
use std::sync::Arc;

use anabranch_engine::{Command, Reply};

use crate::recorder::Recorded;
use crate::replica::Owner;
use crate::{
    Builder, CommandError, Copied, Counters, DeviceId, EntryHash, Events, Feed, FeedError, FeedPosition, PeerStatus,
    Salvaged, Space, SpaceId, SpaceStatus, StorageId, Ticket,
};

/// One running replica. Cheap to clone. It ends with [`Peer::shutdown`], or in the background when the last handle to it,
/// its spaces and its documents is dropped.
#[derive(Clone)]
pub struct Peer {
    owner: Arc<Owner>,
}

impl Peer {
    /// How to open one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(owner: Owner) -> Self {
        Self { owner: Arc::new(owner) }
    }

    pub(crate) fn replica(&self) -> &Arc<crate::replica::Replica> {
        &self.owner.replica
    }

    /// Our device: the public key that signs what we write.
    pub fn device(&self) -> DeviceId {
        self.replica().device()
    }

    /// The same key as libp2p writes it.
    pub fn peer_id(&self) -> String {
        self.replica().peer_id().to_owned()
    }

    /// Our store, and how often a process has started on it.
    pub fn storage(&self) -> (StorageId, u64) {
        self.replica().storage()
    }

    /// What was done about the store when it was opened, if it was damaged. Its text is for people.
    pub fn salvaged(&self) -> Option<&Salvaged> {
        self.replica().salvaged()
    }

    /// Every space that we take part in or want to join; none when the replica is shut down.
    pub fn spaces(&self) -> Vec<SpaceStatus> {
        self.replica().ask(Recorded::spaces).unwrap_or_default()
    }

    /// One of them.
    pub fn space(&self, id: SpaceId) -> Option<Space> {
        let space = Space::new(self.clone(), id);
        space.status().map(|_| space)
    }

    /// Every known peer; none when the replica is shut down.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.replica().ask(|engine| engine.peers()).unwrap_or_default()
    }

    /// Addresses that were to be dialed and at which nobody has answered yet, each with why, once that is known.
    pub fn unanswered(&self) -> Vec<(String, Option<String>)> {
        self.replica().ask(|engine| engine.unanswered()).unwrap_or_default()
    }

    /// What a device calls itself: this one, or a member that was met. A claim, to be shown beside the device and not instead.
    pub fn device_name(&self, device: &DeviceId) -> Option<String> {
        self.replica().ask(|engine| engine.device_name(device).map(str::to_owned)).flatten()
    }

    /// Names this device: members that it meets are told. An empty name takes its name away. Returns when it is on disk.
    ///
    /// # Errors
    /// The name is longer than [`crate::limits::DEVICE_NAME_BYTES_MAX`] bytes or has control characters, or the replica has
    /// stopped.
    pub async fn name_device(&self, name: &str) -> Result<(), CommandError> {
        self.command(Command::NameDevice { name: name.to_owned() }).await.map(drop)
    }

    /// Whether other processes act as this device, because its directory was copied: seen by a peer that met both, or by changes
    /// that this process has not made. `Builder::renew_identity` gives one of the two a key of its own.
    pub fn copied(&self) -> Option<Copied> {
        let device = self.device();
        self.replica().ask(|engine| engine.copied(&device)).flatten()
    }

    /// Where we can be reached, those first that are of use to others: multiaddrs that end in `/p2p/<our peer id>`, ready to be
    /// dialed or put into a ticket.
    pub fn listening(&self) -> Vec<String> {
        let known = self.replica().ask(|engine| (engine.reachable_at(), engine.listening().to_vec()));
        let (mut addresses, all) = known.unwrap_or_default();
        addresses.retain(|address| all.contains(address));
        let others: Vec<String> = all.into_iter().filter(|address| !addresses.contains(address)).collect();
        addresses.extend(others);
        addresses.iter().map(|address| anabranch_net::with_peer_id(address, &self.device())).collect()
    }

    /// Where others can reach us, best first: what is announced, or else those of the addresses that we listen on that are of
    /// use to other machines. A ticket carries the first [`crate::limits::TICKET_ADDRESSES_MAX`] of them.
    pub fn reachable_at(&self) -> Vec<String> {
        self.replica().ask(|engine| engine.reachable_at()).unwrap_or_default()
    }

    /// What was counted since the start; zeros when the replica is shut down.
    pub fn counters(&self) -> Counters {
        self.replica().ask(|engine| engine.counters()).unwrap_or_default()
    }

    /// The end of the feed as it is on disk; its beginning when the replica is shut down.
    pub fn feed_end(&self) -> FeedPosition {
        let (storage, _) = self.storage();
        let seq = self.replica().ask(|engine| engine.feed_end()).unwrap_or_default();
        FeedPosition { storage, seq }
    }

    /// Founds a space with us as its admin. Returns when it is on disk.
    ///
    /// # Errors
    /// The name is empty or too long, there are too many spaces, or the replica has stopped.
    pub async fn create_space(&self, name: &str) -> Result<Space, CommandError> {
        self.space_ready(Command::CreateSpace { name: name.to_owned() }).await
    }

    /// Takes part in a space. Returns when a member has admitted us and that is on disk. If the future is dropped earlier the
    /// wish is kept, over restarts too: watch for [`crate::Event::SpaceJoined`].
    ///
    /// # Errors
    /// A member refused us, or the replica has stopped.
    pub async fn join(&self, ticket: &Ticket) -> Result<Space, CommandError> {
        self.space_ready(Command::Join { ticket: ticket.clone() }).await
    }

    /// Forgets a space here, with its documents. Nothing is removed elsewhere.
    ///
    /// # Errors
    /// No such space, or the replica has stopped.
    pub async fn leave(&self, space: SpaceId) -> Result<(), CommandError> {
        self.command(Command::LeaveSpace { space }).await.map(drop)
    }

    /// As an admin, says that a membership entry has no authority. Where such an entry has made a space read-only, because this
    /// version does not know what it means, edits go on after that, here and at every member. See `read_only` of
    /// [`SpaceStatus`](crate::SpaceStatus), which names the entry.
    ///
    /// # Errors
    /// We are no admin, there is no such entry, or the replica has stopped.
    pub async fn void_entry(&self, space: SpaceId, entry: EntryHash) -> Result<(), CommandError> {
        self.command(Command::VoidEntry { space, entry }).await.map(drop)
    }

    /// Dials a multiaddr now and whenever there is no session with it.
    ///
    /// # Errors
    /// The address is malformed, or the replica has stopped.
    pub async fn dial(&self, address: &str) -> Result<(), CommandError> {
        anabranch_net::parse_address(address).map_err(|error| CommandError::Invalid(error.to_string()))?;
        self.command(Command::Dial { address: address.to_owned() }).await.map(drop)
    }

    /// Forgets where a peer is, on disk too. It stays a member and connected; what it or other members say later of where it is
    /// is remembered again.
    ///
    /// # Errors
    /// The replica has stopped.
    pub async fn forget_peer(&self, peer: DeviceId) -> Result<(), CommandError> {
        self.command(Command::ForgetPeer { peer }).await.map(drop)
    }

    /// Has nothing to do with a device from now on, over restarts too: no session, and of what it writes only what others have
    /// built on is taken. What is here already stays, the device stays a member, and only it is told. Until the block is taken back
    /// this replica may not be in sync with others, which hold all that the device writes.
    ///
    /// # Errors
    /// It is this device itself, [`crate::limits::BLOCKED_MAX`] are blocked, or the replica has stopped.
    pub async fn block(&self, device: DeviceId) -> Result<(), CommandError> {
        self.command(Command::Block { device }).await.map(drop)
    }

    /// Takes a block back, and fetches what the block left out.
    ///
    /// # Errors
    /// The replica has stopped.
    pub async fn unblock(&self, device: DeviceId) -> Result<(), CommandError> {
        self.command(Command::Unblock { device }).await.map(drop)
    }

    /// Forgets an address that was to be dialed.
    ///
    /// # Errors
    /// The replica has stopped.
    pub async fn forget_address(&self, address: &str) -> Result<(), CommandError> {
        self.command(Command::ForgetAddress { address: address.to_owned() }).await.map(drop)
    }

    /// Follows the feed after a position: [`Peer::feed_end`], its [`beginning`](FeedPosition::beginning), or one of
    /// [`Feed::position`] that was stored.
    ///
    /// # Errors
    /// The position is beyond the feed's end or one in the feed of another store, or the replica has stopped.
    pub fn feed(&self, after: FeedPosition) -> Result<Feed, FeedError> {
        Feed::new(self, after)
    }

    /// Whether [`crate::Builder::renew_identity`] would give this replica another key, as it is now. `force` leaves spaces
    /// without an admin.
    ///
    /// # Errors
    /// What was edited and is not saved yet would be lost, or a space is against it.
    pub fn may_renew_identity(&self, force: bool) -> Result<(), crate::OpenError> {
        let refused = |reason| crate::OpenError::RenewalRefused { reason };
        if let Some(reason) = self.stopped() {
            return Err(refused(format!("what was edited and is not saved yet would be lost: {reason}")));
        }
        let answer = self.replica().ask(|engine| engine.may_renew(force));
        answer.unwrap_or(Ok(())).map_err(|error| refused(error.to_string()))
    }

    /// What happens from now on. A reader that is too slow loses the oldest and is told how many.
    pub fn events(&self) -> Events {
        self.replica().events()
    }

    /// Why the replica takes no edits, if so. Where that is because nothing can be written (a full disk, a store that was moved),
    /// documents are read and sent to peers all the same; on a full disk edits go on when there is room.
    pub fn stopped(&self) -> Option<String> {
        self.replica().stopped()
    }

    /// Stores what is pending, closes the sessions, the network and the store, and returns when all of that is done: the
    /// directory can be opened again. Afterwards every call on any handle says that the replica has stopped.
    pub async fn shutdown(&self) {
        self.replica().shut_down();
        self.replica().finished().await;
    }

    pub(crate) async fn command(&self, command: Command) -> Result<Reply, CommandError> {
        self.replica().command(command)?.await
    }

    async fn space_ready(&self, command: Command) -> Result<Space, CommandError> {
        match self.command(command).await? {
            Reply::SpaceReady(id) => Ok(Space::new(self.clone(), id)),
            other => Err(unexpected(&other)),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("device", &self.device()).finish_non_exhaustive()
    }
}

/// An answer of another kind than the question. The engine's tests rule it out; a caller is not to pay for it with a panic.
pub(crate) fn unexpected(reply: &Reply) -> CommandError {
    CommandError::Invalid(format!("a bug: the engine answered {reply:?}"))
}
