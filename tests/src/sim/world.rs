//! The world: everything that exists in one seed, the queue of what happens when, and the loop that lets it happen. What
//! the single events do is said by the files beside this one.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::document::work::WorkDone;
use anabranch_engine::id::DeviceId;
use anabranch_engine::{Command, CommandError, CommandId, Engine, Event as Told, Input, Output, Reply};

use super::ailments::Ailment;
use super::byzantine::Attacker;
use super::checkers::untouched::Talk;
use super::checkers::{Registry, Watch, panics};
use super::clone::Twins;
use super::dice::{Dice, Stream};
use super::ledger::Ledger;
use super::network::Connection;
use super::options::{NetworkOptions, Options, Tamper};
use super::plan::{Plan, Step};
use super::replica::{Process, Replica};
use super::stats::Stats;
use super::trace::Trace;
use super::workload::Space;
use super::{Failure, Kind, SECONDS, narrate, plan};

/// Everything in one seed.
pub struct World {
    /// What was drawn.
    pub options: Options,
    /// Microseconds since the beginning.
    pub now: u64,
    /// The replicas, running or not.
    pub replicas: Vec<Replica>,
    /// What applications were promised.
    pub ledger: Ledger,
    /// Every change that was ever produced.
    pub registry: Registry,
    /// What the checkers keep in mind.
    pub watch: Watch,
    /// The record of this world.
    pub trace: Trace,
    /// Counts.
    pub stats: Stats,
    /// The first thing that went wrong. The world stands still after it.
    pub failure: Option<Failure>,
    pub(super) plan: Plan,
    pub(super) queue: BTreeMap<(u64, u64), Happening>,
    pub(super) queued: u64,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) connections_made: u64,
    pub(super) processes_made: u64,
    pub(super) cut: BTreeMap<(usize, usize), u32>,
    /// After how many more frames between two, the smaller first, one is cut.
    pub(super) frames_to_cut: BTreeMap<(usize, usize), u64>,
    pub(super) network: NetworkOptions,
    pub(super) spaces: Vec<Space>,
    /// Machines that share an identity.
    pub(super) twins: Vec<Twins>,
    /// Whatever is wanted is asked for again soon.
    pub(super) will_pursue: bool,
    /// Answers that stories asked for.
    pub(super) answers: BTreeMap<(usize, CommandId), Result<Reply, CommandError>>,
    /// Who is hostile.
    pub attackers: BTreeMap<usize, Attacker>,
    /// What honest replicas say to each other, while somebody listens.
    pub(super) overheard: Option<Talk>,
    /// A story in which joiners are refused on purpose.
    pub expects_refusals: bool,
    /// A story in which a process and a copy of its memory write the same numbers.
    pub expects_forks: bool,
    /// Which deliberate fault all engines have, if any.
    #[cfg(feature = "mutants")]
    pub mutant: Option<anabranch_engine::Mutant>,
    pub(super) dice: AllDice,
}

/// The world's dice, by what they decide.
pub(super) struct AllDice {
    pub(super) network: Dice,
    pub(super) disk: Dice,
    pub(super) secrets: Dice,
    pub(super) workload: Dice,
}

