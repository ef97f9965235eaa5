//! `anabranch doc edit`: many edits in one command, one JSON object to a line of standard input.

use std::io::{BufRead, BufReader, Read};

use anabranch::json::check_numbers;
use clap::Args;

use crate::cli::arrivals::{Arrivals, Cut, Taken};
use crate::cli::document::{Meant, Target, edited_text};
use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, count, heads};
use anabranch_api::{Acknowledged, Command, EditStep, Edited, Failure, LINE_BYTES_MAX, Reading, Which};

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
    /// A change for each edit, made as soon as its line arrives, instead of one change for all of them or none
    #[arg(long)]
    each: bool,
    /// A change for every N edits
    #[arg(long, value_name = "N", conflicts_with = "each", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// With --each: print a line for each edit as soon as it is on disk, before reading the next
    #[arg(long, requires = "each", conflicts_with = "no_wait")]
    ack: bool,
    #[command(flatten)]
    meant: Meant,
    /// Answer when applied, before it is on disk
    #[arg(long)]
    no_wait: bool,
}

impl Edit {
    /// Its edits are made as they arrive.
    pub(crate) fn is_stream(&self) -> bool {
        self.each
    }

    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let mut client = if self.each { Client::for_stream(directory)? } else { Client::connect(directory)? };
        let which = self.which.which();
        let request = Request { which: &which, each: self.each, saved: !self.no_wait, reading: self.meant.reading() };
        if self.each {
            let arrivals = Arrivals::of_standard_input(directory.time_limit(), show)?;
            return follow(&mut client, &request, &arrivals, self.ack, show);
        }
        let mut lines = Lines::of(std::io::stdin().lock());
        let lines_max = self.batch.map_or(usize::MAX, |batch| batch as usize);
        let mut total: Option<Edited> = None;
        loop {
            let made = total.as_ref().map_or(0, |total| total.edits as usize);
            let read = lines.batch(lines_max, LINE_BYTES_MAX).map_err(|failure| after(failure, made))?;
            let Batch { edits, numbers, bytes, ended } = read;
            if edits.is_empty() && total.is_some() {
                break;
            }
            if bytes > LINE_BYTES_MAX {
                let failure = Failure::usage(format!(
                    "the edits are over {LINE_BYTES_MAX} bytes, the limit of one change's request: use --batch N or --each",
                ));
                return Err(after(failure, made));
            }
            let edited = request.send(&mut client, edits, numbers, |_| Ok(()));
            total = Some(add(total, edited.map_err(|failure| after(failure, made))?));
            if ended {
                break;
            }
        }
        total.map_or(Ok(()), |total| show.one(&total, edited_text))
    }
}

/// Makes a change of each edit as it arrives. Asked to end, or when its time is over, it first makes those that it has read.
fn follow(
    client: &mut Client,
    request: &Request<'_>,
    arrivals: &Arrivals,
    ack: bool,
    show: Show,
) -> Result<(), Failure> {
    let mut total: Option<Edited> = None;
    let mut made = 0;
    let (end, cut) = loop {
        // One at a time where each is acknowledged before the next is taken.
        match arrivals.take(if ack { 1 } else { usize::MAX }) {
            Taken::Edits(edits, numbers) => {
                let edited = request.send(client, edits, numbers, |line: Acknowledged| {
                    made += 1;
                    if !ack {
                        return Ok(());
                    }
                    show.one(&line, |line| format!("{}  saved, now at {}", line.line, heads(&line.heads)))
                });
                total = Some(add(total, edited.map_err(|failure| after(failure, made))?));
            }
            Taken::End(end, cut) => break (end, cut),
        }
    };
    match total {
        Some(total) if end.is_ok() => show.one(&total, edited_text)?,
        // An empty input is an empty list of edits: the node says whether there is such a document.
        None if end.is_ok() && cut.is_none() => {
            let edited = request.send(client, Vec::new(), Vec::new(), |_| Ok(()))?;
            show.one(&edited, edited_text)?;
        }
        _ => {}
    }
    match cut {
        Some(Cut::TimeLimit(limit)) if end.is_ok() => Err(Failure::timed_out(format!(
            "the input has not ended within {} s: {} made",
            limit.seconds(),
            count(made, "edit")
        ))),
        Some(Cut::Signal(ending)) => {
            if let Err(failure) = end {
                show.failure(&failure);
            }
            show.aside(&format!("{}: {} made", ending.name, count(made, "edit")));
            std::process::exit(ending.exit_code())
        }
        Some(Cut::TimeLimit(_)) | None => end.map_err(|failure| after(failure, made)),
    }
}

