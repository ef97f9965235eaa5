//! Where this machine can be reached: the sockets that listen, and the addresses that the machine has. What is told follows
//! from these two alone, so that an address that is gone is not told for longer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use anabranch_engine::Input;
use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;

use crate::address::{multiaddr_of, socket_address};

/// Where this machine can be reached.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// Listeners that do not say yet at which port they are.
    unbound: Vec<ListenerId>,
    sockets: Vec<Bound>,
    /// The machine's addresses, in the system's order.
    present: Vec<IpAddr>,
    told: Vec<SocketAddr>,
    news: VecDeque<Input>,
}

#[derive(Debug)]
struct Bound {
    id: ListenerId,
    at: SocketAddr,
    /// Its address was seen among those of the machine. Some that can be listened on never are (127.0.0.2).
    was_present: bool,
}

impl Listening {
    /// A socket was asked for.
    pub(crate) fn begun(&mut self, id: ListenerId) {
        self.unbound.push(id);
    }

    /// A socket listens there.
    pub(crate) fn bound(&mut self, id: ListenerId, address: &Multiaddr) {
        self.unbound.retain(|unbound| *unbound != id);
        if let Some(at) = socket_address(address) {
            self.sockets.push(Bound { id, at, was_present: false });
        }
        self.tell();
    }

    /// A socket is gone.
    pub(crate) fn closed(&mut self, id: ListenerId) {
        self.unbound.retain(|unbound| *unbound != id);
        self.sockets.retain(|socket| socket.id != id);
        self.tell();
    }

    /// The machine has these addresses now.
    pub(crate) fn found(&mut self, present: Vec<IpAddr>) {
        self.present = present;
        self.tell();
    }

    /// Every socket that was asked for has said where it is, and all of it was told.
    pub(crate) fn is_settled(&self) -> bool {
        self.unbound.is_empty() && self.news.is_empty()
    }

    /// What is to be told next.
    pub(crate) fn poll(&mut self) -> Option<Input> {
        self.news.pop_front()
    }

    fn tell(&mut self) {
        let mut reachable: Vec<SocketAddr> = Vec::new();
        for socket in &mut self.sockets {
            let at = socket.at;
            if at.ip().is_unspecified() {
                let of_its_kind = self.present.iter().filter(|ip| ip.is_ipv4() == at.is_ipv4());
                reachable.extend(of_its_kind.map(|ip| SocketAddr::new(*ip, at.port())));
            } else {
                let is_present = self.present.contains(&at.ip());
                socket.was_present |= is_present;
                reachable.extend((is_present || !socket.was_present).then_some(at));
            }
        }
        for gone in self.told.extract_if(.., |told| !reachable.contains(told)) {
            self.news.push_back(Input::ListeningEnded { address: text(gone) });
        }
        // The last one told counts as the newest, and the system names the best of its kind first.
        for new in reachable.into_iter().rev() {
            if !self.told.contains(&new) {
                self.told.push(new);
                self.news.push_back(Input::Listening { address: text(new) });
            }
        }
    }
}

fn text(at: SocketAddr) -> String {
    multiaddr_of(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn news(listening: &mut Listening) -> Vec<String> {
        std::iter::from_fn(|| listening.poll())
            .map(|input| match input {
                Input::Listening { address } => format!("+{address}"),
                Input::ListeningEnded { address } => format!("-{address}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_socket_on_all_addresses_is_told_as_those_that_there_are() {
        let mut listening = Listening::default();
        let (four, six) = (ListenerId::next(), ListenerId::next());
        listening.found(ips(&["127.0.0.1", "10.1.0.1", "::1"]));
        listening.begun(four);
        assert!(!listening.is_settled());
        listening.bound(four, &"/ip4/0.0.0.0/tcp/4510".parse().unwrap());
        assert!(!listening.is_settled());
        assert_eq!(news(&mut listening), ["+/ip4/10.1.0.1/tcp/4510", "+/ip4/127.0.0.1/tcp/4510"]);
        assert!(listening.is_settled());
        listening.bound(six, &"/ip6/::/tcp/4510".parse().unwrap());
        assert_eq!(news(&mut listening), ["+/ip6/::1/tcp/4510"]);
        listening.found(ips(&["127.0.0.1", "10.2.0.1", "::1"]));
        assert_eq!(news(&mut listening), ["-/ip4/10.1.0.1/tcp/4510", "+/ip4/10.2.0.1/tcp/4510"]);
        listening.closed(four);
        assert_eq!(news(&mut listening), ["-/ip4/127.0.0.1/tcp/4510", "-/ip4/10.2.0.1/tcp/4510"]);
    }

    #[test]
    fn one_address_is_told_while_the_machine_has_it() {
        let mut listening = Listening::default();
        listening.found(ips(&["10.1.0.1"]));
        listening.bound(ListenerId::next(), &"/ip4/10.1.0.1/tcp/1".parse().unwrap());
        listening.bound(ListenerId::next(), &"/ip4/0.0.0.0/tcp/1".parse().unwrap());
        assert_eq!(news(&mut listening), ["+/ip4/10.1.0.1/tcp/1"], "once, whichever socket it is");
        listening.found(ips(&[]));
        assert_eq!(news(&mut listening), ["-/ip4/10.1.0.1/tcp/1"]);
        listening.found(ips(&["10.1.0.1"]));
        assert_eq!(news(&mut listening), ["+/ip4/10.1.0.1/tcp/1"]);
        // Never among the machine's addresses, and good all the same.
        listening.bound(ListenerId::next(), &"/ip4/127.0.0.2/tcp/1".parse().unwrap());
        assert_eq!(news(&mut listening), ["+/ip4/127.0.0.2/tcp/1"]);
        listening.found(ips(&[]));
        assert_eq!(news(&mut listening), ["-/ip4/10.1.0.1/tcp/1"]);
    }
}
