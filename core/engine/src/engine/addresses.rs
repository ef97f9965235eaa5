//! Where members are: what is learned of it, kept, and told to others.

use alloc::string::String;
use alloc::vec::Vec;

use tracing::debug;

use crate::engine::Engine;
use crate::engine::input::SessionId;
use crate::id::DeviceId;
use crate::limits::{ADDRESSES_PER_DEVICE_MAX, DEVICES_REMEMBERED_MAX};
use crate::sync::dialer::Source;
use crate::wire::{Message, PeerAddresses, SpaceIndex};

impl Engine {
    /// Remembers where the peer of a session is, once it is known as a member of a space of ours.
    pub(super) fn learn_addresses(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(&id) {
            let (peer, addresses) = (session.peer, session.addresses.clone());
            self.learn_addresses_of(peer, &addresses, Source::Itself);
        }
    }

    /// Remembers where a member is, also over restarts, and tells the other members of its spaces.
    fn learn_addresses_of(&mut self, peer: DeviceId, addresses: &[String], source: Source) {
        if !self.spaces.values().any(|space| space.membership.role(&peer).is_some()) {
            return;
        }
        let before = self.dialer.addresses(&peer).len();
        let mut news = source == Source::Itself;
        for address in addresses.iter().take(ADDRESSES_PER_DEVICE_MAX) {
            match self.dialer.learn(address, Some(peer), source, self.now.mono) {
                Ok(is_news) => news |= is_news,
                Err(error) => debug!(%peer, %error, "an address is not remembered"),
            }
        }
        if !news {
            return;
        }
        let known = self.dialer.addresses(&peer);
        let remembered = self.remembered.get(&peer).map(Vec::as_slice).unwrap_or_default();
        if known.len() == remembered.len() && known.iter().all(|address| remembered.contains(address)) {
            return;
        }
        if remembered.is_empty() && self.remembered.len() >= DEVICES_REMEMBERED_MAX {
            return;
        }
        let is_more = known.len() > before;
        self.commits.put(
            crate::storage::Table::Peers,
            peer.0.to_vec(),
            minicbor::to_vec(&known).expect("writing to memory does not fail"),
        );
        self.dial_check = true;
        if source == Source::Others && !is_more {
            // It took the place of what failed. If that were passed on, two that hold different ones would never be done. The
            // others are told when the peer itself was met there.
            return;
        }
        self.remembered.insert(peer, known);
        let others: Vec<_> =
            self.sessions.iter().filter(|(_, s)| s.is_open() && s.peer != peer).map(|(id, _)| *id).collect();
        for id in others {
            self.introduce_only(id, Some(peer));
        }
    }

    /// Tells a member where the other members of the shared spaces are.
    pub(super) fn introduce(&mut self, id: SessionId) {
        self.introduce_only(id, None);
    }

    fn introduce_only(&mut self, id: SessionId, only: Option<DeviceId>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let peer = session.peer;
        let mut messages = Vec::new();
        for (index, shared) in session.shared.iter().enumerate() {
            let Some(space) = self.spaces.get(&shared.space) else { continue };
            if space.membership.role(&peer).is_none() {
                continue;
            }
            let peers: Vec<_> = space
                .others()
                .into_iter()
                .filter(|device| *device != peer && only.is_none_or(|only| only == *device))
                .map(|device| PeerAddresses { device, addresses: self.dialer.addresses(&device) })
                .filter(|entry| !entry.addresses.is_empty())
                .take(64)
                .collect();
            if !peers.is_empty() {
                messages.push(Message::Peers { space: index as SpaceIndex, peers });
            }
        }
        messages.iter().for_each(|message| self.say(id, message));
    }

    pub(super) fn heard_peers(&mut self, id: SessionId, index: SpaceIndex, peers: Vec<PeerAddresses>) {
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        let Some(space) = self.spaces.get(&space_id) else { return };
        if space.membership.role(&peer).is_none() {
            return;
        }
        let members = space.others();
        for PeerAddresses { device, addresses } in peers.into_iter().take(64) {
            if members.contains(&device) && !self.is_connected(&device) {
                self.learn_addresses_of(device, &addresses, Source::Others);
            }
        }
    }

    /// Addresses for others, at most `max` of them.
    pub(super) fn own_addresses(&self, max: usize) -> Vec<String> {
        self.announced.as_ref().unwrap_or(&self.listening).iter().take(max).cloned().collect()
    }
}
