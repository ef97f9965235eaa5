//! Stage 4: reads a raw change chunk without allocating and without trusting it, so that what automerge is given is of the
//! right form and bounded in what it can become. A hundred bytes of run-length headers can stand for millions of operations.
//!
//! The format is automerge's: magic, four bytes of checksum, type, length, body; the body has dependencies, actor, sequence
//! number, first operation, time, message, other actors, a directory of columns, their data, and a footer.

use alloc::format;
use alloc::string::ToString;
use core::ops::Range;

use sha2::{Digest, Sha256};

use crate::gate::Refusal;
use crate::gate::input::Input;
use crate::id::{ActorId, ChangeHash, DeviceId};
use crate::limits::{
    CHANGE_BYTES_MAX, CHANGE_DENSE_OPS_MAX, CHANGE_DEPS_MAX, CHANGE_EXPANDED_BYTES_MAX, CHANGE_OPS_MAX,
    CHANGE_PREDECESSORS_MAX, DOCUMENT_ACTORS_MAX, KEY_BYTES_MAX, OP_COUNTER_MAX, VALUE_BYTES_MAX,
};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const TYPE_CHANGE: u8 = 1;
const FOOTER_AUTHOR: u64 = 1;
const HASH_LEN: usize = 32;
/// The number of automerge's action that deletes.
const ACTION_DELETE: u64 = 3;

/// What a chunk says of itself. Borrowed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Bytes of the whole chunk.
    pub length: usize,
    /// Its hash.
    pub hash: ChangeHash,
    /// Whose it is.
    pub actor: ActorId,
    /// Its number among the actor's changes, from 1.
    pub seq: u64,
    /// Counter of its first operation.
    pub start_op: u64,
    /// Number of operations.
    pub ops: u64,
    /// The device written into the author footer.
    pub author: Option<Author<'a>>,
    deps: &'a [u8],
    others: Others<'a>,
    pub(super) columns: Columns<'a>,
}

/// The author footer's bytes. Ours are device ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author<'a>(pub &'a [u8]);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Others<'a>(&'a [u8]);

impl Chunk<'_> {
    /// It marks parts of texts.
    pub fn has_marks(&self) -> bool {
        !self.columns.data[MARK_NAME].is_empty()
    }

    /// The changes that it depends on, ascending.
    pub fn deps(&self) -> impl ExactSizeIterator<Item = ChangeHash> {
        self.deps.as_chunks::<HASH_LEN>().0.iter().map(|hash| ChangeHash(*hash))
    }

    /// The other actors that its operations refer to, ascending.
    pub fn others(&self) -> impl ExactSizeIterator<Item = ActorId> {
        let (entries, _) = self.others.0.as_chunks::<{ 1 + ActorId::LEN }>();
        entries.iter().map(|entry| {
            let mut id = [0; ActorId::LEN];
            id.copy_from_slice(&entry[1..]);
            ActorId(id)
        })
    }

    /// Counter of its last operation; of the one before its first if it has none.
    pub fn max_op(&self) -> u64 {
        self.start_op + self.ops - 1
    }
}

impl Author<'_> {
    /// The device, if it is one.
    pub fn device(&self) -> Option<DeviceId> {
        DeviceId::from_slice(self.0)
    }
}

/// Reads the chunk that `bytes` begins with. Takes time in the chunk's length, whatever it says of itself.
///
/// # Errors
/// `Malformed` and `TooLarge`, saying what.
pub fn inspect(bytes: &[u8]) -> Result<Chunk<'_>, Refusal> {
    let mut input = Input(bytes);
    if input.take(MAGIC.len(), "magic")? != MAGIC {
        return Err(malformed("not a change: wrong magic bytes"));
    }
    let checksum = input.take(4, "checksum")?;
    match input.byte("chunk type")? {
        TYPE_CHANGE => {}
        other => return Err(Refusal::Malformed(format!("chunk type {other}, only plain changes (1) are taken"))),
    }
    let length = input.unsigned("length")?;
    let header = bytes.len() - input.0.len();
    limit("a change's bytes", (header as u64).saturating_add(length), CHANGE_BYTES_MAX as u64)?;
    let body = input.take(length as usize, "body")?;

    let mut hasher = Sha256::new();
    hasher.update(&bytes[MAGIC.len() + 4..header]);
    hasher.update(body);
    let hash: [u8; HASH_LEN] = hasher.finalize().into();
    if hash[..4] != *checksum {
        return Err(malformed("the checksum does not match"));
    }
    let mut chunk = body_of(body, header + body.len(), ChangeHash(hash))?;
    let actors = chunk.others().len() as u64 + 1;
    chunk.ops = chunk.columns.check(actors)?;
    limit("the last operation's counter", chunk.start_op + chunk.ops, OP_COUNTER_MAX)?;
    // Nothing else bounds how many of them follow one another. One that joins as many heads as it may costs its 32 KiB.
    if chunk.ops == 0 && !matches!(chunk.deps().len(), 0 | CHANGE_DEPS_MAX) {
        let text =
            "a change without operations stands on others: only a document's first may have none, and one that joins";
        return Err(Refusal::Malformed(format!("{text} {CHANGE_DEPS_MAX} heads")));
    }
    Ok(chunk)
}

