//! Links between replicas: dialing, streams that are slow, held up, cut or reset, and frames that are lost one by one where
//! the options say so.

use anabranch_engine::id::DeviceId;
use anabranch_engine::limits::FRAME_BYTES_MAX;
use anabranch_engine::wire::{Lane, frame_lane};
use anabranch_engine::{Command, Input, SessionId};

use super::options::Tamper;
use super::world::{Happening, World};
use super::{Kind, MILLIS, SECONDS};

pub mod flow;
pub mod partition;

pub use flow::Flow;
use flow::Item;

/// A stream between two processes. End 0 opened it.
#[derive(Debug)]
pub struct Connection {
    /// The two ends.
    pub ends: [End; 2],
    /// What is on its way from each end to the other.
    pub flows: [Flow; 2],
    /// As dialed.
    pub address: String,
    /// It was reset: what is still sent on it never arrives.
    pub reset: bool,
    /// It leads nowhere, and nobody says so.
    pub silent: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    /// Whose.
    pub replica: usize,
    /// Which process of it.
    pub process: u64,
    /// How it stands.
    pub state: EndState,
}

/// How an end stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndState {
    /// The dialer does not know yet that the stream is open.
    Opening,
    /// The engine knows of it.
    Open,
    /// The engine has closed it or was told that it is gone.
    Closed,
}

/// The name of one end of a connection.
fn session(connection: u64, end: usize) -> SessionId {
    SessionId(connection * 2 + end as u64)
}

impl World {
    /// The address that a replica listens on, in the network where it is.
    pub fn address_of(&self, replica: usize) -> String {
        match self.replicas[replica].moves {
            0 => format!("sim/{replica}"),
            moves => format!("sim/{replica}/{moves}"),
        }
    }

    /// A machine comes into another network: it has another address, and its connections lead nowhere.
    pub fn move_elsewhere(&mut self, replica: usize) {
        if !self.is_honest(replica) || self.is_stopped(replica) {
            return;
        }
        let before = self.address_of(replica);
        self.replicas[replica].moves += 1;
        self.stats.moves += 1;
        let after = self.address_of(replica);
        self.trace.note(self.now, Some(replica), &format!("is at {after} now"));
        for connection in self.connections.values_mut() {
            connection.silent |= connection.ends.iter().any(|end| end.replica == replica);
        }
        self.forget_tickets_to(&before);
        if self.replicas[replica].listens && self.running(replica).is_some() {
            self.feed(replica, Input::ListeningEnded { address: before });
            self.feed(replica, Input::Listening { address: after });
        }
        self.pursue_goals();
    }

    /// People tell each other where those are who have moved.
    pub(super) fn tell_moves(&mut self) {
        let has_moved = |replica: &usize| self.replicas[*replica].moves > 0 && self.replicas[*replica].listens;
        let moved: Vec<usize> = self.alive().into_iter().filter(has_moved).collect();
        for replica in moved {
            let address = self.address_of(replica);
            for other in self.alive().into_iter().filter(|other| *other != replica) {
                self.command(other, Command::Dial { address: address.clone() });
            }
        }
    }

    pub(super) fn latency(&mut self) -> u64 {
        let network = &self.network;
        let mut latency =
            self.dice.network.heavy(network.latency_min, network.latency_max, network.tail_permille, network.tail_max);
        if self.options.tamper == Tamper::Undetermined {
            use std::sync::atomic::{AtomicU64, Ordering};
            static OUTSIDE: AtomicU64 = AtomicU64::new(0);
            latency += OUTSIDE.fetch_add(1, Ordering::Relaxed) % 7;
        }
        latency
    }

    pub(super) fn dial(&mut self, replica: usize, process: u64, address: String, peer: Option<DeviceId>) {
        let after = self.latency();
        self.schedule(after, Happening::Knock { replica, process, address, peer });
    }

