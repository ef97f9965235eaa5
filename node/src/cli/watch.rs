//! `anabranch watch` and `wait-synced`: follow what happens, or wait for one thing to happen.

use anabranch::{FeedPosition, ParsePositionError};
use clap::Args;
use serde_json::Value;

use crate::cli::document::default_space;
use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, count, device, heads, short, time};
use anabranch_api::{ChangedLine, Code, Command, Failure, FeedLine, HeadLine, Since, SyncedLine};

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only this space (name or id) [env: ANABRANCH_SPACE]
    #[arg(long)]
    space: Option<String>,
    /// Only this document (name or id), with what changed in it
    #[arg(long, value_name = "DOC")]
    doc: Option<String>,
    /// Begin after this place in the feed, a number, or a `position` from the JSON of `watch`; 0 is its beginning [default: now]
    #[arg(long, value_name = "SEQ", conflicts_with = "doc", value_parser = since)]
    since: Option<Since>,
}

impl Watch {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let mut client = Client::connect(directory)?;
        let follows_document = self.doc.is_some();
        let (space, default_space) = match self.doc {
            Some(_) => (self.space, default_space()),
            None => (self.space.or_else(default_space), None),
        };
        let command = Command::Watch { space, default_space, document: self.doc, since: self.since };
        let ended = if follows_document {
            client.ask_many(&command, |line: ChangedLine| show.one(&line, changed))
        } else {
            client.ask_many(&command, |line: FeedLine| {
                show.one(&line, |line| {
                    let name = line.name.as_deref().unwrap_or("-");
                    let changed = time(line.changed_s);
                    let (space, heads) = (short(&line.space), heads(&line.heads));
                    format!("{:>8}  {changed}  {space}/{}  {name}  at {heads}", line.seq, line.document)
                })
            })
        };
        match ended {
            // It was to follow for so long.
            Err(failure) if failure.code == Code::TimedOut => Ok(()),
            ended => ended.map(drop),
        }
    }
}

/// Parses a place in the feed.
fn since(text: &str) -> Result<Since, ParsePositionError> {
    match text.parse() {
        Ok(seq) => Ok(Since::Seq(seq)),
        Err(_) => text.parse().map(|position: FeedPosition| Since::Position(position.to_string())),
    }
}

fn changed(line: &ChangedLine) -> Vec<String> {
    let writer = |head: &HeadLine| {
        let device = head.device.as_deref().map_or("-".to_owned(), |id| device(id, head.device_name.as_deref()));
        format!("{} by device {device} on {}", short(&head.hash), time(head.wall_s))
    };
    // The document may be gone already.
    let by = match &line.by[..] {
        [] => heads(&line.heads),
        by => by.iter().map(writer).collect::<Vec<_>>().join(", "),
    };
    let mut lines = vec![format!("{}  now at {by}", short(&line.document))];
    lines.extend(line.patches.iter().map(|patch| format!("    {}", patch_text(patch))));
    lines
}

/// A patch is an object with a path, an action and what belongs to the action.
pub(crate) fn patch_text(patch: &Value) -> String {
    let Some(fields) = patch.as_object() else { return patch.to_string() };
    let word = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let rest = fields.iter().filter(|(name, _)| !["path", "action"].contains(&name.as_str()));
    let rest = rest.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
    format!("{} {} {rest}", word("action"), word("path"))
}

#[derive(Debug, Args)]
pub(crate) struct WaitSynced {
    /// Only this space (name or id) [default: every space here that has other members]
    #[arg(long, env = "ANABRANCH_SPACE")]
    space: Option<String>,
    /// Only with this peer (device id) [default: every connected member, at least one]
    #[arg(long, value_name = "DEVICE")]
    peer: Option<String>,
}

impl WaitSynced {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let command = Command::WaitSynced { space: self.space, peer: self.peer, timeout_ms: super::wait_ms(directory) };
        Client::connect(directory)?.ask_many(&command, |line: SyncedLine| {
            show.one(&line, |line| {
                let name = line.name.as_deref().unwrap_or("(joining)");
                if line.alone {
                    return format!("{}  {name}  alone: this device is its only member", short(&line.space));
                }
                format!(
                    "{}  {name}  in sync with {}, root {}",
                    short(&line.space),
                    count(line.peers.len(), "peer"),
                    short(&line.root),
                )
            })
        })?;
        Ok(())
    }
}