/// Reads a chunk again that has passed [`inspect`], which said that it has this hash and so many operations.
pub(crate) fn inspect_again(bytes: &[u8], hash: ChangeHash, ops: u64) -> Result<Chunk<'_>, Refusal> {
    let mut input = Input(bytes);
    input.take(MAGIC.len() + 4 + 1, "header")?;
    input.unsigned("length")?;
    Ok(Chunk { ops, ..body_of(input.0, bytes.len(), hash)? })
}

/// The first chunk and the last of a payload that has passed [`inspect`], read again without what is between them.
pub(crate) fn first_and_last(payload: &[u8]) -> Result<(Chunk<'_>, Chunk<'_>), Refusal> {
    let (first, mut rest) = split(payload)?;
    let mut last = first;
    while !rest.is_empty() {
        (last, rest) = split(rest)?;
    }
    Ok((with_ops(first)?, with_ops(last)?))
}

/// A chunk's bytes, by what it says of its length, and those after it.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let mut input = Input(bytes);
    input.take(MAGIC.len() + 4 + 1, "header")?;
    let length = input.unsigned("length")?;
    let header = bytes.len() - input.0.len();
    let end = usize::try_from(length).ok().and_then(|length| header.checked_add(length));
    end.and_then(|end| bytes.split_at_checked(end)).ok_or_else(|| malformed("a body is cut short"))
}

fn with_ops(bytes: &[u8]) -> Result<Chunk<'_>, Refusal> {
    let mut chunk = inspect_again(bytes, ChangeHash([0; HASH_LEN]), 0)?;
    let actors = chunk.others().len() as u64 + 1;
    chunk.ops = chunk.columns.check(actors)?;
    Ok(chunk)
}

/// Reads everything but what is in the columns.
fn body_of(body: &[u8], length: usize, hash: ChangeHash) -> Result<Chunk<'_>, Refusal> {
    let mut input = Input(body);
    let count = input.unsigned("dependencies")?;
    limit("dependencies", count, CHANGE_DEPS_MAX as u64)?;
    let deps = input.take(count as usize * HASH_LEN, "dependencies")?;
    ascending(deps.as_chunks::<HASH_LEN>().0, "dependencies")?;
    let actor = input.actor()?;
    let seq = input.unsigned("sequence number")?;
    if seq == 0 {
        return Err(malformed("sequence number 0"));
    }
    limit("the sequence number", seq, OP_COUNTER_MAX)?;
    let start_op = input.unsigned("first operation")?;
    if start_op == 0 {
        return Err(malformed("first operation 0"));
    }
    limit("the first operation's counter", start_op, OP_COUNTER_MAX)?;
    input.signed("time")?;
    let message = input.unsigned("message")?;
    limit("the message's bytes", message, VALUE_BYTES_MAX as u64)?;
    if core::str::from_utf8(input.take(message as usize, "message")?).is_err() {
        return Err(malformed("the message is not UTF-8"));
    }
    let count = input.unsigned("other actors")?;
    limit("other actors", count, DOCUMENT_ACTORS_MAX as u64)?;
    let others = input.take(count as usize * (1 + ActorId::LEN), "other actors")?;
    let entries = others.as_chunks::<{ 1 + ActorId::LEN }>().0;
    if entries.iter().any(|entry| entry[0] as usize != ActorId::LEN || entry[1..] == actor.0) {
        return Err(malformed("an actor is not 16 bytes, or is named twice"));
    }
    ascending(entries, "other actors")?;

    let columns = Columns::parse(&mut input)?;
    let author = footer(input.0);
    Ok(Chunk { length, hash, actor, seq, start_op, ops: 0, author, deps, others: Others(others), columns })
}

