//! `anabranch run`: the node itself, from start to a clean end.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch::{Builder, DeviceId, Event, Lagged, Peer, Renewed};
use clap::Args;
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use crate::cli::Modes;
use crate::control::{Control, Renewal};
use crate::descriptors;
use crate::directory::Directory;
use crate::memory;
use crate::often::{LeftOut, Often};
use crate::show::Show;
use crate::signals::{Ending, Endings};
use anabranch_api::Failure;

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Listen here, such as /ip4/0.0.0.0/tcp/4510; may be repeated. Without it this node can dial others and nobody can dial it.
    /// An address that this machine does not have yet is listened on as soon as it does
    #[arg(long, env = "ANABRANCH_LISTEN", value_name = "MULTIADDR", value_delimiter = ',')]
    listen: Vec<String>,
    /// Tell members this address instead of those it listens on: what a router or proxy forwards to this node; may be
    /// repeated. `none` tells them nothing
    #[arg(long, env = "ANABRANCH_ANNOUNCE", value_name = "MULTIADDR", value_delimiter = ',')]
    announce: Vec<String>,
    /// Dial this address now and whenever there is no session with it; may be repeated
    #[arg(long, env = "ANABRANCH_DIAL", value_name = "MULTIADDR", value_delimiter = ',')]
    dial: Vec<String>,
    /// Do not start on a damaged store, instead of moving it aside and making a new one of what is readable
    #[arg(long)]
    no_salvage: bool,
    #[command(flatten)]
    modes: Modes,
    /// Write everything that this node's engine is given to a new file, for `sim replay FILE`. It holds the content of
    /// documents and the keys of their spaces (but not this device's key): keep it to yourself
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Bytes after which the recording ends, and the node goes on
    #[arg(long, requires = "record", default_value_t = RECORD_BYTES, value_name = "BYTES")]
    record_max: u64,
}

/// A second signal within this time of the first says nothing more than that.
const ECHO: Duration = Duration::from_millis(200);
/// How long a call to the replica may hold up its end.
const HELD_UP_MAX: Duration = Duration::from_millis(1_500);
/// How long the disk may take to save what is pending: service managers kill after 10 s (Docker) to 90 s (systemd).
const SAVING_MAX: Duration = Duration::from_secs(8);

/// How long the end of a node waits for an answer to be written.
const ANSWERING: Duration = Duration::from_millis(100);

/// What peers do is counted for so long.
const MINUTE: Duration = Duration::from_secs(60);
/// Some hours of a busy node.
const RECORD_BYTES: u64 = 256 * 1024 * 1024;

/// What `run` prints when it is ready.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    device: String,
    peer_id: String,
    directory: String,
    socket: String,
    listening: Vec<String>,
    /// Addresses to listen on that this machine does not have at present.
    waiting_for: Vec<String>,
    /// The replica was made by this start.
    created: bool,
    /// What was done about the store, if it was damaged.
    salvaged: Option<String>,
    pid: u32,
}

/// One thread runs the commands; the replica has threads of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))
}

