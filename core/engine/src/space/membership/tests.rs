//! What the membership log promises, as facts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::reference::Reference;
use super::*;
use crate::limits::{ENTRY_BYTES_MAX, MEMBERS_MAX, SPACE_NAME_BYTES_MAX};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

const FOUNDER: u8 = 1;
const BOB: u8 = 2;
const CAROL: u8 = 3;

fn founded() -> Membership {
    Membership::found(&key(FOUNDER), "orchard", [0; 16]).unwrap().1
}

/// Signs an invite and keeps it.
fn invite(log: &mut Membership, by: u8, ticket: u8, role: Role, max_uses: u32) -> Entry {
    let entry = log.invite(&key(by), key(ticket).device(), role, max_uses, [ticket; 16]).unwrap();
    assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
    entry
}

/// A device shows its ticket to a member, which lets it in.
fn admit(log: &Membership, by: u8, who: u8, ticket: u8) -> Result<Entry, MembershipError> {
    let device = key(who).device();
    log.admit(&key(by), &device, &log.request(&device, &key(ticket))?, [who; 16])
}

/// The founder lets a device in.
fn join(log: &mut Membership, who: u8, ticket: u8) -> Result<Inserted, MembershipError> {
    let entry = admit(log, FOUNDER, who, ticket)?;
    log.insert(&entry.bytes)
}

fn with_member(who: u8, role: Role) -> Membership {
    let mut log = founded();
    invite(&mut log, FOUNDER, 100 + who, role, 1);
    assert_eq!(join(&mut log, who, 100 + who), Ok(Inserted::New));
    log
}

/// Signs whatever the test wants behind the heads of `log`, allowed or not.
fn forged(log: &Membership, author: u8, kind: u8, fields: &[u8]) -> Entry {
    let (prev, depth) = log.log.tips(ENTRY_PREV_MAX, &[]);
    let (space, author, prev) = (Some(log.space), key(author), Some(prev));
    let body = Body {
        version: entry::VERSION,
        space,
        prev,
        author: author.device(),
        depth: depth + 1,
        kind,
        fields: Raw(fields),
        nonce: [9; 16],
    };
    body.sign(&author)
}

fn invite_fields(ticket: u8, role: u8) -> Vec<u8> {
    encoded(InviteFields { key: key(ticket).device(), role, max_uses: 1 })
}

fn all(log: &Membership) -> Vec<Vec<u8>> {
    log.hashes().iter().map(|hash| log.entry(hash).unwrap().to_vec()).collect()
}

/// Who has which role, and who let it in. Not by which entry: of two equal admissions the log names the one with the
/// smaller hash.
fn roles(log: &Membership) -> Vec<(DeviceId, Role, DeviceId)> {
    log.members().iter().map(|member| (member.device, member.role, member.admitted_by)).collect()
}

/// Takes in what `from` has, as L0 would.
fn merge(into: &mut Membership, from: &Membership) {
    for hash in from.in_order(&from.hashes()) {
        into.insert(from.entry(&hash).unwrap()).unwrap();
    }
}

#[test]
fn the_founder_is_admin() {
    let (space, log, genesis) = Membership::found(&key(FOUNDER), "orchard", [0; 16]).unwrap();
    assert_eq!(log.space(), space);
    assert_eq!(log.name(), Some("orchard"));
    assert_eq!(log.role(&key(FOUNDER).device()), Some(Role::Admin));
    assert_eq!(log.heads(), [genesis.hash]);
    let device = key(FOUNDER).device();
    let member = Member { device, role: Role::Admin, entry: genesis.hash, admitted_by: device };
    assert_eq!(log.members(), [member]);
}

#[test]
fn a_joiner_gets_the_role_of_its_invite() {
    for role in [Role::Reader, Role::Writer, Role::Admin] {
        let log = with_member(BOB, role);
        assert_eq!(log.role(&key(BOB).device()), Some(role));
        assert_eq!(log.role(&key(CAROL).device()), None);
    }
}

#[test]
fn a_second_invite_raises_the_role_and_a_lower_one_does_not_sink_it() {
    let mut log = with_member(BOB, Role::Writer);
    invite(&mut log, FOUNDER, 50, Role::Reader, 1);
    assert_eq!(join(&mut log, BOB, 50), Err(MembershipError::AlreadyMember(Role::Writer)));
    assert_eq!(log.role(&key(BOB).device()), Some(Role::Writer));
    invite(&mut log, FOUNDER, 51, Role::Admin, 1);
    join(&mut log, BOB, 51).unwrap();
    assert_eq!(log.role(&key(BOB).device()), Some(Role::Admin));
}

#[test]
fn only_an_admin_signs_invites() {
    let text = |log: &Membership, who| {
        log.invite(&key(who), key(60).device(), Role::Reader, 1, [0; 16]).unwrap_err().to_string()
    };
    let log = with_member(BOB, Role::Writer);
    assert_eq!(text(&log, BOB), "an admin is needed, this device is a writer");
    assert_eq!(text(&with_member(BOB, Role::Reader), BOB), "an admin is needed, this device is a reader");
    assert_eq!(text(&log, CAROL), "an admin is needed, this device is not a member");
}

#[test]
fn an_invite_by_a_reader_or_a_writer_is_not_kept() {
    for role in [Role::Reader, Role::Writer] {
        let mut log = with_member(BOB, role);
        let forged = forged(&log, BOB, kind::INVITE, &invite_fields(61, 3));
        assert_eq!(log.insert(&forged.bytes), Ok(Inserted::Powerless));
        assert_eq!(log.request(&key(CAROL).device(), &key(61)), Err(MembershipError::NoSuchInvite));
        let admission = admission_naming(&log, FOUNDER, CAROL, forged.hash, 61);
        assert_eq!(log.insert(&admission.bytes), Ok(Inserted::New), "an admin's word is kept");
        assert_eq!(log.role(&key(CAROL).device()), None);
    }
}

fn admission_naming(log: &Membership, by: u8, who: u8, invite: EntryHash, ticket: u8) -> Entry {
    let device = key(who).device();
    let proof = key(ticket).sign(Domain::Invite, &entry::proof_bytes(&log.space, &device));
    forged(log, by, kind::ADMIT, &encoded(AdmitFields { invite, device, proof }))
}