/// Reads the footer as automerge does: an author or nothing that is known.
fn footer(bytes: &[u8]) -> Option<Author<'_>> {
    // Most changes have none, and to say so what is wrong with it takes longer than all the rest.
    if bytes.is_empty() {
        return None;
    }
    let mut input = Input(bytes);
    if input.unsigned("footer").ok()? != FOOTER_AUTHOR {
        return None;
    }
    let length = input.unsigned("footer").ok()?;
    input.take(usize::try_from(length).ok()?, "footer").ok().map(Author)
}

fn ascending<T: Ord>(entries: &[T], what: &str) -> Result<(), Refusal> {
    if entries.is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    Err(Refusal::Malformed(format!("{what} are not ascending, or there are two of one")))
}

/// The columns that a change may have, in the order they come in: (id, type) as automerge packs them.
pub(super) const OBJ_ACTOR: usize = 0;
pub(super) const OBJ_COUNTER: usize = 1;
pub(super) const KEY_ACTOR: usize = 2;
pub(super) const KEY_COUNTER: usize = 3;
pub(super) const KEY_STRING: usize = 4;
pub(super) const INSERT: usize = 5;
pub(super) const ACTION: usize = 6;
pub(super) const VALUE_META: usize = 7;
pub(super) const VALUE: usize = 8;
pub(super) const PRED_COUNT: usize = 9;
pub(super) const PRED_ACTOR: usize = 10;
pub(super) const PRED_COUNTER: usize = 11;
pub(super) const EXPAND: usize = 12;
pub(super) const MARK_NAME: usize = 13;
const SPECS: [u64; 14] = [0x01, 0x02, 0x11, 0x13, 0x15, 0x34, 0x42, 0x56, 0x57, 0x70, 0x71, 0x73, 0x94, 0xa5];
/// The bit of a column's type that says it is deflated.
const DEFLATED: u64 = 0x08;

/// The columns of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns<'a> {
    /// The data of each, empty if there is none.
    pub(super) data: [&'a [u8]; SPECS.len()],
    /// The directory has a column without data, which automerge leaves out.
    pub(super) names_empty: bool,
}

impl<'a> Columns<'a> {
    fn parse(input: &mut Input<'a>) -> Result<Self, Refusal> {
        let count = input.unsigned("columns")?;
        limit("columns", count, SPECS.len() as u64)?;
        let mut ranges: [Range<usize>; SPECS.len()] = Default::default();
        let mut next = 0;
        let mut end = 0_usize;
        let mut names_empty = false;
        for _ in 0..count {
            let spec = input.unsigned("column")?;
            if spec & DEFLATED != 0 {
                return Err(malformed("a column is deflated"));
            }
            let Some(index) = SPECS[next..].iter().position(|known| *known == spec) else {
                return Err(Refusal::Malformed(format!("column {spec} is unknown or out of order")));
            };
            next += index + 1;
            let length = input.unsigned("column")?;
            limit("a column's bytes", length, CHANGE_BYTES_MAX as u64)?;
            names_empty |= length == 0;
            ranges[next - 1] = end..end + length as usize;
            end += length as usize;
        }
        let data = input.take(end, "columns")?;
        Ok(Self { data: ranges.map(|range| &data[range]), names_empty })
    }

