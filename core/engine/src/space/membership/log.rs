//! Entries in an order in which each comes after those it names, and the resolver over them: which entries count, and who
//! has which role in the state that a set of entries stands for.
//!
//! An entry counts if its author had the role it needs in the state of its ancestors. That is settled when the entry comes
//! in, since all its ancestors are here by then, and never changes: so the same entries give the same state in whatever order
//! they came. Only entries that count are kept, and those of admins. `reference` computes the same from scratch.
//!
//! One thing follows from a whole set and not from an entry's ancestors: of the devices that one member has let in by one
//! invite, only the first `max_uses` have a role. A member that keeps its own entries in a row never lets in more; one that
//! signs entries beside each other, each of which hides the others, gains nothing by it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::MembershipError;
use super::entry::{Kind, Parsed, proof_bytes, too_large};
use crate::id::{DeviceId, EntryHash, SpaceId};
use crate::keys::{self, Domain};
use crate::limits::{INVITE_USES_MAX, MEMBERS_MAX};
use crate::space::roles::Role;

/// An entry by its place in the log. Ancestors have smaller places; the genesis entry has place 0.
pub(super) type Place = u32;

/// The entries of one space.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    records: Vec<Record>,
    places: BTreeMap<EntryHash, Place>,
    /// What every entry names, one after the other: apart from the records, so that a sweep over it stays in the caches.
    prev: Vec<Place>,
    /// Of each entry.
    links: Vec<Links>,
    /// Entries that no other names, the deepest first.
    heads: BTreeSet<(Reverse<u32>, EntryHash, Place)>,
    /// Counting entries that give a device a role, by place.
    grants: BTreeMap<DeviceId, Vec<Grant>>,
    /// Invites that count, by the key that their tickets hold.
    invites: BTreeMap<DeviceId, Vec<Place>>,
    /// What let devices in: by the place of the invite, then by who signed it.
    admissions: BTreeMap<(Place, DeviceId), Admissions>,
    /// How many entries each device answers for: see [`Log::answers_for`].
    authors: BTreeMap<DeviceId, usize>,
    /// Entries with authority that we do not understand, and that no admin has voided.
    unknown: BTreeMap<(u8, EntryHash), DeviceId>,
}

/// Gives a device a role.
#[derive(Debug, Clone, Copy)]
struct Grant {
    place: Place,
    role: Role,
    /// By which invite, if it is not the founder's.
    invite: Option<Place>,
    /// Who signed it.
    by: DeviceId,
}

/// Whom one member has let in by one invite. Only the first `max_uses` devices have a role by it.
#[derive(Debug, Clone, Default)]
struct Admissions {
    by_rank: BTreeMap<Rank, (Place, DeviceId)>,
    /// Each device where it comes first.
    firsts: BTreeMap<DeviceId, Rank>,
    in_order: BTreeSet<(Rank, DeviceId)>,
}

/// Orders admissions, the same everywhere: how many others their author had let in by the same invite, as far as the ancestors
/// show; then depth and hash.
type Rank = (usize, u32, EntryHash);

impl Admissions {
    fn add(&mut self, rank: Rank, place: Place, device: DeviceId) {
        self.by_rank.insert(rank, (place, device));
        let first = self.firsts.entry(device).or_insert(rank);
        if rank <= *first {
            self.in_order.remove(&(*first, device));
            self.in_order.insert((rank, device));
            *first = rank;
        }
    }

    /// Whether a device is among the first `max`.
    fn admits(&self, device: &DeviceId, max: usize) -> bool {
        self.firsts.get(device).is_some_and(|first| self.in_order.range(..(*first, *device)).take(max).count() < max)
    }

    /// The same, where only some of the admissions are looked at.
    fn admits_among(&self, device: &DeviceId, max: usize, among: &impl Fn(Place) -> bool) -> bool {
        let mut before = BTreeSet::new();
        for (_, other) in self.by_rank.values().filter(|(place, _)| among(*place)) {
            if other == device {
                return true;
            }
            before.insert(*other);
            if before.len() >= max {
                return false;
            }
        }
        false
    }
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) hash: EntryHash,
    pub(super) bytes: Box<[u8]>,
    pub(super) author: DeviceId,
    pub(super) depth: u32,
    pub(super) kind: Kind,
    pub(super) counts: bool,
}

