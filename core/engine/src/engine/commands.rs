//! What the application asks for that takes time, and when it is answered.

use alloc::string::String;
use alloc::vec::Vec;

use crate::engine::Engine;
use crate::engine::input::{Command, CommandId};
use crate::engine::output::{CommandError, Output, Reply};
use crate::engine::scans::Scan;
use crate::feed::FeedRow;
use crate::id::{DeviceId, SpaceId};
use crate::limits::{COMMANDS_PENDING_MAX, FEED_PAGE_MAX};
use crate::storage::{Scanned, Table, feed_key};
use crate::sync::dialer::Source;

/// Bytes of a feed row with a handful of heads: enough for the page asked for, in most cases.
const FEED_ROW_BYTES: usize = 256;

/// Somebody waits until peers are in sync.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    /// Of which space.
    space: SpaceId,
    /// With whom; `None` for every connected member.
    peer: Option<DeviceId>,
    /// What must be answered, by session: roots told before the wait began do not count.
    asked: Vec<(crate::engine::input::SessionId, u32)>,
}

impl Engine {
    pub(super) fn command(&mut self, id: CommandId, command: Command) {
        if let Command::Forget(other) = command {
            self.waits.remove(&other);
            for waiting in self.joins.values_mut() {
                waiting.retain(|command| *command != other);
            }
            for joining in self.purging.values_mut() {
                joining.retain(|(command, _)| *command != other);
            }
            self.documents.forget_command(other);
            return;
        }
        if let Some(reason) = &self.stopped {
            let error = CommandError::Stopped(reason.clone());
            return self.reply(id, Err(error));
        }
        if self.shutting_down.is_some() {
            return self.reply(id, Err(CommandError::Stopped(String::from("it is being shut down"))));
        }
        let writes = match &command {
            Command::CreateSpace { .. }
            | Command::Invite { .. }
            | Command::Join { .. }
            | Command::LeaveSpace { .. }
            | Command::VoidEntry { .. }
            | Command::NameDevice { .. }
            | Command::ForgetPeer { .. }
            | Command::Block { .. }
            | Command::Unblock { .. } => true,
            // One that is here is opened.
            Command::CreateDocument { space, document, .. } => !self.exists(&(*space, *document)),
            Command::OpenDocument { .. }
            | Command::WaitSynced { .. }
            | Command::ReadFeed { .. }
            | Command::MeasureUsage { .. }
            | Command::Dial { .. }
            | Command::ForgetAddress { .. }
            | Command::Forget(_)
            | Command::Shutdown => false,
        };
        if let Some(reason) = self.halted().filter(|_| writes) {
            let error = CommandError::Halted(String::from(reason));
            return self.reply(id, Err(error));
        }
        match command {
            Command::CreateSpace { name } => self.create_space(id, &name),
            Command::Invite { space, role, max_uses, addresses } => self.invite(id, space, role, max_uses, addresses),
            Command::Join { ticket } => self.join(id, ticket),
            Command::LeaveSpace { space } => self.leave_space(id, space),
            Command::VoidEntry { space, entry } => self.void_entry(id, space, entry),
            Command::CreateDocument { space, document, begins } => self.create_document(id, (space, document), begins),
            Command::OpenDocument { space, document } => self.open_document(id, (space, document)),
            Command::WaitSynced { space, peer } => self.wait_synced(id, space, peer),
            Command::ReadFeed { after, limit } => self.read_feed(id, after, limit),
            Command::MeasureUsage { space } => self.measure_usage(id, space),
            Command::Dial { address } => self.dial(id, &address),
            Command::NameDevice { name } => self.name_device(id, &name),
            Command::ForgetPeer { peer } => self.forget_peer(id, peer),
            Command::Block { device } => self.block(id, device),
            Command::Unblock { device } => self.unblock(id, device),
            Command::ForgetAddress { address } => {
                self.dialer.forget(&address);
                self.reply(id, Ok(Reply::Done));
            }
            Command::Forget(_) => {}
            Command::Shutdown => self.shutdown(id),
        }
    }

    fn wait_synced(&mut self, id: CommandId, space: SpaceId, peer: Option<DeviceId>) {
        if !self.spaces.contains_key(&space) {
            return self.reply(id, Err(CommandError::UnknownSpace(space)));
        }
        if self.waits.len() >= COMMANDS_PENDING_MAX {
            let text = alloc::format!("{} commands wait, limit {COMMANDS_PENDING_MAX}", self.waits.len());
            return self.reply(id, Err(CommandError::Invalid(text)));
        }
        let now = self.now.mono;
        let mut asked = Vec::new();
        for (session_id, session) in &mut self.sessions {
            let ask = if session.is_open() && peer.is_none_or(|peer| peer == session.peer) {
                session.shared_in(&space).map(|(index, _)| index).map(|index| (index, session.next_ask(now)))
            } else {
                None
            };
            if let Some((index, ask)) = ask {
                asked.push((*session_id, index, ask));
            }
        }
        for (session, index, ask) in &asked {
            self.tell_roots(*session, Some(&[*index]), *ask, 0);
        }
        let asked = asked.into_iter().map(|(session, _, ask)| (session, ask)).collect();
        self.waits.insert(id, Wait { space, peer, asked });
    }