    pub(super) fn knock(&mut self, replica: usize, process: u64, address: String, peer: Option<DeviceId>) {
        if self.process(replica, process).is_none() {
            return;
        }
        let target = (0..self.replicas.len()).find(|other| self.address_of(*other) == address);
        let failed = |reason: &str| Happening::DialFailed {
            replica,
            process,
            address: address.clone(),
            reason: reason.to_owned(),
        };
        let Some(target) = target else {
            let after = self.latency();
            return self.schedule(after, failed("no such address"));
        };
        // A stopped process's machine still takes connections, but nobody there proves who it is.
        if self.is_cut(replica, target) || self.is_cut(target, replica) || self.is_stopped(target) {
            let after = self.dice.network.between(2 * SECONDS, 10 * SECONDS);
            return self.schedule(after, failed("timed out"));
        }
        let back = self.latency();
        let other = &self.replicas[target];
        let Some(running) = self.running(target).filter(|_| other.listens && target != replica) else {
            return self.schedule(back, failed("connection refused"));
        };
        if peer.is_some_and(|peer| peer != other.device) {
            return self.schedule(back, failed("another peer answered"));
        }
        self.connections_made += 1;
        self.stats.sessions += 1;
        let connection = self.connections_made;
        let ends = [
            End { replica, process, state: EndState::Opening },
            End { replica: target, process: running, state: EndState::Open },
        ];
        let mut flows = [Flow::default(), Flow::default()];
        flows[0].last = self.now + back;
        flows[1].last = self.now + back;
        self.connections.insert(connection, Connection { ends, flows, address, reset: false, silent: false });
        self.schedule(back, Happening::Opened { connection });
        let peer = self.replicas[replica].device;
        // What the listener sees is an outgoing port of the dialer, not where it can be dialed.
        let address = format!("{}/from/{connection}", self.address_of(replica));
        self.feed(target, Input::SessionOpened { session: session(connection, 1), peer, opener: false, address });
    }

    pub(super) fn opened(&mut self, connection: u64) {
        let Some(found) = self.connections.get_mut(&connection) else { return };
        let End { replica, process, state } = found.ends[0];
        let peer = self.replicas[found.ends[1].replica].device;
        let address = found.address.clone();
        if state == EndState::Opening && self.replicas[replica].process.as_ref().is_some_and(|p| p.number == process) {
            found.ends[0].state = EndState::Open;
            self.feed(replica, Input::SessionOpened { session: session(connection, 0), peer, opener: true, address });
        }
    }

    pub(super) fn send(&mut self, replica: usize, id: SessionId, bytes: Vec<u8>) {
        if bytes.len() > FRAME_BYTES_MAX {
            let text = format!("#{replica} sends a frame of {} bytes, limit {FRAME_BYTES_MAX}", bytes.len());
            return self.fail(Kind::Safety, "limits", text);
        }
        let (connection, end) = (id.0 / 2, (id.0 % 2) as usize);
        let Some(found) = self.connections.get(&connection).filter(|found| found.ends[end].replica == replica) else {
            return;
        };
        if found.ends[end].state != EndState::Open {
            return;
        }
        let to = found.ends[1 - end].replica;
        self.count_traffic(replica, to, &bytes);
        if self.is_frame_cut(replica, to) {
            return self.end_inside_frame(connection, end, bytes.len());
        }
        let transfer = self.transfer_time(replica, to, bytes.len());
        let losses = self.network.frames;
        let latency = self.latency();
        let dice = &mut self.dice.network;
        let live_lost = self.network.lose_live && frame_lane(&bytes) == Some(Lane::Live);
        let dropped = dice.permille(losses.drop);
        let copies = if dice.permille(losses.duplicate) { 2 } else { 1 };
        let disordered = dice.permille(losses.reorder);
        let deaf = self.options.tamper == Tamper::Deaf(to) && self.now > self.options.chaos / 2;
        let flow = &mut self.connections.get_mut(&connection).expect("found above").flows[end];
        flow.sent += bytes.len() as u64;
        if live_lost || dropped || deaf {
            match live_lost {
                true => self.stats.live_lost += 1,
                false => self.stats.frames_dropped += 1,
            }
        } else {
            let in_order = flow.last.max(self.now + latency) + transfer;
            let arrival = if disordered { self.now + latency } else { in_order };
            if disordered {
                self.stats.frames_reordered += 1;
            } else {
                flow.last = in_order;
            }
            self.stats.frames_duplicated += copies - 1;
            for copy in 0..copies {
                let at = arrival + copy * latency;
                flow.put_frame(at, bytes.clone());
                self.queued += 1;
                self.queue.insert((at, self.queued), Happening::Arrive { connection, from: end });
            }
        }
        self.report_written(connection, end);
    }

