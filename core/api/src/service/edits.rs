//! Edits: one change for all of them, or a change for each. What is too large for one change is made in a draft, whose changes
//! are published together.

use anabranch::{Document, DocumentError, Draft, EditError, View};

use crate::service::import::write_all;
use crate::service::names::texts;
use crate::service::{IsBusy, Items, Kept, Service, unless_busy};
use crate::{Acknowledged, Code, EditStep, Edited, Failure, Reading, Which};

/// Edits that put in more than this, about, are made in a draft: they would hold up everything else. Guess: some 10 ms.
const DIRECT_BYTES_MAX: usize = 32 * 1024;

/// What to do.
pub(super) struct Order {
    pub(super) edits: Vec<EditStep>,
    /// A change for each.
    pub(super) each: bool,
    /// Answer when on disk.
    pub(super) saved: bool,
    /// How the values in them are meant.
    pub(super) reading: Reading,
    /// Line number of each edit, where they came as lines.
    pub(super) lines: Vec<u64>,
}

/// One edit of several failed. Nothing of its change was made.
struct Misfit {
    /// From 0.
    index: usize,
    error: DocumentError,
}

impl From<DocumentError> for Misfit {
    fn from(error: DocumentError) -> Self {
        Self { index: 0, error }
    }
}

impl From<EditError> for Misfit {
    fn from(error: EditError) -> Self {
        Self::from(DocumentError::Edit(error))
    }
}