/// What may happen. Anything that names a process is void when that process is gone.
#[derive(Debug)]
pub(super) enum Happening {
    /// A step of the plan.
    Planned(usize),
    /// An engine's deadline.
    Wake { replica: usize, process: u64 },
    /// A dialer's packets reach the other side, or do not.
    Knock { replica: usize, process: u64, address: String, peer: Option<DeviceId> },
    /// A dial came to nothing.
    DialFailed { replica: usize, process: u64, address: String, reason: String },
    /// A dialer learns that the stream is open.
    Opened { connection: u64 },
    /// The next frames in one direction arrive.
    Arrive { connection: u64, from: usize },
    /// The operating system has taken bytes.
    Written { connection: u64, from: usize },
    /// One end learns that the connection is gone.
    Closed { connection: u64, end: usize, reason: String },
    /// A hint arrives.
    Hint { replica: usize, process: u64, from: usize, topic: String, bytes: Vec<u8> },
    /// The disk is done with the oldest request.
    Stored { replica: usize, process: u64 },
    /// Work is done.
    Worked { replica: usize, process: u64, done: Box<WorkDone> },
    /// A process dies because its disk is damaged, if it is.
    DieOfDamage { replica: usize, process: u64, down: u64 },
    /// A process comes back.
    Restart { replica: usize },
    /// A process that is alone with what a salvage found ends, and another one begins.
    StartAgain { replica: usize },
    /// A process ends because its store failed.
    GiveUp { replica: usize, process: u64 },
    /// The disk of a replica has room again.
    RoomReturns { replica: usize, process: u64 },
    /// Frames flow again between these.
    Mend { pairs: Vec<(usize, usize)> },
    /// One who left a space wants to be in it again.
    ComeBack { space: usize, goal: usize },
    /// Applications ask again for what they want.
    Pursue,
    /// The power goes at a replica whose disk lies.
    PowerGoes { replica: usize, down: u64 },
    /// A damaged disk is replaced.
    ReplaceDisk { replica: usize, process: u64 },
    /// One of two that share an identity is gone for good.
    Retire { pair: usize },
    /// Something ails a replica no more.
    Recover { replica: usize, process: u64, ailment: Ailment },
    /// An application asks for something.
    Command { replica: usize, process: u64, id: CommandId, command: Command },
    /// An application publishes a draft.
    Publish { replica: usize, process: u64, draft: u64 },
    /// An application gives up waiting.
    Forget { replica: usize, process: u64, command: CommandId },
    /// A block is taken back.
    Unblock {
        /// Where.
        replica: usize,
        /// Of whom; `None` is everybody.
        device: Option<DeviceId>,
    },
    /// For a tampered world: a connection is reset, again and again.
    Restless,
}

impl World {
    /// A world with the given replicas, none of them started, and nothing planned yet.
    pub fn new(options: Options, trace: Trace) -> Self {
        let dice = AllDice {
            network: Dice::new(options.seed, Stream::Network),
            disk: Dice::new(options.seed, Stream::Disk),
            secrets: Dice::new(options.seed, Stream::Secrets),
            workload: Dice::new(options.seed, Stream::Workload),
        };
        let network = options.network.clone();
        let mut world = Self {
            now: 0,
            replicas: Vec::new(),
            ledger: Ledger::default(),
            registry: Registry::default(),
            watch: Watch::default(),
            trace,
            stats: Stats::default(),
            failure: None,
            plan: Plan::default(),
            queue: BTreeMap::new(),
            queued: 0,
            connections: BTreeMap::new(),
            connections_made: 0,
            processes_made: 0,
            cut: BTreeMap::new(),
            frames_to_cut: BTreeMap::new(),
            network,
            spaces: Vec::new(),
            twins: Vec::new(),
            will_pursue: false,
            answers: BTreeMap::new(),
            attackers: BTreeMap::new(),
            overheard: None,
            expects_refusals: false,
            expects_forks: false,
            #[cfg(feature = "mutants")]
            mutant: None,
            dice,
            options,
        };
        for _ in 0..world.options.replicas {
            world.add_replica();
        }
        if let Some(byzantine) = world.options.byzantine.clone() {
            world.stats.hostile += 1;
            world.turn(byzantine);
        }
        world
    }

    /// Puts the steps of a plan into the queue.
    pub fn follow(&mut self, plan: Plan) {
        self.plan = plan;
        for index in 0..self.plan.steps.len() {
            let at = self.plan.steps[index].at.max(self.now);
            self.schedule_at(at, Happening::Planned(index));
        }
    }