#[test]
fn an_admission_with_a_forged_proof_gives_no_role() {
    let mut log = founded();
    let invite = invite(&mut log, FOUNDER, 62, Role::Writer, 5);
    let elsewhere = Membership::found(&key(FOUNDER), "elsewhere", [1; 16]).unwrap().1;
    let device = key(BOB).device();
    let other_key = key(63).sign(Domain::Invite, &entry::proof_bytes(&log.space, &device));
    let other_joiner = key(62).sign(Domain::Invite, &entry::proof_bytes(&log.space, &key(CAROL).device()));
    let other_space = key(62).sign(Domain::Invite, &entry::proof_bytes(&elsewhere.space, &device));
    for proof in [other_key, other_joiner, other_space] {
        let request = JoinRequest { invite: key(62).device(), proof };
        let error = log.admit(&key(FOUNDER), &device, &request, [0; 16]).unwrap_err();
        assert!(error.to_string().contains("proof"), "{error}");
        let fields = encoded(AdmitFields { invite: invite.hash, device, proof });
        let admission = forged(&log, FOUNDER, kind::ADMIT, &fields);
        assert_eq!(log.insert(&admission.bytes), Ok(Inserted::New));
        assert_eq!(log.role(&device), None);
    }
}

#[test]
fn an_admission_must_stand_on_its_invite() {
    // The invite counts, but is no ancestor of the admission: concurrent to it.
    let (mut log, before) = (founded(), founded());
    let invite = invite(&mut log, FOUNDER, 64, Role::Writer, 5);
    let admission = admission_naming(&before, FOUNDER, BOB, invite.hash, 64);
    log.insert(&admission.bytes).unwrap();
    assert_eq!(log.role(&key(BOB).device()), None);
}

#[test]
fn a_writer_lets_others_in_and_a_reader_does_not() {
    for (role, lets_in) in [(Role::Writer, true), (Role::Reader, false)] {
        let mut log = with_member(BOB, role);
        let invite = invite(&mut log, FOUNDER, 65, Role::Reader, 5);
        assert_eq!(admit(&log, BOB, CAROL, 65).is_ok(), lets_in);
        let admission = admission_naming(&log, BOB, CAROL, invite.hash, 65);
        assert_eq!(log.insert(&admission.bytes) == Ok(Inserted::New), lets_in);
        assert_eq!(log.role(&key(CAROL).device()).is_some(), lets_in);
        let by: Vec<_> = log.members().into_iter().filter(|member| member.device == key(CAROL).device()).collect();
        assert!(by.iter().all(|member| member.admitted_by == key(BOB).device()));
        // Who is no member lets nobody in, itself neither.
        let alone = admission_naming(&log, 4, 4, invite.hash, 65);
        assert_eq!(log.insert(&alone.bytes), Ok(Inserted::Powerless));
    }
    let refused = admit(&with_invite(with_member(BOB, Role::Reader)), BOB, CAROL, 65).unwrap_err();
    assert_eq!(refused.to_string(), "a writer is needed, this device is a reader");
}

fn with_invite(mut log: Membership) -> Membership {
    invite(&mut log, FOUNDER, 65, Role::Reader, 5);
    log
}

#[test]
fn a_member_lets_itself_in_once_more() {
    for (role, ticket) in [(Role::Reader, Role::Writer), (Role::Writer, Role::Admin)] {
        let mut log = with_member(BOB, role);
        invite(&mut log, FOUNDER, 52, ticket, 1);
        let entry = log.join_again(&key(BOB), &key(52), [0; 16]).unwrap().unwrap();
        assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
        assert_eq!(log.role(&key(BOB).device()), Some(ticket));
        assert_eq!(log.join_again(&key(BOB), &key(52), [0; 16]), Ok(None));
        // The ticket is used up by that.
        assert!(matches!(join(&mut log, CAROL, 52), Err(MembershipError::InviteUsedUp { used: 1, max: 1 })));
    }
}

/// A member that signs admissions beside each other, each of which hides the others.
#[test]
fn a_member_that_hides_its_admissions_lets_in_no_more() {
    let mut log = with_member(BOB, Role::Writer);
    let invite = invite(&mut log, FOUNDER, 53, Role::Writer, 3);
    let start = log.clone();
    for who in 10..30 {
        let admission = admission_naming(&start, BOB, who, invite.hash, 53);
        assert_eq!(log.insert(&admission.bytes), Ok(Inserted::New), "its ancestors do not tell");
    }
    assert_eq!(log.members().len(), 2 + 3);
    // Nor do those that it has let in, as far as they show how they came in.
    for who in 10..30 {
        let entry = admit(&log, who, 40, 53);
        assert!(entry.is_err(), "{entry:?}");
    }
    // In a state that shows fewer of them, they are members.
    let acl = [admission_naming(&start, BOB, 29, invite.hash, 53).hash];
    assert_eq!(log.authority(&acl, &key(29).device()).unwrap().role, Some(Role::Writer));
}

#[test]
fn an_invite_admits_as_often_as_it_allows() {
    let mut log = founded();
    invite(&mut log, FOUNDER, 66, Role::Writer, 2);
    assert_eq!(join(&mut log, BOB, 66), Ok(Inserted::New));
    assert_eq!(join(&mut log, BOB, 66), Err(MembershipError::AlreadyMember(Role::Writer)));
    assert_eq!(join(&mut log, CAROL, 66), Ok(Inserted::New));
    let refused = join(&mut log, 4, 66).unwrap_err();
    assert_eq!(refused, MembershipError::InviteUsedUp { used: 2, max: 2 });
    assert_eq!(refused.to_string(), "this ticket has already been used (2 of 2 times)");
    assert_eq!(log.role(&key(4).device()), None);
}