    pub(super) fn arrive(&mut self, connection: u64, from: usize) {
        loop {
            let Some(found) = self.connections.get_mut(&connection) else { return };
            let (sender, receiver) = (found.ends[from].replica, found.ends[1 - from].replica);
            let End { process, state, .. } = found.ends[1 - from];
            let reset = found.reset;
            let held_up = self.cut.get(&(sender, receiver)).is_some_and(|cuts| *cuts > 0)
                || !self.replicas[receiver].ailments.reads();
            if held_up || found.silent {
                return; // it waits; mending looks again
            }
            let flow = &mut found.flows[from];
            let Some(first) = flow.queue.first_entry().filter(|entry| entry.key().0 <= self.now) else { return };
            let item = first.remove();
            if let Item::Frame(bytes) = &item {
                flow.in_flight -= bytes.len() as u64;
            }
            let alive = self.running(receiver) == Some(process);
            match item {
                Item::Frame(bytes) if alive && !reset && state == EndState::Open => {
                    self.stats.frames += 1;
                    self.stats.frame_bytes += bytes.len() as u64;
                    self.feed(receiver, Input::Frame { session: session(connection, 1 - from), bytes });
                }
                Item::Frame(_) => {
                    // Nobody is there any more (or it has closed its end), and the machine says so.
                    if !self.is_cut(receiver, sender) && !self.replicas[receiver].dark {
                        let after = self.latency();
                        let reason = "connection reset by peer".to_owned();
                        self.schedule(after, Happening::Closed { connection, end: from, reason });
                    }
                }
                Item::End(reason) => self.closed(connection, 1 - from, reason),
            }
            if self.failure.is_some() {
                return;
            }
            self.report_written(connection, from);
        }
    }

    pub(super) fn close(&mut self, replica: usize, id: SessionId, reason: String) {
        let (connection, end) = (id.0 / 2, (id.0 % 2) as usize);
        let latency = self.latency();
        let Some(found) = self.connections.get_mut(&connection).filter(|found| found.ends[end].replica == replica)
        else {
            return;
        };
        if found.ends[end].state != EndState::Open {
            return;
        }
        let at = found.flows[end].last.max(self.now + latency);
        found.flows[end].put_end(at, format!("closed by the peer: {reason}"));
        self.schedule_at(at, Happening::Arrive { connection, from: end });
        let after = self.dice.network.between(20, MILLIS);
        self.schedule(after, Happening::Closed { connection, end, reason });
    }

    /// An end learns that its connection is gone.
    pub(super) fn closed(&mut self, connection: u64, end: usize, reason: String) {
        let Some(found) = self.connections.get_mut(&connection) else { return };
        let End { replica, process, state } = found.ends[end];
        let address = found.address.clone();
        found.ends[end].state = EndState::Closed;
        if found.ends.iter().all(|end| end.state == EndState::Closed) {
            self.connections.remove(&connection);
        }
        if self.running(replica) != Some(process) {
            return;
        }
        self.forget_admission(replica);
        match state {
            EndState::Opening => self.feed(replica, Input::DialFailed { address, reason }),
            EndState::Open => self.feed(replica, Input::SessionClosed { session: session(connection, end), reason }),
            EndState::Closed => {}
        }
    }

    /// A process is gone: its ends know nothing any more. If it was killed, its machine closes the connections; if the
    /// machine went down, nobody says anything.
    pub(super) fn abandon_connections(&mut self, replica: usize, machine_down: bool) {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for connection in ids {
            for end in 0..2 {
                let Some(found) = self.connections.get_mut(&connection) else { break };
                if found.ends[end].replica != replica || found.ends[end].state == EndState::Closed {
                    continue;
                }
                found.ends[end].state = EndState::Closed;
                if machine_down {
                    found.flows[end].queue.retain(|(at, _), _| *at <= self.now);
                } else {
                    let at = found.flows[end].last.max(self.now + MILLIS);
                    found.flows[end].put_end(at, "connection reset by peer".to_owned());
                    self.schedule_at(at, Happening::Arrive { connection, from: end });
                }
                if self.connections[&connection].ends.iter().all(|end| end.state == EndState::Closed) {
                    self.connections.remove(&connection);
                }
            }
        }
    }

    /// The open ends of a replica's connections, each with who is at the other.
    pub fn streams_of(&self, replica: usize) -> Vec<(SessionId, usize)> {
        let ends = self.connections.iter().flat_map(|(id, c)| [(*id, c, 0), (*id, c, 1)]);
        ends.filter(|(_, c, end)| c.ends[*end].replica == replica && c.ends.iter().all(|e| e.state == EndState::Open))
            .map(|(id, c, end)| (session(id, end), c.ends[1 - end].replica))
            .collect()
    }

    /// Whether two replicas have a stream that both know of.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.connections.values().any(|c| {
            let ends = (c.ends[0].replica, c.ends[1].replica);
            (ends == (a, b) || ends == (b, a)) && c.ends.iter().all(|end| end.state == EndState::Open)
        })
    }
}