#[derive(Debug, Clone, Copy)]
struct Links {
    /// Where in `prev` its places end.
    end: u32,
    /// It stands on every entry that was here when it came: a sweep need not look below it.
    stands_on_all: bool,
}

/// An invite that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Invite {
    pub(super) place: Place,
    pub(super) key: DeviceId,
    pub(super) role: Role,
    pub(super) max_uses: u32,
}

/// What an entry amounts to, by the state of its ancestors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Weight {
    /// It counts.
    Counts,
    /// It counts, and lets a device in by this invite. Its author had let in so many others by it.
    Admits(Invite, usize),
    /// It does not count, and is kept: later versions may know what an admin means by it.
    Kept,
    /// Its author had no power for it. It is not kept.
    None,
}

impl Log {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn genesis(&self) -> Option<&Record> {
        self.records.first()
    }

    pub(super) fn place(&self, hash: &EntryHash) -> Option<Place> {
        self.places.get(hash).copied()
    }

    /// The entry whose hash begins like this.
    pub(super) fn beginning_with(&self, key: &[u8; 16]) -> Option<Place> {
        let mut from = EntryHash([0; 32]);
        from.0[..16].copy_from_slice(key);
        let (hash, place) = self.places.range(from..).next()?;
        hash.0.starts_with(key).then_some(*place)
    }

    /// The entry at a place, if there is one.
    pub(super) fn get(&self, place: Place) -> Option<&Record> {
        self.records.get(place as usize)
    }

    /// Entries that were signed by a device and by all for whom the same one answers.
    pub(super) fn entries_by(&self, device: &DeviceId) -> usize {
        self.authors.get(&self.answers_for(device)).copied().unwrap_or(0)
    }

    /// Who answers for what a device adds to the log: the last one before an admin, going from who was let in to who let it
    /// in. A writer can make up as many devices as it likes, and let each in where the others cannot be seen; together they
    /// have the room that it has.
    fn answers_for(&self, device: &DeviceId) -> DeviceId {
        let mut at = *device;
        // An admission comes after that of its author, so the places fall.
        let mut before = Place::MAX;
        while let Some(grant) = self.grants.get(&at).and_then(|grants| grants.first())
            && grant.place < before
            && grant.by != at
            && !self.is_admin(&grant.by)
        {
            (at, before) = (grant.by, grant.place);
        }
        at
    }

    /// Whether a device was ever made an admin.
    fn is_admin(&self, device: &DeviceId) -> bool {
        self.grants.get(device).is_some_and(|grants| grants.iter().any(|grant| grant.role == Role::Admin))
    }

    pub(super) fn record(&self, place: Place) -> &Record {
        &self.records[place as usize]
    }

    /// Every entry, in order of place.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// Hashes in order.
    pub(super) fn hashes(&self) -> impl Iterator<Item = &EntryHash> {
        self.places.keys()
    }

    /// Devices that have a role, or had one.
    pub(super) fn devices(&self) -> impl ExactSizeIterator<Item = &DeviceId> {
        self.grants.keys()
    }

    /// The role that the whole log gives, and the entry that gives it: of several the one least deep, then with the
    /// smallest hash, so that all replicas name the same.
    pub(super) fn grant(&self, device: &DeviceId) -> Option<(Place, Role)> {
        let grants = self.grants.get(device)?.iter();
        let holding = grants.filter(|grant| self.holds(grant, device)).map(|grant| (grant.place, grant.role));
        holding.max_by_key(|(place, role)| {
            let Record { depth, hash, .. } = self.record(*place);
            (*role, Reverse((*depth, *hash)))
        })
    }

    /// The role in the state that the given entries and their ancestors stand for.
    pub(super) fn role_at(&self, from: &[Place], device: &DeviceId) -> Option<Role> {
        let grants = self.grants.get(device)?;
        let first = grants.first()?;
        if first.place == 0 && !from.is_empty() {
            // The founder: an admin in every state, as the genesis entry is everyone's ancestor.
            return Some(first.role);
        }
        // Whether an admission holds may depend on others by its invite, which are all later than that.
        let floor = grants.iter().filter_map(|grant| grant.invite).min().unwrap_or(0);
        let ancestors = self.ancestors(from, floor);
        self.role_among(device, &|place| ancestors.contains(place))
    }

