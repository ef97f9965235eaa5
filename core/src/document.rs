//! `Document`: read it, edit it, watch it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use anabranch_engine::document::{Followed, Step};
use async_channel::Receiver;
use futures::Stream;

use crate::{
    ChangeHash, ChangeInfo, Conflict, DocumentError, DocumentId, Draft, Edit, EditError, Editor, IntoPath, Json,
    LostEdit, Origin, Patch, Snapshot, Space, Stopped, Value, View,
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

    /// Someone who edits the document at versions of its own, as a browser tab or a remote client does.
    ///
    /// # Errors
    /// There are too many ([`DocumentError::TooManyEditors`]), the replica has stopped, or we left the space.
    pub fn editor(&self) -> Result<Editor, DocumentError> {
        let editor = self.space().peer().replica().editor(&self.space().id(), &self.id())?;
        Ok(Editor::new(self.clone(), editor))
    }

    /// Returns when every edit made through this replica before the call is on disk (fsynced).
    ///
    /// # Errors
    /// The replica stopped before that, or nothing can be written. On a full disk the edits may be saved yet, when it has room.
    pub async fn saved(&self) -> Result<(), Stopped> {
        self.space().peer().replica().saved().await
    }

    /// The document as it is, to be read on any thread while edits and merges go on.
    ///
    /// # Errors
    /// The replica has stopped, or we left the space.
    pub fn snapshot(&self) -> Result<Snapshot, DocumentError> {
        self.space().peer().replica().snapshot(&self.space().id(), &self.id(), None)
    }

    /// The document as it was at `heads`.
    ///
    /// # Errors
    /// As [`Document::snapshot`], and if `heads` are not all in the document.
    pub fn snapshot_at(&self, heads: &[ChangeHash]) -> Result<Snapshot, DocumentError> {
        self.space().peer().replica().snapshot(&self.space().id(), &self.id(), Some(heads))
    }

    /// Runs `f` on the document as it is, on a [`Snapshot`]: nobody waits for it, however long it takes.
    ///
    /// # Errors
    /// As [`Document::snapshot`].
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> Result<T, DocumentError> {
        self.snapshot().map(|snapshot| f(&snapshot.view()))
    }

    /// Runs `f` on the document as it was at `heads`.
    ///
    /// # Errors
    /// As [`Document::snapshot_at`].
    pub fn read_at<T>(&self, heads: &[ChangeHash], f: impl FnOnce(&View<'_>) -> T) -> Result<T, DocumentError> {
        self.snapshot_at(heads).map(|snapshot| f(&snapshot.view()))
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

    /// Whether there is anything at a path. Costs the path, whatever is there.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn exists(&self, path: impl IntoPath) -> Result<bool, DocumentError> {
        self.read(|view| view.exists(path))
    }

    /// The text or plain string at a path, if there is one.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn text(&self, path: impl IntoPath) -> Result<Option<String>, DocumentError> {
        self.read(|view| view.text(path))
    }

    /// Characters of the text, elements of the list or keys of the map at a path, if there is one.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn length(&self, path: impl IntoPath) -> Result<Option<usize>, DocumentError> {
        self.read(|view| view.length(path))
    }

    /// The value at a path, each kind apart, if there is one.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn value(&self, path: impl IntoPath) -> Result<Option<Value>, DocumentError> {
        self.read(|view| view.value(path))
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

    /// One of its changes, if it is there: who made it, and when. Costs nothing.
    ///
    /// # Errors
    /// As [`Document::snapshot`].
    pub fn change(&self, hash: &ChangeHash) -> Result<Option<ChangeInfo>, DocumentError> {
        self.space().peer().replica().change(&self.space().id(), &self.id(), hash)
    }

    /// The concurrent values at a path, the one that reads return first; empty if there is no conflict.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn conflicts(&self, path: impl IntoPath) -> Result<Vec<Conflict>, DocumentError> {
        self.read(|view| view.conflicts(path))
    }

    /// Edits that went into something that another removed or replaced at the same time, so that nobody sees them.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn lost_edits(&self) -> Result<Vec<LostEdit>, DocumentError> {
        self.read(|view| view.lost_edits())
    }

    /// Follows the document from a version that the caller has seen (none: from the beginning). The first item comes at once
    /// if there is something new. A slow reader gets fewer, larger items. Following costs what changed, not what the document
    /// holds, but for what is compared, on the caller's thread: the first item, one after a long pause, and one for several
    /// changes of peers that came together.
    ///
    /// # Errors
    /// As [`Document::snapshot_at`].
    pub fn subscribe(&self, from: Vec<ChangeHash>) -> Result<Changes, DocumentError> {
        let tokens = self.space().peer().replica().watch(self.space().id(), self.id());
        // A version that is not in the document is the caller's mistake, so it is reported now.
        let first = self.changed_since(&from)?;
        Ok(Changes { document: self.clone(), tokens: Box::pin(tokens), seen: from, first })
    }

    /// What is new since `seen`, if anything is.
    fn changed_since(&self, seen: &[ChangeHash]) -> Result<Option<Changed>, DocumentError> {
        match self.space().peer().replica().follow(&self.space().id(), &self.id(), seen)? {
            Followed::Steps(steps) => Ok(Changed::of(&steps)),
            Followed::Compare(snapshot) => {
                let view = snapshot.view();
                let patches = view.diff(seen).map_err(|unknown| DocumentError::UnknownHeads(unknown.0))?;
                Ok(Some(Changed { patches, heads: view.heads(), origin: Origin::Mixed }))
            }
        }
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
    /// Who changed it: edits of this replica, runs of peers, or both, which is also said where it is not known.
    pub origin: Origin,
}

impl Changed {
    /// Steps as one; `None` if there are none.
    fn of(steps: &[Arc<Step>]) -> Option<Self> {
        let last = steps.last()?;
        let origin = steps.iter().fold(last.origin, |origin, step| origin.and(step.origin));
        let mut patches: Vec<Patch> = Vec::new();
        for patch in steps.iter().flat_map(|step| &step.patches) {
            if !patches.last_mut().is_some_and(|last| last.join(patch)) {
                patches.push(patch.clone());
            }
        }
        Some(Self { patches, heads: last.heads.clone(), origin })
    }
}

/// Changes of one document, each the difference from the one before. Keeps the document in memory. Ends when the replica
/// does, when we leave the space, or when the document is rebuilt after damage: subscribe again then.
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
