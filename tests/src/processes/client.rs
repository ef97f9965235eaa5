//! One client of one node, as a program that talks to it would be: it goes on after the node was killed, stopped or cut off.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::processes::socket::{Socket, Trouble};

/// An answer that has not come by then does not come any more.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The client.
pub struct Client {
    node: usize,
    directory: PathBuf,
    /// A connection, and the life of the node that it is with.
    open: Option<(Socket, u64)>,
}

impl Client {
    /// A client of the node on a directory, which need not run.
    pub fn new(node: usize, directory: &Path) -> Self {
        Self { node, directory: directory.to_path_buf(), open: None }
    }

    /// Which node.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Asks, on a new connection where there is none, and returns the answer with the life of the node that gave it.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn ask(&mut self, what: &str, arguments: Value) -> Result<(Value, u64), Trouble> {
        let (mut socket, life) = match self.open.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let answer = socket.request(what, arguments);
        if matches!(answer, Ok(_) | Err(Trouble::Refused(_))) {
            self.open = Some((socket, life));
        }
        Ok((answer?, life))
    }

    fn connect(&self) -> Result<(Socket, u64), Trouble> {
        let mut socket = Socket::open(&self.directory, ANSWER_MAX)?;
        // Nothing was asked for yet, so nothing came of it.
        let id = socket.request("id", json!({})).map_err(|trouble| Trouble::Unsent(trouble.to_string()))?;
        Ok((socket, id["epoch"].as_u64().unwrap_or_default()))
    }
}
