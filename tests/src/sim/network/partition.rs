//! What goes wrong with links: directions that are cut and mended, connections that are reset, half open ones, streams that
//! end inside a frame.

use serde::{Deserialize, Serialize};

use crate::sim::MILLIS;
use crate::sim::world::{Happening, World};

/// What a cut looks like from above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Two groups that do not hear of each other.
    #[default]
    Split,
    /// Two groups, and one replica that sees both.
    Bridge,
    /// Everybody sees two neighbours only.
    Ring,
    /// One direction between two.
    OneWay,
    /// Two that lose each other again and again.
    Flap,
}

impl Shape {
    /// The directed pairs that this shape cuts. `order` says who stands where, `first` how many are in the first group.
    pub fn pairs(self, order: &[usize], first: usize) -> Vec<(usize, usize)> {
        let count = order.len();
        let apart = |a: usize, b: usize| match self {
            Self::Split => (a < first) != (b < first),
            Self::Bridge => a > 0 && b > 0 && (a <= first) != (b <= first),
            Self::Ring => a.abs_diff(b) != 1 && a.abs_diff(b) != count - 1,
            Self::OneWay => a == 0 && b == 1,
            Self::Flap => a.max(b) == 1,
        };
        let places = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        places.filter(|(a, b)| a != b && apart(*a, *b)).map(|(a, b)| (order[a], order[b])).collect()
    }
}

impl World {
    /// Whether packets get from one to the other.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.get(&(from, to)).is_some_and(|cuts| *cuts > 0)
    }

    /// Cuts the given directions for a while.
    pub(in crate::sim) fn cut(&mut self, shape: Shape, pairs: &[(usize, usize)], length: u64) {
        match shape {
            Shape::Split => self.stats.splits += 1,
            Shape::Bridge => self.stats.bridges += 1,
            Shape::Ring => self.stats.rings += 1,
            Shape::OneWay => self.stats.one_way += 1,
            Shape::Flap => self.stats.flaps += 1,
        }
        self.cut_pairs(pairs, length);
    }

    /// The same, whatever it looks like.
    pub(in crate::sim) fn cut_pairs(&mut self, pairs: &[(usize, usize)], length: u64) {
        for (from, to) in pairs {
            *self.cut.entry((*from, *to)).or_default() += 1;
            if self.dice.network.percent(self.network.reset_percent) {
                self.reset(*from, *to);
            }
        }
        self.schedule(length, Happening::Mend { pairs: pairs.to_vec() });
    }

    /// Lets the given directions work again. What was held up arrives.
    pub(in crate::sim) fn mend(&mut self, pairs: &[(usize, usize)]) {
        for pair in pairs {
            if let Some(cuts) = self.cut.get_mut(pair) {
                *cuts = cuts.saturating_sub(1);
            }
        }
        self.release_held();
    }

    /// Lets every direction work again.
    pub fn mend_all(&mut self) {
        self.cut.clear();
        self.release_held();
    }

    pub(in crate::sim) fn release_held(&mut self) {
        let held: Vec<(u64, usize)> =
            self.connections.keys().flat_map(|connection| [(*connection, 0), (*connection, 1)]).collect();
        for (connection, from) in held {
            let after = self.latency();
            self.schedule(after, Happening::Arrive { connection, from });
        }
    }

    fn between(&self, a: usize, b: usize) -> Vec<u64> {
        let joins = |ends: (usize, usize)| ends == (a, b) || ends == (b, a);
        let connections = self.connections.iter().filter(|(_, c)| joins((c.ends[0].replica, c.ends[1].replica)));
        connections.map(|(id, _)| *id).collect()
    }

    /// Resets the connections between two: one end or both are told, each in its own time.
    pub(in crate::sim) fn reset(&mut self, a: usize, b: usize) {
        for connection in self.between(a, b) {
            self.stats.resets += 1;
            let found = self.connections.get_mut(&connection).expect("just listed");
            found.reset = true;
            found.flows.iter_mut().for_each(super::Flow::lose_all);
            let told = self.dice.network.below(4);
            for end in 0..2 {
                // Now and then one side learns only from the silence, or when it sends.
                if told != end as u64 {
                    let after = self.latency();
                    let reason = "connection reset".to_owned();
                    self.schedule(after, Happening::Closed { connection, end, reason });
                }
            }
        }
    }

    /// One end of the connections between two is gone, and nothing ever tells the other one: no end, no reset, no bytes.
    pub fn half_open(&mut self, gone: usize, other: usize) {
        for connection in self.between(gone, other) {
            let found = self.connections.get_mut(&connection).expect("just listed");
            if found.silent {
                continue;
            }
            found.silent = true;
            let end = usize::from(found.ends[1].replica == gone);
            self.stats.half_opens += 1;
            let after = self.latency();
            self.schedule(after, Happening::Closed { connection, end, reason: "connection aborted".to_owned() });
        }
    }

    /// Of the frames that two say to each other, the one after the next `after` is cut: its receiver gets none of it, and the
    /// connection ends there.
    pub fn cut_a_frame(&mut self, a: usize, b: usize, after: u64) {
        self.frames_to_cut.insert((a.min(b), a.max(b)), after);
    }

    /// Whether this frame is the one to be cut.
    pub(super) fn is_frame_cut(&mut self, from: usize, to: usize) -> bool {
        let pair = (from.min(to), from.max(to));
        match self.frames_to_cut.get_mut(&pair) {
            Some(0) => self.frames_to_cut.remove(&pair).is_some(),
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// A stream ends inside a frame that one end has just sent: both ends are told, the receiver after all that came before.
    pub(super) fn end_inside_frame(&mut self, connection: u64, from: usize, length: usize) {
        self.stats.frames_cut += 1;
        // Anywhere in the length or the body: no whole frame, so nothing for the engine.
        let at_byte = self.dice.network.below(length as u64 + 4);
        let latency = self.latency();
        let Some(found) = self.connections.get_mut(&connection) else { return };
        let at = found.flows[from].last.max(self.now + latency);
        found.flows[from].put_end(at, format!("the peer closed the session in a frame, after {at_byte} bytes of it"));
        self.schedule_at(at, Happening::Arrive { connection, from });
        let after = self.dice.network.between(20, MILLIS);
        self.schedule(after, Happening::Closed { connection, end: from, reason: "broken pipe".to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_cuts_what_its_name_says() {
        let order = [4, 2, 0, 1, 3];
        let sees = |shape: Shape, a: usize, b: usize| !shape.pairs(&order, 2).contains(&(a, b));
        assert!(sees(Shape::Split, 4, 2) && !sees(Shape::Split, 2, 0) && sees(Shape::Split, 0, 3));
        // Here 4 is the bridge between 2, 0 and 1, 3.
        assert!((0..4).all(|other| sees(Shape::Bridge, 4, other) && sees(Shape::Bridge, other, 4)));
        assert!(sees(Shape::Bridge, 2, 0) && sees(Shape::Bridge, 1, 3) && !sees(Shape::Bridge, 0, 1));
        assert!(sees(Shape::Ring, 4, 2) && sees(Shape::Ring, 3, 4) && !sees(Shape::Ring, 4, 0));
        assert_eq!(Shape::OneWay.pairs(&order, 1), [(4, 2)]);
        assert_eq!(Shape::Flap.pairs(&order, 1), [(4, 2), (2, 4)]);
    }
}
