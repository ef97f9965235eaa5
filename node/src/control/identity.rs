//! Who this device is: its name, and another key for it.

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch::{Renewed, Space, SpaceId};
use tokio::sync::oneshot;

use crate::control::Control;
use anabranch_api::{self as protocol, Code, Failure};

/// Somebody asks for another key, and waits for what comes of it.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) answer: oneshot::Sender<Result<Renewed, Failure>>,
    /// Even if a space is left without an admin.
    pub(crate) force: bool,
}

impl Control {
    pub(super) async fn name_device(&self, name: &str) -> Result<protocol::Identity, Failure> {
        self.peer.name_device(name).await?;
        Ok(self.identity())
    }

    /// Waits until other members hold what is here, where there are others.
    pub(super) async fn hand_over(&self, timeout_ms: u64) {
        let spaces = self.peer.spaces().into_iter().filter_map(|status| self.peer.space(status.space));
        let shared = spaces.filter(|space| space.members().len() > 1);
        let waiting = shared.map(|space| async move { space.wait_synced().await });
        let all = futures::future::join_all(waiting);
        // In time or not: it is looked at afterwards.
        let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), all).await;
    }

    /// Has the node give the replica another key. This handle is of no use afterwards.
    pub(super) async fn renew(&self, force: bool) -> Result<protocol::Renewed, Failure> {
        let spaces = self.peer.spaces().into_iter().filter_map(|status| self.peer.space(status.space));
        let is_held = |space: &Space| space.loss_on_leaving().is_some_and(|loss| loss.only_here.is_empty());
        let held_elsewhere: BTreeSet<SpaceId> = spaces.filter(is_held).map(|space| space.id()).collect();
        let (answer, renewed) = oneshot::channel();
        let ending = || Failure::new(Code::Stopped, "the node is about to end");
        self.renewals.try_send(Renewal { answer, force }).map_err(|_| ending())?;
        let renewed = renewed.await.map_err(|_| ending())??;
        Ok(renewal_answer(renewed, |space| Some(held_elsewhere.contains(space))))
    }
}

/// What a renewal is answered with.
pub(crate) fn renewal_answer(renewed: Renewed, held_elsewhere: impl Fn(&SpaceId) -> Option<bool>) -> protocol::Renewed {
    let Renewed { former, device, former_identity, spaces, .. } = renewed;
    let space = |(space, name): (SpaceId, String)| protocol::RenewedSpace {
        space: space.to_string(),
        name,
        held_elsewhere: held_elsewhere(&space),
    };
    protocol::Renewed {
        device: device.to_string(),
        former: former.to_string(),
        former_identity: former_identity.display().to_string(),
        spaces: spaces.into_iter().map(space).collect(),
    }
}
