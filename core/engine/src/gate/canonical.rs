//! Stage 7: a change is taken only in the encoding that automerge itself gives it. Another one is accepted by automerge and
//! makes a document that no longer loads once it is saved.

use alloc::format;
use alloc::string::ToString;

use automerge as am;

use crate::gate::Refusal;
use crate::gate::input::Input;
use crate::gate::inspector::{
    ACTION, Chunk, EXPAND, INSERT, KEY_ACTOR, KEY_COUNTER, KEY_STRING, MARK_NAME, OBJ_ACTOR, OBJ_COUNTER, PRED_ACTOR,
    PRED_COUNT, PRED_COUNTER, VALUE, VALUE_META,
};
use crate::limits::{COUNTER_STEP_MAX, COUNTER_VALUE_MAX};

/// Parses a change that the inspector has passed, and encodes it again to compare, unless it [`is_keystroke`]. May panic: call
/// it under the guard.
pub(crate) fn parse(bytes: &[u8], is_keystroke: bool) -> Result<am::Change, Refusal> {
    let change = parse_trusted(bytes)?;
    if is_keystroke {
        return Ok(change);
    }
    let decoded = change.decode();
    for op in &decoded.operations {
        check_counter(op)?;
    }
    if am::Change::from(decoded).hash() != change.hash() {
        return Err(Refusal::Malformed("a change is not in its canonical encoding".to_string()));
    }
    Ok(change)
}

/// Parses a change that has been through [`parse`] before. May panic: call it under the guard.
pub(crate) fn parse_trusted(bytes: &[u8]) -> Result<am::Change, Refusal> {
    am::Change::try_from(bytes).map_err(|error| Refusal::Malformed(error.to_string()))
}

/// Counters are summed when they are read, outside of any guard, and the sum must fit.
fn check_counter(op: &am::legacy::Op) -> Result<(), Refusal> {
    let (what, value, limit) = match &op.action {
        am::legacy::OpType::Increment(by) => ("step", *by, COUNTER_STEP_MAX),
        am::legacy::OpType::Put(am::ScalarValue::Counter(start)) => {
            ("first value", i64::from(start), COUNTER_VALUE_MAX)
        }
        _ => return Ok(()),
    };
    if value.unsigned_abs() <= limit {
        return Ok(());
    }
    Err(Refusal::TooLarge(format!("a counter's {what} of {value}, limit {limit}")))
}

/// Whether this is, in its canonical encoding, one string put or inserted or one value deleted that replaces one value at most:
/// most changes of a text that somebody types. Every column of one row has one canonical form, so it can be seen without
/// encoding the change again, which takes a third of what the gate takes. Of any other change this says nothing.
pub(crate) fn is_keystroke(chunk: &Chunk<'_>) -> bool {
    chunk.ops == 1 && keystroke(chunk).is_some()
}

fn keystroke(chunk: &Chunk<'_>) -> Option<()> {
    const PUT: u64 = 1;
    const DELETE: u64 = 3;
    const STRING: u64 = 6;
    let column = |index: usize| chunk.columns.data[index];
    let number = |index: usize| lone(column(index), |input| input.unsigned("number").ok());
    let counter = |index: usize| lone(column(index), |input| input.signed("number").ok());
    let holds = |condition: bool| condition.then_some(());

    holds(!chunk.columns.names_empty && column(EXPAND).is_empty() && column(MARK_NAME).is_empty())?;
    let object = (number(OBJ_ACTOR)?, number(OBJ_COUNTER)?);
    holds(matches!(object, (None, None) | (Some(_), Some(1..))))?;
    let name = lone(column(KEY_STRING), |input| {
        let length = input.unsigned("name").ok()?;
        input.take(usize::try_from(length).ok()?, "name").ok()
    })?;
    let key = (number(KEY_ACTOR)?, counter(KEY_COUNTER)?, name);
    holds(matches!(key, (None, None, Some(_)) | (None, Some(0), None) | (Some(_), Some(1..), None)))?;
    holds(matches!(column(INSERT), [1] | [0, 1]))?;
    let replaced = (number(PRED_COUNT)?, number(PRED_ACTOR)?, counter(PRED_COUNTER)?);
    holds(matches!(replaced, (Some(0), None, None) | (Some(1), Some(_), Some(1..))))?;
    let value = column(VALUE);
    match (number(ACTION)?, number(VALUE_META)?) {
        (Some(DELETE), Some(0)) => holds(value.is_empty())?,
        (Some(PUT), Some(meta)) if meta & 0xf == STRING => {
            holds(meta >> 4 == value.len() as u64 && core::str::from_utf8(value).is_ok())?;
        }
        _ => return None,
    }
    // Every other actor is there because something refers to it.
    let referred = [object.0, key.0, replaced.1];
    holds((1..=chunk.others().len() as u64).all(|other| referred.contains(&Some(other))))
}

