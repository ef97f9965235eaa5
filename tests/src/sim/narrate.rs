//! What happened in a seed, told so that a person can follow: who, when in virtual time, and what, in words. Replicas have
//! names here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_engine::Event;
use anabranch_engine::id::{ChangeHash, DeviceId};
use anabranch_engine::space::Fork;

use super::ailments::Ailment;
use super::clock::ClockFault;
use super::damage::Damage;
use super::plan::{Act, Crash};
use super::world::World;

/// Names of replicas, by index.
const NAMES: [&str; 16] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kate", "liam", "mia", "noah",
    "olga", "peter",
];
/// Lines kept of one story; what comes after is left out.
const LINES_MAX: usize = 5_000;

/// The lines of a story, shared with whoever started the world: it has them when the world panics, too.
#[derive(Debug, Clone, Default)]
pub struct Narrative(Rc<RefCell<Vec<String>>>);

impl Narrative {
    /// Adds a line.
    pub fn tell(&self, at: u64, text: &str) {
        let mut lines = self.0.borrow_mut();
        if lines.len() < LINES_MAX {
            lines.push(format!("{} {text}", time(at)));
        } else if lines.len() == LINES_MAX {
            lines.push(format!("(and so on: only the first {LINES_MAX} lines are told)"));
        }
    }

    /// What was told.
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// The name of a replica.
pub fn name(replica: usize) -> String {
    NAMES.get(replica).map_or_else(|| format!("replica {replica}"), |name| (*name).to_owned())
}

/// Virtual time as minutes, seconds, thousandths.
pub fn time(at: u64) -> String {
    let millis = at / 1000;
    format!("{}:{:02}.{:03}", millis / 60_000, millis / 1000 % 60, millis % 1000)
}

/// A text of a checker with names for `#0`, `#1` and so on.
pub fn with_names(text: &str) -> String {
    let mut parts = text.split('#');
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        match part[..digits].parse() {
            Ok(replica) => told.push_str(&name(replica)),
            Err(_) => told.push_str(&format!("#{}", &part[..digits])),
        }
        told.push_str(&part[digits..]);
    }
    told
}

/// How long something lasts.
fn length(micros: u64) -> String {
    format!("{:.3} s", micros as f64 / 1e6)
}

