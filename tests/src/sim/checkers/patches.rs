//! I1 convergence, for those who only follow: an application that never reads a document whole, and applies the patches
//! from each version that it saw to the next, has what the others read.

use std::collections::BTreeMap;

use anabranch_engine::Engine;
use anabranch_engine::id::SpaceId;
use serde_json::Value;

use crate::fuzz::following::Following;
use crate::sim::ledger::Place;

/// The checker's name.
pub const CHECKER: &str = "I1 patches";

/// Documents as those have them who follow them, by replica and process.
#[derive(Debug, Clone, Default)]
pub struct Followers {
    followed: BTreeMap<(usize, u64, Place), Following>,
}

impl Followers {
    /// A process ended, and its followers with it.
    pub fn died(&mut self, replica: usize) {
        self.followed.retain(|(by, _, _), _| *by != replica);
    }

    /// A replica has left a space.
    pub fn left(&mut self, replica: usize, space: SpaceId) {
        self.followed.retain(|(by, _, place), _| *by != replica || place.0 != space);
    }

    /// Follows a document to the present, and returns its content as it follows from all patches so far.
    ///
    /// # Errors
    /// A patch does not fit, or does not come.
    pub fn follow(
        &mut self,
        replica: usize,
        process: u64,
        place: Place,
        engine: &mut Engine,
    ) -> Result<&Value, String> {
        let following = self.followed.entry((replica, process, place)).or_default();
        let wrong = |what: String| format!("#{replica} follows {:.8}: {what}", place.1);
        let news = engine.follow(&place.0, &place.1, following.heads()).map_err(|error| wrong(error.to_string()))?;
        following.take(&news).map_err(wrong)?;
        Ok(following.content())
    }
}

/// Compares what a follower has with what is read.
///
/// # Errors
/// They differ.
pub fn equal(replica: usize, place: Place, followed: &Value, read: &Value) -> Result<(), String> {
    if followed == read {
        return Ok(());
    }
    let document = place.1;
    Err(format!("#{replica} followed {document:.8} to {followed}, and reads {read}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::id::DocumentId;
    use serde_json::json;

    #[test]
    fn a_follower_that_has_something_else_is_seen() {
        let place = (SpaceId([1; 32]), DocumentId([2; 16]));
        assert_eq!(equal(0, place, &json!({ "a": 1, "b": [] }), &json!({ "b": [], "a": 1 })), Ok(()));
        assert!(equal(3, place, &json!({ "a": 1 }), &json!({ "a": 2 })).unwrap_err().contains("#3 followed"));
    }
}
