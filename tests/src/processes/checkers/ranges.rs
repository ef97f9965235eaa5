//! Sets of integers, kept as ranges: sums of subsets are mostly neighbours.

use std::ops::RangeInclusive;

/// A set of integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// In order, none touching the next.
    ranges: Vec<(i64, i64)>,
}

impl Ranges {
    /// The set of one integer.
    pub fn of(value: i64) -> Self {
        Self { ranges: vec![(value, value)] }
    }

    /// Every sum of `base` and any of the `parts`, each taken once or not at all.
    pub fn subset_sums(base: i64, parts: impl IntoIterator<Item = i64>) -> Self {
        parts.into_iter().fold(Self::of(base), |sums, part| {
            let with = sums.ranges.iter().map(|(low, high)| (low + part, high + part)).collect();
            sums.union(with)
        })
    }

    /// Whether it holds a value.
    pub fn contains(&self, value: i64) -> bool {
        let at = self.ranges.partition_point(|(_, high)| *high < value);
        self.ranges.get(at).is_some_and(|(low, _)| *low <= value)
    }

    /// Its ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<i64>> {
        self.ranges.iter().map(|(low, high)| *low..=*high)
    }

    fn union(mut self, other: Vec<(i64, i64)>) -> Self {
        self.ranges.extend(other);
        self.ranges.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(self.ranges.len());
        for (low, high) in self.ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self { ranges: merged }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn subset_sums_are_what_trying_all_subsets_gives() {
        for (base, parts) in [(0, vec![]), (5, vec![3]), (-2, vec![10, -10]), (7, vec![4, 4, -3, 0, 25, 1])] {
            let sums = Ranges::subset_sums(base, parts.iter().copied());
            let tried: BTreeSet<i64> = (0..1_u32 << parts.len())
                .map(|subset| {
                    let taken = parts.iter().enumerate().filter(|(place, _)| subset >> place & 1 == 1);
                    base + taken.map(|(_, part)| part).sum::<i64>()
                })
                .collect();
            for value in -60..60 {
                assert_eq!(sums.contains(value), tried.contains(&value), "{value} of {base} and {parts:?}");
            }
        }
    }

    #[test]
    fn neighbours_are_one_range() {
        let sums = Ranges::subset_sums(0, [1, 1, 1, -2]);
        assert_eq!(sums.iter().collect::<Vec<_>>(), [-2..=3]);
        let sums = Ranges::subset_sums(0, [10]);
        assert_eq!(sums.iter().collect::<Vec<_>>(), [0..=0, 10..=10]);
    }
}
