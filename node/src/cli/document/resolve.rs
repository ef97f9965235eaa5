//! `anabranch doc resolve`: one of several values becomes the only one.

use clap::Args;

use crate::cli::document::{Meant, Target, edited_text};
use crate::cli::input::parse_json;
use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, count};
use anabranch_api::{Command, Failure, Resolved, Take};

/// Shown below `doc resolve --help`.
const CHOICES: &str = "\
--take is one of
  1, 2, ..   the value with that number in `anabranch doc conflicts` (with a PATH)
  shown      the one that is shown; lost edits at or below PATH are given up, so that they are not listed any more
  mine       the one that this device has set; where it has set none, the conflict stays
  newest     the last one, as the clocks of those who set them say
  lost       what the latest lost edit of PATH said, in place of what is there
A value stays of its kind. A map, list, text or counter that is taken is copied: what others do to the
one that it was, and had not come here yet, is a lost edit afterwards.";

#[derive(Debug, Args)]
#[command(after_help = CHOICES)]
pub(crate) struct Resolve {
    #[command(flatten)]
    which: Target,
    /// A JSON Pointer, where there is a conflict
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    path: Option<String>,
    /// All conflicts of the document
    #[arg(long)]
    all: bool,
    /// Which value: its number, or shown, mine, newest, lost
    #[arg(long, value_parser = take, required_unless_present = "value", conflicts_with = "value")]
    take: Option<Take>,
    /// Another value, in JSON; a counter, timestamp or plain string that is shown stays one
    #[arg(long, value_name = "JSON", conflicts_with = "all", allow_hyphen_values = true)]
    value: Option<String>,
    #[command(flatten)]
    meant: Meant,
}

impl Resolve {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let Self { which, path, all: _, take, value, meant } = self;
        let take = match (take, value) {
            (Some(take), _) => take,
            (None, Some(value)) => Take::Value(parse_json(value.as_bytes(), "the value")?),
            (None, None) => return Err(Failure::usage("say which value: --take or --value")),
        };
        let command = Command::DocResolve { which: which.which(), path, take, reading: meant.reading() };
        let resolved = Client::connect(directory)?.ask::<Resolved>(&command)?;
        show.one(&resolved, resolved_text)
    }
}

fn take(text: &str) -> Result<Take, String> {
    match (text, text.parse()) {
        ("shown", _) => Ok(Take::Shown),
        ("mine", _) => Ok(Take::Mine),
        ("newest", _) => Ok(Take::Newest),
        ("lost", _) => Ok(Take::Lost),
        (_, Ok(number)) if number > 0 => Ok(Take::Number(number)),
        _ => Err("it is a number from 1 on, or `shown`, `mine`, `newest` or `lost`".to_owned()),
    }
}

/// `0123abcd  2 edits in 1 change, saved, now at 89abcdef: 2 conflicts resolved, 1 left`
fn resolved_text(resolved: &Resolved) -> String {
    let Resolved { edited, conflicts, lost, left } = resolved;
    let mut done = Vec::new();
    if *conflicts > 0 {
        done.push(format!("{} resolved", count(*conflicts as usize, "conflict")));
    }
    if *lost > 0 {
        done.push(format!("{} settled", count(*lost as usize, "lost edit")));
    }
    if done.is_empty() {
        done.push("nothing to resolve".to_owned());
    }
    if *left > 0 {
        done.push(format!("{left} left, see `anabranch doc conflicts`"));
    }
    format!("{}: {}", edited_text(edited), done.join(", "))
}
