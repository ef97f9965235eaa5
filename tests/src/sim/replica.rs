//! Replicas: an identity and a disk that survive, and a process that does not.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::gate::Slot;
use anabranch_engine::id::DeviceId;
use anabranch_engine::keys::SecretKey;
use anabranch_engine::{Command, CommandId, Config, Engine, Input};
use anabranch_store::Store;
use anabranch_store::backend::crashable::{Disk, Fault};

use super::Kind;
use super::ailments::Ailments;
use super::backup::Backup;
use super::clock::{Clock, WallClock, YEAR_S};
use super::disk::OpenStore;
use super::gossip::Gossip;
use super::guard::SimGuard;
use super::ledger::Place;
use super::narrate;
use super::options::{Tamper, Topology};
use super::plan::Crash;
use super::workload::{Tab, UnderWay, Waiting};
use super::world::{Happening, World};

/// A device with its disk.
pub struct Replica {
    /// Its public key.
    pub device: DeviceId,
    /// What survives.
    pub disk: Disk,
    /// The running process.
    pub process: Option<Process>,
    /// It can be dialed.
    pub listens: bool,
    /// How often its machine came into another network.
    pub moves: u64,
    /// Its disk was made to fail, so the store may.
    pub disk_failed: bool,
    /// Calls to it that had failed when the process started.
    faults_before: u64,
    /// The power goes in the middle of its next commit, for that long.
    pub(super) doomed: Option<u64>,
    /// How long it is away if it dies while it applies something.
    pub(super) doomed_applying: u64,
    /// What its machine and its process suffer from at present.
    pub(super) ailments: Ailments,
    pub(super) wall: WallClock,
    /// What there is to go back to.
    pub(super) backup: Option<Backup>,
    /// Its machine has no power: it answers nothing, not even that nobody is there.
    pub(super) dark: bool,
    /// It is gone for good.
    pub retired: bool,
    /// What its disk holds may not be what was written: it may be refused, or parts of it, but never misread.
    pub(super) damaged: bool,
    /// Its disk says that it syncs, and does not.
    pub(super) lies: bool,
    /// A write is to go astray, and so many calls had failed before.
    pub(super) stray: Option<u64>,
    /// The damaged disk of which the present one was salvaged.
    pub(super) wreck: Option<Vec<u8>>,
    /// It went on with less than it had, from a backup or because a disk was damaged.
    pub(super) set_back: bool,
    /// A disk of it was damaged, so of some things it may have a part.
    pub(super) was_damaged: bool,
    /// It has another key than it began with.
    pub(super) is_renewed: bool,
    identity: [u8; 32],
    engine_seed: Option<[u8; 32]>,
    slot: Option<Slot>,
    starts: u64,
}

/// A running process: the engine and everything of the driver that is lost when it ends.
pub struct Process {
    /// Unique in the world.
    pub number: u64,
    /// The engine.
    pub engine: Engine,
    /// The store.
    pub store: OpenStore,
    /// What this process's clocks say.
    pub clock: Clock,
    /// Its part in gossip.
    pub gossip: Gossip,
    /// Commands that are not answered yet.
    pub commands: BTreeMap<CommandId, Waiting>,
    /// Documents held open, and how often.
    pub open: BTreeMap<Place, u32>,
    /// Drafts that are being made.
    pub(super) drafts: BTreeMap<u64, UnderWay>,
    pub(super) drafts_made: u64,
    /// Tabs of documents.
    pub(super) tabs: BTreeMap<Place, Vec<Tab>>,
    /// The greatest seq seen in the feed.
    pub feed_seen: u64,
    pub(super) guard: SimGuard,
    pub(super) wake: Option<(u64, &'static str)>,
    commands_made: u64,
}

impl Replica {
    /// Its secret key.
    pub(super) fn key(&self) -> SecretKey {
        SecretKey::from_seed(&self.identity)
    }

    /// It has this key from now on. It does not run.
    pub(super) fn has_key(&mut self, identity: [u8; 32]) {
        self.identity = identity;
        self.device = self.key().device();
        self.is_renewed = true;
    }

    /// Something was done to its disk that explains a failure of its store.
    pub(super) fn may_fail(&self) -> bool {
        self.disk_failed || self.is_damaged()
    }

    /// What its disk holds is not what was written, or was not for a while.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged || self.stray.is_some_and(|before| self.disk.faults() > before)
    }

    /// Nothing was done to its disk, so a copy of it is as good.
    pub(super) fn has_a_sound_disk(&self) -> bool {
        !self.may_fail() && !self.lies && self.stray.is_none()
    }

    /// Its disk is well again: a fault that it was to have and that no call has met explains nothing any more.
    pub(super) fn excuse_only_what_happened(&mut self) {
        self.disk_failed &= self.disk.faults() > self.faults_before;
    }
}

impl Process {
    /// Whether a document is held open.
    pub fn has_open(&self, place: &Place) -> bool {
        self.open.get(place).is_some_and(|count| *count > 0)
    }

