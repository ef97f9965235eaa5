//! What the world tells the engine.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::Maker;
use crate::document::work::WorkDone;
use crate::id::{DeviceId, DocumentId, EntryHash, SpaceId};
use crate::space::roles::Role;
use crate::space::ticket::Ticket;
use crate::storage;

/// One open session stream with one peer, as numbered by the network. Never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SessionId(pub u64);

/// Names one received hint until it is judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct HintId(pub u64);

/// Names a command until it is answered. Chosen by the driver, unique within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct CommandId(pub u64);

/// News for the engine. Give it with [`crate::Engine::handle`], then drain.
#[derive(Debug)]
pub enum Input {
    /// The application asks for something that takes time. Answered by exactly one [`crate::Output::Reply`].
    Command(CommandId, Command),
    /// A deadline from [`crate::Engine::poll_timeout`] has come.
    Timeout,
    /// A session stream to an authentic peer is open.
    SessionOpened {
        /// The stream.
        session: SessionId,
        /// The peer, as proven by the transport's handshake.
        peer: DeviceId,
        /// We opened the stream (and dialed the connection).
        opener: bool,
        /// The address dialed, or the one that the peer came from.
        address: String,
    },
    /// One whole frame arrived, without its length prefix.
    Frame {
        /// The stream.
        session: SessionId,
        /// At most `FRAME_BYTES_MAX` bytes.
        bytes: Vec<u8>,
    },
    /// So many bytes of frames (without length prefixes) have left for the operating system.
    Written {
        /// The stream.
        session: SessionId,
        /// How many.
        bytes: usize,
    },
    /// The stream is gone, by whoever's doing. Nothing more comes from it.
    SessionClosed {
        /// The stream.
        session: SessionId,
        /// For people to read.
        reason: String,
    },
    /// A dial that [`crate::Output::Dial`] asked for did not lead to a session.
    DialFailed {
        /// The address given.
        address: String,
        /// For people to read.
        reason: String,
    },
    /// A dial that [`crate::Output::Dial`] asked for was not begun, or not gone on with, for a limit of our own network: that
    /// says nothing about the address.
    DialPutOff {
        /// The address given.
        address: String,
        /// For people to read.
        reason: String,
    },
    /// We can be reached at this address from now on.
    Listening {
        /// A multiaddr without the peer id.
        address: String,
    },
    /// We cannot be reached at this address any more: this machine has lost it.
    ListeningEnded {
        /// As it was told before.
        address: String,
    },
    /// A gossip hint arrived. Answered by exactly one [`crate::Output::Judge`].
    Hint {
        /// To judge it by.
        hint: HintId,
        /// Who handed it to us (not who wrote it).
        from: DeviceId,
        /// The topic.
        topic: String,
        /// At most `HINT_BYTES_MAX` bytes are looked at.
        bytes: Vec<u8>,
    },
    /// The store has done what it was asked.
    Stored(storage::Reply),
    /// The store was looked at, and takes nothing more: it is not at its place any more, for example.
    StoreFailed(storage::Failure),
    /// Heavy work is done.
    Worked(Box<WorkDone>),
    /// A local change as recorded in a trace: applied as if its maker had made it.
    LocalChange {
        /// Where.
        space: SpaceId,
        /// Which document.
        document: DocumentId,
        /// One raw automerge change chunk, or all of a draft's, one after the other.
        bytes: Vec<u8>,
        /// Who made it.
        maker: Maker,
    },
}

/// From when on a new document exists: is listed, stored and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// At once: its first change has no operations.
    Empty,
    /// From its first edit on. If there is none before it is closed, nothing is left of it.
    WithFirstEdit,
}

