//! The difference between two sequences, with a bound on the work: the shortest where few elements differ, else split at
//! elements that both have once, else a replacement. Deterministic, so it has no clock: the bound counts steps.
//!
//! Shortest differences are found as in Myers, "An O(ND) Difference Algorithm and Its Variations", Algorithmica 1986; the
//! anchors are those of Bram Cohen's patience diff.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Differing elements up to which the shortest difference is looked for. The search takes the square of it.
const DISTANCE_MAX: usize = 512;
/// Steps of one comparison in all. Measured: some 20 ms.
pub(crate) const STEPS_MAX: usize = 8_000_000;
/// How often a part is split at anchors again.
const SPLITS_MAX: usize = 16;

/// What stood at `old` became what stands at `new`. One of the two may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hunk {
    pub old: Range<usize>,
    pub new: Range<usize>,
}

/// What differs, in order, with something alike between any two hunks. Takes from `steps`, at most [`STEPS_MAX`] for all
/// parts of one comparison; what is left to compare when they are used up is one hunk.
pub(crate) fn hunks<T: Ord>(old: &[T], new: &[T], steps: &mut usize) -> Vec<Hunk> {
    // Equal elements get equal numbers, which compare fast.
    let mut numbers = BTreeMap::new();
    let mut number = |element| {
        let next = numbers.len() as u32;
        *numbers.entry(element).or_insert(next)
    };
    let old: Vec<u32> = old.iter().map(&mut number).collect();
    let new: Vec<u32> = new.iter().map(&mut number).collect();
    let mut search = Search { old: &old, new: &new, steps, found: Vec::new() };
    search.compare(0..old.len(), 0..new.len(), SPLITS_MAX);
    search.found
}

struct Search<'a> {
    old: &'a [u32],
    new: &'a [u32],
    /// That are left.
    steps: &'a mut usize,
    found: Vec<Hunk>,
}

impl Search<'_> {
    fn compare(&mut self, mut old: Range<usize>, mut new: Range<usize>, splits: usize) {
        let prefix = alike(self.old[old.clone()].iter(), self.new[new.clone()].iter());
        (old.start, new.start) = (old.start + prefix, new.start + prefix);
        let suffix = alike(self.old[old.clone()].iter().rev(), self.new[new.clone()].iter().rev());
        (old.end, new.end) = (old.end - suffix, new.end - suffix);
        if old.is_empty() || new.is_empty() {
            return self.replace(old, new);
        }
        if let Some(hunks) = self.shortest(&old, &new) {
            for hunk in hunks {
                self.replace(hunk.old, hunk.new);
            }
            return;
        }
        let anchors = if splits > 0 { self.anchors(&old, &new) } else { Vec::new() };
        if anchors.is_empty() {
            return self.replace(old, new);
        }
        let (mut in_old, mut in_new) = (old.start, new.start);
        for (at_old, at_new) in anchors {
            self.compare(in_old..at_old, in_new..at_new, splits - 1);
            (in_old, in_new) = (at_old + 1, at_new + 1);
        }
        self.compare(in_old..old.end, in_new..new.end, splits - 1);
    }

    /// Adds a hunk, to the last one if they touch.
    fn replace(&mut self, old: Range<usize>, new: Range<usize>) {
        if old.is_empty() && new.is_empty() {
            return;
        }
        match self.found.last_mut() {
            Some(last) if last.old.end == old.start && last.new.end == new.start => {
                (last.old.end, last.new.end) = (old.end, new.end);
            }
            _ => self.found.push(Hunk { old, new }),
        }
    }

    /// The shortest difference, unless it is too long or the steps are used up.
    fn shortest(&mut self, old: &Range<usize>, new: &Range<usize>) -> Option<Vec<Hunk>> {
        let (a, b) = (&self.old[old.clone()], &self.new[new.clone()]);
        let mut rounds = Rounds { lengths: (a.len(), b.len()), furthest: Vec::new() };
        for d in 0..=DISTANCE_MAX.min(a.len() + b.len()) {
            let mut round = vec![None; 2 * d + 1];
            for k in (-(d as isize)..=d as isize).step_by(2) {
                let Some((start, _)) = rounds.step(d, k) else { continue };
                let (x, y) = (start, start.strict_add_signed(-k));
                let x = x + alike(a[x..].iter(), b[y..].iter());
                *self.steps = self.steps.checked_sub(1 + x - start)?;
                round[k.strict_add_unsigned(d) as usize] = Some(x);
                if (x, x.strict_add_signed(-k)) == (a.len(), b.len()) {
                    rounds.furthest.push(round);
                    return Some(rounds.walk_back(d, k, old.start, new.start));
                }
            }
            rounds.furthest.push(round);
        }
        None
    }

    /// Elements that both parts have exactly once, by their places, as many as keep their order.
    fn anchors(&mut self, old: &Range<usize>, new: &Range<usize>) -> Vec<(usize, usize)> {
        let Some(left) = self.steps.checked_sub(old.len() + new.len()) else { return Vec::new() };
        *self.steps = left;
        let mut places: BTreeMap<u32, (Place, Place)> = BTreeMap::new();
        for at in old.clone() {
            places.entry(self.old[at]).or_default().0.add(at);
        }
        for at in new.clone() {
            places.entry(self.new[at]).or_default().1.add(at);
        }
        let mut pairs: Vec<(usize, usize)> =
            places.into_values().filter_map(|(old, new)| Some((old.once()?, new.once()?))).collect();
        pairs.sort_unstable();
        longest_increasing(&pairs)
    }
}

