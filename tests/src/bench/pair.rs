//! Two replicas in this process, with stores on a real disk, that know each other through a link only.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anabranch::{Document, Peer, Role, Space};
use anyhow::{Context as _, Result, anyhow, bail};

use crate::processes::link::Link;

/// No step of a bench takes longer, or the bench fails.
pub const STEP_TIME_MAX: Duration = Duration::from_secs(300);

/// The one who listens and the one who dials. Both are members of one space.
pub struct Pair {
    /// Founded the space.
    pub listener: Peer,
    /// Joined it.
    pub dialer: Peer,
    /// The space as the listener holds it.
    pub listener_space: Space,
    /// The space as the dialer holds it.
    pub dialer_space: Space,
    /// Between them.
    pub link: Link,
}

/// Opens a replica that listens on a free port of loopback.
///
/// # Errors
/// It does not open.
pub async fn open_listener(directory: &Path) -> Result<(Peer, SocketAddr)> {
    let peer = Peer::builder().directory(directory).listen("/ip4/127.0.0.1/tcp/0").open().await?;
    let address = within("the listening address", async {
        loop {
            if let Some(address) = peer.listening().first() {
                return socket_address(address);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await??;
    Ok((peer, address))
}

/// Opens a replica that does not listen.
///
/// # Errors
/// It does not open.
pub async fn open_dialer(directory: &Path) -> Result<Peer> {
    Ok(Peer::builder().directory(directory).open().await?)
}

/// Where to dial a listener through a link.
pub fn through(link: &Link, listener: &Peer) -> String {
    format!("{}/p2p/{}", link.multiaddr(), listener.peer_id())
}

impl Pair {
    /// Opens both under `root`; `fill` writes into the space before anyone joins. Returns when both hold the same.
    ///
    /// # Errors
    /// Something does not work, or takes too long.
    pub async fn open<F: Future<Output = Result<()>>>(root: &Path, fill: impl FnOnce(Space) -> F) -> Result<Self> {
        let (listener, address) = open_listener(&root.join("listener")).await?;
        let dialer = open_dialer(&root.join("dialer")).await?;
        let link = Link::start(address)?;
        let listener_space = within("founding a space", listener.create_space("bench")).await??;
        within("filling the space", fill(listener_space.clone())).await??;
        let ticket = listener_space.invite(Role::Writer, 1, vec![through(&link, &listener)]).await?;
        let dialer_space = within("joining", dialer.join(&ticket)).await??;
        within("the first sync", dialer_space.synced_with(listener.device())).await??;
        Ok(Self { listener, dialer, listener_space, dialer_space, link })
    }

    /// The space's only document, open on both sides.
    ///
    /// # Errors
    /// There is none.
    pub async fn open_document(&self) -> Result<(Document, Document)> {
        let id = *self.listener_space.documents().first().context("the space has no document")?;
        Ok((self.listener_space.open(id).await?, self.dialer_space.open(id).await?))
    }
}

/// Waits for a step, but not for ever.
///
/// # Errors
/// It took longer than [`STEP_TIME_MAX`].
pub async fn within<T>(what: &str, step: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(STEP_TIME_MAX, step)
        .await
        .map_err(|_| anyhow!("{what} took longer than {} s", STEP_TIME_MAX.as_secs()))
}

/// `/ip4/127.0.0.1/tcp/4001/..` as a socket address.
fn socket_address(multiaddr: &str) -> Result<SocketAddr> {
    let parts: Vec<&str> = multiaddr.split('/').collect();
    let ["", "ip4", ip, "tcp", port, ..] = parts[..] else { bail!("{multiaddr} is not an IPv4 TCP address") };
    Ok(format!("{ip}:{port}").parse()?)
}
