//! Membership in motion: founding, inviting, leaving, and the exchange of log entries that comes before everything.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use minicbor::bytes::{ByteArray, ByteVec};
use tracing::debug;

use crate::engine::Engine;
use crate::engine::input::{CommandId, SessionId};
use crate::engine::output::{CommandError, Event, Output, Reply};
use crate::engine::scans::Scan;
use crate::id::{EntryHash, SpaceId};
use crate::keys::SecretKey;
use crate::limits::{
    BADLY_SIGNED_MAX, ENTRIES_PER_MESSAGE_MAX, RANGES_PER_MESSAGE_MAX, SCAN_BYTES, SPACES_MAX, TICKET_ADDRESSES_MAX,
    USELESS_ENTRIES_BURST, USELESS_ENTRIES_PER_SECOND,
};
use crate::mutants::Mutant;
use crate::space::auth::topic;
use crate::space::membership::{Entry, Inserted, Membership, MembershipError, entry_hash};
use crate::space::roles::Role;
use crate::space::ticket::Ticket;
use crate::space::{Access, Space, entry_key};
use crate::storage::{META_FEED_SEQ, Scanned, Table, feed_key, prefix_end, space_hash_key};
use crate::sync::rate::Allowance;
use crate::sync::reconcile::Differences;
use crate::sync::session::Session;
use crate::wire::{Message, SpaceIndex};

/// Entries of about this many bytes go into one message.
const ENTRIES_MESSAGE_BYTES: usize = 48 * 1024;

/// Useless entries that a member may bring: known ones, ones whose ancestors are missing, ones without power.
const USELESS_ENTRIES: Allowance = Allowance { per_second: USELESS_ENTRIES_PER_SECOND, burst: USELESS_ENTRIES_BURST };
/// The same for a peer that is no member.
const USELESS_ENTRIES_OF_STRANGERS: Allowance =
    Allowance { per_second: USELESS_ENTRIES_PER_SECOND / 25, burst: USELESS_ENTRIES_BURST / 25 };
