//! `anabranch doc edit`: many edits in one command, one JSON object to a line of standard input.

use std::io::{BufRead, Read};

use clap::Args;

use crate::cli::document::{Target, edited_text};
use crate::client::Client;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::show::{Show, heads};
use anabranch_protocol::{Acknowledged, Command, EditStep, Edited, LINE_BYTES_MAX, Which};

/// Lines of one request with `--each`: enough that they share their way to the disk.
const EACH_LINES: usize = 256;
/// Bytes of lines after which a request with `--each` is sent.
const EACH_BYTES: usize = 1024 * 1024;

/// Shown below `doc edit --help`.
pub(crate) const STEPS: &str = r#"Each line is one of
  {"op":"set","path":"/a","value":1}          put a value in place of what is there
  {"op":"insert","path":"/list/0","value":1}  put a value into a list; /list/- appends
  {"op":"remove","path":"/a"}
  {"op":"splice","path":"/text","pos":0,"del":2,"ins":"words"}
  {"op":"text","path":"/text","text":"words"} make a text say this, by the least change
  {"op":"counter","path":"/n","value":0}      make a counter
  {"op":"increment","path":"/n","by":1}
  {"op":"timestamp","path":"/t","ms":0}       milliseconds since 1970
Positions and lengths in texts are in Unicode code points. Empty lines are skipped."#;

#[derive(Debug, Args)]
pub(crate) struct Edit {
    #[command(flatten)]
    which: Target,
    /// A change for each edit, instead of one change for all of them or none
    #[arg(long)]
    each: bool,
    /// A change for every N edits
    #[arg(long, value_name = "N", conflicts_with = "each", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// With --each: print a line for each edit as soon as it is on disk, before reading the next
    #[arg(long, requires = "each", conflicts_with = "no_wait")]
    ack: bool,
    /// Answer when applied, before it is on disk
    #[arg(long)]
    no_wait: bool,
}

impl Edit {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let mut client = Client::connect(directory)?;
        let mut lines = Lines { input: std::io::stdin().lock(), number: 0 };
        let (lines_max, bytes_max) = match (self.ack, self.each, self.batch) {
            (true, _, _) => (1, EACH_BYTES),
            (false, true, _) => (EACH_LINES, EACH_BYTES),
            (false, false, Some(batch)) => (batch as usize, LINE_BYTES_MAX),
            (false, false, None) => (usize::MAX, LINE_BYTES_MAX),
        };
        let which = self.which.which();
        let mut total: Option<Edited> = None;
        loop {
            let Batch { edits, numbers, bytes, ended } = lines.batch(lines_max, bytes_max)?;
            if edits.is_empty() && total.is_some() {
                break;
            }
            if bytes > LINE_BYTES_MAX {
                return Err(Failure::usage(format!(
                    "the edits are over {LINE_BYTES_MAX} bytes, the limit of one change's request: use --batch N or --each",
                )));
            }
            let request = Request { which: &which, each: self.each, saved: !self.no_wait };
            let edited = request.send(&mut client, edits, numbers, |line: Acknowledged| {
                if !self.ack {
                    return Ok(());
                }
                show.one(&line, |line| format!("{}  saved, now at {}", line.line, heads(&line.heads)))
            })?;
            total = Some(match total {
                None => edited,
                Some(earlier) => {
                    Edited { edits: earlier.edits + edited.edits, changes: earlier.changes + edited.changes, ..edited }
                }
            });
            if ended {
                break;
            }
        }
        match total {
            Some(total) => show.one(&total, edited_text),
            None => Ok(()),
        }
    }
}

/// What all requests of one command have in common.
struct Request<'a> {
    which: &'a Which,
    each: bool,
    saved: bool,
}

impl Request<'_> {
    fn send(
        &self,
        client: &mut Client,
        edits: Vec<EditStep>,
        lines: Vec<u64>,
        each: impl FnMut(Acknowledged) -> Result<(), Failure>,
    ) -> Result<Edited, Failure> {
        let command = Command::DocEdit { which: self.which.clone(), edits, each: self.each, saved: self.saved, lines };
        let last = client.ask_many(&command, each)?;
        serde_json::from_value(last)
            .map_err(|error| Failure::error(format!("the node's answer cannot be read: {error}")))
    }
}

/// Edits read together.
struct Batch {
    edits: Vec<EditStep>,
    /// The line that each came on.
    numbers: Vec<u64>,
    bytes: usize,
    /// There are no more.
    ended: bool,
}

/// Standard input, line by line.
struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next edits, at most `lines_max`, fewer at the end or after the line that passes `bytes_max`.
    fn batch(&mut self, lines_max: usize, bytes_max: usize) -> Result<Batch, Failure> {
        let mut batch = Batch { edits: Vec::new(), numbers: Vec::new(), bytes: 0, ended: false };
        let mut line = Vec::new();
        while batch.edits.len() < lines_max && batch.bytes <= bytes_max {
            line.clear();
            let bytes = (&mut self.input)
                .take(LINE_BYTES_MAX as u64 + 1)
                .read_until(b'\n', &mut line)
                .map_err(|error| Failure::error(format!("cannot read standard input: {error}")))?;
            if bytes == 0 {
                batch.ended = true;
                break;
            }
            self.number += 1;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if bytes > LINE_BYTES_MAX {
                return Err(Failure::usage(format!("line {} is over {LINE_BYTES_MAX} bytes", self.number)));
            }
            let edit = serde_json::from_slice(&line).map_err(|error| {
                let column = error.column();
                let what = if error.is_data() { "not an edit" } else { "malformed JSON" };
                // serde_json counts lines from the start of what it was given, which is one line of ours.
                let text = error.to_string();
                let text = text.split(" at line ").next().unwrap_or(&text);
                Failure::usage(format!("line {}, column {column}: {what}: {text}", self.number))
            })?;
            batch.edits.push(edit);
            batch.numbers.push(self.number);
            batch.bytes += bytes;
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines<&[u8]> {
        Lines { input: text.as_bytes(), number: 0 }
    }

    #[test]
    fn lines_come_in_batches_and_empty_ones_do_not_count() {
        let mut lines = lines(
            "{\"op\":\"remove\",\"path\":\"/a\"}\n\n{\"op\":\"remove\",\"path\":\"/b\"}\n{\"op\":\"remove\",\"path\":\"/c\"}",
        );
        let first = lines.batch(2, 1000).unwrap();
        assert_eq!((first.edits.len(), first.numbers), (2, vec![1, 3]));
        let second = lines.batch(2, 1000).unwrap();
        assert_eq!((second.edits.len(), second.numbers), (1, vec![4]));
        assert!(lines.batch(2, 1000).unwrap().edits.is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        let failure = lines("\n{\"op\":\"remove\",\"path\":/a}\n").batch(9, 1000).err().unwrap();
        assert!(failure.message.starts_with("line 2, column 23: malformed JSON: expected value"), "{failure}");
        let failure = lines("{\"op\":\"fold\"}\n").batch(9, 1000).err().unwrap();
        assert!(failure.message.contains("not an edit: unknown variant `fold`"), "{failure}");
    }
}
