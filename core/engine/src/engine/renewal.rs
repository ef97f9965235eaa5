//! Another key for a replica: what its store must say before it is opened under it.
//!
//! A machine that was copied, identity and all, gets a key of its own this way. Nobody knows the new key, so the replica is no
//! member of its spaces until a ticket lets it in. Until then it reads and edits what it has. What was signed with the old key
//! counts as before, whoever brings it; what is edited under the new one is signed again once it may be.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::engine::{Engine, load};
use crate::id::{DeviceId, SpaceId};
use crate::space::membership::{Member, Membership};
use crate::space::roles::Role;
use crate::space::{Access, Space};
use crate::storage::{Image, META_STORAGE_ID, Row, Table};

/// Digits of an id by which people tell it from others.
const ID_DIGITS: usize = 8;

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
    /// The key was renewed before, and nobody has let the replica into this space since: what it has written there could not be
    /// signed by anybody any more. Or it is joining the space for the first time, for which its key was used already.
    #[error("the space `{0}` has not let this device in yet: join it first, with a new ticket if need be, or leave it")]
    NotYetAdmitted(String),
    /// Nobody could invite it again. Where a space has no name yet, the first digits of its id stand for it, here and above.
    #[error(
        "this device is the only admin of the space `{0}`, and nobody could invite it again: make another member an admin first, or use force"
    )]
    OnlyAdmin(String),
}

impl Renewal {
    /// What the store with this image, `device`'s until now, has to say. `force` leaves spaces without an admin.
    ///
    /// # Errors
    /// See [`RenewalError`].
    pub fn of(device: DeviceId, image: Image, force: bool) -> Result<Self, RenewalError> {
        let loaded = load::load(device, image).map_err(RenewalError::Image)?;
        // One that shares its store's id with another store would be taken for it.
        let mut rows = alloc::vec![Row { table: Table::Meta, key: META_STORAGE_ID.to_vec(), value: None }];
        let mut spaces = Vec::new();
        for (id, Space { access, membership, .. }) in loaded.spaces {
            may_renew(&device, &id, &access, &membership, force)?;
            let name = String::from(membership.name().unwrap_or_default());
            let access = Access { invite: None, former: Some(device), ..access };
            let value = minicbor::to_vec(&access).expect("writing to memory does not fail");
            rows.push(Row { table: Table::Spaces, key: id.0.to_vec(), value: Some(value) });
            spaces.push((id, name));
        }
        Ok(Self { rows, spaces })
    }
}

impl Engine {
    /// Whether this replica could have another key as it is now: what [`Renewal::of`] would say of its store. `force` leaves
    /// spaces without an admin.
    ///
    /// # Errors
    /// As [`Renewal::of`].
    pub fn may_renew(&self, force: bool) -> Result<(), RenewalError> {
        let mut spaces = self.spaces.iter();
        spaces.try_for_each(|(id, space)| may_renew(&self.device, id, &space.access, &space.membership, force))
    }
}

/// Whether one of its spaces lets a device have another key.
fn may_renew(
    device: &DeviceId,
    id: &SpaceId,
    access: &Access,
    membership: &Membership,
    force: bool,
) -> Result<(), RenewalError> {
    let name = || membership.name().map_or_else(|| id.to_string().chars().take(ID_DIGITS).collect(), String::from);
    // The log of a member may be lost; the others know it all the same.
    let is_joining = access.invite.as_ref().is_some_and(|invite| !invite.is_lost());
    if access.former.is_some() || is_joining {
        return Err(RenewalError::NotYetAdmitted(name()));
    }
    if !force && is_only_admin(device, &membership.members()) {
        return Err(RenewalError::OnlyAdmin(name()));
    }
    Ok(())
}

/// Whether there is no other admin than this device among members.
fn is_only_admin(device: &DeviceId, members: &[Member]) -> bool {
    let mut admins = members.iter().filter(|member| member.role == Role::Admin);
    admins.next().is_some_and(|admin| admin.device == *device) && admins.next().is_none()
}