impl Service {
    /// Makes the edits.
    pub(super) async fn edit(
        &self,
        kept: &Kept,
        which: &Which,
        order: Order,
        items: &Items,
    ) -> Result<Edited, Failure> {
        let document = self.document(kept, which).await?;
        let Order { edits, each, saved, reading, lines } = order;
        let lines = Lines { numbers: lines, single: edits.len() == 1 };
        let total = edits.len();
        let work = Work::new(&document, edits, reading, lines.clone());
        let go_on = if each { Work::each_a_change } else { Work::together };
        let (Work { made, .. }, result) = self.in_turns(&document, work, go_on).await?;
        result?;
        let Made { heads, changes, failed } = made;
        // Also what was made before the one that failed.
        if saved {
            document.saved().await?;
        }
        if each {
            for (index, heads) in heads.iter().enumerate() {
                items.put(Acknowledged { line: lines.number(index), heads: heads.clone(), saved }).await;
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        let heads = match heads.last() {
            Some(heads) => heads.clone(),
            None => texts(&document.heads()?),
        };
        Ok(Edited {
            space: document.space().id().to_string(),
            document: document.id().to_string(),
            heads,
            edits: total as u64,
            changes,
            saved,
        })
    }
}

/// How edits are called in errors.
#[derive(Clone)]
struct Lines {
    numbers: Vec<u64>,
    single: bool,
}

impl Lines {
    fn number(&self, index: usize) -> u64 {
        self.numbers.get(index).copied().unwrap_or(index as u64 + 1)
    }

    fn failure(&self, misfit: Misfit) -> Failure {
        let mut failure = Failure::from(misfit.error);
        let is_edit = matches!(failure.code, Code::Usage | Code::NotFound);
        if is_edit && !(self.single && self.numbers.is_empty()) {
            let number = self.number(misfit.index);
            let what = if self.numbers.is_empty() { "edit" } else { "line" };
            failure.message = format!("{what} {number}: {}", failure.message);
        }
        failure
    }
}

impl IsBusy for Misfit {
    fn is_busy(&self) -> bool {
        self.error.is_busy()
    }
}

/// What was made.
#[derive(Default)]
struct Made {
    /// The version after each edit, or after all.
    heads: Vec<Vec<String>>,
    /// Changes that came of it.
    changes: u64,
    /// Why the rest was not made.
    failed: Option<Failure>,
}

/// Edits under way, which go on where they were when the disk has caught up.
struct Work {
    document: Document,
    edits: Vec<EditStep>,
    reading: Reading,
    lines: Lines,
    made: Made,
    /// What was made in a draft and is not published yet, and in how many changes.
    draft: Option<(Draft, u64)>,
}

impl Work {
    fn new(document: &Document, edits: Vec<EditStep>, reading: Reading, lines: Lines) -> Self {
        Self { document: document.clone(), edits, reading, lines, made: Made::default(), draft: None }
    }

    /// All edits or none.
    fn together(&mut self) -> Option<Result<(), Failure>> {
        let Self { document, edits, reading, lines, made, draft } = self;
        let changes = unless_busy(all(document, edits, *reading, 0, draft))?;
        Some(changes.map_err(|misfit| lines.failure(misfit)).and_then(|changes| made.add(document, changes)))
    }

    /// Each edit as a change of its own, up to the first that fails.
    fn each_a_change(&mut self) -> Option<Result<(), Failure>> {
        let Self { document, edits, reading, lines, made, draft } = self;
        for (index, step) in edits.iter().enumerate().skip(made.heads.len()) {
            match unless_busy(all(document, std::slice::from_ref(step), *reading, index, draft))? {
                Ok(changes) => {
                    if let Err(failure) = made.add(document, changes) {
                        return Some(Err(failure));
                    }
                }
                Err(misfit) => {
                    made.failed = Some(lines.failure(misfit));
                    break;
                }
            }
        }
        Some(Ok(()))
    }
}

impl Made {
    /// So many changes more, which made the document as it is.
    fn add(&mut self, document: &Document, changes: u64) -> Result<(), Failure> {
        self.changes += changes;
        self.heads.push(texts(&document.heads()?));
        Ok(())
    }
}

/// Makes `steps` in one change if they fit into one, and returns in how many. `first` is the number of the first step, for errors.
/// Where the disk is behind, what is ready to be published stays in `draft`.
fn all(
    document: &Document,
    steps: &[EditStep],
    reading: Reading,
    first: usize,
    draft: &mut Option<(Draft, u64)>,
) -> Result<u64, Misfit> {
    if draft.is_none() && steps.iter().map(EditStep::weight).sum::<usize>() <= DIRECT_BYTES_MAX {
        match one_change(document, steps, reading, first) {
            Err(Misfit { error: DocumentError::Edit(EditError::ChangeTooLarge { .. }), .. }) => {}
            made => return made,
        }
    }
    let (mut made, changes) = match draft.take() {
        Some(made) => made,
        None => {
            let mut made = document.draft()?;
            let changes = in_pieces(&mut made, steps, reading, first)?;
            (made, changes)
        }
    };
    if let Err(error) = made.publish() {
        *draft = error.is_busy().then_some((made, changes));
        return Err(error.into());
    }
    Ok(changes)
}

/// Makes `steps` as one change.
fn one_change(document: &Document, steps: &[EditStep], reading: Reading, first: usize) -> Result<u64, Misfit> {
    document.try_edit(|edit| {
        apply(edit, steps, reading, first)?;
        Ok(u64::from(edit.has_changed()))
    })
}

fn apply(edit: &mut anabranch::Edit<'_>, steps: &[EditStep], reading: Reading, first: usize) -> Result<(), Misfit> {
    steps.iter().enumerate().try_for_each(|(index, step)| {
        step.apply(edit, reading).map_err(|error| Misfit { index: first + index, ..error.into() })
    })
}

/// Makes `steps` in a draft: small ones together, as many as surely fit into one change, large ones in several changes.
fn in_pieces(draft: &mut Draft, steps: &[EditStep], reading: Reading, first: usize) -> Result<u64, Misfit> {
    let mut changes = 0;
    let mut rest = steps;
    while let Some(step) = rest.first() {
        let at = first + steps.len() - rest.len();
        let mut weight = 0;
        let fits = |step: &&EditStep| {
            weight += step.weight();
            weight <= DIRECT_BYTES_MAX && !matches!(step, EditStep::Text { .. })
        };
        let (together, after) = rest.split_at(rest.iter().take_while(fits).count());
        if together.is_empty() {
            changes += one_in_pieces(draft, step, reading).map_err(|error| Misfit { index: at, error })?;
            rest = &rest[1..];
            continue;
        }
        let changed = draft.try_edit(|edit| {
            apply(edit, together, reading, at)?;
            Ok::<_, Misfit>(edit.has_changed())
        })?;
        changes += u64::from(changed);
        rest = after;
    }
    Ok(changes)
}

fn one_in_pieces(draft: &mut Draft, step: &EditStep, reading: Reading) -> Result<u64, DocumentError> {
    match draft.read(|view: &View<'_>| step.in_pieces(view, reading))? {
        Some(mut import) => write_all(draft, &mut import),
        None => {
            let changed = draft.edit(|edit| {
                step.apply(edit, reading)?;
                Ok(edit.has_changed())
            })?;
            Ok(u64::from(changed))
        }
    }
}
