//! A TCP proxy between two peers: counts the payload bytes both ways, can be shut, and can be a slow line. Everything that
//! a bench says about bytes was counted here; ours and the floor go through the same one.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Chunks that may be on a slow line at once, each of at most [`CHUNK_BYTES`].
const CHUNKS_ON_LINE_MAX: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;

/// A proxy on loopback. Ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
    stop: watch::Sender<bool>,
}

struct Line {
    target: Mutex<SocketAddr>,
    open: AtomicBool,
    delay_us: AtomicU64,
    to_target: AtomicU64,
    from_target: AtomicU64,
    connections: AtomicU64,
}

/// What has crossed a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crossed {
    /// Payload bytes to the listening peer.
    pub to_target: u64,
    /// Payload bytes from it.
    pub from_target: u64,
    /// Connections made through the proxy while it was open.
    pub connections: u64,
}

impl Crossed {
    /// Both directions.
    pub fn bytes(&self) -> u64 {
        self.to_target + self.from_target
    }

    /// What has crossed since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            to_target: self.to_target - earlier.to_target,
            from_target: self.from_target - earlier.from_target,
            connections: self.connections - earlier.connections,
        }
    }
}

impl Proxy {
    /// A proxy to `target`, open and without delay.
    ///
    /// # Errors
    /// There is no port to listen on, or no thread.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let line = Arc::new(Line {
            target: Mutex::new(target),
            open: AtomicBool::new(true),
            delay_us: AtomicU64::new(0),
            to_target: AtomicU64::new(0),
            from_target: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("proxy".to_owned()).spawn({
            let line = line.clone();
            move || runtime.block_on(accept(listener, line, stopped))
        })?;
        Ok(Self { address, line, stop })
    }

    /// Where to dial instead of the target.
    pub fn multiaddr(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.address.port())
    }

    /// Where the next connections go.
    pub fn retarget(&self, target: SocketAddr) {
        *self.line.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Whether connections are let through. While shut they are closed as soon as they are accepted; those that are through
    /// already go on.
    pub fn set_open(&self, open: bool) {
        self.line.open.store(open, Ordering::SeqCst);
    }

    /// How long every byte is under way from now on, each way.
    pub fn set_delay(&self, delay: Duration) {
        self.line.delay_us.store(delay.as_micros().try_into().unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// What has crossed so far.
    pub fn crossed(&self) -> Crossed {
        Crossed {
            to_target: self.line.to_target.load(Ordering::SeqCst),
            from_target: self.line.from_target.load(Ordering::SeqCst),
            connections: self.line.connections.load(Ordering::SeqCst),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Nobody listens any more if the proxy's thread has ended: then there is nothing to stop.
        let _ = self.stop.send(true);
    }
}

async fn accept(listener: std::net::TcpListener, line: Arc<Line>, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        let Ok((dialer, _)) = accepted else { continue };
        if !line.open.load(Ordering::SeqCst) {
            continue;
        }
        let target = *line.target.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(listener) = TcpStream::connect(target).await else { continue };
        if dialer.set_nodelay(true).and(listener.set_nodelay(true)).is_err() {
            continue;
        }
        line.connections.fetch_add(1, Ordering::SeqCst);
        let (from_dialer, to_dialer) = dialer.into_split();
        let (from_target, to_target) = listener.into_split();
        tokio::spawn(carry(from_dialer, to_target, line.clone(), |line| &line.to_target));
        tokio::spawn(carry(from_target, to_dialer, line.clone(), |line| &line.from_target));
    }
}

/// Carries one direction until it ends. Each chunk keeps the delay that was set when it came.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, line: Arc<Line>, counter: fn(&Line) -> &AtomicU64) {
    let (chunks, on_line) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_ON_LINE_MAX);
    let delivery = tokio::spawn(deliver(on_line, to));
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        counter(&line).fetch_add(length as u64, Ordering::SeqCst);
        let due = arrival(&line);
        if chunks.send((due, buffer[..length].to_vec())).await.is_err() {
            break;
        }
    }
    drop(chunks);
    let _ = delivery.await;
}

fn arrival(line: &Line) -> Instant {
    Instant::from_std(super::clock::now()) + Duration::from_micros(line.delay_us.load(Ordering::SeqCst))
}

async fn deliver(mut on_line: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = on_line.recv().await {
        if due > Instant::from_std(super::clock::now()) {
            tokio::time::sleep_until(due).await;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The other side of the connection learns that this one has ended.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn proxy_carries_counts_and_refuses_when_shut() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(target.local_addr().unwrap()).unwrap();
        let mut dialer = TcpStream::connect(proxy.address).unwrap();
        let (mut listener, _) = target.accept().unwrap();
        let mut buffer = [0; 5];
        dialer.write_all(b"hello").unwrap();
        listener.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        listener.write_all(b"yes").unwrap();
        dialer.read_exact(&mut buffer[..3]).unwrap();
        assert_eq!(proxy.crossed(), Crossed { to_target: 5, from_target: 3, connections: 1 });

        drop(listener);
        assert_eq!(dialer.read(&mut buffer).unwrap(), 0, "the end is passed on");

        proxy.set_open(false);
        let mut refused = TcpStream::connect(proxy.address).unwrap();
        assert!(matches!(refused.read(&mut buffer), Ok(0) | Err(_)));
        assert_eq!(proxy.crossed().connections, 1);
    }

    #[test]
    fn slow_line_delays_each_way() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(target.local_addr().unwrap()).unwrap();
        proxy.set_delay(Duration::from_millis(30));
        let began = super::super::clock::now();
        let mut dialer = TcpStream::connect(proxy.address).unwrap();
        let (mut listener, _) = target.accept().unwrap();
        dialer.write_all(b"?").unwrap();
        let mut buffer = [0; 1];
        listener.read_exact(&mut buffer).unwrap();
        listener.write_all(b"!").unwrap();
        dialer.read_exact(&mut buffer).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());
    }
}
