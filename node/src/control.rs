//! The socket: one carrier of the service. Takes connections, reads requests, finds each a place, and writes the answers.
//!
//! Whoever can open the socket is the owner of the replica (its mode is 0600, its directory's 0700), so there is no further
//! authentication; the limits are there against mistakes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use anabranch::Peer;
use futures::StreamExt as _;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};
use tracing::{debug, warn};

use crate::control::process::Process;
use crate::failure::of_a_node_that_ends;
use anabranch_api::{
    self as api, Caller, Code, Command, Content, Conversation, Failure, HELLO_BYTES_MAX, Hello, LINE_BYTES_MAX, Line,
    Service, Side, check_import_bytes,
};

mod process;

pub(crate) use process::{Renewal, renewal_answer};

/// Connections at once. Further ones get an error.
const CONNECTIONS_MAX: usize = 512;
/// Connections that stay: they follow or wait for something, or ask a second time. Well below `CONNECTIONS_MAX`, so that a
/// short command always gets a place.
const STAYING_MAX: usize = 256;
/// Requests worked on at once, others wait. What looks at no document does not count: `status` never waits.
const WORKING_MAX: usize = 64;
/// Answers of requests that were worked on, and that their readers do not take. What is in them stays in memory.
const STALLED_MAX: usize = 32;
/// A reader that takes nothing for so long is one of those.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// A text that follows a request is given up when none of it has come for so long.
const TEXT_PROGRESS_WITHIN: Duration = Duration::from_secs(60);
/// A new connection that asks nothing for so long counts among those that stay.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// The rest of a line comes without such a pause, or not at all.
const LINE_PROGRESS_WITHIN: Duration = Duration::from_secs(10);
/// A request that is no longer than this needs no room among those that are coming: all connections together, 32 MiB.
const SHORT_BYTES: usize = 64 * 1024;
/// Memory for longer requests that have not come whole, and for texts that follow one. More wait for their turn.
const COMING_KIB_MAX: usize = 256 * 1024;

/// The node, as commands see it.
#[derive(Clone)]
pub(crate) struct Control {
    service: Service,
    places: Arc<Places>,
    /// The node was asked to end.
    is_closing: Arc<AtomicBool>,
}

/// What commands share.
struct Places {
    connections: Arc<Semaphore>,
    staying: Arc<Semaphore>,
    working: Arc<Semaphore>,
    stalled: Arc<Semaphore>,
    /// For KiB of requests that have not come whole.
    coming: Arc<Semaphore>,
}

/// What a request takes of what is shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Share {
    /// Next to nothing.
    Look,
    /// Work on documents or on the disk.
    Work,
    /// A place for as long as it likes.
    Stay,
}

/// One command's connection.
struct Connection {
    control: Control,
    reader: BufReader<OwnedReadHalf>,
    answers: Answers,
    conversation: Conversation,
    /// Its place among those that stay.
    staying: Option<OwnedSemaphorePermit>,
}

/// Where answers go.
struct Answers {
    writer: BufWriter<OwnedWriteHalf>,
    /// The request's place among those that are worked on, or that nobody reads.
    place: Option<OwnedSemaphorePermit>,
    stalled: Arc<Semaphore>,
    is_closing: Arc<AtomicBool>,
}

/// A line read from a connection.
enum Read {
    Line(Vec<u8>),
    TooLong,
    /// It began, and does not go on.
    Stalled,
    End,
}

impl Control {
    pub(crate) fn new(
        peer: Peer,
        directory: &Path,
        renewals: mpsc::Sender<Renewal>,
        is_closing: Arc<AtomicBool>,
    ) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            service: Service::new(peer, Process { directory: directory.to_path_buf(), renewals }),
            places: Arc::new(Places {
                connections: places(CONNECTIONS_MAX),
                staying: places(STAYING_MAX),
                working: places(WORKING_MAX),
                stalled: places(STALLED_MAX),
                coming: places(COMING_KIB_MAX),
            }),
            is_closing,
        }
    }

    /// From now on the node is about to end.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    fn place_to_stay(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let place = Arc::clone(&self.places.staying).try_acquire_owned();
        place.map_err(|_| full("commands follow or wait for something", STAYING_MAX))
    }

    /// Answers commands until the socket fails.
    pub(crate) async fn serve(self, listener: std::os::unix::net::UnixListener) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| Failure::failed(format!("the control socket failed: {error}"));
        let listener = UnixListener::from_std(listener).map_err(cannot)?;
        let mut has_failed = false;
        loop {
            let (stream, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                // A command that gave up early, or no file descriptors left: neither ends the node.
                Err(error) => {
                    if !has_failed {
                        warn!(%error, "cannot take commands for now");
                    }
                    has_failed = true;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            has_failed = false;
            let mut connection = Connection::new(self.clone(), stream);
            match Arc::clone(&self.places.connections).try_acquire_owned() {
                Ok(place) => {
                    tokio::spawn(async move {
                        if let Err(error) = connection.serve().await {
                            debug!(%error, "a command went away");
                        }
                        drop(place);
                    });
                }
                Err(_) => {
                    let failure = full("commands are connected", CONNECTIONS_MAX);
                    tokio::spawn(async move {
                        connection.answers.hello().await?;
                        connection.answers.fail(failure).await
                    });
                }
            }
        }
    }
}

