//! What an engine counts: of what came in and went out, what was refused, what had to wait.

use crate::gate::Refusal;

/// What an engine counts since its start. Bytes are of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames sent.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Messages sent that were not keep-alives or credit (I10: none of these between equal replicas).
    pub data_messages_out: u64,
    /// Runs accepted from peers.
    pub runs_accepted: u64,
    /// Runs refused.
    pub runs_refused: u64,
    /// Of these, by devices that were no writers.
    pub refused_not_a_writer: u64,
    /// Of these, with a signature that does not hold.
    pub refused_bad_signature: u64,
    /// Of these, malformed.
    pub refused_malformed: u64,
    /// Of these, over a limit.
    pub refused_too_large: u64,
    /// Of these, not fitting into the history.
    pub refused_misfit: u64,
    /// Of these, with operations that no honest replica can have made.
    pub refused_impossible: u64,
    /// Of these, with another change under a number that is taken.
    pub refused_fork: u64,
    /// Of these, because they broke the merge before.
    pub refused_poisoned: u64,
    /// Membership entries of peers that were checked.
    pub entries_checked: u64,
    /// Runs that were known already.
    pub runs_known: u64,
    /// Runs that waited for others.
    pub runs_waited: u64,
    /// Waiting runs evicted by a limit.
    pub orphans_evicted: u64,
    /// Runs of blocked devices that were not taken, as nobody builds on them.
    pub runs_left_out: u64,
    /// Runs that a mending had left in the store and that were handed to their document again.
    pub leftovers_read: u64,
    /// Documents read from the store into memory.
    pub documents_opened: u64,
    /// Documents let go from memory because there were too many.
    pub documents_evicted: u64,
    /// Reconciliations begun.
    pub reconciliations: u64,
    /// Fingerprints of parts of a set that peers asked us to compare: none where sets are small.
    pub ranges_compared: u64,
    /// Live messages dropped because the peer was far behind.
    pub live_dropped: u64,
    /// Times that bulk had to wait for credit.
    pub credit_waits: u64,
    /// Dials begun.
    pub dials: u64,
    /// Dials put off for as long as there is.
    pub longest_waits: u64,
    /// Times that the network may have changed, or this machine was asleep, so that dials under way were given up.
    pub looks_around: u64,
    /// Joiners that we did not admit.
    pub joins_refused: u64,
    /// Sessions ended because the peer sent what no honest peer sends.
    pub peers_misbehaved: u64,
    /// Sessions torn down for want of progress.
    pub stalls: u64,
    /// Hints sent.
    pub hints_out: u64,
    /// Store commits asked for.
    pub commits: u64,
}

impl Counters {
    /// The counter of runs refused for this reason.
    pub(super) fn refused_for(&mut self, refusal: &Refusal) -> &mut u64 {
        match refusal {
            Refusal::NotAWriter { .. } => &mut self.refused_not_a_writer,
            Refusal::BadSignature => &mut self.refused_bad_signature,
            Refusal::Malformed(_) => &mut self.refused_malformed,
            Refusal::TooLarge(_) => &mut self.refused_too_large,
            Refusal::Misfit(_) => &mut self.refused_misfit,
            Refusal::Impossible { .. } => &mut self.refused_impossible,
            Refusal::Fork { .. } => &mut self.refused_fork,
            Refusal::Poisoned => &mut self.refused_poisoned,
        }
    }
}
