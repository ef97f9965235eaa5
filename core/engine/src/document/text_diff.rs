//! The difference between two texts, as splices. Close to linear in the length of what differs, whatever the texts are:
//! what begins and ends alike is skipped, the middle is compared by lines, other lines by words, and only a few other words
//! by characters. Finding the smallest difference of two long unlike texts would take minutes, and
//! would not be what anyone typed.

use alloc::vec::Vec;
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation as _};

use crate::document::sequence_diff::{self, Hunk, STEPS_MAX};

/// Words that differ are compared by characters up to this many bytes, old and new together. Longer ones are replaced:
/// single characters that two long passages happen to share are no common ground to merge on. Guess.
const BY_CHARACTERS_BYTES_MAX: usize = 512;
/// Where more than this many bytes differ, old and new together, they are replaced. Measured: cutting so many into lines
/// and words and numbering those takes some 0.5 s.
const COMPARED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How far back a place between two characters is looked for. Guess: the longest emoji have some 40 bytes.
const BOUNDARY_SOUGHT_BYTES: usize = 256;

/// One change of a text. Positions and lengths are Unicode code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Splice<'a> {
    /// Before which character, in the text as the splices before this one have left it.
    pub position: usize,
    /// Characters to delete there.
    pub delete: usize,
    /// What to insert there.
    pub insert: &'a str,
}

/// What turns `old` into `new`, to be applied in order. Characters that people see as one are kept together.
pub(crate) fn splices<'a>(old: &'a str, new: &'a str) -> Vec<Splice<'a>> {
    let prefix = common_prefix(old, new);
    let suffix = common_suffix(&old[prefix..], &new[prefix..]);
    let (from, to) = (&old[prefix..old.len() - suffix], &new[prefix..new.len() - suffix]);
    let position = old[..prefix].chars().count();
    let mut splices = Splices { made: Vec::new(), position, steps: STEPS_MAX };
    if from.is_empty() || to.is_empty() || from.len() + to.len() > COMPARED_BYTES_MAX {
        splices.replace(from, to);
        return splices.made;
    }
    splices.compare(Unit::Line, from, to);
    splices.made
}

/// What texts are cut into for comparing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Line,
    Word,
    /// What people see as one character.
    Character,
}

impl Unit {
    fn cut(self, text: &str) -> Vec<&str> {
        match self {
            Self::Line => text.split_inclusive('\n').collect(),
            Self::Word => text.split_word_bounds().collect(),
            Self::Character => text.graphemes(true).collect(),
        }
    }
}

struct Splices<'a> {
    made: Vec<Splice<'a>>,
    /// Where the next part begins in the new text, in characters.
    position: usize,
    /// Left for comparing.
    steps: usize,
}

impl<'a> Splices<'a> {
    fn skip(&mut self, text: &str) {
        self.position += text.chars().count();
    }

    fn replace(&mut self, from: &str, to: &'a str) {
        if !(from.is_empty() && to.is_empty()) {
            self.made.push(Splice { position: self.position, delete: from.chars().count(), insert: to });
            self.skip(to);
        }
    }

    /// Adds what differs between two passages.
    fn compare(&mut self, unit: Unit, from: &'a str, to: &'a str) {
        if from.is_empty() || to.is_empty() {
            return self.replace(from, to);
        }
        let parts = parts(unit, from, to, &mut self.steps);
        if unit == Unit::Character && share_little(&parts, from, to) {
            return self.replace(from, to);
        }
        for part in parts {
            match (part, unit) {
                (Part::Same(text), _) => self.skip(text),
                (Part::Other(from, to), Unit::Line) => self.compare(Unit::Word, from, to),
                (Part::Other(from, to), Unit::Word) if from.len() + to.len() <= BY_CHARACTERS_BYTES_MAX => {
                    self.compare(Unit::Character, from, to);
                }
                (Part::Other(from, to), Unit::Word | Unit::Character) => self.replace(from, to),
            }
        }
    }
}

/// Whether less than half of the shorter one would stay: letters that two words happen to share are no common ground.
fn share_little(parts: &[Part<'_>], from: &str, to: &str) -> bool {
    let kept: usize = parts.iter().map(|part| if let Part::Same(text) = part { text.len() } else { 0 }).sum();
    2 * kept < from.len().min(to.len())
}

/// Bytes that both begin with, up to a place where neither is cut inside of what people see as one character.
fn common_prefix(old: &str, new: &str) -> usize {
    let alike = old.bytes().zip(new.bytes()).take_while(|(old, new)| old == new).count();
    boundary_before(old, new, alike, |end| (end, end))
}

/// The same from their ends.
fn common_suffix(old: &str, new: &str) -> usize {
    let alike = old.bytes().rev().zip(new.bytes().rev()).take_while(|(old, new)| old == new).count();
    boundary_before(old, new, alike, |length| (old.len() - length, new.len() - length))
}

/// The greatest length up to `length` at which both may be cut: between what people see as characters, if there is such a place
/// nearby. In a long row of flags there may be none, and finding that out takes time in the square of its length.
fn boundary_before(old: &str, new: &str, length: usize, at: impl Fn(usize) -> (usize, usize)) -> usize {
    let both = |is_boundary: fn(&str, usize) -> bool, length: usize| {
        let (in_old, in_new) = at(length);
        is_boundary(old, in_old) && is_boundary(new, in_new)
    };
    let mut nearby = (length.saturating_sub(BOUNDARY_SOUGHT_BYTES)..=length).rev();
    let between_characters = nearby.find(|&length| both(is_boundary, length));
    let anywhere = || (0..=length).rev().find(|&length| both(str::is_char_boundary, length));
    between_characters.or_else(anywhere).unwrap_or(0)
}

fn is_boundary(text: &str, at: usize) -> bool {
    text.is_char_boundary(at)
        && GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).expect("the whole text is at hand")
}