#[test]
fn a_single_use_invite_used_on_both_sides_of_a_partition_lets_both_in() {
    let mut left = with_member(4, Role::Writer);
    invite(&mut left, FOUNDER, 67, Role::Writer, 1);
    let mut right = left.clone();
    for (log, by, who) in [(&mut left, FOUNDER, BOB), (&mut right, 4, CAROL)] {
        let entry = admit(log, by, who, 67).unwrap();
        assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
    }
    let (old_left, old_right) = (left.clone(), right.clone());
    merge(&mut left, &old_right);
    merge(&mut right, &old_left);
    assert_eq!(left.hashes(), right.hashes());
    assert_eq!(left.members(), right.members());
    for (by, who) in [(FOUNDER, BOB), (4, CAROL)] {
        let member = left.members().into_iter().find(|member| member.device == key(who).device()).unwrap();
        assert_eq!((member.role, member.admitted_by), (Role::Writer, key(by).device()));
    }
    assert_eq!(left.heads().len(), 2);
    assert_eq!(join(&mut left, 5, 67), Err(MembershipError::InviteUsedUp { used: 2, max: 1 }));
}

#[test]
fn of_two_equal_admissions_all_replicas_name_the_same() {
    let mut log = founded();
    invite(&mut log, FOUNDER, 59, Role::Writer, 1);
    let device = key(BOB).device();
    let request = log.request(&device, &key(59)).unwrap();
    let both = [1, 2].map(|nonce| log.admit(&key(FOUNDER), &device, &request, [nonce; 16]).unwrap());
    let mut other = log.clone();
    both.iter().for_each(|entry| _ = log.insert(&entry.bytes).unwrap());
    both.iter().rev().for_each(|entry| _ = other.insert(&entry.bytes).unwrap());
    assert_eq!(log.members(), other.members());
    assert_eq!(log.role(&device), Some(Role::Writer));
}

#[test]
fn authority_is_that_of_the_entries_listed() {
    let mut log = founded();
    let before = log.heads();
    invite(&mut log, FOUNDER, 68, Role::Writer, 1);
    join(&mut log, BOB, 68).unwrap();
    let role = |acl: &[EntryHash], who: u8| log.authority(acl, &key(who).device()).map(|authority| authority.role);
    assert_eq!(role(&before, BOB), Some(None));
    assert_eq!(role(&log.heads(), BOB), Some(Some(Role::Writer)));
    assert_eq!(role(&before, FOUNDER), Some(Some(Role::Admin)));
    assert_eq!(role(&[], FOUNDER), Some(None));
    assert_eq!(role(&[before[0], EntryHash([1; 32])], FOUNDER), None);
}

#[test]
fn an_unknown_kind_with_authority_makes_the_space_read_only() {
    for kind in [3, 100, 127] {
        let mut log = with_member(BOB, Role::Writer);
        let entry = forged(&log, FOUNDER, kind, &encoded([1, 2, 3]));
        assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
        let unknown = UnknownAuthority { kind, entry: entry.hash, author: key(FOUNDER).device() };
        assert_eq!(log.unknown_authority(), Some(unknown));
        assert!(log.hashes().contains(&entry.hash), "it is forwarded");
        let refused = log.invite(&key(FOUNDER), key(69).device(), Role::Reader, 1, [0; 16]);
        assert_eq!(refused, Err(MembershipError::UnknownAuthority(unknown)));
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(&unknown.author.to_string()) && text.contains(&unknown.entry.to_string()), "{text}");
    }
}

#[test]
fn an_admin_voids_authority_that_nobody_knows() {
    let mut log = with_member(BOB, Role::Admin);
    let unknown = forged(&log, FOUNDER, 7, &[0xf6]);
    log.insert(&unknown.bytes).unwrap();
    invite_beside(&mut log);
    assert_eq!(log.void(&key(BOB), log.heads()[0], [0; 16]).is_err(), log.heads()[0] != unknown.hash);
    let before = log.heads();
    let void = log.void(&key(BOB), unknown.hash, [0; 16]).unwrap();
    assert_eq!(log.insert(&void.bytes), Ok(Inserted::New));
    assert_eq!(log.unknown_authority(), None);
    invite(&mut log, FOUNDER, 54, Role::Reader, 1);
    let again = log.void(&key(BOB), unknown.hash, [0; 16]).unwrap_err();
    assert_eq!(again, MembershipError::NothingToVoid(unknown.hash));
    assert_ne!(before, log.heads());
    // A writer cannot.
    let mut log = with_member(BOB, Role::Writer);
    let unknown = forged(&log, FOUNDER, 7, &[0xf6]);
    log.insert(&unknown.bytes).unwrap();
    assert!(matches!(log.void(&key(BOB), unknown.hash, [0; 16]), Err(MembershipError::NotAllowed { .. })));
    let void = forged(&log, BOB, kind::VOID, &encoded(VoidFields { entry: unknown.hash }));
    assert_eq!(log.insert(&void.bytes), Ok(Inserted::Powerless));
    assert!(log.unknown_authority().is_some());
}

/// An invite that has not seen the rest of the log.
fn invite_beside(log: &mut Membership) {
    let entry = founded().invite(&key(FOUNDER), key(55).device(), Role::Reader, 1, [55; 16]).unwrap();
    assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
}

#[test]
fn a_role_of_a_later_version_makes_the_space_read_only() {
    let mut log = founded();
    let entry = forged(&log, FOUNDER, kind::INVITE, &invite_fields(70, 4));
    assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
    assert_eq!(log.unknown_authority().map(|unknown| unknown.kind), Some(kind::INVITE));
}

#[test]
fn an_unknown_kind_that_informs_is_kept_of_an_admin_and_changes_nothing() {
    for kind in [128, 200, 255] {
        let mut log = with_member(BOB, Role::Writer);
        let members = log.members();
        let by_bob = forged(&log, BOB, kind, &encoded("what ever"));
        assert_eq!(log.insert(&by_bob.bytes), Ok(Inserted::Powerless));
        let entry = forged(&log, FOUNDER, kind, &encoded("what ever"));
        assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
        assert_eq!(log.unknown_authority(), None);
        assert_eq!(log.heads(), [entry.hash]);
        assert_eq!(log.members(), members);
    }
}

