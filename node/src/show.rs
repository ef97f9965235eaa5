//! How answers are printed: for people, or as JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// The two ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    /// One object to a line.
    pub(crate) json: bool,
}

impl Show {
    /// Prints one thing: as JSON, or in the words that `human` finds.
    pub(crate) fn one<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string(value).map_err(|error| Failure::error(format!("cannot print the answer: {error}")))?
        } else {
            human(value)
        };
        print(&text)
    }

    /// Prints a line that only people need.
    pub(crate) fn remark(self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { print(text) }
    }
}

/// Prints a line to standard output, at once. A reader that has gone away ends the program quietly, as it does for `cat`.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let result = out.write_all(text.as_bytes()).and_then(|()| {
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    });
    written(result)
}

/// Prints a piece of a larger text as it is.
pub(crate) fn print_piece(text: &str) -> Result<(), Failure> {
    written(io::stdout().lock().write_all(text.as_bytes()))
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::error(format!("cannot print: {error}"))),
    }
}

/// The first eight digits of an id: what people are shown.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
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
    fn one_thing_is_not_many() {
        assert_eq!(count(1, "document"), "1 document");
        assert_eq!(count(0, "document"), "0 documents");
    }
}
