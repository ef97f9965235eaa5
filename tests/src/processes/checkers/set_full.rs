//! `set-full`: every element of a growing set, from its addition to the last read. Stricter than Jepsen's where a replica
//! promises more: what one node has shown in one life, it goes on showing, and at the end all nodes show the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::processes::checkers::Write;

/// Quantiles of stable latencies that are told.
pub const QUANTILES: [f64; 5] = [0.0, 0.5, 0.95, 0.99, 1.0];

/// What was asked and answered. Each element is added once.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The additions.
    pub adds: Vec<Write<u64>>,
    /// The reads that were answered.
    pub reads: Vec<Read>,
}

/// One read of the whole set.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// Of which node.
    pub node: usize,
    /// And which of its lives, from one start of its process to the next.
    pub life: u64,
    /// When it was asked.
    pub asked: Duration,
    /// When it was answered.
    pub answered: Duration,
    /// What was there, as often as it was there.
    pub elements: Vec<u64>,
    /// After everything, when all nodes hold the same.
    pub is_last: bool,
}

/// What came of it. All but `stale` and `never_read` are failures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Elements whose addition was answered.
    pub acknowledged: usize,
    /// Elements whose addition was not.
    pub undecided: usize,
    /// Acknowledged elements that a last read lacks.
    pub lost: BTreeSet<u64>,
    /// Elements that a node has shown, and later in the same life not: element and node.
    pub vanished: BTreeSet<(u64, usize)>,
    /// Elements that only some of the last reads have.
    pub divergent: BTreeSet<u64>,
    /// Elements that are there several times in one read.
    pub duplicated: BTreeSet<u64>,
    /// Elements that nobody has added.
    pub unexpected: BTreeSet<u64>,
    /// Elements that no read has.
    pub never_read: usize,
    /// Elements that some read lacked after they were known, on any node, and that were everywhere later.
    pub stale: usize,
    /// How long after an element was known a read still lacked it, in milliseconds, at [`QUANTILES`].
    pub stable_latencies_ms: [u64; QUANTILES.len()],
}

/// What the reads show of one element.
#[derive(Default)]
struct Element {
    /// Its addition was answered, or a read that has it.
    known: Option<Duration>,
    acknowledged: bool,
    /// When the last read that has it was asked.
    last_present: Option<Duration>,
    /// When the last read that lacks it was asked.
    last_absent: Option<Duration>,
}

/// Judges a history.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let mut elements: BTreeMap<u64, Element> = BTreeMap::new();
    for add in &history.adds {
        let element =
            Element { known: add.acknowledged, acknowledged: add.acknowledged.is_some(), ..Element::default() };
        *if element.acknowledged { &mut verdict.acknowledged } else { &mut verdict.undecided } += 1;
        elements.insert(add.value, element);
    }
    let mut reads: Vec<&Read> = history.reads.iter().collect();
    reads.sort_by_key(|read| read.asked);
    // What each node has shown in its present life.
    let mut shown: BTreeMap<usize, (u64, BTreeSet<u64>)> = BTreeMap::new();
    let mut last_reads = Vec::new();
    for read in reads {
        let mut present = BTreeSet::new();
        for &value in &read.elements {
            if !present.insert(value) {
                verdict.duplicated.insert(value);
            }
            match elements.get_mut(&value) {
                None => drop(verdict.unexpected.insert(value)),
                Some(element) => {
                    let known = element.known.map_or(read.answered, |known| known.min(read.answered));
                    element.known = Some(known);
                    element.last_present = Some(read.asked);
                }
            }
        }
        for (_, element) in elements.iter_mut().filter(|(value, _)| !present.contains(value)) {
            element.last_absent = Some(read.asked);
        }
        let (life, before) = shown.entry(read.node).or_default();
        if *life == read.life {
            verdict.vanished.extend(before.difference(&present).map(|&value| (value, read.node)));
        }
        if read.is_last {
            last_reads.push(present.clone());
        }
        (*life, *before) = (read.life, present);
    }
    for (&value, element) in &elements {
        let holding = last_reads.iter().filter(|present| present.contains(&value)).count();
        if holding < last_reads.len() && element.acknowledged {
            verdict.lost.insert(value);
        }
        if holding > 0 && holding < last_reads.len() {
            verdict.divergent.insert(value);
        }
    }
    verdict.never_read = elements.values().filter(|element| element.last_present.is_none()).count();
    let latencies = elements.values().filter_map(stable_latency).map(|latency| latency.as_millis() as u64);
    let mut latencies: Vec<u64> = latencies.collect();
    latencies.sort_unstable();
    verdict.stale = latencies.iter().filter(|latency| **latency > 0).count();
    verdict.stable_latencies_ms = QUANTILES.map(|point| quantile(&latencies, point));
    verdict
}

