//! The addresses of this machine, and when to look at them again: as soon as the system says that they changed, where it does
//! (netlink on Linux), and every few seconds anyway.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt as _, Stream as _};
use futures_timer::Delay;
use if_watch::tokio::IfWatcher;

/// How often addresses are looked at where the system says when they change: only in case it forgets to.
const LOOK_EVERY_WATCHED: Duration = Duration::from_secs(30);
/// And where it does not.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Addresses that no packet is sent to: they only make the system choose a source address (RFC 5737, RFC 3849).
const ELSEWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// Lists the addresses, in the system's order.
type List = Box<dyn FnMut() -> Vec<IpAddr> + Send>;

/// The addresses of this machine.
pub(crate) struct Interfaces {
    list: List,
    changes: Option<IfWatcher>,
    every: Duration,
    next: Delay,
}

impl Interfaces {
    /// Those of this machine. To be called inside a tokio runtime.
    pub(crate) fn of_this_machine() -> Self {
        let changes = IfWatcher::new()
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    seconds = LOOK_EVERY.as_secs(),
                    "the system does not say when its addresses change (a service needs AF_NETLINK for that): looking at them regularly"
                );
            })
            .ok();
        let mut is_told = false;
        let list = move || match addresses() {
            Ok(found) => found,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        %error,
                        "the addresses of this machine cannot be listed: others are told the one that leads to the default route"
                    );
                }
                sources()
            }
        };
        Self::new(Box::new(list), changes)
    }

    fn new(list: List, changes: Option<IfWatcher>) -> Self {
        let every = if changes.is_some() { LOOK_EVERY_WATCHED } else { LOOK_EVERY };
        Self { list, changes, every, next: Delay::new(every) }
    }

    /// The addresses now, each once, in the system's order: of several that an interface got one after the other, the newest
    /// IPv6 address comes first.
    pub(crate) fn list(&mut self) -> Vec<IpAddr> {
        let mut found = (self.list)();
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|ip| !ip.is_unspecified() && !ip.is_multicast() && seen.insert(*ip));
        found
    }

    /// Waits until it is time to look, and lists the addresses.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Vec<IpAddr>> {
        let mut is_time = false;
        // All that has happened is one reason to look.
        while let Some(watcher) = &mut self.changes {
            match Pin::new(watcher).poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => is_time = true,
                Poll::Ready(Some(Err(error))) => {
                    tracing::warn!(%error, "the system does not say any more when its addresses change");
                    self.stop_watching();
                    is_time = true;
                }
                Poll::Ready(None) => self.stop_watching(),
                Poll::Pending => break,
            }
        }
        is_time |= self.next.poll_unpin(cx).is_ready();
        if !is_time {
            return Poll::Pending;
        }
        self.next.reset(self.every);
        // Asks to be woken by the timer as it is now.
        if self.next.poll_unpin(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(self.list())
    }

    fn stop_watching(&mut self) {
        self.changes = None;
        self.every = LOOK_EVERY;
    }
}

/// The addresses of all interfaces.
fn addresses() -> io::Result<Vec<IpAddr>> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => Ok(interfaces.iter().map(if_addrs::Interface::ip).collect()),
        // The C library asks over netlink too. What Linux shows as files it shows to everyone.
        Err(error) => {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let mut found = local_ip4(&read("/proc/self/net/fib_trie"));
            found.extend(local_ip6(&read("/proc/self/net/if_inet6")));
            if found.is_empty() { Err(error) } else { Ok(found) }
        }
    }
}

/// The machine's own addresses in a routing table as in `/proc/net/fib_trie`: an address after `|--`, what it is below.
fn local_ip4(table: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.map(IpAddr::V4));
        }
    }
    found
}

/// The addresses in a list as in `/proc/net/if_inet6`: 32 hexadecimal digits, then interface, prefix, scope, flags and name.
fn local_ip6(list: &str) -> Vec<IpAddr> {
    let digits = list.lines().filter_map(|line| line.split_whitespace().next()).filter(|digits| digits.len() == 32);
    digits.filter_map(|digits| Some(IpAddr::V6(u128::from_str_radix(digits, 16).ok()?.into()))).collect()
}

/// The addresses that packets to elsewhere would come from, and loopback.
fn sources() -> Vec<IpAddr> {
    let source = |to: &SocketAddr| {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    ELSEWHERE.iter().filter_map(source).chain([loopback]).collect()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_systems_files_name_this_machines_addresses() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.1.0.0/24 2 0 2\n        \
                     |-- 10.1.0.0\n           /24 link UNICAST\n        |-- 10.1.0.7\n           /32 host LOCAL\n        \
                     |-- 10.1.0.255\n           /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(local_ip4(table), ["10.1.0.7", "127.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    20010db8000000000000000000000042 02 40 00 01     eth0\nnonsense\n";
        assert_eq!(local_ip6(list), ["::1", "2001:db8::42"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!((local_ip4("|-- x\n/32 host LOCAL"), local_ip6("zz")), (Vec::new(), Vec::new()));
    }

    #[test]
    fn the_files_and_the_system_agree_about_loopback() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(addresses().unwrap().contains(&loopback));
        assert!(sources().contains(&loopback));
    }

    #[tokio::test]
    async fn addresses_that_nobody_announces_are_looked_at_again() {
        let now = Arc::new(Mutex::new(vec![IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1))]));
        let list = now.clone();
        let mut interfaces = Interfaces::new(Box::new(move || list.lock().unwrap().clone()), None);
        interfaces.every = Duration::from_millis(10);
        interfaces.next = Delay::new(interfaces.every);
        for last in 2..5 {
            let address = IpAddr::V4(Ipv4Addr::new(10, 1, 0, last));
            *now.lock().unwrap() = vec![address, address];
            assert_eq!(poll_fn(|cx| interfaces.poll(cx)).await, [address], "each once");
        }
    }
}
