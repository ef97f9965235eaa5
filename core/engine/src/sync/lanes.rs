//! The queues of one session: what waits to be sent, by urgency and credit, and what is being put together from frames.
//! What the messages mean is the session's business.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::borrow::Borrow;

use crate::limits::{
    BULK_CREDIT_BYTES, BULK_MESSAGE_BYTES_MAX, CREDIT_REPORT_BYTES, LIVE_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX,
    OUTGOING_BYTES_MAX, PRE_AUTH_BYTES_MAX,
};
use crate::wire::frame::{Assembly, FrameError, frame_lane, to_frames};
use crate::wire::{Lane, Message};

/// Both directions of one session.
#[derive(Debug, Default)]
pub struct Lanes {
    queues: [VecDeque<Vec<u8>>; Lane::ALL.len()],
    /// What waits on the lanes that need no credit.
    queued_bytes: usize,
    /// All that was ever queued on the control lane.
    control_bytes: u64,
    /// Handed to the network and not reported as written.
    unwritten_bytes: usize,
    /// Bulk bytes sent since the session began, and how many of them the peer has reported as taken in.
    bulk_sent: u64,
    bulk_taken_by_peer: u64,

    assemblies: [Assembly; Lane::ALL.len()],
    pre_auth_bytes: usize,
    authenticated: bool,
    /// Bulk bytes received, how many of them we have taken in, how many of these we have reported.
    bulk_received: u64,
    bulk_reported: u64,
}

impl Lanes {
    /// The peer is authenticated: its messages may be large from now on.
    pub fn authenticate(&mut self) {
        self.authenticated = true;
    }

    /// Queues a message. Live ones are dropped (and `false` returned) when the peer is far behind.
    pub fn push(&mut self, lane: Lane, message: impl Borrow<Message>) -> bool {
        if lane == Lane::Live && self.queued_bytes + self.unwritten_bytes > OUTGOING_BYTES_MAX / 2 {
            return false;
        }
        let bytes = message.borrow().to_bytes();
        // Whoever gives a large one away has it once in memory, not twice.
        drop(message);
        debug_assert!(bytes.len() <= message_bytes_max(lane), "we make no message that a peer would refuse");
        for frame in to_frames(lane, bytes) {
            if lane != Lane::Bulk {
                self.queued_bytes += frame.len();
            }
            if lane == Lane::Control {
                self.control_bytes += frame.len() as u64;
            }
            self.queues[lane as usize].push_back(frame);
        }
        true
    }

    /// Bytes of all that was ever queued on the control lane.
    pub fn control_bytes(&self) -> u64 {
        self.control_bytes
    }

    /// More is queued, or on its way, than the peer takes in: nothing more should be made for it now.
    pub fn is_congested(&self) -> bool {
        !self.queues[Lane::Bulk as usize].is_empty() || self.unwritten_bytes > OUTGOING_BYTES_MAX / 2
    }

    /// As much waits on the lanes without credit as a peer takes in soon: what can wait elsewhere should.
    pub fn is_slow(&self) -> bool {
        self.queued_bytes + self.unwritten_bytes > OUTGOING_BYTES_MAX / 2
    }

    /// The queues hold more than any honest exchange needs: the peer does not read.
    pub fn is_overfull(&self) -> bool {
        self.queued_bytes + self.unwritten_bytes > 4 * OUTGOING_BYTES_MAX
    }

    /// Bytes queued, and on their way.
    pub(crate) fn outgoing_bytes(&self) -> usize {
        let bulk: usize = self.queues[Lane::Bulk as usize].iter().map(Vec::len).sum();
        bulk + self.queued_bytes + self.unwritten_bytes
    }

    /// Bytes of messages that are being put together.
    pub(crate) fn incoming_bytes(&self) -> usize {
        self.assemblies.iter().map(Assembly::bytes).sum()
    }

    /// Bytes of messages that are being put together on lanes that need no credit.
    pub(crate) fn unpaid_bytes(&self) -> usize {
        self.incoming_bytes() - self.assemblies[Lane::Bulk as usize].bytes()
    }

    /// The bulk message that is being put together, if it takes more credit than every session has: its bytes, and how many
    /// of them are here.
    pub(crate) fn large_message(&self) -> Option<(usize, usize)> {
        let bulk = &self.assemblies[Lane::Bulk as usize];
        bulk.announced().filter(|bytes| *bytes > BULK_CREDIT_BYTES as usize).map(|bytes| (bytes, bulk.bytes()))
    }

    /// Something is held back until the peer has taken in what it was sent.
    pub(crate) fn waits_for_credit(&self) -> bool {
        !self.queues[Lane::Bulk as usize].is_empty() && !self.has_credit()
    }