#[test]
fn nobody_but_an_admin_makes_a_space_read_only() {
    for role in [None, Some(Role::Reader), Some(Role::Writer)] {
        let mut log = role.map_or_else(founded, |role| with_member(BOB, role));
        let by = forged(&log, BOB, 100, &[0xf6]);
        assert_eq!(log.insert(&by.bytes), Ok(Inserted::Powerless));
        let later = forged(&log, BOB, kind::INVITE, &invite_fields(70, 4));
        assert_eq!(log.insert(&later.bytes), Ok(Inserted::Powerless));
        assert_eq!(log.unknown_authority(), None);
    }
}

#[test]
fn no_ticket_is_honoured_while_authority_is_unknown() {
    let mut log = founded();
    invite(&mut log, FOUNDER, 71, Role::Writer, 1);
    let by_another = admit(&log, FOUNDER, BOB, 71).unwrap();
    let unknown = forged(&log, FOUNDER, 5, &[0xf6]);
    log.insert(&unknown.bytes).unwrap();
    assert!(matches!(admit(&log, FOUNDER, BOB, 71), Err(MembershipError::UnknownAuthority(_))));
    assert_eq!(log.insert(&by_another.bytes), Ok(Inserted::New), "by a member that did not know of it");
}

#[test]
fn unknown_fields_of_a_known_kind_are_skipped() {
    let mut log = founded();
    let fields = minicbor::to_vec((key(72).device(), 2u8, 1u32, ["later", "fields"])).unwrap();
    let entry = forged(&log, FOUNDER, kind::INVITE, &fields);
    assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
    assert_eq!(join(&mut log, BOB, 72), Ok(Inserted::New));
    assert_eq!(log.role(&key(BOB).device()), Some(Role::Writer));
}

#[test]
fn an_entry_waits_for_those_that_it_names() {
    let log = with_member(BOB, Role::Writer);
    let mut late = Membership::unknown(log.space());
    let order = log.in_order(&log.hashes());
    for hash in order.iter().rev().take(2) {
        assert_eq!(late.insert(log.entry(hash).unwrap()), Ok(Inserted::MissingPrev));
    }
    assert_eq!(late.name(), None);
    assert!(late.hashes().is_empty() && late.heads().is_empty());
    for hash in order {
        assert_eq!(late.insert(log.entry(&hash).unwrap()), Ok(Inserted::New));
        assert_eq!(late.insert(log.entry(&hash).unwrap()), Ok(Inserted::Known));
    }
    assert_eq!(late.members(), log.members());
}

#[test]
fn a_device_that_is_no_admin_signs_no_more_than_so_many_entries_whoever_brings_them() {
    let mut log = with_member(BOB, Role::Writer);
    let invite = invite(&mut log, FOUNDER, 56, Role::Reader, INVITE_USES_MAX);
    let start = log.clone();
    let device = key(CAROL).device();
    let proof = key(56).sign(Domain::Invite, &entry::proof_bytes(&log.space, &device));
    let nth = |n: u32| {
        let (prev, depth) = start.log.tips(ENTRY_PREV_MAX, &[]);
        let mut nonce = [0; 16];
        nonce[..4].copy_from_slice(&n.to_be_bytes());
        let fields = encoded(AdmitFields { invite: invite.hash, device, proof });
        let body = Body {
            version: entry::VERSION,
            space: Some(start.space),
            prev: Some(prev),
            author: key(BOB).device(),
            depth: depth + 1,
            kind: kind::ADMIT,
            fields: Raw(&fields),
            nonce,
        };
        body.sign(&key(BOB))
    };
    for n in 0..ENTRIES_PER_DEVICE_MAX as u32 {
        assert_eq!(log.insert(&nth(n).bytes), Ok(Inserted::New));
    }
    let refused = log.insert(&nth(u32::MAX).bytes).unwrap_err().to_string();
    assert!(refused.contains("4097") && refused.contains("limit 4096"), "{refused}");
    assert_eq!(log.members().len(), 3, "all of them let in one");
}

// Somebody with a reader's ticket let itself in again and again: each entry counted, and together they filled the log.
#[test]
fn who_has_a_role_is_not_let_in_for_it_again() {
    let mut log = founded();
    let invite = invite(&mut log, FOUNDER, 56, Role::Reader, 2);
    assert_eq!(join(&mut log, BOB, 56), Ok(Inserted::New));
    let device = key(BOB).device();
    assert_eq!(admit(&log, BOB, BOB, 56).unwrap_err(), MembershipError::AlreadyMember(Role::Reader));
    let proof = key(56).sign(Domain::Invite, &entry::proof_bytes(&log.space, &device));
    let fields = encoded(AdmitFields { invite: invite.hash, device, proof });
    let entries = log.hashes().len();
    for by in [BOB, FOUNDER] {
        let again = forged(&log, by, kind::ADMIT, &fields);
        let expected = if by == FOUNDER { Inserted::New } else { Inserted::Powerless };
        assert_eq!(log.insert(&again.bytes), Ok(expected), "what an admin signs is kept");
    }
    assert_eq!((log.hashes().len(), log.members().len()), (entries + 1, 2));
}

// A writer let in as many devices as it liked, each where the others could not be seen, and each of them filled its own share.
#[test]
fn all_whom_a_writer_has_let_in_share_its_room_in_the_log() {
    const DAVE: u8 = 4;
    const ERIN: u8 = 5;
    let mut log = with_member(BOB, Role::Writer);
    invite(&mut log, FOUNDER, 56, Role::Writer, 3);
    for (by, who) in [(BOB, CAROL), (CAROL, DAVE), (FOUNDER, ERIN)] {
        let entry = admit(&log, by, who, 56).unwrap();
        assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
    }
    assert_eq!([BOB, CAROL, DAVE].map(|who| log.log.entries_by(&key(who).device())), [2; 3]);
    assert_eq!(log.log.entries_by(&key(ERIN).device()), 0, "an admin has let it in");
}

#[test]
fn an_entry_of_another_space_is_refused() {
    let mut log = founded();
    let (_, mut elsewhere, genesis) = Membership::found(&key(FOUNDER), "elsewhere", [1; 16]).unwrap();
    let invite = invite(&mut elsewhere, FOUNDER, 73, Role::Admin, 1);
    for entry in [genesis, invite] {
        assert!(matches!(log.insert(&entry.bytes), Err(MembershipError::Malformed(_))));
    }
    assert_eq!(log.hashes().len(), 1);
}

