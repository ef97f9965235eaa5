//! One session with one peer: from the first hello to the list of shared spaces, and where the two stand in each of them.
//! What follows from it for spaces and documents is the engine's to do.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{AclHash, ActorId, DeviceId, DocumentId, EntryHash, SpaceId, StorageId};
use crate::limits::{
    ADDRESS_BYTES_MAX, ADDRESSES_PER_DEVICE_MAX, FORKS_REMEMBERED_MAX, PRE_AUTH_TIME_MAX, REFUSED_REMEMBERED_MAX,
    ROOT_QUIET, ROOT_QUIET_MAX, SERVED_REMEMBERED_MAX,
};
use crate::space::Acl;
use crate::space::auth::{Handshake, Side, Tag};
use crate::sync::collection::{Digest, Fingerprint};
use crate::sync::lanes::Lanes;
use crate::sync::left_out::LeftOut;
use crate::sync::rate::Rate;
use crate::sync::recent::Recent;
use crate::sync::transfer::Transfer;
use crate::time::{Duration, Timestamp};
use crate::wire::{Lane, Message, PROTOCOL_VERSION, SpaceIndex, wire_tags};

/// While runs are being caught up, roots are compared after this much quiet.
const ROOT_QUIET_CATCHING_UP: Duration = Duration::from_millis(20);
/// Reconciling the same two roots again waits twice as long each time, up to this.
const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(60);
/// And up to this with a peer whose history of a document is known to be another one than ours: they stay apart.
const ATTEMPT_WAIT_FORKED_MAX: Duration = Duration::from_secs(3_600);
/// What was sent of a document that is forked, and not taken, is sent again every so many times that the peer asks.
const SERVED_FORKED_EVERY: u32 = 8;
/// Who is not let in asks the same peer again after this, and twice as long each time, up to some ten minutes.
const JOIN_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// `acl_ref`s heard of and not yet needed.
pub(crate) const HEARD_ACLS_MAX: usize = 1_024;

/// One session.
#[derive(Debug)]
pub struct Session {
    /// The peer, as proven by the transport.
    pub peer: DeviceId,
    /// We opened the stream.
    pub opener: bool,
    /// Where it is.
    pub address: String,
    /// Where the peer can be dialed: what we dialed and what it says.
    pub addresses: Vec<String>,
    /// It has said where it is.
    pub has_said_addresses: bool,
    /// How often it has said that lately.
    pub own_addresses: Rate,
    /// Something has to come from the peer before this: it may be gone without our having seen it.
    pub check_by: Option<Timestamp>,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When to see next whether the peer is a member.
    pub guest_until: Option<Timestamp>,
    /// How far the handshake is.
    pub phase: Phase,
    /// What waits to be sent and put together.
    pub lanes: Lanes,
    /// When the last frame came.
    pub heard_at: Timestamp,
    /// When the last frame went.
    pub sent_at: Timestamp,
    /// The shared spaces, in the order that both sides know.
    pub shared: Vec<Shared>,
    /// Keys the fingerprints.
    pub salt: [u8; 32],
    /// Which process of the peer this is, once told.
    pub instance: Option<Instance>,
    /// A later session was opened by another process of the same device. When this one is heard again, both live.
    pub has_rival: bool,
    /// It was heard after that: this process and another one of its device live side by side.
    pub lives_beside_another: bool,
    /// How many other processes of its device the peer was told of.
    pub copies_told: Option<u32>,
    /// How many other processes of our device the peer knows of.
    pub told_copies: u32,
    /// What it calls itself, as it said last.
    pub said_name: Option<String>,
    /// How often it has said lately what it is called.
    pub own_name: Rate,
    /// What the peer has made us say about what we hold.
    pub answers: Rate,
    /// The runs that it sent unasked.
    pub live_runs: Rate,
    /// The membership entries that it brought for nothing.
    pub useless_entries: Rate,
    /// Malformed or badly signed entries, and badly signed runs, that it brought.
    pub badly_signed: usize,
    /// The last question for roots that is not answered, and since when.
    pub asked: Option<(u32, Timestamp)>,
    last_ask: u32,
    nonce: [u8; 32],
}

