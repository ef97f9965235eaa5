//! Text on its way to a terminal. Names, paths, keys, values and reasons may be what a peer wrote: control characters in them
//! are shown by their code, so that a terminal never obeys them and one line stays one line.
//!
//! There are two places where text leaves the program, [`crate::show`] and [`crate::log`]; both go through here.

use std::borrow::Cow;
use std::fmt::Write;

/// A terminal, or whoever reads text on it, takes this character for an order: C0 and C1 controls and DEL, the controls of
/// writing direction (Unicode Standard Annex 9, section 2), line and paragraph separators.
fn is_control(character: char) -> bool {
    matches!(
        character,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// `text` as one line: every control character becomes its escape in JSON, a line's end `\n`.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, is_control)
}

/// `text` as the lines that it has: ends of lines and tabs stay. JSON stays JSON of the same value, since the characters
/// that are escaped here occur in its strings only.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| is_control(character) && !matches!(character, '\n' | '\t'))
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' if is_escaped('\n') => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' if is_escaped('\t') => shown.push_str("\\t"),
            // Each fits into four digits.
            control if is_escaped(control) => {
                let _ = write!(shown, "\\u{:04x}", u32::from(control));
            }
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROLS: &str = "\u{0}\u{7}\u{8}\t\n\r\u{1b}\u{1f}\u{7f}\u{80}\u{9b}\u{9f}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}";

    #[test]
    fn every_control_character_is_shown_by_its_code() {
        assert_eq!(line("x\u{1b}[31mRED\u{1b}]0;pwn\u{7}\nfake"), r"x\u001b[31mRED\u001b]0;pwn\u0007\nfake");
        assert_eq!(lines("a\tb\r\nc\u{9b}2J\u{202e}"), "a\tb\\r\nc\\u009b2J\\u202e");
        assert!(line(CONTROLS).is_ascii());
        assert!(!line(CONTROLS).contains(|c: char| c.is_ascii_control()));
    }

    #[test]
    fn text_of_people_stays_as_it_is() {
        for text in ["plan", "café", "日本語", "עברית", "👩‍👩‍👧", "back\\slash", ""] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn json_stays_json_of_the_same_value() {
        let value = serde_json::json!({ CONTROLS: [CONTROLS, { "plain": 1 }] });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = lines(&text);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            assert!(shown.chars().all(|character| character == '\n' || !is_control(character)));
        }
    }
}
