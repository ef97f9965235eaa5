//! Another key for a replica: what its store must say before it is opened under it.
//!
//! A machine that was copied, identity and all, gets a key of its own this way. Nobody knows the new key, so the replica is no
//! member of its spaces until a ticket lets it in. Until then it reads and edits what it has. What was signed with the old key
//! counts as before, whoever brings it; what is edited under the new one is signed again once it may be.

use alloc::string::String;
use alloc::vec::Vec;

use crate::engine::load;
use crate::id::{DeviceId, SpaceId};
use crate::space::Space;
use crate::storage::{Image, META_STORAGE_ID, Row, Table};

/// What has to be written to a store before it is opened under another key.
#[derive(Debug)]
pub struct Renewal {
    /// To be written as one commit.
    pub rows: Vec<Row>,
    /// Spaces that need a ticket then, with their names.
    pub spaces: Vec<(SpaceId, String)>,
}

/// Why a replica cannot have another key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewalError {
    /// The image cannot be read: the text names the row.
    #[error("{0}")]
    Image(String),
    /// The key was renewed before, and nobody has let the replica into this space since. What it has written there could not be
    /// signed by anybody any more.
    #[error(
        "its key was renewed before, and the space `{0}` has not let it in since: join that with a new ticket first, or leave it"
    )]
    NotYetAdmitted(String),
}

impl Renewal {
    /// What the store with this image, `device`'s until now, has to say.
    ///
    /// # Errors
    /// See [`RenewalError`].
    pub fn of(device: DeviceId, image: Image) -> Result<Self, RenewalError> {
        let loaded = load::load(device, image).map_err(RenewalError::Image)?;
        // One that shares its store's id with another store would be taken for it.
        let mut rows = alloc::vec![Row { table: Table::Meta, key: META_STORAGE_ID.to_vec(), value: None }];
        let mut spaces = Vec::new();
        for (id, Space { access, membership, .. }) in loaded.spaces {
            let name = String::from(membership.name().unwrap_or_default());
            if access.former.is_some() {
                return Err(RenewalError::NotYetAdmitted(name));
            }
            if membership.role(&device).is_none() {
                // Its ticket is as good under another key.
                continue;
            }
            let access = crate::space::Access { invite: None, again: None, former: Some(device), ..access };
            let value = minicbor::to_vec(&access).expect("writing to memory does not fail");
            rows.push(Row { table: Table::Spaces, key: id.0.to_vec(), value: Some(value) });
            spaces.push((id, name));
        }
        Ok(Self { rows, spaces })
    }
}