impl Run {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        memory::give_back();
        descriptors::make_room()?;
        let runtime = runtime()?;
        let result = runtime.block_on(self.run(directory, show));
        // What commands still compute is of use to nobody.
        runtime.shutdown_background();
        result
    }

    async fn run(mut self, directory: &Directory, show: Show) -> Result<(), Failure> {
        // Before anything else, so that a signal during the start is not lost.
        let mut endings = Endings::watch()?;
        let is_closing = Arc::new(AtomicBool::new(false));
        let mut untold = None;
        loop {
            let ended = self.once(directory, show, &mut endings, &is_closing, &mut untold).await;
            if let Some(answer) = untold.take() {
                // The key is another one, although the replica does not run under it.
                answer.tell();
                tokio::time::sleep(ANSWERING).await;
            }
            match ended? {
                Ended::ForGood => return Ok(()),
                Ended::ForAnotherKey(Renewal { answer, force }) => {
                    let builder = self.builder(directory);
                    let renewed = tokio::task::spawn_blocking(move || builder.renew_identity(force));
                    let renewed = renewed.await.map_err(|error| Failure::failed(error.to_string()))?;
                    let renewed = renewed.map_err(Failure::from);
                    untold = Some(Answer { to: answer, renewed });
                    if self.record.take().is_some() {
                        warn!("the recording has ended: it is of one process and one key");
                    }
                }
            }
        }
    }

    fn builder(&self, directory: &Directory) -> Builder {
        let mut builder = Peer::builder().directory(directory.path());
        if self.modes.allow_loose_modes {
            builder = builder.allow_loose_modes();
        }
        if self.no_salvage {
            builder = builder.refuse_damaged_store();
        }
        for address in &self.listen {
            builder = builder.listen(address);
        }
        for address in &self.announce {
            builder = if address == "none" { builder.announce_nothing() } else { builder.announce(address) };
        }
        for address in &self.dial {
            builder = builder.dial(address);
        }
        if let Some(file) = &self.record {
            builder = builder.record(file, self.record_max);
        }
        builder
    }

    /// Runs the replica under the key that it has. Whoever asked for that key is told when commands are answered again.
    async fn once(
        &self,
        directory: &Directory,
        show: Show,
        endings: &mut Endings,
        is_closing: &Arc<AtomicBool>,
        untold: &mut Option<Answer>,
    ) -> Result<Ended, Failure> {
        let created = !directory.is_initialised();
        let peer = self.builder(directory).open().await?;
        let events = peer.events();
        let listener = match directory.listen() {
            Ok(listener) => listener,
            Err(failure) => {
                peer.shutdown().await;
                return Err(failure);
            }
        };
        let ready = Ready {
            ready: true,
            device: peer.device().to_string(),
            peer_id: peer.peer_id(),
            directory: directory.path().display().to_string(),
            socket: directory.socket().display().to_string(),
            waiting_for: waiting_for(&self.listen, &peer.listening()),
            listening: peer.listening(),
            created,
            salvaged: peer.salvaged().map(ToString::to_string),
            pid: std::process::id(),
        };
        // Whoever started the node may have closed its output: that is no reason to end.
        let _ = writeln!(std::io::stdout().lock(), "{}", show.text(&ready, human)?);
        info!(device = %ready.device, directory = %ready.directory, "running");

        let (renewals, mut asked) = mpsc::channel(1);
        is_closing.store(false, Ordering::Relaxed);
        let control = Control::new(peer.clone(), directory.path(), renewals, Arc::clone(is_closing));
        if let Some(answer) = untold.take() {
            answer.tell();
        }
        let mut is_echo = false;
        let result = tokio::select! {
            ending = endings.next() => {
                info!("closing because of {}", ending.name);
                is_echo = true;
                Ok(Ended::ForGood)
            }
            result = control.clone().serve(listener) => result.map(|()| Ended::ForGood),
            Some(answer) = asked.recv() => { info!("closing to renew the identity"); Ok(Ended::ForAnotherKey(answer)) }
            () = report(events) => Err(Failure::failed("the replica has ended by itself")),
        };
        control.close();
        directory.remove_socket();
        let result = until_closed(close(peer), async || endings.next().await, result, is_echo).await?;
        info!("closed");
        Ok(result)
    }
}

/// Why a replica was closed.
enum Ended {
    ForGood,
    /// It is to have another key, and goes on under that.
    ForAnotherKey(Renewal),
}

/// What came of a renewal, for whoever asked for it.
struct Answer {
    to: oneshot::Sender<Result<Renewed, Failure>>,
    renewed: Result<Renewed, Failure>,
}

impl Answer {
    fn tell(self) {
        // It may have gone.
        let _ = self.to.send(self.renewed);
    }
}

/// How far the end of a replica is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Closing {
    /// A call to the replica goes on.
    HeldUp,
    /// What is pending is being saved.
    Saving,
    Closed,
}

