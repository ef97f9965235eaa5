//! The signed membership log of a space and its resolver: from a set of entries to who may do what. Pure, total,
//! order-independent. Bytes are read in `entry`, what counts is decided in `log`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::gate::Authority;
use crate::id::{AclHash, DeviceId, EntryHash, SpaceId};
use crate::keys::{self, Domain, SecretKey, Signer};
use crate::limits::{
    ACL_REF_ENTRIES_MAX, ENTRIES_PER_DEVICE_MAX, ENTRIES_PER_SPACE_MAX, ENTRIES_RESERVED, ENTRY_PREV_MAX,
    INVITE_USES_MAX,
};
use crate::space::roles::Role;

mod entry;
mod log;
pub mod reference;
#[cfg(test)]
mod tests;

use entry::{AdmitFields, Body, GenesisFields, InviteFields, Kind, Parsed, Raw, VoidFields, encoded, kind, too_large};
use log::{Invite, Log, Place, Weight};

/// The membership log of one space.
#[derive(Debug, Clone)]
pub struct Membership {
    space: SpaceId,
    log: Log,
}

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
    /// It is new and in the log now.
    New,
    /// It names entries that are not here. Nothing was kept.
    MissingPrev,
    /// Its author had no power for it in the state of its ancestors. Nothing was kept.
    Powerless,
}

/// What a device shows that asks to be let in: with an invite's key it has signed that it holds the ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinRequest {
    /// The public half of the invite's key.
    pub invite: DeviceId,
    /// The invite key's signature over the space and the device.
    pub proof: [u8; keys::SIGNATURE_LEN],
}

/// An entry with authority that this program does not understand, so that it cannot tell who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAuthority {
    /// Its kind number.
    pub kind: u8,
    /// Its hash.
    pub entry: EntryHash,
    /// Who signed it: an admin.
    pub author: DeviceId,
}

/// Why an entry was refused. Nothing was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Not an entry of this space, badly signed, or malformed.
    #[error("malformed membership entry: {0}")]
    Malformed(String),
    /// Of a version that this program does not read. No offence: a later program may have made it.
    #[error("a membership entry of version {found}, this program reads version {read}", found = .0, read = entry::VERSION)]
    OtherVersion(u8),
    /// Not signed by its author.
    #[error("the signature of a membership entry does not hold")]
    BadSignature,
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
    /// A device is to be let in that has the role already.
    #[error("the device is {} already", .0.with_article())]
    AlreadyMember(Role),
    /// The log holds authority that this program does not understand, so that it cannot tell who may do this.
    #[error("{0}")]
    UnknownAuthority(UnknownAuthority),
    /// An entry that is to be voided is no unknown authority, or is voided.
    #[error("the space has no entry {0} of a kind that this version does not know")]
    NothingToVoid(EntryHash),
    /// What we signed does not count in our own log.
    #[error(
        "the membership log does not take an entry of our own: its author lacks the role in the state of its ancestors"
    )]
    Powerless,
}

impl core::fmt::Display for UnknownAuthority {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { kind, entry, author } = self;
        write!(
            f,
            "the space is read-only here: the admin {author} has signed membership entry {entry} of kind {kind}, which this \
             version does not know. Update it, or have an admin void the entry"
        )
    }
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
    /// Who let it in: the entry's author. The founder let itself in.
    pub admitted_by: DeviceId,
}

impl Membership {
    /// Founds a space: the log with its genesis entry, in which `key`'s device is admin.
    pub fn found(key: &dyn Signer, name: &str, nonce: [u8; 16]) -> Result<(SpaceId, Self, Entry), MembershipError> {
        entry::check_name(name)?;
        let fields = encoded(GenesisFields { name });
        let genesis = Body {
            version: entry::VERSION,
            space: None,
            prev: None,
            author: key.device(),
            depth: 0,
            kind: kind::GENESIS,
            fields: Raw(&fields),
            nonce,
        };
        let genesis = genesis.sign(key);
        let mut membership = Self::unknown(entry::space_of(&genesis.bytes));
        membership.insert(&genesis.bytes)?;
        Ok((membership.space, membership, genesis))
    }

    /// The log of a space of which nothing is known but its id (a joiner's).
    pub fn unknown(space: SpaceId) -> Self {
        Self { space, log: Log::default() }
    }