/// A malformed or badly signed entry costs as much as this many others.
const BAD_ENTRY_PRICE: u64 = 100;

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

    pub(super) fn room_for_a_space(&self) -> Result<(), CommandError> {
        let spaces = self.spaces.len();
        if spaces < SPACES_MAX {
            return Ok(());
        }
        Err(CommandError::Invalid(format!("{spaces} spaces here, limit {SPACES_MAX}")))
    }

    /// The set of our spaces grew: sessions that were opened before do not know it, and a stranger then may be none now.
    pub(super) fn greet_again(&mut self) {
        self.dial_check = true;
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.close_session(id, "the list of shared spaces changed, connecting again");
        }
    }

    pub(super) fn keep_access(&mut self, space: &SpaceId, access: &Access) {
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
        if let Err(error) = self.add_entry(space_id, &entry) {
            return self.reply(command, Err(membership_error(&error)));
        }
        let ticket = Ticket { space: space_id, connection_key, invite_seed: seed, role, addresses };
        self.commits.follow(command, Reply::Ticket(ticket));
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
    pub(super) fn forget_space(&mut self, space_id: SpaceId) {
        let Some(space) = self.spaces.remove(&space_id) else { return };
        self.out(Output::Unsubscribe { topic: topic(&space.connection_key()) });
        let mut waiting = self.joins.remove(&space_id).unwrap_or_default();
        waiting.extend(self.commits.unfollow(&space_id));
        waiting.extend(self.documents.forget_space(&space_id));
        self.poison.forget_space(&space_id);
        self.commits.drop_rows_of(&space_id);
        self.commits.put(Table::Meta, META_FEED_SEQ.to_vec(), self.feed_seq.to_be_bytes().to_vec());
        self.hints.remove(&space_id);
        for command in waiting {
            self.reply(command, Err(CommandError::UnknownSpace(space_id)));
        }
        if !self.mutated.by(Mutant::LeavesInMemoryOnly) {
            self.commits.remove(Table::Spaces, space_id.0.to_vec());
        }
        for (_, seq) in space.records.feed_seqs() {
            if seq != 0 {
                self.commits.remove(Table::Feed, feed_key(seq));
            }
        }
        self.purge(space_id);
        self.share_no_more(&space_id);
        self.check_waits();
    }

    /// Ends the sessions in which a space is shared.
    pub(super) fn share_no_more(&mut self, space: &SpaceId) {
        let shared: Vec<_> = self
            .sessions
            .iter()
            // One whose handshake goes on has told its tags already: the two sides would count their shared spaces differently.
            .filter(|(_, session)| !session.is_open() || session.shared.iter().any(|shared| shared.space == *space))
            .map(|(id, _)| *id)
            .collect();
        for id in shared {
            self.close_session(id, "the list of shared spaces changed, connecting again");
        }
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

    /// An admin says that an entry of unknown authority has none.
    pub(super) fn void_entry(&mut self, command: CommandId, space_id: SpaceId, entry: EntryHash) {
        let nonce = self.random();
        let Some(space) = self.spaces.get(&space_id) else {
            return self.reply(command, Err(CommandError::UnknownSpace(space_id)));
        };
        let voided = space.membership.void(&*self.identity, entry, nonce);
        match voided.and_then(|entry| self.add_entry(space_id, &entry)) {
            Ok(()) => self.commits.follow(command, Reply::Done),
            Err(error) => self.reply(command, Err(membership_error(&error))),
        }
    }

    /// Puts an entry of our own into the log and the next commit, and passes it on.
    pub(super) fn add_entry(&mut self, space_id: SpaceId, entry: &Entry) -> Result<(), MembershipError> {
        let Some(space) = self.spaces.get_mut(&space_id) else { return Ok(()) };
        match space.membership.insert(&entry.bytes)? {
            Inserted::New => self.entry_added(space_id, entry.hash, &entry.bytes, None),
            Inserted::Known => {}
            Inserted::MissingPrev | Inserted::Powerless => return Err(MembershipError::Powerless),
        }
        Ok(())
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
    pub(super) fn members_changed(&mut self, space_id: SpaceId) {
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
                self.learn_name(id);
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
        if self.halted.is_some() {
            return;
        }
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
            && entries.len() < ENTRIES_PER_MESSAGE_MAX
            && let Some(number) = shared.entries.pop_first()
        {
            let entry = space.membership.numbered(number)?;
            bytes += entry.len();
            entries.push(ByteVec::from(entry.to_vec()));
        }
        Some(Message::Entries { space: index as SpaceIndex, entries })
    }

    /// Takes in entries, whoever brings them: whether one is kept follows from its author. What is of no use is paid for.
    pub(super) fn heard_entries(&mut self, id: SessionId, index: SpaceIndex, entries: &[ByteVec]) {
        if self.halted.is_some() {
            return;
        }
        let now = self.now.mono;
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        let Some(space) = self.spaces.get(&space_id) else { return };
        let is_member = space.membership.role(&peer).is_some();
        let checks_repeats = self.mutated.by(Mutant::ChecksRepeats);
        let distinct: BTreeSet<&[u8]> = entries.iter().map(|entry| entry.as_slice()).collect();
        if distinct.len() < entries.len() && !checks_repeats {
            return self.offended(id, "a membership entry twice in a message");
        }
        let allowance = if is_member { USELESS_ENTRIES } else { USELESS_ENTRIES_OF_STRANGERS };
        let has_left = |session: &Session| session.useless_entries.has_left(now, allowance);
        if !self.sessions.get(&id).is_some_and(has_left) {
            // The useful ones are found missing later.
            return debug!(%peer, space = %space_id, "it brings too many entries that are of no use");
        }
        let (mut useless, mut bad) = (0, Vec::new());
        let Some(session) = self.sessions.get(&id) else { return };
        let bad_left = BADLY_SIGNED_MAX.saturating_sub(session.badly_signed);
        for bytes in entries {
            if bad.len() >= bad_left && !checks_repeats {
                break;
            }
            let Some(space) = self.spaces.get_mut(&space_id) else { return };
            match space.membership.insert(bytes) {
                Ok(Inserted::New) => {
                    self.entry_added(space_id, entry_hash(bytes), bytes, Some(id));
                }
                Ok(Inserted::Known) => {
                    useless += 1;
                    continue;
                }
                Ok(Inserted::MissingPrev | Inserted::Powerless) => useless += 1,
                Err(error @ (MembershipError::TooLarge(_) | MembershipError::OtherVersion(_))) => {
                    useless += 1;
                    debug!(%peer, space = %space_id, %error, "an entry is not taken");
                }
                Err(error) => {
                    useless += BAD_ENTRY_PRICE;
                    bad.push(error);
                }
            }
            self.counters.entries_checked += 1;
            self.tolls.of(peer).checks += 1;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.useless_entries.spend(useless, now, allowance);
        session.badly_signed += bad.len();
        self.tolls.of(peer).refused += bad.len() as u64;
        let goes_on = session.badly_signed < BADLY_SIGNED_MAX || checks_repeats;
        match bad.first() {
            Some(error) if goes_on => self.event(Event::PeerMisbehaved { peer, reason: error.to_string() }),
            Some(error) => return self.offended(id, &error.to_string()),
            None => {}
        }
        self.try_join(space_id);
    }

    /// Why the space is read-only here whatever our role is.
    pub(super) fn read_only(&self, space: &Space) -> Option<String> {
        space.membership.unknown_authority().map(|unknown| unknown.to_string())
    }
}

/// Why the log does not let us, as the answer to a command.
pub(super) fn membership_error(error: &MembershipError) -> CommandError {
    match error {
        MembershipError::NotAllowed { .. } | MembershipError::UnknownAuthority(_) => {
            CommandError::NotAllowed(error.to_string())
        }
        // Of what was asked here: there is no entry yet.
        MembershipError::Malformed(what) | MembershipError::TooLarge(what) => CommandError::Invalid(what.clone()),
        MembershipError::InviteUsedUp { .. }
        | MembershipError::NoSuchInvite
        | MembershipError::OtherVersion(_)
        | MembershipError::NothingToVoid(_)
        | MembershipError::AlreadyMember(_)
        | MembershipError::Powerless
        | MembershipError::BadSignature => CommandError::Invalid(error.to_string()),
    }
}
