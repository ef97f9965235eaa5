//! Where members are: what is learned of it, kept, and told to others.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use tracing::debug;

use crate::engine::Engine;
use crate::engine::input::{CommandId, SessionId};
use crate::engine::output::Reply;
use crate::engine::reach;
use crate::engine::remembered::Remembered;
use crate::id::DeviceId;
use crate::limits::{
    ADDRESSES_PER_DEVICE_MAX, CHECK_ANSWER_MAX, DEVICES_REMEMBERED_MAX, OWN_ADDRESSES_BURST, OWN_ADDRESSES_PER_SECOND,
};
use crate::storage::Table;
use crate::sync::dialer::Source;
use crate::sync::rate::Allowance;
use crate::wire::{Message, PeerAddresses, SpaceIndex};

const OWN_ADDRESSES: Allowance = Allowance { per_second: OWN_ADDRESSES_PER_SECOND, burst: OWN_ADDRESSES_BURST };

/// Devices in one message about addresses.
const PEERS_PER_MESSAGE_MAX: usize = 64;

impl Engine {
    /// Remembers where the peer of a session is, once it is known as a member of a space of ours.
    pub(super) fn learn_addresses(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(&id) {
            let (peer, addresses) = (session.peer, session.addresses.clone());
            if session.has_said_addresses && self.is_member_somewhere(&peer) {
                // What leads to it from further away than all that it says may be a port that is forwarded to it, which it need not
                // know of.
                self.dialer.keep_only(&peer, &addresses, |address| reach::leads_further(address, &addresses));
            }
            self.met_at(&peer, &addresses);
            let by_itself: Vec<_> = addresses.into_iter().map(|address| (address, Source::Itself)).collect();
            if self.learn_addresses_of(peer, &by_itself) {
                self.spread(&[peer].into());
            }
        }
    }

    /// A member was met that is at these addresses, or was dialed there. If a ticket sent us there, it has served its purpose.
    pub(super) fn met_at(&mut self, peer: &DeviceId, addresses: &[String]) {
        if self.halted.is_some() {
            return;
        }
        let mut settled = Vec::new();
        for (id, space) in &mut self.spaces {
            let led_there = |told: &Vec<String>| told.iter().any(|address| addresses.contains(address));
            if space.access.told_at.as_ref().is_some_and(led_there) && space.membership.role(peer).is_some() {
                space.access.told_at = None;
                settled.push((*id, space.access.clone()));
            }
        }
        for (space, access) in settled {
            self.keep_access(&space, &access);
        }
    }

    /// Remembers where a member is, also over restarts. Returns whether to tell the other members of its spaces.
    fn learn_addresses_of(&mut self, peer: DeviceId, addresses: &[(String, Source)]) -> bool {
        if !self.is_member_somewhere(&peer) {
            return false;
        }
        let before = self.dialer.addresses_to_tell(&peer).len();
        let is_by_itself = addresses.iter().any(|(_, source)| *source == Source::Itself);
        let mut news = is_by_itself;
        for (address, source) in addresses.iter().take(ADDRESSES_PER_DEVICE_MAX) {
            match self.dialer.learn(address, Some(peer), *source, self.now.mono) {
                Ok(is_news) => news |= is_news,
                Err(error) => debug!(%peer, %error, "an address is not remembered"),
            }
        }
        self.dial_check |= news;
        if !news || self.halted.is_some() {
            return false;
        }
        let known = self.dialer.addresses_to_tell(&peer);
        let remembered = self.remembered.get(&peer);
        let before_now = remembered.map(|remembered| remembered.addresses.as_slice()).unwrap_or_default();
        if known.len() == before_now.len() && known.iter().all(|address| before_now.contains(address)) {
            return false;
        }
        if remembered.is_none() && self.remembered.len() >= DEVICES_REMEMBERED_MAX {
            return false;
        }
        let is_more = known.len() > before;
        let known = Remembered { addresses: known, name: remembered.and_then(|remembered| remembered.name.clone()) };
        if !is_by_itself && !is_more {
            // It took the place of what failed. If that were passed on, two that hold different ones would never be done. The
            // others are told when the peer itself was met there.
            self.store_remembered(&peer, &known);
            return false;
        }
        self.remember(peer, known);
        true
    }

    /// Tells all others where these members are: in one message each, however many they are.
    fn spread(&mut self, news: &BTreeSet<DeviceId>) {
        if !news.is_empty() {
            self.open_sessions().into_iter().for_each(|id| self.introduce_only(id, Some(news)));
        }
    }

    pub(super) fn is_member_somewhere(&self, device: &DeviceId) -> bool {
        self.spaces.values().any(|space| space.membership.role(device).is_some())
    }

    /// Tells a member where the other members of the shared spaces are.
    pub(super) fn introduce(&mut self, id: SessionId) {
        self.introduce_only(id, None);
    }

