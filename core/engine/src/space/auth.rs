//! Blinded discovery of shared spaces: who does not hold a space's connection key learns nothing, not even its id.

use alloc::vec::Vec;

use crate::id::{DeviceId, SpaceId};

/// A space's tag in one handshake.
pub type Tag = [u8; 16];

/// One side of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Opened the stream.
    Opener,
    /// Accepted it.
    Acceptor,
}

/// What both sides know of a handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The opener's device.
    pub opener: DeviceId,
    /// The acceptor's device.
    pub acceptor: DeviceId,
    /// The opener's nonce.
    pub opener_nonce: [u8; 32],
    /// The acceptor's nonce.
    pub acceptor_nonce: [u8; 32],
}

impl Handshake {
    /// The tag that `side` sends for a space with this connection key: HMAC-SHA256 over side, devices and nonces,
    /// cut to 16 bytes. Fresh nonces make it a proof that the sender holds the key.
    pub fn tag(&self, side: Side, connection_key: &[u8; 32]) -> Tag {
        let _ = (side, connection_key);
        todo!()
    }

    /// The tags that `side` sends for its spaces: sorted, padded with `filler` (random) to a multiple of 8.
    pub fn tags(&self, side: Side, connection_keys: &[[u8; 32]], filler: &mut dyn FnMut() -> Tag) -> Vec<Tag> {
        let _ = (side, connection_keys, filler);
        todo!()
    }

    /// The spaces of ours that the other side also has, by the tags it sent, in an order that both sides share.
    pub fn shared(&self, their_side: Side, spaces: &[(SpaceId, [u8; 32])], theirs: &[Tag]) -> Vec<SpaceId> {
        let _ = (their_side, spaces, theirs);
        todo!()
    }

    /// Key of the session's fingerprints.
    pub fn salt(&self) -> [u8; 32] {
        todo!()
    }
}

/// The gossip topic of a space: HMAC over its connection key, as hex.
pub fn topic(connection_key: &[u8; 32]) -> alloc::string::String {
    let _ = connection_key;
    todo!()
}
