//! The Anabranch peer node: one binary that runs, shows and operates a replica.

mod cli;
mod client;
mod control;
mod descriptors;
mod directory;
mod failure;
mod log;
mod memory;
mod often;
mod output;
mod show;
mod signals;
mod text;
mod time_limit;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (show, result) = match cli::Cli::read() {
        Ok(cli) => (cli.show(), cli.execute()),
        Err(unread) => (unread.show, unread.result),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            show.failure(&failure);
            ExitCode::from(failure::exit_code(&failure))
        }
    }
}
