//! Tickets: the string that invites someone into a space.
//!
//! `anabranch1` and then, in lower-case base32 without padding: version, space, connection key, invite seed, role, number of
//! addresses, for each its length (two bytes, big endian) and text, and four check bytes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD;

use crate::id::SpaceId;
use crate::limits::{ADDRESS_BYTES_MAX, TICKET_ADDRESSES_MAX};
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
    /// Where members may be found. The first `TICKET_ADDRESSES_MAX` of at most `ADDRESS_BYTES_MAX` bytes are written.
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

impl Ticket {
    /// Version of the form that is written and read here.
    pub const VERSION: u8 = 1;

    fn to_bytes(&self) -> Vec<u8> {
        let addresses = self.addresses.iter().filter(|address| address.len() <= ADDRESS_BYTES_MAX);
        let addresses: Vec<&String> = addresses.take(TICKET_ADDRESSES_MAX).collect();
        let mut bytes = Vec::with_capacity(256);
        bytes.push(Self::VERSION);
        bytes.extend_from_slice(&self.space.0);
        bytes.extend_from_slice(&self.connection_key);
        bytes.extend_from_slice(&self.invite_seed);
        bytes.push(self.role.number());
        bytes.push(addresses.len() as u8);
        for address in addresses {
            bytes.extend_from_slice(&(address.len() as u16).to_be_bytes());
            bytes.extend_from_slice(address.as_bytes());
        }
        bytes.extend_from_slice(&check(&bytes));
        bytes
    }

    /// Reads what stands between the version and the check bytes.
    fn from_fields(fields: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends too early";
        let (space, rest) = fields.split_first_chunk().ok_or(SHORT)?;
        let (connection_key, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (invite_seed, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let ([role, count], mut rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let role = Role::from_number(*role).ok_or("it gives a role that this program does not know")?;
        if usize::from(*count) > TICKET_ADDRESSES_MAX {
            return Err("it has too many addresses");
        }
        let mut addresses = Vec::new();
        for _ in 0..*count {
            let (length, after) = rest.split_first_chunk().ok_or(SHORT)?;
            let length = usize::from(u16::from_be_bytes(*length));
            if length > ADDRESS_BYTES_MAX {
                return Err("it has an address that is too long");
            }
            let (address, after) = after.split_at_checked(length).ok_or(SHORT)?;
            addresses.push(core::str::from_utf8(address).map_err(|_| "it has an address that is no text")?.into());
            rest = after;
        }
        if !rest.is_empty() {
            return Err("it has something behind its end");
        }
        let (space, connection_key, invite_seed) = (SpaceId(*space), *connection_key, *invite_seed);
        Ok(Self { space, connection_key, invite_seed, role, addresses })
    }
}

impl fmt::Debug for Ticket {
    /// Shows no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({:.8}, {}, {} addresses)", self.space, self.role, self.addresses.len())
    }
}

impl fmt::Display for Ticket {
    /// The whole ticket with its secrets, for the one who is invited.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        f.write_str(&BASE32_NOPAD.encode(&self.to_bytes()).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads a ticket in upper or lower case, with white space around it or (from a wrapped line) within.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TicketError::Malformed(format!("it is {} bytes, limit {TEXT_BYTES_MAX}", text.len())));
        }
        let text: String = text.split_whitespace().collect::<String>().to_ascii_uppercase();
        let Some(data) = text.strip_prefix(&PREFIX.to_ascii_uppercase()) else {
            return Err(TicketError::Malformed(format!("it does not begin with `{PREFIX}`")));
        };
        let bytes = BASE32_NOPAD.decode(data.as_bytes()).map_err(|_| TicketError::Damaged)?;
        let (checked, digits) = bytes.split_last_chunk().ok_or(TicketError::Damaged)?;
        if check(checked) != *digits {
            return Err(TicketError::Damaged);
        }
        match checked.split_first() {
            Some((&Self::VERSION, fields)) => {
                Self::from_fields(fields).map_err(|reason| TicketError::Malformed(reason.to_string()))
            }
            Some((&version, _)) => Err(TicketError::Version(version)),
            None => Err(TicketError::Damaged),
        }
    }
}

/// The digit one is none of base32, so the prefix ends visibly; a double click takes the whole ticket.
const PREFIX: &str = "anabranch1";
/// More than twice the longest ticket.
const TEXT_BYTES_MAX: usize = 4096;