    /// Lets everything happen until the given time. Stops at the first failure.
    pub fn run_until(&mut self, end: u64) {
        while self.failure.is_none() {
            let Some(entry) = self.queue.first_entry() else { break };
            let (at, _) = *entry.key();
            if at > end {
                break;
            }
            let happening = entry.remove();
            self.now = at;
            self.stats.events += 1;
            if let Err(text) = panics::seed_ends(self.stats.events, self.options.size) {
                return self.fail(Kind::Liveness, panics::ENDLESS, text);
            }
            self.happen(happening);
            if self.stats.events.is_multiple_of(64) {
                self.check_step();
            }
        }
        self.now = self.now.max(end);
        self.stats.virtual_us = self.now;
    }

    /// Lets everything happen for a while.
    pub fn run_for(&mut self, time: u64) {
        self.run_until(self.now + time);
    }

    /// Lets everything happen until `done` says so, looking every `every` microseconds. False if `limit` passed first, or
    /// something failed.
    pub fn run_while_not(&mut self, every: u64, limit: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if self.failure.is_some() || self.now >= end {
                return false;
            }
            self.run_until((self.now + every).min(end));
        }
    }

    /// Something went wrong. Only the first one counts.
    pub fn fail(&mut self, kind: Kind, checker: &'static str, text: String) {
        if self.failure.is_none() {
            self.trace.note(self.now, None, &format!("FAILED {checker}: {text}"));
            self.failure = Some(Failure { kind, checker, at: self.now, text });
        }
    }

    /// Puts something into the queue.
    pub(super) fn schedule(&mut self, after: u64, happening: Happening) {
        self.schedule_at(self.now + after, happening);
    }

    pub(super) fn schedule_at(&mut self, at: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at, self.queued), happening);
    }

    /// The running process of a replica, if it is that one.
    pub(super) fn process(&mut self, replica: usize, process: u64) -> Option<&mut Process> {
        self.replicas[replica].process.as_mut().filter(|running| running.number == process)
    }

    /// The engine of a replica, if it runs.
    pub fn engine(&mut self, replica: usize) -> Option<&mut Engine> {
        self.replicas[replica].process.as_mut().map(|process| &mut process.engine)
    }

    /// The running process's number.
    pub(super) fn running(&self, replica: usize) -> Option<u64> {
        self.replicas[replica].process.as_ref().map(|process| process.number)
    }

    /// Replicas that run.
    pub fn alive(&self) -> Vec<usize> {
        (0..self.replicas.len()).filter(|replica| self.replicas[*replica].process.is_some()).collect()
    }

    /// Replicas that run or are to run again.
    pub fn lasting(&self) -> Vec<usize> {
        (0..self.replicas.len()).filter(|replica| !self.replicas[*replica].retired).collect()
    }

    /// Gives a replica's engine an input and executes what it wants done.
    pub(super) fn feed(&mut self, replica: usize, input: Input) {
        let at = self.now;
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        self.trace.input(at, replica, &input);
        if let Input::SessionOpened { opener: true, address, .. } | Input::DialFailed { address, .. } = &input {
            self.watch.dials.ended(replica, address);
        }
        let now = process.clock.read(at);
        process.engine.handle(now, input);
        self.drain(replica);
    }

    /// Executes a replica's outputs and reads its deadline. To be called after everything that changes an engine.
    pub(super) fn drain(&mut self, replica: usize) {
        let Some(number) = self.running(replica) else { return };
        for count in 0.. {
            // Executing an output may end the process.
            let Some(process) = self.process(replica, number) else { return };
            let output = process.engine.poll_output();
            if process.guard.is_dead() {
                return self.die_applying(replica);
            }
            let Some(output) = output else { break };
            self.trace.output(self.now, replica, &output);
            self.execute(replica, number, output);
            if let Err(text) = panics::turn_ends(replica, count) {
                self.fail(Kind::Liveness, panics::ENDLESS, text);
            }
            if self.failure.is_some() {
                return;
            }
        }
        let Some(process) = self.process(replica, number) else { return };
        let panics = process.guard.take_panics();
        self.schedule_wake(replica);
        if let Some(text) = panics.into_iter().next() {
            self.fail(Kind::Crash, panics::CHECKER, format!("#{replica}: automerge panicked: {text}"));
        }
    }

    /// Sees to it that a process is woken at its engine's deadline, by its own clock.
    pub(super) fn schedule_wake(&mut self, replica: usize) {
        let now = self.now;
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        let number = process.number;
        let Some((at, why)) = process.engine.poll_timeout() else { return };
        let Some(at) = process.clock.world_time(at).map(|at| at.max(now)) else { return };
        if process.wake.is_none_or(|(wake, _)| at < wake) {
            process.wake = Some((at, why));
            self.schedule_at(at, Happening::Wake { replica, process: number });
        }
    }

    fn execute(&mut self, replica: usize, number: u64, output: Output) {
        match output {
            Output::Reply(command, reply) => self.answered(replica, command, reply),
            Output::Event(event) => self.told(replica, number, event),
            Output::Send { session, bytes } => self.pass_on(replica, session, bytes),
            Output::Close { session, reason } => self.close(replica, session, reason),
            Output::Dial { address, peer } => {
                self.check_dial(replica, &address, peer);
                self.dial(replica, number, address, peer);
            }
            Output::Admit { peer } => self.admit(replica, peer),
            Output::Subscribe { topic } => self.subscribe(replica, topic, true),
            Output::Unsubscribe { topic } => self.subscribe(replica, topic, false),
            Output::Publish { topic, bytes } => self.publish(replica, topic, bytes),
            Output::Judge { hint, verdict } => self.judge(replica, hint, verdict),
            Output::Store(request) => self.store(replica, request),
            Output::Work(work) => {
                let Some(process) = self.process(replica, number) else { return };
                let done = Box::new(work.run(&process.guard));
                if process.guard.is_dead() {
                    return self.die_applying(replica);
                }
                self.stats.work += 1;
                let after = self.dice.disk.heavy(200, 20_000, 50, 2_000_000);
                self.schedule(after, Happening::Worked { replica, process: number, done });
            }
        }
    }

    /// The process died in the middle of something: what it wants done since is never heard of.
    fn die_applying(&mut self, replica: usize) {
        let down = self.replicas[replica].doomed_applying;
        self.crash(replica, plan::Crash::WhileApplying, down);
    }

    fn told(&mut self, replica: usize, number: u64, event: Told) {
        self.tell_event(replica, &event);
        match event {
            Told::Committed(commit) => {
                self.stats.acknowledged += self.ledger.committed(replica, commit);
                if let Some(process) = self.process(replica, number) {
                    let epoch = process.engine.storage().1;
                    self.ledger.booted(replica, epoch);
                }
            }
            Told::Stopped { reason } => {
                if !self.replicas[replica].may_fail() {
                    self.fail(Kind::Safety, "store", format!("#{replica} stopped without a fault: {reason}"));
                }
                self.stats.stores_failed += 1;
                let mut after = self.dice.workload.between(100_000, 5_000_000);
                if self.dice.workload.percent(50) {
                    self.schedule(after, Happening::RoomReturns { replica, process: number });
                    // It goes on by itself, unless it was not room that it lacked.
                    after += self.dice.workload.between(2 * SECONDS, 60 * SECONDS);
                }
                self.schedule(after, Happening::GiveUp { replica, process: number });
            }
            Told::Resumed => self.stats.resumed += 1,
            Told::JoinRefused { space, peer, reason } => {
                if !self.expects_refusals && self.is_honest_device(&peer) {
                    let text = format!("#{replica} may not join {space:.8}, says {peer:.8}: {reason}");
                    self.fail(Kind::Safety, "membership", text);
                }
            }
            Told::RunRefused { space, document, peer, by_us, reason } => {
                // Who makes two histories makes honest members refuse each other's.
                if self.expects_forks || self.is_hostile_between(replica, &peer) || self.is_forked(&(space, document)) {
                    return;
                }
                let text = format!("#{replica} and {peer:.8} over {document:.8}, by us: {by_us}: {reason}");
                self.fail(Kind::Safety, "honest runs", format!("a run was refused: {text}"));
            }
            // Whoever looks after the replica hears of it, and gives it another disk in a while.
            Told::DocumentDamaged { space, document, .. } if self.replicas[replica].is_damaged() => {
                self.watch.doubt(replica);
                self.counts_on_nothing(replica);
                if let Some(process) = self.process(replica, number) {
                    process.open.remove(&(space, document));
                }
                let after = self.dice.disk.heavy(SECONDS, 20 * SECONDS, 300, 200 * SECONDS);
                self.schedule(after, Happening::ReplaceDisk { replica, process: number });
            }
            Told::DocumentForked { space, document, peer, fork } => {
                self.stats.forks_named += 1;
                let expected = self.expects_forks || self.is_forked(&(space, document));
                if !expected && !self.is_hostile_between(replica, &peer) {
                    let text = format!("#{replica} and {peer:.8} over {document:.8}: {fork:?}");
                    self.fail(Kind::Safety, "honest runs", format!("a fork that nobody made: {text}"));
                }
            }
            Told::DocumentDamaged { document, reason, .. } => {
                self.fail(Kind::Safety, "store", format!("#{replica} cannot read {document:.8}: {reason}"));
            }
            Told::PeerMisbehaved { peer, reason } => {
                // Where single frames are lost, honest peers cannot help sounding confused.
                if !self.loses_frames() && !self.is_hostile_between(replica, &peer) {
                    self.fail(Kind::Safety, "honest peers", format!("#{replica} blames {peer:.8}: {reason}"));
                }
            }
            Told::IdentityCloned { device } => {
                self.stats.copies_noticed += 1;
                // Who goes on with an older store counts its starts again, as a copy would.
                let set_back = self.replicas.iter().any(|there| there.device == device && there.set_back);
                // Of a device that it is itself, any member may say so.
                let may_be_a_lie = !self.attackers.is_empty() && self.replicas[replica].device == device;
                if self.is_honest_device(&device) && self.twins.is_empty() && !set_back && !may_be_a_lie {
                    let text = format!("#{replica} takes {device:.8}, which runs once, for two");
                    self.fail(Kind::Safety, "honest peers", text);
                }
            }
            Told::DocumentMended { .. } => self.stats.documents_mended += 1,
            Told::MembersChanged { .. } | Told::SpaceJoined { .. } => {}
            Told::PeerDisconnected { .. }
            | Told::DocumentChanged { .. }
            | Told::FeedGrew { .. }
            | Told::PeerConnected { .. }
            | Told::Listening { .. }
            | Told::ListeningEnded { .. }
            | Told::InSync { .. }
            | Told::StrangerRefused { .. } => {}
        }
    }

    /// Whether one of the two is hostile.
    fn is_hostile_between(&self, replica: usize, peer: &DeviceId) -> bool {
        !self.is_honest(replica) || !self.is_honest_device(peer)
    }

    /// Whether single frames of a stream may have been lost, so that what follows them may look malformed.
    pub(super) fn loses_frames(&self) -> bool {
        self.options.network.frames != super::options::Losses::default()
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        let Some(happening) = self.hold_back(happening) else { return };
        match happening {
            Happening::Planned(index) => {
                if let Some(step) = self.plan.steps.get(index).cloned() {
                    self.perform(&step);
                }
            }
            Happening::Wake { replica, process } => {
                let now = self.now;
                let Some(running) = self.process(replica, process) else { return };
                let Some((_, why)) = running.wake.take_if(|(wake, _)| *wake <= now) else {
                    return; // an earlier deadline came up meanwhile and has been served
                };
                self.trace.note(now, Some(replica), why);
                self.feed(replica, Input::Timeout);
            }
            Happening::Knock { replica, process, address, peer } => self.knock(replica, process, address, peer),
            Happening::DialFailed { replica, process, address, reason } => {
                if self.process(replica, process).is_some() {
                    self.feed(replica, Input::DialFailed { address, reason });
                }
            }
            Happening::Opened { connection } => self.opened(connection),
            Happening::Arrive { connection, from } => self.arrive(connection, from),
            Happening::Written { connection, from } => self.written(connection, from),
            Happening::Closed { connection, end, reason } => self.closed(connection, end, reason),
            Happening::Hint { replica, process, from, topic, bytes } => {
                self.hint_arrives(replica, process, from, topic, bytes);
            }
            Happening::Stored { replica, process } => self.stored(replica, process),
            Happening::Worked { replica, process, done } => {
                if self.process(replica, process).is_some() {
                    self.feed(replica, Input::Worked(done));
                }
            }
            Happening::DieOfDamage { replica, process, down } => self.dies_of_damage(replica, process, down),
            Happening::Restart { replica } => {
                if self.replicas[replica].process.is_none() {
                    self.start(replica);
                }
            }
            Happening::StartAgain { replica } => self.starts_again(replica),
            Happening::RoomReturns { replica, process } => {
                if self.process(replica, process).is_some() {
                    self.stats.rooms_returned += 1;
                    self.replicas[replica].disk.heal();
                }
            }
            Happening::GiveUp { replica, process } => {
                // Where there was room again it goes on, and nobody has to.
                let stopped = |running: &mut Process| running.engine.stopped().is_some();
                if self.process(replica, process).is_some_and(stopped) {
                    self.crash(replica, plan::Crash::Kill, 100_000);
                    self.finds_damage(replica);
                }
            }
            Happening::Mend { pairs } => self.mend(&pairs),
            Happening::ComeBack { space, goal } => self.come_back(space, goal),
            Happening::Pursue => {
                self.will_pursue = false;
                self.pursue_goals();
            }
            Happening::PowerGoes { replica, down } => self.power_goes(replica, down),
            Happening::ReplaceDisk { replica, process } => {
                if self.process(replica, process).is_some() {
                    self.finds_damage(replica);
                }
            }
            Happening::Retire { pair } => self.part(pair),
            Happening::Recover { replica, process, ailment } => self.recover(replica, process, ailment),
            Happening::Command { replica, process, id, command } => self.commanded(replica, process, id, command),
            Happening::Forget { replica, process, command } => {
                if self.process(replica, process).is_some_and(|running| running.commands.remove(&command).is_some()) {
                    self.command(replica, Command::Forget(command));
                }
            }
            Happening::Publish { replica, process, draft } => self.publish_draft(replica, process, draft),
            Happening::Unblock { replica, device: Some(device) } => self.unblock(replica, device),
            Happening::Unblock { replica, device: None } => self.unblock_all(replica),
            Happening::Restless => {
                let ends: BTreeSet<(usize, usize)> =
                    self.connections.values().map(|c| (c.ends[0].replica, c.ends[1].replica)).collect();
                if let Some((a, b)) = ends.into_iter().next() {
                    self.reset(a, b);
                }
                self.schedule(7_000_000, Happening::Restless);
            }
        }
    }

    fn perform(&mut self, step: &Step) {
        self.trace.note(self.now, None, &format!("{:?}", step.act));
        if let Some(words) = narrate::act(&step.act) {
            self.tell(|| words);
        }
        if matches!(self.options.tamper, Tamper::Panics) && self.now > self.options.chaos / 2 {
            panic!("a tampered world panics");
        }
        if matches!(self.options.tamper, Tamper::LogsError) && self.now > self.options.chaos / 2 {
            tracing::error!("a tampered world logs an error");
        }
        self.act(&step.act, step.salt);
    }
}
