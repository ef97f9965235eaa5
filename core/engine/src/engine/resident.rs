//! A document in memory, or on its way there: its state, and the notes that the engine keeps about it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::document::Document;
use crate::engine::input::{CommandId, SessionId};
use crate::frontier::Proof;
use crate::gate::{Intake, Payload};
use crate::id::{AclHash, ActorId, DeviceId};
use crate::run::Run;
use crate::space::Acl;

/// A document in memory, or on its way there.
#[derive(Debug)]
pub(super) struct Resident {
    /// Where it is.
    pub state: State,
    /// Openings by the application.
    pub open_handles: usize,
    /// When it came into memory, in turns.
    pub(crate) generation: u64,
    /// For eviction: when it was last of use, in turns.
    pub used: u64,
    /// Commands that wait for it to be open.
    pub(super) waiting: Vec<CommandId>,
    /// Which session brought each run that is not yet judged, by actor and first change.
    pub(super) origins: BTreeMap<(ActorId, u64), SessionId>,
    /// The `acl_ref`s that runs not yet judged stand on, of those that nothing stored stands on.
    pub(super) acls: BTreeMap<AclHash, Acl>,
    /// What was merged since the last commit was formed.
    pub(super) accepted: Vec<Proof>,
    /// Bytes of changes of these.
    pub(super) accepted_bytes: u64,
    /// Who signed the run for which it came into memory, if it was for one.
    pub(super) brought_by: Option<DeviceId>,
    /// What a mending left in the store.
    pub(super) leftovers: Leftovers,
}

/// How far the runs were read that a mending left in the store.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// The page under way.
    pub page: Option<Page>,
    /// Lists of members that some of them stand on, and that are not known.
    pub unknown: BTreeSet<AclHash>,
}

/// A page of them on its way from the store into the document.
#[derive(Debug)]
pub(super) enum Page {
    /// It is being read or looked at. The next one begins at this key, if there is one.
    Coming(Option<Vec<u8>>),
    /// All of it that is good is in the document's inbox, or was.
    Arrived(Option<Vec<u8>>),
}

/// Where a document is.
#[derive(Debug)]
pub(super) enum State {
    /// Its runs are being read, or it is being built from them. What arrives meanwhile waits.
    Opening {
        /// Runs read so far, with the keys of their rows.
        stored: Vec<(Vec<u8>, Run)>,
        /// Runs that arrived.
        inbox: Vec<Run>,
        /// Their bytes.
        inbox_bytes: usize,
        /// It is built from what is readable: the keys of rows that are not.
        mend: Option<Vec<Vec<u8>>>,
        /// There are runs that its record does not name.
        leftovers: bool,
    },
    /// In memory.
    Live(Box<Document>),
}

impl State {
    /// A document of which nothing was read yet. `mend` is for one that cannot be read whole.
    pub(super) fn opening(mend: bool) -> Self {
        Self::Opening {
            stored: Vec::new(),
            inbox: Vec::new(),
            inbox_bytes: 0,
            mend: mend.then(Vec::new),
            leftovers: false,
        }
    }
}

impl Resident {
    pub(super) fn new(state: State, generation: u64) -> Self {
        Self {
            state,
            open_handles: 0,
            generation,
            used: generation,
            waiting: Vec::new(),
            origins: BTreeMap::new(),
            acls: BTreeMap::new(),
            accepted: Vec::new(),
            accepted_bytes: 0,
            brought_by: None,
            leftovers: Leftovers::default(),
        }
    }

    /// The document, if it is in memory.
    pub(super) fn live(&self) -> Option<&Document> {
        match &self.state {
            State::Live(document) => Some(document),
            State::Opening { .. } => None,
        }
    }

    /// The document, if it is in memory.
    pub(super) fn live_mut(&mut self) -> Option<&mut Document> {
        match &mut self.state {
            State::Live(document) => Some(document),
            State::Opening { .. } => None,
        }
    }

    /// It is being built from what is readable.
    pub(super) fn is_mending(&self) -> bool {
        matches!(self.state, State::Opening { mend: Some(_), .. })
    }

    /// Begins again, with what is readable. What arrived stays.
    pub(super) fn mend(&mut self, generation: u64) {
        self.generation = generation;
        self.leftovers = Leftovers::default();
        match &mut self.state {
            State::Opening { stored, mend, .. } => {
                stored.clear();
                *mend = Some(Vec::new());
            }
            State::Live(_) => self.state = State::opening(true),
        }
    }

    /// The document was built. What arrived meanwhile goes into its inbox. Returns the commands that waited for it, each of which
    /// holds it open from now on.
    pub(super) fn goes_live(
        &mut self,
        mut document: Box<Document>,
        intake: impl Fn(&DeviceId) -> Intake,
    ) -> Vec<CommandId> {
        if let State::Opening { inbox, .. } = &mut self.state {
            for run in inbox.drain(..) {
                let intake = intake(&run.header.device);
                document.receive_read(run.header, Payload::read(run.payload), intake);
            }
        }
        self.state = State::Live(document);
        let waiting = self.take_waiting();
        self.open_handles += waiting.len();
        waiting
    }

    /// Notes what was found to be part of it, and the bytes of its changes.
    pub(super) fn accept(&mut self, held: impl IntoIterator<Item = Proof>, bytes: u64) {
        self.accepted.extend(held);
        self.accepted_bytes += bytes;
    }

    /// What was merged since the last call, and the bytes of its changes.
    pub(super) fn take_accepted(&mut self) -> (Vec<Proof>, u64) {
        (core::mem::take(&mut self.accepted), core::mem::take(&mut self.accepted_bytes))
    }

    /// A command is not waited for any more.
    pub(crate) fn forget(&mut self, command: CommandId) {
        self.waiting.retain(|waiting| *waiting != command);
    }

    /// Commands that wait for the document to be open.
    pub(super) fn take_waiting(&mut self) -> Vec<CommandId> {
        core::mem::take(&mut self.waiting)
    }

    /// No run waits for others or is being merged.
    pub(super) fn nothing_waits(&self) -> bool {
        self.live().is_some_and(|document| document.orphan_bytes() == 0 && !document.is_busy())
    }

    /// Drops the notes about runs that arrived when all of them are judged. Those that are being merged have left the inbox and
    /// are not; nor are those that come from the store.
    pub(super) fn forget_what_is_judged(&mut self) {
        let is_one_coming = matches!(self.leftovers.page, Some(Page::Coming(_)));
        if self.nothing_waits() && self.inbox_bytes() == 0 && !is_one_coming {
            self.origins.clear();
            self.acls.clear();
        }
    }

    /// Runs of which it is noted who brought them.
    pub(super) fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Bytes of runs that wait to be judged.
    pub(super) fn inbox_bytes(&self) -> usize {
        match &self.state {
            State::Live(document) => document.inbox_bytes(),
            State::Opening { inbox_bytes, .. } => *inbox_bytes,
        }
    }
}