/// One process of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Its store.
    pub storage: StorageId,
    /// How often a process has started on that.
    pub epoch: u64,
    /// Random.
    pub number: u64,
}

impl Instance {
    /// Whether a later session with this one means that the earlier session with `other` is over: it is the same process, or
    /// it runs in its place. If not, both run, and one is a copy.
    pub fn replaces(&self, other: &Self) -> bool {
        self.storage == other.storage && (self.number == other.number || self.epoch > other.epoch)
    }
}

/// How far a session is.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Waiting for the peer's hello.
    Hello,
    /// Waiting for the peer's tags.
    Tags(Handshake),
    /// Authenticated.
    Open,
}

/// What a step of the handshake leads to.
#[derive(Debug)]
pub enum Step {
    /// Say this, wait for more.
    Say(Vec<Message>),
    /// Say this; the peer is authenticated.
    Authenticated(Vec<Message>),
    /// Nothing shared: say this and end the session.
    Stranger(Vec<Message>),
    /// No honest peer does this.
    Bad(String),
}

/// Fingerprints of a membership log and, for a member, of the documents.
pub type Roots = (Fingerprint, Option<Fingerprint>);

/// What of a document a peer was sent last.
#[derive(Debug, Clone, Copy)]
struct Served {
    /// What we had.
    ours: Digest,
    /// What the peer had.
    theirs: Digest,
    /// How often in a row it asked while both were just so.
    times: u32,
}

/// How a peer was asked to let us in.
#[derive(Debug)]
struct Asked {
    invite: DeviceId,
    /// Of our log then.
    heads: Vec<EntryHash>,
    /// How often it was asked just so.
    times: u32,
    /// Not again before.
    next_at: Timestamp,
}

/// What a peer gets that shows what it has of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// What it lacks.
    First,
    /// The same once more: it took nothing of it, nor has anything changed here.
    Again,
    /// Nothing for now: what it lacks follows a chain that it cannot take, and was sent more than once.
    Later,
}

/// Where two peers stand in one shared space.
#[derive(Debug)]
pub struct Shared {
    /// The space.
    pub space: SpaceId,
    /// What we last told of ourselves.
    pub told: Option<Roots>,
    /// What the peer last told of itself.
    pub heard: Option<Roots>,
    /// The number of the last of our questions that the peer answered.
    pub answered: u32,
    /// Both were told, and equal.
    pub in_sync: bool,
    /// What has to be sent.
    pub transfer: Transfer,
    /// Membership entries that have to be sent, by number.
    pub entries: BTreeSet<u32>,
    /// A reconciliation was begun and roots were not equal since.
    pub catching_up: bool,
    /// Tell roots at this time.
    pub tell_at: Option<Timestamp>,
    unquiet_since: Option<Timestamp>,
    /// Do not begin to reconcile before.
    pub attempt_at: Timestamp,
    attempted: Option<(Roots, Roots)>,
    attempts: u32,
    /// By document, actors of which it has another chain: those histories cannot become one.
    forks: BTreeSet<(DocumentId, ActorId)>,
    /// How many reconciliations the peer has caused lately.
    pub reconciliations: Rate,
    /// How we last asked the peer to let us in.
    asked_to_join: Option<Asked>,
    refused: Recent<Digest>,
    /// Documents that the peer wants to be asked about first.
    to_ask: Recent<()>,
    /// What we do not take of what it has.
    pub(crate) left_out: LeftOut,
    served: Recent<Served>,
    told_acls: BTreeMap<Lane, BTreeSet<AclHash>>,
    heard_acls: BTreeMap<AclHash, Acl>,
}

