//! `anabranch init`: makes a replica without starting it.

use clap::Args;
use serde::Serialize;

use crate::cli::Modes;
use crate::directory::Directory;
use crate::show::Show;
use anabranch_api::Failure;

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    modes: Modes,
}

/// What `init` prints.
#[derive(Debug, Serialize)]
struct Initialised {
    device: String,
    peer_id: String,
    directory: String,
    /// False if it was there already.
    created: bool,
}

impl Init {
    pub(crate) fn execute(self, directory: &Directory, show: Show) -> Result<(), Failure> {
        let created = !directory.is_initialised();
        let runtime = super::run::runtime()?;
        let initialised = runtime.block_on(async {
            let mut builder = anabranch::Peer::builder().directory(directory.path());
            if self.modes.allow_loose_modes {
                builder = builder.allow_loose_modes();
            }
            let peer = builder.open().await?;
            let initialised = Initialised {
                device: peer.device().to_string(),
                peer_id: peer.peer_id(),
                directory: directory.path().display().to_string(),
                created,
            };
            peer.shutdown().await;
            Ok::<_, Failure>(initialised)
        })?;
        show.one(&initialised, |it| {
            let what = if it.created { "made a replica" } else { "there is a replica already" };
            vec![
                format!("{what} in {}", it.directory),
                format!("device {}", it.device),
                format!("start it with `anabranch run --dir {} --listen /ip4/0.0.0.0/tcp/4510`", it.directory),
            ]
        })
    }
}