    /// The next frame to hand to the network.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        if self.unwritten_bytes > OUTGOING_BYTES_MAX {
            return None;
        }
        let lane = Lane::ALL
            .into_iter()
            .find(|lane| !self.queues[*lane as usize].is_empty() && (*lane != Lane::Bulk || self.has_credit()))?;
        let frame = self.queues[lane as usize].pop_front()?;
        self.unwritten_bytes += frame.len();
        if lane == Lane::Bulk {
            self.bulk_sent += frame.len() as u64;
        } else {
            self.queued_bytes -= frame.len();
        }
        Some(frame)
    }

    fn has_credit(&self) -> bool {
        self.bulk_sent.saturating_sub(self.bulk_taken_by_peer) < BULK_CREDIT_BYTES
    }

    /// The network has written so many bytes.
    pub fn written(&mut self, bytes: usize) {
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(bytes);
    }

    /// The peer has taken in so many bulk bytes in all.
    pub fn credited(&mut self, taken: u64) {
        // Never more than was sent: a peer that claims otherwise only hurts itself by less.
        self.bulk_taken_by_peer = self.bulk_taken_by_peer.max(taken.min(self.bulk_sent));
    }

    /// Takes in a frame; returns the message that it completes, with its lane.
    pub fn receive(&mut self, frame: &[u8]) -> Result<Option<(Lane, Vec<u8>)>, FrameError> {
        let lane = frame_lane(frame).ok_or_else(|| FrameError(alloc::format!("lane {:?}", frame.first())))?;
        let bytes_max = if self.authenticated {
            message_bytes_max(lane)
        } else {
            self.pre_auth_bytes += frame.len();
            if self.pre_auth_bytes > PRE_AUTH_BYTES_MAX {
                let sent = self.pre_auth_bytes;
                return Err(FrameError(alloc::format!(
                    "{sent} bytes before authentication, limit {PRE_AUTH_BYTES_MAX}"
                )));
            }
            PRE_AUTH_BYTES_MAX
        };
        if lane == Lane::Bulk {
            self.bulk_received += frame.len() as u64;
            if self.bulk_received.saturating_sub(self.bulk_reported) > 2 * BULK_CREDIT_BYTES {
                let over = self.bulk_received - self.bulk_reported;
                return Err(FrameError(alloc::format!("{over} bulk bytes without credit, limit {BULK_CREDIT_BYTES}")));
            }
        }
        Ok(self.assemblies[lane as usize].push(frame, bytes_max)?.map(|message| (lane, message)))
    }

    /// What to report as taken in, if it is time. Ask only while there is room for more.
    pub fn credit_due(&mut self) -> Option<u64> {
        (self.bulk_received - self.bulk_reported >= CREDIT_REPORT_BYTES).then(|| {
            self.bulk_reported = self.bulk_received;
            self.bulk_received
        })
    }
}

/// Bytes that a message of a lane may have, once it is known who sends it.
pub fn message_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Control => MESSAGE_BYTES_MAX,
        Lane::Live => LIVE_MESSAGE_BYTES_MAX,
        Lane::Bulk => BULK_MESSAGE_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use super::*;
    use crate::id::SpaceId;

    fn bulk() -> Message {
        let _ = SpaceId([0; 32]);
        // Incompressible enough: 60 kB of a counter's digits.
        let reason: String =
            (0..12_000).map(|i: u32| alloc::format!("{:05}", i.wrapping_mul(2_654_435_761) % 100_000)).collect();
        Message::Bye { reason }
    }

    #[test]
    fn a_live_message_overtakes_queued_bulk() {
        let mut lanes = Lanes::default();
        for _ in 0..10 {
            lanes.push(Lane::Bulk, bulk());
        }
        let first = lanes.poll().expect("bulk has credit at first");
        assert_eq!(frame_lane(&first), Some(Lane::Bulk));
        lanes.push(Lane::Live, &Message::Credit { taken: 1 });
        assert_eq!(frame_lane(&lanes.poll().expect("live needs none")), Some(Lane::Live));
    }

    #[test]
    fn bulk_waits_for_credit_and_goes_on_with_it() {
        let (mut sender, mut receiver) = (Lanes::default(), Lanes::default());
        receiver.authenticate();
        for _ in 0..40 {
            sender.push(Lane::Bulk, bulk());
        }
        let mut messages = 0;
        loop {
            let mut sent = 0u64;
            while let Some(frame) = sender.poll() {
                sent += frame.len() as u64;
                sender.written(frame.len());
                messages += usize::from(receiver.receive(&frame).expect("within the limits").is_some());
            }
            assert!(sent < BULK_CREDIT_BYTES + 2 * 65_536);
            match receiver.credit_due() {
                Some(taken) => sender.credited(taken),
                None => break,
            }
        }
        assert_eq!(messages, 40);
    }

    #[test]
    fn a_message_over_the_limit_of_its_lane_is_refused_by_number() {
        for lane in Lane::ALL {
            let limit = message_bytes_max(lane);
            let first = |bytes: usize| [&[1 << 4 | lane as u8, 1][..], &(bytes as u32).to_be_bytes()].concat();
            let mut lanes = Lanes::default();
            lanes.authenticate();
            let error = lanes.receive(&first(limit + 1)).expect_err("it is too long");
            assert!(error.0.ends_with(&alloc::format!("limit {limit}")), "{error}");
            let mut lanes = Lanes::default();
            lanes.authenticate();
            assert_eq!(lanes.receive(&first(limit)), Ok(None));
            assert_eq!(lanes.large_message(), (lane == Lane::Bulk).then_some((limit, 0)));
        }
    }

    #[test]
    fn a_stranger_that_talks_too_much_is_refused_by_number() {
        let mut lanes = Lanes::default();
        let frame = to_frames(Lane::Control, vec![1; 400]).remove(0);
        let error = (0..20).find_map(|_| lanes.receive(&frame).err()).expect("it ends at 4 KiB");
        assert!(error.0.contains("limit 4096"), "{error}");
    }
}