    /// Bounds everything that decoding could become; says how many operations there are. `actors` is how many actors the
    /// columns may refer to.
    fn check(&self, actors: u64) -> Result<u64, Refusal> {
        let columns = &self.data;
        let mut deletions = 0_u64;
        let ops = numbers(columns[ACTION], "action", CHANGE_OPS_MAX, |value, run| match value {
            Some(ACTION_DELETE) => {
                deletions = deletions.saturating_add(run);
                Ok(())
            }
            Some(0..=7) => Ok(()),
            _ => Err(malformed("an action is unknown")),
        })?;
        // What is deleted was there, and so was paid for; a whole text goes in a hundred bytes.
        let bytes: usize = columns.iter().map(|column| column.len()).sum();
        let dense = (ops - deletions).saturating_sub(bytes as u64);
        limit("a change's operations beyond one for each byte", dense, CHANGE_DENSE_OPS_MAX)?;
        let predecessors = {
            let mut sum = 0_u64;
            numbers(columns[PRED_COUNT], "predecessors", ops, |value, run| {
                let value = value.ok_or_else(|| malformed("predecessors are null"))?;
                sum = sum.saturating_add(value.saturating_mul(run));
                limit("predecessors", sum, CHANGE_PREDECESSORS_MAX)
            })?;
            sum
        };
        for (column, rows) in [(OBJ_ACTOR, ops), (KEY_ACTOR, ops), (PRED_ACTOR, predecessors)] {
            numbers(columns[column], "actor", rows, |value, _| match value {
                Some(index) if index >= actors => Err(malformed("an actor is not in the list")),
                _ => Ok(()),
            })?;
        }
        numbers(columns[OBJ_COUNTER], "object", ops, |value, _| {
            limit("an operation's counter", value.unwrap_or(0), OP_COUNTER_MAX)
        })?;
        deltas(columns[KEY_COUNTER], "key", ops)?;
        deltas(columns[PRED_COUNTER], "predecessor", predecessors)?;
        let keys = strings(columns[KEY_STRING], "key", ops)?;
        let marks = strings(columns[MARK_NAME], "mark name", ops)?;
        limit("a change's bytes of keys", keys + marks, CHANGE_EXPANDED_BYTES_MAX)?;
        booleans(columns[INSERT], "insert", ops)?;
        booleans(columns[EXPAND], "expand", ops)?;
        let mut bytes = 0_u64;
        numbers(columns[VALUE_META], "value", ops, |value, run| {
            let length = value.ok_or_else(|| malformed("a value is null"))? >> 4;
            limit("a value's bytes", length, VALUE_BYTES_MAX as u64)?;
            bytes = bytes.saturating_add(length.saturating_mul(run));
            Ok(())
        })?;
        if bytes != columns[VALUE].len() as u64 {
            return Err(malformed("the values are not as long as they say"));
        }
        Ok(ops)
    }
}

/// Walks a run-length encoded column without expanding it. `read` reads one value, `f` is told each value and how often it
/// comes (`None` for nulls). At most `rows_max` rows; says how many.
fn runs<'a, T>(
    data: &'a [u8],
    what: &'static str,
    rows_max: u64,
    mut read: impl FnMut(&mut Input<'a>) -> Result<T, Refusal>,
    mut f: impl FnMut(Option<T>, u64) -> Result<(), Refusal>,
) -> Result<u64, Refusal> {
    let mut input = Input(data);
    let mut rows = 0_u64;
    let mut count = |run: u64| {
        if run == 0 {
            return Err(malformed("a run of nothing"));
        }
        rows = rows.saturating_add(run);
        if rows > rows_max {
            return Err(Refusal::TooLarge(format!("column `{what}` has {rows} rows, limit {rows_max}")));
        }
        Ok(())
    };
    while !input.0.is_empty() {
        match input.signed(what)? {
            0 => {
                let run = input.unsigned(what)?;
                count(run)?;
                f(None, run)?;
            }
            run if run > 0 => {
                count(run.unsigned_abs())?;
                f(Some(read(&mut input)?), run.unsigned_abs())?;
            }
            run => {
                count(run.unsigned_abs())?;
                // At least a byte for each, so this ends with the data.
                for _ in 0..run.unsigned_abs() {
                    f(Some(read(&mut input)?), 1)?;
                }
            }
        }
    }
    Ok(rows)
}

fn numbers(
    data: &[u8],
    what: &'static str,
    rows_max: u64,
    f: impl FnMut(Option<u64>, u64) -> Result<(), Refusal>,
) -> Result<u64, Refusal> {
    runs(data, what, rows_max, |input| input.unsigned(what), f)
}

