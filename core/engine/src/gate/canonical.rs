//! Stage 7: a change is taken only in the encoding that automerge itself gives it. Another one is accepted by automerge and
//! makes a document that no longer loads once it is saved.

use alloc::format;
use alloc::string::ToString;

use automerge as am;

use crate::gate::Refusal;
use crate::limits::COUNTER_STEP_MAX;

/// Parses a change that the inspector has passed, and encodes it again to compare. May panic: call it under the guard.
pub(crate) fn parse(bytes: &[u8]) -> Result<am::Change, Refusal> {
    let change = parse_trusted(bytes)?;
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
    let step = match &op.action {
        am::legacy::OpType::Increment(by) => *by,
        am::legacy::OpType::Put(am::ScalarValue::Counter(start)) => i64::from(start),
        _ => return Ok(()),
    };
    if step.unsigned_abs() <= COUNTER_STEP_MAX {
        return Ok(());
    }
    Err(Refusal::TooLarge(format!("a counter's step of {step}, limit {COUNTER_STEP_MAX}")))
}
