//! The engine with a tap: what it is given can be written to a file, so that another engine can be given the same
//! (`docs/recording.md`). Without a recording this adds nothing to the engine's own calls.
#![cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "there are no files to record to"))]

use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::sync::Arc;

use anabranch_engine::document::{Copied, Draft, EditedAt, Editor, Followed};
use anabranch_engine::gate::Slot;
use anabranch_engine::id::{ChangeHash, DeviceId, DocumentId, SpaceId};
use anabranch_engine::keys::{self, Domain, SIGNATURE_LEN, SecretKey, Signer};
use anabranch_engine::recording::{self, Call, Record};
use anabranch_engine::storage::{CommitId, Image};
use anabranch_engine::time::{Now, Timestamp};
use anabranch_engine::{DocumentError, Engine, Input, Output, Published, SpaceStatus};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::{Edit, EditError};

/// Calls between two checkpoints: a replay that takes another course is known to do so within as many.
const CHECKPOINT_EVERY: u64 = 256;
/// What is kept free for the last two records: a checkpoint, and that this is the end.
const END_BYTES: u64 = 128;

/// An engine, recorded or not.
pub(crate) struct Recorded {
    engine: Engine,
    recorder: Option<Recorder>,
}

impl Recorded {
    pub(crate) fn new(engine: Engine, recorder: Option<Recorder>) -> Self {
        Self { engine, recorder }
    }

    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        self.record(now, || Call::from(&input));
        self.engine.handle(now, input);
    }

    pub(crate) fn edit<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        now: Now,
        space: &SpaceId,
        document: &DocumentId,
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<CommitId>), E> {
        let result = self.engine.edit(now, space, document, f);
        let changed = matches!(result, Ok((_, Some(_))));
        self.record_edit(now, space, document, changed, |space, document, change| Call::Edited {
            space,
            document,
            change: change.into(),
        });
        result
    }

    pub(crate) fn edit_at<T, E: From<DocumentError> + From<EditError>>(
        &mut self,
        now: Now,
        editor: &mut Editor,
        heads: &[ChangeHash],
        f: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
    ) -> Result<(EditedAt<T>, Option<CommitId>), E> {
        let result = self.engine.edit_at(now, editor, heads, f);
        let changed = matches!(result, Ok((_, Some(_))));
        let (space, document) = (editor.space(), editor.document());
        self.record_edit(now, &space, &document, changed, |space, document, change| Call::EditedAt {
            space,
            document,
            change: change.into(),
        });
        result
    }

    /// Records what an edit did that was just made, or that it did nothing.
    fn record_edit(
        &mut self,
        now: Now,
        space: &SpaceId,
        document: &DocumentId,
        changed: bool,
        call: impl FnOnce(SpaceId, DocumentId, Vec<u8>) -> Call,
    ) {
        let engine = &self.engine;
        if let Some(recorder) = &mut self.recorder {
            let change = changed.then(|| engine.last_local_change(space, document)).flatten();
            let (space, document) = (*space, *document);
            let not = Call::NotEdited { space, document };
            recorder.call(now, change.map_or(not, |change| call(space, document, change)));
        }
    }

    /// A draft's changes are recorded when it is published; that it was begun, because it takes an actor.
    pub(crate) fn draft(&mut self, now: Now, space: &SpaceId, document: &DocumentId) -> Result<Draft, DocumentError> {
        self.record(now, || Call::NotEdited { space: *space, document: *document });
        self.engine.draft(now, space, document)
    }

    pub(crate) fn publish(&mut self, now: Now, draft: &mut Draft) -> Result<Published, DocumentError> {
        let changes = self.recorder.is_some().then(|| draft.payload().to_vec());
        let result = self.engine.publish(now, draft);
        if let (Some(recorder), Some(changes)) = (&mut self.recorder, changes) {
            let (space, document) = (draft.space(), draft.document());
            recorder.call(
                now,
                match result {
                    Ok(Published::Done(Some(_))) => Call::Published { space, document, changes: changes.into() },
                    Ok(Published::Done(None) | Published::Behind(_)) | Err(_) => Call::NotEdited { space, document },
                },
            );
        }
        result
    }

    pub(crate) fn close(&mut self, space: &SpaceId, document: &DocumentId) {
        let (space, document) = (*space, *document);
        self.record_now(|| Call::Closed { space, document });
        self.engine.close(&space, &document);
    }

    pub(crate) fn new_document_id(&mut self) -> DocumentId {
        self.record_now(|| Call::NewDocumentId);
        self.engine.new_document_id()
    }

    pub(crate) fn announce(&mut self, addresses: Vec<String>) {
        self.record_now(|| Call::Announced { addresses: addresses.clone() });
        self.engine.announce(addresses);
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        let output = self.engine.poll_output();
        if let Some(recorder) = &mut self.recorder {
            recorder.polled(output.as_ref());
        }
        output
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<(Timestamp, &'static str)> {
        self.engine.poll_timeout()
    }

    /// Reads only, but for what the engine keeps to be quicker the next time.
    pub(crate) fn spaces(&mut self) -> Vec<SpaceStatus> {
        self.engine.spaces()
    }

    /// Reads only, but for the patches that the engine keeps for the next time.
    pub(crate) fn follow(
        &mut self,
        space: &SpaceId,
        document: &DocumentId,
        seen: &[ChangeHash],
    ) -> Result<Followed, DocumentError> {
        self.engine.follow(space, document, seen)
    }

    /// Changes only where a document lies in memory.
    pub(crate) fn own(&mut self, space: &SpaceId, document: &DocumentId, copy: Copied) {
        self.engine.own(space, document, copy);
    }

    fn record(&mut self, now: Now, call: impl FnOnce() -> Call) {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(now, call());
        }
    }

    /// Records a call that is not told the time.
    fn record_now(&mut self, call: impl FnOnce() -> Call) {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(recorder.now, call());
        }
    }
}

