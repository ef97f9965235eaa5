//! Membership in motion: founding, inviting, joining, leaving, and the exchange of log entries that comes before everything.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use minicbor::bytes::{ByteArray, ByteVec};
use tracing::{debug, info, warn};

use crate::engine::input::{CommandId, SessionId};
use crate::engine::output::{CommandError, Event, Output, Reply};
use crate::engine::{Engine, Scan};
use crate::id::{DeviceId, EntryHash, SpaceId};
use crate::keys::SecretKey;
use crate::limits::{RANGES_PER_MESSAGE_MAX, SCAN_BYTES, SPACES_MAX, TICKET_ADDRESSES_MAX};
use crate::mutants::Mutant;
use crate::space::auth::topic;
use crate::space::membership::{Entry, Inserted, Membership, MembershipError};
use crate::space::roles::Role;
use crate::space::ticket::Ticket;
use crate::space::{Access, Space, entry_key};
use crate::storage::{META_FEED_SEQ, Scanned, Table, feed_key, prefix_end, space_hash_key};
use crate::sync::dialer::Source;
use crate::sync::reconcile::Differences;
use crate::wire::{Message, SpaceIndex};

/// Entries of about this many bytes go into one message.
const ENTRIES_MESSAGE_BYTES: usize = 48 * 1024;

/// Tables with rows of a space, in the order in which they are emptied.
const PURGE_ORDER: [Table; 4] = [Table::Runs, Table::Documents, Table::AclRefs, Table::Members];

impl Engine {
    pub(super) fn create_space(&mut self, command: CommandId, name: &str) {
        if let Err(error) = self.room_for_a_space() {
            return self.reply(command, Err(error));
        }
        let nonce = self.random();
        let (id, membership, genesis) = match Membership::found(&*self.identity, name, nonce) {
            Ok(founded) => founded,
            Err(error) => return self.reply(command, Err(membership_error(&error))),
        };
        let access = Access::founded(self.random());
        self.keep_access(&id, &access);
        self.commits.put(Table::Members, space_hash_key(&id, &genesis.hash.0), genesis.bytes);
        self.spaces.insert(id, Space::new(self.device, access, membership));
        self.subscribe(&id);
        self.commits.follow(command, Reply::SpaceReady(id));
        self.event(Event::MembersChanged { space: id });
    }

    fn room_for_a_space(&self) -> Result<(), CommandError> {
        let spaces = self.spaces.len();
        if spaces < SPACES_MAX {
            return Ok(());
        }
        Err(CommandError::Invalid(format!("{spaces} spaces here, limit {SPACES_MAX}")))
    }

