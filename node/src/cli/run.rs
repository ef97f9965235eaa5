//! `anabranch run`: the node itself, from start to a clean end.

use anabranch::{Event, Lagged, Peer};
use clap::Args;
use futures::StreamExt;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error, info, warn};

use crate::control::Control;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::show::Show;

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Listen here, such as /ip4/0.0.0.0/tcp/4510; may be repeated. Without it this node can dial others and nobody can dial it
    #[arg(long, env = "ANABRANCH_LISTEN", value_name = "MULTIADDR", value_delimiter = ',')]
    listen: Vec<String>,
    /// Tell members this address instead of those it listens on: what a router or proxy forwards to this node; may be
    /// repeated. `none` tells them nothing
    #[arg(long, env = "ANABRANCH_ANNOUNCE", value_name = "MULTIADDR", value_delimiter = ',')]
    announce: Vec<String>,
    /// Dial this address now and whenever there is no session with it; may be repeated
    #[arg(long, env = "ANABRANCH_DIAL", value_name = "MULTIADDR", value_delimiter = ',')]
    dial: Vec<String>,
}

/// What `run` prints when it is ready.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    device: String,
    peer_id: String,
    directory: String,
    socket: String,
    listening: Vec<String>,
    /// The replica was made by this start.
    created: bool,
    pid: u32,
}

/// One thread runs the commands; the replica has threads of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))
}

impl Run {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        runtime()?.block_on(self.run(directory, show))
    }

    async fn run(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        // Before anything else, so that a signal during the start is not lost.
        let signals = |kind| signal(kind).map_err(|error| Failure::error(format!("cannot watch for signals: {error}")));
        let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);

        let created = !directory.is_initialised();
        let mut builder = Peer::builder().directory(directory.path());
        for address in self.listen {
            builder = builder.listen(address);
        }
        for address in self.announce {
            builder = if address == "none" { builder.announce_nothing() } else { builder.announce(address) };
        }
        for address in self.dial {
            builder = builder.dial(address);
        }
        let peer = builder.open().await?;
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
            listening: peer.listening(),
            created,
            pid: std::process::id(),
        };
        show.one(&ready, human)?;
        info!(device = %ready.device, directory = %ready.directory, "running");

        let control = Control::new(peer.clone(), directory.path());
        let result = tokio::select! {
            _ = terminate.recv() => { info!("SIGTERM: closing"); Ok(()) }
            _ = interrupt.recv() => { info!("Ctrl-C: closing"); Ok(()) }
            result = control.serve(listener) => result,
            () = report(events) => Err(Failure::error("the replica has ended by itself")),
        };
        directory.remove_socket();
        peer.shutdown().await;
        info!("closed");
        result
    }
}

fn human(ready: &Ready) -> String {
    let mut text = String::new();
    if ready.created {
        text.push_str("made a new replica\n");
    }
    text.push_str(&format!("running in {} as device {}\n", ready.directory, ready.device));
    match &ready.listening[..] {
        [] => text.push_str("not listening (add `--listen /ip4/0.0.0.0/tcp/4510` so that others can dial this node)\n"),
        addresses => addresses.iter().for_each(|address| text.push_str(&format!("listening on {address}\n"))),
    }
    text.push_str("ready: Ctrl-C or SIGTERM closes it cleanly");
    text
}

/// Tells the log what happens, until the replica ends. That it has stopped (a full disk, say) does not end it: it goes on
/// answering questions, and refuses edits with the reason.
async fn report(mut events: anabranch::Events) {
    let mut has_stopped = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                has_stopped |= matches!(event, Event::Stopped { .. });
                log(event);
            }
            Err(Lagged(lost)) => warn!(lost, "too slow for the events"),
        }
    }
    if has_stopped {
        std::future::pending::<()>().await;
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
        Event::StrangerRefused { peer } => warn!(%peer, "a stranger was refused: no space is shared with it"),
        Event::PeerMisbehaved { peer, reason } => warn!(%peer, reason, "peer misbehaved"),
        Event::Stopped { reason } => {
            error!(reason, "the replica has stopped: no edits are taken; what was saved is safe; start the node again");
        }
    }
}
