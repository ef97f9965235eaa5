//! The log, on standard error: a line for each thing that happened.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::text;

/// What `run` logs: what an operator would want to know. Libraries only warn.
pub(crate) const NODE: &str = "warn,anabranch::cli=info";
/// What other commands log.
pub(crate) const COMMAND: &str = "warn";

/// Begins to log what `RUST_LOG` says, or else what `usual` says.
pub(crate) fn start(usual: &str) {
    let asked = EnvFilter::try_from_default_env().ok();
    // Where in the program something happened is for those who ask for more than the usual.
    let shows_target = asked.is_some();
    tracing_subscriber::fmt()
        .with_env_filter(asked.unwrap_or_else(|| EnvFilter::new(usual)))
        .with_writer(|| Lines)
        .with_target(shows_target)
        // Its own colours would look like those that a peer put into a name.
        .with_ansi(false)
        .init();
}

/// Takes whole lines. What a peer wrote into one can neither begin another nor be obeyed by a terminal.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(one_line(bytes).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn one_line(bytes: &[u8]) -> String {
    let event = String::from_utf8_lossy(bytes);
    format!("{}\n", text::line(event.trim_end_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_log_line_begins_no_other() {
        assert_eq!(
            one_line("WARN refused reason=a\nERROR fake\u{9b}\n".as_bytes()),
            "WARN refused reason=a\\nERROR fake\\u009b\n"
        );
    }
}
