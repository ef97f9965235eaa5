//! Tickets: the string that invites someone into a space.

use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use crate::id::SpaceId;
use crate::space::roles::Role;

/// What a ticket carries. A bearer secret: never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The space.
    pub space: SpaceId,
    /// The connection key: admits to the membership log.
    pub connection_key: [u8; 32],
    /// Seed of the invite's secret key: admits one device for each use.
    pub invite_seed: [u8; 32],
    /// The role that the invite gives, for people to read; the log decides.
    pub role: Role,
    /// Where members may be found.
    pub addresses: Vec<String>,
}

/// A ticket could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a ticket at all.
    #[error("this is not a ticket: {0}")]
    Malformed(String),
    /// A ticket of a version that we do not know.
    #[error("this ticket is of version {0}, this program reads version 1: update it")]
    Version(u8),
    /// Characters were lost or changed on the way.
    #[error("this ticket is damaged: its check digits do not fit; copy it again")]
    Damaged,
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, _f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        todo!()
    }
}

impl core::fmt::Display for Ticket {
    fn fmt(&self, _f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        todo!()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let _ = text;
        todo!()
    }
}
