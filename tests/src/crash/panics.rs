//! Panics while images are opened: redb's are caught by the store and counted here, without a word on the terminal.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: Cell<u64> = const { Cell::new(0) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
    /// How to reproduce what this thread is at.
    static AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `f`; a panic that gets out of it is its error. Panics inside that somebody else catches are counted.
pub fn catching<T>(at: &str, f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    install();
    AT.with_borrow_mut(|there| at.clone_into(there));
    CATCHING.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(false);
    result.unwrap_or_else(|_| Err(format!("a panic got out: {}", LAST.take())))
}

/// Panics on this thread since this was last asked, those that got out among them.
pub fn take_count() -> u64 {
    CAUGHT.take()
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return before(info);
            }
            LAST.with_borrow_mut(|last| *last = info.to_string());
            if CAUGHT.replace(CAUGHT.get() + 1) > 0 {
                // It may come while another one unwinds, which ends the process: then these are its last words.
                AT.with_borrow(|at| eprintln!("a second panic in one image, {at}: {info}"));
            }
        }));
    });
}
