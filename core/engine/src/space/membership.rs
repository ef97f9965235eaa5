//! The signed membership log of a space and its resolver: from a set of entries to who may do what. Pure, total,
//! order-independent. Bytes are read in `entry`, what counts is decided in `log`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::gate::Authority;
use crate::id::{AclHash, DeviceId, EntryHash, SpaceId};
use crate::keys::{self, Domain, SecretKey, Signer};
use crate::limits::{
    ACL_REF_ENTRIES_MAX, ENTRIES_PER_DEVICE_MAX, ENTRIES_PER_SPACE_MAX, ENTRY_PREV_MAX, INVITE_USES_MAX, MEMBERS_MAX,
};
use crate::space::roles::Role;

mod entry;
mod log;
pub mod reference;
#[cfg(test)]
mod tests;

use entry::{Body, GenesisFields, InviteFields, JoinFields, Kind, Parsed, Raw, encoded, kind, too_large};
use log::{Invite, Log, Place};

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
    /// It is new and in the log now (valid or not: what it counts for is the resolver's business).
    New,
    /// It names entries that are not here. Nothing was kept.
    MissingPrev,
    /// Somebody else's joining, which is not admitted here. Nothing was kept, and who brought it is not to blame.
    NotAdmitted,
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
    /// The log holds authority that this program does not understand, so that it cannot tell who may do this.
    #[error(
        "the space uses membership entries of kind {0}, which this version does not know: update it; until then the space is read-only here"
    )]
    UnknownAuthority(u8),
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
            parsed.push((Parsed::read(bytes, &space)?, bytes));
        }
        // Every entry is deeper than those that it names.
        parsed.sort_by_key(|(parsed, _)| parsed.depth);
        for (parsed, bytes) in parsed {
            membership.take(entry::hash(bytes), bytes, parsed)?;
        }
        Ok(membership)
    }

    /// The log without what a device has signed, and without what stands on that. For entries that no member took.
    ///
    /// # Errors
    /// None in practice: what is left was in a log before.
    pub fn without(&self, author: &DeviceId) -> Result<Self, MembershipError> {
        let is_by_author = |bytes: &[u8]| {
            let names_it = bytes.windows(author.0.len()).any(|window| window == author.0);
            names_it && Parsed::read(bytes, &self.space).is_ok_and(|parsed| parsed.author == *author)
        };
        let hashes = self.hashes();
        Self::load(self.space, hashes.iter().filter_map(|hash| self.entry(hash)).filter(|bytes| !is_by_author(bytes)))
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

    /// Takes in an entry from the store or from a member: signature, form, limits. `max_uses` of invites is not enforced.
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, MembershipError> {
        let hash = entry::hash(bytes);
        if self.log.place(&hash).is_some() {
            return Ok(Inserted::Known);
        }
        let parsed = Parsed::read(bytes, &self.space)?;
        self.take(hash, bytes, parsed)
    }

    /// Takes in an entry from a member. One that the member has signed itself counts against `ENTRIES_PER_DEVICE_MAX`; what it
    /// brings of others was let in where it came from, and refusing it would keep two honest logs apart.
    pub fn take_from(&mut self, bytes: &[u8], member: &DeviceId) -> Result<Inserted, MembershipError> {
        let hash = entry::hash(bytes);
        if self.log.place(&hash).is_some() {
            return Ok(Inserted::Known);
        }
        let parsed = Parsed::read(bytes, &self.space)?;
        if parsed.author == *member {
            self.room_for(member)?;
        }
        self.take(hash, bytes, parsed)
    }

    fn room_for(&self, author: &DeviceId) -> Result<(), MembershipError> {
        let entries = self.log.entries_by(author);
        if entries < ENTRIES_PER_DEVICE_MAX {
            return Ok(());
        }
        Err(too_large("one device", entries + 1, "membership entries", ENTRIES_PER_DEVICE_MAX))
    }

    /// Takes in an entry from a device that is no member here (yet): entries by members as [`Self::insert`], which is how it
    /// shows who let it in while we were away; a joining, its own or that of somebody who was let in beside it, only if its
    /// invite is here, valid and not used up. A device that an invite let in once does not use it up again.
    pub fn admit(&mut self, bytes: &[u8], bearer: &DeviceId) -> Result<Inserted, MembershipError> {
        let hash = entry::hash(bytes);
        if self.log.place(&hash).is_some() {
            return Ok(Inserted::Known);
        }
        let parsed = Parsed::read(bytes, &self.space)?;
        if parsed.author == *bearer {
            return self.admit_author(hash, bytes, parsed);
        }
        if self.role(&parsed.author).is_some() {
            return self.take(hash, bytes, parsed);
        }
        Ok(self.admit_author(hash, bytes, parsed).unwrap_or(Inserted::NotAdmitted))
    }

    fn admit_author(&mut self, hash: EntryHash, bytes: &[u8], parsed: Parsed) -> Result<Inserted, MembershipError> {
        let joiner = parsed.author;
        // The invite may have been revoked in a way that we cannot read.
        self.understood()?;
        let Some(prev) = self.prev_of(&parsed)? else {
            return Ok(Inserted::MissingPrev);
        };
        let invite = self.log.joins_by(&self.space, &parsed, &prev)?;
        self.uses_left(invite, &joiner)?;
        let members = self.log.members().len();
        if self.role(&joiner).is_none() && members >= MEMBERS_MAX {
            return Err(too_large("the space", members + 1, "members", MEMBERS_MAX));
        }
        self.keep(hash, bytes, parsed, prev)
    }

    /// Whether an invite may let this device in. One that it let in before counts once.
    fn uses_left(&self, invite: Invite, joiner: &DeviceId) -> Result<(), MembershipError> {
        let used = self.log.uses(invite.place, joiner);
        let max = invite.max_uses.min(INVITE_USES_MAX);
        if used < max as usize {
            return Ok(());
        }
        Err(MembershipError::InviteUsedUp { used: u32::try_from(used).unwrap_or(u32::MAX), max })
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
        let grant = self.log.grant(&key.device());
        let Some((place, Role::Admin)) = grant else {
            let role = match grant {
                Some((_, role)) => role.with_article(),
                None => "not a member",
            };
            return Err(MembershipError::NotAllowed { needed: "an admin is", role });
        };
        if !(1..=INVITE_USES_MAX).contains(&max_uses) {
            return Err(MembershipError::TooLarge(format!(
                "an invite allows {max_uses} uses, it may be 1 to {INVITE_USES_MAX}"
            )));
        }
        self.room_for(&key.device())?;
        if !keys::is_sound(&invite_pk) {
            return Err(MembershipError::Malformed("an invite with a weak key".into()));
        }
        let fields = encoded(InviteFields { key: invite_pk, role: role.number(), max_uses });
        self.entry_after(place, key, kind::INVITE, &fields, nonce)
    }

    /// Signs our own joining, proven with the invite's secret key.
    pub fn join(&self, key: &dyn Signer, invite: &SecretKey, nonce: [u8; 16]) -> Result<Entry, MembershipError> {
        let found = self.invite_of(invite)?;
        let proof = invite.sign(Domain::Invite, &entry::proof_bytes(&self.space, &key.device()));
        let fields = encoded(JoinFields { invite: self.log.record(found.place).hash, proof });
        self.entry_after(found.place, key, kind::JOIN, &fields, nonce)
    }

    /// As [`Self::join`], for a member: `None` if the invite gives it no more than it has. Members take what one of them signs,
    /// so that it is for us to see that the invite has uses left.
    pub fn join_again(
        &self,
        key: &dyn Signer,
        invite: &SecretKey,
        nonce: [u8; 16],
    ) -> Result<Option<Entry>, MembershipError> {
        let found = self.invite_of(invite)?;
        let device = key.device();
        if self.role(&device) >= Some(found.role) {
            return Ok(None);
        }
        self.understood()?;
        self.uses_left(found, &device)?;
        self.room_for(&device)?;
        self.join(key, invite, nonce).map(Some)
    }

    fn invite_of(&self, key: &SecretKey) -> Result<Invite, MembershipError> {
        let key = key.device();
        let invites = self.log.invites().filter(|invite| invite.key == key);
        invites.max_by_key(|invite| invite.role).ok_or(MembershipError::NoSuchInvite)
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
        self.log.tips(ACL_REF_ENTRIES_MAX, None).0
    }

    /// The `acl_ref` that `device` signs under now: the heads, or where they are too many as many of them as leave it the
    /// role it has.
    pub fn acl_ref(&self, device: &DeviceId) -> Vec<EntryHash> {
        self.log.tips(ACL_REF_ENTRIES_MAX, self.log.grant(device).map(|(place, _)| place)).0
    }

    /// Every member with its role now, by device.
    pub fn members(&self) -> Vec<Member> {
        let member = |device: &DeviceId| {
            let (place, role) = self.log.grant(device)?;
            Some(Member { device: *device, role, entry: self.log.record(place).hash })
        };
        self.log.members().filter_map(member).collect()
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

    /// The smallest kind number of entries that carry authority we do not understand: while there is one, the space is
    /// read-only for us. An entry by who was no member does not count.
    pub fn unknown_authority(&self) -> Option<u8> {
        self.log.unknown_authority
    }

    fn understood(&self) -> Result<(), MembershipError> {
        self.unknown_authority().map_or(Ok(()), |kind| Err(MembershipError::UnknownAuthority(kind)))
    }

    fn take(&mut self, hash: EntryHash, bytes: &[u8], parsed: Parsed) -> Result<Inserted, MembershipError> {
        match self.prev_of(&parsed)? {
            Some(_) if self.log.place(&hash).is_some() => Ok(Inserted::Known),
            Some(prev) => self.keep(hash, bytes, parsed, prev),
            None => Ok(Inserted::MissingPrev),
        }
    }

    fn keep(
        &mut self,
        hash: EntryHash,
        bytes: &[u8],
        parsed: Parsed,
        prev: Vec<Place>,
    ) -> Result<Inserted, MembershipError> {
        if self.log.len() >= ENTRIES_PER_SPACE_MAX {
            return Err(too_large("the membership log", self.log.len() + 1, "entries", ENTRIES_PER_SPACE_MAX));
        }
        let counts = self.log.counts(&self.space, &parsed, &prev);
        self.log.push(hash, bytes, parsed, &prev, counts);
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
        needed: Place,
        key: &dyn Signer,
        kind: u8,
        fields: &[u8],
        nonce: [u8; 16],
    ) -> Result<Entry, MembershipError> {
        let (prev, depth) = self.log.tips(ENTRY_PREV_MAX, Some(needed));
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