/// A body with one thing wrong, signed by the founder.
fn broken(change: impl Fn(&mut Body<'_>)) -> Result<Inserted, MembershipError> {
    let mut log = with_member(BOB, Role::Writer);
    let fields = invite_fields(74, 2);
    let (prev, depth) = log.log.tips(ENTRY_PREV_MAX, &[]);
    let mut body = Body {
        version: entry::VERSION,
        space: Some(log.space),
        prev: Some(prev),
        author: key(FOUNDER).device(),
        depth: depth + 1,
        kind: kind::INVITE,
        fields: Raw(&fields),
        nonce: [0; 16],
    };
    change(&mut body);
    let entry = body.sign(&key(FOUNDER));
    let hashes = log.hashes();
    let result = log.insert(&entry.bytes);
    assert_eq!(log.hashes() == hashes, result != Ok(Inserted::New), "nothing is kept of what is refused");
    result
}

#[test]
fn malformed_entries_are_refused_with_a_reason() {
    assert_eq!(broken(|_| {}), Ok(Inserted::New));
    let refused = |change: fn(&mut Body<'_>), reason: &str| {
        let error = broken(change).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} does not contain {reason}");
    };
    assert_eq!(broken(|body| body.version = 3), Err(MembershipError::OtherVersion(3)), "which is no offence");
    refused(|body| body.space = None, "names no space");
    refused(|body| body.prev = None, "no earlier entries");
    refused(|body| body.prev = Some(Vec::new()), "no earlier entries");
    refused(|body| body.prev.as_mut().unwrap().push(EntryHash([0; 32])), "not in order");
    refused(|body| body.prev = body.prev.take().map(|prev| [&prev[..], &prev[..]].concat()), "not in order");
    refused(|body| body.prev = Some((0..17).map(|i| EntryHash([i; 32])).collect()), "17 entries, limit 16");
    refused(|body| body.depth += 1, "depth is 4");
    refused(|body| body.depth = u32::MAX, "depth is 4294967295");
    let other = |body: &mut Body<'_>| (body.author, body.kind) = (key(BOB).device(), kind::INVITE);
    assert_eq!(broken(other), Ok(Inserted::Powerless));
    assert_eq!(broken(|body| body.author = DeviceId([0; 32])), Ok(Inserted::Powerless));
    refused(|body| body.kind = kind::GENESIS, "fields");
    refused(|body| body.fields = Raw(&[0x80]), "fields");
    let weak = encoded(InviteFields { key: DeviceId([0; 32]), role: 1, max_uses: 1 });
    let error = broken(|body| body.fields = Raw(weak.clone().leak())).unwrap_err();
    assert!(error.to_string().contains("weak key"));
    assert_eq!(broken(|body| body.prev = Some(Vec::from([EntryHash([7; 32])]))), Ok(Inserted::MissingPrev));
}

#[test]
fn an_entry_has_one_form_only() {
    // Nobody but its author can make an entry with another hash and the same meaning.
    let mut log = founded();
    let entry = log.invite(&key(FOUNDER), key(75).device(), Role::Reader, 1, [0; 16]).unwrap();
    let envelope: (minicbor::bytes::ByteVec, minicbor::bytes::ByteArray<64>) = minicbor::decode(&entry.bytes).unwrap();
    let indefinite = [&[0x9f], &entry.bytes[1..], &[0xff]].concat();
    let longer = minicbor::to_vec((&envelope.0, &envelope.1, 1)).unwrap();
    let trailing = [&entry.bytes[..], &[0]].concat();
    for bytes in [indefinite, longer, trailing] {
        assert!(matches!(log.insert(&bytes), Err(MembershipError::Malformed(_))));
    }
    let mut high_s = entry.bytes.clone();
    *high_s.last_mut().unwrap() |= 0x80;
    assert_eq!(log.insert(&high_s), Err(MembershipError::BadSignature));
    assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
}

