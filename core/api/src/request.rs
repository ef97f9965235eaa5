//! What a command asks of a node, and the edits in it.
#![expect(
    missing_docs,
    reason = "a field is called what its JSON key is; where that does not say it all, it has a line"
)]

use anabranch_engine::document::import::{Import, Kinds, Rules};
use anabranch_engine::document::{self, Edit, EditError, TypedError, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A document's root key that is its name. What is put in place of the whole document leaves it if it has none itself.
pub const NAME_KEY: &str = "name";

/// What a command asks of the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Command {
    /// Answered with [`Identity`](crate::Identity).
    Id,
    /// Names this device; an empty name takes its name away. Answered with [`Identity`](crate::Identity).
    IdName { name: String },
    /// Gives the replica another key, after it was tried for so long to bring what it has to other members. The node starts
    /// again under the new key, and every other connection ends. Answered with [`Renewed`](crate::Renewed).
    IdRenew {
        timeout_ms: u64,
        /// Even if a space is left without an admin.
        #[serde(default)]
        force: bool,
    },
    /// Answered with [`Status`](crate::Status).
    Status,
    /// Items are [`PeerLine`](crate::PeerLine)s.
    Peers,
    /// Answered with [`PeerLine`](crate::PeerLine) once there is a session with who answers there.
    PeerDial { address: String, timeout_ms: u64 },
    /// A device, or an address that was given. Answered with [`Forgotten`](crate::Forgotten).
    PeerForget { peer: String },
    /// Nothing to do with a device from now on. Answered with [`PeerLine`](crate::PeerLine).
    PeerBlock { peer: String },
    /// Takes a block back. Answered with [`PeerLine`](crate::PeerLine).
    PeerUnblock { peer: String },
    /// Answered with [`SpaceLine`](crate::SpaceLine).
    SpaceCreate {
        name: String,
        /// Even if the name is taken.
        #[serde(default)]
        force: bool,
    },
    /// Items are [`SpaceLine`](crate::SpaceLine)s.
    SpaceList,
    /// Answered with [`Invitation`](crate::Invitation).
    SpaceInvite { space: Option<String>, role: String, uses: u32, addresses: Vec<String> },
    /// Answered with [`Joined`](crate::Joined).
    SpaceJoin { ticket: String, timeout_ms: u64 },
    /// Answered with [`SpaceLine`](crate::SpaceLine), as it was. Refused where something would be lost, unless `force`.
    SpaceLeave {
        space: String,
        #[serde(default)]
        force: bool,
    },
    /// As an admin, says that a membership entry has no authority. Answered with [`SpaceLine`](crate::SpaceLine).
    SpaceVoid { space: Option<String>, entry: String },
    /// Items are [`MemberLine`](crate::MemberLine)s.
    SpaceMembers {
        space: Option<String>,
        /// With what each has cost: all that is stored of the space is read for it.
        #[serde(default)]
        usage: bool,
    },
    /// Answered with [`Edited`](crate::Edited).
    DocNew {
        space: Option<String>,
        name: Option<String>,
        /// Even if the name is taken.
        #[serde(default)]
        force: bool,
    },
    /// A document for each name that is not empty; none if one of them cannot be given when this begins. Where one is taken later,
    /// or something else fails, those that were made stay. Items are [`Edited`](crate::Edited)s, in the
    /// order of the names, each when it is saved.
    DocNewNamed {
        space: Option<String>,
        names: Vec<String>,
        /// Even if names are taken.
        #[serde(default)]
        force: bool,
    },
    /// Answered with [`Edited`](crate::Edited).
    DocRename {
        #[serde(flatten)]
        which: Which,
        name: String,
        /// Even if the name is taken.
        #[serde(default)]
        force: bool,
    },
    /// Items are [`DocumentLine`](crate::DocumentLine)s.
    DocList {
        space: Option<String>,
        /// Only those whose names it fits, with `*` and `?`; without either, whose names it is part of.
        #[serde(default)]
        pattern: Option<String>,
        #[serde(default)]
        sort: Sort,
    },
    /// Answered with [`Got`](crate::Got).
    DocGet {
        #[serde(flatten)]
        which: Which,
        path: String,
        #[serde(default)]
        at: Vec<String>,
        /// The value comes as typed JSON.
        #[serde(default)]
        typed: bool,
    },
    /// Items are [`Acknowledged`](crate::Acknowledged) if `each`; answered with [`Edited`](crate::Edited).
    DocEdit {
        #[serde(flatten)]
        which: Which,
        edits: Vec<EditStep>,
        /// A change for each edit, else one for all.
        #[serde(default)]
        each: bool,
        /// Answer when on disk, else when applied.
        saved: bool,
        /// How the values in the edits are meant.
        #[serde(flatten)]
        reading: Reading,
        /// Line number of each edit, for error texts, where they came as lines.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<u64>,
    },
    /// Followed by that many bytes of JSON text in UTF-8. Answered with [`Imported`](crate::Imported).
    DocImport {
        space: Option<String>,
        /// As in [`Which`].
        #[serde(default)]
        default_space: Option<String>,
        /// `None`: a new one.
        document: Option<String>,
        name: Option<String>,
        /// Even if the name is taken.
        #[serde(default)]
        force: bool,
        bytes: usize,
        #[serde(flatten)]
        reading: Reading,
        /// Put in place of what is there, else what differs is written.
        #[serde(default)]
        replace: bool,
        /// Say what would be done, and do not.
        #[serde(default)]
        check: bool,
    },
    /// What makes a document read as it did at an earlier version. Answered with [`Imported`](crate::Imported).
    DocRevert {
        #[serde(flatten)]
        which: Which,
        to: Vec<String>,
    },
    /// Items are strings: JSON text in pieces. Answered with [`Exported`](crate::Exported).
    DocExport {
        #[serde(flatten)]
        which: Which,
        #[serde(default)]
        at: Vec<String>,
        /// As typed JSON.
        #[serde(default)]
        typed: bool,
    },
    /// Items are [`ChangeLine`](crate::ChangeLine)s.
    DocLog {
        #[serde(flatten)]
        which: Which,
        /// Only so many of the last.
        #[serde(default)]
        last: Option<u64>,
        /// With what each changed.
        #[serde(default)]
        patches: bool,
        /// The newest first.
        #[serde(default)]
        reverse: bool,
    },
    /// Answered with [`ChangedLine`](crate::ChangedLine). `to` empty: as it is now.
    DocDiff {
        #[serde(flatten)]
        which: Which,
        from: Vec<String>,
        #[serde(default)]
        to: Vec<String>,
        /// Texts of several lines come line by line too.
        #[serde(default)]
        texts: bool,
    },
    /// Items are [`ConflictLine`](crate::ConflictLine)s.
    DocConflicts {
        #[serde(flatten)]
        which: Which,
        path: Option<String>,
    },
    /// One value becomes the only one where there are several. Answered with [`Resolved`](crate::Resolved).
    DocResolve {
        #[serde(flatten)]
        which: Which,
        /// `None`: all of the document.
        path: Option<String>,
        take: Take,
        /// How a value is meant that takes the place of all.
        #[serde(flatten)]
        reading: Reading,
    },
    /// Items are [`ChangedLine`](crate::ChangedLine)s if a document is named, else [`FeedLine`](crate::FeedLine)s. Ends with the connection.
    Watch {
        space: Option<String>,
        /// As in [`Which`].
        #[serde(default)]
        default_space: Option<String>,
        document: Option<String>,
        /// The feed is followed from here on. `None`: from now on.
        #[serde(default)]
        since: Option<Since>,
    },
    /// Items are [`SyncedLine`](crate::SyncedLine)s, one for each space, as they come true.
    WaitSynced { space: Option<String>, peer: Option<String>, timeout_ms: u64 },
}