    /// The set of our spaces grew: sessions that were opened before do not know it, and a stranger then may be none now.
    fn greet_again(&mut self) {
        self.dial_check = true;
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.close_session(id, "the shared spaces change: dial again");
        }
    }

    fn keep_access(&mut self, space: &SpaceId, access: &Access) {
        let value = minicbor::to_vec(access).expect("writing to memory does not fail");
        self.commits.put(Table::Spaces, space.0.to_vec(), value);
    }

    pub(super) fn invite(
        &mut self,
        command: CommandId,
        space_id: SpaceId,
        role: Role,
        max_uses: u32,
        addresses: Vec<String>,
    ) {
        let (seed, nonce): ([u8; 32], [u8; 16]) = (self.random(), self.random());
        let Some(space) = self.spaces.get(&space_id) else {
            return self.reply(command, Err(CommandError::UnknownSpace(space_id)));
        };
        if addresses.len() > TICKET_ADDRESSES_MAX {
            let text = format!("{} addresses for a ticket, limit {TICKET_ADDRESSES_MAX}", addresses.len());
            return self.reply(command, Err(CommandError::Invalid(text)));
        }
        if let Some(reason) = self.read_only(space) {
            return self.reply(command, Err(CommandError::NotAllowed(reason)));
        }
        let invite_pk = SecretKey::from_seed(&seed).device();
        let entry = match space.membership.invite(&*self.identity, invite_pk, role, max_uses, nonce) {
            Ok(entry) => entry,
            Err(error) => return self.reply(command, Err(membership_error(&error))),
        };
        let connection_key = space.connection_key();
        let addresses = if addresses.is_empty() { self.own_addresses(TICKET_ADDRESSES_MAX) } else { addresses };
        self.add_entry(space_id, &entry, None);
        let ticket = Ticket { space: space_id, connection_key, invite_seed: seed, role, addresses };
        self.commits.follow(command, Reply::Ticket(ticket));
    }

    pub(super) fn join(&mut self, command: CommandId, ticket: Ticket) {
        if let Some(space) = self.spaces.get(&ticket.space) {
            if space.joining().is_none() {
                // That we are a member may be on its way to the disk; where the others are may be lost from there.
                self.dial_given(ticket.addresses.iter().take(TICKET_ADDRESSES_MAX));
                self.dial_check = true;
                return self.commits.follow(command, Reply::SpaceReady(ticket.space));
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
        let access = Access::joining(&ticket);
        self.keep_access(&ticket.space, &access);
        match self.spaces.get_mut(&ticket.space) {
            Some(space) => space.access = access,
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

    /// Dials these addresses, whoever may answer there.
    pub(super) fn dial_given<'a>(&mut self, addresses: impl Iterator<Item = &'a String>) {
        for address in addresses {
            if let Err(error) = self.dialer.learn(address, None, Source::Given, self.now.mono) {
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

    /// Signs our own entry as soon as the log shows the invite.
    fn try_join(&mut self, space_id: SpaceId) {
        let nonce = self.random();
        let Some(space) = self.spaces.get(&space_id) else { return };
        let Some(invite) = space.joining() else { return };
        if space.membership.role(&self.device).is_some() {
            return;
        }
        match space.membership.join(&*self.identity, &invite, nonce) {
            Ok(entry) => self.add_entry(space_id, &entry, None),
            Err(error) => debug!(space = %space_id, %error, "cannot join yet"),
        }
    }

    /// A peer has the same membership log: if it is a member and we are in the log, we are admitted.
    pub(super) fn members_agreed(&mut self, space_id: SpaceId, peer: DeviceId) {
        let Some(space) = self.spaces.get_mut(&space_id) else { return };
        if space.joining().is_none()
            || space.membership.role(&self.device).is_none()
            || space.membership.role(&peer).is_none()
        {
            return;
        }
        info!(space = %space_id, "joined");
        space.access.invite = None;
        let access = space.access.clone();
        self.keep_access(&space_id, &access);
        for command in self.joins.remove(&space_id).unwrap_or_default() {
            self.commits.follow(command, Reply::SpaceReady(space_id));
        }
        self.subscribe(&space_id);
        self.event(Event::SpaceJoined { space: space_id });
        self.members_changed(space_id);
    }

    pub(super) fn heard_join_refused(&mut self, id: SessionId, index: SpaceIndex, reason: &str) {
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        // Heeded from a member only: others who hold the ticket decide nothing.
        let heed = self
            .spaces
            .get(&space_id)
            .is_some_and(|space| space.joining().is_some() && space.membership.role(&peer).is_some());
        if !heed {
            return;
        }
        self.not_admitted(space_id, peer, reason.chars().take(200).collect());
    }

    fn not_admitted(&mut self, space_id: SpaceId, peer: DeviceId, reason: String) {
        info!(space = %space_id, %peer, reason, "not admitted");
        for command in self.joins.remove(&space_id).unwrap_or_default() {
            self.reply(command, Err(CommandError::Refused { peer, reason: reason.clone() }));
        }
        self.event(Event::JoinRefused { space: space_id, peer, reason });
        self.forget_space(space_id);
    }

    pub(super) fn leave_space(&mut self, command: CommandId, space_id: SpaceId) {
        let joining = self.purging.get_mut(&space_id).map(core::mem::take).unwrap_or_default();
        if !self.spaces.contains_key(&space_id) && joining.is_empty() {
            return self.reply(command, Err(CommandError::UnknownSpace(space_id)));
        }
        for (joining, _) in joining {
            self.reply(joining, Err(CommandError::UnknownSpace(space_id)));
        }
        self.forget_space(space_id);
        self.commits.follow(command, Reply::Done);
    }

    /// Removes a space here. Its access goes first; if the process dies before the rest is gone, the next start goes on.
    fn forget_space(&mut self, space_id: SpaceId) {
        let Some(space) = self.spaces.remove(&space_id) else { return };
        self.out(Output::Unsubscribe { topic: topic(&space.connection_key()) });
        let mut waiting = self.joins.remove(&space_id).unwrap_or_default();
        waiting.extend(self.commits.unfollow(&space_id));
        for (_, mut resident) in self.residents.extract_if(.., |key, _| key.0 == space_id) {
            waiting.extend(resident.take_waiting());
        }
        self.dirty.retain(|key| key.0 != space_id);
        self.touched.retain(|key| key.0 != space_id);
        self.unrecorded.retain(|key| key.0 != space_id);
        self.waiting_since.retain(|key, _| key.0 != space_id);
        self.broken.retain(|key, _| key.0 != space_id);
        self.to_mend.retain(|key| key.0 != space_id);
        self.to_reread.retain(|key| key.0 != space_id);
        self.commits.drop_rows_of(&space_id);
        self.commits.put(Table::Meta, META_FEED_SEQ.to_vec(), self.feed_seq.to_be_bytes().to_vec());
        self.hints.remove(&space_id);
        for command in waiting {
            self.reply(command, Err(CommandError::UnknownSpace(space_id)));
        }
        if !self.mutated.by(Mutant::LeavesInMemoryOnly) {
            self.commits.remove(Table::Spaces, space_id.0.to_vec());
        }
        for record in space.records.values() {
            if record.feed_seq != 0 {
                self.commits.remove(Table::Feed, feed_key(record.feed_seq));
            }
        }
        self.purge(space_id);
        let shared: Vec<_> = self
            .sessions
            .iter()
            // One whose handshake goes on has told its tags already: the two sides would count their shared spaces differently.
            .filter(|(_, session)| !session.is_open() || session.shared.iter().any(|shared| shared.space == space_id))
            .map(|(id, _)| *id)
            .collect();
        for id in shared {
            self.close_session(id, "the shared spaces change: dial again");
        }
        self.check_waits();
    }

    /// Removes what is left of a space's rows, a page at a time; the membership log last, because what is left of it is how
    /// the next start knows that there is something to remove.
    pub(super) fn purge(&mut self, space: SpaceId) {
        self.purging.entry(space).or_default();
        self.purge_table(space, PURGE_ORDER[0], space.0.to_vec());
    }

    fn purge_table(&mut self, space: SpaceId, table: Table, from: Vec<u8>) {
        self.scan(Scan::Purge(space, table), table, from, prefix_end(&space.0), SCAN_BYTES);
    }

    /// A page of rows of a space that we left was read.
    pub(super) fn scanned_purge(&mut self, space: SpaceId, table: Table, scanned: Scanned) {
        let last = scanned.rows.last().map(|(key, _)| [key.as_slice(), &[0]].concat());
        for (key, _) in scanned.rows {
            self.commits.remove(table, key);
        }
        if let (Some(from), true) = (last, scanned.more) {
            return self.purge_table(space, table, from);
        }
        match PURGE_ORDER.into_iter().skip_while(|at| *at != table).nth(1) {
            Some(next) => self.purge_table(space, next, space.0.to_vec()),
            None => {
                for (command, ticket) in self.purging.remove(&space).unwrap_or_default() {
                    self.join(command, ticket);
                }
            }
        }
    }

    /// Puts a new entry into the log and the next commit, and passes it on.
    fn add_entry(&mut self, space_id: SpaceId, entry: &Entry, from: Option<SessionId>) {
        let Some(space) = self.spaces.get_mut(&space_id) else { return };
        match space.membership.insert(&entry.bytes) {
            Ok(Inserted::New) => self.entry_added(space_id, entry.hash, &entry.bytes, from),
            Ok(Inserted::Known | Inserted::NotAdmitted) => {}
            Ok(Inserted::MissingPrev) => warn!(space = %space_id, "our own entry names entries that are not here"),
            Err(error) => warn!(space = %space_id, %error, "our own entry was refused"),
        }
    }

    fn entry_added(&mut self, space_id: SpaceId, hash: EntryHash, bytes: &[u8], from: Option<SessionId>) {
        let Some(space) = self.spaces.get_mut(&space_id) else { return };
        space.entry_added(&hash);
        self.commits.put(Table::Members, space_hash_key(&space_id, &hash.0), bytes.to_vec());
        let number = space.membership.number(&entry_key(&hash));
        for (id, session) in self.sessions.iter_mut().filter(|(id, session)| session.is_open() && Some(**id) != from) {
            if let Some((_, shared)) = session.shared_in(&space_id) {
                shared.entries.extend(number);
                self.to_pump.insert(*id);
            }
        }
        self.members_changed(space_id);
    }

    /// Roles may have changed: say so, and tell every peer where we stand now.
    fn members_changed(&mut self, space_id: SpaceId) {
        self.event(Event::MembersChanged { space: space_id });
        self.changed_members.insert(space_id);
        self.dial_check = true;
    }

    /// Tells roots for the spaces whose members changed in this turn.
    pub(super) fn tell_changed_members(&mut self) {
        while let Some(space_id) = self.changed_members.pop_first() {
            self.read_leftovers_of(&space_id);
            let sessions: Vec<_> = self
                .sessions
                .iter_mut()
                .filter(|(_, session)| session.is_open())
                .filter_map(|(id, session)| session.shared_in(&space_id).map(|(index, _)| (*id, index)))
                .collect();
            for (id, index) in sessions {
                self.learn_addresses(id);
                self.tell_roots(id, Some(&[index]), 0, 0);
                self.introduce(id);
                self.compare_roots(id, index);
            }
        }
    }

    /// Sends the entries that the peer lacks and asks for those that we lack.
    pub(super) fn exchange_entries(&mut self, id: SessionId, index: SpaceIndex, differences: Differences) {
        let Differences { missing_here, mut missing_there, differing } = differences;
        missing_there.extend(differing);
        self.say_entries(id, index, &missing_there);
        for keys in missing_here.chunks(RANGES_PER_MESSAGE_MAX) {
            let keys = keys.iter().map(|key| ByteArray::from(*key)).collect();
            self.say(id, &Message::WantEntries { space: index, keys });
        }
    }

    pub(super) fn heard_want_entries(&mut self, id: SessionId, index: SpaceIndex, keys: &[ByteArray<16>]) {
        let keys: Vec<[u8; 16]> = keys.iter().take(RANGES_PER_MESSAGE_MAX).map(|key| **key).collect();
        self.say_entries(id, index, &keys);
    }

    fn say_entries(&mut self, id: SessionId, index: SpaceIndex, keys: &[[u8; 16]]) {
        let Some((space_id, _)) = self.shared_space(id, index) else { return };
        let Some(space) = self.spaces.get(&space_id) else { return };
        if let Some(shared) = self.sessions.get_mut(&id).and_then(|session| session.shared_at(index)) {
            shared.entries.extend(keys.iter().filter_map(|key| space.membership.number(key)));
            self.to_pump.insert(id);
        }
    }

    /// Sends the entries that wait for a peer as fast as it takes them in, each after those that it names. A log may be as
    /// large as `ENTRIES_PER_SPACE_MAX`, and more than a queue takes.
    pub(super) fn pump_entries(&mut self, id: SessionId) {
        while let Some(message) = self.next_entries(id) {
            self.say(id, &message);
            self.flush(id);
        }
    }

    fn next_entries(&mut self, id: SessionId) -> Option<Message> {
        let session = self.sessions.get_mut(&id)?;
        if session.lanes.is_slow() {
            return None;
        }
        let mut shared = session.shared.iter_mut().enumerate();
        let (index, shared) = shared.find(|(_, shared)| !shared.entries.is_empty())?;
        let space = self.spaces.get(&shared.space)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while bytes <= ENTRIES_MESSAGE_BYTES
            && let Some(number) = shared.entries.pop_first()
        {
            let entry = space.membership.numbered(number)?;
            bytes += entry.len();
            entries.push(ByteVec::from(entry.to_vec()));
        }
        Some(Message::Entries { space: index as SpaceIndex, entries })
    }

    pub(super) fn heard_entries(&mut self, id: SessionId, index: SpaceIndex, entries: &[ByteVec]) {
        let mut complained = false;
        for bytes in entries {
            let Some((space_id, peer)) = self.shared_space(id, index) else { return };
            let Some(space) = self.spaces.get_mut(&space_id) else { return };
            // Who holds only the connection key may bring what members signed, and joinings that an invite still admits:
            // its own, and those of others who were let in where it was. A joiner has no log to judge by: it
            // takes what leads back to the genesis entry that the ticket named.
            let (member, joining) = (space.membership.role(&peer).is_some(), space.joining().is_some());
            let trusted = member || joining;
            let inserted = match trusted {
                true if joining => space.membership.insert(bytes),
                true => space.membership.take_from(bytes, &peer),
                false => space.membership.admit(bytes, &peer),
            };
            match inserted {
                Ok(Inserted::New) => {
                    let hash = crate::space::membership::entry_hash(bytes);
                    self.entry_added(space_id, hash, bytes, Some(id));
                }
                Ok(Inserted::Known) => {}
                Ok(Inserted::NotAdmitted) => {
                    debug!(%peer, space = %space_id, "somebody else's joining is not admitted");
                }
                Ok(Inserted::MissingPrev) => debug!(%peer, space = %space_id, "an entry before those it names"),
                // A message can hold two million empty entries: there is one answer to all of them.
                Err(_) if complained => {}
                Err(error) => {
                    complained = true;
                    let reason = error.to_string();
                    if trusted {
                        self.event(Event::PeerMisbehaved { peer, reason });
                    } else {
                        self.counters.joins_refused += 1;
                        self.say(id, &Message::JoinRefused { space: index, reason });
                    }
                }
            }
        }
        if let Some((space_id, _)) = self.shared_space(id, index) {
            self.try_join(space_id);
        }
    }

    /// Why the space is read-only here whatever our role is.
    pub(super) fn read_only(&self, space: &Space) -> Option<String> {
        space.membership.unknown_authority().map(|kind| {
            format!("the space uses membership entries of kind {kind}, which this version does not know: update it")
        })
    }
}

fn membership_error(error: &MembershipError) -> CommandError {
    match error {
        MembershipError::NotAllowed { .. } | MembershipError::UnknownAuthority(_) => {
            CommandError::NotAllowed(error.to_string())
        }
        MembershipError::Malformed(_)
        | MembershipError::TooLarge(_)
        | MembershipError::InviteUsedUp { .. }
        | MembershipError::NoSuchInvite => CommandError::Invalid(error.to_string()),
    }
}