/// All versions of a ticket end in these, so that a damaged one is not taken for one of a later version.
fn check(bytes: &[u8]) -> [u8; 4] {
    let hash = blake3::Hasher::new().update(b"anabranch/v1/ticket\0").update(bytes).finalize();
    core::array::from_fn(|i| hash.as_bytes()[i])
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            space: SpaceId([0xab; 32]),
            connection_key: [0xcd; 32],
            invite_seed: [0xef; 32],
            role: Role::Writer,
            addresses: Vec::from(["/ip4/192.0.2.7/tcp/4001".into(), "/dns4/example.org/tcp/4001".into()]),
        }
    }

    /// A ticket with right check bytes around what a later or broken program wrote.
    fn sealed(bytes: &[u8]) -> String {
        let bytes = [bytes, &check(bytes)].concat();
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    #[test]
    fn a_ticket_has_these_bytes() {
        let text = ticket().to_string();
        assert_eq!(text, include_str!("../../golden/ticket.txt").trim_end());
        assert!(text.len() < 300, "{} characters", text.len());
    }

    #[test]
    fn a_ticket_shows_no_secret_in_a_log() {
        assert_eq!(format!("{:?}", ticket()), "Ticket(abababab, writer, 2 addresses)");
    }

    #[test]
    fn a_ticket_survives_copying() {
        let text = ticket().to_string();
        let (left, right) = text.split_at(70);
        for copy in [format!("  {text}\n"), text.to_ascii_uppercase(), format!("{left}\r\n   {right}")] {
            assert_eq!(copy.parse(), Ok(ticket()));
        }
    }

    #[test]
    fn what_is_no_ticket_gets_a_reason() {
        let error = |text: &str| text.parse::<Ticket>().unwrap_err();
        let malformed = |text: &str, reason: &str| {
            let error = error(text).to_string();
            assert!(error.starts_with("this is not a ticket") && error.contains(reason), "{error}");
        };
        malformed("", "`anabranch1`");
        malformed("/ip4/127.0.0.1/tcp/1", "`anabranch1`");
        malformed(&"x".repeat(5000), "5000 bytes, limit 4096");
        let bytes = ticket().to_bytes();
        let fields = &bytes[..bytes.len() - 4];
        assert_eq!(error(&sealed(&[&[2], &fields[1..]].concat())), TicketError::Version(2));
        malformed(&sealed(&fields[..fields.len() - 1]), "too early");
        malformed(&sealed(&[fields, &[0]].concat()), "behind its end");
        let changed = |at: usize, to: u8| {
            let mut fields = fields.to_vec();
            fields[at] = to;
            sealed(&fields)
        };
        malformed(&changed(97, 9), "role");
        malformed(&changed(98, 5), "too many addresses");
        malformed(&changed(99, 2), "too long");
        malformed(&changed(101, 0xff), "no text");
        assert_eq!(error(PREFIX), TicketError::Damaged);
        assert_eq!(error(&sealed(&[])), TicketError::Damaged);
    }

    #[test]
    fn addresses_over_a_limit_are_left_out() {
        let mut many = ticket();
        many.addresses = (0..9).map(|i| "x".repeat(if i == 0 { ADDRESS_BYTES_MAX + 1 } else { i })).collect();
        let read: Ticket = many.to_string().parse().unwrap();
        assert_eq!(read.addresses, ["x", "xx", "xxx", "xxxx"]);
        many.addresses = Vec::from_iter((0..4).map(|_| "y".repeat(ADDRESS_BYTES_MAX)));
        assert_eq!(many.to_string().parse(), Ok(many));
    }

    proptest! {
        #[test]
        fn a_changed_character_is_noticed(at in 0..ticket().to_string().len(), to in "[ -~]") {
            let text = ticket().to_string();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            if to.trim().is_empty() || changed.to_ascii_lowercase() != text {
                prop_assert!(changed.parse::<Ticket>().is_err());
            }
        }

        #[test]
        fn a_cut_ticket_is_noticed(cut in 0..ticket().to_string().len()) {
            prop_assert!(ticket().to_string()[..cut].parse::<Ticket>().is_err());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,400}", bytes in vec(any::<u8>(), 0..300)) {
            prop_assert!(text.parse::<Ticket>().is_err());
            let prefixed = format!("{PREFIX}{text}").parse::<Ticket>();
            prop_assert!(prefixed.is_err());
            _ = sealed(&bytes).parse::<Ticket>();
            _ = sealed(&[&[Ticket::VERSION], &bytes[..]].concat()).parse::<Ticket>();
        }
    }
}
