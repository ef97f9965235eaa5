//! Membership entries from a peer: as they came, and made of bytes but well formed and signed, so that the resolver sees them.

use std::sync::OnceLock;

use anabranch_engine::id::{DeviceId, EntryHash, SpaceId};
use anabranch_engine::keys::{Domain, SecretKey};
use anabranch_engine::space::membership::{Inserted, Membership, MembershipError, entry_hash};
use minicbor::Encoder;
use minicbor::bytes::{ByteArray, ByteSlice};

use super::input::Input;

/// Entries made of one input at most.
const ENTRIES_MAX: usize = 24;

struct Fixture {
    log: Membership,
    genesis: EntryHash,
    devices: [SecretKey; 4],
    invites: [SecretKey; 4],
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let keys = |from: u8| std::array::from_fn(|i| SecretKey::from_seed(&[from + i as u8; 32]));
        let (devices, invites): ([SecretKey; 4], _) = (keys(1), keys(11));
        let (_, log, genesis) = Membership::found(&devices[0], "fuzz", [0; 16]).expect("the name is good");
        Fixture { log, genesis: genesis.hash, devices, invites }
    })
}

/// Entries into a log, one after the other; the log is the same whatever their order was.
pub fn membership(data: &[u8]) {
    let Fixture { log, genesis, devices, .. } = fixture();
    let mut input = Input::new(data);
    let mut log = log.clone();
    // With the depth that an entry on top of it has to have.
    let mut places = vec![(*genesis, 1)];
    for _ in 0..ENTRIES_MAX {
        if input.is_empty() {
            break;
        }
        let (bytes, depth) = entry(&mut input, log.space(), &places);
        let hash = entry_hash(&bytes);
        match log.insert(&bytes) {
            Ok(Inserted::New) => {
                places.push((hash, depth.saturating_add(1)));
                assert_eq!(log.entry(&hash), Some(&bytes[..]));
                assert_eq!(log.insert(&bytes), Ok(Inserted::Known));
            }
            Ok(Inserted::Known | Inserted::MissingPrev | Inserted::Powerless) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert_eq!(log.hashes().len(), places.len());
    let bytes: Vec<Vec<u8>> = places.iter().filter_map(|(hash, _)| log.entry(hash)).map(<[u8]>::to_vec).collect();
    let again = Membership::load(log.space(), bytes.iter().rev().map(Vec::as_slice));
    let again = again.unwrap_or_else(|error| panic!("what was taken does not load: {error}"));
    assert_eq!((again.hashes(), again.members(), again.heads()), (log.hashes(), log.members(), log.heads()));
    assert_eq!(again.unknown_authority(), log.unknown_authority());
    for device in devices.iter().map(SecretKey::device) {
        let acl = log.acl_ref(&device);
        assert_eq!(again.acl_ref(&device), acl);
        assert_eq!(log.authority(&acl, &device).map(|authority| authority.role), Some(log.role(&device)));
    }
    goes_on(&log);
}

/// The founder can invite, and the invited can join, unless there is authority that this program does not know.
fn goes_on(log: &Membership) {
    let Fixture { devices, invites, .. } = fixture();
    let invite = log.invite(&devices[0], invites[3].device(), anabranch_engine::space::roles::Role::Writer, 1, [1; 16]);
    let Ok(invite) = invite else {
        return assert!(log.unknown_authority().is_some(), "{invite:?}");
    };
    let mut log = log.clone();
    assert!(matches!(log.insert(&invite.bytes), Ok(Inserted::New | Inserted::Known)));
    let joiner = SecretKey::from_seed(&[99; 32]);
    let request = log.request(&joiner.device(), &invites[3]).expect("the invite is here");
    match log.admit(&devices[0], &joiner.device(), &request, [2; 16]) {
        Ok(admission) => assert_eq!(log.insert(&admission.bytes), Ok(Inserted::New)),
        // There may be another invite with this key.
        Err(error) => return assert!(matches!(error, MembershipError::InviteUsedUp { .. }), "{error}"),
    }
    assert!(log.role(&joiner.device()).is_some());
}

/// One entry with its depth, if it is known: as it comes, as a body that only has to be signed, or field by field.
fn entry(input: &mut Input<'_>, space: SpaceId, before: &[(EntryHash, u32)]) -> (Vec<u8>, u32) {
    let Fixture { devices, .. } = fixture();
    let choices = input.byte();
    let author = &devices[usize::from(choices >> 2 & 3)];
    match choices & 3 {
        0 => (input.chunk().to_vec(), 0),
        1 => (sign(author, input.chunk()), 0),
        _ => {
            let (body, depth) = body(input, space, before, author.device());
            (sign(author, &body), depth)
        }
    }
}

fn sign(author: &SecretKey, body: &[u8]) -> Vec<u8> {
    let signature = author.sign(Domain::Entry, body);
    written(|e| {
        e.array(2)?.bytes(body)?.bytes(&signature)?;
        Ok(())
    })
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn written(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes)).expect("a vector takes every byte");
    bytes
}

/// Fields as the format has them, most of them right: which earlier entries it names, how much its depth is off, its kind.
fn body(input: &mut Input<'_>, space: SpaceId, before: &[(EntryHash, u32)], author: DeviceId) -> (Vec<u8>, u32) {
    let (set, off, kind, nonce) = (input.set(), input.byte(), input.byte(), input.byte());
    let mut prev: Vec<_> = before
        .iter()
        .take(32)
        .enumerate()
        .filter(|(place, _)| set >> place & 1 == 1)
        .map(|(_, entry)| *entry)
        .collect();
    prev.sort_unstable();
    let depth = prev.iter().map(|(_, depth)| *depth).max().unwrap_or(0).wrapping_add(u32::from(off));
    let prev: Vec<EntryHash> = prev.into_iter().map(|(hash, _)| hash).collect();
    let fields = fields(input, kind, space, before);
    let body = written(|e| {
        e.array(8)?.u8(2)?;
        e.encode(space)?.encode(&prev)?.encode(author)?.u32(depth)?.u8(kind)?;
        e.writer_mut().extend_from_slice(&fields);
        e.encode(ByteArray::from([nonce; 16]))?;
        Ok(())
    });
    (body, depth)
}

fn fields(input: &mut Input<'_>, kind: u8, space: SpaceId, before: &[(EntryHash, u32)]) -> Vec<u8> {
    let Fixture { invites, devices, .. } = fixture();
    let invite = &invites[usize::from(input.byte() % 4)];
    match kind {
        1 => {
            let (role, uses) = (input.byte(), input.byte());
            written(|e| {
                e.array(3)?.encode(invite.device())?.u8(role)?.u8(uses)?;
                Ok(())
            })
        }
        2 => {
            let (hash, _) = before[usize::from(input.byte()) % before.len()];
            let device = devices[usize::from(input.byte() % 4)].device();
            let proof = invite.sign(Domain::Invite, &[&space.0[..], &device.0[..]].concat());
            written(|e| {
                e.array(3)?.encode(hash)?.encode(device)?.encode(<&ByteSlice>::from(&proof[..]))?;
                Ok(())
            })
        }
        8 => {
            let (hash, _) = before[usize::from(input.byte()) % before.len()];
            written(|e| {
                e.array(1)?.encode(hash)?;
                Ok(())
            })
        }
        _ => input.chunk().to_vec(),
    }
}
