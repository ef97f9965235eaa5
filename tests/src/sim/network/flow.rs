//! One direction of a connection: what is on its way, how fast it goes, what the operating system has taken of it.

use std::collections::BTreeMap;

use anabranch_engine::Input;

use super::{End, EndState, session};
use crate::sim::ailments::SLOW_RATE;
use crate::sim::world::{Happening, World};
use crate::sim::{MILLIS, SECONDS};

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Flow {
    /// By time of arrival and order of sending.
    pub(super) queue: BTreeMap<(u64, u64), Item>,
    /// When the last one in order arrives.
    pub(super) last: u64,
    /// Bytes sent by the engine, bytes of these not yet arrived, bytes reported as written.
    pub(super) sent: u64,
    pub(super) in_flight: u64,
    reported: u64,
    /// Messages put in so far.
    count: u64,
    /// A report is scheduled.
    reporting: bool,
}

#[derive(Debug)]
pub(super) enum Item {
    Frame(Vec<u8>),
    /// The sender has closed its end, or is gone.
    End(String),
}

impl Flow {
    /// Bytes that the operating system has taken.
    fn writable(&self, buffer: u64) -> u64 {
        self.sent - self.in_flight.saturating_sub(buffer).min(self.sent)
    }

    pub(super) fn put_frame(&mut self, at: u64, bytes: Vec<u8>) {
        self.count += 1;
        self.in_flight += bytes.len() as u64;
        self.queue.insert((at, self.count), Item::Frame(bytes));
    }

    pub(super) fn put_end(&mut self, at: u64, reason: String) {
        self.last = at;
        self.count += 1;
        self.queue.insert((at, self.count), Item::End(reason));
    }

    /// Nothing of what is on its way arrives.
    pub(super) fn lose_all(&mut self) {
        self.queue.clear();
        self.in_flight = 0;
    }

    /// What a slow link held up is there now.
    fn hurry(&mut self, now: u64) {
        let held = std::mem::take(&mut self.queue);
        self.queue = held.into_iter().map(|((at, count), item)| ((at.min(now), count), item)).collect();
        self.last = self.last.min(now);
    }
}

impl World {
    /// How long these bytes keep the line between two busy.
    pub(super) fn transfer_time(&self, from: usize, to: usize, bytes: usize) -> u64 {
        let slow = [from, to].into_iter().any(|replica| self.replicas[replica].ailments.slow_links());
        let rate = match self.network.bandwidth {
            rate if slow && (rate == 0 || rate > SLOW_RATE) => SLOW_RATE,
            0 => return 0,
            rate => rate,
        };
        bytes as u64 * SECONDS / rate
    }

    /// The links of a replica are as fast as the others again.
    pub(in crate::sim) fn hurry(&mut self, replica: usize) {
        let now = self.now;
        let touched: Vec<u64> = self
            .connections
            .iter_mut()
            .filter(|(_, connection)| connection.ends.iter().any(|end| end.replica == replica))
            .map(|(id, connection)| {
                connection.flows.iter_mut().for_each(|flow| flow.hurry(now));
                *id
            })
            .collect();
        for connection in touched {
            for from in 0..2 {
                self.schedule(0, Happening::Arrive { connection, from });
            }
        }
    }

    /// The operating system takes what fits into its buffer.
    pub(super) fn report_written(&mut self, connection: u64, from: usize) {
        let after = self.dice.network.between(20, MILLIS);
        let buffer = self.network.socket_buffer as u64;
        let Some(found) = self.connections.get_mut(&connection) else { return };
        let flow = &mut found.flows[from];
        if !flow.reporting && flow.writable(buffer) > flow.reported {
            flow.reporting = true;
            self.schedule(after, Happening::Written { connection, from });
        }
    }

    pub(in crate::sim) fn written(&mut self, connection: u64, from: usize) {
        let buffer = self.network.socket_buffer as u64;
        let Some(found) = self.connections.get_mut(&connection) else { return };
        let flow = &mut found.flows[from];
        flow.reporting = false;
        let bytes = flow.writable(buffer).saturating_sub(flow.reported) as usize;
        flow.reported += bytes as u64;
        let End { replica, state, .. } = found.ends[from];
        if bytes > 0 && state == EndState::Open {
            self.feed(replica, Input::Written { session: session(connection, from), bytes });
        }
    }
}