/// Where an element is.
#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Nowhere,
    Once(usize),
    Often,
}

impl Place {
    fn add(&mut self, at: usize) {
        *self = if matches!(self, Self::Nowhere) { Self::Once(at) } else { Self::Often };
    }

    fn once(self) -> Option<usize> {
        if let Self::Once(at) = self { Some(at) } else { None }
    }
}

/// How far the paths come with each number of differences. A path is on diagonal k when it is k further in the old part than
/// in the new one.
struct Rounds {
    lengths: (usize, usize),
    /// For d differences the places in the old part, of the diagonals -d to d.
    furthest: Vec<Vec<Option<usize>>>,
}

impl Rounds {
    /// Where the best path with d differences comes onto diagonal k, and the diagonal that it comes from; `None` if none does.
    fn step(&self, d: usize, k: isize) -> Option<(usize, isize)> {
        let Some(before) = d.checked_sub(1) else { return Some((0, k)) };
        let on = |k: isize| self.furthest[before].get(usize::try_from(k.strict_add_unsigned(before)).ok()?).copied()?;
        let inserted = on(k + 1).filter(|x| x.strict_add_signed(-k) <= self.lengths.1).map(|x| (x, k + 1));
        let deleted = on(k - 1).map(|x| x + 1).filter(|x| *x <= self.lengths.0).map(|x| (x, k - 1));
        inserted.max(deleted)
    }

    /// The differences of the path that ends with d of them on diagonal k.
    fn walk_back(&self, d: usize, mut k: isize, in_old: usize, in_new: usize) -> Vec<Hunk> {
        let mut hunks: Vec<Hunk> = Vec::new();
        for d in (1..=d).rev() {
            let (x, from) = self.step(d, k).expect("the path came this way");
            let y = x.strict_add_signed(-k);
            let (deleted, inserted) = if from < k { (1, 0) } else { (0, 1) };
            let hunk = Hunk { old: in_old + x - deleted..in_old + x, new: in_new + y - inserted..in_new + y };
            match hunks.last_mut() {
                Some(next) if next.old.start == hunk.old.end && next.new.start == hunk.new.end => {
                    (next.old.start, next.new.start) = (hunk.old.start, hunk.new.start);
                }
                _ => hunks.push(hunk),
            }
            k = from;
        }
        hunks.reverse();
        hunks
    }
}

