//! How an application reads a document that is open. Reading changes nothing that peers or the store could see.

use crate::document::{Copied, Document, Followed, Shared, Snapshot, UnknownHeads, View};
use crate::engine::{DocumentError, Engine};
use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::mutants::Mutant;

impl Engine {
    /// Reads an open document as it is, or as it was at `heads`.
    ///
    /// # Errors
    /// The space is not here, the document is not open, or one of `heads` is not in it.
    pub fn view(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<View<'_>, DocumentError> {
        let open = self.open_to_read(space, document)?;
        let view = match self.version(open, heads) {
            None => Ok(open.view()),
            Some(heads) => open.view_at(&heads),
        };
        view.map(|view| view.mutated(self.mutated)).map_err(unknown)
    }

    /// The same, owned, to be read while the engine goes on.
    ///
    /// # Errors
    /// As [`Self::view`].
    pub fn snapshot(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<Snapshot, DocumentError> {
        let open = self.open_to_read(space, document)?;
        let snapshot = open.snapshot(self.version(open, heads).as_deref()).map_err(unknown)?;
        Ok(snapshot.mutated(self.mutated))
    }

    /// What is new in an open document since the version `seen`, for somebody who follows it.
    ///
    /// # Errors
    /// As [`Self::view`].
    pub fn follow(
        &mut self,
        space: &SpaceId,
        document: &DocumentId,
        seen: &[ChangeHash],
    ) -> Result<Followed, DocumentError> {
        self.open_to_read(space, document)?;
        let open = self.documents.live_mut(&(*space, *document));
        let followed = open.ok_or(DocumentError::NotOpen(*document))?.follow(seen).map_err(unknown)?;
        Ok(match followed {
            Followed::Steps(mut steps) => {
                if self.mutated.by(Mutant::SkipsPatches) {
                    steps.pop();
                }
                Followed::Steps(steps)
            }
            Followed::Compare(snapshot) => Followed::Compare(snapshot.mutated(self.mutated)),
        })
    }

    /// What to copy before an edit of this document, away from the engine, so that the edit need not.
    pub fn shared(&self, space: &SpaceId, document: &DocumentId) -> Option<Shared> {
        self.documents.live(&(*space, *document))?.shared()
    }

    /// Takes that copy.
    pub fn own(&mut self, space: &SpaceId, document: &DocumentId, copy: Copied) {
        if let Some(open) = self.documents.live_mut(&(*space, *document)) {
            open.own(copy);
        }
    }

    fn open_to_read(&self, space: &SpaceId, document: &DocumentId) -> Result<&Document, DocumentError> {
        if !self.spaces.contains_key(space) {
            return Err(DocumentError::UnknownSpace(*space));
        }
        self.documents.live(&(*space, *document)).ok_or(DocumentError::NotOpen(*document))
    }

    /// The version that is asked for; `None` is the present.
    fn version(&self, open: &Document, heads: Option<&[ChangeHash]>) -> Option<alloc::vec::Vec<ChangeHash>> {
        let stale = || self.mutated.by(Mutant::ReadsStale).then(|| open.signed_heads());
        heads.map(<[ChangeHash]>::to_vec).or_else(stale)
    }
}

fn unknown(unknown: UnknownHeads) -> DocumentError {
    DocumentError::UnknownHeads(unknown.0)
}
