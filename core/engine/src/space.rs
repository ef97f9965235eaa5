//! One space: its members, what is known of its documents, the set that is reconciled. Which documents are in memory is the
//! engine's business.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::fmt;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::gate::Authority;
use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, EntryHash, SpaceId};
use crate::keys::SecretKey;
use crate::limits::{TICKET_ADDRESSES_MAX, TOLD_ADDRESSES_MAX};
use crate::space::membership::{Membership, acl_hash};
use crate::space::records::{Record, Records};
use crate::space::roles::Role;
use crate::space::ticket::Ticket;
use crate::sync::collection::{Collection, Digest, Key};

pub mod auth;
pub mod membership;
pub mod records;
pub mod roles;
pub mod ticket;

/// One space of a replica.
#[derive(Debug)]
pub struct Space {
    device: DeviceId,
    /// What lets us take part.
    pub access: Access,
    /// The membership log.
    pub membership: Membership,
    /// The same log as a set to reconcile.
    pub entries: Collection,
    /// Every document, as far as it is signed.
    pub records: Records,
    /// The same documents as a set to reconcile.
    pub documents: Collection,
    /// Every `acl_ref` that a run which is kept stands on. By the whole hash: who makes entries can find two lists that have its
    /// first bytes in common.
    acls: BTreeMap<AclHash, Acl>,
    /// The one that we sign under, made when it is asked for: a log grows by many entries at a time.
    current_acl: OnceCell<Acl>,
    /// Documents that are known to have two histories.
    pub forks: BTreeMap<DocumentId, Fork>,
    /// Addresses of the ticket at which somebody else answered.
    strangers: BTreeSet<String>,
    /// Where the feed was when another member was last found to hold all that is stored here; `None` since the start.
    pub held_elsewhere_until: Option<u64>,
}

/// An actor has two different changes with one number: its device was copied, or lies. Who has the one cannot take the
/// other, nor what was built on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Whose changes.
    pub actor: ActorId,
    /// A number from which on they differ, at the latest.
    pub seq: u64,
    /// The other change was here, signed by a writer; otherwise a peer says so.
    pub is_seen: bool,
}

/// What is stored about a space beside its log: the value of `Table::Spaces`.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Access {
    /// Version of this record.
    #[n(0)]
    pub version: u8,
    /// The connection key, from the founder or the ticket.
    #[n(1)]
    pub connection_key: ByteArray<32>,
    /// While joining: the invite.
    #[n(2)]
    pub invite: Option<Invitation>,
    /// Of a member that was invited again to a greater role: the invite, until it is seen in the log.
    #[n(3)]
    pub again: Option<Invitation>,
    /// Whose replica this was before its key was renewed, until we are let in under the new one.
    #[n(4)]
    pub former: Option<DeviceId>,
    /// Of a member that was given further tickets: where they say that members are, until one was met there.
    #[n(5)]
    pub told_at: Option<Vec<String>>,
}

/// What is kept of a ticket until we are admitted.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Invitation {
    /// Seed of the invite's key.
    #[n(0)]
    pub seed: ByteArray<32>,
    /// Where members may be found.
    #[n(1)]
    pub addresses: Vec<String>,
    /// Number of the role that the ticket says it gives; 0 where there was no ticket.
    #[n(2)]
    #[cbor(default)]
    pub role: u8,
}

/// An `acl_ref`: the membership entries that an author stood on, and the hash that stands for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// In signed bytes.
    pub hash: AclHash,
    /// Sorted.
    pub entries: Vec<EntryHash>,
}

impl fmt::Debug for Access {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, connection_key: _, invite, again, former, told_at } = self;
        f.debug_struct("Access")
            .field("version", version)
            .field("invite", invite)
            .field("again", again)
            .field("former", former)
            .field("told_at", told_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Invitation {
    /// Without the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed: _, addresses, role } = self;
        f.debug_struct("Invitation").field("addresses", addresses).field("role", role).finish_non_exhaustive()
    }
}

impl Access {
    /// Version of the stored form.
    pub const VERSION: u8 = 1;

    /// The record of a space that we founded.
    pub fn founded(connection_key: [u8; 32]) -> Self {
        let connection_key = connection_key.into();
        Self { version: Self::VERSION, connection_key, invite: None, again: None, former: None, told_at: None }
    }

    /// The record of a space that we want to join.
    pub fn joining(ticket: &Ticket) -> Self {
        Self { invite: Some(Invitation::of(ticket)), ..Self::founded(ticket.connection_key) }
    }

    /// Where members may be found, as far as tickets say.
    pub fn addresses(&self) -> impl Iterator<Item = &String> {
        let invites = [&self.invite, &self.again].into_iter().flatten();
        let invited = invites.flat_map(|invite| invite.addresses.iter().take(TICKET_ADDRESSES_MAX));
        invited.chain(self.told_at.iter().flatten().take(TOLD_ADDRESSES_MAX))
    }

