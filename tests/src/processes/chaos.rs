//! What is done to a fleet while it works: drawn from a seed, done in real time, undone at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::processes::finding::Finding;
use crate::processes::fleet::Fleet;
use crate::processes::link::{Flow, Weather};
use crate::sim::dice::Dice;

/// Nothing is done before this, nor after so much before the end.
const CALM: Duration = Duration::from_millis(500);
/// From one fault to the next, at most.
const GAP_MAX_MS: u64 = 1_200;
/// Most faults are over after this.
const SHORT_MAX_MS: u64 = 2_500;
/// Some last up to this: longer than it takes to call a silent peer dead.
const LONG_MAX_MS: u64 = 40_000;
const LONG_PERCENT: u64 = 15;

/// What kinds of faults are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Links only.
    Links,
    /// And nodes that are stopped for a while.
    LinksAndStops,
    /// And nodes that are killed.
    All,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connections between two nodes are closed once.
    Reset(usize, usize),
    /// They are closed in the middle of a message, after so many bytes.
    CutAfter(usize, usize, u64),
    /// Bad weather between two nodes.
    Weather(usize, usize, Weather),
    /// The nodes fall into groups; between two that have none in common there is this weather.
    Parted(Vec<Vec<usize>>, Weather),
    /// SIGSTOP, then SIGCONT.
    Stopped(usize),
    /// SIGKILL, then a start.
    Killed(usize),
}

/// A fault and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// From the beginning of the run.
    pub begins: Duration,
    /// From the beginning of the run.
    pub ends: Duration,
    /// What.
    pub fault: Fault,
}

impl Fault {
    fn draw(nodes: usize, kinds: Kinds, dice: &mut Dice) -> Self {
        let target = dice.index(nodes - 1);
        let dialer = target + 1 + dice.index(nodes - 1 - target);
        let process = match kinds {
            Kinds::Links => 0,
            Kinds::LinksAndStops => 10,
            Kinds::All => 25,
        };
        if dice.below(100) < process {
            let node = dice.index(nodes);
            return if kinds == Kinds::All && dice.percent(60) { Self::Killed(node) } else { Self::Stopped(node) };
        }
        match dice.below(10) {
            0 => Self::Reset(dialer, target),
            1 => Self::CutAfter(dialer, target, dice.below(3_000)),
            2..=4 => Self::Parted(groups(nodes, dice), silence_or_refusal(dice)),
            _ => Self::Weather(dialer, target, weather(dice)),
        }
    }

    /// What there is to see of it on one link.
    fn weather(&self, dialer: usize, target: usize) -> Weather {
        match self {
            Self::Weather(from, to, weather) if (*from, *to) == (dialer, target) => *weather,
            Self::Parted(groups, weather)
                if !groups.iter().any(|group| group.contains(&dialer) && group.contains(&target)) =>
            {
                *weather
            }
            _ => Weather::default(),
        }
    }

    /// Its kind, for counting.
    fn name(&self) -> &'static str {
        match self {
            Self::Reset(..) => "reset",
            Self::CutAfter(..) => "cut_in_message",
            Self::Weather(_, _, weather) if weather.delay > Duration::ZERO => "delay",
            Self::Weather(_, _, weather) if weather.bytes_per_s.is_some() => "slow",
            Self::Weather(_, _, weather) if weather.to_target != weather.from_target => "one_way",
            Self::Weather(_, _, weather) if weather.shut => "refused",
            Self::Weather(_, _, weather) if weather.to_target == Flow::Swallowed => "half_open",
            Self::Weather(..) => "held",
            Self::Parted(groups, _) if groups.len() > 2 => "ring",
            Self::Parted(groups, _) if groups[0].iter().any(|node| groups[1].contains(node)) => "bridge",
            Self::Parted(..) => "split",
            Self::Stopped(_) => "stopped",
            Self::Killed(_) => "killed",
        }
    }
}

fn both_ways(flow: Flow) -> Weather {
    Weather { to_target: flow, from_target: flow, ..Weather::default() }
}

/// A partition is a silence (packets are lost) or a refusal.
fn silence_or_refusal(dice: &mut Dice) -> Weather {
    if dice.percent(60) { both_ways(Flow::Held) } else { Weather { shut: true, ..both_ways(Flow::Swallowed) } }
}

fn weather(dice: &mut Dice) -> Weather {
    let fair = Weather::default();
    let flow = if dice.percent(50) { Flow::Held } else { Flow::Swallowed };
    match dice.below(7) {
        0 => Weather { shut: true, ..both_ways(Flow::Swallowed) },
        1 => both_ways(Flow::Held),
        2 => both_ways(Flow::Swallowed),
        3 => Weather { to_target: flow, ..fair },
        4 => Weather { from_target: flow, ..fair },
        5 => Weather { bytes_per_s: Some(1_000), ..fair },
        _ => Weather { delay: Duration::from_millis(dice.between(20, 800)), ..fair },
    }
}

