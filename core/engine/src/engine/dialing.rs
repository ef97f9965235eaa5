//! Whom to dial: members of each space until it has sessions enough, and now and then one more, so that two well connected
//! halves of a space find each other again.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use tracing::debug;

use crate::engine::Engine;
use crate::engine::output::Output;
use crate::id::{DeviceId, SpaceId};
use crate::limits::{SCOUT_INTERVAL, SESSIONS_PER_SPACE};
use crate::space::Space;
use crate::time::Timestamp;

/// When to dial next, and whom beyond need.
#[derive(Debug, Default)]
pub(crate) struct Dialing {
    /// The next deadline; brought up to date whenever something changes that it depends on.
    next_at: Option<Timestamp>,
    /// A member that is dialed although its space has sessions enough.
    scout: Option<DeviceId>,
    scout_at: Timestamp,
}

impl Engine {
    /// Dials what is due and finds out when that is again.
    pub(super) fn dial_due(&mut self) {
        self.dialing.next_at = None;
        if self.stopped.is_some() || self.shutting_down.is_some() {
            return;
        }
        let crowded = self.crowded_spaces();
        if !crowded.is_empty() && self.now.mono >= self.dialing.scout_at {
            self.scout(&crowded);
        }
        let wanted = self.wanted_peers(&crowded);
        let busy = self.busy_peers();
        let jitter = self.random_u32();
        let due = self.dialer.due(self.now.mono, |peer| wanted.contains(peer), |peer| busy.contains(peer), || jitter);
        for (address, peer) in due {
            debug!(address, "dialing");
            self.out(Output::Dial { address, peer });
        }
        let dial = self.dialer.deadline(|peer| wanted.contains(peer), |peer| busy.contains(peer));
        let scout = (!crowded.is_empty()).then_some(self.dialing.scout_at);
        self.dialing.next_at = [dial, scout].into_iter().flatten().min();
    }

    /// Who has lost the members of a space, and so whom to dial, tries everybody that was ever met.
    pub(super) fn dial_for_lost_members(&mut self) {
        let has_no_ticket =
            |space: &Space| space.access.invite.as_ref().is_some_and(|ticket| ticket.addresses.is_empty());
        if self.spaces.values().any(has_no_ticket) {
            let known: Vec<String> =
                self.remembered.values().flat_map(|known| known.addresses.iter().cloned()).collect();
            self.dial_given(known.iter());
        }
    }

    pub(super) fn dial_deadline(&self) -> Option<(Timestamp, &'static str)> {
        self.dialing.next_at.map(|at| (at, "dial"))
    }

    /// Spaces that have as many sessions as they need.
    fn crowded_spaces(&self) -> BTreeSet<SpaceId> {
        self.spaces.keys().filter(|space| self.sessions_of(space) >= SESSIONS_PER_SPACE).copied().collect()
    }

    fn sessions_of(&self, space: &SpaceId) -> usize {
        self.sessions.values().filter(|session| session.shared.iter().any(|shared| shared.space == *space)).count()
    }

    /// Lets the last scout go, if it is still one too many, and picks another member at random.
    fn scout(&mut self, crowded: &BTreeSet<SpaceId>) {
        self.dialing.scout_at = self.now.mono + SCOUT_INTERVAL;
        if let Some(last) = self.dialing.scout.take() {
            let surplus: Vec<_> = self
                .sessions
                .iter()
                .filter(|(_, session)| {
                    session.peer == last
                        && session.opener
                        && session.shared.iter().all(|shared| self.sessions_of(&shared.space) > SESSIONS_PER_SPACE)
                })
                .map(|(id, _)| *id)
                .collect();
            for id in surplus {
                self.close_session(id, "there are sessions enough");
            }
        }
        let busy = self.busy_peers();
        let reachable = self.dialer.peers();
        let candidates: Vec<DeviceId> = crowded
            .iter()
            .filter_map(|space| self.spaces.get(space))
            .flat_map(Space::others)
            .filter(|peer| reachable.contains(peer) && !busy.contains(peer))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !candidates.is_empty() {
            let pick = self.random_u32() as usize % candidates.len();
            self.dialing.scout = Some(candidates[pick]);
        }
    }

    /// Members of spaces that need more sessions, and the scout.
    fn wanted_peers(&self, crowded: &BTreeSet<SpaceId>) -> BTreeSet<DeviceId> {
        let spaces = self.spaces.iter().filter(|(id, space)| !crowded.contains(*id) && !space.needs_ticket());
        spaces.flat_map(|(_, space)| space.others()).chain(self.dialing.scout).collect()
    }

    /// Whom not to dial: ourselves, and who is connected or about to be.
    fn busy_peers(&self) -> BTreeSet<DeviceId> {
        self.sessions.values().map(|session| session.peer).chain([self.device]).collect()
    }
}
