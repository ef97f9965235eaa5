//! The honest writer: edits one document through the socket of the attacked node all the time, and notes how long each edit
//! took.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::processes::patience::Stopwatch;
use crate::processes::socket::Socket;

/// Between two edits.
const PAUSE: Duration = Duration::from_millis(8);
/// One that is not answered by then is not answered any more.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Edits that are noted: more than an hour of them.
const NOTED_MAX: usize = 500_000;

/// One edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    begun: Duration,
    took: Duration,
}

/// What the writer and who watches it share.
#[derive(Debug, Default)]
struct Notes {
    edits: Vec<Noted>,
    /// The edit that is under way, since when.
    begun: Option<Duration>,
    /// The first edit that was refused or not answered.
    trouble: Option<String>,
}

/// The writer, until it is dropped.
pub struct Honest {
    clock: Stopwatch,
    notes: Arc<Mutex<Notes>>,
    is_over: Arc<AtomicBool>,
    rests: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Honest {
    /// Begins to write into a document at the node on a directory.
    pub fn begin(directory: &Path, document: &str) -> Self {
        let (clock, notes) = (Stopwatch::start(), Arc::<Mutex<Notes>>::default());
        let [is_over, rests] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (directory, document) = (directory.to_path_buf(), document.to_owned());
            let (notes, is_over, rests) = (Arc::clone(&notes), Arc::clone(&is_over), Arc::clone(&rests));
            move || write(&directory, &document, clock, &notes, (&is_over, &rests))
        });
        Self { clock, notes, is_over, rests, thread: Some(thread) }
    }

    /// Now, on the writer's clock.
    pub fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// How long the edits took that began in this time. One that is not answered yet takes until now.
    pub fn between(&self, from: Duration, to: Duration) -> Vec<Duration> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = notes.begun.map(|begun| Noted { begun, took: self.clock.elapsed().saturating_sub(begun) });
        let edits = notes.edits.iter().copied().chain(pending);
        edits.filter(|edit| edit.begun >= from && edit.begun < to).map(|edit| edit.took).collect()
    }

    /// Writes nothing for a while, or goes on.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Stops, and says what went wrong.
    ///
    /// # Errors
    /// An edit was refused, or not answered.
    pub fn end(mut self) -> Result<(), String> {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.trouble.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn write(
    directory: &Path,
    document: &str,
    clock: Stopwatch,
    notes: &Mutex<Notes>,
    (is_over, rests): (&AtomicBool, &AtomicBool),
) {
    let note = || notes.lock().unwrap_or_else(PoisonError::into_inner);
    let mut socket = match Socket::open(directory, ANSWER_MAX) {
        Ok(socket) => socket,
        Err(trouble) => {
            note().trouble = Some(trouble.to_string());
            return;
        }
    };
    for number in 0..NOTED_MAX {
        while rests.load(Ordering::Relaxed) && !is_over.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE);
        }
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let edits = json!([{ "op": "set", "path": "/honest", "value": number }]);
        let begun = clock.elapsed();
        note().begun = Some(begun);
        let answer = socket.request("doc-edit", json!({ "document": document, "edits": edits, "saved": false }));
        let mut notes = note();
        notes.begun = None;
        notes.edits.push(Noted { begun, took: clock.elapsed().saturating_sub(begun) });
        if let Err(trouble) = answer {
            notes.trouble.get_or_insert_with(|| trouble.to_string());
            return;
        }
        drop(notes);
        std::thread::sleep(PAUSE);
    }
}
