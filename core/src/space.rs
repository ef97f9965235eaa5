//! `Space`: a set of documents shared by its members.

use crate::{
    ChangeHash, CommandError, DeviceId, Document, DocumentId, Member, Peer, Role, SpaceId, SpaceStatus, Ticket,
};

/// A space of a running replica. Cheap to clone.
#[derive(Clone)]
pub struct Space {
    peer: Peer,
    id: SpaceId,
}

impl Space {
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
        todo!()
    }

    /// Our role; `None` while joining, or when we left it.
    pub fn role(&self) -> Option<Role> {
        todo!()
    }

    /// Everything about it; `None` when we left it.
    pub fn status(&self) -> Option<SpaceStatus> {
        todo!()
    }

    /// Its members.
    pub fn members(&self) -> Vec<Member> {
        todo!()
    }

    /// Its documents, in order of their ids.
    pub fn documents(&self) -> Vec<DocumentId> {
        todo!()
    }

    /// Signed heads of a document, open or not; empty if nothing is known of it.
    pub fn heads(&self, document: &DocumentId) -> Vec<ChangeHash> {
        let _ = document;
        todo!()
    }

    /// Invites someone. `addresses` go into the ticket; if empty, those that we listen on. Returns when the invite is on disk.
    ///
    /// # Errors
    /// We are no admin of the space, an argument is over its limit, or the replica has stopped.
    pub async fn invite(&self, role: Role, max_uses: u32, addresses: Vec<String>) -> Result<Ticket, CommandError> {
        let _ = (role, max_uses, addresses);
        todo!()
    }

    /// A new document, empty until its first edit.
    ///
    /// # Errors
    /// The space is not here, or the replica has stopped.
    pub async fn create_document(&self) -> Result<Document, CommandError> {
        todo!()
    }

    /// Brings a document into memory and keeps it there until the handle and its clones are dropped. A document of which
    /// nothing is known yet opens empty.
    ///
    /// # Errors
    /// The space is not here, the document cannot be read, or the replica has stopped.
    pub async fn open(&self, document: DocumentId) -> Result<Document, CommandError> {
        let _ = document;
        todo!()
    }

    /// Returns when roots were compared with this peer after the call and were equal: both hold the same. There is no time
    /// limit; drop the future to give up.
    ///
    /// # Errors
    /// The space is not here, or the replica has stopped.
    pub async fn synced_with(&self, peer: DeviceId) -> Result<(), CommandError> {
        let _ = peer;
        todo!()
    }

    /// [`Space::synced_with`] every connected member, at least one.
    ///
    /// # Errors
    /// As [`Space::synced_with`].
    pub async fn wait_synced(&self) -> Result<(), CommandError> {
        todo!()
    }
}