    /// The log with these entries, in any order. Entries that name others which are not among them are left out.
    ///
    /// # Errors
    /// One of them is malformed, or there are too many.
    pub fn load<'a>(space: SpaceId, entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, MembershipError> {
        let mut membership = Self::unknown(space);
        let mut parsed = Vec::new();
        for bytes in entries {
            parsed.push((Parsed::read_signed(bytes, &space)?, bytes));
        }
        // Every entry is deeper than those that it names.
        parsed.sort_by_key(|(parsed, _)| parsed.depth);
        for (parsed, bytes) in parsed {
            // Whether there is room was asked when it came.
            membership.take(entry::hash(bytes), bytes, parsed, |_, _, _| Ok(()))?;
        }
        Ok(membership)
    }

    /// The space's id.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The space's name; `None` until the genesis entry is here.
    pub fn name(&self) -> Option<&str> {
        match &self.log.genesis()?.kind {
            Kind::Genesis { name } => Some(name),
            _ => None,
        }
    }

    /// Takes in an entry, whoever brings it: signature, form, limits, and whether its author had power for it.
    ///
    /// # Errors
    /// It is malformed, or the log has no room for it.
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, MembershipError> {
        let hash = entry::hash(bytes);
        if self.log.place(&hash).is_some() {
            return Ok(Inserted::Known);
        }
        let parsed = Parsed::read(bytes, &self.space)?;
        self.take(hash, bytes, parsed, |log, parsed, prev| {
            log.room_for(&parsed.author, log.log.role_at(prev, &parsed.author) == Some(Role::Admin))?;
            parsed.check_signature(bytes)
        })
    }

    /// Whether the log has room for one more entry by this device. An admin needs room to mend what others have done.
    fn room_for(&self, author: &DeviceId, is_admin: bool) -> Result<(), MembershipError> {
        let (entries, by_it) = (self.log.len(), self.log.entries_by(author));
        let max = if is_admin { ENTRIES_PER_SPACE_MAX } else { ENTRIES_PER_SPACE_MAX - ENTRIES_RESERVED };
        if entries >= max {
            return Err(too_large("the membership log", entries + 1, "entries", max));
        }
        if !is_admin && by_it >= ENTRIES_PER_DEVICE_MAX {
            return Err(too_large("one device", by_it + 1, "membership entries", ENTRIES_PER_DEVICE_MAX));
        }
        Ok(())
    }

    /// Signs that a device is let in which asks for it. A device that an invite has let in once does not use it up again.
    ///
    /// # Errors
    /// Our role does not allow it, the invite is not here, is used up or was not proven, or there is no room.
    pub fn admit(
        &self,
        key: &dyn Signer,
        device: &DeviceId,
        request: &JoinRequest,
        nonce: [u8; 16],
    ) -> Result<Entry, MembershipError> {
        // The invite may have been revoked in a way that we cannot read.
        self.understood()?;
        let invite = self.invite_of(&request.invite)?;
        self.uses_left(invite, device)?;
        if !keys::verify(&invite.key, Domain::Invite, &entry::proof_bytes(&self.space, device), &request.proof) {
            return Err(MembershipError::Malformed("its proof was not made with the invite's key".into()));
        }
        let own = self.log.grant(&key.device());
        self.room_for(&key.device(), own.is_some_and(|(_, role)| role == Role::Admin))?;
        let needed: Vec<Place> = own.map(|(place, _)| place).into_iter().chain([invite.place]).collect();
        let invite_entry = self.log.record(invite.place).hash;
        let fields = encoded(AdmitFields { invite: invite_entry, device: *device, proof: request.proof });
        let entry = self.entry_after(&needed, key, kind::ADMIT, &fields, nonce)?;
        // Our heads may be too many to stand on, and some of its uses not among them.
        let parsed = Parsed::read(&entry.bytes, &self.space)?;
        let prev = self.prev_of(&parsed)?.unwrap_or_default();
        self.log.admits(&self.space, &parsed, &prev)?;
        Ok(entry)
    }

    /// Whether an invite may let this device in. One that it let in before counts once.
    fn uses_left(&self, invite: Invite, joiner: &DeviceId) -> Result<(), MembershipError> {
        let used = self.log.uses(invite.place, joiner);
        if used < invite.max_uses as usize {
            return Ok(());
        }
        Err(MembershipError::InviteUsedUp { used: u32::try_from(used).unwrap_or(u32::MAX), max: invite.max_uses })
    }

    /// Signs an invite. `invite_pk` is the public half of the ticket's key.
    pub fn invite(
        &self,
        key: &dyn Signer,
        invite_pk: DeviceId,
        role: Role,
        max_uses: u32,
        nonce: [u8; 16],
    ) -> Result<Entry, MembershipError> {
        self.understood()?;
        let place = self.needs_admin(&key.device())?;
        if !(1..=INVITE_USES_MAX).contains(&max_uses) {
            return Err(MembershipError::TooLarge(format!(
                "an invite allows {max_uses} uses, it may be 1 to {INVITE_USES_MAX}"
            )));
        }
        self.room_for(&key.device(), true)?;
        if !keys::is_sound(&invite_pk) {
            return Err(MembershipError::Malformed("an invite with a weak key".into()));
        }
        let fields = encoded(InviteFields { key: invite_pk, role: role.number(), max_uses });
        self.entry_after(&[place], key, kind::INVITE, &fields, nonce)
    }

    /// What `device` shows to be let in, made with an invite's secret key.
    ///
    /// # Errors
    /// The invite is not in the log yet.
    pub fn request(&self, device: &DeviceId, invite: &SecretKey) -> Result<JoinRequest, MembershipError> {
        let found = self.invite_of(&invite.device())?;
        let proof = invite.sign(Domain::Invite, &entry::proof_bytes(&self.space, device));
        Ok(JoinRequest { invite: found.key, proof })
    }

    /// A member lets itself in once more: `None` if the invite gives it no more than it has.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn join_again(
        &self,
        key: &dyn Signer,
        invite: &SecretKey,
        nonce: [u8; 16],
    ) -> Result<Option<Entry>, MembershipError> {
        let device = key.device();
        let found = self.invite_of(&invite.device())?;
        if self.role(&device) >= Some(found.role) {
            return Ok(None);
        }
        self.admit(key, &device, &self.request(&device, invite)?, nonce).map(Some)
    }

    /// Signs that an entry of unknown authority has none.
    ///
    /// # Errors
    /// We are no admin, or the log has no such entry.
    pub fn void(&self, key: &dyn Signer, entry: EntryHash, nonce: [u8; 16]) -> Result<Entry, MembershipError> {
        let place = self.needs_admin(&key.device())?;
        let Some(voided) = self.log.place(&entry).filter(|_| self.log.is_unknown(&entry)) else {
            return Err(MembershipError::NothingToVoid(entry));
        };
        self.room_for(&key.device(), true)?;
        self.entry_after(&[place, voided], key, kind::VOID, &encoded(VoidFields { entry }), nonce)
    }

    /// The entry that makes a device an admin.
    fn needs_admin(&self, device: &DeviceId) -> Result<Place, MembershipError> {
        match self.log.grant(device) {
            Some((place, Role::Admin)) => Ok(place),
            grant => {
                let role = grant.map_or("not a member", |(_, role)| role.with_article());
                Err(MembershipError::NotAllowed { needed: "an admin is", role })
            }
        }
    }

    fn invite_of(&self, key: &DeviceId) -> Result<Invite, MembershipError> {
        self.log.invites_of(key).max_by_key(|invite| invite.role).ok_or(MembershipError::NoSuchInvite)
    }

    /// Hashes of every entry, sorted.
    pub fn hashes(&self) -> Vec<EntryHash> {
        self.log.hashes().copied().collect()
    }

    /// An entry's bytes.
    pub fn entry(&self, hash: &EntryHash) -> Option<&[u8]> {
        self.log.place(hash).map(|place| &*self.log.record(place).bytes)
    }

    /// The number of the entry whose hash begins like this. It is greater than those of the entries that it names, and stays
    /// as it is while the log is in memory.
    pub fn number(&self, key: &[u8; 16]) -> Option<u32> {
        self.log.beginning_with(key)
    }

    /// The bytes of the entry with this number.
    pub fn numbered(&self, number: u32) -> Option<&[u8]> {
        self.log.get(number).map(|record| &*record.bytes)
    }

    /// The given entries in an order in which each comes after those it names. Those that are not here are left out.
    pub fn in_order(&self, hashes: &[EntryHash]) -> Vec<EntryHash> {
        let mut places: Vec<Place> = hashes.iter().filter_map(|hash| self.log.place(hash)).collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().map(|place| self.log.record(place).hash).collect()
    }

    /// The sorted heads of the log, at most `ACL_REF_ENTRIES_MAX`: beyond that the deepest.
    pub fn heads(&self) -> Vec<EntryHash> {
        self.log.tips(ACL_REF_ENTRIES_MAX, &[]).0
    }

    /// The `acl_ref` that `device` signs under now: the heads, or where they are too many as many of them as leave it the
    /// role it has.
    pub fn acl_ref(&self, device: &DeviceId) -> Vec<EntryHash> {
        let needed = self.log.grant(device).map(|(place, _)| place);
        self.log.tips(ACL_REF_ENTRIES_MAX, needed.as_slice()).0
    }

    /// Who signed each entry, and its bytes.
    pub fn authors(&self) -> impl Iterator<Item = (DeviceId, usize)> {
        self.log.records().map(|record| (record.author, record.bytes.len()))
    }

    /// Every member with its role now, by device.
    pub fn members(&self) -> Vec<Member> {
        let member = |device: &DeviceId| {
            let (place, role) = self.log.grant(device)?;
            let record = self.log.record(place);
            Some(Member { device: *device, role, entry: record.hash, admitted_by: record.author })
        };
        self.log.devices().filter_map(member).collect()
    }

    /// A device's role now.
    pub fn role(&self, device: &DeviceId) -> Option<Role> {
        self.log.grant(device).map(|(_, role)| role)
    }

    /// A device's role in the state that the given entries stand for; `None` if one of them is not here.
    pub fn authority(&self, acl: &[EntryHash], device: &DeviceId) -> Option<Authority> {
        let places: Vec<Place> = acl.iter().map(|hash| self.log.place(hash)).collect::<Option<_>>()?;
        Some(Authority { role: self.log.role_at(&places, device) })
    }

    /// An entry by an admin that carries authority we do not understand, of several the one of the smallest kind: while there
    /// is one, the space is read-only for us. An admin can void it.
    pub fn unknown_authority(&self) -> Option<UnknownAuthority> {
        self.log.unknown().map(|(kind, entry, author)| UnknownAuthority { kind, entry, author })
    }

    fn understood(&self) -> Result<(), MembershipError> {
        self.unknown_authority().map_or(Ok(()), |unknown| Err(MembershipError::UnknownAuthority(unknown)))
    }

    fn take(
        &mut self,
        hash: EntryHash,
        bytes: &[u8],
        parsed: Parsed,
        check: impl FnOnce(&Self, &Parsed, &[Place]) -> Result<(), MembershipError>,
    ) -> Result<Inserted, MembershipError> {
        if self.log.place(&hash).is_some() {
            return Ok(Inserted::Known);
        }
        let Some(prev) = self.prev_of(&parsed)? else { return Ok(Inserted::MissingPrev) };
        let weight = self.log.weigh(&self.space, &parsed, &prev);
        if matches!(weight, Weight::None) {
            return Ok(Inserted::Powerless);
        }
        check(self, &parsed, &prev)?;
        self.log.push(hash, bytes, parsed, &prev, weight);
        Ok(Inserted::New)
    }

    /// Where the entries are that an entry names; `None` if one is not here.
    fn prev_of(&self, parsed: &Parsed) -> Result<Option<Vec<Place>>, MembershipError> {
        let Some(prev) = parsed.prev.iter().map(|hash| self.log.place(hash)).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let deepest = prev.iter().map(|place| self.log.record(*place).depth).max();
        let expected = deepest.map_or(Some(0), |depth| depth.checked_add(1));
        if expected != Some(parsed.depth) {
            let Parsed { depth, .. } = parsed;
            let deepest = deepest.unwrap_or(0);
            return Err(MembershipError::Malformed(format!("its depth is {depth}, that of its ancestors {deepest}")));
        }
        Ok(Some(prev))
    }

    /// Signs an entry that has our heads as its ancestors, and `needed` in any case.
    fn entry_after(
        &self,
        needed: &[Place],
        key: &dyn Signer,
        kind: u8,
        fields: &[u8],
        nonce: [u8; 16],
    ) -> Result<Entry, MembershipError> {
        let (prev, depth) = self.log.tips(ENTRY_PREV_MAX, needed);
        let depth =
            depth.checked_add(1).ok_or_else(|| MembershipError::TooLarge("the membership log is too deep".into()))?;
        let body = Body {
            version: entry::VERSION,
            space: Some(self.space),
            prev: Some(prev),
            author: key.device(),
            depth,
            kind,
            fields: Raw(fields),
            nonce,
        };
        Ok(body.sign(key))
    }
}

/// The hash that stands for an `acl_ref` in signed bytes: BLAKE3 over a domain and the sorted entry hashes.
pub fn acl_hash(entries: &[EntryHash]) -> AclHash {
    let mut sorted = entries.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"anabranch/v1/acl\0");
    sorted.iter().for_each(|entry| _ = hasher.update(&entry.0));
    AclHash(*hasher.finalize().as_bytes())
}

/// The hash of an entry's bytes.
pub fn entry_hash(bytes: &[u8]) -> EntryHash {
    entry::hash(bytes)
}
