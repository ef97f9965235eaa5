//! The life of a seed: chaos, heal, agreement, silence, and now and then everything shut down and opened again.

use std::collections::BTreeSet;

use anabranch_engine::Command;

use super::checkers::{convergence, deletions, liveness, silence, untouched};
use super::ledger::Place;
use super::options::Tamper;
use super::plan::Crash;
use super::replica::Process;
use super::stats::Stats;
use super::trace::Trace;
use super::workload::{LOOK_EVERY, Then, Waiting};
use super::world::{Happening, World};
use super::{FOUND_WITHIN, Failure, Kind, Options, Plan, SECONDS, SILENCE};

/// How often all may agree until it is so for good.
const ROUNDS_MAX: u32 = 5;

/// What came of a seed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What went wrong, if something did.
    pub failure: Option<Failure>,
    /// Counts.
    pub stats: Stats,
    /// Hash of everything that happened.
    pub trace_hash: [u8; 32],
    /// How much happened.
    pub trace_entries: u64,
    /// The trace as text, if it was wanted.
    pub lines: Vec<String>,
}

/// Runs a seed with the options and the plan that belong to it.
pub fn run(options: Options) -> Report {
    let plan = Plan::draw(&options);
    run_with(options, plan, Trace::new(false, false))
}

/// Runs a seed with the given plan, which may be a part of the one drawn.
pub fn run_with(options: Options, plan: Plan, trace: Trace) -> Report {
    run_world(World::new(options, trace), plan)
}

/// Runs a world that was made by hand.
pub fn run_world(mut world: World, plan: Plan) -> Report {
    let seed = world.options.seed;
    live(&mut world, plan);
    for replica in 0..world.replicas.len() {
        world.count(replica);
    }
    world.stats.excused = world.ledger.excused();
    Report {
        seed,
        failure: world.failure.clone(),
        stats: world.stats,
        trace_hash: world.trace.hash(),
        trace_entries: world.trace.entries(),
        lines: world.trace.lines().to_vec(),
    }
}

fn live(world: &mut World, plan: Plan) {
    let chaos = world.options.chaos;
    world.follow(plan);
    world.want_spaces();
    for replica in 0..world.options.replicas - world.options.late {
        world.start(replica);
    }
    world.run_until(chaos);
    heal(world);
    if !liveness::agree(world) {
        return;
    }
    world.tell(|| "all members hold the same, as far as heads and members tell".to_owned());
    if compare(world).is_none() || !everyone_knows(world) || !fall_silent(world) {
        return;
    }
    if world.options.reopen {
        // Once more: the last words of somebody who is gone for good may have been on their way.
        let Some(before) = compare(world) else { return };
        reopen(world, &before);
        leave(world);
    }
}

/// The network is fair from now on, and everyone runs.
fn heal(world: &mut World) {
    world.trace.note(world.now, None, "heal");
    world.tell(|| "from now on the network is fair and everyone runs".to_owned());
    world.network = world.options.network.healed();
    world.mend_all();
    world.frames_to_cut.clear();
    world.recover_all();
    world.steady_clocks();
    world.part_all();
    world.replace_damaged_disks();
    world.mute_attackers();
    for replica in 0..world.replicas.len() {
        world.replicas[replica].doomed = None;
        world.replicas[replica].disk.heal();
        world.replicas[replica].excuse_only_what_happened();
        if let Some(process) = &world.replicas[replica].process {
            process.guard.spare();
        }
        if world.replicas[replica].process.is_none() {
            world.start(replica);
        }
    }
    // Behind the commands that a process which was stopped has yet to hear; and again for those that start again meanwhile.
    if world.stats.blocks > 0 {
        for (replica, times) in (0..world.replicas.len()).flat_map(|replica| (0..4).map(move |times| (replica, times)))
        {
            world.schedule((1 + 20 * times) * SECONDS, Happening::Unblock { replica, device: None });
        }
    }
    world.tell_moves();
    world.want_everyone();
    if world.options.tamper == Tamper::Restless {
        world.schedule(SECONDS, Happening::Restless);
    }
}

