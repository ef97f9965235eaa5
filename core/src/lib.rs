//! Local-first documents that sync peer to peer: what an application embeds.
//!
//! A [`Peer`] is one replica on this device. It holds [`Space`]s, sets of documents shared by their members, and they hold
//! [`Document`]s. Every write happens here at once, whoever is reachable; replicas that meet exchange what the other has
//! not seen, and end with the same content.
//!
//! ```
//! # futures::executor::block_on(async {
//! use anabranch::{Peer, Role};
//!
//! // One replica founds a space, writes, and invites someone.
//! let alice = Peer::builder().listen("/ip4/127.0.0.1/tcp/0").open().await?;
//! let notes = alice.create_space("notes").await?;
//! let page = notes.create_document().await?;
//! page.edit(|edit| edit.set("/title", "Groceries"))?;
//! let ticket = notes.invite(Role::Writer, 1, vec![]).await?;
//!
//! // Another joins, on this device or another, and writes too.
//! let bob = Peer::builder().open().await?;
//! let notes_of_bob = bob.join(&ticket).await?;
//! notes_of_bob.wait_synced().await?;
//! let copy = notes_of_bob.open(page.id()).await?;
//! copy.edit(|edit| edit.set("/milk", "2 l"))?;
//! copy.saved().await?; // on disk, if there were one: these replicas are in memory
//!
//! notes_of_bob.wait_synced().await?;
//! assert_eq!(page.json()?, copy.json()?);
//! assert_eq!(page.get("/title")?.unwrap(), "Groceries");
//! # alice.shutdown().await; bob.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! Handles are cheap to clone and may be used from any thread. Futures need no particular runtime, and `edit` and the
//! readers need none at all. What may go wrong is in [`OpenError`], [`CommandError`] and [`DocumentError`].

mod builder;
#[cfg(not(target_arch = "wasm32"))]
mod check;
mod document;
mod draft;
mod driver;
mod editor;
mod error;
mod events;
mod feed;
#[cfg(not(target_arch = "wasm32"))]
mod identity;
mod peer;
mod recorder;
#[cfg(not(target_arch = "wasm32"))]
mod renewal;
mod replica;
mod slot;
mod space;
mod store_thread;
mod turnstile;

pub use anabranch_engine::document::summary::Summary;
pub use anabranch_engine::document::{
    ChangeInfo, Conflict, DraftError, Edit, EditError, IntoPath, Json, LostEdit, Origin, Patch, PatchAction,
    PatchMisfit, Path, PathError, Snapshot, Strings, TextChange, TypedError, UnknownHeads, Value, View, Writer, import,
    json,
};
pub use anabranch_engine::feed::FeedRow;
pub use anabranch_engine::id::{
    ActorId, ChangeHash, DeviceId, DocumentId, EntryHash, ParseIdError, SpaceId, StorageId,
};
pub use anabranch_engine::space::Fork;
pub use anabranch_engine::space::membership::Member;
pub use anabranch_engine::space::roles::{ParseRoleError, Role};
pub use anabranch_engine::space::ticket::{Ticket, TicketError};
pub use anabranch_engine::{
    CommandError, Copied, Counters, DocumentError, DocumentInfo, Event, LossOnLeaving, PeerStatus, RenewalError,
    SpaceStatus, Toll, Usage, limits,
};
pub use anabranch_net::{device_of, peer_id_text};
pub use anabranch_store::Salvaged;

pub use builder::Builder;
#[cfg(not(target_arch = "wasm32"))]
pub use check::{CheckedTable, check};
pub use document::{Changed, Changes, Document};
pub use draft::Draft;
pub use editor::Editor;
pub use error::{AddressError, OpenError, Stopped, StoreProblem};
pub use events::{Events, Lagged};
pub use feed::{Feed, FeedError, FeedPosition, ParsePositionError};
pub use peer::Peer;
#[cfg(not(target_arch = "wasm32"))]
pub use renewal::Renewed;
pub use space::Space;
