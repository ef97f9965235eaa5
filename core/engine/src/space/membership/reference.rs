//! The resolver once more, from scratch and as short as possible: what `log` must agree with on every set of entries.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::entry::{Kind, Parsed, proof_bytes};
use crate::id::{DeviceId, EntryHash, SpaceId};
use crate::keys::{self, Domain};
use crate::space::roles::Role;

/// A set of entries closed under `prev`.
pub(super) struct Reference<'a> {
    space: SpaceId,
    entries: &'a BTreeMap<EntryHash, Parsed>,
    counting: BTreeSet<EntryHash>,
}

impl<'a> Reference<'a> {
    pub(super) fn new(space: SpaceId, entries: &'a BTreeMap<EntryHash, Parsed>) -> Self {
        let mut reference = Self { space, entries, counting: BTreeSet::new() };
        let mut order: Vec<_> = entries.keys().collect();
        order.sort_by_key(|hash| (entries[*hash].depth, **hash));
        for hash in order {
            let entry = &entries[hash];
            if reference.counts(entry, &reference.ancestors(&entry.prev)) {
                reference.counting.insert(*hash);
            }
        }
        reference
    }

    /// The state that some entries stand for.
    pub(super) fn state(&self, of: &[EntryHash]) -> BTreeMap<DeviceId, Role> {
        let mut state = BTreeMap::new();
        for entry in self.ancestors(of).intersection(&self.counting).map(|hash| &self.entries[hash]) {
            if let Some(role) = self.gives(entry) {
                state.entry(entry.author).and_modify(|known: &mut Role| *known = role.max(*known)).or_insert(role);
            }
        }
        state
    }

    pub(super) fn unknown_authority(&self) -> Option<u8> {
        let unknown = |hash| match self.entries[hash].kind {
            Kind::UnknownAuthority(number) => Some(number),
            _ => None,
        };
        self.counting.iter().filter_map(unknown).min()
    }

    fn counts(&self, entry: &Parsed, ancestors: &BTreeSet<EntryHash>) -> bool {
        let of: Vec<_> = ancestors.iter().copied().collect();
        let author = self.state(&of).get(&entry.author).copied();
        match &entry.kind {
            Kind::Genesis { .. } => true,
            Kind::Invite { .. } => author == Some(Role::Admin),
            Kind::Join { invite, proof } => match self.entries.get(invite).map(|invite| &invite.kind) {
                Some(Kind::Invite { key, .. }) if ancestors.contains(invite) && self.counting.contains(invite) => {
                    keys::verify(key, Domain::Invite, &proof_bytes(&self.space, &entry.author), proof)
                }
                _ => false,
            },
            Kind::UnknownAuthority(_) => author.is_some(),
            Kind::Informs => false,
        }
    }

    fn gives(&self, entry: &Parsed) -> Option<Role> {
        match &entry.kind {
            Kind::Genesis { .. } => Some(Role::Admin),
            Kind::Join { invite, .. } => match self.entries[invite].kind {
                Kind::Invite { role, .. } => Some(role),
                _ => None,
            },
            _ => None,
        }
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
