//! What a node answers: the objects in its lines.
#![expect(
    missing_docs,
    reason = "a field is called what its JSON key is; where that does not say it all, it has a line"
)]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;

/// One line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line<T = Value> {
    /// One of several things; more follows.
    Item(T),
    /// Done; nothing follows.
    Ok(T),
    /// Failed; nothing follows.
    Error(Failure),
}

macro_rules! contents {
    ($($name:ident)*) => {
        /// What a line holds. Which of these, follows from the request: [`Command`](crate::Command) says it.
        #[derive(Debug, Serialize)]
        #[serde(untagged)]
        pub enum Content {
            $($name(Box<$name>),)*
            /// A piece of JSON text.
            Text(String),
        }

        $(impl From<$name> for Content {
            fn from(content: $name) -> Self {
                Self::$name(Box::new(content))
            }
        })*
    };
}

contents! {
    Acknowledged ChangeLine ChangedLine ConflictLine Count DocumentLine Edited Exported FeedLine Forgotten Got Identity Imported
    Invitation Joined MemberLine PeerLine Renewed Resolved SpaceLine Status SyncedLine
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The end of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Count {
    pub items: usize,
}

/// Who this replica is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Identity {
    pub device: String,
    /// What it is called.
    #[serde(default)]
    pub name: Option<String>,
    pub peer_id: String,
    pub storage: String,
    pub epoch: u64,
}

/// Everything about a replica at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub identity: Identity,
    pub version: String,
    /// Where it runs, if it is a process of its own.
    #[serde(flatten)]
    pub host: Option<HostLine>,
    pub listening: Vec<String>,
    /// Why it takes no more edits.
    pub stopped: Option<String>,
    /// Other processes act as this device.
    #[serde(default)]
    pub copied: Option<Copied>,
    pub feed_seq: u64,
    pub spaces: Vec<SpaceLine>,
    pub peers: Vec<PeerLine>,
    pub counters: CounterValues,
}

/// The process that a replica runs in.
#[derive(Debug, Serialize, Deserialize)]
pub struct HostLine {
    pub pid: u32,
    pub directory: String,
}

/// Several processes act as one device: its directory was copied.
#[derive(Debug, Serialize, Deserialize)]
pub struct Copied {
    /// At this moment, as far as can be seen.
    pub now: bool,
    /// When that was last seen, in seconds since 1970.
    pub last_s: i64,
}

/// A replica has another key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Renewed {
    pub device: String,
    /// The device that it was.
    pub former: String,
    /// Where the former key is kept.
    pub former_identity: String,
    /// Spaces that it needs a ticket for.
    pub spaces: Vec<RenewedSpace>,
}

/// A space of a replica that has another key.
#[derive(Debug, Serialize, Deserialize)]
pub struct RenewedSpace {
    pub space: String,
    pub name: String,
    /// Another member was found to hold everything, under the former key. `None` where no node was running to find out.
    pub held_elsewhere: Option<bool>,
}

/// What was counted since the node started.
#[derive(Debug, Serialize, Deserialize)]
pub struct CounterValues {
    pub frames_out: u64,
    pub bytes_out: u64,
    pub frames_in: u64,
    pub bytes_in: u64,
    pub data_messages_out: u64,
    pub runs_accepted: u64,
    pub runs_refused: u64,
    pub runs_known: u64,
    pub runs_waited: u64,
    pub orphans_evicted: u64,
    pub reconciliations: u64,
    pub stalls: u64,
    pub hints_out: u64,
    pub commits: u64,
}

/// One space.
#[derive(Debug, Serialize, Deserialize)]
pub struct SpaceLine {
    pub space: String,
    /// `None` while joining.
    pub name: Option<String>,
    /// `None` while joining.
    pub role: Option<String>,
    /// The device that this replica was before its key was renewed, until a member lets it in under the new one.
    #[serde(default)]
    pub former: Option<String>,
    /// Its key was renewed, and no ticket has come since.
    #[serde(default)]
    pub needs_ticket: bool,
    pub documents: usize,
    pub root: String,
    pub read_only: Option<String>,
    /// Documents that have two histories, of which each member can have one only.
    #[serde(default)]
    pub forked: Vec<ForkLine>,
    pub peers: Vec<SpacePeer>,
}

