//! Threads and timers where there are any, the browser's event loop where there are not.

use std::pin::Pin;
use std::task::Poll;

use anabranch_engine::time::Timestamp;

use crate::driver::clock::Clock;

#[cfg(target_arch = "wasm32")]
use futures_timer::Delay as Sleep;
#[cfg(not(target_arch = "wasm32"))]
use tokio::time::Sleep;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{CloseWithThread, Finished, thread};

/// Lets everything else on this thread run once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Rings when the engine's deadline has come.
pub(crate) struct Alarm {
    /// Without a timer where the time has come already: a timer takes a millisecond even then.
    set: Option<(Timestamp, Option<Pin<Box<Sleep>>>)>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { set: None }
    }

    /// Sets it to `at`, or never.
    pub(crate) fn set(&mut self, at: Option<Timestamp>, clock: &Clock) {
        if self.set.as_ref().map(|(set, _)| *set) != at {
            self.set = at.map(|at| {
                let left = clock.until(at);
                (at, (!left.is_zero()).then(|| Box::pin(sleep(left))))
            });
        }
    }

    /// Returns when the time has come; the alarm is unset then.
    pub(crate) async fn ring(&mut self) {
        match &mut self.set {
            Some((_, Some(sleep))) => sleep.as_mut().await,
            Some((_, None)) => {}
            None => std::future::pending().await,
        }
        self.set = None;
    }
}

/// A future that is ready after `duration`.
pub(crate) fn sleep(duration: std::time::Duration) -> Sleep {
    #[cfg(not(target_arch = "wasm32"))]
    return tokio::time::sleep(duration);
    #[cfg(target_arch = "wasm32")]
    return Sleep::new(duration);
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::io;
    use std::sync::Arc;

    use async_channel::Sender;

    use crate::replica::Replica;

    /// Held by each thread of a replica while it runs.
    pub(crate) type Finished = Sender<()>;

    /// Ends the replica with the thread, however that ends: half a replica would only seem to work.
    pub(crate) struct CloseWithThread(pub(crate) Arc<Replica>);

    impl Drop for CloseWithThread {
        fn drop(&mut self) {
            self.0.close("one of its threads ended, which is a bug; what was saved is safe: open the replica again");
        }
    }

    /// Runs `work` on a thread of its own. It should end when the replica is closed.
    pub(crate) fn thread(
        name: &str,
        replica: Arc<Replica>,
        finished: Finished,
        work: impl FnOnce(&Replica) + Send + 'static,
    ) -> io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped last: what `work` holds, such as the store, is gone by then.
            let _finished = finished;
            let replica = CloseWithThread(replica);
            let _span = replica.0.span().clone().entered();
            work(&replica.0);
        })?;
        Ok(())
    }
}