impl Session {
    /// A session just opened.
    pub fn new(peer: DeviceId, opener: bool, address: String, nonce: [u8; 32], now: Timestamp) -> Self {
        Self {
            peer,
            opener,
            address,
            addresses: Vec::new(),
            has_said_addresses: false,
            own_addresses: Rate::default(),
            check_by: None,
            opened_at: now,
            guest_until: None,
            phase: Phase::Hello,
            lanes: Lanes::default(),
            heard_at: now,
            sent_at: now,
            shared: Vec::new(),
            salt: [0; 32],
            instance: None,
            has_rival: false,
            lives_beside_another: false,
            copies_told: None,
            told_copies: 0,
            said_name: None,
            own_name: Rate::default(),
            answers: Rate::default(),
            live_runs: Rate::default(),
            useless_entries: Rate::default(),
            badly_signed: 0,
            asked: None,
            last_ask: 0,
            nonce,
        }
    }

    /// When an unfinished handshake is given up.
    pub fn handshake_deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Hello | Phase::Tags(_) => Some(self.opened_at + PRE_AUTH_TIME_MAX),
            Phase::Open => None,
        }
    }

    /// The handshake is over.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// The peer says where it is. One that says nothing may be anywhere.
    pub fn said_addresses(&mut self, addresses: Vec<String>) {
        let dialed = self.addresses.iter().position(|address| self.opener && *address == self.address);
        let dialed = dialed.map(|at| self.addresses.swap_remove(at));
        let short = addresses.into_iter().filter(|address| address.len() <= ADDRESS_BYTES_MAX);
        let said: Vec<String> = short.take(ADDRESSES_PER_DEVICE_MAX).collect();
        self.has_said_addresses = !said.is_empty();
        self.addresses = dialed.into_iter().chain(said).collect();
    }

    /// Our hello. The opener says it at once, the acceptor as an answer.
    pub fn hello(&self) -> Message {
        Message::Hello { version: PROTOCOL_VERSION, nonce: self.nonce.into() }
    }

    /// The peer's hello came.
    pub fn heard_hello(
        &mut self,
        us: DeviceId,
        version: u32,
        nonce: [u8; 32],
        spaces: &[(SpaceId, [u8; 32])],
        filler: &mut dyn FnMut() -> Tag,
    ) -> Step {
        if !matches!(self.phase, Phase::Hello) {
            return Step::Bad(String::from("a second hello"));
        }
        if version < PROTOCOL_VERSION {
            return Step::Bad(alloc::format!(
                "protocol version {version}, this program speaks {PROTOCOL_VERSION} and newer"
            ));
        }
        let handshake = if self.opener {
            Handshake { opener: us, acceptor: self.peer, opener_nonce: self.nonce, acceptor_nonce: nonce }
        } else {
            Handshake { opener: self.peer, acceptor: us, opener_nonce: nonce, acceptor_nonce: self.nonce }
        };
        let mut say = Vec::new();
        if !self.opener {
            say.push(self.hello());
            say.push(tags_message(&handshake, Side::Acceptor, spaces, filler));
        }
        self.phase = Phase::Tags(handshake);
        Step::Say(say)
    }

    /// The peer's tags came.
    pub fn heard_tags(
        &mut self,
        tags: &[Tag],
        spaces: &[(SpaceId, [u8; 32])],
        filler: &mut dyn FnMut() -> Tag,
        now: Timestamp,
    ) -> Step {
        let Phase::Tags(handshake) = &self.phase else {
            return Step::Bad(String::from("tags out of place"));
        };
        let (ours, theirs) = if self.opener { (Side::Opener, Side::Acceptor) } else { (Side::Acceptor, Side::Opener) };
        let shared = handshake.shared(theirs, spaces, tags);
        let say = match ours {
            Side::Opener => alloc::vec![tags_message(handshake, ours, spaces, filler)],
            Side::Acceptor => Vec::new(),
        };
        if shared.is_empty() {
            return Step::Stranger(say);
        }
        self.salt = handshake.salt();
        self.shared = shared.into_iter().map(|space| Shared::new(space, now)).collect();
        self.phase = Phase::Open;
        self.lanes.authenticate();
        Step::Authenticated(say)
    }

    /// A fresh number for a question.
    pub fn next_ask(&mut self, now: Timestamp) -> u32 {
        self.last_ask = self.last_ask.wrapping_add(1).max(1);
        if self.asked.is_none() {
            self.asked = Some((self.last_ask, now));
        }
        self.last_ask
    }

    /// The peer answered a question.
    pub fn heard_answer(&mut self, answer: u32) {
        if self.asked.is_some_and(|(ask, _)| answer >= ask) {
            self.asked = None;
        }
    }

    /// The shared space with this number.
    pub fn shared_at(&mut self, index: SpaceIndex) -> Option<&mut Shared> {
        self.shared.get_mut(index as usize)
    }

    /// Number and state of a shared space.
    pub fn shared_in(&mut self, space: &SpaceId) -> Option<(SpaceIndex, &mut Shared)> {
        self.shared
            .iter_mut()
            .enumerate()
            .find(|(_, shared)| shared.space == *space)
            .map(|(i, shared)| (i as u32, shared))
    }
}

