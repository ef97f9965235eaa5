//! What happened in a seed, in numbers, and their sums over a campaign. A fault that never happens proves nothing, so the
//! summary shows each.

use std::fmt;

use anabranch_engine::Counters;

/// A campaign of so many seeds brings everything about that is counted.
pub const SOMETIMES_SEEDS: u64 = 5_000;

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
    /// Drafts published.
    drafts => "drafts",
    /// Drafts that came to nothing: by readers, of documents closed since.
    drafts_refused => "drafts refused",
    /// Edits of tabs at versions that their replica had left behind.
    edits_behind => "edits behind",
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
    /// Disks that were full and had room again while the process ran.
    rooms_returned => "disks with room again",
    /// Stores that were written to again then.
    resumed => "stores resumed",
    /// Disks that failed.
    broken_disks => "broken disks",
    /// Disks that rotted.
    rots => "rotten disks",
    /// Files cut short.
    short_files => "files cut short",
    /// Writes that landed elsewhere or nowhere.
    stray_writes => "stray writes",
    /// Disks that said they synced and did not.
    lying_disks => "lying disks",
    /// Stores that were gone when the power was back, because their file had not got its name.
    lost_stores => "lost stores",
    /// Damaged stores that were there again, because the one that a salvage made of them had not got its name.
    lost_salvages => "lost salvages",
    /// Processes that were alone with what a salvage had found, and ended.
    left_alone => "salvages left alone",
    /// Damaged disks of which somebody was told, or that did not open.
    damage_found => "damage found out",
    /// Documents rebuilt of what was readable.
    documents_mended => "documents mended",
    /// Damaged disks replaced by one with what a salvage found.
    salvages => "salvages",
    /// Runs that salvages found.
    runs_salvaged => "runs salvaged",
    /// Disks that took seconds for a request.
    slow_disks => "slow disks",
    /// Processes stopped and continued.
    stops => "stops",
    /// Second processes on a store that was open.
    second_processes => "second processes",
    /// Replicas that went on from a backup.
    rollbacks => "rollbacks",
    /// Machines copied, identity and all.
    clones => "clones",
    /// Copied machines of which one was gone for good.
    clones_ended => "clones ended",
    /// Copies that were given a key of their own.
    renewals => "keys renewed",
    /// Replicas that said that two processes act as one device.
    copies_noticed => "copies noticed",
    /// Acknowledged edits lost with the only store that had them.
    excused => "acknowledged edits lost with their only store",
    /// Devices that were blocked for a while.
    blocks => "blocks",
    /// Members that left a space.
    leaves => "leaves",
    /// Members invited once more.
    invited_again => "members invited again",
    /// Machines that came into another network.
    moves => "moves to another network",
    /// Wall clocks set.
    wall_jumps => "wall clock jumps",
    /// Wall clocks that said 1970.
    wall_resets => "wall clocks of 1970",
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
    /// Bytes that engines sent, lost or not.
    bytes_sent => "bytes sent",
    /// Sessions opened.
    sessions => "sessions",
    /// Sessions that the engine tore down.
    stalls => "sessions torn down",
    /// Documents made empty.
    documents_made_empty => "documents made empty",
    /// Sessions that the engine ended because of what came over them.
    peers_misbehaved => "frames refused",
    /// Stores that failed, and were opened again.
    stores_failed => "stores failed and reopened",
    /// Runs that were known already.
    runs_known => "runs known already",
    /// Runs refused by a replica.
    runs_refused => "runs refused",
    /// Of these, by devices that were no writers.
    refused_not_a_writer => "refused: not a writer",
    /// Of these, with a signature that does not hold.
    refused_bad_signature => "refused: bad signature",
    /// Of these, malformed.
    refused_malformed => "refused: malformed",
    /// Of these, over a limit.
    refused_too_large => "refused: too large",
    /// Of these, not fitting into the history.
    refused_misfit => "refused: misfit",
    /// Of these, with operations that no honest replica can have made.
    refused_impossible => "refused: impossible",
    /// Of these, with another change under a number that is taken.
    refused_fork => "refused: fork",
    /// Runs that waited for others.
    runs_waited => "runs that waited",
    /// Waiting runs pushed out by a limit.
    orphans_evicted => "waiting runs evicted",
    /// Runs of blocked devices that were not taken.
    runs_left_out => "runs left out for a block",
    /// Runs that a mending had left in the store and that were handed to their document again.
    leftovers_read => "leftovers read",
    /// Hints that came again.
    hints_known => "hints known already",
    /// Reconciliations.
    reconciliations => "reconciliations",
    /// Fingerprints of parts of sets compared.
    ranges_compared => "ranges compared",
    /// Times that bulk had to wait for credit.
    credit_waits => "waits for credit",
    /// Dials begun.
    dials => "dials",
    /// Dials put off for as long as there is.
    longest_waits => "longest backoffs",
    /// Joiners that were not admitted.
    joins_refused => "joins refused",
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
    /// A hundred bytes that stand for thousands of operations.
    attacks_dense => "attacks: dense changes",
    /// Changes with as many dependencies as are allowed, and one more.
    attacks_wide_deps => "attacks: wide deps",
    /// Many changes beside each other.
    attacks_heads => "attacks: heads",
    /// Runs each of which stands on other members.
    attacks_lists => "attacks: lists",
    /// Operations that nobody can have made.
    attacks_impossible => "attacks: impossible",
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
    /// One bad membership entry over and over.
    attacks_repeated_entries => "attacks: repeated entries",
    /// Entries of unknown authority.
    attacks_bricks => "attacks: bricks",
    /// More devices let in than an invite allows.
    attacks_overdraws => "attacks: overdraws",
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
    /// Members that were made up.
    attacks_crowds => "attacks: crowds",
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

