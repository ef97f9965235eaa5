//! The command's end of the socket: one request, its answer. What is asked and printed is the command's business.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::directory::Directory;
use crate::time_limit::TimeLimit;
use anabranch_api::{Code, Command, Failure, Hello, LINE_BYTES_MAX, Line, Side, encode};

/// What a node that waits for something, up to a time that it was given, gets to say that it did not come.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// What one gets that has to close the replica and open it again under another key.
pub(crate) const RENEWAL_GRACE: Duration = Duration::from_secs(30);

/// A connection to the running node.
pub(crate) struct Client {
    reader: BufReader<UnixStream>,
    /// What the node has said of itself.
    node: Option<Hello>,
    time_limit: Option<TimeLimit>,
}

impl Client {
    /// Connects to the node that runs on `directory`.
    pub(crate) fn connect(directory: &Directory) -> Result<Self, Failure> {
        let reader = BufReader::with_capacity(64 * 1024, directory.connect()?);
        Ok(Self { reader, node: None, time_limit: directory.time_limit() })
    }

    /// The same for a stream of requests, which ends by itself when its time is over.
    pub(crate) fn for_stream(directory: &Directory) -> Result<Self, Failure> {
        Ok(Self { time_limit: None, ..Self::connect(directory)? })
    }

    /// Asks, and returns the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, command: &Command) -> Result<T, Failure> {
        let last = self.ask_many(command, |_: Value| Ok(()))?;
        serde_json::from_value(last).map_err(|error| self.unreadable(&error))
    }

    /// Asks with a text that follows the request, and returns the answer.
    pub(crate) fn ask_with<T: DeserializeOwned>(&mut self, command: &Command, text: &[u8]) -> Result<T, Failure> {
        let last = self.request(command, text, |_: Value| Ok(()))?;
        serde_json::from_value(last).map_err(|error| self.unreadable(&error))
    }

    /// Asks, hands each item to `each` as it comes, and returns what came last.
    pub(crate) fn ask_many<T: DeserializeOwned>(
        &mut self,
        command: &Command,
        each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        self.request(command, &[], each)
    }

    fn request<T: DeserializeOwned>(
        &mut self,
        command: &Command,
        text: &[u8],
        each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        let line = self.line(command)?;
        let allowed = self.allowed(command);
        self.grant(allowed)?;
        // Where not all of it can be sent, the answer says why (a node of another version takes nothing), or that there is none.
        let _sent = self.reader.get_mut().write_all(&line).and_then(|()| self.reader.get_mut().write_all(text));
        self.answer(allowed, each)
    }

    /// A request, and in front of the first which version this is.
    fn line(&self, command: &Command) -> Result<Vec<u8>, Failure> {
        let mut line = if self.node.is_some() { Vec::new() } else { Hello::ours().line().into_bytes() };
        line.extend(encode(command)?);
        line.push(b'\n');
        Ok(line)
    }

    fn answer<T: DeserializeOwned>(
        &mut self,
        allowed: Allowed,
        mut each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        let mut line = Vec::new();
        if self.node.is_none() {
            self.read(&mut line, allowed)?;
            self.node = Some(Hello::check(&line, Side::Node)?);
        }
        loop {
            self.read(&mut line, allowed)?;
            match serde_json::from_slice::<Line>(&line).map_err(|error| self.unreadable(&error))? {
                Line::Item(item) => each(serde_json::from_value(item).map_err(|error| self.unreadable(&error))?)?,
                Line::Ok(last) => return Ok(last),
                Line::Error(failure) => return Err(failure),
            }
        }
    }

    /// The next line of the node.
    fn read(&mut self, line: &mut Vec<u8>, allowed: Allowed) -> Result<(), Failure> {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        self.grant(allowed)?;
        let read = (&mut self.reader).take(limit).read_until(b'\n', line);
        let bytes = read.map_err(|error| allowed.lost(&error))?;
        match line.last() {
            Some(b'\n') => Ok(()),
            _ if bytes as u64 == limit => {
                Err(Failure::failed(format!("the node's answer is over {LINE_BYTES_MAX} bytes")))
            }
            // Also in the middle of a line.
            _ => Err(Failure::new(Code::Unreachable, "the node ended before it answered")),
        }
    }

    fn unreadable(&self, error: &serde_json::Error) -> Failure {
        let version = self.node.as_ref().map(|node| format!(" (it is anabranch {})", node.version)).unwrap_or_default();
        Failure::failed(format!("the node's answer{version} cannot be read: {error}"))
    }

    /// What a request may take.
    fn allowed(&self, command: &Command) -> Allowed {
        Allowed(match command {
            // These have their time from the command line already, and the node knows why it was not enough.
            Command::IdRenew { timeout_ms, .. } => {
                let limit = self.time_limit.unwrap_or_else(|| TimeLimit::begin(Duration::from_millis(*timeout_ms)));
                Some(limit.with_grace(RENEWAL_GRACE))
            }
            Command::SpaceJoin { timeout_ms, .. }
            | Command::WaitSynced { timeout_ms, .. }
            | Command::PeerDial { timeout_ms, .. } => {
                let limit = self.time_limit.unwrap_or_else(|| TimeLimit::begin(Duration::from_millis(*timeout_ms)));
                Some(limit.with_grace(GRACE))
            }
            _ => self.time_limit,
        })
    }

    /// Lets the next reads and writes take what is left of a request's time.
    fn grant(&self, allowed: Allowed) -> Result<(), Failure> {
        let Some(limit) = allowed.0 else { return Ok(()) };
        let left = limit.left().ok_or_else(|| limit.unanswered())?;
        let stream = self.reader.get_ref();
        stream
            .set_read_timeout(Some(left))
            .and_then(|()| stream.set_write_timeout(Some(left)))
            .map_err(|error| allowed.lost(&error))
    }
}

/// The time that a request may take.
#[derive(Clone, Copy)]
struct Allowed(Option<TimeLimit>);

impl Allowed {
    fn lost(self, error: &std::io::Error) -> Failure {
        use std::io::ErrorKind as Kind;
        match (error.kind(), self.0) {
            (Kind::WouldBlock | Kind::TimedOut, Some(limit)) => limit.unanswered(),
            (Kind::ConnectionReset | Kind::BrokenPipe, _) => {
                Failure::new(Code::Unreachable, format!("the node ended before it answered: {error}"))
            }
            _ => Failure::failed(format!("lost the connection to the node: {error}")),
        }
    }
}
