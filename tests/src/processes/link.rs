//! A link between two nodes: a TCP proxy on loopback that counts what passes, and that can be cut, held, slowed, made to lose
//! bytes and shut, each way for itself. The benches and the process tests go through the same one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Chunks that may be on their way at once in one direction, each of at most [`CHUNK_BYTES`].
const CHUNKS_ON_LINE_MAX: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;
/// A slow link lets bytes through in so many portions a second.
const PORTIONS_PER_S: u64 = 20;
/// After a connection could not be taken (no file descriptors, say).
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(10);

/// What happens to the bytes that go one way, the worse later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Flow {
    /// They are carried.
    #[default]
    Carried,
    /// They wait until the link carries again, as where packets are lost: TCP sends them again.
    Held,
    /// They vanish and their sender is told nothing, as if the other side were gone without a word. A connection that has
    /// lost bytes is closed when this ends, as by a machine that comes back and knows nothing of it.
    Swallowed,
}

/// How a link treats what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// New connections are closed as soon as they are made; those that are through go on.
    pub shut: bool,
    /// To the one that is dialed.
    pub to_target: Flow,
    /// To the one that dials.
    pub from_target: Flow,
    /// How long every byte is under way, each way.
    pub delay: Duration,
    /// Bytes a second that pass, each way.
    pub bytes_per_s: Option<u64>,
}

impl Weather {
    /// The worse of both in everything.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            shut: self.shut || other.shut,
            to_target: self.to_target.max(other.to_target),
            from_target: self.from_target.max(other.from_target),
            delay: self.delay.max(other.delay),
            bytes_per_s: self.bytes_per_s.into_iter().chain(other.bytes_per_s).min(),
        }
    }

    fn swallows(&self) -> bool {
        self.to_target.max(self.from_target) == Flow::Swallowed
    }
}

/// What has crossed a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crossed {
    /// Payload bytes to the listening peer.
    pub to_target: u64,
    /// Payload bytes from it.
    pub from_target: u64,
    /// Connections that were let through.
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

/// A link. It ends with the value.
pub struct Link {
    address: SocketAddr,
    line: Arc<Line>,
    stop: watch::Sender<bool>,
}

/// What the link's own thread and its owner share. Bytes pass with the state locked, so that what is set holds at once.
struct Line(watch::Sender<State>);

struct State {
    target: SocketAddr,
    /// Who may use it, if not everyone.
    process: Option<u32>,
    weather: Weather,
    /// Connections that were made in an earlier era are closed.
    era: u64,
    /// Bytes that still pass before the era ends.
    cut_after: Option<u64>,
    /// Bytes were swallowed in this era.
    lossy: bool,
    crossed: Crossed,
}

#[derive(Clone, Copy)]
enum Way {
    ToTarget,
    FromTarget,
}

impl Link {
    /// An open link to a port of loopback, for everyone who finds it.
    pub fn to(port: u16) -> Self {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("loopback has free ports")
    }

    /// A link that one process alone may use, once [`Link::admit`] has said which: members tell each other the addresses they
    /// know, and others who learn this one are turned away.
    pub fn of_one_process_to(port: u16) -> Self {
        let link = Self::to(port);
        link.admit(0);
        link
    }

