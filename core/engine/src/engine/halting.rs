//! A store that takes nothing more. Edits end then, and with them everything else that would have to be written; what is here is
//! read, by the application and by peers. Where the disk was full it is tried again and again, and all goes on when there is
//! room: what was edited before, and is not saved, is saved then.
//!
//! What failed is with the store: its scans find it, and it writes it as soon as it can. So the commit that failed counts as
//! one in flight, and what comes after it waits for the next.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use tracing::{debug, info, warn};

use crate::engine::Engine;
use crate::engine::output::{CommandError, Event, Output};
use crate::limits::{STORE_RETRY_MAX, STORE_RETRY_MIN};
use crate::storage::{CommitId, Failure, Request};
use crate::time::{Duration, Timestamp};

/// Nothing is written for now, or until the next start.
#[derive(Debug)]
pub(super) struct Halt {
    reason: String,
    /// Of a disk that was full.
    retry: Option<Retry>,
}

/// When to try again.
#[derive(Debug)]
struct Retry {
    commit: CommitId,
    /// `None` while it is tried.
    at: Option<Timestamp>,
    wait: Duration,
}

impl Engine {
    /// The store could not write what it was given, or says by itself that it will not any more.
    pub(super) fn store_failed(&mut self, commit: Option<CommitId>, failure: &Failure) {
        if self.stopped.is_some() {
            return;
        }
        let may_pass = match failure {
            Failure::Damaged(_) => return self.stop(failure.to_string()),
            Failure::Full(_) => true,
            Failure::Io(_) | Failure::Gone(_) => false,
        };
        let reason = failure.to_string();
        if let Some(halt) = &mut self.halted {
            debug!(reason, "nothing can be written yet");
            if let Some(retry) = halt.retry.as_mut().filter(|_| may_pass) {
                retry.wait = Duration((2 * retry.wait.0).min(STORE_RETRY_MAX.0));
                retry.at = Some(self.now.mono + retry.wait);
            } else {
                *halt = Halt { reason, retry: None };
            }
            return;
        }
        warn!(reason, "no edits are taken; what is here can be read");
        let retry = commit.filter(|_| may_pass).map(|commit| Retry {
            commit,
            at: Some(self.now.mono + STORE_RETRY_MIN),
            wait: STORE_RETRY_MIN,
        });
        let is_tried_again = retry.is_some();
        self.halted = Some(Halt { reason: reason.clone(), retry });
        for command in self.commits.fail_followers() {
            self.reply(command, Err(CommandError::Unsaved { reason: reason.clone(), is_tried_again }));
        }
        self.event(Event::Stopped { reason });
    }

    /// Why nothing is written, if so.
    pub(super) fn halted(&self) -> Option<&str> {
        self.halted.as_ref().map(|halt| halt.reason.as_str())
    }

    /// What could not be written is tried again.
    pub(super) fn is_halt_passing(&self) -> bool {
        self.halted.as_ref().is_some_and(|halt| halt.retry.is_some())
    }

    /// Tries again, if it is time to.
    pub(super) fn resume_due(&mut self) {
        let now = self.now.mono;
        let Some(retry) = self.halted.as_mut().and_then(|halt| halt.retry.as_mut()) else { return };
        if retry.at.take_if(|at| *at <= now).is_some() {
            let id = retry.commit;
            self.out(Output::Store(Request::Resume { id }));
        }
    }

    pub(super) fn resume_deadline(&self) -> Option<(Timestamp, &'static str)> {
        let retry = self.halted.as_ref()?.retry.as_ref()?;
        retry.at.map(|at| (at, "try to write again"))
    }

