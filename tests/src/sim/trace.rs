//! What happened, as a hash over every input and output in order (two runs of one seed must have the same), and, if wanted,
//! as lines for people.

use anabranch_engine::recording::hash_output;
use anabranch_engine::storage::{Reply, Request};
use anabranch_engine::{Input, Output};

use super::narrate::Narrative;

/// The record of one world.
#[derive(Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    entries: u64,
    lines: Option<Vec<String>>,
    echo: bool,
    story: Option<Narrative>,
}

/// Lines kept of one world; older ones are dropped.
const LINES_MAX: usize = 20_000;

impl Trace {
    /// An empty record. With `lines`, it is also kept as text; with `echo`, each line is printed at once.
    pub fn new(lines: bool, echo: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), entries: 0, lines: (lines || echo).then(Vec::new), echo, story: None }
    }

    /// The same record, and beside it the story is told.
    #[must_use]
    pub fn telling(self, story: &Narrative) -> Self {
        Self { story: Some(story.clone()), ..self }
    }

    /// Whether a story is told.
    pub fn tells(&self) -> bool {
        self.story.is_some()
    }

    /// Adds to the story, if one is told. No part of the hash.
    pub fn tell(&self, at: u64, words: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            story.tell(at, &words());
        }
    }

    /// Takes note of an input, before the engine gets it.
    pub fn input(&mut self, at: u64, replica: usize, input: &Input) {
        self.begin(at, replica, b'i');
        match input {
            Input::Command(id, command) => {
                self.put(&[b"command", &id.0.to_be_bytes(), format!("{command:?}").as_bytes()]);
            }
            Input::Timeout => self.put(&[b"timeout"]),
            Input::SessionOpened { session, peer, opener, address } => {
                self.put(&[b"opened", &session.0.to_be_bytes(), &peer.0, &[u8::from(*opener)], address.as_bytes()]);
            }
            Input::Frame { session, bytes } => self.put(&[b"frame", &session.0.to_be_bytes(), bytes]),
            Input::Written { session, bytes } => {
                self.put(&[b"written", &session.0.to_be_bytes(), &bytes.to_be_bytes()]);
            }
            Input::SessionClosed { session, reason } => {
                self.put(&[b"closed", &session.0.to_be_bytes(), reason.as_bytes()]);
            }
            Input::DialFailed { address, reason } => self.put(&[b"dial failed", address.as_bytes(), reason.as_bytes()]),
            Input::DialPutOff { address, reason } => {
                self.put(&[b"dial put off", address.as_bytes(), reason.as_bytes()]);
            }
            Input::Listening { address } => self.put(&[b"listening", address.as_bytes()]),
            Input::ListeningEnded { address } => self.put(&[b"listening ended", address.as_bytes()]),
            Input::Hint { hint, from, topic, bytes } => {
                self.put(&[b"hint", &hint.0.to_be_bytes(), &from.0, topic.as_bytes(), bytes]);
            }
            Input::Stored(reply) => self.reply(reply),
            Input::StoreFailed(failure) => self.put(&[b"store failed", failure.to_string().as_bytes()]),
            Input::Worked(done) => self.put(&[b"worked", &done.space.0, &done.document.0]),
            Input::LocalChange { space, document, bytes, maker } => {
                self.put(&[b"local", &space.0, &document.0, bytes, &[*maker as u8]]);
            }
        }
        if self.lines.is_some() {
            let text = match input {
                Input::Frame { session, bytes } => format!("Frame {session:?} {}", frame(bytes)),
                Input::Stored(Reply::Scanned { id, result }) => {
                    format!("Scanned {id:?} {:?}", result.as_ref().map(|scanned| (scanned.rows.len(), scanned.more)))
                }
                Input::Worked(done) => format!("Worked {:?}", done.document),
                other => cut(format!("{other:?}")),
            };
            self.line(at, Some(replica), &format!("<- {text}"));
        }
    }

    /// Takes note of an output, before it is executed.
    pub fn output(&mut self, at: u64, replica: usize, output: &Output) {
        self.begin(at, replica, b'o');
        hash_output(&mut self.hasher, output);
        if self.lines.is_some() {
            let text = match output {
                Output::Send { session, bytes } => format!("Send {session:?} {}", frame(bytes)),
                Output::Store(Request::Commit { id, rows }) => {
                    let tables: Vec<_> = rows.iter().map(|row| row.table.name()).collect();
                    format!("Commit {id:?} {tables:?}")
                }
                Output::Work(work) => format!("Work {:?}", work.document),
                other => cut(format!("{other:?}")),
            };
            self.line(at, Some(replica), &format!("-> {text}"));
        }
    }

    /// Takes note of something that the world did.
    pub fn note(&mut self, at: u64, replica: Option<usize>, text: &str) {
        self.begin(at, replica.unwrap_or(usize::MAX), b'n');
        self.put(&[text.as_bytes()]);
        self.line(at, replica, text);
    }

    /// The hash of all that was noted.
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// How much was noted.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The last lines, if they are kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    fn begin(&mut self, at: u64, replica: usize, kind: u8) {
        self.entries += 1;
        self.hasher.update(&at.to_be_bytes());
        self.hasher.update(&(replica as u64).to_be_bytes());
        self.hasher.update(&[kind]);
    }

    fn put(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.hasher.update(&(part.len() as u64).to_be_bytes());
            self.hasher.update(part);
        }
    }

    fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Committed { id, result } => {
                self.put(&[b"committed", &id.0.to_be_bytes(), &[u8::from(result.is_ok())]]);
            }
            Reply::Scanned { id, result } => {
                self.put(&[b"scanned", &id.0.to_be_bytes(), &[u8::from(result.is_ok())]]);
                for (key, value) in result.iter().flat_map(|scanned| &scanned.rows) {
                    self.put(&[key, value]);
                }
            }
        }
    }

    fn line(&mut self, at: u64, replica: Option<usize>, text: &str) {
        let Some(lines) = &mut self.lines else { return };
        let who = replica.map_or_else(|| "world".to_owned(), |replica| format!("#{replica}"));
        let line = format!("{:>12.6}s {who:>5} {text}", at as f64 / 1e6);
        if self.echo {
            println!("{line}");
        }
        lines.push(line);
        if lines.len() > LINES_MAX {
            lines.drain(..LINES_MAX / 2);
        }
    }
}

/// A frame in a line: its size and how it begins.
fn frame(bytes: &[u8]) -> String {
    let start: String = bytes.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes {start}", bytes.len())
}

/// Long texts are cut.
fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(300) {
        text.truncate(at);
        text.push_str("..");
    }
    text
}