/// A column of differences: no partial sum may be an impossible counter.
fn deltas(data: &[u8], what: &'static str, rows_max: u64) -> Result<(), Refusal> {
    let mut sum = 0_i64;
    runs(
        data,
        what,
        rows_max,
        |input| input.signed(what),
        |delta, run| {
            let Some(delta) = delta else { return Ok(()) };
            // The sums in between lie between the first and the last.
            for times in [1, run as i64] {
                let counter = delta.checked_mul(times).and_then(|delta| sum.checked_add(delta));
                match counter.map(u64::try_from) {
                    Some(Ok(counter)) => limit("an operation's counter", counter, OP_COUNTER_MAX)?,
                    _ => return Err(Refusal::Malformed(format!("a counter in column `{what}` is out of range"))),
                }
            }
            sum += delta * run as i64;
            Ok(())
        },
    )?;
    Ok(())
}

/// A column of strings: each within the limit of a key. Says how many bytes they are when run lengths are expanded.
fn strings(data: &[u8], what: &'static str, rows_max: u64) -> Result<u64, Refusal> {
    let mut expanded = 0_u64;
    runs(
        data,
        what,
        rows_max,
        |input| {
            let length = input.unsigned(what)?;
            limit("a key's bytes", length, KEY_BYTES_MAX as u64)?;
            let bytes = input.take(length as usize, what)?;
            if core::str::from_utf8(bytes).is_err() {
                return Err(malformed("a key is not UTF-8"));
            }
            Ok(length)
        },
        |length, run| {
            expanded = expanded.saturating_add(length.unwrap_or(0).saturating_mul(run));
            limit("a change's bytes of keys", expanded, CHANGE_EXPANDED_BYTES_MAX)
        },
    )?;
    Ok(expanded)
}

/// A column of booleans: lengths of alternating runs, the first of which may be empty.
fn booleans(data: &[u8], what: &'static str, rows_max: u64) -> Result<(), Refusal> {
    let mut input = Input(data);
    let mut rows = 0_u64;
    while !input.0.is_empty() {
        rows = rows.saturating_add(input.unsigned(what)?);
        if rows > rows_max {
            return Err(Refusal::TooLarge(format!("column `{what}` has {rows} rows, limit {rows_max}")));
        }
    }
    Ok(())
}

fn malformed(text: &str) -> Refusal {
    Refusal::Malformed(text.to_string())
}

