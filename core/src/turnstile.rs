//! The lock around a replica's state. Some threads take it again as soon as they have let it go: the driver as long as there is news
//! from the network, an application that edits in a loop. They must not keep out those who wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

/// A pause in which another thread can take the lock. In practice it is twice as long.
const PAUSE: Duration = Duration::from_micros(50);
/// So many of them the driver makes at most: who waits may not get a processor.
const DRIVER_PAUSES_MAX: usize = 20;
/// So often a thread takes the lock in a row while others wait. From then on it pauses each time, until another has had it.
const STREAK_MAX: usize = 16;

/// A lock that lets those have it who wait.
///
/// Inside is the standard one, which sleeps after a moment. One that yields its processor instead gives a time slice away with each
/// try on a busy machine. Whether a holder has panicked is said by what it protects.
#[derive(Debug)]
pub(crate) struct Turnstile<T> {
    state: Mutex<T>,
    /// How many threads wait for it, or are about to.
    waiting: AtomicUsize,
    /// Who had it last, and how often in a row while others waited.
    last: AtomicUsize,
    streak: AtomicUsize,
}

impl<T> Turnstile<T> {
    pub(crate) fn new(state: T) -> Self {
        let [waiting, last, streak] = [(); 3].map(|()| AtomicUsize::new(0));
        Self { state: Mutex::new(state), waiting, last, streak }
    }

    /// Waits for the lock. `me` is a number that the thread has to itself, and not 0.
    pub(crate) fn lock(&self, me: usize) -> MutexGuard<'_, T> {
        if self.waits_anyone()
            && self.last.load(Ordering::Relaxed) == me
            && self.streak.fetch_add(1, Ordering::Relaxed) >= STREAK_MAX
        {
            thread::sleep(PAUSE);
        }
        let held = match self.state.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                held
            }
        };
        if self.last.swap(me, Ordering::Relaxed) != me {
            self.streak.store(0, Ordering::Relaxed);
        }
        held
    }

    /// For the driver, before each turn: whoever waits has it first, an edit of the application or an answer of the store.
    pub(crate) fn let_others_go_first(&self) {
        for _ in 0..DRIVER_PAUSES_MAX {
            if !self.waits_anyone() {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    fn waits_anyone(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_thread_that_takes_it_again_and_again_lets_another_have_it() {
        let (lock, is_over) = (Turnstile::new(0_u64), AtomicBool::new(false));
        let taken = thread::scope(|scope| {
            let greedy = scope.spawn(|| {
                let mut taken = 0_u64;
                while !is_over.load(Ordering::Relaxed) {
                    *lock.lock(1) += 1;
                    taken += 1;
                }
                taken
            });
            for _ in 0..200 {
                *lock.lock(2) += 1;
            }
            is_over.store(true, Ordering::Relaxed);
            greedy.join().unwrap()
        });
        assert_eq!(*lock.lock(3), taken + 200);
        assert_eq!(lock.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_holder_that_panicked_leaves_it_to_others() {
        let lock = Turnstile::new(1);
        thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _held = lock.lock(1);
                panic!("while it holds the lock");
            });
            assert!(panicked.join().is_err());
            assert_eq!(scope.spawn(|| *lock.lock(2)).join().unwrap(), 1);
        });
    }

    #[test]
    fn the_driver_waits_for_those_who_wait_and_not_for_ever() {
        let lock = Turnstile::new(0);
        thread::scope(|scope| {
            let held = lock.lock(1);
            scope.spawn(|| *lock.lock(2) += 1);
            while !lock.waits_anyone() {
                thread::yield_now();
            }
            // It cannot go first as long as the lock is held.
            lock.let_others_go_first();
            drop(held);
        });
        lock.let_others_go_first();
        assert_eq!(*lock.lock(1), 1);
    }
}