    /// An open link to `target`, for everyone.
    ///
    /// # Errors
    /// There is no port to listen on, or no thread.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let state = State {
            target,
            process: None,
            weather: Weather::default(),
            era: 0,
            cut_after: None,
            lossy: false,
            crossed: Crossed::default(),
        };
        let line = Arc::new(Line(watch::Sender::new(state)));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("link".to_owned()).spawn({
            let line = line.clone();
            move || runtime.block_on(accept(listener, address, line, stopped))
        })?;
        Ok(Self { address, line, stop })
    }

    /// The port to dial instead of the target's.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where to dial instead of the target.
    pub fn multiaddr(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.port())
    }

    /// Whose link it is.
    pub fn admit(&self, pid: u32) {
        self.line.0.send_modify(|state| state.process = Some(pid));
    }

    /// Where the next connections go.
    pub fn retarget(&self, target: SocketAddr) {
        self.line.0.send_modify(|state| state.target = target);
    }

    /// Changes the weather; when this returns, it holds.
    pub fn set(&self, weather: Weather) {
        self.line.0.send_modify(|state| {
            if state.lossy && !weather.swallows() {
                state.end_era();
            }
            state.weather = weather;
        });
    }

    /// Whether connections are let through. Those that are through already go on.
    pub fn set_open(&self, open: bool) {
        self.line.0.send_modify(|state| state.weather.shut = !open);
    }

    /// How long every byte is under way from now on, each way.
    pub fn set_delay(&self, delay: Duration) {
        self.line.0.send_modify(|state| state.weather.delay = delay);
    }

    /// Fair weather.
    pub fn open(&self) {
        self.set(Weather::default());
    }

    /// Holds everything from now on; when this returns, nothing passes any more.
    pub fn hold(&self) {
        self.set(Weather { to_target: Flow::Held, from_target: Flow::Held, ..Weather::default() });
    }

    /// Closes every connection, and those to come.
    pub fn cut(&self) {
        self.set(Weather { shut: true, ..Weather::default() });
        self.reset();
    }

    /// Closes every connection; new ones are let through.
    pub fn reset(&self) {
        self.line.0.send_modify(State::end_era);
    }

    /// Closes every connection as soon as so many more bytes have passed, wherever in a message that is.
    pub fn cut_after(&self, bytes: u64) {
        self.line.0.send_modify(|state| state.cut_after = Some(bytes));
    }

    /// What has crossed so far.
    pub fn crossed(&self) -> Crossed {
        self.line.0.borrow().crossed
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nobody listens any more if the link's thread has ended: then there is nothing to stop.
        let _ = self.stop.send(true);
    }
}

impl State {
    fn end_era(&mut self) {
        self.era += 1;
        self.cut_after = None;
        self.lossy = false;
    }

    fn flow(&self, way: Way) -> Flow {
        match way {
            Way::ToTarget => self.weather.to_target,
            Way::FromTarget => self.weather.from_target,
        }
    }

    /// Writes what may pass now.
    fn pass(&mut self, era: u64, way: Way, to: &OwnedWriteHalf, bytes: &[u8]) -> Passed {
        if self.era != era {
            return Passed::Ended;
        }
        match self.flow(way) {
            Flow::Held => return Passed::Held,
            Flow::Swallowed => {
                self.lossy = true;
                return Passed::Bytes(bytes.len());
            }
            Flow::Carried => {}
        }
        let portion = self.weather.bytes_per_s.map_or(u64::MAX, |rate| (rate / PORTIONS_PER_S).max(1));
        let allowed = portion.min(self.cut_after.unwrap_or(u64::MAX)).min(bytes.len() as u64);
        if allowed == 0 {
            self.end_era();
            return Passed::Ended;
        }
        match to.try_write(&bytes[..allowed as usize]) {
            Ok(length) => {
                let counter = match way {
                    Way::ToTarget => &mut self.crossed.to_target,
                    Way::FromTarget => &mut self.crossed.from_target,
                };
                *counter += length as u64;
                self.cut_after = self.cut_after.map(|left| left - length as u64);
                Passed::Bytes(length)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Passed::Full,
            Err(_) => Passed::Ended,
        }
    }
}

enum Passed {
    /// So many.
    Bytes(usize),
    /// None, until the weather changes.
    Held,
    /// None, until the receiver reads.
    Full,
    /// The connection is over.
    Ended,
}

/// A connection is to be closed, both ways.
struct Ended;

impl Line {
    fn pass(&self, era: u64, way: Way, to: &OwnedWriteHalf, bytes: &[u8]) -> Passed {
        let mut passed = Passed::Ended;
        self.0.send_if_modified(|state| {
            passed = state.pass(era, way, to, bytes);
            // That the era ended by this is news for the other direction.
            state.era != era
        });
        passed
    }

    /// How long a portion takes on a slow link.
    fn portion_takes(&self, bytes: usize) -> Option<Duration> {
        let rate = self.0.borrow().weather.bytes_per_s?;
        Some(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64))
    }
}

async fn accept(
    listener: std::net::TcpListener,
    address: SocketAddr,
    line: Arc<Line>,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        let Ok((dialer, from)) = accepted else {
            sleep(AFTER_FAILED_ACCEPT).await;
            continue;
        };
        let (shut, process) = {
            let state = line.0.borrow();
            (state.weather.shut, state.process)
        };
        if !shut && process.is_none_or(|pid| is_of_process(pid, from.port(), address.port())) {
            tokio::spawn(connection(dialer, line.clone()));
        }
    }
}