    /// The role in the state that a set of entries stands for.
    fn role_among(&self, device: &DeviceId, among: &impl Fn(Place) -> bool) -> Option<Role> {
        // Of what one member signed by one invite all holds or nothing: the device is among the first, or is not.
        let mut role = None;
        let mut looked_at = BTreeSet::new();
        for grant in self.grants.get(device)?.iter().filter(|grant| among(grant.place)) {
            let holds = |invite: Place| {
                let max = self.max_uses(invite);
                let admissions = self.admissions.get(&(invite, grant.by));
                admissions.is_none_or(|admissions| admissions.admits_among(device, max, among))
            };
            let is_new = grant.invite.is_none_or(|invite| looked_at.insert((invite, grant.by)));
            if is_new && role < Some(grant.role) && grant.invite.is_none_or(holds) {
                role = Some(grant.role);
            }
        }
        role
    }

    /// Whether a grant gives its role in the whole log: its author has let in fewer devices before.
    fn holds(&self, grant: &Grant, device: &DeviceId) -> bool {
        let Some(invite) = grant.invite else { return true };
        let admissions = self.admissions.get(&(invite, grant.by));
        admissions.is_none_or(|admissions| admissions.admits(device, self.max_uses(invite)))
    }

    fn max_uses(&self, invite: Place) -> usize {
        self.invite(invite).map_or(0, |invite| invite.max_uses as usize)
    }

    /// Devices other than `joiner` that an invite has let in, in the whole log.
    pub(super) fn uses(&self, invite: Place, joiner: &DeviceId) -> usize {
        let by_all = self.admissions_by(invite).flat_map(|(_, admissions)| admissions.firsts.keys());
        by_all.filter(|device| *device != joiner).collect::<BTreeSet<_>>().len()
    }

    /// Devices other than `joiner` that an invite has let in as far as the given set shows, up to `max`: in all, and by `by`.
    fn uses_among(
        &self,
        invite: Place,
        (joiner, by): (&DeviceId, &DeviceId),
        max: usize,
        ancestors: &Ancestors,
    ) -> (usize, usize) {
        let (mut all, mut own) = (BTreeSet::new(), BTreeSet::new());
        for (author, admissions) in self.admissions_by(invite) {
            let seen = admissions.by_rank.values().filter(|(place, _)| ancestors.contains(*place));
            for (_, device) in seen.filter(|(_, device)| device != joiner) {
                all.insert(*device);
                if author == by {
                    own.insert(*device);
                }
                if all.len() >= max {
                    return (max, own.len());
                }
            }
        }
        (all.len(), own.len())
    }

    fn admissions_by(&self, invite: Place) -> impl Iterator<Item = (&DeviceId, &Admissions)> {
        let range = (invite, DeviceId([0; 32]))..=(invite, DeviceId([0xff; 32]));
        self.admissions.range(range).map(|((_, by), admissions)| (by, admissions))
    }

    /// How many members there are in the state that the given entries stand for, if there is no room for another. Each takes
    /// an entry, so with fewer entries than that nothing is counted.
    fn members_if_full(&self, from: &[Place]) -> Option<usize> {
        if self.devices().len() < MEMBERS_MAX {
            return None;
        }
        let ancestors = self.ancestors(from, 0);
        if ancestors.len() < MEMBERS_MAX {
            return None;
        }
        let among = |place| ancestors.contains(place);
        let members = self.grants.keys().filter(|device| self.role_among(device, &among).is_some()).count();
        (members >= MEMBERS_MAX).then_some(members)
    }

    /// Authority that we do not understand: the entry of the smallest kind, with its author.
    pub(super) fn unknown(&self) -> Option<(u8, EntryHash, DeviceId)> {
        self.unknown.iter().next().map(|((kind, entry), author)| (*kind, *entry, *author))
    }

    /// Whether an entry is authority that we do not understand and that was not voided.
    pub(super) fn is_unknown(&self, entry: &EntryHash) -> bool {
        self.unknown.keys().any(|(_, unknown)| unknown == entry)
    }

    /// The invite in an entry, if that is one and counts.
    pub(super) fn invite(&self, place: Place) -> Option<Invite> {
        match *self.record(place) {
            Record { kind: Kind::Invite { key, role, max_uses }, counts: true, .. } => {
                Some(Invite { place, key, role, max_uses: max_uses.min(INVITE_USES_MAX) })
            }
            _ => None,
        }
    }

