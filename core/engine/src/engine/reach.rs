//! Where this machine can be reached, and which of these addresses are of use to others: best first, and none that only this
//! machine can use as long as there is a better one. And which of the addresses that peers tell are of use to us. Judged by
//! the address alone.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::{ADDRESSES_QUIET, LISTENING_MAX};
use crate::sync::dialer::Source;
use crate::time::Timestamp;

/// From where an address can be reached: the earlier, the more likely by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// From everywhere, as far as one can tell: public addresses, and names.
    Global,
    /// From the local network.
    Lan,
    /// From the members of an overlay or behind the same provider: 100.64.0.0/10 (RFC 6598), fc00::/7 (RFC 4193).
    Overlay,
    /// As `Lan`, or from the containers of a network whose host this is: it ends in 1, as a router's own address does.
    Gateway,
    /// From containers and virtual machines on this machine: what their tools choose unless told otherwise.
    Bridge,
    /// Over one cable: 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// From this machine alone.
    Loopback,
    /// It names no machine: unspecified, multicast, reserved.
    Nowhere,
}

/// What an address begins with; of one kind, one is as good as another.
type Kind = (Reach, bool);

/// The number that an address begins with, if it does not begin with a name. IPv4 in the form of IPv6 is IPv4.
fn ip_of(address: &str) -> Option<IpAddr> {
    let mut parts = address.split('/').skip(1);
    match (parts.next()?, parts.next()?) {
        ("ip4", ip) => ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        ("ip6", ip) => ip.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical()),
        (kind, "localhost") if kind.starts_with("dns") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => None,
    }
}

fn kind_of(address: &str) -> Kind {
    match ip_of(address) {
        Some(IpAddr::V4(ip)) => (reach_of_ip4(ip), false),
        Some(IpAddr::V6(ip)) => (reach_of_ip6(ip), true),
        None => (Reach::Global, false),
    }
}

/// Whether what a peer says of itself may be true for us: this machine and a cable are other ones there, unless the session runs
/// over such an address too.
pub(super) fn may_be_its_own(address: &str, session: &str) -> bool {
    match kind_of(address).0 {
        reach @ (Reach::LinkLocal | Reach::Loopback) => kind_of(session).0 == reach,
        reach => reach != Reach::Nowhere,
    }
}

/// What an address is worth that one member tells of another, in a session that runs over `session`. It may have made it up,
/// so it must not lead us to what only we can reach: our own machine, or networks that we are not even in. Nor to names, which
/// lead wherever their owner likes.
pub(super) fn hearsay(address: &str, session: &str, listening: &[String]) -> Option<Source> {
    let Some(ip) = ip_of(address) else {
        // Other networks than libp2p's may have addresses of their own.
        return (!address.starts_with('/')).then_some(Source::Others);
    };
    let ours = || listening.iter().map(String::as_str).chain([session]).filter_map(ip_of);
    match kind_of(address).0 {
        Reach::Global => Some(Source::Others),
        Reach::Lan | Reach::Overlay | Reach::Gateway | Reach::Bridge => {
            ours().any(|own| is_one_network(own, ip)).then_some(Source::Nearby)
        }
        Reach::Loopback => (kind_of(session).0 == Reach::Loopback).then_some(Source::Others),
        Reach::LinkLocal | Reach::Nowhere => None,
    }
}

/// Whether two private addresses are in one network, as far as one can tell without its mask: networks at home, in offices and
/// of containers mostly have 256 addresses, or are routed as if they had. A site has a /48 of IPv6 (RFC 4193), and overlays
/// have all of 100.64.0.0/10.
fn is_one_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let is_shared = |ip: Ipv4Addr| matches!(ip.octets(), [100, 64..=127, ..]);
            a.octets()[..3] == b.octets()[..3] || is_shared(a) && is_shared(b)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..3] == b.segments()[..3],
        _ => false,
    }
}

/// Whether an address can be reached from further away than every one of `others`. If there are none, nothing is known.
pub(super) fn leads_further(address: &str, others: &[String]) -> bool {
    let nearest = others.iter().map(|other| kind_of(other).0).min();
    nearest.is_some_and(|nearest| kind_of(address).0 < nearest)
}

fn reach_of_ip4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [127, ..] => Reach::Loopback,
        [0, ..] | [224..=255, ..] => Reach::Nowhere,
        [169, 254, ..] => Reach::LinkLocal,
        [100, 64..=127, ..] => Reach::Overlay,
        // docker; libvirt; podman; lxc.
        [172, 17..=31, 0, 1] | [192, 168, 122, 1] | [10, 88, 0, 1] | [10, 0, 3, 1] => Reach::Bridge,
        [10, .., 1] | [172, 16..=31, _, 1] | [192, 168, _, 1] => Reach::Gateway,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Lan,
        _ => Reach::Global,
    }
}

