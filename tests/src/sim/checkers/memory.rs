//! I8 bounded memory: no table or queue of an engine holds more than its limit, and those that are for what goes on are empty
//! when nothing does: a table that is never emptied grows without bound, however slowly. A document that left memory has left
//! every table about documents in memory.

use anabranch_engine::Held;

/// The checker's name.
pub const CHECKER: &str = "I8 bounded memory";

/// What one engine holds, at any moment.
///
/// # Errors
/// What is over its limit.
pub fn bounded(held: &[Held]) -> Result<(), String> {
    match held.iter().find(|held| held.count > held.limit) {
        None => Ok(()),
        Some(Held { what, count, limit, .. }) => Err(format!("{count} {what}, limit {limit}")),
    }
}

/// What one engine holds when all peers are in sync and nobody writes.
///
/// # Errors
/// What should be empty and is not.
pub fn at_rest(held: &[Held]) -> Result<(), String> {
    match held.iter().find(|held| held.passing && held.count > 0) {
        None => Ok(()),
        Some(Held { what, count, .. }) => Err(format!("{count} {what} are kept, and nothing goes on")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_over_its_limit_and_one_that_is_never_emptied_are_seen() {
        let held = |count, passing| [Held { what: "things", count, limit: 10, passing }];
        assert_eq!(bounded(&held(10, true)), Ok(()));
        assert_eq!(bounded(&held(11, true)).unwrap_err(), "11 things, limit 10");
        assert_eq!(at_rest(&held(0, true)), Ok(()));
        assert_eq!(at_rest(&held(3, false)), Ok(()), "they may stay");
        assert!(at_rest(&held(1, true)).unwrap_err().contains("1 things are kept"));
    }
}
