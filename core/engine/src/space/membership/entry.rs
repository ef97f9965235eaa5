//! One membership entry: bytes to fields and back, and what can be said of it alone. Whether it counts is the resolver's
//! business.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};

use super::{Entry, MembershipError};
use crate::id::{DeviceId, EntryHash, SpaceId};
use crate::keys::{self, Domain, SIGNATURE_LEN, Signer};
use crate::limits::{ENTRY_BYTES_MAX, ENTRY_PREV_MAX, SPACE_NAME_BYTES_MAX};
use crate::space::roles::Role;

/// The version of the body that is written and read here.
pub(super) const VERSION: u8 = 2;

/// Kind numbers. Those below [`kind::INFORMS`] carry authority: who does not know one must not guess what it gives or takes.
/// Those from it on inform, and may be ignored. Reserved for what comes later: 3 SetRole, 4 Remove, 5 InviteRevoke, 6 Adopt,
/// 7 KeyEpoch, 128 Checkpoint.
pub(super) mod kind {
    pub(in super::super) const GENESIS: u8 = 0;
    pub(in super::super) const INVITE: u8 = 1;
    pub(in super::super) const ADMIT: u8 = 2;
    pub(in super::super) const VOID: u8 = 8;
    pub(in super::super) const INFORMS: u8 = 128;
}

/// An entry as kept and sent.
#[derive(Encode, Decode)]
struct Envelope<'b> {
    #[cbor(b(0), with = "minicbor::bytes")]
    body: &'b [u8],
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: [u8; SIGNATURE_LEN],
}

/// What is signed.
#[derive(Encode, Decode)]
pub(super) struct Body<'b> {
    #[n(0)]
    pub(super) version: u8,
    #[n(1)]
    pub(super) space: Option<SpaceId>,
    #[n(2)]
    pub(super) prev: Option<Vec<EntryHash>>,
    #[n(3)]
    pub(super) author: DeviceId,
    #[n(4)]
    pub(super) depth: u32,
    #[n(5)]
    pub(super) kind: u8,
    #[b(6)]
    pub(super) fields: Raw<'b>,
    #[cbor(n(7), with = "minicbor::bytes")]
    pub(super) nonce: [u8; 16],
}

/// One CBOR item that is read later, or never.
pub(super) struct Raw<'b>(pub(super) &'b [u8]);

#[derive(Encode, Decode)]
pub(super) struct GenesisFields<'b> {
    #[b(0)]
    pub(super) name: &'b str,
}

#[derive(Encode, Decode)]
pub(super) struct InviteFields {
    #[n(0)]
    pub(super) key: DeviceId,
    #[n(1)]
    pub(super) role: u8,
    #[n(2)]
    pub(super) max_uses: u32,
}

#[derive(Encode, Decode)]
pub(super) struct AdmitFields {
    #[n(0)]
    pub(super) invite: EntryHash,
    #[n(1)]
    pub(super) device: DeviceId,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(super) proof: [u8; SIGNATURE_LEN],
}

#[derive(Encode, Decode)]
pub(super) struct VoidFields {
    #[n(0)]
    pub(super) entry: EntryHash,
}

/// An entry that is well formed. Whether its author has signed it is looked at last: a signature costs more to check than all
/// the rest.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) prev: Vec<EntryHash>,
    pub(super) author: DeviceId,
    pub(super) depth: u32,
    pub(super) kind: Kind,
}

/// What an entry says.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Genesis {
        name: String,
    },
    Invite {
        key: DeviceId,
        role: Role,
        max_uses: u32,
    },
    /// The author lets a device in, which has shown that it holds the invite's key.
    Admit {
        invite: EntryHash,
        device: DeviceId,
        proof: Box<[u8; SIGNATURE_LEN]>,
    },
    /// An entry of unknown authority has none.
    Void {
        entry: EntryHash,
    },
    UnknownAuthority(u8),
    Informs,
}

/// The hash of an entry's bytes.
pub(super) fn hash(bytes: &[u8]) -> EntryHash {
    EntryHash(hash_in(b"anabranch/v1/entry-hash\0", bytes))
}

/// The space that a genesis entry founds.
pub(super) fn space_of(genesis: &[u8]) -> SpaceId {
    SpaceId(hash_in(b"anabranch/v1/space\0", genesis))
}

/// What an invite's key signs to show that `joiner` holds it.
pub(super) fn proof_bytes(space: &SpaceId, joiner: &DeviceId) -> Vec<u8> {
    [&space.0[..], &joiner.0[..]].concat()
}

/// A space's name: 1 to `SPACE_NAME_BYTES_MAX` bytes, no control characters.
pub(super) fn check_name(name: &str) -> Result<(), MembershipError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(MembershipError::Malformed("a space's name is empty or has control characters".into()));
    }
    if name.len() > SPACE_NAME_BYTES_MAX {
        return Err(too_large("the space's name", name.len(), "bytes", SPACE_NAME_BYTES_MAX));
    }
    Ok(())
}

pub(super) fn too_large(what: &str, value: usize, unit: &str, limit: usize) -> MembershipError {
    MembershipError::TooLarge(format!("{what} is {value} {unit}, limit {limit}"))
}

/// The one CBOR encoding of a value that we write ourselves.
pub(super) fn encoded(value: impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to memory does not fail")
}

impl Body<'_> {
    /// Signs the body.
    pub(super) fn sign(&self, key: &dyn Signer) -> Entry {
        let body = encoded(self);
        let bytes = encoded(Envelope { body: &body, signature: key.sign(Domain::Entry, &body) });
        Entry { hash: hash(&bytes), bytes }
    }
}