/// Opens everything everywhere, so that it is built from what is stored, and compares.
fn compare(world: &mut World) -> Option<Vec<convergence::Observed>> {
    // Opening takes time, in which a commit that was slow may bring a document that nobody knew of yet.
    let mut settled = false;
    for _ in 0..ROUNDS_MAX {
        if !open_everything(world) {
            return None;
        }
        // As far as it can be had: somebody hostile may always add something.
        world.run_while_not(LOOK_EVERY / 10, 10 * SECONDS, |world| world.is_on_disk());
        settled = convergence::settled(world).is_ok() && unopened(world).is_empty();
        if settled {
            break;
        }
        if !liveness::agree(world) {
            return None;
        }
    }
    if !settled {
        let text = format!("all agreed {ROUNDS_MAX} times, and each time no more");
        world.fail(Kind::Liveness, liveness::CHECKER, text);
        return None;
    }
    let observed = match convergence::observe(world) {
        Ok(observed) => observed,
        Err(text) => {
            world.fail(Kind::Safety, convergence::CHECKER, text);
            return None;
        }
    };
    world.check_agreed(&observed);
    world.failure.is_none().then_some(observed)
}

/// Documents that are somewhere and not open there. Those of somebody hostile are compared with nothing, and its store may be gone.
fn unopened(world: &World) -> Vec<(usize, Place)> {
    let mut unopened = Vec::new();
    for (replica, there) in world.replicas.iter().enumerate().filter(|(replica, _)| world.is_trustworthy(*replica)) {
        let Some(process) = &there.process else { continue };
        for space in world.ledger.spaces_of(replica).into_keys() {
            let places = process.engine.documents(&space).into_iter().map(|document| (space, document));
            unopened.extend(places.filter(|place| !world.has_open(replica, place)).map(|place| (replica, place)));
        }
    }
    unopened
}

fn open_everything(world: &mut World) -> bool {
    for (replica, place) in unopened(world) {
        world.open(replica, place, Then::Check);
    }
    let opened = world.run_while_not(LOOK_EVERY, 60 * SECONDS, |world| {
        world
            .replicas
            .iter()
            .flat_map(|replica| &replica.process)
            .all(|process| !process.commands.values().any(|waiting| matches!(waiting, Waiting::ToOpen(..))))
    });
    if !opened {
        world.fail(Kind::Liveness, "answers", "a document does not open within 60 s".to_owned());
    }
    world.failure.is_none()
}

/// Everyone can tell that it is in sync.
fn everyone_knows(world: &mut World) -> bool {
    let mut asked = BTreeSet::new();
    for replica in world.alive() {
        for space in world.ledger.spaces_of(replica).into_keys() {
            // Nobody can be in sync with somebody hostile.
            if world.ledger.members_of(&space).len() > 1 && !world.is_attacked(&space) {
                let command = Command::WaitSynced { space, peer: None };
                asked.extend(world.command_for(replica, command, Waiting::ForSync).map(|id| (replica, id)));
            }
        }
    }
    let known = world.run_while_not(LOOK_EVERY, 120 * SECONDS, |world| {
        asked.iter().all(|(replica, id)| {
            world.replicas[*replica].process.as_ref().is_some_and(|process| !process.commands.contains_key(id))
        })
    });
    if !known {
        let who: Vec<_> = asked
            .iter()
            .filter(|(replica, id)| {
                world.replicas[*replica].process.as_ref().is_none_or(|process| process.commands.contains_key(id))
            })
            .map(|(replica, _)| format!("#{replica}"))
            .collect();
        let text = format!("all agree, and after 120 s {} cannot tell", who.join(", "));
        world.fail(Kind::Liveness, "in sync", text);
    }
    world.failure.is_none()
}

/// Nobody has anything to say any more.
fn fall_silent(world: &mut World) -> bool {
    world.run_for(FOUND_WITHIN);
    let (before, sessions) = (silence::said(world), world.stats.sessions);
    world.overheard = Some(untouched::Talk::new());
    world.run_for(SILENCE);
    let talk = world.overheard.take().unwrap_or_default();
    let (checker, silent) = if world.attackers.keys().all(|replica| world.is_trustworthy(*replica)) {
        let allowed = silence::allowed(world, world.stats.sessions - sessions);
        (silence::CHECKER, silence::silent(&before, &silence::said(world), allowed))
    } else {
        let honest = world.honest().len() as u64;
        (untouched::CHECKER, untouched::silent(&talk, honest, |space| world.is_attacked(space)))
    };
    if let Err(text) = silent {
        world.fail(Kind::Liveness, checker, format!("in {} s without edits {text}", SILENCE / SECONDS));
    }
    if let Err(text) = untouched::amplification(world) {
        world.fail(Kind::Safety, untouched::CHECKER, text);
    }
    if let Err(text) = untouched::checks(world) {
        world.fail(Kind::Safety, untouched::CHECKER, text);
    }
    world.check_at_rest();
    for replica in world.alive() {
        if world.unjudged(replica) > 0 {
            world.fail(Kind::Liveness, "gossip", format!("#{replica} never judged a hint"));
        }
        let left: Vec<_> =
            world.replicas[replica].process.iter().flat_map(|process| process.commands.values()).collect();
        // Dials are answered at once, or whenever a session comes of them.
        if let Some(waiting) = left.iter().find(|waiting| !matches!(waiting, Waiting::ForNothing)) {
            let text = format!("#{replica} never answered {waiting:?}");
            world.fail(Kind::Liveness, "answers", text);
        }
    }
    world.failure.is_none()
}