/// What only reads.
impl Deref for Recorded {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// Signatures made since the last poll; `None` when nobody takes them any more.
type Signatures = Arc<Mutex<Option<Vec<([u8; 32], [u8; SIGNATURE_LEN])>>>>;

/// Signs with the device's key, and keeps what it signed until the recorder takes it.
#[derive(Debug)]
pub(crate) struct RecordedKey {
    key: SecretKey,
    made: Signatures,
}

impl Signer for RecordedKey {
    fn device(&self) -> DeviceId {
        self.key.device()
    }

    fn sign(&self, domain: Domain, bytes: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature = self.key.sign(domain, bytes);
        if let Some(made) = self.made.lock().as_mut() {
            made.push((keys::digest(domain, bytes), signature));
        }
        signature
    }
}

/// Writes a recording, until its limit is reached or it cannot be written.
pub(crate) struct Recorder {
    file: Option<BufWriter<Box<dyn Write + Send>>>,
    left: u64,
    now: Now,
    calls: u64,
    polled: bool,
    outputs: u64,
    hash: [u8; 32],
    made: Signatures,
}

/// What an engine is made with.
pub(crate) struct Start<'a> {
    pub(crate) seed: &'a [u8; 32],
    pub(crate) now: Now,
    pub(crate) slot: Option<Slot>,
    pub(crate) image: &'a Image,
}

