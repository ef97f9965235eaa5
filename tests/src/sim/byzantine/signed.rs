//! Attacks with what only a member can sign: changes and runs of them.

use anabranch_engine::id::{ActorId, ChangeHash, DocumentId, SpaceId};
use anabranch_engine::limits::{ACL_REF_ENTRIES_MAX, CHANGE_DENSE_OPS_MAX, CHANGE_DEPS_MAX, COUNTER_GAP_MAX};
use anabranch_engine::run::Run;
use anabranch_engine::space::Acl;
use anabranch_engine::space::membership::entry_hash;
use anabranch_engine::wire::Lane;

use super::forge::{self, Chain};
use super::{Attacker, Move, Opening, Scene, frames_on};
use crate::sim::dice::Dice;

/// A document to attack, and where in its history.
struct Target {
    space: SpaceId,
    document: DocumentId,
    heads: Vec<ChangeHash>,
    max_op: u64,
}

impl Scene<'_> {
    /// What runs of the attacker stand on in a space: its own entry; `None` if it is no member.
    fn acl(&self, space: &SpaceId) -> Option<Acl> {
        let own = self.key.device();
        let member = self.engine.members(space).into_iter().find(|member| member.device == own)?;
        Some(Acl::new(vec![member.entry]))
    }

    /// Some space that a session shares, with its number there.
    pub(super) fn some_space(&self, dice: &mut Dice) -> Option<SpaceId> {
        let spaces: Vec<SpaceId> = self.sessions.iter().flat_map(|opening| opening.spaces.iter().copied()).collect();
        dice.pick(&spaces).copied()
    }

    /// Everyone who shares a space, with its number there.
    pub(super) fn sharing(&self, space: &SpaceId) -> Vec<(&Opening, u32)> {
        let number = |opening: &Opening| opening.spaces.iter().position(|shared| shared == space);
        self.sessions.iter().filter_map(|opening| Some((opening, number(opening)? as u32))).collect()
    }

    /// A document of a space, or a new one.
    fn target(&self, dice: &mut Dice, space: SpaceId, new_percent: u64) -> Target {
        let documents = self.engine.documents(&space);
        let known = dice.pick(&documents).copied().filter(|_| !dice.percent(new_percent));
        let Some(document) = known else {
            return Target { space, document: DocumentId(dice.bytes()), heads: Vec::new(), max_op: 0 };
        };
        let heads = self.engine.heads(&space, &document);
        let record = self.engine.record(&space, &document);
        let of_heads = record.into_iter().flat_map(|record| record.signed.frontier.actors.into_values());
        let max_op = of_heads.filter(|proof| heads.contains(&proof.header.tip)).map(|proof| proof.lamport).max();
        Target { space, document, heads, max_op: max_op.unwrap_or(0) }
    }

    /// The same runs to everyone who shares the space, on the live lane: nobody asked for them.
    fn to_all(&self, space: &SpaceId, acl: &Acl, runs: &[Run]) -> Vec<Move> {
        self.sharing(space)
            .into_iter()
            .map(|(opening, index)| {
                Move::Send(opening.session, frames_on(Lane::Live, &forge::message(index, acl, runs)))
            })
            .collect()
    }

    fn run(&self, target: &Target, acl: &Acl, changes: &[automerge::Change]) -> Run {
        forge::run(self.key, target.space, target.document, acl, changes)
    }
}

fn actor(dice: &mut Dice) -> ActorId {
    ActorId(dice.bytes())
}

/// Changes put into a space, made by `make` on top of some document.
fn put(
    attacker: &mut Attacker,
    scene: &Scene<'_>,
    make: impl FnOnce(&mut Dice, &Target, &Acl) -> Vec<Run>,
) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(space) = scene.some_space(dice) else { return Vec::new() };
    let Some(acl) = scene.acl(&space) else { return Vec::new() };
    let target = scene.target(dice, space, 50);
    let runs = make(dice, &target, &acl);
    scene.to_all(&space, &acl, &runs)
}

pub(super) fn forks(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(space) = scene.some_space(dice) else { return Vec::new() };
    let Some(acl) = scene.acl(&space) else { return Vec::new() };
    let target = scene.target(dice, space, 80);
    let mut stem = Chain::new(actor(dice), target.heads.clone(), target.max_op);
    let common: Vec<_> = (0..dice.below(3)).map(|value| stem.grow(value)).collect();
    let branch = |dice: &mut Dice, mark: u64| {
        let mut chain = stem.clone();
        let tail: Vec<_> = (0..dice.between(1, 3)).map(|value| chain.grow(mark + value)).collect();
        // As one run, or each change signed by itself.
        let changes: Vec<_> = common.iter().cloned().chain(tail).collect();
        if dice.percent(50) {
            vec![scene.run(&target, &acl, &changes)]
        } else {
            changes.iter().map(|change| scene.run(&target, &acl, std::slice::from_ref(change))).collect()
        }
    };
    let branches = [branch(dice, 100), branch(dice, 200)];
    let can_write = scene.engine.members(&space).iter().any(|m| m.device == scene.key.device() && m.role.can_write());
    if can_write {
        attacker.forked.insert((space, target.document));
    }
    let mut sharing = scene.sharing(&space);
    attacker.dice.shuffle(&mut sharing);
    let alone = sharing.len() == 1;
    let mut moves = Vec::new();
    for (place, (opening, index)) in sharing.into_iter().enumerate() {
        for (number, runs) in branches.iter().enumerate() {
            if alone || place % 2 == number {
                let frames = frames_on(Lane::Live, &forge::message(index, &acl, runs));
                moves.push(Move::Send(opening.session, frames));
            }
        }
    }
    moves
}

