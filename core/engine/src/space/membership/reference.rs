//! The resolver once more, from scratch and as short as possible: what `log` must agree with on every set of entries, and
//! who audits a store judges by. Nothing of a running engine uses it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::MembershipError;
use super::entry::{self, Kind, Parsed, proof_bytes};
use crate::id::{DeviceId, EntryHash, SpaceId};
use crate::keys::{self, Domain};
use crate::limits::{INVITE_USES_MAX, MEMBERS_MAX};
use crate::space::roles::Role;

/// A set of entries closed under `prev`.
#[derive(Debug)]
pub struct Reference {
    space: SpaceId,
    entries: BTreeMap<EntryHash, Parsed>,
    counting: BTreeSet<EntryHash>,
    /// Of each admission that counts: how many others its author had let in by the same invite.
    earlier: BTreeMap<EntryHash, usize>,
    missing: Option<EntryHash>,
}

impl Reference {
    /// Reads entries, as they are stored. What stands on an entry that is not among them is left out: see [`Self::missing`].
    ///
    /// # Errors
    /// One of them is malformed.
    pub fn read<'a>(space: SpaceId, entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, MembershipError> {
        let read = |bytes| Ok((entry::hash(bytes), Parsed::read_signed(bytes, &space)?));
        let mut entries = entries.into_iter().map(read).collect::<Result<BTreeMap<_, _>, MembershipError>>()?;
        let mut missing = None;
        while let Some((stands, on)) = dangling(&entries) {
            missing.get_or_insert(on);
            entries.remove(&stands);
        }
        Ok(Self { missing, ..Self::new(space, entries) })
    }

    /// One that was not among those read, though others stand on it.
    pub fn missing(&self) -> Option<EntryHash> {
        self.missing
    }

    pub(super) fn new(space: SpaceId, entries: BTreeMap<EntryHash, Parsed>) -> Self {
        let mut order: Vec<_> = entries.iter().map(|(hash, entry)| (entry.depth, *hash)).collect();
        order.sort_unstable();
        let mut reference = Self { space, entries, counting: BTreeSet::new(), earlier: BTreeMap::new(), missing: None };
        for (_, hash) in order {
            let entry = &reference.entries[&hash];
            let ancestors = reference.ancestors(&entry.prev);
            if reference.counts(entry, &ancestors) {
                if let Kind::Admit { invite, device, .. } = &entry.kind {
                    let author = entry.author;
                    let is_alike = |other: &(EntryHash, DeviceId)| {
                        other.1 != *device && reference.entries[&other.0].author == author
                    };
                    let earlier = reference.admitted(invite, &ancestors, is_alike).len();
                    reference.earlier.insert(hash, earlier);
                }
                reference.counting.insert(hash);
            }
        }
        reference
    }

    /// An entry that is in no log: its author had no power for it.
    pub fn powerless(&self) -> Option<EntryHash> {
        self.entries.iter().find_map(|(hash, entry)| {
            let is_admin = self.state(&entry.prev).get(&entry.author) == Some(&Role::Admin);
            (!is_admin && !self.counting.contains(hash)).then_some(*hash)
        })
    }

    /// Whether an entry is among these.
    pub fn has(&self, entry: &EntryHash) -> bool {
        self.entries.contains_key(entry)
    }

    /// Who has which role in the state that some of the entries stand for.
    pub fn state(&self, of: &[EntryHash]) -> BTreeMap<DeviceId, Role> {
        let set = self.ancestors(of);
        let (mut state, mut admissions) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for hash in set.intersection(&self.counting) {
            let entry = &self.entries[hash];
            match &entry.kind {
                Kind::Genesis { .. } => _ = state.insert(entry.author, Role::Admin),
                Kind::Admit { invite, device, .. } => {
                    let rank = (self.earlier[hash], entry.depth, *hash);
                    admissions.entry((*invite, entry.author)).or_default().push((rank, *device));
                }
                _ => {}
            }
        }
        for ((invite, _), mut admitted) in admissions {
            let Kind::Invite { role, max_uses, .. } = self.entries[&invite].kind else { continue };
            admitted.sort_unstable();
            // Of the devices that one member has let in by one invite, the first ones.
            let mut devices = BTreeSet::new();
            for (_, device) in admitted {
                let others = devices.len() - usize::from(devices.contains(&device));
                if others < max_uses.min(INVITE_USES_MAX) as usize {
                    state.entry(device).and_modify(|known: &mut Role| *known = role.max(*known)).or_insert(role);
                }
                devices.insert(device);
            }
        }
        state
    }

    /// The smallest kind number of authority that this program does not know, if an entry that counts has such a kind and none
    /// that counts voids it.
    pub fn unknown_authority(&self) -> Option<u8> {
        let kinds = || self.counting.iter().map(|hash| (hash, &self.entries[hash].kind));
        let is_void =
            |entry: &EntryHash| kinds().any(|(_, kind)| matches!(kind, Kind::Void { entry: void } if void == entry));
        let unknown = |(hash, kind): (&EntryHash, &Kind)| match kind {
            Kind::UnknownAuthority(number) if !is_void(hash) => Some(*number),
            _ => None,
        };
        kinds().filter_map(unknown).min()
    }

    fn counts(&self, entry: &Parsed, ancestors: &BTreeSet<EntryHash>) -> bool {
        let of: Vec<_> = ancestors.iter().copied().collect();
        let state = self.state(&of);
        let author = state.get(&entry.author).copied();
        let is_earlier = |hash: &EntryHash| ancestors.contains(hash) && self.counting.contains(hash);
        match &entry.kind {
            Kind::Genesis { .. } => true,
            Kind::Invite { .. } | Kind::UnknownAuthority(_) => author == Some(Role::Admin),
            Kind::Void { entry } => {
                let is_unknown = is_earlier(entry) && matches!(self.entries[entry].kind, Kind::UnknownAuthority(_));
                author == Some(Role::Admin) && is_unknown
            }
            Kind::Admit { invite, device, proof } => {
                let may = author.is_some_and(|role| role.can_write() || entry.author == *device);
                let room = state.contains_key(device) || state.len() < MEMBERS_MAX;
                let Some(Kind::Invite { key, max_uses, role }) = self.entries.get(invite).map(|invite| &invite.kind)
                else {
                    return false;
                };
                let max = (*max_uses).min(INVITE_USES_MAX) as usize;
                let used = self.admitted(invite, ancestors, |other| other.1 != *device).len();
                let is_proven = || keys::verify(key, Domain::Invite, &proof_bytes(&self.space, device), proof);
                let gives = state.get(device) < Some(role);
                may && room && gives && is_earlier(invite) && used < max && is_proven()
            }
            Kind::Informs => false,
        }
    }

    /// Devices that entries in a set let in by an invite.
    fn admitted(
        &self,
        invite: &EntryHash,
        set: &BTreeSet<EntryHash>,
        which: impl Fn(&(EntryHash, DeviceId)) -> bool,
    ) -> BTreeSet<DeviceId> {
        let counting = set.intersection(&self.counting);
        let admissions = counting.filter_map(|hash| match &self.entries[hash].kind {
            Kind::Admit { invite: by, device, .. } if by == invite => Some((*hash, *device)),
            _ => None,
        });
        admissions.filter(which).map(|(_, device)| device).collect()
    }

    /// The entries themselves and everything that they stand on.
    fn ancestors(&self, of: &[EntryHash]) -> BTreeSet<EntryHash> {
        let mut found = BTreeSet::new();
        let mut open = of.to_vec();
        while let Some(hash) = open.pop() {
            if found.insert(hash) {
                open.extend(&self.entries[&hash].prev);
            }
        }
        found
    }
}

/// An entry, and one that it stands on and that is not there.
fn dangling(entries: &BTreeMap<EntryHash, Parsed>) -> Option<(EntryHash, EntryHash)> {
    let missing = |entry: &Parsed| entry.prev.iter().find(|prev| !entries.contains_key(*prev)).copied();
    entries.iter().find_map(|(hash, entry)| Some((*hash, missing(entry)?)))
}