#[test]
fn limits_name_value_and_limit() {
    let mut log = founded();
    let error = log.insert(&[0; ENTRY_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(error.to_string(), "over a limit: a membership entry is 4097 bytes, limit 4096");
    let long = "x".repeat(SPACE_NAME_BYTES_MAX + 1);
    let error = Membership::found(&key(1), &long, [0; 16]).unwrap_err();
    assert_eq!(error.to_string(), "over a limit: the space's name is 129 bytes, limit 128");
    assert!(Membership::found(&key(1), &long[1..], [0; 16]).is_ok());
    for name in ["", "a\nb", "\u{7f}"] {
        assert!(matches!(Membership::found(&key(1), name, [0; 16]), Err(MembershipError::Malformed(_))));
    }
    for uses in [0, INVITE_USES_MAX + 1] {
        let refused = log.invite(&key(FOUNDER), key(76).device(), Role::Reader, uses, [0; 16]);
        assert!(matches!(refused, Err(MembershipError::TooLarge(_))));
    }
    let refused = log.invite(&key(FOUNDER), DeviceId([0; 32]), Role::Reader, 1, [0; 16]);
    assert!(matches!(refused, Err(MembershipError::Malformed(_))));
}

/// A log with so many entries more, each by another device: admins, or devices that only say something.
fn filled(entries: usize, kind: &Kind) -> Membership {
    let mut log = founded();
    for n in 0..entries as u32 {
        let name = |salt: u8| [&n.to_be_bytes()[..], &[salt; 28]].concat().try_into().unwrap();
        let parsed = Parsed { prev: log.heads(), author: DeviceId(name(1)), depth: n + 1, kind: kind.clone() };
        log.log.push(EntryHash(name(2)), &[], parsed, &[n], Weight::Counts);
    }
    log
}

#[test]
fn a_full_log_has_room_for_admins_and_says_so_to_others() {
    let mut log = filled(ENTRIES_PER_SPACE_MAX - ENTRIES_RESERVED - 3, &Kind::Informs);
    invite(&mut log, FOUNDER, 85, Role::Writer, 3);
    assert_eq!(join(&mut log, BOB, 85), Ok(Inserted::New));
    let error = admit(&log, BOB, CAROL, 85).unwrap_err();
    assert_eq!(error.to_string(), "over a limit: the membership log is 90001 entries, limit 90000");
    assert_eq!(join(&mut log, CAROL, 85), Ok(Inserted::New), "by an admin");
    let log = filled(ENTRIES_PER_SPACE_MAX - 1, &Kind::Informs);
    let error = log.invite(&key(FOUNDER), key(85).device(), Role::Reader, 1, [0; 16]).unwrap_err();
    assert_eq!(error.to_string(), "over a limit: the membership log is 100001 entries, limit 100000");
}

#[test]
fn a_full_space_says_so() {
    let admin = Kind::Genesis { name: "x".into() };
    let mut log = filled(MEMBERS_MAX - 2, &admin);
    invite(&mut log, FOUNDER, 86, Role::Reader, 3);
    assert_eq!(join(&mut log, BOB, 86), Ok(Inserted::New));
    let error = join(&mut log, CAROL, 86).unwrap_err();
    assert_eq!(error.to_string(), "over a limit: the space is 1001 members, limit 1000");
    // Whoever brings it.
    let invite_entry = log.log.record(log.log.invites_of(&key(86).device()).last().unwrap().place).hash;
    let admission = admission_naming(&log, FOUNDER, CAROL, invite_entry, 86);
    log.insert(&admission.bytes).unwrap();
    assert_eq!(log.role(&key(CAROL).device()), None);
    // Who is in already takes no room.
    invite(&mut log, FOUNDER, 87, Role::Admin, 1);
    assert_eq!(join(&mut log, BOB, 87), Ok(Inserted::New));
}

#[test]
fn an_entry_may_be_as_long_as_the_limit() {
    let mut log = founded();
    let informs = |length: usize| {
        forged(&log, FOUNDER, 200, &minicbor::to_vec(minicbor::bytes::ByteVec::from(vec![7; length])).unwrap())
    };
    let empty = informs(3000).bytes.len() - 3000;
    let longest = informs(ENTRY_BYTES_MAX - empty);
    assert_eq!(longest.bytes.len(), ENTRY_BYTES_MAX);
    assert_eq!(log.insert(&longest.bytes), Ok(Inserted::New));
}

#[test]
fn a_space_is_founded_on_nothing() {
    let fields = encoded(GenesisFields { name: "orchard" });
    let refused = |change: fn(&mut Body<'_>), reason: &str| {
        let mut body = Body {
            version: entry::VERSION,
            space: None,
            prev: None,
            author: key(FOUNDER).device(),
            depth: 0,
            kind: kind::GENESIS,
            fields: Raw(&fields),
            nonce: [0; 16],
        };
        change(&mut body);
        let genesis = body.sign(&key(FOUNDER));
        let space = body.space.unwrap_or_else(|| entry::space_of(&genesis.bytes));
        let error = Membership::unknown(space).insert(&genesis.bytes).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} does not contain {reason}");
    };
    refused(|body| body.depth = 1, "a genesis entry of a depth");
    refused(|body| body.prev = Some(vec![EntryHash([1; 32])]), "names a space or earlier entries");
    refused(|body| body.space = Some(SpaceId([1; 32])), "names a space or earlier entries");
    let both = |body: &mut Body<'_>| {
        (body.space, body.prev) = (Some(SpaceId([1; 32])), Some(vec![EntryHash([1; 32])]));
    };
    refused(both, "names a space or earlier entries");
}

#[test]
fn entries_have_numbers_in_the_order_in_which_they_stand_on_each_other() {
    let log = with_member(BOB, Role::Writer);
    let numbered: Vec<EntryHash> = (0..3).map(|n| entry_hash(log.numbered(n).unwrap())).collect();
    assert_eq!(numbered, log.in_order(&log.hashes()));
    for (n, hash) in numbered.iter().enumerate() {
        assert_eq!(log.number(hash.0.first_chunk().unwrap()), Some(n as u32));
        let mut other = *hash.0.first_chunk::<16>().unwrap();
        other[15] ^= 1;
        assert_eq!(log.number(&other), None);
    }
    assert_eq!((log.numbered(3), log.number(&[0; 16]), log.number(&[255; 16])), (None, None, None));
}

// The sweep over a log goes word by word of sixty-four entries.
#[test]
fn authority_is_found_far_back_in_a_log_that_forked() {
    let start = with_member(BOB, Role::Writer);
    let mut log = start.clone();
    invite(&mut log, FOUNDER, 88, Role::Reader, 1);
    assert_eq!(join(&mut log, CAROL, 88), Ok(Inserted::New));
    let mut aside = log.clone();
    invite(&mut aside, FOUNDER, 90, Role::Reader, 1);
    let late = aside.heads();
    // Beside that, and between the two in this log, come many who have not seen it.
    let mut joinable = start;
    invite(&mut joinable, FOUNDER, 89, Role::Reader, 100);
    merge(&mut log, &joinable);
    for who in 100..200 {
        let entry = admit(&joinable, FOUNDER, who, 89).unwrap();
        assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
    }
    merge(&mut log, &aside);
    let role = |who: u8| log.authority(&late, &key(who).device()).unwrap().role;
    assert_eq!((role(BOB), role(CAROL), role(150)), (Some(Role::Writer), Some(Role::Reader), None));
}

#[test]
fn an_entry_that_comes_twice_is_loaded_once() {
    let log = with_member(BOB, Role::Writer);
    let rows = all(&log);
    let twice = Membership::load(log.space(), rows.iter().chain(&rows).map(Vec::as_slice)).unwrap();
    assert_eq!(twice.members(), log.members());
    assert_eq!((0..10).filter(|n| twice.numbered(*n).is_some()).count(), 3);
}

