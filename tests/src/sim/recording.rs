//! A recorded node, run again: another engine is made as the recorded one was and given the same calls. It must give the
//! same outputs; what a peer, a disk or a person did to the node is told as a story.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anabranch_engine::document::work::WorkDone;
use anabranch_engine::id::{DeviceId, DocumentId, SpaceId};
use anabranch_engine::limits::DOCUMENTS_RESIDENT_MAX;
use anabranch_engine::recording::{Asked, Call, MAGIC, Reader, Record, RecordedSignatures, chain};
use anabranch_engine::storage::{Image, Table};
use anabranch_engine::time::{Now, Timestamp};
use anabranch_engine::{Config, DocumentError, Engine, Input, Output};

use super::campaign::{catching, logged_error};
use super::checkers::determinism;
use super::guard::SimGuard;
use super::narrate::Narrative;
use super::trace::Trace;
use super::{Failure, Kind};

/// Bytes of a file: what fits into memory.
pub const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// What came of a replay.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The recorded device.
    pub device: DeviceId,
    /// Calls of the engine.
    pub calls: u64,
    /// Edits among them.
    pub edits: u64,
    /// Frames among them.
    pub frames: u64,
    /// What the engine gave.
    pub outputs: u64,
    /// How often the outputs were compared, and were equal.
    pub checkpoints: u64,
    /// How the recording ends.
    pub ended: Ended,
    /// It panicked, or took another course.
    pub failure: Option<Failure>,
    /// What happened, for people.
    pub story: Vec<String>,
}

/// How a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The replica was closed.
    Closed,
    /// The file's limit was reached.
    Limit,
    /// The process died, or the file was cut.
    CutOff,
}

