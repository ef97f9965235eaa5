//! `anabranch doc ..`: documents and what is in them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::cli::edit::Edit;
use crate::cli::input::{Input, parse_json};
use crate::client::Client;
use crate::directory::Directory;
use crate::output::{self, Output};
use crate::show::{Show, Shown, count, device, heads, print_json_piece, short, size, time};
use anabranch_api::{
    Code, Command, ConflictLine, ConflictWriter, DocumentLine, EditStep, Edited, Exported, Failure, Got,
    IMPORT_BYTES_MAX, Imported, LINE_BYTES_MAX, Reading, Sort, Strings, Which,
};

mod history;
mod resolve;
mod text;

#[derive(Debug, Subcommand)]
pub(crate) enum Doc {
    /// Make a document
    New {
        /// Name or id of the space; not needed where there is one
        #[arg(long, env = "ANABRANCH_SPACE")]
        space: Option<String>,
        /// Kept in the document, as its root key `name`; commands find the document by it
        #[arg(long, group = "named")]
        name: Option<String>,
        /// Make a document for each name in a file, one to a line; `-` is standard input. All names are looked at before the first
        /// document is made. Each id is printed when its document is saved
        #[arg(long, value_name = "FILE", group = "named")]
        names: Option<PathBuf>,
        /// Even if the name is taken
        #[arg(long, requires = "named")]
        force: bool,
    },
    /// Give a document another name
    Rename {
        #[command(flatten)]
        which: Target,
        /// The new name
        name: String,
        /// Even if the name is taken
        #[arg(long)]
        force: bool,
    },
    /// List the documents of a space: id, name, bytes, when last changed, version
    Ls {
        /// Only names that match: `*` stands for any characters, `?` for one; a plain word for the names it is part of
        pattern: Option<String>,
        /// Name or id of the space; not needed where there is one
        #[arg(long, env = "ANABRANCH_SPACE")]
        space: Option<String>,
        /// By name, by size (largest first), or by when they were changed (latest first) [default: by id]
        #[arg(long, value_enum, hide_default_value = true, default_value_t)]
        sort: Order,
    },
    /// Print a document, or the part of it at a path
    Get {
        #[command(flatten)]
        which: Target,
        /// A JSON Pointer such as /items/0/title
        #[arg(default_value = "")]
        path: String,
        /// Read it as it was at these heads, separated by commas (see `doc log`)
        #[arg(long, value_name = "HEADS", value_delimiter = ',')]
        at: Vec<String>,
        /// Print a string as it is, without quotes
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// Print typed JSON, which keeps counters, timestamps, bytes and plain strings apart
        #[arg(long, conflicts_with = "raw")]
        typed: bool,
    },
    /// Put a JSON value at a path, in place of what is there
    Set {
        #[command(flatten)]
        which: Target,
        /// A JSON Pointer; everything but its last part must be there already; `/list/-` appends
        path: String,
        /// JSON: 7, true, '"words"', '{"a":[1,2]}'; `-` reads it from standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        meant: Meant,
        /// Answer when applied, before it is on disk
        #[arg(long)]
        no_wait: bool,
    },
    /// Make many edits, one JSON object to a line of standard input
    #[command(after_help = super::edit::STEPS)]
    Edit(Edit),
    /// Remove what is at a path
    Rm {
        #[command(flatten)]
        which: Target,
        /// A JSON Pointer
        path: String,
        /// Answer when applied, before it is on disk
        #[arg(long)]
        no_wait: bool,
    },
    /// Make a document read as a JSON object in a file does, by what differs, or make a new one of it
    #[command(after_help = IMPORT)]
    Import {
        /// Where to: a document's name or id, or SPACE/DOC
        #[arg(required_unless_present = "new", conflicts_with = "new")]
        doc: Option<String>,
        /// The file; `-` is standard input
        file: Option<PathBuf>,
        /// Make a new document of this file
        #[arg(long, value_name = "FILE")]
        new: Option<PathBuf>,
        /// Name or id of the space; not needed where there is one [env: ANABRANCH_SPACE, for a DOC that says no space]
        #[arg(long)]
        space: Option<String>,
        /// The name of the new document, as its root key `name`
        #[arg(long, requires = "new")]
        name: Option<String>,
        /// Even if the name is taken
        #[arg(long, requires = "name")]
        force: bool,
        #[command(flatten)]
        meant: Meant,
        /// Put the file in place of everything that is there, also where nothing differs
        #[arg(long, conflicts_with = "new")]
        replace: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        check: bool,
    },
    /// Make a document read as it did at an earlier version, by what differs
    Revert {
        #[command(flatten)]
        which: Target,
        /// The version: its heads, separated by commas (see `doc log`)
        #[arg(long, value_name = "HEADS", value_delimiter = ',', required = true)]
        to: Vec<String>,
    },
    /// Write a document as JSON
    Export {
        #[command(flatten)]
        which: Target,
        /// The file to write, replaced as a whole; devices, pipes and links are written through [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// As it was at these heads, separated by commas
        #[arg(long, value_name = "HEADS", value_delimiter = ',')]
        at: Vec<String>,
        /// As typed JSON, which keeps counters, timestamps, bytes and plain strings apart
        #[arg(long)]
        typed: bool,
    },
    /// Print a document's changes, each after those it depends on
    Log(history::Log),
    /// Print how a document changed from one version to another
    Diff(history::Diff),
    /// Print a text as it is, or make it say what a file says, by the least change
    Text(text::Text),
    /// Print where members wrote different values at the same time, and edits that went into what another removed
    #[command(after_help = "`anabranch doc resolve` makes one of the values the only one.")]
    Conflicts {
        #[command(flatten)]
        which: Target,
        /// Only at this JSON Pointer
        path: Option<String>,
    },
    /// Make one of several values that members wrote at the same time the only one, by one edit
    Resolve(resolve::Resolve),
}

