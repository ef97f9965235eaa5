//! Names that are being given: from when one is found to be free until what has it is on disk, nobody else is given it. Nothing is
//! held meanwhile that others wait for, whoever stops polling.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch::{Document, SpaceId};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures_timer::Delay;
use parking_lot::Mutex;
use unicode_normalization::UnicodeNormalization as _;

use crate::Failure;

/// A name that is being given to another is tried for so often,
const TRIES: u32 = 100;
/// after this long each time: two seconds together. Guess: most names are given within some milliseconds.
const TRY_AFTER: Duration = Duration::from_millis(20);

/// A name in normal form, of a document in a space or (`None`) of a space.
type Key = (Option<SpaceId>, String);

/// The names that are being given. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reserved(Arc<Mutex<BTreeMap<Key, State>>>);

enum State {
    /// Somebody has the [`Reservation`].
    Held,
    /// Nobody waits any more for what has the name, and it is not on disk yet. Ends when it is, or when nothing can be saved.
    Unsaved(BoxFuture<'static, ()>),
}

/// A name that nobody else is given while this is here.
pub(super) struct Reservation {
    reserved: Reserved,
    key: Key,
    document: Option<Document>,
}

/// Two spellings of one character are the same.
pub(super) fn normal(name: &str) -> String {
    name.nfc().collect()
}

impl Reserved {
    /// Reserves a name. Waits for a moment where somebody else has it, and holds nothing while it does.
    pub(super) async fn reserve(&self, space: Option<SpaceId>, name: &str) -> Result<Reservation, Failure> {
        let key = (space, normal(name));
        for _ in 0..TRIES {
            if let Some(reservation) = self.try_reserve(&key) {
                return Ok(reservation);
            }
            Delay::new(TRY_AFTER).await;
        }
        let what = if space.is_some() { "document" } else { "space" };
        Err(Failure::usage(format!(
            "the name `{name}` is being given to another {what}: take another name, or try again later"
        )))
    }

    fn try_reserve(&self, key: &Key) -> Option<Reservation> {
        let mut names = self.0.lock();
        names.retain(|_, state| match state {
            State::Held => true,
            State::Unsaved(saved) => saved.now_or_never().is_none(),
        });
        if names.contains_key(key) {
            return None;
        }
        names.insert(key.clone(), State::Held);
        Some(Reservation { reserved: self.clone(), key: key.clone(), document: None })
    }

    /// The names that are being given to documents of a space.
    pub(super) fn of(&self, space: SpaceId) -> BTreeSet<String> {
        self.0.lock().keys().filter(|(of, _)| *of == Some(space)).map(|(_, name)| name.clone()).collect()
    }
}

impl Reservation {
    /// For this document, which may have the name from now on: nobody else is given it before that is saved.
    pub(super) fn keep_until_saved(&mut self, document: &Document) {
        self.document = Some(document.clone());
    }

    /// What has the name is saved: who asks for it finds it.
    pub(super) fn release(mut self) {
        self.document = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let unsaved = self.document.take().and_then(|document| {
            let mut saved = async move {
                // If nothing can be saved, no name can be given either.
                let _ = document.saved().await;
            }
            .boxed();
            saved.as_mut().now_or_never().is_none().then_some(saved)
        });
        let mut names = self.reserved.0.lock();
        match unsaved {
            Some(saved) => names.insert(self.key.clone(), State::Unsaved(saved)),
            None => names.remove(&self.key),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn name_is_reserved_once_and_free_again_afterwards() {
        let reserved = Reserved::default();
        let space = Some(SpaceId([1; SpaceId::LEN]));
        let first = block_on(reserved.reserve(space, "caf\u{e9}")).unwrap();
        for (space, name) in [(space, "plan"), (None, "caf\u{e9}"), (Some(SpaceId([2; SpaceId::LEN])), "caf\u{e9}")] {
            block_on(reserved.reserve(space, name)).unwrap();
        }
        let mut second = pin!(reserved.reserve(space, "cafe\u{301}"));
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(first);
        block_on(second).unwrap();
        assert!(reserved.0.lock().is_empty());
    }

    #[test]
    fn name_that_somebody_else_keeps_is_refused_after_a_moment() {
        let reserved = Reserved::default();
        let _first = block_on(reserved.reserve(None, "plan")).unwrap();
        let failure = block_on(reserved.reserve(None, "plan")).err().unwrap();
        assert!(failure.message.starts_with("the name `plan` is being given to another space"), "{failure}");
    }
}