/// A document of which an actor has two different changes with one number.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForkLine {
    pub document: String,
    pub actor: String,
    /// The number.
    pub seq: u64,
    /// Both changes were here, signed; otherwise a peer says so.
    pub is_seen: bool,
}

/// A connected member of a space.
#[derive(Debug, Serialize, Deserialize)]
pub struct SpacePeer {
    pub device: String,
    pub in_sync: bool,
}

/// One peer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PeerLine {
    /// `None`: addresses at which nobody has answered yet.
    pub device: Option<String>,
    /// What it calls itself.
    #[serde(default)]
    pub name: Option<String>,
    pub connected: bool,
    /// It is blocked here.
    #[serde(default)]
    pub blocked: bool,
    /// Several processes act as this device.
    #[serde(default)]
    pub copied: Option<Copied>,
    pub addresses: Vec<String>,
    /// The spaces shared in this session.
    pub spaces: Vec<String>,
    /// In all of them, as of the last comparison.
    pub in_sync: bool,
    pub last_failure: Option<String>,
}

/// One member.
#[derive(Debug, Serialize, Deserialize)]
pub struct MemberLine {
    pub device: String,
    /// What it calls itself, once it was met.
    #[serde(default)]
    pub name: Option<String>,
    pub role: String,
    /// Who let it in; not of the founder.
    #[serde(default)]
    pub admitted_by: Option<String>,
    /// It is this replica's own device.
    pub this_device: bool,
    /// It is blocked here.
    #[serde(default)]
    pub blocked: bool,
    /// What it has cost this replica, where that was asked for.
    #[serde(default)]
    pub usage: Option<UsageValues>,
}

/// What a member has cost this replica. Bytes received, checks and refusals are those since the node was started, over all spaces
/// and whoever had written what it sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct UsageValues {
    /// Runs of its changes that are stored.
    pub runs: u64,
    pub run_bytes: u64,
    /// Entries of the membership log that it has signed.
    pub entries: u64,
    pub entry_bytes: u64,
    pub received_bytes: u64,
    pub checks: u64,
    pub refused: u64,
}

/// A ticket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Invitation {
    pub space: String,
    pub role: String,
    pub uses: u32,
    pub addresses: Vec<String>,
    /// Where this node can be reached too, and for which the ticket has no room.
    pub left_out: Vec<String>,
    pub ticket: String,
}

/// A space that was joined, or joined again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Joined {
    #[serde(flatten)]
    pub space: SpaceLine,
    /// The role before, of one who was a member already.
    pub was: Option<String>,
    /// The role that the ticket gives.
    pub ticket_role: String,
}

/// Addresses that are not remembered any more.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forgotten {
    /// Whose they were, if that is known.
    pub device: Option<String>,
    pub addresses: Vec<String>,
}

/// One document in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct DocumentLine {
    pub space: String,
    pub document: String,
    /// The string at `/name`, cut at 255 bytes.
    pub name: Option<String>,
    /// Bytes of its changes, as they are stored and sent.
    pub bytes: u64,
    /// Operations in it.
    pub ops: u64,
    /// When it was last changed, as its author's clock said: seconds since 1970.
    pub changed_s: i64,
    pub heads: Vec<String>,
    /// Why it cannot be read whole, if so.
    pub problem: Option<String>,
}

/// A value.
#[derive(Debug, Serialize, Deserialize)]
pub struct Got {
    pub space: String,
    pub document: String,
    pub heads: Vec<String>,
    pub value: Value,
}

/// An edit that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Edited {
    pub space: String,
    pub document: String,
    pub heads: Vec<String>,
    pub edits: u64,
    pub changes: u64,
    /// It is on disk.
    pub saved: bool,
}