fn limit(what: &str, value: u64, limit: u64) -> Result<(), Refusal> {
    if value <= limit {
        return Ok(());
    }
    Err(Refusal::TooLarge(format!("{what}: {value}, limit {limit}")))
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use automerge as am;
    use automerge::transaction::Transactable as _;

    use super::*;

    fn writer(actor: u8) -> am::AutoCommit {
        am::AutoCommit::new().with_actor(am::ActorId::from([actor; 16]))
    }

    /// A change by actor 3 that depends on two, by actors 1 and 2, and replaces what they wrote.
    fn merging() -> Vec<u8> {
        let (mut one, mut two, mut three) = (writer(1), writer(2), writer(3));
        one.put(am::ROOT, "a", 1).expect("a value");
        two.put(am::ROOT, "a", 2).expect("a value");
        three.merge(&mut one).and_then(|_| three.merge(&mut two)).expect("they merge");
        three.put(am::ROOT, "a", 3).expect("a value");
        three.get_last_local_change().expect("a change").raw_bytes().to_vec()
    }

    /// What is said of a change in which one stretch of bytes was replaced by another, under the right checksum.
    fn with(bytes: &[u8], from: &[u8], to: &[u8]) -> String {
        let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
        let mut bytes = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
        let checksum = Sha256::digest(&bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum[..4]);
        inspect(&bytes).map_or_else(|refusal| refusal.to_string(), |_| String::from("fine"))
    }

    #[test]
    fn dependencies_and_actors_are_ascending_and_each_is_there_once() {
        let bytes = merging();
        let deps: Vec<[u8; HASH_LEN]> =
            inspect(&bytes).expect("it is automerge's own").deps().map(|dep| dep.0).collect();
        let both = [deps[0], deps[1]].concat();
        assert_eq!(with(&bytes, &both, &both), "fine");
        for other in [[deps[1], deps[0]], [deps[0], deps[0]]] {
            let expected = "malformed: dependencies are not ascending, or there are two of one";
            assert_eq!(with(&bytes, &both, &other.concat()), expected);
        }
        let other = |length: u8, actor: u8| [&[length][..], &[actor; 16]].concat();
        let expected = "malformed: other actors are not ascending, or there are two of one";
        assert_eq!(with(&bytes, &other(16, 1), &other(16, 2)), expected);
        let expected = "malformed: an actor is not 16 bytes, or is named twice";
        assert_eq!(with(&bytes, &other(16, 1), &other(15, 1)), expected);
        assert_eq!(with(&bytes, &other(16, 2), &other(16, 3)), expected, "it names itself");
    }

    #[test]
    fn the_ends_of_a_payload_are_read_as_they_are_when_all_of_it_is() {
        let mut doc = writer(1);
        let mut payload = Vec::new();
        for changes in 1..4 {
            for value in 0..200_u64 * changes {
                doc.put(am::ROOT, "a", value).expect("a value");
            }
            payload.extend_from_slice(doc.get_last_local_change().expect("a change").raw_bytes());
            let tip = crate::gate::payload_tip(&payload).expect("it is automerge's own");
            assert_eq!(tip.changes, changes);
            assert_eq!(crate::gate::lamports(&payload), Ok((tip.first_lamport, tip.lamport)));
        }
        assert!(crate::gate::lamports(&payload[..payload.len() - 1]).is_err());
        assert!(crate::gate::lamports(&[]).is_err());
    }

    #[test]
    fn keys_and_names_of_marks_are_counted_together() {
        let mut doc = writer(1);
        let name = "n".repeat(KEY_BYTES_MAX);
        let text = doc.put_object(am::ROOT, "t", am::ObjType::Text).expect("a text");
        doc.splice_text(&text, 0, 0, "text").expect("letters");
        for value in 0..100_u64 {
            doc.put(am::ROOT, &name, value).expect("a value");
            let mark = am::marks::Mark::new(name.clone(), value, 0, 2);
            doc.mark(&text, mark, am::marks::ExpandMark::None).expect("a mark");
        }
        // As many bytes of keys as of names: their sum is far within the limit.
        assert!(inspect(doc.get_last_local_change().expect("a change").raw_bytes()).is_ok());
    }

    #[test]
    fn counters_are_sums_of_differences_and_each_is_possible() {
        let says = |data: &[u8]| deltas(data, "it", 4).map_err(|refusal| refusal.to_string());
        // One after the other: 5, 5 - 5; 3, 6, 9 and nothing; nothing and 1.
        for data in [&[0x7e, 5, 0x7b][..], &[3, 3, 0, 1], &[0, 3, 0x7f, 1]] {
            assert_eq!(says(data), Ok(()), "{data:x?}");
        }
        let impossible = Err(String::from("malformed: a counter in column `it` is out of range"));
        // -1; 5 - 6; 2 and then twice -2; a sum that does not fit into 63 bits.
        let great = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        for data in [&[0x7f, 0x7f][..], &[0x7e, 5, 0x7a], &[0x7f, 2, 2, 0x7e], &[&[0x7e, 5][..], &great].concat()] {
            assert_eq!(says(data), impossible, "{data:x?}");
        }
        // 2^30, and twice 2^30, which is one too many.
        let half = [0x80, 0x80, 0x80, 0x80, 4];
        assert_eq!(says(&[&[0x7f][..], &half].concat()), Ok(()));
        let expected = "over a limit: an operation's counter: 2147483648, limit 2147483647";
        assert_eq!(says(&[&[2][..], &half].concat()), Err(String::from(expected)));
        assert_eq!(says(&[5, 1]), Err(String::from("over a limit: column `it` has 5 rows, limit 4")));
        assert_eq!(says(&[0, 0]), Err(String::from("malformed: a run of nothing")));
    }

    #[test]
    fn there_are_not_more_booleans_than_rows() {
        let says = |data: &[u8]| booleans(data, "it", 4).map_err(|refusal| refusal.to_string());
        for data in [&[][..], &[4], &[0, 4], &[1, 2, 1]] {
            assert_eq!(says(data), Ok(()), "{data:x?}");
        }
        for data in [&[5][..], &[1, 3, 1]] {
            assert_eq!(says(data), Err(String::from("over a limit: column `it` has 5 rows, limit 4")), "{data:x?}");
        }
        assert!(says(&[0x80]).is_err());
    }
}
