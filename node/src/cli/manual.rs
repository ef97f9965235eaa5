//! `anabranch completions` and `man`: what shells and manuals want to know of the command line, from its grammar.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::show::print_bytes;
use anabranch_api::Failure;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "anabranch", &mut script);
        print_bytes(&script)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for each command into this folder [default: print the first page]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        match self.out {
            Some(folder) => clap_mangen::generate_to(Cli::command(), &folder)
                .map_err(|error| Failure::failed(format!("cannot write pages to {}: {error}", folder.display()))),
            None => {
                let mut page = Vec::new();
                let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
                rendered.map_err(|error| Failure::failed(format!("cannot make the page: {error}")))?;
                print_bytes(&page)
            }
        }
    }
}
