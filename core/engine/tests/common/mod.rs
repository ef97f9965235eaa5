//! What the engine's document tests share: a guard that catches panics, keys, and a peer with one document.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use anabranch_engine::document::{Author, Document, Edit, EditError, Settle, Settled};
use anabranch_engine::gate::{Authority, Guard, Panicked, Slot, inspect};
use anabranch_engine::id::{AclHash, ActorId, DeviceId, DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::run::{Run, UnsignedRun};
use anabranch_engine::space::roles::Role;
use sha2::{Digest, Sha256};

pub const SPACE: SpaceId = SpaceId([1; 32]);
pub const DOCUMENT: DocumentId = DocumentId([2; 16]);
pub const ACL: AclHash = AclHash([3; 32]);
pub const WRITER: Authority = Authority { role: Some(Role::Writer) };

/// Catches panics, as a native driver does, and remembers the slots it was given.
#[derive(Default)]
pub struct CatchPanics {
    pub slots: Mutex<Vec<Slot>>,
}

impl Guard for CatchPanics {
    fn run(&self, slot: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        self.slots.lock().unwrap().push(slot.clone());
        catch_unwind(AssertUnwindSafe(f)).map_err(|_| Panicked("caught".to_string()))
    }
}

pub fn guard() -> CatchPanics {
    CatchPanics::default()
}

/// A device that edits one document.
pub struct Peer {
    pub key: SecretKey,
    pub document: Document,
    pub actors: u8,
    pub name: u8,
    pub clock: i64,
}

impl Peer {
    pub fn new(name: u8) -> Self {
        let key = SecretKey::from_seed(&[name; 32]);
        Self { key, document: Document::empty(SPACE, DOCUMENT), actors: 0, name, clock: 1_000 }
    }

    pub fn device(&self) -> DeviceId {
        self.key.device()
    }

    pub fn author(&mut self) -> Author {
        self.actors = self.actors.wrapping_add(1);
        self.clock += 1;
        let mut actor = [self.name; 16];
        actor[15] = self.actors;
        Author { device: self.device(), fresh_actor: ActorId(actor), wall_s: self.clock }
    }

    pub fn edit<T>(&mut self, f: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>) -> Result<T, EditError> {
        let author = self.author();
        self.document.edit(author, f).map(|(value, _)| value)
    }

    pub fn sign(&self, run: UnsignedRun) -> Run {
        Run::sign(&self.key, SPACE, DOCUMENT, ACL, run)
    }

    pub fn take_runs(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        while let Some(run) = self.document.take_unsigned() {
            let run = self.sign(run);
            inspect(&run, WRITER).expect("what we make passes the gate");
            runs.push(run);
        }
        runs
    }

    /// Receives and settles, doing heavy work at once.
    pub fn receive(&mut self, runs: impl IntoIterator<Item = Run>) -> Settled {
        for run in runs {
            self.document.receive(run);
        }
        settle(&mut self.document)
    }
}

pub fn settle(document: &mut Document) -> Settled {
    let guard = guard();
    match document.settle(&guard) {
        Settle::Done(settled) => settled,
        Settle::Work(work) => {
            let merged = work.run(&guard);
            document.finish_merge(merged, &guard)
        }
    }
}

/// Gives a chunk the checksum that its bytes have.
pub fn with_checksum(mut chunk: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::digest(&chunk[8..]);
    chunk[4..8].copy_from_slice(&hash[..4]);
    chunk
}