/// A failure, and how much was done before it.
fn after(failure: Failure, made: usize) -> Failure {
    match made {
        0 => failure,
        made => Failure::new(failure.code, format!("{failure} ({} made before it)", count(made, "edit"))),
    }
}

fn add(total: Option<Edited>, edited: Edited) -> Edited {
    match total {
        None => edited,
        Some(earlier) => {
            Edited { edits: earlier.edits + edited.edits, changes: earlier.changes + edited.changes, ..edited }
        }
    }
}

/// What all requests of one command have in common.
struct Request<'a> {
    which: &'a Which,
    each: bool,
    saved: bool,
    reading: Reading,
}

impl Request<'_> {
    fn send(
        &self,
        client: &mut Client,
        edits: Vec<EditStep>,
        lines: Vec<u64>,
        each: impl FnMut(Acknowledged) -> Result<(), Failure>,
    ) -> Result<Edited, Failure> {
        let (which, each_a_change) = (self.which.clone(), self.each);
        let (saved, reading) = (self.saved, self.reading);
        let command = Command::DocEdit { which, edits, each: each_a_change, saved, reading, lines };
        let last = client.ask_many(&command, each)?;
        serde_json::from_value(last)
            .map_err(|error| Failure::failed(format!("the node's answer cannot be read: {error}")))
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
pub(crate) struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: Read> Lines<BufReader<R>> {
    /// The next line can be had without waiting.
    pub(crate) fn has_a_whole_line(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn of(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next edits, at most `lines_max`, fewer at the end or after the line that passes `bytes_max`.
    fn batch(&mut self, lines_max: usize, bytes_max: usize) -> Result<Batch, Failure> {
        let mut batch = Batch { edits: Vec::new(), numbers: Vec::new(), bytes: 0, ended: false };
        while batch.edits.len() < lines_max && batch.bytes <= bytes_max {
            let Some((edit, number, bytes)) = self.next()? else {
                batch.ended = true;
                break;
            };
            batch.edits.push(edit);
            batch.numbers.push(number);
            batch.bytes += bytes;
        }
        Ok(batch)
    }

    /// The next edit, the number of its line and how many bytes that has; nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(EditStep, u64, usize)>, Failure> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = (&mut self.input)
                .take(LINE_BYTES_MAX as u64 + 1)
                .read_until(b'\n', &mut line)
                .map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
            if bytes == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if bytes > LINE_BYTES_MAX {
                return Err(Failure::usage(format!("line {} is over {LINE_BYTES_MAX} bytes", self.number)));
            }
            return Ok(Some((self.step(&line)?, self.number, bytes)));
        }
    }

    fn step(&self, line: &[u8]) -> Result<EditStep, Failure> {
        let number = self.number;
        // serde_json counts lines from the start of what it was given, which is one line of ours.
        let without_line = |error: &dyn std::fmt::Display| {
            let text = error.to_string();
            text.split(" at line ").next().unwrap_or(&text).to_owned()
        };
        let step = serde_json::from_slice(line).map_err(|error| {
            let text = without_line(&error);
            // A value that does not fit has no place: all of the line was read before it was looked at.
            if error.is_data() {
                Failure::usage(format!("line {number}: not an edit: {}", plain(&text)))
            } else {
                Failure::usage(format!("line {number}, column {}: malformed JSON: {text}", error.column()))
            }
        })?;
        check_numbers(line).map_err(|error| Failure::usage(format!("line {number}: {}", without_line(&error))))?;
        Ok(step)
    }
}

/// serde's words for kinds of values, in those of JSON.
fn plain(text: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number that is not negative"),
        ("expected i64", "expected a whole number"),
        ("unknown variant", "unknown op"),
    ];
    words.into_iter().fold(text.to_owned(), |text, (serde, ours)| text.replace(serde, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines<&[u8]> {
        Lines::of(text.as_bytes())
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
        assert!(failure.message.contains("line 1: not an edit: unknown op `fold`"), "{failure}");
        let failure = lines("{\"op\":\"splice\",\"path\":\"/t\",\"pos\":-1}\n").batch(9, 1000).err().unwrap();
        assert!(
            failure.message.contains("line 1: not an edit: invalid value: integer `-1`, expected a whole"),
            "{failure}"
        );
    }
}
