//! The node's end of the socket: takes connections, reads requests, hands each to the room that answers it.
//!
//! Whoever can open the socket is the owner of the replica (its mode is 0600, its directory's 0700), so there is no further
//! authentication; the limits are there against mistakes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch::{Document, Peer};
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::failure::Failure;
use anabranch_protocol::{self as protocol, Command, LINE_BYTES_MAX, Line};

mod documents;
mod edits;
mod import;
mod names;
mod peers;
mod spaces;
mod status;
mod watch;

/// Commands served at once.
const CONNECTIONS_MAX: usize = 64;

/// The node, as commands see it.
#[derive(Clone)]
pub(crate) struct Control {
    peer: Peer,
    directory: PathBuf,
    names: Arc<names::Names>,
}

/// One command's connection.
struct Connection {
    control: Control,
    reader: BufReader<OwnedReadHalf>,
    answers: Answers,
    /// The document of the last request, kept open for the next one.
    open: Option<Document>,
}

/// Where answers go.
struct Answers {
    writer: BufWriter<OwnedWriteHalf>,
}

/// A line read from a connection.
enum Read {
    Line(Vec<u8>),
    TooLong,
    End,
}

impl Control {
    pub(crate) fn new(peer: Peer, directory: &Path) -> Self {
        Self { peer, directory: directory.to_path_buf(), names: Arc::default() }
    }

    /// Answers commands until the socket fails.
    pub(crate) async fn serve(self, listener: std::os::unix::net::UnixListener) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| Failure::error(format!("the control socket failed: {error}"));
        let listener = UnixListener::from_std(listener).map_err(cannot)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let (stream, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                // A command that gave up early, or no file descriptors left: neither ends the node.
                Err(error) => {
                    warn!(%error, "cannot take a command");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let control = self.clone();
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    tokio::spawn(async move {
                        if let Err(error) = Connection::new(control, stream).serve().await {
                            debug!(%error, "a command went away");
                        }
                        drop(place);
                    });
                }
                Err(_) => {
                    let failure = Failure::error(format!(
                        "{CONNECTIONS_MAX} commands are running, limit {CONNECTIONS_MAX}: try again"
                    ));
                    tokio::spawn(
                        async move { Connection::new(control, stream).answers.last(&Err::<(), _>(failure)).await },
                    );
                }
            }
        }
    }
}

impl Connection {
    fn new(control: Control, stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let answers = Answers { writer: BufWriter::new(writer) };
        Self { control, reader: BufReader::with_capacity(64 * 1024, reader), answers, open: None }
    }

    async fn serve(mut self) -> std::io::Result<()> {
        loop {
            let line = match read_line(&mut self.reader, LINE_BYTES_MAX).await? {
                Read::Line(line) => line,
                Read::TooLong => {
                    let failure =
                        Failure::usage(format!("the request is over {LINE_BYTES_MAX} bytes, the limit of a line"));
                    return self.answers.last(&Err::<(), _>(failure)).await;
                }
                Read::End => return Ok(()),
            };
            match protocol::decode(&line) {
                Ok(command) => {
                    drop(line);
                    self.answer(command).await?;
                }
                Err(malformed) => self.answers.last(&Err::<(), _>(malformed.into())).await?,
            }
        }
    }

    /// Answers one request. Fails when the command went away.
    async fn answer(&mut self, command: Command) -> std::io::Result<()> {
        let Self { control, reader, answers, open } = self;
        match command {
            Command::Id => answers.last(&Ok(control.identity())).await,
            Command::Status => answers.last(&Ok(control.status())).await,
            Command::Peers => answers.list(Ok(control.peer_lines())).await,
            Command::PeerDial { address, timeout_ms } => {
                let result = unless_gone(reader, control.dial(&address, timeout_ms)).await?;
                answers.last(&result).await
            }
            Command::PeerForget { peer } => answers.last(&control.forget(&peer).await).await,
            Command::SpaceCreate { name } => answers.last(&control.create_space(&name).await).await,
            Command::SpaceList => answers.list(Ok(control.space_lines())).await,
            Command::SpaceInvite { space, role, uses, addresses } => {
                answers.last(&control.invite(space.as_deref(), &role, uses, addresses).await).await
            }
            Command::SpaceJoin { ticket, timeout_ms } => {
                let result = unless_gone(reader, control.join(&ticket, timeout_ms)).await?;
                answers.last(&result).await
            }
            Command::SpaceLeave { space } => {
                *open = None;
                answers.last(&control.leave(&space).await).await
            }
            Command::SpaceMembers { space } => answers.list(control.members(space.as_deref())).await,
            Command::DocNew { space, name } => {
                answers.last(&control.new_document(space.as_deref(), name.as_deref()).await).await
            }
            Command::DocList { space } => answers.list(control.document_lines(space.as_deref()).await).await,
            Command::DocGet { which, path, at } => answers.last(&control.get(open, &which, path, &at).await).await,
            Command::DocEdit { which, edits, each, saved, lines } => {
                let order = edits::Order { edits, each, saved, lines };
                let result = control.edit(open, &which, order, answers).await?;
                answers.last(&result).await
            }
            Command::DocImport { space, document, name, value } => {
                answers.last(&control.import(space.as_deref(), document.as_deref(), name, value).await).await
            }
            Command::DocExport { which, at } => match control.export(open, &which, &at).await {
                Ok((pieces, exported)) => {
                    for piece in pieces {
                        answers.item(&piece).await?;
                    }
                    answers.last(&Ok(exported)).await
                }
                Err(failure) => answers.last(&Err::<(), _>(failure)).await,
            },
            Command::DocLog { which } => answers.list(control.log(open, &which).await).await,
            Command::DocConflicts { which, path } => answers.list(control.conflicts(open, &which, path).await).await,
            Command::Watch { space, document, since } => {
                let watching = control.watch(space.as_deref(), document.as_deref(), since, answers);
                let result = unless_gone(reader, watching).await??;
                answers.last(&result).await
            }
            Command::WaitSynced { space, peer, timeout_ms } => {
                let waiting = control.wait_synced(space.as_deref(), peer.as_deref(), timeout_ms, answers);
                let result = unless_gone(reader, waiting).await??;
                answers.last(&result).await
            }
        }
    }
}

