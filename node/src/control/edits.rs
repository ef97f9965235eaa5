//! Edits: one change for all, or a change for each.

use anabranch::{Document, DocumentError, EditError};
use futures::executor::block_on;

use crate::control::documents::blocking;
use crate::control::names::{Expect, texts};
use crate::control::{Answers, Control};
use crate::failure::Failure;
use anabranch_protocol::{Acknowledged, EditStep, Edited, Exit, Which};

/// What to do.
pub(super) struct Order {
    pub(super) edits: Vec<EditStep>,
    /// A change for each.
    pub(super) each: bool,
    /// Answer when on disk.
    pub(super) saved: bool,
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

impl Control {
    /// Makes the edits. The outer error is the connection's.
    pub(super) async fn edit(
        &self,
        open: &mut Option<Document>,
        which: &Which,
        order: Order,
        answers: &mut Answers,
    ) -> std::io::Result<Result<Edited, Failure>> {
        let document = match self.document(open, which, Expect::Any).await {
            Ok(document) => document,
            Err(failure) => return Ok(Err(failure)),
        };
        let Order { edits, each, saved, lines } = order;
        let lines = Lines { numbers: lines, single: edits.len() == 1 };
        let total = edits.len();
        let made = if each {
            each_a_change(&document, edits, lines.clone()).await
        } else {
            one_change(&document, edits, lines.clone()).await.map(|heads| (vec![heads; usize::from(total > 0)], None))
        };
        let (made, failed) = match made {
            Ok(made) => made,
            Err(failure) => return Ok(Err(failure)),
        };
        // Also what was made before the one that failed.
        if saved && let Err(stopped) = document.saved().await {
            return Ok(Err(stopped.into()));
        }
        if each {
            for (index, heads) in made.iter().enumerate() {
                answers.item(&Acknowledged { line: lines.number(index), heads: heads.clone(), saved }).await?;
            }
        }
        if let Some(failure) = failed {
            return Ok(Err(failure));
        }
        let heads = match made.last() {
            Some(heads) => heads.clone(),
            None => match document.heads() {
                Ok(heads) => texts(&heads),
                Err(error) => return Ok(Err(error.into())),
            },
        };
        Ok(Ok(Edited {
            space: document.space().id().to_string(),
            document: document.id().to_string(),
            heads,
            edits: total as u64,
            changes: made.len() as u64,
            saved,
        }))
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
        let is_edit = matches!(failure.exit, Exit::Usage | Exit::NotFound);
        if is_edit && !(self.single && self.numbers.is_empty()) {
            let number = self.number(misfit.index);
            let what = if self.numbers.is_empty() { "edit" } else { "line" };
            failure.message = format!("{what} {number}: {}", failure.message);
        }
        failure
    }
}

async fn one_change(document: &Document, edits: Vec<EditStep>, lines: Lines) -> Result<Vec<String>, Failure> {
    let document = document.clone();
    blocking(move || {
        change(&document, &edits, 0).map_err(|misfit| lines.failure(misfit))?;
        Ok(texts(&document.heads()?))
    })
    .await?
}

/// The heads after each edit, and why the rest was not made.
async fn each_a_change(
    document: &Document,
    edits: Vec<EditStep>,
    lines: Lines,
) -> Result<(Vec<Vec<String>>, Option<Failure>), Failure> {
    let document = document.clone();
    blocking(move || {
        let mut made = Vec::new();
        for (index, step) in edits.iter().enumerate() {
            if let Err(misfit) = change(&document, std::slice::from_ref(step), index) {
                let failure = lines.failure(misfit);
                return Ok((made, Some(failure)));
            }
            made.push(texts(&document.heads()?));
        }
        Ok((made, None))
    })
    .await?
}

/// Makes one change of `steps`, the first of which is number `first`. Where edits come faster than the disk takes them, it
/// waits for the disk.
fn change(document: &Document, steps: &[EditStep], first: usize) -> Result<(), Misfit> {
    loop {
        let made = document.try_edit(|edit| {
            steps.iter().enumerate().try_for_each(|(index, step)| {
                step.apply(edit).map_err(|error| Misfit { index: first + index, ..error.into() })
            })
        });
        match made {
            Err(Misfit { error: DocumentError::Busy(_), .. }) => {
                block_on(document.saved()).map_err(|stopped| DocumentError::Stopped(stopped.reason))?;
            }
            made => return made,
        }
    }
}
