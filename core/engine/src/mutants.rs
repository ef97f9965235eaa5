//! Deliberate faults of the engine, one for each of the simulator's checkers, so that each checker is seen to catch what it
//! is for. They exist with the feature `mutants` only, which nothing but the simulator's own turns on, and one of them is
//! then chosen at run time. Without the feature [`Mutated`] is empty and always says no, so the hooks compile to nothing.
#![cfg_attr(not(feature = "mutants"), allow(unreachable_pub, reason = "exported with the feature only"))]

/// A deliberate fault, by the invariant that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// I1: a document's digest does not cover its heads, so that roots are equal where documents are not.
    BlindDigest,
    /// I1: of what changed between two versions of a document the last patch is missing.
    SkipsPatches,
    /// I2: a commit is told to be on disk when it is handed over.
    AcknowledgesEarly,
    /// I3: a run counts as held before what it depends on is here.
    HoldsBeforeAncestors,
    /// I4: a run that comes again increments again.
    CountsTwice,
    /// I5: a read shows what is stored, not what was just written.
    ReadsStale,
    /// I6: a space that is left is left in memory only.
    LeavesInMemoryOnly,
    /// I7: a document's record and its runs go to disk one after the other.
    SplitsCommits,
    /// I8: what was noted of a run that is dealt with stays.
    ForgetsNothing,
    /// I9: where roots differ all documents are sent.
    SendsEverything,
    /// I9: that a run was refused is told to everyone, about every space.
    TellsEveryone,
    /// I9: the same entry is checked as often as it is sent.
    ChecksRepeats,
    /// I10: a hint is followed by another one, for ever.
    HintsForEver,
    /// I11: a reconciliation that led to nothing is not tried again.
    NeverTriesAgain,
    /// I12: chance comes from outside the seed.
    Undetermined,
    /// I13: a panic over some frames.
    Panics,
    /// I14: who signs, and for what, is not looked at.
    SkipsRoleCheck,
    /// I15: records have another version than the documented one.
    WritesAnotherVersion,
    /// I16: the actor follows from the device, so that another process goes on with it.
    ContinuesActors,
    /// I17: a draft becomes two runs, of which the second one waits for the next commit.
    SplitsDrafts,
    /// I18: whatever is due is dialed at once.
    DialsAtOnce,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// Every mutant.
    pub const ALL: [Self; 21] = [
        Self::BlindDigest,
        Self::SkipsPatches,
        Self::AcknowledgesEarly,
        Self::HoldsBeforeAncestors,
        Self::CountsTwice,
        Self::ReadsStale,
        Self::LeavesInMemoryOnly,
        Self::SplitsCommits,
        Self::ForgetsNothing,
        Self::SendsEverything,
        Self::TellsEveryone,
        Self::ChecksRepeats,
        Self::HintsForEver,
        Self::NeverTriesAgain,
        Self::Undetermined,
        Self::Panics,
        Self::SkipsRoleCheck,
        Self::WritesAnotherVersion,
        Self::ContinuesActors,
        Self::SplitsDrafts,
        Self::DialsAtOnce,
    ];
}

/// Which mutant an engine is, if it is one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mutated(#[cfg(feature = "mutants")] pub(crate) Option<Mutant>);

impl Mutated {
    /// Whether the engine has this fault.
    #[inline(always)]
    pub(crate) fn by(self, mutant: Mutant) -> bool {
        #[cfg(feature = "mutants")]
        return self.0 == Some(mutant);
        #[cfg(not(feature = "mutants"))]
        {
            let _ = mutant;
            false
        }
    }
}

#[cfg(feature = "mutants")]
impl crate::Engine {
    /// Gives the engine a deliberate fault.
    pub fn mutate(&mut self, mutant: Mutant) {
        self.mutated = Mutated(Some(mutant));
    }
}