fn full(what: &str, limit: usize) -> Failure {
    Failure::new(Code::Full, format!("{limit} {what}, limit {limit}: end some of them, or try again later"))
}

/// What a request takes.
fn share(command: &Command) -> Share {
    match command {
        Command::Id
        | Command::Status
        | Command::Peers
        | Command::SpaceList
        | Command::SpaceMembers { usage: false, .. } => Share::Look,
        Command::SpaceCreate { .. }
        | Command::SpaceInvite { .. }
        | Command::SpaceLeave { .. }
        | Command::SpaceVoid { .. }
        | Command::SpaceMembers { usage: true, .. }
        | Command::DocNew { .. }
        | Command::DocNewNamed { .. }
        | Command::DocRename { .. }
        | Command::DocList { .. }
        | Command::DocGet { .. }
        | Command::DocEdit { .. }
        | Command::DocImport { .. }
        | Command::DocRevert { .. }
        | Command::DocExport { .. }
        | Command::DocLog { .. }
        | Command::DocDiff { .. }
        | Command::DocConflicts { .. }
        | Command::DocResolve { .. }
        | Command::PeerForget { .. }
        | Command::PeerBlock { .. }
        | Command::PeerUnblock { .. }
        | Command::IdName { .. } => Share::Work,
        Command::IdRenew { .. }
        | Command::SpaceJoin { .. }
        | Command::PeerDial { .. }
        | Command::Watch { .. }
        | Command::WaitSynced { .. } => Share::Stay,
    }
}

impl Connection {
    fn new(control: Control, stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let stalled = Arc::clone(&control.places.stalled);
        let is_closing = Arc::clone(&control.is_closing);
        let answers = Answers { writer: BufWriter::new(writer), place: None, stalled, is_closing };
        let reader = BufReader::with_capacity(64 * 1024, reader);
        let conversation = control.service.converse(Caller::Owner);
        Self { control, reader, answers, conversation, staying: None }
    }

    async fn serve(&mut self) -> std::io::Result<()> {
        let Some(mut read) = self.first().await? else { return Ok(()) };
        loop {
            let line = match read {
                Read::Line(line) => line,
                Read::TooLong => {
                    let failure =
                        Failure::usage(format!("the request is over {LINE_BYTES_MAX} bytes, the limit of a line"));
                    return self.answers.fail(failure).await;
                }
                Read::Stalled => {
                    let seconds = LINE_PROGRESS_WITHIN.as_secs();
                    let failure = Failure::timed_out(format!("nothing more of the request has come for {seconds} s"));
                    return self.answers.fail(failure).await;
                }
                Read::End => return Ok(()),
            };
            match api::decode(&line) {
                Ok(command) => {
                    drop(line);
                    self.admit(command).await?;
                }
                Err(malformed) => self.answers.fail(malformed.into()).await?,
            }
            // Most have got what they came for. Whoever asks again has a place of those that stay.
            read = read_line(&mut self.reader, LINE_BYTES_MAX, &self.control.places.coming).await?;
            if matches!(read, Read::Line(_))
                && let Err(failure) = self.stay()
            {
                return self.answers.fail(failure).await;
            }
        }
    }

    /// The first request, after each side has said who it is, the command first: one of a version without that line is to read an
    /// error as its first line. Nothing if there is no place for it to stay, or if it speaks another version.
    async fn first(&mut self) -> std::io::Result<Option<Read>> {
        let first = match self.first_line(HELLO_BYTES_MAX).await? {
            Ok(Read::Line(line)) => line,
            // It is none, whatever it is.
            Ok(Read::TooLong) => Vec::new(),
            Ok(read @ (Read::Stalled | Read::End)) => {
                self.answers.hello().await?;
                return Ok(Some(read));
            }
            Err(failure) => {
                self.answers.hello().await?;
                return self.answers.fail(failure).await.map(|()| None);
            }
        };
        let checked = Hello::check(&first, Side::Command);
        if let Err(failure) = &checked
            && !Hello::is_in(&first)
        {
            self.answers.write(Hello::answer_without(failure).as_bytes()).await?;
            return self.answers.flush().await.map(|()| None);
        }
        self.answers.hello().await?;
        let read = match checked {
            Ok(_) => self.first_line(LINE_BYTES_MAX).await?,
            Err(failure) => Err(failure),
        };
        match read {
            Ok(read) => Ok(Some(read)),
            Err(failure) => self.answers.fail(failure).await.map(|()| None),
        }
    }