/// What only hostile members bring about, beside what is named after them.
const HOSTILE: &[&str] = &[
    "runs refused",
    "refused: not a writer",
    "refused: bad signature",
    "refused: malformed",
    "refused: too large",
    "refused: misfit",
    "refused: impossible",
    "refused: fork",
    "forks named",
    "ranges compared",
];
/// What takes more bytes than small worlds have, or a stranger with a ticket that is used up. The engine's own tests bring it
/// about.
const ELSEWHERE: &[&str] = &["waits for credit", "joins refused"];

impl Stats {
    /// Adds what an engine has counted, at the end of its process.
    pub fn count(&mut self, counters: &Counters) {
        self.bytes_sent += counters.bytes_out;
        self.stalls += counters.stalls;
        self.peers_misbehaved += counters.peers_misbehaved;
        self.runs_known += counters.runs_known;
        self.runs_refused += counters.runs_refused;
        self.refused_not_a_writer += counters.refused_not_a_writer;
        self.refused_bad_signature += counters.refused_bad_signature;
        self.refused_malformed += counters.refused_malformed;
        self.refused_too_large += counters.refused_too_large;
        self.refused_misfit += counters.refused_misfit;
        self.refused_impossible += counters.refused_impossible;
        self.refused_fork += counters.refused_fork;
        self.runs_waited += counters.runs_waited;
        self.orphans_evicted += counters.orphans_evicted;
        self.runs_left_out += counters.runs_left_out;
        self.leftovers_read += counters.leftovers_read;
        self.reconciliations += counters.reconciliations;
        self.ranges_compared += counters.ranges_compared;
        self.credit_waits += counters.credit_waits;
        self.dials += counters.dials;
        self.longest_waits += counters.longest_waits;
        self.joins_refused += counters.joins_refused;
    }

    /// What has not happened once, of all that must in a campaign of [`SOMETIMES_SEEDS`]: a state that is never reached is
    /// one that nothing is known of.
    ///
    /// Without `hostile` members nobody attacks.
    pub fn never(&self, hostile: bool) -> Vec<&'static str> {
        let needs_malice = |name: &str| HOSTILE.contains(&name) || name.contains("attacks") || name.contains("hostile");
        let excused = |name: &str| ELSEWHERE.contains(&name) || !hostile && needs_malice(name);
        self.named().into_iter().filter(|(name, count)| *count == 0 && !excused(name)).map(|(name, _)| name).collect()
    }

    /// Disks that were damaged for good.
    fn damages(&self) -> u64 {
        self.rots + self.short_files + self.stray_writes + self.lying_disks + self.lost_stores + self.lost_salvages
    }

    /// Stores that went on with less than they had.
    pub fn stores_set_back(&self) -> u64 {
        self.rollbacks + self.damages()
    }

    /// All faults of the network and the processes.
    pub fn faults(&self) -> u64 {
        self.kills
            + self.power_cuts
            + self.cuts_mid_request
            + self.kills_applying
            + self.full_disks
            + self.broken_disks
            + self.damages()
            + self.slow_disks
            + self.stops
            + self.second_processes
            + self.rollbacks
            + self.clones
            + self.wall_jumps
            + self.wall_resets
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named() {
        let mut stats = Stats::default();
        assert!(stats.never(true).contains(&"kills") && stats.never(true).contains(&"attacks: gaps"));
        stats.kills = 1;
        assert!(!stats.never(true).contains(&"kills"));
        assert!(stats.never(false).contains(&"power cuts") && !stats.never(false).contains(&"attacks: gaps"));
        for rare in HOSTILE.iter().chain(ELSEWHERE) {
            assert!(stats.named().iter().any(|(name, _)| name == rare), "{rare} is counted");
        }
    }
}