fn tags_message(
    handshake: &Handshake,
    side: Side,
    spaces: &[(SpaceId, [u8; 32])],
    filler: &mut dyn FnMut() -> Tag,
) -> Message {
    let keys: Vec<[u8; 32]> = spaces.iter().map(|(_, key)| *key).collect();
    Message::Tags { tags: wire_tags(&handshake.tags(side, &keys, filler)) }
}

impl Shared {
    fn new(space: SpaceId, now: Timestamp) -> Self {
        Self {
            space,
            told: None,
            heard: None,
            answered: 0,
            in_sync: false,
            transfer: Transfer::default(),
            entries: BTreeSet::new(),
            catching_up: false,
            tell_at: None,
            unquiet_since: None,
            attempt_at: now,
            attempted: None,
            attempts: 0,
            forks: BTreeSet::new(),
            reconciliations: Rate::default(),
            asked_to_join: None,
            refused: Recent::new(REFUSED_REMEMBERED_MAX),
            to_ask: Recent::new(REFUSED_REMEMBERED_MAX),
            left_out: LeftOut::default(),
            served: Recent::new(SERVED_REMEMBERED_MAX),
            told_acls: BTreeMap::new(),
            heard_acls: BTreeMap::new(),
        }
    }

    /// Something has to be sent still.
    pub fn has_more(&self) -> bool {
        !self.transfer.is_idle() || !self.entries.is_empty()
    }

    /// Our roots changed: they are told after some quiet, or at last after `ROOT_QUIET_MAX`.
    pub fn roots_changed(&mut self, now: Timestamp) {
        let since = *self.unquiet_since.get_or_insert(now);
        let quiet = if self.catching_up { ROOT_QUIET_CATCHING_UP } else { ROOT_QUIET };
        self.tell_at = Some((now + quiet).min(since + ROOT_QUIET_MAX));
    }

    /// Our roots are on their way to the peer.
    pub fn told(&mut self, roots: Roots) {
        self.told = Some(roots);
        self.tell_at = None;
        self.unquiet_since = None;
    }

    /// Notes a reconciliation of these roots and when the next may begin: at once for new roots, later and later for the same.
    pub fn attempt(&mut self, ours: Roots, theirs: Roots, now: Timestamp) {
        self.attempts = if self.attempted == Some((ours, theirs)) { self.attempts + 1 } else { 0 };
        self.attempted = Some((ours, theirs));
        let longest = if self.forks.is_empty() { ATTEMPT_WAIT_MAX } else { ATTEMPT_WAIT_FORKED_MAX };
        let wait = Duration(ROOT_QUIET.0.saturating_mul(1 << self.attempts.min(12)).min(longest.0));
        self.attempt_at = now + wait;
        self.catching_up = true;
    }

    /// When a reconciliation that led to nothing is to be tried again: not before our own news are told.
    pub fn retry_at(&self) -> Option<Timestamp> {
        (self.catching_up && !self.in_sync).then(|| self.tell_at.map_or(self.attempt_at, |at| at.max(self.attempt_at)))
    }

    /// A reconciliation of exactly these roots was tried before.
    pub fn was_attempted(&self, ours: Roots, theirs: Roots) -> bool {
        self.attempted == Some((ours, theirs))
    }

