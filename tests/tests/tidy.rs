//! The house's rules that no compiler checks: who imports whom, where automerge and clocks are named, what every file
//! begins with, and that the documents tell the truth about the tree. Reads files only.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code, tests and comments not counted, from which a file must give its reason here.
const CODE_LINES_MAX: usize = 700;
/// Long files, each with its one idea.
const LONG_FILES: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Every file of the project with its path from the root, built things left out.
fn files() -> Vec<(String, PathBuf)> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<(String, PathBuf)>) {
        let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().expect("names in the tree are UTF-8").to_owned();
            // What is not part of the tree (`.gitignore`); `.git` is a folder or, in a worktree, a file.
            if name == ".git"
                || name.ends_with(".tmp")
                || name.starts_with("target")
                || path.join("CACHEDIR.TAG").exists()
            {
                continue;
            }
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push((name, path));
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file: name and text.
fn sources() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .map(|(name, path)| {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, text)
        })
        .collect()
}

/// A file's code: comments taken out, and the unit tests at its end.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

/// A line up to its comment. `://` is part of an address, not a comment.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| *at == 0 || line.as_bytes()[at - 1] != b':');
    comment.map_or(line, |(at, _)| &line[..at])
}

fn assert_none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

/// Names of the crates that a manifest depends on; `dev` says whether those of its tests count too.
fn dependencies(manifest: &str, dev: bool) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in read(manifest).lines() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            inside = section.ends_with("dependencies]") && (dev || !section.contains("dev-dependencies"));
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    names
}

#[test]
fn crates_import_only_whom_they_may() {
    let allowed: &[(&str, &[&str])] = &[
        ("core/engine/Cargo.toml", &[]),
        ("core/store/Cargo.toml", &["anabranch-engine"]),
        ("core/net/Cargo.toml", &["anabranch-engine"]),
        ("core/Cargo.toml", &["anabranch-engine", "anabranch-net", "anabranch-store"]),
        ("core/api/Cargo.toml", &["anabranch", "anabranch-engine"]),
        ("node/Cargo.toml", &["anabranch", "anabranch-api"]),
        ("wasm/Cargo.toml", &["anabranch"]),
        ("examples/Cargo.toml", &["anabranch"]),
    ];
    let mut offenders = Vec::new();
    for (manifest, ours) in allowed {
        for name in dependencies(manifest, true) {
            if name.starts_with("anabranch") && !ours.contains(&name.as_str()) {
                offenders.push(format!("{manifest} names {name}"));
            }
        }
    }
    let manifests: Vec<_> = files().into_iter().filter(|(name, _)| name.ends_with("Cargo.toml")).collect();
    assert_eq!(manifests.len(), allowed.len() + 3, "a crate was added: give it its place in this table");
    assert_none("the import table of ARCHITECTURE.md", &offenders);
}

#[test]
fn only_their_rooms_name_the_big_dependencies() {
    let rooms: &[(&str, &[&str])] = &[
        ("libp2p", &["core/net/Cargo.toml", "tests/Cargo.toml"]),
        ("libp2p-stream", &["core/net/Cargo.toml", "tests/Cargo.toml"]),
        ("redb", &["core/store/Cargo.toml", "tests/Cargo.toml"]),
        ("automerge", &["core/engine/Cargo.toml", "tests/Cargo.toml", "tests/fuzz/Cargo.toml"]),
    ];
    let mut offenders = Vec::new();
    for (name, _) in files().into_iter().filter(|(name, _)| name.ends_with("Cargo.toml") && name != "Cargo.toml") {
        let named = dependencies(&name, true);
        for (dependency, allowed) in rooms {
            if named.contains(*dependency) && !allowed.contains(&name.as_str()) {
                offenders.push(format!("{name} names {dependency}"));
            }
        }
    }
    assert_none("dependencies outside their rooms", &offenders);
}

#[test]
fn mutants_are_for_the_simulator_alone() {
    let mut offenders = Vec::new();
    for (name, _) in files().into_iter().filter(|(name, _)| name.ends_with("Cargo.toml")) {
        let manifest = read(&name);
        let may = matches!(name.as_str(), "core/engine/Cargo.toml" | "tests/Cargo.toml");
        // A build of the whole workspace builds the shipped node too, with every feature that any of its crates turns on.
        let named = manifest.lines().filter(|line| line.contains("mutants") && !line.trim_start().starts_with('#'));
        let turned_on = manifest.lines().any(|line| line.starts_with("default ") || line.starts_with("default="));
        let allowed = ["mutants = []", "mutants = [\"anabranch-engine/mutants\"]"];
        let allowed = |line: &str| {
            may && (allowed.contains(&line) || line.ends_with("= \"mutants\"") || line.starts_with("required-features"))
        };
        offenders.extend(named.filter(|line| !allowed(line) || turned_on).map(|line| format!("{name}: {line}")));
    }
    assert_none("the engine's deliberate faults are off unless the simulator asks for them", &offenders);
}

