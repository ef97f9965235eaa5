//! How answers are printed: for people, or as JSON for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{exit_code, exit_name};
use crate::text;
use anabranch_api::Failure;

/// The two ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    /// One object to a line.
    pub(crate) json: bool,
}

/// What people are shown. A string becomes one line whatever is in it, so that nothing that a peer wrote begins another.
pub(crate) struct Shown(String);

impl Shown {
    /// A JSON value over several lines.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self(text::lines(&format!("{value:#}")).into_owned())
    }

    /// With one more line.
    pub(crate) fn line(self, line: &str) -> Self {
        self.joined(&text::line(line))
    }

    /// With one more line, of a text: tabs in it stay.
    pub(crate) fn text_line(self, line: &str) -> Self {
        self.joined(&text::lines(line))
    }

    fn joined(mut self, line: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(line);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A text as it is, for a file or another program. A terminal is shown its control characters instead.
    pub(crate) fn raw(text: &str) -> Self {
        if io::stdout().is_terminal() { Self(text::lines(text).into_owned()) } else { Self(text.to_owned()) }
    }
}

impl From<String> for Shown {
    fn from(line: String) -> Self {
        Self(text::line(&line).into_owned())
    }
}

impl From<Vec<String>> for Shown {
    fn from(lines: Vec<String>) -> Self {
        Self(lines.iter().map(|line| text::line(line)).collect::<Vec<_>>().join("\n"))
    }
}

impl Show {
    /// Prints one thing: as JSON, or in the words that `human` finds.
    pub(crate) fn one<T: Serialize, S: Into<Shown>>(
        self,
        value: &T,
        human: impl FnOnce(&T) -> S,
    ) -> Result<(), Failure> {
        put(&self.text(value, human)?)
    }

    /// What [`Show::one`] prints.
    pub(crate) fn text<T: Serialize, S: Into<Shown>>(
        self,
        value: &T,
        human: impl FnOnce(&T) -> S,
    ) -> Result<String, Failure> {
        if !self.json {
            return Ok(human(value).into().0);
        }
        let json = serde_json::to_string(value);
        let json = json.map_err(|error| Failure::failed(format!("cannot print the answer: {error}")))?;
        Ok(text::lines(&json).into_owned())
    }

    /// Prints a text that only people need.
    pub(crate) fn remark(self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { put(&text::lines(text)) }
    }

    /// Says something beside the answer, which only people need.
    pub(crate) fn aside(self, text: &str) {
        if !self.json {
            complain(text);
        }
    }

    /// Says why a command failed, on standard error: a line for people, or an object.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            let code = exit_code(failure);
            let json = serde_json::json!({
                "error": {
                    "exit": exit_name(code),
                    "code": code,
                    "reason": failure.code,
                    "message": failure.message,
                }
            });
            let _ = writeln!(io::stderr().lock(), "{}", text::lines(&json.to_string()));
        } else {
            complain(&failure.message);
        }
    }
}

/// A line on standard error. Where that is closed there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "anabranch: {}", text::line(text));
}

/// Prints a piece of JSON text as it is, but for control characters.
pub(crate) fn print_json_piece(piece: &str) -> Result<(), Failure> {
    written(io::stdout().lock().write_all(text::lines(piece).as_bytes()))
}

/// Prints bytes as they are: a text or a page for another program.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Prints text and the end of its line to standard output, at once.
fn put(text: &str) -> Result<(), Failure> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    print_bytes(format!("{text}{end}").as_bytes())
}

/// A reader that has gone away ends the program quietly, as it does for `cat`.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::failed(format!("cannot print: {error}"))),
    }
}

/// The first eight digits of an id: what people are shown.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A device: the first digits of its id, and what it calls itself.
pub(crate) fn device(id: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{} ({name})", short(id)),
        None => short(id).to_owned(),
    }
}

/// Heads, short, in one word.
pub(crate) fn heads(heads: &[String]) -> String {
    match heads {
        [] => "-".to_owned(),
        heads => heads.iter().map(|head| short(head)).collect::<Vec<_>>().join(","),
    }
}

/// `1 document`, `2 documents`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Bytes in at most three digits, one of them after the point: `12 B`, `1.2 kB`, `123 MB`.
pub(crate) fn size(bytes: u64) -> String {
    let (mut tenths, mut units) = (bytes.saturating_mul(10), ["B", "kB", "MB", "GB", "TB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if tenths < 10_000 {
            break;
        }
        (tenths, unit) = (tenths / 1_000, next);
    }
    if tenths < 100 && unit != "B" {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", tenths / 10)
    }
}

/// Seconds since 1970 as a date and a time of day, in UTC.
pub(crate) fn time(wall_s: i64) -> String {
    let (days, second) = (wall_s.div_euclid(86_400), wall_s.rem_euclid(86_400));
    // Days to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(time(1_772_323_199), "2026-02-28 23:59:59");
        assert_eq!(time(-1), "1969-12-31 23:59:59");
        time(i64::MAX);
        time(i64::MIN);
    }

    #[test]
    fn what_a_peer_wrote_begins_no_line() {
        assert_eq!(Shown::from("a\nb\u{9b}".to_owned()).0, "a\\nb\\u009b");
        assert_eq!(Shown::from(vec!["a\nb".to_owned(), "c".to_owned()]).0, "a\\nb\nc");
        assert_eq!(Shown::json(&serde_json::json!({ "k\u{202e}": "\n" })).0, "{\n  \"k\\u202e\": \"\\n\"\n}");
        let json = Show { json: true }.text(&"\u{9b}", |_| String::new()).unwrap();
        assert_eq!(json, "\"\\u009b\"");
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 999, 1_000, 1_949, 12_345, 999_999, 1_250_000, 120_000_000, 7_000_000_000];
        assert_eq!(
            sizes.map(size),
            ["0 B", "999 B", "1.0 kB", "1.9 kB", "12 kB", "999 kB", "1.2 MB", "120 MB", "7.0 GB"]
        );
        size(u64::MAX);
    }

    #[test]
    fn one_thing_is_not_many() {
        assert_eq!(count(1, "document"), "1 document");
        assert_eq!(count(0, "document"), "0 documents");
    }
}