    /// Puts a reconciliation off for a moment.
    pub fn put_off(&mut self, now: Timestamp) {
        self.attempt_at = self.attempt_at.max(now + ROOT_QUIET);
        self.catching_up = true;
    }

    /// Whether to ask the peer now to let us in, by an invite and with a log that has these heads: at once if that is news to it,
    /// and else ever more rarely.
    pub fn asks_to_join(&mut self, invite: DeviceId, heads: &[EntryHash], now: Timestamp) -> bool {
        let last = self.asked_to_join.as_ref().filter(|last| last.invite == invite && last.heads == heads);
        let times = last.map_or(0, |last| last.times);
        if last.is_some_and(|last| now < last.next_at) {
            return false;
        }
        let wait = Duration(JOIN_AGAIN_AFTER.0 << times.min(6));
        let heads = heads.to_vec();
        self.asked_to_join = Some(Asked { invite, heads, times: times.saturating_add(1), next_at: now + wait });
        true
    }

    /// The peer was asked to let us in.
    pub fn has_asked_to_join(&self) -> bool {
        self.asked_to_join.is_some()
    }

    /// The peer shows what it has of a document, and `ours` stands for what we have. Of a document that is forked between the
    /// two, what follows our chain is of no use to a peer that holds the other one. It is sent twice, and then every
    /// `SERVED_FORKED_EVERY` times, for whatever in it the peer has dropped and could take. Which runs follow our chain only the
    /// runs themselves say, so in between none is sent: to read them all each time would cost what sending them does.
    pub fn serving(&self, document: DocumentId, ours: Digest, theirs: Digest) -> Serving {
        match self.times_served(document, ours, theirs) + 1 {
            1 => Serving::First,
            2 => Serving::Again,
            times if times.is_multiple_of(SERVED_FORKED_EVERY) || !self.is_forked(document) => Serving::Again,
            _ => Serving::Later,
        }
    }

    /// What the peer lacks of the document was queued for it, or is put off ([`Serving::Later`]).
    pub fn served(&mut self, document: DocumentId, ours: Digest, theirs: Digest) {
        let times = self.times_served(document, ours, theirs).saturating_add(1);
        self.served.insert(document, Served { ours, theirs, times });
    }

    /// How often that was so since either side had something else.
    fn times_served(&self, document: DocumentId, ours: Digest, theirs: Digest) -> u32 {
        let last = self.served.get(&document).filter(|last| (last.ours, last.theirs) == (ours, theirs));
        last.map_or(0, |last| last.times)
    }

    /// The peer has another chain of an actor than we: neither sends the other one what it has of it. Says whether that is
    /// news.
    pub fn fork(&mut self, document: DocumentId, actor: ActorId) -> bool {
        self.forks.len() < FORKS_REMEMBERED_MAX && self.forks.insert((document, actor))
    }

    /// Actors of a document of which the peer has another chain than we.
    pub fn forks_of(&self, document: DocumentId) -> impl Iterator<Item = ActorId> {
        let all = (document, ActorId([0; 16]))..=(document, ActorId([255; 16]));
        self.forks.range(all).map(|(_, actor)| *actor)
    }

    fn is_forked(&self, document: DocumentId) -> bool {
        self.forks_of(document).next().is_some()
    }

    /// The peer refused a run of this document for good, as it is now.
    pub fn refused(&mut self, document: DocumentId, digest: Digest) {
        self.refused.insert(document, digest);
    }

    /// The peer wants to be asked what it takes of a document, before anything of it is sent.
    pub fn ask_first(&mut self, document: DocumentId) {
        self.to_ask.insert(document, ());
    }

    /// Whether it does.
    pub fn wants_to_be_asked(&self, document: &DocumentId) -> bool {
        self.to_ask.get(document).is_some()
    }

    /// We may write what we could not before: what was refused for that can be sent again.
    pub fn forget_refused(&mut self) {
        self.refused.clear();
    }

    /// Whether it makes sense to send this document: not if it is as it was when the peer refused it.
    pub fn takes(&self, document: &DocumentId, digest: &Digest) -> bool {
        self.refused.get(document) != Some(digest)
    }