    /// Every invite that counts and whose tickets hold this key.
    pub(super) fn invites_of(&self, key: &DeviceId) -> impl Iterator<Item = Invite> {
        self.invites.get(key).into_iter().flatten().filter_map(|place| self.invite(*place))
    }

    /// At most `max` heads, the deepest ones, such that all that is `needed` is among their ancestors (or one of them): the
    /// sorted hashes and the greatest depth.
    pub(super) fn tips(&self, max: usize, needed: &[Place]) -> (Vec<EntryHash>, u32) {
        let mut tips: Vec<Place> = self.heads.iter().take(max).map(|(.., place)| *place).collect();
        if self.heads.len() > max {
            tips.truncate(max.saturating_sub(needed.len()));
            for needed in needed {
                if !self.ancestors(&tips, *needed).contains(*needed) {
                    tips.push(*needed);
                }
            }
        }
        let depth = tips.iter().map(|place| self.record(*place).depth).max().unwrap_or(0);
        let mut hashes: Vec<EntryHash> = tips.into_iter().map(|place| self.record(place).hash).collect();
        hashes.sort_unstable();
        (hashes, depth)
    }

    /// What an entry with these ancestors amounts to.
    pub(super) fn weigh(&self, space: &SpaceId, parsed: &Parsed, prev: &[Place]) -> Weight {
        let is_admin = self.role_at(prev, &parsed.author) == Some(Role::Admin);
        let counts = match &parsed.kind {
            Kind::Genesis { .. } => true,
            Kind::Invite { .. } | Kind::UnknownAuthority(_) => is_admin,
            Kind::Void { entry } => is_admin && self.voids(entry, prev),
            Kind::Admit { .. } => match self.admits(space, parsed, prev) {
                Ok((invite, earlier)) => return Weight::Admits(invite, earlier),
                Err(_) => false,
            },
            Kind::Informs => false,
        };
        match (counts, is_admin) {
            (true, _) => Weight::Counts,
            (false, true) => Weight::Kept,
            (false, false) => Weight::None,
        }
    }

    fn voids(&self, entry: &EntryHash, prev: &[Place]) -> bool {
        self.place(entry).is_some_and(|place| {
            let record = self.record(place);
            let is_unknown = matches!(record.kind, Kind::UnknownAuthority(_)) && record.counts;
            is_unknown && self.ancestors(prev, place).contains(place)
        })
    }

    /// The invite by which an entry with these ancestors lets a device in, and how many its author has let in by it before.
    pub(super) fn admits(
        &self,
        space: &SpaceId,
        parsed: &Parsed,
        prev: &[Place],
    ) -> Result<(Invite, usize), MembershipError> {
        let Kind::Admit { invite, device, proof } = &parsed.kind else {
            return Err(MembershipError::Malformed("it lets nobody in".into()));
        };
        let role = self.role_at(prev, &parsed.author);
        // Whoever may write answers for others, a reader for itself alone.
        if !role.is_some_and(|role| role.can_write() || parsed.author == *device) {
            let role = role.map_or("not a member", Role::with_article);
            return Err(MembershipError::NotAllowed { needed: "a writer is", role });
        }
        let found = self.place(invite).and_then(|place| self.invite(place));
        let Some((invite, ancestors)) = found
            .map(|invite| (invite, self.ancestors(prev, invite.place)))
            .filter(|(invite, ancestors)| ancestors.contains(invite.place))
        else {
            return Err(MembershipError::NoSuchInvite);
        };
        let max = invite.max_uses as usize;
        let (used, earlier) = self.uses_among(invite.place, (device, &parsed.author), max, &ancestors);
        if used >= max {
            return Err(MembershipError::InviteUsedUp { used: used as u32, max: invite.max_uses });
        }
        let before = self.role_at(prev, device);
        if let Some(role) = before.filter(|role| *role >= invite.role) {
            // What gives nothing would only fill the log.
            return Err(MembershipError::AlreadyMember(role));
        }
        if before.is_none()
            && let Some(members) = self.members_if_full(prev)
        {
            return Err(too_large("the space", members + 1, "members", MEMBERS_MAX));
        }
        if !keys::verify(&invite.key, Domain::Invite, &proof_bytes(space, device), proof) {
            return Err(MembershipError::Malformed("its proof was not made with the invite's key".into()));
        }
        Ok((invite, earlier))
    }