#[test]
fn engine_is_pure() {
    let library = read("core/engine/src/lib.rs");
    assert!(library.contains("#![no_std]"), "core/engine/src/lib.rs lost #![no_std]");
    let banned = ["tokio", "futures", "libp2p", "redb", "getrandom", "rand", "web-time", "async-channel", "chrono"];
    for name in dependencies("core/engine/Cargo.toml", false) {
        assert!(!banned.contains(&name.as_str()), "core/engine/Cargo.toml names {name}");
    }
    let mut offenders = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with("core/engine/src/")) {
        let code = code(&text);
        for word in ["std::", "tokio::", "libp2p::", "redb::", "HashMap", "HashSet", "extern crate std"] {
            if code.contains(word) {
                offenders.push(format!("{name}: {word}"));
            }
        }
    }
    assert_none("the engine has no clock, no randomness, no IO, no unordered maps", &offenders);
}

#[test]
fn automerge_is_named_in_document_and_gate_only() {
    let rooms = [
        "core/engine/src/document.rs",
        "core/engine/src/document/",
        "core/engine/src/gate.rs",
        "core/engine/src/gate/",
        "core/engine/examples/",
        "core/engine/tests/",
        "tests/",
    ];
    let named: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !rooms.iter().any(|room| name.starts_with(room)))
        .filter(|(_, text)| text.lines().map(without_comment).any(|line| line.contains("automerge::")))
        .map(|(name, _)| name)
        .collect();
    assert_none("automerge is upgraded in one place", &named);
}

#[test]
fn clocks_are_read_in_one_place() {
    // Measurements, real processes and people's time limits need real time, and decide nothing that replicas must agree on.
    // The simulator itself is not among them.
    let rooms = [
        "core/src/driver/clock.rs",
        "core/engine/examples/",
        "core/store/examples/",
        "node/src/cli/demo.rs",
        "node/src/time_limit.rs",
        "tests/src/bench/",
        "tests/src/bin/",
        "tests/src/processes/",
    ];
    let read: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !rooms.iter().any(|room| name.starts_with(room)) && !name.contains("/tests/"))
        .filter(|(_, text)| {
            let code = code(text);
            code.contains("Instant::now") || code.contains("SystemTime::now")
        })
        .map(|(name, _)| name)
        .collect();
    assert_none("time is an input: only core/src/driver/clock.rs reads clocks", &read);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| {
            let first = text.lines().next().unwrap_or_default();
            !(first.starts_with("//! ") && first.len() > 8)
        })
        .map(|(name, _)| name)
        .collect();
    assert_none("the first line of a file is `//!` and what it is for", &silent);
}

#[test]
fn modules_are_files_beside_their_folder() {
    let wrong: Vec<String> = files()
        .into_iter()
        .map(|(name, _)| name)
        // What the integration tests of a crate share: cargo takes tests/common.rs for one more test.
        .filter(|name| name.ends_with("/mod.rs") && !name.ends_with("/tests/common/mod.rs"))
        .collect();
    assert_none("foo.rs and foo/, never mod.rs", &wrong);
}

#[test]
fn long_files_give_a_reason() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| LONG_FILES.iter().all(|(listed, _)| listed != name) && !name.ends_with("/tests.rs"))
        .map(|(name, text)| (name, code(&text).lines().filter(|line| !line.trim().is_empty()).count()))
        .filter(|(_, lines)| *lines > CODE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines of code, limit {CODE_LINES_MAX}"))
        .collect();
    assert_none("a second idea in them? Split, or list the reason in LONG_FILES", &long);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut offenders = Vec::new();
    for (name, text) in sources() {
        for word in [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("X", "XX")] {
            if text.contains(word) {
                offenders.push(format!("{name}: {word}"));
            }
        }
    }
    assert_none("unfinished code", &offenders);
}

#[test]
fn nothing_of_a_particular_machine_is_in_the_tree() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("../sha", "red"),
        concat!("arti", "factory"),
    ];
    let mut offenders = Vec::new();
    for (name, path) in files() {
        // Data files are data.
        let Ok(text) = String::from_utf8(fs::read(&path).unwrap()) else { continue };
        for place in places {
            if text.contains(place) {
                offenders.push(format!("{name}: {place}"));
            }
        }
    }
    assert_none("machine paths and registry hosts", &offenders);
}

#[test]
fn every_limit_is_enforced_somewhere() {
    let limits = code(&read("core/engine/src/limits.rs"));
    let everything: String = sources()
        .into_iter()
        .filter(|(name, _)| name.starts_with("core/") && name != "core/engine/src/limits.rs")
        .map(|(_, text)| code(&text))
        .collect();
    let idle: Vec<String> = limits
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        // A limit may also be the ground of another one.
        .filter(|name| words(&everything, name) == 0 && words(&limits, name) < 2)
        .map(str::to_owned)
        .collect();
    assert_none("a limit that nothing enforces is a wish", &idle);
}

