//! What the tests of whole replicas share: a bound on waiting, a pair that knows each other.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anabranch::{Builder, Document, Peer, Role, Space};

pub(crate) const ANY_PORT: &str = "/ip4/127.0.0.1/tcp/0";

/// Waits for a condition, and fails instead of waiting for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within 30 s"),
    }
}

/// In memory, listening on loopback.
pub(crate) async fn peer() -> Peer {
    open(Peer::builder().listen(ANY_PORT)).await
}

/// In a directory, listening on loopback.
pub(crate) async fn peer_in(directory: &Path) -> Peer {
    open(Peer::builder().directory(directory).listen(ANY_PORT)).await
}

pub(crate) async fn open(builder: Builder) -> Peer {
    within("open", builder.open()).await.expect("it opens")
}

/// Two members of one space.
pub(crate) struct Pair {
    pub(crate) alice: Peer,
    pub(crate) bob: Peer,
    pub(crate) of_alice: Space,
    pub(crate) of_bob: Space,
}

impl Pair {
    pub(crate) async fn of(alice: Peer, bob: Peer) -> Self {
        let of_alice = within("create", alice.create_space("test")).await.unwrap();
        let of_bob = join(&of_alice, &bob, Role::Writer).await;
        Self { alice, bob, of_alice, of_bob }
    }

    pub(crate) async fn in_memory() -> Self {
        Self::of(peer().await, peer().await).await
    }

    /// A document of both, open on both.
    pub(crate) async fn document(&self) -> (Document, Document) {
        let first = within("create", self.of_alice.create_document()).await.unwrap();
        let second = within("open", self.of_bob.wait_for(first.id())).await.unwrap();
        (first, second)
    }

    pub(crate) async fn synced(&self) {
        within("synced", self.of_alice.synced_with(self.bob.device())).await.unwrap();
        within("synced", self.of_bob.synced_with(self.alice.device())).await.unwrap();
    }

    pub(crate) async fn shutdown(self) {
        within("shutdown", self.alice.shutdown()).await;
        within("shutdown", self.bob.shutdown()).await;
    }
}

pub(crate) async fn join(space: &Space, joiner: &Peer, role: Role) -> Space {
    let ticket = within("invite", space.invite(role, 1, Vec::new())).await.unwrap();
    within("join", joiner.join(&ticket)).await.unwrap()
}
