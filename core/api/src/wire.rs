//! Requests and answers as lines of JSON, as the node's socket carries them.
//!
//! The first line of each side is `{"hello":{"protocol":2,"version":"0.1.0"}}` ([`Hello`]), that of the command first. A request is `{"do":"doc-get",..}`. It is
//! answered by any number of `{"item":..}` lines and then one of `{"ok":..}` and `{"error":{"code":"not-found","message":".."}}`
//! ([`Line`](crate::Line)).

use serde::Deserialize;

use crate::{Code, Command, Failure};

/// The version of the protocol: of the form of requests and answers, and of what they mean.
pub const PROTOCOL: u32 = 2;

/// One line, either way, its end not counted.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first line of a connection, its end not counted.
pub const HELLO_BYTES_MAX: usize = 1024;

/// Characters of the other side's version that are shown.
const VERSION_CHARS_SHOWN: usize = 64;

/// What each side says first: which version it speaks, and which it is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Hello {
    /// The version of the protocol.
    pub protocol: u32,
    /// The version of the program, for people.
    pub version: String,
}

/// The line of a [`Hello`].
#[derive(Deserialize)]
struct First {
    hello: Hello,
}

/// The two sides of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A command, which asks.
    Command,
    /// A node, which answers.
    Node,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Node => "node",
        }
    }
}

impl Hello {
    /// That of this program.
    pub fn ours() -> Self {
        Self { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Its line, with the end.
    pub fn line(&self) -> String {
        let Self { protocol, version } = self;
        format!("{}\n", serde_json::json!({ "hello": { "protocol": protocol, "version": version } }))
    }

    /// Whether a first line says which version the other side speaks, whichever that is.
    pub fn is_in(line: &[u8]) -> bool {
        serde_json::from_slice::<First>(line).is_ok()
    }

    /// The line, with its end, for a command that does not say which version it speaks, as one of protocol 1: `exit` is what
    /// that reads in an error.
    pub fn answer_without(failure: &Failure) -> String {
        let Failure { code, message } = failure;
        format!("{}\n", serde_json::json!({ "error": { "exit": "error", "code": code, "message": message } }))
    }

    /// Reads the first line of the side `of`, and refuses one that is none, or of another version of the protocol.
    ///
    /// # Errors
    /// [`Code::OtherVersion`], with both versions and what to do.
    pub fn check(line: &[u8], of: Side) -> Result<Self, Failure> {
        let ours = Self::ours();
        let here = if of == Side::Node { Side::Command } else { Side::Node };
        let (of, here) = (of.name(), here.name());
        let (our_protocol, our_version) = (ours.protocol, &ours.version);
        let advice = "use the `anabranch` that the node was started from, or start the node again with this one";
        let refused = |what: String| {
            let this = format!("this {here} speaks version {our_protocol} (anabranch {our_version})");
            Failure::new(Code::OtherVersion, format!("{what}, {this}: {advice}"))
        };
        match serde_json::from_slice::<First>(line) {
            Ok(First { hello }) if hello.protocol == ours.protocol => Ok(hello),
            Ok(First { hello: Self { protocol, version } }) => {
                let version: String = version.chars().take(VERSION_CHARS_SHOWN).collect();
                Err(refused(format!("the {of} speaks version {protocol} of the protocol (anabranch {version})")))
            }
            Err(_) => Err(refused(format!("the {of} does not say which version of the protocol it speaks"))),
        }
    }
}

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
    /// It is longer than a line may be.
    #[error("the request is {0} bytes, limit {LINE_BYTES_MAX}")]
    TooLong(usize),
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Self::usage(error)
    }
}

#[derive(Deserialize)]
struct Incoming {
    #[serde(rename = "do")]
    command: Option<String>,
}

/// A request's line, without its end.
///
/// # Errors
/// It is over [`LINE_BYTES_MAX`].
pub fn encode(command: &Command) -> Result<Vec<u8>, Malformed> {
    let line = serde_json::to_vec(command)?;
    if line.len() > LINE_BYTES_MAX {
        return Err(Malformed::TooLong(line.len()));
    }
    Ok(line)
}

/// Reads a request's line.
///
/// # Errors
/// It is no request.
pub fn decode(line: &[u8]) -> Result<Command, Malformed> {
    let incoming: Incoming = serde_json::from_slice(line)?;
    anabranch_engine::document::json::check_numbers(line)?;
    if incoming.command.is_none() {
        return Err(Malformed::NoCommand);
    }
    Ok(serde_json::from_slice(line)?)
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
        let text = refusal(br#"{"do":"doc-fold"}"#);
        assert!(text.contains("unknown variant `doc-fold`, expected one of `id`"), "{text}");
        assert!(refusal(b"{}").contains("no `do`"));
        assert!(refusal(b"hello").contains("malformed request"));
    }

    #[test]
    fn a_misspelt_field_of_an_edit_is_refused() {
        let error =
            serde_json::from_str::<EditStep>(r#"{"op":"splice","path":"/t","pos":1,"insert":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `insert`"), "{error}");
    }

    #[test]
    fn sides_of_one_version_understand_each_other() {
        let line = Hello::ours().line();
        assert!(line.len() <= HELLO_BYTES_MAX && line.ends_with('\n'));
        assert_eq!(Hello::check(line.as_bytes(), Side::Node).unwrap(), Hello::ours());
        // Another program of the same protocol, which says more.
        let line = br#"{"hello":{"protocol":2,"version":"7.0.0","colour":"red"},"more":1}"#;
        assert_eq!(Hello::check(line, Side::Command).unwrap().version, "7.0.0");
    }

    #[test]
    fn other_version_is_refused_with_both_and_what_to_do() {
        let ours = Hello::ours().version;
        let failure = Hello::check(br#"{"hello":{"protocol":99,"version":"9.9.9"}}"#, Side::Node).unwrap_err();
        assert_eq!(failure.code, Code::OtherVersion);
        assert_eq!(
            failure.message,
            format!(
                "the node speaks version 99 of the protocol (anabranch 9.9.9), this command speaks version 2 (anabranch {ours}): \
                 use the `anabranch` that the node was started from, or start the node again with this one"
            )
        );
        assert!(Hello::is_in(br#"{"hello":{"protocol":99,"version":"9.9.9"}}"#));
        for first in [&br#"{"v":1,"do":"id"}"#[..], b"GET / HTTP/1.1", b""] {
            assert!(!Hello::is_in(first));
            let failure = Hello::check(first, Side::Command).unwrap_err();
            assert_eq!(failure.code, Code::OtherVersion);
            let says = "the command does not say which version of the protocol it speaks, this node speaks version 2";
            assert!(failure.message.starts_with(says), "{failure}");
        }
    }
}
