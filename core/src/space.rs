//! `Space`: a set of documents shared by its members.

use std::fmt;

use anabranch_engine::{Begins, Command, Reply};
use futures::StreamExt as _;
use unicode_normalization::UnicodeNormalization as _;

use crate::peer::unexpected;
use crate::recorder::Recorded;
use crate::{
    ChangeHash, CommandError, DeviceId, Document, DocumentId, DocumentInfo, Event, Lagged, LossOnLeaving, Member, Peer,
    Role, SpaceId, SpaceStatus, Ticket, Usage,
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

    /// What each device has made this replica keep of the space, and, since it was started and over all spaces, receive and
    /// check. Reads all that is stored of the space.
    ///
    /// # Errors
    /// No such space, or the replica has stopped.
    pub async fn usage(&self) -> Result<Vec<(DeviceId, Usage)>, CommandError> {
        match self.peer.command(Command::MeasureUsage { space: self.id }).await? {
            Reply::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        }
    }

    /// What [`Peer::leave`] might lose for good, as far as this replica knows; `None` when we left it already. What is known
    /// of other replicas begins again with each start.
    pub fn loss_on_leaving(&self) -> Option<LossOnLeaving> {
        self.peer.replica().ask(|engine| engine.loss_on_leaving(&self.id))?
    }

    /// Its documents, in order of their ids.
    pub fn documents(&self) -> Vec<DocumentId> {
        self.peer.replica().ask(|engine| engine.documents(&self.id)).unwrap_or_default()
    }

    /// Its documents with their names, sizes and dates, in order of their ids. Opens none of them. One that cannot be read is
    /// listed with the reason.
    pub fn list(&self) -> Vec<DocumentInfo> {
        self.peer.replica().ask(|engine| engine.list(&self.id)).unwrap_or_default()
    }

    /// What [`Space::list`] says of one document; `None` if nothing of it is here.
    pub fn info(&self, document: &DocumentId) -> Option<DocumentInfo> {
        self.peer.replica().ask(|engine| engine.info(&self.id, document)).flatten()
    }

    /// The documents with this name: the string at `/name`, cut at `DOCUMENT_NAME_BYTES_MAX` bytes. Two spellings of one
    /// character are the same (names are compared in Unicode's normal form C). Members that were apart may have given one
    /// name to several. Opens none of them.
    pub fn find(&self, name: &str) -> Vec<DocumentId> {
        let name: String = name.nfc().collect();
        let is_it = |(document, other): (DocumentId, &str)| is_nfc_of(other, &name).then_some(document);
        self.peer.replica().ask(|engine| engine.names(&self.id).filter_map(is_it).collect()).unwrap_or_default()
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

    /// Makes a document with a random id. It is listed and sent to peers although it is empty; [`Document::saved`] says when
    /// it is on disk.
    ///
    /// # Errors
    /// The space is not here or still being joined, we may not write in it, it is full, or the replica has stopped.
    pub async fn create_document(&self) -> Result<Document, CommandError> {
        self.create(self.fresh_id(), Begins::Empty).await
    }

    /// Makes a document with an id of the caller's choice, as [`Space::create_document`] does, or opens it if it is here. Two
    /// replicas that make one with the same id make one document.
    ///
    /// # Errors
    /// As [`Space::create_document`], and if it is here and cannot be read.
    pub async fn create_document_with(&self, document: DocumentId) -> Result<Document, CommandError> {
        self.create(document, Begins::Empty).await
    }

    /// A document that exists from its first edit on: if there is none before the handle is dropped, nothing is left of it.
    ///
    /// # Errors
    /// As [`Space::create_document`].
    pub async fn create_with_first_edit(&self) -> Result<Document, CommandError> {
        self.create(self.fresh_id(), Begins::WithFirstEdit).await
    }

    fn fresh_id(&self) -> DocumentId {
        // No engine: the command says why.
        self.peer.replica().ask(Recorded::new_document_id).unwrap_or(DocumentId([0; DocumentId::LEN]))
    }

    async fn create(&self, document: DocumentId, begins: Begins) -> Result<Document, CommandError> {
        match self.peer.command(Command::CreateDocument { space: self.id, document, begins }).await? {
            Reply::DocumentCreated { .. } | Reply::DocumentOpen => Ok(Document::new(self.clone(), document)),
            other => Err(unexpected(&other)),
        }
    }

    /// Brings a document into memory and keeps it there until the handle and its clones are dropped.
    ///
    /// # Errors
    /// The space is not here, nothing of the document is here, it cannot be read, or the replica has stopped.
    pub async fn open(&self, document: DocumentId) -> Result<Document, CommandError> {
        match self.peer.command(Command::OpenDocument { space: self.id, document }).await? {
            Reply::DocumentOpen => Ok(Document::new(self.clone(), document)),
            other => Err(unexpected(&other)),
        }
    }

    /// [`Space::open`], as soon as something of the document is here: it may still be on its way from a peer. There is no time
    /// limit; drop the future to give up.
    ///
    /// # Errors
    /// The space is not here, the document cannot be read, or the replica has stopped.
    pub async fn wait_for(&self, document: DocumentId) -> Result<Document, CommandError> {
        let mut events = self.peer.events();
        loop {
            match self.open(document).await {
                Err(CommandError::UnknownDocument(_)) => {}
                opened => return opened,
            }
            // What was lost may have been about it.
            let is_about_it = |event: &Result<Event, Lagged>| match event {
                Ok(Event::DocumentChanged { document: changed, .. }) => *changed == document,
                Ok(_) => false,
                Err(Lagged(_)) => true,
            };
            while events.next().await.is_some_and(|event| !is_about_it(&event)) {}
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

/// Whether `name`, which is in normal form, is that of `other`.
fn is_nfc_of(other: &str, name: &str) -> bool {
    if other.is_ascii() { other == name } else { other.nfc().eq(name.chars()) }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_letter_are_one_name() {
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        let normal: String = decomposed.nfc().collect();
        assert_eq!(normal, composed);
        for other in [composed, decomposed] {
            assert!(is_nfc_of(other, &normal), "{other:?}");
        }
        assert!(!is_nfc_of("cafe", &normal) && !is_nfc_of("Caf\u{e9}", &normal));
        assert!(is_nfc_of("plan", "plan") && !is_nfc_of("plan", "plan b"));
    }
}
