//! Whom to dial: members of each space until it has sessions enough, and now and then one more, so that two well connected
//! halves of a space find each other again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use tracing::debug;

use crate::engine::Engine;
use crate::engine::output::Output;
use crate::id::{DeviceId, SpaceId};
use crate::limits::{SCOUT_INTERVAL, SESSIONS_MAX, SESSIONS_PER_SPACE};
use crate::space::Space;
use crate::sync::collection::Digest;
use crate::sync::session::Session;
use crate::time::Timestamp;

/// When to dial next, and whom beyond need.
#[derive(Debug, Default)]
pub(crate) struct Dialing {
    /// The next deadline; brought up to date whenever something changes that it depends on.
    next_at: Option<Timestamp>,
    /// A member that is dialed although its space has sessions enough.
    scout: Option<DeviceId>,
    scout_at: Timestamp,
    wanted_for: WantedFor,
}

/// What it follows from with whom sessions are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct WantedFor {
    /// Spaces that need more sessions, and the digests of their membership logs.
    logs: BTreeMap<SpaceId, Digest>,
    scout: Option<DeviceId>,
}

impl Engine {
    /// Dials what is due and finds out when that is again.
    pub(super) fn dial_due(&mut self) {
        self.dialing.next_at = None;
        // What is dialed without a place for it would be closed at once, and dialed again.
        if self.stopped.is_some() || self.shutting_down.is_some() || self.sessions.len() >= SESSIONS_MAX {
            return;
        }
        let crowded = self.crowded_spaces();
        if !crowded.is_empty() && self.now.mono >= self.dialing.scout_at {
            self.scout(&crowded);
        }
        self.settle_wanted(&crowded);
        self.dialer.leave_alone(self.busy_peers());
        let jitter = self.random_u32();
        for (address, peer) in self.dialer.due(self.now.mono, jitter, self.mutated) {
            debug!(address, "dialing");
            self.counters.dials += 1;
            self.out(Output::Dial { address, peer });
        }
        let scout = (!crowded.is_empty()).then_some(self.dialing.scout_at);
        self.dialing.next_at = [self.dialer.deadline(), scout].into_iter().flatten().min();
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
        let mut sessions = BTreeMap::<SpaceId, usize>::new();
        for space in self.sessions.values().flat_map(|session| self.member_of(session)) {
            *sessions.entry(space).or_default() += 1;
        }
        sessions.retain(|_, count| *count >= SESSIONS_PER_SPACE);
        sessions.into_keys().collect()
    }

    fn sessions_of(&self, space: &SpaceId) -> usize {
        self.sessions.values().filter(|session| self.member_of(session).any(|of| of == *space)).count()
    }

    /// The shared spaces in which the peer of a session is a member: who only holds a ticket is no help there.
    fn member_of(&self, session: &Session) -> impl Iterator<Item = SpaceId> {
        let peer = session.peer;
        let is_member =
            move |space: &&SpaceId| self.spaces.get(*space).is_some_and(|of| of.membership.role(&peer).is_some());
        session.shared.iter().map(|shared| &shared.space).filter(is_member).copied()
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
        let candidates: Vec<DeviceId> = crowded
            .iter()
            .filter_map(|space| self.spaces.get(space))
            .flat_map(Space::others)
            .filter(|peer| self.dialer.knows(peer) && !busy.contains(peer))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !candidates.is_empty() {
            let pick = self.random_u32() as usize % candidates.len();
            self.dialing.scout = Some(candidates[pick]);
        }
    }

    /// Wanted are the members of spaces that need more sessions, and the scout. Members are many: they are gone through when that
    /// may have changed, and not with every dial.
    fn settle_wanted(&mut self, crowded: &BTreeSet<SpaceId>) {
        let needy = self.spaces.iter_mut().filter(|(id, space)| !crowded.contains(*id) && !space.needs_ticket());
        let logs = needy.map(|(id, space)| (*id, space.entries.root())).collect();
        let wanted_for = WantedFor { logs, scout: self.dialing.scout };
        if self.dialing.wanted_for == wanted_for {
            return;
        }
        let spaces = wanted_for.logs.keys().filter_map(|id| self.spaces.get(id));
        let others = spaces.flat_map(Space::others).chain(wanted_for.scout);
        self.dialer.want(others.filter(|device| !self.blocked.contains(device)).collect());
        self.dialing.wanted_for = wanted_for;
    }

    /// Whom not to dial: ourselves, who is connected or about to be, and who is blocked.
    fn busy_peers(&self) -> BTreeSet<DeviceId> {
        let connected = self.sessions.values().map(|session| session.peer);
        connected.chain([self.device]).chain(self.blocked.iter().copied()).collect()
    }

    /// With whom sessions are wanted follows from something else than members and sessions.
    pub(super) fn choose_again_whom_to_dial(&mut self) {
        self.dialing.wanted_for = WantedFor::default();
        self.dialing.scout = None;
        self.dial_check = true;
    }
}