    /// Documents held open.
    pub fn open_places(&self) -> BTreeSet<Place> {
        self.open.iter().filter(|(_, count)| **count > 0).map(|(place, _)| *place).collect()
    }
}

impl World {
    /// Adds a replica with an empty disk, not yet started. Returns its index.
    pub fn add_replica(&mut self) -> usize {
        let index = self.replicas.len();
        let identity = self.dice.secrets.bytes();
        let listens = index == 0 || !self.dice.secrets.percent(self.options.unreachable);
        let skew =
            if self.options.skewed_clocks { self.dice.secrets.below(2 * YEAR_S as u64) as i64 - YEAR_S } else { 0 };
        let disk = Disk::new();
        disk.lie_about_sync(self.options.tamper == Tamper::LyingDisks);
        self.replicas.push(Replica {
            device: SecretKey::from_seed(&identity).device(),
            disk,
            process: None,
            listens,
            moves: 0,
            disk_failed: false,
            faults_before: 0,
            doomed: None,
            doomed_applying: 0,
            ailments: Ailments::default(),
            wall: WallClock::new(skew),
            backup: None,
            dark: false,
            retired: false,
            damaged: false,
            lies: false,
            stray: None,
            wreck: None,
            set_back: false,
            was_damaged: false,
            is_renewed: false,
            identity,
            engine_seed: None,
            slot: None,
            starts: 0,
        });
        index
    }

    /// Adds a replica with the identity of another one and a disk of its own, not yet started. Returns its index.
    pub(super) fn add_copy(&mut self, of: usize, disk: Disk) -> usize {
        let original = &self.replicas[of];
        self.replicas.push(Replica {
            device: original.device,
            disk,
            process: None,
            listens: original.listens,
            moves: 0,
            disk_failed: false,
            faults_before: 0,
            doomed: None,
            doomed_applying: 0,
            ailments: Ailments::default(),
            wall: original.wall,
            backup: None,
            dark: false,
            retired: false,
            damaged: false,
            lies: false,
            stray: None,
            wreck: None,
            set_back: original.set_back,
            was_damaged: original.was_damaged,
            is_renewed: original.is_renewed,
            identity: original.identity,
            engine_seed: original.engine_seed,
            slot: None,
            starts: 0,
        });
        self.replicas.len() - 1
    }

    /// Gives a replica that does not run another disk.
    pub(super) fn replace_disk(&mut self, replica: usize, image: Vec<u8>) {
        let there = &mut self.replicas[replica];
        there.disk = Disk::from_image(image);
        there.disk.lie_about_sync(self.options.tamper == Tamper::LyingDisks);
        there.slot = None;
        there.damaged = false;
        there.lies = false;
        there.stray = None;
        there.wreck = None;
        there.set_back = true;
        self.watch.forget(replica);
    }

    /// Starts a replica's process on what its disk has. One that is gone for good does not start.
    pub fn start(&mut self, replica: usize) {
        if self.replicas[replica].retired {
            return;
        }
        let seed = self.dice.secrets.bytes();
        self.start_with(replica, seed);
    }

    /// Starts a replica's process, which draws at random from this seed.
    pub(super) fn start_with(&mut self, replica: usize, fresh: [u8; 32]) {
        self.processes_made += 1;
        let number = self.processes_made;
        let uptime = self.dice.secrets.below(self.now + 1);
        let reuse = self.options.tamper == Tamper::ReusedSeeds;
        let now = self.now;
        self.settle_stray_write(replica);
        let there = &mut self.replicas[replica];
        there.disk.heal();
        there.dark = false;
        there.disk_failed = false;
        there.faults_before = there.disk.faults();
        there.doomed = None;
        there.starts += 1;
        let seed = if reuse { *there.engine_seed.get_or_insert(fresh) } else { fresh };
        let clock = Clock::new(now, uptime, there.wall);
        let opened = Store::open_on(there.disk.plug())
            .map_err(|error| error.to_string())
            .and_then(|store| Ok((store.image().map_err(|failure| failure.to_string())?, store)));
        let (image, store) = match opened {
            Ok(opened) => opened,
            Err(_) if there.damaged => return self.finds_damage(replica),
            Err(error) => return self.fail(Kind::Safety, "store", format!("#{replica} does not open: {error}")),
        };
        let guard = SimGuard::default();
        let (slot, residents_max) = (there.slot.take(), self.options.residents_max);
        let config = Config { guard: std::sync::Arc::new(guard.clone()), slot, residents_max };
        let key = there.key();
        #[cfg_attr(not(feature = "mutants"), expect(unused_mut, reason = "only a mutant is changed"))]
        let mut engine = match Engine::new(config, key, seed, clock.read(now), image) {
            Ok(engine) => engine,
            Err(_) if there.damaged => return self.finds_damage(replica),
            Err(error) => return self.fail(Kind::Safety, "store", format!("#{replica} does not start: {error}")),
        };
        #[cfg(feature = "mutants")]
        if let Some(mutant) = self.mutant {
            engine.mutate(mutant);
        }
        there.process = Some(Process {
            number,
            engine,
            store: OpenStore::new(store),
            clock,
            gossip: Gossip::default(),
            commands: BTreeMap::new(),
            open: BTreeMap::new(),
            drafts: BTreeMap::new(),
            drafts_made: 0,
            tabs: BTreeMap::new(),
            feed_seen: 0,
            guard,
            wake: None,
            commands_made: 0,
        });
        let (listens, starts) = (there.listens, there.starts);
        self.trace.note(now, Some(replica), "starts");
        self.check_start(replica);
        if self.running(replica) != Some(number) {
            return; // its disk was replaced
        }
        self.tell(|| format!("{} starts{}", narrate::name(replica), if starts == 1 { "" } else { " again" }));
        self.drain(replica);
        super::checkers::acknowledged::after_start(self, replica);
        if listens {
            self.feed(replica, Input::Listening { address: self.address_of(replica) });
        }
        if starts == 1 || self.options.redial {
            for other in self.dialed_by(replica) {
                self.command(replica, Command::Dial { address: self.address_of(other) });
            }
        }
        self.reopen_acknowledged(replica);
        self.pursue_goals();
    }

