//! Why a request failed, as a program reads it and as a person does: a code and a text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a program can tell apart. The names, as they are written in JSON, do not change; there may be more of them later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// The request or a value in it is not right: a second try would fail too.
    Usage,
    /// A name, or the first digits of an id, fit several things.
    Ambiguous,
    /// A space, a document, a path, a version, a peer or a position in the feed that is not here.
    NotFound,
    /// Our role in the space does not allow it, or nobody may change the space.
    NotAllowed,
    /// A member refused it, or it would lose something and `force` was not given.
    Refused,
    /// It did not come about in the time given. It may still.
    TimedOut,
    /// There is no room for it now: so much is going on. Later there may be.
    Full,
    /// The answer is longer than the carrier takes: ask for a part of it.
    TooLarge,
    /// Nothing can be changed, because nothing can be written. What is here can be read.
    Halted,
    /// It was done, peers may have it, and it is not on disk: to do it again does it twice.
    Unsaved,
    /// What was asked for is damaged.
    Damaged,
    /// The replica has stopped.
    Stopped,
    /// Nobody is there to answer, or they ended before they did. What was asked may have been done.
    Unreachable,
    /// The two sides speak different versions of the protocol.
    OtherVersion,
    /// It failed inside, which is a bug.
    Internal,
    /// Anything that has no code of its own, and any code that is newer than the reader.
    #[serde(other)]
    Failed,
}

/// A request that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people: what happened and what to do next, in one line.
    pub message: String,
}

impl Failure {
    /// A failure with a code and a text.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// [`Code::Failed`].
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Code::Failed, message)
    }

    /// [`Code::Usage`].
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, message)
    }

    /// [`Code::NotFound`].
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// [`Code::Refused`].
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Code::Refused, message)
    }

    /// [`Code::TimedOut`].
    pub fn timed_out(message: impl fmt::Display) -> Self {
        Self::new(Code::TimedOut, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anabranch_engine::CommandError> for Failure {
    fn from(error: anabranch_engine::CommandError) -> Self {
        use anabranch_engine::CommandError as E;
        let code = match &error {
            E::UnknownSpace(_) | E::UnknownDocument(_) => Code::NotFound,
            E::NotAllowed(_) => Code::NotAllowed,
            E::Refused { .. } => Code::Refused,
            E::Invalid(_) => Code::Usage,
            E::Stopped(_) => Code::Stopped,
            E::Damaged(_) => Code::Damaged,
            E::Halted(_) => Code::Halted,
            E::Unsaved { .. } => Code::Unsaved,
        };
        Self::new(code, error)
    }
}

impl From<anabranch_engine::DocumentError> for Failure {
    fn from(error: anabranch_engine::DocumentError) -> Self {
        use anabranch_engine::DocumentError as E;
        use anabranch_engine::document::{DraftError, EditError};
        if let E::Draft(DraftError::TooLarge { value, unit, limit })
        | E::Edit(EditError::Draft(DraftError::TooLarge { value, unit, limit })) = &error
        {
            return Self::usage(format!(
                "this makes {value} {unit}, limit {limit} for what is made as a whole: split it, or go on in another document"
            ));
        }
        let code = match &error {
            E::UnknownSpace(_) | E::UnknownHeads(_) => Code::NotFound,
            E::NotAWriter(_) | E::ReadOnly(_) => Code::NotAllowed,
            E::Edit(EditError::Missing(_) | EditError::NotInConflict(_)) => Code::NotFound,
            E::Edit(_) => Code::Usage,
            E::NotOpen(_) | E::Stopped(_) => Code::Stopped,
            E::Busy(_) | E::TooManyEditors(_) => Code::Full,
            E::Halted(_) => Code::Halted,
            E::Draft(_) => Code::Failed,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_codes_stay_as_they_are() {
        let names = [
            (Code::Usage, "usage"),
            (Code::Ambiguous, "ambiguous"),
            (Code::NotFound, "not-found"),
            (Code::NotAllowed, "not-allowed"),
            (Code::Refused, "refused"),
            (Code::TimedOut, "timed-out"),
            (Code::Full, "full"),
            (Code::TooLarge, "too-large"),
            (Code::Halted, "halted"),
            (Code::Unsaved, "unsaved"),
            (Code::Damaged, "damaged"),
            (Code::Stopped, "stopped"),
            (Code::Unreachable, "unreachable"),
            (Code::OtherVersion, "other-version"),
            (Code::Internal, "internal"),
            (Code::Failed, "failed"),
        ];
        let page = include_str!("../../../docs/node.md");
        for (code, name) in names {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Code>(&format!("\"{name}\"")).unwrap(), code);
            assert!(page.contains(&format!("| `{name}` |")), "docs/node.md does not explain the code `{name}`");
        }
        assert_eq!(names.last().map(|(code, _)| *code as usize + 1), Some(names.len()), "a code is not in this list");
    }

    #[test]
    fn code_that_is_not_known_yet_is_read_as_failed() {
        let failure: Failure = serde_json::from_str(r#"{"code":"of-tomorrow","message":"no"}"#).unwrap();
        assert_eq!(failure, Failure::failed("no"));
    }

    #[test]
    fn errors_of_the_library_have_codes_of_their_own() {
        use anabranch_engine::{CommandError, DocumentError};
        let codes = [
            (Failure::from(CommandError::NotAllowed("a reader".into())).code, Code::NotAllowed),
            (Failure::from(CommandError::Halted("the disk is full".into())).code, Code::Halted),
            (Failure::from(DocumentError::Stopped("shut down".into())).code, Code::Stopped),
        ];
        for (got, wanted) in codes {
            assert_eq!(got, wanted);
        }
    }
}
