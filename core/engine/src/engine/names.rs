//! What devices are called. A device names itself and tells the peers it meets; nobody tells of others. A name is a claim, made
//! by a member: it is shown beside the device's id, never instead of it.

use alloc::format;
use alloc::string::{String, ToString as _};

use tracing::debug;

use crate::engine::Engine;
use crate::engine::input::{CommandId, SessionId};
use crate::engine::output::{CommandError, Reply};
use crate::id::DeviceId;
use crate::limits::{DEVICE_NAME_BYTES_MAX, OWN_NAME_BURST, OWN_NAME_PER_SECOND};
use crate::storage::{META_DEVICE_NAME, Table};
use crate::sync::rate::Allowance;
use crate::wire::Message;

const OWN_NAME: Allowance = Allowance { per_second: OWN_NAME_PER_SECOND, burst: OWN_NAME_BURST };

impl Engine {
    /// What a device calls itself: this one, or a member that was met.
    pub fn device_name(&self, device: &DeviceId) -> Option<&str> {
        if *device == self.device {
            return self.own_name.as_deref();
        }
        self.remembered.get(device)?.name.as_deref()
    }

    /// The application names this device; an empty name takes its name away.
    pub(super) fn name_device(&mut self, command: CommandId, name: &str) {
        let name = name.trim();
        if let Err(reason) = check_name(name) {
            return self.reply(command, Err(CommandError::Invalid(reason)));
        }
        self.own_name = Some(name).filter(|name| !name.is_empty()).map(String::from);
        match &self.own_name {
            Some(name) => self.commits.put(Table::Meta, META_DEVICE_NAME.to_vec(), name.as_bytes().to_vec()),
            None => self.commits.remove(Table::Meta, META_DEVICE_NAME.to_vec()),
        }
        self.commits.follow(command, Reply::Done);
        let message = Message::Name { name: name.to_string() };
        for id in self.open_sessions() {
            self.say(id, &message);
        }
    }

    /// Tells a peer what this device is called.
    pub(super) fn tell_name(&mut self, id: SessionId) {
        if let Some(name) = self.own_name.clone() {
            self.say(id, &Message::Name { name });
        }
    }

    pub(super) fn heard_name(&mut self, id: SessionId, name: &str) {
        if let Err(reason) = check_name(name) {
            return self.misbehaved(id, &reason);
        }
        let now = self.now.mono;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let peer = session.peer;
        if !session.own_name.has_left(now, OWN_NAME) {
            return debug!(%peer, "it changes its name too often");
        }
        session.own_name.spend(1, now, OWN_NAME);
        session.said_name = Some(name.to_string());
        self.learn_name(id);
    }

    /// Remembers what the peer of a session calls itself, once it is known as a member of a space of ours.
    pub(super) fn learn_name(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (peer, Some(name)) = (session.peer, session.said_name.clone()) else { return };
        if self.halted.is_some() || !self.is_member_somewhere(&peer) {
            return;
        }
        let name = Some(name).filter(|name| !name.is_empty());
        let mut known = self.remembered.get(&peer).cloned().unwrap_or_default();
        if known.name != name {
            known.name = name;
            self.remember(peer, known);
        }
    }
}

/// Control characters would do something to whatever shows the name.
fn check_name(name: &str) -> Result<(), String> {
    if name.len() > DEVICE_NAME_BYTES_MAX {
        return Err(format!("a device's name of {} bytes, limit {DEVICE_NAME_BYTES_MAX}", name.len()));
    }
    match name.chars().find(|character| character.is_control()) {
        Some(character) => Err(format!("a device's name with the control character {character:?}")),
        None => Ok(()),
    }
}