    /// How many actors are remembered as forked.
    pub(crate) fn forks_len(&self) -> usize {
        self.forks.len()
    }

    /// How many documents are remembered as compared.
    pub(crate) fn served_len(&self) -> usize {
        self.served.len()
    }

    /// Of how many documents it is remembered that the peer wants to be asked.
    pub(crate) fn to_ask_len(&self) -> usize {
        self.to_ask.len()
    }

    /// How many documents are remembered as refused.
    pub(crate) fn refused_len(&self) -> usize {
        self.refused.len()
    }

    /// How many `acl_ref`s the peer has sent in full.
    pub(crate) fn heard_acls_len(&self) -> usize {
        self.heard_acls.len()
    }

    /// Whether the peer was sent this `acl_ref` in full on this lane.
    pub fn knows_acl(&self, lane: Lane, acl: &AclHash) -> bool {
        self.told_acls.get(&lane).is_some_and(|told| told.contains(acl))
    }

    /// An `acl_ref` is on its way to the peer, in full, on this lane.
    pub fn told_acl(&mut self, lane: Lane, acl: AclHash) {
        self.told_acls.entry(lane).or_default().insert(acl);
    }

    /// The peer did not know an `acl_ref`: send all in full again.
    pub fn forget_told_acls(&mut self) {
        self.told_acls.clear();
    }

    /// The peer sent an `acl_ref` in full.
    pub fn heard_acl(&mut self, acl: Acl) {
        if self.heard_acls.len() >= HEARD_ACLS_MAX {
            // The peer is asked to send again what of it is still needed.
            self.heard_acls.clear();
        }
        self.heard_acls.insert(acl.hash, acl);
    }

    /// An `acl_ref` that the peer sent in full.
    pub fn acl(&self, hash: &AclHash) -> Option<&Acl> {
        self.heard_acls.get(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_document_is_sent_twice_and_then_every_eighth_time() {
        let mut shared = Shared::new(SpaceId([1; 32]), Timestamp(0));
        let (whole, forked, ours, theirs) = (DocumentId([1; 16]), DocumentId([2; 16]), [3; 32], [4; 32]);
        assert!(shared.fork(forked, ActorId([5; 16])));
        let serve_once = |shared: &mut Shared, document| {
            let serving = shared.serving(document, ours, theirs);
            assert_eq!(shared.serving(document, ours, theirs), serving, "what was not sent does not count");
            shared.served(document, ours, theirs);
            serving
        };
        let serve =
            |shared: &mut Shared, document| -> Vec<_> { (0..17).map(|_| serve_once(shared, document)).collect() };
        let sent = |served: &[Serving]| served.iter().filter(|serving| **serving != Serving::Later).count();
        let served = serve(&mut shared, forked);
        assert_eq!(&served[..3], [Serving::First, Serving::Again, Serving::Later]);
        assert_eq!(sent(&served), 4, "the 1st, 2nd, 8th and 16th");
        assert_eq!(shared.serving(forked, ours, [6; 32]), Serving::First, "the peer took something");
        assert_eq!(sent(&serve(&mut shared, whole)), 17, "nothing keeps the peer from taking it");
    }

    #[test]
    fn a_list_of_members_is_told_and_heard_by_its_whole_hash() {
        let mut shared = Shared::new(SpaceId([1; 32]), Timestamp(0));
        let [mut one, mut other] =
            [Acl::new(alloc::vec![EntryHash([2; 32])]), Acl::new(alloc::vec![EntryHash([3; 32])])];
        (one.hash, other.hash) = (AclHash([4; 32]), AclHash([4; 32]));
        other.hash.0[31] = 5;
        shared.told_acl(Lane::Bulk, one.hash);
        assert!(shared.knows_acl(Lane::Bulk, &one.hash) && !shared.knows_acl(Lane::Bulk, &other.hash));
        shared.heard_acl(one.clone());
        shared.heard_acl(other.clone());
        assert_eq!((shared.acl(&one.hash), shared.acl(&other.hash)), (Some(&one), Some(&other)));
    }
}
