//! Where a connection comes from, as far as it is counted: one machine, one household.

use std::net::{Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Where inbound connections are counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    V4(Ipv4Addr),
    /// The network half: one household or server usually has all of it.
    V6([u16; 4]),
}

impl Origin {
    /// Of an address that a connection comes from; `None` for this machine itself.
    pub(crate) fn of(address: &Multiaddr) -> Option<Self> {
        let v4 = |ip: Ipv4Addr| (!ip.is_loopback()).then_some(Self::V4(ip));
        match address.iter().next()? {
            Protocol::Ip4(ip) => v4(ip),
            Protocol::Ip6(Ipv6Addr::LOCALHOST) => None,
            Protocol::Ip6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => v4(ip),
                None => {
                    let [a, b, c, d, ..] = ip.segments();
                    Some(Self::V6([a, b, c, d]))
                }
            },
            _ => None,
        }
    }
}