    /// What had failed is on disk.
    pub(super) fn resumed(&mut self) {
        if self.halted.take_if(|halt| halt.retry.is_some()).is_none() {
            return;
        }
        info!("edits are taken again");
        self.event(Event::Resumed);
        // What peers sent meanwhile was not taken, and they do not know: they begin from nothing.
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.close_session(id, "the store can be written to again: dial again");
        }
        self.dial_check = true;
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::engine::input::{Begins, Command, CommandId, Input};
    use crate::engine::output::Reply;
    use crate::gate::Bare;
    use crate::id::{DocumentId, SpaceId};
    use crate::keys::SecretKey;
    use crate::limits::DOCUMENTS_RESIDENT_MAX;
    use crate::storage::{self, Image};
    use crate::time::Now;
    use crate::{Config, DocumentError};

    /// An engine whose store answers when it is told to.
    struct Scene {
        engine: Engine,
        space: SpaceId,
        document: DocumentId,
        now: Now,
        commit: Option<CommitId>,
        tried: usize,
        told: Vec<Output>,
    }

    impl Scene {
        /// A space with a document that is open, and nothing to be written.
        fn new() -> Self {
            let config = Config { guard: Arc::new(Bare), slot: None, residents_max: DOCUMENTS_RESIDENT_MAX };
            let key = SecretKey::from_seed(&[1; 32]);
            let engine = Engine::new(config, key, [2; 32], Now::default(), Image::default()).expect("a new replica");
            let (space, document) = (SpaceId([0; 32]), DocumentId([9; 16]));
            let mut scene =
                Self { engine, space, document, now: Now::default(), commit: None, tried: 0, told: Vec::new() };
            scene.answer(Ok(()));
            scene.command(Command::CreateSpace { name: String::from("notes") });
            scene.answer(Ok(()));
            let made = scene.told.iter().find_map(|output| match output {
                Output::Reply(_, Ok(Reply::SpaceReady(space))) => Some(*space),
                _ => None,
            });
            scene.space = made.expect("a space");
            let begins = Begins::WithFirstEdit;
            scene.command(Command::CreateDocument { space: scene.space, document, begins });
            scene.told.clear();
            scene
        }

