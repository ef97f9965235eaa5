//! Conflicts and lost edits: which there are, and how they are resolved.

use anabranch::import::{Import, Kinds, Rules};
use anabranch::{ActorId, Conflict, DeviceId, DocumentError, Draft, Edit, EditError, LostEdit, Path, Value, View};

use crate::service::documents::edited;
use crate::service::import::write_all;
use crate::service::{Kept, Service};
use crate::{ConflictLine, ConflictValue, ConflictWriter, Failure, Reading, Resolved, Take, Which};

/// A value takes the place of what is there by what differs, and stays of its kind.
const DIFFERENCE: Rules<'_> = Rules { replace: false, kinds: Kinds::Exact, kept: None };
/// A value takes the place of everything that is there.
const REPLACE: Rules<'_> = Rules { replace: true, kinds: Kinds::Exact, kept: None };

impl Service {
    pub(super) async fn conflicts(
        &self,
        kept: &Kept,
        which: &Which,
        path: Option<String>,
    ) -> Result<Vec<ConflictLine>, Failure> {
        let path: Option<Path> = path.map(|path| path.parse()).transpose().map_err(Failure::usage)?;
        let document = self.document(kept, which).await?;
        let Found { conflicts, lost } =
            self.blocking(move || document.read(|view| Found::at(view, path.as_ref()))).await??;
        let conflicts = conflicts.into_iter().map(|(path, values)| ConflictLine {
            path: path.to_string(),
            values: values.into_iter().map(conflict_value).collect(),
            removed_by: None,
        });
        let mut lines: Vec<ConflictLine> = conflicts.chain(lost.into_iter().map(lost_line)).collect();
        self.name_writers(&mut lines);
        Ok(lines)
    }

    /// Says what the devices in these lines are called.
    fn name_writers(&self, lines: &mut [ConflictLine]) {
        for line in lines {
            let values = line.values.iter_mut().map(|value| &mut value.writer);
            for writer in values.chain(&mut line.removed_by) {
                let device = writer.device.as_ref().and_then(|device| device.parse().ok());
                writer.device_name = device.and_then(|device| self.peer().device_name(&device));
            }
        }
    }

    /// Makes one value the only one, at a path or wherever there are several. What others do meanwhile is merged with that.
    pub(super) async fn resolve(
        &self,
        which: &Which,
        path: Option<String>,
        take: Take,
        reading: Reading,
    ) -> Result<Resolved, Failure> {
        let path: Option<Path> = path.map(|path| path.parse()).transpose().map_err(Failure::usage)?;
        let take = match take {
            Take::Value(value) => {
                let value = reading.value(&value).map_err(Failure::usage)?;
                if reading.typed { Chosen::Value(value) } else { Chosen::PlainValue(value) }
            }
            take => Chosen::Take(take),
        };
        let document = self.open(which).await?;
        let device = self.peer().device();
        let made = self.in_draft(&document, true, move |draft| {
            let plan = draft.read(|view| Plan::new(view, path.as_ref(), take, device))?;
            let changes = plan.make(draft)?;
            let left = draft.read(|view| Found::at(view, None));
            Ok::<_, Failure>((plan, changes, left))
        });
        let (plan, changes, left) = made.await?;
        document.saved().await?;
        let (conflicts, lost) = (plan.conflicts(), plan.lost());
        Ok(Resolved {
            edited: edited(&document, conflicts + lost, changes)?,
            conflicts,
            lost,
            left: (left.conflicts.len() + left.lost.len()) as u64,
        })
    }
}

/// What there is to be resolved.
struct Found {
    conflicts: Vec<(Path, Vec<Conflict>)>,
    lost: Vec<LostEdit>,
}

impl Found {
    /// In all of the document; or the conflict at a path, and the lost edits at or below it.
    fn at(view: &View<'_>, path: Option<&Path>) -> Self {
        let Some(path) = path else { return Self { conflicts: view.all_conflicts(), lost: view.lost_edits() } };
        let values = view.conflicts(path);
        let conflicts = if values.is_empty() { Vec::new() } else { vec![(path.clone(), values)] };
        Self { conflicts, lost: view.lost_edits_below(path) }
    }
}

