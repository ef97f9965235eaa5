//! Scripts: real work as lists of steps, written by hand for the sweep and drawn from a seed for the images.

use anabranch_engine::space::roles::Role;
use anabranch_engine::{Command, Reply};

use super::pair::{Pair, Side};
use crate::sim::dice::Dice;

/// One thing that somebody does. Numbers pick among what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Our store is opened, and our replica started.
    Start,
    /// Our replica is shut down in order.
    ShutDown,
    /// Our store is closed under a replica that was not shut down.
    Stop,
    /// We found a space.
    Found,
    /// The other one founds a space, and we join it.
    Join(Role),
    /// We make a ticket that nobody uses.
    Invite,
    /// The other one joins our newest space.
    Admit(Role),
    /// We make a document in a space, with a first edit.
    Document(usize),
    /// The other one does.
    TheirDocument(usize),
    /// So many edits of one document, with so much text in each, saved together.
    Edits(usize, usize, usize),
    /// So many edits of all our documents in turn, each saved.
    EachSaved(usize),
    /// The other one's.
    TheirEdits(usize, usize),
    /// Both are connected until they agree.
    Agree,
    /// The link is cut.
    Cut,
    /// We read the whole feed.
    Feed,
    /// We leave the first space.
    Leave,
    /// Virtual seconds pass.
    Wait(u64),
    /// Every document of ours is opened.
    OpenAll,
    /// A new store is made of what is readable of the wreck, and our replica started on it.
    Salvage,
}

impl Step {
    /// Does it. Where there is nothing to do it to, nothing is done.
    ///
    /// # Errors
    /// What our replica or its store answers.
    pub fn perform(self, pair: &mut Pair) -> Result<(), String> {
        match self {
            Self::Start => {
                pair.start_other();
                pair.start_ours()
            }
            Self::ShutDown => pair.shut_down(),
            Self::Stop => {
                pair.stop_ours();
                Ok(())
            }
            Self::Found => found(pair, Side::Ours),
            Self::Join(role) => {
                found(pair, Side::Other)?;
                invite(pair, Side::Other, role)
            }
            Self::Invite => match pair.spaces_of(Side::Ours).iter().rfind(|(_, _, role)| *role == Some(Role::Admin)) {
                Some((space, ..)) => ticket(pair, Side::Ours, *space, Role::Writer).map(|_| ()),
                None => Ok(()),
            },
            Self::Admit(role) => invite(pair, Side::Ours, role),
            Self::Document(which) => document(pair, Side::Ours, which),
            Self::TheirDocument(which) => document(pair, Side::Other, which),
            Self::Edits(which, count, text) => {
                let places = writable(pair, Side::Ours);
                if places.is_empty() {
                    return Ok(());
                }
                for _ in 0..count {
                    pair.edit(Side::Ours, places[which % places.len()], text)?;
                }
                pair.saved()
            }
            Self::EachSaved(count) => {
                let places = writable(pair, Side::Ours);
                for n in 0..count {
                    if let Some(place) = places.get(n % places.len().max(1)) {
                        pair.edit(Side::Ours, *place, 0)?;
                        pair.saved()?;
                    }
                }
                Ok(())
            }
            Self::TheirEdits(which, count) => {
                let places = writable(pair, Side::Other);
                for n in 0..count {
                    if let Some(place) = places.get((which + n) % places.len().max(1)) {
                        pair.edit(Side::Other, *place, 0)?;
                    }
                }
                pair.stopped().map_or(Ok(()), Err)
            }
            Self::Agree => pair.agree(),
            Self::Cut => {
                pair.link(false);
                Ok(())
            }
            Self::Feed => pair.ask(Side::Ours, Command::ReadFeed { after: 0, limit: 100 }).map(|_| ()),
            Self::Leave => {
                let Some((space, ..)) = pair.spaces_of(Side::Ours).first().cloned() else { return Ok(()) };
                pair.ask(Side::Ours, Command::LeaveSpace { space }).map(|_| ())
            }
            Self::OpenAll => {
                for place in pair.places(Side::Ours) {
                    pair.open(Side::Ours, place)?;
                }
                Ok(())
            }
            Self::Salvage => {
                pair.start_other();
                pair.salvage()
            }
            Self::Wait(seconds) => {
                pair.pass(seconds);
                pair.stopped().map_or(Ok(()), Err)
            }
        }
    }
}

