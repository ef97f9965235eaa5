//! `Builder`: from a directory (or none) to a running replica: identity, store, engine, network, threads, in this order.

use std::sync::Arc;

use anabranch_engine::gate::{Guard, Slot};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::DOCUMENTS_RESIDENT_MAX;
use anabranch_engine::storage::{Failure, Image};
use anabranch_engine::{Config, Engine};
use anabranch_net::{NetConfig, NetError, NetLimits, Network};
#[cfg(not(target_arch = "wasm32"))]
use anabranch_store::Opened;
use anabranch_store::{Salvaged, Store};
use async_channel::{Receiver, Sender};
use futures::{FutureExt as _, select};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::driver::clock::Clock;
use crate::driver::worker::WorkHand;
use crate::driver::{drive, spawn};
use crate::recorder::Recorded;
#[cfg(not(target_arch = "wasm32"))]
use crate::recorder::{Recorder, Start};
use crate::replica::{Hands, ORDERS_QUEUED_MAX, Order, Owner, Replica};
use crate::store_thread::StoreHand;
use crate::{OpenError, Peer, StoreProblem, slot};
#[cfg(not(target_arch = "wasm32"))]
use crate::{driver::worker, identity, store_thread};

/// Name of the store in a replica's directory.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const STORE_FILE: &str = "store.redb";
/// Name of the copy of its spaces beside it.
#[cfg(not(target_arch = "wasm32"))]
const SPACES_FILE: &str = "spaces";
/// How long `open` waits to be told where we can be reached. Binding is done before that; this is a matter of microseconds.
const LISTENING_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// How to open a [`Peer`]. In memory, not listening and dialing nobody, unless told otherwise.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    #[cfg(not(target_arch = "wasm32"))]
    directory: Option<std::path::PathBuf>,
    listen: Vec<String>,
    announce: Option<Vec<String>>,
    dial: Vec<String>,
    #[cfg(not(target_arch = "wasm32"))]
    refuse_damaged_store: bool,
    #[cfg(not(target_arch = "wasm32"))]
    modes: identity::Modes,
    record: Option<(std::path::PathBuf, u64)>,
}

impl Builder {
    /// Keeps the replica in this directory, made (mode 0700) if it is missing: its key (`identity`), its store and a note
    /// of what is being applied.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn directory(self, path: impl Into<std::path::PathBuf>) -> Self {
        Self { directory: Some(path.into()), ..self }
    }

    /// Does not open where the store is damaged. Without this, a damaged store is moved aside and kept (`store.redb.damaged-1`),
    /// a new one is made of what is readable of it, and [`Peer::salvaged`] says so.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn refuse_damaged_store(self) -> Self {
        Self { refuse_damaged_store: true, ..self }
    }

    /// Opens a directory into which others may write, and a key that others can read, where these modes cannot be changed: on
    /// volumes of Kubernetes with an `fsGroup`, on exFAT. Without this they are refused. Whoever may write into the directory can
    /// act as this device, and whoever reads the key can too: that nobody does is for whoever says this to know.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn allow_loose_modes(self) -> Self {
        Self { modes: identity::Modes::Loose, ..self }
    }

    /// Keeps the replica in memory, under a fresh key. This is the default.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self {
            #[cfg(not(target_arch = "wasm32"))]
            directory: None,
            ..self
        }
    }

    /// Listens on a multiaddr such as `/ip4/0.0.0.0/tcp/4001`. May be repeated; without it nobody can dial us. An address that
    /// this machine does not have (yet) is listened on as soon as it does.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Tells members this multiaddr instead of those that it listens on, and puts it into tickets: what a router or a proxy
    /// forwards to us. May be repeated.
    #[must_use]
    pub fn announce(mut self, address: impl Into<String>) -> Self {
        self.announce.get_or_insert_default().push(address.into());
        self
    }

    /// Tells members no address: they dial what their tickets say.
    #[must_use]
    pub fn announce_nothing(mut self) -> Self {
        self.announce.get_or_insert_default();
        self
    }

    /// Dials a multiaddr now and whenever there is no session with it. May be repeated.
    #[must_use]
    pub fn dial(mut self, address: impl Into<String>) -> Self {
        self.dial.push(address.into());
        self
    }

    /// Writes everything that the engine is given to a new file (mode 0600) of at most so many bytes, so that another engine
    /// can be given the same: `sim replay FILE`. When the file is full the recording ends with a warning, and the replica
    /// goes on. It holds the documents' content and the keys of their spaces, not the device's key (`docs/recording.md`).
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn record(self, path: impl Into<std::path::PathBuf>, bytes_max: u64) -> Self {
        Self { record: Some((path.into(), bytes_max)), ..self }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn ground(&self) -> (Option<&std::path::Path>, identity::Modes) {
        (self.directory.as_deref(), self.modes)
    }

    /// Opens the replica and starts it: what it does from now on it does on threads of its own.
    ///
    /// # Errors
    /// See [`OpenError`]; each text says what to do next.
    pub async fn open(self) -> Result<Peer, OpenError> {
        // Before anything is made.
        for address in self.dial.iter().chain(self.announce.iter().flatten()).chain(&self.listen) {
            anabranch_net::parse_address(address)?;
        }
        let dial = self.dial.clone();
        let peer = start(self).await.map(Peer::new)?;
        for address in dial {
            if let Err(error) = peer.dial(&address).await {
                peer.shutdown().await;
                return Err(OpenError::Dial { address, reason: error.to_string() });
            }
        }
        Ok(peer)
    }

    /// [`Builder::open`] for programs without an async runtime.
    ///
    /// # Errors
    /// As [`Builder::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open_blocking(self) -> Result<Peer, OpenError> {
        futures::executor::block_on(self.open())
    }
}