/// How long after it was known a read still lacked the element; `None` if it is not there for good.
fn stable_latency(element: &Element) -> Option<Duration> {
    let present = element.last_present?;
    match element.last_absent {
        Some(absent) if absent > present => None,
        Some(absent) => Some(absent.saturating_sub(element.known?)),
        None => Some(Duration::ZERO),
    }
}

fn quantile(sorted: &[u64], point: f64) -> u64 {
    let place = (sorted.len() as f64 * point) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn acknowledged(value: u64, at: u64) -> Write<u64> {
        Write { value, acknowledged: Some(ms(at)) }
    }

    fn undecided(value: u64) -> Write<u64> {
        Write { value, acknowledged: None }
    }

    /// A read that takes a millisecond.
    fn read(node: usize, at: u64, elements: &[u64]) -> Read {
        Read { node, life: 1, asked: ms(at), answered: ms(at + 1), elements: elements.to_vec(), is_last: false }
    }

    fn last(node: usize, elements: &[u64]) -> Read {
        Read { is_last: true, ..read(node, 1_000, elements) }
    }

    fn checked(adds: &[Write<u64>], reads: &[Read]) -> Verdict {
        check(&History { adds: adds.to_vec(), reads: reads.to_vec() })
    }

    #[test]
    fn what_everyone_reads_at_the_end_is_fine_whenever_it_arrived() {
        let adds = [acknowledged(1, 10), acknowledged(2, 20), undecided(3), undecided(4)];
        let reads = [read(1, 30, &[2]), read(0, 50, &[1, 2]), last(0, &[1, 2, 4]), last(1, &[2, 1, 4])];
        let verdict = checked(&adds, &reads);
        let expected = Verdict {
            acknowledged: 2,
            undecided: 2,
            never_read: 1,
            // 1 was known at 10 and lacking at 30.
            stale: 1,
            stable_latencies_ms: [0, 0, 20, 20, 20],
            ..Verdict::default()
        };
        assert_eq!(verdict, expected);
    }

    #[test]
    fn an_acknowledged_element_that_one_last_read_lacks_is_lost() {
        let verdict = checked(&[acknowledged(1, 10)], &[last(0, &[1]), last(1, &[])]);
        assert_eq!((verdict.lost, verdict.divergent), (BTreeSet::from([1]), BTreeSet::from([1])));
        let verdict = checked(&[acknowledged(1, 10)], &[last(0, &[]), last(1, &[])]);
        assert_eq!((verdict.lost, verdict.never_read), (BTreeSet::from([1]), 1));
        assert!(verdict.divergent.is_empty());
    }

    #[test]
    fn an_element_that_a_node_has_shown_may_not_vanish_from_it_in_one_life() {
        let reads = [read(0, 10, &[1]), read(0, 20, &[]), last(0, &[])];
        assert_eq!(checked(&[undecided(1)], &reads).vanished, BTreeSet::from([(1, 0)]));
        // Not saved, and gone with the process.
        let mut reads = reads;
        reads[1].life = 2;
        reads[2].life = 2;
        let verdict = checked(&[undecided(1)], &reads);
        assert!(verdict.vanished.is_empty() && verdict.lost.is_empty());
        // Another node may not have it yet.
        let reads = [read(0, 10, &[1]), read(1, 20, &[]), last(0, &[1]), last(1, &[1])];
        assert!(checked(&[undecided(1)], &reads).vanished.is_empty());
    }

    #[test]
    fn an_undecided_element_that_some_have_at_the_end_is_divergent() {
        let verdict = checked(&[undecided(1)], &[last(0, &[1]), last(1, &[])]);
        assert_eq!(verdict.divergent, BTreeSet::from([1]));
        assert!(verdict.lost.is_empty());
    }

    #[test]
    fn duplicates_and_what_nobody_added_are_seen() {
        let verdict = checked(&[acknowledged(1, 10)], &[read(0, 20, &[1, 1]), last(0, &[1, 7])]);
        assert_eq!((verdict.duplicated, verdict.unexpected), (BTreeSet::from([1]), BTreeSet::from([7])));
    }

    #[test]
    fn quantiles_are_places_in_the_order() {
        let sorted: Vec<u64> = (0..100).collect();
        assert_eq!(QUANTILES.map(|point| quantile(&sorted, point)), [0, 50, 95, 99, 99]);
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