/// A document: `DOC` with its space beside it, or `SPACE/DOC`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Which {
    pub space: Option<String>,
    /// The space of a document that is said without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_space: Option<String>,
    pub document: String,
}

/// A position in the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Since {
    /// After this seq, whichever store it is of.
    Seq(u64),
    /// A [`FeedLine::position`](crate::FeedLine::position), which is of one store.
    Position(String),
}

/// How JSON is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// It is typed JSON, else plain.
    #[serde(default)]
    pub typed: bool,
    #[serde(default)]
    pub strings: Strings,
}

/// What JSON strings become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strings {
    /// Texts, which several people may edit at once.
    #[default]
    Text,
    /// Plain strings, which are replaced as a whole.
    Plain,
}

impl Reading {
    /// Reads JSON text in UTF-8.
    ///
    /// # Errors
    /// It is not JSON, no typed JSON where that is asked for, or has something that no document holds.
    pub fn parse(self, text: &[u8]) -> Result<document::Value, String> {
        let value = document::Value::parse(text, self.strings.into()).map_err(|error| error.to_string())?;
        if self.typed { value.untagged().map_err(|error| error.to_string()) } else { Ok(value) }
    }

    /// A value of JSON that was parsed.
    ///
    /// # Errors
    /// It is no typed JSON where that is asked for.
    pub fn value(self, json: &Value) -> Result<document::Value, TypedError> {
        let value = document::Value::from_json(json.clone(), self.strings.into());
        if self.typed { value.untagged() } else { Ok(value) }
    }
}

