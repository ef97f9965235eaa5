//! Devices that people here want nothing to do with, until a member can be removed. It is this replica's own business, kept on
//! its disk and told to nobody but the device: no session with them, and of what they write only what others have built on.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use tracing::info;

use crate::engine::Engine;
use crate::engine::input::CommandId;
use crate::engine::output::{CommandError, Reply};
use crate::id::DeviceId;
use crate::limits::BLOCKED_MAX;
use crate::storage::{META_BLOCKED, Table};

/// Why a session with a blocked device ends.
pub(super) const REASON: &str = "this device is blocked here";

impl Engine {
    /// Devices that are blocked here.
    pub fn blocked(&self) -> &BTreeSet<DeviceId> {
        &self.blocked
    }

    pub(super) fn block(&mut self, command: CommandId, device: DeviceId) {
        if device == self.device {
            let text = format!("{device} is this device");
            return self.reply(command, Err(CommandError::Invalid(text)));
        }
        let blocked = self.blocked.len();
        if blocked >= BLOCKED_MAX && !self.blocked.contains(&device) {
            let text = format!("{blocked} devices are blocked, limit {BLOCKED_MAX}");
            return self.reply(command, Err(CommandError::Invalid(text)));
        }
        info!(%device, "blocked");
        self.blocked.insert(device);
        self.commits.put(Table::Meta, [META_BLOCKED, &device.0].concat(), Vec::new());
        let sessions = self.sessions.iter().filter(|(_, session)| session.peer == device);
        for id in sessions.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_session(id, REASON);
        }
        self.choose_again_whom_to_dial();
        self.commits.follow(command, Reply::Done);
    }

    pub(super) fn unblock(&mut self, command: CommandId, device: DeviceId) {
        let was_blocked = self.blocked.remove(&device);
        // The row may still be there where a disk failed before.
        self.commits.remove(Table::Meta, [META_BLOCKED, &device.0].concat());
        if was_blocked {
            info!(%device, "blocked no more");
            self.choose_again_whom_to_dial();
            // What was left of its runs is asked for again.
            for id in self.open_sessions() {
                self.close_session(id, "reconnecting to fetch what the block left out");
            }
        }
        self.commits.follow(command, Reply::Done);
    }
}
