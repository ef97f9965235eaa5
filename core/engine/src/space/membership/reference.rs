//! The resolver once more, from scratch and as short as possible: what `log` must agree with on every set of entries, and
//! who audits a store judges by. Nothing of a running engine uses it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::MembershipError;
use super::entry::{self, Kind, Parsed, proof_bytes};
use crate::id::{DeviceId, EntryHash, SpaceId};
use crate::keys::{self, Domain};
use crate::space::roles::Role;

/// A set of entries closed under `prev`.
#[derive(Debug)]
pub struct Reference {
    space: SpaceId,
    entries: BTreeMap<EntryHash, Parsed>,
    counting: BTreeSet<EntryHash>,
    missing: Option<EntryHash>,
}

impl Reference {
    /// Reads entries, as they are stored. What stands on an entry that is not among them is left out: see [`Self::missing`].
    ///
    /// # Errors
    /// One of them is malformed.
    pub fn read<'a>(space: SpaceId, entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, MembershipError> {
        let read = |bytes| Ok((entry::hash(bytes), Parsed::read(bytes, &space)?));
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
        let mut reference = Self { space, entries, counting: BTreeSet::new(), missing: None };
        for (_, hash) in order {
            let entry = &reference.entries[&hash];
            if reference.counts(entry, &reference.ancestors(&entry.prev)) {
                reference.counting.insert(hash);
            }
        }
        reference
    }

    /// Whether an entry is among these.
    pub fn has(&self, entry: &EntryHash) -> bool {
        self.entries.contains_key(entry)
    }

    /// Who has which role in the state that some of the entries stand for.
    pub fn state(&self, of: &[EntryHash]) -> BTreeMap<DeviceId, Role> {
        let mut state = BTreeMap::new();
        for entry in self.ancestors(of).intersection(&self.counting).map(|hash| &self.entries[hash]) {
            if let Some(role) = self.gives(entry) {
                state.entry(entry.author).and_modify(|known: &mut Role| *known = role.max(*known)).or_insert(role);
            }
        }
        state
    }

    /// The smallest kind number of authority that this program does not know, if an entry that counts has such a kind.
    pub fn unknown_authority(&self) -> Option<u8> {
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

/// An entry, and one that it stands on and that is not there.
fn dangling(entries: &BTreeMap<EntryHash, Parsed>) -> Option<(EntryHash, EntryHash)> {
    let missing = |entry: &Parsed| entry.prev.iter().find(|prev| !entries.contains_key(*prev)).copied();
    entries.iter().find_map(|(hash, entry)| Some((*hash, missing(entry)?)))
}
