//! Cycles of one kind, one after the other, until there are enough of them, or the time is over, or something is found. Several in a
//! row share a stage: the nodes, and what is on them.

use std::time::Duration;

use crate::processes::finding::{Finding, Report};
use crate::processes::patience::Stopwatch;
use crate::sim::dice::Dice;

/// How long a run is: by whichever comes first.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cycles in all.
    pub cycles: u64,
    /// Time in all.
    pub time: Duration,
    /// Draws moments and who is killed.
    pub seed: u64,
}

/// A kind of cycle.
pub(super) trait Cycles {
    /// What a run is called.
    const RUN: &'static str;
    /// What one cycle is called in a finding.
    const ONE: &'static str;
    /// Cycles on one stage.
    const PER_STAGE: u64;
    type Stage;
    type Counts: Default;

    /// A new stage; the cycle with this number is the first on it.
    fn stage(&self, first: u64) -> Result<Self::Stage, Finding>;

    /// The cycle with this number.
    fn cycle(
        &self,
        stage: &mut Self::Stage,
        number: u64,
        dice: &mut Dice,
        counts: &mut Self::Counts,
    ) -> Result<(), Finding>;

    /// What must hold when no more is done on a stage.
    fn leave(&self, _stage: Self::Stage) -> Result<(), Finding> {
        Ok(())
    }

    /// What was counted, for the report.
    fn figures(counts: &Self::Counts) -> Vec<(&'static str, u64)>;
}

pub(super) fn run<C: Cycles>(kind: &C, settings: &Settings) -> Report {
    let mut report = Report::new(C::RUN);
    let mut counts = C::Counts::default();
    let (clock, mut cycles) = (Stopwatch::start(), 0);
    if let Err(finding) = perform(kind, settings, clock, &mut cycles, &mut counts) {
        report.findings.push(Finding { text: format!("{} {cycles}: {}", C::ONE, finding.text), ..finding });
    }
    report.figure("cycles", cycles);
    C::figures(&counts).into_iter().for_each(|(name, count)| report.figure(name, count));
    report.figure("seconds", (clock.elapsed().as_secs_f64() * 10.0).round() / 10.0);
    report
}

fn perform<C: Cycles>(
    kind: &C,
    settings: &Settings,
    clock: Stopwatch,
    cycles: &mut u64,
    counts: &mut C::Counts,
) -> Result<(), Finding> {
    let mut dice = Dice::salted(settings.seed);
    let goes_on = |cycles: u64| cycles < settings.cycles && clock.elapsed() < settings.time;
    while goes_on(*cycles) {
        let mut stage = kind.stage(*cycles)?;
        let end = *cycles + C::PER_STAGE;
        while goes_on(*cycles) && *cycles < end {
            kind.cycle(&mut stage, *cycles, &mut dice, counts)?;
            *cycles += 1;
        }
        kind.leave(stage)?;
    }
    Ok(())
}