/// What a replica stands on.
struct Ground {
    place: Place,
    seed: Zeroizing<[u8; 32]>,
    store: Store,
    image: Image,
    guard: Arc<dyn Guard>,
    slots: Vec<Slot>,
    salvaged: Option<Salvaged>,
}

/// Where a store is, for errors.
struct Place {
    directory: String,
    file: String,
}

impl Ground {
    fn in_memory() -> Result<Self, OpenError> {
        let place = Place { directory: "memory".to_owned(), file: "it".to_owned() };
        let store = Store::open_in_memory()?;
        let image = store.image().map_err(|failure| place.problem(failure))?;
        let (guard, slots) = (Arc::new(slot::CatchOnly), Vec::new());
        Ok(Self { place, seed: random_seed()?, store, image, guard, slots, salvaged: None })
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn in_directory(
        path: &std::path::Path,
        refuse_damaged_store: bool,
        modes: identity::Modes,
    ) -> Result<Self, OpenError> {
        let file = path.join(STORE_FILE);
        let place = Place { directory: path.display().to_string(), file: file.display().to_string() };
        identity::prepare_directory(path, modes)?;
        // A store belongs to the key that it was made with, and so does the copy of its spaces.
        let is_new = !file.exists() && !path.join(SPACES_FILE).exists();
        let seed = identity::load_or_create(path, is_new, modes)?;
        let device = SecretKey::from_seed(&seed).device();
        let opened = if refuse_damaged_store {
            Store::open_with_copy(path, device)
        } else {
            Store::open_or_salvage(path, device)
        };
        let Opened { store, image, salvaged } = opened?;
        // After the store, whose lock keeps other processes away from this file.
        let (guard, slots) = slot::SlotFile::open(&path.join(slot::FILE_NAME)).map_err(|error| {
            let file = path.join(slot::FILE_NAME);
            let reason = format!("{}: {}", file.display(), identity::reason(&file, &error));
            OpenError::Directory { path: path.to_owned(), reason }
        })?;
        Ok(Self { place, seed, store, image, guard: Arc::new(guard), slots, salvaged })
    }
}

impl Place {
    fn problem(&self, failure: Failure) -> OpenError {
        let (place, file) = (self.directory.clone(), self.file.clone());
        OpenError::Store(match failure {
            Failure::Full(detail) => StoreProblem::Full { place, detail },
            Failure::Damaged(detail) => StoreProblem::Damaged { place, file, detail },
            Failure::Io(detail) | Failure::Gone(detail) => StoreProblem::Io { place, detail },
        })
    }
}

/// A fresh secret seed from the operating system.
pub(crate) fn random_seed() -> Result<Zeroizing<[u8; 32]>, OpenError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut())
        .map_err(|error| OpenError::System(format!("the operating system gives no randomness: {error}")))?;
    Ok(seed)
}

fn network_problem(error: NetError) -> OpenError {
    match error {
        NetError::Listen { address, reason } => OpenError::Listen { address, reason },
        NetError::Address(error) => OpenError::Address(error),
        NetError::Setup(reason) => OpenError::System(reason),
    }
}

/// A replica whose loop does not run yet.
struct Begun {
    replica: Arc<Replica>,
    network: Network,
    orders: Receiver<Order>,
}

