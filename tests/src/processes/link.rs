//! A link between two nodes: a TCP proxy that can be cut, held, mended, and that counts what passes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What a link does with what comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Carries it.
    Open,
    /// Keeps it until the link is opened again; connections stay.
    Held,
    /// Closes every connection, old and new.
    Cut,
    /// The link is gone.
    Gone,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    streams: Mutex<Vec<TcpStream>>,
    bytes: AtomicU64,
}

/// The link. It ends with the value.
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
}

impl Link {
    /// An open link to a port of loopback.
    pub fn to(target: u16) -> Self {
        Self::admitting(target, |_, _| true)
    }

    /// A link that this process alone may use: members tell each other the addresses they know, and others who learn this
    /// one are turned away.
    pub fn of_this_process_to(target: u16) -> Self {
        Self::admitting(target, is_of_this_process)
    }

    /// `admits` is asked with the connecting side's port and the link's.
    fn admitting(target: u16, admits: fn(u16, u16) -> bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("a listener has an address").port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Open),
            changed: Condvar::new(),
            streams: Mutex::default(),
            bytes: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let admitted = near.peer_addr().is_ok_and(|from| admits(from.port(), port));
                match accepting.state() {
                    State::Gone => return,
                    State::Open | State::Held if admitted => carry(near, target, &accepting),
                    State::Open | State::Held | State::Cut => drop(near),
                }
            }
        });
        Self { port, shared }
    }

    /// The port to dial instead of the target's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Carries on.
    pub fn open(&self) {
        self.shared.set(State::Open);
    }

    /// Holds everything from now on; when this returns, nothing passes any more.
    pub fn hold(&self) {
        self.shared.set(State::Held);
    }

    /// Closes every connection, and those to come.
    pub fn cut(&self) {
        self.shared.set(State::Cut);
        self.shared.close_all();
    }

    /// TCP payload that has passed, both ways.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.set(State::Gone);
        self.shared.close_all();
        // Wakes the thread that accepts, so that it sees that it is not needed any more.
        let _ = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }

    fn close_all(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Writes once the link is open. The lock is kept meanwhile, so that after `hold` nothing is on its way; a receiver that
    /// does not read holds it up, which a test of ours never does for long.
    fn pass(&self, to: &mut TcpStream, bytes: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while *state == State::Held {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if *state != State::Open {
            return false;
        }
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        to.write_all(bytes).is_ok()
    }
}

fn carry(near: TcpStream, target: u16, shared: &Arc<Shared>) {
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
    // As libp2p sets it on its own sockets: small frames must not wait for each other.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
    {
        let mut streams = shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.push(clone(&near));
        streams.push(clone(&far));
    }
    for (from, to) in [(clone(&near), clone(&far)), (far, near)] {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || copy(from, to, &shared));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !shared.pass(&mut to, &buffer[..length]) {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Whether the socket at port `from` of loopback, connected to port `to`, belongs to this process.
fn is_of_this_process(from: u16, to: u16) -> bool {
    let at = |port: u16| format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inode = table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&at(from).as_str()) && words.get(2) == Some(&at(to).as_str()))
            .then(|| words[9].to_owned())
    });
    let Some(socket) = inode.map(|inode| format!("socket:[{inode}]")) else { return false };
    let files = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == socket.as_str())
}
