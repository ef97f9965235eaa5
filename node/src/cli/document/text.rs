//! `anabranch doc text`: one text of a document, out to a file or in from one.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cli::document::{Target, edited_text};
use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, Shown, print_bytes};
use anabranch_api::{Code, Command, EditStep, Edited, Failure, Got, LINE_BYTES_MAX, Reading, Which};

#[derive(Debug, Args)]
pub(crate) struct Text {
    #[command(flatten)]
    which: Target,
    /// A JSON Pointer to a text
    path: String,
    /// What the text is to say; `-` is standard input [default: print the text]
    file: Option<PathBuf>,
    /// Answer when applied, before it is on disk
    #[arg(long, requires = "file")]
    no_wait: bool,
}

impl Text {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let which = self.which.which();
        match self.file {
            None => print(directory, show, which, self.path),
            Some(file) => {
                let text = read(&file)?;
                let mut client = Client::connect(directory)?;
                let step = EditStep::Text { path: self.path.clone(), text: text.clone() };
                let edited = match edit(&mut client, &which, step, !self.no_wait) {
                    // Nothing is there yet, so that there is no difference to make.
                    Err(failure) if failure.code == Code::NotFound => {
                        let step = EditStep::Set { path: self.path, value: Value::String(text) };
                        edit(&mut client, &which, step, !self.no_wait)?
                    }
                    edited => edited?,
                };
                show.one(&edited, edited_text)
            }
        }
    }
}

fn edit(client: &mut Client, which: &Which, step: EditStep, saved: bool) -> Result<Edited, Failure> {
    let (which, edits) = (which.clone(), vec![step]);
    client.ask(&Command::DocEdit { which, edits, each: false, saved, reading: Reading::default(), lines: Vec::new() })
}

fn print(directory: &Directory, show: Show, which: Which, path: String) -> Result<(), Failure> {
    let at = path.clone();
    let got = Client::connect(directory)?.ask::<Got>(&Command::DocGet { which, path, at: Vec::new(), typed: false })?;
    match &got.value {
        Value::String(text) if show.json || std::io::stdout().is_terminal() => show.one(&got, |_| Shown::raw(text)),
        // To the byte, so that the file that it goes to can come back as it is.
        Value::String(text) => print_bytes(text.as_bytes()),
        _ => Err(Failure::usage(format!("`{at}` is not a text: `anabranch doc get` prints it as JSON"))),
    }
}

/// A file in UTF-8, or standard input if it is `-`, whole.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", file.display()));
    let reader: Box<dyn Read> =
        if file == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(File::open(file).map_err(cannot)?) };
    let mut bytes = Vec::new();
    reader.take(LINE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > LINE_BYTES_MAX {
        let file = file.display();
        return Err(Failure::usage(format!("{file} is over {LINE_BYTES_MAX} bytes, the limit of one command")));
    }
    String::from_utf8(bytes).map_err(|error| Failure::usage(format!("{} is not UTF-8: {error}", file.display())))
}
