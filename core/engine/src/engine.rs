//! The engine itself: takes inputs, routes them to the room that decides, hands out what is to be done.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::{Edit, EditError, View};
use crate::gate::{Guard, Slot};
use crate::id::{ChangeHash, DeviceId, DocumentId, SpaceId, StorageId};
use crate::keys::SecretKey;
use crate::space::membership::Member;
use crate::space::roles::Role;
use crate::storage::{CommitId, Image};
use crate::time::{Now, Timestamp};

pub mod input;
pub mod output;

use input::Input;
use output::Output;

/// What an engine is made with.
pub struct Config {
    /// Where automerge may panic.
    pub guard: alloc::sync::Arc<dyn Guard>,
    /// The slot found from an earlier process that died while applying.
    pub slot: Option<Slot>,
}

/// One replica's decisions. See the crate's documentation for how to drive it.
pub struct Engine {}

/// A document cannot be read or edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// No such space here.
    #[error("no space {0} here")]
    UnknownSpace(SpaceId),
    /// `OpenDocument` first.
    #[error("document {0} is not open")]
    NotOpen(DocumentId),
    /// Our role does not allow edits. The document is unchanged.
    #[error("this device is {0} in the space, a writer is needed")]
    NotAWriter(&'static str),
    /// The space holds membership entries that this program does not understand. The document is unchanged.
    #[error(
        "the space uses membership entries of kind {0}, which this version does not know: update it; until then the space is read-only here"
    )]
    UnknownAuthority(u8),
    /// The store failed, or the replica is shut down. The document is unchanged.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
    /// The edit was refused. The document is unchanged.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The version asked for is not in the document.
    #[error("change {0} is not in this document")]
    UnknownHeads(ChangeHash),
}

/// One space, as the replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceStatus {
    /// Its id.
    pub space: SpaceId,
    /// Its name; `None` while joining.
    pub name: Option<String>,
    /// Our role; `None` while joining.
    pub role: Option<Role>,
    /// Documents held.
    pub documents: usize,
    /// Digest of all of them: equal on two replicas that hold the same.
    pub root: [u8; 32],
    /// Why it is read-only although our role is not, if so.
    pub read_only: Option<String>,
    /// Each connected member: in sync as of the last comparison?
    pub peers: Vec<(DeviceId, bool)>,
}

/// One peer, as the replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub peer: DeviceId,
    /// There is an authenticated session.
    pub connected: bool,
    /// Where it is or was.
    pub addresses: Vec<String>,
    /// The spaces shared in this session.
    pub spaces: Vec<SpaceId>,
    /// Why there is no session, if it was tried.
    pub last_failure: Option<String>,
}

/// What an engine counts. Bytes are of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames sent.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames sent that were not keep-alives (I10: none of these between equal replicas).
    pub data_frames_out: u64,
    /// Runs accepted from peers.
    pub runs_accepted: u64,
    /// Runs refused.
    pub runs_refused: u64,
    /// Runs that were known already.
    pub runs_known: u64,
    /// Runs that waited for others.
    pub runs_waited: u64,
    /// Waiting runs evicted by a limit.
    pub orphans_evicted: u64,
    /// Reconciliations begun.
    pub reconciliations: u64,
    /// Sessions torn down for want of progress.
    pub stalls: u64,
    /// Store commits asked for.
    pub commits: u64,
}

impl Engine {
    /// An engine over what a store holds. `seed` is secret and random: actors, nonces and jitter are drawn from it. Emits a
    /// first commit (the new boot epoch, and the storage id if the image has none).
    ///
    /// # Errors
    /// The image cannot be read: the text names the row.
    pub fn new(config: Config, identity: SecretKey, seed: [u8; 32], now: Now, image: Image) -> Result<Self, String> {
        let _ = (config, identity, seed, now, image);
        todo!()
    }

    /// Takes one piece of news. Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// Runs `f` on a document that is open and keeps what it did as one change, in memory. Returns `f`'s value and the commit
    /// that will make it durable (`None` if nothing changed). Drain afterwards.
    pub fn edit<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        now: Now,
        space: &SpaceId,
        document: &DocumentId,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<CommitId>), E> {
        let _ = (now, space, document, f);
        todo!()
    }

    /// What to do next; `None` when all is said for this turn.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// When to call `handle(Input::Timeout)` next, and what for.
    pub fn poll_timeout(&mut self) -> Option<(Timestamp, &'static str)> {
        todo!()
    }

    /// Lets go of one opening of a document.
    pub fn close(&mut self, space: &SpaceId, document: &DocumentId) {
        let _ = (space, document);
        todo!()
    }

    /// A fresh random document id.
    pub fn new_document_id(&mut self) -> DocumentId {
        todo!()
    }

    /// Reads an open document as it is, or as it was at `heads`.
    pub fn view(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<View<'_>, DocumentError> {
        let _ = (space, document, heads);
        todo!()
    }

    /// Signed heads of a document, open or not; empty if it is not known.
    pub fn heads(&self, space: &SpaceId, document: &DocumentId) -> Vec<ChangeHash> {
        let _ = (space, document);
        todo!()
    }

    /// Ids of a space's documents, in order.
    pub fn documents(&self, space: &SpaceId) -> Vec<DocumentId> {
        let _ = space;
        todo!()
    }

    /// Every space.
    pub fn spaces(&mut self) -> Vec<SpaceStatus> {
        todo!()
    }

    /// Members of a space, by device.
    pub fn members(&self, space: &SpaceId) -> Vec<Member> {
        let _ = space;
        todo!()
    }

    /// Every known peer, by device.
    pub fn peers(&self) -> Vec<PeerStatus> {
        todo!()
    }

    /// Where we can be reached.
    pub fn listening(&self) -> &[String] {
        todo!()
    }

    /// Our device.
    pub fn device(&self) -> DeviceId {
        todo!()
    }

    /// Our store, and how often a process has started on it.
    pub fn storage(&self) -> (StorageId, u64) {
        todo!()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// Why the replica takes no more edits, if so.
    pub fn stopped(&self) -> Option<&str> {
        todo!()
    }

    /// The last seq of the feed.
    pub fn feed_seq(&self) -> u64 {
        todo!()
    }
}

#[allow(unused)]
type _Unused = Box<()>;
