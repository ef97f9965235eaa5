//! Where this machine can be reached, and which of these addresses are of use to others: best first, and none that only this
//! machine can use as long as there is a better one. Judged by the address alone.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::{ADDRESSES_QUIET, LISTENING_MAX};
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
}

/// What an address begins with; of one kind, one is as good as another.
type Kind = (Reach, bool);

fn kind_of(address: &str) -> Kind {
    let mut parts = address.split('/').skip(1);
    let ip = match (parts.next(), parts.next()) {
        (Some("ip4"), Some(ip)) => ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        (Some("ip6"), Some(ip)) => ip.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    match ip {
        Some(IpAddr::V4(ip)) => (reach_of_ip4(ip), false),
        Some(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => (reach_of_ip4(ip), false),
            None => (reach_of_ip6(ip), true),
        },
        None => (Reach::Global, false),
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
        [169, 254, ..] | [0, ..] | [224..=255, ..] => Reach::LinkLocal,
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
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Reach::Loopback,
        [0xfe80..=0xfebf, ..] | [0xff00..=0xffff, ..] => Reach::LinkLocal,
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
