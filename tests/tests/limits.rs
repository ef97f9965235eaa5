//! docs/limits.md has every limit of the engine, with its number and its reason, as core/engine/src/limits.rs has them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where the table begins and ends on the page.
const BEGIN: &str = "<!-- made from core/engine/src/limits.rs: tests/tests/limits.rs prints what belongs here -->\n";
const END: &str = "<!-- end -->\n";

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A whole number, or milliseconds.
#[derive(Clone, Copy)]
enum Amount {
    Number(u128),
    Milliseconds(u128),
}

/// The value of an expression of the kinds that limits.rs has; `known` are the expressions of its constants.
fn evaluate(expression: &str, known: &BTreeMap<&str, &str>) -> Amount {
    let number = |text: &str| match evaluate(text, known) {
        Amount::Number(number) => number,
        Amount::Milliseconds(_) => panic!("`{expression}` calculates with a time"),
    };
    let inside = |begin: &str| expression.strip_prefix(begin).and_then(|rest| rest.strip_suffix(')'));
    if let Some(seconds) = inside("Duration::from_secs(") {
        return Amount::Milliseconds(number(seconds) * 1_000);
    }
    if let Some(milliseconds) = inside("Duration::from_millis(") {
        return Amount::Milliseconds(number(milliseconds));
    }
    // The weakest first; what is in brackets comes first in these expressions.
    if let Some((left, right)) = expression.rsplit_once(" - ") {
        return Amount::Number(number(left.trim_matches(['(', ')'])) - number(right));
    }
    if let Some((left, right)) = expression.rsplit_once(" << ") {
        return Amount::Number(number(left) << number(right));
    }
    if let Some((left, right)) = expression.split_once(" + ") {
        return Amount::Number(number(left) + number(right));
    }
    if let Some((left, right)) = expression.split_once(" * ") {
        return Amount::Number(number(left) * number(right));
    }
    match known.get(expression) {
        Some(constant) => evaluate(constant, known),
        None => Amount::Number(expression.replace('_', "").parse().unwrap_or_else(|_| panic!("`{expression}`"))),
    }
}

fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

fn shown(name: &str, amount: Amount) -> String {
    match amount {
        Amount::Milliseconds(ms) if ms.is_multiple_of(1_000) => format!("{} s", grouped(ms / 1_000)),
        Amount::Milliseconds(ms) => format!("{ms} ms"),
        Amount::Number(bytes) if name.contains("BYTES") && bytes.is_multiple_of(1 << 20) => {
            format!("{} MiB", bytes >> 20)
        }
        Amount::Number(bytes) if name.contains("BYTES") && bytes.is_multiple_of(1 << 10) => {
            format!("{} KiB", bytes >> 10)
        }
        Amount::Number(number) => grouped(number),
    }
}

/// A constant's name and expression, if a line has one.
fn constant(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("pub const ")?.split_once(": ")?;
    let (_, expression) = rest.split_once(" = ")?;
    Some((name, expression.trim_end_matches(';')))
}

/// The table, from the code.
fn table() -> String {
    let code = read("core/engine/src/limits.rs");
    let known: BTreeMap<&str, &str> = code.lines().filter_map(constant).collect();
    let mut table = String::new();
    let mut reason = Vec::new();
    for line in code.lines() {
        if let Some(heading) = line.strip_prefix("// ") {
            let heading = heading.trim_end_matches('.');
            table.push_str(&format!("\n### {heading}\n\n| limit | number | what it bounds |\n|---|---|---|\n"));
        } else if let Some(text) = line.strip_prefix("/// ") {
            reason.push(text);
        } else if let Some((name, expression)) = constant(line) {
            let number = shown(name, evaluate(expression, &known));
            table.push_str(&format!("| `{name}` | {number} | {} |\n", reason.join(" ")));
            reason.clear();
        }
    }
    table
}

#[test]
fn the_page_of_limits_is_as_the_code_has_them() {
    let page = read("docs/limits.md");
    let found = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table);
    let expected = table();
    assert!(found == Some(expected.as_str()), "between its marks docs/limits.md should have:\n{expected}");
}