    /// Answers the waits that have come true.
    pub(super) fn check_waits(&mut self) {
        let waits: Vec<_> = self.waits.iter().map(|(id, wait)| (*id, wait.clone())).collect();
        for (id, wait) in waits {
            if !self.spaces.contains_key(&wait.space) {
                self.waits.remove(&id);
                self.reply(id, Err(CommandError::UnknownSpace(wait.space)));
            } else if self.is_synced(&wait) {
                self.waits.remove(&id);
                self.reply(id, Ok(Reply::Synced));
            }
        }
    }

    fn is_synced(&mut self, wait: &Wait) -> bool {
        if self.documents.unsettled(&wait.space).next().is_some() {
            return false;
        }
        let Some(space) = self.spaces.get(&wait.space) else { return false };
        let mut with_somebody = false;
        for (id, session) in &mut self.sessions {
            if !session.is_open()
                || wait.peer.is_some_and(|peer| peer != session.peer)
                || space.membership.role(&session.peer).is_none()
            {
                continue;
            }
            let Some((_, shared)) = session.shared_in(&wait.space) else { continue };
            let asked = wait.asked.iter().find(|(session, _)| session == id).map_or(0, |(_, ask)| *ask);
            if !shared.in_sync || shared.answered < asked {
                return false;
            }
            with_somebody = true;
        }
        with_somebody
    }

    fn read_feed(&mut self, id: CommandId, after: u64, limit: usize) {
        let limit = limit.clamp(1, FEED_PAGE_MAX);
        self.scan_feed(id, after, limit, Vec::new());
    }

    /// Reads on after `after`, up to where the feed is on disk: a row after that may be lost, and its seq given to another one.
    fn scan_feed(&mut self, command: CommandId, after: u64, limit: usize, rows: Vec<FeedRow>) {
        let to = self.feed_seq_told.saturating_add(1);
        let from = after.saturating_add(1).min(to);
        let bytes_max = limit.saturating_sub(rows.len()) * FEED_ROW_BYTES;
        let scan = Scan::Feed { command, limit, rows };
        self.scan(scan, Table::Feed, feed_key(from), feed_key(to), bytes_max);
    }

    pub(super) fn scanned_feed(&mut self, command: CommandId, limit: usize, mut rows: Vec<FeedRow>, scanned: &Scanned) {
        for (key, value) in &scanned.rows {
            match FeedRow::from_stored(key, value) {
                Ok(row) => rows.push(row),
                Err(error) => return self.stop(alloc::format!("the store is damaged: feed: {error}")),
            }
        }
        match rows.last().map(|row| row.seq) {
            Some(last) if scanned.more && rows.len() < limit => {
                self.scan_feed(command, last, limit, rows);
            }
            Some(_) | None => {
                rows.truncate(limit);
                self.reply(command, Ok(Reply::Feed(rows)));
            }
        }
    }

    fn dial(&mut self, id: CommandId, address: &str) {
        let reply = match self.dialer.learn(address, None, Source::Given, self.now.mono) {
            Ok(_) => Ok(Reply::Done),
            Err(error) => Err(CommandError::Invalid(alloc::format!("{error}"))),
        };
        self.dial_check = true;
        self.reply(id, reply);
    }

    fn shutdown(&mut self, id: CommandId) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for session in ids {
            self.close_session(session, "shutting down");
        }
        self.shutting_down = Some(id);
    }

    /// Everything is on disk, or cannot be: the end.
    pub(super) fn finish_shutdown(&mut self) {
        if let Some(reason) = self.halted().map(String::from)
            && let Some(id) = self.shutting_down.take()
        {
            self.halted = None;
            self.stopped = Some(String::from("it was shut down"));
            self.abandon_commands("it was shut down");
            return self.reply(id, Err(CommandError::Halted(reason)));
        }
        if self.shutting_down.is_some()
            && self.documents.is_clean()
            && self.commits.is_idle()
            && let Some(id) = self.shutting_down.take()
        {
            self.stopped = Some(String::from("it was shut down"));
            self.abandon_commands("it was shut down");
            self.reply(id, Ok(Reply::Done));
        }
    }

    pub(super) fn reply(&mut self, id: CommandId, reply: Result<Reply, CommandError>) {
        self.out(Output::Reply(id, reply));
    }
}
