//! `pn-counter`: at the end every node reads the sum of all acknowledged additions and of any of the undecided ones.

use crate::processes::checkers::Write;
use crate::processes::checkers::ranges::Ranges;

/// What was asked and answered.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The additions, negative ones too.
    pub adds: Vec<Write<i64>>,
    /// What each node read at the end.
    pub last_reads: Vec<i64>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Additions that were answered.
    pub acknowledged: usize,
    /// Additions that were not.
    pub undecided: usize,
    /// What may be read at the end.
    pub allowed: Ranges,
    /// Nodes, and what they read although it is not allowed.
    pub wrong: Vec<(usize, i64)>,
    /// Not all nodes read the same.
    pub differ: bool,
}

/// Judges a history.
pub fn check(history: &History) -> Verdict {
    let (acknowledged, undecided): (Vec<&Write<i64>>, Vec<&Write<i64>>) =
        history.adds.iter().partition(|add| add.acknowledged.is_some());
    let sum = acknowledged.iter().map(|add| add.value).sum();
    let allowed = Ranges::subset_sums(sum, undecided.iter().map(|add| add.value));
    let reads = history.last_reads.iter().copied().enumerate();
    Verdict {
        acknowledged: acknowledged.len(),
        undecided: undecided.len(),
        wrong: reads.filter(|(_, read)| !allowed.contains(*read)).collect(),
        differ: history.last_reads.windows(2).any(|pair| pair[0] != pair[1]),
        allowed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn history(acknowledged: &[i64], undecided: &[i64], last_reads: &[i64]) -> History {
        let write = |acknowledged: Option<Duration>| move |&value: &i64| Write { value, acknowledged };
        let adds = acknowledged.iter().map(write(Some(Duration::ZERO))).chain(undecided.iter().map(write(None)));
        History { adds: adds.collect(), last_reads: last_reads.to_vec() }
    }

    #[test]
    fn an_undecided_addition_may_count_or_not() {
        for total in [5, 15] {
            let verdict = check(&history(&[2, 3], &[10], &[total, total]));
            assert!(verdict.wrong.is_empty() && !verdict.differ, "{verdict:?}");
            assert_eq!((verdict.acknowledged, verdict.undecided), (2, 1));
        }
    }

    #[test]
    fn a_lost_addition_and_one_that_counts_twice_are_wrong() {
        assert_eq!(check(&history(&[2, 3], &[], &[5, 2])).wrong, [(1, 2)]);
        assert_eq!(check(&history(&[2, 3], &[10], &[25, 15])).wrong, [(0, 25)]);
        assert_eq!(check(&history(&[2], &[10, -1], &[11, 11])).wrong, []);
    }

    #[test]
    fn nodes_that_read_different_sums_differ_even_if_each_is_allowed() {
        let verdict = check(&history(&[2], &[10], &[2, 12]));
        assert!(verdict.wrong.is_empty() && verdict.differ);
    }
}
