//! The guard that fuzzed engines get: panics of automerge inside it are caught and counted, as the native driver does; any
//! other panic is a finding.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Once, OnceLock};

use anabranch_engine::gate::{Guard, Panicked, Slot};

thread_local! {
    static GUARDED: Cell<u32> = const { Cell::new(0) };
}

/// Set in the environment: a panic that the guard catches is a finding too. For work on the gate, which is there to keep
/// automerge from panicking at all.
pub const STRICT: &str = "ANABRANCH_FUZZ_STRICT";

/// Catches panics.
#[derive(Debug, Clone, Copy, Default)]
pub struct FuzzGuard;

impl Guard for FuzzGuard {
    fn run(&self, _: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        be_quiet_when_guarded();
        GUARDED.set(GUARDED.get() + 1);
        let result = catch_unwind(AssertUnwindSafe(f));
        GUARDED.set(GUARDED.get() - 1);
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Panicked(text.or_else(|| panic.downcast_ref().copied()).unwrap_or("no text").to_owned())
        })
    }
}

/// libFuzzer's panic hook aborts at once, also where the panic would be caught. This one leaves guarded panics alone and
/// hands on all others.
fn be_quiet_when_guarded() {
    static INSTALLED: Once = Once::new();
    static IS_STRICT: OnceLock<bool> = OnceLock::new();
    INSTALLED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            let strict = *IS_STRICT.get_or_init(|| std::env::var_os(STRICT).is_some());
            if GUARDED.get() == 0 || strict {
                before(panic);
            }
        }));
    });
}
