//! Joining: from a ticket to a role, for those who are not in yet and for members that are invited again.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use tracing::{debug, info, warn};

use crate::engine::Engine;
use crate::engine::input::{CommandId, SessionId};
use crate::engine::members::membership_error;
use crate::engine::output::{CommandError, Event, Reply};
use crate::engine::said::said;
use crate::id::{DeviceId, SpaceId};
use crate::limits::TICKET_ADDRESSES_MAX;
use crate::space::membership::{JoinRequest, Membership, MembershipError};
use crate::space::roles::Role;
use crate::space::ticket::Ticket;
use crate::space::{Access, Invitation, Space};
use crate::sync::dialer::Source;
use crate::wire::{Message, SpaceIndex};

impl Engine {
    pub(super) fn join(&mut self, command: CommandId, ticket: Ticket) {
        if let Some(space) = self.spaces.get(&ticket.space) {
            if space.is_admitted() {
                return self.join_again(command, &ticket);
            }
        } else if let Err(error) = self.room_for_a_space() {
            return self.reply(command, Err(error));
        }
        if let Some(joining) = self.purging.get_mut(&ticket.space) {
            // It was left a moment ago: what is still being removed would take the new rows with it.
            joining.push((command, ticket));
            return;
        }
        info!(space = %ticket.space, "joining");
        let former = self.spaces.get(&ticket.space).and_then(|space| space.access.former);
        let access = Access { former, ..Access::joining(&ticket) };
        self.keep_access(&ticket.space, &access);
        match self.spaces.get_mut(&ticket.space) {
            Some(space) => space.joins_with(access),
            None => {
                self.spaces.insert(ticket.space, Space::new(self.device, access, Membership::unknown(ticket.space)));
            }
        }
        self.joins.entry(ticket.space).or_default().push(command);
        // With an earlier ticket the log may be here already, invite and all: nothing more would come.
        self.try_join(ticket.space);
        self.dial_given(ticket.addresses.iter().take(TICKET_ADDRESSES_MAX));
        self.greet_again();
    }

    /// A member has another ticket. One that says no more than we have changes nothing. One that does is taken up as soon as
    /// the log shows its invite: at once, or when a member is met that knows it.
    fn join_again(&mut self, command: CommandId, ticket: &Ticket) {
        // Where the others are may be lost from the disk, and nobody met before the next start.
        self.dial_given(ticket.addresses.iter().take(TICKET_ADDRESSES_MAX));
        self.dial_check = true;
        let invitation = Invitation::of(ticket);
        let Some(space) = self.spaces.get_mut(&ticket.space) else { return };
        space.access.told(&ticket.addresses);
        if space.membership.role(&self.device).is_some_and(|role| !invitation.exceeds(role)) {
            let access = space.access.clone();
            self.keep_access(&ticket.space, &access);
            // That we are a member may be on its way to the disk.
            return self.commits.follow(command, Reply::SpaceReady(ticket.space));
        }
        info!(space = %ticket.space, role = %ticket.role, "invited again");
        // A lesser one does not take the place of one that is waited for.
        if space.access.again.as_ref().is_none_or(|waiting| !waiting.exceeds(ticket.role)) {
            space.access.again = Some(invitation);
        }
        let access = space.access.clone();
        self.keep_access(&ticket.space, &access);
        self.joins.entry(ticket.space).or_default().push(command);
        self.try_join(ticket.space);
    }

