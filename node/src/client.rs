//! The command's end of the socket: one request, its answer. What is asked and printed is the command's business.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::directory::Directory;
use crate::failure::Failure;
use anabranch_protocol::{self as protocol, Command, LINE_BYTES_MAX, Line};

/// A connection to the running node.
pub(crate) struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the node that runs on `directory`.
    pub(crate) fn connect(directory: &Directory) -> Result<Self, Failure> {
        Ok(Self { reader: BufReader::with_capacity(64 * 1024, directory.connect()?) })
    }

    /// Asks, and returns the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, command: &Command) -> Result<T, Failure> {
        let last = self.ask_many(command, |_: Value| Ok(()))?;
        serde_json::from_value(last).map_err(unreadable)
    }

    /// Asks, hands each item to `each` as it comes, and returns what came last.
    pub(crate) fn ask_many<T: DeserializeOwned>(
        &mut self,
        command: &Command,
        mut each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        let mut line = protocol::encode(command)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line).map_err(lost)?;
        loop {
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            let bytes = (&mut self.reader).take(limit).read_until(b'\n', &mut line).map_err(lost)?;
            if bytes == 0 {
                return Err(Failure::error("the node went away before it answered: is it still running?"));
            }
            if line.last() != Some(&b'\n') && bytes as u64 == limit {
                return Err(Failure::error(format!("the node's answer is over {LINE_BYTES_MAX} bytes")));
            }
            match serde_json::from_slice::<Line>(&line).map_err(unreadable)? {
                Line::Item(item) => each(serde_json::from_value(item).map_err(unreadable)?)?,
                Line::Ok(last) => return Ok(last),
                Line::Error { exit, message } => return Err(Failure::new(exit, message)),
            }
        }
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::error(format!("lost the connection to the node: {error}"))
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::error(format!("the node's answer cannot be read ({error}): is it of another version than this command?"))
}