/// Whether a file is a recording.
pub fn is_recording(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

/// Replays a file. With `verbose` every input and output is printed as it happens.
///
/// # Errors
/// It is no recording, or not one from some record on.
pub fn replay(file: &[u8], verbose: bool) -> Result<Replayed, String> {
    let reader = || Reader::new(file).map_err(|error| error.to_string());
    // Signatures come after the call in which they are made: they are all known before the engine asks.
    let mut signatures = Vec::new();
    for record in reader()? {
        if let Record::Signed { digest, signature } = record.map_err(|error| error.to_string())? {
            signatures.push((*digest, *signature));
        }
    }
    let mut records = reader()?;
    let Some(Ok(Record::Start { device, seed, mono, wall_s, slot, .. })) = records.next() else {
        return Err("the recording ends before it begins".to_owned());
    };
    let mut image = Image::default();
    while let Some(Ok(Record::Row { table, key, value })) = records.clone().next() {
        let known = Table::ALL.into_iter().find(|known| *known as u8 == table);
        let table = known.ok_or_else(|| format!("a row of table {table}, which is not known"))?;
        image.rows.push((table, key.into(), value.into()));
        records.next();
    }
    let (now, guard) = (at(mono, wall_s), SimGuard::default());
    let slot = slot.map(Into::into);
    let config = Config { guard: Arc::new(guard.clone()), slot, residents_max: DOCUMENTS_RESIDENT_MAX };
    let story = Narrative::default();
    let told = story.clone();
    let begin = mono;
    let run = move || {
        let signer = RecordedSignatures::new(device, signatures);
        let engine =
            Engine::new(config, signer, *seed, now, image).map_err(|error| format!("the store's image: {error}"))?;
        let mut replay =
            Replay::new(engine, device, guard, Teller { story: told, begin, quiet: Quiet::default() }, verbose);
        replay.teller.tell(mono, &format!("device {device:.8} starts"));
        for record in records {
            replay.take(record.map_err(|error| error.to_string())?)?;
            if replay.done.failure.is_some() {
                break;
            }
        }
        Ok::<_, String>(replay.finish())
    };
    let mut replayed = match catching(run) {
        Ok(result) => result?,
        Err(panic) => {
            let failure = Failure { kind: Kind::Crash, checker: "I13 no panic", at: 0, text: panic };
            Replayed { failure: Some(failure), ..Replayed::new(device) }
        }
    };
    if let Some(error) = logged_error().filter(|_| replayed.failure.is_none()) {
        replayed.failure = Some(Failure { kind: Kind::Safety, checker: "no logged error", at: 0, text: error });
    }
    replayed.story = story.lines();
    Ok(replayed)
}

impl Replayed {
    fn new(device: DeviceId) -> Self {
        Self {
            device,
            calls: 0,
            edits: 0,
            frames: 0,
            outputs: 0,
            checkpoints: 0,
            ended: Ended::CutOff,
            failure: None,
            story: Vec::new(),
        }
    }
}

fn at(mono: u64, wall_s: i64) -> Now {
    Now { mono: Timestamp(mono), wall_s }
}

/// A replay under way.
struct Replay {
    engine: Engine,
    guard: SimGuard,
    /// Results of heavy work whose turn has not come.
    worked: BTreeMap<(SpaceId, DocumentId, u64), VecDeque<WorkDone>>,
    /// The hash after each output since the last checkpoint.
    hashes: VecDeque<(u64, [u8; 32])>,
    hash: [u8; 32],
    checked_calls: u64,
    now: u64,
    done: Replayed,
    trace: Trace,
    teller: Teller,
}

impl Replay {
    fn new(engine: Engine, device: DeviceId, guard: SimGuard, teller: Teller, verbose: bool) -> Self {
        Self {
            engine,
            guard,
            worked: BTreeMap::new(),
            hashes: VecDeque::from([(0, [0; 32])]),
            hash: [0; 32],
            checked_calls: 0,
            now: teller.begin,
            done: Replayed::new(device),
            trace: Trace::new(verbose, verbose),
            teller,
        }
    }

    fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Called { mono, wall_s, polled, call } => {
                if polled {
                    self.drain();
                }
                self.now = mono;
                self.done.calls += 1;
                self.teller.call(mono, &call);
                self.call(at(mono, wall_s), call)?;
            }
            Record::Checkpoint { polled, outputs, hash } => {
                if polled {
                    self.drain();
                }
                self.compare(outputs, *hash);
            }
            Record::End { limit } => self.done.ended = if limit { Ended::Limit } else { Ended::Closed },
            Record::Signed { .. } => {}
            Record::Start { .. } | Record::Row { .. } => {
                return Err(format!("a row of the store after {} calls", self.done.calls));
            }
        }
        Ok(())
    }

    fn call(&mut self, now: Now, call: Call) -> Result<(), String> {
        match call {
            Call::Worked { space, document, generation } => {
                let done = self.worked.get_mut(&(space, document, generation)).and_then(VecDeque::pop_front);
                match done {
                    Some(done) => self.give(now, Input::Worked(Box::new(done))),
                    None => self.fail(format!("work on document {document:.8} is done that was never handed out")),
                }
            }
            Call::NotEdited { space, document } => {
                // Whatever the closure did was undone, but a turn it was.
                let _ = self.engine.edit(now, &space, &document, |_| Ok::<_, DocumentError>(()));
            }
            Call::Closed { space, document } => self.engine.close(&space, &document),
            Call::NewDocumentId => _ = self.engine.new_document_id(),
            Call::Announced { addresses } => self.engine.announce(addresses),
            other => {
                self.done.edits +=
                    u64::from(matches!(other, Call::Edited { .. } | Call::EditedAt { .. } | Call::Published { .. }));
                self.done.frames += u64::from(matches!(other, Call::Frame { .. }));
                if let Some(input) = other.input()? {
                    self.give(now, input);
                }
            }
        }
        if let Some(text) = self.guard.take_panics().into_iter().next() {
            self.done.failure.get_or_insert(Failure {
                kind: Kind::Crash,
                checker: "I13 no panic",
                at: self.since_start(),
                text,
            });
        }
        Ok(())
    }

    fn give(&mut self, now: Now, input: Input) {
        self.trace.input(self.since_start(), 0, &input);
        self.engine.handle(now, input);
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.trace.output(self.since_start(), 0, &output);
            self.done.outputs += 1;
            self.hash = chain(&self.hash, &output);
            self.hashes.push_back((self.done.outputs, self.hash));
            if let Output::Work(work) = output {
                let done = work.run(&self.guard);
                self.worked.entry((done.space, done.document, done.generation)).or_default().push_back(done);
            }
        }
    }

    fn compare(&mut self, outputs: u64, hash: [u8; 32]) {
        while self.hashes.front().is_some_and(|(count, _)| *count < outputs) {
            self.hashes.pop_front();
        }
        match self.hashes.front() {
            Some((count, here)) if (*count, *here) == (outputs, hash) => {
                self.done.checkpoints += 1;
                self.checked_calls = self.done.calls;
            }
            Some(_) => self.fail("other outputs come of the same calls".to_owned()),
            None => self.fail(format!("{} outputs where {outputs} were recorded", self.done.outputs)),
        }
    }

    fn since_start(&self) -> u64 {
        self.now.saturating_sub(self.teller.begin)
    }

    /// It is not what was recorded.
    fn fail(&mut self, text: String) {
        let text = format!(
            "the replay takes another course between call {} and call {}: {text}",
            self.checked_calls, self.done.calls
        );
        let at = self.since_start();
        let failure = Failure { kind: Kind::Safety, checker: determinism::CHECKER, at, text };
        self.done.failure.get_or_insert(failure);
    }

    fn finish(mut self) -> Replayed {
        self.drain();
        let end = match self.done.ended {
            Ended::Closed => "the replica is closed",
            Ended::Limit => "the recording has reached its limit",
            Ended::CutOff => "the recording ends without an end: the process died, or the file was cut",
        };
        self.teller.tell(self.now, end);
        self.done
    }
}

