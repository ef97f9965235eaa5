//! Why a command failed, as a person reads it and as a script does: a text and an exit code.

use std::fmt;

use anabranch_api::Exit;

/// Shown below `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  an error without a code of its own
  2  the command line or a value in it is not right
  3  no node is running on the directory (any more)
  4  no such space, document, path or version
  5  not allowed, or refused by a member
  6  not reached within the time given
  128 and the signal's number: ended by a signal (130 Ctrl-C, 143 SIGTERM)";

/// A failed command.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// For scripts.
    pub(crate) exit: Exit,
    /// For people: what happened and what to do next.
    pub(crate) message: String,
    /// It is because the replica has stopped, as it does when its node ends.
    pub(crate) has_stopped: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), has_stopped: false }
    }

    pub(crate) fn stopped(message: impl fmt::Display) -> Self {
        Self { has_stopped: true, ..Self::error(message) }
    }

    /// The exit code, where it is known whether the node ends.
    pub(crate) fn exit_of_node(&self, is_closing: bool) -> Exit {
        if is_closing && self.has_stopped { Exit::NoNode } else { self.exit }
    }

    pub(crate) fn error(message: impl fmt::Display) -> Self {
        Self::new(Exit::Error, message)
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Exit::NotFound, message)
    }

    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    pub(crate) fn timed_out(message: impl fmt::Display) -> Self {
        Self::new(Exit::TimedOut, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anabranch::CommandError> for Failure {
    fn from(error: anabranch::CommandError) -> Self {
        use anabranch::CommandError as E;
        let exit = match &error {
            E::UnknownSpace(_) | E::UnknownDocument(_) => Exit::NotFound,
            E::NotAllowed(_) | E::Refused { .. } => Exit::Refused,
            E::Invalid(_) => Exit::Usage,
            E::Stopped(_) => return Self::stopped(error),
            E::Damaged(_) | E::Halted(_) | E::Unsaved { .. } => Exit::Error,
        };
        Self::new(exit, error)
    }
}

impl From<anabranch::DocumentError> for Failure {
    fn from(error: anabranch::DocumentError) -> Self {
        use anabranch::{DocumentError as E, DraftError, EditError};
        if let E::Draft(DraftError::TooLarge { value, unit, limit })
        | E::Edit(EditError::Draft(DraftError::TooLarge { value, unit, limit })) = &error
        {
            return Self::usage(format!(
                "this makes {value} {unit}, limit {limit} for what is made as a whole: split it, or go on in another document"
            ));
        }
        let exit = match &error {
            E::UnknownSpace(_) | E::UnknownHeads(_) => Exit::NotFound,
            E::NotAWriter(_) | E::ReadOnly(_) => Exit::Refused,
            E::Edit(EditError::Missing(_) | EditError::NotInConflict(_)) => Exit::NotFound,
            E::Edit(_) => Exit::Usage,
            E::NotOpen(_) | E::Stopped(_) => return Self::stopped(error),
            E::Busy(_) | E::Halted(_) | E::Draft(_) => Exit::Error,
        };
        Self::new(exit, error)
    }
}

impl From<anabranch::Stopped> for Failure {
    fn from(error: anabranch::Stopped) -> Self {
        Self::stopped(error)
    }
}

impl From<anabranch::FeedError> for Failure {
    fn from(error: anabranch::FeedError) -> Self {
        use anabranch::FeedError as E;
        match &error {
            E::Beyond { .. } | E::OtherStore { .. } => Self::not_found(error),
            E::Stopped(_) => Self::stopped(error),
            _ => Self::error(error),
        }
    }
}

impl From<anabranch::OpenError> for Failure {
    fn from(error: anabranch::OpenError) -> Self {
        use anabranch::OpenError as E;
        match &error {
            E::Address(_) => Self::usage(error),
            E::RenewalRefused { .. } => Self::refused(error),
            _ => Self::error(error),
        }
    }
}

impl From<anabranch_api::Malformed> for Failure {
    fn from(error: anabranch_api::Malformed) -> Self {
        Self::usage(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every error without a code of its own was told as one of a node that ends, as soon as the node did.
    #[test]
    fn a_node_that_ends_is_the_reason_only_of_what_a_stopped_replica_says() {
        let stopped = Failure::stopped("the replica was shut down");
        assert_eq!((stopped.exit_of_node(true), stopped.exit_of_node(false)), (Exit::NoNode, Exit::Error));
        assert_eq!(Failure::error("the answer is too long").exit_of_node(true), Exit::Error);
        assert_eq!(Failure::not_found("no such document").exit_of_node(true), Exit::NotFound);
    }
}
