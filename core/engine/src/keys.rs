//! The device key: what it signs and how. Every signature is over `domain ‖ bytes`, so that none can be used as another.

use alloc::vec::Vec;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::id::DeviceId;

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// What a signature is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// A run of changes.
    Run,
    /// A membership entry.
    Entry,
    /// A joiner's proof that it holds an invite's key.
    Invite,
}

impl Domain {
    /// The bytes in front of what is signed.
    pub const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Run => b"anabranch/v1/run\0",
            Self::Entry => b"anabranch/v1/entry\0",
            Self::Invite => b"anabranch/v1/invite\0",
        }
    }
}

/// Signs for a device.
pub trait Signer: core::fmt::Debug + Send + Sync {
    /// The device.
    fn device(&self) -> DeviceId;

    /// Signs `domain ‖ bytes`.
    fn sign(&self, domain: Domain, bytes: &[u8]) -> [u8; SIGNATURE_LEN];
}

/// A secret ed25519 key: a device's, or an invite's.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Makes the key from 32 secret random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn device(&self) -> DeviceId {
        DeviceId(self.0.verifying_key().to_bytes())
    }

    /// Signs `domain ‖ bytes`.
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(&message(domain, bytes)).to_bytes()
    }
}

impl Signer for SecretKey {
    fn device(&self) -> DeviceId {
        Self::device(self)
    }

    fn sign(&self, domain: Domain, bytes: &[u8]) -> [u8; SIGNATURE_LEN] {
        Self::sign(self, domain, bytes)
    }
}

impl core::fmt::Debug for SecretKey {
    /// Shows the public half only.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SecretKey({:.8}..)", self.device())
    }
}

/// Whether `signature` is `device`'s over `domain ‖ bytes`. Strict: weak keys and malleable signatures do not pass, so
/// that all replicas come to one verdict (RFC 8032 leaves this open).
pub fn verify(device: &DeviceId, domain: Domain, bytes: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    VerifyingKey::from_bytes(&device.0).is_ok_and(|key| {
        key.verify_strict(&message(domain, bytes), &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    })
}

/// Whether a device or invite key can sign at all: a point of the curve, not one of the few that anyone can sign for.
pub fn is_sound(key: &DeviceId) -> bool {
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak())
}

/// What a signature is over, as a hash: by this a recording finds the signature that was made.
pub fn digest(domain: Domain, bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(&message(domain, bytes)).as_bytes()
}

fn message(domain: Domain, bytes: &[u8]) -> Vec<u8> {
    [domain.prefix(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_only_in_its_domain() {
        let key = SecretKey::from_seed(&[7; 32]);
        let signature = key.sign(Domain::Run, b"bytes");
        assert!(verify(&key.device(), Domain::Run, b"bytes", &signature));
        assert!(!verify(&key.device(), Domain::Entry, b"bytes", &signature));
        assert!(!verify(&key.device(), Domain::Run, b"other", &signature));
    }

    #[test]
    fn a_weak_key_signs_nothing() {
        assert!(!is_sound(&DeviceId([0; 32])));
        assert!(is_sound(&SecretKey::from_seed(&[7; 32]).device()));
        assert!(!verify(&DeviceId([0; 32]), Domain::Run, b"bytes", &[0; 64]));
    }
}