fn reach_of_ip6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        // The form of IPv4 addresses that RFC 4291 has given up is among these.
        [0, 0, 0, 0, 0, 0, ..] | [0xff00..=0xffff, ..] => Reach::Nowhere,
        [0xfe80..=0xfebf, ..] => Reach::LinkLocal,
        // IPv4 behind a translator (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            reach_of_ip4(Ipv4Addr::new(a, b, c, d))
        }
        [0xfc00..=0xfdff, .., 1] => Reach::Gateway,
        [0xfc00..=0xfdff, ..] => Reach::Overlay,
        _ => Reach::Global,
    }
}

/// Of these addresses, the newest last, those that others may be told, best first. One of each kind before a second of any:
/// a machine may have eight global IPv6 addresses at a time, and its peer no IPv6.
fn of_use_to_others(listening: &[String]) -> Vec<String> {
    let mut kinds = BTreeMap::<Kind, VecDeque<&String>>::new();
    for address in listening.iter().rev() {
        kinds.entry(kind_of(address)).or_default().push_back(address);
    }
    // Where no other address is of the local network, one that ends in 1 is: on a router, for example.
    let has_lan = kinds.keys().any(|(reach, _)| *reach == Reach::Lan);
    let likely_until = if has_lan { Reach::Overlay } else { Reach::Gateway };
    let mut chosen = Vec::new();
    loop {
        let likely = kinds.iter_mut().filter(|((reach, _), _)| *reach <= likely_until);
        let before = chosen.len();
        chosen.extend(likely.filter_map(|(_, addresses)| addresses.pop_front()).cloned());
        if chosen.len() == before {
            break;
        }
    }
    for ((reach, _), addresses) in kinds {
        if reach <= Reach::Bridge || chosen.is_empty() || kind_of(&chosen[0]).0 > Reach::Bridge {
            chosen.extend(addresses.into_iter().cloned());
        }
    }
    chosen
}

/// Where this machine can be reached.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses {
    /// The newest last.
    listening: Vec<String>,
    /// What members are told instead.
    announced: Option<Vec<String>>,
    /// What was of use to others when they were last told.
    told: Vec<String>,
    /// When to see whether that is still so.
    tell_at: Option<Timestamp>,
}

impl OwnAddresses {
    /// We can be reached here. Of more than `LISTENING_MAX` the least useful and oldest one is let go.
    pub(super) fn add(&mut self, address: &str, now: Timestamp) {
        if self.listening.iter().any(|known| known == address) {
            return;
        }
        self.listening.push(String::from(address));
        if self.listening.len() > LISTENING_MAX {
            let worst = self.listening.iter().enumerate().max_by_key(|(at, known)| (kind_of(known).0, Reverse(*at)));
            if let Some((worst, _)) = worst {
                self.listening.remove(worst);
            }
        }
        self.changed(now);
    }

    /// We cannot be reached here any more.
    pub(super) fn remove(&mut self, address: &str, now: Timestamp) {
        self.listening.retain(|known| known != address);
        self.changed(now);
    }

    /// From now on others are told these, in this order, and no others.
    pub(super) fn announce(&mut self, addresses: Vec<String>) {
        self.announced = Some(addresses);
    }

    /// Every address, the newest last.
    pub(super) fn listening(&self) -> &[String] {
        &self.listening
    }

    /// What others may be told, best first.
    pub(super) fn for_others(&self) -> Vec<String> {
        self.announced.clone().unwrap_or_else(|| of_use_to_others(&self.listening))
    }

    /// Everybody who is connected knows what others may be told now.
    pub(super) fn all_know(&mut self) {
        self.told = of_use_to_others(&self.listening);
    }

