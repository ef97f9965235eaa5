//! What a seed draws: topology, sizes, and which faults are on. Every seed has its own mix, because a fault that is always
//! on hides what only happens without it. Printed in full when a seed fails.

use anabranch_engine::limits::DOCUMENTS_RESIDENT_MAX;
use serde::{Deserialize, Serialize};

use super::byzantine::ByzantineOptions;
use super::dice::{Dice, Stream};
use super::{MILLIS, SECONDS};

/// Everything that was drawn from a seed. Times are microseconds of virtual time. In a regression file a field that is
/// missing is as in a calm world, so a file outlives the faults that are thought of after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Which kind of world this is, for its bounds.
    pub size: Size,
    /// Planned steps of applications.
    pub steps: usize,
    /// Replicas. The first one listens and founds the first space.
    pub replicas: usize,
    /// How many of them (the last ones) join in the middle of the chaos.
    pub late: usize,
    /// Chance for a member to be a reader, in percent.
    pub readers: u64,
    /// Spaces.
    pub spaces: usize,
    /// Chance for a replica other than a founder not to be reachable, in percent.
    pub unreachable: u64,
    /// Which other replicas an application dials besides those in its tickets.
    pub topology: Topology,
    /// Applications dial again after a restart; else the engine has to remember.
    pub redial: bool,
    /// Length of the chaos.
    pub chaos: u64,
    /// Replicas are shut down and reopened once all is quiet, and must be what they were.
    pub reopen: bool,
    /// Wall clocks are off by up to a year.
    pub skewed_clocks: bool,
    /// Documents that replicas keep in memory without need.
    pub residents_max: usize,
    /// The network.
    pub network: NetworkOptions,
    /// Disks.
    pub disk: DiskOptions,
    /// Planned faults.
    pub faults: FaultOptions,
    /// Who is hostile, if somebody is.
    pub byzantine: Option<ByzantineOptions>,
    /// What is deliberately broken, to see that it is noticed.
    pub tamper: Tamper,
}

/// How large a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// At most 5 replicas and 60 steps.
    #[default]
    Small,
    /// At most 16 replicas and 500 steps.
    Large,
}

/// Who dials whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// Only the addresses in tickets.
    Tickets,
    /// Each the one before it.
    Line,
    /// Each the one before it, the first the last.
    Ring,
    /// Everybody everybody.
    Full,
}

/// How the network behaves during the chaos. Afterwards it is fair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkOptions {
    /// Shortest one-way latency.
    pub latency_min: u64,
    /// Longest ordinary one-way latency.
    pub latency_max: u64,
    /// Of a thousand frames, how many are much slower.
    pub tail_permille: u64,
    /// Longest latency.
    pub tail_max: u64,
    /// Bytes per second of each direction of a connection; 0 for no limit.
    pub bandwidth: u64,
    /// Bytes that an operating system takes before it makes the sender wait.
    pub socket_buffer: usize,
    /// What happens to single frames; all zero for a faithful stream.
    pub frames: Losses,
    /// What happens to gossip hints.
    pub hints: Losses,
    /// Frames of the live lane are lost, also after the chaos.
    pub lose_live: bool,
    /// Hints are lost, also after the chaos.
    pub lose_hints: bool,
    /// A crash or a partition resets connections in so many of a hundred cases; else they hang, half open.
    pub reset_percent: u64,
}

/// Fates of single messages, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Losses {
    /// Gone.
    pub drop: u64,
    /// Arrives twice.
    pub duplicate: u64,
    /// Arrives out of order.
    pub reorder: u64,
}

/// How disks behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskOptions {
    /// Shortest time for a request.
    pub latency_min: u64,
    /// Longest ordinary time.
    pub latency_max: u64,
    /// Of a thousand requests, how many are much slower.
    pub tail_permille: u64,
    /// Longest time.
    pub tail_max: u64,
}

