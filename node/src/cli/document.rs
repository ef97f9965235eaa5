//! `anabranch doc ..`: documents and what is in them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use crate::cli::edit::Edit;
use crate::client::Client;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::show::{Show, Shown, count, heads, print_json_piece, short};
use anabranch_protocol::{Command, ConflictLine, DocumentLine, EditStep, Edited, Exported, Got, LINE_BYTES_MAX, Which};

mod history;
mod text;

#[derive(Debug, Subcommand)]
pub(crate) enum Doc {
    /// Make a document
    New {
        /// Name or id of the space; not needed where there is one
        #[arg(long, env = "ANABRANCH_SPACE")]
        space: Option<String>,
        /// Kept in the document, as its root key `name`; commands find the document by it
        #[arg(long)]
        name: Option<String>,
    },
    /// List the documents of a space
    Ls {
        /// Name or id of the space; not needed where there is one
        #[arg(long, env = "ANABRANCH_SPACE")]
        space: Option<String>,
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
    /// Read a JSON object from a file into a new document, or in place of what a document says
    Import {
        /// Where to: a document's name or id, or SPACE/DOC
        #[arg(required_unless_present = "new", conflicts_with = "new")]
        doc: Option<String>,
        /// The file; `-` is standard input
        file: Option<PathBuf>,
        /// Make a new document of this file
        #[arg(long, value_name = "FILE")]
        new: Option<PathBuf>,
        /// Name or id of the space; not needed where there is one
        #[arg(long, env = "ANABRANCH_SPACE")]
        space: Option<String>,
        /// The name of the new document, as its root key `name`
        #[arg(long, requires = "new")]
        name: Option<String>,
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
    },
    /// Print a document's changes, each after those it depends on
    Log(history::Log),
    /// Print how a document changed from one version to another
    Diff(history::Diff),
    /// Print a text as it is, or make it say what a file says, by the least change
    Text(text::Text),
    /// Print where members wrote different values at the same time
    Conflicts {
        #[command(flatten)]
        which: Target,
        /// Only at this JSON Pointer
        path: Option<String>,
    },
}

/// Which document.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The document's name, its id or at least 4 digits of it, or SPACE/DOC
    doc: String,
    /// Name or id of the space; not needed where there is one
    #[arg(long, env = "ANABRANCH_SPACE")]
    space: Option<String>,
}

impl Target {
    pub(crate) fn which(self) -> Which {
        Which { space: self.space, document: self.doc }
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
            Self::New { space, name } => {
                let edited = Client::connect(directory)?.ask::<Edited>(&Command::DocNew { space, name })?;
                // The id alone, so that a script can take it up.
                show.one(&edited, |edited| edited.document.clone())
            }
            Self::Ls { space } => {
                let mut none = true;
                Client::connect(directory)?.ask_many(&Command::DocList { space }, |line: DocumentLine| {
                    none = false;
                    show.one(&line, |line| {
                        let name = line.name.as_deref().unwrap_or("-");
                        format!("{}  {name:24}  at {}", line.document, heads(&line.heads))
                    })
                })?;
                if none {
                    show.remark("no documents here: make one with `anabranch doc new --name NAME`")?;
                }
                Ok(())
            }
            Self::Get { which, path, at, raw } => {
                let command = Command::DocGet { which: which.which(), path, at };
                let got = Client::connect(directory)?.ask::<Got>(&command)?;
                show.one(&got, |got| match &got.value {
                    Value::String(text) if raw => Shown::raw(text),
                    value => Shown::json(value),
                })
            }
            Self::Set { which, path, value, no_wait } => {
                let value = if value == "-" { read_json(Path::new("-"))? } else { parse_json(&value, "the value")? };
                edit_one(directory, show, which, EditStep::Set { path, value }, !no_wait)
            }
            Self::Edit(edit) => edit.execute(directory, show),
            Self::Rm { which, path, no_wait } => edit_one(directory, show, which, EditStep::Remove { path }, !no_wait),
            Self::Import { doc, file, new, space, name } => {
                let file = match (&doc, file, new) {
                    (_, _, Some(file)) | (Some(_), Some(file), None) => file,
                    _ => {
                        return Err(Failure::usage(
                            "say which file to import: `doc import DOC FILE` or `doc import --new FILE`",
                        ));
                    }
                };
                let value = read_json(&file)?;
                let command = Command::DocImport { space, document: doc, name, value };
                let edited = Client::connect(directory)?.ask::<Edited>(&command)?;
                show.one(&edited, |edited| {
                    let changes = count(edited.changes as usize, "change");
                    format!("{}  imported in {changes}, saved, now at {}", edited.document, heads(&edited.heads))
                })
            }
            Self::Export { which, out, at } => {
                let command = Command::DocExport { which: which.which(), at };
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
                        let exported = serde_json::from_value::<Exported>(exported).map_err(Failure::error)?;
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
        }
    }
}

