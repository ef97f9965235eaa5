//! What arrives on a stream or by gossip, before anybody is asked who sent it: frames, messages, hints.

use anabranch_engine::limits::{BULK_MESSAGE_BYTES_MAX, FRAME_BYTES_MAX, PRE_AUTH_BYTES_MAX};
use anabranch_engine::sync::hint::Hint;
use anabranch_engine::sync::lanes::{Lanes, message_bytes_max};
use anabranch_engine::wire::frame::{Assembly, to_frames};
use anabranch_engine::wire::{Lane, Message};

use super::input::Input;

/// Frames into one session's lanes, before or after authentication.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let authenticated = input.byte() & 1 == 1;
    let mut lanes = Lanes::default();
    if authenticated {
        lanes.authenticate();
    }
    while !input.is_empty() {
        match lanes.receive(input.chunk()) {
            Ok(None) => {}
            Ok(Some((lane, message))) => {
                assert!(message.len() <= if authenticated { message_bytes_max(lane) } else { PRE_AUTH_BYTES_MAX });
                come_back(lane, message);
            }
            // The session is over.
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
        let _ = lanes.credit_due();
    }
}

/// Any message comes back from its frames.
fn come_back(lane: Lane, message: Vec<u8>) {
    let mut assembly = Assembly::default();
    let mut back = None;
    for frame in to_frames(lane, message.clone()) {
        assert!(frame.len() <= FRAME_BYTES_MAX && back.is_none());
        back = assembly.push(&frame, BULK_MESSAGE_BYTES_MAX).expect("our own frames fit");
    }
    assert_eq!(back, Some(message));
}

/// One message: what is read is written again, and read alike.
pub fn message(data: &[u8]) {
    match Message::from_bytes(data) {
        Ok(message) => {
            let bytes = message.to_bytes();
            assert_eq!(Message::from_bytes(&bytes).as_ref(), Ok(&message));
            come_back(message.lane(), bytes);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// One hint.
pub fn hint(data: &[u8]) {
    match Hint::from_bytes(data) {
        Ok(hint) => assert_eq!(Hint::from_bytes(&hint.to_bytes()), Ok(hint)),
        Err(error) => assert!(!error.is_empty()),
    }
}
