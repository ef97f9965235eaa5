//! Editors: each edits a document at the version that it has seen, which others have left behind, perhaps. A browser tab is
//! one, or a remote client that sends keystrokes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::document::actors::Taking;
use crate::document::{Author, Document, Edit, EditError, UnknownHeads};
use crate::id::{ActorId, ChangeHash, DocumentId, SpaceId};
use crate::limits::{CHANGE_DEPS_MAX, EDITORS_MAX, EDITORS_PER_DOCUMENT_MAX};

/// Someone who edits a document at versions of its own. It always has seen its own edits, whatever else it has seen. Its actor is
/// drawn at its first edit, and free for others when it is dropped.
#[derive(Debug)]
pub struct Editor {
    space: SpaceId,
    document: DocumentId,
    /// As long as these are here, it counts.
    _seats: [Arc<Seat>; 2],
    /// As long as this is here, nobody else gets its actor.
    taking: Arc<Taking>,
    actor: Option<ActorId>,
    /// Its last change.
    last: Option<ChangeHash>,
    /// Heads that this change comes after, sorted.
    seen: Vec<ChangeHash>,
}

/// Places for editors. One is free again when its editor is dropped.
#[derive(Debug, Default)]
pub struct Seats(Arc<Seat>);

/// One of them.
#[derive(Debug, Default)]
struct Seat;

/// There are too many editors. Those that are dropped do not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{of} has {value} editors, limit {limit}")]
pub struct TooManyEditors {
    /// How many there would be.
    pub value: usize,
    /// `this document`, `this replica`
    pub of: &'static str,
    /// What is allowed.
    pub limit: usize,
}

/// A version that a document has: what an editor has seen, with its own edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    heads: Vec<ChangeHash>,
    /// What was seen, sorted.
    seen: Vec<ChangeHash>,
}

/// What an edit at a version returns: the closure's value, and the version that the editor has seen then.
pub type EditedAt<T> = (T, Vec<ChangeHash>);

impl Seats {
    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    fn take(&self, of: &'static str, limit: usize) -> Result<Arc<Seat>, TooManyEditors> {
        let value = self.taken() + 1;
        if value <= limit { Ok(self.0.clone()) } else { Err(TooManyEditors { value, of, limit }) }
    }
}

impl Editor {
    /// The space.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The document.
    pub fn document(&self) -> DocumentId {
        self.document
    }

    /// The actor that it edits under, from its first edit on. It gets another one if a copy of this process has used that.
    pub fn actor(&self) -> Option<ActorId> {
        self.actor
    }
}

impl Document {
    /// Someone who edits at versions of its own, and takes a place of the replica's.
    ///
    /// # Errors
    /// There are [`EDITORS_PER_DOCUMENT_MAX`] editors of this document, or [`EDITORS_MAX`] in all.
    pub fn editor(&self, replica: &Seats) -> Result<Editor, TooManyEditors> {
        let here = self.editors.take("this document", EDITORS_PER_DOCUMENT_MAX)?;
        let all = replica.take("this replica", EDITORS_MAX)?;
        let (space, document, taking) = (self.space, self.id, Arc::new(Taking));
        Ok(Editor { space, document, _seats: [here, all], taking, actor: None, last: None, seen: Vec::new() })
    }

    /// What an editor has seen that says that it has seen `heads`: these and its own edits.
    ///
    /// # Errors
    /// Names the first change that is not here.
    pub fn version(&self, editor: &Editor, heads: &[ChangeHash]) -> Result<Version, UnknownHeads> {
        let mut seen = heads.to_vec();
        seen.sort_unstable();
        seen.dedup();
        if let Some(unknown) = seen.iter().find(|head| !self.history.has(head)) {
            return Err(UnknownHeads(*unknown));
        }
        let last = self.last_of(editor);
        let is_covered = |head: &ChangeHash| last.is_some() && editor.seen.binary_search(head).is_ok();
        let mut heads: Vec<ChangeHash> = seen.iter().copied().filter(|head| !is_covered(head)).chain(last).collect();
        heads.sort_unstable();
        heads.dedup();
        Ok(Version { heads, seen })
    }

    /// An editor's last change. Damage may have taken it: then the editor begins again, with an actor of its own.
    fn last_of(&self, editor: &Editor) -> Option<ChangeHash> {
        editor.last.filter(|last| self.history.has(last))
    }

    /// As [`Document::edit`], at a version of an editor: paths and positions are those of that version, and the change depends on
    /// exactly that. Returns the version that the editor has seen after it, besides what `edit` returns.
    pub fn edit_at<T, E: From<EditError>>(
        &mut self,
        author: Author,
        editor: &mut Editor,
        version: Version,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(EditedAt<T>, bool), E> {
        let Author { device, fresh_actor, wall_s } = author;
        let Version { heads, seen } = version;
        if heads.len() > CHANGE_DEPS_MAX {
            return Err(EditError::TooManyHeads { value: heads.len(), limit: CHANGE_DEPS_MAX }.into());
        }
        let is_newest = self.history.is_newest(&heads);
        let last = self.last_of(editor);
        let own = editor.actor.filter(|actor| last.is_some() && self.is_at(actor, last));
        // An actor's changes are a chain: another's is for an editor that has seen all of it.
        let actor = own.or_else(|| self.free_actor().filter(|_| is_newest)).unwrap_or(fresh_actor);
        let follow = self.journal.is_kept();
        let (value, committed) = if is_newest {
            self.history.edit(actor, device, wall_s, &mut self.cache, follow, f)?
        } else {
            self.history.edit_at(actor, device, wall_s, &heads, follow, f)?
        };
        let Some(committed) = committed else { return Ok(((value, heads), false)) };
        if !is_newest {
            // What was found in the newest version may have another length now, or be elsewhere.
            self.cache.clear();
        }
        self.keep_actor(actor, Arc::downgrade(&editor.taking));
        self.keep_local(device, committed);
        editor.actor = Some(actor);
        editor.last = self.history.tip(&actor).map(|(_, tip)| tip);
        editor.seen = seen;
        Ok(((value, editor.last.into_iter().collect()), true))
    }
}
