//! Messages to frames and back. A frame is at most 64 KiB and belongs to a lane; a message that needs more is cut into
//! several, with its total known from the first. Frames of different lanes mix, those of one lane do not.
//!
//! ```text
//! byte 0   version (high half-byte, 1) and lane (low half-byte)
//! byte 1   flags: 1 first frame of a message, 2 last one, 4 the message is compressed (lz4 block)
//! then     if first and not last: u32 big endian, bytes of the whole message as it travels
//! then     if first and compressed: u32 big endian, bytes of the message when inflated
//! then     the message's bytes, or the next part of them
//! ```

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::limits::{BULK_MESSAGE_BYTES_MAX, COMPRESS_BYTES_MIN, FRAME_BYTES_MAX, INFLATE_RATIO_MAX};

const VERSION: u8 = 1;
const FIRST: u8 = 1;
const LAST: u8 = 2;
const COMPRESSED: u8 = 4;
const HEAD_BYTES_MAX: usize = 2 + 4 + 4;
/// Frames that are cut off a message before its memory is given back.
const SHRINK_EVERY: usize = 16;

/// Which queue a frame belongs to. The number is part of the protocol; 3 is kept for the ephemeral lane (presence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// Small, and needed for everything else.
    Control = 0,
    /// Fresh runs. May be dropped: catch-up finds what is missing.
    Live = 1,
    /// Catch-up, paid for with credit.
    Bulk = 2,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Self; 3] = [Self::Control, Self::Live, Self::Bulk];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u8 == number)
    }
}

/// The lane of a frame, if it is one of ours.
pub fn frame_lane(frame: &[u8]) -> Option<Lane> {
    frame.first().and_then(|byte| Lane::from_number(byte & 0x0f))
}

/// Cuts a message into frames.
pub fn to_frames(lane: Lane, message: Vec<u8>) -> Vec<Vec<u8>> {
    let inflated = message.len();
    let (body, compressed) = if inflated >= COMPRESS_BYTES_MIN {
        let small = lz4_flex::block::compress(&message);
        if small.len() + 4 < inflated {
            // It may be large: free the uncompressed copy at once.
            drop(message);
            (small, true)
        } else {
            (message, false)
        }
    } else {
        (message, false)
    };
    let part_bytes = FRAME_BYTES_MAX - HEAD_BYTES_MAX;
    let (bytes, mut body) = (body.len(), body);
    let parts = bytes.div_ceil(part_bytes).max(1);
    // The last one first, so that of a large message there are never two copies.
    let mut frames: Vec<Vec<u8>> = (0..parts)
        .rev()
        .map(|i| {
            let part = &body[i * part_bytes..];
            let (first, last) = (i == 0, i + 1 == parts);
            let mut frame = Vec::with_capacity(HEAD_BYTES_MAX + part.len());
            frame.push(VERSION << 4 | lane as u8);
            frame.push(
                if first { FIRST } else { 0 }
                    | if last { LAST } else { 0 }
                    | if first && compressed { COMPRESSED } else { 0 },
            );
            if first && !last {
                frame.extend_from_slice(&length(bytes));
            }
            if first && compressed {
                frame.extend_from_slice(&length(inflated));
            }
            frame.extend_from_slice(part);
            body.truncate(i * part_bytes);
            if i.is_multiple_of(SHRINK_EVERY) {
                body.shrink_to_fit();
            }
            frame
        })
        .collect();
    frames.reverse();
    frames
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("messages are bounded far below 4 GiB").to_be_bytes()
}

/// Puts the frames of one lane together again. Holds at most one message.
#[derive(Debug, Default)]
pub struct Assembly {
    open: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    total: usize,
    inflated: Option<usize>,
    body: Vec<u8>,
}

/// Bytes that are no frame, or one that does not fit to those before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad frame: {0}")]
pub struct FrameError(pub String);

