//! A document's frontier: for each actor its last run. At once the version vector and the proof of authorship.

use alloc::collections::BTreeMap;

use crate::id::ActorId;
use crate::run::RunHeader;

/// What is held of one actor: the header of its newest run, without space and document (they are the record's).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    /// By actor.
    pub actors: BTreeMap<ActorId, RunHeader>,
}