fn found(pair: &mut Pair, side: Side) -> Result<(), String> {
    let name = format!("space {}", pair.spaces.len());
    match pair.ask(side, Command::CreateSpace { name })? {
        Reply::SpaceReady(space) => pair.spaces.push(space),
        other => return Err(format!("founding a space was answered with {other:?}")),
    }
    Ok(())
}

fn ticket(
    pair: &mut Pair,
    side: Side,
    space: anabranch_engine::id::SpaceId,
    role: Role,
) -> Result<anabranch_engine::space::ticket::Ticket, String> {
    let addresses = vec![pair.address(side)];
    match pair.ask(side, Command::Invite { space, role, max_uses: 1, addresses })? {
        Reply::Ticket(ticket) => Ok(ticket),
        other => Err(format!("inviting was answered with {other:?}")),
    }
}

/// One side invites the other into the newest space, where it may.
fn invite(pair: &mut Pair, side: Side, role: Role) -> Result<(), String> {
    let across = if side == Side::Ours { Side::Other } else { Side::Ours };
    let admin = |(space, _, role): &(_, _, Option<Role>)| (*role == Some(Role::Admin)).then_some(*space);
    let inside = pair.spaces_of(across);
    let Some(space) =
        pair.spaces_of(side).iter().filter_map(admin).rfind(|space| inside.iter().all(|(there, ..)| there != space))
    else {
        return Ok(());
    };
    let ticket = ticket(pair, side, space, role)?;
    pair.link(true);
    pair.ask(across, Command::Join { ticket })?;
    pair.agree()
}

fn document(pair: &mut Pair, side: Side, which: usize) -> Result<(), String> {
    let may = |(space, _, role): &(_, _, Option<Role>)| role.is_some_and(Role::can_write).then_some(*space);
    let spaces: Vec<_> = pair.spaces_of(side).iter().filter_map(may).collect();
    if spaces.is_empty() {
        return Ok(());
    }
    let place = pair.new_document(side, spaces[which % spaces.len()])?;
    pair.edit(side, place, 0)?;
    if side == Side::Ours { pair.saved() } else { Ok(()) }
}

/// The documents that a side has and may edit.
fn writable(pair: &mut Pair, side: Side) -> Vec<super::book::Place> {
    let spaces = pair.spaces_of(side);
    let may = |space| spaces.iter().any(|(there, _, role)| *there == space && role.is_some_and(Role::can_write));
    let mut places = pair.places(side);
    places.retain(|(space, _)| may(*space));
    places
}

/// A script drawn from a seed: it begins with a start, a space and a document.
pub fn draw(dice: &mut Dice) -> Vec<Step> {
    let mut steps = vec![Step::Start];
    steps.push(if dice.percent(50) { Step::Found } else { Step::Join(Role::Writer) });
    steps.push(Step::Document(0));
    for _ in 0..dice.between(8, 20) {
        let which = dice.index(8);
        let step = match dice.below(30) {
            0..6 => Step::Edits(which, 1 + dice.index(4), 0),
            6 | 7 => Step::Edits(which, 1, 200 + dice.index(20_000)),
            8..11 => Step::EachSaved(1 + dice.index(4)),
            11..14 => Step::Document(which),
            14 | 15 => Step::TheirDocument(which),
            16..19 => Step::TheirEdits(which, 1 + dice.index(6)),
            19 | 20 => Step::Agree,
            21 => Step::Cut,
            22 => Step::Admit(if dice.percent(70) { Role::Writer } else { Role::Reader }),
            23 => Step::Join(if dice.percent(70) { Role::Writer } else { Role::Reader }),
            24 => Step::Found,
            25 => Step::Invite,
            26 => Step::Feed,
            27 => Step::Wait(1 + dice.below(40)),
            28 if dice.percent(30) => Step::Leave,
            28 => Step::Agree,
            _ => {
                steps.push(if dice.percent(50) { Step::ShutDown } else { Step::Stop });
                Step::Start
            }
        };
        steps.push(step);
    }
    steps
}
