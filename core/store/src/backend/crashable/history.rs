//! What was done to a disk, call by call, so that a power cut at any moment can be made up later, and many for one run.

use super::change::Change;
use super::cut::Survival;
use super::dice::Dice;
use super::misplace;

/// What was done to a disk since [`super::Disk::record`].
#[derive(Clone)]
pub struct History {
    pub(super) start: Vec<u8>,
    pub(super) steps: Vec<Step>,
}

/// One call that did something.
#[derive(Clone)]
pub(super) enum Step {
    Change(Change),
    Sync,
}

/// A disk at one moment of its history.
pub struct Moment<'a> {
    steps: &'a [Step],
    synced: Vec<u8>,
    /// Steps before this one are in `synced`.
    from: usize,
    at: usize,
    lies: bool,
}

impl History {
    /// Writes, changes of length, and syncs.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Nothing was done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The moment before the first step.
    pub fn begin(&self) -> Moment<'_> {
        Moment { steps: &self.steps, synced: self.start.clone(), from: 0, at: 0, lies: false }
    }

    /// The same history, but that the write at this step, or the first after it, landed at a place drawn from `seed`.
    /// `None` if there is no write.
    pub fn misdirected(&self, step: usize, sector: usize, seed: u64) -> Option<Self> {
        let mut other = self.clone();
        let mut length = self.start.len();
        for (i, step_there) in other.steps.iter_mut().enumerate() {
            match step_there {
                Step::Change(Change::Length(new)) => length = *new,
                Step::Change(Change::Write { offset, data }) if i >= step => {
                    *offset = misplace(*offset, data.len(), length, sector, seed);
                    return Some(other);
                }
                Step::Change(Change::Write { .. }) | Step::Sync => {}
            }
        }
        None
    }

    /// The same history, but that the write at this step, or the first after it, never happened. `None` if there is none.
    pub fn with_a_lost_write(&self, step: usize) -> Option<Self> {
        let is_write = |step: &Step| matches!(step, Step::Change(Change::Write { .. }));
        let lost = step + self.steps.get(step..)?.iter().position(is_write)?;
        let mut other = self.clone();
        // A step that does nothing, so that the others keep their numbers.
        other.steps[lost] = Step::Change(Change::Write { offset: 0, data: [].into() });
        Some(other)
    }
}

impl Moment<'_> {
    /// Goes on to the moment before this step. Never goes back.
    pub fn advance(&mut self, to: usize) {
        let to = to.min(self.steps.len());
        while self.at < to {
            if matches!(self.steps[self.at], Step::Sync) && !self.lies {
                for step in &self.steps[self.from..self.at] {
                    if let Step::Change(change) = step {
                        change.apply(&mut self.synced);
                    }
                }
                self.from = self.at;
            }
            self.at += 1;
        }
    }

    /// From here on syncs do nothing.
    pub fn lie(&mut self) {
        self.lies = true;
    }

    /// What a power cut now leaves. Changes are torn into sectors of this many bytes.
    pub fn cut(&self, survival: Survival, sector: usize, seed: u64) -> Vec<u8> {
        let unsynced: Vec<&Change> = self.steps[self.from..self.at]
            .iter()
            .filter_map(|step| match step {
                Step::Change(change) => Some(change),
                Step::Sync => None,
            })
            .collect();
        survival.image(&self.synced, &unsynced, sector, &mut Dice(seed))
    }
}
