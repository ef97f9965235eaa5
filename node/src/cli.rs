//! The command line: its grammar, and which room answers what.

use std::path::PathBuf;
use std::time::Duration;

use anabranch_api::Failure;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::client::{GRACE, RENEWAL_GRACE};
use crate::directory::Directory;
use crate::failure::EXIT_CODES;
use crate::log;
use crate::show::Show;
use crate::time_limit::{AtEnd, TimeLimit};

mod arrivals;
mod check;
mod demo;
mod document;
mod edit;
mod identity;
mod init;
mod input;
mod manual;
mod peer;
mod run;
mod space;
mod status;
mod watch;

/// A replica of local-first documents that syncs peer to peer: runs it, shows it, operates it.
///
/// `anabranch demo` shows what it does. `anabranch run` starts a node on a directory; every other command talks to the node
/// that runs there.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The replica's directory [default: `anabranch` in the XDG data directory]
    #[arg(long, global = true, env = "ANABRANCH_DIR", value_name = "DIR", hide_env_values = true)]
    dir: Option<PathBuf>,
    /// Print JSON: one object, or one to a line where there are several
    #[arg(long, global = true, env = "ANABRANCH_JSON", action = clap::ArgAction::SetTrue, value_parser = clap::builder::FalseyValueParser::new())]
    json: bool,
    /// Seconds that the whole command may take; `join`, `peer dial` and `wait-synced` take 30 without it, `watch` ends quietly after it
    #[arg(long, global = true, env = "ANABRANCH_TIMEOUT", value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<u64>,
}

/// A command line that leads to no command.
pub(crate) struct Unread {
    /// How the person wants to hear of it.
    pub(crate) show: Show,
    /// Help was asked for and printed, or what is wrong.
    pub(crate) result: Result<(), Failure>,
}

/// What commands take that open a replica themselves.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Modes {
    /// Open a directory that others may write into, and a key that others can read, where these modes cannot be changed: a
    /// Kubernetes volume with an fsGroup, exFAT
    #[arg(long, env = "ANABRANCH_ALLOW_LOOSE_MODES", action = clap::ArgAction::SetTrue, value_parser = clap::builder::FalseyValueParser::new())]
    allow_loose_modes: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a replica: its directory, its device key, its store
    Init(init::Init),
    /// Run the node, until Ctrl-C, SIGTERM or the end of its terminal
    Run(run::Run),
    /// Print which device this is, name it, give it another key
    Id(identity::Id),
    /// Print everything about the node at a glance
    Status,
    /// List the peers, and why there is no session with those that have none
    Peers,
    /// One peer: dial it, forget where it is
    #[command(subcommand)]
    Peer(peer::Peer),
    /// Spaces: sets of documents shared by their members
    #[command(subcommand)]
    Space(space::Space),
    /// Documents: read, edit, import, export, look into their history
    #[command(subcommand)]
    Doc(document::Doc),
    /// Print what changes, line by line, until Ctrl-C
    Watch(watch::Watch),
    /// Wait until this replica and its peers hold the same
    WaitSynced(watch::WaitSynced),
    /// Three replicas, a cut link, a heal: a short story with real stores and real connections
    Demo(demo::Demo),
    /// Read the whole store of a directory that no node runs on, and say whether anything in it is damaged
    Check,
    /// Print a script that completes this command line in a shell
    Completions(manual::Completions),
    /// Print or write manual pages
    Man(manual::Man),
}

/// How long `join`, `peer dial` and `wait-synced` wait unless they are told.
const WAIT: Duration = Duration::from_secs(30);