#[test]
fn an_audit_says_what_is_missing() {
    let log = with_member(BOB, Role::Writer);
    let rows: Vec<Vec<u8>> = log.in_order(&log.hashes()).iter().map(|hash| log.entry(hash).unwrap().to_vec()).collect();
    let whole = Reference::read(log.space(), rows.iter().map(Vec::as_slice)).unwrap();
    assert!(log.hashes().iter().all(|hash| whole.has(hash)) && !whole.has(&EntryHash([0; 32])));
    assert_eq!(whole.missing(), None);
    let without = Reference::read(log.space(), [&rows[0][..], &rows[2][..]]).unwrap();
    let gone = entry_hash(&rows[1]);
    assert_eq!(without.missing(), Some(gone));
    assert!(!without.has(&gone) && !without.has(&entry_hash(&rows[2])), "what stands on it is left out");
}

#[test]
fn a_hundred_concurrent_joiners_can_all_write_and_invite() {
    let mut log = founded();
    invite(&mut log, FOUNDER, 77, Role::Admin, 100);
    let start = log.clone();
    for who in 100..200 {
        let entry = admit(&start, FOUNDER, who, 77).unwrap();
        assert_eq!(log.insert(&entry.bytes), Ok(Inserted::New));
    }
    assert_eq!(log.heads().len(), ACL_REF_ENTRIES_MAX);
    for who in 100..200 {
        let device = key(who).device();
        let acl = log.acl_ref(&device);
        assert!(acl.len() <= ACL_REF_ENTRIES_MAX && acl.is_sorted());
        assert_eq!(log.authority(&acl, &device).unwrap().role, Some(Role::Admin));
        let mut log = log.clone();
        let invite = invite(&mut log, who, 78, Role::Reader, 1);
        assert!(log.request(&key(BOB).device(), &key(78)).is_ok(), "{} counts", invite.hash);
    }
}