/// Brings up engine, network and helper threads. Called where the network is to run.
fn begin(ground: Ground, builder: &Builder, finished: (Sender<()>, Receiver<()>)) -> Result<Begun, OpenError> {
    let listen = &builder.listen;
    let Ground { place, seed, store, image, guard, slots, salvaged } = ground;
    let (running, finished) = finished;
    let key = SecretKey::from_seed(&seed);
    let device = key.device();
    for Slot { space, document, tips } in &slots {
        warn!(%space, %document, runs = tips.len(), "an earlier process died while it applied runs");
    }
    let clock = Clock::start();
    let (seed_of_engine, now, slot) = (random_seed()?, clock.now(), slots.into_iter().next());
    let residents_max = DOCUMENTS_RESIDENT_MAX;
    let config = Config { guard: guard.clone(), slot: slot.clone(), residents_max };
    let damaged = |detail| place.problem(Failure::Damaged(detail));
    #[cfg(not(target_arch = "wasm32"))]
    let mut engine = match &builder.record {
        Some((path, bytes_max)) => {
            let start = Start { seed: &seed_of_engine, now, slot, image: &image };
            let (recorder, key) = Recorder::create(path, *bytes_max, key, start)
                .map_err(|error| OpenError::Recording { path: path.clone(), reason: error.to_string() })?;
            let engine = Engine::new(config, key, *seed_of_engine, now, image).map_err(damaged)?;
            Recorded::new(engine, Some(recorder))
        }
        None => Recorded::new(Engine::new(config, key, *seed_of_engine, now, image).map_err(damaged)?, None),
    };
    #[cfg(target_arch = "wasm32")]
    let mut engine = Recorded::new(Engine::new(config, key, *seed_of_engine, now, image).map_err(damaged)?, None);
    if let Some(addresses) = &builder.announce {
        engine.announce(addresses.clone());
    }
    let network = Network::new(NetConfig { identity: &seed, listen: listen.to_vec(), limits: NetLimits::default() })
        .map_err(network_problem)?;
    let (orders, receiver) = async_channel::bounded(ORDERS_QUEUED_MAX);
    let begin = |hands| {
        let peer_id = anabranch_net::peer_id_text(&device);
        Arc::new(Replica::new(engine, hands, device, peer_id, clock, finished, salvaged))
    };

    #[cfg(target_arch = "wasm32")]
    let replica = {
        drop(running);
        begin(Hands { network: orders, store: StoreHand::new(store), work: WorkHand::new(guard) })
    };
    #[cfg(not(target_arch = "wasm32"))]
    let replica = {
        let (store_hand, requests) = StoreHand::new();
        let (work_hand, work) = WorkHand::new();
        let replica = begin(Hands { network: orders, store: store_hand, work: work_hand });
        let started = store_thread::start(replica.clone(), store, requests, running.clone())
            .and_then(|()| worker::start(&replica, &guard, &work, &running));
        if let Err(error) = started {
            replica.close("it could not be started");
            return Err(OpenError::System(format!("the operating system gives no thread: {error}")));
        }
        replica
    };
    replica.begin();
    info!(%device, epoch = replica.storage().1, "replica opened");
    Ok(Begun { replica, network, orders: receiver })
}

impl Begun {
    /// Waits until it is known where we can be reached, so that tickets can be made at once.
    async fn listening(&mut self) {
        let mut patience = Box::pin(spawn::sleep(LISTENING_WAIT)).fuse();
        while !self.network.is_settled() {
            let input = select! {
                input = self.network.next().boxed_local().fuse() => input,
                _ = patience => return,
            };
            self.replica.handle(input);
        }
    }

    /// Runs it to its end.
    async fn run(mut self) {
        drive(&self.replica, &mut self.network, &self.orders).await;
        self.network.shutdown().await;
    }
}

/// Opens a replica on a thread of its own, which then drives it.
#[cfg(not(target_arch = "wasm32"))]
async fn start(builder: Builder) -> Result<Owner, OpenError> {
    let (sender, receiver) = futures::channel::oneshot::channel();
    let thread = move || {
        let (running, finished) = async_channel::bounded(1);
        let opened = (|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| OpenError::System(error.to_string()))?;
            let ground = match &builder.directory {
                Some(directory) => Ground::in_directory(directory, builder.refuse_damaged_store, builder.modes)?,
                None => Ground::in_memory()?,
            };
            let inside = runtime.enter();
            let begun = begin(ground, &builder, (running.clone(), finished))?;
            drop(inside);
            Ok((runtime, begun))
        })();
        match opened {
            Err(error) => drop(sender.send(Err(error))),
            Ok((runtime, mut begun)) => {
                let replica = spawn::CloseWithThread(begun.replica.clone());
                let _span = replica.0.span().clone().entered();
                runtime.block_on(async {
                    begun.listening().await;
                    // If nobody waits any more, this drops the owner, which ends the replica.
                    drop(sender.send(Ok(Owner { replica: replica.0.clone() })));
                    begun.run().await;
                });
                drop(runtime);
            }
        }
        drop(running);
    };
    std::thread::Builder::new()
        .name("anabranch".to_owned())
        .spawn(thread)
        .map_err(|error| OpenError::System(format!("the operating system gives no thread: {error}")))?;
    receiver.await.unwrap_or_else(|_| Err(OpenError::System("the thread that opens the replica panicked".to_owned())))
}

/// Opens a replica on this thread, the only one there is.
#[cfg(target_arch = "wasm32")]
async fn start(builder: Builder) -> Result<Owner, OpenError> {
    let (running, finished) = async_channel::bounded(1);
    let mut begun = begin(Ground::in_memory()?, &builder, (running.clone(), finished))?;
    begun.listening().await;
    let owner = Owner { replica: begun.replica.clone() };
    wasm_bindgen_futures::spawn_local(async move {
        begun.run().await;
        drop(running);
    });
    Ok(owner)
}
