//! What the engine wants done, and what it has to say.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::work::Work;
use crate::engine::input::{CommandId, HintId, SessionId};
use crate::engine::usage::Usage;
use crate::feed::FeedRow;
use crate::id::{DeviceId, DocumentId, SpaceId};
use crate::space::Fork;
use crate::space::ticket::Ticket;
use crate::storage;

/// One thing to do. Drain with [`crate::Engine::poll_output`] after each input.
#[derive(Debug)]
pub enum Output {
    /// Answers a command.
    Reply(CommandId, Result<Reply, CommandError>),
    /// Tells the application something. May be coalesced by the driver.
    Event(Event),
    /// Hand a frame to a session stream, in order. The network adds the four-byte length.
    Send {
        /// The stream.
        session: SessionId,
        /// At most `FRAME_BYTES_MAX` bytes.
        bytes: Vec<u8>,
    },
    /// End a session, after what was sent before.
    Close {
        /// The stream.
        session: SessionId,
        /// For the log.
        reason: String,
    },
    /// Dial. Leads to `SessionOpened`, `DialFailed` or `DialPutOff`.
    Dial {
        /// A multiaddr.
        address: String,
        /// Who must answer; `None` if whoever does.
        peer: Option<DeviceId>,
    },
    /// The peer is authenticated: gossip and identify may see its connections from now on, for these topics.
    Admit {
        /// The peer.
        peer: DeviceId,
    },
    /// Take part in a gossip topic.
    Subscribe {
        /// The topic.
        topic: String,
    },
    /// Leave a gossip topic.
    Unsubscribe {
        /// The topic.
        topic: String,
    },
    /// Send a hint to a topic. May be lost.
    Publish {
        /// The topic.
        topic: String,
        /// At most `HINT_BYTES_MAX` bytes.
        bytes: Vec<u8>,
    },
    /// What to do with a received hint.
    Judge {
        /// The hint.
        hint: HintId,
        /// Forward it, blame the forwarder, or neither.
        verdict: Verdict,
    },
    /// Give this to the store. Requests are executed and answered in order.
    Store(storage::Request),
    /// Run this (`Work::run`), on another thread if there is one, and give the result back as `Input::Worked`.
    Work(Box<Work>),
}

/// What to do with a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it.
    Accept,
    /// Provably the forwarder's fault.
    Reject,
    /// Neither.
    Ignore,
}

/// Answer to a command.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Nothing to say but that it is done.
    Done,
    /// The space exists here, is on disk, and we are a member.
    SpaceReady(SpaceId),
    /// The invitation.
    Ticket(Ticket),
    /// The document can be read and edited.
    DocumentOpen,
    /// The document is new, and can be read and edited.
    DocumentCreated {
        /// What makes it durable; `None` if it does not exist before its first edit.
        commit: Option<storage::CommitId>,
    },
    /// Roots were equal.
    Synced,
    /// Rows of the feed.
    Feed(Vec<FeedRow>),
    /// By device: members, and who has signed something that is kept.
    Usage(Vec<(DeviceId, Usage)>),
}

