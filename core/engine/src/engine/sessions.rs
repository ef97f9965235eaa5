//! Sessions: how they open and end, how their frames become messages and messages frames, and where two peers stand.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::borrow::Borrow;

use minicbor::bytes::ByteArray;
use tracing::{debug, info, trace};

use crate::engine::Engine;
use crate::engine::blocked;
use crate::engine::input::SessionId;
use crate::engine::output::{Event, Output};
use crate::engine::reach;
use crate::engine::said::said;
use crate::id::{DeviceId, SpaceId};
use crate::limits::{
    ADDRESSES_PER_DEVICE_MAX, ANSWER_BYTES_BURST, ANSWER_BYTES_PER_SECOND, ASSEMBLY_BYTES_MAX, BULK_CREDIT_BYTES,
    COMMIT_BYTES_MAX, DEAD_PEER_AFTER, DOCUMENTS_UNRECORDED_MAX, GUEST_SESSIONS_MAX, GUEST_TIME_MAX, INBOX_BYTES_MAX,
    KEEP_ALIVE_INTERVAL, RECONCILIATIONS_BURST, RECONCILIATIONS_PER_SECOND, SESSIONS_MAX, STALL_AFTER,
};
use crate::mutants::Mutant;
use crate::space::Space;
use crate::space::auth::topic;
use crate::space::membership::JoinRequest;
use crate::sync::admission::Announced;
use crate::sync::collection::fingerprint;
use crate::sync::rate::Allowance;
use crate::sync::reconcile::Reconciler;
use crate::sync::session::{Instance, Roots, Session, Step};
use crate::sync::transfer::Job;
use crate::time::{Duration, Timestamp};
use crate::wire::{Lane, Level, Message, MessageError, SpaceIndex, SpaceRoots};

pub(super) const ANSWERS: Allowance = Allowance { per_second: ANSWER_BYTES_PER_SECOND, burst: ANSWER_BYTES_BURST };
const RECONCILIATIONS: Allowance = Allowance { per_second: RECONCILIATIONS_PER_SECOND, burst: RECONCILIATIONS_BURST };

impl Engine {
    pub(super) fn session_opened(&mut self, id: SessionId, peer: DeviceId, opener: bool, address: String) {
        self.dial_check = true;
        if opener {
            self.dialer.dial_ended(&address);
        }
        if peer == self.device {
            self.dialer.forget(&address);
            return self
                .out(Output::Close { session: id, reason: String::from("it is an address of this device itself") });
        }
        if self.sessions.len() >= SESSIONS_MAX || self.stopped.is_some() || self.shutting_down.is_some() {
            let reason = match &self.stopped {
                Some(reason) => reason.clone(),
                None if self.shutting_down.is_some() => String::from("shutting down"),
                None => format!("{SESSIONS_MAX} sessions are open, limit {SESSIONS_MAX}"),
            };
            return self.out(Output::Close { session: id, reason });
        }
        let waits = self
            .offences
            .wait(&peer, self.now.mono)
            .map(|wait| format!("it misbehaved a moment ago, and is heard again in {} ms", wait.0 / 1_000));
        if let Some(reason) = self.blocked.contains(&peer).then(|| blocked::REASON.to_string()).or(waits) {
            if opener {
                let jitter = self.random_u32();
                self.dialer.failed(&address, &reason, self.now.mono, jitter);
            }
            return self.out(Output::Close { session: id, reason });
        }
        debug!(%peer, opener, "session opened");
        self.dialer.connected(&address, peer, opener);
        let session = Session::new(peer, opener, address, self.random(), self.now.mono);
        let hello = session.hello();
        self.sessions.insert(id, session);
        match opener {
            true => self.say(id, &hello),
            false => self.keep_places_for_members(),
        }
    }

    /// Half of the places for sessions that others open is the members': of the others the first one goes.
    fn keep_places_for_members(&mut self) {
        let is_guest = |session: &Session| !session.opener && !self.is_member_somewhere(&session.peer);
        let guests: Vec<_> = self.sessions.iter().filter(|(_, session)| is_guest(session)).map(|(id, _)| *id).collect();
        if guests.len() > GUEST_SESSIONS_MAX {
            let text = format!(
                "{} sessions with devices that are no members are open, limit {GUEST_SESSIONS_MAX}",
                guests.len()
            );
            self.close_session(guests[0], &text);
        }
    }

