//! Local-first documents that sync peer to peer: what an application embeds.
//!
//! A [`Peer`] is one replica on this device. It holds [`Space`]s, which hold [`Document`]s. Handles are cheap to clone and
//! may be used from any thread; futures need no particular runtime. See [`Peer::builder`] to begin.

mod builder;
mod document;
mod driver;
mod error;
mod events;
#[cfg(not(target_arch = "wasm32"))]
mod identity;
mod peer;
mod replica;
mod slot;
mod space;
mod store_thread;

pub use anabranch_engine::document::{
    ChangeInfo, Conflict, Edit, EditError, IntoPath, Json, Patch, PatchAction, Path, PathError, View,
};
pub use anabranch_engine::feed::FeedRow;
pub use anabranch_engine::id::{
    ActorId, ChangeHash, DeviceId, DocumentId, EntryHash, ParseIdError, SpaceId, StorageId,
};
pub use anabranch_engine::space::membership::Member;
pub use anabranch_engine::space::roles::{ParseRoleError, Role};
pub use anabranch_engine::space::ticket::{Ticket, TicketError};
pub use anabranch_engine::{CommandError, Counters, DocumentError, Event, PeerStatus, SpaceStatus, limits};

pub use builder::Builder;
pub use document::{Changed, Changes, Document};
pub use error::{OpenError, Stopped, StoreProblem};
pub use events::{Events, Lagged};
pub use peer::Peer;
pub use space::Space;