/// A part of two texts that are compared.
enum Part<'a> {
    /// In both.
    Same(&'a str),
    /// The first became the second.
    Other(&'a str, &'a str),
}

/// The parts of both texts, in order.
fn parts<'a>(unit: Unit, old: &'a str, new: &'a str, steps: &mut usize) -> Vec<Part<'a>> {
    let (old_tokens, new_tokens) = (unit.cut(old), unit.cut(new));
    let (mut in_old, mut in_new) = (Pieces::of(old, &old_tokens), Pieces::of(new, &new_tokens));
    let mut parts = Vec::new();
    let mut hunks = sequence_diff::hunks(&old_tokens, &new_tokens, steps).into_iter().peekable();
    while let Some(Hunk { mut old, mut new }) = hunks.next() {
        // Spaces between words that all differ are no common ground either.
        while let Some(next) = hunks.next_if(|next| new_tokens[new.end..next.new.start].iter().all(is_white)) {
            (old.end, new.end) = (next.old.end, next.new.end);
        }
        in_old.take(old.start);
        parts.push(Part::Same(in_new.take(new.start)));
        parts.push(Part::Other(in_old.take(old.end), in_new.take(new.end)));
    }
    parts.push(Part::Same(in_new.take(new_tokens.len())));
    parts
}

fn is_white(token: &&str) -> bool {
    token.chars().all(char::is_whitespace)
}

/// A text, taken from its beginning by numbers of tokens.
struct Pieces<'t, 'a> {
    text: &'a str,
    tokens: core::slice::Iter<'t, &'a str>,
    taken: usize,
    bytes: usize,
}

impl<'t, 'a> Pieces<'t, 'a> {
    fn of(text: &'a str, tokens: &'t [&'a str]) -> Self {
        Self { text, tokens: tokens.iter(), taken: 0, bytes: 0 }
    }

    /// All up to this token, counted from the beginning.
    fn take(&mut self, end: usize) -> &'a str {
        let start = self.bytes;
        let count = end - self.taken;
        self.bytes += self.tokens.by_ref().take(count).map(|token| token.len()).sum::<usize>();
        self.taken = end;
        &self.text[start..self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn applied(old: &str, splices: &[Splice<'_>]) -> String {
        let mut text: Vec<char> = old.chars().collect();
        for splice in splices {
            text.splice(splice.position..splice.position + splice.delete, splice.insert.chars());
        }
        text.into_iter().collect()
    }

    fn change(position: usize, delete: usize, insert: &str) -> Splice<'_> {
        Splice { position, delete, insert }
    }

    #[test]
    fn difference_is_what_was_typed() {
        assert_eq!(splices("same", "same"), []);
        assert_eq!(splices("", "new"), [change(0, 0, "new")]);
        assert_eq!(splices("old", ""), [change(0, 3, "")]);
        assert_eq!(splices("hello world", "hello brave world"), [change(6, 0, "brave ")]);
        assert_eq!(splices("hello", "Hello"), [change(0, 1, "H")]);
        assert_eq!(splices("a beatiful day", "a beautiful day"), [change(5, 0, "u")]);
        assert_eq!(splices("a beatiful wrld", "a beautiful world"), [change(5, 0, "u"), change(13, 0, "o")]);
        assert_eq!(splices("one two three four", "one 2 three for"), [change(4, 3, "2"), change(14, 1, "")]);
    }

    #[test]
    fn characters_seen_as_one_are_replaced_as_one() {
        // A man, a woman and a girl; a man, a woman and a boy. Each pair of code points is one character.
        let girl = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
        let boy = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f466}";
        assert_eq!(splices(girl, boy), [change(0, 5, boy)]);
        assert_eq!(splices("cafe", "cafe\u{301}"), [change(3, 1, "e\u{301}")]);
    }

    // In a row of flags the cursor counts them all to know where one begins, at each place that is tried.
    #[test]
    fn rows_of_flags_take_linear_time() {
        let flags = "\u{1f1e6}".repeat(200_000);
        let (old, new) = (alloc::format!("a{flags}"), alloc::format!("b{flags}\u{1f1e6}"));
        assert_eq!(applied(&old, &splices(&old, &new)), new);
    }

    #[test]
    fn unlike_passages_are_replaced_as_a_whole() {
        let (old, new) = ("abcdefgh ".repeat(100), "xyzuvwst ".repeat(100));
        let (old, new) = (alloc::format!("start {old}end"), alloc::format!("start {new}end"));
        assert_eq!(splices(&old, &new), [change(6, 899, new[6..new.len() - 4].trim())]);
        assert_eq!(splices("see the banana", "see the nature"), [change(8, 6, "nature")]);
    }

    proptest! {
        #[test]
        fn splices_turn_one_text_into_the_other(old in "[ab \u{e9}\u{301}\u{1f468}\n]{0,60}", new in "[ab \u{e9}\u{301}\u{1f468}\n]{0,60}") {
            prop_assert_eq!(applied(&old, &splices(&old, &new)), new);
        }
    }
}
