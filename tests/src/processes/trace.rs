//! Recorded editing, and when whose edits must be where.

use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Value, json};

/// A position, how many characters to delete there, what to insert.
#[derive(Debug, Clone, Deserialize)]
pub struct Patch(pub usize, pub usize, pub String);

/// A trace of one author.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sequential {
    /// The text after everything.
    pub end_content: String,
    /// The edits.
    pub txns: Vec<Edits>,
}

/// Edits that belong together.
#[derive(Debug, Deserialize)]
pub struct Edits {
    /// In order.
    pub patches: Vec<Patch>,
}

/// A trace of several authors.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Concurrent {
    /// The text after everything.
    pub end_content: String,
    /// The transactions, parents first.
    pub txns: Vec<Transaction>,
}

/// What one author did at once.
#[derive(Debug, Deserialize)]
pub struct Transaction {
    /// The transactions on whose merge it stands.
    pub parents: Vec<usize>,
    /// The author.
    pub agent: usize,
    /// The edits.
    pub patches: Vec<Patch>,
}

/// What one of two authors did, and what it had seen of the other's doing.
#[derive(Debug, Clone)]
pub struct Step {
    /// So many of the other's steps were known.
    pub seen: usize,
    /// The edits.
    pub patches: Vec<Patch>,
}

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// Reads a trace.
pub fn load<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = data(name);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_reader(std::io::BufReader::new(GzDecoder::new(file)))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Patch {
    /// As an edit of the text at `path`, in the node's words.
    pub fn edit(&self, path: &str) -> Value {
        json!({ "op": "splice", "path": path, "pos": self.0, "del": self.1, "ins": self.2 })
    }
}

impl Concurrent {
    /// The steps of two authors. Each author's transactions follow one another, so what was seen of the other is a number.
    pub fn two_authors(&self) -> [Vec<Step>; 2] {
        let mut authors: [Vec<Step>; 2] = Default::default();
        // For each transaction: how many steps of each author it stands on, its own included.
        let mut known: Vec<[usize; 2]> = Vec::with_capacity(self.txns.len());
        for txn in &self.txns {
            let mut seen = [0; 2];
            for &parent in &txn.parents {
                for (author, count) in seen.iter_mut().enumerate() {
                    *count = (*count).max(known[parent][author]);
                }
            }
            assert_eq!(seen[txn.agent], authors[txn.agent].len(), "an author knows what it did itself");
            authors[txn.agent].push(Step { seen: seen[1 - txn.agent], patches: txn.patches.clone() });
            seen[txn.agent] += 1;
            known.push(seen);
        }
        authors
    }
}

/// One thing to do in a replay of two authors' steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The author makes its next step.
    Step {
        /// 0 or 1.
        author: usize,
    },
    /// A courier meets an author: afterwards both know what either knew.
    Meet {
        /// Which courier.
        courier: usize,
        /// 0 or 1.
        author: usize,
    },
}

/// A replay in which every step is made on exactly what its author had seen, or `None` if the couriers are too few.
///
/// A meeting informs both sides, and no order of meetings between the two authors themselves informs each of exactly what it
/// had seen: their messages crossed on the way. So couriers carry the news, as the wire between the authors did: a courier
/// that met one author holds what that author had then, and brings it to the other when the time has come. The first author's
/// news is brought at once; the second author's waits with couriers.
pub fn schedule(authors: &[Vec<Step>; 2], couriers: usize) -> Option<Vec<Act>> {
    let mut replay = Replay {
        first: &authors[0],
        acts: Vec::new(),
        done: [0; 2],
        first_knows: 0,
        second_knows: 0,
        couriers: vec![[0; 2]; couriers],
        last_met: (0..couriers).collect(),
    };
    loop {
        // All that the second author did on exactly this much of the first's.
        while authors[1].get(replay.done[1]).is_some_and(|step| step.seen == replay.done[0]) {
            replay.bring_first_to_second()?;
            replay.take_up_second()?;
            replay.step(1);
        }
        let Some(step) = authors[0].get(replay.done[0]) else { break };
        replay.bring_second_to_first(step.seen)?;
        replay.step(0);
    }
    (replay.done == [authors[0].len(), authors[1].len()]).then_some(replay.acts)
}

struct Replay<'a> {
    first: &'a [Step],
    acts: Vec<Act>,
    /// Steps made.
    done: [usize; 2],
    /// Steps of the second author that the first knows.
    first_knows: usize,
    /// Steps of the first author that the second knows.
    second_knows: usize,
    /// What each courier knows of both.
    couriers: Vec<[usize; 2]>,
    /// Couriers, the one that has not met anyone for longest first, so that no connection falls asleep.
    last_met: Vec<usize>,
}