/// Shown below `doc import --help`.
const IMPORT: &str = "\
An import is made as a whole or not at all, and prints the command that goes back to the version before.
Texts, lists and maps are changed where they differ, so what others edit meanwhile is kept. Without --typed,
values that JSON has no kind for keep theirs: a number that comes to a counter is added up to, a string that
comes to a plain string stays one. A name of the document that the file does not have stays.";

/// How JSON is meant.
#[derive(Debug, Args)]
pub(crate) struct Meant {
    /// What strings become: texts that several people may edit at once, or plain strings, which are replaced as a whole
    /// and cost one operation each
    #[arg(long, value_enum, default_value = "text")]
    strings: StringsArg,
    /// It is typed JSON: {"$counter":5}, {"$timestamp":0}, {"$bytes":"AAE="}, {"$plain":"words"}
    #[arg(long)]
    typed: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StringsArg {
    Text,
    Plain,
}

impl Meant {
    pub(crate) fn reading(&self) -> Reading {
        let strings = match self.strings {
            StringsArg::Text => Strings::Text,
            StringsArg::Plain => Strings::Plain,
        };
        Reading { typed: self.typed, strings }
    }
}

/// Which document.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The document's name, its id or at least 4 digits of it, or SPACE/DOC; `id:` or `name:` in front say which is meant
    doc: String,
    /// Name or id of the space; not needed where there is one [env: ANABRANCH_SPACE, for a DOC that says no space]
    #[arg(long)]
    space: Option<String>,
}

impl Target {
    pub(crate) fn which(self) -> Which {
        Which { space: self.space, default_space: default_space(), document: self.doc }
    }
}

/// The space that the environment says. Not read by clap, so that the space in SPACE/DOC wins over it.
pub(super) fn default_space() -> Option<String> {
    std::env::var("ANABRANCH_SPACE").ok().filter(|space| !space.is_empty())
}

/// How a list is sorted.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Order {
    #[default]
    Id,
    Name,
    Size,
    Changed,
}

impl From<Order> for Sort {
    fn from(order: Order) -> Self {
        match order {
            Order::Id => Self::Id,
            Order::Name => Self::Name,
            Order::Size => Self::Size,
            Order::Changed => Self::Changed,
        }
    }
}

/// What `export` prints when it has written a file.
#[derive(Debug, Serialize)]
struct Written {
    #[serde(flatten)]
    exported: Exported,
    file: String,
}

