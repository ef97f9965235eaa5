//! Devices that people here want nothing to do with, until a member can be removed. It is this replica's own business, kept on
//! its disk and told to nobody but the device: no session with them, and of what they write only what others have built on.
//! Other peers can tell from our requests which documents we take nothing of.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use tracing::info;

use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::input::{CommandId, SessionId};
use crate::engine::output::{CommandError, Reply};
use crate::gate::{self, Intake};
use crate::id::DeviceId;
use crate::limits::BLOCKED_MAX;
use crate::run::{Run, RunHeader};
use crate::storage::{META_BLOCKED, Table};
use crate::sync::session::Shared;
use crate::wire::{ActorTip, RefusalCode};

/// Why a session with a blocked device ends.
pub(super) const REASON: &str = "this device is blocked here";

/// When a run by a device is merged.
pub(super) fn intake(blocked: &BTreeSet<DeviceId>, device: &DeviceId) -> Intake {
    if blocked.contains(device) { Intake::OnDemand } else { Intake::Always }
}

impl Engine {
    /// A run of a blocked device that nobody builds on is not taken from the peer that brought it.
    pub(super) fn leave_out(&mut self, from: Option<SessionId>, run: &Run) {
        self.counters.runs_left_out += 1;
        let header = &run.header;
        if !self.blocked.contains(&header.device) {
            // The block was taken back meanwhile.
            return self.space_changed(&header.space);
        }
        let shared =
            from.and_then(|id| self.sessions.get_mut(&id)).and_then(|session| session.shared_in(&header.space));
        if let (Some((_, shared)), Ok((_, lamport))) = (shared, gate::lamports(&run.payload)) {
            let tip = ActorTip { actor: header.actor, seq: header.last_seq, lamport, tip: header.tip };
            shared.left_out.note(header.document, tip);
        }
    }

    /// Tells a peer to send of a document only what we ask for: once for the document, and again when it comes to the end of a
    /// chain that it has sent before.
    pub(super) fn tell_not_wanted(&mut self, session: SessionId, header: &RunHeader) {
        let shared = self.sessions.get_mut(&session).and_then(|session| session.shared_in(&header.space));
        let Some((_, Shared { left_out, .. })) = shared else { return };
        let document = &header.document;
        if !left_out.has(document) || left_out.until(document, &header.actor) == Some(header.last_seq) {
            let text = "of this document only what was asked for is taken";
            _ = self.answer_refusal(session, header, RefusalCode::NotWanted, text);
        }
    }

    /// A waiting run may build on what was left out of a document, so peers are asked for all of that document.
    pub(super) fn ask_for_left_out(&mut self, key: DocumentKey) {
        let mut has_any = false;
        for session in self.sessions.values_mut() {
            if let Some((_, shared)) = session.shared_in(&key.0) {
                has_any |= shared.left_out.forget(&key.1);
            }
        }
        if has_any {
            self.space_changed(&key.0);
        }
    }

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