    /// A line before the first answer. It may come late, as that of a stream of edits does, if there is a place to stay.
    async fn first_line(&mut self, bytes_max: usize) -> std::io::Result<Result<Read, Failure>> {
        let Self { control, reader, staying, .. } = self;
        let mut reading = std::pin::pin!(read_line(reader, bytes_max, &control.places.coming));
        if staying.is_none() {
            if let Ok(read) = tokio::time::timeout(FIRST_REQUEST_WITHIN, reading.as_mut()).await {
                return read.map(Ok);
            }
            match control.place_to_stay() {
                Ok(place) => *staying = Some(place),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        reading.await.map(Ok)
    }

    /// Answers one request, when there is a place for it.
    async fn admit(&mut self, command: Command) -> std::io::Result<()> {
        // Before it takes a place: others work while it comes.
        let text = match command {
            Command::DocImport { bytes, .. } => self.text(bytes).await?,
            _ => Vec::new(),
        };
        match share(&command) {
            Share::Look => self.answer(command, text, Share::Look).await,
            Share::Work => {
                let working = Arc::clone(&self.control.places.working);
                // The semaphore is never closed, and without a place nothing is lost but a bound.
                self.answers.place = unless_gone(&mut self.reader, working.acquire_owned()).await?.ok();
                let answered = self.answer(command, text, Share::Work).await;
                self.answers.place = None;
                answered
            }
            Share::Stay => match self.stay() {
                Ok(()) => self.answer(command, text, Share::Stay).await,
                Err(failure) => self.answers.fail(failure).await,
            },
        }
    }

    /// The text that follows a request. Where it does not come, or is too long, the connection ends with the reason: what
    /// follows would be taken for requests.
    async fn text(&mut self, bytes: usize) -> std::io::Result<Vec<u8>> {
        let (failure, error) = if let Err(failure) = check_import_bytes(bytes) {
            (failure, std::io::ErrorKind::InvalidData.into())
        } else {
            let _room = room_for(&self.control.places.coming, bytes).await?;
            match read_text(&mut self.reader, bytes).await {
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    let seconds = TEXT_PROGRESS_WITHIN.as_secs();
                    (Failure::timed_out(format!("nothing more of the JSON has come for {seconds} s")), error)
                }
                read => return read,
            }
        };
        self.answers.fail(failure).await?;
        Err(error)
    }

    /// Takes a place among those that stay.
    fn stay(&mut self) -> Result<(), Failure> {
        if self.staying.is_none() {
            self.staying = Some(self.control.place_to_stay()?);
        }
        Ok(())
    }

    /// Answers one request, which `text` followed. Fails when the command went away: what waits is given up then.
    async fn answer(&mut self, command: Command, text: Vec<u8>, share: Share) -> std::io::Result<()> {
        let Self { reader, answers, conversation, .. } = self;
        let mut answer = conversation.call(command, text);
        loop {
            let line = match futures::poll!(answer.next()) {
                Poll::Ready(line) => line,
                Poll::Pending => {
                    answers.flush().await?;
                    match share {
                        Share::Stay => unless_gone(reader, answer.next()).await?,
                        Share::Look | Share::Work => answer.next().await,
                    }
                }
            };
            match line {
                Some(Line::Error(failure)) => answers.failure(failure).await?,
                Some(line) => answers.line(&line).await?,
                None => return answers.flush().await,
            }
        }
    }
}

impl Answers {
    /// Which node this is.
    async fn hello(&mut self) -> std::io::Result<()> {
        self.write(Hello::ours().line().as_bytes()).await?;
        self.flush().await
    }

    /// The end of an answer that cannot be given.
    async fn fail(&mut self, failure: Failure) -> std::io::Result<()> {
        self.failure(failure).await?;
        self.flush().await
    }