/// Two halves, two halves with one node in both, a ring, or one node alone.
fn groups(nodes: usize, dice: &mut Dice) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..nodes).collect();
    for place in (1..nodes).rev() {
        order.swap(place, dice.index(place + 1));
    }
    match dice.below(4) {
        0 => vec![order[..nodes / 2].to_vec(), order[nodes / 2..].to_vec()],
        1 => vec![order[..=nodes / 2].to_vec(), order[nodes / 2..].to_vec()],
        2 if nodes > 3 => (0..nodes).map(|place| vec![order[place], order[(place + 1) % nodes]]).collect(),
        _ => vec![order[..1].to_vec(), order[1..].to_vec()],
    }
}

/// The faults of a run: a function of its seed.
pub fn plan(seed: u64, nodes: usize, time: Duration, kinds: Kinds) -> Vec<Planned> {
    let mut dice = Dice::salted(seed);
    let mut planned = Vec::new();
    let mut begins = CALM;
    loop {
        begins += Duration::from_millis(dice.between(GAP_MAX_MS / 4, GAP_MAX_MS));
        let long = dice.percent(LONG_PERCENT);
        let lasts = Duration::from_millis(dice.between(100, if long { LONG_MAX_MS } else { SHORT_MAX_MS }));
        let fault = Fault::draw(nodes, kinds, &mut dice);
        if begins + CALM > time {
            return planned;
        }
        planned.push(Planned { begins, ends: (begins + lasts).min(time), fault });
    }
}

/// A plan being done.
pub struct Chaos {
    /// What is still to come, the next one last.
    ahead: Vec<Planned>,
    active: Vec<Planned>,
    done: BTreeMap<&'static str, u64>,
}

impl Chaos {
    /// Nothing of it is done yet.
    pub fn new(mut plan: Vec<Planned>) -> Self {
        plan.reverse();
        Self { ahead: plan, active: Vec::new(), done: BTreeMap::new() }
    }

    /// Ends what is over and begins what is due.
    ///
    /// # Errors
    /// A node does not start.
    pub fn turn(&mut self, now: Duration, fleet: &mut Fleet) -> Result<(), Finding> {
        let (over, active): (Vec<_>, Vec<_>) = self.active.drain(..).partition(|planned| planned.ends <= now);
        self.active = active;
        let mut changed = !over.is_empty();
        for planned in over {
            match planned.fault {
                Fault::Stopped(node) if !self.is_active(&planned.fault) => fleet.proceed(node),
                // Another kill of the same node may go on: it is started when that is over.
                Fault::Killed(node) if !self.is_active(&planned.fault) => fleet.restart(node)?,
                _ => {}
            }
        }
        while let Some(planned) = self.ahead.pop_if(|planned| planned.begins <= now) {
            match planned.fault {
                Fault::Reset(dialer, target) => fleet.link(dialer, target).reset(),
                Fault::CutAfter(dialer, target, bytes) => fleet.link(dialer, target).cut_after(bytes),
                Fault::Stopped(node) => fleet.suspend(node),
                Fault::Killed(node) => fleet.kill(node),
                Fault::Weather(..) | Fault::Parted(..) => {}
            }
            *self.done.entry(planned.fault.name()).or_default() += 1;
            self.active.push(planned);
            changed = true;
        }
        if changed {
            for (dialer, target, link) in fleet.links() {
                let faults = self.active.iter().map(|planned| planned.fault.weather(dialer, target));
                link.set(faults.fold(Weather::default(), Weather::and));
            }
        }
        Ok(())
    }

    fn is_active(&self, fault: &Fault) -> bool {
        self.active.iter().any(|planned| planned.fault == *fault)
    }
}

/// How often each kind was done.
impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done: Vec<String> = self.done.iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&done.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_function_of_its_seed_and_has_every_kind_of_fault() {
        let hour = Duration::from_secs(3_600);
        let drawn = plan(7, 5, hour, Kinds::All);
        assert_eq!(drawn, plan(7, 5, hour, Kinds::All));
        assert_ne!(drawn, plan(8, 5, hour, Kinds::All));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        drawn.iter().for_each(|planned| *counts.entry(planned.fault.name()).or_default() += 1);
        assert_eq!(counts.len(), 13, "{counts:?}");
        assert!(drawn.iter().all(|planned| planned.begins < planned.ends && planned.ends <= hour));
        let gentle = plan(7, 5, hour, Kinds::LinksAndStops);
        assert!(!gentle.iter().any(|planned| matches!(planned.fault, Fault::Killed(_))));
    }

    #[test]
    fn a_partition_is_seen_on_the_links_between_its_groups_only() {
        let silence = both_ways(Flow::Held);
        let bridge = Fault::Parted(vec![vec![0, 1, 2], vec![2, 3, 4]], silence);
        assert_eq!(bridge.name(), "bridge");
        assert_eq!(bridge.weather(3, 0), silence);
        assert_eq!(bridge.weather(4, 1), silence);
        for (dialer, target) in [(1, 0), (2, 0), (3, 2), (4, 3)] {
            assert_eq!(bridge.weather(dialer, target), Weather::default());
        }
        let one = Fault::Weather(3, 1, silence);
        assert_eq!((one.weather(3, 1), one.weather(3, 2)), (silence, Weather::default()));
    }
}
