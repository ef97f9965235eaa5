//! What a machine or a process may suffer from for a while without dying: links as slow as a modem, frames that are never
//! read, a disk that takes seconds, a process that is stopped and later continued.

use anabranch_engine::Input;
use serde::{Deserialize, Serialize};

use super::world::{Happening, World};

/// Something that one replica suffers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ailment {
    /// Its links carry [`SLOW_RATE`] each way.
    SlowLinks,
    /// It takes no bytes from its connections, but still sends.
    DoesNotRead,
    /// Each store request takes 0.1 to 10 seconds.
    SlowDisk,
    /// The process is stopped (`SIGSTOP`): time passes, nothing is handled, and when it continues everything comes at once.
    Stopped,
}

/// Bytes per second of a slow link.
pub const SLOW_RATE: u64 = 1_000;

/// What one replica suffers from at present. The same thing may have begun more than once.
#[derive(Debug, Default)]
pub(super) struct Ailments {
    slow_links: u32,
    does_not_read: u32,
    slow_disk: u32,
    /// What happened to the stopped process meanwhile, in order.
    pub(super) stopped: Option<Vec<Happening>>,
}

impl Ailments {
    pub(super) fn slow_links(&self) -> bool {
        self.slow_links > 0
    }

    pub(super) fn reads(&self) -> bool {
        self.does_not_read == 0
    }

    pub(super) fn slow_disk(&self) -> bool {
        self.slow_disk > 0
    }

    fn count(&mut self, ailment: Ailment) -> Option<&mut u32> {
        match ailment {
            Ailment::SlowLinks => Some(&mut self.slow_links),
            Ailment::DoesNotRead => Some(&mut self.does_not_read),
            Ailment::SlowDisk => Some(&mut self.slow_disk),
            Ailment::Stopped => None,
        }
    }
}

impl World {
    /// Whether a replica's process is stopped.
    pub fn is_stopped(&self, replica: usize) -> bool {
        self.replicas[replica].ailments.stopped.is_some()
    }

    /// Something begins to ail a replica, for so many microseconds.
    pub fn ail(&mut self, replica: usize, ailment: Ailment, length: u64) {
        let Some(process) = self.running(replica) else { return };
        let ailments = &mut self.replicas[replica].ailments;
        if let Some(count) = ailments.count(ailment) {
            *count += 1;
        } else if ailments.stopped.is_none() {
            ailments.stopped = Some(Vec::new());
        } else {
            return;
        }
        match ailment {
            Ailment::SlowLinks => self.stats.slow_peers += 1,
            Ailment::DoesNotRead => self.stats.unread += 1,
            Ailment::SlowDisk => self.stats.slow_disks += 1,
            Ailment::Stopped => self.stats.stops += 1,
        }
        self.schedule(length, Happening::Recover { replica, process, ailment });
    }

    /// It is over. What was held up comes.
    pub(super) fn recover(&mut self, replica: usize, process: u64, ailment: Ailment) {
        if let Some(count) = self.replicas[replica].ailments.count(ailment) {
            *count = count.saturating_sub(1);
        }
        match ailment {
            Ailment::SlowLinks => self.hurry(replica),
            Ailment::DoesNotRead => self.release_held(),
            Ailment::SlowDisk => {}
            // Another process was never stopped, or for another reason.
            Ailment::Stopped if self.running(replica) == Some(process) => self.go_on(replica),
            Ailment::Stopped => {}
        }
    }

    /// Nothing ails anybody any more.
    pub(super) fn recover_all(&mut self) {
        for replica in 0..self.replicas.len() {
            for ailment in [Ailment::SlowLinks, Ailment::DoesNotRead, Ailment::SlowDisk] {
                if let Some(count) = self.replicas[replica].ailments.count(ailment) {
                    *count = 0;
                }
            }
            self.hurry(replica);
            self.go_on(replica);
        }
        self.release_held();
    }

    /// A stopped process continues.
    fn go_on(&mut self, replica: usize) {
        for happening in self.replicas[replica].ailments.stopped.take().unwrap_or_default() {
            self.schedule(0, happening);
        }
        self.pursue_goals();
    }

    /// Keeps what happens to a stopped process until it goes on.
    pub(super) fn hold_back(&mut self, happening: Happening) -> Option<Happening> {
        let Some(replica) = self.whom(&happening) else { return Some(happening) };
        let Some(held) = self.replicas[replica].ailments.stopped.as_mut() else { return Some(happening) };
        held.push(happening);
        None
    }

    /// Whose process has to run for this to happen.
    fn whom(&self, happening: &Happening) -> Option<usize> {
        let end = |connection: &u64, end: usize| Some(self.connections.get(connection)?.ends[end].replica);
        match happening {
            Happening::Wake { replica, .. }
            | Happening::DialFailed { replica, .. }
            | Happening::Hint { replica, .. }
            | Happening::Stored { replica, .. }
            | Happening::Worked { replica, .. }
            | Happening::GiveUp { replica, .. }
            | Happening::RoomReturns { replica, .. }
            | Happening::Forget { replica, .. }
            | Happening::Publish { replica, .. }
            | Happening::Unblock { replica, .. }
            | Happening::Command { replica, .. } => Some(*replica),
            Happening::Opened { connection } => end(connection, 0),
            Happening::Arrive { connection, from } => end(connection, 1 - from),
            Happening::Written { connection, from } => end(connection, *from),
            Happening::Closed { connection, end: which, .. } => end(connection, *which),
            Happening::Planned(_)
            | Happening::Knock { .. }
            | Happening::DieOfDamage { .. }
            | Happening::PowerGoes { .. }
            | Happening::Restart { .. }
            | Happening::StartAgain { .. }
            | Happening::Mend { .. }
            | Happening::ComeBack { .. }
            | Happening::Pursue
            | Happening::ReplaceDisk { .. }
            | Happening::Retire { .. }
            | Happening::Recover { .. }
            | Happening::Restless => None,
        }
    }

    /// An application's command reaches its engine.
    pub(super) fn commanded(
        &mut self,
        replica: usize,
        process: u64,
        id: anabranch_engine::CommandId,
        command: anabranch_engine::Command,
    ) {
        if self.running(replica) == Some(process) {
            self.feed(replica, Input::Command(id, command));
        }
    }
}
