//! A link that can be cut: a TCP proxy on loopback that counts what passes. It knows nothing of what it carries.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use anabranch_api::Failure;

/// Connections that come while the link is cut are closed at once, those that are open are closed when it is cut.
pub(crate) struct Link {
    address: SocketAddr,
    open: watch::Sender<bool>,
    bytes: Arc<AtomicU64>,
}

impl Link {
    /// A link to what listens on `target`, open. It ends with the value.
    pub(crate) async fn to(target: SocketAddr) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::failed(format!("cannot make a link on loopback: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let (open, is_open) = watch::channel(true);
        let bytes = Arc::new(AtomicU64::new(0));
        tokio::spawn(accept(listener, target, is_open, Arc::clone(&bytes)));
        Ok(Self { address, open, bytes })
    }

    /// Where to dial.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it: nothing passes, nothing can be opened.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Mends it.
    pub(crate) fn heal(&self) {
        self.open.send_replace(true);
    }

    /// TCP payload that has passed so far, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mut is_open: watch::Receiver<bool>, bytes: Arc<AtomicU64>) {
    loop {
        let near = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => near,
                Err(_) => continue,
            },
            // The link itself is gone.
            ended = is_open.wait_for(|_| false) => {
                let _ = ended;
                return;
            }
        };
        if *is_open.borrow() {
            tokio::spawn(carry(near, target, is_open.clone(), Arc::clone(&bytes)));
        }
    }
}

async fn carry(near: TcpStream, target: SocketAddr, mut is_open: watch::Receiver<bool>, bytes: Arc<AtomicU64>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    // As libp2p sets it on its own sockets: small frames must not wait for each other.
    if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = async { tokio::join!(copy(near_in, far_out, &bytes), copy(far_in, near_out, &bytes)); } => {}
        _ = is_open.wait_for(|open| !open) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bytes: &AtomicU64) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // The end of one direction is told to the other side; the other direction may go on.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_link_carries_nothing_until_it_heals() {
        let runtime = crate::cli::run::runtime().unwrap();
        runtime.block_on(async {
            let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let target = echo.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = echo.accept().await {
                    tokio::spawn(async move {
                        let (mut from, mut to) = stream.into_split();
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    });
                }
            });
            let link = Link::to(target).await.unwrap();
            let mut byte = [0];
            let mut stream = TcpStream::connect(link.address()).await.unwrap();
            stream.write_all(b"a").await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
            assert_eq!((byte, link.bytes()), (*b"a", 2));

            link.cut();
            assert!(matches!(stream.read(&mut byte).await, Ok(0) | Err(_)));
            let mut refused = TcpStream::connect(link.address()).await.unwrap();
            assert!(matches!(refused.read(&mut byte).await, Ok(0) | Err(_)));
            assert_eq!(link.bytes(), 2);

            link.heal();
            let mut stream = TcpStream::connect(link.address()).await.unwrap();
            stream.write_all(b"b").await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
            assert_eq!((byte, link.bytes()), (*b"b", 4));
        });
    }
}