impl Doc {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        match self {
            Self::New { space, name: _, names: Some(file), force } => {
                let text = text::read(&file)?;
                // Some editors begin a file with a byte order mark.
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                let names = text.lines().map(str::to_owned).collect();
                let command = Command::DocNewNamed { space, names, force };
                let print = |edited: Edited| show.one(&edited, |edited| edited.document.clone());
                Client::connect(directory)?.ask_many(&command, print).map(drop)
            }
            Self::New { space, name, names: None, force } => {
                let edited = Client::connect(directory)?.ask::<Edited>(&Command::DocNew { space, name, force })?;
                // The id alone, so that a script can take it up.
                show.one(&edited, |edited| edited.document.clone())
            }
            Self::Rename { which, name, force } => {
                let command = Command::DocRename { which: which.which(), name, force };
                let edited = Client::connect(directory)?.ask::<Edited>(&command)?;
                show.one(&edited, edited_text)
            }
            Self::Ls { pattern, space, sort } => {
                let mut none = true;
                let any = pattern.is_none();
                let command = Command::DocList { space, pattern, sort: sort.into() };
                Client::connect(directory)?.ask_many(&command, |line: DocumentLine| {
                    none = false;
                    show.one(&line, row)
                })?;
                match none {
                    true if any => show.remark("no documents here: make one with `anabranch doc new --name NAME`"),
                    true => show.remark("no name matches"),
                    false => Ok(()),
                }
            }
            Self::Get { which, path, at, raw, typed } => {
                let command = Command::DocGet { which: which.which(), path, at, typed };
                let got = Client::connect(directory)?.ask::<Got>(&command)?;
                show.one(&got, |got| match &got.value {
                    Value::String(text) if raw => Shown::raw(text),
                    value => Shown::json(value),
                })
            }
            Self::Set { which, path, value, meant, no_wait } => {
                let value = match value.as_str() {
                    "-" => Input::read(Path::new("-"), LINE_BYTES_MAX)?.json()?,
                    value => parse_json(value.as_bytes(), "the value")?,
                };
                edit_one(directory, show, which, EditStep::Set { path, value }, meant.reading(), !no_wait)
            }
            Self::Edit(edit) => edit.execute(directory, show),
            Self::Rm { which, path, no_wait } => {
                edit_one(directory, show, which, EditStep::Remove { path }, Reading::default(), !no_wait)
            }
            Self::Import { doc, file, new, space, name, force, meant, replace, check } => {
                let file = match (&doc, file, new) {
                    (_, _, Some(file)) | (Some(_), Some(file), None) => file,
                    _ => {
                        return Err(Failure::usage(
                            "say which file to import: `doc import DOC FILE` or `doc import --new FILE`",
                        ));
                    }
                };
                let input = Input::read(&file, IMPORT_BYTES_MAX)?;
                input.json::<IgnoredAny>()?;
                let bytes = input.text.len();
                let reading = meant.reading();
                let (space, default_space) = match doc {
                    Some(_) => (space, default_space()),
                    None => (space.or_else(default_space), None),
                };
                let command = Command::DocImport {
                    space,
                    default_space,
                    document: doc,
                    name,
                    force,
                    bytes,
                    reading,
                    replace,
                    check,
                };
                let imported = Client::connect(directory)?.ask_with::<Imported>(&command, &input.text);
                let imported = imported.map_err(|failure| match failure.code {
                    // It is about the file: the rest of the command line was looked at before.
                    Code::Usage => Failure::usage(format!("{}: {failure}", input.name)),
                    _ => failure,
                })?;
                show.one(&imported, |imported| imported_text(imported, "imported"))
            }
            Self::Revert { which, to } => {
                let command = Command::DocRevert { which: which.which(), to };
                let reverted = Client::connect(directory)?.ask::<Imported>(&command)?;
                show.one(&reverted, |reverted| imported_text(reverted, "reverted"))
            }
            Self::Export { which, out, at, typed } => {
                let command = Command::DocExport { which: which.which(), at, typed };
                let mut client = Client::connect(directory)?;
                match out.map(Output::named) {
                    Some(Output::File(file)) => {
                        // All of it before the file is touched.
                        let mut text = String::new();
                        let exported = client.ask_many(&command, |piece: String| {
                            text.push_str(&crate::text::lines(&piece));
                            Ok(())
                        })?;
                        text.push('\n');
                        output::write(&file, text.as_bytes())?;
                        let exported = serde_json::from_value::<Exported>(exported).map_err(Failure::failed)?;
                        let written = Written { exported, file: file.display().to_string() };
                        show.one(&written, |it| {
                            format!(
                                "{}  {} to {}",
                                it.exported.document,
                                count(it.exported.bytes as usize, "byte"),
                                it.file
                            )
                        })
                    }
                    Some(Output::Standard) | None => {
                        client.ask_many(&command, |piece: String| print_json_piece(&piece))?;
                        print_json_piece("\n")
                    }
                }
            }
            Self::Log(log) => log.execute(directory, show),
            Self::Diff(diff) => diff.execute(directory, show),
            Self::Text(text) => text.execute(directory, show),
            Self::Conflicts { which, path } => {
                let command = Command::DocConflicts { which: which.which(), path };
                let mut none = true;
                Client::connect(directory)?.ask_many(&command, |line: ConflictLine| {
                    none = false;
                    show.one(&line, conflict)
                })?;
                if none { show.remark("no conflicts") } else { Ok(()) }
            }
            Self::Resolve(resolve) => resolve.execute(directory, show),
        }
    }
}

