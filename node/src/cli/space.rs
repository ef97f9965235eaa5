//! `anabranch space ..`: sets of documents and who shares them.

use std::io::Read;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, count, short, size};
use anabranch_api::{Command, Failure, Invitation, Joined, MemberLine, SpaceLine, UsageValues};

/// A ticket has a few hundred characters; more than this is something else.
const TICKET_BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Space {
    /// Found a space with this device as its admin
    Create {
        /// What to call it
        name: String,
        /// Even if the name is taken
        #[arg(long)]
        force: bool,
    },
    /// List the spaces here
    Ls,
    /// Print a ticket with which another device can join
    Invite {
        #[command(flatten)]
        which: Which,
        /// What the joiner may do: reader, writer or admin
        #[arg(long, env = "ANABRANCH_ROLE", default_value = "writer")]
        role: String,
        /// How many devices may join with it
        #[arg(long, env = "ANABRANCH_USES", default_value_t = 1)]
        uses: u32,
        /// Where members can be reached, as multiaddrs, at most 4 [default: the best of those this node listens on]
        #[arg(long = "address", env = "ANABRANCH_ADDRESS", value_name = "MULTIADDR", value_delimiter = ',')]
        addresses: Vec<String>,
    },
    /// Join a space with a ticket
    #[command(
        after_help = "It waits 30 seconds, or --timeout, for a member to admit this device; the node goes on trying after that."
    )]
    Join {
        /// The ticket; `-` reads it from standard input, out of sight of other users
        #[arg(env = "ANABRANCH_TICKET", hide_env_values = true)]
        ticket: String,
    },
    /// Forget a space here, with its documents; other members keep theirs
    Leave {
        /// Name or id of the space
        space: String,
        /// Even if that may lose documents for good, or leaves the others without an admin
        #[arg(long)]
        force: bool,
    },
    /// As an admin, void a membership entry that makes the space read-only, because this version does not know it
    Void {
        /// The entry that `space ls` names
        entry: String,
        /// Name or id of the space; not needed where there is one
        #[arg(long, env = "ANABRANCH_SPACE")]
        space: Option<String>,
    },
    /// List the members of a space
    Members {
        #[command(flatten)]
        which: Which,
        /// With what each has cost this node: what is stored here that it has signed, and since the node was started what it has
        /// sent, how much of that had to be checked, and how much was refused
        #[arg(long)]
        usage: bool,
    },
}

/// Which space, said either way.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name or id of the space; not needed where there is one
    #[arg(value_name = "SPACE")]
    name: Option<String>,
    /// The same as an option
    #[arg(long, env = "ANABRANCH_SPACE")]
    space: Option<String>,
}

impl Which {
    /// What was said on the command line, else what the environment says.
    fn space(self) -> Result<Option<String>, Failure> {
        let from_environment = std::env::var("ANABRANCH_SPACE").ok();
        match (self.name, self.space) {
            (Some(name), Some(option)) if option != name && Some(&option) != from_environment.as_ref() => {
                Err(Failure::usage(format!("which space, `{name}` or `{option}`? say one")))
            }
            (name, option) => Ok(name.or(option)),
        }
    }
}