/// How often a word stands in a text, not as a part of another.
fn words(text: &str, word: &str) -> usize {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word)
        .filter(|(at, _)| !text[..*at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word))
        .count()
}

#[test]
fn readme_gives_the_commands_that_ci_runs() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for name in ["README_FIRST", "README_SECOND"] {
        let command = ci
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''))
            .unwrap_or_else(|| panic!(".ci/run has no line {name}='..'"));
        assert!(ci.contains(&format!("${name}")), ".ci/run does not run {name}");
        let given = readme.lines().any(|line| line.split('#').next().unwrap_or_default().trim() == command);
        assert!(given, "README.md does not give `{command}`");
    }
}

#[test]
fn readme_program_is_the_one_that_is_run() {
    // The library's front page holds the same program as a doctest.
    let readme = read("README.md");
    let program = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    let library: String = read("core/src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    for line in program.lines().filter(|line| !line.trim().is_empty()) {
        let line = line.trim();
        assert!(library.contains(line), "README.md's program has a line that core/src/lib.rs does not run: {line}");
    }
}

#[test]
fn guarantees_name_tests_that_exist() {
    let mut rows = 0;
    let mut offenders = Vec::new();
    let pages = read("docs/guarantees.md") + &read("docs/threat-model.md");
    for line in pages.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() != 3 || matches!(cells[0], "promise" | "tries" | "who") {
            continue;
        }
        rows += 1;
        let tests: Vec<(&str, &str)> = backticked(cells[2]).filter_map(|item| item.split_once(".rs::")).collect();
        // Attacks are held to the tree by a test of their own.
        let is_attacked = backticked(cells[2]).any(|item| item.starts_with("hostile "));
        if tests.is_empty() && !is_attacked && !is_actor(cells[0]) {
            offenders.push(format!("no test in: {}", cells[0]));
        }
        for (file, test) in tests {
            let found = fs::read_to_string(root().join(format!("{file}.rs")))
                .is_ok_and(|text| text.contains(&format!("fn {test}(")));
            if !found {
                offenders.push(format!("no test {file}.rs::{test}"));
            }
        }
    }
    assert!(rows > 10, "docs/guarantees.md has {rows} rows");
    assert_none("docs/guarantees.md and docs/threat-model.md", &offenders);
}

/// A row of the threat model that says who there is.
fn is_actor(cell: &str) -> bool {
    ["stranger", "ticket holder", "reader", "writer", "admin", "another "].iter().any(|who| cell.starts_with(who))
}

fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn documents_name_files_that_exist() {
    let mut offenders = Vec::new();
    for (name, path) in files().into_iter().filter(|(name, _)| name.ends_with(".md")) {
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines() {
            for item in backticked(line) {
                let item = item.split("::").next().unwrap_or(item);
                let in_tree = ["core/", "node/", "wasm/", "examples/", "tests/", "docs/", "scripts/", ".ci/"];
                let is_path = in_tree.iter().any(|room| item.starts_with(room))
                    && !item.contains(|c: char| c.is_whitespace() || "*{<".contains(c));
                if is_path && !root().join(item).exists() {
                    offenders.push(format!("{name}: {item}"));
                }
            }
            for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let from = Path::new(&name).parent().expect("a file has a folder");
                if !link.is_empty() && !link.contains(':') && !root().join(from).join(link).exists() {
                    offenders.push(format!("{name} links to {link}"));
                }
            }
        }
    }
    assert_none("documents name what is not there", &offenders);
}

#[test]
fn the_code_map_is_true() {
    // In ARCHITECTURE.md's map, a line that begins with a path names a file or folder.
    let text = read("ARCHITECTURE.md");
    let map = text.split("```text\ncore/").nth(1).and_then(|rest| rest.split("```").next()).expect("a code map");
    let map = format!("core/{map}");
    let mut crates = String::new();
    let mut offenders = Vec::new();
    for line in map.lines().filter(|line| !line.trim().is_empty()) {
        let entry = line.split_whitespace().next().expect("not blank");
        if line.starts_with(' ') {
            let path = format!("{crates}{entry}");
            if !root().join(&path).exists() {
                offenders.push(path);
            }
        } else {
            crates = entry.to_owned();
            if !root().join(entry).exists() {
                offenders.push(entry.to_owned());
            }
        }
    }
    assert_none("the code map names what is not there", &offenders);
}

#[test]
fn the_papers_are_there() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "deny.toml",
        "docs/protocol.md",
        "docs/storage.md",
        "docs/guarantees.md",
    ] {
        assert!(read(name).len() > 100, "{name} says nothing");
    }
    assert!(read("Cargo.toml").contains("license = \"MIT OR Apache-2.0\""));
    for (name, _) in files().into_iter().filter(|(name, _)| name.ends_with("Cargo.toml") && name != "Cargo.toml") {
        let text = read(&name);
        assert!(text.contains("license.workspace = true"), "{name} has no licence");
        assert!(text.contains("[lints]\nworkspace = true"), "{name} does not take the shared lints");
    }
}
