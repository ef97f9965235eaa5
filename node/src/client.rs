//! The command's end of the socket: one request, its answer. What is asked and printed is the command's business.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::directory::Directory;
use crate::failure::Failure;
use anabranch_protocol::{self as protocol, Command, Exit, LINE_BYTES_MAX, Line};

/// What a node that waits for something, up to a time that it was given, gets to say that it did not come.
const GRACE: Duration = Duration::from_secs(5);

/// A connection to the running node.
pub(crate) struct Client {
    reader: BufReader<UnixStream>,
    time_limit: Option<Duration>,
}

impl Client {
    /// Connects to the node that runs on `directory`.
    pub(crate) fn connect(directory: &Directory) -> Result<Self, Failure> {
        let reader = BufReader::with_capacity(64 * 1024, directory.connect()?);
        Ok(Self { reader, time_limit: directory.time_limit() })
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
        let time_limit = match command {
            // These have their time from the command line already, and the node knows why it was not enough.
            Command::SpaceJoin { timeout_ms, .. } | Command::WaitSynced { timeout_ms, .. } => {
                Some(Duration::from_millis(*timeout_ms) + GRACE)
            }
            _ => self.time_limit,
        };
        #[expect(clippy::disallowed_methods, reason = "a person's time limit decides nothing that replicas agree on")]
        let begun = Instant::now();
        self.allow(begun, time_limit)?;
        self.reader.get_mut().write_all(&line).map_err(|error| lost(&error, time_limit))?;
        loop {
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            self.allow(begun, time_limit)?;
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut line);
            let bytes = read.map_err(|error| lost(&error, time_limit))?;
            if bytes == 0 {
                return Err(Failure::new(Exit::NoNode, "the node ended before it answered"));
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

    /// Lets the next reads and writes take what is left of a request's time.
    fn allow(&self, begun: Instant, time_limit: Option<Duration>) -> Result<(), Failure> {
        let Some(limit) = time_limit else { return Ok(()) };
        let left = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        let left = left.ok_or_else(|| too_late(limit))?;
        let stream = self.reader.get_ref();
        stream
            .set_read_timeout(Some(left))
            .and_then(|()| stream.set_write_timeout(Some(left)))
            .map_err(|error| lost(&error, time_limit))
    }
}

fn lost(error: &std::io::Error, time_limit: Option<Duration>) -> Failure {
    use std::io::ErrorKind as Kind;
    match (error.kind(), time_limit) {
        (Kind::WouldBlock | Kind::TimedOut, Some(limit)) => too_late(limit),
        (Kind::ConnectionReset | Kind::BrokenPipe, _) => {
            Failure::new(Exit::NoNode, format!("the node ended before it answered: {error}"))
        }
        _ => Failure::error(format!("lost the connection to the node: {error}")),
    }
}

fn too_late(limit: Duration) -> Failure {
    Failure::timed_out(format!(
        "the node has not answered within {} s; what was asked may still be done",
        limit.as_secs_f64()
    ))
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::error(format!("the node's answer cannot be read ({error}): is it of another version than this command?"))
}
