//! Texts line by line: what differs between two versions of them, in the unified format of POSIX `diff -u`.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use automerge as am;
use automerge::ReadDoc as _;

use crate::document::UnknownHeads;
use crate::document::json;
use crate::document::patch;
use crate::document::path::Path;
use crate::document::read;
use crate::document::sequence_diff::{self, STEPS_MAX};
use crate::document::view::View;
use crate::id::ChangeHash;

/// Lines that are shown around those that differ.
const CONTEXT: usize = 3;

/// A text that is not the same in two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextChange {
    /// Where it is in the later one.
    pub path: Path,
    /// What it said.
    pub old: String,
    /// What it says.
    pub new: String,
}

impl TextChange {
    /// The lines of the unified format, without the names of files in front and without their ends.
    pub fn unified(&self) -> Vec<String> {
        unified(&self.old, &self.new)
    }
}

impl View<'_> {
    /// The texts that differ between the version `from` and this one, each as a whole. A text that took the place of another is
    /// compared with that.
    ///
    /// # Errors
    /// Names the first of `from` that is not in the document.
    pub fn texts_changed(&self, from: &[ChangeHash]) -> Result<Vec<TextChange>, UnknownHeads> {
        let from = self.known(from)?;
        let doc = self.doc();
        let to = self.when().map_or_else(|| doc.get_heads(), <[_]>::to_vec);
        let mut seen = BTreeSet::new();
        let mut changes = Vec::new();
        for patch in doc.diff(&from, &to) {
            let is_text = matches!(doc.object_type(&patch.obj), Ok(am::ObjType::Text));
            if !is_text || !seen.insert(patch.obj.clone()) {
                continue;
            }
            let path = patch::object_path(&patch);
            let mut old = json::text_out(doc, Some(&from), &patch.obj);
            if old.is_empty() {
                old = read::text(doc, Some(&from), &path).unwrap_or_default();
            }
            let new = json::text_out(doc, Some(&to), &patch.obj);
            changes.push(TextChange { path, old, new });
        }
        Ok(changes)
    }
}

fn unified(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let mut steps = STEPS_MAX;
    let mut hunks = sequence_diff::hunks(&old, &new, &mut steps).into_iter().peekable();
    let mut shown = Vec::new();
    while let Some(first) = hunks.next() {
        let before = CONTEXT.min(first.old.start);
        let start = (first.old.start - before, first.new.start - before);
        let mut at = start.0;
        let mut lines = Vec::new();
        let mut last = first;
        loop {
            old[at..last.old.start].iter().for_each(|line| push(&mut lines, ' ', line));
            old[last.old.clone()].iter().for_each(|line| push(&mut lines, '-', line));
            new[last.new.clone()].iter().for_each(|line| push(&mut lines, '+', line));
            at = last.old.end;
            match hunks.next_if(|next| next.old.start - at <= 2 * CONTEXT) {
                Some(next) => last = next,
                None => break,
            }
        }
        let after = CONTEXT.min(old.len() - at);
        old[at..at + after].iter().for_each(|line| push(&mut lines, ' ', line));
        shown.push(format!("@@ -{} +{} @@", range(start.0..at + after), range(start.1..last.new.end + after)));
        shown.append(&mut lines);
    }
    shown
}

fn push(lines: &mut Vec<String>, mark: char, line: &str) {
    match line.strip_suffix('\n') {
        Some(line) => lines.push(format!("{mark}{line}")),
        None => {
            lines.push(format!("{mark}{line}"));
            lines.push(String::from("\\ No newline at end of file"));
        }
    }
}

/// Lines are counted from 1; where there are none, the one before is named.
fn range(lines: Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        length => format!("{},{length}", lines.start + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected is what GNU diffutils print for the same.
    #[test]
    fn lines_are_shown_as_diff_shows_them() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n";
        let new = "a\nb\nC\nd\ne\nf\ng\nh\ni\nj\nk\nm\nn\n";
        let expected = [
            "@@ -1,6 +1,6 @@",
            " a",
            " b",
            "-c",
            "+C",
            " d",
            " e",
            " f",
            "@@ -9,5 +9,5 @@",
            " i",
            " j",
            " k",
            "-l",
            " m",
            "+n",
        ];
        assert_eq!(unified(old, new), expected);
        assert_eq!(unified("a\nb\n", "a\nb\n"), Vec::<String>::new());
        assert_eq!(unified("", "a\nb\n"), ["@@ -0,0 +1,2 @@", "+a", "+b"]);
        assert_eq!(unified("a\n", ""), ["@@ -1 +0,0 @@", "-a"]);
        let end = "\\ No newline at end of file";
        assert_eq!(unified("a\nb", "a\nc\n"), ["@@ -1,2 +1,2 @@", " a", "-b", end, "+c"]);
        assert_eq!(unified("x\nb", "y\nb"), ["@@ -1,2 +1,2 @@", "-x", "+y", " b", end]);
    }

    #[test]
    fn changes_with_few_lines_between_them_are_shown_together() {
        let lines = |changed: &[usize]| {
            (0..30).map(|at| format!("{at}{}\n", if changed.contains(&at) { "!" } else { "" })).collect::<String>()
        };
        let headers = |changed: &[usize]| {
            let lines = unified(&lines(&[]), &lines(changed));
            lines.into_iter().filter(|line| line.starts_with("@@")).collect::<Vec<_>>()
        };
        assert_eq!(headers(&[5, 12]), ["@@ -3,14 +3,14 @@"]);
        assert_eq!(headers(&[5, 13]), ["@@ -3,7 +3,7 @@", "@@ -11,7 +11,7 @@"]);
    }
}
