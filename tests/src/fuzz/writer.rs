//! A device that edits, for bodies and seeds that need real runs.

use anabranch_engine::document::{Author, Document, Edit, EditError};
use anabranch_engine::id::{ActorId, DeviceId};
use anabranch_engine::run::Run;

use super::gate::{DOCUMENT, SPACE, run_of, settle};

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
        let device = DeviceId([self.number; 32]);
        core::iter::from_fn(|| self.document.take_unsigned())
            .map(|run| run_of(device, run.payload).expect("what we make passes the gate"))
            .collect()
    }

    /// Takes in runs that are good ones.
    pub fn receive(&mut self, runs: &[Run]) {
        runs.iter().for_each(|run| self.document.receive(run.clone()));
        assert_eq!(settle(&mut self.document).refused, []);
    }
}
