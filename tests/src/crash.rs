//! The crash lab: the whole engine on the real store, on disks that lose power or do worse at any moment.
//!
//! A seeded script of real work runs once on a disk that notes every call ([`script`], [`pair`]), and a book notes what
//! each commit held and when it was acknowledged ([`book`]). Then images of that disk are made, at any moment and in any
//! way that a power cut could have left it, and a replica is started on each ([`images`]):
//!
//! - what an honest disk can leave opens, holds a whole commit that is none before the last acknowledged one, and the
//!   replica on it goes on: it edits, saves, syncs;
//! - what a lying or broken disk can leave opens, or is refused in words and salvaged. No panic gets out, and nothing is
//!   served that was never written.
//!
//! [`sweep`] lets a call fail instead: the first, the second, and so on until a script no longer makes so many.

pub mod book;
pub mod campaign;
pub mod images;
pub mod pair;
pub mod panics;
pub mod script;
pub mod sweep;