async fn connection(dialer: TcpStream, line: Arc<Line>) {
    let mut news = line.0.subscribe();
    let (target, era) = {
        let state = news.borrow_and_update();
        (state.target, state.era)
    };
    let Ok(listener) = TcpStream::connect(target).await else { return };
    // As libp2p sets it on its own sockets: small frames must not wait for each other.
    if dialer.set_nodelay(true).and(listener.set_nodelay(true)).is_err() {
        return;
    }
    line.0.send_modify(|state| state.crossed.connections += 1);
    let (from_dialer, to_dialer) = dialer.into_split();
    let (from_target, to_target) = listener.into_split();
    let both = async {
        tokio::try_join!(
            carry(from_dialer, to_target, Way::ToTarget, era, &line),
            carry(from_target, to_dialer, Way::FromTarget, era, &line),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = news.wait_for(|state| state.era != era) => {}
    }
}

/// Carries one direction until it ends. Each chunk keeps the delay that was set when it came.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, way: Way, era: u64, line: &Arc<Line>) -> Result<(), Ended> {
    let (chunks, on_line) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_ON_LINE_MAX);
    let take = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let delay = line.0.borrow().weather.delay;
            if chunks.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::try_join!(take, deliver(on_line, to, way, era, line)).map(|_| ())
}

async fn deliver(
    mut on_line: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    way: Way,
    era: u64,
    line: &Arc<Line>,
) -> Result<(), Ended> {
    let mut news = line.0.subscribe();
    while let Some((due, bytes)) = on_line.recv().await {
        if due > Instant::now() {
            sleep_until(due).await;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            news.mark_unchanged();
            match line.pass(era, way, &to, rest) {
                Passed::Bytes(length) => {
                    rest = &rest[length..];
                    if let Some(pause) = line.portion_takes(length) {
                        sleep(pause).await;
                    }
                }
                Passed::Held => news.changed().await.map_err(|_| Ended)?,
                Passed::Full => tokio::select! {
                    writable = to.writable() => writable.map_err(|_| Ended)?,
                    changed = news.changed() => changed.map_err(|_| Ended)?,
                },
                Passed::Ended => return Err(Ended),
            }
        }
    }
    // The other side of the connection learns that this one has ended, if anything reaches it.
    news.wait_for(|state| state.flow(way) == Flow::Carried).await.map_err(|_| Ended)?;
    let _ = to.shutdown().await;
    Ok(())
}

