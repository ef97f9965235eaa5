//! Who is to be in which space: founding, inviting, joining, leaving, coming back. Applications whose process died ask again.

use anabranch_engine::id::SpaceId;
use anabranch_engine::space::roles::Role;
use anabranch_engine::space::ticket::Ticket;
use anabranch_engine::{Command, CommandError};

use super::Waiting;
use crate::sim::dice::Dice;
use crate::sim::narrate;
use crate::sim::world::{Happening, World};
use crate::sim::{Kind, SECONDS};

/// A space that is wanted, and who is to be in it.
#[derive(Debug)]
pub struct Space {
    founder: usize,
    state: Founding,
    goals: Vec<Goal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Founding {
    NotYet,
    Asked { process: u64 },
    Founded(SpaceId),
}

/// Someone is to become a member. An application whose process died asks again.
#[derive(Debug)]
struct Goal {
    joiner: usize,
    /// What its next ticket is to give.
    role: Role,
    /// It was invited again: which role it has got by now is between it and the log.
    invited_again: bool,
    state: Joining,
    /// The last ticket, and who made it. It may be used up: to come back it is as good as a new one.
    ticket: Option<(Ticket, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joining {
    /// Not yet its time.
    Later,
    NeedsTicket,
    Inviting {
        inviter: usize,
        process: u64,
    },
    HasTicket,
    Asking {
        process: u64,
    },
    Joined,
    /// It wants to be out again.
    Leaving {
        process: u64,
    },
    /// It is out, for a while.
    Left,
}

impl Goal {
    /// It is to be a member again: with the old ticket, if it is still known who made it.
    fn ask_again(&mut self) {
        self.state = if self.ticket.is_some() { Joining::HasTicket } else { Joining::NeedsTicket };
    }

    /// It needs another ticket.
    fn lose_ticket(&mut self) {
        self.ticket = None;
        if matches!(self.state, Joining::HasTicket | Joining::Asking { .. }) {
            self.state = Joining::NeedsTicket;
        }
    }

    /// Nobody may know any more of what this one invited to.
    fn forget_ticket_by(&mut self, inviter: usize) {
        if self.ticket.as_ref().is_some_and(|(_, by)| *by == inviter) {
            self.lose_ticket();
        }
    }
}

impl World {
    /// Decides who is to be in which space: everyone in the first one, some in the others.
    pub(in crate::sim) fn want_spaces(&mut self) {
        let replicas = self.options.replicas;
        let late = replicas - self.options.late;
        for index in 0..self.options.spaces {
            let listens = |replica: &usize| self.replicas[*replica].listens;
            let listeners: Vec<usize> =
                (0..late).filter(listens).filter(|replica| index == 0 || self.is_honest(*replica)).collect();
            let founder = if index == 0 { 0 } else { *self.dice.workload.pick(&listeners).expect("the first listens") };
            let mut goals = Vec::new();
            for joiner in (0..replicas).filter(|joiner| *joiner != founder) {
                let role = match self.dice.workload.below(100) {
                    n if n < self.options.readers => Role::Reader,
                    n if n > 85 => Role::Admin,
                    _ => Role::Writer,
                };
                let state = if joiner >= late { Joining::Later } else { Joining::NeedsTicket };
                // The last of several spaces is without anybody hostile, and with all others.
                let hostile = !self.is_honest(joiner);
                let kept_clean = index > 0 && index + 1 == self.options.spaces && !self.attackers.is_empty();
                if kept_clean && hostile {
                    continue;
                }
                if index == 0 || kept_clean || self.dice.workload.percent(60) {
                    goals.push(Goal { joiner, role, invited_again: false, state, ticket: None });
                }
            }
            self.spaces.push(Space { founder, state: Founding::NotYet, goals });
        }
        self.pursue_goals();
    }

    /// What is still wanted.
    pub fn unreached_goals(&self) -> Vec<String> {
        let mut open = Vec::new();
        for (index, space) in self.spaces.iter().enumerate() {
            if !matches!(space.state, Founding::Founded(_)) {
                open.push(format!("space {index}: {:?}", space.state));
            }
            for goal in &space.goals {
                let state = match goal.state {
                    Joining::Joined => continue,
                    Joining::Later | Joining::NeedsTicket => "needs a ticket for",
                    Joining::Inviting { .. } => "is being invited into",
                    Joining::HasTicket => "has a ticket for",
                    Joining::Asking { .. } => "is joining",
                    Joining::Leaving { .. } => "is leaving",
                    Joining::Left => "has left",
                };
                open.push(format!("#{} {state} space {index}", goal.joiner));
            }
        }
        open
    }

    /// Whether a replica is in all spaces that it is to be in.
    pub(in crate::sim) fn is_everywhere(&self, replica: usize) -> bool {
        self.spaces.iter().all(|space| {
            let joined = |goal: &Goal| goal.joiner != replica || goal.state == Joining::Joined;
            (space.founder != replica || matches!(space.state, Founding::Founded(_))) && space.goals.iter().all(joined)
        })
    }

    /// Nobody is to come later than now.
    pub(in crate::sim) fn want_everyone(&mut self) {
        for goal in self.spaces.iter_mut().flat_map(|space| &mut space.goals) {
            match goal.state {
                Joining::Later => goal.state = Joining::NeedsTicket,
                Joining::Left => goal.ask_again(),
                _ => {}
            }
        }
        self.pursue_goals();
    }

    /// Asks for whatever is wanted and not under way.
    pub(in crate::sim) fn pursue_goals(&mut self) {
        for index in 0..self.spaces.len() {
            let (founder, state) = (self.spaces[index].founder, self.spaces[index].state);
            match state {
                Founding::Founded(space) => {
                    for goal in 0..self.spaces[index].goals.len() {
                        self.pursue(index, goal, space);
                    }
                }
                Founding::Asked { process } if self.running(founder) == Some(process) => {}
                Founding::NotYet | Founding::Asked { .. } => {
                    let Some(process) = self.running(founder) else { continue };
                    self.spaces[index].state = Founding::Asked { process };
                    let name = format!("space {index}");
                    self.command_for(founder, Command::CreateSpace { name }, Waiting::ForSpace(index));
                }
            }
        }
    }

    fn pursue(&mut self, index: usize, goal: usize, space: SpaceId) {
        let Goal { joiner, role, state, .. } = self.spaces[index].goals[goal];
        match state {
            Joining::Later | Joining::Joined | Joining::Left => {}
            Joining::Inviting { inviter, process } if self.running(inviter) == Some(process) => {}
            Joining::NeedsTicket | Joining::Inviting { .. } => {
                // Who waits for an invitation has it from anyone who may give one.
                let admins = self.ledger.members_of(&space).into_iter();
                let admins =
                    admins.filter(|(who, role)| *role == Role::Admin && self.role_in(*who, &space) == Some(*role));
                let admins: Vec<usize> = admins.map(|(who, _)| who).collect();
                let Some(inviter) = self.dice.workload.pick(&admins).copied() else { return };
                let process = self.running(inviter).expect("just filtered");
                let founder = self.spaces[index].founder;
                let mut addresses = vec![self.address_of(founder)];
                if inviter != founder && self.replicas[inviter].listens {
                    addresses.push(self.address_of(inviter));
                }
                self.spaces[index].goals[goal].state = Joining::Inviting { inviter, process };
                let command = Command::Invite { space, role, max_uses: 1, addresses };
                self.command_for(inviter, command, Waiting::ForTicket(index, goal));
            }
            Joining::Asking { process } | Joining::Leaving { process } if self.running(joiner) == Some(process) => {}
            Joining::HasTicket | Joining::Asking { .. } => {
                let Some(process) = self.running(joiner) else { return };
                let Some((ticket, _)) = self.spaces[index].goals[goal].ticket.clone() else { return };
                self.spaces[index].goals[goal].state = Joining::Asking { process };
                self.command_for(joiner, Command::Join { ticket }, Waiting::ForJoin(index, goal));
            }
            Joining::Leaving { .. } => {
                // It died before it was told that it is out, or has the space back with an old disk.
                let Some(process) = self.running(joiner) else { return };
                let inside = self.engine(joiner).is_some_and(|e| e.spaces().iter().any(|status| status.space == space));
                if inside {
                    self.counts_on_nothing_of(joiner, space);
                    self.spaces[index].goals[goal].state = Joining::Leaving { process };
                    self.command_for(joiner, Command::LeaveSpace { space }, Waiting::ForLeave(index, goal));
                } else {
                    self.spaces[index].goals[goal].state = Joining::Left;
                }
            }
        }
    }

    /// A space was founded.
    pub(super) fn founded(&mut self, index: usize, founder: usize, space: SpaceId) {
        self.ledger.joined(founder, space, Role::Admin);
        self.tell(|| format!("{} has founded space {space:.8}", narrate::name(founder)));
        self.spaces[index].state = Founding::Founded(space);
        self.pursue_goals();
    }

    /// A ticket was made.
    pub(super) fn invited(&mut self, index: usize, goal: usize, inviter: usize, ticket: Ticket) {
        let goal = &mut self.spaces[index].goals[goal];
        goal.ticket = Some((ticket, inviter));
        goal.state = Joining::HasTicket;
        self.pursue_goals();
    }

    /// A member was admitted. If its goal is another one's by now, the one who asked does not count.
    pub(super) fn admitted(&mut self, index: usize, goal: usize, joiner: usize, space: SpaceId) {
        let goal = &mut self.spaces[index].goals[goal];
        if goal.joiner == joiner {
            self.stats.joins += 1;
            goal.state = Joining::Joined;
            let held = self.ledger.spaces_of(joiner).get(&space).copied();
            let role = held.map_or(goal.role, |held| held.max(goal.role));
            let (given, now) = (goal.role, self.role_in(joiner, &space));
            if now < Some(given) {
                let text =
                    format!("#{joiner} was told that it is in {space:.8}, for a role of {given}, and is {now:?}");
                self.fail(Kind::Safety, "roles", text);
            }
            self.ledger.joined(joiner, space, role);
            self.tell(|| format!("{} is in space {space:.8} as {}", narrate::name(joiner), role.with_article()));
        }
        self.pursue_goals();
    }

    /// Somebody's role in a space, as far as its own log says.
    fn role_in(&self, replica: usize, space: &SpaceId) -> Option<Role> {
        let there = &self.replicas[replica];
        let members = there.process.as_ref()?.engine.members(space);
        members.into_iter().find(|member| member.device == there.device).map(|member| member.role)
    }

    /// Whether a replica may edit documents of a space.
    pub(super) fn may_write(&mut self, replica: usize, space: SpaceId) -> bool {
        if self.replicas[replica].is_renewed {
            return self.may_write_although_renewed(replica, space);
        }
        let is_it = |goal: &Goal| goal.joiner == replica && goal.invited_again;
        let wanted = self.spaces.iter().filter(|wanted| wanted.state == Founding::Founded(space));
        let role = if wanted.flat_map(|wanted| &wanted.goals).any(is_it) {
            let spaces = self.engine(replica).map(anabranch_engine::Engine::spaces).unwrap_or_default();
            spaces.into_iter().find(|status| status.space == space).and_then(|status| status.role)
        } else {
            self.ledger.spaces_of(replica).get(&space).copied()
        };
        role.is_some_and(Role::can_write)
    }

    /// Until it is let in under its new key, it may write what it could write under the one before.
    fn may_write_although_renewed(&mut self, replica: usize, space: SpaceId) -> bool {
        let Some(engine) = self.engine(replica) else { return false };
        let status = engine.spaces().into_iter().find(|status| status.space == space);
        let former = status.as_ref().and_then(|status| status.former);
        let role = match former {
            Some(former) => {
                engine.members(&space).into_iter().find(|member| member.device == former).map(|member| member.role)
            }
            None => status.and_then(|status| status.role),
        };
        role.is_some_and(Role::can_write)
    }

    /// Somebody is to be let into a space under another key, in the role that it had.
    pub(in crate::sim) fn wants_in_again(&mut self, joiner: usize, space: &SpaceId) {
        let role = self.ledger.spaces_of(joiner).get(space).copied().unwrap_or(Role::Writer);
        let wanted = self.spaces.iter_mut().find(|wanted| wanted.state == Founding::Founded(*space));
        let Some(wanted) = wanted else { return };
        wanted.goals.push(Goal { joiner, role, invited_again: false, state: Joining::NeedsTicket, ticket: None });
    }

    /// A member of one of its spaces is invited once more. A lesser role takes nothing away.
    pub(super) fn invite_again(&mut self, replica: usize, dice: &mut Dice) {
        if !self.is_honest(replica) {
            return;
        }
        let mut joined: Vec<&mut Goal> = self
            .spaces
            .iter_mut()
            .filter(|wanted| matches!(wanted.state, Founding::Founded(_)))
            .flat_map(|wanted| &mut wanted.goals)
            .filter(|goal| goal.joiner == replica && goal.state == Joining::Joined)
            .collect();
        if joined.is_empty() {
            return;
        }
        let goal = joined.swap_remove(dice.index(joined.len()));
        goal.role = *dice.pick(&[Role::Reader, Role::Writer, Role::Admin]).expect("not empty");
        goal.invited_again = true;
        goal.ticket = None;
        goal.state = Joining::NeedsTicket;
        self.stats.invited_again += 1;
        self.pursue_goals();
    }

    /// Nobody is at this address any more: tickets that name it lead nowhere.
    pub(in crate::sim) fn forget_tickets_to(&mut self, address: &str) {
        for goal in self.spaces.iter_mut().flat_map(|space| &mut space.goals) {
            if goal.ticket.as_ref().is_some_and(|(ticket, _)| ticket.addresses.iter().any(|at| at == address)) {
                goal.lose_ticket();
            }
        }
    }

    /// One who was not there at the start is to join now.
    pub(super) fn join_now(&mut self, joiner: usize) {
        for goal in self.spaces.iter_mut().flat_map(|space| &mut space.goals) {
            if goal.joiner == joiner && goal.state == Joining::Later {
                goal.state = Joining::NeedsTicket;
            }
        }
        if self.replicas[joiner].process.is_none() {
            self.start(joiner);
        } else {
            self.pursue_goals();
        }
    }

    /// A member leaves one of its spaces, and comes back after a while.
    pub(super) fn leave_somewhere(&mut self, replica: usize, dice: &mut Dice) {
        let stays = self.is_stopped(replica) || !self.is_honest(replica);
        let Some(process) = self.running(replica).filter(|_| !stays) else { return };
        let mut inside = Vec::new();
        for (index, wanted) in self.spaces.iter().enumerate() {
            let Founding::Founded(space) = wanted.state else { continue };
            let goals = wanted.goals.iter().enumerate();
            let joined = goals.filter(|(_, goal)| goal.joiner == replica && goal.state == Joining::Joined);
            inside.extend(joined.map(|(goal, _)| (index, goal, space)));
        }
        let Some((index, goal, space)) = dice.pick(&inside).copied() else { return };
        self.stats.leaves += 1;
        self.counts_on_nothing_of(replica, space);
        self.spaces[index].goals[goal].state = Joining::Leaving { process };
        self.command_for(replica, Command::LeaveSpace { space }, Waiting::ForLeave(index, goal));
        self.schedule(dice.between(SECONDS, 40 * SECONDS), Happening::ComeBack { space: index, goal });
    }

    /// A replica is about to leave a space: its applications count on nothing of it any more. An invitation that it made may
    /// be known to nobody else.
    pub(in crate::sim) fn counts_on_nothing_of(&mut self, replica: usize, space: SpaceId) {
        for wanted in self.spaces.iter_mut().filter(|wanted| wanted.state == Founding::Founded(space)) {
            wanted.goals.iter_mut().for_each(|goal| goal.forget_ticket_by(replica));
        }
        self.ledger.left(replica, space);
        self.watch.left(replica, space);
        if let Some(process) = self.replicas[replica].process.as_mut() {
            process.open.retain(|place, _| place.0 != space);
        }
    }

    /// A member is out.
    pub(super) fn is_out(&mut self, index: usize, goal: usize) {
        let goal = &mut self.spaces[index].goals[goal];
        if matches!(goal.state, Joining::Leaving { .. }) {
            goal.state = Joining::Left;
        }
    }

    /// One who left wants to be a member again.
    pub(in crate::sim) fn come_back(&mut self, space: usize, goal: usize) {
        let wanted = &mut self.spaces[space].goals[goal];
        match wanted.state {
            Joining::Left => wanted.ask_again(),
            Joining::Leaving { .. } => return self.schedule(SECONDS, Happening::ComeBack { space, goal }),
            _ => return,
        }
        self.pursue_goals();
    }

    /// Whether an application had to expect this: its space was left meanwhile. It asks again where it still wants something.
    pub(super) fn is_expected(&mut self, replica: usize, waiting: &Waiting, error: &CommandError) -> bool {
        match (waiting, error) {
            (waiting, CommandError::UnknownSpace(space)) => {
                if let Waiting::ForTicket(index, goal) = waiting {
                    self.spaces[*index].goals[*goal].state = Joining::NeedsTicket;
                    self.pursue_soon();
                }
                if let Waiting::ForLeave(index, goal) = waiting {
                    self.is_out(*index, *goal);
                }
                !self.ledger.spaces_of(replica).contains_key(space)
            }
            // Of a document that it lost with a disk, nothing need have come back yet.
            (Waiting::ToOpen(place, _), CommandError::UnknownDocument(_)) => {
                self.ledger.saved_by(replica).iter().all(|edited| edited.place != *place)
            }
            // Somebody hostile who invited it may well pretend not to have the space: one asks again.
            (Waiting::ForJoin(index, goal), CommandError::Refused { peer, .. }) if !self.is_honest_device(peer) => {
                self.spaces[*index].goals[*goal].state = Joining::NeedsTicket;
                self.pursue_soon();
                true
            }
            _ => false,
        }
    }

    /// A command came to nothing because a replica cannot write at present: it is given again.
    pub(super) fn put_off(&mut self, replica: usize, waiting: &Waiting) {
        match waiting {
            Waiting::ToUnblock(device) => {
                return self.schedule(SECONDS, Happening::Unblock { replica, device: Some(*device) });
            }
            Waiting::ForSpace(index) => {
                let state = &mut self.spaces[*index].state;
                if matches!(state, Founding::Asked { .. }) {
                    *state = Founding::NotYet;
                }
            }
            Waiting::ForTicket(index, goal) => {
                let goal = &mut self.spaces[*index].goals[*goal];
                if matches!(goal.state, Joining::Inviting { .. }) {
                    goal.state = Joining::NeedsTicket;
                }
            }
            Waiting::ForJoin(index, goal) => {
                let goal = &mut self.spaces[*index].goals[*goal];
                if matches!(goal.state, Joining::Asking { .. }) {
                    goal.ask_again();
                }
            }
            Waiting::ForLeave(index, goal) => {
                let goal = &mut self.spaces[*index].goals[*goal];
                if let Joining::Leaving { process } = &mut goal.state {
                    // No process has this number: it asks again, if it is not out.
                    *process = 0;
                }
            }
            Waiting::ForNothing
            | Waiting::ForUsage(_)
            | Waiting::ToBlock
            | Waiting::ToOpen(..)
            | Waiting::ForSync
            | Waiting::ForFeed(..)
            | Waiting::ToLeave
            | Waiting::ForShutdown
            | Waiting::ForStory => return,
        }
        self.pursue_soon();
    }

    /// Asks again for whatever is wanted, once for all that comes to nothing meanwhile: for each of them it would double each time.
    fn pursue_soon(&mut self) {
        if !std::mem::replace(&mut self.will_pursue, true) {
            self.schedule(SECONDS, Happening::Pursue);
        }
    }

    /// Whether a replica has founded every space that it is to found.
    pub(in crate::sim) fn has_founded_all(&self, replica: usize) -> bool {
        let mut own = self.spaces.iter().filter(|space| space.founder == replica);
        own.all(|space| matches!(space.state, Founding::Founded(_)))
    }

    /// Whether a replica is to found a space.
    pub(in crate::sim) fn is_founder(&self, replica: usize) -> bool {
        self.spaces.iter().any(|space| space.founder == replica)
    }

    /// A replica knows less than it did, or is another one from now on: what its applications want is looked at again. Nobody
    /// may know any more of the invitations that it made.
    pub(in crate::sim) fn reconsider(&mut self, replica: usize, now: usize) {
        let member_of = self.ledger.spaces_of(now);
        for wanted in &mut self.spaces {
            let Founding::Founded(space) = wanted.state else { continue };
            for goal in &mut wanted.goals {
                goal.forget_ticket_by(replica);
                if goal.joiner != replica {
                    continue;
                }
                goal.joiner = now;
                match goal.state {
                    Joining::Joined if !member_of.contains_key(&space) => goal.ask_again(),
                    // The space may be back.
                    Joining::Left => goal.state = Joining::Leaving { process: 0 },
                    _ => {}
                }
            }
        }
    }
}
