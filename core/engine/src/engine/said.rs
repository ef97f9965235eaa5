//! What peers write for people to read: why they end a session, or do not take a run. Anybody may write anything, and it goes into
//! logs, errors and lists; so it is cut, and made one line, where it comes in.

use alloc::string::String;
use core::fmt::Write as _;

use crate::limits::PEER_TEXT_CHARS_MAX;

/// As much of a peer's text as is shown, control characters by their codes.
pub(super) fn said(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(PEER_TEXT_CHARS_MAX) {
        if character.is_control() {
            write!(shown, "\\u{:04x}", u32::from(character)).expect("writing to memory does not fail");
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_short_and_one_line() {
        assert_eq!(said("gone for a walk"), "gone for a walk");
        assert_eq!(said("a\nERROR fake\u{1b}[31m\u{9b}"), "a\\u000aERROR fake\\u001b[31m\\u009b");
        assert_eq!(said(&"\u{e4}".repeat(10_000)), "\u{e4}".repeat(PEER_TEXT_CHARS_MAX));
    }
}
