//! Another key for a replica whose directory was copied: two processes must not go on as one device.

use std::path::{Path, PathBuf};

use anabranch_engine::keys::SecretKey;
use anabranch_engine::storage::{CommitId, Reply, Request};
use anabranch_engine::{Renewal, RenewalError};
use anabranch_store::{Opened, Store};
use tracing::info;

use crate::builder::random_seed;
use crate::identity::{self, Modes};
use crate::{Builder, DeviceId, OpenError, SpaceId};

/// A replica has another key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewed {
    /// The device that it was.
    pub former: DeviceId,
    /// The device that it is now.
    pub device: DeviceId,
    /// Where the former key is kept. What was signed with it counts as before.
    pub former_identity: PathBuf,
    /// Spaces that it needs a ticket for, with their names. Until one lets it in, it reads and edits there what it has.
    pub spaces: Vec<(SpaceId, String)>,
}

impl Builder {
    /// Gives the replica in the directory another key. For a copy of a directory that is used beside the original: two processes of
    /// one device hide each other from their peers. All documents stay, and what was written with the former key reaches the
    /// others as before; to be a member again under the new key takes a ticket for each space.
    ///
    /// Where it is the only admin of a space nobody could invite it again, so that this is refused unless `force`.
    ///
    /// Nothing but the directory is used of what the builder was told. No process may have the replica open.
    ///
    /// # Errors
    /// See [`OpenError`]; one is that no directory was given. The replica is as it was then. A crash leaves it as it was, or
    /// renewed.
    pub fn renew_identity(&self, force: bool) -> Result<Renewed, OpenError> {
        let (directory, modes) = self.ground();
        let in_memory = || OpenError::System("a replica in memory has no key that could be renewed".to_owned());
        renew(directory.ok_or_else(in_memory)?, modes, force)
    }
}

fn renew(directory: &Path, modes: Modes, force: bool) -> Result<Renewed, OpenError> {
    let refuse = |reason: String| OpenError::Renewal { path: directory.to_owned(), reason };
    if !directory.join(crate::builder::STORE_FILE).exists() {
        return Err(refuse("no replica is there".to_owned()));
    }
    let seed = identity::load_or_create(directory, false, modes)?;
    let former = SecretKey::from_seed(&seed).device();
    // Its lock keeps every other process away until it is dropped, at the end.
    let Opened { mut store, image, .. } = Store::open_with_copy(directory, former)?;
    let renewal = Renewal::of(former, image, force).map_err(|error| match error {
        RenewalError::Image(reason) => refuse(reason),
        RenewalError::NotYetAdmitted(_) | RenewalError::OnlyAdmin(_) => {
            OpenError::RenewalRefused { reason: error.to_string() }
        }
    });
    let Renewal { rows, spaces } = renewal?;
    let seed = random_seed()?;
    if let Reply::Committed { result: Err(failure), .. } = store.execute(Request::Commit { id: CommitId(1), rows }) {
        return Err(refuse(failure.to_string()));
    }
    // Until the key is another one, these rows say nothing. The copy would be taken for another device's after that.
    store.remove_copy().map_err(|error| refuse(format!("the copy of its spaces: {error}")))?;
    let former_identity = identity::replace(directory, &seed).map_err(|error| refuse(error.to_string()))?;
    let device = SecretKey::from_seed(&seed).device();
    info!(%former, %device, "the identity was renewed");
    Ok(Renewed { former, device, former_identity, spaces })
}
