//! A node's control socket, spoken directly: for those that ask so often that a process for each question is too slow.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anabranch_api::Hello;
use serde_json::{Value, json};

use crate::processes::patience::PATIENCE;

/// One connection. After [`Trouble::Unanswered`] it is out of step and to be dropped.
pub struct Socket {
    reader: BufReader<UnixStream>,
}

/// Why there is no answer, and what may have come of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The node said what is wrong.
    Refused(String),
    /// The request did not leave whole, and a request without its end is none: nothing came of it.
    Unsent(String),
    /// No answer came: it may have been done, or may still be.
    Unanswered(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(text) | Self::Unsent(text) | Self::Unanswered(text)) = self;
        f.write_str(text)
    }
}

impl Socket {
    /// Connects to the node on a directory.
    pub fn connect(directory: &Path) -> Self {
        Self::open(directory, PATIENCE).unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// Connects to the node on a directory; answers are waited for so long.
    ///
    /// # Errors
    /// No node runs there.
    pub fn open(directory: &Path, patience: Duration) -> Result<Self, Trouble> {
        let path = directory.join("node.sock");
        let opened = UnixStream::connect(&path).and_then(|stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        });
        let cannot = |error| Trouble::Unsent(format!("{}: {error}", path.display()));
        let mut stream = opened.map_err(cannot)?;
        stream.write_all(Hello::ours().line().as_bytes()).map_err(cannot)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Asks; `Err` is what the node says went wrong.
    pub fn ask(&mut self, what: &str, arguments: Value) -> Result<Value, String> {
        self.request(what, arguments).map_err(|trouble| trouble.to_string())
    }

    /// Asks and waits for the end of the answer.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn request(&mut self, what: &str, arguments: Value) -> Result<Value, Trouble> {
        self.send(what, arguments)?;
        self.receive(what)
    }

    /// Asks without waiting: answers come in the order of the requests.
    ///
    /// # Errors
    /// The node is gone, or does not read.
    pub fn send(&mut self, what: &str, mut arguments: Value) -> Result<(), Trouble> {
        arguments["do"] = json!(what);
        let line = format!("{arguments}\n");
        let sent = self.reader.get_mut().write_all(line.as_bytes());
        sent.map_err(|error| Trouble::Unsent(format!("cannot ask `{what}`: {error}")))
    }

    /// The end of the next answer.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn receive(&mut self, what: &str) -> Result<Value, Trouble> {
        loop {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line);
            let read = read.map_err(|error| Trouble::Unanswered(format!("no answer to `{what}`: {error}")))?;
            // Half a line is no answer.
            if read == 0 || !line.ends_with('\n') {
                return Err(Trouble::Unanswered(format!("the node went away during `{what}`")));
            }
            let mut answer: Value = serde_json::from_str(&line)
                .map_err(|error| Trouble::Unanswered(format!("`{what}` was answered with no JSON: {error}")))?;
            if let Some(message) = answer["error"]["message"].as_str() {
                return Err(Trouble::Refused(message.to_owned()));
            }
            // What is neither is an item, or the node's first line.
            if answer.get("ok").is_some() {
                return Ok(answer["ok"].take());
            }
        }
    }

    /// Makes one change of `edits`, returns the heads after it; it may not be on disk yet.
    #[track_caller]
    pub fn edit(&mut self, document: &str, edits: Value) -> Vec<String> {
        let arguments = json!({ "document": document, "edits": edits, "saved": false });
        let answer = self.ask("doc-edit", arguments).unwrap_or_else(|error| panic!("an edit failed: {error}"));
        strings(&answer["heads"])
    }

    /// The document's heads and what is at `path`.
    pub fn get(&mut self, document: &str, path: &str) -> Result<(Vec<String>, Value), String> {
        let mut answer = self.ask("doc-get", json!({ "document": document, "path": path }))?;
        Ok((strings(&answer["heads"]), answer["value"].take()))
    }
}

/// The strings of a JSON list.
pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