    /// Dials these addresses, whoever may answer there.
    pub(super) fn dial_given<'a>(&mut self, addresses: impl Iterator<Item = &'a String>) {
        for address in addresses {
            if let Err(error) = self.dialer.learn(address, None, Source::Ticket, self.now.mono) {
                warn!(%error, "an address is not dialed");
            }
        }
    }

    /// Whoever answers at an address of a ticket does not have the space that it names. When that is so at all of them, the
    /// wish to join is dropped.
    pub(super) fn ticket_is_for_another_space(&mut self, address: &str, peer: DeviceId) {
        let spaces: Vec<_> = self
            .spaces
            .iter_mut()
            .filter_map(|(id, space)| space.answered_by_a_stranger(address).then_some(*id))
            .collect();
        for space in spaces {
            let reason = String::from("the peer at this address does not have the space that the ticket names");
            self.not_admitted(space, peer, reason);
        }
    }

    /// Asks to be let in as soon as the log shows the invite. A member lets itself in.
    pub(super) fn try_join(&mut self, space_id: SpaceId) {
        let nonce = self.random();
        let Some(space) = self.spaces.get(&space_id) else { return };
        let role = space.membership.role(&self.device);
        let Some((invite, is_joining)) = space.access.wanted() else { return };
        if role.is_none() {
            return self.ask_to_join(space_id);
        }
        let exceeds = role.is_some_and(|role| invite.exceeds(role));
        let entry = space.membership.join_again(&*self.identity, &invite.key(), nonce);
        let joined = entry.and_then(|entry| entry.iter().try_for_each(|entry| self.add_entry(space_id, entry)));
        match joined {
            Ok(()) if !is_joining => self.invited_again(space_id, None),
            Err(MembershipError::NoSuchInvite) if !is_joining && !exceeds => self.invited_again(space_id, None),
            Err(error) if !is_joining && error != MembershipError::NoSuchInvite => {
                self.invited_again(space_id, Some(&error));
            }
            Ok(()) => {}
            Err(error) => debug!(space = %space_id, %error, "the ticket cannot be used yet"),
        }
    }

    /// Asks every connected member that may let us in: at once when the log has changed, and else ever more rarely.
    fn ask_to_join(&mut self, space_id: SpaceId) {
        let Some(space) = self.spaces.get(&space_id) else { return };
        let Some((invite, _)) = space.access.wanted() else { return };
        let request = match space.membership.request(&self.device, &invite.key()) {
            Ok(request) => request,
            Err(error) => return debug!(space = %space_id, %error, "cannot join yet"),
        };
        let (heads, now) = (space.membership.heads(), self.now.mono);
        let may_let_in = |device: &DeviceId| space.membership.role(device).is_some_and(Role::can_write);
        let mut asked = Vec::new();
        for (id, session) in self.sessions.iter_mut().filter(|(_, session)| session.is_open()) {
            let peer = session.peer;
            if let Some((index, shared)) = session.shared_in(&space_id)
                && may_let_in(&peer)
                && shared.asks_to_join(request.invite, &heads, now)
            {
                asked.push((*id, index));
            }
        }
        for (id, index) in asked {
            let message = Message::Join { space: index, invite: request.invite, proof: request.proof.into() };
            self.say(id, &message);
        }
    }

    /// A device that is no member asks to be let in.
    pub(super) fn heard_join(&mut self, id: SessionId, index: SpaceIndex, request: &JoinRequest) {
        if self.halted.is_some() {
            return;
        }
        let nonce = self.random();
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        let Some(space) = self.spaces.get(&space_id) else { return };
        let own = space.membership.role(&self.device);
        let can_answer = space.is_admitted() && own.is_some_and(Role::can_write);
        if !can_answer || space.membership.role(&peer).is_some() {
            // A writer will, or has.
            return;
        }
        let entry = space.membership.admit(&*self.identity, &peer, request, nonce);
        match entry.and_then(|entry| self.add_entry(space_id, &entry)) {
            Ok(()) => info!(%peer, space = %space_id, "let in"),
            // It has the log from somebody who knows more.
            Err(MembershipError::NoSuchInvite) => debug!(%peer, space = %space_id, "its invite is not here yet"),
            Err(error @ MembershipError::Malformed(_)) => {
                self.offended(id, &alloc::format!("a request to join: {error}"));
            }
            // That we have no room, or know an entry that we do not understand, need not be so for an admin.
            Err(error) if !is_of_the_ticket(&error) && own != Some(Role::Admin) => {
                debug!(%peer, space = %space_id, %error, "not let in by us");
            }
            Err(error) => {
                self.counters.joins_refused += 1;
                self.say(id, &Message::JoinRefused { space: index, reason: error.to_string() });
            }
        }
    }

    /// We have another role: what was refused because of the one before can be sent again, signed again.
    fn offer_again(&mut self, space: &SpaceId) {
        for session in self.sessions.values_mut() {
            if let Some((_, shared)) = session.shared_in(space) {
                shared.forget_refused();
            }
        }
    }

    /// What a second invitation gives is settled.
    fn invited_again(&mut self, space_id: SpaceId, error: Option<&MembershipError>) {
        let Some(space) = self.spaces.get_mut(&space_id) else { return };
        space.access.again = None;
        space.forget_former();
        self.offer_again(&space_id);
        let Some(space) = self.spaces.get(&space_id) else { return };
        let access = space.access.clone();
        self.keep_access(&space_id, &access);
        for command in self.joins.remove(&space_id).unwrap_or_default() {
            match error {
                Some(error) => self.reply(command, Err(membership_error(error))),
                None => self.commits.follow(command, Reply::SpaceReady(space_id)),
            }
        }
    }

    /// A peer has the same membership log: if it is a member and we are in the log, we are admitted.
    pub(super) fn members_agreed(&mut self, space_id: SpaceId, peer: DeviceId) {
        let Some(space) = self.spaces.get_mut(&space_id) else { return };
        let Some(role) = space.membership.role(&self.device) else { return self.ask_to_join(space_id) };
        if space.joining().is_none() || space.membership.role(&peer).is_none() {
            return;
        }
        info!(space = %space_id, "joined");
        // Who was a member before is one again, whoever knows of the new invite.
        let invite = space.access.invite.take().filter(|invite| invite.exceeds(role));
        space.access.again = invite.or_else(|| space.access.again.take());
        space.forget_former();
        let access = space.access.clone();
        self.keep_access(&space_id, &access);
        if access.again.is_none() {
            for command in self.joins.remove(&space_id).unwrap_or_default() {
                self.commits.follow(command, Reply::SpaceReady(space_id));
            }
        }
        self.subscribe(&space_id);
        self.event(Event::SpaceJoined { space: space_id });
        self.members_changed(space_id);
        self.try_join(space_id);
    }

    pub(super) fn heard_join_refused(&mut self, id: SessionId, index: SpaceIndex, reason: &str) {
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        // Heeded from who was asked only, which is a member that may let us in: others decide nothing.
        let was_asked = self.sessions.get_mut(&id).and_then(|session| session.shared_at(index));
        let was_asked = was_asked.is_some_and(|shared| shared.has_asked_to_join());
        let is_let_in =
            |space: &Space| space.membership.role(&self.device).is_some() || space.access.wanted().is_none();
        if !was_asked || self.spaces.get(&space_id).is_none_or(is_let_in) {
            return;
        }
        self.not_admitted(space_id, peer, said(reason));
    }

    fn not_admitted(&mut self, space_id: SpaceId, peer: DeviceId, reason: String) {
        info!(space = %space_id, %peer, reason, "not admitted");
        for command in self.joins.remove(&space_id).unwrap_or_default() {
            self.reply(command, Err(CommandError::Refused { peer, reason: reason.clone() }));
        }
        self.event(Event::JoinRefused { space: space_id, peer, reason });
        match self.spaces.get_mut(&space_id) {
            // What is here was not brought by this ticket.
            Some(space) if space.access.former.is_some() => {
                space.joins_with(Access { invite: None, ..space.access.clone() });
                let access = space.access.clone();
                self.keep_access(&space_id, &access);
                self.members_changed(space_id);
                self.share_no_more(&space_id);
            }
            // We were a member once, and what we wrote may be nowhere else.
            Some(space) if !space.records.is_empty() => {
                space.access.again = None;
                space.access.invite = Some(Invitation::lost());
                let access = space.access.clone();
                self.keep_access(&space_id, &access);
            }
            _ => self.forget_space(space_id),
        }
    }
}

/// Whether a ticket is refused for what it is, and not for the state of who refuses it: then no other member takes it.
fn is_of_the_ticket(error: &MembershipError) -> bool {
    matches!(error, MembershipError::InviteUsedUp { .. })
}