impl Parsed {
    /// Reads an entry and checks everything that needs no other entry, but for the signature.
    pub(super) fn read(bytes: &[u8], space: &SpaceId) -> Result<Self, MembershipError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(too_large("a membership entry", bytes.len(), "bytes", ENTRY_BYTES_MAX));
        }
        let envelope: Envelope<'_> = minicbor::decode(bytes).map_err(|error| undecodable("envelope", &error))?;
        // The envelope is not signed: only one form of it, or anyone could make copies of an entry that differ in their hash.
        if encoded(&envelope) != bytes {
            return malformed("its envelope is not in the one form allowed, or bytes follow it");
        }
        Body::read(envelope.body)?.check(bytes, space)
    }

    /// Reads an entry that its author has signed.
    pub(super) fn read_signed(bytes: &[u8], space: &SpaceId) -> Result<Self, MembershipError> {
        let parsed = Self::read(bytes, space)?;
        parsed.check_signature(bytes)?;
        Ok(parsed)
    }

    /// Whether the author has signed these bytes, which this was read from.
    pub(super) fn check_signature(&self, bytes: &[u8]) -> Result<(), MembershipError> {
        let envelope: Envelope<'_> = minicbor::decode(bytes).map_err(|error| undecodable("envelope", &error))?;
        match keys::verify(&self.author, Domain::Entry, envelope.body, &envelope.signature) {
            true => Ok(()),
            false => Err(MembershipError::BadSignature),
        }
    }
}

impl<'b> Body<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self, MembershipError> {
        // The version before the rest: a later one may have other fields.
        let mut decoder = Decoder::new(bytes);
        let version = decoder.array().and_then(|_| decoder.u8()).map_err(|error| undecodable("body", &error))?;
        if version != VERSION {
            return Err(MembershipError::OtherVersion(version));
        }
        let mut decoder = Decoder::new(bytes);
        let body = decoder.decode().map_err(|error| undecodable("body", &error))?;
        if decoder.position() != bytes.len() {
            return malformed("bytes follow its body");
        }
        Ok(body)
    }

    fn check(self, bytes: &[u8], space: &SpaceId) -> Result<Parsed, MembershipError> {
        let Self { author, depth, .. } = self;
        let kind = Kind::read(self.kind, self.fields.0)?;
        let prev = match (&kind, self.space, self.prev) {
            (Kind::Genesis { .. }, None, None) if space_of(bytes) != *space => {
                return malformed("it founds another space");
            }
            (Kind::Genesis { .. }, None, None) if depth != 0 => return malformed("a genesis entry of a depth"),
            (Kind::Genesis { .. }, None, None) => Vec::new(),
            (Kind::Genesis { .. }, ..) => return malformed("a genesis entry that names a space or earlier entries"),
            (_, Some(named), _) if named != *space => return malformed(format!("it belongs to space {named:.8}")),
            (_, Some(_), Some(prev)) => prev,
            _ => return malformed("it names no space or no earlier entries"),
        };
        if prev.len() > ENTRY_PREV_MAX {
            return Err(too_large("the list of earlier entries of an entry", prev.len(), "entries", ENTRY_PREV_MAX));
        }
        if prev.is_empty() && !matches!(kind, Kind::Genesis { .. }) {
            return malformed("it names no earlier entries");
        }
        if !prev.is_sorted_by(|a, b| a < b) {
            return malformed("the earlier entries that it names are not in order");
        }
        Ok(Parsed { prev, author, depth, kind })
    }
}

impl Kind {
    fn read(number: u8, fields: &[u8]) -> Result<Self, MembershipError> {
        let undecodable = |error: decode::Error| undecodable("fields", &error);
        Ok(match number {
            kind::GENESIS => {
                let GenesisFields { name } = minicbor::decode(fields).map_err(undecodable)?;
                check_name(name)?;
                Self::Genesis { name: name.into() }
            }
            kind::INVITE => {
                let InviteFields { key, role, max_uses } = minicbor::decode(fields).map_err(undecodable)?;
                if !keys::is_sound(&key) {
                    return malformed("an invite with a weak key");
                }
                match Role::from_number(role) {
                    Some(role) => Self::Invite { key, role, max_uses },
                    // A role of a later version is authority that we do not understand.
                    None => Self::UnknownAuthority(number),
                }
            }
            kind::ADMIT => {
                let AdmitFields { invite, device, proof } = minicbor::decode(fields).map_err(undecodable)?;
                Self::Admit { invite, device, proof: Box::new(proof) }
            }
            kind::VOID => {
                let VoidFields { entry } = minicbor::decode(fields).map_err(undecodable)?;
                Self::Void { entry }
            }
            number if number >= kind::INFORMS => Self::Informs,
            number => Self::UnknownAuthority(number),
        })
    }
}

impl<C> Encode<C> for Raw<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.writer_mut().write_all(self.0).map_err(encode::Error::write)
    }
}

impl<'b, C> Decode<'b, C> for Raw<'b> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let from = d.position();
        d.skip()?;
        d.input().get(from..d.position()).map(Self).ok_or_else(decode::Error::end_of_input)
    }
}

fn undecodable(part: &str, error: &decode::Error) -> MembershipError {
    MembershipError::Malformed(format!("its {part} cannot be read: {error}"))
}

fn malformed<T>(what: impl ToString) -> Result<T, MembershipError> {
    Err(MembershipError::Malformed(what.to_string()))
}

fn hash_in(domain: &[u8], bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(domain).update(bytes).finalize().as_bytes()
}
