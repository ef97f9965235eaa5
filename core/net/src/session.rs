//! The session stream of one connection, run inside the connection's own task: frames and their lengths, coalesced writes,
//! reads that stop when the driver is behind. What the frames say is the engine's business.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anabranch_engine::limits::FRAME_BYTES_MAX;
use futures::{AsyncRead as _, AsyncWrite as _, FutureExt as _};
use futures_timer::Delay;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, StreamUpgradeError,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};

use crate::gate::Gate;
use crate::limits::READ_BYTES;
use crate::pipe::Pipe;
use crate::{SESSION_PROTOCOL, translate};

const PROTOCOL: StreamProtocol = StreamProtocol::new(SESSION_PROTOCOL);

/// A length of zero is not a frame: it says, once, that the sender has admitted the receiver (`gate.rs`).
const MARK: [u8; 4] = [0; 4];

/// What one connection's session may take.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) wait_max: Duration,
    pub(crate) close_max: Duration,
}

/// Opens or awaits the session stream, then carries it.
pub(crate) struct Handler {
    pipe: Arc<Pipe>,
    gate: Arc<Gate>,
    /// We dialed, so we open the stream.
    opener: bool,
    times: Times,
    stage: Stage,
}

enum Stage {
    /// Ours to ask for.
    Wanted,
    /// Asked for, or the peer's to open; until the time is up.
    Awaited(Delay),
    Open(Box<Open>),
    Over,
}

impl Handler {
    pub(crate) fn new(pipe: Arc<Pipe>, gate: Arc<Gate>, opener: bool, times: Times) -> Self {
        let stage = if opener { Stage::Wanted } else { Stage::Awaited(Delay::new(times.wait_max)) };
        Self { pipe, gate, opener, times, stage }
    }

    fn open(&mut self, stream: Stream) {
        match self.stage {
            Stage::Awaited(_) => {
                self.stage = Stage::Open(Box::new(Open::new(stream, self.times.close_max)));
                self.pipe.opened();
            }
            Stage::Wanted | Stage::Open(_) | Stage::Over => tracing::debug!("second session stream refused"),
        }
    }

    fn end(&mut self, reason: String) {
        self.stage = Stage::Over;
        self.pipe.ended(reason);
        self.pipe.finished();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = std::convert::Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// The engine says when a session ends, and its connection with it; libp2p's idle timer has no say.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        // Before looking, so that nothing said in between is missed.
        self.pipe.wake_session_with(cx.waker());
        match &mut self.stage {
            Stage::Wanted => {
                self.stage = Stage::Awaited(Delay::new(self.times.wait_max));
                let protocol =
                    SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(self.times.wait_max);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
            Stage::Awaited(deadline) => {
                if deadline.poll_unpin(cx).is_ready() {
                    let waited = self.times.wait_max.as_secs();
                    self.end(format!("no session stream within {waited} s"));
                } else if let Some(reason) = self.pipe.closing() {
                    self.end(reason);
                }
            }
            Stage::Open(open) => {
                self.gate.wake_session_with(cx.waker());
                if let Poll::Ready(reason) = open.poll(cx, &self.pipe, &self.gate) {
                    self.end(reason);
                }
            }
            Stage::Over => {}
        }
        Poll::Pending
    }

    /// The connection is going away: whatever has arrived on the stream is still taken in.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        if let Stage::Open(open) = &mut self.stage {
            let _ = open.poll_read(cx, &self.pipe, &self.gate);
            self.stage = Stage::Over;
        }
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                if self.opener {
                    tracing::debug!("session stream refused: the dialer opens it, and that is us");
                } else {
                    self.open(stream);
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) => {
                self.open(stream);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let reason = match error {
                    StreamUpgradeError::Timeout => "timed out".to_owned(),
                    StreamUpgradeError::NegotiationFailed => format!("the peer does not speak {SESSION_PROTOCOL}"),
                    StreamUpgradeError::Io(error) => translate::io_failure(&error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.end(reason);
            }
            _ => {}
        }
    }
}

/// An open session stream.
struct Open {
    stream: Stream,
    /// Frames with their lengths, being written.
    batch: Vec<u8>,
    batch_written: usize,
    /// Bytes of the frames in the batch, lengths not counted.
    batch_frame_bytes: usize,
    unflushed: bool,
    deframer: Deframer,
    /// The peer's mark has come.
    marked: bool,
    read_buffer: Box<[u8]>,
    close_max: Duration,
    closing: Option<Closing>,
}

