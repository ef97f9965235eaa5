//! Who this device is: its name, and another key for it.

use std::collections::BTreeSet;

use anabranch::Space;
use futures::future::join_all;

use crate::service::{Service, TimeLimit};
use crate::{Failure, Identity, Renewed};

impl Service {
    pub(super) async fn name_device(&self, name: &str) -> Result<Identity, Failure> {
        self.peer().name_device(name).await?;
        Ok(self.identity())
    }

    /// Brings other members what is here, as far as that works in the time, and has the replica opened again under another key.
    /// This service is of no use afterwards.
    pub(super) async fn renew(&self, timeout_ms: u64, force: bool) -> Result<Renewed, Failure> {
        // Before anything is closed.
        self.peer().may_renew_identity(force)?;
        self.hand_over(timeout_ms).await;
        let is_held = |space: &Space| space.loss_on_leaving().is_some_and(|loss| loss.only_here.is_empty());
        let held: BTreeSet<String> = self.spaces().filter(is_held).map(|space| space.id().to_string()).collect();
        let mut renewed = self.shared.host.renew(force).await?;
        for space in &mut renewed.spaces {
            space.held_elsewhere = Some(held.contains(&space.space));
        }
        Ok(renewed)
    }

    /// Waits until other members hold what is here, where there are others.
    async fn hand_over(&self, timeout_ms: u64) {
        let shared = self.spaces().filter(|space| space.members().len() > 1);
        let waiting = shared.map(|space| async move { space.wait_synced().await });
        // In time or not: it is looked at afterwards.
        let _ = TimeLimit::of_ms(timeout_ms).of(join_all(waiting)).await;
    }

    fn spaces(&self) -> impl Iterator<Item = Space> {
        self.peer().spaces().into_iter().filter_map(|status| self.peer().space(status.space))
    }
}
