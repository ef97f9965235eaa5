//! Addresses and peer ids as text: read once, at the edge, with an error that shows what a good one looks like.

use std::net::{IpAddr, SocketAddr};

use anabranch_engine::id::DeviceId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::{translate, transport};

/// What to write, shown in every error.
const EXAMPLE: &str = "/ip4/192.0.2.1/tcp/4100";

/// An address that can be dialed or listened on here, and the device that it names, if it names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    multiaddr: Multiaddr,
    device: Option<DeviceId>,
}

/// An address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not a multiaddr.
    #[error("`{text}` is not an address ({reason}); a good one looks like {EXAMPLE}")]
    Malformed {
        /// What was given, cut to 80 characters.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is a multiaddr, but of a kind that is not carried here.
    #[error("`{text}` cannot be used here: {supported}; a good one looks like {EXAMPLE}")]
    Unsupported {
        /// What was given, cut to 80 characters.
        text: String,
        /// What is carried.
        supported: &'static str,
    },
    /// The peer id in it is not that of a device.
    #[error("`{text}` names a peer that is no Anabranch device; a good one looks like {EXAMPLE}/p2p/12D3KooW...")]
    NotADevice {
        /// What was given, cut to 80 characters.
        text: String,
    },
}

impl Address {
    /// The device that must answer there, if the address says.
    pub fn device(&self) -> Option<DeviceId> {
        self.device
    }

    /// The address without the device.
    pub(crate) fn multiaddr(&self) -> &Multiaddr {
        &self.multiaddr
    }
}

impl std::fmt::Display for Address {
    /// The canonical text, with the device if it has one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.multiaddr)?;
        match &self.device {
            Some(device) => write!(f, "/p2p/{}", translate::peer_id(device)),
            None => Ok(()),
        }
    }
}

/// Reads an address, such as `/ip4/192.0.2.1/tcp/4100` or `/dns4/node.example/tcp/4100/p2p/12D3KooW...`.
///
/// # Errors
/// It is malformed, of a kind that is not carried here, or names something that is not a device.
pub fn parse_address(text: &str) -> Result<Address, AddressError> {
    let mut multiaddr: Multiaddr = text.trim().parse().map_err(|error: libp2p::multiaddr::Error| {
        AddressError::Malformed { text: cut(text), reason: error.to_string() }
    })?;
    let device = match multiaddr.iter().last() {
        Some(Protocol::P2p(peer)) => {
            multiaddr.pop();
            Some(translate::device(&peer).ok_or_else(|| AddressError::NotADevice { text: cut(text) })?)
        }
        _ => None,
    };
    if !transport::carries(&multiaddr) {
        return Err(AddressError::Unsupported { text: cut(text), supported: transport::CARRIED });
    }
    Ok(Address { multiaddr, device })
}

/// The libp2p peer id of a device, as people see it: `12D3KooW...`.
pub fn peer_id_text(device: &DeviceId) -> String {
    translate::peer_id(device).to_string()
}

/// The device behind a libp2p peer id; `None` if the text is none, or not that of an ed25519 key.
pub fn device_of(peer_id: &str) -> Option<DeviceId> {
    translate::device(&peer_id.trim().parse::<PeerId>().ok()?)
}

/// The address with `/p2p/<peer id>` at its end, where it was not there before.
pub fn with_peer_id(address: &str, device: &DeviceId) -> String {
    let suffix = format!("/p2p/{}", translate::peer_id(device));
    if address.ends_with(&suffix) { address.to_owned() } else { format!("{}{suffix}", address.trim_end_matches('/')) }
}

/// The address and port that a multiaddr begins with.
pub(crate) fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The multiaddr of an address and a port.
pub(crate) fn multiaddr_of(at: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(at.ip().into()).with(Protocol::Tcp(at.port()))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceId {
        anabranch_engine::keys::SecretKey::from_seed(&[7; 32]).device()
    }

    #[test]
    fn a_peer_id_is_the_device_in_another_writing() {
        let text = peer_id_text(&device());
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(device_of(&text), Some(device()));
        // libp2p derives the same one from the secret key.
        let keypair = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
        assert_eq!(keypair.public().to_peer_id().to_string(), text);
    }

    #[test]
    fn a_peer_id_of_another_kind_is_no_device() {
        assert_eq!(device_of("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"), None);
        assert_eq!(device_of(""), None);
        assert_eq!(device_of("12D3KooW"), None);
    }

    #[test]
    fn an_address_may_name_its_device() {
        let text = with_peer_id("/ip4/192.0.2.1/tcp/4100", &device());
        let address = parse_address(&text).unwrap();
        assert_eq!(address.device(), Some(device()));
        assert_eq!(address.multiaddr().to_string(), "/ip4/192.0.2.1/tcp/4100");
        assert_eq!(address.to_string(), text);
        assert_eq!(with_peer_id(&text, &device()), text);
    }

    #[test]
    fn names_and_both_ip_versions_are_carried() {
        for text in ["/ip6/::1/tcp/4100", "/dns/node.example/tcp/4100", "/dns4/a.b/tcp/1", "/dns6/a.b/tcp/1"] {
            assert_eq!(parse_address(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bad_address_is_told_what_a_good_one_looks_like() {
        for text in
            ["", "192.0.2.1:4100", "/ip4/192.0.2.1", "/ip4/1.2.3.4/udp/1/quic-v1", "/tcp/1/ip4/1.2.3.4", "/ip4/x/tcp/1"]
        {
            let error = parse_address(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(EXAMPLE), "{error}");
        }
        let error = parse_address("/ip4/1.2.3.4/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N").unwrap_err();
        assert!(error.to_string().contains("no Anabranch device"), "{error}");
    }
}
