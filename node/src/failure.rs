//! The exit code of a failed command: what a script can tell apart.

use anabranch_api::{Code, Failure};

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
  7  the node is of another version than this command
  128 and the signal's number: ended by a signal (130 Ctrl-C, 143 SIGTERM)";

/// The exit code. The numbers do not change.
pub(crate) fn exit_code(failure: &Failure) -> u8 {
    match failure.code {
        Code::Usage | Code::Ambiguous => 2,
        Code::Unreachable => 3,
        Code::NotFound => 4,
        Code::NotAllowed | Code::Refused => 5,
        Code::TimedOut => 6,
        Code::OtherVersion => 7,
        _ => 1,
    }
}

/// The exit code in a word, for scripts that read JSON. The words do not change.
pub(crate) fn exit_name(exit_code: u8) -> &'static str {
    match exit_code {
        2 => "usage",
        3 => "no-node",
        4 => "not-found",
        5 => "refused",
        6 => "timed-out",
        7 => "other-version",
        _ => "error",
    }
}

/// What fails because the replica has stopped, and that is because the node ends, fails because there is no node any more.
pub(crate) fn of_a_node_that_ends(failure: Failure) -> Failure {
    match failure.code {
        Code::Stopped => Failure { code: Code::Unreachable, ..failure },
        // Also what was done and is not saved yet: whoever asks is to know that it was done.
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every error without a code of its own was reported as one of a node that ends, as soon as the node did.
    #[test]
    fn a_node_that_ends_is_the_reason_only_of_what_a_stopped_replica_says() {
        let exit = |code| exit_code(&of_a_node_that_ends(Failure::new(code, "no")));
        assert_eq!(exit(Code::Stopped), 3);
        assert_eq!(exit_code(&Failure::new(Code::Stopped, "its store has failed")), 1);
        assert_eq!([exit(Code::Unsaved), exit(Code::TooLarge), exit(Code::NotFound)], [1, 1, 4]);
        assert_eq!(of_a_node_that_ends(Failure::new(Code::Unsaved, "no")).code, Code::Unsaved);
    }
}
