//! JSON from the command line: a request to a running node, or one line of edits for `doc edit`. What is read is written and
//! read alike; the edits in it are done or refused whole, and what they make is taken by every other replica.

use anabranch_api::{Command, EditStep, Reading, decode, encode};
use anabranch_engine::document::Document;

use super::document::{attempt, tell};
use super::gate::{DOCUMENT, SPACE};

/// Edits of one request at most that are made.
const EDITS_MAX: usize = 64;

/// A request, or lines of edits.
pub fn request(data: &[u8]) {
    let (edits, reading): (Vec<EditStep>, Reading) = match decode(data) {
        Ok(command) => {
            let line = encode(&command).unwrap_or_else(|error| panic!("what was read cannot be written: {error}"));
            let again = decode(&line).unwrap_or_else(|error| panic!("what was written cannot be read: {error}"));
            assert_eq!(again, command);
            match command {
                Command::DocEdit { edits, reading, .. } => (edits, reading),
                _ => return,
            }
        }
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            let lines = data.split(|byte| *byte == b'\n').map_while(|line| serde_json::from_slice(line).ok());
            (lines.collect(), Reading::default())
        }
    };
    let (mut document, mut other) = (Document::empty(SPACE, DOCUMENT), Document::empty(SPACE, DOCUMENT));
    for step in edits.iter().take(EDITS_MAX) {
        attempt(&mut document, |edit| step.apply(edit, reading));
    }
    tell(&mut document, &mut other);
}
