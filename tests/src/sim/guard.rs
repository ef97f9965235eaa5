//! The simulator's guard: catches panics in automerge and remembers that there were any. Honest runs never cause one, so
//! each is a failure of the seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_engine::gate::{Guard, Panicked, Slot};

/// Shared by an engine, which calls it, and the world, which looks at it.
#[derive(Debug, Clone, Default)]
pub struct SimGuard(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    slot: Option<Slot>,
    panics: Vec<String>,
    doomed: bool,
    dead: bool,
}

impl SimGuard {
    /// What was being applied, if it did not come to an end.
    pub fn slot(&self) -> Option<Slot> {
        self.state(|state| state.slot.clone())
    }

    /// The process dies in the middle of the next thing that is applied.
    pub fn doom(&self) {
        self.state(|state| state.doomed = true);
    }

    /// It does not, after all.
    pub fn spare(&self) {
        self.state(|state| state.doomed = false);
    }

    /// The process has died: nothing that it did since counts.
    pub fn is_dead(&self) -> bool {
        self.state(|state| state.dead)
    }

    /// Panics since the last call.
    pub fn take_panics(&self) -> Vec<String> {
        self.state(|state| std::mem::take(&mut state.panics))
    }

    fn state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Guard for SimGuard {
    fn run(&self, slot: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        self.state(|state| {
            // What a dead process goes on to do leaves no trace.
            if !state.dead {
                state.slot = Some(slot.clone());
                state.dead = state.doomed;
            }
        });
        let result = catch_unwind(AssertUnwindSafe(f));
        self.state(|state| state.slot = state.slot.take().filter(|_| state.dead));
        result.map_err(|panic| {
            let text = super::campaign::panic_text(&*panic);
            self.state(|state| state.panics.push(text.clone()));
            Panicked(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::id::{ChangeHash, DocumentId, SpaceId};

    #[test]
    fn a_panic_is_caught_and_remembered_once() {
        let guard = SimGuard::default();
        let slot = Slot { space: SpaceId([1; 32]), document: DocumentId([2; 16]), tips: vec![ChangeHash([3; 32])] };
        assert!(guard.run(&slot, &mut || assert_eq!(guard.slot(), Some(slot.clone()))).is_ok());
        assert!(guard.run(&slot, &mut || panic!("as planned")).is_err());
        assert_eq!(guard.slot(), None);
        assert_eq!(guard.take_panics(), ["as planned"]);
        assert!(guard.take_panics().is_empty());
    }

    #[test]
    fn a_doomed_process_leaves_its_slot() {
        let guard = SimGuard::default();
        let slot = |n| Slot { space: SpaceId([1; 32]), document: DocumentId([n; 16]), tips: Vec::new() };
        guard.doom();
        assert!(!guard.is_dead());
        for n in 1..3 {
            assert!(guard.run(&slot(n), &mut || ()).is_ok());
            assert!(guard.is_dead());
            assert_eq!(guard.slot(), Some(slot(1)));
        }
    }
}
