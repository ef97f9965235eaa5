//! Local-first documents that sync peer to peer: what an application embeds.
//!
//! A [`Peer`] is one replica on this device. It holds [`Space`]s, which hold [`Document`]s. Handles are cheap to clone and
//! may be used from any thread; futures need no particular runtime. See [`Peer::builder`] to begin.

mod document;
mod error;
mod events;
mod peer;
mod space;

pub use anabranch_engine::document::edit::{Edit, EditError};
pub use anabranch_engine::document::view::View;
pub use anabranch_engine::feed::FeedRow;
pub use anabranch_engine::id::{
    ActorId, ChangeHash, DeviceId, DocumentId, EntryHash, ParseIdError, SpaceId, StorageId,
};
pub use anabranch_engine::space::membership::Member;
pub use anabranch_engine::space::roles::{ParseRoleError, Role};
pub use anabranch_engine::space::ticket::{Ticket, TicketError};
pub use anabranch_engine::{CommandError, Counters, DocumentError, Event, PeerStatus, SpaceStatus, limits};

pub use document::{Changed, Changes, Document};
pub use error::{OpenError, Stopped, StoreProblem};
pub use events::{Events, Lagged};
pub use peer::{Builder, Peer};
pub use pending::*;
pub use space::Space;

/// Stands in until `anabranch_engine::document` has these (same names, same shapes).
#[allow(missing_docs)]
mod pending {
    pub type Json = serde_json::Value;
    #[derive(Debug, Clone)]
    pub struct Path;
    pub trait IntoPath {}
    impl IntoPath for &str {}
    impl IntoPath for &String {}
    impl IntoPath for Path {}
    impl IntoPath for &Path {}
    #[derive(Debug, Clone)]
    pub struct Conflict;
    #[derive(Debug, Clone)]
    pub struct ChangeInfo;
    #[derive(Debug, Clone)]
    pub struct Patch;
}