impl From<Strings> for document::Strings {
    fn from(strings: Strings) -> Self {
        match strings {
            Strings::Text => Self::Text,
            Strings::Plain => Self::Plain,
        }
    }
}

/// Which of several values becomes the only one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// The one that is shown. Lost edits are given up.
    Shown,
    /// The one that this device has set.
    Mine,
    /// The last one by the clocks of those who set them.
    Newest,
    /// What a lost edit said, in place of what is there.
    Lost,
    /// That of the conflict's values, counted from 1.
    Number(u64),
    /// Another one. Lost edits are given up.
    Value(Value),
}

/// The order of a list of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    #[default]
    Id,
    /// Those without a name come last.
    Name,
    /// The largest first.
    Size,
    /// The last changed first.
    Changed,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EditStep {
    /// Put a value where a path says, in place of what is there.
    Set { path: String, value: Value },
    /// Put a value into a list, in front of the index at the end of the path; `-` is the end of the list.
    Insert { path: String, value: Value },
    /// Take a value away.
    Remove { path: String },
    /// Make a counter.
    Counter { path: String, value: i64 },
    /// Add to a counter.
    Increment { path: String, by: i64 },
    /// In a text, at a position in Unicode code points, delete so many of them and put others there.
    Splice {
        path: String,
        pos: usize,
        #[serde(default)]
        del: usize,
        #[serde(default)]
        ins: String,
    },
    /// Make a text say this, by the least change.
    Text { path: String, text: String },
    /// A point in time, in milliseconds since 1970.
    Timestamp { path: String, ms: i64 },
}

impl EditStep {
    /// Makes this edit.
    ///
    /// # Errors
    /// As the method of [`Edit`] that it is.
    pub fn apply(&self, edit: &mut Edit<'_>, reading: Reading) -> Result<(), EditError> {
        match self {
            Self::Set { path, value } if path.is_empty() => edit.merge(path, reading.value(value)?, WHOLE),
            Self::Set { path, value } => edit.set(path, reading.value(value)?),
            Self::Insert { path, value } => edit.insert(path, reading.value(value)?),
            Self::Remove { path } => edit.remove(path),
            Self::Counter { path, value } => edit.set_counter(path, *value),
            Self::Increment { path, by } => edit.increment(path, *by),
            Self::Splice { path, pos, del, ins } => edit.splice_text(path, *pos, *del, ins),
            Self::Text { path, text } => edit.update_text(path, text),
            Self::Timestamp { path, ms } => edit.set_timestamp(path, *ms),
        }
    }

    /// The same in pieces that each fit into one change, whatever its size; `None` for what is one operation.
    ///
    /// # Errors
    /// As [`Import::new`].
    pub fn in_pieces(&self, view: &View<'_>, reading: Reading) -> Result<Option<Import>, EditError> {
        Ok(Some(match self {
            Self::Set { path, value } if path.ends_with("/-") => Import::insertion(view, path, reading.value(value)?)?,
            Self::Set { path, value } => Import::new(view, path, reading.value(value)?, WHOLE)?,
            Self::Insert { path, value } => Import::insertion(view, path, reading.value(value)?)?,
            Self::Text { path, text } => Import::of_text(view, path, text.clone())?,
            Self::Splice { path, pos, del, ins } => Import::of_splice(view, path, *pos, *del, ins.clone())?,
            Self::Remove { .. } | Self::Counter { .. } | Self::Increment { .. } | Self::Timestamp { .. } => {
                return Ok(None);
            }
        }))
    }

    /// About how many bytes it puts in.
    pub fn weight(&self) -> usize {
        match self {
            Self::Set { value, .. } | Self::Insert { value, .. } => weight(value),
            Self::Text { text, .. } => text.len(),
            Self::Splice { del, ins, .. } => del.saturating_add(ins.len()),
            Self::Remove { .. } | Self::Counter { .. } | Self::Increment { .. } | Self::Timestamp { .. } => 8,
        }
    }
}

/// `set` puts a value in place of what is there, but for the name of a document that is set as a whole.
const WHOLE: Rules<'_> = Rules { replace: true, kinds: Kinds::Keep, kept: Some(NAME_KEY) };

fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 8,
        Value::Array(items) => 8 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) => 8 + members.iter().map(|(key, member)| key.len() + weight(member)).sum::<usize>(),
    }
}