/// Waits until the replica is closed. A signal meanwhile asks a node that was to go on to end, and one that ends already to give up.
/// `is_echo`: a signal has just come, and the same one may come once more.
async fn until_closed(
    closing: impl Future<Output = Result<(), Failure>>,
    mut next_ending: impl AsyncFnMut() -> Ending,
    mut result: Result<Ended, Failure>,
    mut is_echo: bool,
) -> Result<Ended, Failure> {
    let mut closing = std::pin::pin!(closing);
    let mut echo = std::pin::pin!(tokio::time::sleep(ECHO));
    loop {
        tokio::select! {
            closed = closing.as_mut() => return closed.and(result),
            () = echo.as_mut(), if is_echo => is_echo = false,
            ending = next_ending() => match result {
                // Some send it to the process and to its group.
                _ if is_echo => {}
                // The first one only says that the replica is not to go on.
                Ok(Ended::ForAnotherKey(_)) => {
                    info!("closing for good because of {}", ending.name);
                    result = Ok(Ended::ForGood);
                    is_echo = true;
                    echo.set(tokio::time::sleep(ECHO));
                }
                _ => return Err(unsaved(&format!("{} came again", ending.name))),
            },
        }
    }
}

/// Closes the replica, on a thread of its own: a call that holds it up must not keep us from giving up.
async fn close(peer: Peer) -> Result<(), Failure> {
    let (stage, mut stages) = tokio::sync::watch::channel(Closing::HeldUp);
    std::thread::spawn(move || {
        futures::executor::block_on(async {
            let mut shutdown = std::pin::pin!(peer.shutdown());
            let is_closed = futures::poll!(shutdown.as_mut()).is_ready();
            stage.send_replace(Closing::Saving);
            if !is_closed {
                shutdown.await;
            }
            stage.send_replace(Closing::Closed);
        });
    });
    for (wanted, time_max, why) in [
        (Closing::Saving, HELD_UP_MAX, "a command holds up the replica"),
        (Closing::Closed, SAVING_MAX, "the disk has not saved it"),
    ] {
        if timeout(time_max, stages.wait_for(|stage| *stage >= wanted)).await.is_err() {
            return Err(unsaved(&format!("{why} for {} s", time_max.as_secs_f64())));
        }
    }
    Ok(())
}

fn unsaved(why: &str) -> Failure {
    Failure::failed(format!(
        "ended without saving what was still pending ({why}); what was acknowledged as saved is safe"
    ))
}

fn human(ready: &Ready) -> Vec<String> {
    let mut lines = Vec::new();
    if ready.created {
        lines.push("made a new replica".to_owned());
    }
    lines.extend(ready.salvaged.as_ref().map(|salvaged| format!("warning: {salvaged}")));
    lines.push(format!("running in {} as device {}", ready.directory, ready.device));
    let absent = |address: &String| format!("waiting for {address}, which this machine does not have at present");
    lines.extend(ready.waiting_for.iter().map(absent));
    match &ready.listening[..] {
        [] if !ready.waiting_for.is_empty() => {}
        [] => lines
            .push("not listening (add `--listen /ip4/0.0.0.0/tcp/4510` so that others can dial this node)".to_owned()),
        addresses => lines.extend(addresses.iter().map(|address| format!("listening on {address}"))),
    }
    lines.push("ready: Ctrl-C or SIGTERM closes it cleanly".to_owned());
    lines
}

/// Those addresses to listen on at which nothing listens.
fn waiting_for(asked: &[String], listening: &[String]) -> Vec<String> {
    let listening: Vec<SocketAddr> = listening.iter().filter_map(|address| socket(address)).collect();
    let is_there = |asked: &String| {
        socket(asked).is_none_or(|asked| {
            let fits = |there: &SocketAddr| {
                let ip_fits = if asked.ip().is_unspecified() {
                    asked.is_ipv4() == there.is_ipv4()
                } else {
                    asked.ip() == there.ip()
                };
                ip_fits && (asked.port() == 0 || asked.port() == there.port())
            };
            listening.iter().any(fits)
        })
    };
    asked.iter().filter(|asked| !is_there(asked)).cloned().collect()
}