fn row(line: &DocumentLine) -> String {
    let name = line.name.as_deref().unwrap_or("-");
    let problem = line.problem.as_ref().map_or_else(String::new, |problem| format!("  ({problem})"));
    format!(
        "{}  {name:24}  {:>8}  {}  at {}{problem}",
        line.document,
        size(line.bytes),
        time(line.changed_s),
        heads(&line.heads),
    )
}

fn conflict(line: &ConflictLine) -> Vec<String> {
    let device = |writer: &ConflictWriter| {
        writer.device.as_deref().map_or("-".to_owned(), |id| device(id, writer.device_name.as_deref()))
    };
    let mut lines = vec![line.path.clone()];
    for (i, value) in line.values.iter().enumerate() {
        let mark = match (&line.removed_by, i) {
            (Some(_), _) => "lost".to_owned(),
            (None, 0) => "1 shown".to_owned(),
            (None, _) => format!("{} also ", i + 1),
        };
        let writer = &value.writer;
        let who = format!("(device {}, actor {})", device(writer), short(&writer.actor));
        lines.push(format!("    {mark}  {}  {who}", value.value));
    }
    if let Some(remover) = &line.removed_by {
        let device = device(remover);
        lines.push(format!("    what it is in was removed or replaced at the same time by device {device}"));
    }
    lines
}

fn edit_one(
    directory: &Directory,
    show: Show,
    which: Target,
    step: EditStep,
    reading: Reading,
    saved: bool,
) -> Result<(), Failure> {
    let (which, edits) = (which.which(), vec![step]);
    let command = Command::DocEdit { which, edits, each: false, saved, reading, lines: Vec::new() };
    let edited = Client::connect(directory)?.ask::<Edited>(&command)?;
    show.one(&edited, edited_text)
}

/// `0123abcd  3 edits in 1 change, saved, now at 89abcdef`
pub(crate) fn edited_text(edited: &Edited) -> String {
    let (document, heads) = (short(&edited.document), heads(&edited.heads));
    if edited.changes == 0 {
        return format!("{document}  no change, at {heads}");
    }
    format!(
        "{document}  {} in {}, {}, now at {heads}",
        count(edited.edits as usize, "edit"),
        count(edited.changes as usize, "change"),
        if edited.saved { "saved" } else { "not yet saved" },
    )
}

/// `0123..  imported in 1 change, saved, now at 89abcdef: 2 added, 1 changed, 0 removed`, and the way back.
fn imported_text(imported: &Imported, done: &str) -> Vec<String> {
    let document = imported.document.as_deref().unwrap_or("a new document");
    if imported.changes == 0 {
        return vec![format!("{document}  nothing to change, at {}", heads(&imported.heads))];
    }
    let changes = count(imported.changes as usize, "change");
    let Imported { added, changed, removed, .. } = imported;
    let counts = if imported.before.is_empty() && imported.operations == 0 {
        "an empty document".to_owned()
    } else {
        format!("{added} added, {changed} changed, {removed} removed")
    };
    if !imported.saved {
        let operations = count(imported.operations as usize, "operation");
        let bytes = count(imported.bytes as usize, "byte");
        return vec![format!("{document}  would be {done} in {changes} of {operations} and {bytes}: {counts}")];
    }
    let mut lines =
        vec![format!("{document}  {done} in {changes}, saved, now at {}: {counts}", heads(&imported.heads))];
    if let Some(revert) = &imported.revert {
        lines.push(format!("it was at {}; to go back: {revert}", heads(&imported.before)));
    }
    lines
}