pub(super) fn back_dates(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        // As if nothing of the document had been known.
        let mut chain = Chain::new(actor(dice), Vec::new(), 0);
        let changes: Vec<_> = (0..dice.between(1, 3)).map(|value| chain.grow(value)).collect();
        vec![scene.run(target, acl, &changes)]
    })
}

pub(super) fn gaps(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        let mut chain = Chain::new(actor(dice), target.heads.clone(), target.max_op);
        let first = chain.grow(1);
        chain.seq = *dice.pick(&[3, 1_000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX]).expect("not empty");
        let behind = chain.grow(2);
        vec![scene.run(target, acl, &[first]), scene.run(target, acl, &[behind])]
    })
}

pub(super) fn inflates(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        let mut chain = Chain::new(actor(dice), target.heads.clone(), target.max_op);
        chain.start_op += *dice
            .pick(&[COUNTER_GAP_MAX + 1, 2 * COUNTER_GAP_MAX, (1 << 31) - 2, u64::from(u32::MAX), 1 << 40])
            .expect("not empty");
        vec![scene.run(target, acl, &[chain.grow(1)])]
    })
}

pub(super) fn dense(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        let chain = Chain::new(actor(dice), target.heads.clone(), target.max_op);
        // One that is taken is work for everybody in the world, and for all checkers.
        let count = if dice.percent(20) { CHANGE_DENSE_OPS_MAX + 1_000 } else { dice.between(500, 3_000) };
        vec![scene.run(target, acl, &[chain.change_of_nulls(count)])]
    })
}

pub(super) fn impossible(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        let mut chain = Chain::new(actor(dice), target.heads.clone(), target.max_op);
        let first = chain.grow(1);
        // The value that the first change wrote, under another key.
        let replaced = chain.change_replacing(2, Some(chain.start_op - 1));
        vec![scene.run(target, acl, &[first]), scene.run(target, acl, &[replaced])]
    })
}

pub(super) fn wide_deps(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        let count = CHANGE_DEPS_MAX + dice.below(2) as usize;
        let deps = (0..count).map(|_| ChangeHash(dice.bytes())).collect();
        vec![scene.run(target, acl, &[Chain::new(actor(dice), deps, 0).grow(1)])]
    })
}

pub(super) fn orphans(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        let count = if dice.percent(10) { 60 } else { dice.between(2, 10) };
        let everywhere = dice.percent(50);
        (0..count)
            .map(|value| {
                let change = Chain::new(actor(dice), vec![ChangeHash(dice.bytes())], 7).grow(value);
                let document = if everywhere { DocumentId(dice.bytes()) } else { target.document };
                forge::run(scene.key, target.space, document, acl, &[change])
            })
            .collect()
    })
}

pub(super) fn forges(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let devices = scene.devices.clone();
    put(attacker, scene, |dice, target, acl| {
        let change = Chain::new(actor(dice), target.heads.clone(), target.max_op).grow(1);
        let mut random = scene.run(target, acl, std::slice::from_ref(&change));
        random.header.signature = dice.bytes();
        let mut named = scene.run(target, acl, &[change]);
        named.header.device = *dice.pick(&devices).expect("there is somebody");
        vec![random, named]
    })
}

pub(super) fn unauthorised(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(space) = scene.some_space(dice) else { return Vec::new() };
    // The state in which somebody else came in, and one that does not exist.
    let entries: Vec<_> = scene.engine.members(&space).into_iter().map(|member| member.entry).collect();
    let Some(entry) = dice.pick(&entries).copied() else { return Vec::new() };
    let nowhere = anabranch_engine::id::EntryHash(dice.bytes());
    let acl = Acl::new(vec![if dice.percent(70) { entry } else { nowhere }]);
    let target = scene.target(dice, space, 50);
    let run = scene.run(&target, &acl, &[Chain::new(actor(dice), target.heads.clone(), target.max_op).grow(1)]);
    scene.to_all(&space, &acl, &[run])
}

pub(super) fn heads(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    put(attacker, scene, |dice, target, acl| {
        let count = if dice.percent(5) { CHANGE_DEPS_MAX as u64 + 10 } else { dice.between(5, 40) };
        let beside = (0..count).map(|value| {
            let change = Chain::new(actor(dice), target.heads.clone(), target.max_op).grow(value);
            scene.run(target, acl, &[change])
        });
        beside.collect()
    })
}

pub(super) fn lists(attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
    let dice = &mut attacker.dice;
    let Some(space) = scene.some_space(dice) else { return Vec::new() };
    let Some(own) = scene.acl(&space) else { return Vec::new() };
    let known: Vec<_> =
        scene.entries.iter().filter(|(of, _)| *of == space).map(|(_, bytes)| entry_hash(bytes)).collect();
    let mut target = scene.target(dice, space, 50);
    let mut moves = Vec::new();
    for value in 0..dice.between(5, 30) {
        let others = known.iter().copied().filter(|_| dice.percent(50)).take(ACL_REF_ENTRIES_MAX - 1);
        let acl = Acl::new(own.entries.iter().copied().chain(others).collect());
        let change = Chain::new(actor(dice), target.heads.clone(), target.max_op).grow(value);
        let run = scene.run(&target, &acl, std::slice::from_ref(&change));
        target = Target { heads: vec![run.header.tip], max_op: target.max_op + 1, ..target };
        moves.extend(scene.to_all(&space, &acl, &[run]));
    }
    moves
}