/// Address and port of a multiaddr such as `/ip4/192.0.2.7/tcp/4510`.
fn socket(address: &str) -> Option<SocketAddr> {
    match address.trim().split('/').collect::<Vec<_>>()[..] {
        ["", _, ip, "tcp", port, ..] => Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)),
        _ => None,
    }
}

/// Tells the log what happens, until the replica ends. That its store has failed does not end the node: it goes on answering
/// questions, and refuses edits with the reason.
async fn report(mut events: anabranch::Events) {
    let mut has_stopped = false;
    let mut often = Often::default();
    let mut minutes = tokio::time::interval(MINUTE);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = minutes.tick() => {
                often.minute_over().into_iter().for_each(log_left_out);
                continue;
            }
        };
        match event {
            Some(Ok(event)) => {
                has_stopped |= matches!(event, Event::Stopped { .. });
                if of_peer(&event).is_none_or(|(what, peer)| often.says(what, peer)) {
                    log(event);
                }
            }
            Some(Err(Lagged(lost))) => warn!(lost, "too slow for the events"),
            None => break,
        }
    }
    if has_stopped {
        std::future::pending::<()>().await;
    }
}

fn log_left_out(left_out: LeftOut) {
    let LeftOut { what, peer, lines } = left_out;
    match peer {
        Some(peer) => warn!(%peer, what, lines, "so many more lines like this in the last minute"),
        None => warn!(what, lines, "so many more lines in the last minute"),
    }
}

/// What a peer can make happen as often as it likes, of what is logged.
fn of_peer(event: &Event) -> Option<(&'static str, DeviceId)> {
    match event {
        Event::PeerConnected { peer } => Some(("connected", *peer)),
        Event::PeerDisconnected { peer, .. } => Some(("disconnected", *peer)),
        Event::JoinRefused { peer, .. } => Some(("not let in", *peer)),
        Event::RunRefused { peer, .. } => Some(("refused", *peer)),
        Event::DocumentForked { peer, .. } => Some(("two histories", *peer)),
        Event::IdentityCloned { device } => Some(("copied", *device)),
        Event::PeerMisbehaved { peer, .. } => Some(("misbehaved", *peer)),
        Event::Committed(_)
        | Event::DocumentChanged { .. }
        | Event::FeedGrew { .. }
        | Event::Listening { .. }
        | Event::ListeningEnded { .. }
        | Event::MembersChanged { .. }
        | Event::SpaceJoined { .. }
        | Event::InSync { .. }
        | Event::DocumentDamaged { .. }
        | Event::DocumentMended { .. }
        | Event::StrangerRefused { .. }
        | Event::Stopped { .. }
        | Event::Resumed => None,
    }
}

