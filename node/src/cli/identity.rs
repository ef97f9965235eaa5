//! `anabranch id`: which device this is, what it is called, another key for it.

use std::time::Duration;

use anabranch::Peer;
use clap::{Args, Subcommand};

use crate::cli::Modes;
use crate::cli::status::named;
use crate::client::Client;
use crate::control::renewal_answer;
use crate::directory::Directory;
use crate::show::{Show, short};
use crate::time_limit::TimeLimit;
use anabranch_api::{Code, Command, Failure, Identity, Renewed, RenewedSpace};

/// How long a node tries to bring to other members what it has, before its key is another one.
const HAND_OVER: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Id {
    #[command(subcommand)]
    command: Option<IdCommand>,
}

#[derive(Debug, Subcommand)]
enum IdCommand {
    /// Name this device; members that it meets see the name beside its id. An empty name takes it away
    Name {
        /// At most 64 bytes
        name: String,
    },
    /// Give this replica another key: for a copy of a directory that is used beside the original.
    ///
    /// All documents stay. What was edited before reaches the other members as before: now, if they can be reached, for which it
    /// waits as long as --timeout says (10 s), or later. Under the new key this replica is no member yet: it reads and edits
    /// what it has, and `space join` with a new ticket lets it in. A node that is running goes on under the new key
    Renew {
        /// Even if this is the only admin of a space, so that nobody can invite it again
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        modes: Modes,
    },
}

impl Id {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        match self.command {
            None => show.one(&Client::connect(directory)?.ask::<Identity>(&Command::Id)?, human),
            Some(IdCommand::Name { name }) => {
                let identity = Client::connect(directory)?.ask::<Identity>(&Command::IdName { name })?;
                show.one(&identity, human)
            }
            Some(IdCommand::Renew { force, modes }) => show.one(&renew(directory, modes, force)?, renewed),
        }
    }
}

fn human(identity: &Identity) -> Vec<String> {
    vec![
        format!("device   {}{}", identity.device, named(identity.name.as_deref())),
        format!("peer id  {}", identity.peer_id),
        format!("storage  {}", identity.storage),
    ]
}

/// By the node if one runs, else here.
fn renew(directory: &Directory, modes: Modes, force: bool) -> Result<Renewed, Failure> {
    match Client::connect(directory) {
        Ok(mut client) => {
            let timeout_ms = directory.time_limit().map_or(HAND_OVER, TimeLimit::whole).as_millis() as u64;
            client.ask(&Command::IdRenew { timeout_ms, force })
        }
        Err(failure) if failure.code == Code::Unreachable => {
            let mut builder = Peer::builder().directory(directory.path());
            if modes.allow_loose_modes {
                builder = builder.allow_loose_modes();
            }
            Ok(renewal_answer(builder.renew_identity(force)?))
        }
        Err(failure) => Err(failure),
    }
}

fn renewed(renewed: &Renewed) -> Vec<String> {
    let Renewed { device, former, former_identity, spaces } = renewed;
    let mut lines =
        vec![format!("device {device}, before {former}"), format!("the former key is kept in {former_identity}")];
    lines.extend(spaces.iter().map(|RenewedSpace { space, name, held_elsewhere }| {
        let held = match held_elsewhere {
            Some(true) => "other members hold what is here",
            Some(false) | None => "what others lack of it reaches them after that",
        };
        format!(
            "{}  {name}  needs a ticket: `anabranch space invite` at an admin, then `anabranch space join -` here; {held}",
            short(space)
        )
    }));
    lines
}