#[test]
fn a_log_loads_from_the_order_on_disk() {
    let mut log = with_member(BOB, Role::Admin);
    invite(&mut log, BOB, 79, Role::Reader, 3);
    join(&mut log, CAROL, 79).unwrap();
    let rows = all(&log);
    let loaded = Membership::load(log.space(), rows.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(loaded.hashes(), log.hashes());
    assert_eq!(loaded.members(), log.members());
    assert!(Membership::load(log.space(), [&rows[0][1..]]).is_err());
    assert_eq!(Membership::load(log.space(), []).unwrap().name(), None);
}

#[test]
fn acl_hash_is_of_a_set() {
    let (a, b) = (EntryHash([1; 32]), EntryHash([2; 32]));
    assert_eq!(acl_hash(&[a, b]), acl_hash(&[b, a, b]));
    assert_ne!(acl_hash(&[a]), acl_hash(&[a, b]));
}

#[test]
fn entries_have_these_bytes() {
    let (space, mut log, genesis) = Membership::found(&key(FOUNDER), "orchard", [0x11; 16]).unwrap();
    let invite = log.invite(&key(FOUNDER), key(80).device(), Role::Writer, 1, [0x22; 16]).unwrap();
    log.insert(&invite.bytes).unwrap();
    let device = key(BOB).device();
    let request = log.request(&device, &key(80)).unwrap();
    let admission = log.admit(&key(FOUNDER), &device, &request, [0x33; 16]).unwrap();
    log.insert(&admission.bytes).unwrap();
    let unknown = forged(&log, FOUNDER, 7, &[0xf6]);
    log.insert(&unknown.bytes).unwrap();
    let void = log.void(&key(FOUNDER), unknown.hash, [0x44; 16]).unwrap();
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    assert_eq!(hex(&genesis.bytes), include_str!("../../../golden/membership-genesis.hex").trim_end());
    assert_eq!(hex(&invite.bytes), include_str!("../../../golden/membership-invite.hex").trim_end());
    assert_eq!(hex(&admission.bytes), include_str!("../../../golden/membership-admit.hex").trim_end());
    assert_eq!(hex(&void.bytes), include_str!("../../../golden/membership-void.hex").trim_end());
    let acl = acl_hash(&[genesis.hash, invite.hash]);
    let hashes = [space.0, genesis.hash.0, invite.hash.0, admission.hash.0, void.hash.0, acl.0];
    assert_eq!(
        hashes.map(|hash| hex(&hash)).join("\n"),
        include_str!("../../../golden/membership-hashes.hex").trim_end()
    );
}

/// One random entry: who signs it, behind what, saying what.
#[derive(Debug, Clone)]
struct Step {
    author: u8,
    behind: Vec<Index>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Invite {
        ticket: u8,
        role: u8,
        uses: u32,
    },
    /// Of a device by the entry at this place among the invites made so far, proven with the right ticket if `honest`.
    Admit {
        device: u8,
        invite: Index,
        honest: bool,
    },
    Unknown(u8),
    /// Of the entry at this place among all.
    Void(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        4 => (80..84u8, 1..=3u8, 1..=3u32).prop_map(|(ticket, role, uses)| What::Invite { ticket, role, uses }),
        8 => (1..7u8, any::<Index>(), prop::bool::weighted(0.9))
            .prop_map(|(device, invite, honest)| What::Admit { device, invite, honest }),
        1 => prop_oneof![Just(3), Just(90), Just(200)].prop_map(What::Unknown),
        1 => any::<Index>().prop_map(What::Void),
    ];
    (prop_oneof![1 => Just(FOUNDER), 4 => 1..6u8], vec(any::<Index>(), 1..4), what)
        .prop_map(|(author, behind, what)| Step { author, behind, what })
}

/// The entries of a random graph, parsed, with their bytes, and what was tried without power.
struct Graph {
    space: SpaceId,
    parsed: BTreeMap<EntryHash, Parsed>,
    bytes: BTreeMap<EntryHash, Vec<u8>>,
    powerless: Vec<Vec<u8>>,
}

fn graph(steps: &[Step]) -> Graph {
    let mut powerless = Vec::new();
    let (space, _, genesis) = Membership::found(&key(FOUNDER), "random", [0; 16]).unwrap();
    let mut made = Vec::from([(genesis.hash, 0)]);
    let mut invites = Vec::new();
    let mut parsed = BTreeMap::from([(genesis.hash, Parsed::read(&genesis.bytes, &space).unwrap())]);
    let mut bytes = BTreeMap::from([(genesis.hash, genesis.bytes)]);
    for (at, Step { author, behind, what }) in steps.iter().enumerate() {
        // Mostly behind recent entries, so that the graph is deep as well as wide.
        let recent = &made[made.len().saturating_sub(5)..];
        let prev: BTreeMap<EntryHash, u32> = behind.iter().map(|index| *index.get(recent)).collect();
        let depth = prev.values().max().unwrap() + 1;
        let (kind, fields) = match what {
            What::Invite { ticket, role, uses } => {
                let fields = InviteFields { key: key(*ticket).device(), role: *role, max_uses: *uses };
                (kind::INVITE, encoded(fields))
            }
            What::Unknown(kind) => (*kind, encoded(())),
            What::Admit { .. } if invites.is_empty() => (150, encoded(())),
            What::Admit { device, invite, honest } => {
                let (invite, ticket) = *invite.get(&invites[invites.len().saturating_sub(4)..]);
                let (signer, device) = (key(if *honest { ticket } else { 99 }), key(*device).device());
                let proof = signer.sign(Domain::Invite, &entry::proof_bytes(&space, &device));
                (kind::ADMIT, encoded(AdmitFields { invite, device, proof }))
            }
            What::Void(which) => (kind::VOID, encoded(VoidFields { entry: which.get(recent).0 })),
        };
        let body = Body {
            version: entry::VERSION,
            space: Some(space),
            prev: Some(prev.into_keys().collect()),
            author: key(*author).device(),
            depth,
            kind,
            fields: Raw(&fields),
            nonce: [at as u8; 16],
        };
        let entry = body.sign(&key(*author));
        if let What::Invite { ticket, .. } = what {
            invites.push((entry.hash, *ticket));
        }
        made.push((entry.hash, depth));
        parsed.insert(entry.hash, Parsed::read(&entry.bytes, &space).unwrap());
        // What its author had no power for is in no log, and nothing stands on it.
        let drawn = Reference::new(space, parsed.clone());
        if drawn.powerless().is_some() {
            made.pop();
            parsed.remove(&entry.hash);
            invites.retain(|(invite, _)| *invite != entry.hash);
            powerless.push(entry.bytes);
            continue;
        }
        bytes.insert(entry.hash, entry.bytes);
    }
    Graph { space, parsed, bytes, powerless }
}

/// Inserts in the given order, again and again while something is missing.
fn inserted(space: SpaceId, bytes: &[Vec<u8>]) -> Membership {
    let mut log = Membership::unknown(space);
    let mut open: Vec<&Vec<u8>> = bytes.iter().collect();
    while !open.is_empty() {
        let before = open.len();
        open.retain(|bytes| log.insert(bytes).unwrap() == Inserted::MissingPrev);
        assert!(open.len() < before, "every entry is there");
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_order_gives_what_the_reference_gives(
        steps in vec(step(), 0..60),
        shuffles in vec(vec(any::<u64>(), 61), 2),
        acls in vec(vec(any::<Index>(), 0..4), 10),
    ) {
        let Graph { space, parsed, bytes, powerless } = graph(&steps);
        let reference = Reference::new(space, parsed.clone());
        let hashes: Vec<EntryHash> = parsed.keys().copied().collect();
        let now = reference.state(&hashes);
        let named: BTreeSet<_> = parsed.values().flat_map(|entry| entry.prev.iter().copied()).collect();
        let heads: Vec<_> = hashes.iter().filter(|hash| !named.contains(*hash)).copied().collect();
        let mut members = Vec::new();
        for shuffle in shuffles {
            let mut order: Vec<(usize, Vec<u8>)> = bytes.values().cloned().enumerate().collect();
            order.sort_by_key(|(at, _)| shuffle[*at]);
            let order: Vec<Vec<u8>> = order.into_iter().map(|(_, bytes)| bytes).collect();
            let mut log = inserted(space, &order);
            for bytes in &powerless {
                prop_assert_eq!(log.insert(bytes), Ok(Inserted::Powerless));
            }
            prop_assert_eq!(log.hashes(), hashes.clone());
            prop_assert_eq!(log.heads(), heads.clone());
            prop_assert_eq!(log.unknown_authority().map(|unknown| unknown.kind), reference.unknown_authority());
            let roles: BTreeMap<_, _> = log.members().iter().map(|member| (member.device, member.role)).collect();
            prop_assert_eq!(&roles, &now);
            for acl in &acls {
                let acl: Vec<EntryHash> = acl.iter().map(|index| *index.get(&hashes)).collect();
                let state = reference.state(&acl);
                for who in 1..7 {
                    let device = key(who).device();
                    let role = log.authority(&acl, &device).unwrap().role;
                    prop_assert_eq!(role, state.get(&device).copied());
                }
            }
            members.push(log.members());
        }
        prop_assert_eq!(&members[0], &members[1]);
    }

    #[test]
    fn garbage_is_refused_and_kept_out(bytes in vec(any::<u8>(), 0..300)) {
        let mut log = founded();
        prop_assert!(log.insert(&bytes).is_err());
        prop_assert_eq!(log.hashes().len(), 1);
    }

    #[test]
    fn a_signed_body_of_garbage_is_refused_or_harmless(at in any::<Index>(), byte in any::<u8>(), cut in any::<Index>(), which in 0..3usize) {
        // Signed well, so that everything behind the signature check is reached too.
        let mut log = with_member(BOB, Role::Writer);
        let hashes = log.in_order(&log.hashes());
        let bytes = log.entry(&hashes[which]).unwrap().to_vec();
        let envelope: (minicbor::bytes::ByteVec, minicbor::bytes::ByteArray<64>) = minicbor::decode(&bytes).unwrap();
        let mut body = envelope.0.to_vec();
        *at.get_mut(&mut body) = byte;
        if byte.is_multiple_of(4) {
            body.truncate(cut.index(body.len()));
        }
        let signature = key(FOUNDER).sign(Domain::Entry, &body);
        let entry = (minicbor::bytes::ByteVec::from(body), minicbor::bytes::ByteArray::from(signature));
        let (members, bytes) = (roles(&log), minicbor::to_vec(entry).unwrap());
        _ = log.insert(&bytes);
        prop_assert_eq!(roles(&log), members);
    }
}
