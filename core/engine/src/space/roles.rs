//! What a member may do.

use core::fmt;
use core::str::FromStr;

/// A member's role. Each may do what the ones before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Role {
    /// Holds and forwards everything, writes nothing.
    Reader = 1,
    /// Edits documents.
    Writer = 2,
    /// Invites.
    Admin = 3,
}

impl Role {
    /// The role with this number in entries and tickets.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Reader),
            2 => Some(Self::Writer),
            3 => Some(Self::Admin),
            _ => None,
        }
    }

    /// The role's number in entries and tickets.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The role as in "this device is a reader".
    pub const fn with_article(self) -> &'static str {
        match self {
            Self::Reader => "a reader",
            Self::Writer => "a writer",
            Self::Admin => "an admin",
        }
    }

    /// Whether changes by such a member are accepted.
    pub const fn can_write(self) -> bool {
        matches!(self, Self::Writer | Self::Admin)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        })
    }
}

/// A role given as text is none of `reader`, `writer`, `admin`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is `reader`, `writer` or `admin`")]
pub struct ParseRoleError;

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        match text {
            "reader" => Ok(Self::Reader),
            "writer" => Ok(Self::Writer),
            "admin" => Ok(Self::Admin),
            _ => Err(ParseRoleError),
        }
    }
}