/// Whether the socket at port `from` of loopback, connected to port `to`, belongs to a process.
fn is_of_process(pid: u32, from: u16, to: u16) -> bool {
    let at = |port: u16| format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inode = table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&at(from).as_str()) && words.get(2) == Some(&at(to).as_str()))
            .then(|| words[9].to_owned())
    });
    let Some(socket) = inode.map(|inode| format!("socket:[{inode}]")) else { return false };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == socket.as_str())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::processes::patience::{PATIENCE, Stopwatch, wait_until};

    /// Both ends of a connection through a link.
    fn connected() -> (Link, TcpListener, TcpStream, TcpStream) {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::start(target.local_addr().unwrap()).unwrap();
        let dialer = dial(&link);
        let (listener, _) = target.accept().unwrap();
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        (link, target, dialer, listener)
    }

    fn dial(link: &Link) -> TcpStream {
        let dialer = TcpStream::connect(link.address).unwrap();
        dialer.set_read_timeout(Some(PATIENCE)).unwrap();
        dialer
    }

    fn is_closed(stream: &mut TcpStream) -> bool {
        matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }

    #[test]
    fn a_link_carries_counts_and_refuses_when_shut() {
        let (link, _target, mut dialer, mut listener) = connected();
        let mut buffer = [0; 5];
        dialer.write_all(b"hello").unwrap();
        listener.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        listener.write_all(b"yes").unwrap();
        dialer.read_exact(&mut buffer[..3]).unwrap();
        assert_eq!(link.crossed(), Crossed { to_target: 5, from_target: 3, connections: 1 });

        link.set_open(false);
        assert!(is_closed(&mut dial(&link)));
        assert_eq!(link.crossed().connections, 1);
        drop(listener);
        assert!(is_closed(&mut dialer), "the end is passed on");
    }

    #[test]
    fn a_slow_line_delays_each_way() {
        let (link, _target, mut dialer, mut listener) = connected();
        link.set_delay(Duration::from_millis(30));
        let began = Stopwatch::start();
        dialer.write_all(b"?").unwrap();
        let mut buffer = [0; 1];
        listener.read_exact(&mut buffer).unwrap();
        listener.write_all(b"!").unwrap();
        dialer.read_exact(&mut buffer).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());

        link.set(Weather { bytes_per_s: Some(1_000), ..Weather::default() });
        let began = Stopwatch::start();
        dialer.write_all(&[7; 200]).unwrap();
        listener.read_exact(&mut [0; 200]).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(140), "{:?}", began.elapsed());
    }

    #[test]
    fn a_cut_in_the_middle_lets_exactly_so_many_bytes_through() {
        let (link, target, mut dialer, mut listener) = connected();
        link.cut_after(3);
        dialer.write_all(b"hello").unwrap();
        let mut got = Vec::new();
        let _ = listener.read_to_end(&mut got);
        assert_eq!(got, b"hel");
        assert!(is_closed(&mut dialer));
        // The next connection is not hurt.
        let mut dialer = dial(&link);
        let (mut listener, _) = target.accept().unwrap();
        dialer.write_all(b"hello").unwrap();
        listener.read_exact(&mut [0; 5]).unwrap();
    }

    #[test]
    fn one_way_is_held_while_the_other_carries_and_nothing_is_lost() {
        let (link, _target, mut dialer, mut listener) = connected();
        link.set(Weather { to_target: Flow::Held, ..Weather::default() });
        dialer.write_all(b"later").unwrap();
        listener.write_all(b"now").unwrap();
        let mut buffer = [0; 5];
        dialer.read_exact(&mut buffer[..3]).unwrap();
        assert_eq!(link.crossed(), Crossed { to_target: 0, from_target: 3, connections: 1 });
        link.open();
        listener.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"later");
    }

    #[test]
    fn a_half_open_connection_swallows_without_a_word_and_ends_when_the_other_side_is_back() {
        let (link, _target, mut dialer, mut listener) = connected();
        link.set(Weather { to_target: Flow::Swallowed, from_target: Flow::Swallowed, ..Weather::default() });
        dialer.write_all(b"hello?").unwrap();
        wait_until("the bytes are gone", || match link.line.0.borrow().lossy {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        });
        assert_eq!(link.crossed().bytes(), 0);
        listener.set_nonblocking(true).unwrap();
        let error = listener.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "neither bytes nor an end");
        listener.set_nonblocking(false).unwrap();
        link.open();
        assert!(is_closed(&mut dialer) && is_closed(&mut listener));
    }

    #[test]
    fn a_link_of_one_process_turns_others_away() {
        let (link, _target, mut dialer, _listener) = connected();
        let let_through = |connections: u64| {
            wait_until("it is let through", || match link.crossed().connections {
                now if now == connections => Ok(()),
                other => Err(other.to_string()),
            });
        };
        let_through(1);
        link.admit(0);
        assert!(is_closed(&mut dial(&link)));
        assert_eq!(link.crossed().connections, 1);
        link.admit(std::process::id());
        link.reset();
        assert!(is_closed(&mut dialer));
        let _again = dial(&link);
        let_through(2);
    }

    #[test]
    fn weather_is_as_bad_as_the_worst_of_it() {
        let slow = Weather { bytes_per_s: Some(1_000), to_target: Flow::Held, ..Weather::default() };
        let late = Weather { delay: Duration::from_secs(1), to_target: Flow::Swallowed, ..Weather::default() };
        let both = slow.and(late).and(Weather { bytes_per_s: Some(2_000), shut: true, ..Weather::default() });
        assert_eq!(both.to_target, Flow::Swallowed);
        assert_eq!((both.from_target, both.delay), (Flow::Carried, Duration::from_secs(1)));
        assert_eq!((both.bytes_per_s, both.shut), (Some(1_000), true));
    }
}
