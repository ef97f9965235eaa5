//! How a replica stands: its spaces and its peers, for people to read.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::engine::Engine;
use crate::engine::copies::Copied;
use crate::engine::input::SessionId;
use crate::id::{DeviceId, DocumentId, SpaceId};
use crate::space::Fork;
use crate::space::roles::Role;
use crate::sync::session::Session;

/// One space, as the replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceStatus {
    /// Its id.
    pub space: SpaceId,
    /// Its name; `None` while joining.
    pub name: Option<String>,
    /// Our role; `None` while joining.
    pub role: Option<Role>,
    /// Whose replica this was before its key was renewed. Until a member lets us in under the new key, what we edit stays here.
    pub former: Option<DeviceId>,
    /// Our key was renewed and no ticket has come since.
    pub needs_ticket: bool,
    /// Documents held.
    pub documents: usize,
    /// Digest of all of them: equal on two replicas that hold the same.
    pub root: [u8; 32],
    /// Why it is read-only although our role is not, if so.
    pub read_only: Option<String>,
    /// Documents that have two histories, of which each member can have one only.
    pub forked: Vec<(DocumentId, Fork)>,
    /// Each connected member: in sync as of the last comparison? One of which several processes are connected is in sync when all
    /// of them are.
    pub peers: Vec<(DeviceId, bool)>,
}

/// One peer, as the replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub peer: DeviceId,
    /// It is blocked here.
    pub blocked: bool,
    /// There is an authenticated session.
    pub connected: bool,
    /// What it calls itself: a claim.
    pub name: Option<String>,
    /// Several processes act as this device.
    pub copied: Option<Copied>,
    /// Where it is or was.
    pub addresses: Vec<String>,
    /// The spaces shared in this session.
    pub spaces: Vec<SpaceId>,
    /// Why there is no session, if it was tried.
    pub last_failure: Option<String>,
}

/// What leaving a space now might lose for good, as far as is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossOnLeaving {
    /// Documents that no other member was found to hold as they are here since this replica was started. Another may hold
    /// them all the same.
    pub only_here: Vec<DocumentId>,
    /// Another member was found in sync since this replica was started.
    pub was_in_sync: bool,
    /// Other members are left, and no admin is among them: nobody could invite any more.
    pub only_admin: bool,
}

impl LossOnLeaving {
    /// There is nothing to lose.
    pub fn is_none(&self) -> bool {
        self.only_here.is_empty() && !self.only_admin
    }
}

impl Engine {
    /// What leaving a space might lose; `None` if it is not here.
    pub fn loss_on_leaving(&self, space_id: &SpaceId) -> Option<LossOnLeaving> {
        let space = self.spaces.get(space_id)?;
        let until = space.held_elsewhere_until;
        let later = space.records.feed_seqs().filter(|(_, seq)| until.is_none_or(|until| *seq > until));
        // One of which damage left nothing cannot be lost any more.
        let stored = later.filter(|(id, _)| space.documents.get(&id.0).is_some());
        // What is not signed or merged yet is in no record.
        let unsettled = self.documents.unsettled(space_id);
        let only_here: BTreeSet<DocumentId> = stored.map(|(id, _)| *id).chain(unsettled).collect();
        let is_admin = |device: &DeviceId| space.membership.role(device) == Some(Role::Admin);
        let others = space.others();
        Some(LossOnLeaving {
            only_here: only_here.into_iter().collect(),
            was_in_sync: until.is_some(),
            only_admin: is_admin(&self.device) && !others.is_empty() && !others.iter().any(is_admin),
        })
    }

    /// Every space.
    pub fn spaces(&mut self) -> Vec<SpaceStatus> {
        let device = self.device;
        let read_only: Vec<_> = self.spaces.values().map(|space| self.read_only(space)).collect();
        let sessions = &self.sessions;
        self.spaces
            .iter_mut()
            .zip(read_only)
            .map(|((id, space), read_only)| SpaceStatus {
                space: *id,
                name: space.membership.name().map(String::from),
                role: space.membership.role(&device).filter(|_| space.is_admitted()),
                former: space.access.former,
                needs_ticket: space.needs_ticket(),
                documents: space.records.len(),
                root: space.documents.root(),
                read_only,
                forked: space.forks.iter().map(|(document, fork)| (*document, *fork)).collect(),
                peers: in_sync_by_device(sessions, id),
            })
            .collect()
    }

    /// Every known peer, by device.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let mut peers = self.dialer.peers();
        peers.extend(self.sessions.values().filter(|session| session.is_open()).map(|session| session.peer));
        peers.extend(&self.blocked);
        peers.remove(&self.device);
        peers
            .into_iter()
            .map(|peer| {
                let open = self.sessions.values().find(|session| session.peer == peer && session.is_open());
                PeerStatus {
                    peer,
                    blocked: self.blocked.contains(&peer),
                    connected: open.is_some(),
                    name: self.device_name(&peer).map(String::from),
                    copied: self.copied(&peer),
                    addresses: self.dialer.addresses(&peer),
                    spaces: open.map(|s| s.shared.iter().map(|shared| shared.space).collect()).unwrap_or_default(),
                    last_failure: if open.is_some() { None } else { self.dialer.last_failure(&peer) },
                }
            })
            .collect()
    }
}

fn in_sync_by_device(sessions: &BTreeMap<SessionId, Session>, space: &SpaceId) -> Vec<(DeviceId, bool)> {
    let mut devices = BTreeMap::<DeviceId, bool>::new();
    for session in sessions.values().filter(|session| session.is_open()) {
        if let Some(shared) = session.shared.iter().find(|shared| shared.space == *space) {
            *devices.entry(session.peer).or_insert(true) &= shared.in_sync;
        }
    }
    devices.into_iter().collect()
}
