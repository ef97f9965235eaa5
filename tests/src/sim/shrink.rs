//! Shrinking: from a situation that fails to the smallest one found that fails the same way. Any part of a plan is a plan, so
//! steps are left out (Zeller's delta debugging, in its greedy form), then replicas, then whatever the options hold that a
//! calm world has not. A candidate counts only if the same checker fails with the same kind.

use std::mem;

use serde_json::Value;

use super::campaign::run_caught_with;
use super::checkers::determinism;
use super::plan::{Act, Step};
use super::regression::Failed;
use super::trace::Trace;
use super::{Failure, Options, Plan, SECONDS};

/// Rounds of shrinking: what one of them leaves out may let the next leave out more.
const ROUNDS_MAX: usize = 6;
/// Options that have no calm value to go back to.
const KEPT: &[&str] = &["seed", "replicas", "spaces", "chaos", "tamper"];

/// The smallest situation found.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// Its options.
    pub options: Options,
    /// Its plan.
    pub plan: Plan,
    /// How it fails.
    pub failure: Failure,
    /// Runs that it took.
    pub runs: usize,
    /// A bound ended it: more runs might find a smaller one.
    pub cut_short: bool,
}

/// Shrinks a situation that fails with `failure`. At most `runs_max` runs, and none once `over` says so. The same situation
/// shrinks to the same one, unless `over` ends it.
pub fn shrink(options: Options, plan: Plan, failure: Failure, runs_max: usize, over: &dyn Fn() -> bool) -> Shrunk {
    let wanted = Failed::of(&failure);
    let best = Shrunk { options, plan, failure, runs: 0, cut_short: false };
    let mut shrinker = Shrinker { wanted, best, runs_max, over };
    for _ in 0..ROUNDS_MAX {
        let before = (shrinker.best.options.clone(), shrinker.best.plan.clone());
        shrinker.drop_steps();
        shrinker.drop_replicas();
        shrinker.calm_options();
        shrinker.shorten();
        if before == (shrinker.best.options.clone(), shrinker.best.plan.clone()) {
            break;
        }
    }
    shrinker.best
}

/// How a situation fails, if it does; `None` if it passes. Where determinism itself is in question it is run twice.
pub fn examine(options: &Options, plan: &Plan, failed: &Failed) -> Option<Failure> {
    let run = || run_caught_with(options.clone(), plan.clone(), Trace::new(false, false));
    let report = run();
    match report.failure {
        None if failed.checker == determinism::CHECKER => determinism::check(&report, &run()),
        failure => failure,
    }
}

struct Shrinker<'a> {
    wanted: Failed,
    best: Shrunk,
    runs_max: usize,
    over: &'a dyn Fn() -> bool,
}

