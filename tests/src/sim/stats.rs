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
    /// Disks that were full.
    full_disks => "full disks",
    /// Cuts of the network, one-way ones too.
    partitions => "partitions",
    /// Connections reset.
    resets => "resets",
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
}

impl Stats {
    /// All faults of the network and the processes.
    pub fn faults(&self) -> u64 {
        self.kills
            + self.power_cuts
            + self.cuts_mid_request
            + self.kills_applying
            + self.full_disks
            + self.partitions
            + self.resets
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
