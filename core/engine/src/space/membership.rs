//! The signed membership log of a space and its resolver: from a set of entries to who may do what. Pure, total,
//! order-independent.

use alloc::string::String;
use alloc::vec::Vec;

use crate::gate::Authority;
use crate::id::{AclHash, DeviceId, EntryHash, SpaceId};
use crate::keys::SecretKey;
use crate::space::roles::Role;

/// The membership log of one space.
#[derive(Debug, Clone)]
pub struct Membership {}

/// A new or received entry, encoded, with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Hash of `bytes`.
    pub hash: EntryHash,
    /// Body and signature, as kept and sent.
    pub bytes: Vec<u8>,
}

/// What became of a received entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It was here already.
    Known,
    /// It is new and in the log now (valid or not: what it counts for is the resolver's business).
    New,
    /// It names entries that are not here. Nothing was kept.
    MissingPrev,
}

/// Why an entry was refused. Nothing was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Not an entry of this space, badly signed, or malformed.
    #[error("malformed membership entry: {0}")]
    Malformed(String),
    /// Over a limit; the text carries the value and the limit.
    #[error("over a limit: {0}")]
    TooLarge(String),
    /// The invite that a joiner stands on has been used as often as it allows.
    #[error("this ticket has already been used ({used} of {max} times)")]
    InviteUsedUp {
        /// Uses in our log.
        used: u32,
        /// Uses allowed.
        max: u32,
    },
    /// The invite that a joiner stands on is not in the log or not valid.
    #[error("no such invite in this space")]
    NoSuchInvite,
    /// Our role does not allow it.
    #[error("{needed} needed, this device is {role}")]
    NotAllowed {
        /// `an admin is`
        needed: &'static str,
        /// `a reader`, `a writer`, `not a member`
        role: &'static str,
    },
}

/// One member, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The device.
    pub device: DeviceId,
    /// What it may do.
    pub role: Role,
    /// The entry that made it a member.
    pub entry: EntryHash,
}

impl Membership {
    /// Founds a space: the log with its genesis entry, in which `key`'s device is admin.
    pub fn found(key: &SecretKey, name: &str, nonce: [u8; 16]) -> Result<(SpaceId, Self, Entry), MembershipError> {
        let _ = (key, name, nonce);
        todo!()
    }

    /// The log of a space of which nothing is known but its id (a joiner's).
    pub fn unknown(space: SpaceId) -> Self {
        let _ = space;
        todo!()
    }

    /// The space's id.
    pub fn space(&self) -> SpaceId {
        todo!()
    }

    /// The space's name; `None` until the genesis entry is here.
    pub fn name(&self) -> Option<&str> {
        todo!()
    }

    /// Takes in an entry from the store or from a member: signature, form, limits. `max_uses` of invites is not enforced.
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, MembershipError> {
        let _ = bytes;
        todo!()
    }

    /// Takes in a joiner's own entry, handed over by the joiner: as [`Self::insert`], and its invite must be here, valid
    /// and not used up.
    pub fn admit(&mut self, bytes: &[u8], joiner: &DeviceId) -> Result<Inserted, MembershipError> {
        let _ = (bytes, joiner);
        todo!()
    }

    /// Signs an invite. `invite_pk` is the public half of the ticket's key.
    pub fn invite(
        &self,
        key: &SecretKey,
        invite_pk: DeviceId,
        role: Role,
        max_uses: u32,
        nonce: [u8; 16],
    ) -> Result<Entry, MembershipError> {
        let _ = (key, invite_pk, role, max_uses, nonce);
        todo!()
    }

    /// Signs our own joining, proven with the invite's secret key.
    pub fn join(&self, key: &SecretKey, invite: &SecretKey, nonce: [u8; 16]) -> Result<Entry, MembershipError> {
        let _ = (key, invite, nonce);
        todo!()
    }

    /// Hashes of every entry, sorted.
    pub fn hashes(&self) -> Vec<EntryHash> {
        todo!()
    }

    /// An entry's bytes.
    pub fn entry(&self, hash: &EntryHash) -> Option<&[u8]> {
        let _ = hash;
        todo!()
    }

    /// The given entries in an order in which each comes after those it names.
    pub fn in_order(&self, hashes: &[EntryHash]) -> Vec<EntryHash> {
        let _ = hashes;
        todo!()
    }

    /// The sorted heads of the log: the `acl_ref` that we sign under now. At most `ACL_REF_ENTRIES_MAX`.
    pub fn heads(&self) -> Vec<EntryHash> {
        todo!()
    }

    /// Every member with its role now, by device.
    pub fn members(&self) -> Vec<Member> {
        todo!()
    }

    /// A device's role now.
    pub fn role(&self, device: &DeviceId) -> Option<Role> {
        let _ = device;
        todo!()
    }

    /// A device's role in the state that the given entries stand for; `None` if one of them is not here.
    pub fn authority(&self, acl: &[EntryHash], device: &DeviceId) -> Option<Authority> {
        let _ = (acl, device);
        todo!()
    }

    /// Kind numbers of entries that carry authority we do not understand: while there is one, the space is read-only for us.
    pub fn unknown_authority(&self) -> Option<u8> {
        todo!()
    }
}

/// The hash that stands for an `acl_ref` in signed bytes: BLAKE3 over a domain and the sorted entry hashes.
pub fn acl_hash(entries: &[EntryHash]) -> AclHash {
    let _ = entries;
    todo!()
}
pub fn entry_hash(_bytes: &[u8]) -> EntryHash { todo!() }
