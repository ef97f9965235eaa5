//! The classes of attacks, each counted when it is done, so that a campaign shows that none is left out.

use serde::{Deserialize, Serialize};

use super::{Attacker, Move, Scene, entries, relay, signed, talk};
use crate::sim::stats::Stats;

macro_rules! attacks {
    ($($(#[$meta:meta])* $name:ident => $moves:path, $count:ident;)*) => {
        /// One class of attacks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Attack {
            $($(#[$meta])* $name,)*
        }

        impl Attack {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it comes to now.
            pub(super) fn moves(self, attacker: &mut Attacker, scene: &Scene<'_>) -> Vec<Move> {
                match self {
                    $(Self::$name => $moves(attacker, scene),)*
                }
            }

            /// Where it is counted.
            pub(super) fn counted(self, stats: &mut Stats) -> &mut u64 {
                match self {
                    $(Self::$name => &mut stats.$count,)*
                }
            }
        }
    };
}

attacks! {
    /// Two histories of one actor, of equal length or not, each to some.
    Forks => signed::forks, attacks_forks;
    /// A valid change that stands on the oldest members and the oldest history.
    BackDates => signed::back_dates, attacks_back_dates;
    /// Sequence numbers with holes, or at the end of what there is.
    Gaps => signed::gaps, attacks_gaps;
    /// Operation counters far too large.
    Inflates => signed::inflates, attacks_inflates;
    /// A hundred bytes that stand for thousands of operations, or for more than are taken.
    Dense => signed::dense, attacks_dense;
    /// Changes with as many dependencies as are allowed, and one more.
    WideDeps => signed::wide_deps, attacks_wide_deps;
    /// Changes beside each other: as many heads, now and then more than one change may stand on.
    Heads => signed::heads, attacks_heads;
    /// Runs each of which stands on other members.
    Lists => signed::lists, attacks_lists;
    /// Operations that nobody can have made: they replace what is elsewhere.
    Impossible => signed::impossible, attacks_impossible;
    /// Runs that wait for what never comes.
    Orphans => signed::orphans, attacks_orphans;
    /// Signatures that do not hold, and other members' names.
    Forges => signed::forges, attacks_forges;
    /// Runs by who was no writer where they stand.
    Unauthorised => signed::unauthorised, attacks_unauthorised;
    /// Many membership entries, within its authority or not.
    Entries => entries::entries, attacks_entries;
    /// Membership entries that are none.
    BadEntries => entries::bad_entries, attacks_bad_entries;
    /// One membership entry that is none, over and over in one message.
    RepeatedEntries => entries::repeated_entries, attacks_repeated_entries;
    /// Entries of a kind that nobody knows and that would carry authority, its own and those of keys that it made up.
    Bricks => entries::bricks, attacks_bricks;
    /// More devices let in by an invite than it allows.
    Overdraws => entries::overdraws, attacks_overdraws;
    /// Honest frames with bytes changed.
    Mutates => talk::mutates, attacks_mutates;
    /// Bytes that are no frame.
    Rubbish => talk::rubbish, attacks_rubbish;
    /// Many tiny frames, of kinds that nobody knows.
    TinyFrames => talk::tiny_frames, attacks_tiny_frames;
    /// Messages that say they are huge.
    HugeLengths => talk::huge_lengths, attacks_huge_lengths;
    /// Old frames, in whatever session.
    Replays => talk::replays, attacks_replays;
    /// Roots that are never what they were.
    LyingRoots => talk::lying_roots, attacks_lying_roots;
    /// Documents, entries and changes that do not exist.
    LyingItems => talk::lying_items, attacks_lying_items;
    /// All that can be asked for, again and again.
    Demands => talk::demands, attacks_demands;
    /// Credit that was not earned, bulk without credit.
    Credit => talk::credit, attacks_credit;
    /// Words of the handshake when it is over.
    Greetings => talk::greetings, attacks_greetings;
    /// Refusals of what was not sent.
    Refusals => talk::refusals, attacks_refusals;
    /// Hints that are rubbish, lies, or many.
    Hints => talk::hints, attacks_hints;
    /// Other members' addresses, wrong.
    Addresses => talk::addresses, attacks_addresses;
    /// Members that were made up, and where they are said to be.
    Crowds => entries::crowds, attacks_crowds;
    /// Sessions opened and closed.
    OpensAndCloses => talk::opens_and_closes, attacks_opens_and_closes;
    /// Nothing is read for a while.
    NeverReads => talk::never_reads, attacks_never_reads;
    /// Some documents are never passed on to some.
    Withholds => relay::nothing, attacks_withholds;
    /// What is passed on comes late, or never.
    Delays => relay::nothing, attacks_delays;
}

impl Attack {
    /// What a relay that lies can do without making anything itself.
    pub const OF_RELAYS: &'static [Self] = &[Self::Withholds, Self::Delays, Self::Replays, Self::Addresses];

    /// Whether it needs to read the membership log.
    pub(super) fn needs_entries(self) -> bool {
        matches!(
            self,
            Self::Entries
                | Self::BadEntries
                | Self::RepeatedEntries
                | Self::Bricks
                | Self::Overdraws
                | Self::Crowds
                | Self::Lists
                | Self::Demands
        )
    }
}
