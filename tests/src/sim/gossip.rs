//! Gossip as the engine sees it: hints flood among connected, admitted, subscribed replicas, each judged before it is handed
//! on, each seen once for a while, none of them certain to arrive.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::id::DeviceId;
use anabranch_engine::limits::HINT_BYTES_MAX;
use anabranch_engine::{HintId, Input, Verdict};

use super::world::{Happening, World};
use super::{Kind, SECONDS};

/// How long a hint is remembered, so as not to be handed on twice. As gossipsub does by default in our settings.
const SEEN: u64 = 5 * SECONDS;

/// One process's part in gossip.
#[derive(Debug, Default)]
pub struct Gossip {
    admitted: BTreeSet<DeviceId>,
    topics: BTreeSet<String>,
    seen: BTreeMap<[u8; 32], u64>,
    judging: BTreeMap<HintId, Hint>,
    hints: u64,
    /// Hints sent by the engine itself.
    pub published: u64,
}

#[derive(Debug)]
struct Hint {
    from: usize,
    topic: String,
    bytes: Vec<u8>,
}

impl Gossip {
    /// The topics that the process takes part in.
    pub fn topics(&self) -> impl Iterator<Item = &String> {
        self.topics.iter()
    }
}

impl World {
    fn gossip(&mut self, replica: usize) -> Option<&mut Gossip> {
        self.replicas[replica].process.as_mut().map(|process| &mut process.gossip)
    }

    pub(super) fn admit(&mut self, replica: usize, peer: DeviceId) {
        if let Some(gossip) = self.gossip(replica) {
            gossip.admitted.insert(peer);
        }
    }

    /// Admission ends with the last connection.
    pub(super) fn forget_admission(&mut self, replica: usize) {
        let others = (0..self.replicas.len()).filter(|other| self.connected(replica, *other));
        let connected: BTreeSet<DeviceId> = others.map(|other| self.replicas[other].device).collect();
        if let Some(gossip) = self.gossip(replica) {
            gossip.admitted.retain(|peer| connected.contains(peer));
        }
    }

    pub(super) fn subscribe(&mut self, replica: usize, topic: String, wanted: bool) {
        let Some(gossip) = self.gossip(replica) else { return };
        if wanted {
            gossip.topics.insert(topic);
        } else {
            gossip.topics.remove(&topic);
        }
    }

    pub(super) fn publish(&mut self, replica: usize, topic: String, bytes: Vec<u8>) {
        if bytes.len() > HINT_BYTES_MAX {
            let text = format!("#{replica} publishes a hint of {} bytes, limit {HINT_BYTES_MAX}", bytes.len());
            return self.fail(Kind::Safety, "limits", text);
        }
        if let Some(gossip) = self.gossip(replica) {
            gossip.published += 1;
        }
        self.is_new(replica, &topic, &bytes);
        self.hand_on(replica, None, &topic, &bytes);
    }

    pub(super) fn hint_arrives(&mut self, replica: usize, process: u64, from: usize, topic: String, bytes: Vec<u8>) {
        if self.running(replica) != Some(process) || !self.is_new(replica, &topic, &bytes) {
            return;
        }
        let sender = self.replicas[from].device;
        let Some(gossip) = self.gossip(replica).filter(|gossip| gossip.topics.contains(&topic)) else { return };
        gossip.hints += 1;
        let hint = HintId(gossip.hints);
        gossip.judging.insert(hint, Hint { from, topic: topic.clone(), bytes: bytes.clone() });
        self.feed(replica, Input::Hint { hint, from: sender, topic, bytes });
    }

    pub(super) fn judge(&mut self, replica: usize, hint: HintId, verdict: Verdict) {
        let Some(judged) = self.gossip(replica).and_then(|gossip| gossip.judging.remove(&hint)) else {
            return self.fail(Kind::Safety, "gossip", format!("#{replica} judges {hint:?}, which nobody asked about"));
        };
        match verdict {
            Verdict::Accept => self.hand_on(replica, Some(judged.from), &judged.topic, &judged.bytes),
            Verdict::Ignore => {}
            Verdict::Reject if !self.is_honest(judged.from) => {}
            Verdict::Reject => {
                let text = format!("#{replica} rejects a hint that #{} handed on", judged.from);
                self.fail(Kind::Safety, "honest peers", text);
            }
        }
    }

    /// Whether a hint was not seen lately.
    fn is_new(&mut self, replica: usize, topic: &str, bytes: &[u8]) -> bool {
        let now = self.now;
        let Some(gossip) = self.gossip(replica) else { return false };
        let id = *blake3::Hasher::new().update(topic.as_bytes()).update(bytes).finalize().as_bytes();
        gossip.seen.retain(|_, at| now - *at < SEEN);
        let is_new = gossip.seen.insert(id, now).is_none();
        self.stats.hints_known += u64::from(!is_new);
        is_new
    }

    pub(super) fn hand_on(&mut self, replica: usize, not_to: Option<usize>, topic: &str, bytes: &[u8]) {
        let device = self.replicas[replica].device;
        let takes = |gossip: &Gossip, from: &DeviceId| gossip.admitted.contains(from) && gossip.topics.contains(topic);
        for other in 0..self.replicas.len() {
            let peer = self.replicas[other].device;
            let (Some(here), Some(there)) = (&self.replicas[replica].process, &self.replicas[other].process) else {
                continue;
            };
            let process = there.number;
            let wanted = takes(&here.gossip, &peer) && takes(&there.gossip, &device);
            if other == replica || Some(other) == not_to || !wanted || !self.connected(replica, other) {
                continue;
            }
            let losses = self.network.hints;
            let dice = &mut self.dice.network;
            let lost = dice.permille(losses.drop);
            let copies = if dice.permille(losses.duplicate) { 2 } else { 1 };
            let late = dice.permille(losses.reorder);
            let latency = dice.heavy(self.network.latency_min, self.network.latency_max, 0, 0);
            if lost || self.network.lose_hints || self.is_cut(replica, other) {
                self.stats.hints_lost += 1;
                continue;
            }
            self.stats.hints_disordered += copies - 1 + u64::from(late);
            for copy in 0..copies {
                // A copy or a late one comes when it may have been forgotten already.
                let after = latency + (copy + u64::from(late)) * self.dice.network.below(2 * SEEN);
                let (topic, bytes) = (topic.to_owned(), bytes.to_vec());
                self.schedule(after, Happening::Hint { replica: other, process, from: replica, topic, bytes });
            }
        }
    }

    /// Hints whose verdict is still awaited.
    pub fn unjudged(&mut self, replica: usize) -> usize {
        self.gossip(replica).map_or(0, |gossip| gossip.judging.len())
    }
}