/// How many of each fault are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultOptions {
    /// Some are cut off from the others, both ways.
    pub splits: usize,
    /// The same, but one of them sees both groups.
    pub bridges: usize,
    /// Everyone sees two others only.
    pub rings: usize,
    /// One direction between two is cut.
    pub one_way: usize,
    /// A cut that comes and goes.
    pub flaps: usize,
    /// A connection is reset.
    pub resets: usize,
    /// A connection is gone at one end, and the other is not told.
    pub half_opens: usize,
    /// A connection ends inside a frame.
    pub cut_frames: usize,
    /// The links of one are very slow for a while.
    pub slow_peers: usize,
    /// One takes no bytes for a while.
    pub unread: usize,
    /// One's process is stopped for a while.
    pub stops: usize,
    /// Something happens to one's clocks.
    pub clocks: usize,
    /// A process dies and comes back.
    pub crashes: usize,
    /// Of a hundred crashes, how many cut the power: what was not synced is lost.
    pub power_cuts: u64,
    /// Of a hundred crashes, how many happen while a store request is executed.
    pub mid_request: u64,
    /// Of a hundred of the others, how many happen while runs are merged.
    pub while_applying: u64,
    /// A disk is full once.
    pub full_disks: usize,
    /// A disk fails once.
    pub broken_disks: usize,
    /// A disk is very slow for a while.
    pub slow_disks: usize,
    /// A disk rots.
    pub rots: usize,
    /// A file is cut short.
    pub short_files: usize,
    /// A write lands elsewhere or nowhere.
    pub stray_writes: usize,
    /// A disk says that it syncs and does not, until the power goes.
    pub lying_disks: usize,
    /// The power goes, and the store's file has not got its name.
    pub lost_names: usize,
    /// A second process is started on a store that is open.
    pub second_processes: usize,
    /// A member leaves a space and comes back.
    pub leaves: usize,
    /// A member is invited again, to the same role or another.
    pub invitations: usize,
    /// A machine comes into another network: it has another address, and its connections hang.
    pub moves: usize,
    /// A replica goes on from a backup.
    pub rollbacks: usize,
    /// A running machine is copied, and both go on.
    pub clones: usize,
}

/// What is deliberately broken. Each is caught by the checker named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tamper {
    /// Nothing.
    #[default]
    Nothing,
    /// This replica hears nothing after it has joined: I11.
    Deaf(usize),
    /// Disks say that they synced and did not: I7.
    LyingDisks,
    /// A connection is reset every few seconds for ever: I10.
    Restless,
    /// Latencies depend on something outside the seed: I12.
    Undetermined,
    /// A restarted engine gets the seed of the one before: I16.
    ReusedSeeds,
    /// Every increment is counted twice in the model: I4.
    Miscounted,
    /// A panic in the middle of a seed.
    Panics,
    /// An error is logged in the middle of a seed.
    LogsError,
}

impl Options {
    /// The options of a small seed: 2 to 5 replicas, at most 60 steps.
    pub fn small(seed: u64) -> Self {
        let mut dice = Dice::new(seed, Stream::Options);
        let replicas = dice.between(2, 5) as usize;
        let late = if replicas > 2 && dice.percent(40) { dice.between(1, replicas as u64 - 2) as usize } else { 0 };
        let lossy = dice.percent(20);
        let crashing = dice.percent(70);
        let parted = dice.percent(75);
        let few = |dice: &mut Dice, on: bool, max: u64| if on { dice.between(0, max) as usize } else { 0 };
        let mut options = Self {
            seed,
            size: Size::Small,
            steps: dice.between(10, 60) as usize,
            replicas,
            late,
            readers: *dice.pick(&[0, 20, 40]).expect("not empty"),
            spaces: *dice.pick(&[1, 1, 1, 2, 3]).expect("not empty"),
            unreachable: *dice.pick(&[0, 0, 50]).expect("not empty"),
            topology: *dice
                .pick(&[Topology::Tickets, Topology::Line, Topology::Ring, Topology::Full])
                .expect("not empty"),
            redial: dice.percent(50),
            chaos: dice.between(5, 60) * SECONDS,
            reopen: dice.percent(20),
            skewed_clocks: dice.percent(30),
            residents_max: if dice.percent(50) { dice.between(1, 3) as usize } else { DOCUMENTS_RESIDENT_MAX },
            network: NetworkOptions::draw(&mut dice, lossy),
            disk: DiskOptions::draw(&mut dice),
            faults: FaultOptions {
                splits: few(&mut dice, parted, 2),
                one_way: few(&mut dice, parted, 2),
                flaps: few(&mut dice, parted, 1),
                resets: few(&mut dice, parted, 4),
                crashes: few(&mut dice, crashing, 4),
                power_cuts: dice.between(0, 100),
                mid_request: dice.between(0, 60),
                while_applying: dice.between(0, 40),
                full_disks: usize::from(dice.percent(8)),
                ..FaultOptions::default()
            },
            byzantine: None,
            tamper: Tamper::Nothing,
        };
        options.faults.draw_rarer(&mut Dice::new(seed, Stream::Faults));
        if dice.percent(8) {
            // Long enough for a process to be stopped for ten minutes, and for dialing to slow down.
            options.chaos = dice.between(300, 1_000) * SECONDS;
        }
        if !lossy && options.faults.count() == 0 {
            // A seed without any fault shows too little.
            options.faults.splits = 1;
        }
        options.draw_byzantine();
        options
    }

