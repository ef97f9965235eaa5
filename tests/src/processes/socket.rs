//! A node's control socket, spoken directly: for tests that ask so often that a process for each question is too slow.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::processes::patience::PATIENCE;

/// One connection.
pub struct Socket {
    reader: BufReader<UnixStream>,
}

impl Socket {
    /// Connects to the node on a directory.
    pub fn connect(directory: &Path) -> Self {
        let path = directory.join("node.sock");
        let stream = UnixStream::connect(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
        Self { reader: BufReader::new(stream) }
    }

    /// Asks; `Err` is what the node says went wrong.
    pub fn ask(&mut self, what: &str, mut arguments: Value) -> Result<Value, String> {
        arguments["v"] = json!(1);
        arguments["do"] = json!(what);
        let line = format!("{arguments}\n");
        self.reader.get_mut().write_all(line.as_bytes()).map_err(|error| format!("cannot ask `{what}`: {error}"))?;
        loop {
            let mut line = String::new();
            let bytes = self.reader.read_line(&mut line).map_err(|error| format!("no answer to `{what}`: {error}"))?;
            if bytes == 0 {
                return Err(format!("the node went away during `{what}`"));
            }
            let mut answer: Value =
                serde_json::from_str(&line).map_err(|error| format!("`{what}` was answered with no JSON: {error}"))?;
            if let Some(message) = answer["error"]["message"].as_str() {
                return Err(message.to_owned());
            }
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
