//! A network driven as the driver does, with everything it says kept in order.

use std::collections::VecDeque;
use std::time::Duration;

use anabranch_engine::id::DeviceId;
use anabranch_engine::keys::SecretKey;
use anabranch_engine::{Input, SessionId};
use anabranch_net::{NetCommand, NetConfig, NetLimits, Network, with_peer_id};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

enum Order {
    Net(NetCommand),
    Pause,
    Resume,
    Shutdown,
}

pub(crate) struct Node {
    pub(crate) device: DeviceId,
    /// Where it listens, without its peer id.
    pub(crate) address: String,
    orders: mpsc::Sender<Order>,
    news: mpsc::Receiver<Input>,
    /// Taken from `news` by a wait for something else.
    passed: VecDeque<Input>,
    task: JoinHandle<()>,
}

/// One end of a session.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    pub(crate) peer: DeviceId,
    pub(crate) opener: bool,
    pub(crate) address: String,
}

impl Node {
    pub(crate) async fn new(seed: u8) -> Self {
        Self::with(seed, NetLimits::default()).await
    }

    pub(crate) async fn with(seed: u8, limits: NetLimits) -> Self {
        let network =
            Network::new(NetConfig { identity: &[seed; 32], listen: vec![LOOPBACK.to_owned()], limits }).unwrap();
        let (orders, inbox) = mpsc::channel(100_000);
        let (outbox, news) = mpsc::channel(100_000);
        let task = tokio::spawn(drive(network, inbox, outbox));
        let device = SecretKey::from_seed(&[seed; 32]).device();
        let mut node = Self { device, address: String::new(), orders, news, passed: VecDeque::new(), task };
        node.address = node
            .expect("listening", |input| match input {
                Input::Listening { address } => Ok(address),
                other => Err(other),
            })
            .await;
        node
    }

    pub(crate) fn execute(&self, command: NetCommand) {
        assert!(self.orders.try_send(Order::Net(command)).is_ok());
    }

    /// Stops driving the network, as a driver that is busy.
    pub(crate) fn pause(&self) {
        assert!(self.orders.try_send(Order::Pause).is_ok());
    }

    pub(crate) fn resume(&self) {
        assert!(self.orders.try_send(Order::Resume).is_ok());
    }

    pub(crate) async fn shutdown(self) {
        assert!(self.orders.try_send(Order::Shutdown).is_ok());
        tokio::time::timeout(PATIENCE, self.task).await.expect("shutdown ends").unwrap();
    }

    pub(crate) fn send(&self, session: SessionId, bytes: impl Into<Vec<u8>>) {
        self.execute(NetCommand::Send { session, bytes: bytes.into() });
    }

    pub(crate) fn close(&self, session: SessionId, reason: &str) {
        self.execute(NetCommand::Close { session, reason: reason.to_owned() });
    }

    pub(crate) fn dial(&self, address: &str, peer: Option<DeviceId>) {
        self.execute(NetCommand::Dial { address: address.to_owned(), peer });
    }

    pub(crate) fn full_address(&self) -> String {
        with_peer_id(&self.address, &self.device)
    }

    /// The first news, past or to come, that `pick` takes; the others keep their order.
    pub(crate) async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(Input) -> Result<T, Input>) -> T {
        let mut tried = VecDeque::new();
        loop {
            let input = match self.passed.pop_front() {
                Some(input) => input,
                None => match tokio::time::timeout(PATIENCE, self.news.recv()).await {
                    Ok(Some(input)) => input,
                    Ok(None) => panic!("the network ended before: {what}; it said {tried:?}"),
                    Err(_) => panic!("waited in vain for: {what}; it said {tried:?}"),
                },
            };
            match pick(input) {
                Ok(found) => {
                    tried.append(&mut self.passed);
                    self.passed = tried;
                    return found;
                }
                Err(other) => tried.push_back(other),
            }
        }
    }

    pub(crate) async fn opened(&mut self) -> Opened {
        self.expect("a session", |input| match input {
            Input::SessionOpened { session, peer, opener, address } => Ok(Opened { session, peer, opener, address }),
            other => Err(other),
        })
        .await
    }

    pub(crate) async fn closed(&mut self, wanted: SessionId) -> String {
        self.expect("the end of a session", |input| match input {
            Input::SessionClosed { session, reason } if session == wanted => Ok(reason),
            other => Err(other),
        })
        .await
    }

    pub(crate) async fn frame(&mut self, wanted: SessionId) -> Vec<u8> {
        self.expect("a frame", |input| match input {
            Input::Frame { session, bytes } if session == wanted => Ok(bytes),
            other => Err(other),
        })
        .await
    }

    pub(crate) async fn dial_failure(&mut self) -> (String, String) {
        self.expect("a failed dial", |input| match input {
            Input::DialFailed { address, reason } => Ok((address, reason)),
            other => Err(other),
        })
        .await
    }

    pub(crate) async fn dial_put_off(&mut self) -> (String, String) {
        self.expect("a dial that is put off", |input| match input {
            Input::DialPutOff { address, reason } => Ok((address, reason)),
            other => Err(other),
        })
        .await
    }

    /// Waits until so many bytes of frames were written.
    pub(crate) async fn written(&mut self, wanted: SessionId, mut bytes: usize) {
        while bytes > 0 {
            bytes -= self
                .expect("frames written", |input| match input {
                    Input::Written { session, bytes } if session == wanted => Ok(bytes),
                    other => Err(other),
                })
                .await;
        }
    }
}

/// Two nodes with a session: the first has dialed the second.
pub(crate) async fn join(a: &mut Node, b: &mut Node) -> (SessionId, SessionId) {
    a.dial(&b.address, Some(b.device));
    let (at_a, at_b) = (a.opened().await, b.opened().await);
    assert_eq!((at_a.peer, at_a.opener), (b.device, true));
    assert_eq!((at_b.peer, at_b.opener), (a.device, false));
    (at_a.session, at_b.session)
}

async fn drive(mut network: Network, mut inbox: mpsc::Receiver<Order>, outbox: mpsc::Sender<Input>) {
    let mut paused = false;
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                Some(Order::Net(command)) => network.execute(command),
                Some(Order::Pause) => paused = true,
                Some(Order::Resume) => paused = false,
                Some(Order::Shutdown) | None => return network.shutdown().await,
            },
            input = network.next(), if !paused => {
                let _ = outbox.send(input).await;
            }
        }
    }
}
