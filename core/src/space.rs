//! `Space`: a set of documents shared by its members.

use std::fmt;

use anabranch_engine::{Command, Reply};

use crate::peer::unexpected;
use crate::recorder::Recorded;
use crate::{
    ChangeHash, CommandError, DeviceId, Document, DocumentId, LossOnLeaving, Member, Peer, Role, SpaceId, SpaceStatus,
    Ticket,
};

/// A space of a running replica. Cheap to clone.
#[derive(Clone)]
pub struct Space {
    peer: Peer,
    id: SpaceId,
}

impl Space {
    pub(crate) fn new(peer: Peer, id: SpaceId) -> Self {
        Self { peer, id }
    }

    /// Its id.
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// The replica that it is a space of.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Its name; `None` while joining, or when we left it.
    pub fn name(&self) -> Option<String> {
        self.status()?.name
    }

    /// Our role; `None` while joining, or when we left it.
    pub fn role(&self) -> Option<Role> {
        self.status()?.role
    }

    /// Everything about it; `None` when we left it.
    pub fn status(&self) -> Option<SpaceStatus> {
        let spaces = self.peer.replica().ask(Recorded::spaces)?;
        spaces.into_iter().find(|status| status.space == self.id)
    }

    /// Its members.
    pub fn members(&self) -> Vec<Member> {
        self.peer.replica().ask(|engine| engine.members(&self.id)).unwrap_or_default()
    }

    /// What [`Peer::leave`] might lose for good, as far as this replica knows; `None` when we left it already. What is known
    /// of other replicas begins anew with each start.
    pub fn loss_on_leaving(&self) -> Option<LossOnLeaving> {
        self.peer.replica().ask(|engine| engine.loss_on_leaving(&self.id))?
    }

    /// Its documents, in order of their ids.
    pub fn documents(&self) -> Vec<DocumentId> {
        self.peer.replica().ask(|engine| engine.documents(&self.id)).unwrap_or_default()
    }

    /// Signed heads of a document, open or not; empty if nothing is known of it.
    pub fn heads(&self, document: &DocumentId) -> Vec<ChangeHash> {
        self.peer.replica().ask(|engine| engine.heads(&self.id, document)).unwrap_or_default()
    }

    /// Invites someone. `addresses` go into the ticket; if empty, those that we listen on. Returns when the invite is on disk.
    ///
    /// # Errors
    /// We are no admin of the space, an argument is over its limit, or the replica has stopped.
    pub async fn invite(&self, role: Role, max_uses: u32, addresses: Vec<String>) -> Result<Ticket, CommandError> {
        match self.peer.command(Command::Invite { space: self.id, role, max_uses, addresses }).await? {
            Reply::Ticket(ticket) => Ok(ticket),
            other => Err(unexpected(&other)),
        }
    }

    /// A new document, empty until its first edit.
    ///
    /// # Errors
    /// The space is not here, or the replica has stopped.
    pub async fn create_document(&self) -> Result<Document, CommandError> {
        let fresh = self.peer.replica().ask(Recorded::new_document_id);
        // No engine: `open` says why.
        self.open(fresh.unwrap_or(DocumentId([0; DocumentId::LEN]))).await
    }

    /// Brings a document into memory and keeps it there until the handle and its clones are dropped. A document of which
    /// nothing is known yet opens empty.
    ///
    /// # Errors
    /// The space is not here, the document cannot be read, or the replica has stopped.
    pub async fn open(&self, document: DocumentId) -> Result<Document, CommandError> {
        match self.peer.command(Command::OpenDocument { space: self.id, document }).await? {
            Reply::DocumentOpen => Ok(Document::new(self.clone(), document)),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns when roots were compared with this peer after the call and were equal: both hold the same. There is no time
    /// limit; drop the future to give up.
    ///
    /// # Errors
    /// The space is not here, or the replica has stopped.
    pub async fn synced_with(&self, peer: DeviceId) -> Result<(), CommandError> {
        self.peer.command(Command::WaitSynced { space: self.id, peer: Some(peer) }).await.map(drop)
    }

    /// [`Space::synced_with`] every connected member, at least one.
    ///
    /// # Errors
    /// As [`Space::synced_with`].
    pub async fn wait_synced(&self) -> Result<(), CommandError> {
        self.peer.command(Command::WaitSynced { space: self.id, peer: None }).await.map(drop)
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("id", &self.id).finish_non_exhaustive()
    }
}
