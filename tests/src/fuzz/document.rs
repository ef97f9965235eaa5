//! Edits with any paths and values: what an application asks for is done or refused, and what was made of it is taken by every
//! other replica.

use anabranch_engine::document::import::{Import, Rules};
use anabranch_engine::document::{Author, Document, Edit, EditError, Json, Strings, Value};
use anabranch_engine::gate::payload_tip;
use anabranch_engine::id::{ActorId, DeviceId};

use super::following::Following;
use super::gate::{DOCUMENT, SPACE, run_of, settle};
use super::input::Input;

/// Operations made of one input at most.
const OPERATIONS_MAX: usize = 64;

struct Operation {
    /// 128: the last one of its edit. 64: the edit is given up if it fails. The rest says what to do.
    choices: u8,
    path: String,
    position: usize,
    value: Vec<u8>,
}

impl Operation {
    fn read(input: &mut Input<'_>) -> Self {
        let (choices, position) = (input.byte(), usize::from(input.byte()));
        Self { choices, path: input.text(), position, value: input.chunk().to_vec() }
    }

    /// The value as JSON, or as text where it is none.
    fn json(&self) -> Json {
        serde_json::from_slice(&self.value).unwrap_or_else(|_| Json::from(self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }

    fn number(&self) -> i64 {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(&self.value).for_each(|(to, from)| *to = *from);
        i64::from_le_bytes(bytes)
    }

    fn apply(&self, edit: &mut Edit<'_>) -> Result<(), EditError> {
        let path = self.path.as_str();
        match self.choices & 15 {
            0 | 1 => edit.set(path, self.json()),
            2 => edit.insert(path, self.json()),
            3 => edit.remove(path),
            4 => edit.set_counter(path, self.number()),
            5 => edit.increment(path, self.number()),
            6 => edit.set_bytes(path, &self.value),
            7 => edit.set_timestamp(path, self.number()),
            8 => edit.set_plain_string(path, &self.text()),
            9 => edit.splice_text(path, self.position, usize::from(self.choices >> 4 & 3), &self.text()),
            10 => edit.update_text(path, &self.text()),
            11 => edit.set("", self.json()),
            _ => {
                let read = (edit.get(path), edit.text(path), edit.length(path));
                assert!(read.0.is_some() || read.1.is_none());
                Ok(())
            }
        }
    }
}

/// A series of edits; another document gets what was made and is equal.
pub fn edit(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut document, mut other) = (Document::empty(SPACE, DOCUMENT), Document::empty(SPACE, DOCUMENT));
    let mut operations = Vec::new();
    let (mut reader, mut reader_of_other) = (Following::default(), Following::default());
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let operation = Operation::read(&mut input);
        let (last, tells) = (operation.choices & 128 != 0, operation.position & 1 == 1);
        operations.push(operation);
        if last {
            perform(&mut document, &core::mem::take(&mut operations));
        }
        look(&mut reader, &mut document);
        if last && tells {
            tell(&mut document, &mut other);
            look(&mut reader_of_other, &mut other);
        }
    }
    perform(&mut document, &operations);
    if let Some(operation) = operations.last() {
        import(&mut document, operation);
    }
    look(&mut reader, &mut document);
    tell(&mut document, &mut other);
    look(&mut reader_of_other, &mut other);
}

/// Whoever only follows a document has what is read.
fn look(reader: &mut Following, document: &mut Document) {
    let news = document.follow(reader.heads()).expect("it was seen here");
    reader.take(&news).unwrap_or_else(|wrong| panic!("{wrong}: {news:?}"));
    assert_eq!(*reader.content(), document.view().json(), "followed by {news:?}");
}

fn author() -> Author {
    Author { device: DeviceId([1; 32]), fresh_actor: ActorId([7; 16]), wall_s: 1_000 }
}

fn perform(document: &mut Document, operations: &[Operation]) {
    attempt(document, |edit| {
        for operation in operations {
            match operation.apply(edit) {
                Err(error) if operation.choices & 64 != 0 => return Err(error),
                Err(EditError::Internal(error)) => panic!("{error}"),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    });
}

/// Makes an edit, which is done or refused whole.
pub fn attempt(document: &mut Document, f: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>) {
    let before = (document.heads(), document.view().json());
    match document.edit(author(), f) {
        Ok(_) => {}
        Err(error @ (EditError::Internal(_) | EditError::Refused(_))) => panic!("{error}"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!((document.heads(), document.view().json()), before, "a failed edit changed something");
        }
    }
}

/// A value by its difference from what is there, each piece an edit of its own; the document reads as the value does then.
fn import(document: &mut Document, operation: &Operation) {
    let strings = if operation.choices & 16 == 0 { Strings::Text } else { Strings::Plain };
    let value = Value::from_json(operation.json(), strings);
    let rules = Rules { replace: operation.choices & 32 != 0, ..Rules::default() };
    let Ok(mut import) = Import::new(&document.view(), &operation.path, value.clone(), rules) else { return };
    while !import.is_done() {
        document.edit(author(), |edit| import.write(edit)).unwrap_or_else(|error| panic!("{error}"));
    }
    let mut again = Import::new(&document.view(), &operation.path, value, Rules::default()).expect("it is there now");
    document.edit(author(), |edit| again.write(edit)).unwrap_or_else(|error: EditError| panic!("{error}"));
    assert_eq!(again.tally().operations, 0, "what is there is written again");
}

/// Everything that is not signed yet goes to the other document.
pub fn tell(document: &mut Document, other: &mut Document) {
    let mut runs = 0;
    while let Some(run) = document.take_unsigned() {
        let tip = payload_tip(&run.payload).unwrap_or_else(|refusal| panic!("we make what is refused: {refusal}"));
        assert_eq!(
            (tip.actor, tip.first_seq, tip.last_seq, tip.tip),
            (run.actor, run.first_seq, run.last_seq, run.tip)
        );
        other.receive(run_of(author().device, run.payload).expect("its payload was just read"));
        runs += 1;
    }
    let settled = settle(other);
    assert_eq!(settled.refused, [], "what we made is refused");
    assert_eq!(settled.accepted.len(), runs);
    assert_eq!(other.heads(), document.heads());
    assert_eq!(other.view().json(), document.view().json());
}
