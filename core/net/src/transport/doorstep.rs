//! Connections that others set up with us. There are few places for them, and whoever says nothing could keep them all; so when
//! they are taken, the oldest one makes room of those that come from where most do.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{AbortHandle, Abortable, Aborted};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};

use crate::origin::Origin;

/// A transport that has so many places for connections that are being set up by others.
pub(crate) struct Doorstep<T> {
    inner: T,
    visitors: Arc<Mutex<Visitors>>,
}

/// One of these connections.
pub(crate) struct Visit<F> {
    setup: Abortable<F>,
    number: u64,
    visitors: Arc<Mutex<Visitors>>,
}

/// Those that have a place, in the order in which they came.
#[derive(Default)]
struct Visitors {
    places: usize,
    last: u64,
    held: BTreeMap<u64, (Option<Origin>, AbortHandle)>,
}

impl Visitors {
    fn enter(&mut self, origin: Option<Origin>, handle: AbortHandle) -> u64 {
        while self.held.len() >= self.places.max(1) {
            let Some((_, oldest)) = self.oldest_of_most(origin).and_then(|number| self.held.remove(&number)) else {
                break;
            };
            oldest.abort();
        }
        self.last += 1;
        self.held.insert(self.last, (origin, handle));
        self.last
    }

    /// The oldest one of those that come from where most do, if one more comes from `newcomer`.
    fn oldest_of_most(&self, newcomer: Option<Origin>) -> Option<u64> {
        let mut counts = BTreeMap::from([(newcomer, 1)]);
        self.held.values().for_each(|(origin, _)| *counts.entry(*origin).or_default() += 1);
        let most = counts.values().max().copied();
        let of_most = |(_, (origin, _)): &(&u64, &(Option<Origin>, AbortHandle))| counts.get(origin).copied() == most;
        self.held.iter().find(of_most).or_else(|| self.held.iter().next()).map(|(number, _)| *number)
    }
}

impl<T> Doorstep<T> {
    pub(crate) fn new(inner: T, places: u32) -> Self {
        let visitors = Visitors { places: places as usize, ..Visitors::default() };
        Self { inner, visitors: Arc::new(Mutex::new(visitors)) }
    }
}

impl<T> Transport for Doorstep<T>
where
    T: Transport<Error = io::Error> + Unpin,
    T::ListenerUpgrade: Unpin,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = Visit<T::ListenerUpgrade>;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = futures::ready!(Pin::new(&mut self.inner).poll(cx));
        let origin = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => Origin::of(send_back_addr),
            _ => None,
        };
        Poll::Ready(event.map_upgrade(|upgrade| {
            let (handle, registration) = AbortHandle::new_pair();
            let number = lock(&self.visitors).enter(origin, handle);
            Visit { setup: Abortable::new(upgrade, registration), number, visitors: self.visitors.clone() }
        }))
    }
}

impl<F, O> Future for Visit<F>
where
    F: Future<Output = io::Result<O>> + Unpin,
{
    type Output = io::Result<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.setup.poll_unpin(cx).map(|done| {
            done.unwrap_or_else(|Aborted| Err(io::Error::other("it took too long while others waited to be set up")))
        })
    }
}

impl<F> Drop for Visit<F> {
    fn drop(&mut self) {
        lock(&self.visitors).held.remove(&self.number);
    }
}

fn lock(visitors: &Mutex<Visitors>) -> MutexGuard<'_, Visitors> {
    visitors.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn enter(visitors: &mut Visitors, from: u8) -> (u64, AbortHandle) {
        let (handle, _) = AbortHandle::new_pair();
        let origin = (from != 127).then_some(Origin::V4(Ipv4Addr::new(192, 0, 2, from)));
        (visitors.enter(origin, handle.clone()), handle)
    }

    // Two addresses held all places for ten seconds each time, and a member that could only dial did not get in.
    #[test]
    fn oldest_setup_of_the_fullest_origin_makes_room() {
        let mut visitors = Visitors { places: 4, ..Visitors::default() };
        let (_, member) = enter(&mut visitors, 1);
        let silent: Vec<_> = (0..3).map(|_| enter(&mut visitors, 2).1).collect();
        let (_, newcomer) = enter(&mut visitors, 3);
        assert_eq!(silent.iter().map(AbortHandle::is_aborted).collect::<Vec<_>>(), [true, false, false]);
        (0..50).for_each(|_| _ = enter(&mut visitors, 2));
        assert!(!member.is_aborted() && !newcomer.is_aborted());
        assert_eq!(visitors.held.len(), 4);
        // Where none has more than the others the oldest goes, and this machine counts as one.
        let mut visitors = Visitors { places: 2, ..Visitors::default() };
        let first = enter(&mut visitors, 127).1;
        let second = enter(&mut visitors, 1).1;
        enter(&mut visitors, 2);
        assert_eq!((first.is_aborted(), second.is_aborted()), (true, false));
    }

    #[test]
    fn nothing_is_kept_of_a_setup_that_is_over() {
        let visitors = Arc::new(Mutex::new(Visitors { places: 9, ..Visitors::default() }));
        let (handle, registration) = AbortHandle::new_pair();
        let number = lock(&visitors).enter(None, handle);
        let setup = Abortable::new(futures::future::ready(io::Result::Ok(7)), registration);
        let visit = Visit { setup, number, visitors: visitors.clone() };
        assert_eq!(futures::executor::block_on(visit).unwrap(), 7);
        assert!(lock(&visitors).held.is_empty());
    }
}