fn log(event: Event) {
    match event {
        Event::Committed(commit) => debug!(?commit, "saved"),
        Event::DocumentChanged { space, document, remote } => debug!(%space, %document, remote, "document changed"),
        Event::FeedGrew { seq } => debug!(seq, "feed grew"),
        Event::PeerConnected { peer } => info!(%peer, "peer connected"),
        Event::PeerDisconnected { peer, reason } => info!(%peer, reason, "peer disconnected"),
        Event::Listening { address } => info!(address, "listening"),
        Event::ListeningEnded { address } => {
            info!(address, "not listening any more: this machine has lost the address");
        }
        Event::MembersChanged { space } => info!(%space, "members changed"),
        Event::SpaceJoined { space } => info!(%space, "joined a space"),
        Event::JoinRefused { space, peer, reason } => warn!(%space, %peer, reason, "not let into a space"),
        Event::InSync { space, peer } => debug!(%space, %peer, "in sync"),
        Event::RunRefused { space, document, peer, by_us, reason } => {
            warn!(%space, %document, %peer, by_us, reason, "changes refused");
        }
        Event::DocumentForked { space, document, peer, fork } => {
            warn!(%space, %document, %peer, actor = %fork.actor, seq = fork.seq, "a document has two histories");
        }
        Event::DocumentDamaged { space, document, reason } => {
            error!(%space, %document, reason, "a document is damaged");
        }
        Event::DocumentMended { space, document, runs, waiting } => {
            warn!(%space, %document, runs, waiting, "a document was rebuilt from what could be read; peers send the rest");
        }
        Event::IdentityCloned { device } => {
            warn!(%device, "two processes act as this device at once: its directory was copied; `anabranch id renew` on one of them gives that a key of its own");
        }
        // Anybody who finds the port can do that, with as many keys as they like.
        Event::StrangerRefused { peer } => debug!(%peer, "a stranger was refused: no space is shared with it"),
        Event::PeerMisbehaved { peer, reason } => warn!(%peer, reason, "peer misbehaved"),
        Event::Stopped { reason } => {
            error!(reason, "no edits are taken; what was saved is safe and can be read");
        }
        Event::Resumed => info!("edits are taken again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a replica ends that takes so long to close, when signals come at these times.
    fn ends(result: Ended, is_echo: bool, closing_ms: u64, signals_ms: &[u64]) -> Result<Ended, Failure> {
        let millis = Duration::from_millis;
        runtime().unwrap().block_on(async {
            let begun = tokio::time::Instant::now();
            let mut signals = signals_ms.iter();
            let mut due = signals.next();
            let next = async || {
                match due {
                    Some(at) => tokio::time::sleep_until(begun + millis(*at)).await,
                    None => std::future::pending().await,
                }
                due = signals.next();
                Ending::TERMINATE
            };
            let closing = async {
                tokio::time::sleep(millis(closing_ms)).await;
                Ok(())
            };
            until_closed(closing, next, Ok(result), is_echo).await
        })
    }

    fn for_another_key() -> Ended {
        Ended::ForAnotherKey(Renewal { answer: oneshot::channel().0, force: false })
    }

    // Any signal in the first moments of closing was taken for an echo, also where there was none before: a node that closed to
    // have another key went on.
    #[test]
    fn a_first_signal_ends_a_node_that_closes_for_another_key() {
        assert!(matches!(ends(for_another_key(), false, 100, &[20]), Ok(Ended::ForGood)));
        assert!(matches!(ends(for_another_key(), false, 100, &[20, 40]), Ok(Ended::ForGood)), "the second is an echo");
        assert!(matches!(ends(for_another_key(), false, 100, &[]), Ok(Ended::ForAnotherKey(_))));
    }

    #[test]
    fn a_second_signal_gives_up_a_node_that_closes_unless_it_is_an_echo() {
        assert!(matches!(ends(Ended::ForGood, true, 100, &[20]), Ok(Ended::ForGood)));
        let given_up = ends(Ended::ForGood, true, 10_000, &[300]).err().map(|failure| failure.message);
        assert!(given_up.is_some_and(|message| message.contains("SIGTERM came again")));
    }

    #[test]
    fn addresses_that_are_missing_are_those_at_which_nothing_listens() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let listening = texts(&["/ip4/127.0.0.1/tcp/4510/p2p/x", "/ip4/10.0.0.7/tcp/4510/p2p/x"]);
        let asked = texts(&[
            "/ip4/0.0.0.0/tcp/4510",
            "/ip6/::/tcp/4510",
            "/ip4/127.0.0.1/tcp/0",
            "/ip4/10.0.0.7/tcp/4510",
            "/ip4/10.0.0.7/tcp/4511",
            "/ip4/192.168.77.5/tcp/4510",
        ]);
        let missing = ["/ip6/::/tcp/4510", "/ip4/10.0.0.7/tcp/4511", "/ip4/192.168.77.5/tcp/4510"];
        assert_eq!(waiting_for(&asked, &listening), missing);
    }
}
