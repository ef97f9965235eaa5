//! Who this device is: its name, and another key for it.

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch::{OpenError, RenewalError, Renewed, SpaceId};
use tokio::sync::oneshot;

use crate::control::Control;
use crate::failure::Failure;
use anabranch_protocol as protocol;

/// Somebody asks for another key, and waits for what comes of it.
pub(crate) type Renewal = oneshot::Sender<Result<Renewed, Failure>>;

impl Control {
    pub(super) async fn name_device(&self, name: &str) -> Result<protocol::Identity, Failure> {
        self.peer.name_device(name).await?;
        Ok(self.identity())
    }

    /// Sees before anything is closed that the key can be another one.
    pub(super) fn may_renew(&self) -> Result<(), Failure> {
        let outside = self.peer.spaces().into_iter().find(|space| space.former.is_some());
        outside.map_or(Ok(()), |space| {
            let name = space.name.unwrap_or_default();
            let reason = RenewalError::NotYetAdmitted(name).to_string();
            Err(OpenError::NotYetAdmitted { reason }.into())
        })
    }

    /// Waits until other members hold what is here, each space for itself, and says of which spaces they do.
    pub(super) async fn hand_over(&self, timeout_ms: u64) -> BTreeSet<SpaceId> {
        let spaces = self.peer.spaces().into_iter().filter_map(|status| self.peer.space(status.space));
        let time_max = Duration::from_millis(timeout_ms);
        let waiting = spaces.map(|space| async move {
            let synced = tokio::time::timeout(time_max, space.wait_synced()).await;
            matches!(synced, Ok(Ok(()))).then(|| space.id())
        });
        futures::future::join_all(waiting).await.into_iter().flatten().collect()
    }

    /// Has the node give the replica another key. This handle is of no use afterwards.
    pub(super) async fn renew(&self, held_elsewhere: BTreeSet<SpaceId>) -> Result<protocol::Renewed, Failure> {
        let (answer, renewed) = oneshot::channel();
        let ending = || Failure::error("the node is about to end");
        self.renewals.try_send(answer).map_err(|_| ending())?;
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