impl Cli {
    /// Reads the command line and the environment.
    pub(crate) fn read() -> Result<Self, Unread> {
        Self::try_parse().map_err(|error| {
            let show = Show { json: asks_for_json() };
            let result = match error.kind() {
                // A reader that has gone away has read enough.
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    let _ = error.print();
                    Ok(())
                }
                // Not one line, but what somebody who types the bare name wants to see.
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !show.json => error.exit(),
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    Err(Failure::usage("say what to do: `anabranch help` lists the commands"))
                }
                _ => Err(Failure::usage(in_one_line(&error.render().to_string()))),
            };
            Unread { show, result }
        })
    }

    /// How answers and failures are shown.
    pub(crate) fn show(&self) -> Show {
        Show { json: self.global.json }
    }

    /// Does what the command line says.
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let asks_no_node = matches!(
            self.command,
            Command::Init(_)
                | Command::Run(_)
                | Command::Demo(_)
                | Command::Check
                | Command::Completions(_)
                | Command::Man(_)
        );
        if asks_no_node && self.global.timeout.is_some() && std::env::var_os("ANABRANCH_TIMEOUT").is_none() {
            return Err(Failure::usage("--timeout is for commands that ask a running node: this one asks none"));
        }
        log::start(if matches!(self.command, Command::Run(_)) { log::NODE } else { log::COMMAND });
        let show = self.show();
        let limit = self.global.timeout.filter(|_| !asks_no_node).map(Duration::from_millis).map(TimeLimit::begin);
        if let Some(limit) = limit {
            match &self.command {
                Command::Watch(_) => limit.guard(AtEnd::Done, show),
                Command::Doc(document::Doc::Edit(edit)) if edit.is_stream() => {}
                Command::Id(_) => limit.with_grace(RENEWAL_GRACE).guard(AtEnd::Failed, show),
                Command::WaitSynced(_)
                | Command::Peer(peer::Peer::Dial { .. })
                | Command::Space(space::Space::Join { .. }) => limit.with_grace(GRACE).guard(AtEnd::Failed, show),
                _ => limit.guard(AtEnd::Failed, show),
            }
        }
        let directory = || Directory::resolve(self.global.dir, limit);
        match self.command {
            Command::Init(command) => command.execute(&directory()?, show),
            Command::Run(command) => command.execute(&directory()?, show),
            Command::Demo(command) => command.execute(show),
            Command::Check => check::check(&directory()?, show),
            Command::Completions(command) => command.execute(),
            Command::Man(command) => command.execute(),
            Command::Id(command) => command.execute(&directory()?, show),
            Command::Status => status::status(&directory()?, show),
            Command::Peers => status::peers(&directory()?, show),
            Command::Peer(command) => command.execute(&directory()?, show),
            Command::Space(command) => command.execute(&directory()?, show),
            Command::Doc(command) => command.execute(&directory()?, show),
            Command::Watch(command) => command.execute(&directory()?, show),
            Command::WaitSynced(command) => command.execute(&directory()?, show),
        }
    }
}

/// Whether a command line that cannot be read asks for JSON.
fn asks_for_json() -> bool {
    let words = std::env::args_os().skip(1).take_while(|word| word != "--");
    let from_environment = || std::env::var("ANABRANCH_JSON").is_ok_and(|value| !is_falsey(&value));
    words.into_iter().any(|word| word == "--json") || from_environment()
}

/// As [`clap::builder::FalseyValueParser`] has it.
fn is_falsey(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "" | "n" | "no" | "f" | "false" | "off" | "0")
}

/// What clap says over several paragraphs: the error, hints, the usage, where to find help.
fn in_one_line(rendered: &str) -> String {
    let paragraphs = rendered.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let told = paragraphs.filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("For more information"));
    let text = told.collect::<Vec<_>>().join("; ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.replace("; Usage: ", "; usage: ")
}

/// How long the commands that wait for something wait for it, in milliseconds.
fn wait_ms(directory: &Directory) -> u64 {
    directory.time_limit().map_or(WAIT, TimeLimit::whole).as_millis() as u64
}

/// Parses a number of seconds, fractions allowed, into milliseconds.
fn seconds(text: &str) -> Result<u64, String> {
    const SECONDS_MAX: f64 = 365.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(s) if (0.0..=SECONDS_MAX).contains(&s) => Ok((s * 1_000.0).round() as u64),
        Ok(s) => Err(format!("{s} is not between 0 and {SECONDS_MAX} seconds")),
        Err(_) => Err("not a number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_of_the_command_line_are_one_line() {
        let line = |words: &[&str]| in_one_line(&Cli::try_parse_from(words).unwrap_err().render().to_string());
        let text = line(&["anabranch", "doc", "set", "plan"]);
        assert!(
            text.starts_with("the following required arguments were not provided: <PATH> <VALUE>; usage: "),
            "{text}"
        );
        assert!(!text.contains('\n'), "{text}");
        assert!(line(&["anabranch", "fold"]).starts_with("unrecognized subcommand 'fold'"));
    }

    #[test]
    fn seconds_have_fractions_and_a_limit() {
        assert_eq!(seconds("30"), Ok(30_000));
        assert_eq!(seconds("0.25"), Ok(250));
        assert!(seconds("-1").is_err() && seconds("1e12").is_err() && seconds("NaN").is_err() && seconds("x").is_err());
    }
}