    /// The options of a large seed: 6 to 16 replicas, 300 to 500 steps, several spaces, and more of everything.
    pub fn large(seed: u64) -> Self {
        let mut options = Self::small(seed);
        let mut dice = Dice::new(seed, Stream::Size);
        options.size = Size::Large;
        options.replicas = dice.between(6, 16) as usize;
        options.late = dice.between(0, options.replicas as u64 / 3) as usize;
        options.steps = dice.between(300, 500) as usize;
        options.spaces = dice.between(2, 5) as usize;
        options.chaos = options.chaos.max(dice.between(60, 180) * SECONDS);
        let faults = &mut options.faults;
        for count in [
            &mut faults.splits,
            &mut faults.bridges,
            &mut faults.rings,
            &mut faults.one_way,
            &mut faults.resets,
            &mut faults.half_opens,
            &mut faults.cut_frames,
            &mut faults.slow_peers,
            &mut faults.unread,
            &mut faults.stops,
            &mut faults.clocks,
            &mut faults.crashes,
            &mut faults.slow_disks,
        ] {
            *count *= 2;
        }
        faults.leaves += if dice.percent(50) { dice.between(1, 6) as usize } else { 0 };
        faults.rollbacks += if dice.percent(20) { dice.between(1, 3) as usize } else { 0 };
        faults.clones += if dice.percent(20) { dice.between(1, 2) as usize } else { 0 };
        options.draw_byzantine();
        options
    }

    /// Draws who is hostile. There is a space then that they are not in.
    fn draw_byzantine(&mut self) {
        self.byzantine = ByzantineOptions::draw(self);
        if self.byzantine.is_some() {
            self.spaces = self.spaces.max(2);
        }
    }

    /// No faults, a quick network, nothing planned: the world of a story.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            size: Size::Small,
            steps: 0,
            replicas: 0,
            late: 0,
            readers: 0,
            spaces: 0,
            unreachable: 0,
            topology: Topology::Tickets,
            redial: true,
            chaos: 0,
            reopen: false,
            skewed_clocks: false,
            residents_max: DOCUMENTS_RESIDENT_MAX,
            network: NetworkOptions::fair(),
            disk: DiskOptions::default(),
            faults: FaultOptions { power_cuts: 100, ..FaultOptions::default() },
            byzantine: None,
            tamper: Tamper::Nothing,
        }
    }
}

impl FaultOptions {
    /// The classes that are on in a minority of seeds.
    fn draw_rarer(&mut self, dice: &mut Dice) {
        let mut few = |percent: u64, max: u64| if dice.percent(percent) { dice.between(1, max) as usize } else { 0 };
        self.bridges = few(20, 2);
        self.rings = few(15, 2);
        self.half_opens = few(25, 3);
        self.cut_frames = few(25, 3);
        self.slow_peers = few(20, 2);
        self.unread = few(15, 2);
        self.stops = few(25, 2);
        self.clocks = few(30, 4);
        self.broken_disks = few(8, 1);
        self.slow_disks = few(15, 2);
        self.second_processes = few(10, 2);
        self.leaves = few(15, 2);
        self.rollbacks = few(15, 2);
        self.clones = few(12, 1);
        self.rots = few(8, 1);
        self.short_files = few(5, 1);
        self.stray_writes = few(8, 1);
        self.lying_disks = few(8, 1);
        self.lost_names = few(5, 2);
        self.invitations = few(25, 3);
        self.moves = few(20, 3);
    }

