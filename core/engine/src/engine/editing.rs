//! What an application does with a document that is open, on its own thread: it edits.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use tracing::error;

use crate::document::{Ahead, Author, Document, Draft, Edit, EditError, EditedAt, Editor, Maker, Publish};
use crate::engine::documents::DocumentKey;
use crate::engine::output::Event;
use crate::engine::{DocumentError, Engine, random};
use crate::id::{ActorId, ChangeHash, DocumentId, SpaceId};
use crate::limits::UNSIGNED_BYTES_MAX;
use crate::mutants::Mutant;
use crate::storage::CommitId;
use crate::time::Now;

/// What became of a draft.
#[derive(Debug)]
pub enum Published {
    /// It is in the document; with the commit that will make it durable, or `None` if there was nothing in it.
    Done(Option<CommitId>),
    /// The document is far ahead of it: give this to [`Draft::catch_up`], away from the engine, and publish again.
    Behind(Ahead),
}

impl Engine {
    /// Runs `f` on a document that is open and keeps what it did as one change, in memory. Returns `f`'s value and the commit
    /// that will make it durable (`None` if nothing changed). Drain afterwards.
    pub fn edit<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        now: Now,
        space: &SpaceId,
        document: &DocumentId,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<CommitId>), E> {
        self.begin_turn(now);
        self.edit_by((*space, *document), |open, author| open.edit(author, f))
    }

    /// Someone who edits a document that is open at versions of its own: a browser tab, a remote client. Costs nothing until it
    /// edits. One that is dropped does not count any more.
    ///
    /// # Errors
    /// The document is not open, or there are too many editors.
    pub fn editor(&self, space: &SpaceId, document: &DocumentId) -> Result<Editor, DocumentError> {
        let open = self.documents.live(&(*space, *document));
        Ok(open.ok_or(DocumentError::NotOpen(*document))?.editor(&self.editors)?)
    }

    /// As [`Self::edit`], by an editor that has seen `heads` and its own edits, whatever else there is by now. Returns the version
    /// that it has seen then, besides `f`'s value.
    pub fn edit_at<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        now: Now,
        editor: &mut Editor,
        heads: &[ChangeHash],
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(EditedAt<T>, Option<CommitId>), E> {
        self.begin_turn(now);
        self.edit_by((editor.space(), editor.document()), |open, author| {
            let version = open.version(editor, heads).map_err(|unknown| DocumentError::UnknownHeads(unknown.0))?;
            open.edit_at(author, editor, version, f)
        })
    }

    /// Has `make` edit a document that is open, which says whether there was anything to keep.
    fn edit_by<T, E: From<DocumentError>>(
        &mut self,
        key: DocumentKey,
        make: impl FnOnce(&mut Document, Author) -> Result<(T, bool), E>,
    ) -> Result<(T, Option<CommitId>), E> {
        let author = self.may_edit_document(key)?;
        let Some(open) = self.documents.live_mut(&key) else {
            return Err(DocumentError::NotOpen(key.1).into());
        };
        let waiting = open.unsigned_bytes();
        if waiting > UNSIGNED_BYTES_MAX {
            return Err(DocumentError::Busy(waiting).into());
        }
        let edited = make(open, author);
        if open.is_damaged() {
            // What was signed or merged before is on its way to the store, and its record goes with it.
            if self.documents.take_dirty(&key) {
                self.close_runs(key);
            }
            self.close_damaged(key, EditError::Panicked.to_string());
        }
        let (value, changed) = edited?;
        if !changed {
            return Ok((value, None));
        }
        self.edited(key);
        Ok((value, Some(self.commits.next())))
    }

    /// A private copy of a document that is open, to make changes on away from the engine. Drain afterwards.
    ///
    /// # Errors
    /// An edit would be refused.
    pub fn draft(&mut self, now: Now, space: &SpaceId, document: &DocumentId) -> Result<Draft, DocumentError> {
        self.begin_turn(now);
        let author = self.may_edit_document((*space, *document))?;
        let open = self.documents.live_mut(&(*space, *document));
        Ok(open.ok_or(DocumentError::NotOpen(*document))?.draft(Author { wall_s: now.wall_s, ..author }))
    }

    /// Makes a draft part of its document, in memory and as a whole. Drain afterwards.
    ///
    /// # Errors
    /// As for an edit made now, or the draft does not fit ([`DocumentError::Draft`]). The document is unchanged, and the draft
    /// can be published later, unless it says otherwise.
    pub fn publish(&mut self, now: Now, draft: &mut Draft) -> Result<Published, DocumentError> {
        self.begin_turn(now);
        self.may_edit(&draft.space())?;
        let key = (draft.space(), draft.document());
        let waiting = self.commits.bytes() + self.documents.unsigned_bytes();
        if waiting > UNSIGNED_BYTES_MAX {
            return Err(DocumentError::Busy(waiting));
        }
        let guard = self.guard.clone();
        let open = self.documents.live_mut(&key);
        let open = open.ok_or(DocumentError::NotOpen(key.1))?;
        match open.publish(draft, &*guard)? {
            Publish::Empty => Ok(Published::Done(None)),
            Publish::Behind => Ok(Published::Behind(open.ahead(guard))),
            Publish::Done => {
                self.edited(key);
                Ok(Published::Done(Some(self.commits.next())))
            }
        }
    }

    pub(super) fn may_edit(&mut self, space: &SpaceId) -> Result<Author, DocumentError> {
        if let Some(reason) = &self.stopped {
            return Err(DocumentError::Stopped(reason.clone()));
        }
        if self.shutting_down.is_some() {
            return Err(DocumentError::Stopped(String::from("it is being shut down")));
        }
        if let Some(reason) = self.halted() {
            return Err(DocumentError::Halted(reason.to_string()));
        }
        let known = self.spaces.get(space).ok_or(DocumentError::UnknownSpace(*space))?;
        if let Some(reason) = self.read_only(known) {
            return Err(DocumentError::ReadOnly(reason));
        }
        if let Some(role) = known.role_for_writing() {
            return Err(DocumentError::NotAWriter(role));
        }
        let mut fresh_actor = ActorId(random(&mut self.actors));
        if self.mutated.by(Mutant::ContinuesActors) {
            fresh_actor.0.copy_from_slice(&self.device.0[..16]);
        }
        Ok(Author { device: self.device, fresh_actor, wall_s: self.now.wall_s })
    }

    /// The same for an open document, whose heads are joined if there are too many.
    fn may_edit_document(&mut self, key: DocumentKey) -> Result<Author, DocumentError> {
        let author = self.may_edit(&key.0)?;
        let open = self.documents.live_mut(&key);
        if open.ok_or(DocumentError::NotOpen(key.1))?.join_heads(author)? {
            self.edited(key);
        }
        Ok(author)
    }

    pub(super) fn edited(&mut self, key: DocumentKey) {
        self.documents.mark_dirty(key);
        self.event(Event::DocumentChanged { space: key.0, document: key.1, remote: false });
    }

    /// A recorded local change, replayed.
    pub(super) fn local_change(&mut self, key: DocumentKey, bytes: &[u8], maker: Maker) {
        let result = self.may_edit_document(key).map_err(|error| error.to_string()).and_then(|author| {
            let guard = self.guard.clone();
            let document = self.documents.live_mut(&key);
            let document = document.ok_or_else(|| DocumentError::NotOpen(key.1).to_string())?;
            document.apply_local(author.device, bytes, maker, &*guard).map_err(|error| error.to_string())
        });
        match result {
            Ok(()) => self.edited(key),
            Err(error) => error!(document = %key.1, error, "a recorded change does not apply"),
        }
    }

    /// The raw bytes of the last local change of a document that is open, for a recording.
    pub fn last_local_change(&self, space: &SpaceId, document: &DocumentId) -> Option<Vec<u8>> {
        let open = self.documents.live(&(*space, *document))?;
        open.last_local_change()
    }

    /// Lets go of one opening of a document.
    pub fn close(&mut self, space: &SpaceId, document: &DocumentId) {
        if let Some(resident) = self.documents.get_mut(&(*space, *document)) {
            resident.open_handles = resident.open_handles.saturating_sub(1);
        }
        self.evict_documents();
    }

    /// A fresh random document id.
    pub fn new_document_id(&mut self) -> DocumentId {
        DocumentId(self.random())
    }
}