impl Shrinker<'_> {
    /// Whether a candidate fails the same way. It is the best one then.
    fn accepts(&mut self, options: Options, plan: Plan) -> bool {
        if self.best.runs >= self.runs_max || (self.over)() {
            self.best.cut_short = true;
            return false;
        }
        self.best.runs += 1;
        let failure = examine(&options, &plan, &self.wanted);
        let Some(failure) = failure.filter(|failure| Failed::of(failure) == self.wanted) else { return false };
        self.best = Shrunk { options, plan, failure, ..self.best.clone() };
        true
    }

    fn accepts_steps(&mut self, steps: Vec<Step>) -> bool {
        self.accepts(self.best.options.clone(), Plan { steps })
    }

    fn drop_steps(&mut self) {
        let steps = |shrinker: &Self| shrinker.best.plan.steps.clone();
        // What was to happen after the failure did not; and some fail without any plan.
        let at = self.best.failure.at;
        let before: Vec<Step> = steps(self).into_iter().filter(|step| at == 0 || step.at <= at).collect();
        if before.len() < steps(self).len() {
            self.accepts_steps(before);
        }
        if steps(self).is_empty() || self.accepts_steps(Vec::new()) {
            return;
        }
        let mut chunk = steps(self).len().div_ceil(2);
        loop {
            let mut dropped = false;
            let mut start = 0;
            while start < steps(self).len() && !self.best.cut_short {
                let mut fewer = steps(self);
                fewer.drain(start..(start + chunk).min(fewer.len()));
                if self.accepts_steps(fewer) {
                    dropped = true;
                } else {
                    start += chunk;
                }
            }
            if self.best.cut_short || (chunk == 1 && !dropped) {
                return;
            }
            chunk = chunk.div_ceil(2);
        }
    }

    fn drop_replicas(&mut self) {
        // The first one founds the first space.
        for replica in (1..self.best.options.replicas).rev() {
            let mut options = self.best.options.clone();
            match &mut options.byzantine {
                Some(hostile) if hostile.replica == replica => continue,
                Some(hostile) => hostile.replica -= usize::from(hostile.replica > replica),
                None => {}
            }
            if replica >= options.replicas - options.late {
                options.late -= 1;
            }
            options.replicas -= 1;
            options.late = options.late.min(options.replicas - 1);
            let steps = self.best.plan.steps.iter().filter_map(|step| without(step, replica)).collect();
            self.accepts(options, Plan { steps });
        }
    }

    /// Takes back to what it is in a calm world whatever can be, first by groups, then one by one.
    fn calm_options(&mut self) {
        if self.best.options.spaces > 1 {
            self.accepts(Options { spaces: 1, ..self.best.options.clone() }, self.best.plan.clone());
        }
        let calm = value(&Options::calm(self.best.options.seed));
        for path in paths(&calm) {
            let mut candidate = value(&self.best.options);
            let (Some(here), Some(calm)) = (candidate.pointer_mut(&path), calm.pointer(&path)) else { continue };
            if mem::replace(here, calm.clone()) == *calm {
                continue;
            }
            let options = serde_json::from_value(candidate).expect("both are options");
            self.accepts(options, self.best.plan.clone());
        }
    }

    /// Ends the chaos soon after the last step.
    fn shorten(&mut self) {
        let last = self.best.plan.steps.last().map_or(0, |step| step.at);
        for chaos in [last + SECONDS, last + 5 * SECONDS] {
            if chaos < self.best.options.chaos {
                self.accepts(Options { chaos, ..self.best.options.clone() }, self.best.plan.clone());
            }
        }
    }
}

/// A step in a world without one of the replicas, if anything is left of it. Those after it move up.
fn without(step: &Step, gone: usize) -> Option<Step> {
    let mut step = step.clone();
    if let Act::Cut { pairs, .. } = &mut step.act {
        pairs.retain(|(from, to)| *from != gone && *to != gone);
        if pairs.is_empty() {
            return None;
        }
    }
    for replica in step.act.replicas_mut() {
        if *replica == gone {
            return None;
        }
        *replica -= usize::from(*replica > gone);
    }
    Some(step)
}

fn value(options: &Options) -> Value {
    serde_json::to_value(options).expect("plain data")
}

/// Every group of options and then every single one, as JSON pointers.
fn paths(calm: &Value) -> Vec<String> {
    fn single(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.push(path.to_owned());
                for (name, value) in fields {
                    single(value, &format!("{path}/{name}"), found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    for (name, value) in calm.as_object().into_iter().flatten().filter(|(name, _)| !KEPT.contains(&name.as_str())) {
        single(value, &format!("/{name}"), &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::network::partition::Shape;

    #[test]
    fn a_replica_that_is_left_out_takes_its_steps_along() {
        let step = |act| Step { at: 1, act, salt: 1 };
        assert_eq!(without(&step(Act::Edit(1)), 1), None);
        assert_eq!(without(&step(Act::Edit(0)), 1), Some(step(Act::Edit(0))));
        assert_eq!(without(&step(Act::Reset(2, 0)), 1), Some(step(Act::Reset(1, 0))));
        let cut = |pairs: &[(usize, usize)]| step(Act::Cut { shape: Shape::Split, pairs: pairs.to_vec(), length: 1 });
        assert_eq!(without(&cut(&[(0, 1), (1, 0), (2, 0)]), 1), Some(cut(&[(1, 0)])));
        assert_eq!(without(&cut(&[(0, 1)]), 1), None);
    }

    #[test]
    fn every_option_but_those_that_are_kept_goes_back_to_calm() {
        let paths = paths(&value(&Options::calm(1)));
        for path in ["/network", "/network/frames", "/network/frames/drop", "/late", "/faults/crashes", "/disk"] {
            assert!(paths.iter().any(|found| found == path), "{path}: {paths:?}");
        }
        assert!(!paths.iter().any(|path| path == "/seed" || path == "/replicas"));
    }
}
