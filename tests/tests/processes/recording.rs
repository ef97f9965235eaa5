//! A node that is recorded, and its recording run again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use anabranch_engine::recording::{MAGIC, Reader, Record, frame};
use anabranch_tests::processes::command;
use anabranch_tests::sim::recording::{Ended, Replayed, replay};

use super::*;

fn replayed(bytes: &[u8]) -> Replayed {
    replay(bytes, false).unwrap_or_else(|error| panic!("{error}"))
}

/// It took the same course, and that was looked at.
#[track_caller]
fn assert_agrees(replayed: &Replayed, ended: Ended) {
    let story = replayed.story.join("\n");
    assert_eq!((replayed.failure.as_ref(), replayed.ended), (None, ended), "{story}");
    assert!(replayed.checkpoints > 0 && replayed.outputs > 0, "{story}");
}

fn sim(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).arg("replay").arg(file).output().unwrap()
}

#[test]
fn a_recorded_node_takes_the_same_course_when_it_is_replayed() {
    let home = tempfile::tempdir().unwrap();
    let (directory, file) = (home.path().join("founder"), home.path().join("first"));
    let founder = Node::start(&directory, &["--listen", LOOPBACK, "--record", file.to_str().unwrap()]);
    let writer = Node::start(&home.path().join("writer"), &[]);
    founder.run(&["space", "create", "work"]).ok();
    let ticket = founder.run(&["space", "invite", "--role", "writer"]).ok();
    writer.run(&["space", "join", ticket.text()]).ok();
    let document = new_document(&founder, "plan", &json!({ "title": "a recorded secret", "n": 0 }));
    wait_for("the writer has the document", || equal_heads(&[&founder, &writer], &document));
    for n in 1..6 {
        founder.run(&["doc", "set", &document, "/n", &n.to_string()]).ok();
        writer.run(&["doc", "set", &document, "/m", &n.to_string()]).ok();
    }
    // An edit that is refused is a call of the engine, too.
    assert_ne!(founder.run(&["doc", "set", &document, "/nowhere/at/all", "1"]).code, Some(0));
    wait_for("both have the same heads", || equal_heads(&[&founder, &writer], &document));
    // A recording does not replace another one.
    let taken = ["run", "--record", file.to_str().unwrap()];
    command::run(&home.path().join("other"), &taken, "").fails(1, "cannot record to");
    assert_eq!(founder.stop("TERM"), Some(0));

    let bytes = fs::read(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = replayed(&bytes);
    assert_agrees(&first, Ended::Closed);
    assert!(first.edits >= 6 && first.frames > 10, "{} edits, {} frames", first.edits, first.frames);
    let told = first.story.join("\n");
    for words in ["is to found space `work`", "is open, which came from", "is edited", "is to shut down"] {
        assert!(told.contains(words), "`{words}` is not told:\n{told}");
    }
    let output = sim(&file);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("agrees\n"));

    // Content is in it, the device's key is not.
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(b"a recorded secret"));
    let identity = fs::read_to_string(directory.join("identity")).unwrap();
    let secret = identity.lines().find_map(|line| line.strip_prefix("secret ")).unwrap();
    let seed: Vec<u8> =
        (0..secret.len()).step_by(2).map(|at| u8::from_str_radix(&secret[at..at + 2], 16).unwrap()).collect();
    assert!(seed.len() == 32 && !has(&seed) && !has(secret.as_bytes()));

    a_cut_recording_is_one_of_what_came_before(&bytes);
    another_seed_is_another_course(&bytes);

    // The next start is on a store that holds something.
    let file = home.path().join("second");
    let founder = Node::start(&directory, &["--listen", LOOPBACK, "--record", file.to_str().unwrap()]);
    founder.run(&["doc", "set", &document, "/n", "7"]).ok();
    assert_eq!(founder.run(&["doc", "get", &document, "/m"]).ok().text(), "5");
    // Killed: what was not flushed is not there, what was is a recording.
    founder.kill();
    assert_eq!(replayed(&fs::read(&file).unwrap()).failure, None);

    let file = home.path().join("third");
    let founder = Node::start(&directory, &["--listen", LOOPBACK, "--record", file.to_str().unwrap()]);
    founder.run(&["doc", "set", &document, "/n", "8"]).ok();
    assert_eq!(founder.stop("TERM"), Some(0));
    assert_agrees(&replayed(&fs::read(&file).unwrap()), Ended::Closed);
}

fn a_cut_recording_is_one_of_what_came_before(bytes: &[u8]) {
    let cut = replayed(&bytes[..bytes.len() * 3 / 4]);
    assert_eq!((cut.failure, cut.ended), (None, Ended::CutOff));
    let mut damaged = bytes.to_vec();
    // In a record's body: a length that is flipped may read as that of a record which was cut off.
    let first = Reader::new(bytes).unwrap().next().unwrap().unwrap();
    damaged[MAGIC.len() + frame(&first).unwrap().len() - 1] ^= 0x10;
    let error = replay(&damaged, false).expect_err("a bit is flipped");
    assert!(error.contains("record "), "{error}");
}

fn another_seed_is_another_course(bytes: &[u8]) {
    let mut other = MAGIC.to_vec();
    for record in Reader::new(bytes).unwrap() {
        let mut record = record.unwrap();
        if let Record::Start { seed, .. } = &mut record {
            *seed = [9; 32].into();
        }
        other.extend(frame(&record).unwrap());
    }
    let failure = replayed(&other).failure.expect("it cannot be the same");
    assert_eq!(failure.checker, "I12 determinism");
    assert!(failure.text.contains("takes another course between call 0 and call "), "{failure}");
}

#[test]
fn a_recording_that_is_full_ends_and_the_node_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("recorded");
    let node = Node::start(&home.path().join("node"), &["--record", file.to_str().unwrap(), "--record-max", "6000"]);
    node.run(&["space", "create", "work"]).ok();
    let document = new_document(&node, "plan", &json!({ "n": 0 }));
    for n in 1..40 {
        node.run(&["doc", "set", &document, "/text", &json!(format!("{n} ").repeat(100)).to_string()]).ok();
    }
    node.wait_for_log("the recording has reached its limit and ends here");
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.len() <= 6000, "{} bytes", bytes.len());
    assert_agrees(&replayed(&bytes), Ended::Limit);
    assert_eq!(node.stop("TERM"), Some(0));

    // Too small for what every recording begins with.
    let tiny = home.path().join("tiny");
    let start = ["run", "--record", tiny.to_str().unwrap(), "--record-max", "150"];
    command::run(&home.path().join("node"), &start, "").fails(1, "the recording's limit is reached");
}