    /// Notes where another ticket says that members are, besides what earlier ones say.
    pub fn told(&mut self, addresses: &[String]) {
        let mut told: Vec<String> = Vec::new();
        let earlier = self.told_at.take().unwrap_or_default();
        for address in addresses.iter().take(TICKET_ADDRESSES_MAX).chain(&earlier) {
            if told.len() < TOLD_ADDRESSES_MAX && !told.contains(address) {
                told.push(address.clone());
            }
        }
        self.told_at = Some(told).filter(|told| !told.is_empty());
    }

    /// The invitation that is to be used next, and whether it is the one that the space is joined with. One that stands for a
    /// lost log waits for another: no member lets anybody in by it.
    pub fn wanted(&self) -> Option<(&Invitation, bool)> {
        match (&self.invite, &self.again) {
            (Some(lost), Some(again)) if lost.is_lost() => Some((again, false)),
            (Some(invite), _) => Some((invite, true)),
            (None, Some(again)) => Some((again, false)),
            (None, None) => None,
        }
    }
}

impl Invitation {
    /// What is kept of a ticket.
    pub fn of(ticket: &Ticket) -> Self {
        Self { seed: ticket.invite_seed.into(), addresses: ticket.addresses.clone(), role: ticket.role.number() }
    }

    /// For one whom the members know, and who only lacks their log.
    pub fn lost() -> Self {
        Self { seed: [0; 32].into(), addresses: Vec::new(), role: 0 }
    }

    /// Whether it stands for a log that is lost, and for no ticket.
    pub fn is_lost(&self) -> bool {
        *self == Self::lost()
    }

    /// The secret key of the invite.
    pub fn key(&self) -> SecretKey {
        SecretKey::from_seed(&self.seed)
    }

    /// It may give more than this role.
    pub fn exceeds(&self, role: Role) -> bool {
        self.role > role.number()
    }
}

impl Acl {
    /// Names a list of entries. The list is sorted first.
    pub fn new(mut entries: Vec<EntryHash>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        Self { hash: acl_hash(&entries), entries }
    }
}

/// The key of a membership entry in its set.
pub fn entry_key(hash: &EntryHash) -> Key {
    *hash.0.first_chunk().expect("32 bytes begin with 16")
}