    pub(super) fn session_closed(&mut self, id: SessionId, reason: &str) {
        let others = self.sessions.get(&id).map_or(0, |session| self.others_of(&session.peer));
        let Some(session) = self.sessions.remove(&id) else { return };
        self.admission.forget(&id);
        self.unread.forget(&id);
        debug!(peer = %session.peer, reason, "session closed");
        self.dial_check = true;
        // The second of two with one device may end at any time: that is no outage.
        if self.is_connected(&session.peer) {
            return self.copy_went(&session.peer, others);
        }
        let jitter = self.random_u32();
        self.dialer.disconnected(&session.peer, session.is_open(), reason, self.now.mono, jitter);
        if session.is_open() {
            info!(peer = %session.peer, reason, "peer disconnected");
            self.event(Event::PeerDisconnected { peer: session.peer, reason: reason.to_string() });
        }
    }

    /// Ends a session from our side.
    pub(super) fn close_session(&mut self, id: SessionId, reason: &str) {
        if self.sessions.contains_key(&id) {
            self.say(id, &Message::Bye { reason: reason.chars().take(200).collect() });
            self.flush(id);
            self.out(Output::Close { session: id, reason: reason.to_string() });
            self.session_closed(id, reason);
        }
    }

    /// The peer made us check what costs and does not hold. That ends the session, and the next one waits.
    pub(super) fn offended(&mut self, id: SessionId, reason: &str) {
        if let Some(session) = self.sessions.get(&id) {
            self.offences.note(session.peer, self.now.mono);
        }
        self.misbehaved(id, reason);
    }

    /// The peer did what no honest peer does.
    pub(super) fn misbehaved(&mut self, id: SessionId, reason: &str) {
        if let Some(session) = self.sessions.get(&id) {
            self.counters.peers_misbehaved += 1;
            self.event(Event::PeerMisbehaved { peer: session.peer, reason: reason.to_string() });
        }
        self.close_session(id, reason);
    }

    pub(super) fn is_connected(&self, peer: &DeviceId) -> bool {
        self.sessions.values().any(|session| session.peer == *peer && session.is_open())
    }

    /// Queues a message where it belongs.
    pub(super) fn say(&mut self, id: SessionId, message: &Message) {
        self.say_on(id, message.lane(), message);
    }

