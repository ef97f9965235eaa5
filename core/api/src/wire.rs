//! Requests and answers as lines of JSON, as the node's socket carries them.
//!
//! A request is `{"v":1,"do":"doc-get",..}`. It is answered by any number of `{"item":..}` lines and then one of `{"ok":..}` and
//! `{"error":{"code":"not-found","message":".."}}` ([`Line`](crate::Line)).

use serde::{Deserialize, Serialize};

use crate::{Command, Failure};

/// The version in every request. A node refuses others.
pub const VERSION: u32 = 1;

/// One line, either way, its end not counted.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a line is no request.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON, or not that of a request.
    #[error("malformed request: {0}")]
    Json(#[from] serde_json::Error),
    /// It has a number that would be rounded.
    #[error("malformed request: {0}")]
    Number(#[from] anabranch_engine::document::json::JsonError),
    /// It does not say what to do.
    #[error("malformed request: it has no `do`")]
    NoCommand,
    /// It does not say which version it is of.
    #[error("malformed request: it has no version `v`")]
    NoVersion,
    /// It is of a version that this node does not speak.
    #[error(
        "the request is of version {0}, this node speaks version {VERSION}: use the `anabranch` that the node was started from"
    )]
    OtherVersion(u32),
    /// It is longer than a line may be.
    #[error("the request is {0} bytes, limit {LINE_BYTES_MAX}")]
    TooLong(usize),
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Self::usage(error)
    }
}

#[derive(Serialize)]
struct Outgoing<'a> {
    v: u32,
    #[serde(flatten)]
    command: &'a Command,
}

#[derive(Deserialize)]
struct Incoming {
    v: Option<u32>,
    #[serde(rename = "do")]
    command: Option<String>,
}

/// A request's line, without its end.
///
/// # Errors
/// It is over [`LINE_BYTES_MAX`].
pub fn encode(command: &Command) -> Result<Vec<u8>, Malformed> {
    let line = serde_json::to_vec(&Outgoing { v: VERSION, command })?;
    if line.len() > LINE_BYTES_MAX {
        return Err(Malformed::TooLong(line.len()));
    }
    Ok(line)
}

/// Reads a request's line.
///
/// # Errors
/// It is no request, or one of another version.
pub fn decode(line: &[u8]) -> Result<Command, Malformed> {
    let incoming: Incoming = serde_json::from_slice(line)?;
    anabranch_engine::document::json::check_numbers(line)?;
    match (incoming.v, incoming.command) {
        (Some(VERSION), Some(_)) => Ok(serde_json::from_slice(line)?),
        (Some(VERSION), None) => Err(Malformed::NoCommand),
        (Some(other), _) => Err(Malformed::OtherVersion(other)),
        (None, _) => Err(Malformed::NoVersion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EditStep, Reading, Strings, Which};

    fn refusal(line: &[u8]) -> String {
        decode(line).unwrap_err().to_string()
    }

    #[test]
    fn a_request_comes_back_as_it_was() {
        let which = Which { space: Some("work".into()), default_space: None, document: "plan".into() };
        let edits = vec![
            EditStep::Set { path: "/a".into(), value: serde_json::json!({"b": [1, 2.5, null]}) },
            EditStep::Splice { path: "/t".into(), pos: 3, del: 0, ins: "ü".into() },
        ];
        let reading = Reading { typed: true, strings: Strings::Plain };
        let command = Command::DocEdit { which, edits, each: true, saved: true, reading, lines: vec![4, 6] };
        assert_eq!(decode(&encode(&command).unwrap()).unwrap(), command);
        assert_eq!(decode(&encode(&Command::Id).unwrap()).unwrap(), Command::Id);
    }

    #[test]
    fn an_unknown_command_is_named_with_those_there_are() {
        let text = refusal(br#"{"v":1,"do":"doc-fold"}"#);
        assert!(text.contains("unknown variant `doc-fold`, expected one of `id`"), "{text}");
    }

    #[test]
    fn another_version_is_refused_by_number() {
        assert!(refusal(br#"{"v":7,"do":"id"}"#).contains("version 7, this node speaks version 1"));
        assert!(refusal(br#"{"do":"id"}"#).contains("no version"));
        assert!(refusal(br#"{"v":1}"#).contains("no `do`"));
        assert!(refusal(b"hello").contains("malformed request"));
    }

    #[test]
    fn a_misspelt_field_of_an_edit_is_refused() {
        let error =
            serde_json::from_str::<EditStep>(r#"{"op":"splice","path":"/t","pos":1,"insert":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `insert`"), "{error}");
    }
}
