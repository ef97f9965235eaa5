//! `Document`: read it, edit it, watch it.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::{
    ChangeHash, ChangeInfo, Conflict, DocumentError, DocumentId, Edit, EditError, IntoPath, Json, Patch, Space,
    Stopped, View,
};

/// An open document. Cheap to clone; it stays in memory until the last clone is dropped.
#[derive(Clone)]
pub struct Document {
    space: Space,
    id: DocumentId,
}

/// How a document changed since the subscriber last looked.
#[derive(Debug, Clone)]
pub struct Changed {
    /// From what it last saw to `heads`.
    pub patches: Vec<Patch>,
    /// The version now.
    pub heads: Vec<ChangeHash>,
}

/// Changes of one document, coalesced. Ends when the replica stops.
pub struct Changes {
    _document: Document,
}

impl Stream for Changes {
    type Item = Changed;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Changed>> {
        let _ = cx;
        todo!()
    }
}

impl Document {
    /// Its id.
    pub fn id(&self) -> DocumentId {
        self.id
    }

    /// The space that it is in.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Runs `f` on the caller's thread and keeps what it did as one change. Returns when that is applied in memory and on
    /// its way to connected peers; [`Document::saved`] says when it is on disk. If `f` fails or panics, the document is
    /// unchanged.
    ///
    /// `f` has the replica to itself: inside it, use nothing of the replica but the [`Edit`].
    ///
    /// # Errors
    /// `f`'s, a limit that the edit passed, our role, or the replica has stopped. The document is unchanged.
    pub fn edit<T>(&self, f: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>) -> Result<T, DocumentError> {
        self.try_edit(|edit| f(edit).map_err(DocumentError::Edit))
    }

    /// [`Document::edit`] for a closure with an error type of its own.
    ///
    /// # Errors
    /// As [`Document::edit`].
    pub fn try_edit<T, E: From<DocumentError> + From<EditError>>(
        &self,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _ = f;
        todo!()
    }

    /// Returns when every edit made through this replica before the call is on disk (fsynced).
    ///
    /// # Errors
    /// The replica stopped before that.
    pub async fn saved(&self) -> Result<(), Stopped> {
        todo!()
    }

    /// Runs `f` on the document as it is. Inside `f`, use nothing of the replica but the [`View`].
    ///
    /// # Errors
    /// The replica has stopped, or we left the space.
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> Result<T, DocumentError> {
        let _ = f;
        todo!()
    }

    /// Runs `f` on the document as it was at `heads`.
    ///
    /// # Errors
    /// As [`Document::read`], and if `heads` are not all in the document.
    pub fn read_at<T>(&self, heads: &[ChangeHash], f: impl FnOnce(&View<'_>) -> T) -> Result<T, DocumentError> {
        let _ = (heads, f);
        todo!()
    }

    /// The whole document.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn json(&self) -> Result<Json, DocumentError> {
        todo!()
    }

    /// The value at a path, if there is one.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn get(&self, path: impl IntoPath) -> Result<Option<Json>, DocumentError> {
        let _ = path;
        todo!()
    }

    /// Hashes of the changes that nothing depends on: the version.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn heads(&self) -> Result<Vec<ChangeHash>, DocumentError> {
        todo!()
    }

    /// Its changes, each after those it depends on.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn history(&self) -> Result<Vec<ChangeInfo>, DocumentError> {
        todo!()
    }

    /// The concurrent values at a path, the one that reads return first; empty if there is no conflict.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn conflicts(&self, path: impl IntoPath) -> Result<Vec<Conflict>, DocumentError> {
        let _ = path;
        todo!()
    }

    /// Follows the document from a version that the caller has seen (none: from the beginning). The first item comes at once
    /// if there is something new. A slow reader gets fewer, larger items.
    ///
    /// # Errors
    /// As [`Document::read_at`].
    pub fn subscribe(&self, from: Vec<ChangeHash>) -> Result<Changes, DocumentError> {
        let _ = from;
        todo!()
    }
}
