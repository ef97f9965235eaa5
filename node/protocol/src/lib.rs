//! What commands and the running node say to each other: a line of JSON each way. Who carries it is `client` and `control`.
//!
//! A request is `{"v":1,"do":"doc-get",..}`. It is answered by any number of `{"item":..}` lines and then one of
//! `{"ok":..}` and `{"error":{"exit":"not-found","message":".."}}`. Requests on one connection are answered in order.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// The version in every request. A node refuses others.
pub(crate) const VERSION: u32 = 1;

/// One line, either way, its end not counted.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Pieces of text in an export are about this long.
pub(crate) const EXPORT_PIECE_BYTES: usize = 1024 * 1024;

/// What a command asks of the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Answered with [`Identity`].
    Id,
    /// Answered with [`Status`].
    Status,
    /// Items are [`PeerLine`]s.
    Peers,
    /// Answered with [`SpaceLine`].
    SpaceCreate { name: String },
    /// Items are [`SpaceLine`]s.
    SpaceList,
    /// Answered with [`Invitation`].
    SpaceInvite { space: Option<String>, role: String, uses: u32, addresses: Vec<String> },
    /// Answered with [`SpaceLine`].
    SpaceJoin { ticket: String, timeout_ms: u64 },
    /// Answered with [`SpaceLine`], as it was.
    SpaceLeave { space: String },
    /// Items are [`MemberLine`]s.
    SpaceMembers { space: Option<String> },
    /// Answered with [`Edited`].
    DocNew { space: Option<String>, name: Option<String> },
    /// Items are [`DocumentLine`]s.
    DocList { space: Option<String> },
    /// Answered with [`Got`].
    DocGet {
        #[serde(flatten)]
        which: Which,
        path: String,
        #[serde(default)]
        at: Vec<String>,
    },
    /// Items are [`Acknowledged`] if `each`; answered with [`Edited`].
    DocEdit {
        #[serde(flatten)]
        which: Which,
        edits: Vec<EditStep>,
        /// A change for each edit, else one for all.
        #[serde(default)]
        each: bool,
        /// Answer when on disk, else when applied.
        saved: bool,
        /// Line number of each edit, for error texts, where they came as lines.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<u64>,
    },
    /// Answered with [`Edited`].
    DocImport {
        space: Option<String>,
        /// `None`: a new one.
        document: Option<String>,
        name: Option<String>,
        value: Value,
    },
    /// Items are strings: JSON text in pieces. Answered with [`Exported`].
    DocExport {
        #[serde(flatten)]
        which: Which,
        #[serde(default)]
        at: Vec<String>,
    },
    /// Items are [`ChangeLine`]s.
    DocLog {
        #[serde(flatten)]
        which: Which,
    },
    /// Items are [`ConflictLine`]s.
    DocConflicts {
        #[serde(flatten)]
        which: Which,
        path: Option<String>,
    },
    /// Items are [`ChangedLine`]s if a document is named, else [`FeedLine`]s. Ends with the connection.
    Watch { space: Option<String>, document: Option<String>, since: Option<u64> },
    /// Items are [`SyncedLine`]s, one for each space, as they come true.
    WaitSynced { space: Option<String>, peer: Option<String>, timeout_ms: u64 },
}

/// A document: `DOC` with its space beside it, or `SPACE/DOC`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Which {
    pub(crate) space: Option<String>,
    pub(crate) document: String,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum EditStep {
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

/// Who this replica is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) device: String,
    pub(crate) peer_id: String,
    pub(crate) storage: String,
    pub(crate) epoch: u64,
}

/// Everything about a replica at once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) identity: Identity,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) directory: String,
    pub(crate) listening: Vec<String>,
    /// Why it takes no more edits.
    pub(crate) stopped: Option<String>,
    pub(crate) feed_seq: u64,
    pub(crate) spaces: Vec<SpaceLine>,
    pub(crate) peers: Vec<PeerLine>,
    pub(crate) counters: CounterValues,
}

/// What was counted since the node started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CounterValues {
    pub(crate) frames_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) frames_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) data_messages_out: u64,
    pub(crate) runs_accepted: u64,
    pub(crate) runs_refused: u64,
    pub(crate) runs_known: u64,
    pub(crate) runs_waited: u64,
    pub(crate) orphans_evicted: u64,
    pub(crate) reconciliations: u64,
    pub(crate) stalls: u64,
    pub(crate) hints_out: u64,
    pub(crate) commits: u64,
}

/// One space.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpaceLine {
    pub(crate) space: String,
    /// `None` while joining.
    pub(crate) name: Option<String>,
    /// `None` while joining.
    pub(crate) role: Option<String>,
    pub(crate) documents: usize,
    pub(crate) root: String,
    pub(crate) read_only: Option<String>,
    pub(crate) peers: Vec<SpacePeer>,
}

/// A connected member of a space.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpacePeer {
    pub(crate) device: String,
    pub(crate) in_sync: bool,
}

/// One peer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PeerLine {
    /// `None`: addresses at which nobody has answered yet.
    pub(crate) device: Option<String>,
    pub(crate) connected: bool,
    pub(crate) addresses: Vec<String>,
    /// The spaces shared in this session.
    pub(crate) spaces: Vec<String>,
    /// In all of them, as of the last comparison.
    pub(crate) in_sync: bool,
    pub(crate) last_failure: Option<String>,
}

/// One member.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    pub(crate) device: String,
    pub(crate) role: String,
    /// It is this replica's own device.
    pub(crate) this_device: bool,
}

/// A ticket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Invitation {
    pub(crate) space: String,
    pub(crate) role: String,
    pub(crate) uses: u32,
    pub(crate) addresses: Vec<String>,
    pub(crate) ticket: String,
}