/// Tells what the engine was given. What comes by the hundred is counted.
struct Teller {
    story: Narrative,
    begin: u64,
    quiet: Quiet,
}

/// What was not told since the last line.
#[derive(Default)]
struct Quiet {
    frames: u64,
    bytes: u64,
    stored: u64,
    others: u64,
}

impl Teller {
    fn tell(&mut self, at: u64, words: &str) {
        let Quiet { frames, bytes, stored, others } = std::mem::take(&mut self.quiet);
        if frames + stored + others > 0 {
            let counts =
                format!("({frames} frames of {bytes} bytes, {stored} answers of the store, {others} other calls)");
            self.story.tell(at.saturating_sub(self.begin), &counts);
        }
        self.story.tell(at.saturating_sub(self.begin), words);
    }

    fn call(&mut self, at: u64, call: &Call) {
        let words = match call {
            Call::Command { command, .. } => asked(command),
            Call::SessionOpened { session, peer, opener, address } => {
                let by = if *opener { "dialed at" } else { "which came from" };
                format!("session {session} with device {peer:.8} is open, {by} {address}")
            }
            Call::SessionClosed { session, reason } => format!("session {session} is gone: {reason}"),
            Call::DialFailed { address, reason } => format!("dialing {address} failed: {reason}"),
            Call::DialPutOff { address, reason } => format!("dialing {address} is put off: {reason}"),
            Call::Listening { address } => format!("listens on {address}"),
            Call::ListeningEnded { address } => format!("does not listen on {address} any more"),
            Call::Committed { failure: Some(_), .. }
            | Call::Scanned { failure: Some(_), .. }
            | Call::StoreFailed { .. } => "the store fails".to_owned(),
            Call::Edited { document, change, .. } | Call::EditedAt { document, change, .. } => {
                format!("document {document:.8} is edited: a change of {} bytes", change.len())
            }
            Call::Published { document, changes, .. } => {
                format!("a draft of document {document:.8} is published: {} bytes of changes", changes.len())
            }
            Call::NotEdited { document, .. } => format!("an edit of document {document:.8} changes nothing"),
            Call::Closed { document, .. } => format!("document {document:.8} is closed"),
            Call::Announced { addresses } => format!("announces {addresses:?}"),
            Call::Frame { bytes, .. } => {
                self.quiet.frames += 1;
                self.quiet.bytes += bytes.len() as u64;
                return;
            }
            Call::Committed { .. } | Call::Scanned { .. } => {
                self.quiet.stored += 1;
                return;
            }
            Call::Timeout | Call::Written { .. } | Call::Hint { .. } | Call::Worked { .. } | Call::NewDocumentId => {
                self.quiet.others += 1;
                return;
            }
        };
        self.tell(at, &words);
    }
}

fn asked(command: &Asked) -> String {
    match command {
        Asked::CreateSpace { name } => format!("is to found space `{name}`"),
        Asked::Invite { space, max_uses, .. } => format!("is to invite into space {space:.8}, {max_uses} times"),
        Asked::Join { .. } => "is to join a space".to_owned(),
        Asked::LeaveSpace { space } => format!("is to leave space {space:.8}"),
        Asked::CreateDocument { document, .. } => format!("is to make document {document:.8}"),
        Asked::OpenDocument { document, .. } => format!("is to open document {document:.8}"),
        Asked::WaitSynced { space, .. } => format!("is to say when space {space:.8} is in sync"),
        Asked::ReadFeed { after, limit } => format!("is to read {limit} rows of the feed after {after}"),
        Asked::Dial { address } => format!("is to dial {address}"),
        Asked::ForgetPeer { peer } => format!("is to forget where {peer:.8} is"),
        Asked::VoidEntry { space, entry } => format!("is to void entry {entry:.8} of space {space:.8}"),
        Asked::MeasureUsage { space } => format!("is to say what each member has cost in space {space:.8}"),
        Asked::Block { device } => format!("is to block {device:.8}"),
        Asked::Unblock { device } => format!("is to block {device:.8} no more"),
        Asked::NameDevice { name } => format!("is to be called `{name}`"),
        Asked::ForgetAddress { address } => format!("is to forget the address {address}"),
        Asked::Forget { id } => format!("nobody waits for command {id} any more"),
        Asked::Shutdown => "is to shut down".to_owned(),
    }
}