/// How many elements two sequences begin with alike.
fn alike<'a>(a: impl Iterator<Item = &'a u32>, b: impl Iterator<Item = &'a u32>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

/// Of pairs in order of their first, the most whose seconds increase too.
fn longest_increasing(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // For each length, the pair with the least second that such a sequence can end with; and the pair before each.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; pairs.len()];
    for (index, (_, second)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].1 < *second);
        before[index] = length.checked_sub(1).map(|last| ends[last]);
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut sequence: Vec<_> =
        core::iter::successors(ends.last().copied(), |&index| before[index]).map(|index| pairs[index]).collect();
    sequence.reverse();
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn applied(old: &[u32], new: &[u32], hunks: &[Hunk]) -> Vec<u32> {
        let mut made = old.to_vec();
        for hunk in hunks.iter().rev() {
            made.splice(hunk.old.clone(), new[hunk.new.clone()].iter().copied());
        }
        made
    }

    #[test]
    fn few_differences_are_found_exactly() {
        let old: Vec<u32> = (0..50_000).map(|n| n % 7).collect();
        let mut new = old.clone();
        new.insert(40_000, 9);
        new.remove(20_000);
        new.insert(10, 8);
        let found = hunks(&old, &new, &mut { STEPS_MAX });
        let expected = [
            Hunk { old: 10..10, new: 10..11 },
            Hunk { old: 20_000..20_001, new: 20_001..20_001 },
            Hunk { old: 40_000..40_000, new: 40_000..40_001 },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn parts_that_stayed_are_found_between_large_changes() {
        let old: Vec<u32> = (0..10_000).collect();
        let new: Vec<u32> = (0..3_000).map(|n| n + 50_000).chain(3_000..5_000).chain(60_000..65_000).collect();
        let found = hunks(&old, &new, &mut { STEPS_MAX });
        assert_eq!(found, [Hunk { old: 0..3_000, new: 0..3_000 }, Hunk { old: 5_000..10_000, new: 5_000..10_000 }]);
    }

    #[test]
    fn unlike_sequences_of_few_elements_take_bounded_work() {
        let mut dice = 1_u64;
        let mut draw = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 60) as u32 % 3
        };
        let old: Vec<u32> = (0..500_000).map(|_| draw()).collect();
        let new: Vec<u32> = (0..500_000).map(|_| draw()).collect();
        assert_eq!(hunks(&old, &new, &mut { STEPS_MAX }).len(), 1);
    }

    proptest! {
        #[test]
        fn hunks_turn_one_sequence_into_the_other(
            old in prop::collection::vec(0_u32..5, 0..60), new in prop::collection::vec(0_u32..5, 0..60),
        ) {
            let found = hunks(&old, &new, &mut { STEPS_MAX });
            prop_assert_eq!(applied(&old, &new, &found), new.clone());
            // It is the shortest: as long as the longest common subsequence leaves it.
            let mut longest = vec![vec![0; new.len() + 1]; old.len() + 1];
            for (i, a) in old.iter().enumerate() {
                for (j, b) in new.iter().enumerate() {
                    longest[i + 1][j + 1] =
                        if a == b { longest[i][j] + 1 } else { longest[i][j + 1].max(longest[i + 1][j]) };
                }
            }
            let length: usize = found.iter().map(|hunk| hunk.old.len() + hunk.new.len()).sum();
            prop_assert_eq!(length, old.len() + new.len() - 2 * longest[old.len()][new.len()]);
        }

        #[test]
        fn exhausted_steps_end_in_a_replacement(
            old in prop::collection::vec(0_u32..5, 1..60), new in prop::collection::vec(0_u32..5, 1..60), steps in 0_usize..200,
        ) {
            let found = hunks(&old, &new, &mut { steps });
            prop_assert_eq!(applied(&old, &new, &found), new);
        }
    }
}
