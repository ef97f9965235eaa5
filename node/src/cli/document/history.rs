//! `anabranch doc log` and `doc diff`: what changed, and when.

use clap::Args;
use serde_json::Value;

use crate::cli::document::Target;
use crate::cli::watch::patch_text;
use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, Shown, count, device, heads, short, time};
use anabranch_api::{ChangeLine, ChangedLine, Command, Failure};

#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(flatten)]
    which: Target,
    /// Only the last N changes
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
    /// With what each changed
    #[arg(short, long)]
    patches: bool,
    /// The newest first
    #[arg(long)]
    reverse: bool,
}

impl Log {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let Self { which, last, patches, reverse } = self;
        let command = Command::DocLog { which: which.which(), last, patches, reverse };
        Client::connect(directory)?.ask_many(&command, |line: ChangeLine| show.one(&line, change)).map(drop)
    }
}

fn change(line: &ChangeLine) -> Vec<String> {
    let mut lines = vec![format!(
        "{}  {}  device {}  actor {} #{:<5} {:>11}  after {}",
        short(&line.hash),
        time(line.wall_s),
        line.device.as_deref().map_or("-".to_owned(), |id| device(id, line.device_name.as_deref())),
        short(&line.actor),
        line.seq,
        count(line.ops as usize, "operation"),
        heads(&line.deps),
    )];
    lines.extend(line.patches.iter().flatten().map(|patch| format!("    {}", patch_text(patch))));
    lines
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    which: Target,
    /// The earlier version: heads as `doc log` shows them, separated by commas
    #[arg(value_delimiter = ',', required = true)]
    from: Vec<String>,
    /// The later version, in the same form [default: now]
    #[arg(long, value_name = "HEADS", value_delimiter = ',')]
    to: Vec<String>,
}

impl Diff {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let command = Command::DocDiff { which: self.which.which(), from: self.from, to: self.to, texts: !show.json };
        let changed = Client::connect(directory)?.ask::<ChangedLine>(&command)?;
        show.one(&changed, difference)
    }
}

/// A line for each path, then the texts of several lines as `diff -u` shows them.
fn difference(changed: &ChangedLine) -> Shown {
    let is_shown_below = |patch: &Value| {
        let is_of_text = match patch["action"].as_str() {
            Some("insert_text" | "remove_text") => true,
            // A text comes empty and is filled then.
            Some("put") => patch["value"] == "",
            _ => false,
        };
        is_of_text && changed.texts.iter().any(|text| patch["path"] == text.path.as_str())
    };
    let patches = changed.patches.iter().filter(|patch| !is_shown_below(patch)).map(patch_text);
    let mut shown = Shown::from(patches.collect::<Vec<_>>());
    for text in &changed.texts {
        shown = shown.line(&format!("--- {}", text.path)).line(&format!("+++ {}", text.path));
        shown = text.lines.iter().fold(shown, |shown, line| shown.text_line(line));
    }
    if shown.is_empty() { Shown::from("no difference".to_owned()) } else { shown }
}