fn conflict(line: &ConflictLine) -> Vec<String> {
    let mut lines = vec![line.path.clone()];
    for (i, value) in line.values.iter().enumerate() {
        let mark = if i == 0 { "shown" } else { "also " };
        let device = value.device.as_deref().map_or("-", short);
        lines.push(format!("    {mark}  {}  (device {device}, actor {})", value.value, short(&value.actor)));
    }
    lines
}

fn edit_one(directory: &Directory, show: Show, which: Target, step: EditStep, saved: bool) -> Result<(), Failure> {
    let command = Command::DocEdit { which: which.which(), edits: vec![step], each: false, saved, lines: Vec::new() };
    let edited = Client::connect(directory)?.ask::<Edited>(&command)?;
    show.one(&edited, edited_text)
}

/// `0123abcd  3 edits in 1 change, saved, now at 89abcdef`
pub(crate) fn edited_text(edited: &Edited) -> String {
    format!(
        "{}  {} in {}, {}, now at {}",
        short(&edited.document),
        count(edited.edits as usize, "edit"),
        count(edited.changes as usize, "change"),
        if edited.saved { "saved" } else { "not yet saved" },
        heads(&edited.heads),
    )
}

/// Reads JSON, or says where it stops being JSON.
pub(crate) fn parse_json(text: &str, what: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        // A word that is not JSON is most often meant as a string.
        let word = text.trim();
        let looks_like_words = !word.is_empty() && !word.starts_with(['{', '[', '"']) && word.len() <= 200;
        let hint = if looks_like_words { format!("; a string needs quotes: '\"{word}\"'") } else { String::new() };
        Failure::usage(format!("malformed JSON in {what}: {error}{hint}"))
    })
}

fn read_json(file: &Path) -> Result<Value, Failure> {
    let (what, reader): (String, Box<dyn Read>) = if file == Path::new("-") {
        ("standard input".to_owned(), Box::new(std::io::stdin()))
    } else {
        let opened =
            File::open(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
        (file.display().to_string(), Box::new(opened))
    };
    let mut bytes = Vec::new();
    reader
        .take(LINE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("cannot read {what}: {error}")))?;
    if bytes.len() > LINE_BYTES_MAX {
        return Err(Failure::usage(format!("{what} is over {LINE_BYTES_MAX} bytes, the limit of one command")));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Failure::usage(format!("malformed JSON in {what}: it is not UTF-8: {error}")))?;
    parse_json(text, &what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_word_is_told_how_to_become_json() {
        let failure = parse_json("hello", "the value").unwrap_err();
        assert!(failure.message.contains("malformed JSON in the value"), "{failure}");
        assert!(failure.message.contains("line 1 column 1"), "{failure}");
        assert!(failure.message.contains("'\"hello\"'"), "{failure}");
    }

    #[test]
    fn broken_json_says_where_it_breaks() {
        let failure = parse_json("{\"a\": [1,\n 2,,]}", "x.json").unwrap_err();
        assert!(failure.message.contains("line 2 column 4"), "{failure}");
        assert!(!failure.message.contains("quotes"), "{failure}");
    }
}