/// What an application asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Found a space with us as its admin. Answered with `SpaceReady` once it is on disk.
    CreateSpace {
        /// 1 to `SPACE_NAME_BYTES_MAX` bytes.
        name: String,
    },
    /// Invite someone. Answered with `Ticket` once the invite is on disk.
    Invite {
        /// The space; we must be its admin.
        space: SpaceId,
        /// What the joiner will be.
        role: Role,
        /// 1 to `INVITE_USES_MAX`.
        max_uses: u32,
        /// Addresses to put into the ticket; if empty, those that we listen on.
        addresses: Vec<String>,
    },
    /// Take part in a space. Answered with `SpaceReady` once a member has admitted us and it is on disk, or refused. Until
    /// then the wish is kept, over restarts too. A member that is invited again gets the greater of both roles, as soon as the
    /// invite is in its log; until then it goes on in the role that it has.
    Join {
        /// The invitation.
        ticket: Ticket,
    },
    /// Forget a space here, with its documents. Nothing is removed elsewhere. Commands that still wait for the space, or for
    /// something of it, are answered with `UnknownSpace`.
    LeaveSpace {
        /// The space.
        space: SpaceId,
    },
    /// As an admin, say that a membership entry has no authority which this program does not understand: the space is no longer
    /// read-only for it. Answered with `Done` once that is on disk.
    VoidEntry {
        /// The space.
        space: SpaceId,
        /// The entry that its status names.
        entry: EntryHash,
    },
    /// Make a document, and keep it in memory as `OpenDocument` does. Answered with `DocumentCreated`; with `DocumentOpen` if it
    /// exists already.
    CreateDocument {
        /// The space; we must be able to write in it.
        space: SpaceId,
        /// The document's id: random, or one that the application can tell again.
        document: DocumentId,
        /// From when on it exists.
        begins: Begins,
    },
    /// Keep a document in memory. Answered with `DocumentOpen` when it can be read and edited, or with `UnknownDocument` if
    /// nothing of it is here. Each open needs one [`crate::Engine::close`].
    OpenDocument {
        /// The space.
        space: SpaceId,
        /// The document.
        document: DocumentId,
    },
    /// Answered with `Synced` when roots were compared with the peer (or with every connected member of the space, at least
    /// one) after the command came in, and were equal, with nothing local unsigned. The driver adds its own time limit.
    WaitSynced {
        /// The space.
        space: SpaceId,
        /// The peer; `None` for every connected one.
        peer: Option<DeviceId>,
    },
    /// The feed after `seq`, oldest first, at most `FEED_PAGE_MAX` rows. Answered with `Feed`.
    ReadFeed {
        /// Only rows with a greater seq.
        after: u64,
        /// Rows wanted.
        limit: usize,
    },
    /// Dial an address now and whenever no session came of it. Answered with `Done`.
    Dial {
        /// A multiaddr.
        address: String,
    },
    /// Forget where a peer is, on disk too: whatever was dialed, said or heard. It stays a member, its session goes on, and
    /// what it or others say later is remembered again. Answered with `Done`.
    ForgetPeer {
        /// The peer.
        peer: DeviceId,
    },
    /// Find out what each device has made us keep of a space, receive and check. Reads all that is stored of the space.
    /// Answered with `Usage`.
    MeasureUsage {
        /// The space.
        space: SpaceId,
    },
    /// Have nothing to do with a device from now on, on disk too: no session, no dial, and of what it writes only what others
    /// have built on is taken. Only that device is told. Answered with `Done`.
    Block {
        /// The device.
        device: DeviceId,
    },
    /// Take a block back. Answered with `Done`.
    Unblock {
        /// The device.
        device: DeviceId,
    },
    /// Call this device so; members that are met are told. Answered with `Done` once it is on disk.
    NameDevice {
        /// At most `DEVICE_NAME_BYTES_MAX` bytes without control characters. Empty takes the name away.
        name: String,
    },
    /// Forget an address that was given, so that it is not dialed again. Answered with `Done`.
    ForgetAddress {
        /// As it was given.
        address: String,
    },
    /// Give up waiting for a command (its application is gone). Not answered, nor is the other one any more.
    Forget(CommandId),
    /// Sign and store what is pending, close the sessions. Answered with `Done` when all of it is on disk, and with `Halted`
    /// where nothing can be written; nothing is accepted after that.
    Shutdown,
}