/// A document was made to read as a file does, or as it did before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Imported {
    pub space: String,
    /// `None`: one that would be made.
    pub document: Option<String>,
    /// The version before.
    pub before: Vec<String>,
    pub heads: Vec<String>,
    pub operations: u64,
    /// Of values and keys.
    pub bytes: u64,
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    pub changes: u64,
    /// It is on disk; else it was only checked.
    pub saved: bool,
    /// The command that brings the version before back, if there was one and there is something to bring back.
    pub revert: Option<String>,
}

/// One edit of several was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Acknowledged {
    pub line: u64,
    pub heads: Vec<String>,
    pub saved: bool,
}

/// The end of an export.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exported {
    pub space: String,
    pub document: String,
    pub heads: Vec<String>,
    pub bytes: u64,
}

/// One change of a history.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeLine {
    pub hash: String,
    pub actor: String,
    pub device: Option<String>,
    /// What the device calls itself.
    #[serde(default)]
    pub device_name: Option<String>,
    pub seq: u64,
    /// Seconds since 1970, as the author's clock said.
    pub wall_s: i64,
    pub deps: Vec<String>,
    pub ops: u64,
    /// What it changed, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<Vec<Value>>,
}

/// A place with concurrent values; or one edit, the only value, that nobody sees because of what another did at the same time.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConflictLine {
    pub path: String,
    /// The one that reads return comes first.
    pub values: Vec<ConflictValue>,
    /// Who removed or replaced what the edit went into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_by: Option<ConflictWriter>,
}

/// One of the concurrent values.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConflictValue {
    pub value: Value,
    #[serde(flatten)]
    pub writer: ConflictWriter,
}

/// Who wrote it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConflictWriter {
    pub actor: String,
    pub device: Option<String>,
    /// What the device calls itself.
    #[serde(default)]
    pub device_name: Option<String>,
}

/// Conflicts that were resolved.
#[derive(Debug, Serialize, Deserialize)]
pub struct Resolved {
    #[serde(flatten)]
    pub edited: Edited,
    /// Places at which one value became the only one.
    pub conflicts: u64,
    /// Lost edits that were brought back or given up.
    pub lost: u64,
    /// Conflicts and lost edits that are still in the document.
    pub left: u64,
}

/// A document changed, as the feed has it.
#[derive(Debug, Serialize, Deserialize)]
pub struct FeedLine {
    pub seq: u64,
    /// A place to go on from, `STORAGE:SEQ`: where the store is another one meanwhile, that is noticed.
    pub position: String,
    pub space: String,
    pub document: String,
    pub name: Option<String>,
    /// When it was last changed, as its author's clock said: seconds since 1970.
    pub changed_s: i64,
    pub heads: Vec<String>,
}

/// Who made one of the changes that nothing depends on, and when.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeadLine {
    pub hash: String,
    pub device: Option<String>,
    /// What the device calls itself.
    #[serde(default)]
    pub device_name: Option<String>,
    /// Seconds since 1970, as the author's clock said.
    pub wall_s: i64,
}

/// How a document changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangedLine {
    pub document: String,
    pub patches: Vec<Value>,
    pub heads: Vec<String>,
    /// If that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<TextDiff>,
    /// The heads, with who made them, of a document that is followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<HeadLine>,
}

/// How a text of several lines changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct TextDiff {
    pub path: String,
    /// In the unified format of `diff`, without the names of files in front.
    pub lines: Vec<String>,
}

/// A space's roots were compared and equal, or there is nobody to compare them with.
#[derive(Debug, Serialize, Deserialize)]
pub struct SyncedLine {
    pub space: String,
    pub name: Option<String>,
    pub root: String,
    /// Who was found in sync.
    pub peers: Vec<String>,
    /// This device is its only member.
    #[serde(default)]
    pub alone: bool,
}