/// What a run-length encoded column of one row holds: null if there is none, else a literal run of one. `None` if it is
/// anything else.
fn lone<'a, T>(column: &'a [u8], read: impl FnOnce(&mut Input<'a>) -> Option<T>) -> Option<Option<T>> {
    const ONE_LITERAL: u8 = 0x7f;
    let Some((first, rest)) = column.split_first() else { return Some(None) };
    let mut input = Input(rest);
    let value = read(&mut input)?;
    (*first == ONE_LITERAL && input.0.is_empty()).then_some(Some(value))
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use automerge::transaction::Transactable as _;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::gate::inspector;

    /// What two people typing make: changes of one operation and of several.
    fn typed(letters: &[(u8, String)]) -> Vec<Vec<u8>> {
        let mut one = am::AutoCommit::new().with_actor(am::ActorId::from([1; 16]));
        let text = one.put_object(am::ROOT, "text", am::ObjType::Text).expect("a text");
        one.commit();
        let mut two = one.fork().with_actor(am::ActorId::from([2; 16]));
        for (choice, letter) in letters {
            let at = am::ReadDoc::length(&one, &text).min(usize::from(*choice) / 8);
            let _ = match choice % 8 {
                0 => two.put(am::ROOT, "name", letter.as_str()),
                1 => two.splice_text(&text, 0, 0, letter),
                2 => one.merge(&mut two).map(|_| ()),
                3 => two.merge(&mut one).map(|_| ()),
                4 => one.delete(&text, at.saturating_sub(1)),
                5 => one.delete(am::ROOT, "name"),
                _ => one.splice_text(&text, at, 0, letter),
            };
            one.commit();
            two.commit();
        }
        let _ = one.merge(&mut two);
        one.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect()
    }

    /// Whether it is taken without encoding it again; `None` if it gets no further than the inspector or the parser.
    fn keystroke(bytes: &[u8]) -> Option<bool> {
        let chunk = inspector::inspect(bytes).ok().filter(|chunk| chunk.length == bytes.len())?;
        let change = am::Change::try_from(bytes).ok()?;
        let is_keystroke = is_keystroke(&chunk);
        if is_keystroke {
            assert_eq!(am::Change::from(change.decode()).raw_bytes(), bytes, "it is not canonical");
        }
        Some(is_keystroke)
    }

    #[test]
    fn a_keystroke_has_nothing_besides() {
        let changes = typed(&[(6, "a".to_string())]);
        let chunk = inspector::inspect(&changes[1]).expect("it is automerge's own");
        let with = |column: usize, data: &'static [u8]| {
            let mut other = chunk.clone();
            other.columns.data[column] = data;
            is_keystroke(&other)
        };
        assert!(is_keystroke(&chunk) && with(VALUE, b"b"), "a letter is one");
        assert!(!with(EXPAND, &[0, 1]), "a mark that grows");
        assert!(!with(MARK_NAME, &[0x7f, 1, b'm']), "a mark");
        assert!(!with(VALUE, &[0xff]), "a byte that is no text");
        assert!(!with(VALUE, b"ab"), "more text than there is said to be");
        let mut other = chunk.clone();
        other.columns.names_empty = true;
        assert!(!is_keystroke(&other), "a column without data");
    }

    #[test]
    fn a_keystroke_does_not_name_columns_that_it_has_not() {
        let mut doc = am::AutoCommit::new().with_actor(am::ActorId::from([1; 16]));
        doc.put(am::ROOT, "a", "b").expect("a value");
        let bytes = doc.get_last_local_change().expect("a change").raw_bytes().to_vec();
        assert_eq!(keystroke(&bytes), Some(true));
        // Magic, checksum, type, length; no dependencies, 16 bytes of actor, 1, 1, a time, no message, no others; the columns'
        // number, and for each its name and its length, one byte each. The last one is to be a name of marks, of no bytes.
        let columns = bytes.windows(16).position(|window| window == [1; 16]).expect("the actor") + 16 + 5;
        let end = columns + 1 + 2 * usize::from(bytes[columns]);
        let mut named = [&bytes[..end], &[0xa5, 1, 0], &bytes[end..]].concat();
        named[9] += 3;
        named[columns] += 1;
        let checksum = Sha256::digest(&named[8..]);
        named[4..8].copy_from_slice(&checksum[..4]);
        assert_eq!(keystroke(&named), Some(false));
    }

    proptest! {
        #[test]
        fn a_keystroke_is_canonical(
            letters in proptest::collection::vec((any::<u8>(), "[a-c\u{e4}]{1,2}"), 1..20),
            mutations in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 400),
        ) {
            let changes = typed(&letters);
            for change in &changes {
                let honest = am::Change::try_from(change.as_slice()).expect("it is automerge's own");
                let ops = honest.decode().operations;
                // The seam is not idle: what is typed letter by letter is seen at once.
                let simple = |op: &am::legacy::Op| match &op.action {
                    am::legacy::OpType::Put(am::ScalarValue::Str(_)) | am::legacy::OpType::Delete => op.pred.len() < 2,
                    _ => false,
                };
                prop_assert_eq!(keystroke(change), Some(ops.len() == 1 && simple(&ops[0])));
            }
            for (which, at, byte) in mutations {
                let mut bytes = changes[which % changes.len()].clone();
                // Behind magic, checksum, type and length, mostly in the columns.
                let (head, tail) = (10.min(bytes.len() - 1), bytes.len());
                let at = if byte % 4 == 0 { head + at % (tail - head) } else { tail - 1 - at % (tail - head).min(40) };
                bytes[at] = if byte % 3 == 0 { byte % 8 } else { byte };
                let checksum = Sha256::digest(&bytes[8..]);
                bytes[4..8].copy_from_slice(&checksum[..4]);
                let _ = keystroke(&bytes);
            }
        }
    }
}
