//! Where [`Work`] is done: on threads of its own, so that a large document does not hold up a small one; inline where there
//! are no threads.

use std::sync::Arc;

use anabranch_engine::Input;
use anabranch_engine::document::work::Work;
use anabranch_engine::gate::Guard;

#[cfg(target_arch = "wasm32")]
pub(crate) use inline::WorkHand;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{WorkHand, start};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::io;
    use std::thread;

    use async_channel::{Receiver, Sender};

    use super::{Arc, Guard, Input, Work};
    use crate::driver::spawn::{self, Finished};
    use crate::replica::Replica;

    /// Work between engine and workers: at most one piece for each resident document, most of them small.
    const WORK_QUEUED_MAX: usize = 256;
    /// Enough that one huge document does not keep all others waiting, few enough to leave processors to the application.
    const WORKERS_MAX: usize = 4;

    /// Hands work to the workers.
    pub(crate) struct WorkHand {
        queue: Sender<Box<Work>>,
    }

    impl WorkHand {
        pub(crate) fn new() -> (Self, Receiver<Box<Work>>) {
            let (queue, receiver) = async_channel::bounded(WORK_QUEUED_MAX);
            (Self { queue }, receiver)
        }

        /// Hands it over, or gives it back if the queue is full.
        pub(crate) fn give(&mut self, work: Box<Work>) -> Result<(), Box<Work>> {
            self.queue.try_send(work).map_err(async_channel::TrySendError::into_inner)
        }

        /// A result that is there already.
        pub(crate) fn take_reply(&mut self) -> Option<Input> {
            None
        }
    }

    /// Starts the workers. They end when the hand is gone and all work is done.
    pub(crate) fn start(
        replica: &Arc<Replica>,
        guard: &Arc<dyn Guard>,
        queue: &Receiver<Box<Work>>,
        finished: &Finished,
    ) -> io::Result<()> {
        let workers = thread::available_parallelism().map_or(1, usize::from).clamp(1, WORKERS_MAX);
        for _ in 0..workers {
            let (guard, queue) = (guard.clone(), queue.clone());
            spawn::thread("anabranch-work", replica.clone(), finished.clone(), move |replica| {
                while let Ok(work) = queue.recv_blocking() {
                    let done = work.run(&*guard);
                    replica.handle(Input::Worked(Box::new(done)));
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(target_arch = "wasm32")]
mod inline {
    use std::collections::VecDeque;

    use super::{Arc, Guard, Input, Work};

    /// Does work at once and keeps the results until the turn asks for them.
    pub(crate) struct WorkHand {
        guard: Arc<dyn Guard>,
        results: VecDeque<Input>,
    }

    impl WorkHand {
        pub(crate) fn new(guard: Arc<dyn Guard>) -> Self {
            Self { guard, results: VecDeque::new() }
        }

        /// Does it.
        pub(crate) fn give(&mut self, work: Box<Work>) -> Result<(), Box<Work>> {
            self.results.push_back(Input::Worked(Box::new(work.run(&*self.guard))));
            Ok(())
        }

        /// The oldest result.
        pub(crate) fn take_reply(&mut self) -> Option<Input> {
            self.results.pop_front()
        }
    }
}