        fn drain(&mut self) {
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Store(Request::Commit { id, .. }) => self.commit = Some(id),
                    Output::Store(Request::Resume { id }) => {
                        assert_eq!(self.commit, Some(id), "what failed is tried again");
                        self.tried += 1;
                    }
                    other => self.told.push(other),
                }
            }
        }

        fn give(&mut self, input: Input) {
            self.engine.handle(self.now, input);
            self.drain();
        }

        fn answer(&mut self, result: Result<(), Failure>) {
            self.drain();
            let id = self.commit.expect("a commit is in flight");
            self.give(Input::Stored(storage::Reply::Committed { id, result }));
        }

        fn command(&mut self, command: Command) {
            self.give(Input::Command(CommandId(1), command));
        }

        fn open(&mut self) {
            self.command(Command::OpenDocument { space: self.space, document: self.document });
        }

        fn set(&mut self, value: i64) -> Result<(), DocumentError> {
            let set = self.engine.edit(self.now, &self.space, &self.document, |edit| -> Result<(), DocumentError> {
                edit.set("/a", value).map_err(DocumentError::from)
            });
            self.drain();
            set.map(|_| ())
        }

        /// Passes the time until it is tried again; says how many seconds that were.
        fn wait(&mut self) -> u64 {
            let (began, tried) = (self.now.mono, self.tried);
            while self.tried == tried {
                let (at, _) = self.engine.poll_timeout().expect("something is due");
                self.now.mono = at;
                self.give(Input::Timeout);
            }
            (self.now.mono - began).as_millis() / 1_000
        }

        fn was_told(&self, is: impl Fn(&Event) -> bool) -> bool {
            self.told.iter().any(|output| matches!(output, Output::Event(event) if is(event)))
        }
    }

    fn full() -> Result<(), Failure> {
        Err(Failure::Full(String::from("the test's disk")))
    }

    #[test]
    fn a_full_disk_ends_edits_and_is_tried_until_there_is_room() {
        let mut scene = Scene::new();
        scene.set(1).expect("there is room");
        scene.set(2).expect("it waits for the next commit");
        scene.answer(full());
        assert!(
            scene.was_told(|event| matches!(event, Event::Stopped { reason } if reason.contains("the disk is full")))
        );
        assert!(matches!(scene.set(3), Err(DocumentError::Halted(_))));
        let view = scene.engine.view(&scene.space, &scene.document, None).expect("it is open");
        assert_eq!(view.json().to_string(), r#"{"a":2}"#, "what was edited is shown");
        scene.told.clear();
        scene.open();
        scene.command(Command::CreateSpace { name: String::from("more") });
        let replies: Vec<_> = scene.told.iter().collect();
        let is_opened = |output: &Output| matches!(output, Output::Reply(_, Ok(Reply::DocumentOpen)));
        let is_refused = |output: &Output| matches!(output, Output::Reply(_, Err(CommandError::Halted(_))));
        assert!(replies.len() == 2 && is_opened(replies[0]) && is_refused(replies[1]), "{replies:?}");

        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(scene.wait());
            scene.answer(full());
        }
        assert_eq!((scene.tried, waits), (6, alloc::vec![1, 2, 4, 8, 10, 10]));
        scene.wait();
        scene.answer(Ok(()));
        assert!(scene.was_told(|event| *event == Event::Resumed));
        assert_eq!(scene.engine.stopped(), None);
        // What was edited after the commit that failed is in the next one.
        assert_eq!(scene.commit, Some(CommitId(4)));
        scene.answer(Ok(()));
        assert!(scene.was_told(|event| *event == Event::Committed(CommitId(4))));
        scene.set(3).expect("there is room again");
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        for failure in [Failure::Io(String::from("a disk")), Failure::Gone(String::from("a file"))] {
            let mut scene = Scene::new();
            scene.set(1).expect("the disk works");
            scene.answer(Err(failure));
            assert!(matches!(scene.set(2), Err(DocumentError::Halted(_))));
            assert_eq!(scene.engine.resume_deadline(), None);
        }
        let mut scene = Scene::new();
        scene.give(Input::StoreFailed(Failure::Gone(String::from("a file"))));
        assert!(matches!(scene.set(1), Err(DocumentError::Halted(_))), "nobody had to write for that");
        assert_eq!(scene.engine.resume_deadline(), None);
    }

    // It was told that nothing can be changed, and did it again when there was room.
    #[test]
    fn a_command_whose_commit_fails_is_told_that_it_was_done_and_is_saved_later() {
        let mut scene = Scene::new();
        scene.command(Command::CreateSpace { name: String::from("more") });
        scene.answer(full());
        let is_told = |output: &Output| {
            matches!(output, Output::Reply(_, Err(CommandError::Unsaved { is_tried_again: true, .. })))
        };
        assert_eq!(scene.told.iter().filter(|output| is_told(output)).count(), 1, "{:?}", scene.told);
        assert_eq!(scene.engine.spaces().len(), 2, "it is there");
        scene.command(Command::CreateSpace { name: String::from("refused") });
        assert_eq!(scene.engine.spaces().len(), 2, "and the next one is not");
        assert!(scene.engine.is_tried_again());
        scene.wait();
        scene.answer(Ok(()));
        assert!(!scene.engine.is_tried_again());
        assert!(scene.was_told(|event| *event == Event::Resumed));

        let mut scene = Scene::new();
        scene.command(Command::CreateSpace { name: String::from("more") });
        scene.answer(Err(Failure::Io(String::from("a disk"))));
        let told = scene.told.iter().find_map(|output| match output {
            Output::Reply(_, Err(error)) => Some(error.to_string()),
            _ => None,
        });
        assert!(
            told.is_some_and(|told| told.ends_with("it is not tried again, and what peers do not have of it is lost"))
        );
    }

    #[test]
    fn a_replica_that_cannot_write_shuts_down_all_the_same() {
        let mut scene = Scene::new();
        scene.set(1).expect("the disk works");
        scene.answer(full());
        scene.told.clear();
        scene.command(Command::Shutdown);
        assert!(matches!(scene.told[..], [Output::Reply(_, Err(CommandError::Halted(_)))]), "{:?}", scene.told);
    }
}
