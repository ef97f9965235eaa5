//! Documents: making, listing, reading.

use std::cmp::Reverse;

use anabranch::{ChangeHash, Document, DocumentError, DocumentInfo, Path, Space};

use crate::service::names::texts;
use crate::service::naming::Taken;
use crate::service::pattern::Pattern;
use crate::service::reserved::Reservation;
use crate::service::{Items, Kept, Service, yield_now};
use crate::{Code, Count, DocumentLine, EXPORT_PIECE_BYTES, Edited, Exported, Failure, Got, Sort, Which};

/// Documents that one command makes before it waits for the disk.
const NEW_TOGETHER: usize = 100;

/// What became of documents that were to be made together.
struct Together {
    /// These are saved.
    made: Vec<Edited>,
    /// So many were made, and it is not known whether they are saved.
    unknown: usize,
    result: Result<(), Failure>,
}

impl Service {
    pub(super) async fn new_document(
        &self,
        space: Option<&str>,
        name: Option<&str>,
        force: bool,
    ) -> Result<Edited, Failure> {
        let space = self.space(space)?;
        let Some(name) = name else {
            let document = space.create_document().await?;
            document.saved().await?;
            return edited(&document, 0, 1);
        };
        let mut reservation = self.reserve(&space, name, None, force).await?;
        let document = space.create_with_first_edit().await?;
        give_name(&document, name, &mut reservation).await?;
        document.saved().await?;
        reservation.into_iter().for_each(Reservation::release);
        edited(&document, 1, 1)
    }

    /// Makes a document for each line, blank ones left out. All names are looked at before the first one is made; each document is
    /// an item when it is on disk.
    pub(super) async fn new_documents(
        &self,
        space: Option<&str>,
        lines: &[String],
        force: bool,
        items: &Items,
    ) -> Result<Count, Failure> {
        let space = self.space(space)?;
        let mut taken = Taken::of(&space, || self.shared.reserved.of(space.id()));
        taken.check_all_new(lines, force)?;
        let names: Vec<&str> = lines.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        let mut saved = 0;
        for names_of_some in names.chunks(NEW_TOGETHER) {
            let Together { made, unknown, result } = self.new_together(&space, names_of_some, &mut taken, force).await;
            saved += made.len();
            for line in made {
                items.put(line).await;
            }
            if let Err(failure) = result {
                let more = if unknown == 0 { String::from("no more") } else { format!("perhaps {unknown} more") };
                let message = format!("{saved} of {} documents are made and saved, {more}: {failure}", names.len());
                return Err(Failure { message, ..failure });
            }
        }
        Ok(Count { items: saved })
    }

    /// Makes some documents, and saves them together: also those that were made before one could not be.
    async fn new_together(&self, space: &Space, names: &[&str], taken: &mut Taken, force: bool) -> Together {
        let mut made = Vec::with_capacity(names.len());
        let mut unknown = 0;
        let mut last = None;
        let mut reservations = Vec::new();
        let mut result = Ok(());
        for name in names {
            match self.new_named(space, name, taken, force).await {
                Ok((document, reservation)) => {
                    reservations.extend(reservation);
                    match edited(&document, 1, 1) {
                        Ok(line) => made.push(line),
                        Err(failure) => (unknown, result) = (1, Err(failure)),
                    }
                    last = Some(document);
                }
                Err(failure) => result = Err(failure),
            }
            if result.is_err() {
                break;
            }
        }
        // What is saved is saved in the order in which it was made.
        if let Some(document) = last
            && let Err(error) = document.saved().await
        {
            unknown += made.len();
            return Together { made: Vec::new(), unknown, result: result.and(Err(error.into())) };
        }
        reservations.into_iter().for_each(Reservation::release);
        Together { made, unknown, result }
    }

    /// Makes one of many documents. If it fails, there is none: one that begins with its first edit is gone without it.
    async fn new_named(
        &self,
        space: &Space,
        name: &str,
        taken: &mut Taken,
        force: bool,
    ) -> Result<(Document, Option<Reservation>), Failure> {
        // Others are not to wait for all of them.
        yield_now().await;
        let mut reservation =
            if force { None } else { Some(self.shared.reserved.reserve(Some(space.id()), name).await?) };
        taken.check_new(name, force)?;
        let document = space.create_with_first_edit().await?;
        give_name(&document, name, &mut reservation).await?;
        Ok((document, reservation))
    }

    pub(super) async fn rename(&self, kept: &Kept, which: &Which, name: &str, force: bool) -> Result<Edited, Failure> {
        let document = self.document(kept, which).await?;
        if document.text("/name")?.as_deref() == Some(name) {
            return edited(&document, 0, 0);
        }
        let mut reservation = self.reserve(document.space(), name, Some(document.id()), force).await?;
        give_name(&document, name, &mut reservation).await?;
        document.saved().await?;
        reservation.into_iter().for_each(Reservation::release);
        edited(&document, 1, 1)
    }

