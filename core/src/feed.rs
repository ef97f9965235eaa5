//! The feed as a stream: which document changed, in order, from any position on, also across restarts.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::vec;

use anabranch_engine::limits::FEED_PAGE_MAX;
use anabranch_engine::{Command, Reply};
use futures::Stream;

use crate::peer::unexpected;
use crate::replica::Answer;
use crate::{CommandError, Event, Events, FeedRow, ParseIdError, Peer, StorageId};

/// A position in the feed of one store: after the row with this seq. Its text is `STORAGE:SEQ`, with the store's id in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedPosition {
    /// The store. One that was salvaged, or made again, is another one, and so is that of any other replica.
    pub storage: StorageId,
    /// The seq of the last row before the position; 0 is the beginning.
    pub seq: u64,
}

impl FeedPosition {
    /// The beginning of the same feed.
    #[must_use]
    pub fn beginning(self) -> Self {
        Self { seq: 0, ..self }
    }
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.storage, self.seq)
    }
}

/// A text is not a position in a feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePositionError {
    /// It has no colon, or no whole number after it.
    #[error("a position in the feed is STORAGE:SEQ, where SEQ is a whole number")]
    Form,
    /// What is before the colon is not the id of a store.
    #[error("a position in the feed is STORAGE:SEQ: {0}")]
    Storage(#[from] ParseIdError),
}

impl FromStr for FeedPosition {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let (storage, seq) = text.split_once(':').ok_or(ParsePositionError::Form)?;
        let seq = seq.parse().map_err(|_| ParsePositionError::Form)?;
        Ok(Self { storage: storage.parse()?, seq })
    }
}

/// The feed cannot be followed from a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The feed is not that long. So it is after a store was replaced by an older copy of itself.
    #[error("the feed ends at {last}, which is before the position {asked}: follow it from its beginning")]
    Beyond {
        /// The position that was asked for.
        asked: u64,
        /// The last seq there is.
        last: u64,
    },
    /// The position is one in the feed of another store.
    #[error("the position is one in the feed of store {asked}, this is store {here}: follow it from its beginning")]
    OtherStore {
        /// The store of the position.
        asked: StorageId,
        /// The store here.
        here: StorageId,
    },
    /// The replica has stopped. The text says why.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// The rows of a replica's feed after a position, oldest first, and then each new one when it is on disk. Made by
/// [`Peer::feed`].
///
/// Their seqs grow, with gaps. A document has one row, which moves to the end when the document changes: a reader that was away
/// gets each document that changed meanwhile once, with its latest heads. Whoever stores [`Feed::position`] with what it made
/// of the rows misses none and gets none twice, whatever happens to either process.
///
/// A slow reader costs at most [`crate::limits::FEED_PAGE_MAX`] rows and 1,024 events of memory, and loses nothing. The stream
/// ends when the replica does ([`Peer::stopped`] says why); until then it keeps the replica open. An error does not end it: polled
/// again, it tries again from where it is.
///
/// ```
/// # futures::executor::block_on(async {
/// use anabranch::{FeedPosition, Peer};
/// use futures::StreamExt as _;
///
/// let peer = Peer::builder().open().await?;
/// let notes = peer.create_space("notes").await?;
/// let page = notes.create_document().await?;
/// page.edit(|edit| edit.set("/title", "Groceries"))?;
///
/// // Read the position that was stored last, or begin at the beginning.
/// let stored: Option<String> = None;
/// let after = match stored {
///     Some(text) => text.parse::<FeedPosition>()?,
///     None => peer.feed_end().beginning(),
/// };
/// let mut feed = peer.feed(after)?;
/// while let Some(row) = feed.next().await {
///     let row = row?;
///     println!("document {} is at {:?}", row.document, row.heads);
///     let stored = feed.position().to_string(); // to be kept with what was made of the row
/// #   assert!(stored.ends_with(&row.seq.to_string())); break;
/// }
/// # peer.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct Feed {
    peer: Peer,
    events: Events,
    position: FeedPosition,
    /// Rows that were read and not given yet.
    page: vec::IntoIter<FeedRow>,
    /// There may be rows after the page.
    is_behind: bool,
    reading: Option<Answer>,
    has_ended: bool,
}

impl Feed {
    pub(crate) fn new(peer: &Peer, after: FeedPosition) -> Result<Self, FeedError> {
        // Before anything is read, so that nothing falls between the two.
        let events = peer.events();
        let here = peer.feed_end();
        if after.storage != here.storage {
            return Err(FeedError::OtherStore { asked: after.storage, here: here.storage });
        }
        let last = peer.replica().ask(|engine| engine.feed_end());
        let last = last.ok_or_else(|| FeedError::Stopped(peer.stopped().unwrap_or_default()))?;
        if after.seq > last {
            return Err(FeedError::Beyond { asked: after.seq, last });
        }
        let page = Vec::new().into_iter();
        let is_behind = after.seq < last;
        Ok(Self { peer: peer.clone(), events, position: after, page, is_behind, reading: None, has_ended: false })
    }

    /// The position after the last row that was given. [`Peer::feed`] goes on exactly there.
    pub fn position(&self) -> FeedPosition {
        self.position
    }

    /// Asks for the next page, if that was not done yet, and takes its rows when they come.
    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CommandError>> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                let command = Command::ReadFeed { after: self.position.seq, limit: FEED_PAGE_MAX };
                self.reading.insert(self.peer.replica().command(command)?)
            }
        };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let rows = match read? {
            Reply::Feed(rows) => rows,
            other => return Poll::Ready(Err(unexpected(&other))),
        };
        // What comes after a page that is not full is announced by an event.
        self.is_behind = rows.len() >= FEED_PAGE_MAX;
        self.page = rows.into_iter();
        Poll::Ready(Ok(()))
    }
}

impl Stream for Feed {
    type Item = Result<FeedRow, CommandError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.has_ended {
                return Poll::Ready(None);
            }
            if let Some(row) = this.page.next() {
                this.position.seq = row.seq;
                return Poll::Ready(Some(Ok(row)));
            }
            if this.is_behind {
                match ready!(this.poll_page(cx)) {
                    Ok(()) => {}
                    Err(CommandError::Stopped(_)) => this.has_ended = true,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
                continue;
            }
            match ready!(Pin::new(&mut this.events).poll_next(cx)) {
                Some(Ok(Event::FeedGrew { seq })) => this.is_behind = seq > this.position.seq,
                Some(Ok(_)) => {}
                // What was lost may have said that the feed has grown.
                Some(Err(_lagged)) => this.is_behind = true,
                None => this.has_ended = true,
            }
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("position", &self.position).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_read_as_it_was_written() {
        let position = FeedPosition { storage: StorageId([0xab; StorageId::LEN]), seq: 17 };
        assert_eq!(position.to_string(), format!("{}:17", "ab".repeat(StorageId::LEN)));
        assert_eq!(position.to_string().parse(), Ok(position));
        assert_eq!(position.beginning().seq, 0);
    }

    #[test]
    fn position_that_is_malformed_is_refused_with_its_form() {
        for text in
            ["", "17", ":17", "ab:17", "abababababababababababababababab:", "abababababababababababababababab:-1"]
        {
            let error = text.parse::<FeedPosition>().unwrap_err();
            assert!(error.to_string().contains("STORAGE:SEQ"), "{text}: {error}");
        }
    }
}