impl Space {
    /// A space around its log, as `device` sees it.
    pub fn new(device: DeviceId, access: Access, membership: Membership) -> Self {
        let mut entries = Collection::default();
        for hash in membership.hashes() {
            entries.set(entry_key(&hash), Some(hash.0));
        }
        let records = Records::new(membership.space());
        Self {
            device,
            access,
            membership,
            entries,
            records,
            documents: Collection::default(),
            acls: BTreeMap::new(),
            current_acl: OnceCell::new(),
            forks: BTreeMap::new(),
            strangers: BTreeSet::new(),
            held_elsewhere_until: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> SpaceId {
        self.membership.space()
    }

    /// The connection key.
    pub fn connection_key(&self) -> [u8; 32] {
        *self.access.connection_key
    }

    /// The invite's key, while we are not yet admitted.
    pub fn joining(&self) -> Option<SecretKey> {
        self.access.invite.as_ref().map(Invitation::key)
    }

    /// Our key was renewed, and no ticket has come since: until one does, no peer is met in this space.
    pub fn needs_ticket(&self) -> bool {
        self.access.former.is_some() && self.access.invite.is_none() && self.membership.role(&self.device).is_none()
    }

    /// We take part: a member has let us in under the key that we have.
    pub fn is_admitted(&self) -> bool {
        self.joining().is_none() && !self.needs_ticket()
    }

    /// A member has let us in under a renewed key. Where we may not write any more as we could before, what was written meanwhile
    /// stays here, and so does the former device.
    pub fn forget_former(&mut self) {
        let can_write = |device: &DeviceId| self.membership.role(device).is_some_and(Role::can_write);
        self.access.former = self.access.former.filter(|former| can_write(former) && !can_write(&self.device));
    }

    /// Somebody without the space answered at an address. Says whether that is so now at every address of the ticket.
    pub fn answered_by_a_stranger(&mut self, address: &str) -> bool {
        let Some(invite) = &self.access.invite else { return false };
        if !invite.addresses.iter().any(|at| at == address) {
            return false;
        }
        self.strangers.insert(String::from(address));
        invite.addresses.iter().all(|at| self.strangers.contains(at))
    }

    /// We have another ticket, or none any more.
    pub fn joins_with(&mut self, access: Access) {
        self.access = access;
        self.strangers.clear();
    }

    /// Notes that the log has grown by this entry.
    pub fn entry_added(&mut self, hash: &EntryHash) {
        self.entries.set(entry_key(hash), Some(hash.0));
        self.current_acl.take();
    }

    /// The `acl_ref` that we sign under now.
    pub fn current_acl(&self) -> &Acl {
        self.current_acl.get_or_init(|| Acl::new(self.membership.acl_ref(&self.device)))
    }

    /// An `acl_ref` that is known here.
    pub fn acl(&self, hash: &AclHash) -> Option<&Acl> {
        if self.current_acl().hash == *hash { Some(self.current_acl()) } else { self.acls.get(hash) }
    }

    /// Whether it can be told what the members of an `acl_ref` may do.
    pub fn knows(&self, acl: &AclHash) -> bool {
        self.own_authority(acl).is_some()
    }

    /// Whether we may write by an `acl_ref`, as far as can be told here.
    pub fn lets_us_write(&self, acl: &AclHash) -> bool {
        self.own_authority(acl).is_some_and(|authority| authority.role.is_some_and(Role::can_write))
    }

    fn own_authority(&self, acl: &AclHash) -> Option<Authority> {
        self.membership.authority(&self.acl(acl)?.entries, &self.device)
    }

    /// Whether an `acl_ref` is stored.
    pub fn has_acl(&self, acl: &Acl) -> bool {
        self.acls.contains_key(&acl.hash)
    }

    /// Keeps an `acl_ref` that a good run stands on; says whether it is new and so has to be stored.
    pub fn keep_acl(&mut self, acl: &Acl) -> bool {
        let news = !self.has_acl(acl);
        if news {
            self.acls.insert(acl.hash, acl.clone());
        }
        news
    }

    /// Takes in the records of a space that was stored.
    pub fn adopt(&mut self, records: Records) {
        for (document, digest) in records.digests() {
            self.documents.set(document.0, digest);
        }
        self.records = records;
    }

    /// Sets a document's record and its place in the set. One of which damage left nothing is not in it: there is nothing that
    /// could be sent to a peer that lacks it, and one that has it sends it whole.
    pub fn set_record(&mut self, document: DocumentId, record: Record) {
        self.documents.set(document.0, document_digest(&document, &record.signed.heads));
        self.records.set(document, record);
    }

    /// What our role keeps us from, in the words of an error: `None` if we may write.
    pub fn role_for_writing(&self) -> Option<&'static str> {
        if !self.is_admitted() {
            // What the owner of a renewed key writes is signed again when it is let in.
            let former = self.access.former.and_then(|former| self.membership.role(&former));
            return if former.is_some_and(Role::can_write) { None } else { Some("not yet admitted") };
        }
        match self.membership.role(&self.device) {
            Some(role) if role.can_write() => None,
            Some(Role::Reader) => Some("a reader"),
            Some(Role::Writer | Role::Admin) | None => Some("not a member"),
        }
    }

    /// The devices of all members but us.
    pub fn others(&self) -> BTreeSet<DeviceId> {
        self.membership
            .members()
            .into_iter()
            .map(|member| member.device)
            .filter(|member| *member != self.device)
            .collect()
    }
}

/// What a document is compared by: BLAKE3 over a domain, its id, its sorted heads and a byte of flags (none yet). `None` without
/// heads.
pub fn document_digest(document: &DocumentId, heads: &[ChangeHash]) -> Option<Digest> {
    if heads.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"anabranch/v1/document\0").update(&document.0).update(&[0]);
    for head in heads {
        hasher.update(&head.0);
    }
    Some(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    // A second ticket took the place of the first, also one without addresses; and where there was an invitation, its addresses
    // alone were dialed.
    #[test]
    fn addresses_of_all_tickets_are_kept_up_to_a_limit() {
        let texts = |texts: &[&str]| texts.iter().map(|text| String::from(*text)).collect::<Vec<_>>();
        let mut access = Access::founded([0; 32]);
        access.told(&texts(&["a", "b"]));
        access.told(&[]);
        access.told(&texts(&["c", "b"]));
        assert_eq!(access.told_at, Some(texts(&["c", "b", "a"])));
        let four = texts(&["p", "q", "r", "s"]);
        access.again = Some(Invitation { addresses: four.clone(), ..Invitation::lost() });
        assert!(access.addresses().eq(four.iter().chain(&texts(&["c", "b", "a"]))));
        (0..10).for_each(|number| access.told(&[alloc::format!("{number}.0"), alloc::format!("{number}.1")]));
        let told = access.told_at.unwrap_or_default();
        assert_eq!((told.len(), told.first().map(String::as_str)), (TOLD_ADDRESSES_MAX, Some("9.0")));
    }

    #[test]
    fn lists_whose_hashes_begin_alike_are_two_lists() {
        let (_, membership, _) = Membership::found(&SecretKey::from_seed(&[1; 32]), "orchard", [0; 16]).unwrap();
        let founder = SecretKey::from_seed(&[1; 32]).device();
        let mut space = Space::new(founder, Access::founded([2; 32]), membership);
        // As somebody can grind them out: the hashes differ in their last byte only.
        let [mut known, mut unknown] = [Acl::new(space.membership.heads()), Acl::new(alloc::vec![EntryHash([3; 32])])];
        (known.hash, unknown.hash) = (AclHash([4; 32]), AclHash([4; 32]));
        unknown.hash.0[31] = 5;
        assert!(space.keep_acl(&unknown));
        assert!(!space.has_acl(&known));
        assert!(space.keep_acl(&known), "the other one does not stand for it");
        assert!(!space.keep_acl(&known) && !space.keep_acl(&unknown), "both are kept");
        assert_eq!((space.acl(&known.hash), space.acl(&unknown.hash)), (Some(&known), Some(&unknown)));
        assert!(space.lets_us_write(&known.hash));
        assert!(!space.knows(&unknown.hash));
    }
}
