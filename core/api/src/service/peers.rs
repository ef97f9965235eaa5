//! Peers: dialing one now, forgetting where one is, blocking one.

use std::time::Duration;

use anabranch::DeviceId;
use futures_timer::Delay;

use crate::service::{Service, TimeLimit};
use crate::{Failure, Forgotten, PeerLine};

/// How often it is looked whether a dial has led to a session.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Service {
    /// Dials, and waits until there is a session with who answers.
    pub(super) async fn dial(&self, address: &str, timeout_ms: u64) -> Result<PeerLine, Failure> {
        self.peer().dial(address).await?;
        let connected = async {
            loop {
                if let Some(line) = self.peer_at(address).filter(|line| line.connected) {
                    return line;
                }
                Delay::new(LOOK_EVERY).await;
            }
        };
        TimeLimit::of_ms(timeout_ms).of(connected).await.ok_or_else(|| {
            let failure = self.peer_at(address).and_then(|line| line.last_failure);
            let why = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
            Failure::timed_out(format!(
                "no session with {address} within {} s{why}; the node goes on trying (`anabranch peer forget {address}` gives it up)",
                timeout_ms as f64 / 1_000.0,
            ))
        })
    }

    /// Forgets where a peer is, or an address that was given.
    pub(super) async fn forget(&self, peer: &str) -> Result<Forgotten, Failure> {
        if peer.starts_with('/') {
            let line = self.peer_at(peer).ok_or_else(|| Failure::not_found(format!("no peer is known at {peer}")))?;
            self.peer().forget_address(peer).await?;
            return Ok(Forgotten { device: line.device, addresses: vec![peer.to_owned()] });
        }
        let device = self.device(peer)?;
        let known = self.peer().peers().into_iter().find(|known| known.peer == device);
        let known = known.ok_or_else(|| Failure::not_found(format!("peer {device} is not known")))?;
        self.peer().forget_peer(device).await?;
        Ok(Forgotten { device: Some(device.to_string()), addresses: known.addresses })
    }

    /// Has nothing to do with a device from now on.
    pub(super) async fn block(&self, peer: &str) -> Result<PeerLine, Failure> {
        let device = self.device(peer)?;
        self.peer().block(device).await?;
        Ok(self.peer_line(&device))
    }

    /// Takes a block back.
    pub(super) async fn unblock(&self, peer: &str) -> Result<PeerLine, Failure> {
        let device = self.device(peer)?;
        self.peer().unblock(device).await?;
        Ok(self.peer_line(&device))
    }

    /// A device that may be known by its id alone.
    fn peer_line(&self, device: &DeviceId) -> PeerLine {
        let device = device.to_string();
        let known = self.peer_lines().into_iter().find(|line| line.device.as_ref() == Some(&device));
        known.unwrap_or_else(|| PeerLine { device: Some(device), ..PeerLine::default() })
    }

    fn peer_at(&self, address: &str) -> Option<PeerLine> {
        self.peer_lines().into_iter().find(|line| line.addresses.iter().any(|at| at == address))
    }
}