impl Reply {
    /// The space that it says is here.
    pub(super) fn space(&self) -> Option<&SpaceId> {
        match self {
            Self::SpaceReady(space) => Some(space),
            Self::Ticket(ticket) => Some(&ticket.space),
            Self::Done
            | Self::DocumentOpen
            | Self::DocumentCreated { .. }
            | Self::Synced
            | Self::Feed(_)
            | Self::Usage(_) => None,
        }
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such space here.
    #[error("no space {0} here")]
    UnknownSpace(SpaceId),
    /// Nothing of the document is here: it was never made, or has not arrived yet.
    #[error("no document {0} in this space here: it was never made, or has not arrived yet")]
    UnknownDocument(DocumentId),
    /// Our role does not allow it, the space is read-only for us, or the like.
    #[error("{0}")]
    NotAllowed(String),
    /// An argument is malformed or over a limit.
    #[error("{0}")]
    Invalid(String),
    /// A member refused us.
    #[error("refused by {peer:.8}: {reason}")]
    Refused {
        /// The member.
        peer: DeviceId,
        /// Its words.
        reason: String,
    },
    /// Nothing that is stored of the document can be read. Others can.
    #[error("{0}")]
    Damaged(String),
    /// The store failed, or the replica is shut down. Reopen it.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
    /// Nothing can be written: the disk is full, for example. What is here can be read.
    #[error("nothing can be changed: {0}")]
    Halted(String),
    /// It was done, as far as can be seen here and by peers, and could not be written.
    #[error("done and not saved yet: {reason}; {}", after_failure(*.is_tried_again))]
    Unsaved {
        /// Why.
        reason: String,
        /// It is written when that is possible again, if the replica runs until then.
        is_tried_again: bool,
    },
}

/// What becomes of what was done and could not be written.
pub fn after_failure(is_tried_again: bool) -> &'static str {
    if is_tried_again {
        "it is saved when the disk has room, if the replica runs until then"
    } else {
        "it is not tried again, and what peers do not have of it is lost"
    }
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A commit is on disk; all edits that were told an equal or smaller id are saved.
    Committed(storage::CommitId),
    /// A document has other content than before.
    DocumentChanged {
        /// The space.
        space: SpaceId,
        /// The document.
        document: DocumentId,
        /// By runs from a peer (else by a local edit).
        remote: bool,
    },
    /// The feed has grown to this seq.
    FeedGrew {
        /// Its last seq.
        seq: u64,
    },
    /// A peer is authenticated and shares at least one space with us.
    PeerConnected {
        /// The peer.
        peer: DeviceId,
    },
    /// Its session ended.
    PeerDisconnected {
        /// The peer.
        peer: DeviceId,
        /// For people to read.
        reason: String,
    },
    /// We can be reached here.
    Listening {
        /// A multiaddr with the peer id left out.
        address: String,
    },
    /// We cannot be reached here any more.
    ListeningEnded {
        /// As it was told before.
        address: String,
    },
    /// The members of a space changed, or our role.
    MembersChanged {
        /// The space.
        space: SpaceId,
    },
    /// We are a member of a space that we wanted to join.
    SpaceJoined {
        /// The space.
        space: SpaceId,
    },
    /// A member refused to let us join; the wish is dropped.
    JoinRefused {
        /// The space.
        space: SpaceId,
        /// The member.
        peer: DeviceId,
        /// Its words.
        reason: String,
    },
    /// Roots were compared with a peer and are equal.
    InSync {
        /// The space.
        space: SpaceId,
        /// The peer.
        peer: DeviceId,
    },
    /// A run that we sent was refused by a peer, or we refused one.
    RunRefused {
        /// The space.
        space: SpaceId,
        /// The document.
        document: DocumentId,
        /// The other side.
        peer: DeviceId,
        /// We refused it (else the peer did).
        by_us: bool,
        /// Why.
        reason: String,
    },
    /// A peer has, or says that it has, another change than we under one number of one actor. From there on the two histories
    /// of the document stay apart; all else goes on. Said once for each document until the next start, and once more if it was
    /// hearsay and is then seen here.
    DocumentForked {
        /// The space.
        space: SpaceId,
        /// The document.
        document: DocumentId,
        /// The peer.
        peer: DeviceId,
        /// Where the histories part.
        fork: Fork,
    },
    /// Not everything that is stored of a document can be read. It is rebuilt from what can, which
    /// [`Event::DocumentMended`] tells; the rest comes from the peers that have it.
    DocumentDamaged {
        /// The space.
        space: SpaceId,
        /// The document.
        document: DocumentId,
        /// What is wrong.
        reason: String,
    },
    /// A document was rebuilt from what is readable of it.
    DocumentMended {
        /// The space.
        space: SpaceId,
        /// The document.
        document: DocumentId,
        /// Runs that are in it.
        runs: usize,
        /// Runs that wait for others, which are gone here: a peer may bring them.
        waiting: usize,
    },
    /// Two processes act as this device at once, ours or a peer's: an identity or a machine's disk was copied. Both are kept
    /// connected, and what either writes is kept. Copied with its memory, both may have numbered different changes alike before
    /// they noticed: those are a fork ([`Event::DocumentForked`]).
    IdentityCloned {
        /// The device.
        device: DeviceId,
    },
    /// A stranger connected: nothing shared. It was sent away.
    StrangerRefused {
        /// Who it was.
        peer: DeviceId,
    },
    /// A peer sent what no honest peer sends.
    PeerMisbehaved {
        /// The peer.
        peer: DeviceId,
        /// What it was.
        reason: String,
    },
    /// The replica takes no edits. What was saved is safe. Where that is because nothing can be written, what is here can be read,
    /// and [`Event::Resumed`] may follow; otherwise reopen it.
    Stopped {
        /// Why.
        reason: String,
    },
    /// There is room on the disk again: edits are taken, and what was edited before and not saved is saved.
    Resumed,
}
