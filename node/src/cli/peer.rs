//! `anabranch peer ..`: dial somebody now, forget where somebody is, block somebody.

use clap::Subcommand;

use crate::cli::status::peer_row;
use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, short};
use anabranch_api::{Command, Failure, Forgotten, PeerLine};

#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// Dial an address now, and whenever there is no session with it until the node ends.
    ///
    /// Waits for a session as long as --timeout says; the node goes on trying after that
    Dial {
        /// Such as /ip4/192.0.2.7/tcp/4510
        address: String,
    },
    /// Forget where a peer is; it stays a member, and what members say of it later is remembered again
    Forget {
        /// Device id, or an address that was given
        peer: String,
    },
    /// Have nothing to do with a device: no session, and of what it writes only what others have built on
    ///
    /// What is here already stays, the device stays a member, and only it is told. Members that take what it writes hold more than
    /// this node, so they are not in sync until the block is taken back.
    Block {
        /// Device id, or the name of a known one
        peer: String,
    },
    /// Take a block back, and fetch what was not taken
    Unblock {
        /// Device id, or the name of a known one
        peer: String,
    },
}

impl Peer {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        match self {
            Self::Dial { address } => {
                let command = Command::PeerDial { address, timeout_ms: super::wait_ms(directory) };
                let line = Client::connect(directory)?.ask::<PeerLine>(&command)?;
                show.one(&line, peer_row)
            }
            Self::Block { peer } => {
                let line = Client::connect(directory)?.ask::<PeerLine>(&Command::PeerBlock { peer })?;
                show.one(&line, peer_row)
            }
            Self::Unblock { peer } => {
                let line = Client::connect(directory)?.ask::<PeerLine>(&Command::PeerUnblock { peer })?;
                show.one(&line, peer_row)
            }
            Self::Forget { peer } => {
                let forgotten = Client::connect(directory)?.ask::<Forgotten>(&Command::PeerForget { peer })?;
                show.one(&forgotten, |forgotten| {
                    let device = forgotten.device.as_deref().map_or("--------", short);
                    let addresses = match &forgotten.addresses[..] {
                        [] => "no address was known".to_owned(),
                        addresses => format!("forgotten: {}", addresses.join(" ")),
                    };
                    format!("{device}  {addresses}")
                })
            }
        }
    }
}
