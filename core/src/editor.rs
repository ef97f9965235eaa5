//! `Editor`: edits at the version that somebody has seen.

use std::fmt;

use crate::{ChangeHash, Document, DocumentError, Edit, EditError};

/// Someone who edits a document at versions of its own: a browser tab, or a remote client. Edits of others come into the document
/// while it types; what it does is meant for the version that it has seen. Made by [`Document::editor`].
///
/// It has always seen its own edits: those that nobody has acknowledged to it yet are a chain. It writes under an actor of its own,
/// drawn at its first edit and free for others when it is dropped; so keep one for each tab or client, and no longer than that.
///
/// ```
/// # futures::executor::block_on(async {
/// # let peer = anabranch::Peer::builder().open().await?;
/// # let space = peer.create_space("notes").await?;
/// # let document = space.create_document().await?;
/// document.edit(|edit| edit.set("/text", "Hello"))?;
/// let (mut tab, mut other) = (document.editor()?, document.editor()?);
/// let seen = document.heads()?;
///
/// // Both type behind what they see, and neither has seen what the other does.
/// other.edit_at(&seen, |edit| edit.splice_text("/text", 0, 0, "Oh. "))?;
/// tab.edit_at(&seen, |edit| edit.splice_text("/text", 5, 0, "!"))?;
/// let ((), now) = tab.edit_at(&seen, |edit| edit.splice_text("/text", 6, 0, "!"))?;
/// assert_eq!(document.text("/text")?.as_deref(), Some("Oh. Hello!!"));
/// assert_eq!(document.read_at(&now, |view| view.text("/text"))?.as_deref(), Some("Hello!!"));
/// # peer.shutdown().await;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Editor {
    document: Document,
    editor: anabranch_engine::document::Editor,
}

impl Editor {
    pub(crate) fn new(document: Document, editor: anabranch_engine::document::Editor) -> Self {
        Self { document, editor }
    }

    /// The document that it edits.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// As [`Document::edit`], at the version that has `heads` and this editor's own edits: paths and positions are those of that
    /// version, and the change depends on exactly that. A value that is set is in conflict with one that was not seen, and both are
    /// kept ([`Document::conflicts`]). No heads are the empty version. Returns the version after the edit, besides what `f`
    /// returns: whoever has seen that can say so the next time.
    ///
    /// At the newest version it costs what [`Document::edit`] does. At an older one automerge walks a text or list from its
    /// beginning, in the lock that all edits of the replica take: some 0.2 us for each character or element, deleted ones too,
    /// which is 20 ms in 100,000. Nothing is copied, and how old the version is makes no difference.
    ///
    /// # Errors
    /// As [`Document::edit`]; [`DocumentError::UnknownHeads`] names the first change that is not in the document (or has not been
    /// merged yet); a version that peers would not take an edit of ([`EditError::FarBehind`], [`EditError::TooManyHeads`],
    /// [`EditError::Marked`]). The document is unchanged.
    ///
    /// # Panics
    /// As [`Document::edit`].
    pub fn edit_at<T>(
        &mut self,
        heads: &[ChangeHash],
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>,
    ) -> Result<(T, Vec<ChangeHash>), DocumentError> {
        self.try_edit_at(heads, |edit| f(edit).map_err(DocumentError::Edit))
    }

    /// [`Editor::edit_at`] for a closure with an error type of its own.
    ///
    /// # Errors
    /// As [`Editor::edit_at`].
    ///
    /// # Panics
    /// As [`Editor::edit_at`].
    pub fn try_edit_at<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        heads: &[ChangeHash],
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Vec<ChangeHash>), E> {
        self.document.space().peer().replica().edit_at(&mut self.editor, heads, f)
    }
}

impl fmt::Debug for Editor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.editor.fmt(f)
    }
}