    /// When [`Self::news`] is to be asked.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.tell_at
    }

    /// What others may be told now, if it is something else than the last time; `None` also while only this machine itself can
    /// reach it, because that leads nobody else anywhere.
    pub(super) fn news(&mut self, now: Timestamp) -> Option<Vec<String>> {
        self.tell_at.take_if(|at| now >= *at)?;
        let reachable = of_use_to_others(&self.listening);
        let is_local = reachable.iter().all(|address| kind_of(address).0 > Reach::Bridge);
        if is_local || self.told == reachable {
            return None;
        }
        self.told = reachable;
        Some(self.for_others())
    }

    fn changed(&mut self, now: Timestamp) {
        self.tell_at.get_or_insert(now + ADDRESSES_QUIET);
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn at_4510(ips: &[&str]) -> Vec<String> {
        ips.iter().map(|ip| format!("/ip{}/{ip}/tcp/4510", if ip.contains(':') { 6 } else { 4 })).collect()
    }

    fn own(ips: &[&str]) -> OwnAddresses {
        let mut own = OwnAddresses::default();
        at_4510(ips).iter().for_each(|address| own.add(address, Timestamp(0)));
        own
    }

    fn for_others(ips: &[&str]) -> Vec<String> {
        let told = own(ips).for_others();
        told.iter().map(|address| String::from(address.split('/').nth(2).expect("an ip"))).collect()
    }

    #[test]
    fn local_network_comes_before_container_bridges_and_loopback_is_not_told() {
        let bridges = ["127.0.0.1", "172.17.0.1", "172.18.0.1", "172.19.0.1", "172.20.0.1", "172.21.0.1"];
        let all = [&bridges[..], &["192.168.1.20", "fe80::1", "::1"]].concat();
        let told = for_others(&all);
        assert_eq!(told[0], "192.168.1.20");
        assert_eq!(told.len(), 6, "{told:?}");
        assert_eq!(for_others(&bridges), ["172.21.0.1", "172.20.0.1", "172.19.0.1", "172.18.0.1", "172.17.0.1"]);
    }

    #[test]
    fn what_reaches_farther_comes_first() {
        let all = [
            "127.0.0.1",
            "169.254.7.7",
            "10.88.0.1",
            "192.168.122.1",
            "192.168.16.1",
            "fd00::7",
            "100.64.0.9",
            "10.0.0.5",
            "2a01::5",
            "198.51.100.4",
        ];
        let expected = [
            "198.51.100.4",
            "2a01::5",
            "10.0.0.5",
            "100.64.0.9",
            "fd00::7",
            "192.168.16.1",
            "192.168.122.1",
            "10.88.0.1",
        ];
        assert_eq!(for_others(&all), expected);
    }

    #[test]
    fn many_addresses_of_one_kind_leave_room_for_the_others_and_the_newest_comes_first() {
        let temporary = ["2a01::1", "2a01::2", "2a01::3", "2a01::4", "2a01::5", "2a01::6", "2a01::7", "2a01::8"];
        let all = [&["192.168.1.20"], &temporary[..]].concat();
        assert_eq!(for_others(&all)[..4], ["2a01::8", "192.168.1.20", "2a01::7", "2a01::6"]);
        let router = [&["192.168.1.1", "172.17.0.1"], &temporary[..]].concat();
        assert_eq!(for_others(&router)[..4], ["2a01::8", "192.168.1.1", "2a01::7", "2a01::6"]);
    }

    #[test]
    fn loopback_is_told_where_there_is_nothing_else() {
        assert_eq!(for_others(&["127.0.0.1", "::1"]).len(), 2);
        assert_eq!(for_others(&["127.0.0.1", "169.254.1.2"]), ["169.254.1.2", "127.0.0.1"]);
        assert_eq!(for_others(&[]), [""; 0]);
        let names = [String::from("/dns4/node.example/tcp/1"), String::from("sim/3")];
        assert_eq!(of_use_to_others(&names).len(), 2, "names are as good as any address");
    }

    #[test]
    fn what_a_peer_says_of_itself_leads_to_no_machine_of_ours() {
        let far = "/ip4/198.51.100.4/tcp/4510";
        let refused =
            ["127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.1.1", "224.0.0.251", "255.255.255.255", "::1", "::"];
        for address in at_4510(&refused).iter().chain(&at_4510(&["fe80::1", "ff02::1", "::ffff:127.0.0.1", "::7f00:1"]))
        {
            assert!(!may_be_its_own(address, far), "{address}");
        }
        assert!(!may_be_its_own("/ip6/64:ff9b::7f00:1/tcp/1", far) && !may_be_its_own("/dns4/localhost/tcp/1", far));
        for address in ["/ip4/192.168.1.20/tcp/1", "/ip6/fd00::7/tcp/1", far, "/dns4/home.example/tcp/1", "sim/3"] {
            assert!(may_be_its_own(address, far), "{address}");
        }
        assert!(may_be_its_own("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/7"));
        assert!(may_be_its_own("/ip6/fe80::2/tcp/1", "/ip6/fe80::1/tcp/7"));
        assert!(!may_be_its_own("/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/7"));
    }

    #[test]
    fn hearsay_leads_to_public_addresses_and_into_our_own_networks() {
        let own = at_4510(&["192.168.1.20", "172.17.0.1", "100.101.7.7", "fd00:1:2::7"]);
        let heard = |ip: &str| hearsay(&at_4510(&[ip])[0], "/ip4/198.51.100.4/tcp/4510", &own);
        for public in ["198.51.100.9", "2a01::5"] {
            assert_eq!(heard(public), Some(Source::Others), "{public}");
        }
        for near in ["192.168.1.21", "172.17.0.9", "100.64.0.1", "fd00:1:2:3::9", "::ffff:192.168.1.9"] {
            assert_eq!(heard(near), Some(Source::Nearby), "{near}");
        }
        for refused in ["192.168.2.21", "10.0.0.5", "172.18.0.9", "fd00:1:3::9", "127.0.0.1", "::1", "169.254.169.254"]
        {
            assert_eq!(heard(refused), None, "{refused}");
        }
        for refused in ["fe80::1", "0.0.0.0", "::", "224.0.0.251", "ff02::1", "::ffff:10.0.0.5", "64:ff9b::a00:5"] {
            assert_eq!(heard(refused), None, "{refused}");
        }
        for refused in ["/dns4/internal.example/tcp/1", "/dns/localhost/tcp/1", "/unix/socket", "/ip4/example/tcp/1"] {
            assert_eq!(hearsay(refused, "/ip4/198.51.100.4/tcp/4510", &own), None, "{refused}");
        }
        assert_eq!(hearsay("sim/3", "sim/1", &own), Some(Source::Others));
    }

    #[test]
    fn hearsay_may_be_about_where_the_session_itself_runs() {
        let heard = |ip: &str, session: &str| hearsay(&at_4510(&[ip])[0], &at_4510(&[session])[0], &[]);
        assert_eq!(heard("127.0.0.1", "127.0.0.1"), Some(Source::Others));
        assert_eq!(heard("127.0.0.1", "::1"), Some(Source::Others));
        assert_eq!(heard("192.168.7.9", "192.168.7.1"), Some(Source::Nearby));
        assert_eq!(heard("192.168.8.9", "127.0.0.1"), None);
        assert_eq!(heard("fe80::2", "fe80::1"), None);
    }

    #[test]
    fn announced_addresses_are_told_as_they_are() {
        let mut own = own(&["192.168.1.20"]);
        own.announce(at_4510(&["127.0.0.1", "198.51.100.4"]));
        assert_eq!(own.for_others(), at_4510(&["127.0.0.1", "198.51.100.4"]));
    }

    #[test]
    fn an_address_that_is_gone_is_forgotten_and_a_change_is_told_once_after_some_quiet() {
        let mut own = own(&["127.0.0.1", "10.1.0.1"]);
        let later = Timestamp(0) + ADDRESSES_QUIET;
        assert_eq!((own.deadline(), own.news(Timestamp(1))), (Some(later), None));
        assert_eq!(own.news(later), Some(at_4510(&["10.1.0.1"])));
        own.remove(&at_4510(&["10.1.0.1"])[0], later);
        // Nobody else can use what is left.
        assert_eq!((own.for_others(), own.news(later + ADDRESSES_QUIET)), (at_4510(&["127.0.0.1"]), None));
        own.add(&at_4510(&["10.2.0.1"])[0], later);
        own.add(&at_4510(&["fe80::7"])[0], later);
        assert_eq!(own.news(later + ADDRESSES_QUIET), Some(at_4510(&["10.2.0.1"])));
        own.add(&at_4510(&["10.3.0.1"])[0], later);
        own.all_know();
        assert_eq!(own.news(later + ADDRESSES_QUIET), None, "everybody was told otherwise");
        own.remove(&at_4510(&["fe80::7"])[0], later);
        assert_eq!(own.news(later + ADDRESSES_QUIET), None, "nothing that others could use has changed");
    }

    #[test]
    fn addresses_beyond_the_limit_push_out_the_least_useful_ones() {
        let mut own = own(&["127.0.0.1", "192.168.1.20", "172.17.0.1"]);
        for last in 0..LISTENING_MAX {
            own.add(&format!("/ip4/10.0.0.{}/tcp/4510", last + 2), Timestamp(0));
        }
        assert_eq!(own.listening().len(), LISTENING_MAX);
        assert!(own.listening().iter().all(|address| kind_of(address).0 == Reach::Lan));
    }

    // A replica that had joined through a port that is forwarded forgot it when it met the peer on its own network.
    #[test]
    fn addresses_lead_further_than_all_that_are_nearer() {
        let further = |address: &str, others: &[&str]| {
            leads_further(address, &others.iter().map(|other| String::from(*other)).collect::<Vec<_>>())
        };
        assert!(further("/dns4/home.example/tcp/4510", &["/ip4/192.168.1.10/tcp/4510"]));
        assert!(further("/ip4/192.168.1.10/tcp/1", &["/ip4/127.0.0.1/tcp/1", "/ip4/169.254.1.1/tcp/1"]));
        assert!(!further("/ip4/192.168.1.11/tcp/1", &["/ip4/192.168.1.10/tcp/1"]));
        assert!(!further("/ip4/192.168.1.10/tcp/1", &["/ip4/203.0.113.7/tcp/1", "/ip4/127.0.0.1/tcp/1"]));
        assert!(!further("/ip4/203.0.113.7/tcp/1", &[]));
    }
}