fn all(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().collect();
    match names.as_slice() {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

/// A planned act in words. `None` for what is told when it happens, because it may come to nothing.
pub fn act(act: &Act) -> Option<String> {
    Some(match act {
        Act::Edit(_) | Act::NewDocument(_) | Act::Join(_) => return None,
        Act::Crash { how: Crash::Kill | Crash::PowerCut, .. } => return None,
        Act::Crash { replica, how: Crash::MidRequest, .. } => {
            format!("{}'s power will be cut in the middle of its next commit", name(*replica))
        }
        Act::Crash { replica, how: Crash::WhileApplying, .. } => {
            format!("{} will be killed while it merges something", name(*replica))
        }
        Act::EditInTab(replica) => format!("a tab of {}'s edits at what it has seen", name(*replica)),
        Act::Draft(replica) => format!("{} makes a draft, to publish it later", name(*replica)),
        Act::Close(replica) => format!("{} closes a document", name(*replica)),
        Act::ReadPast(replica) => format!("{} reads a document as it was", name(*replica)),
        Act::ReadFeed(replica) => format!("{} reads its feed", name(*replica)),
        Act::MeasureUsage(replica) => format!("{} asks what each member has cost it", name(*replica)),
        Act::Block { replica, other } => format!("{} blocks {}", name(*replica), name(*other)),
        Act::Unblock { replica, other } => format!("{} blocks {} no more", name(*replica), name(*other)),
        Act::WaitSynced(replica) => format!("{} waits until it is in sync", name(*replica)),
        Act::Cut { pairs, length: micros, .. } => cut(pairs, *micros),
        Act::Reset(a, b) => format!("the connections between {} and {} are reset", name(*a), name(*b)),
        Act::HalfOpen { gone, other } => {
            format!(
                "the connections between {} and {} are gone, and only {} knows",
                name(*gone),
                name(*other),
                name(*gone)
            )
        }
        Act::CutFrame { a, b, after } => {
            format!(
                "the connection between {} and {} will end inside a frame, after {after} whole ones",
                name(*a),
                name(*b)
            )
        }
        Act::Ail { replica, ailment, length: micros } => {
            let (who, long) = (name(*replica), length(*micros));
            match ailment {
                Ailment::SlowLinks => format!("{who}'s links are slow, for {long}"),
                Ailment::DoesNotRead => format!("{who} reads nothing from its connections, for {long}"),
                Ailment::SlowDisk => format!("{who}'s disk is slow, for {long}"),
                Ailment::Stopped => format!("{who}'s process is stopped, for {long}"),
            }
        }
        Act::Clock { replica, fault } => {
            let who = name(*replica);
            match fault {
                ClockFault::WallJump(seconds) => format!("{who}'s wall clock is set by {seconds} s"),
                ClockFault::WallReset => format!("{who}'s wall clock says 1970"),
                ClockFault::WallRate(rate) => {
                    format!("{who}'s wall clock runs at {rate} thousandths of the right rate")
                }
                ClockFault::MonoRate(rate) => format!("{who}'s own clock runs at {rate} thousandths of the right rate"),
                ClockFault::MonoLeap(micros) => format!("{who}'s own clock leaps by {}", length(*micros)),
            }
        }
        Act::Strike { replica, attack } => format!("{}, who is hostile, strikes: {attack:?}", name(*replica)),
        Act::Leave(replica) => format!("{} leaves one of its spaces, to come back", name(*replica)),
        Act::InviteAgain(replica) => format!("{} is invited once more to one of its spaces", name(*replica)),
        Act::Move(replica) => format!("{}'s machine comes into another network", name(*replica)),
        Act::Backup(replica) => format!("a backup of {}'s disk is made", name(*replica)),
        Act::Restore { replica, .. } => format!("{} goes on from its last backup, if there is one", name(*replica)),
        Act::Clone { replica, ends, renews } => {
            let how_long = match (ends, renews) {
                (None, _) => "for good",
                (Some(_), false) => "until one of the two is gone",
                (Some(_), true) => "until the copy has a key of its own",
            };
            format!("{}'s machine is copied, and both run {how_long}", name(*replica))
        }
        Act::Damage { replica, how } => {
            let whose = format!("{}'s", name(*replica));
            match how {
                Damage::Rot => format!("bits of {whose} disk change"),
                Damage::Shortened => format!("{whose} store loses its end"),
                Damage::StrayWrite => format!("one of {whose} next writes lands elsewhere or nowhere"),
                Damage::LyingSyncs => format!("{whose} disk says that it syncs and does not, until the power goes"),
                Damage::LostName => format!("the power goes, and {whose} store has not got its name"),
            }
        }
        Act::BreakDisk(replica) => format!("{}'s disk will fail, until it starts again", name(*replica)),
        Act::SecondProcess(replica) => format!("a second process is started on {}'s store", name(*replica)),
        Act::FillDisk(replica) => format!("{}'s disk is full from now on, until it starts again", name(*replica)),
    })
}

/// Who is cut off from whom: senders that reach the same ones no more are told together.
fn cut(pairs: &[(usize, usize)], micros: u64) -> String {
    let mut targets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (from, to) in pairs {
        targets.entry(*from).or_default().push(*to);
    }
    let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (from, mut to) in targets {
        to.sort_unstable();
        to.dedup();
        groups.entry(to).or_default().push(from);
    }
    let list = |group: &[usize]| all(group.iter().map(|replica| name(*replica)));
    let mut told = Vec::new();
    for (to, from) in &groups {
        if groups.get(from) != Some(to) {
            told.push(format!("nothing gets from {} to {}", list(from), list(to)));
        } else if from <= to {
            let are = if from.len() == 1 { "is" } else { "are" };
            told.push(format!("{} {are} cut off from {}", list(from), list(to)));
        }
    }
    format!("{}, for {}", told.join("; "), length(micros))
}

/// A death in words.
pub fn death(replica: usize, how: Crash, down: u64) -> String {
    let (who, back) = (name(replica), length(down));
    match how {
        Crash::Kill => format!("{who} is killed, and starts again after {back}"),
        Crash::PowerCut => format!("{who}'s power is cut, for {back}"),
        Crash::MidRequest => format!("{who}'s power is cut in the middle of a commit, for {back}"),
        Crash::WhileApplying => format!("{who} is killed while it merges, and starts again after {back}"),
    }
}

impl World {
    /// Adds to the story, if one is told.
    pub(super) fn tell(&self, words: impl FnOnce() -> String) {
        self.trace.tell(self.now, words);
    }

    /// An engine told its application something.
    pub(super) fn tell_event(&self, replica: usize, event: &Event) {
        let who = name(replica);
        let peer = |device: &DeviceId| self.name_of(device);
        match event {
            Event::Committed(commit) => {
                for (place, change) in self.ledger.to_be_saved(replica, *commit) {
                    self.tell(|| format!("{who} is told that change {change:.8} of document {:.8} is saved", place.1));
                }
            }
            Event::DocumentChanged { document, remote: true, .. } => {
                self.tell(|| format!("{who} has news from others in document {document:.8}"));
            }
            Event::PeerConnected { peer: other } => self.tell(|| format!("{who} has a session with {}", peer(other))),
            Event::PeerDisconnected { peer: other, reason } => {
                self.tell(|| format!("{who} has lost its session with {}: {reason}", peer(other)));
            }
            Event::JoinRefused { peer: other, reason, .. } => {
                self.tell(|| format!("{who} may not join, says {}: {reason}", peer(other)));
            }
            Event::RunRefused { document, peer: other, by_us, reason, .. } => {
                let (by, of) = if *by_us { (who, peer(other)) } else { (peer(other), who) };
                self.tell(|| format!("{by} refuses changes of document {document:.8} from {of}: {reason}"));
            }
            Event::DocumentForked { document, peer: other, fork, .. } => {
                self.tell(|| {
                    let Fork { actor, seq, .. } = fork;
                    format!("{who} finds that {} has another change {seq} of {actor:.8} in {document:.8}", peer(other))
                });
            }
            Event::DocumentDamaged { document, reason, .. } => {
                self.tell(|| format!("{who} cannot read document {document:.8}: {reason}"));
            }
            Event::DocumentMended { document, runs, waiting, .. } => {
                self.tell(|| {
                    format!("{who} rebuilds document {document:.8} from {runs} runs; {waiting} wait for others")
                });
            }
            Event::PeerMisbehaved { peer: other, reason } => {
                self.tell(|| format!("{who} blames {}: {reason}", peer(other)));
            }
            Event::IdentityCloned { device } => {
                self.tell(|| format!("{who} finds that two processes act as {}", peer(device)));
            }
            Event::StrangerRefused { peer: other } => {
                self.tell(|| format!("{who} shares nothing with {} and sends it away", peer(other)));
            }
            Event::Stopped { reason } => self.tell(|| format!("{who} takes no more edits: {reason}")),
            Event::Resumed => self.tell(|| format!("{who} has room on its disk again and takes edits")),
            Event::DocumentChanged { remote: false, .. }
            | Event::FeedGrew { .. }
            | Event::Listening { .. }
            | Event::ListeningEnded { .. }
            | Event::MembersChanged { .. }
            | Event::SpaceJoined { .. }
            | Event::InSync { .. } => {}
        }
    }

    /// An edit was made: which of the document's parts it touched.
    pub(super) fn tell_edit(
        &self,
        replica: usize,
        document: &anabranch_engine::id::DocumentId,
        change: &ChangeHash,
        before: &serde_json::Value,
        after: &serde_json::Value,
    ) {
        let empty = serde_json::Map::new();
        let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
        let parts = before.keys().filter(|key| !after.contains_key(*key)).chain(after.keys());
        let changed = parts.filter(|key| before.get(*key) != after.get(*key)).cloned();
        let who = name(replica);
        let what = all(changed);
        self.tell(|| format!("{who} writes {what} in document {document:.8}: change {change:.8}"));
    }

    fn name_of(&self, device: &DeviceId) -> String {
        let replica = self.replicas.iter().position(|replica| replica.device == *device);
        replica.map_or_else(|| format!("device {device:.8}"), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_told_by_who_cannot_reach_whom() {
        let both = |pairs: &[(usize, usize)]| pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect::<Vec<_>>();
        assert_eq!(cut(&both(&[(1, 0)]), 3_200_000), "alice is cut off from bob, for 3.200 s");
        assert_eq!(cut(&[(2, 0)], 1000), "nothing gets from carol to alice, for 0.001 s");
        let split = cut(&both(&[(0, 2), (1, 2), (0, 3), (1, 3)]), 1_000_000);
        assert_eq!(split, "alice and bob are cut off from carol and dave, for 1.000 s");
    }

    #[test]
    fn checkers_texts_get_names() {
        assert_eq!(with_names("#0 and #1 differ, #x and #"), "alice and bob differ, #x and #");
        assert_eq!(with_names("#40: nothing"), "replica 40: nothing");
        assert_eq!(time(72_350_999), "1:12.350");
    }
}