    /// Queues a message on a lane; says whether it was (a live one may be dropped).
    pub(super) fn say_on(&mut self, id: SessionId, lane: Lane, message: impl Borrow<Message>) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        trace!(peer = %session.peer, ?lane, message = ?message.borrow(), "say");
        let is_data = !matches!(message.borrow(), Message::Roots { .. } | Message::Credit { .. });
        let queued = session.lanes.push(lane, message);
        match (is_data, queued) {
            (false, _) => {}
            (true, true) => self.counters.data_messages_out += 1,
            (true, false) => self.counters.live_dropped += 1,
        }
        if session.lanes.is_overfull() {
            self.to_close.insert(id);
        }
        self.to_flush.insert(id);
        queued
    }

    /// Hands over what may be sent now.
    pub(super) fn flush(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        while let Some(bytes) = session.lanes.poll() {
            session.sent_at = self.now.mono;
            self.counters.frames_out += 1;
            self.counters.bytes_out += bytes.len() as u64;
            self.out.push_back(Output::Send { session: id, bytes });
        }
        self.counters.credit_waits += u64::from(session.lanes.waits_for_credit());
    }

    pub(super) fn written(&mut self, id: SessionId, bytes: usize) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.lanes.written(bytes);
            self.to_flush.insert(id);
        }
    }

    pub(super) fn frame(&mut self, id: SessionId, bytes: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.counters.frames_in += 1;
        self.counters.bytes_in += bytes.len() as u64;
        self.tolls.of(session.peer).bytes += bytes.len() as u64;
        session.heard_at = self.now.mono;
        session.check_by = None;
        if core::mem::take(&mut session.has_rival) {
            session.lives_beside_another = true;
            let peer = session.peer;
            self.copy_seen(peer);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        assert!(!self.mutated.by(Mutant::Panics) || !bytes.len().is_multiple_of(97), "a mutant panics");
        let (lane, bytes) = match session.lanes.receive(bytes) {
            Ok(None) => return self.bound_assemblies(id),
            Ok(Some(received)) => received,
            Err(error) => return self.misbehaved(id, &error.to_string()),
        };
        let message = Message::from_bytes(&bytes);
        // It may be large, and what is in it is kept now.
        drop(bytes);
        let message = match message {
            Ok(message) => message,
            Err(MessageError::Unknown) => return debug!(peer = %session.peer, "a message of an unknown kind"),
            Err(error) => return self.misbehaved(id, &error.to_string()),
        };
        trace!(peer = %session.peer, ?lane, ?message, "heard");
        match (message, session.is_open()) {
            (Message::Hello { version, nonce }, _) => self.heard_hello(id, version, *nonce),
            (Message::Tags { tags }, _) => self.heard_tags(id, &tags),
            (Message::Bye { reason }, _) => {
                let reason = format!("the peer said: {}", said(&reason));
                self.out(Output::Close { session: id, reason: reason.clone() });
                self.session_closed(id, &reason);
            }
            (message, true) => self.heard(id, lane, message),
            (_, false) => self.misbehaved(id, "a message before authentication"),
        }
    }

    /// Ends the session that makes the messages on the lanes without credit too many, all sessions together.
    fn bound_assemblies(&mut self, id: SessionId) {
        let held: usize = self.sessions.values().map(|session| session.lanes.unpaid_bytes()).sum();
        if held > ASSEMBLY_BYTES_MAX {
            let text = format!("{held} bytes of messages from all peers are not complete, limit {ASSEMBLY_BYTES_MAX}");
            self.close_session(id, &text);
        }
    }

    /// Hears a message, and counts what it makes us say about what we hold. A peer that has asked for too much is not answered
    /// for a while: whatever it lacks it can ask for again.
    fn heard(&mut self, id: SessionId, lane: Lane, message: Message) {
        let asks = matches!(
            message,
            Message::Nodes { .. } | Message::Items { .. } | Message::WantEntries { .. } | Message::Frontiers { .. }
        );
        if !asks {
            return self.take(id, lane, message);
        }
        let now = self.now.mono;
        let Some(session) = self.sessions.get(&id) else { return };
        if !session.answers.has_left(now, ANSWERS) {
            return debug!(peer = %session.peer, "it asks for too much");
        }
        let before = session.lanes.control_bytes();
        self.take(id, lane, message);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.answers.spend(session.lanes.control_bytes() - before, now, ANSWERS);
        }
    }

    fn take(&mut self, id: SessionId, lane: Lane, message: Message) {
        match message {
            Message::Hello { .. } | Message::Tags { .. } | Message::Bye { .. } => {}
            Message::Greeting { storage, epoch, mut addresses, instance } => {
                let Some(session) = self.sessions.get_mut(&id) else { return };
                if session.instance.is_some() {
                    return self.misbehaved(id, "a second greeting");
                }
                session.instance = Some(Instance { storage, epoch, number: instance });
                addresses.retain(|address| reach::may_be_its_own(address, &session.address));
                session.said_addresses(addresses);
                self.learn_addresses(id);
                self.settle_instances(id);
                self.process_greets(id);
            }
            Message::Roots { ask, answer, spaces } => self.heard_roots(id, ask, answer, &spaces),
            Message::Nodes { space, level, nodes } => self.heard_nodes(id, space, level, &nodes),
            Message::Items { space, level, ranges } => self.heard_items(id, space, level, &ranges),
            Message::WantEntries { space, keys } => self.heard_want_entries(id, space, &keys),
            Message::Entries { space, entries } => self.heard_entries(id, space, &entries),
            Message::Frontiers { space, documents } => self.heard_frontiers(id, space, &documents),
            Message::Runs { space, acls, runs } => self.heard_runs(id, lane, space, acls, runs),
            Message::Refused { space, document, actor, first_seq, code, detail } => {
                self.heard_refused(id, space, document, actor, first_seq, code, &detail);
            }
            Message::Credit { taken } => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.lanes.credited(taken);
                    self.to_flush.insert(id);
                }
            }
            Message::Join { space, invite, proof } => {
                self.heard_join(id, space, &JoinRequest { invite, proof: *proof });
            }
            Message::JoinRefused { space, reason } => self.heard_join_refused(id, space, &reason),
            Message::Peers { space, peers } => self.heard_peers(id, space, peers),
            Message::Copies { others } => self.heard_copies(id, others),
            Message::Name { name } => self.heard_name(id, &name),
        }
    }

    fn heard_hello(&mut self, id: SessionId, version: u32, nonce: [u8; 32]) {
        let keys = self.connection_keys();
        let (device, mut rng) = (self.device, self.fork_rng());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let step = session.heard_hello(device, version, nonce, &keys, &mut || crate::engine::random(&mut rng));
        self.step(id, step);
    }

    fn heard_tags(&mut self, id: SessionId, tags: &[ByteArray<16>]) {
        let keys = self.connection_keys();
        let (now, mut rng) = (self.now.mono, self.fork_rng());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let tags: Vec<[u8; 16]> = tags.iter().map(|tag| **tag).collect();
        let step = session.heard_tags(&tags, &keys, &mut || crate::engine::random(&mut rng), now);
        self.step(id, step);
    }

    fn connection_keys(&self) -> Vec<(SpaceId, [u8; 32])> {
        let spaces = self.spaces.iter().filter(|(_, space)| !space.needs_ticket());
        spaces.map(|(id, space)| (*id, space.connection_key())).collect()
    }

    fn step(&mut self, id: SessionId, step: Step) {
        match step {
            Step::Say(messages) => messages.iter().for_each(|message| self.say(id, message)),
            Step::Authenticated(messages) => {
                messages.iter().for_each(|message| self.say(id, message));
                self.authenticated(id);
            }
            Step::Stranger(messages) => {
                messages.iter().for_each(|message| self.say(id, message));
                let Some(session) = self.sessions.get(&id) else { return };
                let (peer, address, dialed) = (session.peer, session.address.clone(), session.opener);
                self.event(Event::StrangerRefused { peer });
                self.close_session(id, "no shared space");
                if dialed {
                    self.ticket_is_for_another_space(&address, peer);
                }
            }
            Step::Bad(reason) => self.misbehaved(id, &reason),
        }
    }

    fn authenticated(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(&id).filter(|session| session.opener) {
            // Also where another session with the peer stays in place of this one.
            let (peer, address) = (session.peer, session.address.clone());
            self.met_at(&peer, &[address]);
        }
        if !self.settle_duplicates(id) {
            return;
        }
        let Some(session) = self.sessions.get(&id) else { return };
        let (peer, dialed, address) = (session.peer, session.opener, session.address.clone());
        info!(%peer, spaces = session.shared.len(), "peer connected");
        self.out(Output::Admit { peer });
        self.event(Event::PeerConnected { peer });
        self.dialer.authenticated(&peer);
        if dialed && let Some(session) = self.sessions.get_mut(&id) {
            session.addresses.push(address);
            self.learn_addresses(id);
        }
        let addresses = self.own_addresses(ADDRESSES_PER_DEVICE_MAX);
        if self.open_sessions().len() == 1 {
            self.own.all_know();
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.guest_until = Some(self.now.mono + GUEST_TIME_MAX);
        }
        let (storage, epoch, instance) = (self.storage, self.epoch, self.instance);
        self.say(id, &Message::Greeting { storage, epoch, addresses, instance });
        self.tell_name(id);
        self.tell_roots(id, None, 0, 0);
        self.introduce(id);
    }

    /// The space that a session calls by this number, and the peer.
    pub(super) fn shared_space(&self, id: SessionId, index: SpaceIndex) -> Option<(SpaceId, DeviceId)> {
        let session = self.sessions.get(&id)?;
        Some((session.shared.get(index as usize)?.space, session.peer))
    }

    /// What we have, in the session's fingerprints.
    fn roots(&mut self, id: SessionId, index: SpaceIndex) -> Option<Roots> {
        let session = self.sessions.get(&id)?;
        let shared = session.shared.get(index as usize)?;
        let space = self.spaces.get_mut(&shared.space)?;
        let member = space.membership.role(&session.peer).is_some() && space.is_admitted();
        let members = fingerprint(&session.salt, &space.entries.root());
        let documents = member.then(|| fingerprint(&session.salt, &space.documents.root()));
        Some((members, documents))
    }

    /// Tells where we stand in some (or all) of the shared spaces.
    pub(super) fn tell_roots(&mut self, id: SessionId, only: Option<&[SpaceIndex]>, ask: u32, answer: u32) {
        let Some(session) = self.sessions.get(&id) else { return };
        let all: Vec<SpaceIndex> = (0..session.shared.len() as SpaceIndex).collect();
        let mut spaces = Vec::new();
        for index in only.unwrap_or(&all) {
            let Some(roots) = self.roots(id, *index) else { continue };
            spaces.push(SpaceRoots { space: *index, members: roots.0.into(), documents: roots.1.map(ByteArray::from) });
            if let Some(shared) = self.sessions.get_mut(&id).and_then(|session| session.shared_at(*index)) {
                shared.told(roots);
            }
        }
        self.say(id, &Message::Roots { ask, answer, spaces });
    }

    fn heard_roots(&mut self, id: SessionId, ask: u32, answer: u32, spaces: &[SpaceRoots]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if answer != 0 {
            session.heard_answer(answer);
        }
        // Each space once, however often it is named: there is an answer for each.
        let mut indexes = BTreeSet::new();
        for roots in spaces {
            if let Some(shared) = session.shared_at(roots.space) {
                shared.heard = Some((*roots.members, roots.documents.map(|documents| *documents)));
                shared.answered = shared.answered.max(answer);
                indexes.insert(roots.space);
            }
        }
        let indexes: Vec<SpaceIndex> = indexes.into_iter().collect();
        if ask != 0 {
            self.tell_roots(id, Some(&indexes), 0, ask);
        }
        for index in indexes {
            self.compare_roots(id, index);
        }
    }

    /// Decides what follows from where both stand: in sync, or time to reconcile, or to wait.
    pub(super) fn compare_roots(&mut self, id: SessionId, index: SpaceIndex) {
        let now = self.now.mono;
        let leads = self.sessions.get(&id).is_some_and(|session| self.device < session.peer);
        let Some(ours) = self.roots(id, index) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let peer = session.peer;
        let Some(shared) = session.shared_at(index) else { return };
        let Some(theirs) = shared.heard else { return };
        let space_id = shared.space;
        if ours == theirs {
            let news = !shared.in_sync;
            shared.in_sync = ours.1.is_some();
            shared.catching_up = false;
            if shared.told != Some(ours) {
                self.tell_roots(id, Some(&[index]), 0, 0);
            }
            if ours.1.is_some()
                && peer != self.device
                && let Some(space) = self.spaces.get_mut(&space_id)
            {
                space.held_elsewhere_until = Some(self.feed_seq);
            }
            if news && ours.1.is_some() {
                debug!(%peer, space = %space_id, "in sync");
                self.event(Event::InSync { space: space_id, peer });
            }
        } else {
            shared.in_sync = false;
            if self.mutated.by(Mutant::SendsEverything)
                && let Some(space) = self.spaces.get(&space_id)
            {
                space.records.documents().for_each(|document| _ = shared.transfer.want(*document, Job::everything()));
                self.to_pump.insert(id);
            }
            if shared.tell_at.is_some() {
                // Ours changed a moment ago: the peer may be about to say the same.
            } else if shared.told != Some(ours) {
                self.tell_roots(id, Some(&[index]), 0, 0);
                self.begin_reconciliation(id, index, ours, theirs, leads);
            } else if now >= shared.attempt_at || !shared.was_attempted(ours, theirs) {
                self.begin_reconciliation(id, index, ours, theirs, leads);
            }
        }
        if ours.0 == theirs.0 {
            self.members_agreed(space_id, peer);
        }
        self.check_waits();
    }

    /// The smaller device leads, so that the two do not do the same work twice; the other one reminds it.
    fn begin_reconciliation(&mut self, id: SessionId, index: SpaceIndex, ours: Roots, theirs: Roots, leads: bool) {
        let now = self.now.mono;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let salt = session.salt;
        let Some(shared) = session.shared_at(index) else { return };
        let space_id = shared.space;
        let again = shared.was_attempted(ours, theirs);
        if again && now < shared.attempt_at {
            return;
        }
        if !again && !shared.reconciliations.has_left(now, RECONCILIATIONS) {
            // Roots that are others each time are looked into as often as is good for us.
            return shared.put_off(now);
        }
        shared.reconciliations.spend(1, now, RECONCILIATIONS);
        shared.attempt(ours, theirs, now);
        if self.mutated.by(Mutant::NeverTriesAgain) {
            shared.attempt_at = now + Duration::from_secs(1_000_000);
        }
        if again {
            // The same difference as before: make sure that it is not news that got lost.
            let ask = session.next_ask(now);
            self.tell_roots(id, Some(&[index]), ask, 0);
        }
        if !leads {
            return;
        }
        let Some(space) = self.spaces.get_mut(&space_id) else { return };
        self.counters.reconciliations += 1;
        let mut messages = Vec::new();
        let members_differ = ours.0 != theirs.0;
        if members_differ {
            let collection = &mut space.entries;
            messages.extend(Reconciler { collection, salt: &salt, space: index, level: Level::Members }.open());
        }
        // Members first: they decide what is valid. But if that led to nothing, the documents must not wait for it for ever.
        if ours.1.is_some() && theirs.1.is_some() && ours.1 != theirs.1 && (!members_differ || again) {
            let collection = &mut space.documents;
            messages.extend(Reconciler { collection, salt: &salt, space: index, level: Level::Documents }.open());
        }
        messages.iter().for_each(|message| self.say(id, message));
    }

    /// The content of a space changed here: every session of it will tell, after some quiet.
    pub(super) fn space_changed(&mut self, space: &SpaceId) {
        let now = self.now.mono;
        for session in self.sessions.values_mut().filter(|session| session.is_open()) {
            if let Some((_, shared)) = session.shared_in(space) {
                shared.in_sync = false;
                shared.roots_changed(now);
            }
        }
    }

    /// Deadlines of sessions.
    pub(super) fn sessions_due(&mut self) {
        let now = self.now.mono;
        while let Some(id) = self.admission.stalled(now) {
            let held = self.admission.bytes();
            let text = format!(
                "too little comes of a large message, limit {BULK_CREDIT_BYTES} bytes in 15 s while others wait: {held} \
                 bytes of such messages are under way, limit {ASSEMBLY_BYTES_MAX}"
            );
            self.close_session(id, &text);
            self.admission.forget(&id);
        }
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let Some(session) = self.sessions.get(&id) else { continue };
            if session.handshake_deadline().is_some_and(|at| now >= at) {
                self.close_session(id, "not authenticated in time, limit 5 s");
                continue;
            }
            if now - session.heard_at >= DEAD_PEER_AFTER {
                self.close_session(id, "no sign of life, limit 30 s");
                continue;
            }
            if session.check_by.is_some_and(|at| now >= at) {
                self.close_session(id, "no sign of life after this machine slept or changed its network, limit 5 s");
                continue;
            }
            if session.asked.is_some_and(|(_, since)| now - since >= STALL_AFTER) {
                self.counters.stalls += 1;
                self.close_session(id, "no progress, limit 15 s");
                continue;
            }
            if !session.is_open() {
                continue;
            }
            if session.guest_until.is_some_and(|at| now >= at) {
                if is_with_a_guest(&self.spaces, session) {
                    self.close_session(id, "not a member in time, limit 60 s");
                    continue;
                }
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.guest_until = Some(now + GUEST_TIME_MAX);
                }
            }
            let Some(session) = self.sessions.get(&id) else { continue };
            let due: Vec<SpaceIndex> = (0..session.shared.len() as SpaceIndex)
                .filter(|index| session.shared[*index as usize].tell_at.is_some_and(|at| now >= at))
                .collect();
            let attempts: Vec<SpaceIndex> = (0..session.shared.len() as SpaceIndex)
                .filter(|index| session.shared[*index as usize].retry_at().is_some_and(|at| now >= at))
                .collect();
            let keep_alive = now - session.sent_at >= KEEP_ALIVE_INTERVAL;
            if keep_alive {
                self.tell_roots(id, None, 0, 0);
            } else if !due.is_empty() {
                self.tell_roots(id, Some(&due), 0, 0);
            }
            for index in due.into_iter().chain(attempts).collect::<BTreeSet<_>>() {
                self.compare_roots(id, index);
            }
        }
    }

    pub(super) fn sessions_deadline(&self) -> Option<(Timestamp, &'static str)> {
        self.sessions
            .values()
            .flat_map(|session| {
                let shared = session.shared.iter().flat_map(|shared| {
                    let retry = shared.retry_at().map(|at| (at, "reconcile again"));
                    [shared.tell_at.map(|at| (at, "tell roots")), retry]
                });
                [
                    session.handshake_deadline().map(|at| (at, "authentication")),
                    Some((session.heard_at + DEAD_PEER_AFTER, "sign of life")),
                    session.check_by.map(|at| (at, "sign of life after sleep")),
                    session.guest_until.map(|at| (at, "membership")),
                    session.asked.map(|(_, since)| (since + STALL_AFTER, "progress")),
                    session.is_open().then_some((session.sent_at + KEEP_ALIVE_INTERVAL, "keep-alive")),
                ]
                .into_iter()
                .chain(shared)
                .flatten()
            })
            .chain(self.admission.deadline().map(|at| (at, "the rest of a large message")))
            .min()
    }

    /// Reports what was taken in, as long as there is room for more.
    pub(super) fn report_credit(&mut self) {
        let waiting: usize = self.backlog_bytes();
        if self.halted.is_some()
            || waiting > INBOX_BYTES_MAX
            || self.commits.bytes() > COMMIT_BYTES_MAX
            || self.documents.unrecorded_len() > DOCUMENTS_UNRECORDED_MAX / 2
        {
            return self.admission.suspend(self.now.mono);
        }
        let announced: Vec<Announced> = self
            .sessions
            .iter()
            .filter_map(|(id, session)| {
                let (bytes, here) = session.lanes.large_message()?;
                Some(Announced { session: *id, device: session.peer, bytes, here })
            })
            .collect();
        self.admission.review(&announced, self.now.mono);
        let due: Vec<_> = self
            .sessions
            .iter_mut()
            .filter(|(id, session)| session.lanes.large_message().is_none() || self.admission.may_go_on(id))
            .filter(|(id, _)| self.unread.bulk_bytes(id) as u64 <= BULK_CREDIT_BYTES)
            .filter_map(|(id, session)| session.lanes.credit_due().map(|taken| (*id, taken)))
            .collect();
        for (id, taken) in due {
            self.say(id, &Message::Credit { taken });
        }
    }

    /// Subscribes to the topics of spaces that we are a member of.
    pub(super) fn subscribe(&mut self, space: &SpaceId) {
        if let Some(space) = self.spaces.get(space)
            && space.is_admitted()
        {
            let topic = topic(&space.connection_key());
            self.out(Output::Subscribe { topic });
        }
    }
}

