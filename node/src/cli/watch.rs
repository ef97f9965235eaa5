//! `anabranch watch` and `wait-synced`: follow what happens, or wait for one thing to happen.

use clap::Args;
use serde_json::Value;

use crate::client::Client;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::show::{Show, count, heads, short};
use anabranch_protocol::{ChangedLine, Command, FeedLine, SyncedLine};

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only this space (name or id)
    #[arg(long, env = "ANABRANCH_SPACE")]
    space: Option<String>,
    /// Only this document (name or id), with what changed in it
    #[arg(long, value_name = "DOC")]
    doc: Option<String>,
    /// Begin after this place in the feed; 0 is its beginning [default: now]
    #[arg(long, value_name = "SEQ", conflicts_with = "doc")]
    since: Option<u64>,
}

impl Watch {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let mut client = Client::connect(directory)?;
        let follows_document = self.doc.is_some();
        let command = Command::Watch { space: self.space, document: self.doc, since: self.since };
        if follows_document {
            client.ask_many(&command, |line: ChangedLine| show.one(&line, changed))?;
        } else {
            client.ask_many(&command, |line: FeedLine| {
                show.one(&line, |line| {
                    format!("{:>8}  {}/{}  {}", line.seq, short(&line.space), line.document, heads(&line.heads))
                })
            })?;
        }
        Ok(())
    }
}

fn changed(line: &ChangedLine) -> String {
    let mut text = format!("{}  now at {}", short(&line.document), heads(&line.heads));
    for patch in &line.patches {
        text.push_str("\n    ");
        text.push_str(&patch_text(patch));
    }
    text
}

/// A patch is an object with a path, an action and what belongs to the action.
fn patch_text(patch: &Value) -> String {
    let Some(fields) = patch.as_object() else { return patch.to_string() };
    let word = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let rest = fields.iter().filter(|(name, _)| !["path", "action"].contains(&name.as_str()));
    let rest = rest.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
    format!("{} {} {rest}", word("action"), word("path"))
}

#[derive(Debug, Args)]
pub(crate) struct WaitSynced {
    /// Only this space (name or id) [default: every space here]
    #[arg(long, env = "ANABRANCH_SPACE")]
    space: Option<String>,
    /// Only with this peer (device id) [default: every connected member, at least one]
    #[arg(long, value_name = "DEVICE")]
    peer: Option<String>,
    /// Seconds to wait
    #[arg(long, env = "ANABRANCH_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = super::seconds)]
    timeout: u64,
}

impl WaitSynced {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let command = Command::WaitSynced { space: self.space, peer: self.peer, timeout_ms: self.timeout };
        Client::connect(directory)?.ask_many(&command, |line: SyncedLine| {
            show.one(&line, |line| {
                format!(
                    "{}  {}  root {}  equal on this replica and {}",
                    short(&line.space),
                    line.name.as_deref().unwrap_or("(joining)"),
                    short(&line.root),
                    count(line.peers.len(), "peer"),
                )
            })
        })?;
        Ok(())
    }
}
