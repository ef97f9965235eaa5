//! Where storage requests are executed: in order, on a thread of their own; inline where there are no threads. What to
//! store and when is the engine's business, what a request means the store's.

use anabranch_engine::Input;
use anabranch_engine::storage::Request;
use anabranch_store::Store;

#[cfg(target_arch = "wasm32")]
pub(crate) use inline::StoreHand;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::StoreHand;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::io;
    use std::sync::Arc;

    use async_channel::{Receiver, Sender, TrySendError};

    use super::{Input, Request, Store};
    use crate::driver::spawn::{self, Finished};
    use crate::replica::Replica;

    /// Requests between engine and store. The engine has one commit under way at a time, and a scan for each document that
    /// is being opened.
    const REQUESTS_QUEUED_MAX: usize = 1024;

    /// What the store's thread is to do.
    pub(crate) enum Job {
        /// Execute this.
        Request(Request),
        /// See whether the store is still there.
        Check,
    }

    /// Hands requests to the store's thread.
    pub(crate) struct StoreHand {
        jobs: Sender<Job>,
    }

    impl StoreHand {
        pub(crate) fn new() -> (Self, Receiver<Job>) {
            let (jobs, receiver) = async_channel::bounded(REQUESTS_QUEUED_MAX);
            (Self { jobs }, receiver)
        }

        /// Hands it over, or gives it back if the queue is full.
        pub(crate) fn give(&mut self, request: Request) -> Result<(), Request> {
            match self.jobs.try_send(Job::Request(request)) {
                Err(TrySendError::Full(Job::Request(request)) | TrySendError::Closed(Job::Request(request))) => {
                    Err(request)
                }
                Ok(()) | Err(TrySendError::Full(Job::Check) | TrySendError::Closed(Job::Check)) => Ok(()),
            }
        }

        /// Has the store look whether it is still there. One that is busy finds that out with its next commit.
        pub(crate) fn check(&self) {
            if self.jobs.is_empty() {
                let _ = self.jobs.try_send(Job::Check);
            }
        }

        /// An answer that is there already.
        pub(crate) fn take_reply(&mut self) -> Option<Input> {
            None
        }
    }

    /// Starts the thread. It ends, and closes the store, when the hand is gone and every request is done.
    pub(crate) fn start(
        replica: Arc<Replica>,
        store: Store,
        jobs: Receiver<Job>,
        finished: Finished,
    ) -> io::Result<()> {
        spawn::thread("anabranch-store", replica, finished, move |replica| {
            while let Ok(job) = jobs.recv_blocking() {
                match job {
                    Job::Request(request) => {
                        let reply = store.execute(request);
                        // The turn happens here: who waits for `saved` is woken, and the next commit formed, without another
                        // hop.
                        replica.handle(Input::Stored(reply));
                        if jobs.is_empty() {
                            store.write_copy();
                        }
                    }
                    Job::Check => {
                        if let Some(failure) = store.check() {
                            replica.handle(Input::StoreFailed(failure));
                        }
                    }
                }
            }
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::start;

#[cfg(target_arch = "wasm32")]
mod inline {
    use std::collections::VecDeque;

    use super::{Input, Request, Store};

    /// Executes requests at once and keeps the answers until the turn asks for them.
    pub(crate) struct StoreHand {
        store: Store,
        replies: VecDeque<Input>,
    }

    impl StoreHand {
        pub(crate) fn new(store: Store) -> Self {
            Self { store, replies: VecDeque::new() }
        }

        /// Executes it.
        pub(crate) fn give(&mut self, request: Request) -> Result<(), Request> {
            self.replies.push_back(Input::Stored(self.store.execute(request)));
            Ok(())
        }

        /// Nothing can happen to a store in memory.
        pub(crate) fn check(&self) {}

        /// The oldest answer.
        pub(crate) fn take_reply(&mut self) -> Option<Input> {
            self.replies.pop_front()
        }
    }
}