    async fn line(&mut self, line: &Line<Content>) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        if bytes.len() > LINE_BYTES_MAX {
            let text = format!(
                "the answer is {} bytes, limit {LINE_BYTES_MAX}: ask for a part of it with a path, or use `doc export`",
                bytes.len(),
            );
            return self.failure(Failure::new(Code::TooLarge, text)).await;
        }
        bytes.push(b'\n');
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Self { writer, place, stalled, .. } = self;
        unless_stalled(place, stalled, writer.write_all(bytes)).await
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        let Self { writer, place, stalled, .. } = self;
        unless_stalled(place, stalled, writer.flush()).await
    }

    async fn failure(&mut self, failure: Failure) -> std::io::Result<()> {
        let is_closing = self.is_closing.load(Ordering::Relaxed);
        let failure = if is_closing { of_a_node_that_ends(failure) } else { failure };
        let mut bytes = serde_json::to_vec(&Line::<()>::Error(failure))?;
        bytes.push(b'\n');
        self.write(&bytes).await
    }
}

/// Writes. Where the reader takes nothing, the place among those that are worked on is given back for one among those that nobody
/// reads; where there is none the connection ends.
async fn unless_stalled(
    place: &mut Option<OwnedSemaphorePermit>,
    stalled: &Arc<Semaphore>,
    writing: impl Future<Output = std::io::Result<()>>,
) -> std::io::Result<()> {
    let mut writing = std::pin::pin!(writing);
    if let Ok(written) = tokio::time::timeout(STALLED_AFTER, writing.as_mut()).await {
        return written;
    }
    // Whoever stays has a place of its own.
    if let Some(held) = place
        && !Arc::ptr_eq(held.semaphore(), stalled)
    {
        let unread = Arc::clone(stalled).try_acquire_owned();
        *place = Some(unread.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionAborted))?);
    }
    writing.await
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

/// Reads so many bytes, with memory for those that have come.
async fn read_text(reader: &mut (impl AsyncBufRead + Unpin), bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < bytes {
        let buffer = tokio::time::timeout(TEXT_PROGRESS_WITHIN, reader.fill_buf()).await??;
        if buffer.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let piece = &buffer[..buffer.len().min(bytes - text.len())];
        text.extend_from_slice(piece);
        let used = piece.len();
        reader.consume(used);
    }
    Ok(text)
}

/// Reads up to the end of a line, at most `bytes_max`, the end not counted. A long one has room first, of the largest size, so that nobody waits for more while they hold some.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
    coming: &Semaphore,
) -> std::io::Result<Read> {
    let mut line = Vec::new();
    let mut room = None;
    loop {
        let buffer = if line.is_empty() {
            reader.fill_buf().await?
        } else {
            match tokio::time::timeout(LINE_PROGRESS_WITHIN, reader.fill_buf()).await {
                Ok(buffer) => buffer?,
                Err(_) => return Ok(Read::Stalled),
            }
        };
        if buffer.is_empty() {
            // A line without an end is half a request: whoever sent it is gone.
            return Ok(Read::End);
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        if line.len() + piece.len() > bytes_max {
            return Ok(Read::TooLong);
        }
        if line.len() + piece.len() > SHORT_BYTES && room.is_none() {
            room = Some(room_for(coming, bytes_max).await?);
        }
        line.extend_from_slice(piece);
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Read::Line(line));
        }
    }
}

/// Waits until so many bytes more may come.
async fn room_for(coming: &Semaphore, bytes: usize) -> std::io::Result<SemaphorePermit<'_>> {
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    coming.acquire_many(kib).await.map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8], bytes_max: usize) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let coming = Semaphore::new(COMING_KIB_MAX);
        let mut lines = Vec::new();
        loop {
            match runtime.block_on(read_line(&mut bytes, bytes_max, &coming)).unwrap() {
                Read::Line(line) => lines.push(String::from_utf8(line).unwrap()),
                Read::TooLong => lines.push("too long".to_owned()),
                Read::End | Read::Stalled => return lines,
            }
            if lines.last().is_some_and(|line| line == "too long") {
                return lines;
            }
        }
    }

    #[test]
    fn text_is_as_long_as_was_announced_or_none() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut bytes: &[u8] = b"{\"a\":1}\nnext";
        assert_eq!(runtime.block_on(read_text(&mut bytes, 7)).unwrap(), b"{\"a\":1}");
        assert_eq!(bytes, b"\nnext");
        let failure = runtime.block_on(read_text(&mut bytes, usize::MAX)).unwrap_err();
        assert_eq!(failure.kind(), std::io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn lines_end_at_their_end_and_at_their_limit() {
        assert_eq!(read(b"a\n\nbcd\nhalf", 10), ["a", "", "bcd"]);
        assert_eq!(read(b"1234\n12345\n", 4), ["1234", "too long"]);
    }
}