/// Everyone shuts down and starts again, and has what it had.
fn reopen(world: &mut World, before: &[convergence::Observed]) {
    world.trace.note(world.now, None, "reopen");
    world.tell(|| "everyone is shut down and starts again".to_owned());
    for replica in world.alive() {
        world.command_for(replica, Command::Shutdown, Waiting::ForShutdown);
    }
    let done = world.run_while_not(LOOK_EVERY, 60 * SECONDS, |world| {
        world
            .replicas
            .iter()
            .flat_map(|replica| &replica.process)
            .all(|process| !process.commands.values().any(|waiting| matches!(waiting, Waiting::ForShutdown)))
    });
    if !done {
        return world.fail(Kind::Liveness, "answers", "a replica does not shut down within 60 s".to_owned());
    }
    for replica in world.alive() {
        world.count(replica);
        world.stop(replica);
    }
    for replica in 0..world.replicas.len() {
        world.start(replica);
    }
    // Who is hostile may make documents meanwhile.
    for _ in 0..ROUNDS_MAX {
        if !open_everything(world) {
            return;
        }
        if unopened(world).is_empty() {
            break;
        }
    }
    match convergence::observe(world) {
        Ok(mut after) => {
            // Who is hostile may have added something meanwhile.
            let mut before = before.to_vec();
            before.retain(|seen| !world.is_attacked(&seen.space));
            after.retain(|seen| !world.is_attacked(&seen.space));
            if after != before {
                let text = "a replica is not what it was before it was shut down".to_owned();
                world.fail(Kind::Safety, "reopening", text);
            }
        }
        Err(text) => world.fail(Kind::Safety, "reopening", text),
    }
}

/// The last to join leaves a space, dies while it is being removed, and has nothing of it afterwards.
fn leave(world: &mut World) {
    let Some(replica) = world.lasting().into_iter().next_back() else { return };
    let Some(space) = world.ledger.spaces_of(replica).into_keys().next_back() else { return };
    if world.failure.is_some() || !world.attackers.is_empty() {
        return;
    }
    world.trace.note(world.now, Some(replica), "leaves a space");
    world.counts_on_nothing_of(replica, space);
    world.command_for(replica, Command::LeaveSpace { space }, Waiting::ToLeave);
    let left = world.run_while_not(LOOK_EVERY, 60 * SECONDS, |world| {
        let waits = |process: &Process| process.commands.values().any(|waiting| matches!(waiting, Waiting::ToLeave));
        !world.replicas[replica].process.as_ref().is_some_and(waits)
    });
    if !left {
        return world.fail(Kind::Liveness, "answers", format!("#{replica} does not leave {space:.8} within 60 s"));
    }
    world.crash(replica, Crash::Kill, SECONDS);
    world.run_for(10 * SECONDS);
    if let Err(text) = deletions::space(world, replica, &space) {
        world.fail(Kind::Safety, deletions::CHECKER, text);
    }
}

impl World {
    /// What honest replicas have is on their disks.
    fn is_on_disk(&self) -> bool {
        let mut processes = self.honest().into_iter().filter_map(|replica| self.replicas[replica].process.as_ref());
        processes.all(|process| process.store.is_idle())
    }

    /// Adds what a replica's engine has counted to the world's counts. Once for each process, at its end.
    pub(super) fn count(&mut self, replica: usize) {
        if let Some(process) = &self.replicas[replica].process {
            self.stats.count(&process.engine.counters());
        }
    }
}
