//! Values of a store's rows, read one by one.

use anabranch_engine::document::OpenWork;
use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::feed::FeedRow;
use anabranch_engine::gate::payload_tip;
use anabranch_engine::id::ActorId;
use anabranch_engine::run::Run;
use anabranch_engine::storage::{parse_run_key, run_key};

use super::gate::{DOCUMENT, SPACE};
use super::guard::FuzzGuard;
use super::input::Input;

/// A row of the kind that the first byte says: what is read is written again, and read alike.
pub fn stored(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => run(&mut input),
        1 => {
            if let Ok(record) = DocumentRecord::decode_stored(SPACE, DOCUMENT, input.rest()) {
                assert_eq!(DocumentRecord::decode_stored(SPACE, DOCUMENT, &record.encode_stored()), Ok(record));
            }
        }
        2 => {
            let key = input.take(8);
            if let Ok(row) = FeedRow::from_stored(key, input.rest()) {
                assert_eq!(FeedRow::from_stored(key, &row.to_stored()), Ok(row));
            }
        }
        _ => {
            let key = input.rest();
            if let Some(parsed) = parse_run_key(key) {
                let again = run_key(&parsed.space, &parsed.document, parsed.lamport, &parsed.actor, parsed.last_seq);
                assert_eq!(again, key);
            }
        }
    }
}

/// A run, and the document that is built from it.
fn run(input: &mut Input<'_>) {
    let value = input.rest();
    // The key says what the value leaves out. Where the payload is good it says the truth, so that the document is built.
    let read = |actor, last_seq| Run::decode_stored(SPACE, DOCUMENT, actor, last_seq, value);
    let Ok(run) = read(ActorId([4; 16]), 1) else { return };
    let (actor, last_seq) =
        payload_tip(&run.payload).map_or((run.header.actor, run.header.last_seq), |tip| (tip.actor, tip.last_seq));
    let run = read(actor, last_seq).expect("the key does not decide whether a value can be read");
    assert_eq!(Run::decode_stored(SPACE, DOCUMENT, actor, last_seq, &run.encode_stored()).as_ref(), Ok(&run));
    let opened = OpenWork {
        space: SPACE,
        id: DOCUMENT,
        runs: vec![run],
        tips: Vec::new(),
        suspects: Vec::new(),
        poisoned: Vec::new(),
    }
    .run(&FuzzGuard);
    if let Ok(document) = opened {
        assert!(!document.view().json().is_null());
    }
}