impl Assembly {
    /// Bytes kept of a message that is not complete.
    pub(crate) fn bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.body.len())
    }

    /// Bytes in all of a message that is not complete, or that it will have when it is inflated, if those are more.
    pub(crate) fn announced(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.total.max(open.inflated.unwrap_or(0)))
    }

    /// Takes in a frame of this lane; returns the message that it completes. `message_bytes_max` bounds what is kept and what is
    /// inflated.
    pub fn push(&mut self, frame: &[u8], message_bytes_max: usize) -> Result<Option<Vec<u8>>, FrameError> {
        debug_assert!(message_bytes_max <= BULK_MESSAGE_BYTES_MAX);
        let [head, flags, rest @ ..] = frame else {
            return Err(FrameError(format!("{} bytes are too few", frame.len())));
        };
        if head >> 4 != VERSION {
            return Err(FrameError(format!("version {}, this program speaks {VERSION}", head >> 4)));
        }
        let mut rest = rest;
        let mut number = || -> Result<usize, FrameError> {
            let (bytes, tail) =
                rest.split_first_chunk::<4>().ok_or_else(|| FrameError(String::from("its head is cut short")))?;
            rest = tail;
            let value = u32::from_be_bytes(*bytes) as usize;
            if value > message_bytes_max {
                return Err(FrameError(format!("a message of {value} bytes, limit {message_bytes_max}")));
            }
            Ok(value)
        };
        let (first, last) = (flags & FIRST != 0, flags & LAST != 0);
        if first {
            let total = if last { None } else { Some(number()?) };
            let inflated = if flags & COMPRESSED != 0 { Some(number()?) } else { None };
            if self.open.is_some() {
                return Err(FrameError(String::from("a message begins inside another")));
            }
            self.open = Some(Partial { total: total.unwrap_or(rest.len()), inflated, body: Vec::new() });
        }
        let Some(partial) = &mut self.open else {
            return Err(FrameError(String::from("it goes on with a message that never began")));
        };
        if partial.body.len() + rest.len() > partial.total {
            return Err(FrameError(format!("a message longer than the {} bytes it announced", partial.total)));
        }
        partial.body.extend_from_slice(rest);
        if !last {
            return Ok(None);
        }
        let partial = self.open.take().expect("it was open a moment ago");
        if partial.body.len() != partial.total {
            let (got, total) = (partial.body.len(), partial.total);
            return Err(FrameError(format!("a message of {got} bytes that announced {total}")));
        }
        match partial.inflated {
            None => Ok(Some(partial.body)),
            Some(inflated) => inflate(&partial.body, inflated).map(Some),
        }
    }
}

fn inflate(body: &[u8], inflated: usize) -> Result<Vec<u8>, FrameError> {
    if inflated > body.len().saturating_mul(INFLATE_RATIO_MAX) {
        return Err(FrameError(format!(
            "{} bytes cannot inflate to {inflated}, limit {INFLATE_RATIO_MAX}:1",
            body.len()
        )));
    }
    let mut message = vec![0; inflated];
    match lz4_flex::block::decompress_into(body, &mut message) {
        Ok(length) if length == inflated => Ok(message),
        Ok(length) => Err(FrameError(format!("inflates to {length} bytes, announced {inflated}"))),
        Err(error) => Err(FrameError(format!("does not inflate: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MESSAGE_BYTES_MAX;

    fn there_and_back(message: Vec<u8>) -> Vec<u8> {
        let mut assembly = Assembly::default();
        let mut out = None;
        for frame in to_frames(Lane::Bulk, message) {
            assert!(frame.len() <= FRAME_BYTES_MAX);
            assert_eq!(frame_lane(&frame), Some(Lane::Bulk));
            assert!(out.is_none());
            out = assembly.push(&frame, MESSAGE_BYTES_MAX).expect("our own frames fit");
        }
        out.expect("the last frame completes the message")
    }

    #[test]
    fn messages_of_every_size_come_back() {
        for length in [0, 1, 100, 511, 512, 65_525, 65_526, 65_527, 200_000, MESSAGE_BYTES_MAX] {
            let repetitive = vec![7; length];
            assert_eq!(there_and_back(repetitive.clone()), repetitive);
            let noisy: Vec<u8> =
                (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect();
            assert_eq!(there_and_back(noisy.clone()), noisy);
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_inflated() {
        let mut frame = vec![VERSION << 4, FIRST | LAST | COMPRESSED];
        frame.extend_from_slice(&length(MESSAGE_BYTES_MAX));
        frame.extend_from_slice(&[0; 16]);
        assert!(Assembly::default().push(&frame, MESSAGE_BYTES_MAX).is_err());
    }

    #[test]
    fn a_length_over_the_limit_is_refused_by_name() {
        let mut frame = vec![VERSION << 4, FIRST];
        frame.extend_from_slice(&u32::MAX.to_be_bytes());
        let error = Assembly::default().push(&frame, MESSAGE_BYTES_MAX).expect_err("4 GiB is too much");
        assert!(error.0.contains("4294967295") && error.0.contains("2097152"), "{error}");
    }

    #[test]
    fn frames_out_of_place_are_refused() {
        let mut assembly = Assembly::default();
        assert!(assembly.push(&[VERSION << 4, LAST, 1], MESSAGE_BYTES_MAX).is_err());
        assert!(assembly.push(&[VERSION << 4], MESSAGE_BYTES_MAX).is_err());
        assert!(assembly.push(&[2 << 4, FIRST | LAST], MESSAGE_BYTES_MAX).is_err());
    }
}
