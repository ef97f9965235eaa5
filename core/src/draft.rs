//! `Draft`: several changes of a document, published together.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anabranch_engine::document as engine;

use crate::{Document, DocumentError, Edit, EditError, View};

/// Changes of a document that nobody sees until they are published, all of them at once; made by [`Document::draft`]. Dropping
/// it discards them. It keeps the document open.
///
/// At most [`RUN_CHANGES_MAX`](crate::limits::RUN_CHANGES_MAX) changes, and
/// [`RUN_BYTES_MAX`](crate::limits::RUN_BYTES_MAX) bytes of them.
pub struct Draft {
    document: Document,
    draft: engine::Draft,
}

impl Draft {
    pub(crate) fn new(document: Document, draft: engine::Draft) -> Self {
        Self { document, draft }
    }

    /// The document that it is a draft of.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Runs `f` on the caller's thread and keeps what it did as one more change of the draft. If `f` fails or panics, the
    /// draft is as before. The replica goes on meanwhile, and `f` may use it.
    ///
    /// # Errors
    /// `f`'s, or a limit that the edit or the whole draft passed.
    ///
    /// # Panics
    /// If `f` does.
    pub fn edit<T>(&mut self, f: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>) -> Result<T, DocumentError> {
        self.try_edit(|edit| f(edit).map_err(DocumentError::Edit))
    }

    /// [`Draft::edit`] for a closure with an error type of its own.
    ///
    /// # Errors
    /// As [`Draft::edit`].
    ///
    /// # Panics
    /// As [`Draft::edit`].
    pub fn try_edit<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut panic = None;
        // A panic becomes an error while automerge is on the stack, so that the edit is rolled back as for any other.
        let result = self.draft.edit(|edit| {
            catch_unwind(AssertUnwindSafe(|| f(edit))).unwrap_or_else(|payload| {
                panic = Some(payload);
                Err(E::from(DocumentError::Stopped("the closure panicked".to_owned())))
            })
        });
        match panic {
            Some(payload) => resume_unwind(payload),
            None => result,
        }
    }

    /// Takes memory for so many bytes of changes, if it is known that they will come. Large drafts take less memory then.
    pub fn reserve(&mut self, bytes: u64) {
        self.draft.reserve(bytes);
    }

    /// Runs `f` on the document with the draft's changes.
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> T {
        f(&self.draft.view())
    }

    /// Makes the draft part of the document, as a whole: what was done to the document meanwhile is merged with it. Says
    /// whether there was anything to publish. [`Document::saved`] says when it is on disk. A published draft takes no more
    /// edits.
    ///
    /// # Errors
    /// Our role, the replica has stopped, [`DocumentError::Busy`], or the draft does not fit. The document is unchanged; after
    /// `Busy` the draft can be published later.
    pub fn publish(&mut self) -> Result<bool, DocumentError> {
        self.document.space().peer().replica().publish(&mut self.draft)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.draft.fmt(f)
    }
}