/// What becomes the only value.
enum Chosen {
    Take(Take),
    Value(Value),
    /// Of plain JSON, which has fewer kinds than documents.
    PlainValue(Value),
}

/// What is to be done, in this order: what is inside something before that.
#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    given_up: Vec<LostEdit>,
    brought_back: u64,
}

enum Step {
    Resolve(Path, Conflict),
    Set(Path, Value),
    Merge(Path, Value),
    Increment(Path, i64),
    Remove(Path),
}

impl Plan {
    fn new(view: &View<'_>, path: Option<&Path>, chosen: Chosen, device: DeviceId) -> Result<Self, Failure> {
        let Found { conflicts, lost } = Found::at(view, path);
        match (path, chosen) {
            (None, Chosen::Take(take @ (Take::Shown | Take::Mine | Take::Newest))) => {
                let steps = conflicts.into_iter().rev().filter_map(|(path, values)| {
                    let conflict = choose(values, &take, device)?;
                    Some(Step::Resolve(path, conflict))
                });
                let given_up = if take == Take::Shown { lost } else { Vec::new() };
                Ok(Self { steps: steps.collect(), given_up, ..Self::default() })
            }
            (None, _) => Err(Failure::usage("this is for one place: give its path")),
            (Some(path), _) if conflicts.is_empty() && lost.is_empty() => {
                Err(Failure::not_found(format!("there is no conflict at `{path}`")))
            }
            (Some(path), Chosen::PlainValue(value)) => {
                Self::new(view, Some(path), Chosen::Value(of_kind(view.kind(path), value)), device)
            }
            (Some(path), Chosen::Value(value)) => {
                Ok(Self { steps: vec![Step::Set(path.clone(), value)], given_up: lost, ..Self::default() })
            }
            (Some(path), Chosen::Take(Take::Lost)) => {
                let latest = lost.iter().rev().find(|edit| edit.path == *path);
                let latest = latest.ok_or_else(|| Failure::not_found(format!("no edit of `{path}` was lost")))?;
                let step = bring_back(view, latest)?;
                Ok(Self { steps: vec![step], given_up: vec![latest.clone()], brought_back: 1 })
            }
            (Some(path), Chosen::Take(take)) => {
                let steps = match conflicts.into_iter().next() {
                    None if take == Take::Shown => Vec::new(),
                    None => {
                        return Err(Failure::not_found(format!(
                            "there is no conflict at `{path}`, only lost edits: `--take lost` brings one back, `--take shown` gives them up"
                        )));
                    }
                    Some((path, values)) => {
                        let count = values.len();
                        let conflict = choose(values, &take, device).ok_or_else(|| match take {
                            Take::Number(_) => Failure::usage(format!("`{path}` has the values 1 to {count}")),
                            _ => Failure::not_found(format!("none of the values at `{path}` is of this device")),
                        })?;
                        vec![Step::Resolve(path, conflict)]
                    }
                };
                let given_up = if take == Take::Shown { lost } else { Vec::new() };
                Ok(Self { steps, given_up, ..Self::default() })
            }
        }
    }

    fn conflicts(&self) -> u64 {
        self.steps.len() as u64 - self.brought_back
    }

    fn lost(&self) -> u64 {
        self.given_up.len() as u64
    }

    /// Makes it in a draft, as one change if that holds it, and says in how many.
    fn make(&self, draft: &mut Draft) -> Result<u64, DocumentError> {
        let together = draft.edit(|edit| {
            self.steps.iter().try_for_each(|step| step.apply(edit))?;
            edit.give_up(&self.given_up)?;
            Ok(edit.has_changed())
        });
        match together {
            Err(DocumentError::Edit(EditError::ChangeTooLarge { .. })) => {}
            made => return made.map(u64::from),
        }
        let mut changes = 0;
        for step in &self.steps {
            let import = draft.read(|view| step.in_pieces(view));
            changes += match import? {
                Some(mut import) => write_all(draft, &mut import)?,
                None => u64::from(draft.edit(|edit| step.apply(edit).map(|()| edit.has_changed()))?),
            };
        }
        let changed = draft.edit(|edit| edit.give_up(&self.given_up).map(|()| edit.has_changed()))?;
        Ok(changes + u64::from(changed))
    }
}

