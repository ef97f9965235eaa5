//! The command line: its grammar, and which room answers what.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::directory::Directory;
use crate::failure::{EXIT_CODES, Failure};
use crate::show::Show;

mod demo;
mod document;
mod edit;
mod init;
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
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a replica: its directory, its device key, its store
    Init(init::Init),
    /// Run the node, until Ctrl-C or SIGTERM
    Run(run::Run),
    /// Print which device this is
    Id,
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
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let show = Show { json: self.global.json };
        let directory = || Directory::resolve(self.global.dir);
        match self.command {
            Command::Init(command) => command.execute(&directory()?, show),
            Command::Run(command) => command.execute(&directory()?, show),
            Command::Demo(command) => command.execute(show),
            Command::Id => status::id(&directory()?, show),
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
    fn seconds_have_fractions_and_a_limit() {
        assert_eq!(seconds("30"), Ok(30_000));
        assert_eq!(seconds("0.25"), Ok(250));
        assert!(seconds("-1").is_err() && seconds("1e12").is_err() && seconds("NaN").is_err() && seconds("x").is_err());
    }
}