/// The peer holds tickets only: of all that is shared with it, it is in no membership log, as far as we are in there ourselves.
fn is_with_a_guest(spaces: &BTreeMap<SpaceId, Space>, session: &Session) -> bool {
    let has_not_joined = |space: &Space| space.is_admitted() && space.membership.role(&session.peer).is_none();
    let mut shared = session.shared.iter().filter_map(|shared| spaces.get(&shared.space)).peekable();
    shared.peek().is_some() && shared.all(has_not_joined)
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::Config;
    use crate::engine::input::Input;
    use crate::gate::Bare;
    use crate::keys::SecretKey;
    use crate::limits::DOCUMENTS_RESIDENT_MAX;
    use crate::storage::Image;
    use crate::time::Now;

    // Devices that were made up held all places with one ticket, and members did not get in.
    #[test]
    fn first_session_with_no_member_makes_room_when_half_of_the_places_are_taken() {
        let config = Config { guard: Arc::new(Bare), slot: None, residents_max: DOCUMENTS_RESIDENT_MAX };
        let key = SecretKey::from_seed(&[1; 32]);
        let mut engine = Engine::new(config, key, [2; 32], Now::default(), Image::default()).expect("a new replica");
        let mut closed = Vec::new();
        for number in 0..GUEST_SESSIONS_MAX as u64 + 2 {
            let mut device = [3; 32];
            device[..8].copy_from_slice(&number.to_be_bytes());
            let (session, address) = (SessionId(number), String::from("sim/1/from/2"));
            let opened = Input::SessionOpened { session, peer: DeviceId(device), opener: false, address };
            engine.handle(Now::default(), opened);
            while let Some(output) = engine.poll_output() {
                closed.extend(match output {
                    Output::Close { session, .. } => Some(session),
                    _ => None,
                });
            }
        }
        assert_eq!(closed, [SessionId(0), SessionId(1)]);
        assert_eq!(engine.sessions.len(), GUEST_SESSIONS_MAX);
    }
}
