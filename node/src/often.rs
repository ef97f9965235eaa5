//! How often the log says of one peer that it does one kind of thing. A peer can do most things as often as it likes: some lines a
//! minute tell what there is to know, and a count tells the rest.

use std::collections::BTreeMap;

use anabranch::DeviceId;

/// Lines a minute of one kind and peer.
const LINES_MAX: u64 = 5;
/// Kinds and peers that are told apart within a minute.
const PEERS_MAX: usize = 1_024;

/// What was said in this minute.
#[derive(Debug, Default)]
pub(crate) struct Often {
    happened: BTreeMap<(&'static str, DeviceId), u64>,
    /// Of those that are not told apart any more.
    others: u64,
}

/// What was not said in a minute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) what: &'static str,
    /// `None` if it is of many.
    pub(crate) peer: Option<DeviceId>,
    pub(crate) lines: u64,
}

impl Often {
    /// A peer did something once more. Says whether that is to be said.
    pub(crate) fn says(&mut self, what: &'static str, peer: DeviceId) -> bool {
        if self.happened.len() >= PEERS_MAX && !self.happened.contains_key(&(what, peer)) {
            self.others += 1;
            return false;
        }
        let times = self.happened.entry((what, peer)).or_default();
        *times += 1;
        *times <= LINES_MAX
    }

    /// A minute is over: what of it was not said.
    pub(crate) fn minute_over(&mut self) -> Vec<LeftOut> {
        let others = std::mem::take(&mut self.others);
        let of_many = (others > 0).then_some(LeftOut { what: "many peers", peer: None, lines: others });
        let happened = std::mem::take(&mut self.happened).into_iter();
        let left_out = happened.filter(|(_, times)| *times > LINES_MAX);
        let told = left_out.map(|((what, peer), times)| LeftOut { what, peer: Some(peer), lines: times - LINES_MAX });
        told.chain(of_many).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_some_lines_a_minute_and_then_a_count() {
        let (loud, quiet) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let mut often = Often::default();
        let said = (0..50_000).filter(|_| often.says("misbehaved", loud)).count() as u64;
        assert_eq!(said, LINES_MAX);
        assert!(often.says("misbehaved", quiet) && often.says("refused", loud));
        let left_out = LeftOut { what: "misbehaved", peer: Some(loud), lines: 50_000 - LINES_MAX };
        assert_eq!(often.minute_over(), [left_out]);
        assert!(often.says("misbehaved", loud), "another minute");
        assert_eq!(often.minute_over(), []);
    }

    #[test]
    fn many_peers_are_counted_together() {
        let mut often = Often::default();
        let device = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            DeviceId(id)
        };
        let said = (0..PEERS_MAX + 10).filter(|number| often.says("connected", device(*number))).count();
        assert_eq!(said, PEERS_MAX);
        assert_eq!(often.minute_over(), [LeftOut { what: "many peers", peer: None, lines: 10 }]);
    }
}
