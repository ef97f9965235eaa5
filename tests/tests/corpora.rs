//! Every input that was kept, and mutations of it, through its body: what a fuzzer found once stays found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use anabranch_engine::gate::Refusal;
use anabranch_tests::fuzz::{TARGETS, gate, orphans, seeds};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(corpus(target))
        .unwrap_or_else(|error| panic!("{target} has no corpus: {error}"))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// xorshift64*: the same mutations on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        match self.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.below(256) as u8),
            2 if !bytes.is_empty() => _ = bytes.remove(at),
            3 => {
                let length = self.below(64).min(bytes.len() - at);
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let from = self.below(other.len());
                let length = self.below(64).min(other.len() - from);
                let to = at + length.min(bytes.len() - at);
                bytes.splice(at..to, other[from..from + length].iter().copied());
            }
            5 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            _ if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            _ => {}
        }
    }
}

fn replay(target: &str) {
    let (_, body, mutations) = TARGETS.iter().find(|(name, ..)| *name == target).unwrap();
    let files = files(target);
    assert!(!files.is_empty(), "{target} has no corpus");
    let mut dice = Dice(0x0a11_ab2a);
    for (name, bytes) in &files {
        assert!(catch_unwind(|| body(bytes)).is_ok(), "{target}/{name}");
        for _ in 0..*mutations {
            let mut bytes = bytes.clone();
            let (_, other) = &files[dice.below(files.len())];
            for _ in 0..=dice.below(3) {
                dice.mutate(&mut bytes, other);
            }
            if catch_unwind(|| body(&bytes)).is_err() {
                let found = std::env::temp_dir().join(format!("{target}-found"));
                fs::write(&found, &bytes).unwrap();
                panic!("{target}: a mutation of {name} fails; it is in {}", found.display());
            }
        }
    }
}

macro_rules! replays {
    ($($name:ident: $target:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                replay($target);
            }
        )*

        #[test]
        fn every_target_is_replayed_and_is_a_target_of_the_fuzzer() {
            let replayed = BTreeSet::from([$($target),*]);
            assert_eq!(replayed, TARGETS.iter().map(|(name, ..)| *name).collect());
            let fuzzed = fs::read_dir(corpus("../fuzz_targets")).unwrap();
            let fuzzed: BTreeSet<String> =
                fuzzed.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            assert_eq!(fuzzed, replayed.into_iter().map(str::to_owned).collect());
        }
    };
}

replays! {
    frames: "frame",
    messages: "message",
    hints: "hint",
    payloads: "payload",
    what_passes_the_gate_is_equal_everywhere: "gate",
    runs_that_wait: "orphans",
    stored_values: "stored",
    membership_entries: "membership",
    tickets: "ticket",
    paths: "path",
    requests: "request",
    edits: "edit",
    images: "image",
    salvaged_files: "salvage",
    sessions: "session",
    recordings: "recording",
}

#[test]
fn seeds_of_the_gate_pass_it() {
    // Or the fuzzer would begin in front of it.
    for (name, bytes) in files("gate").iter().filter(|(name, _)| name.starts_with("seed-")) {
        assert!(gate::accepted(bytes) >= 5, "{name}: {} changes accepted", gate::accepted(bytes));
    }
}

// Changes that name objects which are not there went through the gate, and automerge panicked over them.
#[test]
fn what_automerge_panics_over_is_refused_before_it_sees_it() {
    let files: Vec<_> =
        files("gate").into_iter().filter(|(name, _)| name.starts_with("automerge-panics-at-")).collect();
    assert!(files.len() >= 3);
    for (name, bytes) in files {
        let (_, refused) = gate::judged(&bytes);
        assert!(refused.iter().any(|refusal| matches!(refusal, Refusal::Impossible { .. })), "{name}: {refused:?}");
        assert!(!refused.contains(&Refusal::Poisoned), "{name}: {refused:?}");
    }
}

#[test]
fn a_seed_of_the_orphans_goes_over_their_limit() {
    assert!(files("orphans").iter().any(|(_, bytes)| orphans::evicted(bytes) > 100));
}

#[test]
fn corpora_are_small() {
    let sizes = TARGETS.iter().flat_map(|(target, ..)| files(target)).map(|(_, bytes)| bytes.len());
    let bytes: usize = sizes.sum();
    assert!(bytes < 300_000, "{bytes} bytes of corpora, limit 300000");
}

/// `cargo test --release -p anabranch-tests --test corpora -- --ignored` writes them again, after a format changed.
#[test]
#[ignore = "it writes into the tree"]
fn write_seeds() {
    for (target, name, bytes) in seeds::all() {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(format!("seed-{name}")), bytes).unwrap();
    }
}