    /// Planned faults in all.
    pub fn count(&self) -> usize {
        let network = self.splits + self.bridges + self.rings + self.one_way + self.flaps;
        let connections = self.resets + self.half_opens + self.cut_frames + self.slow_peers + self.unread + self.moves;
        let processes = self.crashes + self.stops + self.clocks + self.second_processes;
        let processes = processes + self.leaves + self.invitations + self.rollbacks + self.clones;
        let disks = self.full_disks + self.broken_disks + self.slow_disks + self.rots + self.short_files;
        let disks = disks + self.stray_writes + self.lying_disks + self.lost_names;
        network + connections + processes + disks
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::calm(0)
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self::fair()
    }
}

impl Default for DiskOptions {
    /// A quick disk.
    fn default() -> Self {
        Self { latency_min: 100, latency_max: 2 * MILLIS, tail_permille: 0, tail_max: 0 }
    }
}

impl NetworkOptions {
    /// A network that loses nothing.
    pub fn fair() -> Self {
        Self {
            latency_min: MILLIS,
            latency_max: 20 * MILLIS,
            tail_permille: 0,
            tail_max: 0,
            bandwidth: 0,
            socket_buffer: 256 * 1024,
            frames: Losses::default(),
            hints: Losses::default(),
            lose_live: false,
            lose_hints: false,
            reset_percent: 100,
        }
    }

    fn draw(dice: &mut Dice, lossy: bool) -> Self {
        let latency_min = *dice.pick(&[50, MILLIS, 20 * MILLIS]).expect("not empty");
        Self {
            latency_min,
            latency_max: latency_min + *dice.pick(&[MILLIS, 50 * MILLIS, 500 * MILLIS]).expect("not empty"),
            tail_permille: *dice.pick(&[0, 20, 100]).expect("not empty"),
            tail_max: 5 * SECONDS,
            bandwidth: *dice.pick(&[0, 0, 1_000_000, 20_000]).expect("not empty"),
            socket_buffer: *dice.pick(&[0, 4 * 1024, 64 * 1024, 256 * 1024]).expect("not empty"),
            frames: if lossy {
                Losses { drop: dice.below(400), duplicate: dice.below(200), reorder: dice.below(200) }
            } else {
                Losses::default()
            },
            hints: Losses { drop: dice.below(400), duplicate: dice.below(200), reorder: dice.below(200) },
            lose_live: dice.percent(25),
            lose_hints: dice.percent(25),
            reset_percent: *dice.pick(&[0, 50, 100]).expect("not empty"),
        }
    }

    /// The same network after the chaos: fair, but for what it must be able to lose for ever.
    pub fn healed(&self) -> Self {
        Self { lose_live: self.lose_live, lose_hints: self.lose_hints, ..Self::fair() }
    }
}

impl DiskOptions {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            latency_min: 50,
            latency_max: *dice.pick(&[200, 8 * MILLIS, 50 * MILLIS]).expect("not empty"),
            tail_permille: *dice.pick(&[0, 30]).expect("not empty"),
            tail_max: 3 * SECONDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_options_each_time() {
        assert_eq!(Options::small(5), Options::small(5));
        assert_ne!(Options::small(5), Options::small(6));
    }

    #[test]
    fn a_fifth_of_large_seeds_has_copies_or_goes_back() {
        let odd = (0..500).filter(|seed| {
            let faults = Options::large(*seed).faults;
            faults.clones + faults.rollbacks > 0
        });
        assert!(odd.count() > 150);
    }

    #[test]
    fn every_small_seed_has_a_fault_and_someone_there_at_the_start() {
        for seed in 0..500 {
            let options = Options::small(seed);
            let faults = &options.faults;
            let losses =
                options.network.frames.drop + options.network.frames.duplicate + options.network.frames.reorder;
            assert!(faults.count() > 0 || losses > 0, "{options:?}");
            assert!(options.replicas >= options.late + 2, "{options:?}");
        }
    }
}