impl Replay<'_> {
    fn step(&mut self, author: usize) {
        self.acts.push(Act::Step { author });
        self.done[author] += 1;
    }

    fn meet(&mut self, courier: usize, author: usize) {
        self.acts.push(Act::Meet { courier, author });
        let [first, second] = &mut self.couriers[courier];
        if author == 0 {
            self.first_knows = self.first_knows.max(*second);
            (*first, *second) = (self.done[0], self.first_knows);
        } else {
            self.second_knows = self.second_knows.max(*first);
            (*first, *second) = (self.second_knows, self.done[1]);
        }
        self.last_met.retain(|&other| other != courier);
        self.last_met.push(courier);
    }

    /// Before the second author goes on: it must know all that the first has done.
    fn bring_first_to_second(&mut self) -> Option<()> {
        if self.second_knows < self.done[0] {
            let courier = self.find(|replay, courier| replay.couriers[courier][1] <= replay.first_knows)?;
            self.meet(courier, 0);
            self.meet(courier, 1);
        }
        Some(())
    }

    /// Before the second author goes on: what it has now may be what the first must know later.
    fn take_up_second(&mut self) -> Option<()> {
        let now = self.done[1];
        if now > self.first_knows && self.is_needed(now) && !self.is_held(now) {
            let courier = self.idle()?;
            self.meet(courier, 1);
        }
        Some(())
    }

    /// Before the first author goes on: it must know this much of the second.
    fn bring_second_to_first(&mut self, seen: usize) -> Option<()> {
        if seen > self.first_knows {
            if seen == self.done[1] && !self.is_held(seen) {
                let courier = self.idle()?;
                self.meet(courier, 1);
            }
            let courier = self.find(|replay, courier| replay.couriers[courier][1] == seen)?;
            self.meet(courier, 0);
        }
        Some(())
    }

    fn find(&self, fits: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        self.last_met.iter().copied().find(|&courier| fits(self, courier))
    }

    /// A courier whose news nobody waits for: first one that may not meet the first author anyway.
    fn idle(&self) -> Option<usize> {
        let useless = |replay: &Self, courier: usize| {
            let news = replay.couriers[courier][1];
            let others = replay.couriers.iter().filter(|other| other[1] == news).count();
            news > replay.first_knows && (others > 1 || !replay.is_needed(news))
        };
        self.find(useless).or_else(|| self.find(|replay, courier| replay.couriers[courier][1] <= replay.first_knows))
    }

    fn is_held(&self, news: usize) -> bool {
        self.couriers.iter().any(|courier| courier[1] == news)
    }

    /// The first author will stand on exactly this much of the second's.
    fn is_needed(&self, news: usize) -> bool {
        let ahead = self.first[self.done[0]..].iter().map(|step| step.seen);
        ahead.take_while(|&seen| seen <= news).any(|seen| seen == news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the acts and checks every step against the trace.
    fn check(authors: &[Vec<Step>; 2], acts: &[Act], couriers: usize) {
        let mut knows = [[0; 2]; 2];
        let mut carried = vec![[0; 2]; couriers];
        for act in acts {
            match *act {
                Act::Step { author } => {
                    let own = knows[author][author];
                    assert_eq!(authors[author][own].seen, knows[author][1 - author], "step {own} of {author}");
                    knows[author][author] += 1;
                }
                Act::Meet { courier, author } => {
                    let both = [0, 1].map(|of| knows[author][of].max(carried[courier][of]));
                    (knows[author], carried[courier]) = (both, both);
                }
            }
        }
        assert_eq!([knows[0][0], knows[1][1]], [authors[0].len(), authors[1].len()]);
    }

    #[test]
    fn messages_that_cross_need_couriers() {
        let step = |seen| Step { seen, patches: Vec::new() };
        // Both write, and only then learn what the other wrote first.
        let authors = [vec![step(0), step(0), step(1)], vec![step(0), step(0), step(1)]];
        check(&authors, &schedule(&authors, 2).unwrap(), 2);
        assert_eq!(schedule(&authors, 0), None);
    }

    #[test]
    fn the_real_trace_can_be_replayed_exactly() {
        let authors = load::<Concurrent>("friendsforever.json.gz").two_authors();
        let couriers =
            (1..9).find(|&couriers| schedule(&authors, couriers).is_some()).expect("a few couriers are enough");
        let acts = schedule(&authors, couriers).unwrap();
        check(&authors, &acts, couriers);
        let meetings = acts.iter().filter(|act| matches!(act, Act::Meet { .. })).count();
        assert_eq!((couriers, meetings, acts.len() - meetings), (5, 4_433, 26_078));
    }
}