    fn introduce_only(&mut self, id: SessionId, only: Option<&BTreeSet<DeviceId>>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let peer = session.peer;
        let mut messages = Vec::new();
        for (index, shared) in session.shared.iter().enumerate() {
            let Some(space) = self.spaces.get(&shared.space) else { continue };
            if space.membership.role(&peer).is_none() {
                continue;
            }
            let is_other = |device: &DeviceId| *device != self.device && space.membership.role(device).is_some();
            let devices = match only {
                Some(only) => only.iter().filter(|device| is_other(device)).copied().collect(),
                None => space.others(),
            };
            let peers: Vec<_> = devices
                .into_iter()
                .filter(|device| *device != peer)
                .map(|device| PeerAddresses { device, addresses: self.dialer.addresses_to_tell(&device) })
                .filter(|entry| !entry.addresses.is_empty())
                .take(PEERS_PER_MESSAGE_MAX)
                .collect();
            if !peers.is_empty() {
                messages.push(Message::Peers { space: index as SpaceIndex, peers });
            }
        }
        messages.iter().for_each(|message| self.say(id, message));
    }

    pub(super) fn heard_peers(&mut self, id: SessionId, index: SpaceIndex, mut peers: Vec<PeerAddresses>) {
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        peers.truncate(PEERS_PER_MESSAGE_MAX);
        if let Some(own) = peers.iter_mut().find(|said| said.device == peer) {
            let addresses = core::mem::take(&mut own.addresses);
            self.heard_own_addresses(id, addresses);
        }
        let (Some(space), Some(session)) = (self.spaces.get(&space_id), self.sessions.get(&id)) else { return };
        if space.membership.role(&peer).is_none() {
            return;
        }
        let is_other = |device: &DeviceId| *device != self.device && space.membership.role(device).is_some();
        let about_others = peers.into_iter().filter(|said| is_other(&said.device) && !self.is_connected(&said.device));
        let heard: Vec<_> = about_others
            .map(|PeerAddresses { device, addresses }| {
                let worth = |address: &String| reach::hearsay(address, &session.address, self.own.listening());
                let worthy =
                    addresses.into_iter().filter_map(|address| worth(&address).map(|source| (address, source)));
                (device, worthy.collect::<Vec<_>>())
            })
            .collect();
        let mut news = BTreeSet::new();
        for (device, addresses) in heard {
            if self.learn_addresses_of(device, &addresses) {
                news.insert(device);
            }
        }
        self.spread(&news);
    }

    /// Addresses for others, at most `max` of them.
    pub(super) fn own_addresses(&self, max: usize) -> Vec<String> {
        let mut addresses = self.own.for_others();
        addresses.truncate(max);
        addresses
    }

    /// Tells every peer where we are now, if that has changed. What changed for others is a change of network for us.
    pub(super) fn own_addresses_due(&mut self) {
        let Some(mut addresses) = self.own.news(self.now.mono) else { return };
        addresses.truncate(ADDRESSES_PER_DEVICE_MAX);
        debug!(addresses = addresses.len(), "own addresses have changed");
        let peers = alloc::vec![PeerAddresses { device: self.device, addresses }];
        let message = Message::Peers { space: 0, peers };
        for id in self.open_sessions() {
            self.say(id, &message);
        }
        self.look_around();
    }

    /// The network may have changed unnoticed: absent members are dialed at once, and every session has to show that it is
    /// alive.
    pub(super) fn look_around(&mut self) {
        let now = self.now.mono;
        self.dialer.wake(now);
        self.counters.looks_around += 1;
        self.dial_check = true;
        for id in self.open_sessions() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.check_by.get_or_insert(now + CHECK_ANSWER_MAX);
            let ask = session.next_ask(now);
            self.tell_roots(id, None, ask, 0);
        }
    }

    /// The peer says where it is now: in place of what it said before.
    fn heard_own_addresses(&mut self, id: SessionId, mut addresses: Vec<String>) {
        let now = self.now.mono;
        if let Some(peer) = self.sessions.get(&id).map(|session| session.peer) {
            // Where another is known to be is its own affair: who moved there says so when it is met there.
            addresses.retain(|address| !self.dialer.is_of_another(address, &peer));
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        addresses.retain(|address| reach::may_be_its_own(address, &session.address));
        if !session.own_addresses.has_left(now, OWN_ADDRESSES) {
            return debug!(peer = %session.peer, "it says too often where it is");
        }
        session.own_addresses.spend(1, now, OWN_ADDRESSES);
        session.said_addresses(addresses);
        self.learn_addresses(id);
    }

    /// The application wants it forgotten where a peer is.
    pub(super) fn forget_peer(&mut self, command: CommandId, peer: DeviceId) {
        self.dialer.forget_device(&peer);
        self.remembered.remove(&peer);
        self.commits.remove(Table::Peers, peer.0.to_vec());
        for session in self.sessions.values_mut().filter(|session| session.peer == peer) {
            session.addresses.clear();
        }
        self.commits.follow(command, Reply::Done);
    }

    pub(super) fn open_sessions(&self) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, session)| session.is_open()).map(|(id, _)| *id).collect()
    }
}
