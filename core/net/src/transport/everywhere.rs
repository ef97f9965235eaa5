//! TCP that also listens on all addresses of a machine at once. libp2p's own does that only where it may watch the machine's
//! interfaces, which a hardened service or a phone may not; which addresses there are is looked at elsewhere.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::ready;
use futures_timer::Delay;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport, tcp};
use tokio::net::TcpListener;

use super::native::socket_for;
use crate::address::{multiaddr_of, socket_address};

/// Connections that wait to be taken; libp2p's own number.
const BACKLOG: i32 = 1024;
/// After a connection could not be taken (no file descriptors, say).
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

type Tcp = tcp::tokio::Transport;
type Event = TransportEvent<<Tcp as Transport>::ListenerUpgrade, io::Error>;

/// libp2p's TCP, and listeners on the unspecified address.
pub(crate) struct Everywhere {
    tcp: Tcp,
    listeners: Vec<Listener>,
    events: VecDeque<Event>,
}

struct Listener {
    id: ListenerId,
    socket: TcpListener,
    pause: Option<Delay>,
}

impl Everywhere {
    pub(crate) fn new(tcp: Tcp) -> Self {
        Self { tcp, listeners: Vec::new(), events: VecDeque::new() }
    }
}

impl Transport for Everywhere {
    type Output = <Tcp as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <Tcp as Transport>::ListenerUpgrade;
    type Dial = <Tcp as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let Some(at) = socket_address(&address).filter(|at| at.ip().is_unspecified()) else {
            return self.tcp.listen_on(id, address);
        };
        let listen = || {
            let socket = socket_for(at)?;
            socket.set_tcp_nodelay(true)?;
            // As libp2p does, so that one address can be listened on besides all of them.
            #[cfg(unix)]
            socket.set_reuse_port(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&at.into())?;
            socket.listen(BACKLOG)?;
            let socket = TcpListener::from_std(socket.into())?;
            Ok((multiaddr_of(socket.local_addr()?), socket))
        };
        let (listen_addr, socket) = listen().map_err(TransportError::Other)?;
        self.events.push_back(TransportEvent::NewAddress { listener_id: id, listen_addr });
        self.listeners.push(Listener { id, socket, pause: None });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(at) = self.listeners.iter().position(|listener| listener.id == id) else {
            return self.tcp.remove_listener(id);
        };
        self.listeners.remove(at);
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        true
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.tcp.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        // Each in turn, so that one with many callers leaves the others theirs.
        for _ in 0..self.listeners.len() {
            self.listeners.rotate_left(1);
            if let Some(Poll::Ready(event)) = self.listeners.last_mut().map(|listener| listener.poll(cx)) {
                return Poll::Ready(event);
            }
        }
        Pin::new(&mut self.tcp).poll(cx)
    }
}

impl Listener {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(pause) = &mut self.pause {
            futures::ready!(pause.poll_unpin(cx));
            self.pause = None;
        }
        let accepted = futures::ready!(self.socket.poll_accept(cx));
        Poll::Ready(match accepted.and_then(|(stream, from)| Ok((stream.local_addr()?, stream, from))) {
            Ok((at, stream, from)) => TransportEvent::Incoming {
                listener_id: self.id,
                upgrade: ready(Ok(tcp::tokio::TcpStream(stream))),
                local_addr: multiaddr_of(at),
                send_back_addr: multiaddr_of(from),
            },
            Err(error) => {
                self.pause = Some(Delay::new(AFTER_FAILED_ACCEPT));
                TransportEvent::ListenerError { listener_id: self.id, error }
            }
        })
    }
}
