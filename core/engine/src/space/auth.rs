//! Blinded discovery of shared spaces: who does not hold a space's connection key learns nothing, not even its id.

use alloc::string::String;
use alloc::vec::Vec;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

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
        let side = match side {
            Side::Opener => 0,
            Side::Acceptor => 1,
        };
        let Self { opener, acceptor, opener_nonce, acceptor_nonce } = self;
        let message =
            [b"anabranch/v1/auth\0", &[side][..], &opener.0, &acceptor.0, opener_nonce, acceptor_nonce].concat();
        let hmac = keyed_hash(connection_key, &message);
        core::array::from_fn(|i| hmac[i])
    }

    /// The tags that `side` sends for its spaces: sorted, padded with `filler` (random) to a multiple of 8, at least 8.
    pub fn tags(&self, side: Side, connection_keys: &[[u8; 32]], filler: &mut dyn FnMut() -> Tag) -> Vec<Tag> {
        let mut tags: Vec<Tag> = connection_keys.iter().map(|key| self.tag(side, key)).collect();
        tags.resize_with(tags.len().max(1).next_multiple_of(TAGS_MULTIPLE), filler);
        tags.sort_unstable();
        tags
    }

    /// The spaces of ours that the other side also has, by the tags it sent, in an order that both sides share.
    pub fn shared(&self, their_side: Side, spaces: &[(SpaceId, [u8; 32])], theirs: &[Tag]) -> Vec<SpaceId> {
        let has = |key: &[u8; 32]| {
            let expected = self.tag(their_side, key);
            // All of them, each to its end: the time says nothing about how near a guess was.
            theirs.iter().fold(false, |found, tag| found | equal(tag, &expected))
        };
        let mut shared: Vec<SpaceId> = spaces.iter().filter(|(_, key)| has(key)).map(|(space, _)| *space).collect();
        shared.sort_unstable();
        shared
    }

    /// Key of the session's fingerprints.
    pub fn salt(&self) -> [u8; 32] {
        let Self { opener, acceptor, opener_nonce, acceptor_nonce } = self;
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"anabranch/v1/salt\0").update(&opener.0).update(&acceptor.0);
        hasher.update(opener_nonce).update(acceptor_nonce);
        *hasher.finalize().as_bytes()
    }
}

/// The gossip topic of a space: HMAC over its connection key, as hex.
pub fn topic(connection_key: &[u8; 32]) -> String {
    HEXLOWER.encode(&keyed_hash(connection_key, b"topic"))
}

/// The number of tags says no more than this about the number of spaces.
const TAGS_MULTIPLE: usize = 8;

fn keyed_hash(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(message);
    hmac.finalize().into_bytes().into()
}

fn equal(a: &Tag, b: &Tag) -> bool {
    a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];

    fn handshake() -> Handshake {
        Handshake {
            opener: DeviceId([0xaa; 32]),
            acceptor: DeviceId([0xbb; 32]),
            opener_nonce: [0xcc; 32],
            acceptor_nonce: [0xdd; 32],
        }
    }

    fn space(i: u8) -> SpaceId {
        SpaceId([i; 32])
    }

    fn counting() -> impl FnMut() -> Tag {
        let mut last = 0;
        move || {
            last += 1;
            [last; 16]
        }
    }

    #[test]
    fn both_sides_find_the_spaces_that_they_share() {
        let handshake = handshake();
        let opener = [(space(9), KEYS[0]), (space(4), KEYS[1])];
        let acceptor = [(space(4), KEYS[1]), (space(7), KEYS[2]), (space(9), KEYS[0])];
        let theirs = handshake.tags(Side::Acceptor, &[KEYS[1], KEYS[2], KEYS[0]], &mut counting());
        assert_eq!(handshake.shared(Side::Acceptor, &opener, &theirs), [space(4), space(9)]);
        let theirs = handshake.tags(Side::Opener, &[KEYS[0], KEYS[1]], &mut counting());
        assert_eq!(handshake.shared(Side::Opener, &acceptor, &theirs), [space(4), space(9)]);
        assert_eq!(handshake.shared(Side::Opener, &acceptor[1..2], &theirs), []);
    }

    #[test]
    fn a_tag_holds_for_one_side_of_one_handshake() {
        let own = [(space(1), KEYS[0])];
        let tags = handshake().tags(Side::Opener, &[KEYS[0]], &mut counting());
        assert_eq!(handshake().shared(Side::Acceptor, &own, &tags), [], "reflected");
        let changes: [fn(&mut Handshake); 4] = [
            |handshake| handshake.opener_nonce = [0; 32],
            |handshake| handshake.acceptor_nonce = [0; 32],
            |handshake| handshake.opener = DeviceId([0; 32]),
            |handshake| handshake.acceptor = DeviceId([0; 32]),
        ];
        for change in changes {
            let mut other = handshake();
            change(&mut other);
            assert_eq!(other.shared(Side::Opener, &own, &tags), [], "replayed");
            assert_ne!(other.salt(), handshake().salt());
        }
    }

    #[test]
    fn tags_are_sorted_and_say_little_about_how_many_there_are() {
        for (spaces, tags) in [(0, 8), (1, 8), (8, 8), (9, 16), (100, 104)] {
            let keys: Vec<[u8; 32]> = (0..spaces).map(|i| [i; 32]).collect();
            let sent = handshake().tags(Side::Opener, &keys, &mut counting());
            assert!(sent.is_sorted());
            assert_eq!(sent.len(), tags);
        }
    }

    #[test]
    fn tags_topic_and_salt_have_these_bytes() {
        let lines = [
            HEXLOWER.encode(&handshake().tag(Side::Opener, &KEYS[0])),
            HEXLOWER.encode(&handshake().tag(Side::Acceptor, &KEYS[0])),
            topic(&KEYS[0]),
            HEXLOWER.encode(&handshake().salt()),
        ];
        assert_eq!(lines.join("\n"), include_str!("../../golden/auth.hex").trim_end());
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        // Test case 3 has a key of 20 bytes; ours are of 32, so the key is padded with zeros as HMAC itself does.
        let mut key = [0; 32];
        key[..20].copy_from_slice(&[0xaa; 20]);
        let expected = "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe";
        assert_eq!(HEXLOWER.encode(&keyed_hash(&key, &[0xdd; 50])), expected);
    }
}
