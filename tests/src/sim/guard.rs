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
}

impl SimGuard {
    /// What was being applied, if it did not come to an end.
    pub fn slot(&self) -> Option<Slot> {
        self.state(|state| state.slot.clone())
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
        self.state(|state| state.slot = Some(slot.clone()));
        let result = catch_unwind(AssertUnwindSafe(f));
        self.state(|state| state.slot = None);
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
}