    fn dialed_by(&self, replica: usize) -> Vec<usize> {
        let count = self.replicas.len();
        let others = match self.options.topology {
            Topology::Tickets => Vec::new(),
            Topology::Line if replica == 0 => Vec::new(),
            Topology::Line => vec![replica - 1],
            Topology::Ring => vec![(replica + count - 1) % count],
            Topology::Full => (0..count).collect(),
        };
        // A copy of a machine cannot be found at the addresses that its peers remember, so it has to find them.
        let copied = self.twins.iter().any(|twins| twins.pair.contains(&replica));
        let founders = (0..count).filter(|other| copied && self.is_founder(*other));
        let others: BTreeSet<usize> = others.into_iter().chain(founders).collect();
        others.into_iter().filter(|other| *other != replica && self.replicas[*other].listens).collect()
    }

    /// Gives a replica's engine a command of an application; the answer goes to `World::answered` or nobody.
    pub fn command(&mut self, replica: usize, command: Command) -> Option<CommandId> {
        self.command_for(replica, command, Waiting::ForNothing)
    }

    pub(super) fn command_for(&mut self, replica: usize, command: Command, waiting: Waiting) -> Option<CommandId> {
        let process = self.replicas[replica].process.as_mut()?;
        process.commands_made += 1;
        let id = CommandId(process.commands_made);
        if !matches!(command, Command::Forget(_)) {
            process.commands.insert(id, waiting);
        }
        let process = process.number;
        self.happen(Happening::Command { replica, process, id, command });
        Some(id)
    }

    /// Ends a replica's process, and starts it again after a while.
    pub fn crash(&mut self, replica: usize, how: Crash, down: u64) {
        if self.running(replica).is_none() {
            return;
        }
        self.trace.note(self.now, Some(replica), &format!("dies: {how:?}"));
        self.tell(|| narrate::death(replica, how, down));
        self.replicas[replica].ailments.stopped = None;
        self.settle_stray_write(replica);
        if how == Crash::MidRequest {
            self.fail_mid_request(replica);
        }
        self.count_requests(replica);
        self.count(replica);
        let power_went = matches!(how, Crash::PowerCut | Crash::MidRequest);
        let seed = self.dice.disk.any();
        self.abandon_connections(replica, power_went);
        let there = &mut self.replicas[replica];
        match how {
            Crash::Kill | Crash::WhileApplying => {
                match how {
                    Crash::Kill => self.stats.kills += 1,
                    _ => self.stats.kills_applying += 1,
                }
                there.disk.cut_off();
            }
            Crash::PowerCut => {
                self.stats.power_cuts += 1;
                there.disk.crash(seed);
            }
            Crash::MidRequest => {
                self.stats.cuts_mid_request += 1;
                there.disk.crash(seed);
            }
        }
        let lost = power_went && std::mem::take(&mut there.lies);
        // Dropped after the disk was cut off from it, so that nothing it does in closing counts.
        if let Some(process) = there.process.take() {
            there.slot = process.guard.slot();
        }
        if lost {
            self.lose_what_was_not_synced(replica);
        }
        self.replicas[replica].dark = power_went;
        self.ledger.died(replica);
        self.watch.died(replica);
        self.schedule(down, Happening::Restart { replica });
    }

    /// Lets the disk stop in the middle of a commit that is waiting, if one is.
    fn fail_mid_request(&mut self, replica: usize) {
        let calls = self.dice.disk.below(12);
        let there = &mut self.replicas[replica];
        there.disk.fail_after(calls, Fault::Io);
        if let Some(process) = there.process.as_mut() {
            process.store.execute_a_commit();
        }
    }

    /// Ends a replica's process after its engine was shut down.
    pub fn stop(&mut self, replica: usize) {
        self.abandon_connections(replica, false);
        self.replicas[replica].process = None;
        self.ledger.died(replica);
        self.watch.died(replica);
        self.trace.note(self.now, Some(replica), "stopped");
        self.tell(|| format!("{} is shut down", narrate::name(replica)));
    }
}