    /// Keeps an entry whose ancestors are all here.
    pub(super) fn push(&mut self, hash: EntryHash, bytes: &[u8], parsed: Parsed, prev: &[Place], weight: Weight) {
        let Parsed { author, depth, kind, .. } = parsed;
        let place = self.records.len() as Place;
        let counts = matches!(weight, Weight::Counts | Weight::Admits(..));
        match (&kind, weight) {
            (Kind::Genesis { .. }, _) => {
                self.give(author, Grant { place, role: Role::Admin, invite: None, by: author });
            }
            (Kind::Admit { device, .. }, Weight::Admits(Invite { place: invite, role, .. }, earlier)) => {
                self.give(*device, Grant { place, role, invite: Some(invite), by: author });
                let rank = (earlier, depth, hash);
                self.admissions.entry((invite, author)).or_default().add(rank, place, *device);
            }
            (Kind::Invite { key, .. }, Weight::Counts) => self.invites.entry(*key).or_default().push(place),
            (Kind::UnknownAuthority(number), Weight::Counts) => _ = self.unknown.insert((*number, hash), author),
            (Kind::Void { entry }, Weight::Counts) => self.unknown.retain(|(_, unknown), _| unknown != entry),
            _ => {}
        }
        *self.authors.entry(self.answers_for(&author)).or_default() += 1;
        for prev in prev {
            let Record { depth, hash, .. } = *self.record(*prev);
            self.heads.remove(&(Reverse(depth), hash, *prev));
        }
        let stands_on_all = self.heads.is_empty();
        self.heads.insert((Reverse(depth), hash, place));
        self.places.insert(hash, place);
        self.prev.extend_from_slice(prev);
        self.links.push(Links { end: self.prev.len() as u32, stands_on_all });
        self.records.push(Record { hash, bytes: bytes.into(), author, depth, kind, counts });
    }

    fn give(&mut self, device: DeviceId, grant: Grant) {
        self.grants.entry(device).or_default().push(grant);
    }

    /// The given entries and all their ancestors, as far back as `floor`. One sweep from the last of them to one that stands
    /// on everything before it, with nothing to keep for the next: measured 0.1 µs where the log is a chain, 17 ns for each
    /// entry where it forked long ago.
    fn ancestors(&self, from: &[Place], floor: Place) -> Ancestors {
        let count = from.iter().max().map_or(0, |last| (last + 1).saturating_sub(floor) as usize);
        let mut bits = vec![0u64; count.div_ceil(64)];
        let mark = |bits: &mut [u64], place: Place| {
            if let Some(at) = place.checked_sub(floor) {
                bits[at as usize / 64] |= 1 << (at % 64);
            }
        };
        from.iter().for_each(|place| mark(&mut bits, *place));
        for word in (0..bits.len()).rev() {
            let mut left = bits[word];
            while let Some(bit) = left.checked_ilog2() {
                let place = floor + word as Place * 64 + bit;
                if self.links[place as usize].stands_on_all {
                    return Ancestors { all_up_to: Some(place), floor, bits };
                }
                // These are earlier: in a word that comes next, or below in this one.
                self.prev(place).iter().for_each(|place| mark(&mut bits, *place));
                left = bits[word] & !(u64::MAX << bit);
            }
        }
        Ancestors { all_up_to: None, floor, bits }
    }

    fn prev(&self, place: Place) -> &[Place] {
        let end = |at: usize| self.links[at].end as usize;
        let place = place as usize;
        let from = if place == 0 { 0 } else { end(place - 1) };
        &self.prev[from..end(place)]
    }
}

/// A set of places: all up to one, and those from `floor` on whose bits are set.
struct Ancestors {
    all_up_to: Option<Place>,
    floor: Place,
    bits: Vec<u64>,
}

impl Ancestors {
    /// How many places there are, or a few more: those of the bits that are at or below `all_up_to` count twice.
    fn len(&self) -> usize {
        let below = self.all_up_to.map_or(0, |place| place as usize + 1);
        below + self.bits.iter().map(|word| word.count_ones() as usize).sum::<usize>()
    }

    fn contains(&self, place: Place) -> bool {
        let word = |at: Place| self.bits.get(at as usize / 64).copied().unwrap_or(0);
        self.all_up_to >= Some(place) || place.checked_sub(self.floor).is_some_and(|at| word(at) >> (at % 64) & 1 == 1)
    }
}