impl Space {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        match self {
            Self::Create { name, force } => {
                let line = Client::connect(directory)?.ask::<SpaceLine>(&Command::SpaceCreate { name, force })?;
                show.one(&line, |line| format!("{}  created, you are its admin", title(line)))
            }
            Self::Ls => {
                let mut none = true;
                Client::connect(directory)?.ask_many(&Command::SpaceList, |line: SpaceLine| {
                    none = false;
                    show.one(&line, row)
                })?;
                if none {
                    show.remark(
                        "no spaces here: make one with `anabranch space create NAME`, or join one with a ticket",
                    )?;
                }
                Ok(())
            }
            Self::Invite { which, role, uses, addresses } => {
                let command = Command::SpaceInvite { space: which.space()?, role, uses, addresses };
                let invitation = Client::connect(directory)?.ask::<Invitation>(&command)?;
                if invitation.addresses.is_empty() {
                    show.aside(
                        "this ticket has no address, because this node does not listen: the joiner needs a \
                         `--dial` of its own, or make the ticket again with --address or after `anabranch run --listen ..`",
                    );
                }
                if !invitation.left_out.is_empty() {
                    let were = if invitation.left_out.len() == 1 { "was" } else { "were" };
                    show.aside(&format!(
                        "the ticket has room for {}, {} {were} left out: {}; name those that the joiner needs with --address",
                        count(invitation.addresses.len(), "address"),
                        invitation.left_out.len(),
                        invitation.left_out.join(", "),
                    ));
                }
                show.aside(&format!(
                    "this ticket is a secret: whoever has it can join as {} ({}); `anabranch space join -` takes it on \
                     standard input, where no other user of the machine sees it",
                    invitation.role,
                    count(invitation.uses as usize, "use"),
                ));
                show.one(&invitation, |invitation| invitation.ticket.clone())
            }
            Self::Join { ticket } => {
                let ticket = if ticket == "-" { read_ticket()? } else { ticket };
                let command =
                    Command::SpaceJoin { ticket: ticket.trim().to_owned(), timeout_ms: super::wait_ms(directory) };
                let joined = Client::connect(directory)?.ask::<Joined>(&command)?;
                show.one(&joined, became)
            }
            Self::Leave { space, force } => {
                let line = Client::connect(directory)?.ask::<SpaceLine>(&Command::SpaceLeave { space, force })?;
                show.one(&line, |line| {
                    format!("{}  left; {} forgotten here", title(line), count(line.documents, "document"))
                })
            }
            Self::Void { entry, space } => {
                let line = Client::connect(directory)?.ask::<SpaceLine>(&Command::SpaceVoid { space, entry })?;
                show.one(&line, |line| format!("{}  the entry is void", title(line)))
            }
            Self::Members { which, usage } => {
                let command = Command::SpaceMembers { space: which.space()?, usage };
                Client::connect(directory)?.ask_many(&command, |line: MemberLine| show.one(&line, member_row))?;
                Ok(())
            }
        }
    }
}

fn read_ticket() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(TICKET_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read the ticket from standard input: {error}")))?;
    Ok(text)
}

fn member_row(line: &MemberLine) -> String {
    let us = if line.this_device { "  (this device)" } else { "" };
    let name = line.name.as_ref().map(|name| format!("  {name}")).unwrap_or_default();
    let by = line.admitted_by.as_deref().map(|by| format!("  let in by {}", short(by))).unwrap_or_default();
    let blocked = if line.blocked { "  BLOCKED" } else { "" };
    let usage = line.usage.as_ref().map(|usage| format!("  {}", cost(usage))).unwrap_or_default();
    format!("{}  {:6}{name}{us}{by}{blocked}{usage}", line.device, line.role)
}

/// What a member has cost.
fn cost(usage: &UsageValues) -> String {
    let UsageValues { runs, run_bytes, entries, entry_bytes, received_bytes, checks, refused } = usage;
    format!(
        "{} kept: {}, {entries} of the log; {} received, {checks} checked, {refused} refused",
        size(run_bytes + entry_bytes),
        count(*runs as usize, "run"),
        size(*received_bytes),
    )
}

/// What came of joining, with the role that the device has now.
fn became(joined: &Joined) -> String {
    let now = joined.space.role.as_deref().unwrap_or("(unknown)");
    let what = match joined.was.as_deref() {
        None => format!("joined as {now}"),
        Some(was) if was != now => format!("now {now}, before {was}"),
        Some(_) => format!("a member already, as {now}: a ticket for {} adds nothing", joined.ticket_role),
    };
    format!("{}  {what}", title(&joined.space))
}

/// A space's short id and name.
pub(crate) fn title(line: &SpaceLine) -> String {
    format!("{}  {}", short(&line.space), line.name.as_deref().unwrap_or("(joining)"))
}

/// A space in one row.
pub(crate) fn row(line: &SpaceLine) -> String {
    let role = line.role.as_deref().unwrap_or(if line.needs_ticket { "none" } else { "joining" });
    let in_sync = line.peers.iter().filter(|peer| peer.in_sync).count();
    let peers = match line.peers.len() {
        0 => "no member connected".to_owned(),
        connected => format!("in sync with {in_sync} of {connected} connected"),
    };
    let read_only = line.read_only.as_ref().map(|why| format!("  read-only: {why}")).unwrap_or_default();
    let renewed = match &line.former {
        Some(_) if line.needs_ticket => {
            "  needs a ticket, as the key of this device was renewed; edits stay here until then"
        }
        Some(_) if line.role.is_some() => {
            "  what was edited before it was let in stays here, as this device may only read"
        }
        Some(_) => "  edits stay here until a member has let this device in",
        None => "",
    };
    let forked = match line.forked.len() {
        0 => String::new(),
        some => format!("  {} forked", count(some, "document")),
    };
    format!(
        "{}  {:20}  {role:7}  {:>14}  root {}  {peers}{read_only}{renewed}{forked}",
        short(&line.space),
        line.name.as_deref().unwrap_or("(joining)"),
        count(line.documents, "document"),
        short(&line.root),
    )
}