impl Answers {
    /// One of several things, on its way when the buffer is full.
    async fn item(&mut self, item: &impl Serialize) -> std::io::Result<()> {
        self.line(&Line::Item(item)).await
    }

    /// One of several things, at once.
    async fn item_now(&mut self, item: &impl Serialize) -> std::io::Result<()> {
        self.item(item).await?;
        self.writer.flush().await
    }

    /// The end of an answer.
    async fn last(&mut self, result: &Result<impl Serialize, Failure>) -> std::io::Result<()> {
        match result {
            Ok(value) => self.line(&Line::Ok(value)).await?,
            Err(failure) => self.failure(failure).await?,
        }
        self.writer.flush().await
    }

    /// Items, and the end.
    async fn list(&mut self, result: Result<Vec<impl Serialize>, Failure>) -> std::io::Result<()> {
        match result {
            Ok(items) => {
                for item in &items {
                    self.item(item).await?;
                }
                self.last(&Ok(serde_json::json!({ "items": items.len() }))).await
            }
            Err(failure) => self.last(&Err::<(), _>(failure)).await,
        }
    }

    async fn line(&mut self, line: &Line<impl Serialize>) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        if bytes.len() > LINE_BYTES_MAX {
            let failure = Failure::error(format!(
                "the answer is {} bytes, limit {LINE_BYTES_MAX}: ask for a part of it with a path, or use `doc export`",
                bytes.len(),
            ));
            return self.failure(&failure).await;
        }
        bytes.push(b'\n');
        self.writer.write_all(&bytes).await
    }

    async fn failure(&mut self, failure: &Failure) -> std::io::Result<()> {
        let line: Line<()> = Line::Error { exit: failure.exit, message: failure.message.clone() };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        self.writer.write_all(&bytes).await
    }
}

/// Waits for `work`, and gives it up when the command goes away. Requests that came meanwhile stay where they are.
async fn unless_gone<T>(reader: &mut BufReader<OwnedReadHalf>, work: impl Future<Output = T>) -> std::io::Result<T> {
    let gone = async {
        match reader.fill_buf().await {
            Ok([]) => {}
            Ok(_) => std::future::pending().await,
            Err(_) => {}
        }
    };
    tokio::select! {
        done = work => Ok(done),
        () = gone => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Reads up to the end of a line, at most `bytes_max`, the end not counted.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), bytes_max: usize) -> std::io::Result<Read> {
    let mut line = Vec::new();
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            // A line without an end is half a request: whoever sent it is gone.
            return Ok(Read::End);
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        if line.len() + piece.len() > bytes_max {
            return Ok(Read::TooLong);
        }
        line.extend_from_slice(piece);
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Read::Line(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8], bytes_max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match futures::executor::block_on(read_line(&mut bytes, bytes_max)).unwrap() {
                Read::Line(line) => lines.push(String::from_utf8(line).unwrap()),
                Read::TooLong => lines.push("too long".to_owned()),
                Read::End => return lines,
            }
            if lines.last().is_some_and(|line| line == "too long") {
                return lines;
            }
        }
    }

    #[test]
    fn lines_end_at_their_end_and_at_their_limit() {
        assert_eq!(read(b"a\n\nbcd\nhalf", 10), ["a", "", "bcd"]);
        assert_eq!(read(b"1234\n12345\n", 4), ["1234", "too long"]);
    }
}
