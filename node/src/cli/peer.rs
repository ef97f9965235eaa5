//! `anabranch peer ..`: dial somebody now, forget where somebody is.

use clap::Subcommand;

use crate::cli::status::peer_row;
use crate::client::Client;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::show::{Show, short};
use anabranch_protocol::{Command, Forgotten, PeerLine};

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
}

impl Peer {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        match self {
            Self::Dial { address } => {
                let command = Command::PeerDial { address, timeout_ms: super::wait_ms(directory) };
                let line = Client::connect(directory)?.ask::<PeerLine>(&command)?;
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