    /// The documents of a space, as their records say. None is opened.
    pub(super) fn document_lines(
        &self,
        space: Option<&str>,
        pattern: Option<&str>,
        sort: Sort,
    ) -> Result<Vec<DocumentLine>, Failure> {
        let space = self.space(space)?;
        let mut documents = space.list();
        if let Some(pattern) = pattern.map(Pattern::new) {
            documents.retain(|info| info.summary.name.as_deref().is_some_and(|name| pattern.fits(name)));
        }
        match sort {
            Sort::Id => {}
            Sort::Name => documents.sort_by_cached_key(|info| (info.summary.name.is_none(), info.summary.name.clone())),
            Sort::Size => documents.sort_by_key(|info| Reverse(info.summary.bytes)),
            Sort::Changed => documents.sort_by_key(|info| Reverse(info.summary.changed_s)),
        }
        let line = |info: DocumentInfo| DocumentLine {
            space: space.id().to_string(),
            document: info.document.to_string(),
            name: info.summary.name,
            bytes: info.summary.bytes,
            ops: info.summary.ops,
            changed_s: info.summary.changed_s,
            heads: texts(&info.heads),
            problem: info.problem,
        };
        Ok(documents.into_iter().map(line).collect())
    }

    pub(super) async fn get(
        &self,
        kept: &Kept,
        which: &Which,
        path: String,
        at: &[String],
        typed: bool,
    ) -> Result<Got, Failure> {
        let path: Path = path.parse().map_err(Failure::usage)?;
        let document = self.document(kept, which).await?;
        let (heads, found) = self
            .read(&document, at, {
                let path = path.clone();
                move |view| {
                    let value = match typed {
                        true => view.value(path).map(|value| value.tagged().into_json()),
                        false if path.is_root() => Some(view.json()),
                        false => view.get(path),
                    };
                    (view.heads(), value)
                }
            })
            .await?;
        let value = found
            .ok_or_else(|| Failure::not_found(format!("there is nothing at `{path}` in document {}", document.id())))?;
        Ok(Got {
            space: document.space().id().to_string(),
            document: document.id().to_string(),
            heads: texts(&heads),
            value,
        })
    }

    /// The document as JSON text, in pieces.
    pub(super) async fn export(
        &self,
        kept: &Kept,
        which: &Which,
        at: &[String],
        typed: bool,
        items: &Items,
    ) -> Result<Exported, Failure> {
        let document = self.document(kept, which).await?;
        let (heads, text) = self
            .read(&document, at, move |view| {
                let json = if typed { view.value("").unwrap_or_default().tagged().into_json() } else { view.json() };
                (view.heads(), format!("{json:#}"))
            })
            .await?;
        for piece in pieces(&text) {
            items.put(piece.to_owned()).await;
        }
        Ok(Exported {
            space: document.space().id().to_string(),
            document: document.id().to_string(),
            heads: texts(&heads),
            bytes: text.len() as u64,
        })
    }

    /// Reads a document as it is, or as it was at `at`.
    async fn read<T: Send + 'static>(
        &self,
        document: &Document,
        at: &[String],
        f: impl FnOnce(&anabranch::View<'_>) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let heads = self.versions(document, at).await?;
        let document = document.clone();
        let read = move || if heads.is_empty() { document.read(f) } else { document.read_at(&heads, f) };
        Ok(self.blocking(read).await??)
    }

    /// Change hashes, whole or as the first digits that `doc log` shows.
    pub(super) async fn versions(&self, document: &Document, at: &[String]) -> Result<Vec<ChangeHash>, Failure> {
        let mut history = None;
        let mut heads = Vec::new();
        for text in at {
            if let Ok(hash) = text.parse() {
                heads.push(hash);
                continue;
            }
            if history.is_none() {
                let document = document.clone();
                history = Some(self.blocking(move || document.history()).await??);
            }
            let lower = text.to_ascii_lowercase();
            let mut fitting = history.iter().flatten().filter(|change| change.hash.to_string().starts_with(&lower));
            match (fitting.next(), fitting.next()) {
                (Some(change), None) if !lower.is_empty() => heads.push(change.hash),
                (Some(_), _) => {
                    return Err(Failure::new(
                        Code::Ambiguous,
                        format!("`{text}` may be several changes of this document: use more digits"),
                    ));
                }
                (None, _) => {
                    return Err(Failure::not_found(format!(
                        "change `{text}` is not in this document: see `anabranch doc log`"
                    )));
                }
            }
        }
        Ok(heads)
    }
}

/// Names a document. The name is not free again before that is saved.
async fn give_name(document: &Document, name: &str, reservation: &mut Option<Reservation>) -> Result<(), Failure> {
    if let Some(reservation) = reservation {
        reservation.keep_until_saved(document);
    }
    loop {
        match document.edit(|edit| edit.set("/name", name)) {
            // Edits come faster than the disk takes them.
            Err(DocumentError::Busy(_)) => document.saved().await?,
            given => return Ok(given?),
        }
    }
}

pub(super) fn edited(document: &Document, edits: u64, changes: u64) -> Result<Edited, Failure> {
    Ok(Edited {
        space: document.space().id().to_string(),
        document: document.id().to_string(),
        heads: texts(&document.heads()?),
        edits,
        changes,
        saved: true,
    })
}

/// JSON text in pieces of about the same length.
fn pieces(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(EXPORT_PIECE_BYTES));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        let text = "ü".repeat(EXPORT_PIECE_BYTES);
        let cut: Vec<&str> = pieces(&text).collect();
        assert_eq!(cut.concat(), text);
        assert!(cut.len() >= 2 && cut.iter().all(|piece| piece.len() <= EXPORT_PIECE_BYTES));
    }
}
