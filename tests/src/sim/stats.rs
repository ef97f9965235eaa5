//! What happened in a seed, in numbers, and their sums over a campaign. A fault that never happens proves nothing, so the
//! summary shows each.

use std::fmt;

macro_rules! stats {
    ($($(#[$meta:meta])* $name:ident => $label:literal,)*) => {
        /// Counts of one seed, or sums of many.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Stats {
            $($(#[$meta])* pub $name: u64,)*
        }

        impl Stats {
            /// Adds another seed's counts.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Every count with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($label, self.$name),)*]
            }
        }
    };
}

stats! {
    /// Events of the world.
    events => "events",
    /// Microseconds of virtual time.
    virtual_us => "virtual us",
    /// Edits made.
    edits => "edits",
    /// Edits that readers tried.
    refused_edits => "edits refused to readers",
    /// Edits acknowledged as saved.
    acknowledged => "acknowledged",
    /// Processes killed.
    kills => "kills",
    /// Power cuts.
    power_cuts => "power cuts",
    /// Power cuts in the middle of a store request.
    cuts_mid_request => "power cuts mid request",
    /// Kills while runs are merged.
    kills_applying => "kills while applying",
    /// Deaths with a commit handed over that the disk had not begun.
    deaths_before_execution => "deaths before a commit",
    /// Deaths with a commit on disk that the process had not been told of.
    deaths_before_answer => "deaths before its answer",
    /// Disks that were full.
    full_disks => "full disks",
    /// Disks that failed.
    broken_disks => "broken disks",
    /// Disks that took seconds for a request.
    slow_disks => "slow disks",
    /// Processes stopped and continued.
    stops => "stops",
    /// Second processes on a store that was open.
    second_processes => "second processes",
    /// Wall clocks set.
    wall_jumps => "wall clock jumps",
    /// Clocks that ran at a wrong rate or stood still.
    clock_drifts => "clock drifts",
    /// Monotonic clocks that leapt ahead.
    clock_leaps => "clock leaps",
    /// The network was in two parts.
    splits => "splits",
    /// It was in two parts with one replica in both.
    bridges => "bridges",
    /// It was a ring.
    rings => "rings",
    /// One direction between two was cut.
    one_way => "one-way cuts",
    /// Two lost each other, one of several times.
    flaps => "flaps",
    /// Connections reset.
    resets => "resets",
    /// Connections gone at one end, the other one not told.
    half_opens => "half-open connections",
    /// Connections that ended inside a frame.
    frames_cut => "frames cut",
    /// Replicas with very slow links.
    slow_peers => "slow peers",
    /// Replicas that took no bytes.
    unread => "peers that do not read",
    /// Frames lost one by one.
    frames_dropped => "frames dropped",
    /// Frames delivered twice.
    frames_duplicated => "frames duplicated",
    /// Frames delivered out of order.
    frames_reordered => "frames reordered",
    /// Frames of a live lane that loses everything.
    live_lost => "live frames lost",
    /// Hints lost.
    hints_lost => "hints lost",
    /// Hints delivered twice or late.
    hints_disordered => "hints duplicated or late",
    /// Frames delivered.
    frames => "frames",
    /// Bytes of these.
    frame_bytes => "frame bytes",
    /// Sessions opened.
    sessions => "sessions",
    /// Sessions that the engine tore down.
    stalls => "sessions torn down",
    /// Runs refused by a replica, all of them with a reason that chaos explains.
    runs_refused => "runs refused",
    /// Runs that waited for others.
    runs_waited => "runs that waited",
    /// Merges and openings handed out as work.
    work => "work",
    /// Members that joined.
    joins => "joins",
    /// Waits for sync that were answered.
    synced => "waits for sync answered",
    /// Documents that a replica said were forked.
    forks_named => "forks named",
    /// Seeds with a hostile participant.
    hostile => "hostile participants",
    /// Two histories of one actor, of equal length or not, each to some.
    attacks_forks => "attacks: forks",
    /// A valid change that stands on the oldest members and the oldest history.
    attacks_back_dates => "attacks: back dates",
    /// Sequence numbers with holes, or at the end of what there is.
    attacks_gaps => "attacks: gaps",
    /// Operation counters far too large.
    attacks_inflates => "attacks: inflates",
    /// Changes with as many dependencies as are allowed, and one more.
    attacks_wide_deps => "attacks: wide deps",
    /// Runs that wait for what never comes.
    attacks_orphans => "attacks: orphans",
    /// Signatures that do not hold, and other members' names.
    attacks_forges => "attacks: forges",
    /// Runs by who was no writer where they stand.
    attacks_unauthorised => "attacks: unauthorised",
    /// Many membership entries, within its authority or not.
    attacks_entries => "attacks: entries",
    /// Membership entries that are none.
    attacks_bad_entries => "attacks: bad entries",
    /// Honest frames with bytes changed.
    attacks_mutates => "attacks: mutates",
    /// Bytes that are no frame.
    attacks_rubbish => "attacks: rubbish",
    /// Many tiny frames, of kinds that nobody knows.
    attacks_tiny_frames => "attacks: tiny frames",
    /// Messages that say they are huge.
    attacks_huge_lengths => "attacks: huge lengths",
    /// Old frames, in whatever session.
    attacks_replays => "attacks: replays",
    /// Roots that are never what they were.
    attacks_lying_roots => "attacks: lying roots",
    /// Documents, entries and changes that do not exist.
    attacks_lying_items => "attacks: lying items",
    /// All that can be asked for, again and again.
    attacks_demands => "attacks: demands",
    /// Credit that was not earned, bulk without credit.
    attacks_credit => "attacks: credit",
    /// Words of the handshake when it is over.
    attacks_greetings => "attacks: greetings",
    /// Refusals of what was not sent.
    attacks_refusals => "attacks: refusals",
    /// Hints that are rubbish, lies, or many.
    attacks_hints => "attacks: hints",
    /// Other members' addresses, wrong.
    attacks_addresses => "attacks: addresses",
    /// Sessions opened and closed.
    attacks_opens_and_closes => "attacks: opens and closes",
    /// Nothing is read for a while.
    attacks_never_reads => "attacks: never reads",
    /// Some documents are never passed on to some.
    attacks_withholds => "attacks: withholds",
    /// What is passed on comes late, or never.
    attacks_delays => "attacks: delays",
}

impl Stats {
    /// All faults of the network and the processes.
    pub fn faults(&self) -> u64 {
        self.kills
            + self.power_cuts
            + self.cuts_mid_request
            + self.kills_applying
            + self.full_disks
            + self.broken_disks
            + self.slow_disks
            + self.stops
            + self.second_processes
            + self.wall_jumps
            + self.clock_drifts
            + self.clock_leaps
            + self.splits
            + self.bridges
            + self.rings
            + self.one_way
            + self.flaps
            + self.resets
            + self.half_opens
            + self.frames_cut
            + self.slow_peers
            + self.unread
            + self.frames_dropped
            + self.frames_duplicated
            + self.frames_reordered
            + self.live_lost
            + self.hints_lost
            + self.hints_disordered
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, count)) in self.named().into_iter().enumerate() {
            write!(f, "{}{name} {count}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
