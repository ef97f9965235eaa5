//! The node at a glance, in the words of the API.

use anabranch::{DocumentId, Fork, PeerStatus, SpaceStatus};

use crate::service::Service;
use crate::service::names::texts;
use crate::{Copied, CounterValues, ForkLine, Identity, PeerLine, SpaceLine, SpacePeer, Status};

impl Service {
    pub(super) fn identity(&self) -> Identity {
        let (storage, epoch) = self.peer().storage();
        Identity {
            device: self.peer().device().to_string(),
            name: self.peer().device_name(&self.peer().device()),
            peer_id: self.peer().peer_id(),
            storage: storage.to_string(),
            epoch,
        }
    }

    pub(super) fn status(&self) -> Status {
        Status {
            identity: self.identity(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.shared.host.place(),
            listening: self.peer().listening(),
            stopped: self.peer().stopped(),
            copied: self.peer().copied().map(copied_line),
            feed_seq: self.peer().feed_end().seq,
            spaces: self.space_lines(),
            peers: self.peer_lines(),
            counters: self.counters(),
        }
    }

    pub(super) fn space_lines(&self) -> Vec<SpaceLine> {
        self.peer().spaces().into_iter().map(space_line).collect()
    }

    pub(super) fn peer_lines(&self) -> Vec<PeerLine> {
        let spaces = self.peer().spaces();
        let known = self.peer().peers().into_iter().map(|peer| peer_line(peer, &spaces));
        let unanswered = self.peer().unanswered().into_iter().map(|(address, last_failure)| PeerLine {
            addresses: vec![address],
            last_failure,
            ..PeerLine::default()
        });
        known.chain(unanswered).collect()
    }

    fn counters(&self) -> CounterValues {
        let counters = self.peer().counters();
        CounterValues {
            frames_out: counters.frames_out,
            bytes_out: counters.bytes_out,
            frames_in: counters.frames_in,
            bytes_in: counters.bytes_in,
            data_messages_out: counters.data_messages_out,
            runs_accepted: counters.runs_accepted,
            runs_refused: counters.runs_refused,
            runs_known: counters.runs_known,
            runs_waited: counters.runs_waited,
            orphans_evicted: counters.orphans_evicted,
            reconciliations: counters.reconciliations,
            stalls: counters.stalls,
            hints_out: counters.hints_out,
            commits: counters.commits,
        }
    }
}

pub(super) fn space_line(status: SpaceStatus) -> SpaceLine {
    SpaceLine {
        space: status.space.to_string(),
        name: status.name,
        role: status.role.map(|role| role.to_string()),
        former: status.former.map(|former| former.to_string()),
        needs_ticket: status.needs_ticket,
        documents: status.documents,
        root: hex(&status.root),
        read_only: status.read_only,
        forked: status.forked.iter().map(|(document, fork)| fork_line(document, fork)).collect(),
        peers: status
            .peers
            .into_iter()
            .map(|(device, in_sync)| SpacePeer { device: device.to_string(), in_sync })
            .collect(),
    }
}

fn fork_line(document: &DocumentId, fork: &Fork) -> ForkLine {
    let Fork { actor, seq, is_seen } = *fork;
    ForkLine { document: document.to_string(), actor: actor.to_string(), seq, is_seen }
}

fn peer_line(status: PeerStatus, spaces: &[SpaceStatus]) -> PeerLine {
    let shared = spaces.iter().filter(|space| status.spaces.contains(&space.space));
    let mut comparisons = shared.filter_map(|space| space.peers.iter().find(|(device, _)| *device == status.peer));
    PeerLine {
        device: Some(status.peer.to_string()),
        name: status.name,
        connected: status.connected,
        blocked: status.blocked,
        copied: status.copied.map(copied_line),
        addresses: status.addresses,
        in_sync: status.connected && !status.spaces.is_empty() && comparisons.all(|(_, in_sync)| *in_sync),
        spaces: texts(&status.spaces),
        last_failure: status.last_failure,
    }
}

fn copied_line(copied: anabranch::Copied) -> Copied {
    let anabranch::Copied { now, last_s } = copied;
    Copied { now, last_s }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