impl Recorder {
    /// Begins a recording of at most `bytes_max` bytes, and gives the key that is to sign from now on.
    ///
    /// # Errors
    /// It cannot be written, or what the engine is made with is over the limit.
    pub(crate) fn begin(
        file: Box<dyn Write + Send>,
        bytes_max: u64,
        key: SecretKey,
        start: Start<'_>,
    ) -> io::Result<(Self, RecordedKey)> {
        let Start { seed, now, slot, image } = start;
        let made = Signatures::new(Mutex::new(Some(Vec::new())));
        let key = RecordedKey { key, made: made.clone() };
        let mut recorder = Self {
            file: Some(BufWriter::new(file)),
            left: bytes_max.saturating_sub(END_BYTES),
            now,
            calls: 0,
            polled: false,
            outputs: 0,
            hash: [0; 32],
            made,
        };
        recorder.put(recording::MAGIC)?;
        recorder.write(&Record::Start {
            version: recording::VERSION,
            device: key.device(),
            seed: (*seed).into(),
            mono: now.mono.0,
            wall_s: now.wall_s,
            slot: slot.map(Into::into),
        })?;
        for (table, key, value) in &image.rows {
            let (key, value) = (key.clone().into(), value.clone().into());
            recorder.write(&Record::Row { table: *table as u8, key, value })?;
        }
        recorder.flush()?;
        Ok((recorder, key))
    }

    /// The same, to a new file that only its owner can read.
    ///
    /// # Errors
    /// As [`Recorder::begin`], or the file exists already.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn create(
        path: &std::path::Path,
        bytes_max: u64,
        key: SecretKey,
        start: Start<'_>,
    ) -> io::Result<(Self, RecordedKey)> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Self::begin(Box::new(options.open(path)?), bytes_max, key, start)
    }

    fn call(&mut self, now: Now, call: Call) {
        self.now = now;
        if self.calls.is_multiple_of(CHECKPOINT_EVERY) && self.calls > 0 {
            self.keep(&self.checkpoint());
            if let Err(error) = self.flush() {
                self.give_up(&error);
            }
        }
        // If there is no room for it, the last checkpoint still has to say what was polled before.
        self.keep(&Record::Called { mono: now.mono.0, wall_s: now.wall_s, polled: self.polled, call });
        if self.file.is_some() {
            self.calls += 1;
            self.polled = false;
        }
    }

    fn polled(&mut self, output: Option<&Output>) {
        if self.file.is_none() {
            return;
        }
        self.polled = true;
        // They were made before the first output of their turn, so no checkpoint counts an output whose signature is missing.
        let made = self.made.lock().as_mut().map(std::mem::take).unwrap_or_default();
        for (digest, signature) in made {
            self.keep(&Record::Signed { digest: digest.into(), signature: signature.into() });
        }
        if let (Some(output), Some(_)) = (output, &self.file) {
            self.outputs += 1;
            self.hash = recording::chain(&self.hash, output);
        }
    }

    fn checkpoint(&self) -> Record {
        Record::Checkpoint { polled: self.polled, outputs: self.outputs, hash: self.hash.into() }
    }

    fn keep(&mut self, record: &Record) {
        if self.file.is_none() {
            return;
        }
        match self.write(record) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => self.end(true),
            Err(error) => self.give_up(&error),
        }
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let bytes = recording::frame(record).map_err(|error| io::Error::new(io::ErrorKind::FileTooLarge, error))?;
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let length = bytes.len() as u64;
        if length > self.left {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the recording's limit is reached"));
        }
        self.left -= length;
        file.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }

    /// Says that nothing more comes, and closes the file.
    fn end(&mut self, limit: bool) {
        if limit {
            warn!(calls = self.calls, "the recording has reached its limit and ends here; the replica goes on");
        }
        self.left += END_BYTES;
        let ended = self.write(&self.checkpoint()).and_then(|()| self.write(&Record::End { limit }));
        let ended = ended.and_then(|()| self.flush());
        if let Err(error) = ended {
            warn!(%error, "the recording could not be ended; it can be replayed up to its last whole record");
        }
        self.close();
    }

    fn give_up(&mut self, error: &io::Error) {
        warn!(%error, calls = self.calls, "the recording cannot be written and ends here; the replica goes on");
        self.close();
    }

    fn close(&mut self) {
        self.file = None;
        *self.made.lock() = None;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.end(false);
            info!(calls = self.calls, outputs = self.outputs, "recorded");
        }
    }
}
