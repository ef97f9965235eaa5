//! The library's errors as failures of requests. The engine's are in `failure.rs`.

use crate::{Code, Failure};

impl From<anabranch::Stopped> for Failure {
    fn from(error: anabranch::Stopped) -> Self {
        Self::new(Code::Unsaved, error)
    }
}

impl From<anabranch::FeedError> for Failure {
    fn from(error: anabranch::FeedError) -> Self {
        use anabranch::FeedError as E;
        let code = match &error {
            E::Beyond { .. } | E::OtherStore { .. } => Code::NotFound,
            E::Stopped(_) => Code::Stopped,
            _ => Code::Failed,
        };
        Self::new(code, error)
    }
}

impl From<anabranch::OpenError> for Failure {
    fn from(error: anabranch::OpenError) -> Self {
        use anabranch::OpenError as E;
        let code = match &error {
            E::Address(_) => Code::Usage,
            E::RenewalRefused { .. } => Code::Refused,
            _ => Code::Failed,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_and_not_saved_has_a_code_of_its_own() {
        let stopped = anabranch::Stopped { reason: "the disk is full".into(), is_tried_again: true };
        assert_eq!(Failure::from(stopped).code, Code::Unsaved);
    }
}
