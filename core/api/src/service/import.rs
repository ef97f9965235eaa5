//! Importing JSON of any size, and going back to an earlier version: what is to be done is found and checked as a whole, made in
//! a draft, and published at once. A document is as it was before or as was asked, here and at every peer.

use anabranch::import::{Import, Kinds, Rules};
use anabranch::{Document, DocumentError, Draft, EditError, Value, View};

use crate::service::names::texts;
use crate::service::reserved::Reservation;
use crate::service::{Service, naming};
use crate::{Failure, Imported, NAME_KEY, Reading, Strings, Which, check_import_bytes};

/// Imports of more bytes than this have memory taken for them ahead.
const LARGE_BYTES: u64 = 1024 * 1024;

/// What to import, and how.
pub(super) struct Order {
    pub(super) space: Option<String>,
    /// `None`: into a new document.
    pub(super) document: Option<Which>,
    /// Of the new one.
    pub(super) name: Option<String>,
    /// Even if the name is taken.
    pub(super) force: bool,
    pub(super) reading: Reading,
    /// In place of what is there.
    pub(super) replace: bool,
    /// Only say what would be done.
    pub(super) check: bool,
}

impl Service {
    /// Makes a document read as JSON text does, or makes one that does.
    pub(super) async fn import(&self, order: Order, text: Vec<u8>) -> Result<Imported, Failure> {
        let Order { space, document, name, force, reading, replace, check } = order;
        check_import_bytes(text.len())?;
        let is_new = document.is_none();
        let mut reservation = None;
        let document = match document {
            Some(which) => self.open(&which).await?,
            None => {
                let space = self.space(space.as_deref())?;
                if let Some(name) = &name {
                    reservation = self.reserve(&space, name, None, force).await?;
                }
                // It exists from what is published on, so that nothing is left of it if that fails.
                let document = space.create_with_first_edit().await?;
                if let Some(reservation) = &mut reservation {
                    reservation.keep_until_saved(&document);
                }
                document
            }
        };
        let value = self.blocking(move || read_object(&text, reading, name)).await??;
        if is_new {
            check_name(&value)?;
        }
        let kinds = if reading.typed { Kinds::Exact } else { Kinds::Keep };
        let find = move |view: &View<'_>| {
            let rules = Rules { replace, kinds, kept: Some(NAME_KEY) };
            Import::new(view, "", value, rules)
        };
        let made = self.make(&document, check, reservation, find).await;
        let mut imported = made.map_err(|failure| match failure {
            Unmade::Edit(error @ EditError::DocumentFull { .. }) if reading.strings == Strings::Text => Failure::usage(
                format!("{error}, or import strings that nobody edits by characters with `--strings plain`"),
            ),
            other => other.into(),
        })?;
        if is_new && imported.changes == 0 {
            // An empty object is a document as well, of one change.
            imported.changes = 1;
            if !check {
                let made = document.space().create_document_with(document.id()).await?;
                made.saved().await?;
                imported.heads = texts(&made.heads()?);
            }
        }
        if is_new && check {
            imported.document = None;
        }
        Ok(imported)
    }

    /// Makes a document read as it did at an earlier version.
    pub(super) async fn revert(&self, which: &Which, to: &[String]) -> Result<Imported, Failure> {
        let document = self.open(which).await?;
        let heads = self.versions(&document, to).await?;
        let find = move |view: &View<'_>| {
            let earlier = view.earlier(&heads).map_err(|unknown| DocumentError::UnknownHeads(unknown.0))?;
            let value = earlier.value("").unwrap_or_default();
            Ok::<_, Unmade>(Import::new(view, "", value, Rules { kinds: Kinds::Exact, ..Rules::default() })?)
        };
        Ok(self.make(&document, false, None, find).await?)
    }

    /// Does what `find` finds to be done, or only finds out what that comes to.
    async fn make<E: Into<Unmade> + Send + 'static>(
        &self,
        document: &Document,
        check: bool,
        reservation: Option<Reservation>,
        find: impl FnOnce(&View<'_>) -> Result<Import, E> + Send + 'static,
    ) -> Result<Imported, Unmade> {
        let made = self.in_draft(document, !check, move |draft| {
            let (before, import) = draft.read(|view| (view.heads(), find(view)));
            let mut import = import.map_err(Into::into)?;
            let changes = write_all(draft, &mut import)?;
            Ok::<_, Unmade>((before, import.tally(), changes, reservation))
        });
        let (before, tally, changes, reservation) = made.await?;
        let heads = if check { before.clone() } else { document.heads()? };
        if !check {
            document.saved().await.map_err(Failure::from)?;
        }
        reservation.into_iter().for_each(Reservation::release);
        let goes_back = !check && changes > 0 && !before.is_empty();
        Ok(Imported {
            space: document.space().id().to_string(),
            document: Some(document.id().to_string()),
            heads: texts(&heads),
            operations: tally.operations,
            bytes: tally.bytes,
            added: tally.added,
            changed: tally.changed,
            removed: tally.removed,
            changes,
            saved: !check,
            revert: goes_back.then(|| self.revert_command(document, &texts(&before))),
            before: texts(&before),
        })
    }

    fn revert_command(&self, document: &Document, before: &[String]) -> String {
        let space = match self.peer().spaces().len() {
            1 => String::new(),
            _ => format!(" --space {}", document.space().id()),
        };
        format!("anabranch doc revert {} --to {}{space}", document.id(), before.join(","))
    }
}

/// Why something was not made.
pub(super) enum Unmade {
    Edit(EditError),
    Document(DocumentError),
    Failure(Failure),
}

impl From<EditError> for Unmade {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

impl From<DocumentError> for Unmade {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Edit(error) => Self::Edit(error),
            error => Self::Document(error),
        }
    }
}

impl From<Failure> for Unmade {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Unmade> for Failure {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::Edit(error) => DocumentError::Edit(error).into(),
            Unmade::Document(error) => error.into(),
            Unmade::Failure(failure) => failure,
        }
    }
}

fn read_object(text: &[u8], reading: Reading, name: Option<String>) -> Result<Value, Failure> {
    let mut value = reading.parse(text).map_err(Failure::usage)?;
    let Value::Map(members) = &mut value else {
        return Err(Failure::usage(format!("a document is a JSON object, this is {}", value.kind())));
    };
    if let Some(name) = name {
        members.insert(NAME_KEY.to_owned(), Value::Text(name));
    }
    Ok(value)
}

/// Refuses a file for a new document that gives it a name which no command could mean.
fn check_name(value: &Value) -> Result<(), Failure> {
    let Value::Map(members) = value else { return Ok(()) };
    match members.get(NAME_KEY) {
        Some(Value::Text(name) | Value::Plain(name)) => naming::check_document(name),
        _ => Ok(()),
    }
}

/// Writes all of it, and says in how many changes.
pub(super) fn write_all(draft: &mut Draft, import: &mut Import) -> Result<u64, DocumentError> {
    let bytes = import.tally().bytes;
    if bytes > LARGE_BYTES {
        // Changes have a little more than what is in them.
        draft.reserve(bytes + bytes / 8);
    }
    let mut changes = 0;
    while !import.is_done() {
        let changed = draft.edit(|edit| {
            import.write(edit)?;
            Ok(edit.has_changed())
        })?;
        changes += u64::from(changed);
    }
    Ok(changes)
}