/// One document in a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DocumentLine {
    pub(crate) space: String,
    pub(crate) document: String,
    pub(crate) name: Option<String>,
    pub(crate) heads: Vec<String>,
}

/// A value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Got {
    pub(crate) space: String,
    pub(crate) document: String,
    pub(crate) heads: Vec<String>,
    pub(crate) value: Value,
}

/// An edit that was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Edited {
    pub(crate) space: String,
    pub(crate) document: String,
    pub(crate) heads: Vec<String>,
    pub(crate) edits: u64,
    pub(crate) changes: u64,
    /// It is on disk.
    pub(crate) saved: bool,
}

/// One edit of several was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    pub(crate) line: u64,
    pub(crate) heads: Vec<String>,
    pub(crate) saved: bool,
}

/// The end of an export.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exported {
    pub(crate) space: String,
    pub(crate) document: String,
    pub(crate) heads: Vec<String>,
    pub(crate) bytes: u64,
}

/// One change of a history.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeLine {
    pub(crate) hash: String,
    pub(crate) actor: String,
    pub(crate) device: Option<String>,
    pub(crate) seq: u64,
    /// Seconds since 1970, as the author's clock said.
    pub(crate) wall_s: i64,
    pub(crate) deps: Vec<String>,
    pub(crate) ops: u64,
}

/// A place with concurrent values.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConflictLine {
    pub(crate) path: String,
    /// The one that reads return comes first.
    pub(crate) values: Vec<ConflictValue>,
}

/// One of the concurrent values.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConflictValue {
    pub(crate) value: Value,
    pub(crate) actor: String,
    pub(crate) device: Option<String>,
}

/// A document changed, as the feed has it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FeedLine {
    pub(crate) seq: u64,
    pub(crate) space: String,
    pub(crate) document: String,
    pub(crate) heads: Vec<String>,
}

/// How a document changed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangedLine {
    pub(crate) document: String,
    pub(crate) patches: Vec<Value>,
    pub(crate) heads: Vec<String>,
}

/// A space's roots were compared and equal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SyncedLine {
    pub(crate) space: String,
    pub(crate) name: Option<String>,
    pub(crate) root: String,
    /// Who was found in sync.
    pub(crate) peers: Vec<String>,
}

/// One line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line<T = Value> {
    /// One of several things; more follows.
    Item(T),
    /// Done; nothing follows.
    Ok(T),
    /// Failed; nothing follows.
    Error { exit: Exit, message: String },
}

#[derive(Serialize)]
struct Outgoing<'a> {
    v: u32,
    #[serde(flatten)]
    command: &'a Command,
}

#[derive(Deserialize)]
struct Incoming {
    v: Option<u32>,
    #[serde(rename = "do")]
    command: Option<String>,
}

/// A request's line, without its end.
pub(crate) fn encode(command: &Command) -> Result<Vec<u8>, Failure> {
    let line = serde_json::to_vec(&Outgoing { v: VERSION, command })
        .map_err(|error| Failure::error(format!("cannot write the request: {error}")))?;
    if line.len() > LINE_BYTES_MAX {
        return Err(Failure::usage(format!("the request is {} bytes, limit {LINE_BYTES_MAX}", line.len())));
    }
    Ok(line)
}

/// Reads a request's line.
pub(crate) fn decode(line: &[u8]) -> Result<Command, Failure> {
    let malformed = |error: serde_json::Error| Failure::usage(format!("malformed request: {error}"));
    let incoming: Incoming = serde_json::from_slice(line).map_err(malformed)?;
    match (incoming.v, incoming.command) {
        (Some(VERSION), Some(_)) => serde_json::from_slice(line).map_err(malformed),
        (Some(VERSION), None) => Err(Failure::usage("malformed request: it has no `do`")),
        (Some(other), _) => Err(Failure::usage(format!(
            "the request is of version {other}, this node speaks version {VERSION}: use the `anabranch` that the node was started from",
        ))),
        (None, _) => Err(Failure::usage("malformed request: it has no version `v`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_as_it_was() {
        let which = Which { space: Some("work".into()), document: "plan".into() };
        let edits = vec![
            EditStep::Set { path: "/a".into(), value: serde_json::json!({"b": [1, 2.5, null]}) },
            EditStep::Splice { path: "/t".into(), pos: 3, del: 0, ins: "ü".into() },
        ];
        let command = Command::DocEdit { which, edits, each: true, saved: true, lines: vec![4, 6] };
        assert_eq!(decode(&encode(&command).unwrap()).unwrap(), command);
        assert_eq!(decode(&encode(&Command::Id).unwrap()).unwrap(), Command::Id);
    }

    #[test]
    fn an_unknown_command_is_named_with_those_there_are() {
        let failure = decode(br#"{"v":1,"do":"doc-fold"}"#).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("unknown variant `doc-fold`, expected one of `id`"), "{failure}");
    }

    #[test]
    fn another_version_is_refused_by_number() {
        let failure = decode(br#"{"v":7,"do":"id"}"#).unwrap_err();
        assert!(failure.message.contains("version 7, this node speaks version 1"), "{failure}");
        assert!(decode(br#"{"do":"id"}"#).unwrap_err().message.contains("no version"));
        assert!(decode(br#"{"v":1}"#).unwrap_err().message.contains("no `do`"));
        assert!(decode(b"hello").unwrap_err().message.contains("malformed request"));
    }

    #[test]
    fn a_misspelt_field_of_an_edit_is_refused() {
        let error =
            serde_json::from_str::<EditStep>(r#"{"op":"splice","path":"/t","pos":1,"insert":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `insert`"), "{error}");
    }
}