/// We are closing: first write what is queued, then wait for the peer to close its half, so that the connection's end does
/// not take away what is still on its way there.
struct Closing {
    deadline: Delay,
    half_closed: bool,
}

impl Open {
    fn new(stream: Stream, close_max: Duration) -> Self {
        Self {
            stream,
            batch: Vec::new(),
            batch_written: 0,
            batch_frame_bytes: 0,
            unflushed: false,
            deframer: Deframer::default(),
            marked: false,
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            close_max,
            closing: None,
        }
    }

    /// Moves what can be moved. Ready when the session is over.
    fn poll(&mut self, cx: &mut Context<'_>, pipe: &Pipe, gate: &Gate) -> Poll<String> {
        let close_reason = pipe.closing();
        if close_reason.is_some() && self.closing.is_none() {
            self.closing = Some(Closing { deadline: Delay::new(self.close_max), half_closed: false });
        }
        match self.poll_write(cx, pipe, gate) {
            Poll::Ready(Ok(())) => {
                if let (Some(closing), Some(reason)) = (&mut self.closing, close_reason)
                    && !closing.half_closed
                {
                    match Pin::new(&mut self.stream).poll_close(cx) {
                        Poll::Ready(Ok(())) => {
                            closing.half_closed = true;
                            pipe.ended(reason);
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(translate::io_failure(&error)),
                        Poll::Pending => {}
                    }
                }
            }
            Poll::Ready(Err(error)) => {
                // What the peer said last explains the failure better than the failure does.
                if let Poll::Ready(reason) = self.poll_read(cx, pipe, gate) {
                    return Poll::Ready(reason);
                }
                return Poll::Ready(translate::io_failure(&error));
            }
            Poll::Pending => {}
        }
        if let Some(closing) = &mut self.closing
            && closing.deadline.poll_unpin(cx).is_ready()
        {
            return Poll::Ready("closed here, the peer did not read what was left".to_owned());
        }
        self.poll_read(cx, pipe, gate)
    }

    /// Ready when all that was queued is written and flushed.
    fn poll_write(&mut self, cx: &mut Context<'_>, pipe: &Pipe, gate: &Gate) -> Poll<io::Result<()>> {
        if self.closing.as_ref().is_some_and(|closing| closing.half_closed) {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.batch_written == self.batch.len() {
                if self.batch_frame_bytes > 0 {
                    pipe.written(self.batch_frame_bytes);
                }
                self.batch.clear();
                self.batch_written = 0;
                if gate.take_mark() {
                    self.batch.extend_from_slice(&MARK);
                }
                self.batch_frame_bytes = pipe.take_outgoing(&mut self.batch);
                if self.batch.is_empty() {
                    // An idle session does not hold on to the memory of its largest batch.
                    self.batch.shrink_to(READ_BYTES);
                    break;
                }
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.batch[self.batch_written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.batch_written += written;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads until nothing more is there, or the driver is behind. Ready when the session is over.
    fn poll_read(&mut self, cx: &mut Context<'_>, pipe: &Pipe, gate: &Gate) -> Poll<String> {
        let mut frames = Vec::new();
        while pipe.has_room() {
            let length = match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut self.read_buffer)) {
                Ok(0) if self.closing.is_some() => return Poll::Ready("closed on both sides".to_owned()),
                Ok(0) if self.deframer.is_inside() => {
                    return Poll::Ready("the peer closed the session in a frame".to_owned());
                }
                Ok(0) => return Poll::Ready("the peer closed the session".to_owned()),
                Ok(length) => length,
                Err(error) => return Poll::Ready(translate::io_failure(&error)),
            };
            if self.closing.is_some() {
                // Nobody waits for frames any more; reading on lets the peer finish.
                continue;
            }
            let mut bytes = &self.read_buffer[..length];
            let failure = loop {
                match self.deframer.next(&mut bytes) {
                    Ok(Some(Part::Frame(frame))) => frames.push(frame),
                    Ok(Some(Part::Mark)) if !self.marked => {
                        self.marked = true;
                        gate.peer_opened();
                    }
                    Ok(Some(Part::Mark)) => break Some("second admission mark".to_owned()),
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                }
            };
            pipe.received(&mut frames);
            if let Some(reason) = failure {
                return Poll::Ready(reason);
            }
        }
        Poll::Pending
    }
}

/// One thing read from a session stream.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Frame(Vec<u8>),
    Mark,
}

/// A frame is longer than any may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame is {length} bytes, limit {FRAME_BYTES_MAX}")]
struct FrameTooLong {
    length: u32,
}

/// Finds the frames in what is read, however it was cut.
#[derive(Default)]
struct Deframer {
    length: [u8; 4],
    length_read: usize,
    body: Vec<u8>,
}

impl Deframer {
    /// In the middle of a length or a frame.
    fn is_inside(&self) -> bool {
        self.length_read > 0
    }

    /// Takes one part from the front of `bytes`; `None` when all of `bytes` is taken and the part is not whole.
    fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Part>, FrameTooLong> {
        let taken = bytes.len().min(4 - self.length_read);
        self.length[self.length_read..self.length_read + taken].copy_from_slice(&bytes[..taken]);
        self.length_read += taken;
        *bytes = &bytes[taken..];
        if self.length_read < 4 {
            return Ok(None);
        }
        let length = u32::from_be_bytes(self.length);
        if length == 0 {
            self.length_read = 0;
            return Ok(Some(Part::Mark));
        }
        if length as usize > FRAME_BYTES_MAX {
            return Err(FrameTooLong { length });
        }
        // Grows with what arrives: a length alone costs no memory.
        let taken = bytes.len().min(length as usize - self.body.len());
        self.body.extend_from_slice(&bytes[..taken]);
        *bytes = &bytes[taken..];
        if self.body.len() < length as usize {
            return Ok(None);
        }
        self.length_read = 0;
        Ok(Some(Part::Frame(std::mem::take(&mut self.body))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(frames: &[&[u8]]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes(), *frame].concat()).collect()
    }

    fn parts(deframer: &mut Deframer, mut bytes: &[u8]) -> Result<Vec<Part>, FrameTooLong> {
        let mut parts = Vec::new();
        while let Some(part) = deframer.next(&mut bytes)? {
            parts.push(part);
        }
        assert!(bytes.is_empty());
        Ok(parts)
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let largest = vec![9; FRAME_BYTES_MAX];
        let wire = wire(&[b"one", b"", b"a longer one", &largest, b"x"]);
        for cut in [1, 2, 3, 5, 7, 1000, wire.len()] {
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            for piece in wire.chunks(cut) {
                found.extend(parts(&mut deframer, piece).unwrap());
            }
            assert!(!deframer.is_inside());
            let expected: Vec<Part> =
                [b"one".as_slice(), b"a longer one", &largest, b"x"].map(|f| Part::Frame(f.to_vec())).into();
            assert_eq!(found[0], expected[0]);
            assert_eq!(found[1], Part::Mark);
            assert_eq!(found[2..], expected[1..]);
        }
    }

    #[test]
    fn a_stream_cut_after_any_byte_gives_the_whole_frames_before_it_and_no_part_of_another() {
        let frames: [&[u8]; 4] = [b"x", &[0; 40], b"a frame", &[255; 300]];
        let wire = wire(&frames);
        let mut ends = vec![0];
        ends.extend(frames.iter().scan(0, |end, frame| {
            *end += 4 + frame.len();
            Some(*end)
        }));
        for cut in 0..=wire.len() {
            let mut deframer = Deframer::default();
            let found = parts(&mut deframer, &wire[..cut]).unwrap();
            let whole = ends[1..].iter().filter(|end| **end <= cut).count();
            let expected: Vec<Part> = frames[..whole].iter().map(|frame| Part::Frame(frame.to_vec())).collect();
            assert_eq!(found, expected, "cut after {cut} bytes");
            assert_eq!(deframer.is_inside(), !ends.contains(&cut), "cut after {cut} bytes");
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_length_alone() {
        let error = parts(&mut Deframer::default(), &(FRAME_BYTES_MAX as u32 + 1).to_be_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "frame is 65537 bytes, limit 65536");
        assert!(parts(&mut Deframer::default(), &[255; 4]).is_err());
    }

    #[test]
    fn a_length_alone_costs_no_memory() {
        let mut deframer = Deframer::default();
        assert_eq!(parts(&mut deframer, &[0, 1, 0, 0]).unwrap(), []);
        assert_eq!(deframer.body.capacity(), 0);
        assert!(deframer.is_inside());
    }
}
