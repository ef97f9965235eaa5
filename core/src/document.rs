//! `Document`: read it, edit it, watch it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_channel::Receiver;
use futures::Stream;

use crate::{
    ChangeHash, ChangeInfo, Conflict, DocumentError, DocumentId, Draft, Edit, EditError, IntoPath, Json, Patch, Space,
    Stopped, View,
};

/// An open document. Cheap to clone; it stays in memory until the last clone is dropped.
#[derive(Clone)]
pub struct Document {
    opening: Arc<Opening>,
}

/// One opening, to be closed once.
struct Opening {
    space: Space,
    id: DocumentId,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.space.peer().replica().close_document(self.space.id(), self.id);
    }
}

#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method path fixes the view's lifetime, a closure does not"
)]
impl Document {
    pub(crate) fn new(space: Space, id: DocumentId) -> Self {
        Self { opening: Arc::new(Opening { space, id }) }
    }

    /// Its id.
    pub fn id(&self) -> DocumentId {
        self.opening.id
    }

    /// The space that it is in.
    pub fn space(&self) -> &Space {
        &self.opening.space
    }

    /// Runs `f` on the caller's thread and keeps what it did as one change. Returns when that is applied in memory and on
    /// its way to connected peers; [`Document::saved`] says when it is on disk. If `f` fails or panics, the document is
    /// unchanged.
    ///
    /// `f` has the replica to itself: inside it, use nothing of the replica but the [`Edit`].
    ///
    /// # Errors
    /// `f`'s, a limit that the edit passed, our role, or the replica has stopped. The document is unchanged.
    ///
    /// # Panics
    /// If `f` does, or if it uses the replica other than by its [`Edit`].
    pub fn edit<T>(&self, f: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>) -> Result<T, DocumentError> {
        self.try_edit(|edit| f(edit).map_err(DocumentError::Edit))
    }

    /// [`Document::edit`] for a closure with an error type of its own.
    ///
    /// # Errors
    /// As [`Document::edit`].
    ///
    /// # Panics
    /// As [`Document::edit`].
    pub fn try_edit<T, E: From<DocumentError> + From<EditError>>(
        &self,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.space().peer().replica().edit(&self.space().id(), &self.id(), f)
    }

    /// Begins a draft: changes that are made away from the replica and published together, all of them or none, here and at
    /// every peer. Nothing else waits while it is being made, however large it is.
    ///
    /// # Errors
    /// An edit would be refused.
    pub fn draft(&self) -> Result<Draft, DocumentError> {
        let draft = self.space().peer().replica().draft(&self.space().id(), &self.id())?;
        Ok(Draft::new(self.clone(), draft))
    }

    /// Returns when every edit made through this replica before the call is on disk (fsynced).
    ///
    /// # Errors
    /// The replica stopped before that.
    pub async fn saved(&self) -> Result<(), Stopped> {
        self.space().peer().replica().saved().await
    }

    /// Runs `f` on the document as it is. Inside `f`, use nothing of the replica but the [`View`].
    ///
    /// # Errors
    /// The replica has stopped, or we left the space.
    ///
    /// # Panics
    /// If `f` does, or if it uses the replica other than by its [`View`].
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> Result<T, DocumentError> {
        self.space().peer().replica().read(&self.space().id(), &self.id(), None, f)
    }

    /// Runs `f` on the document as it was at `heads`.
    ///
    /// # Errors
    /// As [`Document::read`], and if `heads` are not all in the document.
    ///
    /// # Panics
    /// As [`Document::read`].
    pub fn read_at<T>(&self, heads: &[ChangeHash], f: impl FnOnce(&View<'_>) -> T) -> Result<T, DocumentError> {
        self.space().peer().replica().read(&self.space().id(), &self.id(), Some(heads), f)
    }

    /// The whole document.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn json(&self) -> Result<Json, DocumentError> {
        self.read(|view| view.json())
    }

    /// The value at a path, if there is one.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn get(&self, path: impl IntoPath) -> Result<Option<Json>, DocumentError> {
        self.read(|view| view.get(path))
    }

    /// Hashes of the changes that nothing depends on: the version.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn heads(&self) -> Result<Vec<ChangeHash>, DocumentError> {
        self.read(|view| view.heads())
    }

    /// Its changes, each after those it depends on.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn history(&self) -> Result<Vec<ChangeInfo>, DocumentError> {
        self.read(|view| view.history())
    }

    /// The concurrent values at a path, the one that reads return first; empty if there is no conflict.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn conflicts(&self, path: impl IntoPath) -> Result<Vec<Conflict>, DocumentError> {
        self.read(|view| view.conflicts(path))
    }

    /// Follows the document from a version that the caller has seen (none: from the beginning). The first item comes at once
    /// if there is something new. A slow reader gets fewer, larger items.
    ///
    /// # Errors
    /// As [`Document::read_at`].
    pub fn subscribe(&self, from: Vec<ChangeHash>) -> Result<Changes, DocumentError> {
        let tokens = self.space().peer().replica().watch(self.space().id(), self.id());
        // A version that is not in the document is the caller's mistake, so it is told now.
        let first = self.changed_since(&from)?;
        Ok(Changes { document: self.clone(), tokens: Box::pin(tokens), seen: from, first })
    }

    /// What is new since `seen`, if anything is.
    fn changed_since(&self, seen: &[ChangeHash]) -> Result<Option<Changed>, DocumentError> {
        self.read(|view| {
            let heads = view.heads();
            if heads == seen {
                return Ok(None);
            }
            match view.diff(seen) {
                Ok(patches) => Ok(Some(Changed { patches, heads })),
                Err(unknown) => Err(DocumentError::UnknownHeads(unknown.0)),
            }
        })?
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// How a document changed since its reader last looked.
#[derive(Debug, Clone)]
pub struct Changed {
    /// From what it last saw to `heads`.
    pub patches: Vec<Patch>,
    /// The version now.
    pub heads: Vec<ChangeHash>,
}

/// Changes of one document, each the difference from the one before. Keeps the document in memory. Ends when the replica
/// does, or when we leave the space.
pub struct Changes {
    document: Document,
    tokens: Pin<Box<Receiver<()>>>,
    seen: Vec<ChangeHash>,
    first: Option<Changed>,
}

impl Stream for Changes {
    type Item = Changed;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Changed>> {
        let this = &mut *self;
        loop {
            let changed = match this.first.take() {
                Some(first) => Some(first),
                None => match ready!(this.tokens.as_mut().poll_next(cx)) {
                    None => return Poll::Ready(None),
                    Some(()) => match this.document.changed_since(&this.seen) {
                        Ok(changed) => changed,
                        Err(_gone) => return Poll::Ready(None),
                    },
                },
            };
            if let Some(changed) = changed {
                this.seen.clone_from(&changed.heads);
                return Poll::Ready(Some(changed));
            }
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("document", &self.document.id())
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