impl Step {
    fn apply(&self, edit: &mut Edit<'_>) -> Result<(), EditError> {
        match self {
            Self::Resolve(path, conflict) => edit.resolve(path, conflict),
            Self::Set(path, value) => edit.set(path, value.clone()),
            Self::Merge(path, value) => edit.merge(path, value.clone(), DIFFERENCE),
            Self::Increment(path, by) => edit.increment(path, *by),
            Self::Remove(path) => edit.remove(path),
        }
    }

    /// `None` for what is small.
    fn in_pieces(&self, view: &View<'_>) -> Result<Option<Import>, EditError> {
        match self {
            Self::Resolve(path, conflict) => Import::resolution(view, path, conflict).map(Some),
            Self::Set(path, value) => Import::new(view, path, value.clone(), REPLACE).map(Some),
            Self::Merge(path, value) => Import::new(view, path, value.clone(), DIFFERENCE).map(Some),
            Self::Increment(..) | Self::Remove(_) => Ok(None),
        }
    }
}

/// A value of plain JSON as what is shown at its place, where JSON has no such kind.
fn of_kind(shown: Option<&'static str>, value: Value) -> Value {
    match (shown, value) {
        (Some("a counter"), Value::Int(number)) => Value::Counter(number),
        (Some("a timestamp"), Value::Int(number)) => Value::Timestamp(number),
        (Some("a plain string"), Value::Text(text)) => Value::Plain(text),
        (_, value) => value,
    }
}

/// The one that is to be taken, if it is among them.
fn choose(values: Vec<Conflict>, take: &Take, device: DeviceId) -> Option<Conflict> {
    let mut values = values.into_iter();
    match take {
        Take::Mine => values.find(|value| value.device == Some(device)),
        // The one that is shown where their clocks say the same.
        Take::Newest => values.rev().max_by_key(|value| value.wall_s),
        Take::Number(number) => values.nth(usize::try_from(number.checked_sub(1)?).ok()?),
        Take::Shown => values.next(),
        Take::Lost | Take::Value(_) => None,
    }
}

/// What makes the document say what a lost edit said.
fn bring_back(view: &View<'_>, lost: &LostEdit) -> Result<Step, Failure> {
    let path = lost.path.clone();
    let unknown = |unknown: anabranch::UnknownHeads| Failure::from(DocumentError::UnknownHeads(unknown.0));
    let seen = view.earlier(&[lost.by.change]).map_err(unknown)?;
    let mut above = path.clone();
    while let Some((parent, _)) = above.split_last() {
        if seen.kind(&parent) == Some("a list") {
            return Err(Failure::usage(format!(
                "`{path}` was in an element of a list, and another element may be there now: write it again where it belongs, and give the lost edit up with `--take shown`"
            )));
        }
        above = parent;
    }
    match view.lost_value(lost) {
        None => Ok(Step::Remove(path)),
        Some(Value::Counter(after)) if view.kind(&path) == Some("a counter") => {
            let deps =
                view.history().into_iter().find(|change| change.hash == lost.by.change).map(|change| change.deps);
            let before = view.earlier(&deps.unwrap_or_default()).map_err(unknown)?.value(&path);
            let before = if let Some(Value::Counter(before)) = before { before } else { 0 };
            Ok(Step::Increment(path, after.saturating_sub(before)))
        }
        Some(value) => Ok(Step::Merge(path, value)),
    }
}

fn conflict_value(conflict: Conflict) -> ConflictValue {
    let Conflict { value, actor, device, .. } = conflict;
    ConflictValue { value, writer: writer(actor, device) }
}

fn lost_line(lost: LostEdit) -> ConflictLine {
    let LostEdit { path, value, by, removed_by, .. } = lost;
    let value = ConflictValue { value: value.unwrap_or_default(), writer: writer(by.actor, by.device) };
    let removed_by = Some(writer(removed_by.actor, removed_by.device));
    ConflictLine { path: path.to_string(), values: vec![value], removed_by }
}

fn writer(actor: ActorId, device: Option<DeviceId>) -> ConflictWriter {
    ConflictWriter { actor: actor.to_string(), device: device.map(|device| device.to_string()), device_name: None }
}
