//! A device that edits, for bodies and seeds that need real runs.

use anabranch_engine::document::{Author, Document, Edit, EditError};
use anabranch_engine::id::{AclHash, ActorId, DeviceId};
use anabranch_engine::run::{Run, RunHeader};

use super::gate::{DOCUMENT, SPACE, settle};

/// A device that edits.
pub struct Writer {
    /// Its copy.
    pub document: Document,
    number: u8,
}

impl Writer {
    /// The device and the actor of this number, with an empty document.
    pub fn new(number: u8) -> Self {
        Self { document: Document::empty(SPACE, DOCUMENT), number }
    }

    /// Makes an edit that is a good one.
    pub fn edit(&mut self, f: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>) {
        let number = self.number;
        let author = Author { device: DeviceId([number; 32]), fresh_actor: ActorId([number; 16]), wall_s: 1_000 };
        self.document.edit(author, f).expect("seeds are good edits");
    }

    /// What was edited since it was last asked.
    pub fn runs(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        while let Some(run) = self.document.take_unsigned() {
            let header = RunHeader {
                space: SPACE,
                document: DOCUMENT,
                acl: AclHash([3; 32]),
                device: DeviceId([self.number; 32]),
                actor: run.actor,
                first_seq: run.first_seq,
                last_seq: run.last_seq,
                tip: run.tip,
                signature: [0; 64],
            };
            runs.push(Run { header, payload: run.payload });
        }
        runs
    }

    /// Takes in runs that are good ones.
    pub fn receive(&mut self, runs: &[Run]) {
        runs.iter().for_each(|run| self.document.receive(run.clone()));
        assert_eq!(settle(&mut self.document).refused, []);
    }
}
