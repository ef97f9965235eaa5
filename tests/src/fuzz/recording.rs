//! Recordings: what is read is written and read alike, and a call is an input or says why it is none.

use anabranch_engine::id::DeviceId;
use anabranch_engine::recording::{Call, MAGIC, Reader, Record, VERSION, frame, seal};

use super::input::Input;

/// Any bytes as a file, and as the bodies of its records.
pub fn recording(data: &[u8]) {
    read(data);
    let start = Record::Start {
        version: VERSION,
        device: DeviceId([1; 32]),
        seed: [2; 32].into(),
        mono: 3,
        wall_s: 4,
        slot: None,
    };
    let mut file = MAGIC.to_vec();
    file.extend(frame(&start).expect("it is short"));
    let mut bodies = Input::new(data);
    while !bodies.is_empty() {
        file.extend(seal(bodies.chunk()));
    }
    read(&file);
}

fn read(file: &[u8]) {
    let Ok(reader) = Reader::new(file) else { return };
    for record in reader {
        match record {
            Ok(record) => same(record),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn same(record: Record) {
    let body = minicbor::to_vec(&record).expect("writing to memory does not fail");
    let again: Record = minicbor::decode(&body).expect("it was written just now");
    assert!(again == record);
    if let Record::Called { call, .. } = record {
        match call.input() {
            Ok(Some(input)) => {
                let again = Call::from(&input).input().expect("it was one");
                assert_eq!(format!("{again:?}"), format!("{:?}", Some(input)));
            }
            Ok(None) => {}
            Err(error) => assert!(!error.is_empty()),
        }
    }
}
