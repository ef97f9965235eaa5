//! Names of things: fixed-size byte strings that cannot be mixed up. How they are made is their owner's business.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use minicbor::bytes::ByteArray;
use minicbor::decode::{Decode, Decoder};
use minicbor::encode::{self, Encode, Encoder, Write};

/// An id given as text could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected} hex digits")]
pub struct ParseIdError {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// The number of hex digits that the id has.
    pub expected: usize,
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads an id from a slice of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            /// Lower-case hex; with a precision, that many digits of it.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = f.precision().unwrap_or($len * 2).min($len * 2);
                for i in 0..digits {
                    let nibble = if i % 2 == 0 { self.0[i / 2] >> 4 } else { self.0[i / 2] & 15 };
                    write!(f, "{nibble:x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:.8})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| Self::from_slice(&bytes))
                    .ok_or_else(|| ParseIdError { text: text.chars().take(80).collect(), expected: $len * 2 })
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
                ByteArray::<$len>::decode(d, ctx).map(|bytes| Self(*bytes))
            }
        }
    };
}

id!(
    /// A device: its ed25519 public key. The libp2p peer id is derived from the same key.
    DeviceId, 32
);
id!(
    /// A space: the hash of its genesis entry.
    SpaceId, 32
);
id!(
    /// A document: 16 random bytes, unique inside its space.
    DocumentId, 16
);
id!(
    /// An automerge actor: 16 random bytes, fresh for each process start and document.
    ActorId, 16
);
id!(
    /// The SHA-256 of one automerge change.
    ChangeHash, 32
);
id!(
    /// The hash of one membership entry.
    EntryHash, 32
);
id!(
    /// The hash of an `acl_ref`: the sorted membership entry hashes that an author stood on.
    AclHash, 32
);
id!(
    /// A store: 16 random bytes made with it. One device under two storage ids is a clone.
    StorageId, 16
);
